//! Turns on Kea's main thread: a timer that Kea's main loop watches.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cxx::Exception;
use parking_lot::Mutex;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::ffi::bridge;
use crate::server::FIRST_HIGH;

/// The shortest time a timer can be set to: 0 would stop it.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// Has the timer's time bring a turn on Kea's main thread (`service::tick`) until it is dropped,
/// which must be there, too.
#[derive(Debug)]
pub struct Ticks {
    /// The timer.
    timer: Arc<OwnedFd>,
}

/// Timer of all ticks, created when Kea first configures the library, and kept until the process ends: later there
/// might be no descriptor for it, or none that Kea can watch.
static TIMER: Mutex<Option<Arc<OwnedFd>>> = Mutex::new(None);

/// Returns the timer, created now if it does not exist.
fn timer() -> Result<Arc<OwnedFd>, String> {
    let mut kept = TIMER.lock();
    if let Some(timer) = &*kept {
        return Ok(Arc::clone(timer));
    }
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
        .map_err(|error| format!("a timer cannot be made: {error}"))?;
    // Kea's main loop is `select()`: watching a higher number would end the process. Only Kea's own descriptors
    // can have used up the lower ones.
    if timer.as_raw_fd() >= FIRST_HIGH {
        return Err(format!(
            "a timer cannot be watched: all descriptors below {FIRST_HIGH} are in use"
        ));
    }
    let timer = Arc::new(timer);
    *kept = Some(Arc::clone(&timer));
    Ok(timer)
}

impl Ticks {
    /// Has the first turn come at once.
    pub fn start() -> Result<Ticks, String> {
        let timer = timer()?;
        bridge::watch(timer.as_raw_fd()).map_err(|error| error.to_string())?;
        let ticks = Ticks { timer };
        ticks.waker().wake_in(AT_ONCE);
        Ok(ticks)
    }

    /// Sets the time of the next turn.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.timer))
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        let unwatched: Result<(), Exception> = bridge::unwatch(self.timer.as_raw_fd());
        if let Err(error) = unwatched {
            tracing::error!(id = "BLQ_CALLOUT_FAILED", "timer: {error}");
        }
    }
}

/// Brings the next turn about, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// The next turn comes after `time`, and no earlier. A turn that is due is not due any more.
    pub fn wake_in(&self, time: Duration) {
        let time = time.max(AT_ONCE);
        let timer = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        // It fails for a time or a descriptor that is none, which these are not.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &timer);
    }

    /// The next turn comes at once.
    pub fn wake(&self) {
        self.wake_in(AT_ONCE);
    }
}
