//! Replies: bindings, and the end of the replies to a query (RFC 6926 section 7.3).

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use thiserror::Error;

use crate::text;
use crate::wire::{
    BOOTREPLY, CHADDR_LENGTH, Message, MessageType, State, StatusCode, Vss, code, data_source,
    lengths, sub_option,
};

pub use proto::lease_time::INFINITE;

/// A server's reply to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// DHCPLEASEACTIVE or DHCPLEASEUNASSIGNED.
    Binding(Box<Binding>),
    /// DHCPLEASEQUERYDONE.
    Done(Done),
}

/// The binding of one address. A value that the server did not send is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Transaction id of the query.
    pub xid: u32,
    /// DHCPLEASEACTIVE or DHCPLEASEUNASSIGNED.
    pub message_type: MessageType,
    /// The address (ciaddr).
    pub address: Ipv4Addr,
    /// The client's hardware type.
    pub htype: u8,
    /// The client's hardware address, `hlen` octets of it.
    pub chaddr: Vec<u8>,
    /// dhcp-state; ACTIVE in a DHCPLEASEACTIVE without that option (RFC 6926 section 6.2.7).
    pub state: Option<State>,
    /// base-time: the time of the message, in seconds since 1970 by the server's clock. The other
    /// times are offsets from it (RFC 6926 section 6.2.3).
    pub base_time: Option<u32>,
    /// Seconds before base-time at which the address entered its state.
    pub start_time_of_state: Option<u32>,
    /// Seconds before base-time at which the client last communicated with the server.
    pub client_last_transaction_time: Option<u32>,
    /// Seconds after base-time at which the lease ends; [`INFINITE`] if it does not end.
    pub lease_time: Option<u32>,
    /// T1: seconds after base-time.
    pub renewal_time: Option<u32>,
    /// T2: seconds after base-time.
    pub rebinding_time: Option<u32>,
    /// The client identifier.
    pub client_id: Option<Vec<u8>>,
    /// The option 82 that the relay agent added to the client's message.
    pub relay_agent_information: Option<RelayAgentInformation>,
    /// The VPN of the address, if it is not the default one (RFC 6926 section 7.2).
    pub vpn: Option<Vss>,
    /// The flags of the data-source option.
    pub data_source: Option<u8>,
    /// The status of this reply (RFC 6926 section 6.2.2).
    pub status: Option<Status>,
    /// The server identifier of this message, or of the first reply to the query.
    pub server_identifier: Option<Ipv4Addr>,
    /// All other options, by code.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// The end of the replies to a query: a DHCPLEASEQUERYDONE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Transaction id of the query.
    pub xid: u32,
    /// The status of the query; Success if the server sent none.
    pub status: Option<Status>,
    /// The server identifier of this message, or of the first reply to the query.
    pub server_identifier: Option<Ipv4Addr>,
    /// base-time: the time of the message or, from some servers, of the query's begin, in seconds
    /// since 1970 by the server's clock.
    pub base_time: Option<u32>,
    /// All other options, by code.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// The status-code option (RFC 6926 section 6.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The status code.
    pub code: StatusCode,
    /// The status message, octets that are not UTF-8 replaced; may be empty.
    pub text: String,
}

impl Status {
    /// Decodes the value of the option; `None` if it is empty.
    fn decode(value: &[u8]) -> Option<Status> {
        let (code, text) = value.split_first()?;
        Some(Status {
            code: StatusCode(*code),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

impl fmt::Display for Status {
    /// Writes the status on one line, with the server's text escaped for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.text.is_empty() {
            write!(f, ": {}", text::escape(&self.text))?;
        }
        Ok(())
    }
}

impl Done {
    /// Decodes the options of a DHCPLEASEQUERYDONE or a DHCPLEASEQUERYSTATUS.
    ///
    /// # Errors
    /// An option has a length that is not allowed.
    pub(crate) fn decode(message: &Message) -> Result<Done, MalformedReply> {
        Options(message.joined()).done(message.xid)
    }

    /// Returns the status if the query did not end in Success.
    pub fn failure(&self) -> Option<&Status> {
        self.status
            .as_ref()
            .filter(|status| status.code != StatusCode::SUCCESS)
    }
}

impl Binding {
    /// Decodes the binding in a message of this type.
    ///
    /// # Errors
    /// A field or option has a length or value that is not allowed.
    pub(crate) fn decode(
        message: &Message,
        message_type: MessageType,
    ) -> Result<Binding, MalformedReply> {
        Options(message.joined()).binding(message, message_type)
    }

    /// Returns associated-ip, the other addresses of the client; `None` without a valid value. Sent over
    /// UDP only (RFC 4388 section 6.1, RFC 6926 section 5).
    pub fn associated_ip(&self) -> Option<Vec<Ipv4Addr>> {
        let value = self.options.get(&code::ASSOCIATED_IP)?;
        let addresses = value
            .chunks(4)
            .map(|address| <[u8; 4]>::try_from(address).ok());
        let addresses: Option<Vec<_>> = addresses.map(|a| a.map(Ipv4Addr::from)).collect();
        addresses.filter(|addresses| !addresses.is_empty())
    }

    /// Returns the octets of an invalid associated-ip.
    pub(crate) fn malformed_associated_ip(&self) -> Option<usize> {
        let value = self.options.get(&code::ASSOCIATED_IP)?;
        self.associated_ip().is_none().then_some(value.len())
    }

    /// Whether the last change took place on another server: the REMOTE flag. Without the option the
    /// change is local; other flags are ignored (RFC 6926 section 6.2.8).
    pub fn is_remote(&self) -> bool {
        self.data_source
            .is_some_and(|flags| flags & data_source::REMOTE != 0)
    }

    /// Returns the Remote ID of the relay agent information.
    pub fn remote_id(&self) -> Option<&[u8]> {
        self.relay_agent_information.as_ref()?.remote_id()
    }

    /// Returns the Relay-ID of the relay agent information.
    pub fn relay_id(&self) -> Option<&[u8]> {
        self.relay_agent_information.as_ref()?.relay_id()
    }

    /// Returns the Circuit ID of the relay agent information.
    pub fn circuit_id(&self) -> Option<&[u8]> {
        self.relay_agent_information.as_ref()?.circuit_id()
    }

    /// Returns the time at which the address entered its state: seconds since 1970 by the server's
    /// clock.
    pub fn state_started_at(&self) -> Option<u32> {
        self.base_time?.checked_sub(self.start_time_of_state?)
    }

    /// Returns the time of the client's last transaction: seconds since 1970 by the server's clock.
    pub fn client_last_transaction_at(&self) -> Option<u32> {
        self.base_time?
            .checked_sub(self.client_last_transaction_time?)
    }

    /// Returns the time at which the lease ends: seconds since 1970 by the server's clock; `None`
    /// if it does not end.
    pub fn lease_ends_at(&self) -> Option<u64> {
        let lease_time = self.lease_time.filter(|seconds| *seconds != INFINITE)?;
        Some(u64::from(self.base_time?) + u64::from(lease_time))
    }
}

// ------------ Relay agent information -----------------------------------------------------

/// The relay-agent-information option, option 82 (RFC 3046).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayAgentInformation {
    /// The whole value.
    pub raw: Vec<u8>,
    /// The sub-options in order, up to the first one that runs past the end. A server passes the
    /// relay agent's octets on, so a damaged end does not make the reply malformed.
    pub sub_options: Vec<(u8, Vec<u8>)>,
}

impl RelayAgentInformation {
    /// Splits the value of the option into sub-options.
    pub fn decode(raw: &[u8]) -> RelayAgentInformation {
        let mut sub_options = Vec::new();
        let mut rest = raw;
        while let [code, length, after @ ..] = rest {
            let Some((value, next)) = after.split_at_checked(usize::from(*length)) else {
                break;
            };
            sub_options.push((*code, value.to_vec()));
            rest = next;
        }
        RelayAgentInformation {
            raw: raw.to_vec(),
            sub_options,
        }
    }

    /// Returns the value of the first sub-option with this code.
    pub fn sub_option(&self, code: u8) -> Option<&[u8]> {
        self.sub_options
            .iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value.as_slice())
    }

    /// Returns the Agent Circuit ID (RFC 3046 section 3.1).
    pub fn circuit_id(&self) -> Option<&[u8]> {
        self.sub_option(sub_option::CIRCUIT_ID)
    }

    /// Returns the Agent Remote ID (RFC 3046 section 3.2).
    pub fn remote_id(&self) -> Option<&[u8]> {
        self.sub_option(sub_option::REMOTE_ID)
    }

    /// Returns the Relay Agent Identifier (RFC 6925).
    pub fn relay_id(&self) -> Option<&[u8]> {
        self.sub_option(sub_option::RELAY_ID)
    }
}

/// Returns the status of a message.
pub(crate) fn status_of(message: &Message) -> Result<Option<Status>, MalformedReply> {
    Options(message.joined()).status()
}

// ------------ Decoding --------------------------------------------------------------------

/// The reason why a message is not a reply to a query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MalformedReply {
    /// `op` is not BOOTREPLY.
    #[error("op is {0}, not BOOTREPLY (2)")]
    Op(u8),
    /// dhcp-message-type is missing or not one octet long.
    #[error("the dhcp-message-type option is missing or not one octet long")]
    NoMessageType,
    /// A message type that is not a reply to a Bulk Leasequery (RFC 6926 section 7.3).
    #[error("{0} is no reply to a Bulk Leasequery")]
    MessageType(MessageType),
    /// A message type that is not a reply to an Active Leasequery (RFC 7724 section 7.4).
    #[error("{0} is no reply to an Active Leasequery")]
    ActiveMessageType(MessageType),
    /// A message about an address has none (RFC 7724 section 7.4).
    #[error("ciaddr is 0.0.0.0 in a message about an address")]
    NoAddress,
    /// hlen is larger than `chaddr`.
    #[error("hlen is {0}: at most {CHADDR_LENGTH} is allowed")]
    Hlen(u8),
    /// The value has a length that its option does not allow.
    #[error("option {code} has {length} octets, must have {}", lengths(*code))]
    Length {
        /// The option's code.
        code: u8,
        /// Octets of the value.
        length: usize,
    },
    /// The value of associated-ip is not made of addresses.
    #[error("option 92 has {0} octets, must have 4 for each address")]
    AssociatedIp(usize),
    /// The VPN-ID is invalid.
    #[error("option 221: {0}")]
    Vss(#[from] crate::wire::InvalidVss),
}

/// Returns the message type of a reply.
///
/// # Errors
/// The message is no reply, or has no type.
pub(crate) fn reply_type(message: &Message) -> Result<MessageType, MalformedReply> {
    if message.op != BOOTREPLY {
        return Err(MalformedReply::Op(message.op));
    }
    message.message_type().ok_or(MalformedReply::NoMessageType)
}

impl Reply {
    /// Returns the transaction id of the query.
    pub fn xid(&self) -> u32 {
        match self {
            Reply::Binding(binding) => binding.xid,
            Reply::Done(done) => done.xid,
        }
    }

    /// Returns the server identifier of the reply.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        match self {
            Reply::Binding(binding) => binding.server_identifier,
            Reply::Done(done) => done.server_identifier,
        }
    }

    /// Sets the server identifier to that of the first reply if this reply has none (RFC 6926
    /// section 7.3).
    pub(crate) fn apply_server_identifier(&mut self, cached: Option<Ipv4Addr>) {
        let server_identifier = match self {
            Reply::Binding(binding) => &mut binding.server_identifier,
            Reply::Done(done) => &mut done.server_identifier,
        };
        *server_identifier = server_identifier.or(cached);
    }

    /// Decodes a message as a reply.
    ///
    /// # Errors
    /// The message has a field or option that RFC 6926 does not allow in a reply.
    pub fn decode(message: &Message) -> Result<Reply, MalformedReply> {
        let message_type = reply_type(message)?;
        match message_type {
            MessageType::LEASE_ACTIVE | MessageType::LEASE_UNASSIGNED => {
                let binding = Binding::decode(message, message_type)?;
                Ok(Reply::Binding(Box::new(binding)))
            }
            MessageType::LEASE_QUERY_DONE => Ok(Reply::Done(Done::decode(message)?)),
            other => Err(MalformedReply::MessageType(other)),
        }
    }
}

/// The options of a message that have not been decoded yet.
struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Decodes a binding.
    fn binding(
        mut self,
        message: &Message,
        message_type: MessageType,
    ) -> Result<Binding, MalformedReply> {
        self.0.remove(&code::MESSAGE_TYPE);
        let chaddr = message
            .hardware_address()
            .ok_or(MalformedReply::Hlen(message.hlen))?;
        let implied = (message_type == MessageType::LEASE_ACTIVE).then_some(State::ACTIVE);
        Ok(Binding {
            xid: message.xid,
            message_type,
            address: message.ciaddr,
            htype: message.htype,
            chaddr: chaddr.to_vec(),
            state: self.octet(code::DHCP_STATE)?.map(State).or(implied),
            base_time: self.seconds(code::BASE_TIME)?,
            start_time_of_state: self.seconds(code::START_TIME_OF_STATE)?,
            client_last_transaction_time: self.seconds(code::CLIENT_LAST_TRANSACTION_TIME)?,
            lease_time: self.seconds(code::LEASE_TIME)?,
            renewal_time: self.seconds(code::RENEWAL_TIME)?,
            rebinding_time: self.seconds(code::REBINDING_TIME)?,
            client_id: self.0.remove(&code::CLIENT_IDENTIFIER),
            relay_agent_information: self
                .0
                .remove(&code::RELAY_AGENT_INFORMATION)
                .map(|value| RelayAgentInformation::decode(&value)),
            vpn: match self.0.remove(&code::VPN_ID) {
                Some(value) => Some(Vss::decode(&value)?),
                None => None,
            },
            data_source: self.octet(code::DATA_SOURCE)?,
            status: self.status()?,
            server_identifier: self.seconds(code::SERVER_IDENTIFIER)?.map(Ipv4Addr::from),
            options: self.0,
        })
    }

    /// Decodes a DHCPLEASEQUERYDONE.
    fn done(mut self, xid: u32) -> Result<Done, MalformedReply> {
        self.0.remove(&code::MESSAGE_TYPE);
        Ok(Done {
            xid,
            status: self.status()?,
            server_identifier: self.seconds(code::SERVER_IDENTIFIER)?.map(Ipv4Addr::from),
            base_time: self.seconds(code::BASE_TIME)?,
            options: self.0,
        })
    }

    /// Takes an option whose value is a number of four octets.
    fn seconds(&mut self, code: u8) -> Result<Option<u32>, MalformedReply> {
        Ok(self.fixed(code)?.map(u32::from_be_bytes))
    }

    /// Takes an option whose value is one octet.
    fn octet(&mut self, code: u8) -> Result<Option<u8>, MalformedReply> {
        Ok(self.fixed(code)?.map(|[octet]| octet))
    }

    /// Takes an option whose value has `N` octets.
    fn fixed<const N: usize>(&mut self, code: u8) -> Result<Option<[u8; N]>, MalformedReply> {
        let Some(value) = self.0.remove(&code) else {
            return Ok(None);
        };
        let length = value.len();
        let wrong_length = |_| MalformedReply::Length { code, length };
        value.try_into().map(Some).map_err(wrong_length)
    }

    /// Takes the status-code option, whose value has at least one octet.
    fn status(&mut self) -> Result<Option<Status>, MalformedReply> {
        let Some(value) = self.0.remove(&code::STATUS_CODE) else {
            return Ok(None);
        };
        let too_short = MalformedReply::Length {
            code: code::STATUS_CODE,
            length: 0,
        };
        Status::decode(&value).map(Some).ok_or(too_short)
    }
}

// ------------ Tests -----------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a DHCPLEASEACTIVE without options.
    fn active() -> Message {
        Message {
            htype: 1,
            hlen: 6,
            chaddr: [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ciaddr: Ipv4Addr::new(192, 0, 2, 9),
            ..Message::new(BOOTREPLY, 7, MessageType::LEASE_ACTIVE)
        }
    }

    /// Returns the binding in `message`.
    fn binding(message: &Message) -> Binding {
        match Reply::decode(message) {
            Ok(Reply::Binding(binding)) => *binding,
            other => panic!("{other:?}"),
        }
    }

    /// RFC 6926 section 6.2: each option goes into its field, all others stay by code.
    #[test]
    fn decodes_each_option_into_its_field() {
        let number = |n: u32| n.to_be_bytes();
        let message = active()
            .with(54, [192, 0, 2, 1])
            .with(51, number(3600))
            .with(58, number(1800))
            .with(59, number(3150))
            .with(61, [1, 2, 0, 0, 0, 0, 1])
            .with(82, *b"\x01\x02e0\x02\x06line-7\x0c\x02r1")
            .with(91, number(40))
            .with(152, number(1_700_000_000))
            .with(153, number(500))
            .with(156, [2])
            .with(157, [0x81])
            .with(221, *b"\0blue")
            .with(151, *b"\0fine")
            .with(12, *b"host");
        let binding = binding(&message);
        assert_eq!(binding.address, Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(
            (binding.htype, binding.chaddr.as_slice()),
            (1, &[2, 0, 0, 0, 0, 1][..])
        );
        assert_eq!(binding.server_identifier, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(
            (
                binding.lease_time,
                binding.renewal_time,
                binding.rebinding_time
            ),
            (Some(3600), Some(1800), Some(3150))
        );
        assert_eq!(
            binding.client_id.as_deref(),
            Some(&[1, 2, 0, 0, 0, 0, 1][..])
        );
        assert_eq!(binding.circuit_id(), Some(&b"e0"[..]));
        assert_eq!(binding.remote_id(), Some(&b"line-7"[..]));
        assert_eq!(binding.relay_id(), Some(&b"r1"[..]));
        assert_eq!(binding.state_started_at(), Some(1_699_999_500));
        assert_eq!(binding.client_last_transaction_at(), Some(1_699_999_960));
        assert_eq!(binding.lease_ends_at(), Some(1_700_003_600));
        assert_eq!(binding.state, Some(State::ACTIVE));
        assert!(binding.is_remote());
        assert_eq!(binding.vpn, Some(Vss::Name("blue".into())));
        assert_eq!(
            binding.status.map(|status| status.text).as_deref(),
            Some("fine")
        );
        assert_eq!(binding.options, BTreeMap::from([(12, b"host".to_vec())]));
    }

    /// RFC 6926 section 6.2.7: without dhcp-state, a DHCPLEASEACTIVE is ACTIVE and the state of a
    /// DHCPLEASEUNASSIGNED is unknown.
    #[test]
    fn assumes_active_only_for_an_active_lease() {
        assert_eq!(binding(&active()).state, Some(State::ACTIVE));
        let mut unassigned = active();
        unassigned.options = vec![(53, vec![11])];
        assert_eq!(binding(&unassigned).state, None);
    }

    /// RFC 6926 section 6.2.8: local without the option; unassigned bits are ignored.
    #[test]
    fn ignores_unassigned_bits_of_data_source() {
        assert!(!binding(&active()).is_remote());
        assert!(!binding(&active().with(157, [0xfe])).is_remote());
    }

    /// RFC 2131 section 3.3: an infinite lease has no end.
    #[test]
    fn returns_no_end_of_an_infinite_lease() {
        let message = active().with(152, [0, 0, 0, 9]).with(51, [0xff; 4]);
        assert_eq!(binding(&message).lease_ends_at(), None);
    }

    /// RFC 6926 section 6.2.2: a query without status-code, or with Success and a text, succeeded.
    #[test]
    fn distinguishes_failure_from_success() {
        let done = |message: Message| match Reply::decode(&message) {
            Ok(Reply::Done(done)) => done,
            other => panic!("{other:?}"),
        };
        let plain = Message::new(BOOTREPLY, 1, MessageType::LEASE_QUERY_DONE);
        assert_eq!(done(plain.clone()).failure(), None);
        assert_eq!(done(plain.clone().with(151, *b"\0ok")).failure(), None);
        let failed = done(plain.with(151, *b"\x03twice\x1b[2J"));
        assert_eq!(
            failed.failure().map(Status::to_string).as_deref(),
            Some("MalformedQuery (3): twice\\u{1b}[2J")
        );
    }

    /// RFC 6926 sections 6.2 and 7.3: fields and options that no reply may have.
    #[test]
    fn refuses_messages_that_are_not_replies() {
        let mut request = active();
        request.op = 1;
        let mut untyped = active();
        untyped.options.clear();
        let mut long = active();
        long.hlen = 17;
        for message in [
            request,
            untyped,
            long,
            Message::new(BOOTREPLY, 1, MessageType::LEASE_UNKNOWN),
            Message::new(BOOTREPLY, 1, MessageType::BULK_LEASE_QUERY),
            active().with(51, [0; 3]),
            active().with(152, [0; 5]),
            active().with(156, []),
            active().with(151, []),
            active().with(54, [0; 8]),
            active().with(221, [2]),
        ] {
            assert!(Reply::decode(&message).is_err(), "{message:?}");
        }
    }

    /// RFC 3046 section 2.0: sub-options before a damaged end are kept.
    #[test]
    fn keeps_sub_options_before_a_damaged_end() {
        let damaged = RelayAgentInformation::decode(b"\x02\x02ab\x0c\x09x");
        assert_eq!(damaged.remote_id(), Some(&b"ab"[..]));
        assert_eq!(damaged.relay_id(), None);
        assert_eq!(damaged.raw.len(), 7);
    }

    proptest! {
        /// No options of a reply make decoding panic.
        #[test]
        fn survives_any_reply(
            message_type in 10_u8..17,
            hlen in any::<u8>(),
            options in prop::collection::vec(
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..9)), 0..20),
        ) {
            let mut message = Message::new(BOOTREPLY, 1, MessageType(message_type));
            message.hlen = hlen;
            message.options.extend(options);
            if let Ok(Reply::Binding(binding)) = Reply::decode(&message) {
                binding.state_started_at();
                binding.client_last_transaction_at();
                binding.lease_ends_at();
            }
        }
    }
}
