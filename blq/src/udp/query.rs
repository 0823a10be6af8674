//! The DHCPLEASEQUERY (RFC 4388 section 6.2, RFC 6148 section 4.1).

use std::net::Ipv4Addr;

use crate::query::{DEFAULT_PARAMETERS, InvalidQuery, next_xid, one_sub_option, set_mac};
use crate::wire::{BOOTREQUEST, Message, MessageType, Vss, code, sub_option};

/// The largest reply that a query asks for: an Ethernet frame carries it in one UDP datagram.
pub const MAX_REPLY: u16 = 1_472;

/// A query over UDP, for one address or client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseQuery {
    /// Transaction id, the same in all transmissions of the query.
    pub xid: u32,
    /// The address or client.
    pub key: Key,
    /// VPN-ID: the VPN in which the server searches, not [`Vss::All`]; the default VPN without it (RFC
    /// 6607 section 5.2).
    pub vpn: Option<Vss>,
    /// Codes of the options requested in the reply; without it the server chooses. A query by Remote
    /// ID must have it, with associated-ip (RFC 6148 section 4.1).
    pub parameter_request_list: Option<Vec<u8>>,
}

/// The field that selects the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Query by IP address, which is not 0.0.0.0.
    Address(Ipv4Addr),
    /// Query by MAC address.
    Mac {
        /// Hardware type (htype).
        htype: u8,
        /// The address, 1 to 16 octets.
        address: Vec<u8>,
    },
    /// Query by Client-identifier.
    ClientId(Vec<u8>),
    /// Query by Remote ID, at most 255 octets (RFC 6148).
    RemoteId(Vec<u8>),
}

impl LeaseQuery {
    /// Returns a query with a unique `xid` that requests the [`DEFAULT_PARAMETERS`] and associated-ip.
    pub fn new(key: Key) -> LeaseQuery {
        let mut parameters = DEFAULT_PARAMETERS.to_vec();
        parameters.push(code::ASSOCIATED_IP);
        LeaseQuery {
            xid: next_xid(),
            key,
            vpn: None,
            parameter_request_list: Some(parameters),
        }
    }

    /// Returns the query as a message of the requester at `giaddr`.
    ///
    /// # Errors
    /// An identifier is empty or too long for its field, the address is 0.0.0.0, or the VPN-ID selects
    /// all VPNs.
    pub fn to_message(&self, giaddr: Ipv4Addr) -> Result<Message, InvalidQuery> {
        let mut message = Message::new(BOOTREQUEST, self.xid, MessageType::LEASE_QUERY);
        message.giaddr = giaddr;
        if let Some(codes) = &self.parameter_request_list {
            message = message.with(code::PARAMETER_REQUEST_LIST, codes.clone());
        }
        message = message.with(code::MAX_MESSAGE_SIZE, MAX_REPLY.to_be_bytes());
        match &self.key {
            Key::Address(address) if address.is_unspecified() => {
                return Err(InvalidQuery::Unspecified);
            }
            Key::Address(address) => message.ciaddr = *address,
            Key::Mac { htype, address } => set_mac(&mut message, *htype, address)?,
            Key::ClientId(value) => {
                message = message.with(code::CLIENT_IDENTIFIER, value.clone());
            }
            Key::RemoteId(value) => {
                let value = one_sub_option("Remote ID", sub_option::REMOTE_ID, value)?;
                message = message.with(code::RELAY_AGENT_INFORMATION, value);
            }
        }
        match &self.vpn {
            Some(Vss::All) => Err(InvalidQuery::AllVpns),
            Some(vpn) => Ok(message.with(code::VPN_ID, vpn.encode())),
            None => Ok(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requester of these tests.
    const GIADDR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    /// Returns a query by `key` without a parameter request list.
    fn bare(key: Key) -> LeaseQuery {
        LeaseQuery {
            parameter_request_list: None,
            ..LeaseQuery::new(key)
        }
    }

    /// RFC 4388 section 6.2, RFC 6148 section 4.1: the field or option of each key, and no other.
    #[test]
    fn puts_each_key_into_its_field() {
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let mac = Key::Mac {
            htype: 6,
            address: vec![2, 9],
        };
        let none = Ipv4Addr::UNSPECIFIED;
        for (key, ciaddr, hardware, option) in [
            (Key::Address(address), address, (0, 0, 0), None),
            (mac, none, (6, 2, 2), None),
            (Key::ClientId(vec![7]), none, (0, 0, 0), Some((61, vec![7]))),
            (
                Key::RemoteId(vec![8, 9]),
                none,
                (0, 0, 0),
                Some((82, vec![2, 2, 8, 9])),
            ),
        ] {
            let message = bare(key).to_message(GIADDR).unwrap();
            assert_eq!((message.op, message.giaddr), (1, GIADDR));
            assert_eq!(message.ciaddr, ciaddr);
            let [first, ..] = message.chaddr;
            assert_eq!((message.htype, message.hlen, first), hardware);
            let expected = [(53, vec![10]), (57, vec![5, 192])];
            let expected: Vec<_> = expected.into_iter().chain(option).collect();
            assert_eq!(message.options, expected);
        }
    }

    /// RFC 6148 section 4.1: the list has associated-ip. RFC 6607 section 5.2: VPN-ID.
    #[test]
    fn adds_parameter_request_list_and_vpn_id() {
        let query = LeaseQuery {
            vpn: Some(Vss::Name("blue".into())),
            ..LeaseQuery::new(Key::RemoteId(vec![1]))
        };
        let message = query.to_message(GIADDR).unwrap();
        assert_eq!(message.option(221), Some(b"\0blue".to_vec()));
        let list = message.option(55).unwrap();
        for should in [51, 82, 91, 92] {
            assert!(list.contains(&should), "{should}");
        }
    }

    #[test]
    fn refuses_queries_that_no_server_answers() {
        let mac = Key::Mac {
            htype: 1,
            address: vec![],
        };
        let all = LeaseQuery {
            vpn: Some(Vss::All),
            ..bare(Key::ClientId(vec![1, 1]))
        };
        for (query, error) in [
            (
                bare(Key::Address(Ipv4Addr::UNSPECIFIED)),
                InvalidQuery::Unspecified,
            ),
            (bare(mac), InvalidQuery::MacLength(0)),
            (all, InvalidQuery::AllVpns),
        ] {
            assert_eq!(query.to_message(GIADDR), Err(error));
        }
        assert!(
            bare(Key::RemoteId(vec![0; 256]))
                .to_message(GIADDR)
                .is_err()
        );
    }
}
