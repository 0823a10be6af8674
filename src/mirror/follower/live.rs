//! Live changes: the change log after a position, each address at its last change.

use std::ops::ControlFlow;

use hashbrown::HashSet;

use crate::mirror::changes::{Change, Kind, Position};
use crate::mirror::follower::part::{Candidate, Place};
use crate::mirror::history::VpnNumber;
use crate::mirror::page::page_of;
use crate::mirror::table::Table;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// The maximum number of changes that are copied, for one part.
pub const SHORT: usize = 512;

/// The maximum number of later changes that are read under one lock.
const READ_AT_ONCE: usize = 4_096;

/// Some last changes of addresses after a position, in their order.
///
/// They are picked from the first changes, which are copied. Then the later ones are read, a piece under each lock: an
/// address that changes again later is not sent yet.
#[derive(Debug)]
pub struct Backlog {
    /// The sequence number of the first change copied.
    first: u64,
    /// The last changes of addresses among those copied.
    changes: Vec<LastChange>,
    /// The addresses of these.
    addresses: HashSet<u32>,
    /// The sequence number after the changes copied.
    copied: u64,
    /// The sequence number after the changes read.
    read: u64,
    /// The earliest time of the changes read after those copied.
    earliest: Time,
    /// Those of the addresses that requesters see change later.
    seen_later: HashSet<u32>,
    /// Those of the addresses that leave a VPN of the query later.
    left_later: HashSet<u32>,
    /// The VPNs that the query may see a binding leave.
    leavers: Leavers,
    /// The bounds of times.
    bounds: Bounds,
}

/// Snapshots of the entries of a part, the place after them, and the cost.
pub type Snapshot = (Vec<Candidate>, Place, usize);

/// The last change of an address among those copied.
#[derive(Debug)]
struct LastChange {
    /// The address.
    address: u32,
    /// Whether requesters see it.
    is_seen: bool,
    /// The VPN of the query that the binding left by it.
    left: Option<VpnNumber>,
    /// The time.
    time: Time,
    /// The sequence number after it.
    next: u64,
    /// The earliest time of the changes copied after it.
    later: Time,
}

/// Upper bounds of times, given by changes that are not in the log yet.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The bound of base-times: no end of a state that is not in the log is earlier.
    pub base: Time,
    /// The bound of positions at the end of the log: no later change is earlier.
    pub end: Time,
}

/// The VPNs that a query may see a binding leave.
#[derive(Clone, Copy, Debug)]
pub enum Leavers {
    /// Any VPN.
    Any,
    /// The one with this number; `None` if it has lost no binding.
    Of(Option<VpnNumber>),
}

impl Leavers {
    /// Returns those of a query.
    pub fn of(table: &Table, selector: &VpnSelector) -> Leavers {
        match selector {
            VpnSelector::All => Leavers::Any,
            VpnSelector::One(vpn) => Leavers::Of(table.changes().history().number(vpn)),
        }
    }

    /// Returns the VPN that a binding left by a change, if the query sees that.
    fn left(self, change: &Change) -> Option<VpnNumber> {
        let left = change.left?;
        match self {
            Leavers::Any => Some(left),
            Leavers::Of(number) => number.filter(|number| *number == left),
        }
    }
}

impl Backlog {
    /// Picks from the first changes after a position, if they are in the log; `None` without changes.
    pub fn pick(
        table: &Table,
        position: Position,
        leavers: Leavers,
        bounds: Bounds,
    ) -> Option<Backlog> {
        let changes = table.changes().changes_after(position).ok()?;
        let copied: Vec<Change> = changes.take(SHORT).copied().collect();
        if copied.is_empty() {
            return None;
        }
        let mut seen: HashSet<u32> = HashSet::new();
        let mut left_by: HashSet<u32> = HashSet::new();
        let mut last = Vec::new();
        let mut later = Time::MAX;
        for (index, change) in copied.iter().enumerate().rev() {
            let is_seen = change.kind != Kind::Unseen && seen.insert(change.address);
            let left = leavers.left(change);
            let left = left.filter(|_| left_by.insert(change.address));
            if is_seen || left.is_some() {
                last.push(LastChange {
                    address: change.address,
                    is_seen,
                    left,
                    time: change.time,
                    next: position.next + index as u64 + 1,
                    later,
                });
            }
            later = later.min(change.time);
        }
        last.reverse();
        let mut addresses = seen;
        addresses.extend(left_by);
        let read = position.next + copied.len() as u64;
        Some(Backlog {
            first: position.next,
            changes: last,
            addresses,
            copied: read,
            read,
            earliest: Time::MAX,
            seen_later: HashSet::new(),
            left_later: HashSet::new(),
            leavers,
            bounds,
        })
    }

    /// Whether later changes must be read first.
    pub fn is_long(&self, table: &Table) -> bool {
        self.read != table.changes().end().next
    }

    /// Reads later changes. If none are left, takes snapshots of up to `limit` bindings that do not change later: `Break`.
    /// They are lost if the log has lost changes since the first ones were copied.
    ///
    /// Entries have the base-time `base`, or each its own.
    pub fn read(
        &mut self,
        table: &Table,
        vpn: &VpnSelector,
        base: Option<Time>,
        limit: usize,
    ) -> ControlFlow<Option<Snapshot>> {
        let log = table.changes();
        let position = |next| Position {
            next,
            time: Time::MIN,
        };
        // Else a number may be that of another VPN.
        if log.has_lagged(position(self.first)) {
            return ControlFlow::Break(None);
        }
        let Ok(later) = log.changes_after(position(self.read)) else {
            return ControlFlow::Break(None);
        };
        for change in later.take(READ_AT_ONCE) {
            self.read += 1;
            self.earliest = self.earliest.min(change.time);
            if self.addresses.contains(&change.address) {
                if change.kind != Kind::Unseen {
                    self.seen_later.insert(change.address);
                }
                if self.leavers.left(change).is_some() {
                    self.left_later.insert(change.address);
                }
            }
        }
        match self.is_long(table) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(Some(self.snapshot(table, vpn, base, limit))),
        }
    }

    /// Takes the snapshots.
    fn snapshot(
        &self,
        table: &Table,
        vpn: &VpnSelector,
        base: Option<Time>,
        limit: usize,
    ) -> Snapshot {
        let (bounds, earliest) = (self.bounds, self.earliest);
        let history = table.changes().history();
        let changes = self.changes.iter();
        let mut changes = changes.filter_map(|change| {
            let address = change.address;
            let is_changed = change.is_seen && !self.seen_later.contains(&address);
            let left = (change.left).filter(|_| !self.left_later.contains(&address));
            if !is_changed && left.is_none() {
                return None;
            }
            let later = change.later.min(earliest);
            Some(Candidate {
                address,
                page: table.page(page_of(address)).cloned(),
                is_changed,
                left: left.and_then(|left| left_vpn(history.vpn(left), vpn)),
                base: base.unwrap_or(change.time.min(later).min(bounds.base)),
                place: Place::Live(Position {
                    next: change.next,
                    time: later.min(bounds.end),
                }),
            })
        });
        let candidates: Vec<Candidate> = changes.by_ref().take(limit).collect();
        let end = match (changes.next(), candidates.last()) {
            (Some(_), Some(last)) => last.place,
            _ => Place::Live(Position {
                next: self.copied,
                time: earliest.min(bounds.end),
            }),
        };
        (candidates, end, (self.read - self.first) as usize)
    }
}

/// Returns the VPN that a binding left: in a query for one VPN, this one.
fn left_vpn(left: Option<&Vpn>, selector: &VpnSelector) -> Option<Vpn> {
    match selector {
        VpnSelector::One(vpn) => Some(vpn.clone()),
        VpnSelector::All => left.cloned(),
    }
}
