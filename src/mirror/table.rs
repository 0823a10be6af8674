//! The tables: all bindings by address, their indexes, and the log of their changes.

mod configuration;
mod ends;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::kea_config::{KeaConfig, Serving};
use crate::mirror::changes::{ChangeLog, Kind, SKEW};
use crate::mirror::dirty_set::{DirtyPart, DirtySet};
use crate::mirror::group::GroupFilter;
use crate::mirror::history::{History, SavedHistory};
use crate::mirror::index::identity::Matches;
use crate::mirror::index::time::{Happening, Moment, Reached};
use crate::mirror::index::{Identity, Indexes, indexed_client};
use crate::mirror::page::Page;
use crate::mirror::pages::Pages;
use crate::mirror::ranges::TimedRange;
use crate::mirror::saved_view::SavedView;
use crate::mirror::view::View;
use crate::mirror::visible;
use crate::model::binding::{Binding, BindingRef};
use crate::model::client::Client;
use crate::model::state::State;
use crate::model::time::{Time, Window};
use crate::model::vpn::Vpn;

/// The part of the view before a restart that depends on host reservations in databases. These are read after
/// the rest of the configuration, and can be compared only then.
#[derive(Clone, Debug)]
pub struct Incomplete {
    /// Configured ranges.
    ranges: Vec<TimedRange>,
    /// The digest of all reservations; `None` if it is unknown.
    hosts: Option<u64>,
}

/// All bindings, their indexes and changes, and the view.
#[derive(Debug)]
pub struct Table {
    /// The configuration and ranges as queries see them.
    view: Arc<View>,
    /// The high-availability scopes that this server serves, once they are known.
    serving: Option<Serving>,
    /// The part of the view before a restart that is compared later; until then the state file keeps it.
    incomplete: Option<Incomplete>,
    /// Whether a lease whose subnet id contradicts its address was logged already.
    is_contradiction_logged: bool,
    /// Bindings by address.
    bindings: Pages,
    /// The indexes of the bindings; `None` during the initial load.
    indexes: Option<Indexes>,
    /// The change log.
    changes: ChangeLog,
    /// The latest time of a binding at the end of the initial load; later changes are in the change log.
    loaded_until: Time,
    /// The next end of a state that is not in the change log; `None` while ends are not recorded.
    next_end: Option<Moment>,
    /// The ranges that another server assigns since their bindings were last visited, or no longer: see
    /// [`Table::mark_reassigned`].
    reassigned: VecDeque<(u32, u32)>,
    /// The latest transaction of a lease in Kea's lease database, as far as it is known.
    pub(super) latest: Option<Time>,
    /// The beginning of the last complete resync.
    pub(super) resynced_at: Option<Time>,
}

//--- Updates

impl Table {
    /// Returns the time of changes that are learned at `now`, when requesters may have received the time `latest`: not
    /// before it, so that a catch-up from it includes them. If the clock was set back, that is not possible for long, and
    /// the history begins anew.
    pub(super) fn time_of_changes(&mut self, now: Time, latest: Time) -> Time {
        match latest.seconds_since(now) {
            0..=SKEW => now.max(latest),
            _ => {
                self.changes.set_clock_back(latest);
                now
            }
        }
    }

    /// Updates the binding of an address at `now` by a rule, which computes the new binding from the present one;
    /// `None` leaves it unchanged.
    ///
    /// Any difference that a requester sees is a change, and is learned at `now`.
    pub fn update(
        &mut self,
        address: Ipv4Addr,
        now: Time,
        rule: impl FnOnce(Option<BindingRef<'_>>) -> Option<Binding>,
    ) {
        self.revise(address, now, None, |view, before| {
            let mut after = rule(before)?;
            let (learned_at, is_seen) = visible::learned_at(view, before, after.view(), now);
            after.learned_at = learned_at;
            Some((after, is_seen))
        });
    }

    /// Updates the binding of an address as [`Table::update`] does, but the rule also sets
    /// [`Binding::learned_at`], and returns whether requesters see a difference. `left` is the VPN of the binding in
    /// the view before, if that differs.
    pub(super) fn revise(
        &mut self,
        address: Ipv4Addr,
        now: Time,
        left: Option<&Vpn>,
        rule: impl FnOnce(&View, Option<BindingRef<'_>>) -> Option<(Binding, bool)>,
    ) {
        let bits = address.to_bits();
        let entry = self.bindings.entry(bits);
        let before = entry.binding();
        let after = rule(&self.view, before).filter(|(after, _)| before != Some(after.view()));
        let Some((after, is_seen)) = &after else {
            if entry.is_page_empty() {
                self.bindings.prune(bits);
            }
            return;
        };
        let after = after.view();
        let is_renewal = before.is_some_and(|before| visible::is_renewal(before, after));
        let kind = if *is_seen { Kind::Seen } else { Kind::Unseen };
        // A renewal leaves no VPN.
        let moved = (!is_renewal)
            .then(|| self.view.vpn_left(before.as_ref()?, &after, now))
            .flatten();
        let left = left.or(moved.as_deref());
        if left.is_some() && self.view.vpn_of(&after, after.at(now).0).is_none() {
            self.changes.hide(now);
        }
        self.changes.record(bits, now, kind, left, is_renewal);
        if after.state == State::Active {
            self.latest = self.latest.max(Some(after.lease_start));
        }
        let Some(indexes) = &mut self.indexes else {
            return entry.put(after);
        };
        indexes.times.change(before, Some(after));
        let client = indexed_client(after);
        let client_before = before.and_then(indexed_client);
        // Most updates are renewals: `is_renewal` has compared the clients.
        if is_renewal || client_before == client {
            return entry.put(after);
        }
        // Copied because the new binding overwrites it.
        let client_before = client_before.map(Client::from);
        entry.put(after);
        let client_before = client_before.as_ref().map(Client::view);
        indexes
            .identities
            .update(bits, client_before, client, &self.bindings);
    }

    /// Records that requesters see an address differently since `at`, although no event changed its binding. An
    /// address of a configured subnet without a binding has become available at that time. `left` is the VPN in which
    /// requesters saw it before, if it is now in another one.
    pub(super) fn mark_changed(&mut self, address: u32, at: Time, left: Option<&Vpn>) {
        let before = self.bindings.get(address);
        if let Some(before) = before.filter(|before| before.learned_at == Some(at)) {
            // A second change at this time would leave the binding unchanged, and the update would not record it.
            let is_hidden = left.is_some() && self.view.vpn_of(&before, before.at(at).0).is_none();
            if is_hidden {
                self.changes.hide(at);
            }
            return self.changes.record(address, at, Kind::Seen, left, true);
        }
        let address = Ipv4Addr::from_bits(address);
        self.revise(address, at, left, |view, before| {
            let after = match before {
                Some(before) => Binding {
                    learned_at: Some(at),
                    ..before.to_owned()
                },
                None => {
                    let subnet = view.kea_config.subnet_holding(address)?;
                    Binding::free(address, subnet.id, at)
                }
            };
            Some((after, true))
        });
    }

    /// Removes the binding of an address at `now`.
    pub fn forget(&mut self, address: Ipv4Addr, now: Time) {
        let Some(before) = self.binding(address) else {
            return;
        };
        let (address, before) = (address.to_bits(), before.view());
        self.bindings.remove(address);
        if let Some(indexes) = &mut self.indexes {
            indexes.times.change(Some(before), None);
            let client = indexed_client(before);
            indexes
                .identities
                .update(address, client, None, &self.bindings);
        }
        let vpn = self.view.vpn_of(&before, before.state);
        let vpn = vpn.as_deref();
        self.changes.hide(now);
        self.changes.record(address, now, Kind::Seen, vpn, false);
    }
}

//--- Reads

impl Table {
    /// Returns the view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Returns the Kea configuration in force.
    pub fn kea_config(&self) -> &KeaConfig {
        &self.view.kea_config
    }

    /// Returns the number of bindings.
    pub fn count(&self) -> usize {
        self.bindings.count()
    }

    /// Returns the binding of an address.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let binding = self.bindings.get(address.to_bits())?;
        Some(binding.to_owned())
    }

    /// Iterates over the bindings in a range of addresses, ascending.
    pub fn bindings(&self, addresses: RangeInclusive<u32>) -> impl Iterator<Item = BindingRef<'_>> {
        self.bindings.range(addresses)
    }

    /// Whether an address with a binding belongs to the configured addresses.
    pub fn is_configured(&self, address: Ipv4Addr) -> bool {
        let binding = self.bindings.get(address.to_bits());
        binding.is_some_and(|binding| self.view.has(binding))
    }

    /// Returns the addresses of the active bindings of an identity.
    pub fn find(&self, identity: &Identity) -> Option<Matches<'_>> {
        let indexes = self.indexes.as_ref()?;
        Some(indexes.identities.find(identity, &self.bindings))
    }

    /// Counts changes in a window: see [`TimeIndex::count`].
    ///
    /// [`TimeIndex::count`]: crate::mirror::index::time::TimeIndex::count
    pub fn count_changes(&self, window: Window, until: Option<Time>, limit: usize) -> usize {
        let indexes = self.indexes.as_ref();
        indexes.map_or(0, |indexes| indexes.times.count(window, until, limit))
    }

    /// Collects the addresses of bindings with a time in a window: see [`TimeIndex::collect`].
    ///
    /// [`TimeIndex::collect`]: crate::mirror::index::time::TimeIndex::collect
    pub(super) fn collect_changes(
        &self,
        reached: Reached,
        (window, until): (Window, Option<Time>),
        selected: GroupFilter,
        limit: usize,
        addresses: &mut Vec<u32>,
    ) -> (usize, Option<Reached>) {
        let indexes = self.indexes.as_ref();
        indexes.map_or((0, None), |indexes| {
            let span = (window, until);
            (indexes.times).collect(reached, span, selected, limit, addresses)
        })
    }

    /// Iterates over the times of bindings in chronological order: see [`TimeIndex::chronological`].
    ///
    /// [`TimeIndex::chronological`]: crate::mirror::index::time::TimeIndex::chronological
    pub(super) fn chronological(
        &self,
        from: Moment,
        until: Time,
        ends_until: Time,
    ) -> impl Iterator<Item = Happening> {
        let indexes = self.indexes.iter();
        indexes.flat_map(move |indexes| indexes.times.chronological(from, until, ends_until))
    }

    /// Returns the latest time of any binding: see [`TimeIndex::latest`].
    ///
    /// [`TimeIndex::latest`]: crate::mirror::index::time::TimeIndex::latest
    pub(super) fn latest_time(&self) -> Time {
        let indexes = self.indexes.as_ref();
        indexes.map_or(Time::MIN, |indexes| indexes.times.latest())
    }

    /// Returns the latest time of any binding at the end of the initial load, whose changes are not in the change log.
    pub(super) fn loaded_until(&self) -> Time {
        self.loaded_until
    }

    /// Returns a page of bindings.
    pub(super) fn page(&self, number: u32) -> Option<&Page> {
        self.bindings.page(number)
    }

    /// Iterates over the pages of bindings from one on, ascending.
    pub(super) fn pages_from(&self, number: u32) -> impl Iterator<Item = (u32, &Page)> {
        self.bindings.pages_from(number)
    }

    /// Returns the change log.
    pub fn changes(&self) -> &ChangeLog {
        &self.changes
    }

    /// Returns the second in which the history began: changes are known from the next one on.
    pub fn history_since(&self) -> Time {
        self.changes.history().since()
    }
}

//--- The initial load

impl Table {
    /// Sets the bindings to those of the state file, and drops the indexes until [`Table::build_indexes`]:
    /// building them at once takes less time than updating them with each binding.
    pub(super) fn set_saved(&mut self, bindings: Pages) {
        self.bindings = bindings;
        self.indexes = None;
        self.changes.is_loading = true;
    }

    /// Builds the indexes if there are none.
    pub fn build_indexes(&mut self) {
        let bindings = &self.bindings;
        if self.indexes.is_none() {
            let indexes = Indexes::of_all(bindings);
            self.loaded_until = indexes.times.latest();
            self.indexes = Some(indexes);
        }
        self.changes.is_loading = false;
    }

    /// Begins a load of these tables, of which requesters may have received the time `latest`.
    pub(super) fn begin_load(&mut self, latest: Time) {
        self.changes.note_time(latest);
        self.changes.begin_load();
    }

    /// Sets the history to that of the state file.
    pub(super) fn set_history(&mut self, history: History) {
        self.changes.set_history(history);
    }

    /// Sets the history to that of a state file without one, which began with the first ranges. Until now, any VPN may have
    /// lost bindings.
    pub(super) fn set_history_of_ranges(&mut self, saved_view: &SavedView) {
        let now = self.history_since();
        if let Some(since) = saved_view.ranges.iter().map(|range| range.since).min() {
            self.changes.set_history(History::new(since.min(now)));
            self.changes.lose_all(now);
            self.changes.hide(now);
        }
    }

    /// Begins the history anew if the clock was set back between the last write to the state file and the beginning of the
    /// load.
    pub(super) fn begin_history_after(&mut self, saved_at: Time, now: Time) {
        if saved_at.seconds_since(now) > SKEW {
            self.changes.set_clock_back(saved_at);
        }
    }

    /// Records that any VPN may have lost bindings at a time.
    pub(super) fn lose_all(&mut self, at: Time) {
        self.changes.lose_all(at);
    }

    /// Records that bindings may have been lost to no VPN at a time.
    pub(super) fn hide(&mut self, at: Time) {
        self.changes.hide(at);
    }

    /// Records the beginning of a complete resync.
    pub fn set_resynced(&mut self, began: Time) {
        self.resynced_at = self.resynced_at.max(Some(began));
    }
}

//--- The state file

impl Table {
    /// Returns the dirty set.
    pub(super) fn dirty_set(&mut self) -> &mut DirtySet {
        &mut self.changes.dirty
    }

    /// Takes the view for the state file, if it is dirty.
    pub fn take_dirty_view(&mut self) -> Option<SavedView> {
        self.changes.dirty.take_view().then(|| self.saved_view())
    }

    /// Takes the history for the state file, if it is dirty. Taken after bindings, it has every VPN that they left.
    pub fn take_dirty_history(&mut self) -> Option<SavedHistory> {
        let is_dirty = self.changes.dirty.take_history();
        is_dirty.then(|| self.changes.history().to_saved())
    }

    /// Takes up to `limit` addresses of the dirty set with their bindings.
    pub fn take_dirty(&mut self, limit: usize) -> DirtyPart {
        self.changes.dirty.take(&self.bindings, limit)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Table {
    /// Stores a binding.
    pub(crate) fn put(&mut self, binding: &Binding) {
        let time = binding.since;
        self.revise(binding.address, time, None, |_, _| {
            Some((binding.clone(), true))
        });
    }

    /// Replaces the change log by an empty one with room for `capacity` changes.
    pub(crate) fn shorten_log(&mut self, capacity: usize, now: Time) {
        self.changes = ChangeLog::with_capacity(capacity, now);
    }

    /// Sets the configured ranges.
    pub(super) fn set_ranges(&mut self, ranges: Vec<crate::mirror::ranges::TimedRange>) {
        Arc::make_mut(&mut self.view).ranges = ranges;
    }
}
