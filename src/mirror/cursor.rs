//! Going through bindings in ascending order of their addresses, a part at a time.
//!
//! A walk keeps nothing but the address it has come to, so each address comes up at most once
//! whatever changes between two parts (RFC 6926 section 8.2). A part is taken from the tables at
//! once and gone through without them: whoever changes them need not wait for it.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::slice;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::mirror::bitset::Places;
use crate::mirror::index::time::Reached;
use crate::mirror::indexes::Identity;
use crate::mirror::page::{Bindings, Found, Page, first_of, page_of, place_of};
use crate::mirror::ranges::TimedRange;
use crate::mirror::table::Table;
use crate::mirror::view::View;
use crate::model::time::{Time, Window};

/// The most pages in a part.
const PAGES_PER_PART: usize = 16;

/// About how many bindings make a part, if there are as many and their pages not too many.
const BINDINGS_PER_PART: usize = 256;

/// The most pages, whether there are or not, that a part of a set of addresses is looked for in: the
/// tables are held meanwhile, and the set may have each of their addresses.
const LONGEST_SPAN: u32 = 64;

/// How many addresses that were touched are collected at once.
const COLLECTED_AT_ONCE: usize = 2_048;

/// How long in seconds bindings are looked for that end by themselves while a walk lasts. All leases
/// end at some time: to look for later ends would be to look at every one. Who asks for what has
/// changed must go back to the beginning of the query before in any case, since a walk may have
/// passed an address when it changes.
const AHEAD: u32 = 60;

/// What a walk comes by.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An address with a binding.
    Bound(Found<'a>),
    /// Configured addresses that were never leased, or of which nothing is known any more.
    Free(Run<'a>),
}

/// Free addresses in a row, which differ in nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The first of them.
    pub first: Ipv4Addr,
    /// The last of them.
    pub last: Ipv4Addr,
    /// The configured range they are in.
    pub range: &'a TimedRange,
}

/// The index that drives a scan.
#[derive(Clone, Debug)]
enum Driver {
    /// The addresses of all bindings, and the configured ranges.
    Address,
    /// The active bindings of one client or relay agent.
    Identity(Identity),
    /// The bindings that changed in the window.
    Time(Changes),
}

/// The bindings that changed in a window.
#[derive(Clone, Debug)]
struct Changes {
    /// The client or relay agent whose active bindings they are; `None` for bindings of any, at
    /// configured addresses.
    identity: Option<Identity>,
    /// Their addresses, as far as they are collected.
    addresses: RoaringBitmap,
    /// Where the collection goes on; `None` once it is complete.
    next: Option<Reached>,
}

/// A scan in progress.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The index that drives it.
    driver: Driver,
    /// The times of change that are asked for.
    window: Window,
    /// The time until which bindings are looked for that end by themselves: [`AHEAD`] of the scan's
    /// beginning.
    until: Time,
    /// The address to go on from: one past the last one visited, so possibly 2^32.
    position: u64,
    /// The span of addresses that the next part is looked for in, if it is some of a set.
    span: Span,
}

/// How many pages, whether there are or not, a part of a set of addresses is looked for in: as many as the
/// parts before have shown to be good. To count off what a part is to have takes as long as to take it.
#[derive(Clone, Copy, Debug)]
struct Span(u32);

/// The addresses of a page that a walk is to come by.
#[derive(Debug)]
struct Pick {
    /// The page's number.
    number: u32,
    /// The page as it was when the part was taken.
    page: Page,
    /// The places of these addresses.
    wanted: Places,
}

/// A part of what a walk comes by, as it was at one moment.
#[derive(Debug)]
pub struct Part {
    /// What was configured then.
    pub view: Arc<View>,
    /// The bindings, in ascending order.
    picks: Vec<Pick>,
    /// What else there is.
    kind: Kind,
    /// The first address that it tells nothing of, so possibly 2^32.
    end: u64,
    /// How much was looked at to find out what is to be visited at all.
    pub collected: usize,
}

impl Part {
    /// Has the processor get what is to be visited into its caches. It waits for much of that at
    /// once, where whoever visits one binding after the other would wait for each.
    pub fn fetch(&self) {
        for pick in &self.picks {
            // If few are wanted of what a page has, they are better waited for.
            if pick.wanted.count() * 2 >= pick.page.present().count() {
                pick.page.prefetch();
            }
        }
    }
}

/// What there is in a part besides the bindings picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Picked,
    /// Nothing, and of the bindings only those at configured addresses.
    PickedIfConfigured,
    /// Free addresses, too.
    All,
}

impl Cursor {
    /// A scan that begins at the first address.
    fn new(driver: Driver, window: Window, now: Time) -> Cursor {
        Cursor {
            driver,
            window,
            until: now.plus(AHEAD),
            position: 0,
            span: Span(1),
        }
    }

    /// A scan of all configured addresses, without the free ones that did not change in `window`.
    pub fn by_address(window: Window, now: Time) -> Cursor {
        Cursor::new(Driver::Address, window, now)
    }

    /// A scan of the active bindings of `identity`.
    pub fn by_identity(identity: Identity, now: Time) -> Cursor {
        Cursor::new(Driver::Identity(identity), Window::ANY, now)
    }

    /// A scan of no less than the bindings that changed in `window`: the active ones of an identity,
    /// or all at configured addresses. Of the latter, those that end by themselves when the scan has
    /// been going on for longer than [`AHEAD`] may be left out.
    pub fn by_time(window: Window, identity: Option<Identity>, now: Time) -> Cursor {
        let changes = Changes {
            identity,
            addresses: RoaringBitmap::new(),
            next: Some(Reached::default()),
        };
        Cursor::new(Driver::Time(changes), window, now)
    }

    /// Counts the bindings that [`Cursor::by_time`] would visit or look at, or more than `limit`.
    pub fn count_by_time(
        table: &Table,
        window: Window,
        identity: Option<&Identity>,
        now: Time,
        limit: usize,
    ) -> usize {
        table.count_changes(window, ends_until(identity, now.plus(AHEAD)), limit)
    }

    /// Takes the next part from the tables; `None` if there is nothing left. It may be empty.
    pub fn part(&mut self, table: &Table) -> Option<Part> {
        let start = u32::try_from(self.position).ok()?;
        let mut collected = 0;
        let (picks, kind, end) = match &mut self.driver {
            Driver::Address => {
                let (picks, end) = pick_all(table, start);
                (picks, Kind::All, end)
            }
            Driver::Identity(identity) => {
                let found = table.find(identity)?;
                let (picks, end) = self.span.pick(table, start, |range| found.within(range))?;
                (picks, Kind::Picked, end)
            }
            Driver::Time(changes) if changes.next.is_some() => {
                collected = changes.collect(table, self.window, self.until);
                (Vec::new(), Kind::Picked, self.position)
            }
            Driver::Time(changes) => {
                let addresses = &changes.addresses;
                let within = |range| addresses.range(range);
                match &changes.identity {
                    None => {
                        let (picks, end) = self.span.pick(table, start, within)?;
                        (picks, Kind::PickedIfConfigured, end)
                    }
                    Some(identity) => {
                        // It may have lost some since they were collected.
                        let found = table.find(identity)?;
                        let of_identity = |address: &u32| found.contains(*address);
                        let within = |range| within(range).filter(of_identity);
                        let (picks, end) = self.span.pick(table, start, within)?;
                        (picks, Kind::Picked, end)
                    }
                }
            }
        };
        Some(Part {
            view: Arc::clone(table.view()),
            picks,
            kind,
            end,
            collected,
        })
    }

    /// What there is in a part that [`Cursor::part`] has given last. The walk goes on after what has
    /// been taken of it.
    pub fn entries<'a>(&'a mut self, part: &'a Part) -> Entries<'a> {
        let start = u32::try_from(self.position).unwrap_or(u32::MAX);
        let ranges = &part.view.ranges;
        let mut entries = Entries {
            part,
            window: self.window,
            position: &mut self.position,
            picks: part.picks.iter(),
            page: None,
            bound: None,
            range: ranges.partition_point(|range| range.last.to_bits() < start),
        };
        if part.kind == Kind::All {
            entries.bound = entries.next_bound();
        }
        entries
    }
}

impl Changes {
    /// Collects some addresses, and returns how many entries of the index that took.
    ///
    /// What changes between two calls is filed under a later time: it comes up then, or has not
    /// changed last in the window.
    fn collect(&mut self, table: &Table, window: Window, until: Time) -> usize {
        let Some(reached) = self.next.take() else {
            return 0;
        };
        let until = ends_until(self.identity.as_ref(), until);
        let mut left = table.touched(reached, window, until);
        let found = self.identity.as_ref().map(|identity| table.find(identity));
        let mut count = 0;
        for reached in left.by_ref().take(COLLECTED_AT_ONCE) {
            count += 1;
            let is_wanted = match found {
                None => true,
                Some(found) => found.is_some_and(|found| found.contains(reached.address)),
            };
            if is_wanted {
                self.addresses.insert(reached.address);
            }
        }
        self.next = left.next();
        count
    }
}

/// The time until which bindings are looked for that end by themselves. A binding that has ended is
/// not active, and no identity's any more.
fn ends_until(identity: Option<&Identity>, until: Time) -> Option<Time> {
    match identity {
        Some(_) => None,
        None => Some(until),
    }
}

/// What there is in a part.
#[derive(Debug)]
pub struct Entries<'a> {
    /// The part.
    part: &'a Part,
    /// The times of change that are asked for.
    window: Window,
    /// The walk's position.
    position: &'a mut u64,
    /// The pages not come to.
    picks: slice::Iter<'a, Pick>,
    /// What is left of the one it is at.
    page: Option<Bindings<'a>>,
    /// The next binding, if free addresses may come before it.
    bound: Option<Found<'a>>,
    /// Where in the configured ranges it is, or before it.
    range: usize,
}

impl<'a> Entries<'a> {
    /// Has the walk go on after `address`, which it came by in a run that was not used up.
    pub fn go_on_after(&mut self, address: Ipv4Addr) {
        *self.position = u64::from(address.to_bits()) + 1;
    }

    /// The binding after those that were taken.
    #[inline(always)]
    fn next_bound(&mut self) -> Option<Found<'a>> {
        loop {
            if let Some(found) = self.page.as_mut().and_then(Bindings::next) {
                return Some(found);
            }
            let pick = self.picks.next()?;
            let from = u32::try_from(*self.position).ok()?;
            self.page = Some(pick.page.bindings(pick.number, pick.wanted, from));
        }
    }

    /// Takes the next binding of those that have been picked, or comes to the end.
    #[inline]
    fn next_picked(&mut self) -> Option<Found<'a>> {
        let found = self.next_bound();
        *self.position = found.map_or(self.part.end, after);
        found
    }

    /// The next binding at a configured address or the next free addresses, whichever come first.
    #[inline]
    fn next_of_all(&mut self) -> Option<Entry<'a>> {
        let ranges = &self.part.view.ranges;
        loop {
            let position = *self.position;
            let is_passed = |range: &TimedRange| u64::from(range.last.to_bits()) < position;
            while ranges.get(self.range).is_some_and(is_passed) {
                self.range += 1;
            }
            let bound = (self.bound).map_or(self.part.end, |found| found.address.into());
            // The next configured address, as if nothing were bound.
            let free = ranges
                .get(self.range)
                .map(|range| (u64::from(range.first.to_bits()).max(position), range));
            match free {
                Some((first, range)) if first < bound => {
                    let last = u64::from(range.last.to_bits()).min(bound - 1);
                    *self.position = last + 1;
                    if self.window.contains(range.since) {
                        return Some(Entry::Free(Run {
                            // Both are within the range, so they fit 32 bits.
                            first: Ipv4Addr::from_bits(first as u32),
                            last: Ipv4Addr::from_bits(last as u32),
                            range,
                        }));
                    }
                }
                _ => {
                    let found = self.bound;
                    *self.position = found.map_or(self.part.end, after);
                    let found = found?;
                    self.bound = self.next_bound();
                    let is_in_range = free.is_some_and(|(first, _)| first == bound);
                    if is_in_range || self.part.view.has(found.binding()) {
                        return Some(Entry::Bound(found));
                    }
                }
            }
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        match self.part.kind {
            Kind::All => self.next_of_all(),
            Kind::Picked => self.next_picked().map(Entry::Bound),
            Kind::PickedIfConfigured => loop {
                let found = self.next_picked()?;
                if self.part.view.has(found.binding()) {
                    return Some(Entry::Bound(found));
                }
            },
        }
    }
}

/// The first address after that of a binding.
fn after(found: Found<'_>) -> u64 {
    u64::from(found.address) + 1
}

impl Span {
    /// The bindings at the first addresses of a set from `start` on, and the first address of which they tell
    /// nothing; `None` if there are no addresses.
    fn pick<I: Iterator<Item = u32>>(
        &mut self,
        table: &Table,
        start: u32,
        within: impl Fn(RangeInclusive<u32>) -> I,
    ) -> Option<(Vec<Pick>, u64)> {
        let first = within(start..=u32::MAX).next()?;
        let last_page = page_of(first)
            .saturating_add(self.0 - 1)
            .min(page_of(u32::MAX));
        let last = first_of(last_page) | 0xff;
        let mut wanted: Vec<(u32, Places)> = Vec::with_capacity(PAGES_PER_PART);
        let mut count = 0;
        let mut is_cut = false;
        // Not a `for` loop, even if there are more than are wanted: what these come from is put together of
        // several sets, and goes through one after the other much quicker by itself.
        within(first..=last).for_each(|address| {
            let (page, place) = (page_of(address), place_of(address));
            let has_room = wanted.len() < PAGES_PER_PART;
            count += 1;
            match wanted.last_mut() {
                Some((last, places)) if *last == page => places.insert(place),
                _ if has_room => {
                    let mut places = Places::default();
                    places.insert(place);
                    wanted.push((page, places));
                }
                _ => is_cut = true,
            }
        });
        if is_cut || count > 2 * BINDINGS_PER_PART {
            self.0 = (self.0 / 2).max(1);
        } else if wanted.len() <= PAGES_PER_PART / 2 && count <= BINDINGS_PER_PART / 2 {
            self.0 = (self.0 * 2).min(LONGEST_SPAN);
        }
        let end = match (is_cut, wanted.last()) {
            (true, Some((last, _))) => u64::from(first_of(*last)) + 256,
            _ => u64::from(last) + 1,
        };
        let pages = wanted.iter().filter_map(|(number, places)| {
            let page = table.page(*number)?;
            Some((*number, page, *places))
        });
        Some((take(pages.collect()), end))
    }
}

/// Takes pages with the places wanted in each.
///
/// Only when all have been looked at: the processor waits for the memory of several at once as long
/// as nothing is changed there, and changes of the tables wait less.
fn take(pages: Vec<(u32, &Page, Places)>) -> Vec<Pick> {
    let picks = pages.into_iter().map(|(number, page, wanted)| Pick {
        number,
        page: page.clone(),
        wanted,
    });
    picks.collect()
}

/// The first bindings from an address on, and the first address of which they tell nothing.
fn pick_all(table: &Table, start: u32) -> (Vec<Pick>, u64) {
    let mut pages = Vec::with_capacity(PAGES_PER_PART);
    let mut end = u64::from(u32::MAX) + 1;
    let mut count = 0;
    for (number, page) in table.pages_from(page_of(start)) {
        if pages.len() == PAGES_PER_PART || count >= BINDINGS_PER_PART {
            end = first_of(number).into();
            break;
        }
        count += page.present().count();
        pages.push((number, page, *page.present()));
    }
    (take(pages), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::ranges::SavedView;
    use crate::model::binding::{Binding, SubnetId};
    use crate::model::vpn::Vpn;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A subnet of 32 addresses, of which the table's ranges are configured; the rest is
    /// outside of any subnet.
    fn table(ranges: Vec<TimedRange>) -> Table {
        let view = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "0.0.0.32/27" } ] } }"#;
        let kea_config = KeaConfig::from_json(view, Vec::new()).unwrap();
        let mut table = Table::new(Arc::new(kea_config), &SavedView::default(), Time(0));
        table.set_ranges(ranges);
        table
    }

    fn binding(address: u8, since: u32) -> Binding {
        Binding {
            subnet: SubnetId(if (32..64).contains(&address) { 1 } else { 2 }),
            ..Binding::example(Ipv4Addr::from_bits(address.into()), Time(since))
        }
    }

    /// Ranges from a list of lengths: gap, range, gap, range ... each with a time.
    fn ranges(lengths: &[(u8, u8, u32)]) -> Vec<TimedRange> {
        let mut first = 0;
        lengths
            .iter()
            .map(|(gap, length, since)| {
                first += u32::from(*gap);
                let last = first + u32::from(*length);
                let range = TimedRange {
                    first: Ipv4Addr::from_bits(first),
                    last: Ipv4Addr::from_bits(last),
                    vpn: Vpn::Default,
                    remote: false,
                    since: Time(since.to_owned()),
                };
                first = last + 2;
                range
            })
            .collect()
    }

    proptest! {
        /// Close to each other or far apart: parts tell of all addresses of an index, each once.
        #[test]
        fn goes_through_all_of_an_index(
            steps in proptest::collection::vec((1..600u32, 1..20u32, 1..40usize), 0..40),
        ) {
            let mut table = table(Vec::new());
            let mut address = 0;
            let mut expected = Vec::new();
            for (gap, step, count) in steps {
                address += gap * 7;
                for _ in 0..count {
                    address += step * step;
                    table.put(&Binding {
                        address: Ipv4Addr::from_bits(address),
                        ..binding(0, 1)
                    });
                    expected.push(address);
                }
            }
            let changes = Changes {
                identity: None,
                addresses: expected.iter().copied().collect(),
                next: None,
            };
            let mut cursor = Cursor::new(Driver::Time(changes), Window::ANY, Time(1));
            let mut found = Vec::new();
            while let Some(part) = cursor.part(&table) {
                prop_assert!(part.picks.len() <= PAGES_PER_PART);
                found.extend(part.picks.iter().flat_map(|pick| {
                    let places = (0..=u8::MAX).filter(|place| pick.wanted.contains(*place));
                    places.map(|place| first_of(pick.number) + u32::from(place))
                }));
                cursor.position = part.end;
            }
            prop_assert_eq!(found, expected);
        }

        /// What a walk in parts finds is what a look at every address finds, each once.
        #[test]
        fn finds_every_configured_address_that_changed_once(
            lengths in proptest::collection::vec((0..9u8, 0..12u8, 0..4u32), 0..8),
            bindings in proptest::collection::btree_map(0..120u8, 0..4u32, 0..40),
            start in 0..4u32,
            length in 0..4u32,
            part in 1..5u32,
        ) {
            let ranges = ranges(&lengths);
            let mut table = table(ranges.clone());
            for (address, since) in &bindings {
                table.put(&binding(*address, *since));
            }
            let window = start..=start + length;
            let mut expected = BTreeMap::new();
            for address in 0..200u8 {
                let bits = Ipv4Addr::from_bits(address.into());
                let range = ranges.iter().find(|range| (range.first..=range.last).contains(&bits));
                let since = bindings.get(&address).copied();
                let saved_view = range.is_some()
                    || since.is_some() && (32..64).contains(&address);
                let changed = since.or(range.map(|range| range.since.0));
                if saved_view && changed.is_some_and(|changed| window.contains(&changed)) {
                    expected.insert(bits, since.is_some());
                }
            }

            let asked = Window { start: Time(*window.start()), end: Time(*window.end()) };
            let mut cursor = Cursor::by_address(asked, Time(9));
            let mut found = BTreeMap::new();
            let mut visited = BTreeSet::new();
            let mut visit = |address: Ipv4Addr, bound, since: Time| {
                assert!(visited.insert(address), "{address} comes once");
                if window.contains(&since.0) {
                    found.insert(address, bound);
                }
            };
            while let Some(taken) = cursor.part(&table) {
                // A part is given up after some of it, as when a message is full.
                let mut entries = cursor.entries(&taken);
                for _ in 0..part {
                    match entries.next() {
                        Some(Entry::Bound(found)) => {
                            let binding = found.binding();
                            visit(binding.address, true, binding.since);
                        }
                        Some(Entry::Free(run)) => {
                            let last = run.last.to_bits().min(run.first.to_bits() + part - 1);
                            for address in run.first.to_bits()..=last {
                                visit(Ipv4Addr::from_bits(address), false, run.range.since);
                            }
                            entries.go_on_after(Ipv4Addr::from_bits(last));
                        }
                        None => break,
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
