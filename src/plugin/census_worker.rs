//! The census worker: a thread that counts the bindings for `blq4-status`, on request.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::mirror::{Census, Mirror};
use crate::model::time::Time;

/// The longest time that a command waits for a census that it has requested. Of a larger mirror, the command
/// answers with the census before.
const PATIENCE: Duration = Duration::from_millis(20);

/// The ratio of the pause after a census to its duration: a frequent command takes a twentieth of a processor.
const PAUSES: u32 = 20;

/// Nice value of the thread: that of the threads that serve requesters.
const NICENESS: i32 = 10;

/// The census worker. Dropping it stops and joins the thread.
#[derive(Debug)]
pub struct CensusWorker {
    /// The requests and results.
    counter: Arc<Counter>,
    /// The thread; `None` once joined.
    thread: Option<JoinHandle<()>>,
}

/// The last census, and requests for the next one.
#[derive(Debug, Default)]
pub struct Counter {
    /// The state.
    state: Mutex<State>,
    /// Notifies of a request, a census, and the end.
    changed: Condvar,
}

/// The state of the worker.
#[derive(Debug, Default)]
struct State {
    /// The last census.
    last: Option<Arc<Census>>,
    /// How long the last census took.
    took: Duration,
    /// The number of requests.
    requested: u64,
    /// The number of requests before the last census began.
    answered: u64,
    /// Whether to stop.
    is_stopped: bool,
}

impl Counter {
    /// Requests a census.
    pub fn request(&self) {
        self.state.lock().requested += 1;
        self.changed.notify_all();
    }

    /// Requests a census, and returns the last one: a new one if it takes a short time; `None` before the first.
    pub fn census(&self) -> Option<Arc<Census>> {
        let mut state = self.state.lock();
        state.requested += 1;
        let wanted = state.requested;
        self.changed.notify_all();
        if state.took < PATIENCE {
            self.changed.wait_while_for(
                &mut state,
                |state| state.answered < wanted && !state.is_stopped,
                PATIENCE,
            );
        }
        state.last.clone()
    }

    /// Waits for a request, and at least for `pause`. Returns the number of requests, or `None` at the end.
    fn wait(&self, pause: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        self.changed
            .wait_while_for(&mut state, |state| !state.is_stopped, pause);
        self.changed.wait_while(&mut state, |state| {
            state.requested == state.answered && !state.is_stopped
        });
        (!state.is_stopped).then_some(state.requested)
    }

    /// Whether to stop.
    fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Publishes a census, if it was made, that took `took` and answers the requests up to `answered`.
    fn publish(&self, census: Option<Census>, took: Duration, answered: u64) {
        let mut state = self.state.lock();
        if let Some(census) = census {
            state.last = Some(Arc::new(census));
            state.took = took;
        }
        state.answered = answered;
        self.changed.notify_all();
    }
}

impl CensusWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mirror: Arc<Mirror>) -> io::Result<CensusWorker> {
        let counter = Arc::<Counter>::default();
        let of_thread = Arc::clone(&counter);
        let name = "blq-census".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Without permission to change it, the thread keeps its priority.
            let _ = setpriority_process(Some(gettid()), NICENESS);
            let mut pause = Duration::ZERO;
            while let Some(answered) = of_thread.wait(pause) {
                let began = Instant::now();
                let census = mirror.census(Time::now, || of_thread.is_stopped());
                let took = began.elapsed();
                pause = took * PAUSES;
                of_thread.publish(census.ok().flatten(), took, answered);
            }
        })?;
        Ok(CensusWorker {
            counter,
            thread: Some(thread),
        })
    }

    /// Returns the last census and requests.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }
}

impl Drop for CensusWorker {
    fn drop(&mut self) {
        self.counter.state.lock().is_stopped = true;
        self.counter.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic has been logged.
            let _ = thread.join();
        }
    }
}
