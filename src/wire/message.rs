//! A DHCPv4 message received (RFC 2131 section 2), without its message-size.

use std::fmt;
use std::net::Ipv4Addr;

use proto::message::{
    CHADDR_LENGTH, FILE_LENGTH, FIXED_FIELDS, HEADER_LENGTH, MAGIC_COOKIE, SNAME_LENGTH,
};

use crate::wire::options::{Options, OptionsFault};
use crate::wire::reader::{Reader, Truncated};

/// Octets of the shortest message with a dhcp-message-type: the fixed fields, the magic cookie and the option.
pub const SHORTEST: usize = HEADER_LENGTH + 3;

/// Reasons for which octets are no DHCPv4 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The message ends within the fixed fields.
    Truncated,
    /// The magic cookie is missing: BOOTP without options, or another protocol.
    NoMagicCookie,
    /// The options cannot be read to their end.
    Options(OptionsFault),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Truncated => f.write_str("the message ends within its fixed fields"),
            MessageError::NoMagicCookie => f.write_str("the message has no DHCP magic cookie"),
            MessageError::Options(fault) => fault.fmt(f),
        }
    }
}

impl From<Truncated> for MessageError {
    fn from(_: Truncated) -> Self {
        MessageError::Truncated
    }
}

/// The fields of a message, named as in RFC 2131 figure 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 2131 section 2 says what each field is")]
pub struct Message<'a> {
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub xid: u32,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: [u8; CHADDR_LENGTH],
    pub options: Options<'a>,
}

impl<'a> Message<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Octets that are no DHCPv4 message.
    pub fn read(octets: &'a [u8]) -> Result<Message<'a>, MessageError> {
        match Message::read_until_fault(octets)? {
            (message, None) => Ok(message),
            (_, Some(fault)) => Err(MessageError::Options(fault)),
        }
    }

    /// Reads a message whose options may be broken: returns the options before the first fault, and the
    /// fault.
    ///
    /// # Errors
    /// Missing fixed fields or a missing magic cookie.
    pub fn read_until_fault(
        octets: &'a [u8],
    ) -> Result<(Message<'a>, Option<OptionsFault>), MessageError> {
        let mut reader = Reader::new(octets);
        let [op, htype, hlen, _hops] = reader.array()?;
        let xid = reader.u32()?;
        let _secs = reader.u16()?;
        let flags = reader.u16()?;
        let [ciaddr, yiaddr, siaddr, giaddr] =
            [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?].map(Ipv4Addr::from_bits);
        let chaddr = reader.array()?;
        let sname = reader.octets(SNAME_LENGTH)?;
        let file = reader.octets(FILE_LENGTH)?;
        if reader.array()? != MAGIC_COOKIE {
            return Err(MessageError::NoMagicCookie);
        }
        let (options, fault) = Options::read_until_fault(reader.rest(), file, sname);
        let message = Message {
            op,
            htype,
            hlen,
            xid,
            flags,
            ciaddr,
            yiaddr,
            siaddr,
            giaddr,
            chaddr,
            options,
        };
        Ok((message, fault))
    }
}

/// The options field of a message; `None` if the message is too short, or has no options.
pub fn options_field(message: &[u8]) -> Option<&[u8]> {
    message.get(FIXED_FIELDS..)?.strip_prefix(&MAGIC_COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vpn::VpnSelector;
    use crate::wire::options::Tlvs;
    use crate::wire::relay_agent_information;
    use crate::wire::writer::{MessageWriter, ReplyHeader};
    use proptest::prelude::*;
    use proto::MessageType;

    /// A message of zeros with the magic cookie and these options.
    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; FIXED_FIELDS];
        octets.extend(MAGIC_COOKIE);
        octets.extend(options);
        octets
    }

    #[test]
    fn refuses_a_message_cut_anywhere_before_its_options() {
        let whole = with_options(&[]);
        for length in 0..whole.len() {
            assert_eq!(
                Message::read(&whole[..length]),
                Err(MessageError::Truncated),
                "{length} octets"
            );
        }
        assert!(Message::read(&whole).is_ok());
    }

    #[test]
    fn refuses_a_message_with_broken_options_unless_the_fault_is_asked_for() {
        let octets = with_options(&[53, 1, 14, 61, 2, 1]);
        let (message, fault) = Message::read_until_fault(&octets).unwrap();
        assert_eq!(message.options.value(53), Some(&[14][..]));
        assert_eq!(
            Message::read(&octets),
            Err(MessageError::Options(fault.unwrap()))
        );
    }

    #[test]
    fn refuses_bootp_without_a_magic_cookie() {
        assert_eq!(Message::read(&[0; 300]), Err(MessageError::NoMagicCookie));
    }

    proptest! {
        #[test]
        fn reading_never_panics(options in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let octets = with_options(&options);
            let _ = Message::read_until_fault(&octets);
            let _ = Message::read_until_fault(&options);
            let _ = relay_agent_information::all(&options, 2);
            let _ = crate::model::relay_agent_information::find(&options, 12);
            let _ = VpnSelector::read(&options);
            let _ = Tlvs::options(&options).count();
        }

        #[test]
        fn reads_the_options_it_writes(
            options in proptest::collection::btree_map(
                (1..=254u8).prop_filter("written by the writer", |code| ![52, 53].contains(code)),
                proptest::collection::vec(any::<u8>(), 0..700),
                0..12,
            ),
        ) {
            let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
            let mut out = Vec::new();
            let mut writer = MessageWriter::new(&mut out, &header, MessageType::LEASE_ACTIVE);
            for (code, value) in &options {
                writer.option(*code, value);
            }
            writer.finish();
            let message = Message::read(&out).unwrap();
            for (code, value) in &options {
                prop_assert_eq!(message.options.value(*code), Some(value.as_slice()));
            }
        }
    }
}
