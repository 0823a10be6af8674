//! The query engine: from a query to its answer.
//!
//! - [`request`]: reading and checking a query (RFC 6926 sections 7.2 and 8.2).
//! - [`active`]: a DHCPACTIVELEASEQUERY and its answer, a stream of changes (RFC 7724).
//! - `bulk`: the answer to a DHCPBULKLEASEQUERY.
//! - `plan`: the index that drives a query.
//! - `filter`: the qualifiers of a query.
//! - [`reply`]: the replies about single addresses (RFC 6926 section 8.3).
//! - `responder`: one turn of an answer, from bindings to framed replies.
//! - `source`: the mirror, and the rules for all replies.
//! - [`lease_engine`]: from a query to its answer, by the mirror.
//! - [`udp`]: from a DHCPLEASEQUERY over UDP to its reply (RFC 4388).

pub mod active;
pub mod lease_engine;
pub mod reply;
pub mod request;
pub mod udp;

mod bulk;
mod filter;
mod plan;
mod responder;
mod source;

use std::net::Ipv4Addr;

use proto::StatusCode;

use crate::mirror::Identity;

/// The primary query types of RFC 6926 section 7.2 and RFC 4388 section 6.2, and Active Leasequery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryType {
    /// Query by MAC address.
    Mac,
    /// Query by Client-identifier.
    ClientId,
    /// Query by Remote ID.
    RemoteId,
    /// Query by Relay-ID.
    RelayId,
    /// Query for All Configured IP Addresses.
    All,
    /// Query by IP address, over UDP only.
    Ip,
    /// Active Leasequery (RFC 7724): changes of any binding.
    Active,
}

impl QueryType {
    /// Every type, in the order of the contract.
    pub const ALL: [QueryType; 7] = [
        QueryType::Mac,
        QueryType::ClientId,
        QueryType::RemoteId,
        QueryType::RelayId,
        QueryType::All,
        QueryType::Ip,
        QueryType::Active,
    ];

    /// Returns the name in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            QueryType::Mac => "mac",
            QueryType::ClientId => "client-id",
            QueryType::RemoteId => "remote-id",
            QueryType::RelayId => "relay-id",
            QueryType::All => "all",
            QueryType::Ip => "ip",
            QueryType::Active => "active",
        }
    }

    /// Returns the type of a query for an identity.
    pub fn of(identity: &Identity) -> QueryType {
        match identity {
            Identity::Mac(_) => QueryType::Mac,
            Identity::ClientId(_) => QueryType::ClientId,
            Identity::RemoteId(_) => QueryType::RemoteId,
            Identity::RelayId(_) => QueryType::RelayId,
        }
    }
}

/// A set of query types, such as those that a requester may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryTypes(u8);

impl QueryTypes {
    /// No type.
    pub const NONE: QueryTypes = QueryTypes(0);
    /// Every type.
    pub const ALL: QueryTypes = QueryTypes(0b111_1111);

    /// Returns this set with `query_type`.
    pub fn with(self, query_type: QueryType) -> QueryTypes {
        QueryTypes(self.0 | 1 << query_type as u8)
    }

    /// Whether `query_type` is in the set.
    pub fn contains(self, query_type: QueryType) -> bool {
        self.0 & 1 << query_type as u8 != 0
    }
}

/// The protection of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// None.
    #[default]
    Plain,
    /// TLS.
    Tls {
        /// Whether the requester presented a certificate, which was accepted.
        is_authenticated: bool,
    },
}

/// The requester on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Requester {
    /// The requester's address.
    pub peer: Ipv4Addr,
    /// The server's address on the connection: the server identifier if none is configured.
    pub local: Ipv4Addr,
    /// The query types it may use.
    pub allowed: QueryTypes,
    /// The protection of the connection.
    pub security: Security,
}

/// The progress of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More messages follow.
    More,
    /// The answer cannot continue before [`Engine::wake_up`] completes, and costs no thread until then.
    Idle,
    /// The DHCPLEASEQUERYDONE, or the DHCPLEASEQUERYSTATUS that ends a stream, has been written: the query is over.
    Done,
}

/// Answers queries: the server's only access to leases.
///
/// No method blocks for longer than a short critical section, or panics on any message. If one panics, its
/// connection ends without a DHCPLEASEQUERYDONE.
pub trait Engine: Send + Sync + 'static {
    /// An answer in progress.
    type Answer: Send + 'static;
    /// The reason for closing the connection without an answer to a message, for the log.
    type Unanswerable: std::fmt::Display + Send;

    /// A lower bound of the length of a message that [`Engine::open`] accepts. With a larger bound, more
    /// messages are received at once.
    const SHORTEST_MESSAGE: usize;

    /// Reads a DHCP message (without its message-size) and begins its answer: a DHCPLEASEQUERYDONE alone if
    /// the query is broken, malformed or not allowed.
    ///
    /// # Errors
    /// A message that is no DHCPv4 message, no request, or of a type not supported over TCP
    /// (RFC 7724 section 8.1.1).
    fn open(
        &self,
        message: &[u8],
        requester: &Requester,
    ) -> Result<Self::Answer, Self::Unanswerable>;

    /// Returns status and cause, for the log, of an answer whose DHCPLEASEQUERYDONE has a status: that of a
    /// refused query, or of one that ended because the engine failed. `None` for success.
    fn status(&self, _answer: &Self::Answer) -> Option<(StatusCode, String)> {
        None
    }

    /// Describes the query and its qualifiers, for the log; empty if they could not be read.
    fn describe(&self, _answer: &Self::Answer) -> String {
        String::new()
    }

    /// Returns the transaction id, for the log, of an unanswerable message; `None` if it is no DHCP message.
    fn message_xid(&self, _message: &[u8]) -> Option<u32> {
        None
    }

    /// Returns the transaction id of all messages of the answer.
    fn xid(&self, answer: &Self::Answer) -> u32;

    /// Whether no more messages are read from the connection, which is closed when all answers in progress
    /// are done: the query was broken, or a refused active one.
    fn ends_connection(&self, _answer: &Self::Answer) -> bool {
        false
    }

    /// Whether the answer is a stream of changes (RFC 7724): it is alone on its connection, and never done by
    /// itself unless the engine fails.
    fn is_stream(&self, _answer: &Self::Answer) -> bool {
        false
    }

    /// Appends framed messages (RFC 6926 section 6.1) to `out` until `room` octets were added, with the rest
    /// of the last message, or until the turn is over, the answer is idle, or it is done. A turn may add
    /// nothing.
    fn write(&self, answer: &mut Self::Answer, out: &mut Vec<u8>, room: usize) -> Progress;

    /// Appends the message by which the requester of a silent stream knows that it continues: a
    /// DHCPLEASEQUERYSTATUS with ConnectionActive (RFC 7724 section 7.4).
    fn keep_alive(&self, _answer: &mut Self::Answer, _out: &mut Vec<u8>) {}

    /// Returns a future that completes when answers that are [`Progress::Idle`] may continue: streams, if
    /// `is_stream`, or else other answers. Created before a call of [`Engine::write`], it misses no wake-up.
    fn wake_up(&self, _is_stream: bool) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Returns the number of messages of the answer that were written.
    fn messages(&self, answer: &Self::Answer) -> u64;

    /// Returns the number of these messages that are about an address.
    fn bindings(&self, answer: &Self::Answer) -> u64;

    /// Appends the message that ends an answer early, with `status` and the text `reason` (RFC 6926 section
    /// 8.5, RFC 7724 section 8.4). A refused query keeps the status of its refusal.
    fn end(&self, answer: &mut Self::Answer, status: StatusCode, reason: &str, out: &mut Vec<u8>);

    /// Ends an answer early with status QueryTerminated.
    fn terminate(&self, answer: &mut Self::Answer, reason: &str, out: &mut Vec<u8>) {
        self.end(answer, StatusCode::QUERY_TERMINATED, reason, out);
    }
}
