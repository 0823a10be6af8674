//! When something happened to bindings, or will by itself.
//!
//! A binding is filed under each of its times but one: it ends its lifetime after its lease began,
//! which is when its client was last heard of as a rule. So it is filed under that beginning, and to
//! find what ended in a window, the window is looked through as much earlier as each lifetime in use
//! lasts. A renewal then changes one time and not two.

use crate::mirror::index::time_set::TimeSet;
use crate::mirror::pages::Pages;
use crate::model::binding::BindingRef;
use crate::model::time::{Lifetime, Time, Window};

/// How many lifetimes are looked for. There is mostly one of leases, one of offers and one of
/// probation; where clients choose theirs, bindings with others are filed under their ends.
const LIFETIMES: usize = 8;

/// The last step of a search: the times that bindings are filed under.
const FILED: usize = LIFETIMES;

/// The bindings in the order of their times.
#[derive(Debug, Default)]
pub struct TimeIndex {
    /// The times.
    index: TimeSet,
    /// The lifetimes that are looked for: the first there were.
    lifetimes: Lifetimes,
}

/// How far a search for what happened in a window has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Which lifetime's ends are looked for; [`FILED`] for the times that bindings are filed under,
    /// which come last: what changes meanwhile is filed under a later time there.
    step: usize,
    /// The time and the address to go on from.
    from: (Time, u32),
    /// The address found there.
    pub address: u32,
}

/// Lifetimes, at most [`LIFETIMES`]. None is taken out, so that what was filed by it stays so.
#[derive(Debug, Default)]
struct Lifetimes(Vec<Lifetime>);

impl TimeIndex {
    /// The times of all these bindings.
    pub fn of_all(bindings: &Pages) -> TimeIndex {
        let mut lifetimes = Lifetimes::default();
        let times = bindings.iter().flat_map(|binding| {
            lifetimes.add(binding);
            let times = lifetimes.times(binding).into_iter().flatten();
            times.map(move |time| (time, binding.address.to_bits()))
        });
        TimeIndex {
            index: times.collect(),
            lifetimes,
        }
    }

    /// Files a binding, which was as it was `before`, as it is `after`.
    pub fn change(&mut self, before: Option<BindingRef<'_>>, after: Option<BindingRef<'_>>) {
        let Some(either) = after.or(before) else {
            return;
        };
        let address = either.address.to_bits();
        if let Some(after) = after {
            self.lifetimes.add(after);
        }
        let times = |binding| self.lifetimes.times(binding);
        let (old, new) = (
            before.map_or([None; 5], times),
            after.map_or([None; 5], times),
        );
        for time in old.into_iter().filter(|time| !new.contains(time)).flatten() {
            self.index.remove(time, address);
        }
        for time in new.into_iter().filter(|time| !old.contains(time)).flatten() {
            self.index.insert(time, address);
        }
    }

    /// Counts no less than the bindings that changed in a window, or more than `limit`. Those that
    /// end in it by themselves count if they do until then.
    pub fn count(&self, window: Window, until: Option<Time>, limit: usize) -> usize {
        let mut count = 0;
        for (_, filed) in self.lifetimes.steps(0, window, until) {
            if count > limit {
                break;
            }
            count += self.index.count(filed, limit);
        }
        count
    }

    /// The addresses of no less than the bindings that changed in a window; one may come several
    /// times. Those that end in it by themselves are among these if they do until then. Goes on from
    /// where a search has come to.
    pub fn touched(
        &self,
        reached: Reached,
        window: Window,
        until: Option<Time>,
    ) -> impl Iterator<Item = Reached> {
        let steps = self.lifetimes.steps(reached.step, window, until);
        steps.flat_map(move |(step, filed)| {
            let from = match step == reached.step {
                true => reached.from.max((filed.start, 0)),
                false => (filed.start, 0),
            };
            let found = self.index.range(from, filed.end);
            found.map(move |from| Reached {
                step,
                from,
                address: from.1,
            })
        })
    }
}

impl Lifetimes {
    /// Looks for the lifetime of a binding from now on, if it ends and that is one of the first.
    fn add(&mut self, binding: BindingRef<'_>) {
        if self.0.len() < LIFETIMES && binding.ends().is_some() && !self.has(binding.lifetime) {
            self.0.push(binding.lifetime);
        }
    }

    /// Whether a lifetime is looked for.
    fn has(&self, lifetime: Lifetime) -> bool {
        self.0.contains(&lifetime)
    }

    /// The times under which a binding is filed, each once.
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

    /// The steps of a search from one on, each with the times under which is filed what it looks for.
    fn steps(
        &self,
        first: usize,
        window: Window,
        until: Option<Time>,
    ) -> impl Iterator<Item = (usize, Window)> {
        let lifetimes = self.0.iter().enumerate().skip(first);
        let ends = lifetimes.filter_map(move |(step, lifetime)| {
            // Every lease there is will end.
            let end = window.end.min(until?);
            let last = match end {
                // A lifetime ends there, too, that would last longer than can be said.
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
    use crate::model::state::State;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Times that are close to each other, at both ends of all.
    fn time() -> impl Strategy<Value = Time> {
        prop_oneof![0..30u32, u32::MAX - 20..=u32::MAX].prop_map(Time)
    }

    prop_compose! {
        /// Any binding of one of some addresses, in one of more lifetimes than are looked for.
        fn binding()(
            address in 0..20u32,
            is_active in any::<bool>(),
            since in time(),
            last_transaction in proptest::option::of(time()),
            lease_start in time(),
            lifetime in prop_oneof![0..12u32, Just(u32::MAX)],
            learned_at in proptest::option::of(time()),
            reserved_until in proptest::option::of(time()),
        ) -> Binding {
            Binding {
                address: Ipv4Addr::from_bits(address),
                state: if is_active { State::Active } else { State::Expired },
                since,
                last_transaction,
                lease_start,
                lifetime: Lifetime(lifetime),
                subnet: SubnetId(1),
                client: None,
                remote: false,
                learned_at,
                reserved_until,
            }
        }
    }

    /// Whether something happened to a binding in a window, or it ends there, but not later.
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

    /// All that is found in a window, so many at a time.
    fn found(
        times: &TimeIndex,
        window: Window,
        until: Option<Time>,
        at_once: usize,
    ) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut next = Some(Reached::default());
        while let Some(reached) = next {
            let mut left = times.touched(reached, window, until);
            found.extend(left.by_ref().take(at_once).map(|found| found.address));
            next = left.next();
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
                let found = found(times, window, until, at_once);
                prop_assert!(times.count(window, until, usize::MAX) >= found.len());
                for binding in pages.iter().filter(|binding| is_touched(*binding, window, until)) {
                    prop_assert!(found.contains(&binding.address.to_bits()), "{binding:?}");
                }
            }
            for binding in pages.iter() {
                times.change(Some(binding), None);
            }
            prop_assert!(times.index.is_empty());
        }
    }

    /// What a query for changes looks at is what it tells of, if all have the same lifetime.
    #[test]
    fn finds_nothing_else_where_there_is_one_lifetime() {
        let mut times = TimeIndex::default();
        for address in 0..100 {
            let at = Time(1_000 + address);
            let binding = Binding {
                address: Ipv4Addr::from_bits(address),
                state: State::Active,
                since: at,
                last_transaction: Some(at),
                lease_start: at,
                lifetime: Lifetime(600),
                subnet: SubnetId(1),
                client: None::<crate::model::client::Client>,
                remote: false,
                learned_at: None,
                reserved_until: None,
            };
            times.change(None, Some(binding.view()));
        }
        assert_eq!(times.index.len(), 100);
        let found = |start, end, until| {
            let window = Window {
                start: Time(start),
                end: Time(end),
            };
            found(&times, window, Some(Time(until)), 3)
        };
        assert_eq!(found(1_010, 1_014, 2_000), BTreeSet::from_iter(10..15));
        assert_eq!(found(1_610, 1_614, 2_000), BTreeSet::from_iter(10..15));
        assert!(found(1_200, 1_599, 2_000).is_empty());
        // Who asks for all that changed since some time is not told what is still to end.
        assert_eq!(found(1_090, u32::MAX, 1_100), BTreeSet::from_iter(90..100));
        assert_eq!(
            found(1_090, u32::MAX, 1_601),
            BTreeSet::from_iter((0..2).chain(90..100))
        );
    }
}
