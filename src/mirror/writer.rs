//! Writing the state file behind the mirror's back, off Kea's threads.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Mirror;
use super::store::{Batch, Store};
use crate::time::Time;

/// How long changes are gathered before they are written: an address that changes several
/// times is written once, and a change is on disk within half a second.
const GATHERING: Duration = Duration::from_millis(200);
/// How long a failed write waits before the first new try, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The most addresses in one transaction: bounds its memory.
const BATCH: usize = 10_000;

/// A running writer; writes what is left and stops when dropped.
#[derive(Debug)]
pub struct Writer {
    /// What it is to do.
    orders: Arc<Orders>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

/// What a writer is to do.
#[derive(Debug, Default)]
struct Orders {
    /// The orders.
    state: Mutex<State>,
    /// Told when there is a new one.
    given: Condvar,
}

/// Orders to a writer.
#[derive(Debug, Default)]
struct State {
    /// There may be something to write.
    write: bool,
    /// Write what there is and stop.
    stop: bool,
}

impl Orders {
    /// Gives an order.
    fn give(&self, order: impl FnOnce(&mut State)) {
        order(&mut self.state.lock());
        self.given.notify_one();
    }

    /// Waits until there may be something to write, then gathers for a while; says whether to
    /// stop after writing.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        self.given
            .wait_while(&mut state, |state| !state.write && !state.stop);
        self.given
            .wait_while_for(&mut state, |state| !state.stop, GATHERING);
        state.write = false;
        state.stop
    }

    /// Waits for `time`; says at once if it is to stop.
    fn back_off(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.given
            .wait_while_for(&mut state, |state| !state.stop, time);
        state.stop
    }
}

impl Writer {
    /// Starts to write what changes in `mirror` to `store`, beginning with its ranges.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(mirror: Arc<Mirror>, store: Store) -> io::Result<Writer> {
        let orders = Arc::new(Orders::default());
        orders.give(|state| state.write = true);
        let given = Arc::clone(&orders);
        let thread = thread::Builder::new()
            .name("blq-state".into())
            .spawn(move || run(&mirror, &store, &given))?;
        Ok(Writer {
            orders,
            thread: Some(thread),
        })
    }

    /// A way for the mirror to tell that it may have changed; quick.
    pub fn notifier(&self) -> impl Fn() + Send + use<> {
        let orders = Arc::clone(&self.orders);
        move || orders.give(|state| state.write = true)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders.give(|state| state.stop = true);
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: over either way.
            let _ = thread.join();
        }
    }
}

/// Writes until told to stop.
fn run(mirror: &Mirror, store: &Store, orders: &Orders) {
    let mut ranges = Some(mirror.ranges());
    let mut stop = false;
    while !stop {
        stop = orders.wait();
        let mut retry = RETRY.0;
        while let Err(error) = write_all(mirror, store, &mut ranges, stop) {
            if retry == RETRY.0 || stop {
                tracing::error!(
                    id = "BLQ_STATE_WRITE_FAILED",
                    "the state file cannot be written: {error}; {}",
                    if stop {
                        "changes since the last write are not saved"
                    } else {
                        "trying again"
                    },
                );
            }
            if stop {
                return;
            }
            stop = orders.back_off(retry);
            retry = (retry * 2).min(RETRY.1);
        }
    }
}

/// Writes all there is to write; when `stopping`, also that this was the time up to which all
/// was written.
fn write_all(
    mirror: &Mirror,
    store: &Store,
    ranges: &mut Option<Vec<super::ranges::TimedRange>>,
    stopping: bool,
) -> Result<(), super::store::StoreError> {
    loop {
        let batch = Batch {
            // Before the changes are taken: one that comes after is after this time.
            at: Time::now(),
            bindings: mirror.take_unsaved(BATCH),
            ranges: ranges.take(),
        };
        let is_last = batch.bindings.len() < BATCH;
        if batch.bindings.is_empty() && batch.ranges.is_none() && !stopping {
            return Ok(());
        }
        if let Err(error) = store.write(&batch) {
            mirror.mark_unsaved(batch.bindings.iter().map(|(address, _)| *address));
            *ranges = batch.ranges;
            return Err(error);
        }
        if is_last {
            return Ok(());
        }
    }
}
