//! The dirty set: the bindings, the view and the history that the state file lacks, or has as they were before.
//!
//! Changes are flushed before the other bindings. A change made while a large mirror is written to a new file is
//! therefore on disk as soon as at any other time.

use std::net::Ipv4Addr;

use roaring::RoaringBitmap;

use crate::mirror::pages::Pages;
use crate::model::binding::Binding;

/// Stands for every address in a list of changed ones. No host has this address (RFC 919 section 7).
pub const EVERY_ADDRESS: u32 = u32::MAX;

/// Stands, in such a list, for a binding that left its VPN. No host has this address (RFC 1122 section 3.2.1.3).
pub const LEFT_VPN: u32 = 0;

/// Stands, in such a list, for a binding that left its VPN for none. Nor has a host this one.
pub const HIDDEN: u32 = 1;

/// The maximum number of deferred addresses that are recorded one by one.
const MAX_RECORDED: u64 = 65_536;

/// An address and the binding to write for it; `None` removes the address from the state file.
pub type DirtyBinding = (Ipv4Addr, Option<Binding>);

/// The addresses that must be written to the state file, and whether the view and the history must be.
#[derive(Debug, Default)]
pub struct DirtySet {
    /// Addresses that changed.
    changed: RoaringBitmap,
    /// Addresses that are written after the changed ones: those whose difference the initial load found.
    deferred: RoaringBitmap,
    /// The first address from which on every binding must be written, after all others; `None` if none must be.
    all_from: Option<u32>,
    /// Whether the view must be written.
    is_view_dirty: bool,
    /// Whether the history must be written.
    is_history_dirty: bool,
    /// The losses in the history that the state file lacks: [`LEFT_VPN`] and [`HIDDEN`], each at most once.
    losses: Vec<u32>,
    /// Whether the view has differed from the one in the state file since the start.
    is_reconfigured: bool,
    /// The recent changes that were added to `changed` since the last [`DirtySet::take_recent`].
    recent: Vec<u32>,
}

/// A part of the dirty set, taken for one transaction.
#[derive(Clone, Debug, Default)]
pub struct DirtyPart {
    /// Addresses that changed.
    pub changed: Vec<DirtyBinding>,
    /// Other addresses, ascending; only if all changed ones are in this part. If an address is in both lists,
    /// because it changed after it was taken, the binding in `changed` is the later one.
    pub rest: Vec<DirtyBinding>,
}

impl DirtySet {
    /// Adds an address that changed. A change that the initial load found is not recent.
    pub(super) fn add(&mut self, address: u32, is_recent: bool) {
        if self.changed.insert(address) && is_recent {
            self.recent.push(address);
        }
    }

    /// Adds the view, the history and every address, to be written after the changed ones: the state file is new.
    pub fn add_all(&mut self) {
        self.all_from = Some(0);
        // Each of these is either among all addresses, or has no binding, and the new file needs no entry for it.
        self.deferred.clear();
        self.recent.push(EVERY_ADDRESS);
        self.add_history();
        self.add_view();
    }

    /// Adds the history.
    pub fn add_history(&mut self) {
        self.is_history_dirty = true;
    }

    /// Adds the history because of a loss: [`LEFT_VPN`] or [`HIDDEN`]. After a kill, the next start would not find it.
    pub(super) fn add_loss(&mut self, loss: u32) {
        self.add_history();
        if !self.losses.contains(&loss) {
            self.losses.push(loss);
            self.recent.push(loss);
        }
    }

    /// Adds the history again that was taken and could not be written.
    pub fn put_back_history(&mut self) {
        self.add_loss(LEFT_VPN);
        self.add_loss(HIDDEN);
    }

    /// Adds the view.
    pub fn add_view(&mut self) {
        self.is_view_dirty = true;
        if self.is_reconfigured {
            self.recent.push(EVERY_ADDRESS);
        }
    }

    /// Records that the view differs from the one in the state file.
    pub(super) fn set_reconfigured(&mut self) {
        self.is_reconfigured = true;
    }

    /// Defers all addresses added so far: those added from now on are written first.
    pub(super) fn defer(&mut self) {
        self.deferred |= std::mem::take(&mut self.changed);
    }

    /// Takes the recent changes that were added since the last call; [`EVERY_ADDRESS`] stands for a changed
    /// view, [`LEFT_VPN`] and [`HIDDEN`] for losses.
    pub(super) fn take_recent(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.recent)
    }

    /// Iterates over the changes that a start from the present state file would not find: the addresses whose
    /// replies have changed. [`EVERY_ADDRESS`] stands for a changed view, or for too many addresses, [`LEFT_VPN`] and
    /// [`HIDDEN`] for losses.
    pub(super) fn dirty_changes(&self) -> impl Iterator<Item = u32> {
        let are_many = self.all_from.is_some() || self.deferred.len() > MAX_RECORDED;
        let deferred = (!are_many).then_some(&self.deferred);
        let is_view_lost = self.is_view_dirty && self.is_reconfigured;
        let addresses = self.changed.iter().chain(deferred.into_iter().flatten());
        let addresses = addresses.chain((are_many || is_view_lost).then_some(EVERY_ADDRESS));
        addresses.chain(self.losses.iter().copied())
    }

    /// Returns whether the view must be written, and marks it as written.
    pub(super) fn take_view(&mut self) -> bool {
        std::mem::take(&mut self.is_view_dirty)
    }

    /// Returns whether the history must be written, and marks it as written.
    pub(super) fn take_history(&mut self) -> bool {
        self.losses.clear();
        std::mem::take(&mut self.is_history_dirty)
    }

    /// Takes up to `limit` addresses with their bindings, and marks them as written.
    pub(super) fn take(&mut self, bindings: &Pages, limit: usize) -> DirtyPart {
        let dirty_binding = |address: u32| {
            let binding = bindings.get(address).map(|binding| binding.to_owned());
            (Ipv4Addr::from_bits(address), binding)
        };
        let changed = take_first(&mut self.changed, limit);
        for address in &changed {
            self.deferred.remove(*address);
        }
        let rest = take_first(&mut self.deferred, limit - changed.len());
        let mut part = DirtyPart {
            changed: changed.into_iter().map(dirty_binding).collect(),
            rest: rest.into_iter().map(dirty_binding).collect(),
        };
        if let Some(first) = self.all_from.filter(|_| part.len() < limit) {
            let mut left = bindings.range(first..=u32::MAX);
            let room = limit - part.len();
            let bindings = left.by_ref().take(room);
            let bindings = bindings.map(|binding| (binding.address, Some(binding.to_owned())));
            part.rest.extend(bindings);
            self.all_from = left.next().map(|binding| binding.address.to_bits());
        }
        part
    }

    /// Adds a part again that was taken and could not be written.
    pub fn put_back(&mut self, part: &DirtyPart) {
        let bits = |(address, _): &DirtyBinding| address.to_bits();
        self.changed.extend(part.changed.iter().map(bits));
        self.deferred.extend(part.rest.iter().map(bits));
    }
}

/// Removes up to `count` first addresses of a set and returns them.
fn take_first(set: &mut RoaringBitmap, count: usize) -> Vec<u32> {
    let first: Vec<u32> = set.iter().take(count).collect();
    set.remove_smallest(first.len() as u64);
    first
}

impl DirtyPart {
    /// Appends a part that was taken later.
    pub fn append(&mut self, later: &mut DirtyPart) {
        self.changed.append(&mut later.changed);
        self.rest.append(&mut later.rest);
    }

    /// Returns the number of addresses.
    pub fn len(&self) -> usize {
        self.changed.len() + self.rest.len()
    }

    /// Whether the part is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Time;

    /// Returns bindings of the first `count` addresses.
    fn bindings(count: u32) -> Pages {
        let mut bindings = Pages::default();
        for number in 0..count {
            bindings.put(Binding::example(Ipv4Addr::from_bits(number), Time(1)));
        }
        bindings
    }

    /// Returns the addresses as numbers.
    fn numbers(bindings: &[DirtyBinding]) -> Vec<u32> {
        let number = |(address, _): &DirtyBinding| address.to_bits();
        bindings.iter().map(number).collect()
    }

    #[test]
    fn changes_are_taken_before_deferred_addresses_and_those_of_a_new_file() {
        let bindings = bindings(100);
        let mut dirty = DirtySet::default();
        for number in [3, 5, 90] {
            dirty.add(number, true);
        }
        dirty.defer();
        dirty.add(90, true);
        let part = dirty.take(&bindings, 2);
        assert_eq!(numbers(&part.changed), [90]);
        assert_eq!(numbers(&part.rest), [3]);
        dirty.add_all();
        dirty.add(99, true);
        let part = dirty.take(&bindings, 4);
        assert_eq!(numbers(&part.changed), [99]);
        assert_eq!(numbers(&part.rest), [0, 1, 2]);
        dirty.add(50, true);
        let part = dirty.take(&bindings, 1_000);
        assert_eq!(numbers(&part.changed), [50]);
        assert_eq!(numbers(&part.rest), (3..100).collect::<Vec<_>>());
        assert!(dirty.take(&bindings, 1_000).is_empty());
    }

    #[test]
    fn a_large_set_is_taken_in_parts() {
        let bindings = Pages::default();
        let mut dirty = DirtySet::default();
        let all: Vec<u32> = (0..50_000).map(|number| 3 * number).collect();
        all.iter().for_each(|number| dirty.add(*number, true));
        let mut taken = Vec::new();
        while taken.len() < all.len() {
            taken.extend(numbers(&dirty.take(&bindings, 256).changed));
        }
        assert_eq!(taken, all);
        assert!(dirty.take(&bindings, 256).is_empty());
    }

    #[test]
    fn a_part_that_was_put_back_is_taken_again() {
        let bindings = bindings(10);
        let mut dirty = DirtySet::default();
        dirty.add(7, true);
        // An address without a binding.
        dirty.add(70, true);
        dirty.add_all();
        let first = dirty.take(&bindings, 5);
        assert_eq!(first.changed[1], (Ipv4Addr::from_bits(70), None));
        dirty.put_back(&first);
        let second = dirty.take(&bindings, 1_000);
        assert_eq!(first.changed, second.changed);
        assert_eq!(numbers(&second.rest), (0..10).collect::<Vec<_>>());
    }
}
