//! The initial load: fills a mirror when Kea starts or is reconfigured.

use std::net::Ipv4Addr;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::kea_config::KeaConfig;
use crate::mirror::apply::apply;
use crate::mirror::dirty_set::{EVERY_ADDRESS, HIDDEN, LEFT_VPN};
use crate::mirror::event::{Event, Lease, Origin};
use crate::mirror::history::{History, SavedHistory};
use crate::mirror::pages::Pages;
use crate::mirror::resync::Resync;
use crate::mirror::rules;
use crate::mirror::saved_view::SavedView;
use crate::mirror::shared::Mirror;
use crate::mirror::table::Table;
use crate::mirror::visible::{is_renewal, learned_at};
use crate::model::binding::Binding;
use crate::model::state::State;
use crate::model::time::Time;

/// The contents of the state file, with which the initial load begins.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The bindings last written.
    pub bindings: Vec<Binding>,
    /// The view last written.
    pub saved_view: SavedView,
    /// The time of the last write; `None` for a new file.
    pub saved_at: Option<Time>,
    /// The latest transaction of a lease in Kea's lease database at the time of the last write, if known.
    pub latest: Option<Time>,
    /// The time up to which the mirror had all renewals by other servers at the last write; `None` if it is
    /// unknown, or if there are no other servers.
    pub resynced_at: Option<Time>,
    /// The addresses that changed after the last write: see
    /// [`ChangeRecorder`](crate::mirror::ChangeRecorder).
    pub recent: Vec<u32>,
    /// The history; `None` for a new file, or one of a version that recorded none.
    pub history: Option<Box<SavedHistory>>,
}

/// The contents of the state file in the form of the tables: the part of the initial load that does not depend
/// on Kea's configuration.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The bindings.
    bindings: Pages,
    /// The addresses of the bindings.
    addresses: RoaringBitmap,
    /// The other contents; its bindings are empty.
    pub(crate) rest: Saved,
}

impl Prepared {
    /// Adds a binding.
    pub(crate) fn add(&mut self, binding: &Binding) {
        self.addresses.insert(binding.address.to_bits());
        self.bindings.put(binding.view());
    }

    /// Records that no other server writes Kea's lease database: the mirror had all renewals, as events.
    pub fn without_other_servers(mut self) -> Prepared {
        self.rest.resynced_at = None;
        self
    }
}

impl From<Saved> for Prepared {
    fn from(mut saved: Saved) -> Prepared {
        let mut prepared = Prepared::default();
        for binding in std::mem::take(&mut saved.bindings) {
            prepared.add(&binding);
        }
        prepared.rest = saved;
        prepared
    }
}

/// The source of the bindings in the tables before Kea's leases are loaded.
#[derive(Clone, Debug)]
enum Source {
    /// The state file, which lacks renewals.
    StateFile(Saved),
    /// A hand-over: the tables have all changes up to the last event.
    HandOver,
}

/// An initial load in progress.
#[derive(Debug)]
pub struct InitialLoad {
    /// The tables.
    table: Table,
    /// The source of their bindings before the load.
    source: Source,
    /// The addresses of those bindings for which no lease has been loaded yet.
    unconfirmed: RoaringBitmap,
    /// The latest transaction of a loaded lease.
    latest: Option<Time>,
    /// The latest transaction of a loaded lease before the load began: Kea serves clients during the load.
    latest_before: Option<Time>,
    /// The beginning of the load.
    now: Time,
}

impl InitialLoad {
    /// Begins with the contents of the state file.
    pub fn begin(kea_config: Arc<KeaConfig>, saved: impl Into<Prepared>, now: Time) -> InitialLoad {
        let Prepared {
            bindings,
            addresses: unconfirmed,
            rest: mut saved,
        } = saved.into();
        let saved_view = &mut saved.saved_view;
        if saved.recent.contains(&EVERY_ADDRESS) {
            // Another configuration may have been in force after the last write: the times of ranges are unknown.
            saved_view.ranges.clear();
        }
        let mut table = Table::new(kea_config, saved_view, now);
        match saved.history.take() {
            Some(history) => table.set_history(History::from(*history)),
            None => table.set_history_of_ranges(saved_view),
        }
        if let Some(saved_at) = saved.saved_at {
            table.begin_history_after(saved_at, now);
        }
        table.set_saved(bindings);
        table.record_changes_since(saved_view, now);
        if saved.saved_at.is_some() {
            table.record_view_difference(saved_view);
        }
        InitialLoad {
            table,
            source: Source::StateFile(saved),
            unconfirmed,
            latest: None,
            latest_before: None,
            now,
        }
    }

    /// Begins with the tables of a mirror that is handed over across a reload and has no other owner. `None` if
    /// that mirror failed.
    pub fn resume(mirror: Mirror, kea_config: Arc<KeaConfig>, now: Time) -> Option<InitialLoad> {
        mirror.catch_up();
        let (mut table, latest) = mirror.into_table()?;
        // Requesters may have received times since the load was requested.
        table.begin_load(latest);
        let now = now.max(latest);
        table.stop_ends();
        let held = table.bindings(0..=u32::MAX);
        let unconfirmed = held.map(|binding| binding.address.to_bits()).collect();
        table.configure(kea_config, false, now);
        Some(InitialLoad {
            table,
            source: Source::HandOver,
            unconfirmed,
            latest: None,
            latest_before: None,
            now,
        })
    }

    /// Loads a lease of Kea's lease database.
    pub fn lease(&mut self, lease: &Lease) {
        self.unconfirmed.remove(lease.address.to_bits());
        self.latest = self.latest.max(Some(lease.cltt));
        if lease.cltt < self.now {
            self.latest_before = self.latest_before.max(Some(lease.cltt));
        }
        self.table.check_subnet(lease);
        let (address, now) = (lease.address, self.now);
        match &self.source {
            Source::StateFile(Saved {
                saved_at,
                resynced_at,
                ..
            }) => self.table.revise(address, now, None, |view, before| {
                let mut after = rules::loaded(before, lease, *saved_at, now);
                // The state file lacks renewals, but earlier replies had them, except those by another server
                // after the last resync. Without a state file there were no earlier replies.
                let was_received = resynced_at.is_none_or(|resynced_at| lease.cltt < resynced_at);
                let is_known = saved_at.is_none()
                    || was_received
                        && before.is_some_and(|before| is_renewal(before, after.view()));
                if !is_known {
                    (after.learned_at, _) = learned_at(view, before, after.view(), now);
                } else if saved_at.is_some() && after.last_transaction == Some(lease.cltt) {
                    // The state file does not have whether the mirror learned of the renewal in the next second, of which
                    // a requester may have received other changes.
                    let next = lease.cltt.plus(1).min(now);
                    after.learned_at = after.learned_at.max(Some(next));
                }
                Some((after, true))
            }),
            Source::HandOver => self.table.update(address, now, |before| {
                rules::updated(before, lease, now, Origin::Remote)
            }),
        }
    }

    /// Ends the load after a failure to read all leases: the bindings without a lease remain, until a resync.
    pub(in crate::mirror) fn incomplete(mut self) -> Table {
        self.table.build_indexes();
        self.table
    }

    /// Ends the load before all leases were loaded, when the server stops or reloads. `None` if the state file
    /// is the source: it has the bindings.
    pub(in crate::mirror) fn abandoned(self) -> Option<Table> {
        match self.source {
            Source::StateFile(_) => None,
            Source::HandOver => Some(self.incomplete()),
        }
    }

    /// Ends the lease of an unconfirmed binding that `event` ends: the event has the cause and the time of the end, the
    /// absence of the lease has neither. The event is applied again after the load, without effect.
    pub(in crate::mirror) fn ended(&mut self, event: &Event) {
        let (Event::Released { address, at, .. }
        | Event::GivenUp { address, at, .. }
        | Event::Reclaimed { address, at, .. }
        | Event::Removed { address, at, .. }) = event
        else {
            return;
        };
        let is_active = |table: &Table| {
            let binding = table.binding(*address);
            binding.is_some_and(|binding| binding.is_active(*at))
        };
        if self.unconfirmed.contains(address.to_bits()) && is_active(&self.table) {
            let now = self.now.max(*at);
            apply(&mut self.table, &mut Resync::default(), event, now);
            if !is_active(&self.table) {
                self.unconfirmed.remove(address.to_bits());
            }
        }
    }

    /// Completes the load; returns a new mirror.
    pub fn finish(self) -> Mirror {
        Mirror::new(self.complete(), Ok(()))
    }

    /// Completes the load after all leases were loaded. The leases of unconfirmed bindings no longer exist;
    /// bindings that have neither a lease nor a configured address are removed.
    pub(in crate::mirror) fn complete(mut self) -> Table {
        for address in std::mem::take(&mut self.unconfirmed) {
            let address = Ipv4Addr::from_bits(address);
            let before = self.table.binding(address);
            let had_lease = before.is_some_and(|binding| binding.is_active(self.now));
            self.table
                .update(address, self.now, |before| match self.source {
                    Source::StateFile(_) => rules::vanished(before?, self.now),
                    Source::HandOver => rules::removed(before?, self.now, Origin::Remote),
                });
            // The end of a lease is a change, for which the binding is kept until the next start.
            if !had_lease && !self.table.is_configured(address) {
                self.table.forget(address, self.now);
            }
        }
        self.table.set_resynced(self.now);
        if let Source::StateFile(before) = std::mem::replace(&mut self.source, Source::HandOver) {
            self.record_possible_changes(before);
        }
        self.table.build_indexes();
        // Later changes are written before the bindings of a large mirror.
        self.table.dirty_set().defer();
        self.table
    }

    /// Records changes of bindings that the state file cannot prove unchanged: earlier replies may have
    /// differed.
    fn record_possible_changes(&mut self, mut before: Saved) {
        // The VPN is not recorded, and need not be one of those before or now.
        let mut takes = |loss: u32| {
            let count = before.recent.len();
            before.recent.retain(|entry| *entry != loss);
            before.recent.len() < count
        };
        let (has_left, is_hidden) = (takes(LEFT_VPN), takes(HIDDEN));
        // The latest transaction may be of a lease that has ended. The end itself is not a transaction of
        // Kea's lease database, nor is an offer.
        let ended = self.table.bindings(0..=u32::MAX).filter(|binding| {
            let state = binding.state;
            binding.client.is_some()
                && matches!(
                    state,
                    State::Released | State::Expired | State::Reset | State::Abandoned
                )
        });
        let ended = ended.map(|binding| binding.lease_start);
        let has_ended = |address: &u32| {
            let binding = self.table.binding(Ipv4Addr::from_bits(*address));
            *address != EVERY_ADDRESS
                && binding.is_none_or(|binding| binding.state != State::Active)
        };
        // If Kea's lease database lacks the latest transaction, it is older than the state file, such as a
        // restored backup, and renewals are lost. A recently changed address that is no longer leased is another
        // explanation: the latest lease may have ended just before the process was killed.
        let are_renewals_lost = before.latest > self.latest_before.max(ended.max())
            && !before.recent.iter().any(has_ended);
        // Any reply may have differed: under another configuration, or after the previous start.
        let is_every_reply_lost = before.recent.contains(&EVERY_ADDRESS);
        if are_renewals_lost || is_every_reply_lost {
            let held = self.table.bindings(0..=u32::MAX);
            let held = held.filter(|binding| is_every_reply_lost || binding.state == State::Active);
            let held: Vec<u32> = held.map(|binding| binding.address.to_bits()).collect();
            for address in held {
                self.table.mark_changed(address, self.now, None);
            }
        }
        if is_every_reply_lost || has_left {
            self.table.lose_all(self.now);
        }
        if is_hidden {
            self.table.hide(self.now);
        }
        let recent = before.recent.into_iter();
        for address in recent.filter(|address| *address != EVERY_ADDRESS) {
            self.table.mark_changed(address, self.now, None);
        }
        self.table.latest = self.latest;
    }
}
