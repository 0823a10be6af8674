//! One connection without its socket: octets in, octets out, and when to give up.
//!
//! Time is passed in, and nothing here waits, so that whole dialogues are tested without a
//! network or a clock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytes::buf::Limit;

use crate::query::{Engine, Progress, Requester};
use crate::server::peer_log::PeerLog;
use crate::wire::frame::FrameReader;

/// Octets produced before they are written, in one system call: with a message besides no more than
/// the system sends in two pieces. It sends the first as soon as it has it, which wakes up a requester
/// that waits, and the second mostly arrives before that one waits again: to wake it up takes several
/// microseconds of ours, as much as to make and send thirty replies. What is over would be a piece of
/// its own. It is small enough that a query that arrives is not kept waiting by what is there already, and
/// that what requesters that do not read make us keep is bounded. The output holds at most this,
/// one message (65537 octets) and the DHCPLEASEQUERYDONEs that end queries early; once some of
/// it has been sent, nothing is added for queries until all has.
const CHUNK: usize = 127 * 1024;

/// Octets the output has room for from the start: a chunk and a message of usual length.
const OUTPUT: usize = CHUNK + 1024;

/// Octets one query may add before it is another one's turn.
const TURN: usize = 8 * 1024;

/// What a connection may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// 1 <= queries in progress at once.
    pub queries: usize,
    /// BULK_LQ_DATA_TIMEOUT (RFC 6926 section 6.3).
    pub idle_time: Duration,
}

/// Why no further queries are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The requester closed its side.
    PeerClosed,
    /// The requester sent something that cannot be answered; why.
    Unanswerable(String),
    /// The requester sent a broken query, which is answered.
    Broken,
    /// The requester used the xid of a query in progress.
    XidInUse(u32),
    /// There was no query for the idle time.
    Idle,
    /// No query could be gone on with for the idle time.
    Waited,
    /// The requester took no data for the idle time.
    Blocked,
    /// The server ends; why.
    Terminated(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::PeerClosed => f.write_str("the requester closed it"),
            End::Unanswerable(why) => write!(f, "cannot answer: {why}"),
            End::Broken => f.write_str("the requester sent a broken query"),
            End::XidInUse(xid) => write!(f, "xid {xid:#010x} was used for two queries at once"),
            End::Idle => f.write_str("no query within 'advanced.max-requester-idle-time'"),
            End::Waited => {
                f.write_str("the server could not answer within 'advanced.max-requester-idle-time'")
            }
            End::Blocked => {
                f.write_str("the requester read nothing within 'advanced.max-requester-idle-time'")
            }
            End::Terminated(why) => f.write_str(why),
        }
    }
}

/// A query in progress.
#[derive(Debug)]
struct InProgress<A> {
    /// Its transaction id.
    xid: u32,
    /// The engine's part.
    answer: A,
}

/// The state of one connection.
pub struct Connection<E: Engine> {
    /// What answers the queries.
    engine: Arc<E>,
    /// Who asks.
    requester: Requester,
    /// What it may use.
    limits: Limits,
    /// Receiver of what the log says of the requester.
    peer_log: Arc<PeerLog>,
    /// The query being received. None is complete in it, unless the one before ended the connection.
    input: FrameReader,
    /// The queries that can be gone on with; the first has the next turn.
    /// queries.len() + waiting.len() <= limits.queries
    queries: VecDeque<InProgress<E::Answer>>,
    /// The queries that wait for the engine.
    waiting: Vec<InProgress<E::Answer>>,
    /// Messages to send.
    output: Vec<u8>,
    /// Octets of `output` already sent; <= output.len(), and both are 0 when all are.
    sent: usize,
    /// Since when there has been no query in progress that can be gone on with, if there is none.
    idle_since: Instant,
    /// Since when no octet of the output could be sent, if there are any.
    blocked_since: Instant,
    /// Why no further queries are read.
    end: Option<End>,
}

impl<E: Engine> Connection<E> {
    /// A connection accepted `now`.
    pub fn new(
        engine: Arc<E>,
        requester: Requester,
        limits: Limits,
        peer_log: Arc<PeerLog>,
        now: Instant,
    ) -> Self {
        Connection {
            engine,
            requester,
            limits,
            peer_log,
            input: FrameReader::new(E::SHORTEST_MESSAGE),
            queries: VecDeque::new(),
            waiting: Vec::new(),
            output: Vec::new(),
            sent: 0,
            // RFC 6926 section 8.1: the time counts for a connection just accepted too.
            idle_since: now,
            blocked_since: now,
            end: None,
        }
    }

    //--- Input

    /// Whether more should be read: not beyond the queries that may be in progress at once
    /// (RFC 6926 section 8.4).
    pub fn wants_input(&self) -> bool {
        self.end.is_none() && self.room() > 0
    }

    /// How many more queries may be in progress.
    fn room(&self) -> usize {
        let taken = self.queries.len() + self.waiting.len();
        self.limits.queries.saturating_sub(taken)
    }

    /// Returns the space for octets read; none of it is for a query that may not be begun now. It has room
    /// while [`Connection::wants_input`].
    pub fn input_space(&mut self) -> Limit<&mut BytesMut> {
        self.input.space(self.room())
    }

    /// Begins to answer the queries completed by octets that were read into [`Connection::input_space`].
    pub fn received(&mut self, now: Instant) {
        while self.end.is_none() {
            // Part of a query does not prolong the time: a peer could go on for ever.
            let Some(message) = self.input.next_message() else {
                return;
            };
            self.idle_since = now;
            match self.engine.open(&message, &self.requester) {
                Ok(answer) => self.begin(answer, now),
                // RFC 7724 section 8.1.1: the connection must be closed.
                Err(why) => {
                    let (why, xid) = (why.to_string(), self.engine.message_xid(&message));
                    self.peer_log.unanswerable(self.requester.peer, xid, &why);
                    self.end_early(End::Unanswerable(why), now);
                }
            }
        }
    }

    /// Adds an answer to those in progress.
    fn begin(&mut self, answer: E::Answer, now: Instant) {
        let xid = self.engine.xid(&answer);
        let peer = self.requester.peer;
        if let Some((status, why)) = self.engine.refusal(&answer) {
            self.peer_log.query_refused(peer, xid, status, why);
        }
        let is_same = |query: &InProgress<E::Answer>| query.xid == xid;
        if self.queries.iter().any(is_same) || self.waiting.iter().any(is_same) {
            // RFC 6926 section 7.7: each query has a xid of its own. Whatever was sent
            // with this one from now on could belong to either query.
            self.queries.retain(|query| query.xid != xid);
            self.waiting.retain(|query| query.xid != xid);
            self.peer_log.xid_in_use(peer, xid);
            self.end_early(End::XidInUse(xid), now);
        } else {
            if self.engine.ends_connection(&answer) {
                self.end = Some(End::Broken);
            }
            self.queries.push_back(InProgress { xid, answer });
        }
    }

    /// Takes note that the requester closed its side. What it asked is still answered.
    pub fn input_closed(&mut self) {
        self.end.get_or_insert(End::PeerClosed);
    }

    /// Reports a message that was received in part when the requester closed its side, or let the time pass: it is no
    /// query, or one framed wrong. An end by the server may cut a good one.
    pub fn report_rest(&self) {
        let is_cut = !self.input.is_empty() && !self.input.has_message();
        if is_cut && matches!(self.end, None | Some(End::PeerClosed | End::Idle)) {
            self.peer_log.unanswerable(
                self.requester.peer,
                None,
                "it ends before it has the octets of its message-size",
            );
        }
    }

    //--- Output

    /// Goes on with the queries that can be, in turns (RFC 6926 section 7.7), until a chunk
    /// is there to be sent. Nothing may come of it, while an answer is searched for.
    pub fn produce(&mut self, now: Instant) {
        if self.queries.is_empty() || self.sent > 0 {
            return;
        }
        if self.output.capacity() < OUTPUT {
            self.output.reserve_exact(OUTPUT);
        }
        let was_empty = self.output.is_empty();
        // Turns in a row that added nothing.
        let mut silent = 0;
        // Each turn is as long as any other: a short last one of a chunk would be the same
        // query's each time.
        while self.output.len() + TURN <= CHUNK && silent < self.queries.len() {
            let Some(mut query) = self.queries.pop_front() else {
                break;
            };
            let before = self.output.len();
            let room = if self.queries.is_empty() {
                CHUNK - before
            } else {
                TURN
            };
            let progress = self.engine.write(&mut query.answer, &mut self.output, room);
            match progress {
                Progress::More => self.queries.push_back(query),
                Progress::Idle => self.waiting.push(query),
                Progress::Done => {}
            }
            if self.output.len() > before {
                silent = 0;
            } else if progress == Progress::More {
                silent += 1;
            }
        }
        if was_empty {
            self.blocked_since = now;
        }
        if !self.queries.is_empty() {
            self.idle_since = now;
        }
    }

    /// Takes note that queries that wait may be gone on with.
    pub fn wake(&mut self) {
        self.queries.extend(self.waiting.drain(..));
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Takes note that the first `count` octets of [`Connection::output`] were sent.
    pub fn sent(&mut self, count: usize, now: Instant) {
        self.sent += count;
        self.blocked_since = now;
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
            // RFC 6926 section 8.5: the timer starts after a DHCPLEASEQUERYDONE, if no query
            // is outstanding.
            self.idle_since = now;
        }
    }

    /// Whether there are queries to go on with.
    pub fn is_answering(&self) -> bool {
        !self.queries.is_empty()
    }

    /// Whether there are queries that wait for the engine.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    //--- End

    /// When [`Connection::expire`] should be called, unless something happens before.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.output().is_empty() {
            // RFC 6926 section 8.2: blocked while sending.
            Some(self.blocked_since + self.limits.idle_time)
        } else if self.queries.is_empty() {
            // RFC 6926 sections 8.1 and 8.5: blocked while reading a query, or idle. Queries that
            // wait count as none: a requester that heard nothing for so long has given up, too.
            Some(self.idle_since + self.limits.idle_time)
        } else {
            None
        }
    }

    /// Ends the connection if its deadline has come.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.output().is_empty() {
            let end = match self.is_waiting() {
                true => End::Waited,
                false => End::Idle,
            };
            self.end_early(end, now);
        } else {
            self.queries.clear();
            self.waiting.clear();
            self.output.clear();
            self.sent = 0;
            self.end = Some(End::Blocked);
        }
    }

    /// Ends all queries in progress with QueryTerminated, and the connection.
    pub fn terminate(&mut self, reason: &str, now: Instant) {
        self.end_early(End::Terminated(reason.to_owned()), now);
    }

    /// Reads no more, and signals to the requester which queries are aborted (RFC 6926
    /// section 8.5).
    fn end_early(&mut self, end: End, now: Instant) {
        if self.output().is_empty() {
            self.blocked_since = now;
        }
        self.wake();
        let reason = end.to_string();
        for query in self.queries.drain(..) {
            self.engine
                .terminate(query.answer, &reason, &mut self.output);
        }
        self.end = Some(end);
    }

    /// Whether everything has been said: the connection should be closed.
    pub fn is_finished(&self) -> bool {
        self.end.is_some()
            && self.queries.is_empty()
            && self.waiting.is_empty()
            && self.output().is_empty()
    }

    /// Why the connection ends, if it does.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What answers the queries.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// How long it may be idle or blocked.
    pub fn idle_time(&self) -> Duration {
        self.limits.idle_time
    }

    /// Who asks.
    pub fn requester(&self) -> &Requester {
        &self.requester
    }
}

#[cfg(test)]
mod tests;
