//! The clock that Kea reads.

use rustix::time::{ClockId, clock_gettime};

use crate::eventually;

/// Seconds since 1970, as Kea reads them: by a coarse clock, which tells of a new second some
/// milliseconds after it has begun.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
    u64::try_from(now).expect("a clock after 1970")
}

/// Waits until another second has begun, so that what follows is later than what was; that second.
#[track_caller]
pub fn later() -> u64 {
    let before = now();
    eventually("a later second", || now() > before);
    now()
}

/// Waits until what has happened up to now is on disk: half a second, by the contract, and more on
/// busy machines. What comes after is later by the clock, too.
#[track_caller]
pub fn settle() {
    let start = now();
    eventually("two seconds", || now() >= start + 2);
}
