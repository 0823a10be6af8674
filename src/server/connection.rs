//! One connection without its socket: octets in, octets out, deadlines.
//!
//! Time is passed in, and nothing blocks, so tests run whole dialogues without a network or a
//! clock.
//!
//! - `streaming`: the rules of a connection with an active query (RFC 7724).

mod streaming;

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytes::buf::Limit;
use proto::StatusCode;
use tracing::span::EnteredSpan;

use crate::query::{Engine, Progress, Requester, Security};
use crate::server::monitor::Activity;
use crate::server::peer_log::{PeerLog, QueryEnd, QueryStatus};
use crate::server::stream::{self, Stream};
use crate::server::tls::negotiation::{Policy, Step, TlsReply};
use crate::server::tls::peer::TlsPeer;
use crate::wire::frame::FrameReader;

/// Octets produced before one write.
///
/// A chunk and one more message fit into the two segments of 64 KiB that the kernel sends at once.
/// The first segment wakes a waiting requester, and the second mostly arrives before the requester
/// waits again: each wake-up costs several microseconds, as much as thirty replies. A larger chunk
/// would need a third segment, and would delay queries that arrive in that time. The output holds
/// at most one chunk, one message (65537 octets) and the DHCPLEASEQUERYDONEs that end queries
/// early. Nothing is added to a partly sent output until all of it is sent.
const CHUNK: usize = 127 * 1024;

/// Initial capacity of the output: a chunk and a message of usual length.
const OUTPUT: usize = CHUNK + 1024;

/// Maximum octets that one query adds in its turn while others are in progress.
const TURN: usize = 8 * 1024;

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// 1 <= queries in progress at once.
    pub queries: usize,
    /// BULK_LQ_DATA_TIMEOUT (RFC 6926 section 6.3).
    pub idle_time: Duration,
    /// ACTIVE_LQ_IDLE_TIMEOUT (RFC 7724 section 5.3).
    pub active_idle_time: Duration,
    /// ACTIVE_LQ_SEND_TIMEOUT (RFC 7724 section 5.3).
    pub active_send_time: Duration,
}

/// Reasons for reading no further queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The requester closed its side.
    PeerClosed,
    /// The requester sent a message that cannot be answered, for this reason.
    Unanswerable(String),
    /// The requester sent a query that was refused in a way that ends the connection.
    Refused,
    /// The requester sent more than one query on a connection that an active one needs for itself.
    NotAlone,
    /// As many active connections as possible are open: the limit.
    NoPlace(String),
    /// An active query ended by itself, for this reason.
    Failed(String),
    /// The requester used the xid of a query in progress.
    XidInUse(u32),
    /// No query arrived for the idle time.
    Idle,
    /// Every query was idle for the idle time.
    QueriesIdle,
    /// The requester read no data for the idle time.
    Blocked,
    /// The requester of an active query read no data for the send time.
    StreamBlocked,
    /// The server stops, for this reason.
    Terminated(String),
    /// The connection continues over TLS.
    StartTls,
    /// The requester sent a query without TLS, which is required.
    NotSecured,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::PeerClosed => f.write_str("the requester closed it"),
            End::Unanswerable(why) => write!(f, "cannot answer: {why}"),
            End::Refused => f.write_str("the requester sent a query that was refused"),
            End::NotAlone => {
                f.write_str("a connection with an active query must carry no other query")
            }
            End::NoPlace(why) | End::Failed(why) => f.write_str(why),
            End::XidInUse(xid) => write!(f, "xid {xid:#010x} was used for two queries at once"),
            End::Idle => f.write_str("no query within 'advanced.max-requester-idle-time'"),
            End::QueriesIdle => {
                f.write_str("the server could not answer within 'advanced.max-requester-idle-time'")
            }
            End::Blocked => {
                f.write_str("the requester read nothing within 'advanced.max-requester-idle-time'")
            }
            End::StreamBlocked => {
                f.write_str("the requester read nothing within 'advanced.active-send-timeout'")
            }
            End::Terminated(why) => f.write_str(why),
            End::StartTls => f.write_str("TLS begins"),
            End::NotSecured => f.write_str("'advanced.tls' is \"required\""),
        }
    }
}

impl End {
    /// Returns the status of the queries that it ends early.
    fn status(&self) -> StatusCode {
        match self {
            End::NotAlone => StatusCode::NOT_ALLOWED,
            _ => StatusCode::QUERY_TERMINATED,
        }
    }
}

/// Enters the log span of a query. Called only for messages about a query: most queries cause none.
fn query_span(xid: u32) -> EnteredSpan {
    tracing::info_span!("query", xid = format_args!("{xid:#010x}")).entered()
}

/// A query in progress.
struct InProgress<A> {
    /// The answer.
    answer: A,
    /// The time at which it was read.
    began: Instant,
    /// Octets written.
    octets: u64,
}

/// The state of one connection.
pub struct Connection<E: Engine> {
    /// The engine that answers the queries.
    engine: Arc<E>,
    /// The peer and its permissions.
    requester: Requester,
    /// Limits of this connection.
    limits: Limits,
    /// The log of refused and malformed queries.
    peer_log: Arc<PeerLog>,
    /// The query being received. It is incomplete, unless the message before it ended the
    /// connection.
    input: FrameReader,
    /// The active queries; the first has the next turn.
    /// queries.len() + idle.len() <= limits.queries
    queries: VecDeque<InProgress<E::Answer>>,
    /// The idle queries: see [`Progress::Idle`].
    idle: Vec<InProgress<E::Answer>>,
    /// The state of the active query, the only one on its connection, from its beginning on.
    stream: Option<Stream>,
    /// Messages to send.
    output: Vec<u8>,
    /// The number of messages in `output`.
    messages: u64,
    /// Octets of `output` already sent: <= output.len(), and both are 0 once all are sent.
    sent: usize,
    /// Octets that the stream took and has not sent.
    unsent: usize,
    /// Start of the time without an active query.
    idle_since: Instant,
    /// Start of the time in which no octet was sent.
    blocked_since: Instant,
    /// The reason for reading no further queries, if there is one.
    end: Option<End>,
    /// Whether the first message may or must start TLS, until it is read.
    negotiation: Option<Policy>,
    /// The progress of the connection, for other threads.
    activity: Arc<Activity>,
}

impl<E: Engine> Connection<E> {
    /// Creates a connection that was accepted at `now`.
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
            idle: Vec::new(),
            stream: None,
            output: Vec::new(),
            messages: 0,
            sent: 0,
            unsent: 0,
            // RFC 6926 section 8.1: the idle time of a new connection counts from its acceptance.
            idle_since: now,
            blocked_since: now,
            end: None,
            negotiation: Some(Policy::Off),
            activity: Arc::default(),
        }
    }

    /// Sets whether the first message may or must start TLS.
    pub fn with_tls(self, policy: Policy) -> Self {
        Connection {
            negotiation: Some(policy),
            ..self
        }
    }

    /// Returns the progress of the connection, for other threads.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Publishes the queries in progress, and whether the connection is blocked.
    pub fn publish(&self) {
        let queries = self.queries.len() + self.idle.len();
        let blocked_since = self.is_sending().then_some(self.blocked_since);
        self.activity.set(queries, blocked_since);
    }

    //--- Input

    /// Whether more may be read. If the maximum number of queries is in progress, further octets
    /// stay in the socket (RFC 6926 section 8.4).
    pub fn wants_input(&self) -> bool {
        self.end.is_none() && self.room() > 0
    }

    /// Returns the number of queries that may be begun.
    fn room(&self) -> usize {
        if self.stream.is_some() {
            // A query that would be refused, or the requester's close.
            return 1;
        }
        let taken = self.queries.len() + self.idle.len();
        self.limits.queries.saturating_sub(taken)
    }

    /// Returns the space for octets to be read, which admits no octet of a query that may not be
    /// begun yet. It is not empty while [`Connection::wants_input`].
    pub fn input_space(&mut self) -> Limit<&mut BytesMut> {
        let messages = match self.negotiation {
            // Octets behind a DHCPTLS are TLS: they stay in the socket.
            Some(Policy::Allowed | Policy::Required) => 1,
            Some(Policy::Off) | None => self.room(),
        };
        self.input.space(messages)
    }

    /// Begins to answer the queries completed by octets that were read into [`Connection::input_space`].
    pub fn received(&mut self, now: Instant) {
        while self.end.is_none() {
            if self.stream.is_some() {
                return self.received_beside_stream(now);
            }
            // A partial query does not extend the idle time: a peer could send single octets
            // without end.
            let Some(message) = self.input.next_message() else {
                return;
            };
            self.idle_since = now;
            let negotiation = self.negotiation.take();
            if negotiation.is_some_and(|policy| self.negotiate(policy, &message, now)) {
                continue;
            }
            match self.engine.open(&message, &self.requester) {
                Ok(answer) => self.begin(answer, now),
                // RFC 7724 section 8.1.1: the connection must be closed.
                Err(why) => {
                    let why = why.to_string();
                    let xid = self.engine.message_xid(&message);
                    let _query = xid.map(query_span);
                    let id = match xid {
                        Some(_) => "BLQ_NOT_A_QUERY",
                        None => "BLQ_NOT_DHCP",
                    };
                    self.peer_log.unanswerable(self.requester.peer, id, &why);
                    self.end_early(End::Unanswerable(why), now);
                }
            }
        }
    }

    /// Handles the first message if it is a DHCPTLS, or if TLS is required (RFC 7724 section 8.1).
    /// Returns whether it is handled.
    fn negotiate(&mut self, policy: Policy, message: &[u8], now: Instant) -> bool {
        let peer = self.requester.peer;
        match policy.judge(message) {
            Step::Plain => return false,
            Step::Refuse(reply) => {
                self.peer_log.tls_refused(peer);
                self.reply_to_tls(&reply, now);
            }
            Step::Start(_) if !self.input.is_empty() => {
                let why = "octets behind a DHCPTLS that do not wait for its reply".to_owned();
                self.end_early(End::Unanswerable(why), now);
            }
            Step::Start(reply) => {
                self.reply_to_tls(&reply, now);
                self.end = Some(End::StartTls);
            }
            Step::NotSecured => {
                self.peer_log.not_secured(peer);
                self.end_early(End::NotSecured, now);
            }
        }
        true
    }

    /// Adds the reply to a DHCPTLS to the output.
    fn reply_to_tls(&mut self, reply: &TlsReply, now: Instant) {
        if !self.is_sending() {
            self.blocked_since = now;
        }
        reply.write(&mut self.output);
        self.messages += 1;
    }

    /// Continues the connection over TLS, after [`End::StartTls`].
    pub fn secured(&mut self, peer: TlsPeer, now: Instant) {
        self.peer_log.tls_started(&peer);
        self.requester.security = Security::Tls {
            is_authenticated: peer.name.is_some(),
        };
        self.activity.set_tls(peer);
        self.end = None;
        self.idle_since = now;
    }

    /// Logs that the TLS handshake failed, and the connection is closed.
    pub fn tls_failed(&self, why: &impl fmt::Display) {
        self.peer_log.tls_failed(self.requester.peer, why);
    }

    /// Adds an answer to those in progress.
    fn begin(&mut self, answer: E::Answer, now: Instant) {
        self.peer_log.query_began();
        let xid = self.engine.xid(&answer);
        let query = InProgress {
            answer,
            began: now,
            octets: 0,
        };
        let is_other = |query: &InProgress<E::Answer>| self.engine.xid(&query.answer) != xid;
        if self.queries.iter().all(is_other) && self.idle.iter().all(is_other) {
            if self.engine.is_stream(&query.answer) {
                return self.begin_stream(query, now);
            }
            if self.engine.ends_connection(&query.answer) {
                self.end = Some(End::Refused);
            }
            self.queries.push_back(query);
            return;
        }
        // RFC 6926 section 7.1: the xid of each query is unique. From now on, replies with this
        // xid could belong to either query.
        self.wake();
        let queries = take(&mut self.queries);
        let is_other = |query: &InProgress<E::Answer>| self.engine.xid(&query.answer) != xid;
        let (others, same): (Vec<_>, Vec<_>) = queries.into_iter().partition(is_other);
        self.queries = others.into();
        let xid_span = query_span(xid);
        self.peer_log.xid_in_use(self.requester.peer);
        drop(xid_span);
        for query in same.iter().chain([&query]) {
            self.log_end(query, QueryStatus::Abandoned, now);
        }
        self.end_early(End::XidInUse(xid), now);
    }

    /// Logs the end of a query.
    fn log_end(&self, query: &InProgress<E::Answer>, status: QueryStatus, now: Instant) {
        let end = QueryEnd {
            status,
            is_stream: self.stream.is_some_and(|stream| stream.is_admitted),
            query: &|| self.engine.describe(&query.answer),
            bindings: self.engine.bindings(&query.answer),
            octets: query.octets,
            took: now.saturating_duration_since(query.began),
        };
        self.peer_log.query_ended(self.requester.peer, &end, || {
            query_span(self.engine.xid(&query.answer))
        });
    }

    /// Records that the requester closed its side. Queries received before are still answered, but not an active one
    /// (RFC 7724 section 8.4).
    pub fn input_closed(&mut self, now: Instant) {
        self.end.get_or_insert(End::PeerClosed);
        if self.stream.is_some() {
            self.abandon(now);
            self.discard_output();
        }
    }

    /// Logs a partial message at the close by the requester or at the end of the idle time: either
    /// it is not a query, or its message-size is wrong. If the server ends the connection, a valid
    /// query may be incomplete.
    pub fn log_partial_message(&self) {
        let is_cut = !self.input.is_empty() && !self.input.has_message();
        if is_cut && matches!(self.end, None | Some(End::PeerClosed | End::Idle)) {
            let why = "it ends before it has the octets of its message-size";
            let peer = self.requester.peer;
            self.peer_log
                .unanswerable(peer, "BLQ_MESSAGE_INCOMPLETE", why);
        }
    }

    //--- Output

    /// Continues the active queries in turns (RFC 6926 section 7.7) until a chunk is complete. The
    /// output may stay empty during a search.
    pub fn produce(&mut self, now: Instant) {
        if self.queries.is_empty() || self.sent > 0 || self.wants_place() {
            return;
        }
        let chunk = match self.stream {
            None => CHUNK,
            Some(_) => stream::CHUNK,
        };
        if self.stream.is_some() {
            self.allocate_for_stream();
        } else if self.output.capacity() < OUTPUT {
            self.output.reserve_exact(OUTPUT);
        }
        let was_sending = self.is_sending();
        // Number of consecutive turns that added nothing.
        let mut silent = 0;
        // All turns have the same length: a shorter last turn would always fall to the same query.
        while self.output.len() + TURN <= chunk && silent < self.queries.len() {
            let Some(mut query) = self.queries.pop_front() else {
                break;
            };
            let before = self.output.len();
            let messages = self.engine.messages(&query.answer);
            let room = if self.queries.is_empty() {
                chunk - before
            } else {
                TURN
            };
            let progress = self.engine.write(&mut query.answer, &mut self.output, room);
            self.messages += self.engine.messages(&query.answer) - messages;
            query.octets += (self.output.len() - before) as u64;
            match progress {
                Progress::More => self.queries.push_back(query),
                Progress::Idle => self.idle.push(query),
                Progress::Done => {
                    let status = self.engine.status(&query.answer);
                    let status = status.map_or(QueryStatus::Success, |(code, why)| {
                        QueryStatus::Failed(code, why)
                    });
                    self.log_end(&query, status.clone(), now);
                    if let (Some(_), QueryStatus::Failed(_, why)) = (self.stream, status) {
                        self.end = Some(End::Failed(why));
                    }
                }
            }
            if self.output.len() > before {
                silent = 0;
            } else if progress == Progress::More {
                silent += 1;
            }
        }
        if !was_sending {
            self.blocked_since = now;
        }
        if !self.queries.is_empty() {
            self.idle_since = now;
        }
    }

    /// Makes the idle queries active.
    pub fn wake(&mut self) {
        self.queries.extend(self.idle.drain(..));
    }

    /// Returns the octets to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Whether any octets are not sent, in the output or in the stream.
    fn is_sending(&self) -> bool {
        !self.output().is_empty() || self.unsent > 0
    }

    /// Sets the number of octets that the stream took and has not sent. Returns whether it is smaller than before.
    pub fn set_unsent(&mut self, unsent: usize, now: Instant) -> bool {
        let has_sent = unsent < self.unsent;
        if has_sent {
            self.note_progress(now);
        } else if !self.is_sending() {
            self.blocked_since = now;
        }
        self.unsent = unsent;
        has_sent
    }

    /// Records that octets were sent.
    fn note_progress(&mut self, now: Instant) {
        self.blocked_since = now;
        // RFC 6926 section 8.5: the timer starts after a DHCPLEASEQUERYDONE, if no query is in progress.
        self.idle_since = now;
        if let Some(stream) = &mut self.stream {
            stream.silent_since = now;
        }
    }

    /// Records that the stream took the first `count` octets of [`Connection::output`].
    pub fn sent(&mut self, count: usize, now: Instant) {
        self.sent += count;
        self.note_progress(now);
        let is_all = self.sent >= self.output.len();
        let messages = if is_all { take(&mut self.messages) } else { 0 };
        self.activity.add_sent(messages, count as u64);
        self.peer_log.sent(messages, count as u64);
        if is_all {
            self.output.clear();
            self.sent = 0;
        }
    }

    /// Whether any query is active.
    pub fn is_answering(&self) -> bool {
        !self.queries.is_empty()
    }

    /// Whether any query is idle.
    pub fn has_idle_queries(&self) -> bool {
        !self.idle.is_empty()
    }

    //--- End

    /// Returns the time at which [`Connection::expire`] is due if the connection does not change
    /// before.
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(stream) = self.stream {
            Some(self.stream_deadline(stream))
        } else if self.is_sending() {
            // RFC 6926 section 8.2: blocked while sending.
            Some(self.blocked_since + self.limits.idle_time)
        } else if self.queries.is_empty() {
            // RFC 6926 sections 8.1 and 8.5: blocked while reading a query, or idle. Idle queries
            // do not count: a requester that has received no reply for that time has given up.
            Some(self.idle_since + self.limits.idle_time)
        } else {
            None
        }
    }

    /// Ends the connection if its deadline has passed.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match (self.is_sending(), self.stream) {
            (false, Some(_)) => self.keep_alive(now),
            (false, None) if self.has_idle_queries() => self.end_early(End::QueriesIdle, now),
            (false, None) => self.end_early(End::Idle, now),
            (true, stream) => {
                self.end = Some(match stream {
                    Some(_) => End::StreamBlocked,
                    None => End::Blocked,
                });
                self.abandon(now);
                self.discard_output();
            }
        }
    }

    /// Discards the output, which the requester cannot receive.
    fn discard_output(&mut self) {
        self.output.clear();
        self.messages = 0;
        self.sent = 0;
        self.unsent = 0;
    }

    /// Ends all queries in progress without a DHCPLEASEQUERYDONE: the requester can receive none.
    pub fn abandon(&mut self, now: Instant) {
        self.wake();
        for query in take(&mut self.queries) {
            self.log_end(&query, QueryStatus::Abandoned, now);
        }
    }

    /// Ends all queries in progress with QueryTerminated, and the connection.
    pub fn terminate(&mut self, reason: &str, now: Instant) {
        self.end_early(End::Terminated(reason.to_owned()), now);
    }

    /// Stops reading, and ends each query in progress with a DHCPLEASEQUERYDONE (RFC 6926
    /// section 8.5) or a DHCPLEASEQUERYSTATUS (RFC 7724 section 8.4).
    fn end_early(&mut self, end: End, now: Instant) {
        self.wake();
        let reason = end.to_string();
        for query in take(&mut self.queries) {
            // A refused query keeps its status.
            let status = self.engine.status(&query.answer);
            let (code, why) = status.unwrap_or((end.status(), reason.clone()));
            self.end_query(query, QueryStatus::Failed(code, why), now);
        }
        self.end = Some(end);
    }

    /// Ends a query early with a status.
    fn end_query(&mut self, mut query: InProgress<E::Answer>, status: QueryStatus, now: Instant) {
        if !self.is_sending() {
            self.blocked_since = now;
        }
        let before = self.output.len();
        let (code, why) = match &status {
            QueryStatus::Failed(code, why) => (*code, &**why),
            QueryStatus::OverLimit(why) => (StatusCode::QUERY_TERMINATED, &**why),
            QueryStatus::Success | QueryStatus::Abandoned => return,
        };
        self.engine
            .end(&mut query.answer, code, why, &mut self.output);
        self.messages += 1;
        query.octets += (self.output.len() - before) as u64;
        self.log_end(&query, status, now);
    }

    /// Whether the connection is to be closed: nothing remains to be read or sent.
    pub fn is_finished(&self) -> bool {
        self.end.is_some() && self.queries.is_empty() && self.idle.is_empty() && !self.is_sending()
    }

    /// Returns the reason for reading no further queries, if there is one.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Returns the time that the connection may be blocked while it has an active query.
    pub fn active_send_time(&self) -> Duration {
        self.limits.active_send_time
    }

    /// Returns the time that the connection may be idle or blocked.
    pub fn idle_time(&self) -> Duration {
        self.limits.idle_time
    }
}

#[cfg(test)]
mod tests;
