//! Which bindings are not in the state file as they are in the mirror.
//!
//! Changes go first: when all of a large mirror has to be written, because the file is new, a
//! change made meanwhile is on disk as soon as any other.

use std::net::Ipv4Addr;

use roaring::RoaringBitmap;

use crate::mirror::pages::Pages;
use crate::model::binding::Binding;

/// What is to be written for an address: its binding, or nothing if it is to be removed.
pub type Unwritten = (Ipv4Addr, Option<Binding>);

/// The addresses that must be written to the state file.
#[derive(Debug, Default)]
pub struct DirtySet {
    /// Those that changed.
    changed: RoaringBitmap,
    /// Those that can wait: what loading found different.
    deferred: RoaringBitmap,
    /// Whether those would not be found different once more at a start.
    are_deferred_lost: bool,
    /// From which address on every one must be written, last of all.
    all_from: Option<u32>,
}

/// A part of what must be written, taken to be written.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Addresses that changed.
    pub changed: Vec<Unwritten>,
    /// Others, ascending: taken only if no more have changed. An address that changed between two
    /// takes may be in both lists; it is as the other one says.
    pub rest: Vec<Unwritten>,
}

impl DirtySet {
    /// Adds an address that changed; says whether it was not among those that changed.
    pub fn add(&mut self, address: u32) -> bool {
        self.changed.insert(address)
    }

    /// The addresses that changed and would not be found at a start, if the file stayed as it is.
    pub fn lost(&self) -> impl Iterator<Item = u32> {
        let deferred = self.are_deferred_lost.then_some(&self.deferred);
        self.changed.iter().chain(deferred.into_iter().flatten())
    }

    /// Takes out an address that the file has as it is.
    pub fn remove(&mut self, address: u32) {
        self.changed.remove(address);
        self.deferred.remove(address);
    }

    /// Has all that has been added wait for what is added from now on. `are_lost` says whether a start
    /// would not find it.
    pub fn defer(&mut self, are_lost: bool) {
        self.are_deferred_lost = are_lost;
        self.deferred |= std::mem::take(&mut self.changed);
    }

    /// Adds every address there is, to wait for those that change.
    pub fn add_all(&mut self) {
        self.all_from = Some(0);
        // Each is either among all, or gone, and so not in the file that has nothing yet.
        self.deferred.clear();
    }

    /// Takes up to `limit` addresses with what is to be written of them. They count as written
    /// from then on.
    pub fn take(&mut self, bindings: &Pages, limit: usize) -> Taken {
        let unwritten = |address: u32| {
            let binding = bindings.get(address).map(|binding| binding.to_owned());
            (Ipv4Addr::from_bits(address), binding)
        };
        let mut taken = Taken::default();
        while taken.len() < limit
            && let Some(address) = pop_first(&mut self.changed)
        {
            self.deferred.remove(address);
            taken.changed.push(unwritten(address));
        }
        while taken.len() < limit
            && let Some(address) = pop_first(&mut self.deferred)
        {
            taken.rest.push(unwritten(address));
        }
        if let Some(first) = self.all_from
            && taken.len() < limit
        {
            let mut left = bindings.range(first..=u32::MAX);
            let room = limit - taken.len();
            let unwritten = left.by_ref().take(room);
            let unwritten = unwritten.map(|binding| (binding.address, Some(binding.to_owned())));
            taken.rest.extend(unwritten);
            self.all_from = left.next().map(|binding| binding.address.to_bits());
        }
        taken
    }

    /// Adds what was taken and could not be written.
    pub fn put_back(&mut self, taken: &Taken) {
        let bits = |(address, _): &Unwritten| address.to_bits();
        self.changed.extend(taken.changed.iter().map(bits));
        self.deferred.extend(taken.rest.iter().map(bits));
    }
}

/// Takes the first address out of a set.
fn pop_first(set: &mut RoaringBitmap) -> Option<u32> {
    let first = set.min()?;
    set.remove(first);
    Some(first)
}

impl From<Vec<Unwritten>> for Taken {
    fn from(changed: Vec<Unwritten>) -> Self {
        Taken {
            changed,
            rest: Vec::new(),
        }
    }
}

impl Taken {
    /// Adds what was taken later.
    pub fn append(&mut self, later: &mut Taken) {
        self.changed.append(&mut later.changed);
        self.rest.append(&mut later.rest);
    }

    /// How many addresses these are.
    pub fn len(&self) -> usize {
        self.changed.len() + self.rest.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::binding::SubnetId;
    use crate::model::state::State;
    use crate::model::time::{Lifetime, Time};

    /// Bindings of the addresses numbered 0 to `count`.
    fn bindings(count: u32) -> Pages {
        let mut bindings = Pages::default();
        for number in 0..count {
            let binding = Binding {
                address: Ipv4Addr::from_bits(number),
                state: State::Active,
                since: Time(1),
                last_transaction: None,
                lease_start: Time(1),
                lifetime: Lifetime(9),
                subnet: SubnetId(1),
                client: None,
                remote: false,
                learned_at: None,
                reserved_until: None,
            };
            bindings.put(binding.view());
        }
        bindings
    }

    /// The numbers of addresses.
    fn numbers(unwritten: &[Unwritten]) -> Vec<u32> {
        let number = |(address, _): &Unwritten| address.to_bits();
        unwritten.iter().map(number).collect()
    }

    #[test]
    fn what_changes_goes_before_what_waits_since_loading_or_for_a_new_file() {
        let bindings = bindings(100);
        let mut dirty = DirtySet::default();
        for number in [3, 5, 90] {
            dirty.add(number);
        }
        dirty.defer(false);
        dirty.add(90);
        let taken = dirty.take(&bindings, 2);
        assert_eq!(numbers(&taken.changed), [90]);
        assert_eq!(numbers(&taken.rest), [3]);
        dirty.add_all();
        dirty.add(99);
        let taken = dirty.take(&bindings, 4);
        assert_eq!(numbers(&taken.changed), [99]);
        assert_eq!(numbers(&taken.rest), [0, 1, 2]);
        dirty.add(50);
        let taken = dirty.take(&bindings, 1_000);
        assert_eq!(numbers(&taken.changed), [50]);
        assert_eq!(numbers(&taken.rest), (3..100).collect::<Vec<_>>());
        assert!(dirty.take(&bindings, 1_000).is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_taken_again() {
        let bindings = bindings(10);
        let mut dirty = DirtySet::default();
        dirty.add(7);
        // It was there once.
        dirty.add(70);
        dirty.add_all();
        let first = dirty.take(&bindings, 5);
        assert_eq!(first.changed[1], (Ipv4Addr::from_bits(70), None));
        dirty.put_back(&first);
        let second = dirty.take(&bindings, 1_000);
        assert_eq!(first.changed, second.changed);
        assert_eq!(numbers(&second.rest), (0..10).collect::<Vec<_>>());
    }
}
