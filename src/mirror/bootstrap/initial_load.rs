//! A mirror being filled when Kea starts or is reconfigured.

use std::net::Ipv4Addr;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::kea_config::KeaConfig;
use crate::mirror::dirty_set::CONFIGURATION;
use crate::mirror::event::{Lease, Origin};
use crate::mirror::pages::Pages;
use crate::mirror::ranges::SavedView;
use crate::mirror::rules;
use crate::mirror::shared::Mirror;
use crate::mirror::table::Table;
use crate::mirror::visible::{is_renewal, learned_at};
use crate::model::binding::Binding;
use crate::model::state::State;
use crate::model::time::Time;

/// What the state file held, taken over before Kea's leases are loaded.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Bindings as last written.
    pub bindings: Vec<Binding>,
    /// What was configured as last written.
    pub saved_view: SavedView,
    /// When the file was last written; `None` if it is new.
    pub saved_at: Option<Time>,
    /// The latest transaction of a lease that Kea's lease database had when the file was last
    /// written, if it is known.
    pub latest: Option<Time>,
    /// Up to when renewals by other servers were known when the file was last written. `None` if
    /// there are no other servers, or it is not known.
    pub resynced_at: Option<Time>,
    /// Addresses that changed after the file was last written: see
    /// [`Recent`](crate::persist::store::Recent).
    pub recent: Vec<u32>,
}

/// The same, as tables hold it: what can be done of loading before Kea's configuration is known.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The bindings.
    bindings: Pages,
    /// Their addresses.
    addresses: RoaringBitmap,
    /// The rest, without bindings.
    rest: Saved,
}

impl Prepared {
    /// Adds a binding.
    pub(crate) fn add(&mut self, binding: &Binding) {
        self.addresses.insert(binding.address.to_bits());
        self.bindings.put(binding.view());
    }

    /// Takes into account that no other server writes Kea's lease database: this one has heard of all
    /// renewals.
    pub fn without_other_servers(mut self) -> Prepared {
        self.rest.resynced_at = None;
        self
    }

    /// Adds the rest.
    pub(crate) fn complete(&mut self, rest: Saved) {
        self.rest = rest;
    }
}

impl From<Saved> for Prepared {
    fn from(mut saved: Saved) -> Prepared {
        let mut prepared = Prepared::default();
        for binding in std::mem::take(&mut saved.bindings) {
            prepared.add(&binding);
        }
        prepared.complete(saved);
        prepared
    }
}

/// What the tables hold before Kea's leases are loaded.
#[derive(Clone, Debug)]
enum Known {
    /// What was saved: all but renewals.
    Saved(Before),
    /// Everything, up to when Kea was last heard of.
    Everything,
}

/// What the state file says besides bindings.
#[derive(Clone, Debug)]
struct Before {
    /// When it was last written; `None` if it never was.
    saved_at: Option<Time>,
    /// The latest transaction of a lease that Kea's lease database had then.
    latest: Option<Time>,
    /// Up to when renewals by other servers were known then.
    resynced_at: Option<Time>,
    /// Addresses that changed since.
    recent: Vec<u32>,
}

/// A mirror being filled.
#[derive(Debug)]
pub struct InitialLoad {
    /// The tables so far.
    table: Table,
    /// What they held before.
    known: Known,
    /// Addresses that they held then and of which Kea has not shown a lease yet.
    unseen: RoaringBitmap,
    /// The latest transaction of a lease that Kea has shown.
    latest: Option<Time>,
    /// The latest of those before loading began: Kea serves its clients meanwhile.
    latest_before: Option<Time>,
    /// When loading began.
    now: Time,
}

impl InitialLoad {
    /// Begins with what was saved.
    pub fn begin(kea_config: Arc<KeaConfig>, saved: impl Into<Prepared>, now: Time) -> InitialLoad {
        let Prepared {
            bindings,
            addresses: unseen,
            rest,
        } = saved.into();
        let Saved {
            mut saved_view,
            saved_at,
            latest,
            resynced_at,
            recent,
            ..
        } = rest;
        if recent.contains(&CONFIGURATION) {
            // It may have been another one meanwhile: since when it is as it is, is not known.
            saved_view.ranges.clear();
        }
        let mut table = Table::new(kea_config, &saved_view, now);
        table.drop_indexes();
        table.set_saved(bindings);
        table.record_changes_since(&saved_view, now);
        if saved_at.is_some() {
            table.note_reconfigured(&saved_view);
        }
        InitialLoad {
            table,
            known: Known::Saved(Before {
                saved_at,
                latest,
                resynced_at,
                recent,
            }),
            unseen,
            latest: None,
            latest_before: None,
            now,
        }
    }

    /// Begins with what a mirror held that nobody else has any more, before Kea was reconfigured.
    /// `None` if that mirror failed.
    pub fn resume(mirror: Mirror, kea_config: Arc<KeaConfig>, now: Time) -> Option<InitialLoad> {
        mirror.catch_up();
        let mut table = mirror.into_table()?;
        let held = table.bindings(0..=u32::MAX);
        let unseen = held.map(|binding| binding.address.to_bits()).collect();
        table.configure(kea_config, false, now);
        Some(InitialLoad {
            table,
            known: Known::Everything,
            unseen,
            latest: None,
            latest_before: None,
            now,
        })
    }

    /// Takes over a lease of Kea's database.
    pub fn lease(&mut self, lease: &Lease) {
        self.unseen.remove(lease.address.to_bits());
        self.latest = self.latest.max(Some(lease.cltt));
        if lease.cltt < self.now {
            self.latest_before = self.latest_before.max(Some(lease.cltt));
        }
        self.table.check_subnet(lease);
        let (address, now) = (lease.address, self.now);
        match &self.known {
            Known::Saved(Before {
                saved_at,
                resynced_at,
                ..
            }) => self.table.revise(address, now, |view, before| {
                let after = rules::loaded(before, lease, *saved_at, now);
                // Renewals are not saved, but requesters have seen them, unless another server made them after
                // the last resync. Without a file no requester has seen anything.
                let is_seen = resynced_at.is_none_or(|resynced_at| lease.cltt < resynced_at);
                let is_known = saved_at.is_none()
                    || is_seen && before.is_some_and(|before| is_renewal(before, after.view()));
                let learned_at = match is_known {
                    true => after.learned_at,
                    false => learned_at(view, before, after.view(), now),
                };
                Some(Binding {
                    learned_at,
                    ..after
                })
            }),
            Known::Everything => self.table.update(address, now, |before| {
                rules::updated(before, lease, now, Origin::Remote)
            }),
        }
    }

    /// Ends when leases could not be taken over: what was known stays so, for now.
    pub(in crate::mirror) fn incomplete(mut self) -> Table {
        self.table.build_indexes();
        self.table
    }

    /// Ends when not all leases have been taken over and nobody waits for them any more: nothing, if
    /// what is known is in the state file.
    pub(in crate::mirror) fn abandoned(self) -> Option<Table> {
        match self.known {
            Known::Saved(_) => None,
            Known::Everything => Some(self.incomplete()),
        }
    }

    /// A mirror of its own, when all leases have been taken over.
    pub fn finish(self) -> Mirror {
        Mirror::new(self.complete())
    }

    /// Ends when all leases have been taken over: what was known as held and is not any more
    /// has vanished, and what has neither a lease nor a place in the configuration is forgotten.
    pub(in crate::mirror) fn complete(mut self) -> Table {
        for address in std::mem::take(&mut self.unseen) {
            let address = Ipv4Addr::from_bits(address);
            self.table
                .update(address, self.now, |before| match self.known {
                    Known::Saved(_) => rules::vanished(before?, self.now),
                    Known::Everything => rules::removed(before?, self.now, Origin::Remote),
                });
            if !self.table.is_configured(address) {
                self.table.forget(address, self.now);
            }
        }
        self.table.set_resynced(self.now);
        // A start compares with the state file, and does so again if it stays as it is.
        let mut are_lost = true;
        if let Known::Saved(before) = std::mem::replace(&mut self.known, Known::Everything) {
            self.record_dirty(before);
            are_lost = false;
        }
        self.table.build_indexes();
        // What changes from now on need not wait for a large mirror to be written.
        self.table.defer_dirty(are_lost);
        self.table
    }

    /// Counts as changed now what requesters may have seen otherwise before, though the state file
    /// does not say so.
    fn record_dirty(&mut self, before: Before) {
        // Leases that ended may have been the latest. The end is no transaction of Kea's lease database,
        // nor is an offer.
        let ended = self.table.bindings(0..=u32::MAX).filter(|binding| {
            let state = binding.state;
            binding.client.is_some()
                && matches!(
                    state,
                    State::Released | State::Expired | State::Reset | State::Abandoned
                )
        });
        let ended = ended.map(|binding| binding.lease_start);
        // Kea's lease database is an older one than the last that was seen, such as a copy that was put
        // back: the renewals that it has lost are nowhere.
        // Unless the latest lease may have ended just before the process was killed: that is nowhere, too.
        let has_ended = |address: &u32| {
            let binding = self.table.binding(Ipv4Addr::from_bits(*address));
            *address != CONFIGURATION
                && binding.is_none_or(|binding| binding.state != State::Active)
        };
        let are_lost = before.latest > self.latest_before.max(ended.max())
            && !before.recent.iter().any(has_ended);
        // Another configuration was in force for a while, by which any reply may have been otherwise.
        let was_reconfigured = before.recent.contains(&CONFIGURATION);
        if are_lost || was_reconfigured {
            let held = self.table.bindings(0..=u32::MAX);
            let held = held.filter(|binding| was_reconfigured || binding.state == State::Active);
            let held: Vec<u32> = held.map(|binding| binding.address.to_bits()).collect();
            for address in held {
                self.table.mark_changed(address, self.now);
            }
        }
        let recent = before.recent.into_iter();
        for address in recent.filter(|address| *address != CONFIGURATION) {
            self.table.mark_changed_or_free(address, self.now);
        }
        self.table.set_latest(self.latest);
    }
}
