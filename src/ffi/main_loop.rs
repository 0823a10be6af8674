//! Ticks on Kea's main loop: a timer that it watches.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use once_cell::sync::OnceCell;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::ffi::bridge;
use crate::server::FIRST_HIGH;

/// The shortest time that a timer can be set to: 0 would stop it.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// The timer of all ticks, created when Kea first configures the library, and kept until the process ends:
/// later there might be no descriptor for it, or none that Kea can watch. Kea 3.2 would also report a closed
/// one that it still watches at each turn of its main loop.
static TIMER: OnceCell<OwnedFd> = OnceCell::new();

/// Creates the timer.
fn create() -> Result<OwnedFd, String> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
        .map_err(|error| format!("a timer cannot be made: {error}"))?;
    // Kea's main loop is `select()`: to watch a higher number would end the process. Only Kea's own
    // descriptors can have used up the lower ones.
    if timer.as_raw_fd() >= FIRST_HIGH {
        return Err(format!(
            "a timer cannot be watched: all descriptors below {FIRST_HIGH} are in use"
        ));
    }
    Ok(timer)
}

/// Starts ticks.
pub fn start() -> Result<(), String> {
    let timer = TIMER.get_or_try_init(create)?;
    bridge::watch(timer.as_raw_fd()).map_err(|error| error.to_string())
}

/// Stops ticks.
pub fn stop() -> Result<(), String> {
    let Some(timer) = TIMER.get() else {
        return Ok(());
    };
    bridge::unwatch(timer.as_raw_fd()).map_err(|error| error.to_string())
}

/// Sets the time of the next tick. One that is due is not due any more.
pub fn schedule(delay: Duration) {
    let Some(timer) = TIMER.get() else {
        return;
    };
    let delay = delay.max(AT_ONCE);
    let time = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: delay.subsec_nanos().into(),
        },
    };
    // Fails only for an invalid time or descriptor, which these are not.
    let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &time);
}
