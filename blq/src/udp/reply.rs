//! Datagrams: the reply to a query, and others (RFC 4388 section 6.5).

use std::net::Ipv4Addr;

use proto::message::{FIXED_FIELDS, GIADDR, MAGIC_COOKIE, XID};
use thiserror::Error;

use crate::binding::{Binding, MalformedReply};
use crate::udp::{Key, LeaseQuery};
use crate::wire::{BOOTREPLY, DecodeError, HEADER_LENGTH, Message, MessageType, Vss};

/// A server's reply to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// DHCPLEASEACTIVE: a client holds the address. DHCPLEASEUNASSIGNED: the server manages the address,
    /// and no client holds it.
    Binding(Box<Binding>),
    /// DHCPLEASEUNKNOWN: the server does not manage the address, or has no active lease of the client.
    Unknown(Unknown),
}

/// A DHCPLEASEUNKNOWN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Transaction id of the query.
    pub xid: u32,
    /// The server identifier, if the server sent one.
    pub server_identifier: Option<Ipv4Addr>,
}

/// The reason why a datagram is not the reply to the query in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ignored {
    /// The datagram does not begin with a DHCPv4 header.
    #[error("no DHCPv4 message")]
    NotDhcp,
    /// `op` is not BOOTREPLY.
    #[error("op is {0}, not BOOTREPLY (2)")]
    Op(u8),
    /// The message belongs to another exchange.
    #[error("xid is {0:#010x}, that of another query")]
    Xid(u32),
    /// The message is for another requester or relay agent.
    #[error("giaddr is {0}, not this requester")]
    Giaddr(Ipv4Addr),
    /// The message is no reply to a DHCPLEASEQUERY.
    #[error("{0} is no reply to a DHCPLEASEQUERY")]
    MessageType(MessageType),
}

/// The reason why the reply to the query cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The options cannot be read.
    #[error("the reply is no DHCPv4 message: {0}")]
    Decode(#[from] DecodeError),
    /// A field or option has a value that is not allowed.
    #[error("the reply is malformed: {0}")]
    Malformed(#[from] MalformedReply),
    /// The reply to a query by IP address is about another address.
    #[error("the reply is about {0}")]
    OtherAddress(Ipv4Addr),
    /// The reply is not about the VPN of the query (RFC 6607 section 6).
    #[error("the reply does not have the VPN-ID of the query")]
    OtherVpn,
}

/// The reason why a datagram is no valid reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// Another datagram may be the reply.
    Ignored(Ignored),
    /// The reply cannot be used.
    Violation(Violation),
}

impl<E: Into<Violation>> From<E> for Rejected {
    fn from(error: E) -> Rejected {
        Rejected::Violation(error.into())
    }
}

/// Reads a datagram as the reply to `query` of the requester at `giaddr`. A server may reply from another
/// of its addresses than the one that was asked, so the source does not count.
pub(super) fn read(
    datagram: &[u8],
    query: &LeaseQuery,
    giaddr: Ipv4Addr,
) -> Result<Reply, Rejected> {
    check_header(datagram, query.xid, giaddr).map_err(Rejected::Ignored)?;
    let message = Message::decode(datagram)?;
    let message_type = message
        .message_type()
        .ok_or(MalformedReply::NoMessageType)?;
    match message_type {
        MessageType::LEASE_ACTIVE | MessageType::LEASE_UNASSIGNED | MessageType::LEASE_UNKNOWN => {}
        other => return Err(Rejected::Ignored(Ignored::MessageType(other))),
    }
    let binding = Binding::decode(&message, message_type)?;
    if let Some(length) = binding.malformed_associated_ip() {
        return Err(MalformedReply::AssociatedIp(length).into());
    }
    // Another value than that of the query would be about other clients.
    if query.vpn.is_some() && binding.vpn.as_ref().unwrap_or(&Vss::Default) != asked(query) {
        return Err(Violation::OtherVpn.into());
    }
    if message_type == MessageType::LEASE_UNKNOWN {
        return Ok(Reply::Unknown(Unknown {
            xid: binding.xid,
            server_identifier: binding.server_identifier,
        }));
    }
    match query.key {
        Key::Address(address) if address != binding.address => {
            Err(Violation::OtherAddress(binding.address).into())
        }
        _ => Ok(Reply::Binding(Box::new(binding))),
    }
}

/// Returns the VPN of a query.
fn asked(query: &LeaseQuery) -> &Vss {
    query.vpn.as_ref().unwrap_or(&Vss::Default)
}

/// Checks the fields that assign a message to its query. They come before the options, so that damaged
/// options of the reply are found, and not taken for another message.
fn check_header(datagram: &[u8], xid: u32, giaddr: Ipv4Addr) -> Result<(), Ignored> {
    let field = |offset| {
        let field = datagram.get(offset..)?.first_chunk::<4>();
        field.copied()
    };
    let cookie = datagram.get(FIXED_FIELDS..HEADER_LENGTH);
    let (Some(&op), Some(found_xid), Some(found_giaddr)) =
        (datagram.first(), field(XID), field(GIADDR))
    else {
        return Err(Ignored::NotDhcp);
    };
    let (found_xid, found_giaddr) = (u32::from_be_bytes(found_xid), found_giaddr.into());
    if cookie != Some(&MAGIC_COOKIE[..]) {
        Err(Ignored::NotDhcp)
    } else if op != BOOTREPLY {
        Err(Ignored::Op(op))
    } else if found_xid != xid {
        Err(Ignored::Xid(found_xid))
    } else if found_giaddr != giaddr {
        Err(Ignored::Giaddr(found_giaddr))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The requester of these tests.
    const GIADDR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    /// The address of the lease.
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

    /// Returns a query for [`ADDRESS`].
    fn query() -> LeaseQuery {
        LeaseQuery {
            xid: 7,
            ..LeaseQuery::new(Key::Address(ADDRESS))
        }
    }

    /// Returns a reply to [`query`].
    fn reply(message_type: MessageType) -> Message {
        Message {
            giaddr: GIADDR,
            ciaddr: ADDRESS,
            ..Message::new(BOOTREPLY, 7, message_type)
        }
    }

    /// Reads a reply to [`query`].
    fn read_reply(message: &Message) -> Result<Reply, Rejected> {
        read(&message.encode(), &query(), GIADDR)
    }

    /// RFC 4388 section 6.5: the message type is the state of the address.
    #[test]
    fn distinguishes_active_unassigned_and_unknown() {
        let active = reply(MessageType::LEASE_ACTIVE)
            .with(51, 60_u32.to_be_bytes())
            .with(92, [192, 0, 2, 10, 192, 0, 2, 11]);
        match read_reply(&active) {
            Ok(Reply::Binding(binding)) => {
                assert_eq!(binding.state, Some(crate::State::ACTIVE));
                assert_eq!((binding.address, binding.lease_time), (ADDRESS, Some(60)));
                let others = [10, 11].map(|last| Ipv4Addr::new(192, 0, 2, last));
                assert_eq!(binding.associated_ip(), Some(others.to_vec()));
            }
            other => panic!("{other:?}"),
        }
        match read_reply(&reply(MessageType::LEASE_UNASSIGNED)) {
            Ok(Reply::Binding(binding)) => {
                assert_eq!(binding.message_type, MessageType::LEASE_UNASSIGNED);
                assert_eq!((binding.state, binding.associated_ip()), (None, None));
            }
            other => panic!("{other:?}"),
        }
        let unknown = reply(MessageType::LEASE_UNKNOWN).with(54, [192, 0, 2, 1]);
        let expected = Reply::Unknown(Unknown {
            xid: 7,
            server_identifier: Some(Ipv4Addr::new(192, 0, 2, 1)),
        });
        assert_eq!(read_reply(&unknown), Ok(expected));
    }

    /// Port 67 receives messages of other exchanges too.
    #[test]
    fn ignores_messages_of_other_exchanges() {
        let active = || reply(MessageType::LEASE_ACTIVE);
        let other = Ipv4Addr::new(192, 0, 2, 8);
        let mut no_cookie = active().encode();
        no_cookie[236] = 0;
        for (datagram, reason) in [
            (b"SSH-2.0".to_vec(), Ignored::NotDhcp),
            (no_cookie, Ignored::NotDhcp),
            (active().encode()[..239].to_vec(), Ignored::NotDhcp),
            (Message { op: 1, ..active() }.encode(), Ignored::Op(1)),
            (Message { xid: 8, ..active() }.encode(), Ignored::Xid(8)),
            (
                Message {
                    giaddr: other,
                    ..active()
                }
                .encode(),
                Ignored::Giaddr(other),
            ),
            (
                reply(MessageType::OFFER).encode(),
                Ignored::MessageType(MessageType::OFFER),
            ),
        ] {
            let rejected = Err(Rejected::Ignored(reason));
            assert_eq!(read(&datagram, &query(), GIADDR), rejected);
        }
    }

    /// A damaged reply is an error at once: retransmissions would get the same.
    #[test]
    fn refuses_malformed_replies() {
        let active = || reply(MessageType::LEASE_ACTIVE);
        let mut no_end = active();
        no_end.ending = (&[]).into();
        let mut untyped = active();
        untyped.options.clear();
        let other = Message {
            ciaddr: GIADDR,
            ..active()
        };
        for (message, violation) in [
            (no_end, DecodeError::NoEnd.into()),
            (untyped, MalformedReply::NoMessageType.into()),
            (
                Message {
                    hlen: 17,
                    ..active()
                },
                MalformedReply::Hlen(17).into(),
            ),
            (
                active().with(92, [192, 0, 2]),
                MalformedReply::AssociatedIp(3).into(),
            ),
            (
                active().with(92, []),
                MalformedReply::AssociatedIp(0).into(),
            ),
            (other, Violation::OtherAddress(GIADDR)),
        ] {
            assert_eq!(read_reply(&message), Err(Rejected::Violation(violation)));
        }
    }

    /// RFC 6607 section 6: a reply without the VPN-ID of the query is about another VPN.
    #[test]
    fn requires_the_vpn_id_of_the_query() {
        let unknown = || reply(MessageType::LEASE_UNKNOWN);
        for (asked, message, is_accepted) in [
            (
                Some(Vss::Name("blue".into())),
                unknown().with(221, *b"\0blue"),
                true,
            ),
            (
                Some(Vss::Name("blue".into())),
                unknown().with(221, *b"\0red"),
                false,
            ),
            (Some(Vss::Name("blue".into())), unknown(), false),
            (Some(Vss::Default), unknown(), true),
            (Some(Vss::Default), unknown().with(221, [255]), true),
            (None, unknown(), true),
            // RFC 6607 section 6: a server may assign a VPN.
            (None, unknown().with(221, *b"\0blue"), true),
        ] {
            let query = LeaseQuery {
                vpn: asked,
                ..query()
            };
            let reply = read(&message.encode(), &query, GIADDR);
            assert_eq!(reply.is_ok(), is_accepted, "{:?} {message:?}", query.vpn);
        }
    }

    proptest! {
        /// Any host can send octets to the requester: none make it panic, or are taken as the reply
        /// without its xid and giaddr.
        #[test]
        fn survives_any_octets(datagram in prop::collection::vec(any::<u8>(), 0..600)) {
            let read = read(&datagram, &query(), GIADDR);
            prop_assert!(matches!(read, Err(Rejected::Ignored(_))));
        }

        /// No options after a valid header make it panic.
        #[test]
        fn survives_any_options(
            message_type in 9_u8..15,
            octets in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut datagram = reply(MessageType(message_type)).encode();
            datagram.pop();
            datagram.extend(octets);
            if let Ok(Reply::Binding(binding)) = read(&datagram, &query(), GIADDR) {
                prop_assert_eq!(binding.address, ADDRESS);
            }
        }

        /// A reply with each bit of its header changed in turn is another message or malformed, but
        /// for fields that do not count.
        #[test]
        fn checks_each_bit_of_xid_and_giaddr(bit in 0..32_usize, at_giaddr in any::<bool>()) {
            let mut datagram = reply(MessageType::LEASE_UNKNOWN).encode();
            let offset = if at_giaddr { 24 } else { 4 };
            datagram[offset + bit / 8] ^= 1 << (bit % 8);
            let read = read(&datagram, &query(), GIADDR);
            prop_assert!(matches!(read, Err(Rejected::Ignored(_))));
        }
    }
}
