//! The change log: the one record of changed bindings, which all consumers read.
//!
//! [`Table::update`](crate::mirror::table::Table::update) records each difference of a binding here. The consumers:
//!
//! - The state file is written from the [`DirtySet`]: changes since the last flush.
//! - The resync ignores addresses that changed while it read Kea's lease database. It reads the log itself.
//!
//! Delta queries read the time index, which the same update has changed.
//!
//! The log is a ring of addresses with sequence numbers. A consumer keeps a [`Position`] and reads the changes
//! after it. It never blocks an update: a consumer that falls behind by more than the ring holds has [lagged],
//! and can continue by the time index from the time that [`Lagged`] names.
//!
//! [lagged]: ChangeLog::has_lagged

use crate::mirror::dirty_set::DirtySet;
use crate::model::time::Time;

/// The number of changes in the ring. Reading a page of Kea's lease database takes a small part of the time in
/// which Kea makes this many changes.
const CAPACITY: usize = 32_768;

/// The position of a consumer: after the changes that it has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The sequence number of the first change after the position.
    pub next: u64,
    /// A time that is not later than any change after the position, unless the clock is set back.
    time: Time,
}

/// A consumer has fallen behind: the ring has lost changes after its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// Every change after the position was learned of at this time or later.
    pub since: Time,
}

/// The change log of a table.
#[derive(Debug)]
pub struct ChangeLog {
    /// The addresses of the latest changes: the change with sequence number `n` is at `n % CAPACITY`.
    ring: Box<[u32]>,
    /// The sequence number of the next change.
    next: u64,
    /// The time of the latest change.
    latest: Time,
    /// The sequence number of the first change after the clock was last set back, and the earliest time of a change
    /// after any set-back.
    set_back: Option<(u64, Time)>,
    /// Whether the initial load is in progress: its changes are dirty, but not in the ring, because no consumer
    /// reads the log yet.
    pub is_loading: bool,
    /// The changes that are not in the state file.
    pub dirty: DirtySet,
}

impl ChangeLog {
    /// Creates an empty log at `now`.
    pub fn new(now: Time) -> ChangeLog {
        ChangeLog::with_capacity(CAPACITY, now)
    }

    /// Creates an empty log with a ring of `capacity` changes.
    pub fn with_capacity(capacity: usize, now: Time) -> ChangeLog {
        ChangeLog {
            ring: vec![0; capacity].into(),
            // Above those of any earlier log: a position in an earlier one has lagged here.
            next: u64::from(now.0) << 32,
            latest: now,
            set_back: None,
            is_loading: false,
            dirty: DirtySet::default(),
        }
    }

    /// Records a change that was learned at `time`. `is_saved` is whether a start finds the change in Kea's lease
    /// database, so that the state file does not need it.
    pub fn record(&mut self, address: u32, time: Time, is_saved: bool) {
        if !is_saved {
            self.dirty.add(address, !self.is_loading);
        }
        if self.is_loading {
            return;
        }
        if time < self.latest {
            let earliest = self
                .set_back
                .map_or(time, |(_, earliest)| earliest.min(time));
            self.set_back = Some((self.next, earliest));
        }
        self.latest = time;
        let index = self.index(self.next);
        if let Some(entry) = self.ring.get_mut(index) {
            *entry = address;
        }
        self.next += 1;
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

    /// Iterates over the addresses of all changes after a position, each with the position after the change.
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
            let address = *self.ring.get(self.index(number))?;
            let next = number + 1;
            let time = match next == self.next {
                true => self.latest,
                false => earliest,
            };
            Some((address, Position { next, time }))
        }))
    }

    /// Returns a time that is not later than any change after a position.
    fn earliest_after(&self, position: Position) -> Time {
        let set_back = self.set_back.filter(|(number, _)| *number >= position.next);
        set_back.map_or(position.time, |(_, earliest)| earliest.min(position.time))
    }

    /// Returns the index of a sequence number in the ring.
    fn index(&self, number: u64) -> usize {
        // Less than the ring's length.
        (number % self.ring.len().max(1) as u64) as usize
    }
}
