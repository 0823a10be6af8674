//! The query engine: from a DHCPBULKLEASEQUERY to the messages that answer it.
//!
//! - [`request`]: reading and checking a query (RFC 6926 sections 7.2 and 8.2).
//! - `plan`: the index that drives a query.
//! - `filter`: the qualifiers of a query.
//! - [`reply`]: the replies about single addresses (RFC 6926 section 8.3).
//! - [`lease_engine`]: from a query to its replies, by the mirror.

pub mod lease_engine;
pub mod reply;
pub mod request;

mod filter;
mod plan;

use std::net::Ipv4Addr;

use proto::StatusCode;

/// The primary query types of RFC 6926 section 7.2.
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
}

impl QueryType {
    /// Every type, in the order of the contract.
    pub const ALL: [QueryType; 5] = [
        QueryType::Mac,
        QueryType::ClientId,
        QueryType::RemoteId,
        QueryType::RelayId,
        QueryType::All,
    ];

    /// The name by which configuration and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            QueryType::Mac => "mac",
            QueryType::ClientId => "client-id",
            QueryType::RemoteId => "remote-id",
            QueryType::RelayId => "relay-id",
            QueryType::All => "all",
        }
    }
}

/// A set of query types: what a requester may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryTypes(u8);

impl QueryTypes {
    /// No type.
    pub const NONE: QueryTypes = QueryTypes(0);
    /// Every type.
    pub const ALL: QueryTypes = QueryTypes(0b1_1111);

    /// This set and `query_type`.
    pub fn with(self, query_type: QueryType) -> QueryTypes {
        QueryTypes(self.0 | 1 << query_type as u8)
    }

    /// Whether `query_type` is in the set.
    pub fn contains(self, query_type: QueryType) -> bool {
        self.0 & 1 << query_type as u8 != 0
    }
}

/// Who asks, and over which of our addresses.
#[derive(Clone, Copy, Debug)]
pub struct Requester {
    /// The requester's address.
    pub peer: Ipv4Addr,
    /// Our address on the connection: the server identifier when none is configured.
    pub local: Ipv4Addr,
    /// The query types it may use.
    pub allowed: QueryTypes,
}

/// How far an answer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to send.
    More,
    /// The answer cannot go on before [`Engine::wake_up`] completes, and costs no thread until then.
    /// Nothing was added.
    Idle,
    /// The DHCPLEASEQUERYDONE has been written: the query is over.
    Done,
}

/// Answers queries. The server knows leases only through this.
///
/// None of the methods blocks for longer than a short critical section, and none panics
/// whatever the message holds. If one does, its connection ends without a DHCPLEASEQUERYDONE.
pub trait Engine: Send + Sync + 'static {
    /// An answer in progress.
    type Answer: Send + 'static;
    /// Why a message cannot be answered at all: shown in the log, and the connection is closed.
    type Unanswerable: std::fmt::Display + Send;

    /// A lower bound of the octets of a message that [`Engine::open`] accepts. A larger one lets more
    /// messages be received at once.
    const SHORTEST_MESSAGE: usize;

    /// Reads a DHCP message (without its message-size) and begins to answer it. A query that
    /// is broken, malformed or not allowed is answered too, by a DHCPLEASEQUERYDONE alone.
    ///
    /// # Errors
    /// A message that is no DHCPv4 message, no request, or of a type not supported over TCP
    /// (RFC 7724 section 8.1.1).
    fn open(
        &self,
        message: &[u8],
        requester: &Requester,
    ) -> Result<Self::Answer, Self::Unanswerable>;

    /// Returns status and cause, for the log, of an answer that is nothing but a DHCPLEASEQUERYDONE with a
    /// status.
    fn refusal(&self, _answer: &Self::Answer) -> Option<(StatusCode, String)> {
        None
    }

    /// Returns the transaction id, for the log, of an unanswerable message that is a DHCP message at least.
    fn message_xid(&self, _message: &[u8]) -> Option<u32> {
        None
    }

    /// The transaction id all messages of the answer carry.
    fn xid(&self, answer: &Self::Answer) -> u32;

    /// Whether nothing more is read from the connection, which is closed when all answers in progress
    /// are done: the message that is answered was broken.
    fn ends_connection(&self, _answer: &Self::Answer) -> bool {
        false
    }

    /// Appends framed messages (message-size first, RFC 6926 section 6.1) to `out` until
    /// about `room` octets were added (the last message may go past it by its own length, or
    /// nothing be added in this turn), the answer has to wait, or it is done.
    fn write(&self, answer: &mut Self::Answer, out: &mut Vec<u8>, room: usize) -> Progress;

    /// Returns a future that completes when answers that are [`Progress::Idle`] may go on. It counts
    /// everything after this call: called before [`Engine::write`], it misses nothing.
    fn wake_up(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Appends the DHCPLEASEQUERYDONE with status QueryTerminated that ends an answer early
    /// (RFC 6926 section 8.5); `reason` becomes its text. A query that is refused keeps the status
    /// of its refusal.
    fn terminate(&self, answer: Self::Answer, reason: &str, out: &mut Vec<u8>);
}
