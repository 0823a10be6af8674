//! The thread that keeps the tables up to date while nobody asks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::mirror::readiness::{Failure, Unready};
use crate::mirror::shared::Mirror;

/// How long events may wait that nobody asks for: those who ask apply them themselves.
const PAUSE: Duration = Duration::from_millis(5);

/// A running applier; stops when dropped.
#[derive(Debug)]
pub struct ApplyWorker {
    /// Set when it is to stop.
    stop: Arc<AtomicBool>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl ApplyWorker {
    /// Starts applying events to `mirror` as they come. `changed` is called after each batch, and
    /// `lost` when events were lost; both must be quick.
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
                mirror.queue().wake_this_thread();
                while !stopping.load(Ordering::Acquire) {
                    if mirror.ready() == Err(Unready::InitialLoad) {
                        // Pushes do not wake this thread meanwhile; the end of the load does.
                        thread::park();
                        continue;
                    }
                    let caught_up = catch_unwind(AssertUnwindSafe(|| mirror.catch_up()));
                    if caught_up.is_err() {
                        mirror.fail(Failure::Change);
                    }
                    if mirror.queue().take_lost() && mirror.is_complete() {
                        tracing::error!(
                            id = "BLQ_EVENTS_LOST",
                            "more lease changes came than could be kept; answers may be out \
                             of date until all leases have been compared with Kea's"
                        );
                        lost();
                    }
                    changed();
                    // What comes in the next moment is applied at once, and nobody need be woken
                    // for each event of it.
                    thread::park_timeout(PAUSE);
                    if !stopping.load(Ordering::Acquire) {
                        mirror.queue().sleep();
                    }
                }
            })?;
        Ok(ApplyWorker {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for ApplyWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It panicked or it ended: over either way.
            let _ = thread.join();
        }
    }
}
