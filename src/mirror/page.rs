//! A page: the bindings of up to 256 addresses side by side.
//!
//! A page holds its bindings in one allocation: a [`Slot`] for each, free room, and the octets of their
//! clients. An update rarely finds its page in the processor's caches, so it waits for memory once, not for
//! each of several allocations. A clone of a page is a snapshot: the octets are shared until the page changes
//! (copy-on-write).

use std::hint::black_box;
use std::iter;
use std::sync::Arc;

use crate::mirror::bitset::Places;
use crate::mirror::radix::Leaf;
use crate::mirror::slot::{self, Slot, client_octets};
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::time::Time;

/// The number of address bits that select a place in a page.
const PLACE_BITS: u32 = 8;
/// The number of places in a page.
const PLACES: usize = 1 << PLACE_BITS;
/// The size of a cache line on most processors, in octets.
const CACHE_LINE: usize = 64;

/// The divisor that yields the spare room of a moved page from the size of its content.
const SPARE: usize = 8;

/// Returns the number of the page of an address.
pub fn page_of(address: u32) -> u32 {
    address >> PLACE_BITS
}

/// Returns the first address of a page.
pub fn first_of(page: u32) -> u32 {
    page << PLACE_BITS
}

/// Returns the place of an address in its page.
pub fn place_of(address: u32) -> u8 {
    (address & 0xff) as u8
}

/// The bindings of up to 256 addresses.
///
/// Aligned to a cache line: random access to pages is mostly a wait for this line.
#[repr(align(64))]
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The places that have a binding.
    present: Places,
    /// The offset of the octets of clients, which are filled from the end.
    low: u32,
    /// The slots in the order of their places, then free room, then the octets of clients in no order and
    /// with gaps.
    octets: Arc<[u8]>,
}

/// The position of an address in its page, with or without a binding.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The place of the address.
    place: u8,
    /// The number of bindings at places below.
    rank: usize,
    /// Whether there is a binding.
    is_present: bool,
}

impl Page {
    /// Returns the places that have a binding.
    pub fn present(&self) -> &Places {
        &self.present
    }

    /// Finds the position of an address in this page.
    pub fn position(&self, address: u32) -> Position {
        let place = place_of(address);
        Position {
            place,
            rank: self.present.rank(place),
            is_present: self.present.contains(place),
        }
    }

    /// Returns the binding of an address in this page.
    pub fn get(&self, address: u32) -> Option<BindingRef<'_>> {
        self.at(self.position(address), address)
    }

    /// Returns the binding at the position of `address`.
    pub fn at(&self, position: Position, address: u32) -> Option<BindingRef<'_>> {
        if !position.is_present {
            return None;
        }
        Some(self.slot(position.rank)?.binding(address, &self.octets))
    }

    /// Returns the slot of a rank.
    fn slot(&self, rank: usize) -> Option<Slot<'_>> {
        Slot::first_of(self.octets.get(rank * slot::SIZE..)?)
    }

    /// Iterates over all slots in order.
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let slots = self.octets.chunks_exact(slot::SIZE);
        let slots = slots.take(self.present.count());
        slots.filter_map(Slot::first_of)
    }

    /// Iterates over the bindings at the `wanted` places of this page, ascending, leaving out addresses
    /// below `from`; `number` is the number of this page.
    pub fn bindings(&self, number: u32, wanted: Places, from: u32) -> Bindings<'_> {
        let first = first_of(number);
        let (word, bit) = Places::bit(from.saturating_sub(first).min(255) as u8);
        Bindings {
            page: self,
            first,
            wanted,
            word,
            left: wanted.0[word] & !(bit - 1),
            uncounted: self.present.0[word],
            rank: self.present.rank(64 * word as u8),
        }
    }

    /// Prefetches the whole page: reads an octet of each cache line.
    pub fn prefetch(&self) {
        let lines = self.octets.chunks(CACHE_LINE);
        black_box(lines.fold(0, |sum: u8, line| sum.wrapping_add(line[0])));
    }

    /// Prefetches the reference counts, which an update reads before it writes. They precede the slots:
    /// read here, both are fetched at once.
    pub fn prefetch_counts(&self) {
        black_box(Arc::strong_count(&self.octets));
    }

    /// Stores a binding at the position of its address.
    pub fn put(&mut self, position: Position, binding: BindingRef<'_>) {
        let Position {
            place,
            rank,
            is_present,
        } = position;
        let before = self.slot(rank).filter(|_| is_present);
        let client = client_octets(binding);
        let start = match before.map(Slot::client_range) {
            Some(range) if client.len() <= range.len() => range.start,
            _ => {
                let room = self.low as usize - self.present.count() * slot::SIZE;
                if room < slot::SIZE + client.len() {
                    self.make_room(slot::SIZE + client.len());
                }
                self.low -= client.len() as u32;
                self.low as usize
            }
        };
        let slots = rank * slot::SIZE..self.present.count() * slot::SIZE;
        // Copies the octets if a snapshot shares them.
        let octets = Arc::make_mut(&mut self.octets);
        octets[start..][..client.len()].copy_from_slice(client);
        if !is_present {
            octets.copy_within(slots.clone(), slots.start + slot::SIZE);
            self.present.insert(place);
        }
        octets[slots.start..][..slot::SIZE].copy_from_slice(&Slot::pack(binding, start));
    }

    /// Removes the binding of an address; returns whether there was one.
    pub fn remove(&mut self, address: u32) -> bool {
        let Position {
            place,
            rank,
            is_present,
        } = self.position(address);
        if is_present {
            let slot = rank * slot::SIZE;
            let slots = self.present.count() * slot::SIZE;
            Arc::make_mut(&mut self.octets).copy_within(slot + slot::SIZE..slots, slot);
            self.present.remove(place);
        }
        is_present
    }

    /// Moves the content to an allocation with room for `more` octets, without gaps.
    fn make_room(&mut self, more: usize) {
        let used = self
            .slots()
            .map(|slot| slot::SIZE + slot.client_range().len());
        let used: usize = used.sum();
        // The spare room is limited to the expected size of the missing bindings.
        let count = self.present.count() + 1;
        let missing = PLACES.saturating_sub(count);
        let room = used + more + (used / SPARE).min((used + more) / count * missing);
        let mut moved: Arc<[u8]> = iter::repeat_n(0, room).collect();
        let mut low = room;
        let octets = Arc::make_mut(&mut moved);
        for (rank, slot) in self.slots().enumerate() {
            let binding = slot.binding(0, &self.octets);
            let client = client_octets(binding);
            low -= client.len();
            octets[low..][..client.len()].copy_from_slice(client);
            octets[rank * slot::SIZE..][..slot::SIZE].copy_from_slice(&Slot::pack(binding, low));
        }
        self.low = low as u32;
        self.octets = moved;
    }
}

impl Leaf for Page {
    fn is_empty(&self) -> bool {
        self.present.is_empty()
    }
}

/// A binding in its page.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The address.
    pub address: u32,
    /// The slot.
    slot: Slot<'a>,
    /// The octets of the page.
    octets: &'a [u8],
}

/// The properties by which replies differ in more than a few values: state, flags, subnet, lifetime, and the
/// first octet of the client. The replies for bindings of one kind mostly have the same layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// State and flags.
    state_and_flags: [u8; 2],
    /// The subnet id.
    subnet: u32,
    /// The lifetime.
    lifetime: u32,
    /// The first octet of the client; 0 without one.
    client: u8,
}

impl<'a> Found<'a> {
    /// Returns the kind of the binding.
    #[inline]
    pub fn kind(self) -> Kind {
        Kind {
            state_and_flags: self.slot.state_and_flags(),
            subnet: self.slot.subnet(),
            lifetime: self.slot.lifetime(),
            client: self.client().octets().first().copied().unwrap_or(0),
        }
    }

    /// Returns the client, without octets if the binding has none.
    #[inline]
    pub fn client(self) -> ClientRef<'a> {
        self.slot.client(self.octets)
    }

    /// Returns the start-time-of-state.
    #[inline]
    pub fn since(self) -> Time {
        self.slot.since()
    }

    /// Returns the last transaction; 0 if its [`Kind`] has none.
    #[inline]
    pub fn last_transaction(self) -> Time {
        self.slot.last_transaction()
    }

    /// Returns the start of the lease.
    #[inline]
    pub fn lease_start(self) -> Time {
        self.slot.lease_start()
    }

    /// Returns the binding. It is large: a caller that reads it at once should keep it in one variable and
    /// pass references, because a copy of memory that was just written stalls the processor.
    #[inline]
    pub fn binding(self) -> BindingRef<'a> {
        self.slot.binding(self.address, self.octets)
    }
}

/// An iterator over the bindings at some places of a page, ascending.
///
/// The rank of each binding is counted along the way, not computed for each anew.
#[derive(Clone, Debug)]
pub struct Bindings<'a> {
    /// The page.
    page: &'a Page,
    /// The first address of the page.
    first: u32,
    /// The places wanted.
    wanted: Places,
    /// The current word of places.
    word: usize,
    /// The places wanted of that word that have not been visited.
    left: u64,
    /// The places with a binding of that word that `rank` does not count.
    uncounted: u64,
    /// The number of bindings before those.
    rank: usize,
}

impl<'a> Iterator for Bindings<'a> {
    type Item = Found<'a>;

    #[inline]
    fn next(&mut self) -> Option<Found<'a>> {
        loop {
            while self.left == 0 {
                self.left = *self.wanted.0.get(self.word + 1)?;
                self.rank += self.uncounted.count_ones() as usize;
                self.word += 1;
                self.uncounted = self.page.present.0[self.word];
            }
            let bit = self.left & self.left.wrapping_neg();
            self.left &= !bit;
            let before = self.uncounted & (bit - 1);
            // Mostly 0, and a population count is slow without an instruction for it.
            if before != 0 {
                self.rank += before.count_ones() as usize;
                self.uncounted &= !before;
            }
            if self.uncounted & bit != 0 {
                let slot = self.page.slot(self.rank)?;
                self.uncounted &= !bit;
                self.rank += 1;
                return Some(Found {
                    address: self.first + 64 * self.word as u32 + bit.trailing_zeros(),
                    slot,
                    octets: &self.page.octets,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::binding::Binding;
    use crate::model::client::{Client, ClientParts};
    use proptest::prelude::*;

    /// Returns a binding of an address to a client with this host name.
    fn binding(address: u32, hostname: &[u8]) -> Binding {
        Binding {
            client: Some(Client::from(&ClientParts {
                hostname,
                ..ClientParts::default()
            })),
            ..Binding::example(address.into(), Time(1))
        }
    }

    proptest! {
        #[test]
        fn iterates_over_the_bindings_at_the_places_wanted(
            bound in proptest::collection::btree_set(any::<u8>(), 0..256),
            wanted in proptest::collection::btree_set(any::<u8>(), 0..256),
            from in 0..512u32,
        ) {
            let number = 1;
            let first = first_of(number);
            let mut page = Page::default();
            for place in &bound {
                let address = first + u32::from(*place);
                page.put(page.position(address), binding(address, &[*place; 3]).view());
            }
            let mut places = Places::default();
            wanted.iter().for_each(|place| places.insert(*place));
            let found = page.bindings(number, places, from);
            let found: Vec<Binding> = found.map(|found| found.binding().to_owned()).collect();
            let expected: Vec<Binding> = (first.max(from)..first + 256)
                .filter(|address| wanted.contains(&place_of(*address)))
                .filter_map(|address| page.get(address))
                .map(|binding| binding.to_owned())
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
