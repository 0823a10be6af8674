//! A page: the bindings of up to 256 addresses side by side.
//!
//! A page holds its bindings in one allocation: the offset of each, free room, and a [`Slot`] for each with the
//! octets of its client. Reads and updates rarely find their page in the processor's caches, so they wait for
//! adjacent cache lines, not for several allocations. For the same reason most slots of a relay agent are side by
//! side. A clone of a page is a snapshot: the octets are shared until the page changes (copy-on-write).

use std::hint::black_box;
use std::iter;
use std::ops::Range;
use std::sync::Arc;

use prefetch_index::prefetch_index;

use crate::mirror::bitset::Places;
use crate::mirror::radix::Leaf;
use crate::mirror::slot::{self, Slot, client_octets};
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;

/// The number of address bits that select a place in a page.
const PLACE_BITS: u32 = 8;
/// The number of places in a page.
const PLACES: usize = 1 << PLACE_BITS;
/// The size of a cache line on most processors, in octets.
const CACHE_LINE: usize = 64;

/// The size of the offset of a slot.
const OFFSET: usize = 4;

/// The octets of a slot that most replies need: the client's host name and options come after them.
const HOT: usize = 160;

/// The divisor that yields the spare room of a moved page from the size of its content.
const SPARE: usize = 8;

/// The divisor for a page that has a binding at nearly every place: such bindings can only grow.
const SPARE_IF_FULL: usize = 32;

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
    /// The offset of the first slot: slots are filled in from the end.
    low: u32,
    /// The subnet of some binding.
    subnet: SubnetId,
    /// Whether a binding has another subnet, or its relay agent names a VPN. Slots that were overwritten or
    /// removed may count until the content is moved.
    is_mixed: bool,
    /// The offsets of the slots in the order of their places, then free room, then the slots in no order and
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

    /// Returns the subnet of all bindings of the page, whose relay agents name no VPNs; `None` if this is not known.
    pub fn only_subnet(&self) -> Option<SubnetId> {
        (!self.is_mixed).then_some(self.subnet)
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

    /// Returns the binding of an address in this page, with its place.
    pub fn find(&self, address: u32) -> Option<Found<'_>> {
        let position = self.position(address);
        let slot = position.is_present.then(|| self.slot(position.rank))??;
        Some(Found { address, slot })
    }

    /// Returns the binding at the position of `address`.
    pub fn at(&self, position: Position, address: u32) -> Option<BindingRef<'_>> {
        if !position.is_present {
            return None;
        }
        Some(self.slot(position.rank)?.binding(address))
    }

    /// Returns the slot of a rank.
    #[inline]
    fn slot(&self, rank: usize) -> Option<Slot<'_>> {
        Slot::first_of(self.octets.get(self.offset(rank)?..)?)
    }

    /// Returns the offset of the slot of a rank.
    #[inline]
    fn offset(&self, rank: usize) -> Option<usize> {
        let octets = self.octets.get(rank * OFFSET..)?.first_chunk()?;
        Some(u32::from_le_bytes(*octets) as usize)
    }

    /// Iterates over all slots in the order of their places.
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        (0..self.present.count()).filter_map(|rank| self.slot(rank))
    }

    /// Iterates over the bindings at the `wanted` places of this page, ascending, leaving out addresses
    /// below `from`; `number` is the number of this page.
    pub fn bindings(&self, number: u32, wanted: Places, from: u32) -> Bindings<'_> {
        let first = first_of(number);
        let place = from.saturating_sub(first).min(255) as u8;
        Bindings {
            page: self,
            first,
            ranks: Ranks::new(self.present, wanted, place),
        }
    }

    /// Prefetches the bindings at the `wanted` places as far as most replies need them, or all if most are
    /// wanted.
    pub fn prefetch(&self, wanted: Places) {
        if wanted.count() * 2 >= self.present.count() {
            return read(self.octets.get(self.low as usize..).unwrap_or_default());
        }
        for (_, rank) in Ranks::new(self.present, wanted, 0) {
            if let Some(start) = self.offset(rank) {
                prefetch(&self.octets, start..start + HOT);
            }
        }
    }

    /// Prefetches the reference counts, which an update compares.
    pub fn prefetch_counts(&self) {
        // Two words before the octets. Elsewhere, the prefetch would be useless and harmless.
        prefetch_index(&self.octets, 0_usize.wrapping_sub(2 * size_of::<usize>()));
    }

    /// Prefetches what a snapshot needs to find bindings: the reference counts, which it increments, and the offsets.
    pub fn prefetch_offsets(&self) {
        self.prefetch_counts();
        prefetch(&self.octets, 0..self.present.count() * OFFSET);
    }

    /// Stores a binding at the position of its address.
    pub fn put(&mut self, position: Position, binding: BindingRef<'_>) {
        let Position {
            place,
            rank,
            is_present,
        } = position;
        let client = client_octets(binding);
        let size = slot::FIXED + client.len();
        let before = self.slot(rank).filter(|_| is_present);
        let start = match self.offset(rank) {
            Some(start) if before.is_some_and(|before| size <= before.size()) => start,
            _ => {
                let room = self.low as usize - self.present.count() * OFFSET;
                if room < OFFSET + size {
                    self.make_room(OFFSET + size);
                }
                self.low -= size as u32;
                self.low as usize
            }
        };
        if self.present.is_empty() {
            (self.subnet, self.is_mixed) = (binding.subnet, false);
        }
        self.is_mixed |= is_mixed(self.subnet, binding.subnet, binding.client);
        let offsets = rank * OFFSET..self.present.count() * OFFSET;
        // Copies the octets if a snapshot shares them.
        let octets = Arc::make_mut(&mut self.octets);
        let (fixed, rest) = octets[start..].split_at_mut(slot::FIXED);
        fixed.copy_from_slice(&Slot::pack(binding));
        rest[..client.len()].copy_from_slice(client);
        if !is_present {
            octets.copy_within(offsets.clone(), offsets.start + OFFSET);
            self.present.insert(place);
        }
        // A page holds parts of at most 256 DHCP messages, so its offsets fit in 32 bits.
        octets[offsets.start..][..OFFSET].copy_from_slice(&(start as u32).to_le_bytes());
    }

    /// Removes the binding of an address; returns whether there was one.
    pub fn remove(&mut self, address: u32) -> bool {
        let Position {
            place,
            rank,
            is_present,
        } = self.position(address);
        if is_present {
            let offset = rank * OFFSET;
            let offsets = self.present.count() * OFFSET;
            Arc::make_mut(&mut self.octets).copy_within(offset + OFFSET..offsets, offset);
            self.present.remove(place);
        }
        is_present
    }

    /// Returns the ranks of the slots, those of one group side by side.
    fn grouped(&self) -> impl Iterator<Item = u8> {
        let groups = self.slots().map(Slot::group).zip(0..=u8::MAX);
        let mut groups: Vec<(u8, u8)> = groups.collect();
        groups.sort_unstable();
        groups.into_iter().map(|(_, rank)| rank)
    }

    /// Moves the content to an allocation with room for `more` octets, without gaps.
    ///
    /// A query for the bindings of a relay agent reads them one after the other if they are side by side.
    fn make_room(&mut self, more: usize) {
        let slots: usize = self.slots().map(Slot::size).sum();
        let used = self.present.count() * OFFSET + slots;
        // Spare room beyond the expected size of the missing bindings is only for some that grow.
        let count = self.present.count() + 1;
        let missing = PLACES.saturating_sub(count);
        let expected = (used + more) / count * missing;
        let room = used + more + (used / SPARE).min(expected.max(used / SPARE_IF_FULL));
        let mut moved: Arc<[u8]> = iter::repeat_n(0, room).collect();
        let low = room - slots;
        let mut end = low;
        let octets = Arc::make_mut(&mut moved);
        for rank in self.grouped().map(usize::from) {
            if let (Some(start), Some(slot)) = (self.offset(rank), self.slot(rank)) {
                octets[rank * OFFSET..][..OFFSET].copy_from_slice(&(end as u32).to_le_bytes());
                octets[end..][..slot.size()].copy_from_slice(&self.octets[start..][..slot.size()]);
                end += slot.size();
            }
        }
        let first = self.slot(0).map(Slot::subnet).unwrap_or_default();
        let is_mixed = |slot: Slot<'_>| is_mixed(first, slot.subnet(), Some(slot.client()));
        (self.subnet, self.is_mixed) = (first, self.slots().any(is_mixed));
        self.low = low as u32;
        self.octets = moved;
    }
}

/// Whether a binding of subnet `id` is not like others of the subnet `first`, none of whose relay agents name VPNs.
fn is_mixed(first: SubnetId, id: SubnetId, client: Option<ClientRef<'_>>) -> bool {
    first != id || client.is_some_and(ClientRef::names_vpn)
}

/// Reads an octet of each cache line, in order: the processor reads ahead, further than by single prefetches.
#[inline(always)]
fn read(octets: &[u8]) {
    let lines = octets.chunks(CACHE_LINE);
    black_box(lines.fold(0, |sum: u8, line| sum.wrapping_add(line[0])));
}

/// Prefetches a range of octets, which may end after the last one: the processor fetches many at once, and goes on
/// meanwhile.
#[inline(always)]
fn prefetch(octets: &[u8], range: Range<usize>) {
    range
        .step_by(CACHE_LINE)
        .for_each(|index| prefetch_index(octets, index));
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
}

impl<'a> Found<'a> {
    /// Returns the binding. It is large: a caller that reads it at once should keep it in one variable and
    /// pass references, because a copy of memory that was just written stalls the processor.
    #[inline]
    pub fn binding(self) -> BindingRef<'a> {
        self.slot.binding(self.address)
    }
}

/// An iterator over the bindings at some places of a page, ascending.
#[derive(Clone, Debug)]
pub struct Bindings<'a> {
    /// The page.
    page: &'a Page,
    /// The first address of the page.
    first: u32,
    /// The places and ranks of the bindings left.
    ranks: Ranks,
}

impl<'a> Iterator for Bindings<'a> {
    type Item = Found<'a>;

    #[inline]
    fn next(&mut self) -> Option<Found<'a>> {
        let (place, rank) = self.ranks.next()?;
        Some(Found {
            address: self.first + place,
            slot: self.page.slot(rank)?,
        })
    }
}

/// An iterator over the places and ranks of some bindings of a page, ascending.
///
/// The rank of each binding is counted along the way, not computed for each anew.
#[derive(Clone, Debug)]
struct Ranks {
    /// The places that have a binding.
    present: Places,
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

impl Ranks {
    /// Iterates over the `wanted` places with a binding, from a place on.
    #[inline]
    fn new(present: Places, wanted: Places, from: u8) -> Ranks {
        let (word, bit) = Places::bit(from);
        Ranks {
            present,
            wanted,
            word,
            left: wanted.0[word] & !(bit - 1),
            uncounted: present.0[word],
            rank: present.rank(64 * word as u8),
        }
    }
}

impl Iterator for Ranks {
    type Item = (u32, usize);

    #[inline]
    fn next(&mut self) -> Option<(u32, usize)> {
        loop {
            while self.left == 0 {
                self.left = *self.wanted.0.get(self.word + 1)?;
                self.rank += self.uncounted.count_ones() as usize;
                self.word += 1;
                self.uncounted = self.present.0[self.word];
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
                let rank = self.rank;
                self.uncounted &= !bit;
                self.rank += 1;
                return Some((64 * self.word as u32 + bit.trailing_zeros(), rank));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::binding::Binding;
    use crate::model::client::{Client, ClientParts};
    use crate::model::time::Time;
    use proptest::prelude::*;
    use proto::sub_option;

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

    #[test]
    fn a_moved_page_has_the_slots_of_a_relay_agent_side_by_side() {
        let of_relay = |place: u8| {
            let information = [sub_option::RELAY_ID, 1, place % 3];
            Client::from(&ClientParts {
                relay_agent_information: &information,
                ..ClientParts::default()
            })
        };
        let mut page = Page::default();
        for place in 0..=u8::MAX {
            let binding = Binding {
                client: Some(of_relay(place)),
                ..Binding::example(u32::from(place).into(), Time(1))
            };
            page.put(page.position(place.into()), binding.view());
        }
        page.make_room(0);
        let mut ranks: Vec<usize> = (0..PLACES).collect();
        ranks.sort_by_key(|rank| page.offset(*rank));
        let runs = || ranks.chunk_by(|a, b| a % 3 == b % 3);
        assert_eq!(runs().count(), 3);
        assert!(runs().all(<[_]>::is_sorted));
    }

    #[test]
    fn a_full_page_is_moved_seldom_though_all_its_bindings_grow() {
        let mut page = Page::default();
        let mut put = |place: u8, hostname: &[u8]| {
            let address = place.into();
            page.put(page.position(address), binding(address, hostname).view());
            Arc::as_ptr(&page.octets)
        };
        (0..=u8::MAX).for_each(|place| {
            put(place, &[b'a'; 8]);
        });
        let mut allocations: Vec<_> = (0..=u8::MAX).map(|place| put(place, &[b'b'; 9])).collect();
        allocations.dedup();
        assert!(allocations.len() <= PLACES / 4, "{}", allocations.len());
    }

    proptest! {
        #[test]
        fn knows_the_only_subnet(
            steps in proptest::collection::vec((0..8u8, 1..3u32, proptest::bool::weighted(0.1)), 1..40),
            moves in any::<bool>(),
        ) {
            let vss = [sub_option::VSS, 2, 0, b'a'];
            let mut page = Page::default();
            for (place, subnet, names_vpn) in steps {
                let parts = ClientParts {
                    relay_agent_information: if names_vpn { &vss } else { &[] },
                    ..ClientParts::default()
                };
                let binding = Binding {
                    subnet: SubnetId(subnet),
                    client: Some(Client::from(&parts)),
                    ..Binding::example(u32::from(place).into(), Time(1))
                };
                page.put(page.position(place.into()), binding.view());
                if moves {
                    page.make_room(0);
                }
                let first = page.slots().next().map(Slot::subnet);
                let is_like_first = |slot: Slot<'_>| {
                    Some(slot.subnet()) == first && !slot.client().names_vpn()
                };
                let expected = first.filter(|_| page.slots().all(is_like_first));
                let found = page.only_subnet();
                prop_assert!(found == expected || found.is_none() && !moves);
            }
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
