//! Live changes: the change log after a position, each address at its last change.

use std::ops::ControlFlow;

use hashbrown::HashMap;

use crate::mirror::changes::{Change, Kind, Position};
use crate::mirror::follower::part::{Candidate, Place};
use crate::mirror::history::VpnNumber;
use crate::mirror::page::page_of;
use crate::mirror::table::Table;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// A number of changes that are read in a short time.
pub const SHORT: usize = 512;

/// The maximum number of changes that are read under one lock.
pub const READ_AT_ONCE: usize = 2_048;

/// The maximum number of addresses that are kept while changes are read.
const ADDRESSES: usize = 512;

/// The last changes of some addresses after a position.
///
/// All changes after the position are read, a piece under each lock. The addresses are the first ones that change: later
/// changes are those of the next part, but an address that they change again is left to it, too.
#[derive(Debug)]
pub struct Backlog {
    /// The position.
    position: Position,
    /// The last changes, by address.
    last: HashMap<u32, LastChanges>,
    /// The number of changes after the position up to the first one of a further address.
    taken: Option<u32>,
    /// The number of changes read.
    read: u32,
    /// The time of the latest change read.
    latest: Time,
    /// The earliest time of the changes read after `taken`.
    earliest_later: Time,
}

/// The last changes of an address, each with its number after the position, and the earliest time of it and all later
/// changes: its own, unless the clock was set back since.
#[derive(Clone, Copy, Debug, Default)]
struct LastChanges {
    /// The last one that requesters see.
    seen: Option<(u32, Time)>,
    /// The last one by which the binding left a VPN of the query, and that VPN.
    left: Option<(u32, Time, VpnNumber)>,
}

/// A last change of an address.
#[derive(Debug)]
struct LastChange {
    /// The number after the position.
    number: u32,
    /// The earliest time of this change and all later ones.
    time: Time,
    /// The address.
    address: u32,
    /// Whether requesters see it.
    is_seen: bool,
    /// The VPN of the query that the binding left by it.
    left: Option<VpnNumber>,
}

impl LastChange {
    /// Returns those of an address.
    fn of((address, last): (&u32, &LastChanges)) -> impl Iterator<Item = LastChange> + use<> {
        let LastChanges { seen, left } = *last;
        let change = |number, time, is_seen, left| LastChange {
            number,
            time,
            address: *address,
            is_seen,
            left,
        };
        let number = seen.map(|(number, _)| number);
        let (together, alone) = match left {
            Some((left_by, ..)) if number == Some(left_by) => (left, None),
            _ => (None, left),
        };
        let seen = seen.map(|(number, time)| {
            let left = together.map(|(.., vpn)| vpn);
            change(number, time, true, left)
        });
        let alone = alone.map(|(number, time, vpn)| change(number, time, false, Some(vpn)));
        seen.into_iter().chain(alone)
    }
}

/// Snapshots of the entries of a part, the place after them, and the cost.
pub type Snapshot = (Vec<Candidate>, Place, usize);

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
enum Leavers {
    /// Any VPN.
    Any,
    /// The one with this number; `None` if it has lost no binding.
    Of(Option<VpnNumber>),
}

impl Leavers {
    /// Returns those of a query.
    fn of(table: &Table, selector: &VpnSelector) -> Leavers {
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
    /// Begins to read the changes after a position.
    pub fn begin(position: Position) -> Backlog {
        Backlog {
            position,
            last: HashMap::new(),
            taken: None,
            read: 0,
            latest: Time::MIN,
            earliest_later: Time::MAX,
        }
    }

    /// Reads changes. At the end of the log, takes snapshots of up to `limit` bindings in the order of their last changes:
    /// `Break`. They are lost if the log has lost changes after the position.
    ///
    /// Entries have the base-time `base`, or each its own.
    pub fn read(
        &mut self,
        table: &Table,
        vpn: &VpnSelector,
        bounds: Bounds,
        base: Option<Time>,
        limit: usize,
    ) -> ControlFlow<Option<Snapshot>> {
        let log = table.changes();
        // Else the number of a VPN in a change read before may be that of another one.
        if log.has_lagged(self.position) {
            return ControlFlow::Break(None);
        }
        let Ok(changes) = log.changes_after(Position {
            next: self.position.next + u64::from(self.read),
            ..self.position
        }) else {
            return ControlFlow::Break(None);
        };
        // The VPN of the query may have a number only since the last call.
        let leavers = Leavers::of(table, vpn);
        for change in changes.take(READ_AT_ONCE) {
            self.add(change, leavers);
        }
        match self.position.next + u64::from(self.read) < log.end().next {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(Some(self.snapshot(table, vpn, bounds, base, limit))),
        }
    }

    /// Adds the next change.
    fn add(&mut self, change: &Change, leavers: Leavers) {
        let Change { address, time, .. } = *change;
        self.read += 1;
        let number = self.read;
        if time < self.latest {
            self.set_back(time);
        }
        self.latest = time;
        let is_seen = change.kind != Kind::Unseen;
        let left = leavers.left(change);
        if (is_seen || left.is_some())
            && self.taken.is_none()
            && self.last.len() == ADDRESSES
            && !self.last.contains_key(&address)
        {
            self.taken = Some(number - 1);
        }
        if self.taken.is_some() {
            self.earliest_later = self.earliest_later.min(time);
            if let Some(last) = self.last.get_mut(&address) {
                last.seen = last.seen.filter(|_| !is_seen);
                last.left = last.left.filter(|_| left.is_none());
            }
        } else if is_seen || left.is_some() {
            let last = self.last.entry(address).or_default();
            if is_seen {
                last.seen = Some((number, time));
            }
            if let Some(left) = left {
                last.left = Some((number, time, left));
            }
        }
    }

    /// Sets the times of the last changes to a time at the latest: that of a later change.
    #[cold]
    fn set_back(&mut self, latest: Time) {
        for last in self.last.values_mut() {
            if let Some((_, time)) = &mut last.seen {
                *time = latest.min(*time);
            }
            if let Some((_, time, _)) = &mut last.left {
                *time = latest.min(*time);
            }
        }
    }

    /// Takes the snapshots.
    fn snapshot(
        &self,
        table: &Table,
        vpn: &VpnSelector,
        bounds: Bounds,
        base: Option<Time>,
        limit: usize,
    ) -> Snapshot {
        let history = table.changes().history();
        let place = |number: u32, time: Time| {
            Place::Live(Position {
                next: self.position.next + u64::from(number),
                time: time.min(bounds.end),
            })
        };
        let mut last: Vec<LastChange> = self.last.iter().flat_map(LastChange::of).collect();
        last.sort_unstable_by_key(|change| change.number);
        let has_more = last.len() > limit;
        let candidates = last.into_iter().take(limit).map(|change| Candidate {
            address: change.address,
            page: table.page(page_of(change.address)).cloned(),
            is_changed: change.is_seen,
            left: change
                .left
                .and_then(|left| left_vpn(history.vpn(left), vpn)),
            base: base.unwrap_or(change.time.min(bounds.base)),
            place: place(change.number, change.time),
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let end = match (candidates.last(), self.taken) {
            (Some(last), _) if has_more => last.place,
            (_, Some(taken)) => place(taken, self.earliest_later),
            (_, None) => place(self.read, bounds.end),
        };
        (candidates, end, self.read as usize)
    }

    /// Returns the octets of memory of the backlog while it is read.
    #[cfg(test)]
    pub fn octets(&self) -> usize {
        self.last.allocation_size()
    }
}

/// Returns the VPN that a binding left: in a query for one VPN, this one.
fn left_vpn(left: Option<&Vpn>, selector: &VpnSelector) -> Option<Vpn> {
    match selector {
        VpnSelector::One(vpn) => Some(vpn.clone()),
        VpnSelector::All => left.cloned(),
    }
}
