//! DHCPv4 messages decoded by tshark (Wireshark), which shares no code with this project.
//!
//! tshark decodes DHCPv4 over UDP alone. Messages that came over TCP (RFC 6926 section 6.1) are written
//! to a capture file as the payloads of UDP datagrams, without their message-size.

pub mod expected;

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use blq::wire::code;
use roxmltree::{Document, Node};

/// The port of a DHCPv4 server, by which tshark recognises the protocol.
const SERVER_PORT: u16 = 67;

/// The link type of packets that begin with an IPv4 header (LINKTYPE_IPV4).
const LINKTYPE_IPV4: u32 = 228;

/// Octets of an IPv4 header and a UDP header.
const HEADERS: usize = 20 + 8;

/// The least severity of a complaint: a warning (PI_WARN).
const WARNING: u32 = 0x0060_0000;

/// A message as tshark decodes it.
#[derive(Debug)]
pub struct Decoded {
    /// The fields of the header, as far as the magic cookie.
    pub header: Vec<Field>,
    /// The options in order, the end option included. Each has its code and its length as parts.
    pub options: Vec<Field>,
    /// Malformed parts, warnings and errors, each with the field that it is about; also octets that are in
    /// no field.
    pub complaints: Vec<String>,
}

/// A field of a message.
pub struct Field {
    /// Wireshark's name of the field, e.g. `dhcp.ip.client`; empty for a text of tshark's.
    pub name: String,
    /// The value in tshark's notation; `1` or `0` for a flag.
    pub shown: String,
    /// The octets; empty for a part of an octet.
    pub octets: Vec<u8>,
    /// The position of the first octet in the packet.
    position: usize,
    /// The fields that it is made of.
    pub parts: Vec<Field>,
}

/// Decodes messages, each without a message-size.
///
/// Panics if tshark fails.
#[track_caller]
pub fn decode(messages: &[Vec<u8>]) -> Vec<Decoded> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("messages.pcap");
    fs::write(&file, capture(messages)).expect("writing a capture file");
    let output = Command::new("tshark")
        // Names are not resolved, and preferences of this user do not matter.
        .args(["-n", "-T", "pdml", "-r"])
        .arg(&file)
        .env("WIRESHARK_CONFIG_DIR", directory.path())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("running tshark, which scripts/setup installs: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark failed: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8 of tshark");
    let document = Document::parse(&text).expect("XML of tshark");
    let packets = document.root_element().children();
    let packets = packets.filter(|node| node.has_tag_name("packet"));
    let mut decoded: Vec<Decoded> = packets.map(decoded).collect();
    assert_eq!(decoded.len(), messages.len(), "messages in {text}");
    for (decoded, message) in decoded.iter_mut().zip(messages) {
        let octets = decoded.octets();
        if !octets.iter().copied().eq(message.iter().copied().map(Some)) {
            let difference = format!("fields with {octets:02x?} of {message:02x?}");
            decoded.complaints.push(difference);
        }
    }
    decoded
}

impl Decoded {
    /// Returns a field of the header in tshark's notation.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let field = self.header.iter().find(|field| field.name == name);
        &field.unwrap_or_else(|| panic!("{name} in {self:#?}")).shown
    }

    /// Returns the codes and values of the options in order, without pad and end options.
    pub fn values(&self) -> Vec<(u8, &[u8])> {
        let options = self.options.iter().map(Field::option);
        options
            .filter(|(code, _)| ![code::PAD, code::END].contains(code))
            .collect()
    }

    /// Returns the octets that are in fields; `None` for others. Fields may overlap: tshark counts the
    /// padding of some hardware addresses twice.
    fn octets(&self) -> Vec<Option<u8>> {
        let mut octets = Vec::new();
        for field in self.header.iter().chain(&self.options) {
            let first = field.position.saturating_sub(HEADERS);
            let end = first + field.octets.len();
            octets.resize(octets.len().max(end), None);
            octets.splice(first..end, field.octets.iter().copied().map(Some));
        }
        octets
    }

    /// Returns all parts of the options with a code.
    pub fn parts(&self, code: u8) -> Vec<&Field> {
        let options = self.options.iter();
        let options = options.filter(|option| option.option().0 == code);
        options.flat_map(Field::all_parts).collect()
    }
}

impl Field {
    /// Returns the code and the value of an option.
    fn option(&self) -> (u8, &[u8]) {
        match &self.octets[..] {
            [code, _, value @ ..] => (*code, value),
            [code] => (*code, &[]),
            [] => panic!("an option without octets: {self:#?}"),
        }
    }

    /// Returns its parts, and theirs.
    fn all_parts(&self) -> Vec<&Field> {
        let parts = self.parts.iter();
        parts
            .flat_map(|part| [vec![part], part.all_parts()].concat())
            .collect()
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.name, self.shown)?;
        if !self.parts.is_empty() {
            write!(f, " {:?}", self.parts)?;
        }
        Ok(())
    }
}

// ----- The capture file -----------------------------------------------------------------------

/// Returns the octets of a capture file (pcap) with a datagram for each message.
fn capture(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    // The magic number, and version 2.4 of the format.
    out.extend(0xa1b2_c3d4_u32.to_le_bytes());
    out.extend([2_u16, 4].map(u16::to_le_bytes).concat());
    // Time zone, accuracy, the longest packet.
    out.extend(
        [0, 0, 1 << 18, LINKTYPE_IPV4]
            .map(u32::to_le_bytes)
            .concat(),
    );
    for message in messages {
        let packet = datagram(message);
        let length = u32::try_from(packet.len()).expect("a short packet");
        // The time, the length here and on the wire.
        out.extend([0, 0, length, length].map(u32::to_le_bytes).concat());
        out.extend(packet);
    }
    out
}

/// Returns an IPv4 packet with a UDP datagram (RFC 791, RFC 768) between ports of servers.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).expect("a message that fits a datagram");
    let mut out = vec![0x45, 0];
    out.extend(length(HEADERS + payload.len()).to_be_bytes());
    // Identification and fragments, hop limit, UDP.
    out.extend([0, 0, 0, 0, 64, 17]);
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
    let checksum = checksum(&[&out[..], &addresses].concat());
    out.extend(checksum.to_be_bytes());
    out.extend(addresses);
    out.extend([SERVER_PORT; 2].map(u16::to_be_bytes).concat());
    out.extend(length(8 + payload.len()).to_be_bytes());
    // Zero: no checksum.
    out.extend([0, 0]);
    out.extend(payload);
    out
}

/// Returns the checksum of an IPv4 header (RFC 1071), given without the field for it.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded).expect("a sum of few words")
}

// ----- PDML, tshark's XML ---------------------------------------------------------------------

/// Reads a packet.
#[track_caller]
fn decoded(packet: Node<'_, '_>) -> Decoded {
    let is_dhcp = |node: &Node<'_, '_>| node.attribute("name") == Some("dhcp");
    let dhcp = packet.children().find(is_dhcp).expect("DHCP");
    let (options, header) = fields(dhcp)
        .into_iter()
        .partition(|field| field.name == "dhcp.option.type");
    Decoded {
        header,
        options,
        complaints: packet.descendants().filter_map(complaint).collect(),
    }
}

/// Reads the fields in a node.
fn fields(node: Node<'_, '_>) -> Vec<Field> {
    let fields = node.children().filter(|node| node.has_tag_name("field"));
    fields.map(field).collect()
}

/// Reads a field.
fn field(node: Node<'_, '_>) -> Field {
    let attribute = |name| node.attribute(name).unwrap_or_default();
    let shown = match attribute("show") {
        // Version 4.4.
        "True" => "1",
        "False" => "0",
        shown => shown,
    };
    let octets = match node.attribute("unmaskedvalue") {
        None => octets(attribute("value")),
        Some(_) => Vec::new(),
    };
    Field {
        name: attribute("name").to_owned(),
        shown: shown.to_owned(),
        octets,
        position: attribute("pos").parse().unwrap_or_default(),
        parts: fields(node),
    }
}

/// Reads hexadecimal digits; returns nothing for another text, which tshark writes where octets are missing.
fn octets(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).ok());
    let octets = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
    octets.collect::<Option<_>>().unwrap_or_default()
}

/// Returns the complaint that a node is, if it is one.
fn complaint(node: Node<'_, '_>) -> Option<String> {
    let name = |node: Node<'_, '_>| node.attribute("name").unwrap_or_default().to_owned();
    let is_complaint = match &*name(node) {
        "_ws.malformed" => true,
        "_ws.expert" => {
            let severity = node.children().find_map(|part| {
                (name(part) == "_ws.expert.severity").then(|| part.attribute("show"))
            });
            let severity = severity.flatten().and_then(|shown| shown.parse().ok());
            // A severity that cannot be read may be an error.
            severity.unwrap_or(u32::MAX) >= WARNING
        }
        _ => false,
    };
    let about = node.parent().map(name).unwrap_or_default();
    let text = node.attribute("showname").unwrap_or_default();
    is_complaint.then(|| format!("{about}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{MessageType, request};

    /// Wireshark's names of the option with the message type and of the address of a client.
    #[test]
    fn decodes_the_header_and_the_options() {
        let mut message = request(MessageType::LEASE_ACTIVE, 7, &[2, 0, 0, 0, 0, 1]);
        message.ciaddr = [192, 0, 2, 7].into();
        message.set(code::HOST_NAME, *b"host");
        let decoded = &decode(&[message.encode()])[0];
        assert_eq!(decoded.complaints, [""; 0]);
        assert_eq!(decoded.header("dhcp.ip.client"), "192.0.2.7");
        assert_eq!(decoded.values(), [(53, &[13][..]), (12, b"host")]);
        let [_, _, name] = decoded.parts(code::HOST_NAME)[..] else {
            panic!("three parts: {decoded:#?}")
        };
        assert_eq!(
            (&*name.name, &*name.shown),
            ("dhcp.option.hostname", "host")
        );
    }

    /// The decoder notices faults: without this, no complaint would mean nothing.
    #[test]
    fn complains_of_malformed_messages() {
        let mut ends_early = request(MessageType::LEASE_ACTIVE, 7, &[1; 6]).encode();
        ends_early.pop();
        ends_early.extend([61, 9, 1]);
        let mut wrong_length = request(MessageType::LEASE_ACTIVE, 7, &[1; 6]);
        wrong_length.set(code::BASE_TIME, [0; 3]);
        for message in [ends_early, wrong_length.encode()] {
            let decoded = &decode(&[message])[0];
            assert!(!decoded.complaints.is_empty(), "{decoded:#?}");
        }
    }

    /// RFC 1071, section 3, with a header of which the checksum is known.
    #[test]
    fn computes_the_checksum_of_a_header() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }
}
