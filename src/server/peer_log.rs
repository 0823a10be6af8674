//! Log messages that peers can provoke, rate-limited, and counters of their causes.
//!
//! Messages about queries are logged in the spans of their connection, which has the peer, and of
//! their query, which has the xid. The rate is limited for each peer separately: a noisy peer
//! neither fills the log nor hides messages about others.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::{MessageType, StatusCode};
use tracing::Level;

use crate::query::udp::request::Request;
use crate::query::udp::{DropKind, Reply, Unanswered};
use crate::server::slots::Full;
use crate::server::throttle::{Omitted, Summary, Throttle};
use crate::server::tls::peer::TlsPeer;

/// The log messages that peers can provoke, each kind rate-limited.
#[derive(Debug, Default)]
pub struct PeerLog {
    /// Counters of the causes.
    counts: Arc<Counts>,
    /// Rate limits.
    throttle: Throttle,
}

/// Counters of connections, queries and messages. They go on from one server to the next.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of permitted requesters for which there was a slot.
    pub connections_accepted: AtomicU64,
    /// Messages handed to the network, whole ones.
    pub messages_sent: AtomicU64,
    /// Octets handed to the network.
    pub octets_sent: AtomicU64,
    /// Queries read, whatever their answers.
    pub queries: AtomicU64,
    /// Queries that ended with QueryTerminated.
    pub queries_terminated: AtomicU64,
    /// Connections of peers that are not among the requesters.
    pub connections_refused: AtomicU64,
    /// Connections above a limit.
    pub connections_over_limit: AtomicU64,
    /// Queries answered with NotAllowed.
    pub queries_not_allowed: AtomicU64,
    /// Queries answered with MalformedQuery.
    pub queries_malformed: AtomicU64,
    /// Messages and partial messages that are not a query; each ended its connection.
    pub unanswerable: AtomicU64,
    /// Queries with the xid of a query in progress; each ended its connection.
    pub xids_in_use: AtomicU64,
    /// TLS handshakes completed.
    pub tls_started: AtomicU64,
    /// TLS handshakes that failed; each ended its connection.
    pub tls_failed: AtomicU64,
    /// Queries over UDP.
    pub udp: UdpCounts,
}

/// Counters of queries over UDP.
#[derive(Debug, Default)]
pub struct UdpCounts {
    /// DHCPLEASEQUERYs received, answered or not.
    pub received: AtomicU64,
    /// DHCPLEASEACTIVEs sent.
    pub active: AtomicU64,
    /// DHCPLEASEUNASSIGNEDs sent.
    pub unassigned: AtomicU64,
    /// DHCPLEASEUNKNOWNs sent.
    pub unknown: AtomicU64,
    /// Queries without a reply, by the kind of the reason, in the order of [`DropKind::ALL`].
    pub dropped: [AtomicU64; DropKind::ALL.len()],
    /// Senders that were logged because they are not permitted; len() <= MOST_WARNED
    warned: Mutex<HashSet<Ipv4Addr>>,
}

/// The most senders that are logged because they are not permitted.
const MOST_WARNED: usize = 256;

/// The end of a query over UDP, for the log.
#[derive(Clone, Copy, Debug)]
pub struct UdpEnd<'a> {
    /// giaddr.
    pub giaddr: Ipv4Addr,
    /// The address from which the query was sent.
    pub source: Ipv4Addr,
    /// The query; `None` if it was not read.
    pub request: Option<&'a Request>,
    /// The time that the answer took.
    pub took: Duration,
}

impl Display for UdpEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(request) = self.request {
            write!(f, "{request}, xid {:#010x}, ", request.xid)?;
        }
        write!(f, "giaddr {}, from {}", self.giaddr, self.source)
    }
}

/// Counts one more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl PeerLog {
    /// Creates a log that counts in `counts`.
    pub fn new(counts: Arc<Counts>) -> PeerLog {
        PeerLog {
            counts,
            throttle: Throttle::default(),
        }
    }

    /// Returns the counters.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Returns a note about omitted messages, often empty, if message `id` about `peer` may be logged now.
    fn admit(&self, id: &'static str, peer: impl Into<Option<Ipv4Addr>>) -> Option<String> {
        self.throttle.admit(id, peer.into(), Instant::now())
    }

    /// Logs a connection from an address that is not permitted.
    pub fn refused(&self, peer: Ipv4Addr) {
        count(&self.counts.connections_refused);
        let id = "BLQ_REQUESTER_REFUSED";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(id, "{peer} is not in 'requesters': connection closed{more}");
        }
    }

    /// Logs a connection for which there is no slot.
    pub fn full(&self, peer: Ipv4Addr, full: Full) {
        count(&self.counts.connections_over_limit);
        let id = match full {
            Full::Server(_) => "BLQ_TOO_MANY_CONNECTIONS",
            Full::Requester(_) => "BLQ_REQUESTER_LIMIT",
            Full::Address(_) => "BLQ_ADDRESS_LIMIT",
            Full::Descriptors(_) => "BLQ_DESCRIPTOR_LIMIT",
            // Logged with the query that needs the place.
            Full::Active(_) | Full::ActiveDescriptors(_) => "BLQ_ACTIVE_LIMIT",
        };
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(id, "connection from {peer} closed: {full}{more}");
        }
    }

    /// Logs that no connection could be accepted.
    pub fn accept_failed(&self, error: &io::Error) {
        let id = "BLQ_ACCEPT_FAILED";
        if let Some(more) = self.admit(id, None) {
            tracing::warn!(
                id,
                "connections cannot be accepted at the moment: {error}{more}"
            );
        }
    }

    /// Logs that connections are not accepted until a descriptor is free for them.
    pub fn paused(&self, why: impl Display) {
        let id = "BLQ_ACCEPT_PAUSED";
        if let Some(more) = self.admit(id, None) {
            tracing::warn!(
                id,
                "no more connections are accepted until others are closed: {why}{more}"
            );
        }
    }

    /// Counts a TLS handshake, and logs it at level DEBUG.
    pub fn tls_started(&self, peer: &TlsPeer) {
        count(&self.counts.tls_started);
        tracing::debug!(id = "BLQ_TLS_STARTED", "connection secured by {peer}");
    }

    /// Logs a TLS handshake that failed.
    pub fn tls_failed(&self, peer: Ipv4Addr, why: &impl Display) {
        count(&self.counts.tls_failed);
        let id = "BLQ_TLS_FAILED";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(id, "TLS handshake failed: {why}; connection closed{more}");
        }
    }

    /// Logs a DHCPTLS while TLS is off.
    pub fn tls_refused(&self, peer: Ipv4Addr) {
        let id = "BLQ_TLS_REFUSED";
        if let Some(more) = self.admit(id, peer) {
            tracing::info!(
                id,
                "DHCPTLS answered with TLSConnectionRefused: TLS is off{more}"
            );
        }
    }

    /// Logs a first message that is not a DHCPTLS while TLS is required.
    pub fn not_secured(&self, peer: Ipv4Addr) {
        count(&self.counts.unanswerable);
        let id = "BLQ_TLS_REQUIRED";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(
                id,
                "query without TLS, but 'advanced.tls' is \"required\": connection closed{more}"
            );
        }
    }

    /// Logs a second query with the xid of a query in progress.
    pub fn xid_in_use(&self, peer: Ipv4Addr) {
        count(&self.counts.xids_in_use);
        let id = "BLQ_XID_IN_USE";
        if let Some(more) = self.admit(id, peer) {
            tracing::warn!(
                id,
                "two queries with the same xid at once, which RFC 6926 section 7.1 forbids: connection \
                 closed{more}"
            );
        }
    }

    /// Counts the end of a query, and logs one line of it: at level INFO if it ended with a status other than
    /// success and the rate limit admits it, or at level WARN if its limit was reached; else at level DEBUG, like
    /// the end of every stream that its requester did not end by a second query.
    ///
    /// `span` enters the span of the query, only if a line is logged.
    pub fn query_ended<S>(&self, peer: Ipv4Addr, end: &QueryEnd<'_>, span: impl FnOnce() -> S) {
        let counts = &self.counts;
        let (id, counter) = match &end.status {
            QueryStatus::Success => ("BLQ_QUERY_ANSWERED", None),
            QueryStatus::Abandoned => ("BLQ_QUERY_ABANDONED", None),
            QueryStatus::OverLimit(_) => ("BLQ_ACTIVE_LIMIT", Some(&counts.queries_terminated)),
            QueryStatus::Failed(StatusCode::NOT_ALLOWED, _) => {
                ("BLQ_QUERY_NOT_ALLOWED", Some(&counts.queries_not_allowed))
            }
            QueryStatus::Failed(StatusCode::QUERY_TERMINATED, _) => {
                ("BLQ_QUERY_TERMINATED", Some(&counts.queries_terminated))
            }
            QueryStatus::Failed(..) => ("BLQ_QUERY_MALFORMED", Some(&counts.queries_malformed)),
        };
        if let Some(counter) = counter {
            count(counter);
        }
        let is_usual = end.is_stream && id != "BLQ_QUERY_NOT_ALLOWED";
        let id = if is_usual { "BLQ_STREAM_ENDED" } else { id };
        if counter.is_some() && !is_usual {
            if let Some(more) = self.admit(id, peer) {
                let level = match end.status {
                    QueryStatus::OverLimit(_) => Level::WARN,
                    _ => Level::INFO,
                };
                let _span = span();
                return end.log(level, id, &more);
            }
        }
        if tracing::event_enabled!(Level::DEBUG) {
            let _span = span();
            end.log(Level::DEBUG, id, "");
        }
    }

    /// Counts a DHCPLEASEQUERY received over UDP.
    pub fn udp_received(&self) {
        count(&self.counts.udp.received);
    }

    /// Counts and logs a reply over UDP, at level DEBUG.
    pub fn udp_answered(&self, end: &UdpEnd<'_>, reply: &Reply) {
        let counts = &self.counts.udp;
        count(match reply.message_type {
            MessageType::LEASE_ACTIVE => &counts.active,
            MessageType::LEASE_UNASSIGNED => &counts.unassigned,
            _ => &counts.unknown,
        });
        if tracing::event_enabled!(Level::DEBUG) {
            tracing::debug!(
                id = "BLQ_UDP_ANSWERED",
                "{end}: {}, {} octets, {:.6} s",
                reply.message_type.name().unwrap_or_default(),
                reply.message.len(),
                end.took.as_secs_f64()
            );
        }
    }

    /// Counts a query over UDP that gets no reply, and logs the reason: if the rate limit admits it at level INFO,
    /// else at level DEBUG.
    pub fn udp_dropped(&self, end: &UdpEnd<'_>, why: &Unanswered) {
        let kind = why.kind();
        let counters = DropKind::ALL.iter().zip(&self.counts.udp.dropped);
        let counter = counters
            .filter(|(of, _)| **of == kind)
            .map(|(_, counter)| counter);
        counter.for_each(count);
        let id = match kind {
            DropKind::ParseFailed | DropKind::RfcViolation => "BLQ_UDP_MALFORMED",
            DropKind::AdminFiltered => "BLQ_UDP_NOT_ALLOWED",
            DropKind::LimitExceeded => "BLQ_UDP_RATE_LIMIT",
            DropKind::NotForUs => "BLQ_UDP_OTHER_SERVER",
            DropKind::ProcessingFailed => "BLQ_UDP_UNANSWERED",
        };
        // Without a requester, by the sender.
        let peer = match end.giaddr.is_unspecified() {
            true => end.source,
            false => end.giaddr,
        };
        if kind == DropKind::NotForUs {
            return tracing::debug!(id, "{end}: no reply: {why}");
        }
        match self.admit(id, peer) {
            Some(more) => tracing::info!(id, "{end}: no reply: {why}{more}"),
            None => tracing::debug!(id, "{end}: no reply: {why}"),
        }
    }

    /// Logs that a permitted query comes from an address that is not permitted.
    pub fn udp_source(&self, source: Ipv4Addr, giaddr: Ipv4Addr) {
        // Some requesters always send from another address than giaddr.
        let mut warned = self.counts.udp.warned.lock();
        if warned.len() < MOST_WARNED && warned.insert(source) {
            tracing::warn!(
                id = "BLQ_UDP_SOURCE",
                "a query with giaddr {giaddr} comes from {source}, which is not in 'requesters'; it was \
                 answered to giaddr"
            );
        }
    }

    /// Counts a query that was read.
    pub fn query_began(&self) {
        count(&self.counts.queries);
    }

    /// Counts messages and octets handed to the network.
    pub fn sent(&self, messages: u64, octets: u64) {
        let Counts {
            messages_sent,
            octets_sent,
            ..
        } = &*self.counts;
        messages_sent.fetch_add(messages, Ordering::Relaxed);
        octets_sent.fetch_add(octets, Ordering::Relaxed);
    }

    /// Counts a connection that is served.
    pub fn accepted(&self) {
        count(&self.counts.connections_accepted);
    }

    /// Logs how many messages were omitted about peers that caused no further one. Called once in an
    /// [`INTERVAL`](crate::server::throttle::INTERVAL).
    pub fn summarise(&self) {
        for Summary { id, peer, count } in self.throttle.summaries(Instant::now()) {
            let about = match peer {
                Some(Omitted::Peer(peer)) => format!(" about {peer}"),
                Some(Omitted::Others) => " about further peers".to_owned(),
                None => String::new(),
            };
            tracing::info!(
                id = "BLQ_MESSAGES_OMITTED",
                "{count} more messages {id}{about} were not logged"
            );
        }
    }

    /// Logs a message that cannot be answered, with an identifier of the cause.
    pub fn unanswerable(&self, peer: Ipv4Addr, id: &'static str, why: &str) {
        count(&self.counts.unanswerable);
        if let Some(more) = self.admit(id, peer) {
            tracing::info!(
                id,
                "message cannot be answered: {why}; connection closed{more}"
            );
        }
    }
}

/// The end of a query, for the log.
pub struct QueryEnd<'a> {
    /// The status.
    pub status: QueryStatus,
    /// Whether the answer is a stream that has begun.
    pub is_stream: bool,
    /// Describes the query and its qualifiers; empty if they could not be read.
    pub query: &'a dyn Fn() -> String,
    /// The messages of the answer that are about an address.
    pub bindings: u64,
    /// The octets of the answer, with the message-size of each message.
    pub octets: u64,
    /// The time since the query was read.
    pub took: Duration,
}

/// The status of a query that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryStatus {
    /// A DHCPLEASEQUERYDONE without a status.
    Success,
    /// A DHCPLEASEQUERYDONE or DHCPLEASEQUERYSTATUS with a status and its text.
    Failed(StatusCode, String),
    /// A DHCPLEASEQUERYSTATUS with QueryTerminated, because too many connections are active, with its text.
    OverLimit(String),
    /// None: the connection ended before.
    Abandoned,
}

impl QueryEnd<'_> {
    /// Logs the line.
    fn log(&self, level: Level, id: &'static str, more: &str) {
        let (bindings, octets) = (self.bindings, self.octets);
        let seconds = format!("{:.6}", self.took.as_secs_f64());
        let query = (self.query)();
        let query = match query.is_empty() {
            true => "query".to_owned(),
            false => format!("query for {query}"),
        };
        let failed = |status: StatusCode, why: &str| {
            let name = status.name().unwrap_or("unassigned");
            let ended = if self.is_stream { "ended" } else { "answered" };
            (name, format!("{query} {ended} with {status}: {why}{more}"))
        };
        let (status, text) = match &self.status {
            QueryStatus::Success => ("Success", format!("{query} answered")),
            QueryStatus::Failed(status, why) => failed(*status, why),
            QueryStatus::OverLimit(why) => failed(StatusCode::QUERY_TERMINATED, why),
            QueryStatus::Abandoned if self.is_stream => {
                ("none", format!("{query}: the connection ended"))
            }
            QueryStatus::Abandoned => (
                "none",
                format!("{query}: the connection ended before the answer"),
            ),
        };
        // The level of an event is a constant.
        match level {
            Level::WARN => tracing::warn!(id, bindings, octets, %seconds, status, "{text}"),
            Level::INFO => tracing::info!(id, bindings, octets, %seconds, status, "{text}"),
            _ => tracing::debug!(id, bindings, octets, %seconds, status, "{text}"),
        }
    }
}
