//! Live changes: the change log after a position, each address at its last change.

use hashbrown::HashSet;

use crate::mirror::changes::{Change, Kind, Position};
use crate::mirror::follower::part::{Candidate, Place};
use crate::mirror::history::VpnNumber;
use crate::mirror::page::page_of;
use crate::mirror::table::Table;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// The maximum number of changes that are read with the tables locked.
pub const SHORT: usize = 512;

/// The changes after a position, oldest first.
#[derive(Debug)]
pub struct Backlog {
    /// The sequence number of the first change.
    first: u64,
    /// The changes.
    changes: Vec<Change>,
}

/// Some last changes of addresses in a backlog, in their order.
#[derive(Debug)]
pub struct Picked {
    /// The changes.
    changes: Vec<LastChange>,
    /// The place after them.
    end: Position,
    /// The position after the backlog.
    read: Position,
    /// The number of changes read.
    visits: usize,
}

/// The last change of an address in a backlog.
#[derive(Debug)]
struct LastChange {
    /// The address.
    address: u32,
    /// Whether requesters see it.
    is_seen: bool,
    /// The VPN of the query that the binding left by it.
    left: Option<VpnNumber>,
    /// A time that is not later than this change and any after it.
    base: Time,
    /// The position after it.
    after: Position,
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

    /// Whether it is unknown if a change was that of a binding that left the VPN of the query.
    fn may_include(self, change: &Change) -> bool {
        matches!(self, Leavers::Of(_)) && change.left == Some(VpnNumber::UNKNOWN)
    }
}

impl Backlog {
    /// Copies the changes after a position, if they are in the log.
    pub fn copy(table: &Table, position: Position) -> Option<Backlog> {
        let changes = table.changes().copy_after(position).ok()?;
        Some(Backlog {
            first: table.changes().end().next - changes.len() as u64,
            changes,
        })
    }

    /// Returns the number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it is unknown if bindings left the VPN of the query.
    pub fn is_ambiguous(&self, leavers: Leavers) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|change| leavers.may_include(change))
    }

    /// Picks the first last changes of addresses, up to `limit`.
    pub fn pick(&self, leavers: Leavers, bounds: Bounds, limit: usize) -> Picked {
        let mut seen: HashSet<u32> = HashSet::new();
        let mut left_by: HashSet<u32> = HashSet::new();
        // The index of each last change, whether it is the last one seen and the last one that left, and the time not
        // later than any after it. Last ones first.
        let mut last: Vec<(usize, bool, bool, Time)> = Vec::new();
        let mut earliest = bounds.base;
        for (index, change) in self.changes.iter().enumerate().rev() {
            let is_seen = change.kind != Kind::Unseen && seen.insert(change.address);
            let is_left = leavers.left(change).is_some() && left_by.insert(change.address);
            if is_seen || is_left {
                last.push((index, is_seen, is_left, earliest));
            }
            earliest = earliest.min(change.time);
        }
        let read = Position {
            next: self.first + self.changes.len() as u64,
            time: bounds.end,
        };
        let is_all = last.len() <= limit;
        let changes = last.into_iter().rev().take(limit);
        let changes = changes.filter_map(|(index, is_seen, is_left, later)| {
            let change = self.changes.get(index)?;
            Some(LastChange {
                address: change.address,
                is_seen,
                left: leavers.left(change).filter(|_| is_left),
                base: change.time.min(later),
                after: Position {
                    next: self.first + index as u64 + 1,
                    time: later.min(bounds.end),
                },
            })
        });
        let changes: Vec<LastChange> = changes.collect();
        let end = match changes.last() {
            Some(last) if !is_all => last.after,
            _ => read,
        };
        Picked {
            changes,
            end,
            read,
            visits: self.changes.len(),
        }
    }
}

impl Picked {
    /// Takes snapshots of the bindings, and returns the place after them and the cost; `None` if the log has lost changes
    /// since the backlog was read. Changes of addresses that have changed again since are left out.
    ///
    /// Entries have the base-time `base`, or each its own.
    pub fn snapshot(
        mut self,
        table: &Table,
        leavers: Leavers,
        vpn: &VpnSelector,
        base: Option<Time>,
        bounds: Bounds,
    ) -> Option<(Vec<Candidate>, Place, usize)> {
        let later = table.changes().copy_after(self.read).ok()?;
        let mut earliest = bounds.base;
        let mut seen_later: HashSet<u32> = HashSet::new();
        let mut left_later: HashSet<u32> = HashSet::new();
        for change in &later {
            earliest = earliest.min(change.time);
            if change.kind != Kind::Unseen {
                seen_later.insert(change.address);
            }
            if leavers.left(change).is_some() {
                left_later.insert(change.address);
            }
        }
        if !later.is_empty() {
            for change in &mut self.changes {
                change.is_seen &= !seen_later.contains(&change.address);
                if left_later.contains(&change.address) {
                    change.left = None;
                }
            }
        }
        let history = table.changes().history();
        let changes = self.changes.into_iter();
        let changes = changes.filter(|change| change.is_seen || change.left.is_some());
        let candidates = changes.map(|change| Candidate {
            address: change.address,
            page: table.page(page_of(change.address)).cloned(),
            is_changed: change.is_seen,
            left: change
                .left
                .and_then(|left| left_vpn(history.vpn(left), vpn)),
            base: base.unwrap_or(change.base.min(earliest)),
            place: Place::Live(not_later(change.after, earliest)),
        });
        let end = Place::Live(not_later(self.end, earliest));
        Some((candidates.collect(), end, self.visits + later.len()))
    }
}

/// Returns the VPN that a binding left: in a query for one VPN, this one.
fn left_vpn(left: Option<&Vpn>, selector: &VpnSelector) -> Option<Vpn> {
    match selector {
        VpnSelector::One(vpn) => Some(vpn.clone()),
        VpnSelector::All => left.cloned(),
    }
}

/// Returns a position with a time that is not later than `time`.
fn not_later(position: Position, time: Time) -> Position {
    Position {
        time: position.time.min(time),
        ..position
    }
}
