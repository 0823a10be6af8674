//! The comparison of the tables with Kea's lease database: finds what no event told of.
//!
//! Kea's main thread reads the database a part at a time, and packet threads change it meanwhile.
//! So whoever reads pushes [`Event::ResyncBegun`] before and [`Event::ResyncPage`] after: of an address that
//! other events are about in between, what was read may be older than what they told, and is left
//! alone. Kea tells of a change only after it made it, so what was read may also be newer than
//! what has been told. That does no harm where there is a lease, for what is told next says the
//! same and more. A lease that is missing may have been released just now: it counts as gone
//! only if it is missing still when it is looked up once more, a moment later.
//!
//! [`Event::ResyncBegun`]: crate::mirror::event::Event::ResyncBegun
//! [`Event::ResyncPage`]: crate::mirror::event::Event::ResyncPage

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

use crate::mirror::event::{Lease, Origin, ResyncScope};
use crate::mirror::rules;
use crate::mirror::table::Table;
use crate::model::binding::Binding;
use crate::model::time::Time;

/// The most addresses that wait to be looked up once more; others are found at the next pass.
const MISSING_LIMIT: usize = 100_000;

/// The most addresses remembered while somebody reads: more than there are changes in the moment
/// that takes. Beyond it nothing that is read counts.
const TOLD_LIMIT: usize = 65_536;

/// What is known between one part of a comparison and the next.
#[derive(Debug, Default)]
pub struct Resync {
    /// While somebody reads: the addresses that events were about since.
    told_of: Option<HashSet<Ipv4Addr>>,
    /// Addresses whose lease was missing, and when that was found.
    missing: BTreeMap<Ipv4Addr, Time>,
    /// Addresses of which events told what cannot be, since Kea's threads were at them at once.
    doubtful: BTreeSet<Ipv4Addr>,
}

impl Resync {
    /// Somebody is about to read.
    pub fn begin(&mut self) {
        self.told_of = Some(HashSet::new());
    }

    /// An event was about `address`.
    pub fn told_of(&mut self, address: Ipv4Addr) {
        // Mostly there are none, and to look for one takes time.
        if !self.missing.is_empty() {
            self.missing.remove(&address);
        }
        if !self.doubtful.is_empty() {
            self.doubtful.remove(&address);
        }
        if let Some(told_of) = &mut self.told_of {
            told_of.insert(address);
            if told_of.len() > TOLD_LIMIT {
                self.told_of = None;
            }
        }
    }

    /// An event took the lease of `address` from one client and gave it to another, or ended one that
    /// had just been given anew. Kea does neither, but for its threads: what is left in the end is
    /// what the database says.
    pub fn doubt(&mut self, address: Ipv4Addr) {
        if self.doubtful.len() < MISSING_LIMIT {
            self.doubtful.insert(address);
        }
    }

    /// Up to `limit` addresses that must be looked up: doubtful ones, and those that have been
    /// missing since `since` or longer.
    pub fn missing(&self, limit: usize, since: Time) -> Vec<Ipv4Addr> {
        let long = self.missing.iter().filter(|(_, found)| **found <= since);
        let long = long.map(|(address, _)| *address);
        let doubtful = self.doubtful.iter().copied();
        doubtful.chain(long).take(limit).collect()
    }

    /// Takes over at `now` what was read at `at`.
    pub fn seen(
        &mut self,
        table: &mut Table,
        scope: ResyncScope,
        leases: &[Lease],
        at: Time,
        now: Time,
    ) {
        // Without it the beginning was lost, or too much happened.
        let Some(told_of) = self.told_of.take() else {
            return;
        };
        let origin = match scope {
            ResyncScope::Changed(_, origin) => origin,
            ResyncScope::Range(_) | ResyncScope::Again(_) | ResyncScope::Released(_) => {
                Origin::Remote
            }
        };
        let mut present = HashSet::with_capacity(leases.len());
        for lease in leases {
            present.insert(lease.address);
            self.missing.remove(&lease.address);
            // This server made both.
            let origin = match self.doubtful.remove(&lease.address) {
                true => Origin::Local,
                false => origin,
            };
            if told_of.contains(&lease.address) {
                continue;
            }
            table.check_subnet(lease);
            let before = table.binding(lease.address);
            if let Some(after) = rules::updated(before.as_ref(), lease, at, origin) {
                table.change(after, now);
            }
        }
        let is_gone = |address: &Ipv4Addr| !present.contains(address) && !told_of.contains(address);
        match scope {
            ResyncScope::Range(range) => {
                let held = table.bindings(range);
                let held = held.filter(|binding| binding.state.is_leased());
                for binding in held {
                    let address = binding.address;
                    if is_gone(&address) && self.missing.len() < MISSING_LIMIT {
                        self.missing.entry(address).or_insert(at);
                    }
                }
            }
            ResyncScope::Again(addresses) => {
                for address in addresses.iter().filter(|address| is_gone(address)) {
                    if self.doubtful.remove(address) {
                        self.missing.insert(*address, at);
                        continue;
                    }
                    // Unless an event has told of it since the first look.
                    if self.missing.remove(address).is_some() {
                        remove(table, *address, at, origin, now);
                    }
                }
            }
            ResyncScope::Released(address) => {
                let released = |before: Binding| rules::released(&before, at, origin);
                if is_gone(&address)
                    && let Some(after) = table.binding(address).map(released)
                {
                    table.change(after, now);
                }
            }
            ResyncScope::Changed(addresses, _) => {
                for address in addresses.iter().filter(|address| is_gone(address)) {
                    remove(table, *address, at, origin, now);
                }
            }
        }
    }
}

/// The lease of `address` is gone since `at`.
fn remove(table: &mut Table, address: Ipv4Addr, at: Time, origin: Origin, now: Time) {
    if let Some(before) = table.binding(address) {
        let after = rules::removed(&before, at, origin);
        table.change(after, now);
    }
}
