//! The apply worker: the thread that applies events to the tables between queries.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::mirror::readiness::{Failure, Unready};
use crate::mirror::shared::Mirror;
use crate::model::time::Time;

/// The maximum delay of events between queries. A query applies queued events itself, and half a second is
/// allowed before a change is in the state file. Each pause costs as much as a dozen events.
const PAUSE: Duration = Duration::from_millis(50);

/// The maximum delay of events while there are active requesters, who want to know soon.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// The time after the beginning of each second at which the ends of states are looked for, while there are active
/// requesters: the coarse clock enters the second some milliseconds late.
const AFTER_SECOND: Duration = Duration::from_millis(12);

/// The time between two looks at whether the initial load, which applies events itself, has ended.
const LOADING_PAUSE: Duration = Duration::from_millis(20);

/// A running apply worker; stops when dropped.
#[derive(Debug)]
pub struct ApplyWorker {
    /// Set to stop the thread.
    stop: Arc<AtomicBool>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl ApplyWorker {
    /// Starts a thread that applies events to `mirror`. It calls `changed` after each batch, and `lost`
    /// when events were lost; neither may block.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        mirror: Arc<Mirror>,
        changed: impl Fn() + Send + 'static,
        lost: impl Fn() + Send + 'static,
    ) -> io::Result<ApplyWorker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("blq-mirror".into())
            .spawn(move || {
                mirror.queue().register_apply_worker();
                while !stopping.load(Ordering::Acquire) {
                    if mirror.ready() == Err(Unready::InitialLoad) {
                        thread::sleep(LOADING_PAUSE);
                        continue;
                    }
                    let caught_up = catch_unwind(AssertUnwindSafe(|| {
                        mirror.catch_up();
                        while mirror.mark_reassigned(Time::now())
                            && !stopping.load(Ordering::Acquire)
                        {
                            mirror.catch_up();
                        }
                        if mirror.is_followed() {
                            // An error ends the queries of the active requesters.
                            let _ = mirror.record_ends(Time::now());
                        }
                    }));
                    if caught_up.is_err() {
                        mirror.fail(Failure::Change);
                    }
                    if mirror.queue().take_lost() && mirror.is_complete() {
                        tracing::error!(
                            id = "BLQ_EVENTS_LOST",
                            "lease events were lost; answers may be out of date until a resync of \
                             all leases has ended"
                        );
                        lost();
                    }
                    changed();
                    // Events pushed during the pause are applied as one batch. Their pushes do not wake this
                    // thread, which would take longer than the rest of a push, but then it does not park.
                    let is_followed = mirror.is_followed();
                    thread::sleep(if is_followed { SHORT_PAUSE } else { PAUSE });
                    if stopping.load(Ordering::Acquire) {
                        break;
                    }
                    match is_followed {
                        true => thread::park_timeout(until_next_second()),
                        false => thread::park(),
                    }
                }
            })?;
        Ok(ApplyWorker {
            stop,
            thread: Some(thread),
        })
    }
}

/// Returns the time until shortly after the beginning of the next second.
fn until_next_second() -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let passed = since_epoch.map_or(0, |since_epoch| since_epoch.subsec_nanos());
    let passed = Duration::from_nanos(passed.into());
    match AFTER_SECOND.checked_sub(passed) {
        // Kea's clock may still show the second before.
        Some(left) if !left.is_zero() => left,
        _ => Duration::from_secs(1).saturating_sub(passed) + AFTER_SECOND,
    }
}

impl Drop for ApplyWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // An error means a panic, which ends the thread too.
            let _ = thread.join();
        }
    }
}
