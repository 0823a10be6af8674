//! Reading a DHCPLEASEQUERY and checking it (RFC 4388 sections 6.2 and 6.3, RFC 6148 section 4.1).

use std::fmt;
use std::net::Ipv4Addr;

use proto::message::{BOOTREQUEST, CHADDR_LENGTH};
use proto::option::code;
use proto::{Lengths, MessageType, sub_option};

use crate::mirror::Identity;
use crate::model::vpn::{Vpn, VpnSelector};
use crate::query::QueryType;
use crate::query::request::{Refusal, is_address_zero, mac};
use crate::query::udp::Unanswered;
use crate::wire::message::{Message, options_field};
use crate::wire::options::Tlvs;

/// The largest reply without a maximum in the query: what an Ethernet frame carries in a UDP datagram.
pub const MAX_REPLY: usize = 1_472;

/// The least maximum that a query can have: each DHCP client takes messages of this length (RFC 2132 section
/// 9.10).
const LEAST_MAXIMUM: u16 = 576;

/// The lengths of a client identifier. Over UDP one of a single octet, which RFC 2132 does not allow, is no
/// reason to keep silent: no client has it.
const CLIENT_IDENTIFIER: Lengths = Lengths::at_least(1);

/// A DHCPLEASEQUERY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Transaction id.
    pub xid: u32,
    /// The flags, which the reply returns.
    pub flags: u16,
    /// htype, hlen and chaddr, which a DHCPLEASEUNKNOWN returns.
    pub hardware: (u8, u8, [u8; CHADDR_LENGTH]),
    /// The requester, to which the reply is sent.
    pub giaddr: Ipv4Addr,
    /// The primary query.
    pub key: Key,
    /// The VPN in which it searches; `None` without a VPN-ID, for the default VPN.
    pub vpn: Option<Vpn>,
    /// The server that is asked, if the query names one.
    pub server_identifier: Option<Ipv4Addr>,
    /// The codes in the parameter request list, if there is one.
    pub requested: Option<Vec<u8>>,
    /// The value of option 82, which the reply to a query by remote-id returns if there is no lease.
    pub relay_agent_information: Vec<u8>,
    /// The largest length of the reply in octets, at least 576 and at most [`MAX_REPLY`].
    pub largest: usize,
}

/// A primary query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Query by IP address.
    Address(Ipv4Addr),
    /// Query by MAC address, Client-identifier or Remote ID.
    Identity(Identity),
}

impl Key {
    /// Returns the type of the query.
    pub fn query_type(&self) -> QueryType {
        match self {
            Key::Address(_) => QueryType::Ip,
            Key::Identity(identity) => QueryType::of(identity),
        }
    }
}

/// The query, for the log.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::Address(address) => write!(f, "ip {address}")?,
            Key::Identity(identity) => identity.fmt(f)?,
        }
        match &self.vpn {
            Some(vpn) => write!(f, ", VPN-ID {vpn}"),
            None => Ok(()),
        }
    }
}

/// Whether a datagram is a DHCPLEASEQUERY, as Kea would read it: its options field, not an overloaded one,
/// has that message type.
///
/// Called for every datagram that Kea receives: it looks at some octets, and allocates nothing.
#[inline]
pub fn is_lease_query(datagram: &[u8]) -> bool {
    let Some(options) = options_field(datagram) else {
        return false;
    };
    let message_type = Tlvs::options(options).find_map(|option| match option {
        Ok((code::MESSAGE_TYPE, value)) => Some(value),
        _ => None,
    });
    message_type == Some(&[MessageType::LEASE_QUERY.0][..])
}

/// Reads a DHCPLEASEQUERY.
///
/// # Errors
/// The reason for which the query is not answered.
pub fn read(datagram: &[u8]) -> Result<Request, Unanswered> {
    let message = Message::read(datagram).map_err(Unanswered::Message)?;
    if message.op != BOOTREQUEST {
        return Err(Unanswered::NotARequest(message.op));
    }
    let giaddr = message.giaddr;
    if giaddr.octets()[0] == 0 || giaddr.is_multicast() || giaddr.is_broadcast() {
        return Err(Unanswered::NoRequester(giaddr));
    }
    once(&message, code::MESSAGE_TYPE, "dhcp-message-type", None)?;
    let vpn = once(&message, code::VPN_ID, "VPN-ID", None)?;
    let vpn = match vpn.map(VpnSelector::read).transpose() {
        Ok(Some(VpnSelector::All)) => return Err(Unanswered::AllVpns),
        Ok(Some(VpnSelector::One(vpn))) => Some(vpn),
        Ok(None) => None,
        Err(error) => return Err(Unanswered::VpnId(error)),
    };
    let address = Lengths::exactly(4);
    let server = once(
        &message,
        code::SERVER_IDENTIFIER,
        "server-identifier",
        Some(address),
    )?;
    let server = server.and_then(|value| <[u8; 4]>::try_from(value).ok());
    let size = Lengths::exactly(2);
    let largest = once(
        &message,
        code::MAX_MESSAGE_SIZE,
        "max-message-size",
        Some(size),
    )?;
    let largest = largest
        .and_then(|value| <[u8; 2]>::try_from(value).ok())
        .map(|octets| usize::from(u16::from_be_bytes(octets).max(LEAST_MAXIMUM)));
    let options = &message.options;
    let value = |code| options.value(code).map(<[u8]>::to_vec);
    Ok(Request {
        xid: message.xid,
        flags: message.flags,
        hardware: (message.htype, message.hlen, message.chaddr),
        giaddr,
        key: key(&message)?,
        vpn,
        server_identifier: server.map(Ipv4Addr::from),
        requested: value(code::PARAMETER_REQUEST_LIST),
        relay_agent_information: value(code::RELAY_AGENT_INFORMATION).unwrap_or_default(),
        largest: largest.map_or(MAX_REPLY, |largest| largest.min(MAX_REPLY)),
    })
}

/// Returns the value of an option that may appear once, with one of these lengths.
fn once<'a>(
    message: &'a Message<'_>,
    code: u8,
    field: &'static str,
    lengths: Option<Lengths>,
) -> Result<Option<&'a [u8]>, Unanswered> {
    let Some(option) = message.options.get(code) else {
        return Ok(None);
    };
    if option.occurrences > 1 {
        return Err(Unanswered::Repeated(field, option.occurrences));
    }
    match lengths {
        Some(lengths) if !lengths.contains(option.value.len()) => {
            Err(Unanswered::Length(field, option.value.len(), lengths))
        }
        _ => Ok(Some(&option.value)),
    }
}

/// Returns the primary query.
fn key(message: &Message<'_>) -> Result<Key, Unanswered> {
    let mac = || match mac(message) {
        Ok(mac) => Ok(mac.map(|mac| Key::Identity(Identity::Mac(mac)))),
        Err(Refusal::HardwareLength(found)) => Err(Unanswered::HardwareLength(found)),
        Err(_) => Ok(None),
    };
    let mut keys = Vec::new();
    if !message.ciaddr.is_unspecified() {
        keys.push(Key::Address(message.ciaddr));
    }
    if !is_address_zero(message) {
        keys.extend(mac()?);
    }
    if let Some(id) = message.options.value(code::CLIENT_IDENTIFIER) {
        if !CLIENT_IDENTIFIER.contains(id.len()) {
            let length = id.len();
            return Err(Unanswered::Length(
                "client-identifier",
                length,
                CLIENT_IDENTIFIER,
            ));
        }
        keys.push(Key::Identity(Identity::ClientId(id.to_vec())));
    }
    if keys.is_empty() {
        // Beside another key a remote-id is no query (RFC 6148 section 5).
        keys.extend(remote_id(message)?);
    }
    if keys.is_empty() {
        // An address of zeros is a query if it is the only one.
        keys.extend(mac()?);
    }
    match keys.len() {
        1 => keys.pop().ok_or_else(|| Unanswered::Keys(Vec::new())),
        _ => Err(Unanswered::Keys(keys.iter().map(Key::query_type).collect())),
    }
}

/// Returns the query by remote-id, for which option 82 has this sub-option alone (RFC 6148 section 4.1).
fn remote_id(message: &Message<'_>) -> Result<Option<Key>, Unanswered> {
    let Some(information) = message.options.value(code::RELAY_AGENT_INFORMATION) else {
        return Ok(None);
    };
    let sub_options: Result<Vec<_>, _> = Tlvs::sub_options(information).collect();
    let sub_options = sub_options.map_err(|_| Unanswered::SubOptions)?;
    let [(sub_option::REMOTE_ID, id)] = sub_options[..] else {
        return Ok(None);
    };
    let allowed = sub_option::IDENTIFIER_LENGTHS;
    match allowed.contains(id.len()) {
        true => Ok(Some(Key::Identity(Identity::RemoteId(id.to_vec())))),
        false => Err(Unanswered::Length("remote-id", id.len(), allowed)),
    }
}
