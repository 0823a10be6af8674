//! Leasequery over UDP (RFC 4388), also by Remote ID (RFC 6148): one DHCPLEASEQUERY, one reply.
//!
//! - [`request`]: reading and checking a DHCPLEASEQUERY.
//! - [`engine`]: finding the address that the reply is about.
//! - `reply`: writing the reply within its maximum length.

pub mod engine;
pub mod request;

mod reply;

use std::fmt;
use std::net::Ipv4Addr;

use proto::{InvalidVss, Lengths, MessageType};

use crate::mirror::Unready;
use crate::query::QueryType;
use crate::wire::message::MessageError;

/// Reasons for which a DHCPLEASEQUERY gets no reply: RFC 4388 has no message for an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The octets are no DHCPv4 message, or its options cannot be read to their end.
    Message(MessageError),
    /// The op is not BOOTREQUEST.
    NotARequest(u8),
    /// giaddr is zero or no unicast address: there is nobody to reply to (section 6.4.3).
    NoRequester(Ipv4Addr),
    /// No primary query, or more than one.
    Keys(Vec<QueryType>),
    /// hlen is larger than chaddr, or 0 with an address in chaddr.
    HardwareLength(u8),
    /// A field has a wrong length; the last part is the right one.
    Length(&'static str, usize, Lengths),
    /// A sub-option runs past the end of option 82.
    SubOptions,
    /// The VPN-ID is invalid.
    VpnId(InvalidVss),
    /// The VPN-ID asks for all VPNs, and the reply is about one address in one of them.
    AllVpns,
    /// A field that may appear once appears more often.
    Repeated(&'static str, usize),
    /// giaddr is not among the requesters.
    NotPermitted,
    /// The requester may not use this query type.
    QueryType(QueryType),
    /// The requester has exceeded the rate limit.
    RateLimit,
    /// The server identifier in the query is another server's.
    OtherServer(Ipv4Addr),
    /// The mirror is not complete.
    Unready(Unready),
    /// Changes are being applied, or wait, that take longer than a reply may: many of leases, or one of the configuration
    /// or of high availability.
    Busy,
    /// The addresses of the client, or its option 82 that was asked for, do not fit the reply: one without them would
    /// be wrong.
    TooLong,
    /// The reply could not be sent.
    NotSent(String),
}

/// The kinds of reasons, as Kea's statistics from 3.1.4 on have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// The octets cannot be read.
    ParseFailed,
    /// The query violates an RFC.
    RfcViolation,
    /// The configuration does not permit the query.
    AdminFiltered,
    /// The query is above a limit.
    LimitExceeded,
    /// The query is to another server.
    NotForUs,
    /// The query cannot be answered now, or not by one message.
    ProcessingFailed,
}

impl DropKind {
    /// All kinds.
    pub const ALL: [DropKind; 6] = [
        DropKind::ParseFailed,
        DropKind::RfcViolation,
        DropKind::AdminFiltered,
        DropKind::LimitExceeded,
        DropKind::NotForUs,
        DropKind::ProcessingFailed,
    ];

    /// Returns the name, which is also the end of a statistic of Kea's.
    pub fn name(self) -> &'static str {
        match self {
            DropKind::ParseFailed => "parse-failed",
            DropKind::RfcViolation => "rfc-violation",
            DropKind::AdminFiltered => "admin-filtered",
            DropKind::LimitExceeded => "limit-exceeded",
            DropKind::NotForUs => "not-for-us",
            DropKind::ProcessingFailed => "processing-failed",
        }
    }
}

impl Unanswered {
    /// Returns the kind of the reason.
    pub fn kind(&self) -> DropKind {
        match self {
            Unanswered::Message(_) | Unanswered::SubOptions | Unanswered::Length(..) => {
                DropKind::ParseFailed
            }
            Unanswered::NotARequest(_)
            | Unanswered::NoRequester(_)
            | Unanswered::Keys(_)
            | Unanswered::HardwareLength(_)
            | Unanswered::VpnId(_)
            | Unanswered::AllVpns
            | Unanswered::Repeated(..) => DropKind::RfcViolation,
            Unanswered::NotPermitted | Unanswered::QueryType(_) => DropKind::AdminFiltered,
            Unanswered::RateLimit => DropKind::LimitExceeded,
            Unanswered::OtherServer(_) => DropKind::NotForUs,
            Unanswered::Unready(_)
            | Unanswered::Busy
            | Unanswered::TooLong
            | Unanswered::NotSent(_) => DropKind::ProcessingFailed,
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Message(error) => error.fmt(f),
            Unanswered::NotARequest(op) => write!(f, "op is {op}, not BOOTREQUEST"),
            Unanswered::NoRequester(address) => write!(
                f,
                "giaddr is {address}, must be the requester's address, to which the reply is sent (RFC 4388 \
                 section 6.3)"
            ),
            Unanswered::Keys(keys) if keys.is_empty() => f.write_str(
                "ciaddr, hlen, client-identifier and remote-id are all missing: exactly one is the query",
            ),
            Unanswered::Keys(keys) => {
                let names: Vec<_> = keys.iter().map(|key| key.name()).collect();
                write!(f, "more than one primary query: {}", names.join(", "))
            }
            Unanswered::HardwareLength(0) => f.write_str("hlen is 0 but chaddr is set"),
            Unanswered::HardwareLength(found) => write!(f, "hlen is {found}, must be at most 16"),
            Unanswered::Length(field, found, allowed) => {
                write!(f, "{field} has a length of {found}, must be {allowed}")
            }
            Unanswered::SubOptions => f.write_str(
                "relay-agent-information has a sub-option that runs past its end",
            ),
            Unanswered::VpnId(error) => write!(f, "VPN-ID cannot be used: {error}"),
            Unanswered::AllVpns => f.write_str(
                "VPN-ID selects all VPNs, but a reply over UDP is about one address: select one VPN, or use Bulk \
                 Leasequery",
            ),
            Unanswered::Repeated(field, count) => {
                write!(f, "{field} appears {count} times, may appear once")
            }
            Unanswered::NotPermitted => f.write_str("giaddr is not in 'requesters'"),
            Unanswered::QueryType(query_type) => write!(
                f,
                "query type {} is not allowed to this requester",
                query_type.name()
            ),
            Unanswered::RateLimit => {
                f.write_str("the requester sends more queries than 'advanced.udp-rate-limit' allows")
            }
            Unanswered::OtherServer(address) => {
                write!(f, "server-identifier is {address}, which is not this server")
            }
            Unanswered::Unready(unready) => unready.fmt(f),
            Unanswered::Busy => f.write_str("changes are being applied, or wait, that take longer than a reply may"),
            Unanswered::NotSent(error) => write!(f, "it cannot be sent: {error}"),
            Unanswered::TooLong => f.write_str(
                "the client's addresses or its option 82 do not fit one message: use Bulk Leasequery",
            ),
        }
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub message: Vec<u8>,
    /// The type of the message.
    pub message_type: MessageType,
}
