//! The codec of messages: fixed fields, options, and the message-size before them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proto::MessageType;
use proto::message::{
    CHADDR_LENGTH, FILE_LENGTH, HEADER_LENGTH, MAGIC_COOKIE, MAX_MESSAGE, MAX_OPTION, SNAME_LENGTH,
};
use proto::option::code;
use thiserror::Error;

/// A DHCPv4 message, valid or malformed: each field can have any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// BOOTREQUEST or BOOTREPLY.
    pub op: u8,
    /// Hardware type.
    pub htype: u8,
    /// Octets of `chaddr` in use.
    pub hlen: u8,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction id, the same in a query and its replies.
    pub xid: u32,
    /// Seconds since the client began its exchange.
    pub secs: u16,
    /// BROADCAST and reserved flags.
    pub flags: u16,
    /// The client's address; in leasequery replies, the address of the binding.
    pub ciaddr: Ipv4Addr,
    /// "Your" address: the one given to the client.
    pub yiaddr: Ipv4Addr,
    /// The next server to boot from.
    pub siaddr: Ipv4Addr,
    /// The relay agent's address.
    pub giaddr: Ipv4Addr,
    /// Client hardware address, followed by zeros.
    pub chaddr: [u8; CHADDR_LENGTH],
    /// Server host name, or options (RFC 2131 section 4.1).
    pub sname: [u8; SNAME_LENGTH],
    /// Boot file name, or options (RFC 2131 section 4.1).
    pub file: [u8; FILE_LENGTH],
    /// Instances of options in the order of the wire, without pad and end.
    /// [`Message::option`] joins the instances of a code. [`Message::encode`] splits a value
    /// longer than 255 octets.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Octets after the options: end alone, or other octets in a message made to be malformed.
    pub ending: Cow<'static, [u8]>,
}

impl Default for Message {
    fn default() -> Message {
        Message {
            op: 0,
            htype: 0,
            hlen: 0,
            hops: 0,
            xid: 0,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0; CHADDR_LENGTH],
            sname: [0; SNAME_LENGTH],
            file: [0; FILE_LENGTH],
            options: Vec::new(),
            ending: Cow::Borrowed(&[code::END]),
        }
    }
}

impl Message {
    /// Returns a message with an `op`, an `xid` and a message type; all else is zero.
    pub fn new(op: u8, xid: u32, message_type: MessageType) -> Message {
        Message {
            op,
            xid,
            options: vec![(code::MESSAGE_TYPE, vec![message_type.0])],
            ..Message::default()
        }
    }

    /// Adds an option after all others.
    pub fn with(mut self, code: u8, value: impl Into<Vec<u8>>) -> Message {
        self.options.push((code, value.into()));
        self
    }

    /// Removes all instances of option `code`.
    pub fn remove(&mut self, code: u8) {
        self.options.retain(|(found, _)| *found != code);
    }

    /// Replaces all instances of option `code` by one, after all other options.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.remove(code);
        self.options.push((code, value.into()));
    }

    /// Returns the `hlen` octets of `chaddr`; `None` if `chaddr` has fewer.
    pub fn hardware_address(&self) -> Option<&[u8]> {
        self.chaddr.get(..usize::from(self.hlen))
    }

    /// Returns the value of option `code`, its instances joined in order (RFC 3396 section 7).
    pub fn option(&self, code: u8) -> Option<Vec<u8>> {
        let mut instances = self.options.iter().filter(|(found, _)| *found == code);
        let mut value = instances.next()?.1.clone();
        instances.for_each(|(_, more)| value.extend_from_slice(more));
        Some(value)
    }

    /// Returns the values of all options by code, instances joined (RFC 3396 section 7).
    pub fn joined(&self) -> BTreeMap<u8, Vec<u8>> {
        let mut joined = BTreeMap::<u8, Vec<u8>>::new();
        for (code, value) in &self.options {
            joined.entry(*code).or_default().extend_from_slice(value);
        }
        joined
    }

    /// Returns the message type; `None` if the option is missing or not one octet long.
    pub fn message_type(&self) -> Option<MessageType> {
        match self.option(code::MESSAGE_TYPE)?.as_slice() {
            [value] => Some(MessageType(*value)),
            _ => None,
        }
    }

    /// Encodes the message without its message-size. The result can have any length;
    /// [`Message::to_frame`] refuses messages that are too long to be sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LENGTH + 64);
        out.extend([self.op, self.htype, self.hlen, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr);
        out.extend(self.sname);
        out.extend(self.file);
        out.extend(MAGIC_COOKIE);
        for (code, value) in &self.options {
            encode_option(*code, value, &mut out);
        }
        out.extend_from_slice(&self.ending);
        out
    }

    /// Encodes the message with its message-size, as it is sent over TCP.
    ///
    /// # Errors
    /// The message is longer than [`MAX_MESSAGE`].
    pub fn to_frame(&self) -> Result<Vec<u8>, TooLong> {
        frame(&self.encode())
    }

    /// Decodes a message without its message-size.
    ///
    /// # Errors
    /// The octets are not a DHCPv4 message, or the message is cut short.
    pub fn decode(octets: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader { rest: octets };
        let mut message = Message {
            op: reader.octet()?,
            htype: reader.octet()?,
            hlen: reader.octet()?,
            hops: reader.octet()?,
            xid: u32::from_be_bytes(reader.array()?),
            secs: u16::from_be_bytes(reader.array()?),
            flags: u16::from_be_bytes(reader.array()?),
            ciaddr: reader.array()?.into(),
            yiaddr: reader.array()?.into(),
            siaddr: reader.array()?.into(),
            giaddr: reader.array()?.into(),
            chaddr: reader.array()?,
            sname: reader.array()?,
            file: reader.array()?,
            ..Message::default()
        };
        let cookie = reader.array()?;
        if cookie != MAGIC_COOKIE {
            return Err(DecodeError::Cookie(cookie));
        }
        message.decode_options(reader)?;
        Ok(message)
    }

    /// Decodes the options field, then the fields that option-overload adds: `file` before
    /// `sname` (RFC 3396 section 5).
    fn decode_options(&mut self, reader: Reader<'_>) -> Result<(), DecodeError> {
        reader.options(&mut self.options)?;
        let overload = match self.option(code::OVERLOAD).as_deref() {
            None => return Ok(()),
            Some([value @ 1..=3]) => *value,
            Some(_) => return Err(DecodeError::Overload),
        };
        let (file, sname) = (self.file, self.sname);
        if overload & 1 != 0 {
            Reader { rest: &file }.options(&mut self.options)?;
        }
        if overload & 2 != 0 {
            Reader { rest: &sname }.options(&mut self.options)?;
        }
        Ok(())
    }
}

/// Encodes an option in as many instances as its value needs (RFC 3396 section 6).
fn encode_option(code: u8, value: &[u8], out: &mut Vec<u8>) {
    let (first, more) = value.split_at(value.len().min(MAX_OPTION));
    for fragment in std::iter::once(first).chain(more.chunks(MAX_OPTION)) {
        out.push(code);
        out.push(u8::try_from(fragment.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(fragment);
    }
}

/// Puts the message-size before `message` (RFC 6926 section 6.1).
///
/// # Errors
/// The message is longer than [`MAX_MESSAGE`].
pub fn frame(message: &[u8]) -> Result<Vec<u8>, TooLong> {
    let size = u16::try_from(message.len()).map_err(|_| TooLong(message.len()))?;
    Ok([&size.to_be_bytes(), message].concat())
}

// ------------ Reader ----------------------------------------------------------------------

/// Reads octets of a message in order and never past their end.
struct Reader<'a> {
    /// Octets not read yet.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `length` octets.
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads one octet.
    fn octet(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[octet]| octet)
    }

    /// Reads `N` octets.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Short)
    }

    /// Reads options up to end, which is required (RFC 2131 section 4.1).
    fn options(mut self, out: &mut Vec<(u8, Vec<u8>)>) -> Result<(), DecodeError> {
        while let Some((code, rest)) = self.rest.split_first() {
            self.rest = rest;
            match *code {
                code::PAD => {}
                code::END => return Ok(()),
                code => {
                    let cut = |_| DecodeError::Option(code);
                    let length = self.octet().map_err(cut)?;
                    let value = self.take(usize::from(length)).map_err(cut)?;
                    out.push((code, value.to_vec()));
                }
            }
        }
        Err(DecodeError::NoEnd)
    }
}

// ------------ Errors ----------------------------------------------------------------------

/// The reason why octets are not a DHCPv4 message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message ends before its first option.
    #[error("the message is shorter than a DHCPv4 header, {HEADER_LENGTH} octets")]
    Short,
    /// The magic cookie is not that of DHCP.
    #[error("the magic cookie is {0:?}, not {MAGIC_COOKIE:?}")]
    Cookie([u8; 4]),
    /// An option runs past the end of its field.
    #[error("option {0} is cut short")]
    Option(u8),
    /// The options have no end.
    #[error("the options have no end")]
    NoEnd,
    /// The value of option-overload is not 1, 2 or 3.
    #[error("the option-overload option is not 1, 2 or 3")]
    Overload,
}

/// A message of this many octets cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message of {0} octets: at most {MAX_MESSAGE} can be sent (RFC 6926 section 6.1)")]
pub struct TooLong(pub usize);

// ------------ Tests -----------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any message whose options fit one instance each.
    fn any_message() -> impl Strategy<Value = Message> {
        let fields = any::<([u8; 4], u32, u16, u16, [u32; 4], [u8; 16])>();
        // Neither pad nor end nor option-overload, which change how octets are read.
        let codes = any::<u8>().prop_filter("plain option", |code| {
            ![code::PAD, code::OVERLOAD, code::END].contains(code)
        });
        let options =
            prop::collection::vec((codes, prop::collection::vec(any::<u8>(), 0..=255)), 0..12);
        (fields, options).prop_map(|((start, xid, secs, flags, addresses, chaddr), options)| {
            let [op, htype, hlen, hops] = start;
            let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
            Message {
                op,
                htype,
                hlen,
                hops,
                xid,
                secs,
                flags,
                ciaddr,
                yiaddr,
                siaddr,
                giaddr,
                chaddr,
                sname: [7; 64],
                file: [9; 128],
                options,
                ..Message::default()
            }
        })
    }

    proptest! {
        /// RFC 2131 section 2: decoding reverses encoding.
        #[test]
        fn decodes_what_it_encodes(message in any_message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        /// RFC 3396 sections 6 and 7: a value of any length is split and joined.
        #[test]
        fn joins_what_it_splits(value in prop::collection::vec(any::<u8>(), 0..2000)) {
            let message = Message::default().with(82, value.clone());
            let decoded = Message::decode(&message.encode()).unwrap();
            prop_assert_eq!(decoded.options.len(), value.len().div_ceil(255).max(1));
            prop_assert_eq!(decoded.option(82), Some(value));
        }

        /// A server controls every octet: no octets make the decoder panic.
        #[test]
        fn survives_any_octets(octets in prop::collection::vec(any::<u8>(), 0..1500)) {
            let _ = Message::decode(&octets);
        }

        /// No octets make the decoder panic after valid fixed fields either.
        #[test]
        fn survives_any_options(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut message = Message::default().encode();
            message.truncate(HEADER_LENGTH);
            message.extend(octets);
            if let Ok(decoded) = Message::decode(&message) {
                prop_assert!(decoded.options.len() <= message.len());
            }
        }

        /// A message cut anywhere before its end is refused, never decoded in part.
        #[test]
        fn refuses_a_message_cut_short(message in any_message(), cut in any::<prop::sample::Index>()) {
            let encoded = message.encode();
            let cut = cut.index(encoded.len());
            prop_assert!(Message::decode(&encoded[..cut]).is_err());
        }
    }

    /// RFC 2131 section 2: the offset of each field.
    #[test]
    fn encodes_each_field_at_its_offset() {
        let message = Message {
            op: 1,
            htype: 6,
            hlen: 7,
            hops: 8,
            xid: 0x0102_0304,
            secs: 0x0506,
            flags: 0x8000,
            ciaddr: Ipv4Addr::new(10, 0, 0, 1),
            yiaddr: Ipv4Addr::new(10, 0, 0, 2),
            siaddr: Ipv4Addr::new(10, 0, 0, 3),
            giaddr: Ipv4Addr::new(10, 0, 0, 4),
            chaddr: [0xc; 16],
            sname: [0x5; 64],
            file: [0xf; 128],
            options: vec![(53, vec![14]), (80, vec![])],
            ..Message::default()
        };
        let mut expected = vec![1, 6, 7, 8, 1, 2, 3, 4, 5, 6, 0x80, 0];
        expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4]);
        expected.extend([0xc; 16]);
        expected.extend([0x5; 64]);
        expected.extend([0xf; 128]);
        expected.extend([0x63, 0x82, 0x53, 0x63]);
        expected.extend([53, 1, 14, 80, 0, 255]);
        assert_eq!(message.encode(), expected);
        assert_eq!(
            message.to_frame().unwrap(),
            [&[0, 246], expected.as_slice()].concat()
        );
    }

    #[test]
    fn sets_an_option_after_all_others() {
        let mut message = Message::default().with(82, [1]).with(61, [2]).with(82, [3]);
        message.set(82, [4]);
        assert_eq!(message.options, [(61, vec![2]), (82, vec![4])]);
        message.remove(61);
        assert_eq!(message.options, [(82, vec![4])]);
    }

    #[test]
    fn encodes_any_ending() {
        let mut message = Message::default().with(12, *b"host");
        message.ending = vec![61, 9, 1].into();
        assert!(message.encode().ends_with(b"\x0c\x04host\x3d\x09\x01"));
    }

    /// RFC 6926 section 6.1: the maximum message size is 65535 octets.
    #[test]
    fn refuses_to_frame_a_message_too_long() {
        assert_eq!(frame(&[0; 65_535]).unwrap().len(), 65_537);
        assert_eq!(frame(&[0; 65_536]), Err(TooLong(65_536)));
    }

    /// RFC 3396 section 5: with option-overload, `file` is read before `sname`.
    #[test]
    fn joins_options_of_overloaded_fields_in_order() {
        let mut message = Message::default().with(52, [3]).with(82, [1]);
        message.file[..5].copy_from_slice(&[82, 1, 2, 255, 9]);
        message.sname[..6].copy_from_slice(&[0, 0, 82, 1, 3, 255]);
        let decoded = Message::decode(&message.encode()).unwrap();
        assert_eq!(decoded.option(82), Some(vec![1, 2, 3]));
    }

    /// RFC 2131 section 4.1 and RFC 2132 section 9.3.
    #[test]
    fn refuses_octets_that_are_not_a_dhcp_message() {
        let header = &Message::default().encode()[..HEADER_LENGTH];
        let with = |options: &[u8]| Message::decode(&[header, options].concat());
        assert_eq!(Message::decode(&header[..239]), Err(DecodeError::Short));
        assert_eq!(with(&[]), Err(DecodeError::NoEnd));
        assert_eq!(with(&[0, 0]), Err(DecodeError::NoEnd));
        assert_eq!(with(&[61]), Err(DecodeError::Option(61)));
        assert_eq!(with(&[61, 2, 0]), Err(DecodeError::Option(61)));
        assert_eq!(with(&[52, 1, 4, 255]), Err(DecodeError::Overload));
        assert_eq!(with(&[52, 0, 255]), Err(DecodeError::Overload));
        let mut other = header.to_vec();
        other[239] = 0;
        assert!(matches!(
            Message::decode(&other),
            Err(DecodeError::Cookie(_))
        ));
    }
}
