//! A mirror being filled when Kea starts or is reconfigured.

use std::net::Ipv4Addr;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::page::Pages;
use super::ranges::Configured;
use super::table::Table;
use super::{Mirror, transition};
use crate::binding::Binding;
use crate::event::{Lease, Origin};
use crate::network::Network;
use crate::time::Time;

/// What the state file held, taken over before Kea's leases are loaded.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Bindings as last written.
    pub bindings: Vec<Binding>,
    /// What was configured as last written.
    pub configured: Configured,
    /// When the file was last written; `None` if it is new.
    pub saved_at: Option<Time>,
}

/// The same, as tables hold it: what can be done of loading before Kea's configuration is known.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The bindings.
    bindings: Pages,
    /// Their addresses.
    addresses: RoaringBitmap,
    /// What was configured.
    configured: Configured,
    /// When the file was last written.
    saved_at: Option<Time>,
}

impl Prepared {
    /// Adds a binding.
    pub(super) fn add(&mut self, binding: &Binding) {
        self.addresses.insert(binding.address.to_bits());
        self.bindings.put(binding.view());
    }

    /// Adds the rest.
    pub(super) fn complete(&mut self, configured: Configured, saved_at: Option<Time>) {
        self.configured = configured;
        self.saved_at = saved_at;
    }
}

impl From<Saved> for Prepared {
    fn from(saved: Saved) -> Prepared {
        let mut prepared = Prepared::default();
        for binding in saved.bindings {
            prepared.add(&binding);
        }
        prepared.complete(saved.configured, saved.saved_at);
        prepared
    }
}

/// What the tables hold before Kea's leases are loaded.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// What was saved, no later than this (`None` if nothing ever was): all but renewals.
    Saved(Option<Time>),
    /// Everything, up to when Kea was last heard of.
    Everything,
}

/// A mirror being filled.
#[derive(Debug)]
pub struct Loading {
    /// The tables so far.
    table: Table,
    /// What they held before.
    known: Known,
    /// Addresses that they held then and of which Kea has not shown a lease yet.
    unseen: RoaringBitmap,
    /// When loading began.
    now: Time,
}

impl Loading {
    /// Begins with what was saved.
    pub fn begin(network: Arc<Network>, saved: impl Into<Prepared>, now: Time) -> Loading {
        let Prepared {
            bindings,
            addresses: unseen,
            configured: before,
            saved_at,
        } = saved.into();
        let mut table = Table::new(network, before.ranges.clone(), now);
        table.drop_indexes();
        table.set_saved(bindings);
        let come_back: Vec<u32> = table
            .bindings(0..=u32::MAX)
            .filter(|binding| !before.has(binding.address, binding.subnet))
            .filter(|binding| table.configuration().has(*binding))
            .map(|binding| binding.address.to_bits())
            .collect();
        for address in come_back {
            table.notice(address, now);
        }
        Loading {
            table,
            known: Known::Saved(saved_at),
            unseen,
            now,
        }
    }

    /// Begins with what a mirror held that nobody else has any more, before Kea was reconfigured.
    pub fn resume(mirror: Mirror, network: Arc<Network>, now: Time) -> Loading {
        mirror.catch_up();
        let mut table = mirror.into_table();
        let held = table.bindings(0..=u32::MAX);
        let unseen = held.map(|binding| binding.address.to_bits()).collect();
        table.configure(network, false, now);
        Loading {
            table,
            known: Known::Everything,
            unseen,
            now,
        }
    }

    /// Takes over a lease of Kea's database.
    pub fn lease(&mut self, lease: &Lease) {
        self.unseen.remove(lease.address.to_bits());
        let before = self.table.binding(lease.address);
        match self.known {
            Known::Saved(saved_at) => {
                let after = transition::loaded(before.as_ref(), lease, saved_at, self.now);
                if before.as_ref() == Some(&after) {
                    return;
                }
                let is_saved = before.is_some_and(|before| {
                    (before.state, before.since) == (after.state, after.since)
                        && before.client == after.client
                });
                // Without a file nobody was told of anything before.
                if is_saved || saved_at.is_none() {
                    self.table.put(&after);
                } else {
                    self.table.change(after, self.now);
                }
            }
            Known::Everything => {
                let after =
                    transition::updated(before.as_ref(), lease, self.now, Origin::Elsewhere);
                if let Some(after) = after {
                    self.table.change(after, self.now);
                }
            }
        }
    }

    /// Ends when leases could not be taken over: what was known stays so, for now.
    pub(super) fn incomplete(mut self) -> Table {
        self.table.build_indexes();
        self.table
    }

    /// Ends when not all leases have been taken over and nobody waits for them any more: nothing, if
    /// what is known is in the state file.
    pub(super) fn abandoned(self) -> Option<Table> {
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
    pub(super) fn complete(mut self) -> Table {
        for address in std::mem::take(&mut self.unseen) {
            let address = Ipv4Addr::from_bits(address);
            let Some(before) = self.table.binding(address) else {
                continue;
            };
            let after = match self.known {
                Known::Saved(_) => transition::vanished(&before, self.now),
                Known::Everything => transition::removed(&before, self.now, Origin::Elsewhere),
            };
            self.table.change(after, self.now);
            if !self.table.is_configured(address) {
                self.table.forget(address);
            }
        }
        self.table.build_indexes();
        // What changes from now on need not wait for a large mirror to be written.
        self.table.defer_unsaved();
        self.table
    }
}
