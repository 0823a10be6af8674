//! Writing replies: framing (RFC 6926 section 6.1), fixed fields, options.

use std::net::Ipv4Addr;
use std::ops::Range;

use proto::StatusCode;
use proto::message::{
    BOOTREPLY, CHADDR, CHADDR_LENGTH, CIADDR, FLAGS, GIADDR, HEADER_LENGTH as HEADER, HTYPE,
    MAGIC_COOKIE, MAX_MESSAGE, MAX_OPTION, MESSAGE_SIZE_LENGTH as SIZE, XID,
};
use proto::option::code;

use crate::wire::options::Tlvs;

/// Where dhcp-message-type is in a frame: the first option, whose value is the last octet of
/// what all replies begin with.
const MESSAGE_TYPE: usize = SIZE + HEADER + 2;

/// Octets that a reply with usual options fits in. It begins as so many, and is cut in the end: options
/// are put into what is there, which needs no look at whether the output must grow.
const USUAL: usize = 512;

/// What all replies to a query begin with, encoded once.
#[derive(Clone, Debug)]
pub struct ReplyHeader {
    /// Transaction id: ties the replies to the query (RFC 6926 section 7.1).
    xid: u32,
    /// message-size, the fixed fields, the magic cookie and dhcp-message-type. What differs
    /// between the replies is zero.
    octets: [u8; MESSAGE_TYPE + 1],
}

impl ReplyHeader {
    /// The header of the replies to a query with this transaction id. Its flags and giaddr are
    /// returned as RFC 2131 table 3 has it.
    pub fn new(xid: u32, flags: u16, giaddr: Ipv4Addr) -> ReplyHeader {
        let mut octets = [0; MESSAGE_TYPE + 1];
        let mut set = |offset: usize, value: &[u8]| {
            octets[SIZE + offset..][..value.len()].copy_from_slice(value);
        };
        set(0, &[BOOTREPLY]);
        set(XID, &xid.to_be_bytes());
        set(FLAGS, &flags.to_be_bytes());
        set(GIADDR, &giaddr.octets());
        set(HEADER - MAGIC_COOKIE.len(), &MAGIC_COOKIE);
        set(HEADER, &[code::MESSAGE_TYPE, 1]);
        ReplyHeader { xid, octets }
    }

    /// The transaction id.
    pub fn xid(&self) -> u32 {
        self.xid
    }
}

/// A message being written, at the end of an output buffer.
///
/// The buffer holds a whole frame only after [`MessageWriter::finish`]; until then, zeros after it.
#[must_use = "a message must be finished"]
pub struct MessageWriter<'a> {
    /// The output; its length is at most that of the largest message.
    out: &'a mut Vec<u8>,
    /// Where the message begins in it, after the message-size.
    start: usize,
    /// Where it ends so far; < out.len(), so that there is room for END.
    end: usize,
}

impl<'a> MessageWriter<'a> {
    /// Begins a reply without a client: about no address, or one nobody had.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, header: &ReplyHeader, message_type: u8) -> Self {
        let start = out.len() + SIZE;
        out.extend_from_slice(&header.octets);
        let end = out.len();
        out.resize(start - SIZE + USUAL, 0);
        let mut writer = MessageWriter { out, start, end };
        writer.frame().set(MESSAGE_TYPE, [message_type]);
        writer
    }

    /// What has been written, to be changed.
    #[inline]
    fn frame(&mut self) -> Frame<'_> {
        Frame(self.out.get_mut(self.start - SIZE..).unwrap_or_default())
    }

    /// Says which address the reply is about: in ciaddr (RFC 6926 section 7.3).
    #[inline]
    pub fn address(&mut self, address: Ipv4Addr) {
        self.frame().address(address);
    }

    /// Says whose MAC address it is: htype, hlen and chaddr. An address too long for chaddr,
    /// as InfiniBand's, is given by its htype with hlen 0 (RFC 4390 section 2.1).
    #[inline]
    pub fn hardware(&mut self, htype: u8, chaddr: &[u8]) {
        self.frame().hardware(htype, chaddr);
    }

    /// The next octets of the message; `None` if so many more, and END, cannot be framed.
    #[inline]
    fn space(&mut self, octets: usize) -> Option<&mut [u8]> {
        let end = self.end + octets;
        if end >= self.out.len() {
            self.grow(end)?;
        }
        let space = self.out.get_mut(self.end..end);
        self.end = end;
        space
    }

    /// Makes room for octets to `end`, and END; `None` if they cannot be framed.
    #[cold]
    fn grow(&mut self, end: usize) -> Option<()> {
        let most = self.start + MAX_MESSAGE;
        (end < most).then(|| self.out.resize(most.min(end + USUAL), 0))
    }

    /// Adds an option, split if it is longer than 255 octets. One that would make the message
    /// larger than can be framed is left out: better a reply without it than none.
    #[inline]
    pub fn option(&mut self, code: u8, value: &[u8]) {
        let Ok(length) = u8::try_from(value.len()) else {
            self.long_option(code, value);
            return;
        };
        if let Some([to_code, to_length, to_value @ ..]) = self.space(2 + value.len()) {
            *to_code = code;
            *to_length = length;
            to_value.copy_from_slice(value);
        }
    }

    /// Adds an option in parts that one option can hold each.
    #[cold]
    fn long_option(&mut self, code: u8, value: &[u8]) {
        let octets = value.len() + 2 * value.len().div_ceil(MAX_OPTION);
        if self.end + octets < self.start + MAX_MESSAGE {
            for part in value.chunks(MAX_OPTION) {
                self.option(code, part);
            }
        }
    }

    /// Adds an option whose value is a 32-bit number in network byte order.
    #[inline]
    pub fn option_u32(&mut self, code: u8, value: u32) {
        let [a, b, c, d] = value.to_be_bytes();
        if let Some(space) = self.space(6) {
            space.copy_from_slice(&[code, 4, a, b, c, d]);
        }
    }

    /// Adds the status-code option; `text` is cut to what one option can hold, and NULs in it
    /// are left out (RFC 6926 section 6.2.2).
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

    /// Ends the message: END, and the message-size before it.
    #[inline]
    pub fn finish(mut self) {
        let end = self.end;
        if let Some(last) = self.out.get_mut(end) {
            *last = code::END;
        }
        self.out.truncate(end + 1);
        // At most MAX_MESSAGE, by `grow`.
        let size = (end + 1 - self.start) as u16;
        self.frame().set(0, size.to_be_bytes());
    }
}

/// A frame in an output, or its beginning. What is not in it is not set.
#[derive(Debug)]
pub struct Frame<'a>(&'a mut [u8]);

impl<'a> Frame<'a> {
    /// Appends a copy of a frame, which it is to differ from in values alone.
    #[inline]
    pub fn copy(out: &'a mut Vec<u8>, frame: &[u8]) -> Frame<'a> {
        let start = out.len();
        out.extend_from_slice(frame);
        Frame(out.get_mut(start..).unwrap_or_default())
    }

    /// Sets octets to others; `at` is where they are, for an option's value by [`values`].
    #[inline]
    pub fn set<const COUNT: usize>(&mut self, at: usize, octets: [u8; COUNT]) {
        let place = self.0.get_mut(at..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = octets;
        }
    }

    /// The same for any number of octets.
    #[inline]
    pub fn set_all(&mut self, at: usize, octets: &[u8]) {
        if let Ok(short) = octets.try_into() {
            // As long as a client identifier made of a MAC address: by far quicker than any number of octets.
            return self.set::<7>(at, short);
        }
        let place = self.0.get_mut(at..);
        if let Some(place) = place.and_then(|place| place.get_mut(..octets.len())) {
            place.copy_from_slice(octets);
        }
    }

    /// See [`MessageWriter::address`].
    #[inline]
    pub fn address(&mut self, address: Ipv4Addr) {
        self.set(SIZE + CIADDR, address.octets());
    }

    /// See [`MessageWriter::hardware`].
    #[inline]
    pub fn hardware(&mut self, htype: u8, chaddr: &[u8]) {
        let chaddr = Some(chaddr)
            .filter(|octets| octets.len() <= CHADDR_LENGTH)
            .unwrap_or_default();
        // At most 16, so it fits.
        let hlen = chaddr.len() as u8;
        self.set(SIZE + HTYPE, [htype, hlen]);
        match chaddr.try_into() {
            // As nearly all have it: by far quicker to copy than any number of octets.
            Ok(ethernet) => self.set::<6>(SIZE + CHADDR, ethernet),
            Err(_) => self.set_all(SIZE + CHADDR, chaddr),
        }
    }
}

/// The options in a frame, and where in it their values are.
pub fn values(frame: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut end = SIZE + HEADER;
    let options = Tlvs::options(frame.get(end..).unwrap_or_default());
    options.map_while(Result::ok).map(move |(option, value)| {
        let at = end + 2;
        end = at + value.len();
        (option, at)
    })
}

/// Appends a frame that is in `out` already once more, about another address.
pub fn write_again(out: &mut Vec<u8>, frame: Range<usize>, address: Ipv4Addr) {
    let start = out.len();
    out.extend_from_within(frame);
    Frame(out.get_mut(start..).unwrap_or_default()).address(address);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Message;

    /// What the replies begin with.
    fn header() -> ReplyHeader {
        ReplyHeader::new(0x01020304, 0x8000, Ipv4Addr::new(192, 0, 2, 1))
    }

    #[test]
    fn lays_the_message_out_as_rfc_2131_and_6926_section_6_1_do() {
        let mut out = b"before".to_vec();
        let mut writer = MessageWriter::new(&mut out, &header(), 13);
        writer.address(Ipv4Addr::new(10, 0, 0, 9));
        writer.hardware(1, &[2, 0, 0, 0, 0, 7]);
        writer.option_u32(51, 3600);
        writer.finish();

        let mut expected = b"before".to_vec();
        expected.extend([0, 250]); // message-size
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
        assert_eq!(out, expected);
    }

    #[test]
    fn writes_again_what_a_new_message_about_the_other_address_would_be() {
        let write = |out: &mut Vec<u8>, address| {
            let mut writer = MessageWriter::new(out, &header(), 11);
            writer.address(address);
            writer.option_u32(152, 7);
            writer.option(156, &[1]);
            writer.finish();
        };
        let mut again = b"before".to_vec();
        write(&mut again, Ipv4Addr::new(10, 0, 0, 255));
        let mut anew = again.clone();
        let frame = "before".len()..again.len();
        for address in [Ipv4Addr::new(10, 0, 1, 0), Ipv4Addr::BROADCAST] {
            write_again(&mut again, frame.clone(), address);
            write(&mut anew, address);
        }
        assert_eq!(again, anew);
    }

    #[test]
    fn splits_options_over_255_octets() {
        for length in [0, 1, 255, 256, 510, 511, 60_000] {
            let value = vec![7; length];
            let mut out = Vec::new();
            let mut writer = MessageWriter::new(&mut out, &header(), 13);
            writer.option(82, &value);
            writer.finish();
            let message = Message::read(&out[2..]).unwrap();
            let option = message.options.get(82).unwrap();
            assert_eq!(option.value, value);
            assert_eq!(option.occurrences, length.div_ceil(255).max(1));
        }
    }

    #[test]
    fn never_writes_a_message_that_cannot_be_framed() {
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, &header(), 13);
        writer.option(82, &vec![7; 40_000]);
        writer.option(60, &vec![7; 40_000]);
        // Whatever its length, an option that would be too much is left out.
        for _ in 0..7_000 {
            writer.option_u32(51, 1);
        }
        for length in (1..=255).rev() {
            writer.option(43, &vec![7; length]);
        }
        writer.finish();
        assert!(out.len() <= 2 + 65_535);
        assert_eq!(
            usize::from(u16::from_be_bytes([out[0], out[1]])),
            out.len() - 2
        );
        let message = Message::read(&out[2..]).unwrap();
        assert_eq!(message.options.value(60), None);
        assert!(message.options.value(51).is_some());
    }

    #[test]
    fn status_texts_hold_no_nul_and_fit_one_option() {
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, &header(), 15);
        writer.status(
            StatusCode::QUERY_TERMINATED,
            &format!("a\0b{}", "ü".repeat(200)),
        );
        writer.finish();
        let message = Message::read(&out[2..]).unwrap();
        let status = message.options.get(151).unwrap();
        assert_eq!(status.occurrences, 1);
        assert_eq!(status.value[0], 2);
        let text = std::str::from_utf8(&status.value[1..]).unwrap();
        assert!(text.starts_with("abüü") && !text.contains('\0'));
    }

    #[test]
    fn gives_infiniband_addresses_by_their_htype_alone() {
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, &header(), 13);
        writer.hardware(32, &[9; 20]);
        writer.finish();
        let message = Message::read(&out[2..]).unwrap();
        assert_eq!(
            (message.htype, message.hlen, message.chaddr),
            (32, 0, [0; 16])
        );
    }
}
