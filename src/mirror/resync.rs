//! The resync: a comparison of the tables with Kea's lease database, which finds changes that no event reported.
//!
//! Kea's main thread reads the database page by page while packet threads change it. The reader pushes
//! [`Event::ResyncBegun`] before a page and [`Event::ResyncPage`] after it. If the binding of an address changed
//! in between, the lease in the page may be older than that change, and is ignored. Kea reports a change only
//! after it was made, so a lease in the page may also be newer than the events so far. That does no harm if the
//! lease exists, because the next event reports the same. A lease that is missing may have been released at this
//! moment: it counts as deleted only if a later look-up does not find it either.
//!
//! [`Event::ResyncBegun`]: crate::mirror::event::Event::ResyncBegun
//! [`Event::ResyncPage`]: crate::mirror::event::Event::ResyncPage

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use crate::mirror::changes::Position;
use crate::mirror::event::{Lease, Origin, ResyncScope};
use crate::mirror::rules;
use crate::mirror::table::Table;
use crate::model::time::Time;

/// The maximum number of addresses that wait for another look-up. The next resync finds the others.
const MISSING_LIMIT: usize = 100_000;

/// The state of the resync between two pages.
#[derive(Debug, Default)]
pub struct Resync {
    /// The position in the change log at which the reading of the current page began.
    begun: Option<Position>,
    /// Addresses whose lease was missing, and the time of that read.
    missing: BTreeMap<Ipv4Addr, Time>,
    /// Addresses whose events contradict each other, because several of Kea's threads reported them at once; each
    /// with the sequence number of the first change after the last of these events.
    doubtful: BTreeMap<Ipv4Addr, u64>,
    /// The position in the change log up to which `missing` and `doubtful` take changes into account.
    position: Position,
    /// The number of changes found by comparisons of all leases.
    pub differences: u64,
}

impl Resync {
    /// Begins to read a page.
    pub fn begin(&mut self, table: &Table) {
        self.begun = Some(table.changes().end());
    }

    /// Records contradictory events about `address`: a lease passed to another client before its end, or a lease
    /// ended that had just been renewed. Kea does neither; its threads report changes in another order than they
    /// make them. The lease database shows the result.
    pub fn doubt(&mut self, table: &Table, address: Ipv4Addr) {
        if self.doubtful.len() < MISSING_LIMIT {
            self.doubtful.insert(address, table.changes().end().next);
        }
    }

    /// Returns up to `limit` addresses to look up: doubtful ones, and those missing since `since` or longer.
    pub fn missing(&mut self, table: &Table, limit: usize, since: Time) -> Vec<Ipv4Addr> {
        self.drop_changed(table);
        let long = self.missing.iter().filter(|(_, found)| **found <= since);
        let addresses = self.doubtful.keys().chain(long.map(|(address, _)| address));
        addresses.copied().take(limit).collect()
    }

    /// Drops the addresses that changed since they were found missing or doubtful.
    fn drop_changed(&mut self, table: &Table) {
        let changes = table.changes();
        if !self.missing.is_empty() || !self.doubtful.is_empty() {
            match changes.after(self.position) {
                Ok(changed) => {
                    for (address, position) in changed {
                        let address = Ipv4Addr::from_bits(address);
                        self.missing.remove(&address);
                        let doubted = self.doubtful.get(&address);
                        if doubted.is_some_and(|doubted| *doubted < position.next) {
                            self.doubtful.remove(&address);
                        }
                    }
                }
                // The next resync finds again those that are still missing. Looking a doubtful address up once
                // more does no harm.
                Err(_) => self.missing.clear(),
            }
        }
        self.position = changes.end();
    }

    /// Compares the tables at `now` with a page that was read at `at`.
    pub fn compare(
        &mut self,
        table: &mut Table,
        scope: &ResyncScope,
        leases: &[Lease],
        at: Time,
        now: Time,
    ) {
        self.drop_changed(table);
        // Without a beginning, or after too many changes, the leases may be older than the bindings.
        let Some(begun) = self.begun.take() else {
            return;
        };
        let changed: HashSet<Ipv4Addr> = match table.changes().after(begun) {
            Ok(changed) => changed
                .map(|(address, _)| Ipv4Addr::from_bits(address))
                .collect(),
            Err(_) => return,
        };
        let origin = match scope {
            ResyncScope::Changed(_, origin) => *origin,
            _ => Origin::Remote,
        };
        let before = table.changes().end().next;
        let mut present = HashSet::with_capacity(leases.len());
        for lease in leases {
            let address = lease.address;
            present.insert(address);
            self.missing.remove(&address);
            // This server made both contradictory changes.
            let origin = match self.doubtful.remove(&address) {
                Some(_) => Origin::Local,
                None => origin,
            };
            if !changed.contains(&address) {
                table.check_subnet(lease);
                table.update(address, now, |before| {
                    rules::updated(before, lease, at, origin)
                });
            }
        }
        let is_gone = |address: &Ipv4Addr| !present.contains(address) && !changed.contains(address);
        match scope {
            ResyncScope::Range(range) => {
                let leased = table.bindings(range.clone());
                let leased = leased.filter(|binding| binding.state.is_leased());
                for address in leased.map(|binding| binding.address).filter(is_gone) {
                    if self.missing.len() < MISSING_LIMIT {
                        self.missing.entry(address).or_insert(at);
                    }
                }
            }
            ResyncScope::Again(addresses) => {
                for address in addresses.iter().copied().filter(is_gone) {
                    if self.doubtful.remove(&address).is_some() {
                        self.missing.insert(address, at);
                    } else if self.missing.remove(&address).is_some() {
                        remove(table, address, at, origin, now);
                    }
                }
            }
            ResyncScope::Released(address) => {
                if is_gone(address) {
                    table.update(*address, now, |before| rules::released(before?, at, origin));
                }
            }
            ResyncScope::Changed(addresses, _) => {
                for address in addresses.iter().copied().filter(is_gone) {
                    remove(table, address, at, origin, now);
                }
            }
        }
        // The others follow a command, whose changes are no differences.
        if matches!(scope, ResyncScope::Range(_) | ResyncScope::Again(_)) {
            self.differences += table.changes().end().next - before;
        }
    }
}

/// Removes the lease of `address`, which was found missing at `at`.
fn remove(table: &mut Table, address: Ipv4Addr, at: Time, origin: Origin, now: Time) {
    table.update(address, now, |before| rules::removed(before?, at, origin));
}
