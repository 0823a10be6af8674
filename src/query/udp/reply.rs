//! Writing the reply to a DHCPLEASEQUERY (RFC 4388 section 6.4.2, RFC 6148 section 4.3).
//!
//! A reply is one datagram of limited length. Options are written in the order of their importance: server identifier,
//! VPN-ID, associated-ip, relay agent information, lease time, T1, T2, client identifier, client-last-transaction-time,
//! then the others in the order of the parameter request list. One that does not fit is left out; later ones may still
//! fit. The first three are never left out, nor is relay agent information that is asked for: a reply without them would be
//! wrong, so there is none.

use std::net::Ipv4Addr;

use proto::MessageType;
use proto::message::MAX_OPTION;
use proto::option::code;

use crate::query::reply::{Projection, ReplyOption, ReplyOptions, write_option};
use crate::query::udp::request::Request;
use crate::query::udp::{Reply, Unanswered};
use crate::wire::writer::{MessageWriter, ReplyHeader};

/// Sent where known without a parameter request list: what Kea sends in a DHCPACK (RFC 2131 section 4.3.1),
/// and client-last-transaction-time, which distinguishes the replies of several servers (RFC 4388 section 6.8).
/// Kea sends a subnet mask, routers, a domain name and DNS servers to every client.
const DEFAULT_OPTIONS: [u8; 10] = [
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_IDENTIFIER,
    code::RELAY_AGENT_INFORMATION,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::SUBNET_MASK,
    code::ROUTERS,
    code::DOMAIN_NAME_SERVERS,
    code::DOMAIN_NAME,
];

/// The options that precede all others, by importance.
const IMPORTANT: [u8; 6] = [
    code::RELAY_AGENT_INFORMATION,
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_IDENTIFIER,
    code::CLIENT_LAST_TRANSACTION_TIME,
];

/// Octets of an address in associated-ip.
const ADDRESS: usize = 4;

/// The addresses in one instance of associated-ip: no address is split.
const ADDRESSES_PER_OPTION: usize = MAX_OPTION / ADDRESS;

/// The parts that all replies to a query have in common.
pub struct Writer<'a> {
    /// The query.
    pub request: &'a Request,
    /// The server identifier, unless the query or the configuration of the lease has another one.
    pub server_identifier: Ipv4Addr,
}

impl Writer<'_> {
    /// Writes a message of a type, with the options that `write` adds.
    fn message(
        &self,
        message_type: MessageType,
        server_identifier: Ipv4Addr,
        write: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), Unanswered>,
    ) -> Result<Reply, Unanswered> {
        let request = self.request;
        let mut message = Vec::with_capacity(request.largest);
        let header = ReplyHeader::new(request.xid, request.flags, request.giaddr);
        let mut writer = MessageWriter::new(&mut message, &header, message_type);
        writer.limit(request.largest);
        // The identifier by which the requester has asked is this server's.
        let identifier = request.server_identifier.unwrap_or(server_identifier);
        writer.option(code::SERVER_IDENTIFIER, &identifier.octets());
        // A requester drops a reply without the VPN that it asked for (RFC 6607 section 6).
        if let Some(vpn) = &request.vpn {
            writer.option(code::VPN_ID, &vpn.to_vss());
        }
        write(&mut writer)?;
        writer.finish();
        Ok(Reply {
            message,
            message_type,
        })
    }

    /// Writes a DHCPLEASEUNASSIGNED about `address`. It has no further options.
    pub fn unassigned(&self, address: Ipv4Addr) -> Result<Reply, Unanswered> {
        self.message(
            MessageType::LEASE_UNASSIGNED,
            self.server_identifier,
            |writer| {
                writer.address(address);
                Ok(())
            },
        )
    }

    /// Writes a DHCPLEASEUNKNOWN. It has no further options, but returns option 82 of a query by remote-id (RFC
    /// 6148 section 4.3). The fixed fields are those of the query.
    pub fn unknown(&self, address: Ipv4Addr, is_by_remote_id: bool) -> Result<Reply, Unanswered> {
        self.message(
            MessageType::LEASE_UNKNOWN,
            self.server_identifier,
            |writer| {
                writer.address(address);
                let (htype, hlen, chaddr) = self.request.hardware;
                let chaddr = chaddr.get(..usize::from(hlen)).unwrap_or_default();
                writer.hardware(htype, chaddr);
                if is_by_remote_id {
                    let information = &self.request.relay_agent_information;
                    mandatory(writer, code::RELAY_AGENT_INFORMATION, information)?;
                }
                Ok(())
            },
        )
    }

    /// Writes a DHCPLEASEACTIVE about an address, with the other active addresses of its client. `is_non_sensitive`
    /// says which options the requester may receive.
    ///
    /// # Errors
    /// The other addresses, or the relay agent information that is asked for, do not fit.
    pub fn active(
        &self,
        projection: &Projection<'_>,
        others: &[Ipv4Addr],
        is_non_sensitive: impl Fn(u8) -> bool,
    ) -> Result<Reply, Unanswered> {
        let wanted = by_importance(match &self.request.requested {
            Some(requested) => requested.clone(),
            None => {
                let always = projection.always_sent();
                DEFAULT_OPTIONS.into_iter().chain(always).collect()
            }
        });
        // As in the client's DHCPACK.
        let identifier = projection
            .server_identifier()
            .unwrap_or(self.server_identifier);
        self.message(MessageType::LEASE_ACTIVE, identifier, |writer| {
            writer.address(projection.address);
            if let Some(client) = projection.client {
                writer.hardware(client.htype(), client.chaddr());
            }
            let instances = others.len().div_ceil(ADDRESSES_PER_OPTION);
            if writer.room() < others.len() * ADDRESS + instances * 2 {
                return Err(Unanswered::TooLong);
            }
            for part in others.chunks(ADDRESSES_PER_OPTION) {
                let octets: Vec<u8> = part.iter().flat_map(Ipv4Addr::octets).collect();
                writer.option(code::ASSOCIATED_IP, &octets);
            }
            for option in ReplyOptions::new(Some(&wanted), is_non_sensitive).iter() {
                // "If [it] is specified in the Parameter Request List", it "MUST be included" (RFC 4388 section 6.4.2).
                let is_asked_for = self.request.requested.is_some();
                if is_asked_for && option == ReplyOption::Sent(code::RELAY_AGENT_INFORMATION) {
                    let information = projection.sent(code::RELAY_AGENT_INFORMATION);
                    mandatory(writer, code::RELAY_AGENT_INFORMATION, &information)?;
                } else {
                    write_option(writer, option, projection);
                }
            }
            Ok(())
        })
    }
}

/// Adds an option, unless it is empty.
///
/// # Errors
/// There is no room for it.
fn mandatory(writer: &mut MessageWriter<'_>, code: u8, value: &[u8]) -> Result<(), Unanswered> {
    if value.is_empty() {
        return Ok(());
    }
    let instances = value.len().div_ceil(MAX_OPTION);
    if writer.room() < value.len() + 2 * instances {
        return Err(Unanswered::TooLong);
    }
    writer.option(code, value);
    Ok(())
}

/// Returns codes of options in the order of their importance.
fn by_importance(mut codes: Vec<u8>) -> Vec<u8> {
    let rank = |code: &u8| IMPORTANT.iter().position(|important| important == code);
    codes.sort_by_key(|code| rank(code).unwrap_or(IMPORTANT.len()));
    codes
}
