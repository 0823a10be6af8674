//! Cursors: scans over bindings in ascending order of their addresses, a part at a time.
//!
//! A cursor keeps no bindings between two parts, so it visits each address at most once, whatever
//! changes meanwhile (RFC 6926 section 8.2). A part is a snapshot: it is visited without a lock of the
//! tables, so that changes do not wait for it.

use std::mem;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::slice;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::mirror::bitset::Places;
use crate::mirror::group::GroupFilter;
use crate::mirror::index::Identity;
use crate::mirror::index::time::Reached;
use crate::mirror::page::{Bindings, Found, Page, first_of, page_of, place_of};
use crate::mirror::ranges::TimedRange;
use crate::mirror::table::Table;
use crate::mirror::view::View;
use crate::model::time::{Time, Window};
use crate::model::vpn::VpnSelector;

/// The maximum number of pages in a part.
const PAGES_PER_PART: usize = 64;

/// The approximate maximum number of bindings in a part.
const BINDINGS_PER_PART: usize = 256;

/// The maximum number of addresses that are passed for one part, because they are in other VPNs or of other identities:
/// bounds the time for which the tables are locked.
const PASSED_AT_ONCE: usize = 1_024;

/// The maximum number of entries of the time index that are visited for one part.
const COLLECTED_AT_ONCE: usize = 8_192;

/// The number of collected addresses that are sorted and added to the others together.
const ADDED_AT_ONCE: usize = 16_384;

/// The number of seconds after the beginning of a scan in which bindings that end by themselves count as
/// changed.
///
/// All leases end at some time, so a search for later ends would find all of them. A requester that asks for
/// changes begins at the start of its previous query in any case, because a scan may have passed an address
/// when it changes.
const AHEAD: u32 = 60;

/// An entry of a part.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An address with a binding.
    Bound(Found<'a>),
    /// Configured addresses without a binding.
    Free(Run<'a>),
}

/// Consecutive free addresses of one configured range.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
    /// The configured range that contains them.
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
    /// The client or relay agent that has these active bindings; `None` for all bindings at configured
    /// addresses.
    identity: Option<Identity>,
    /// Addresses collected since the last ones were added to `addresses`, in no order.
    collected: Vec<u32>,
    /// The addresses collected before.
    addresses: RoaringBitmap,
    /// The position from which the collection continues; `None` once it is complete.
    next: Option<Reached>,
}

/// A scan in progress.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The index that drives the scan.
    driver: Driver,
    /// The times of the changes in the query.
    window: Window,
    /// The time until which bindings that end by themselves count as changed: see [`AHEAD`].
    until: Time,
    /// The VPNs in the query.
    vpn: VpnSelector,
    /// The address after the last one visited, possibly 2^32.
    position: u64,
}

/// The addresses of a page that a part covers.
#[derive(Debug)]
struct Pick {
    /// The number of the page.
    number: u32,
    /// A snapshot of the page.
    page: Page,
    /// The places of these addresses.
    wanted: Places,
}

/// The bindings of a part.
#[derive(Debug)]
struct Picked {
    /// The bindings, ascending.
    picks: Vec<Pick>,
    /// The first address after the part, possibly 2^32.
    end: u64,
    /// See [`Part::passed`].
    passed: usize,
}

/// A part of a scan: a snapshot of its bindings and of the view.
#[derive(Debug)]
pub struct Part {
    /// The view.
    pub view: Arc<View>,
    /// The bindings, ascending.
    picks: Vec<Pick>,
    /// The kind of its entries.
    kind: Kind,
    /// The first address after the part, possibly 2^32.
    end: u64,
    /// The number of entries of the time index that were visited for it, or of addresses that it leaves out.
    pub passed: usize,
}

impl Part {
    /// Prefetches the bindings: to wait for many at once takes much less time than to wait for each.
    pub fn fetch(&self) {
        for pick in &self.picks {
            pick.page.prefetch(pick.wanted);
        }
    }
}

/// The entries of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The picked bindings.
    Picked,
    /// The picked bindings at configured addresses.
    PickedIfConfigured,
    /// The picked bindings at configured addresses, and free addresses.
    All,
}

impl Cursor {
    /// Returns a scan that begins at the first address.
    fn new(driver: Driver, window: Window, vpn: VpnSelector, now: Time) -> Cursor {
        Cursor {
            driver,
            window,
            until: now.plus(AHEAD),
            vpn,
            position: 0,
        }
    }

    /// Returns a scan of all configured addresses, without the free ones that did not change in `window`.
    pub fn by_address(window: Window, now: Time) -> Cursor {
        Cursor::new(Driver::Address, window, VpnSelector::All, now)
    }

    /// Returns a scan of the active bindings of `identity`, at least of those in the VPNs selected.
    pub fn by_identity(identity: Identity, vpn: VpnSelector, now: Time) -> Cursor {
        Cursor::new(Driver::Identity(identity), Window::ANY, vpn, now)
    }

    /// Returns a scan of at least the bindings that changed in `window` in the VPNs selected: the active ones of an
    /// identity, or all at configured addresses. It may omit bindings that end by themselves later than [`AHEAD`] after its
    /// beginning.
    pub fn by_time(
        window: Window,
        identity: Option<Identity>,
        vpn: VpnSelector,
        now: Time,
    ) -> Cursor {
        let changes = Changes {
            identity,
            collected: Vec::new(),
            addresses: RoaringBitmap::new(),
            next: Some(Reached::default()),
        };
        Cursor::new(Driver::Time(changes), window, vpn, now)
    }

    /// Counts the entries of the time index that [`Cursor::by_time`] would visit, or more than `limit`.
    pub fn count_by_time(
        table: &Table,
        window: Window,
        identity: Option<&Identity>,
        now: Time,
        limit: usize,
    ) -> usize {
        table.count_changes(window, ends_until(identity, now.plus(AHEAD)), limit)
    }

    /// Takes the next part from the tables, which may be empty, of about `most` bindings or fewer; `None` at the end.
    pub fn part(&mut self, table: &Table, most: usize) -> Option<Part> {
        let start = u32::try_from(self.position).ok()?;
        let most = most.clamp(1, BINDINGS_PER_PART);
        let (picked, kind) = match &mut self.driver {
            Driver::Address => (pick_all(table, start, most), Kind::All),
            Driver::Identity(identity) => {
                let addresses = table.find(identity)?.within(start..=u32::MAX);
                let picked = pick(table, &self.vpn, most, addresses, |_| true)?;
                (picked, Kind::Picked)
            }
            Driver::Time(changes) if changes.next.is_some() => {
                let picked = Picked {
                    picks: Vec::new(),
                    end: self.position,
                    passed: changes.collect(table, self.window, self.until),
                };
                (picked, Kind::Picked)
            }
            Driver::Time(changes) => {
                // Mostly none: `entries` adds them, where the tables are not locked.
                changes.add_collected();
                let addresses = changes.addresses.range(start..);
                match &changes.identity {
                    None => {
                        let picked = pick(table, &self.vpn, most, addresses, |_| true)?;
                        (picked, Kind::PickedIfConfigured)
                    }
                    Some(identity) => {
                        // Some are of other identities, or have changed hands since they were collected.
                        let found = table.find(identity)?;
                        let is_wanted = |address| found.contains(address);
                        let picked = pick(table, &self.vpn, most, addresses, is_wanted)?;
                        (picked, Kind::Picked)
                    }
                }
            }
        };
        Some(Part {
            view: Arc::clone(table.view()),
            picks: picked.picks,
            kind,
            end: picked.end,
            passed: picked.passed,
        })
    }

    /// Iterates over the entries of the part that [`Cursor::part`] returned last. The next part begins after
    /// the last entry taken.
    pub fn entries<'a>(&'a mut self, part: &'a Part) -> Entries<'a> {
        if let Driver::Time(changes) = &mut self.driver {
            // Here, where the tables are not locked.
            if changes.next.is_none() || changes.collected.len() >= ADDED_AT_ONCE {
                changes.add_collected();
            }
        }
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
    /// Collects some addresses, and returns the number of entries of the time index visited.
    ///
    /// A binding that changes between two calls moves to a later time in the index. If that is in the window,
    /// a later call collects it.
    fn collect(&mut self, table: &Table, window: Window, until: Time) -> usize {
        let Some(reached) = self.next.take() else {
            return 0;
        };
        let until = ends_until(self.identity.as_ref(), until);
        let selected = self.identity.as_ref();
        let selected = selected.map_or(GroupFilter::ALL, Identity::groups);
        let (visited, next) = table.collect_changes(
            reached,
            (window, until),
            selected,
            COLLECTED_AT_ONCE,
            &mut self.collected,
        );
        self.next = next;
        visited
    }

    /// Adds the collected addresses to the others.
    fn add_collected(&mut self) {
        if self.collected.is_empty() {
            return;
        }
        let mut collected = mem::take(&mut self.collected);
        // One by one in no order they would take three times as long.
        collected.sort_unstable();
        collected.dedup();
        self.addresses |= collected.into_iter().collect::<RoaringBitmap>();
    }
}

/// Returns the time until which bindings that end by themselves count as changed; `None` if they do not. A
/// binding that has ended is not active, so it belongs to no identity.
fn ends_until(identity: Option<&Identity>, until: Time) -> Option<Time> {
    match identity {
        Some(_) => None,
        None => Some(until),
    }
}

/// An iterator over the entries of a part.
#[derive(Debug)]
pub struct Entries<'a> {
    /// The part.
    part: &'a Part,
    /// The times of the changes in the query.
    window: Window,
    /// The position of the cursor.
    position: &'a mut u64,
    /// The remaining pages.
    picks: slice::Iter<'a, Pick>,
    /// The remaining bindings of the current page.
    page: Option<Bindings<'a>>,
    /// The next binding, if free addresses may come before it.
    bound: Option<Found<'a>>,
    /// The index of a configured range that is not after the current one.
    range: usize,
}

impl<'a> Entries<'a> {
    /// Moves the cursor back to `address`, the last one used of a run.
    pub fn continue_after(&mut self, address: Ipv4Addr) {
        *self.position = u64::from(address.to_bits()) + 1;
    }

    /// Returns the next binding.
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

    /// Takes the next picked binding, or moves the cursor to the end of the part.
    #[inline]
    fn next_picked(&mut self) -> Option<Found<'a>> {
        let found = self.next_bound();
        *self.position = found.map_or(self.part.end, after);
        found
    }

    /// Takes the next binding at a configured address or the next free addresses, whichever are first.
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

/// Returns the address after that of a binding.
fn after(found: Found<'_>) -> u64 {
    u64::from(found.address) + 1
}

/// Returns the bindings at the first wanted ones of some ascending addresses, at least those in the VPNs selected; `None`
/// if there are no more of them.
fn pick(
    table: &Table,
    vpn: &VpnSelector,
    most: usize,
    mut addresses: impl Iterator<Item = u32>,
    is_wanted: impl Fn(u32) -> bool,
) -> Option<Picked> {
    let mut wanted: Vec<(u32, &Page, Places)> = Vec::with_capacity(PAGES_PER_PART);
    let (mut count, mut passed) = (0, 0);
    let mut page_passed = None;
    // A `for` loop with an end would take much longer: the addresses come from nested iterators.
    let cut = addresses.try_for_each(|address| {
        let (number, place) = (page_of(address), place_of(address));
        let is_full = wanted.len() == PAGES_PER_PART || count >= most || passed >= PASSED_AT_ONCE;
        match wanted.last_mut() {
            Some((last, _, places)) if *last == number => {
                if is_wanted(address) {
                    count += 1;
                    places.insert(place);
                } else {
                    passed += 1;
                }
            }
            _ if page_passed == Some(number) => passed += 1,
            _ if is_full => return ControlFlow::Break(address),
            _ => match selected_page(table, vpn, number) {
                Some(page) if is_wanted(address) => {
                    count += 1;
                    let mut places = Places::default();
                    places.insert(place);
                    wanted.push((number, page, places));
                }
                page => {
                    passed += 1;
                    page_passed = page.is_none().then_some(number);
                }
            },
        }
        ControlFlow::Continue(())
    });
    let end = match cut {
        ControlFlow::Break(next) => u64::from(next),
        ControlFlow::Continue(()) if wanted.is_empty() => return None,
        ControlFlow::Continue(()) => u64::from(u32::MAX) + 1,
    };
    wanted
        .iter()
        .for_each(|(_, page, _)| page.prefetch_offsets());
    Some(Picked {
        picks: take(wanted),
        end,
        passed,
    })
}

/// Returns a page; `None` if it is empty, or none of its bindings is in the VPNs selected.
pub fn selected_page<'a>(table: &'a Table, vpn: &VpnSelector, number: u32) -> Option<&'a Page> {
    let page = table.page(number)?;
    if *vpn == VpnSelector::All {
        return Some(page);
    }
    let first = Ipv4Addr::from_bits(first_of(number));
    let last = Ipv4Addr::from_bits(first_of(number) | 0xff);
    let vpn_of_page = (page.only_subnet()).and_then(|id| table.view().vpn_of_span(first, last, id));
    let is_selected = vpn_of_page.is_none_or(|of_page| vpn.selects(of_page));
    is_selected.then_some(page)
}

/// Takes snapshots of pages, with the places wanted in each.
///
/// All pages have been read before: the processor waits for the memory of several pages at once only as long as
/// it writes to none, and a snapshot increments a reference count.
fn take(pages: Vec<(u32, &Page, Places)>) -> Vec<Pick> {
    let picks = pages.into_iter().map(|(number, page, wanted)| Pick {
        number,
        page: page.clone(),
        wanted,
    });
    picks.collect()
}

/// Returns the first bindings from an address on.
fn pick_all(table: &Table, start: u32, most: usize) -> Picked {
    let mut pages = Vec::with_capacity(PAGES_PER_PART);
    let mut end = u64::from(u32::MAX) + 1;
    let mut count = 0;
    for (number, page) in table.pages_from(page_of(start)) {
        if pages.len() == PAGES_PER_PART || count >= most {
            end = first_of(number).into();
            break;
        }
        count += page.present().count();
        pages.push((number, page, *page.present()));
    }
    Picked {
        picks: take(pages),
        end,
        passed: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::saved_view::SavedView;
    use crate::model::binding::{Binding, SubnetId};
    use crate::model::client::{Client, ClientParts};
    use crate::model::state::State;
    use crate::model::vpn::Vpn;
    use proptest::prelude::*;
    use proto::sub_option;
    use std::collections::{BTreeMap, BTreeSet};

    /// Returns a table with these configured ranges and a subnet of 32 addresses; the other addresses are in
    /// no subnet.
    fn table(ranges: Vec<TimedRange>) -> Table {
        let view = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "0.0.0.32/27" } ] } }"#;
        let kea_config = KeaConfig::new(view, Vec::new(), &[]).unwrap();
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

    /// Returns ranges from a list of lengths: gap, range, gap, range, and so on, each with a time.
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
        /// Parts cover all addresses of an index, each once, adjacent ones and distant ones.
        #[test]
        fn goes_through_all_of_an_index(
            steps in proptest::collection::vec((1..600u32, 1..20u32, 1..40usize), 0..40),
            most in prop_oneof![0..40usize, Just(usize::MAX)],
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
                collected: Vec::new(),
                addresses: expected.iter().copied().collect(),
                next: None,
            };
            let mut cursor = Cursor::new(Driver::Time(changes), Window::ANY, VpnSelector::All, Time(1));
            let mut found = Vec::new();
            while let Some(part) = cursor.part(&table, most) {
                prop_assert!(part.picks.len() <= PAGES_PER_PART);
                let count: usize = part.picks.iter().map(|pick| pick.wanted.count()).sum();
                // The last page is complete.
                prop_assert!(count < most.clamp(1, BINDINGS_PER_PART) + 256);
                found.extend(part.picks.iter().flat_map(|pick| {
                    let places = (0..=u8::MAX).filter(|place| pick.wanted.contains(*place));
                    places.map(|place| first_of(pick.number) + u32::from(place))
                }));
                cursor.position = part.end;
            }
            prop_assert_eq!(found, expected);
        }

        /// A scan in parts visits each address once that a look at every address finds.
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
            while let Some(taken) = cursor.part(&table, usize::MAX) {
                // Parts are left before their end, as when the output is full.
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
                            entries.continue_after(Ipv4Addr::from_bits(last));
                        }
                        None => break,
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    /// However many addresses a search leaves out, the tables are not locked for long.
    #[test]
    fn a_part_leaves_out_a_bounded_number_of_addresses() {
        let config = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "0.0.0.0/18",
            "user-context": { "vpn": { "name": "blue" } } }, { "id": 2, "subnet": "0.0.64.0/24" } ] } }"#;
        let kea_config = Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap());
        let mut table = Table::new(kea_config, &SavedView::default(), Time(0));
        let last = 1 << 14;
        let client = |relay_id| {
            Client::from(&ClientParts {
                relay_agent_information: &[sub_option::RELAY_ID, 1, relay_id],
                ..ClientParts::default()
            })
        };
        for address in 0..=last {
            table.put(&Binding {
                state: State::Active,
                subnet: SubnetId(if address < last { 1 } else { 2 }),
                client: Some(client(u8::from(address % 256 == 0))),
                ..Binding::example(Ipv4Addr::from_bits(address), Time(1))
            });
        }
        // By the VPN, and by the identity: those of the index may have changed hands.
        let default_vpn = VpnSelector::One(Vpn::Default);
        let of_relay_agent = Some(Identity::RelayId(vec![1]));
        let of_each_page: Vec<u32> = (0..=last).step_by(256).collect();
        for (identity, vpn, expected) in [
            (None, default_vpn, vec![last]),
            (of_relay_agent, VpnSelector::All, of_each_page),
        ] {
            let changes = Changes {
                identity,
                collected: Vec::new(),
                addresses: (0..=last).collect(),
                next: None,
            };
            let mut cursor = Cursor::new(Driver::Time(changes), Window::ANY, vpn, Time(1));
            let mut found = Vec::new();
            let mut passed = 0;
            while let Some(part) = cursor.part(&table, usize::MAX) {
                assert!(part.passed < PASSED_AT_ONCE + 256, "{}", part.passed);
                passed += part.passed;
                for entry in cursor.entries(&part) {
                    if let Entry::Bound(bound) = entry {
                        found.push(bound.address);
                    }
                }
            }
            assert_eq!(passed + found.len(), last as usize + 1);
            assert_eq!(found, expected);
        }
    }
}
