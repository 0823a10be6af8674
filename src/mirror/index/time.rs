//! The time index: bindings by the times of their changes, past and future.
//!
//! A binding has an entry for each of its times except its end. The end follows from the begin of the lease,
//! which is mostly the time of the last transaction and thus has an entry already. So the ends in a window are
//! found by the begins in the same window, moved back by each lifetime in use. A renewal then changes one entry
//! instead of two.

use std::cmp::Ordering;
use std::iter;

use crate::mirror::group::{GroupFilter, Groups};
use crate::mirror::index::time_set::TimeSet;
use crate::mirror::pages::Pages;
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::time::{Lifetime, Time, Window};

/// The most lifetimes by which ends are searched. There is mostly one of leases, one of offers and one of
/// probation. Where clients choose lifetimes, bindings with further ones have entries for their ends.
const LIFETIMES: usize = 8;

/// The last step of a search: the entries in the window itself.
const FILED: usize = LIFETIMES;

/// The number of stale entries that are removed together.
///
/// The chunk of an entry is rarely in the processor's caches, and the wait for it is a fourth of the time of a
/// single change. So most changes remove nothing, and one in [`STALE`] finds more in the caches.
const STALE: usize = 4;

/// The number of fresh entries that are inserted together. Mostly they have one time, so one chunk.
const FRESH: usize = 16;

/// Bindings by their times.
#[derive(Debug, Default)]
pub struct TimeIndex {
    /// The entries, without the fresh ones; of those that got other groups, the entries with the former ones.
    index: TimeSet,
    /// Entries to be removed, fewer than [`STALE`]. Until then, a search may return bindings that did not change
    /// in its window.
    stale: Vec<(Time, u32)>,
    /// Entries to be inserted, fewer than [`FRESH`], in no order. None is stale.
    fresh: Vec<((Time, u32), Groups)>,
    /// The lifetimes by which ends are searched: the first ones of all bindings.
    lifetimes: Lifetimes,
    /// The latest time of any binding, now or before, except the ends of its states. Later than the clock if that of
    /// another server is ahead, or this one was set back.
    latest: Time,
}

/// A place in the chronological order of the times of bindings. At equal times, ends come first: when Kea reclaims an
/// ended lease, the entry for its end becomes one for the start of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The time.
    pub time: Time,
    /// The index of the lifetime that ends, or [`FILED`].
    step: usize,
    /// The address.
    pub address: u32,
}

impl Moment {
    /// Returns the first place of a time.
    pub fn first_of(time: Time) -> Moment {
        Moment {
            time,
            step: 0,
            address: 0,
        }
    }

    /// Returns the next place.
    pub fn next(self) -> Moment {
        match self.address.checked_add(1) {
            Some(address) => Moment { address, ..self },
            None => Moment {
                step: self.step + 1,
                address: 0,
                ..self
            },
        }
    }
}

/// A time of a binding, in chronological order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The time and the address.
    pub moment: Moment,
    /// The lifetime that ends, if this is the binding's; `None` for other times.
    pub lifetime: Option<Lifetime>,
}

/// The position of a search for changes in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The index of the lifetime whose ends are searched, or [`FILED`]. That step is last, because a binding
    /// that changes during the search gets an entry with a later time.
    step: usize,
    /// The time and the address of the next entry.
    from: (Time, u32),
}

/// Lifetimes, at most [`LIFETIMES`]. None is removed, because the entries of bindings depend on them.
#[derive(Debug, Default)]
struct Lifetimes(Vec<Lifetime>);

impl TimeIndex {
    /// Creates an index of all `bindings`.
    pub fn of_all(bindings: &Pages) -> TimeIndex {
        let mut lifetimes = Lifetimes::default();
        let mut latest = Time::MIN;
        let times = bindings.iter().flat_map(|binding| {
            lifetimes.add(binding);
            latest = latest.max(latest_of(binding));
            let times = lifetimes.times(binding).into_iter().flatten();
            let groups = groups_of(binding);
            times.map(move |time| (time, binding.address.to_bits(), groups))
        });
        TimeIndex {
            index: times.collect(),
            stale: Vec::new(),
            fresh: Vec::new(),
            lifetimes,
            latest,
        }
    }

    /// Replaces the entries of the binding `before` a change by those of the binding `after` it.
    pub fn change(&mut self, before: Option<BindingRef<'_>>, after: Option<BindingRef<'_>>) {
        let Some(either) = after.or(before) else {
            return;
        };
        let address = either.address.to_bits();
        if let Some(after) = after {
            self.lifetimes.add(after);
            self.latest = self.latest.max(latest_of(after));
        }
        let times = |binding| self.lifetimes.times(binding);
        let (old, new) = (
            before.map_or([None; 5], times),
            after.map_or([None; 5], times),
        );
        for time in old.into_iter().filter(|time| !new.contains(time)).flatten() {
            let entry = (time, address);
            self.fresh.retain(|(fresh, _)| *fresh != entry);
            self.stale.push(entry);
        }
        let (groups, is_regrouped) = groups_after(before, after);
        let is_new = |time: &Option<Time>| is_regrouped || !old.contains(time);
        for time in new.into_iter().filter(is_new).flatten() {
            let entry = (time, address);
            self.stale.retain(|stale| *stale != entry);
            match self.fresh.iter_mut().find(|(fresh, _)| *fresh == entry) {
                Some((_, fresh)) => *fresh = groups,
                None => self.fresh.push((entry, groups)),
            }
        }
        if self.stale.len() >= STALE {
            self.remove_stale();
        }
        if self.fresh.len() >= FRESH {
            self.insert_fresh();
        }
    }

    /// Removes the stale entries.
    fn remove_stale(&mut self) {
        for (time, address) in self.stale.drain(..) {
            self.index.remove(time, address);
        }
    }

    /// Inserts the fresh entries.
    fn insert_fresh(&mut self) {
        for ((time, address), groups) in self.fresh.drain(..) {
            self.index.insert(time, address, groups);
        }
    }

    /// Iterates over the entries from `from` to the time `last`, both included, in their order.
    fn range(&self, from: (Time, u32), last: Time) -> impl Iterator<Item = (Time, u32)> {
        let is_wanted = |entry: &(Time, u32)| *entry >= from && entry.0 <= last;
        let fresh = self.fresh.iter().map(|(entry, _)| *entry).filter(is_wanted);
        let mut fresh: Vec<_> = fresh.collect();
        fresh.sort_unstable();
        let mut fresh = fresh.into_iter().peekable();
        let mut filed = self.index.range(from, last).peekable();
        iter::from_fn(move || match (filed.peek(), fresh.peek()) {
            (Some(filed), Some(first)) if first < filed => fresh.next(),
            (None, _) => fresh.next(),
            _ => {
                let next = filed.next()?;
                // An entry that got other groups is in both.
                fresh.next_if_eq(&next);
                Some(next)
            }
        })
    }

    /// Returns an upper bound of the number of bindings that changed in a window, or any number above `limit`.
    /// Bindings whose lifetime ends in the window count if it ends at `until` or before.
    pub fn count(&self, window: Window, until: Option<Time>, limit: usize) -> usize {
        let mut count = self.fresh.len();
        for (_, filed) in self.lifetimes.steps(0, window, until) {
            if count > limit {
                break;
            }
            count += self.index.count(filed, limit);
        }
        count
    }

    /// Appends the addresses of bindings of the groups selected that changed in a window, and perhaps of others, from a
    /// position on, until `limit` entries were visited, selected or not, and all fresh ones. Returns the number of
    /// entries visited, and the position from which the rest follows, or `None` if there is none. An address may come
    /// several times. Bindings whose lifetime ends in the window are included if it ends at `until` or before.
    pub fn collect(
        &self,
        reached: Reached,
        (window, until): (Window, Option<Time>),
        selected: GroupFilter,
        limit: usize,
        addresses: &mut Vec<u32>,
    ) -> (usize, Option<Reached>) {
        let mut visited = 0;
        for (step, filed) in self.lifetimes.steps(reached.step, window, until) {
            let from = match step == reached.step {
                true => reached.from.max((filed.start, 0)),
                false => (filed.start, 0),
            };
            let limit = limit - visited;
            let (count, left) = (self.index).collect(from, filed.end, selected, limit, addresses);
            let is_collected = |(entry, groups): &&((Time, u32), Groups)| {
                *entry >= from
                    && left.map_or(entry.0 <= filed.end, |left| *entry < left)
                    && selected.selects(*groups)
            };
            let fresh = self.fresh.iter().filter(is_collected);
            addresses.extend(fresh.map(|((_, address), _)| address));
            visited += count;
            if let Some(from) = left {
                return (visited, Some(Reached { step, from }));
            }
        }
        (visited, None)
    }
}

impl TimeIndex {
    /// Returns the latest time of any binding, now or before, except the ends of its states.
    pub fn latest(&self) -> Time {
        self.latest
    }

    /// Iterates over the times of all bindings, and perhaps of some former ones, in chronological order from `from` on:
    /// the ends of states by themselves up to `ends_until`, other times up to `until`. Ends by uncommon lifetimes are among
    /// the other times.
    pub fn chronological(
        &self,
        from: Moment,
        until: Time,
        ends_until: Time,
    ) -> impl Iterator<Item = Happening> {
        let lifetimes = self.lifetimes.0.iter().enumerate();
        let steps = lifetimes.map(|(step, lifetime)| (step, Some(*lifetime), ends_until));
        let steps = steps.chain([(FILED, None, until)]);
        let steps = steps.filter_map(|(step, lifetime, until)| {
            let first = match step.cmp(&from.step) {
                Ordering::Less => (Time(from.time.0.checked_add(1)?), 0),
                Ordering::Equal => (from.time, from.address),
                Ordering::Greater => (from.time, 0),
            };
            // The entry of an end is earlier by the lifetime.
            let earlier = lifetime.map_or(0, |lifetime| lifetime.0);
            let last = Time(until.0.checked_sub(earlier)?);
            let first = match first.0.0.checked_sub(earlier) {
                Some(time) => (Time(time), first.1),
                None => (Time::MIN, 0),
            };
            let found = self.range(first, last).map(move |(time, address)| {
                let time = time.plus(earlier);
                Happening {
                    moment: Moment {
                        time,
                        step,
                        address,
                    },
                    lifetime,
                }
            });
            Some(found.peekable())
        });
        let mut steps: Vec<_> = steps.collect();
        iter::from_fn(move || {
            let firsts = steps.iter_mut().enumerate();
            let firsts = firsts.filter_map(|(index, step)| Some((step.peek()?.moment, index)));
            let (_, index) = firsts.min()?;
            steps.get_mut(index)?.next()
        })
    }
}

/// Returns the latest time of a binding except the ends of its states.
fn latest_of(binding: BindingRef<'_>) -> Time {
    let others = [binding.last_transaction, binding.learned_at];
    let latest = others.into_iter().flatten().max();
    latest.map_or(binding.since, |latest| latest.max(binding.since))
}

/// Returns the groups of a binding.
fn groups_of(binding: BindingRef<'_>) -> Groups {
    binding.client.map(Groups::of).unwrap_or_default()
}

/// Returns the groups of a binding after a change, and whether they may differ from those before.
fn groups_after(before: Option<BindingRef<'_>>, after: Option<BindingRef<'_>>) -> (Groups, bool) {
    let [old, new] = [before, after].map(|binding| {
        let client = binding.and_then(|binding| binding.client);
        client.map(ClientRef::relay_agent_information)
    });
    (after.map(groups_of).unwrap_or_default(), old != new)
}

impl Lifetimes {
    /// Adds the lifetime of a binding that ends, if there is room.
    fn add(&mut self, binding: BindingRef<'_>) {
        if self.0.len() < LIFETIMES && binding.ends().is_some() && !self.has(binding.lifetime) {
            self.0.push(binding.lifetime);
        }
    }

    /// Whether ends are searched by a lifetime.
    fn has(&self, lifetime: Lifetime) -> bool {
        self.0.contains(&lifetime)
    }

    /// Returns the times of the entries of a binding, each once.
    fn times(&self, binding: BindingRef<'_>) -> [Option<Time>; 5] {
        let end = binding.ends().map(|end| match self.has(binding.lifetime) {
            true => binding.lease_start,
            false => end,
        });
        let mut times = [
            Some(binding.since),
            binding.last_transaction,
            binding.learned_at,
            binding.reserved_until,
            end,
        ];
        for place in 1..times.len() {
            if times[..place].contains(&times[place]) {
                times[place] = None;
            }
        }
        times
    }

    /// Iterates over the steps of a search from one on, each with the window of its entries.
    fn steps(
        &self,
        first: usize,
        window: Window,
        until: Option<Time>,
    ) -> impl Iterator<Item = (usize, Window)> {
        let lifetimes = self.0.iter().enumerate().skip(first);
        let ends = lifetimes.filter_map(move |(step, lifetime)| {
            let end = window.end.min(until?);
            let last = match end {
                // A lifetime that would exceed the range of times ends here too.
                Time::MAX => Time::MAX,
                end => Time(end.0.checked_sub(lifetime.0)?),
            };
            let start = Time(window.start.0.saturating_sub(lifetime.0));
            Some((step, Window { start, end: last }))
        });
        ends.chain([(FILED, window)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::binding::{Binding, SubnetId};
    use crate::model::client::{Client, ClientParts};
    use crate::model::state::State;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::sub_option;

    /// Times that are close to each other, at both ends of the range.
    fn time() -> impl Strategy<Value = Time> {
        prop_oneof![0..30u32, u32::MAX - 20..=u32::MAX].prop_map(Time)
    }

    /// Returns a client behind the relay agent of this relay-id.
    fn client(relay_id: u8) -> Client {
        Client::from(&ClientParts {
            relay_agent_information: &[sub_option::RELAY_ID, 1, relay_id],
            ..ClientParts::default()
        })
    }

    prop_compose! {
        /// Bindings of some addresses, with more lifetimes than ends are searched by.
        fn binding()(
            address in 0..20u32,
            is_active in any::<bool>(),
            since in time(),
            last_transaction in proptest::option::of(time()),
            lease_start in time(),
            lifetime in prop_oneof![0..12u32, Just(u32::MAX)],
            learned_at in proptest::option::of(time()),
            reserved_until in proptest::option::of(time()),
            relay_id in proptest::option::of(0..3u8),
        ) -> Binding {
            Binding {
                address: Ipv4Addr::from_bits(address),
                state: if is_active { State::Active } else { State::Expired },
                since,
                last_transaction,
                lease_start,
                lifetime: Lifetime(lifetime),
                subnet: SubnetId(1),
                client: relay_id.map(client),
                remote: false,
                learned_at,
                reserved_until,
            }
        }
    }

    /// Whether a binding changed in a window, or its lifetime ends there at `until` or before.
    fn is_touched(binding: BindingRef<'_>, window: Window, until: Option<Time>) -> bool {
        let times = [
            Some(binding.since),
            binding.last_transaction,
            binding.learned_at,
            binding.reserved_until,
            binding
                .ends()
                .filter(|end| until.is_some_and(|until| *end <= until)),
        ];
        let mut times = times.into_iter().flatten();
        times.any(|time| window.contains(time))
    }

    /// Returns the addresses found in a window, by `at_once` entries at a time.
    fn found(
        times: &TimeIndex,
        window: Window,
        until: Option<Time>,
        selected: GroupFilter,
        at_once: usize,
    ) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut next = Some(Reached::default());
        while let Some(reached) = next {
            let visited;
            let (span, mut some) = ((window, until), Vec::new());
            (visited, next) = times.collect(reached, span, selected, at_once, &mut some);
            assert!(visited > 0 || next.is_none());
            found.extend(some);
        }
        found
    }

    proptest! {
        #[test]
        fn finds_all_that_happened_in_a_window(
            bindings in vec(binding(), 0..60),
            (start, end) in (time(), time()),
            until in proptest::option::of(time()),
            at_once in 1..9usize,
        ) {
            let window = Window { start: start.min(end), end: start.max(end) };
            let mut pages = Pages::default();
            let mut times = TimeIndex::default();
            for binding in &bindings {
                times.change(pages.get(binding.address.to_bits()), Some(binding.view()));
                pages.put(binding.view());
            }
            for times in [&times, &TimeIndex::of_all(&pages)] {
                for selected in [GroupFilter::ALL, GroupFilter::relay_id(&[1])] {
                    let found = found(times, window, until, selected, at_once);
                    prop_assert!(times.count(window, until, usize::MAX) >= found.len());
                    let is_wanted = |binding: &BindingRef<'_>| {
                        is_touched(*binding, window, until)
                            && selected.selects(groups_of(*binding))
                    };
                    for binding in pages.iter().filter(is_wanted) {
                        prop_assert!(found.contains(&binding.address.to_bits()), "{binding:?}");
                    }
                }
            }
            for binding in pages.iter() {
                times.change(Some(binding), None);
            }
            times.remove_stale();
            prop_assert!(times.fresh.is_empty());
            prop_assert_eq!(times.index.count(Window::ANY, usize::MAX), 0);
        }
    }

    proptest! {
        #[test]
        fn returns_times_in_chronological_order(
            bindings in vec(binding(), 0..60),
            (start, end, ends_until) in (time(), time(), time()),
            at_once in 1..9usize,
        ) {
            let (start, until) = (start.min(end), start.max(end));
            let ends_until = ends_until.min(until);
            let mut pages = Pages::default();
            let mut times = TimeIndex::default();
            for binding in &bindings {
                times.change(pages.get(binding.address.to_bits()), Some(binding.view()));
                pages.put(binding.view());
            }
            let mut found = Vec::new();
            let mut next = Moment::first_of(start);
            loop {
                let before = found.len();
                let left = times.chronological(next, until, ends_until);
                found.extend(left.take(at_once));
                match found.get(before..).and_then(<[Happening]>::last) {
                    Some(last) => next = last.moment.next(),
                    None => break,
                }
            }
            prop_assert!(found.is_sorted_by(|a, b| a.moment < b.moment));
            let has = |time: Time, address: u32| {
                let mut found = found.iter();
                found.any(|found| found.moment.time == time && found.moment.address == address)
            };
            for found in &found {
                let last = if found.lifetime.is_some() { ends_until } else { until };
                prop_assert!((start..=last).contains(&found.moment.time));
            }
            for binding in pages.iter() {
                let times = [Some(binding.since), binding.last_transaction, binding.learned_at];
                let inside = |time: &Time| (start..=until).contains(time);
                for time in times.into_iter().flatten().filter(inside) {
                    prop_assert!(has(time, binding.address.to_bits()), "{binding:?}");
                }
                // No lifetime ends at the end of time before it.
                let end = binding.ends().filter(|end| (start..=ends_until).contains(end));
                if let Some(end) = end.filter(|end| *end < Time::MAX) {
                    prop_assert!(has(end, binding.address.to_bits()), "{binding:?}");
                }
            }
            let latest = bindings.iter().map(|binding| latest_of(binding.view())).max();
            prop_assert_eq!(times.latest(), latest.unwrap_or_default());
        }
    }

    /// Returns a binding of an address that changed at a time.
    fn renewed(address: u32, at: u32) -> Binding {
        Binding {
            state: State::Active,
            last_transaction: Some(Time(at)),
            lifetime: Lifetime(600),
            ..Binding::example(Ipv4Addr::from_bits(address), Time(at))
        }
    }

    #[test]
    fn an_entry_that_comes_back_before_it_was_removed_stays() {
        let mut times = TimeIndex::default();
        let [first, second] = [renewed(1, 1_000), renewed(1, 1_001)];
        times.change(None, Some(first.view()));
        times.insert_fresh();
        times.change(Some(first.view()), Some(second.view()));
        times.change(Some(second.view()), Some(first.view()));
        times.insert_fresh();
        times.remove_stale();
        let window = Window {
            start: Time(1_000),
            end: Time(1_001),
        };
        let found = found(&times, window, None, GroupFilter::ALL, 1);
        assert_eq!(found, BTreeSet::from([1]));
        assert_eq!(times.index.count(window, usize::MAX), 1);
    }

    /// A delta query reads no other bindings than those in its reply if all have the same lifetime.
    #[test]
    fn finds_nothing_else_where_there_is_one_lifetime() {
        let mut times = TimeIndex::default();
        for address in 0..100 {
            let binding = renewed(address, 1_000 + address);
            times.change(None, Some(binding.view()));
        }
        times.insert_fresh();
        assert_eq!(times.index.count(Window::ANY, usize::MAX), 100);
        let found = |start, end, until| {
            let window = Window {
                start: Time(start),
                end: Time(end),
            };
            found(&times, window, Some(Time(until)), GroupFilter::ALL, 3)
        };
        assert_eq!(found(1_010, 1_014, 2_000), BTreeSet::from_iter(10..15));
        assert_eq!(found(1_610, 1_614, 2_000), BTreeSet::from_iter(10..15));
        assert!(found(1_200, 1_599, 2_000).is_empty());
        // A query for all changes since some time does not return future ends.
        assert_eq!(found(1_090, u32::MAX, 1_100), BTreeSet::from_iter(90..100));
        assert_eq!(
            found(1_090, u32::MAX, 1_601),
            BTreeSet::from_iter((0..2).chain(90..100))
        );
    }
}
