//! Absolute times and lease lifetimes, both in whole seconds.

use std::fmt;

use proto::lease_time;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An absolute time: seconds since 1970-01-01T00:00:00Z (RFC 6926 section 2).
///
/// An unsigned 32-bit number, as on the wire: the latest time is in 2106. Arithmetic saturates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u32);

impl Time {
    /// The earliest time.
    pub const MIN: Time = Time(0);
    /// The latest time.
    pub const MAX: Time = Time(u32::MAX);

    /// Returns the current time by the coarse clock, which Kea also reads, through time(2). It enters
    /// each second some milliseconds after the precise clock.
    pub fn now() -> Time {
        Time::from_time_t(clock_gettime(ClockId::RealtimeCoarse).tv_sec)
    }

    /// Converts a signed `time_t`; saturates at 0 and at the maximum of 32 bits.
    pub fn from_time_t(seconds: i64) -> Time {
        Time(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
    }

    /// Returns the seconds from `earlier` to this time; 0 if `earlier` is the later one.
    #[inline]
    pub fn seconds_since(self, earlier: Time) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time `seconds` after this one.
    #[inline]
    pub fn plus(self, seconds: u32) -> Time {
        Time(self.0.saturating_add(seconds))
    }
}

/// Seconds since 1970.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

    /// Whether `time` is in the window.
    #[inline]
    pub fn contains(self, time: Time) -> bool {
        self.start <= time && time <= self.end
    }
}

/// The length of a lease, an offer, or the probation of a declined address, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lifetime(pub u32);

impl Lifetime {
    /// The lifetime of a lease that never ends (RFC 2131 section 3.3).
    pub const INFINITE: Lifetime = Lifetime(lease_time::INFINITE);

    /// Returns the end of a lifetime that began at `start`; `None` if it never ends. An end beyond the
    /// range of [`Time`] is [`Time::MAX`].
    #[inline]
    pub fn end(self, start: Time) -> Option<Time> {
        (self != Lifetime::INFINITE).then(|| start.plus(self.0))
    }

    /// Returns the seconds left at `now` of a lifetime that began at `start`: 0 after its end, the
    /// value of [`Lifetime::INFINITE`] if it never ends. Exact even if the end is beyond
    /// [`Time::MAX`], as that of a lifetime of a hundred years is.
    #[inline]
    pub fn left(self, start: Time, now: Time) -> u32 {
        if self == Lifetime::INFINITE {
            return u32::MAX;
        }
        match now.0.checked_sub(start.0) {
            Some(passed) => self.0.saturating_sub(passed),
            // The clock was set back.
            None => self.0.saturating_add(start.0 - now.0).min(u32::MAX - 1),
        }
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
        // Finite, even if the lease begins in the future.
        assert_eq!(Lifetime(u32::MAX - 1).left(start, Time(5)), u32::MAX - 1);
    }

    #[test]
    fn clamps_times_before_1970_and_after_2106() {
        assert_eq!(Time::from_time_t(-1), Time::MIN);
        assert_eq!(Time::from_time_t(i64::MAX), Time::MAX);
    }
}
