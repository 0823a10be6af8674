//! The clock that Kea reads.

use rustix::time::{ClockId, clock_gettime};

use crate::eventually;

/// Returns the time in seconds since 1970, as Kea reads it: from a coarse clock, which shows a new
/// second some milliseconds late.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
    u64::try_from(now).expect("a clock after 1970")
}

/// Waits for the next second, so that later changes have a later time. Returns it.
#[track_caller]
pub fn later() -> u64 {
    let before = now();
    eventually("a later second", || now() > before);
    now()
}

/// Waits until all changes so far are flushed: half a second, by the contract, and more on busy
/// machines. Later changes have a later time, too.
#[track_caller]
pub fn settle() {
    let start = now();
    eventually("two seconds", || now() >= start + 2);
}
