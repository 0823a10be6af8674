//! Reading a query over TCP, and checking a DHCPBULKLEASEQUERY (RFC 6926 sections 7.2 and 8.2).

use std::fmt;
use std::net::Ipv4Addr;

use proto::message::BOOTREQUEST;
use proto::option::{code, lengths};
use proto::{InvalidVss, Lengths, MessageType, StatusCode, sub_option};

use crate::mirror::Identity;
use crate::model::address::HardwareAddress;
use crate::model::time::{Time, Window};
use crate::model::vpn::{Vpn, VpnSelector};
use crate::query::{QueryType, QueryTypes};
use crate::wire::message::{Message, MessageError};
use crate::wire::options::{JoinedOption, OptionsFault};
use crate::wire::relay_agent_information;
use crate::wire::writer::ReplyHeader;

/// A request received over TCP whose dhcp-message-type is known.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The message, with its options up to the fault.
    pub message: Message<'a>,
    /// The fault for which its options cannot be read to their end.
    pub fault: Option<OptionsFault>,
    /// The type.
    pub message_type: MessageType,
}

impl<'a> Received<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// A message that is no request, or whose type cannot be read.
    pub fn read(octets: &'a [u8]) -> Result<Received<'a>, Unanswerable> {
        let (message, fault) = Message::read_until_fault(octets).map_err(Unanswerable::Message)?;
        if message.op != BOOTREQUEST {
            return Err(Unanswerable::NotARequest(message.op));
        }
        let message_type = message.options.get(code::MESSAGE_TYPE);
        let message_type = match message_type.map(|option| (&*option.value, option.occurrences)) {
            Some(([found], 1)) => MessageType(*found),
            Some(_) => return Err(Unanswerable::NoMessageType),
            // The type may follow the fault.
            None => {
                return Err(match fault {
                    Some(fault) => Unanswerable::Message(MessageError::Options(fault)),
                    None => Unanswerable::NoMessageType,
                });
            }
        };
        Ok(Received {
            message,
            fault,
            message_type,
        })
    }

    /// Returns the header of the replies.
    pub fn header(&self) -> ReplyHeader {
        let Message {
            xid, flags, giaddr, ..
        } = self.message;
        ReplyHeader::new(xid, flags, giaddr)
    }

    /// Returns the codes in the dhcp-parameter-request-list, if there is one.
    pub fn requested(&self) -> Option<Vec<u8>> {
        let list = self.message.options.value(code::PARAMETER_REQUEST_LIST);
        list.map(<[u8]>::to_vec)
    }
}

/// A DHCPBULKLEASEQUERY.
#[derive(Clone, Debug)]
pub struct Request {
    /// The header of its replies.
    pub header: ReplyHeader,
    /// The codes in the dhcp-parameter-request-list, if there is one. All replies follow the list (RFC
    /// 6926 section 8.3 item 7), also the reply to a refused query.
    pub requested: Option<Vec<u8>>,
    /// The query or its refusal.
    pub kind: Kind,
}

/// The kinds of requests, by their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A query, answered by bindings.
    Query(Query),
    /// A query refused, answered by a DHCPLEASEQUERYDONE alone.
    Refused(Refusal),
}

/// A valid query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The primary query; `None` for all configured addresses.
    pub identity: Option<Identity>,
    /// query-start-time: leaves out bindings that changed before it.
    pub start: Time,
    /// query-end-time: leaves out bindings that changed after it. Not before `start`.
    pub end: Time,
    /// The VPNs selected by the VPN-ID.
    pub vpn: VpnSelector,
}

impl Query {
    /// Returns the times of change that the query selects.
    pub fn window(&self) -> Window {
        Window {
            start: self.start,
            end: self.end,
        }
    }
}

/// The query and its qualifiers, for the log.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            None => f.write_str("all configured addresses")?,
            Some(identity) => identity.fmt(f)?,
        }
        if self.start > Time::MIN {
            write!(f, ", query-start-time {}", self.start.0)?;
        }
        if self.end < Time::MAX {
            write!(f, ", query-end-time {}", self.end.0)?;
        }
        match &self.vpn {
            VpnSelector::One(Vpn::Default) => Ok(()),
            VpnSelector::One(vpn) => write!(f, ", VPN-ID {vpn}"),
            VpnSelector::All => f.write_str(", VPN-ID all"),
        }
    }
}

/// Reasons for closing the connection without an answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// The octets are no DHCPv4 message.
    Message(MessageError),
    /// The op is not BOOTREQUEST.
    NotARequest(u8),
    /// The dhcp-message-type is missing, repeated, or not one octet long.
    NoMessageType,
    /// The type is not supported over TCP (RFC 7724 section 8.1.1).
    MessageType(MessageType),
    /// A DHCPACTIVELEASEQUERY on a connection that must not carry one, for this reason (RFC 7724 section 8.1).
    Insecure(&'static str),
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswerable::Message(error) => error.fmt(f),
            Unanswerable::NotARequest(op) => write!(f, "op is {op}, not BOOTREQUEST"),
            Unanswerable::NoMessageType => {
                f.write_str("dhcp-message-type must appear once, with a length of 1")
            }
            Unanswerable::MessageType(MessageType::ACTIVE_LEASE_QUERY) => f.write_str(
                "a DHCPACTIVELEASEQUERY is answered only if 'advanced.active-query-enabled' is true",
            ),
            Unanswerable::MessageType(MessageType::TLS) => f.write_str(
                "a DHCPTLS starts TLS only as the first message of a connection that has not started it",
            ),
            Unanswerable::MessageType(MessageType(found)) => {
                write!(f, "dhcp-message-type {found} is not supported over TCP")
            }
            Unanswerable::Insecure(why) => write!(f, "DHCPACTIVELEASEQUERY is not permitted {why}"),
        }
    }
}

/// Reasons for answering a query by a DHCPLEASEQUERYDONE or a DHCPLEASEQUERYSTATUS alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The options cannot be read to their end, so the query is unknown.
    Broken(OptionsFault),
    /// A header field that must be zero is set.
    AddressSet(&'static str, Ipv4Addr),
    /// hlen is larger than chaddr, or 0 with an address in chaddr.
    HardwareLength(u8),
    /// A field that may appear once appears more often.
    Repeated(&'static str, usize),
    /// A field has a wrong length; the last part is the right one.
    Length(&'static str, usize, Lengths),
    /// A sub-option runs past the end of option 82.
    SubOptions,
    /// The VPN-ID is invalid.
    VpnId(InvalidVss),
    /// query-start-time is later than query-end-time.
    Window(Time, Time),
    /// More than one primary query.
    SeveralQueries(Vec<QueryType>),
    /// The requester may not use this query type.
    NotPermitted(QueryType),
    /// A field that a DHCPACTIVELEASEQUERY must not have (RFC 7724 sections 7.3 and 8.2).
    NotInActive(&'static str),
    /// A DHCPACTIVELEASEQUERY for the clients of a relay agent.
    ActiveOfRelayAgent,
}

impl Refusal {
    /// Returns the status code of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::SeveralQueries(_) | Refusal::NotPermitted(_) | Refusal::ActiveOfRelayAgent => {
                StatusCode::NOT_ALLOWED
            }
            _ => StatusCode::MALFORMED_QUERY,
        }
    }

    /// Whether the connection is closed after the DHCPLEASEQUERYDONE: the next messages of a requester
    /// that sends broken ones cannot be trusted.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Refusal::Broken(_) | Refusal::SubOptions)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Broken(fault) => fault.fmt(f),
            Refusal::AddressSet(field, value) => write!(f, "{field} is {value}, must be zero"),
            Refusal::HardwareLength(0) => write!(f, "hlen is 0 but chaddr is set"),
            Refusal::HardwareLength(found) => write!(f, "hlen is {found}, must be at most 16"),
            Refusal::Repeated(field, count) => {
                write!(f, "{field} appears {count} times, may appear once")
            }
            Refusal::Length(field, found, allowed) => {
                write!(f, "{field} has a length of {found}, must be {allowed}")
            }
            Refusal::SubOptions => write!(
                f,
                "relay-agent-information has a sub-option that runs past its end"
            ),
            Refusal::VpnId(error) => write!(f, "VPN-ID cannot be used: {error}"),
            Refusal::Window(start, end) => write!(
                f,
                "query-start-time {} is later than query-end-time {}",
                start.0, end.0
            ),
            Refusal::SeveralQueries(queries) => {
                let names: Vec<_> = queries.iter().map(|query| query.name()).collect();
                write!(f, "more than one primary query: {}", names.join(", "))
            }
            Refusal::NotPermitted(query) => {
                write!(
                    f,
                    "query type {} is not allowed to this requester",
                    query.name()
                )
            }
            Refusal::NotInActive(field) => {
                write!(f, "{field} is set, which an active query must not have")
            }
            Refusal::ActiveOfRelayAgent => f.write_str(
                "relay-agent-information is set: an active query is for the bindings of all relay agents",
            ),
        }
    }
}

/// Reads a DHCPBULKLEASEQUERY, of which the requester may use the `allowed` types. Every one is answered, with a
/// DHCPLEASEQUERYDONE at least (RFC 6926 section 8.2).
pub fn read(received: &Received<'_>, allowed: QueryTypes) -> Request {
    let query = match received.fault {
        Some(fault) => Err(Refusal::Broken(fault)),
        None => query(&received.message, allowed),
    };
    Request {
        header: received.header(),
        requested: received.requested(),
        kind: match query {
            Ok(query) => Kind::Query(query),
            Err(refusal) => Kind::Refused(refusal),
        },
    }
}

/// Reads the query of a DHCPBULKLEASEQUERY, of which the requester may use the `allowed` types.
fn query(message: &Message<'_>, allowed: QueryTypes) -> Result<Query, Refusal> {
    // First, because a fault in it ends the connection.
    let relay_agent = relay_agent(message)?;
    refuse_addresses(message)?;
    let start = start_time(message)?.unwrap_or(Time::MIN);
    let end = time(message, code::QUERY_END_TIME, "query-end-time")?.unwrap_or(Time::MAX);
    if start > end {
        return Err(Refusal::Window(start, end));
    }
    let vpn = vpn_selector(message)?;
    let identity = identity(message, relay_agent)?;
    let query_type = match &identity {
        None => QueryType::All,
        Some(identity) => QueryType::of(identity),
    };
    if !allowed.contains(query_type) {
        return Err(Refusal::NotPermitted(query_type));
    }
    Ok(Query {
        identity,
        start,
        end,
        vpn,
    })
}

/// Refuses a message with an address in a field that must be zero.
pub(super) fn refuse_addresses(message: &Message<'_>) -> Result<(), Refusal> {
    for (field, value) in [
        ("ciaddr", message.ciaddr),
        ("yiaddr", message.yiaddr),
        ("siaddr", message.siaddr),
    ] {
        if !value.is_unspecified() {
            return Err(Refusal::AddressSet(field, value));
        }
    }
    Ok(())
}

/// Returns the query-start-time of a message; `None` without it.
pub(super) fn start_time(message: &Message<'_>) -> Result<Option<Time>, Refusal> {
    time(message, code::QUERY_START_TIME, "query-start-time")
}

/// Returns the VPNs that the VPN-ID of a message selects.
pub(super) fn vpn_selector(message: &Message<'_>) -> Result<VpnSelector, Refusal> {
    match once(message, code::VPN_ID, "VPN-ID")? {
        Some(option) => VpnSelector::read(&option.value).map_err(Refusal::VpnId),
        // Without a VPN-ID, the default VPN only (RFC 6926 section 8.2).
        None => Ok(VpnSelector::One(Vpn::Default)),
    }
}

/// Identities of relay agents in a query, with their names in refusals.
type RelayAgent<'a> = [(&'static str, fn(Vec<u8>) -> Identity, Vec<&'a [u8]>); 2];

/// Returns the remote-ids and relay-ids in the relay-agent-information option.
fn relay_agent<'a>(message: &'a Message<'_>) -> Result<RelayAgent<'a>, Refusal> {
    let information = message.options.value(code::RELAY_AGENT_INFORMATION);
    let all = |code| {
        let values = relay_agent_information::all(information.unwrap_or_default(), code);
        values.map_err(|_| Refusal::SubOptions)
    };
    Ok([
        ("remote-id", Identity::RemoteId, all(sub_option::REMOTE_ID)?),
        ("relay-id", Identity::RelayId, all(sub_option::RELAY_ID)?),
    ])
}

/// Returns the primary query; `None` without one, for all configured addresses.
fn identity(
    message: &Message<'_>,
    relay_agent: RelayAgent<'_>,
) -> Result<Option<Identity>, Refusal> {
    let mut identities = Vec::new();
    if !is_address_zero(message) {
        identities.extend(mac(message)?.map(Identity::Mac));
    }
    identities.extend(client_identifier(message)?.map(Identity::ClientId));
    for (field, identity, values) in relay_agent {
        for value in values {
            let allowed = sub_option::IDENTIFIER_LENGTHS;
            if !allowed.contains(value.len()) {
                return Err(Refusal::Length(field, value.len(), allowed));
            }
            identities.push(identity(value.to_vec()));
        }
    }
    match identities.len() {
        // An address of zeros is a query if it is the only one.
        0 => Ok(mac(message)?.map(Identity::Mac)),
        1 => Ok(identities.pop()),
        _ => {
            let queries = identities.iter().map(QueryType::of).collect();
            Err(Refusal::SeveralQueries(queries))
        }
    }
}

/// Whether the address in chaddr is all zeros. With another primary query such an address is ignored:
/// some requesters set htype and hlen in every query.
pub(super) fn is_address_zero(message: &Message<'_>) -> bool {
    let octets = address_octets(message).unwrap_or(&message.chaddr);
    octets.iter().all(|octet| *octet == 0)
}

/// Returns the MAC address of the query, which may have any octets (RFC 6926 section 8.2); `None` if
/// hlen is 0, even with an htype, which some requesters set in every query.
pub(super) fn mac(message: &Message<'_>) -> Result<Option<HardwareAddress>, Refusal> {
    let hlen = message.hlen;
    match address_octets(message) {
        Some(octets) => Ok(Some(HardwareAddress {
            htype: message.htype,
            octets: octets.to_vec(),
        })),
        None if hlen == 0 && is_address_zero(message) => Ok(None),
        None => Err(Refusal::HardwareLength(hlen)),
    }
}

/// Returns the octets of chaddr that hlen counts; `None` if hlen is 0 or larger than chaddr.
fn address_octets<'a>(message: &'a Message<'_>) -> Option<&'a [u8]> {
    let octets = message.chaddr.get(..usize::from(message.hlen));
    octets.filter(|octets| !octets.is_empty())
}

/// Returns the client identifier of the query.
fn client_identifier(message: &Message<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let allowed = lengths(code::CLIENT_IDENTIFIER);
    match message.options.value(code::CLIENT_IDENTIFIER) {
        Some(value) if !allowed.contains(value.len()) => {
            Err(Refusal::Length("client-identifier", value.len(), allowed))
        }
        value => Ok(value.map(<[u8]>::to_vec)),
    }
}

/// Returns a qualifier that is a time; `None` without it.
fn time(message: &Message<'_>, code: u8, field: &'static str) -> Result<Option<Time>, Refusal> {
    let Some(option) = once(message, code, field)? else {
        return Ok(None);
    };
    match <[u8; 4]>::try_from(&*option.value) {
        Ok(octets) => Ok(Some(Time(u32::from_be_bytes(octets)))),
        Err(_) => Err(Refusal::Length(field, option.value.len(), lengths(code))),
    }
}

/// Returns a qualifier, which may appear once only (RFC 6926 section 7.2).
fn once<'a>(
    message: &'a Message<'a>,
    code: u8,
    field: &'static str,
) -> Result<Option<&'a JoinedOption<'a>>, Refusal> {
    match message.options.get(code) {
        Some(option) if option.occurrences > 1 => Err(Refusal::Repeated(field, option.occurrences)),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_query_with_its_qualifiers() {
        let all = Query {
            identity: None,
            start: Time::MIN,
            end: Time::MAX,
            vpn: VpnSelector::One(Vpn::Default),
        };
        assert_eq!(all.to_string(), "all configured addresses");
        let mac = HardwareAddress {
            htype: 6,
            octets: vec![2, 0, 0xab],
        };
        for (identity, text) in [
            (Identity::Mac(mac), "mac 6/0200ab"),
            (Identity::ClientId(vec![1, 2]), "client-id 0102"),
            (Identity::RemoteId(vec![0xff]), "remote-id ff"),
            (Identity::RelayId(vec![0]), "relay-id 00"),
        ] {
            let query = Query {
                identity: Some(identity),
                ..all.clone()
            };
            assert_eq!(query.to_string(), text);
        }
        for (vpn, text) in [
            (VpnSelector::One(Vpn::Name("a\nb".into())), r#""a\nb""#),
            (
                VpnSelector::One(Vpn::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7])),
                "00005e00000007",
            ),
            (VpnSelector::All, "all"),
        ] {
            let query = Query {
                start: Time(7),
                end: Time(9),
                vpn,
                ..all.clone()
            };
            assert_eq!(
                query.to_string(),
                format!(
                    "all configured addresses, query-start-time 7, query-end-time 9, VPN-ID {text}"
                )
            );
        }
    }
}
