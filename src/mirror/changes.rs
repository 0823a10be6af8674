//! The change log: the one record of changed bindings, which all consumers read.
//!
//! [`Table::update`](crate::mirror::table::Table::update) records each difference of a binding here. The consumers:
//!
//! - The state file is written from the [`DirtySet`]: changes since the last flush.
//! - The resync ignores addresses that changed while it read Kea's lease database. It reads the log itself.
//!
//! Delta queries read the time index, which the same update has changed.
//!
//! - Active requesters: see [`follower`](crate::mirror::follower).
//!
//! The log is a ring of changes with sequence numbers. A consumer keeps a [`Position`] and reads the changes
//! after it. It never blocks an update: a consumer that falls behind by more than the ring holds has [lagged],
//! and can continue by the time index from the time that [`Lagged`] names.
//!
//! [lagged]: ChangeLog::has_lagged

use crate::mirror::dirty_set::{DirtySet, HIDDEN, LEFT_VPN};
use crate::mirror::history::{self, History, VpnNumber};
use crate::model::time::Time;
use crate::model::vpn::Vpn;

/// The number of changes in the ring. Reading a page of Kea's lease database takes a small part of the time in
/// which Kea makes this many changes.
const CAPACITY: usize = 32_768;

// Each VPN has a number.
const _: () = assert!(history::most(CAPACITY) < u16::MAX as usize);

/// The seconds by which a time may be earlier than one before, because clocks are read on several threads or adjusted a
/// little. A larger difference means that the clock was set back.
pub const SKEW: u32 = 2;

/// The kind of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An update without a difference that requesters see.
    #[default]
    Unseen,
    /// An update with a difference that requesters see.
    Seen,
    /// The end of a state by itself. It updates nothing: only active requesters read it.
    End,
}

/// A change of a binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The address.
    pub address: u32,
    /// The time at which the change was learned of.
    pub time: Time,
    /// The VPN that the binding left, if it moved to another one.
    pub left: Option<VpnNumber>,
    /// The kind.
    pub kind: Kind,
}

/// The position of a consumer: after the changes that it has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The sequence number of the first change after the position.
    pub next: u64,
    /// A time that is not later than any change after the position, unless the clock is set back.
    pub time: Time,
}

/// A consumer has fallen behind: the ring has lost changes after its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// Every change after the position was learned of at this time or later.
    pub since: Time,
}

/// Changes that have earlier times than others before them.
#[derive(Clone, Copy, Debug)]
struct SetBack {
    /// The sequence number of the last change that has an earlier time than the one before.
    number: u64,
    /// The earliest time of these changes.
    earliest: Time,
    /// The time before them. The clock has passed it when changes have it again.
    from: Time,
    /// The sequence number after the set-backs before, which the clock had passed: how early they reached is forgotten.
    forgotten: u64,
}

/// The change log of a table.
#[derive(Debug)]
pub struct ChangeLog {
    /// The latest changes: the one with sequence number `n` is at `n % CAPACITY`.
    ring: Box<[Change]>,
    /// The sequence number of the next change.
    next: u64,
    /// The time of the latest change, or a later one before any further change.
    latest: Time,
    /// The last time that changes had earlier times than others before them.
    set_back: Option<SetBack>,
    /// The position after the changes before the load of the tables.
    loaded_from: Position,
    /// Whether the initial load is in progress: its changes are dirty, but not in the ring, because no consumer
    /// reads the log yet.
    pub is_loading: bool,
    /// The changes that are not in the state file.
    pub dirty: DirtySet,
    /// The times from which on the changes of each VPN are known.
    history: History,
}

impl ChangeLog {
    /// Creates an empty log at `now`.
    pub fn new(now: Time) -> ChangeLog {
        ChangeLog::with_capacity(CAPACITY, now)
    }

    /// Creates an empty log with a ring of `capacity` changes.
    pub fn with_capacity(capacity: usize, now: Time) -> ChangeLog {
        // Above those of any earlier log: a position in an earlier one has lagged here.
        let next = u64::from(now.0) << 32;
        ChangeLog {
            ring: vec![Change::default(); capacity].into(),
            next,
            loaded_from: Position { next, time: now },
            latest: now,
            set_back: None,
            is_loading: false,
            dirty: DirtySet::default(),
            history: History::new(now),
        }
    }

    /// Records an update that was learned at `time`. `is_saved` is whether a start finds the change in Kea's lease
    /// database, so that the state file does not need it. `left` is the VPN of the binding before, if it is now in another
    /// one.
    pub fn record(
        &mut self,
        address: u32,
        time: Time,
        kind: Kind,
        left: Option<&Vpn>,
        is_saved: bool,
    ) {
        if !is_saved {
            self.dirty.add(address, !self.is_loading);
        }
        let left = left.map(|vpn| self.lose(vpn, time));
        if !self.is_loading {
            self.push(Change {
                address,
                time,
                left,
                kind,
            });
        }
    }

    /// Records that the state of a binding ended by itself at `time`.
    pub fn record_end(&mut self, address: u32, time: Time) {
        self.push(Change {
            address,
            time,
            left: None,
            kind: Kind::End,
        });
    }

    /// Records that a VPN lost a binding at `time`.
    fn lose(&mut self, vpn: &Vpn, time: Time) -> VpnNumber {
        self.dirty.add_loss(LEFT_VPN);
        let capacity = self.ring.len();
        self.history.lose(vpn, time, self.next, capacity)
    }

    /// Appends a change to the ring.
    fn push(&mut self, change: Change) {
        let time = change.time;
        if time < self.latest {
            self.go_back(time);
        }
        self.latest = time;
        let index = self.index(self.next);
        if let Some(entry) = self.ring.get_mut(index) {
            *entry = change;
        }
        self.next += 1;
    }

    /// Records that the next change has a time earlier than the one before.
    #[cold]
    fn go_back(&mut self, time: Time) {
        let number = self.next;
        self.set_back = Some(match self.set_back {
            Some(before) if self.latest < before.from => SetBack {
                number,
                earliest: before.earliest.min(time),
                ..before
            },
            before => SetBack {
                number,
                earliest: time,
                from: self.latest,
                forgotten: before.map_or(0, |before| before.number + 1),
            },
        });
        if self.latest.seconds_since(time) > SKEW {
            self.set_clock_back(self.latest);
        }
    }

    /// Notes a time before which no further change is.
    pub fn note_time(&mut self, time: Time) {
        self.latest = self.latest.max(time);
    }

    /// Records that the clock was set back from a time: the changes since may have times as early as those before, so that
    /// a catch-up from that time or earlier is incomplete.
    pub fn set_clock_back(&mut self, from: Time) {
        self.history.begin_anew(from);
        self.dirty.add_history();
    }

    /// Returns the history.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Replaces the history, by that of the state file.
    pub fn set_history(&mut self, history: History) {
        self.history = history;
        self.dirty.add_history();
    }

    /// Records that a binding was lost to no VPN at `time`.
    pub fn hide(&mut self, time: Time) {
        self.history.hide(time);
        self.dirty.add_loss(HIDDEN);
    }

    /// Records that any VPN may have lost bindings at `time`.
    pub fn lose_all(&mut self, time: Time) {
        self.history.lose_all(time);
        self.dirty.add_loss(LEFT_VPN);
    }

    /// Begins a load of tables that already have changes in the log.
    pub fn begin_load(&mut self) {
        self.loaded_from = self.end();
    }

    /// Returns the position after the changes before the load of the tables.
    pub fn loaded_from(&self) -> Position {
        self.loaded_from
    }

    /// Returns the position after all changes.
    pub fn end(&self) -> Position {
        Position {
            next: self.next,
            time: self.latest,
        }
    }

    /// Whether changes after a position have left the ring.
    pub fn has_lagged(&self, position: Position) -> bool {
        position.next + (self.ring.len() as u64) < self.next
    }

    /// Iterates over the addresses of all updates after a position, each with the position after the update.
    ///
    /// # Errors
    /// Changes after the position have left the ring.
    pub fn after(
        &self,
        position: Position,
    ) -> Result<impl Iterator<Item = (u32, Position)>, Lagged> {
        let earliest = self.earliest_after(position);
        if self.has_lagged(position) {
            return Err(Lagged { since: earliest });
        }
        Ok((position.next..self.next).filter_map(move |number| {
            let change = self.ring.get(self.index(number))?;
            if change.kind == Kind::End {
                return None;
            }
            let next = number + 1;
            let time = match next == self.next {
                true => self.latest,
                false => earliest,
            };
            Some((change.address, Position { next, time }))
        }))
    }

    /// Iterates over all changes after a position, oldest first.
    ///
    /// # Errors
    /// Changes after the position have left the ring.
    pub fn changes_after(
        &self,
        position: Position,
    ) -> Result<impl Iterator<Item = &Change>, Lagged> {
        if self.has_lagged(position) {
            return Err(Lagged {
                since: self.earliest_after(position),
            });
        }
        // A position of an earlier log is not after the end of this one.
        let first = position.next.min(self.next);
        let count = (self.next - first) as usize;
        let (before, from) = self.ring.split_at(self.index(first));
        Ok(from.iter().chain(before).take(count))
    }

    /// Returns a time that is not later than any change after a position.
    pub fn earliest_after(&self, position: Position) -> Time {
        let set_back = self.set_back.filter(|last| last.number >= position.next);
        set_back.map_or(position.time, |last| match position.next < last.forgotten {
            true => Time::MIN,
            false => last.earliest.min(position.time),
        })
    }

    /// Returns the index of a sequence number in the ring.
    fn index(&self, number: u64) -> usize {
        // Less than the ring's length.
        (number % self.ring.len().max(1) as u64) as usize
    }
}
