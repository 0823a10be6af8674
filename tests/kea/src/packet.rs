//! DHCPv4 messages (RFC 2131) and their options (RFC 2132), written and read byte by byte.
//!
//! Apart from the code under test, so that both are not wrong in the same way.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// DHCPDISCOVER (RFC 2132, section 9.6; so are the following).
pub const DISCOVER: u8 = 1;
/// DHCPOFFER.
pub const OFFER: u8 = 2;
/// DHCPREQUEST.
pub const REQUEST: u8 = 3;
/// DHCPDECLINE.
pub const DECLINE: u8 = 4;
/// DHCPACK.
pub const ACK: u8 = 5;
/// DHCPNAK.
pub const NAK: u8 = 6;
/// DHCPRELEASE.
pub const RELEASE: u8 = 7;
/// DHCPINFORM.
pub const INFORM: u8 = 8;

/// Host name (RFC 2132, section 3.14).
pub const HOST_NAME: u8 = 12;
/// Requested IP address (RFC 2132, section 9.1).
pub const REQUESTED_ADDRESS: u8 = 50;
/// Option overload (RFC 2132, section 9.3).
pub const OVERLOAD: u8 = 52;
/// DHCP message type (RFC 2132, section 9.6).
pub const MESSAGE_TYPE: u8 = 53;
/// Server identifier (RFC 2132, section 9.7).
pub const SERVER_IDENTIFIER: u8 = 54;
/// Parameter request list (RFC 2132, section 9.8).
pub const PARAMETER_REQUEST_LIST: u8 = 55;
/// Client identifier (RFC 2132, section 9.14).
pub const CLIENT_IDENTIFIER: u8 = 61;
/// Relay agent information (RFC 3046).
pub const RELAY_AGENT_INFORMATION: u8 = 82;

/// Agent circuit ID sub-option (RFC 3046).
pub const CIRCUIT_ID: u8 = 1;
/// Agent remote ID sub-option (RFC 3046).
pub const REMOTE_ID: u8 = 2;
/// Relay agent identifier sub-option (RFC 6925).
pub const RELAY_ID: u8 = 12;
/// Virtual subnet selection sub-option (RFC 6607).
pub const VSS: u8 = 151;

/// Marks the start of options (RFC 2131, section 3).
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the field sname begins (RFC 2131, section 2).
const SNAME: usize = 44;
/// Where the field file begins.
const FILE: usize = 108;
/// Octets before the magic cookie (RFC 2131, section 2).
const HEADER: usize = 236;
/// Ends the options (RFC 2132, section 3.2).
pub const END: u8 = 255;

/// A DHCPv4 message.
#[derive(Debug, Clone)]
pub struct Packet {
    /// 1 from a client, 2 from a server.
    pub op: u8,
    /// Hardware type.
    pub htype: u8,
    /// Transaction id.
    pub xid: u32,
    /// Whether the client needs the answer broadcast, and the bits after that.
    pub flags: u16,
    /// The address the client has.
    pub ciaddr: Ipv4Addr,
    /// The address the client gets.
    pub yiaddr: Ipv4Addr,
    /// The relay's address.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address, at most 16 octets.
    pub chaddr: Vec<u8>,
    /// What the field sname begins with, at most 64 octets; zeros follow.
    pub sname: Vec<u8>,
    /// What the field file begins with, at most 128 octets; zeros follow.
    pub file: Vec<u8>,
    /// Options by code; the pieces of a split one joined (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
    /// What follows the options, whatever it is: mostly the end option alone.
    pub ending: Vec<u8>,
}

impl Packet {
    /// A client's message without options but its type.
    pub fn request(message_type: u8, xid: u32, chaddr: &[u8]) -> Self {
        Packet {
            op: 1,
            htype: 1,
            xid,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: chaddr.to_vec(),
            sname: Vec::new(),
            file: Vec::new(),
            options: BTreeMap::from([(MESSAGE_TYPE, vec![message_type])]),
            ending: vec![END],
        }
    }

    /// The message type, 0 if there is none.
    pub fn message_type(&self) -> u8 {
        self.option(MESSAGE_TYPE).first().copied().unwrap_or(0)
    }

    /// An option's value, empty if it is not there.
    pub fn option(&self, code: u8) -> &[u8] {
        self.options.get(&code).map_or(&[], Vec::as_slice)
    }

    /// The octets of the message, option 82 last as RFC 3046, section 2.1 wants it.
    pub fn encode(&self) -> Vec<u8> {
        let hlen = u8::try_from(self.chaddr.len()).expect("chaddr of at most 16 octets");
        let mut out = vec![self.op, self.htype, hlen, 0];
        out.extend(self.xid.to_be_bytes());
        out.extend([0; 2]);
        out.extend(self.flags.to_be_bytes());
        out.extend(self.ciaddr.octets());
        out.extend(self.yiaddr.octets());
        out.extend(Ipv4Addr::UNSPECIFIED.octets());
        out.extend(self.giaddr.octets());
        for (value, end) in [
            (&self.chaddr, SNAME),
            (&self.sname, FILE),
            (&self.file, HEADER),
        ] {
            out.extend(value);
            assert!(out.len() <= end, "a field is too long: {self:?}");
            out.resize(end, 0);
        }
        out.extend(MAGIC_COOKIE);
        let last = |code: &u8| *code == RELAY_AGENT_INFORMATION;
        let (tail, head): (Vec<_>, Vec<_>) = self.options.iter().partition(|(code, _)| last(code));
        for (code, value) in head.into_iter().chain(tail) {
            encode_option(*code, value, &mut out);
        }
        out.extend(&self.ending);
        out
    }

    /// Reads a message; none if it is not one.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let four = |at: usize| -> Option<[u8; 4]> { octets.get(at..at + 4)?.try_into().ok() };
        let address = |at: usize| four(at).map(Ipv4Addr::from);
        let hlen = usize::from(*octets.get(2)?).min(16);
        let rest = octets.get(HEADER..)?.strip_prefix(&MAGIC_COOKIE)?;
        Some(Packet {
            op: *octets.first()?,
            htype: *octets.get(1)?,
            xid: u32::from_be_bytes(four(4)?),
            flags: u16::from_be_bytes([*octets.get(10)?, *octets.get(11)?]),
            ciaddr: address(12)?,
            yiaddr: address(16)?,
            giaddr: address(24)?,
            chaddr: octets.get(28..28 + hlen)?.to_vec(),
            sname: octets.get(SNAME..FILE)?.to_vec(),
            file: octets.get(FILE..HEADER)?.to_vec(),
            options: decode_options(rest)?,
            ending: vec![END],
        })
    }
}

/// Writes an option, in pieces if it is longer than 255 octets (RFC 3396).
fn encode_option(code: u8, value: &[u8], out: &mut Vec<u8>) {
    let pieces = value.chunks(255).chain(value.is_empty().then_some(value));
    for piece in pieces {
        out.push(code);
        out.push(u8::try_from(piece.len()).expect("a piece of at most 255 octets"));
        out.extend(piece);
    }
}

/// Reads options up to the end option.
fn decode_options(mut rest: &[u8]) -> Option<BTreeMap<u8, Vec<u8>>> {
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [END, ..] | [] => return Some(options),
            [code, length, after @ ..] => {
                let (value, after) = after.split_at_checked(usize::from(*length))?;
                options.entry(*code).or_default().extend(value);
                rest = after;
            }
            [_] => return None,
        }
    }
}

/// The value of an option made of sub-options, such as option 82.
pub fn sub_options(all: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (code, value) in all {
        encode_option(*code, value, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2131, section 2: what is written is read again.
    #[test]
    fn reads_what_it_writes() {
        let mut packet = Packet::request(DISCOVER, 0x0102_0304, &[2, 0, 0, 0, 0, 9]);
        packet.giaddr = Ipv4Addr::new(127, 0, 0, 9);
        packet.options.insert(RELAY_AGENT_INFORMATION, vec![1; 300]);
        packet.options.insert(124, vec![7; 255]);
        packet.options.insert(80, Vec::new());
        packet.sname = vec![1; 64];
        packet.file = vec![2; 128];
        let read = Packet::decode(&packet.encode()).expect("a message");
        assert_eq!(read.options, packet.options);
        assert_eq!((read.xid, read.giaddr), (packet.xid, packet.giaddr));
        assert_eq!(read.chaddr, packet.chaddr);
        assert_eq!((read.sname, read.file), (packet.sname, packet.file));
    }

    /// RFC 3046, section 2.1: the relay's option comes last.
    #[test]
    fn writes_option_82_last() {
        let mut packet = Packet::request(DISCOVER, 1, &[2, 0, 0, 0, 0, 9]);
        packet
            .options
            .insert(RELAY_AGENT_INFORMATION, vec![1, 1, 7]);
        packet.options.insert(125, vec![3]);
        assert!(packet.encode().ends_with(&[125, 1, 3, 82, 3, 1, 1, 7, 255]));
    }
}
