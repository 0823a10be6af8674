//! The DHCPBULKLEASEQUERY (RFC 6926 section 7.2).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

use crate::wire::{
    BOOTREQUEST, CHADDR_LENGTH, Message, MessageType, TooLong, Vss, code, frame, sub_option,
};

/// The default parameter request list: the four options that RFC 6926 section 7.2 recommends, and
/// the others that describe a binding.
pub const DEFAULT_PARAMETERS: [u8; 10] = [
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_IDENTIFIER,
    code::RELAY_AGENT_INFORMATION,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::BASE_TIME,
    code::START_TIME_OF_STATE,
    code::DHCP_STATE,
    code::DATA_SOURCE,
];

/// A query: one primary query and its qualifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Transaction id, unique among the queries of a connection (RFC 6926 section 7.1).
    pub xid: u32,
    /// The primary query, which selects bindings.
    pub primary: Primary,
    /// query-start-time: selects bindings changed at or after it; seconds since 1970 by the
    /// server's clock.
    pub start: Option<u32>,
    /// query-end-time: selects bindings changed at or before it; seconds since 1970 by the
    /// server's clock.
    pub end: Option<u32>,
    /// VPN-ID: selects bindings of a VPN, or of all; the default VPN without it.
    pub vpn: Option<Vss>,
    /// Codes of the options requested in replies; without it the server chooses.
    pub parameter_request_list: Option<Vec<u8>>,
}

/// The primary query (RFC 6926 section 7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primary {
    /// Query by MAC address.
    Mac {
        /// Hardware type (htype).
        htype: u8,
        /// The address, 1 to 16 octets.
        address: Vec<u8>,
    },
    /// Query by Client-identifier.
    ClientId(Vec<u8>),
    /// Query by Remote ID, at most 255 octets.
    RemoteId(Vec<u8>),
    /// Query by Relay-ID, at most 255 octets.
    RelayId(Vec<u8>),
    /// Query for All Configured IP Addresses.
    All,
}

/// The reason why a query cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidQuery {
    /// The MAC address is empty or does not fit `chaddr`.
    #[error("a MAC address of {0} octets: 1 to {CHADDR_LENGTH} are allowed")]
    MacLength(usize),
    /// The Remote ID or Relay-ID does not fit a sub-option, whose length is one octet.
    #[error("a {name} of {length} octets: at most 255 are allowed")]
    SubOptionLength {
        /// The name of the identifier.
        name: &'static str,
        /// Octets of the identifier.
        length: usize,
    },
    /// The address of a query by IP address is 0.0.0.0, which stands for no address.
    #[error("0.0.0.0 is not the address of a lease")]
    Unspecified,
    /// A query over UDP is for all VPNs, but its reply is about one address in one of them.
    #[error("a query over UDP is for one VPN, not for all")]
    AllVpns,
    /// The message is too long to be framed.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl Query {
    /// Returns a query without qualifiers, with a unique `xid` and the [`DEFAULT_PARAMETERS`].
    pub fn new(primary: Primary) -> Query {
        Query {
            xid: next_xid(),
            primary,
            start: None,
            end: None,
            vpn: None,
            parameter_request_list: Some(DEFAULT_PARAMETERS.to_vec()),
        }
    }

    /// Returns the query as a message.
    ///
    /// # Errors
    /// An identifier is too long for its field, or the MAC address is empty.
    pub fn to_message(&self) -> Result<Message, InvalidQuery> {
        let mut message = Message::new(BOOTREQUEST, self.xid, MessageType::BULK_LEASE_QUERY);
        if let Some(codes) = &self.parameter_request_list {
            message = message.with(code::PARAMETER_REQUEST_LIST, codes.clone());
        }
        match &self.primary {
            Primary::Mac { htype, address } => set_mac(&mut message, *htype, address)?,
            Primary::ClientId(value) => {
                message = message.with(code::CLIENT_IDENTIFIER, value.clone());
            }
            Primary::RemoteId(value) => {
                let value = one_sub_option("Remote ID", sub_option::REMOTE_ID, value)?;
                message = message.with(code::RELAY_AGENT_INFORMATION, value);
            }
            Primary::RelayId(value) => {
                let value = one_sub_option("Relay-ID", sub_option::RELAY_ID, value)?;
                message = message.with(code::RELAY_AGENT_INFORMATION, value);
            }
            Primary::All => {}
        }
        if let Some(start) = self.start {
            message = message.with(code::QUERY_START_TIME, start.to_be_bytes());
        }
        if let Some(end) = self.end {
            message = message.with(code::QUERY_END_TIME, end.to_be_bytes());
        }
        if let Some(vpn) = &self.vpn {
            message = message.with(code::VPN_ID, vpn.encode());
        }
        Ok(message)
    }

    /// Encodes the query with its message-size.
    ///
    /// # Errors
    /// Those of [`Query::to_message`]; also, the message is too long to be framed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidQuery> {
        Ok(frame(&self.to_message()?.encode())?)
    }
}

/// Sets htype, hlen and chaddr.
pub(crate) fn set_mac(
    message: &mut Message,
    htype: u8,
    address: &[u8],
) -> Result<(), InvalidQuery> {
    let wrong_length = InvalidQuery::MacLength(address.len());
    if address.is_empty() {
        return Err(wrong_length);
    }
    let field = message
        .chaddr
        .get_mut(..address.len())
        .ok_or(wrong_length)?;
    field.copy_from_slice(address);
    message.htype = htype;
    message.hlen = u8::try_from(address.len()).map_err(|_| wrong_length)?;
    Ok(())
}

/// Returns the value of a relay-agent-information option with one sub-option (RFC 3046 section
/// 2.0).
pub(crate) fn one_sub_option(
    name: &'static str,
    code: u8,
    value: &[u8],
) -> Result<Vec<u8>, InvalidQuery> {
    let length = u8::try_from(value.len()).map_err(|_| InvalidQuery::SubOptionLength {
        name,
        length: value.len(),
    })?;
    Ok([&[code, length], value].concat())
}

/// Returns an `xid` not used before in this process. The first one is random, so that two processes
/// seldom use the same ones.
pub(crate) fn next_xid() -> u32 {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(0_u8) as u32));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a query of `primary` without other options.
    fn bare(primary: Primary) -> Query {
        Query {
            parameter_request_list: None,
            ..Query::new(primary)
        }
    }

    /// RFC 6926 section 7.2: the field or option of each primary query, and no other.
    #[test]
    fn puts_each_primary_query_into_its_field() {
        let mac = bare(Primary::Mac {
            htype: 1,
            address: vec![2, 0, 0, 0, 0, 9],
        });
        let message = mac.to_message().unwrap();
        assert_eq!((message.op, message.htype, message.hlen), (1, 1, 6));
        assert_eq!(
            message.chaddr,
            [2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(message.options, [(53, vec![14])]);

        for (primary, option) in [
            (Primary::ClientId(vec![7]), Some((61, vec![7]))),
            (Primary::RemoteId(vec![8, 9]), Some((82, vec![2, 2, 8, 9]))),
            (Primary::RelayId(vec![5]), Some((82, vec![12, 1, 5]))),
            (Primary::All, None),
        ] {
            let message = bare(primary).to_message().unwrap();
            assert_eq!(
                (message.htype, message.hlen, message.chaddr),
                (0, 0, [0; 16])
            );
            let expected: Vec<_> = std::iter::once((53, vec![14])).chain(option).collect();
            assert_eq!(message.options, expected);
        }
    }

    /// RFC 6926 section 7.2: qualifiers in any combination, and the recommended list.
    #[test]
    fn adds_qualifiers_to_the_primary_query() {
        let query = Query {
            start: Some(1),
            end: Some(0x0203_0405),
            vpn: Some(Vss::Name("blue".into())),
            ..Query::new(Primary::All)
        };
        let message = query.to_message().unwrap();
        assert_eq!(message.option(154), Some(vec![0, 0, 0, 1]));
        assert_eq!(message.option(155), Some(vec![2, 3, 4, 5]));
        assert_eq!(message.option(221), Some(b"\0blue".to_vec()));
        let list = message.option(55).unwrap();
        for should in [51, 91, 152, 153] {
            assert!(list.contains(&should), "{should}");
        }
    }

    /// RFC 3396: a Remote ID of 255 octets makes an option value of 257, split in two.
    #[test]
    fn splits_the_longest_remote_id() {
        let query = bare(Primary::RemoteId(vec![b'r'; 255]));
        let frame = query.to_bytes().unwrap();
        let message = Message::decode(&frame[2..]).unwrap();
        let lengths: Vec<_> = message.options.iter().map(|(c, v)| (*c, v.len())).collect();
        assert_eq!(lengths, [(53, 1), (82, 255), (82, 2)]);
        assert_eq!(message.option(82).unwrap()[..2], [2, 255]);
    }

    /// RFC 2131 section 2 and RFC 3046 section 2.0: the sizes of the fields.
    #[test]
    fn refuses_identifiers_too_long_for_their_field() {
        let mac = |length| Primary::Mac {
            htype: 1,
            address: vec![1; length],
        };
        assert!(bare(mac(16)).to_bytes().is_ok());
        assert_eq!(bare(mac(0)).to_bytes(), Err(InvalidQuery::MacLength(0)));
        assert_eq!(bare(mac(17)).to_bytes(), Err(InvalidQuery::MacLength(17)));
        assert!(bare(Primary::RelayId(vec![0; 256])).to_bytes().is_err());
        assert!(bare(Primary::ClientId(vec![0; 256])).to_bytes().is_ok());
        assert!(bare(Primary::ClientId(vec![0; 65_536])).to_bytes().is_err());
    }

    /// RFC 6926 section 7.1: each xid is unique on the connection.
    #[test]
    fn assigns_a_unique_xid_to_each_query() {
        assert_ne!(Query::new(Primary::All).xid, Query::new(Primary::All).xid);
    }
}
