//! Writing replies: fixed fields and options.

use std::net::Ipv4Addr;

use proto::message::{
    BOOTREPLY, CHADDR, CHADDR_LENGTH, CIADDR, FLAGS, GIADDR, HEADER_LENGTH as HEADER, HTYPE,
    MAGIC_COOKIE, MAX_MESSAGE, MAX_OPTION, XID,
};
use proto::option::code;
use proto::{MessageType, StatusCode};

/// Offset of the value of dhcp-message-type, the first option.
pub const MESSAGE_TYPE: usize = HEADER + 2;

/// The octets with which all replies to a query begin, encoded once.
#[derive(Clone, Debug)]
pub struct ReplyHeader {
    /// Transaction id: relates the replies to the query (RFC 6926 section 7.1).
    xid: u32,
    /// The fixed fields, the magic cookie and dhcp-message-type. Fields that differ between replies are
    /// zero.
    octets: [u8; MESSAGE_TYPE + 1],
}

impl ReplyHeader {
    /// Returns the header of the replies to a query with this transaction id, these flags and this giaddr,
    /// all of which they return (RFC 2131 table 3).
    pub fn new(xid: u32, flags: u16, giaddr: Ipv4Addr) -> ReplyHeader {
        let mut octets = [0; MESSAGE_TYPE + 1];
        let mut set = |offset: usize, value: &[u8]| {
            octets[offset..][..value.len()].copy_from_slice(value);
        };
        set(0, &[BOOTREPLY]);
        set(XID, &xid.to_be_bytes());
        set(FLAGS, &flags.to_be_bytes());
        set(GIADDR, &giaddr.octets());
        set(HEADER - MAGIC_COOKIE.len(), &MAGIC_COOKIE);
        set(HEADER, &[code::MESSAGE_TYPE, 1]);
        ReplyHeader { xid, octets }
    }

    /// Returns the transaction id.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// Returns the octets: those of a reply about no address and no client, without its type.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Writes a message of at most [`MAX_MESSAGE`] octets, or of a smaller [limit](MessageWriter::limit), at the end of an output.
#[derive(Debug)]
#[must_use = "a message must be finished"]
pub struct MessageWriter<'a> {
    /// The output.
    out: &'a mut Vec<u8>,
    /// Start of the message in the output.
    start: usize,
    /// Octets kept free for later options.
    reserved: usize,
    /// The largest length of the message.
    limit: usize,
}

impl<'a> MessageWriter<'a> {
    /// Begins a reply about no address and no client.
    pub fn new(out: &'a mut Vec<u8>, header: &ReplyHeader, message_type: MessageType) -> Self {
        let start = out.len();
        out.extend_from_slice(&header.octets);
        let mut writer = MessageWriter {
            out,
            start,
            reserved: 0,
            limit: MAX_MESSAGE,
        };
        writer.set(MESSAGE_TYPE, [message_type.0]);
        writer
    }

    /// Overwrites octets of the message at an offset.
    fn set<const COUNT: usize>(&mut self, offset: usize, octets: [u8; COUNT]) {
        let message = self.out.get_mut(self.start..).unwrap_or_default();
        set(message, offset, octets);
    }

    /// Sets the address that the reply is about: ciaddr (RFC 6926 section 7.3).
    pub fn address(&mut self, address: Ipv4Addr) {
        self.set(CIADDR, address.octets());
    }

    /// Sets the client's MAC address: htype, hlen and chaddr. Of one too long for chaddr, such as an
    /// InfiniBand one, it sets htype, and hlen to 0 (RFC 4390 section 2.1).
    pub fn hardware(&mut self, htype: u8, chaddr: &[u8]) {
        let message = self.out.get_mut(self.start..);
        if let Some(header) = message.and_then(<[u8]>::first_chunk_mut) {
            set_hardware(header, htype, chaddr);
        }
    }

    /// Keeps so many octets free: options do not use them until another number is reserved.
    pub fn reserve(&mut self, octets: usize) {
        self.reserved = octets;
    }

    /// Sets the largest length of the message, at most [`MAX_MESSAGE`].
    pub fn limit(&mut self, octets: usize) {
        self.limit = octets.min(MAX_MESSAGE);
    }

    /// Returns the number of octets that options may still take, with their codes and lengths.
    pub fn room(&self) -> usize {
        // The message ends with END.
        let end = self.start + self.limit;
        end.saturating_sub(self.out.len() + self.reserved + 1)
    }

    /// Whether so many octets more, and END, make the message too long.
    fn is_full(&self, octets: usize) -> bool {
        self.out.len() + octets + self.reserved >= self.start + self.limit
    }

    /// Adds an option, split if it is longer than 255 octets. Leaves out an option that makes the message
    /// too long: a reply without it is better than none.
    pub fn option(&mut self, code: u8, value: &[u8]) {
        match u8::try_from(value.len()) {
            Ok(length) if !self.is_full(2 + value.len()) => {
                self.out.extend_from_slice(&[code, length]);
                self.out.extend_from_slice(value);
            }
            Ok(_) => {}
            Err(_) => self.long_option(code, value),
        }
    }

    /// Adds an option in parts that fit one option each.
    fn long_option(&mut self, code: u8, value: &[u8]) {
        let octets = value.len() + 2 * value.len().div_ceil(MAX_OPTION);
        if !self.is_full(octets) {
            for part in value.chunks(MAX_OPTION) {
                self.option(code, part);
            }
        }
    }

    /// Adds an option whose value is a 32-bit number.
    pub fn option_u32(&mut self, code: u8, value: u32) {
        self.option(code, &value.to_be_bytes());
    }

    /// Adds the status-code option; its text is cut to the longest that fits one option, and loses its
    /// NULs (RFC 6926 section 6.2.2).
    pub fn status(&mut self, status: StatusCode, text: &str) {
        let mut value = vec![status.0];
        for character in text.chars().filter(|character| *character != '\0') {
            if value.len() + character.len_utf8() > MAX_OPTION {
                break;
            }
            value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.option(code::STATUS_CODE, &value);
    }

    /// Ends the message.
    pub fn finish(self) {
        self.out.push(code::END);
    }
}

/// Overwrites octets of a message at an offset.
#[inline(always)]
pub fn set<const COUNT: usize>(message: &mut [u8], offset: usize, octets: [u8; COUNT]) {
    let rest = message.get_mut(offset..);
    if let Some(place) = rest.and_then(<[u8]>::first_chunk_mut) {
        *place = octets;
    }
}

/// Sets the client's MAC address in the fixed fields of a message.
#[inline(always)]
pub fn set_hardware(header: &mut [u8; HEADER], htype: u8, chaddr: &[u8]) {
    // Nearly all have six octets, which are quick to copy.
    if let Ok(ethernet) = <[u8; 6]>::try_from(chaddr) {
        set(header, HTYPE, [htype, 6]);
        set(header, CHADDR, ethernet);
    } else {
        let mut padded = [0; CHADDR_LENGTH];
        let mut hlen = 0;
        if let Some(place) = padded.get_mut(..chaddr.len()) {
            place.copy_from_slice(chaddr);
            // At most 16.
            hlen = chaddr.len() as u8;
        }
        set(header, HTYPE, [htype, hlen]);
        set(header, CHADDR, padded);
    }
}

/// Copies octets to a place of as many. Short ones are copied without a call, in two moves that overlap.
#[inline(always)]
pub fn copy(to: &mut [u8], from: &[u8]) {
    #[inline(always)]
    fn copy_ends<const COUNT: usize>(to: &mut [u8], from: &[u8]) {
        if let (Some(first), Some(last)) = (from.first_chunk::<COUNT>(), from.last_chunk()) {
            set(to, 0, *first);
            if let Some(place) = to.last_chunk_mut::<COUNT>() {
                *place = *last;
            }
        }
    }
    match from.len() {
        4..=8 => copy_ends::<4>(to, from),
        9..=16 => copy_ends::<8>(to, from),
        17..=32 => copy_ends::<16>(to, from),
        33..=64 => copy_ends::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Message;

    /// Returns a header with values in all its fields.
    fn header() -> ReplyHeader {
        ReplyHeader::new(0x01020304, 0x8000, Ipv4Addr::new(192, 0, 2, 1))
    }

    /// Returns the message that `write` writes.
    fn message(write: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let mut writer = MessageWriter::new(&mut out, &header(), MessageType::LEASE_ACTIVE);
        write(&mut writer);
        writer.finish();
        out.strip_prefix(b"before").unwrap().to_vec()
    }

    #[test]
    fn lays_the_message_out_as_rfc_2131_does() {
        let message = message(|writer| {
            writer.address(Ipv4Addr::new(10, 0, 0, 9));
            writer.hardware(1, &[2, 0, 0, 0, 0, 7]);
            writer.option_u32(51, 3600);
        });
        let mut expected = Vec::new();
        expected.extend([2, 1, 6, 0]); // op, htype, hlen, hops
        expected.extend([1, 2, 3, 4]); // xid
        expected.extend([0, 0, 0x80, 0]); // secs, flags
        expected.extend([10, 0, 0, 9]); // ciaddr
        expected.extend([0; 8]); // yiaddr, siaddr
        expected.extend([192, 0, 2, 1]); // giaddr
        expected.extend([2, 0, 0, 0, 0, 7]); // chaddr
        expected.extend([0; 10 + 64 + 128]); // rest of chaddr, sname, file
        expected.extend([99, 130, 83, 99]); // magic cookie
        expected.extend([53, 1, 13]);
        expected.extend([51, 4, 0, 0, 0x0e, 0x10]);
        expected.push(255);
        assert_eq!(message, expected);
    }

    #[test]
    fn splits_options_over_255_octets() {
        for length in [0, 1, 255, 256, 510, 511, 60_000] {
            let value = vec![7; length];
            let octets = message(|writer| writer.option(82, &value));
            let message = Message::read(&octets).unwrap();
            let option = message.options.get(82).unwrap();
            assert_eq!(option.value, value);
            assert_eq!(option.occurrences, length.div_ceil(255).max(1));
        }
    }

    #[test]
    fn leaves_out_options_that_make_the_message_too_long() {
        let octets = message(|writer| {
            writer.option(82, &vec![7; 40_000]);
            writer.option(60, &vec![7; 40_000]);
            // Any that is too much is left out, whatever its length.
            for _ in 0..7_000 {
                writer.option_u32(51, 1);
            }
            for length in (1..=255).rev() {
                writer.option(43, &vec![7; length]);
            }
        });
        assert!(octets.len() <= 65_535);
        let message = Message::read(&octets).unwrap();
        assert_eq!(message.options.value(60), None);
        assert!(message.options.value(51).is_some());
    }

    #[test]
    fn status_texts_have_no_nul_and_fit_one_option() {
        let text = format!("a\0b{}", "ü".repeat(200));
        let octets = message(|writer| writer.status(StatusCode::QUERY_TERMINATED, &text));
        let message = Message::read(&octets).unwrap();
        let status = message.options.get(151).unwrap();
        assert_eq!(status.occurrences, 1);
        assert_eq!(status.value[0], 2);
        let text = std::str::from_utf8(&status.value[1..]).unwrap();
        assert!(text.starts_with("abüü") && !text.contains('\0'));
    }

    #[test]
    fn hardware_addresses_longer_than_chaddr_are_left_out() {
        for (octets, hlen) in [(0, 0), (1, 1), (6, 6), (16, 16), (17, 0), (20, 0)] {
            let message = message(|writer| writer.hardware(32, &vec![9; octets]));
            let message = Message::read(&message).unwrap();
            let mut chaddr = [0; 16];
            chaddr[..hlen].fill(9);
            let found = (message.htype, usize::from(message.hlen), message.chaddr);
            assert_eq!(found, (32, hlen, chaddr));
        }
    }
}
