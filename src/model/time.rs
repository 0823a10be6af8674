//! Absolute times and lease lifetimes, both in whole seconds.

use proto::lease_time;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An absolute time: seconds since 1970-01-01T00:00:00Z as RFC 6926 section 2 defines it.
///
/// Unsigned 32 bits, as on the wire: good until 2106. Arithmetic saturates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u32);

impl Time {
    /// The earliest time there is.
    pub const MIN: Time = Time(0);
    /// The latest time there is.
    pub const MAX: Time = Time(u32::MAX);

    /// The current time of this server, by the clock that time(2) reads, and so Kea: it enters a
    /// second some milliseconds later than others do.
    pub fn now() -> Time {
        Time::from_time_t(clock_gettime(ClockId::RealtimeCoarse).tv_sec)
    }

    /// A time from a signed `time_t`, held within what 32 bits can say.
    pub fn from_time_t(seconds: i64) -> Time {
        Time(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    /// Seconds from `earlier` to this time; 0 if `earlier` is the later one.
    pub fn seconds_since(self, earlier: Time) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time `seconds` after this one.
    pub fn plus(self, seconds: u32) -> Time {
        Time(self.0.saturating_add(seconds))
    }
}

/// The times from a start to an end, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first time.
    pub start: Time,
    /// The last time.
    pub end: Time,
}

impl Window {
    /// All times.
    pub const ANY: Window = Window {
        start: Time::MIN,
        end: Time::MAX,
    };

    /// Whether `time` is one of these times.
    #[inline]
    pub fn contains(self, time: Time) -> bool {
        self.start <= time && time <= self.end
    }
}

/// How long a lease, or the probation of a declined address, lasts from its last transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lifetime(pub u32);

impl Lifetime {
    /// A lease without end (RFC 2131 section 3.3).
    pub const INFINITE: Lifetime = Lifetime(lease_time::INFINITE);

    /// When a lifetime that began at `start` ends; `None` if it never does. An end that a [`Time`]
    /// cannot express is [`Time::MAX`].
    pub fn end(self, start: Time) -> Option<Time> {
        (self != Lifetime::INFINITE).then(|| start.plus(self.0))
    }

    /// Seconds left at `now` of a lifetime that began at `start`: 0 when it is over,
    /// [`Lifetime::INFINITE`]'s value when it never ends. Exact also where the end lies beyond
    /// [`Time::MAX`], as with lifetimes of a hundred years.
    pub fn left(self, start: Time, now: Time) -> u32 {
        if self == Lifetime::INFINITE {
            return u32::MAX;
        }
        let end = u64::from(start.0) + u64::from(self.0);
        let left = end.saturating_sub(now.0.into());
        // More than a finite lifetime is left only if the clock went back.
        u32::try_from(left).map_or(u32::MAX - 1, |left| left.min(u32::MAX - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_infinite_lifetime_never_ends() {
        assert_eq!(Lifetime::INFINITE.end(Time(5)), None);
        assert_eq!(Lifetime::INFINITE.left(Time(5), Time::MAX), u32::MAX);
    }

    #[test]
    fn a_lifetime_that_ends_beyond_2106_has_all_of_its_seconds_left() {
        let start = Time(1_800_000_000);
        for lifetime in [3_000_000_000, 4_294_967_294] {
            let left = |now| Lifetime(lifetime).left(start, now);
            assert_eq!(left(start), lifetime);
            assert_eq!(left(start.plus(10)), lifetime - 10);
            assert_eq!(Lifetime(lifetime).end(start), Some(Time::MAX));
        }
        // Not without end, even if the lease seems to begin later than now.
        assert_eq!(Lifetime(u32::MAX - 1).left(start, Time(5)), u32::MAX - 1);
    }

    #[test]
    fn times_before_1970_and_after_2106_are_held_at_the_edges() {
        assert_eq!(Time::from_time_t(-1), Time::MIN);
        assert_eq!(Time::from_time_t(i64::MAX), Time::MAX);
    }
}
