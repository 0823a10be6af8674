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

/// The longest time that a command waits for a census that it has requested. The command may hold up Kea's main
/// thread, so that this is less than the time of a few DHCP exchanges.
const PATIENCE: Duration = Duration::from_millis(5);

/// The duration of a census that is worth waiting for. Of a larger mirror, a command answers with the census
/// before.
const SHORT: Duration = Duration::from_millis(2);

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
    /// Whether the thread waits for a request: it neither counts nor pauses.
    is_idle: bool,
    /// Whether to stop.
    is_stopped: bool,
}

impl Counter {
    /// Requests a census.
    pub fn request(&self) {
        self.state.lock().request();
        self.changed.notify_all();
    }

    /// Requests a census, and returns the last one: a new one if it begins at once and takes a short time; `None`
    /// before the first.
    pub fn census(&self) -> Option<Arc<Census>> {
        let mut state = self.state.lock();
        let is_soon = state.request();
        let wanted = state.requested;
        self.changed.notify_all();
        if is_soon {
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
        state.is_idle = state.requested == state.answered;
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

impl State {
    /// Registers a request. Returns whether its census is worth waiting for.
    ///
    /// At most one request for each census is: a command that is repeated quickly, or while the thread gets no
    /// processor, holds up Kea's main thread only once.
    fn request(&mut self) -> bool {
        self.requested += 1;
        let was_idle = std::mem::take(&mut self.is_idle);
        was_idle && self.took < SHORT
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the state of an idle thread whose last census took `took`.
    fn idle(took: Duration) -> State {
        State {
            took,
            is_idle: true,
            ..State::default()
        }
    }

    #[test]
    fn only_the_first_request_of_a_short_census_is_worth_waiting_for() {
        let mut state = idle(SHORT / 2);
        assert!(state.request());
        // The thread may not have run yet, may count, or may pause.
        assert!(!state.request());
        state.answered = state.requested;
        assert!(!state.request());
    }

    #[test]
    fn a_long_census_is_not_worth_waiting_for() {
        assert!(!idle(SHORT).request());
    }

    #[test]
    fn a_request_is_answered_by_a_census_that_begins_after_it() {
        let counter = Counter::default();
        counter.request();
        assert_eq!(counter.wait(Duration::ZERO), Some(1));
        // Without a thread nothing answers: these return at once, with the census before.
        assert!(counter.census().is_none());
        assert!(counter.census().is_none());
        counter.publish(None, Duration::ZERO, 1);
        assert_eq!(counter.wait(Duration::ZERO), Some(3));
    }
}
