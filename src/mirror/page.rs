//! Bindings where they are kept: side by side, in pages of 256 addresses.
//!
//! A page holds its bindings in one string of octets: nothing else is allocated for them, and who
//! changes one, of which nothing is in the processor's caches as a rule, waits for memory in one
//! place. Whoever answers queries takes a page as it is and reads it without a lock; who changes it
//! meanwhile changes a copy.

use std::hint::black_box;
use std::iter;
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use crate::mirror::radix::Radix;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// Bits of an address that tell its place in a page.
const PLACE_BITS: u32 = 8;
/// Places in a page.
const PLACES: usize = 1 << PLACE_BITS;
/// Octets that a processor's caches hold in one piece, on most.
const CACHE_LINE: usize = 64;

/// The page of an address.
pub fn page_of(address: u32) -> u32 {
    address >> PLACE_BITS
}

/// The first address of a page.
pub fn first_of(page: u32) -> u32 {
    page << PLACE_BITS
}

/// Some of the places in a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places([u64; 4]);

impl Places {
    /// The word and the bit in it of a place.
    fn bit(place: u8) -> (usize, u64) {
        (usize::from(place / 64), 1 << (place % 64))
    }

    /// Adds a place.
    pub fn insert(&mut self, place: u8) {
        let (word, bit) = Places::bit(place);
        self.0[word] |= bit;
    }

    /// Takes a place out.
    fn remove(&mut self, place: u8) {
        let (word, bit) = Places::bit(place);
        self.0[word] &= !bit;
    }

    /// Whether a place is among these.
    pub fn contains(&self, place: u8) -> bool {
        let (word, bit) = Places::bit(place);
        self.0[word] & bit != 0
    }

    /// How many of these come before a place.
    fn before(&self, place: u8) -> usize {
        let (word, bit) = Places::bit(place);
        let within = (self.0[word] & (bit - 1)).count_ones();
        let whole: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        (whole + within) as usize
    }

    /// The first of these from a place on.
    pub fn next(&self, from: u8) -> Option<u8> {
        let (first, bit) = Places::bit(from);
        let mut bits = self.0[first] & !(bit - 1);
        for word in first..4 {
            if word > first {
                bits = self.0[word];
            }
            if bits != 0 {
                // Less than 256.
                return Some((word * 64) as u8 + bits.trailing_zeros() as u8);
            }
        }
        None
    }

    /// How many these are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The place of an address in its page.
pub fn place_of(address: u32) -> u8 {
    (address & 0xff) as u8
}

/// A binding but for its address, which is known by its place, and its client: where it is kept.
#[derive(Clone, Copy, Debug)]
struct Slot<'a>(&'a Packed);

/// The octets of a slot: [`Numbers`], each with its lowest octet first, the state, and which of the
/// numbers there are.
type Packed = [u8; SLOT];

/// How many these are.
const SLOT: usize = size_of::<Numbers>() + 2;

/// The numbers in a slot, in the order of their names below.
type Numbers = [u32; 9];

/// Among the [`Numbers`]: since when a binding is in its state.
const SINCE: usize = 0;
/// Among the [`Numbers`]: its last transaction, if [`HAS_LAST_TRANSACTION`].
const LAST_TRANSACTION: usize = 1;
/// Among the [`Numbers`]: when its lifetime began.
const LEASE_START: usize = 2;
/// Among the [`Numbers`]: how long it lasts.
const LIFETIME: usize = 3;
/// Among the [`Numbers`]: its subnet.
const SUBNET: usize = 4;
/// Among the [`Numbers`]: when it was noticed, if [`HAS_LEARNED_AT`].
const LEARNED_AT: usize = 5;
/// Among the [`Numbers`]: until when it is reserved, if [`HAS_RESERVED_UNTIL`].
const RESERVED_UNTIL: usize = 6;
/// Among the [`Numbers`]: where its client's octets begin in those of the page.
const START: usize = 7;
/// Among the [`Numbers`]: how many there are.
const LENGTH: usize = 8;

/// In the last octet of a slot: a last transaction.
const HAS_LAST_TRANSACTION: u8 = 1;
/// In the last octet of a slot: when it was noticed.
const HAS_LEARNED_AT: u8 = 2;
/// In the last octet of a slot: until when it is reserved.
const HAS_RESERVED_UNTIL: u8 = 4;
/// In the last octet of a slot: a client.
const HAS_CLIENT: u8 = 8;
/// In the last octet of a slot: the last change was made by another server.
const IS_REMOTE: u8 = 16;

impl Slot<'_> {
    /// The slot of a binding whose client's octets begin at `start`.
    fn pack(binding: BindingRef<'_>, start: usize) -> Packed {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let numbers: Numbers = [
            binding.since.0,
            binding.last_transaction.unwrap_or_default().0,
            binding.lease_start.0,
            binding.lifetime.0,
            binding.subnet.0,
            binding.learned_at.unwrap_or_default().0,
            binding.reserved_until.unwrap_or_default().0,
            // What a page holds is bounded by what 256 DHCP messages do.
            start as u32,
            octets(binding).len() as u32,
        ];
        let has = flag(binding.last_transaction.is_some(), HAS_LAST_TRANSACTION)
            | flag(binding.learned_at.is_some(), HAS_LEARNED_AT)
            | flag(binding.reserved_until.is_some(), HAS_RESERVED_UNTIL)
            | flag(binding.client.is_some(), HAS_CLIENT)
            | flag(binding.remote, IS_REMOTE);
        let mut packed = [0; SLOT];
        let (places, rest) = packed.as_chunks_mut();
        for (place, number) in places.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        rest.copy_from_slice(&[binding.state as u8, has]);
        packed
    }

    /// One of its numbers.
    #[inline]
    fn number(self, place: usize) -> u32 {
        let (numbers, _) = self.0.as_chunks();
        u32::from_le_bytes(numbers[place])
    }

    /// The binding of an address, with its client's octets among those of the page.
    #[inline]
    fn binding<'b>(self, address: u32, octets: &'b [u8]) -> BindingRef<'b> {
        let [.., state, has] = *self.0;
        let has = |flag: u8| has & flag != 0;
        let time = |place| Time(self.number(place));
        BindingRef {
            address: Ipv4Addr::from_bits(address),
            // It was one's.
            state: State::from_value(state).unwrap_or(State::Available),
            since: time(SINCE),
            last_transaction: has(HAS_LAST_TRANSACTION).then_some(time(LAST_TRANSACTION)),
            lease_start: time(LEASE_START),
            lifetime: Lifetime(self.number(LIFETIME)),
            subnet: SubnetId(self.number(SUBNET)),
            client: has(HAS_CLIENT).then(|| {
                let octets = octets.get(self.scope()).unwrap_or_default();
                ClientRef::from_octets(octets)
            }),
            remote: has(IS_REMOTE),
            learned_at: has(HAS_LEARNED_AT).then_some(time(LEARNED_AT)),
            reserved_until: has(HAS_RESERVED_UNTIL).then_some(time(RESERVED_UNTIL)),
        }
    }

    /// Where its client's octets are.
    fn scope(self) -> Range<usize> {
        let (start, length) = (self.number(START), self.number(LENGTH));
        start as usize..(start + length) as usize
    }
}

/// All that is known of a binding's client.
fn octets<'a>(binding: BindingRef<'a>) -> &'a [u8] {
    binding.client.map(ClientRef::octets).unwrap_or_default()
}

/// A binding in its page: where it is.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its address.
    pub address: u32,
    /// What else is known of it.
    slot: Slot<'a>,
    /// The octets of the page.
    octets: &'a [u8],
}

/// What bindings have in common about which replies differ in values alone, mostly: their state, which times
/// they have, subnet, lifetime, and what the client's first octet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The last octets of a slot.
    state_and_has: [u8; 2],
    /// The subnet.
    subnet: u32,
    /// The lifetime.
    lifetime: u32,
    /// The first octet of the client; 0 without one.
    client: u8,
}

impl<'a> Found<'a> {
    /// What it has in common with others.
    #[inline]
    pub fn kind(self) -> Kind {
        let [.., state, has] = *self.slot.0;
        Kind {
            state_and_has: [state, has],
            subnet: self.slot.number(SUBNET),
            lifetime: self.slot.number(LIFETIME),
            client: self.client().octets().first().copied().unwrap_or(0),
        }
    }

    /// Its client, without octets if it has none.
    #[inline]
    pub fn client(self) -> ClientRef<'a> {
        ClientRef::from_octets(self.octets.get(self.slot.scope()).unwrap_or_default())
    }

    /// Since when it is in its state.
    #[inline]
    pub fn since(self) -> Time {
        Time(self.slot.number(SINCE))
    }

    /// Its last transaction, if its [`Kind`] has one.
    #[inline]
    pub fn last_transaction(self) -> Time {
        Time(self.slot.number(LAST_TRANSACTION))
    }

    /// When its lifetime began.
    #[inline]
    pub fn lease_start(self) -> Time {
        Time(self.slot.number(LEASE_START))
    }

    /// The binding itself. It is large, and moved in larger pieces than it is written in, which takes
    /// the processor long just after: whoever needs it at once should ask for it, and lend it to others.
    #[inline]
    pub fn binding(self) -> BindingRef<'a> {
        self.slot.binding(self.address, self.octets)
    }
}

/// The bindings at some places of a page, ascending.
///
/// It counts where it is among the page's bindings instead of asking for each how many come before.
#[derive(Clone, Debug)]
pub struct Bindings<'a> {
    /// The page.
    page: &'a Page,
    /// The first address of the page.
    first: u32,
    /// The places wanted.
    wanted: Places,
    /// The word of places it has come to.
    word: usize,
    /// Of that word, the places wanted that it has not come by.
    left: u64,
    /// Of that word, the places with a binding that are not counted in `rank`.
    uncounted: u64,
    /// How many bindings come before those.
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
            // Seldom are there any, and not all processors have an instruction that counts.
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

/// What a page gets, when its room is used up, beyond what is needed: such a part of what it holds.
const SPARE: usize = 8;

/// The bindings of up to 256 addresses. A clone is the page as it was then.
///
/// It is in one piece of the processor's caches, not in two: to have it there is most of the work where
/// pages are looked for here and there.
#[repr(align(64))]
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The places of those that there are.
    present: Places,
    /// Where the first octets of a client are.
    low: u32,
    /// The slots of the bindings, in order; room for more; and what is known of their clients, in no
    /// order and with gaps where others were.
    octets: Arc<[u8]>,
}

impl Page {
    /// The places of the bindings there are.
    pub fn present(&self) -> &Places {
        &self.present
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.present == Places::default()
    }

    /// The binding of an address in this page.
    pub fn get(&self, address: u32) -> Option<BindingRef<'_>> {
        let place = place_of(address);
        if !self.present.contains(place) {
            return None;
        }
        let slot = self.slot(self.present.before(place))?;
        Some(slot.binding(address, &self.octets))
    }

    /// The slot of the binding that so many come before.
    fn slot(&self, rank: usize) -> Option<Slot<'_>> {
        let octets = self.octets.get(rank * SLOT..)?;
        octets.first_chunk().map(Slot)
    }

    /// The slots of all bindings, in order.
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let (slots, _) = self.octets.as_chunks();
        slots.iter().take(self.present.count()).map(Slot)
    }

    /// The bindings at those of the `wanted` places of this page that are addresses from `from` on, which
    /// is in this page or before it; `number` is the page's.
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
            rank: self.present.before(64 * word as u8),
        }
    }

    /// Looks at all of the page, to have it in the processor's caches: at something in each piece of
    /// it that they hold.
    pub fn fetch(&self) {
        let lines = self.octets.chunks(CACHE_LINE);
        black_box(lines.fold(0, |sum: u8, line| sum.wrapping_add(line[0])));
    }

    /// Puts a binding in place of the one of the same address; says whether there was none.
    pub fn put(&mut self, binding: BindingRef<'_>) -> bool {
        let place = place_of(binding.address.to_bits());
        let rank = self.present.before(place);
        let is_new = !self.present.contains(place);
        let before = self.slot(rank).filter(|_| !is_new);
        let client = octets(binding);
        let start = match before.map(Slot::scope) {
            Some(scope) if client.len() <= scope.len() => scope.start,
            _ => {
                let room = self.low as usize - self.present.count() * SLOT;
                if room < SLOT + client.len() {
                    self.make_room(SLOT + client.len());
                }
                self.low -= client.len() as u32;
                self.low as usize
            }
        };
        let slots = rank * SLOT..self.present.count() * SLOT;
        // A copy, if somebody else has the page, too.
        let octets = Arc::make_mut(&mut self.octets);
        octets[start..][..client.len()].copy_from_slice(client);
        if is_new {
            octets.copy_within(slots.clone(), slots.start + SLOT);
            self.present.insert(place);
        }
        octets[slots.start..][..SLOT].copy_from_slice(&Slot::pack(binding, start));
        is_new
    }

    /// Takes the binding of an address out; says whether there was one.
    pub fn remove(&mut self, address: u32) -> bool {
        let place = place_of(address);
        if !self.present.contains(place) {
            return false;
        }
        let slot = self.present.before(place) * SLOT;
        let slots = self.present.count() * SLOT;
        Arc::make_mut(&mut self.octets).copy_within(slot + SLOT..slots, slot);
        self.present.remove(place);
        true
    }

    /// Moves everything to where there is room for so many octets more.
    fn make_room(&mut self, more: usize) {
        let used: usize = self.slots().map(|slot| SLOT + slot.scope().len()).sum();
        // No more than for those that are missing, if one comes now.
        let count = self.present.count() + 1;
        let missing = PLACES.saturating_sub(count);
        let room = used + more + (used / SPARE).min((used + more) / count * missing);
        let mut moved: Arc<[u8]> = iter::repeat_n(0, room).collect();
        let mut low = room;
        let octets_moved = Arc::make_mut(&mut moved);
        for (rank, slot) in self.slots().enumerate() {
            let binding = slot.binding(0, &self.octets);
            let client = octets(binding);
            low -= client.len();
            octets_moved[low..][..client.len()].copy_from_slice(client);
            octets_moved[rank * SLOT..][..SLOT].copy_from_slice(&Slot::pack(binding, low));
        }
        self.low = low as u32;
        self.octets = moved;
    }
}

/// All bindings, by address.
#[derive(Debug, Default)]
pub struct Pages {
    /// The pages that are not empty.
    groups: Radix,
    /// How many bindings there are.
    count: usize,
}

impl Pages {
    /// How many bindings there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The binding of an address.
    pub fn get(&self, address: u32) -> Option<BindingRef<'_>> {
        self.page(page_of(address))?.get(address)
    }

    /// A page that is not empty.
    pub fn page(&self, page: u32) -> Option<&Page> {
        self.groups.get(page)
    }

    /// The pages from one on that are not empty, ascending.
    pub fn pages_from(&self, page: u32) -> impl Iterator<Item = (u32, &Page)> {
        self.groups.pages_from(page)
    }

    /// The binding of an address that is about to be changed.
    pub fn get_to_change(&self, address: u32) -> Option<BindingRef<'_>> {
        let page = self.page(page_of(address))?;
        // Only who changes a page must know whether somebody else has it. That is written before its
        // slots: the processor waits for both at once if it is looked at now.
        black_box(Arc::strong_count(&page.octets));
        page.get(address)
    }

    /// Puts a binding in place of the one of the same address.
    pub fn put(&mut self, binding: BindingRef<'_>) {
        let page = page_of(binding.address.to_bits());
        let is_new = self.groups.get_or_insert(page).put(binding);
        self.count += usize::from(is_new);
    }

    /// Takes the binding of an address out; says whether there was one.
    pub fn remove(&mut self, address: u32) -> bool {
        let remove = |page: &mut Page| page.remove(address);
        let was_there = self.groups.take_from(page_of(address), remove);
        let was_there = was_there.unwrap_or(false);
        self.count -= usize::from(was_there);
        was_there
    }

    /// The bindings of these addresses, ascending.
    pub fn range(&self, addresses: RangeInclusive<u32>) -> impl Iterator<Item = BindingRef<'_>> {
        let (first, last) = addresses.into_inner();
        self.pages_from(page_of(first))
            .take_while(move |(page, _)| *page <= page_of(last))
            .flat_map(|(page, content)| {
                let first = first_of(page);
                let places = std::iter::successors(content.present.next(0), |place| {
                    content.present.next(place.checked_add(1)?)
                });
                places.zip(content.slots()).map(move |(place, slot)| {
                    slot.binding(first + u32::from(place), &content.octets)
                })
            })
            .skip_while(move |binding| binding.address.to_bits() < first)
            .take_while(move |binding| binding.address.to_bits() <= last)
    }

    /// All bindings, ascending.
    pub fn iter(&self) -> impl Iterator<Item = BindingRef<'_>> {
        self.range(0..=u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::binding::Binding;
    use crate::model::client::{Client, ClientParts};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A binding with something in each place, or nothing.
    fn binding(address: u32, number: u32, information: Option<Vec<u8>>) -> Binding {
        let some = |bit: u32| (number & bit != 0).then_some(Time(number * bit));
        let client = |information: Vec<u8>| {
            Client::from(&ClientParts {
                relay_agent_information: &information,
                ..ClientParts::default()
            })
        };
        Binding {
            address: Ipv4Addr::from_bits(address),
            state: if number & 8 == 0 {
                State::Active
            } else {
                State::Released
            },
            since: Time(number),
            last_transaction: some(1),
            lease_start: Time(number + 1),
            lifetime: Lifetime(number + 2),
            subnet: SubnetId(number + 3),
            client: information.map(client),
            remote: number & 16 != 0,
            learned_at: some(2),
            reserved_until: some(4),
        }
    }

    /// Addresses in neighbouring pages and in neighbouring groups of them, ascending by number.
    fn address(number: u32) -> u32 {
        number + number / 300 * 0xfe80
    }

    proptest! {
        #[test]
        fn holds_what_an_ordinary_map_holds(
            steps in vec(
                (any::<bool>(), 0..600u32, 0..32u32, proptest::option::of(vec(any::<u8>(), 0..90))),
                0..200,
            ),
            range in (0..700u32, 0..700u32),
        ) {
            let mut pages = Pages::default();
            let mut expected = BTreeMap::new();
            for (is_put, address_number, number, information) in steps {
                let address = address(address_number);
                if is_put {
                    let binding = binding(address, number, information);
                    pages.put(binding.view());
                    expected.insert(address, binding);
                } else {
                    let was_there = expected.remove(&address).is_some();
                    prop_assert_eq!(pages.remove(address), was_there);
                }
                prop_assert_eq!(pages.count(), expected.len());
            }
            for address in (0..600).map(address) {
                let found = pages.get(address).map(|binding| binding.to_owned());
                prop_assert_eq!(found.as_ref(), expected.get(&address));
            }
            let all: Vec<Binding> = pages.iter().map(|binding| binding.to_owned()).collect();
            prop_assert_eq!(all, expected.values().cloned().collect::<Vec<_>>());
            let (first, last) = (address(range.0.min(range.1)), address(range.0.max(range.1)));
            let found = pages.range(first..=last).map(|binding| binding.address.to_bits());
            let wanted = expected.range(first..=last).map(|(address, _)| *address);
            prop_assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }

        #[test]
        fn goes_through_the_places_wanted(
            bound in proptest::collection::btree_set(any::<u8>(), 0..256),
            wanted in proptest::collection::btree_set(any::<u8>(), 0..256),
            from in 0..512u32,
        ) {
            let number = 1;
            let first = first_of(number);
            let mut page = Page::default();
            for place in &bound {
                page.put(binding(first + u32::from(*place), 1, Some(vec![*place; 3])).view());
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

        #[test]
        fn finds_the_next_place(places in proptest::collection::btree_set(any::<u8>(), 0..40)) {
            let mut set = Places::default();
            places.iter().for_each(|place| set.insert(*place));
            for from in 0..=255 {
                prop_assert_eq!(set.next(from), places.range(from..).next().copied());
                prop_assert_eq!(set.before(from), places.range(..from).count());
            }
            prop_assert_eq!(set.count(), places.len());
        }
    }

    #[test]
    fn who_reads_a_page_sees_it_as_it_was() {
        let mut pages = Pages::default();
        pages.put(binding(7, 1, None).view());
        let page = pages.page(0).unwrap().clone();
        pages.put(binding(7, 2, Some(vec![1, 2, 3])).view());
        assert_eq!(page.get(7).unwrap().since, Time(1));
        assert_eq!(pages.get(7).unwrap().since, Time(2));
    }
}
