//! The ends of states by themselves, in the change log: for active requesters, and only while there are any.

use crate::mirror::changes::SKEW;
use crate::mirror::index::time::Moment;
use crate::mirror::table::Table;
use crate::model::time::Time;

impl Table {
    /// Begins to record the ends of states after `now`.
    pub(in crate::mirror) fn begin_ends(&mut self, now: Time) {
        self.next_end = Some(Moment::first_of(now.plus(1)));
    }

    /// Stops to record the ends of states.
    pub(in crate::mirror) fn stop_ends(&mut self) {
        self.next_end = None;
    }

    /// Returns a time that is not later than the end of any state that is not in the change log, unless the clock is set
    /// back; `None` if ends are not recorded.
    pub(in crate::mirror) fn ends_from(&self) -> Option<Time> {
        self.next_end.map(|next| next.time)
    }

    /// Whether the ends of states up to `now` are in the change log, or are not recorded.
    pub(in crate::mirror) fn has_ends(&self, now: Time) -> bool {
        self.next_end
            .is_none_or(|next| next.time > now && next.time <= now.plus(SKEW + 1))
    }

    /// Records the ends of states up to `now`, at the times of these, if ends are recorded. Visits at most `limit` entries
    /// of the time index; returns whether no more are left.
    ///
    /// Must be done before an update at `now`: after it, a reclaimed lease has no end.
    pub(in crate::mirror) fn record_ends(&mut self, now: Time, limit: usize) -> bool {
        let Some(next) = self.next_end else {
            return true;
        };
        if self.has_ends(now) {
            return true;
        }
        let (Some(indexes), Some(after)) = (&self.indexes, now.0.checked_add(1)) else {
            return true;
        };
        let after = Moment::first_of(Time(after));
        // The clock was set back if this is earlier.
        let mut next = next.min(after);
        for (visits, happening) in indexes.times.chronological(next, now, now).enumerate() {
            if visits == limit {
                self.next_end = Some(next);
                return false;
            }
            let Moment { time, address, .. } = happening.moment;
            next = happening.moment.next();
            let binding = self.bindings.get(address);
            let before = Time(time.0.saturating_sub(1));
            if binding.is_some_and(|binding| binding.at(before) != binding.at(time)) {
                self.changes.record_end(address, time);
            }
        }
        self.next_end = Some(after);
        true
    }
}
