//! The mirror: every binding Kea has, and what Kea does not keep of them.
//!
//! - [`transition`]: the rules by which a change makes one binding of another.
//! - [`table`], [`address_set`]: bindings by address, client, relay and time.
//! - [`ranges`]: configured addresses and since when.
//! - [`walk`]: bindings in the order of their addresses, a part at a time.
//! - [`feed`], [`applier`]: changes on their way from Kea's threads.
//! - [`store`], [`writer`]: what Kea does not keep, on disk.
//!
//! Kea's threads only push events into the feed: a bounded queue without locks. Whoever needs
//! the tables up to date, the applier thread or a query about to begin, takes the lock and
//! applies what has been pushed, so a query sees every change Kea made before it came.

mod address_set;
pub mod applier;
pub mod feed;
pub mod ranges;
pub mod store;
mod table;
mod transition;
mod walk;
pub mod writer;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::binding::{Binding, SubnetId};
use crate::event::{Event, Lease};
use crate::network::Network;
use crate::time::Time;
use feed::Feed;
use ranges::TimedRange;
pub use table::{Identity, Record, Table};
pub use walk::{Entry, Walk};

/// How many events are applied before readers get a turn: a fraction of a millisecond's work.
const EVENTS_PER_TURN: usize = 128;

/// What the state file held, taken over before Kea's leases are loaded.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Bindings as last written.
    pub bindings: Vec<Binding>,
    /// Configured ranges as last written, ascending, without overlap.
    pub ranges: Vec<TimedRange>,
    /// When the file was last written; `None` if it is new.
    pub saved_at: Option<Time>,
}

/// The mirror of Kea's leases.
#[derive(Debug)]
pub struct Mirror {
    /// The tables. Held shortly: a part of a walk, or some events.
    table: RwLock<Table>,
    /// Changes not applied yet.
    feed: Feed,
}

impl Mirror {
    /// The changes' way in.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Applies all events pushed so far.
    pub fn catch_up(&self) {
        while !self.feed.is_empty() {
            let mut table = self.table.write();
            for event in self.feed.drain().take(EVENTS_PER_TURN) {
                apply(&mut table, event);
            }
        }
        // An event taken off the queue is applied once its taker lets go of the lock, for
        // which the caller's next `read` waits.
    }

    /// Reads the tables. `read` must be short: changes wait for it.
    pub fn read<R>(&self, read: impl FnOnce(&Table) -> R) -> R {
        read(&self.table.read())
    }

    /// The configured ranges with their times, as the state file keeps them.
    pub fn ranges(&self) -> Vec<TimedRange> {
        self.table.read().ranges.clone()
    }

    /// Addresses with a binding from one of `subnets`, ascending.
    pub fn addresses_in(&self, subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
        self.catch_up();
        self.table.read().addresses_in(subnets)
    }

    /// Addresses from `subnet` with an active binding to a client, ascending.
    pub fn addresses_of(&self, client: &Identity, subnet: SubnetId) -> Vec<Ipv4Addr> {
        self.catch_up();
        let table = self.table.read();
        let filed = table.filed(client).into_iter().flat_map(|set| set.from(0));
        filed
            .map(Ipv4Addr::from_bits)
            .filter(|address| {
                table
                    .binding(*address)
                    .is_some_and(|binding| binding.subnet == subnet)
            })
            .collect()
    }

    /// The binding of an address, if one is known.
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        self.catch_up();
        self.table.read().binding(address).cloned()
    }

    /// Up to `limit` addresses to be written to the state file, each with its binding, or
    /// without if it is to be removed. They count as written from then on.
    pub fn take_unsaved(&self, limit: usize) -> Vec<(Ipv4Addr, Option<Binding>)> {
        self.catch_up();
        self.table.write().take_unsaved(limit)
    }

    /// Has addresses written again whose writing failed.
    pub fn mark_unsaved(&self, addresses: impl Iterator<Item = Ipv4Addr>) {
        self.table.write().mark_unsaved(addresses);
    }

    /// Has every binding written again: the state file is another one.
    pub fn mark_all_unsaved(&self) {
        self.table.write().mark_all_unsaved();
    }
}

/// A mirror being filled when Kea starts or is reconfigured.
#[derive(Debug)]
pub struct Loading {
    /// The tables so far.
    table: Table,
    /// Addresses the state file knew as held and Kea has not shown a lease for yet.
    unseen: HashSet<Ipv4Addr>,
    /// When the state file was last written.
    saved_at: Option<Time>,
    /// When loading began.
    now: Time,
}

impl Loading {
    /// Begins with what was saved.
    pub fn begin(network: Arc<Network>, saved: Saved, now: Time) -> Loading {
        let ranges = ranges::timed(network.ranges(), &saved.ranges, now);
        let mut table = Table::new(network, ranges);
        let mut unseen = HashSet::new();
        for binding in saved.bindings {
            unseen.insert(binding.address);
            table.put_saved(binding);
        }
        Loading {
            table,
            unseen,
            saved_at: saved.saved_at,
            now,
        }
    }

    /// Takes over a lease of Kea's database.
    pub fn lease(&mut self, lease: &Lease) {
        self.unseen.remove(&lease.address);
        let binding = transition::loaded(
            self.table.binding(lease.address),
            lease,
            self.saved_at,
            self.now,
        );
        self.table.put(binding);
    }

    /// Ends when all leases have been taken over: what was saved as held and is not any more
    /// has vanished, and what has neither a lease nor a place in the configuration is forgotten.
    pub fn finish(mut self) -> Mirror {
        for address in std::mem::take(&mut self.unseen) {
            let Some(saved) = self.table.binding(address) else {
                continue;
            };
            let binding = transition::vanished(saved, self.now);
            self.table.put(binding);
            if !self.table.is_configured_address(address) {
                self.table.forget(address);
            }
        }
        Mirror {
            table: RwLock::new(self.table),
            feed: Feed::default(),
        }
    }
}

/// Applies one event.
fn apply(table: &mut Table, event: Event) {
    let after = match &event {
        Event::Committed { lease, heard } => Some(transition::committed(
            table.binding(lease.address),
            lease,
            heard,
        )),
        Event::Confirmed {
            address,
            hardware,
            client_id,
            at,
            heard,
        } => table
            .binding(*address)
            .map(|before| transition::confirmed(before, hardware, client_id, *at, heard)),
        Event::Offered { lease, heard } => Some(transition::offered(
            table.binding(lease.address),
            lease,
            heard,
        )),
        Event::Updated { lease, at } => Some(transition::updated(
            table.binding(lease.address),
            lease,
            *at,
        )),
        Event::Released { address, at } => table
            .binding(*address)
            .map(|before| transition::released(before, *at)),
        Event::Reclaimed { address, at } => table
            .binding(*address)
            .map(|before| transition::reclaimed(before, *at)),
        Event::Removed { address, at } => table
            .binding(*address)
            .map(|before| transition::removed(before, *at)),
    };
    if let Some(after) = after {
        table.put(after);
    }
}
