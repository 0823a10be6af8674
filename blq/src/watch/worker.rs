//! One query on a connection of its own, in a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::active::{ActiveQuery, ActiveReply, ActiveStream};
use crate::binding::{Binding, Reply};
use crate::client::Connection;
use crate::next_start::NextStart;
use crate::query::Query;
use crate::watch::{Connect, Failure, Stopper};

/// The kind of a query. A watch has at most one query of each kind in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An active query.
    Active,
    /// A bulk query.
    Bulk,
}

/// An input of a watch, from one of its queries or from another thread.
#[derive(Debug)]
pub(super) enum Input {
    /// A reply of the active query, not the last one.
    ActiveReply(ActiveReply),
    /// The end of the active query.
    ActiveEnd(Failure),
    /// A binding of the bulk query.
    BulkBinding(Box<Binding>),
    /// The end of the bulk query: the query-start-time of a later query for changes, or the reason why
    /// the answer is not complete.
    BulkEnd(Result<Option<u32>, Failure>),
    /// The watch ends.
    Stop,
}

/// The parts of a watch that its queries need.
#[derive(Clone)]
pub(super) struct Worker {
    /// Connects.
    pub connect: Arc<Connect>,
    /// Receives the inputs.
    pub inputs: SyncSender<Input>,
    /// The end of the watch.
    pub stopper: Stopper,
}

impl Worker {
    /// Runs an active query in a thread.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn active(self, query: ActiveQuery, timeout: Duration) -> io::Result<JoinHandle<()>> {
        let run = move || {
            let failure = self.run_active(&query, timeout);
            self.stopper.end(Kind::Active);
            self.send(Input::ActiveEnd(failure));
        };
        thread::Builder::new().name("blq-active".into()).spawn(run)
    }

    /// Runs a bulk query in a thread.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn bulk(self, query: Query) -> io::Result<JoinHandle<()>> {
        let run = move || {
            let result = self.run_bulk(&query);
            self.stopper.end(Kind::Bulk);
            self.send(Input::BulkEnd(result));
        };
        thread::Builder::new().name("blq-bulk".into()).spawn(run)
    }

    /// Runs an active query to its end.
    fn run_active(&self, query: &ActiveQuery, timeout: Duration) -> Failure {
        let mut stream = match self
            .open(Kind::Active)
            .and_then(|connection| Ok(ActiveStream::start(connection, query, timeout)?))
        {
            Ok(stream) => stream,
            Err(failure) => return failure,
        };
        loop {
            let reply = match stream.next_reply() {
                Ok(Some(reply)) => reply,
                // Not reached: the stream ends with its last report.
                Ok(None) => return crate::active::Error::Closed { has_reply: true }.into(),
                Err(error) => return error.into(),
            };
            match reply {
                ActiveReply::Status(report) if report.is_last => {
                    return Failure::Ended(Box::new(report));
                }
                reply => {
                    if !self.send(Input::ActiveReply(reply)) {
                        return crate::active::Error::Closed { has_reply: true }.into();
                    }
                }
            }
        }
    }

    /// Runs a bulk query to its end.
    fn run_bulk(&self, query: &Query) -> Result<Option<u32>, Failure> {
        let mut connection = self.open(Kind::Bulk)?;
        let mut next_start = NextStart::default();
        let sent = Instant::now();
        connection.send(query)?;
        while let Some(reply) = connection.next_reply()? {
            match reply {
                Reply::Binding(binding) => {
                    next_start.record_reply(binding.base_time, sent.elapsed());
                    if !self.send(Input::BulkBinding(binding)) {
                        break;
                    }
                }
                Reply::Done(done) => {
                    next_start.record_done(done.base_time, sent.elapsed());
                    if let Some(status) = done.failure() {
                        return Err(Failure::Refused(status.clone()));
                    }
                }
            }
        }
        Ok(next_start.after(query.start, query.end))
    }

    /// Connects.
    fn open(&self, kind: Kind) -> Result<Connection, Failure> {
        let connection = (self.connect)()?;
        // Without a second handle of the socket a stop waits for the next message, no more.
        let socket = connection.socket().try_clone().ok();
        match self.stopper.begin(kind, socket) {
            true => Ok(connection),
            false => Err(crate::active::Error::Closed { has_reply: true }.into()),
        }
    }

    /// Hands an input over. Returns whether the watch still exists.
    fn send(&self, input: Input) -> bool {
        self.inputs.send(input).is_ok()
    }
}
