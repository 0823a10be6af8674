//! The iterator: its threads and its clock.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::active::ActiveQuery;
use crate::client::{self, Connection};
use crate::query::{Primary, Query};
use crate::watch::rules::{Rules, Step, Window};
use crate::watch::worker::{Input, Kind, Worker};
use crate::watch::{Event, Failure, Settings, Stopper};
use crate::wire::code;

/// Inputs that wait for the caller at most: a caller that is slower delays the server.
const INPUTS: usize = 1024;

/// Opens a connection to the server, with TLS if wanted. Called for each query, from other threads.
pub type Connect = dyn Fn() -> Result<Connection, client::Error> + Send + Sync;

/// A watch over the bindings of a server: an iterator over [`Event`]s that ends after
/// [`Stopper::stop`], or after an error.
///
/// An error is a failure that repeats, before the server has answered anything: see
/// [`Failure::is_permanent`]. All other failures are events, and the watch goes on.
///
/// Dropping a watch closes its connections.
///
/// ```no_run
/// use blq::watch::{Event, Settings};
/// use blq::{Connection, Timeouts, Watch};
///
/// let connect = || Connection::open(("192.0.2.1", 67), &Timeouts::default());
/// for event in Watch::new(connect, Settings::default()) {
///     match event? {
///         Event::Binding(binding) => println!("{} {:?}", binding.address, binding.state),
///         other => eprintln!("{other:?}"),
///     }
/// }
/// # Ok::<(), blq::watch::Failure>(())
/// ```
pub struct Watch {
    /// The rules.
    rules: Rules,
    /// The settings.
    settings: Settings,
    /// The template of workers.
    worker: Worker,
    /// The inputs of all workers.
    inputs: Receiver<Input>,
    /// The threads of the queries in progress, by [`Kind`].
    threads: [Option<JoinHandle<()>>; 2],
    /// The events that the caller has not seen.
    events: VecDeque<Event>,
    /// Whether no event follows.
    has_ended: bool,
}

impl Watch {
    /// Returns a watch. Its first query begins when the first event is requested.
    pub fn new(
        connect: impl Fn() -> Result<Connection, client::Error> + Send + Sync + 'static,
        mut settings: Settings,
    ) -> Watch {
        if let Some(list) = &mut settings.parameter_request_list {
            if !list.contains(&code::BASE_TIME) {
                list.push(code::BASE_TIME);
            }
        }
        let (sender, inputs) = mpsc::sync_channel(INPUTS);
        Watch {
            rules: Rules::new(&settings),
            settings,
            worker: Worker {
                connect: Arc::new(connect),
                stopper: Stopper::new(SyncSender::clone(&sender)),
                inputs: sender,
            },
            inputs,
            threads: [None, None],
            events: VecDeque::new(),
            has_ended: false,
        }
    }

    /// Returns the handle that ends the watch.
    pub fn stopper(&self) -> Stopper {
        self.worker.stopper.clone()
    }

    /// Returns the [`Settings::start`] of a later watch that misses no change; `None` if it has to begin
    /// with all bindings.
    pub fn start(&self) -> Option<u32> {
        self.rules.start()
    }

    /// Returns the next event if it has arrived; does not wait.
    ///
    /// # Errors
    /// The watch has ended by a failure.
    pub fn next_if_ready(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            // An event that has moved the start is returned, also after a stop.
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.is_over() {
                return Ok(None);
            }
            self.begin_queries()?;
            match self.inputs.try_recv() {
                Ok(input) => self.take(input)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Waits for the next event; `None` if the watch is stopped.
    ///
    /// # Errors
    /// The watch has ended by a failure.
    pub fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.is_over() {
                return Ok(None);
            }
            let until = self.begin_queries()?;
            let received = match until {
                Some(until) => {
                    let wait = until.saturating_duration_since(Instant::now());
                    self.inputs.recv_timeout(wait)
                }
                None => self.inputs.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(input) => self.take(input)?,
                // The watch has a sender itself, so the channel stays connected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Whether no event follows.
    fn is_over(&mut self) -> bool {
        self.has_ended |= self.worker.stopper.is_stopped();
        self.has_ended
    }

    /// Begins all queries whose time has come. Returns the time of the next one.
    fn begin_queries(&mut self) -> Result<Option<Instant>, Failure> {
        loop {
            let (kind, thread) = match self.rules.step(Instant::now()) {
                Step::Wait(until) => return Ok(until),
                Step::Active(start) => {
                    let query = ActiveQuery {
                        vpn: self.settings.vpn.clone(),
                        parameter_request_list: self.settings.parameter_request_list.clone(),
                        ..ActiveQuery::new(Some(start))
                    };
                    let timeout = self.settings.receive_timeout;
                    (Kind::Active, self.worker.clone().active(query, timeout))
                }
                Step::Bulk(window) => {
                    let query = self.bulk_query(window);
                    (Kind::Bulk, self.worker.clone().bulk(query))
                }
            };
            match thread {
                Ok(thread) => self.threads[kind as usize] = Some(thread),
                Err(error) => self.take(no_thread(kind, error))?,
            }
        }
    }

    /// Returns the bulk query for a window.
    fn bulk_query(&self, window: Window) -> Query {
        Query {
            start: window.start,
            end: window.end,
            vpn: self.settings.vpn.clone(),
            parameter_request_list: self.settings.parameter_request_list.clone(),
            ..Query::new(Primary::All)
        }
    }

    /// Takes an input. Those after a stop are dropped: their connections may have ended by the stop.
    fn take(&mut self, input: Input) -> Result<(), Failure> {
        if self.is_over() {
            return Ok(());
        }
        let now = Instant::now();
        let event = match input {
            Input::ActiveReply(reply) => Ok(Some(self.rules.active_reply(reply))),
            Input::ActiveEnd(failure) => self.rules.active_ended(failure, now),
            Input::BulkBinding(binding) => {
                self.rules.bulk_binding(binding, &mut self.events);
                Ok(None)
            }
            Input::BulkEnd(result) => self.rules.bulk_ended(result, now).map(Some),
            Input::Stop => Ok(None),
        };
        self.has_ended |= event.is_err();
        self.events.extend(event?);
        Ok(())
    }
}

impl Iterator for Watch {
    type Item = Result<Event, Failure>;

    fn next(&mut self) -> Option<Result<Event, Failure>> {
        self.next_event().transpose()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let connected =
            [Kind::Active, Kind::Bulk].map(|kind| self.worker.stopper.is_connected(kind));
        self.worker.stopper.stop();
        // A thread that waits for room in the channel goes on.
        self.inputs = mpsc::sync_channel(0).1;
        // Threads that are still connecting end by themselves: that may take long.
        for (thread, is_connected) in self.threads.iter_mut().zip(connected) {
            if let Some(thread) = thread.take().filter(|_| is_connected) {
                // A panic of the thread has been reported by itself.
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("rules", &self.rules)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Returns the end of a query for which the system has no thread.
fn no_thread(kind: Kind, error: io::Error) -> Input {
    let failure = Failure::from(client::Error::Connect(error));
    match kind {
        Kind::Active => Input::ActiveEnd(failure),
        Kind::Bulk => Input::BulkEnd(Err(failure)),
    }
}
