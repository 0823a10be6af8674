//! Message framing for TCP (RFC 6926 section 6.1): a message-size before each message.

use std::net::Ipv4Addr;
use std::ops::Range;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::message::{CIADDR, MESSAGE_SIZE_LENGTH as SIZE};

/// The most octets of small messages that a reader holds: messages sent together cost one system call
/// instead of two each.
pub const READ_AHEAD: usize = 4 * 1024;

/// Collects the octets received on a connection and returns the messages in them, one at a time.
///
/// The reader takes no octet beyond the wanted messages: the rest stays in the socket. It does not peek, because
/// not every stream can: it asks for as many octets as the message being received and the shortest possible
/// next ones have. It holds at most [`READ_AHEAD`] octets, or one larger message (65537 octets) alone.
#[derive(Debug)]
pub struct FrameReader {
    /// Octets of the shortest frame that may be followed by another.
    shortest: usize,
    /// Octets received, from the first message not returned.
    received: BytesMut,
}

impl FrameReader {
    /// Returns a reader at the start of a frame. A message shorter than `shortest` octets must end the stream,
    /// because octets of the next message may have been received with it.
    pub fn new(shortest: usize) -> FrameReader {
        FrameReader {
            shortest: SIZE + shortest,
            received: BytesMut::new(),
        }
    }

    /// Returns the length of the first frame, once its size is known.
    fn expected(&self) -> Option<usize> {
        let size = self.received.first_chunk()?;
        Some(SIZE + usize::from(u16::from_be_bytes(*size)))
    }

    /// Returns the space for the next octets, if `messages` (at least 1) more are wanted, without space for
    /// octets after them. The space is empty only if a message is complete.
    pub fn space(&mut self, messages: usize) -> Limit<&mut BytesMut> {
        let first = self.expected().unwrap_or(self.shortest);
        let others = self.shortest.saturating_mul(messages.saturating_sub(1));
        let capacity = first.max(READ_AHEAD);
        let wanted = first.saturating_add(others).min(capacity);
        let missing = wanted.saturating_sub(self.received.len());
        let has_room = missing == 0 || self.received.try_reclaim(missing);
        if !has_room || self.received.capacity() > 2 * capacity {
            // Not `reserve`: it may double the capacity, and never shrinks it after a large message.
            let mut larger = BytesMut::with_capacity(capacity);
            larger.extend_from_slice(&self.received);
            self.received = larger;
        }
        (&mut self.received).limit(missing)
    }

    /// Returns the first message, without its size, once it is complete; the next octet begins a new frame.
    pub fn next_message(&mut self) -> Option<Bytes> {
        if !self.has_message() {
            return None;
        }
        let mut frame = self.received.split_to(self.expected()?);
        frame.advance(SIZE);
        Some(frame.freeze())
    }

    /// Whether a message is complete.
    pub fn has_message(&self) -> bool {
        self.expected()
            .is_some_and(|length| self.received.len() >= length)
    }

    /// Whether every octet received was part of a message returned.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

/// A frame at the end of an output, whose message is appended next.
#[derive(Debug)]
#[must_use = "a frame must be finished or discarded"]
pub struct FrameWriter {
    /// Start of the frame in the output.
    start: usize,
}

impl FrameWriter {
    /// Begins a frame with room for the message-size.
    #[inline(always)]
    pub fn begin(out: &mut Vec<u8>) -> FrameWriter {
        let start = out.len();
        out.extend_from_slice(&[0; SIZE]);
        FrameWriter { start }
    }

    /// Sets the message-size to the length of the message, at most 65535 octets.
    #[inline(always)]
    pub fn finish(self, out: &mut [u8]) {
        let frame = out.get_mut(self.start..).unwrap_or_default();
        let size = frame.len().saturating_sub(SIZE) as u16;
        if let Some(place) = frame.first_chunk_mut() {
            *place = size.to_be_bytes();
        }
    }

    /// Removes the frame.
    pub fn discard(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

/// Appends a copy of a frame that is in `out`, about another address.
pub fn append_copy(out: &mut Vec<u8>, frame: Range<usize>, address: Ipv4Addr) {
    let start = out.len();
    out.extend_from_within(frame);
    let ciaddr = out.get_mut(start + SIZE + CIADDR..);
    if let Some(place) = ciaddr.and_then(<[u8]>::first_chunk_mut) {
        *place = address.octets();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Octets of the shortest message in these tests that does not end the stream.
    const SHORTEST: usize = 5;

    /// Reads `stream` in pieces of at most `piece` octets until there are `wanted` messages, or one ends
    /// the stream, or it ends by itself; gives the messages, and how many octets it took.
    fn read(mut stream: &[u8], piece: usize, wanted: usize) -> (Vec<Vec<u8>>, usize) {
        let length = stream.len();
        let mut reader = FrameReader::new(SHORTEST);
        let mut messages: Vec<Vec<u8>> = Vec::new();
        while messages.len() < wanted && !stream.is_empty() {
            let mut space = reader.space(wanted - messages.len());
            assert!(space.has_remaining_mut());
            let count = space.remaining_mut().min(piece).min(stream.len());
            space.put(&stream[..count]);
            stream = &stream[count..];
            while let Some(message) = reader.next_message() {
                messages.push(message.into());
                if messages.last().is_some_and(|last| last.len() < SHORTEST) {
                    return (messages, length - stream.len());
                }
            }
        }
        assert!(reader.is_empty() || messages.len() < wanted);
        (messages, length - stream.len())
    }

    /// The frames of these messages.
    fn frames<M: AsRef<[u8]>>(messages: &[M]) -> Vec<u8> {
        let frame = |message: &M| {
            let message = message.as_ref();
            let size = (message.len() as u16).to_be_bytes();
            [&size, message].concat()
        };
        messages.iter().flat_map(frame).collect()
    }

    #[test]
    fn writes_frames_and_copies_of_them() {
        let mut out = b"before".to_vec();
        FrameWriter::begin(&mut out).discard(&mut out);
        assert_eq!(out, b"before");
        let message = |address: [u8; 4]| [&[7; CIADDR], &address[..], &[8; 600]].concat();
        let frame = FrameWriter::begin(&mut out);
        out.extend(message([10, 0, 0, 255]));
        frame.finish(&mut out);
        let first = "before".len()..out.len();
        append_copy(&mut out, first, Ipv4Addr::new(10, 0, 1, 0));
        let expected = frames(&[message([10, 0, 0, 255]), message([10, 0, 1, 0])]);
        assert_eq!(out.strip_prefix(b"before"), Some(&expected[..]));
    }

    #[test]
    fn reads_two_messages_in_one_segment() {
        let sent = [b"first", b"other"];
        let (messages, octets) = read(&frames(&sent), usize::MAX, 9);
        assert_eq!(
            (messages.as_slice(), octets),
            (&sent.map(Vec::from)[..], 14)
        );
    }

    #[test]
    fn reads_no_octet_of_a_message_that_is_not_wanted() {
        // RFC 6926 section 8.4: MUST NOT read more than it is prepared to process.
        let sent = frames(&[&b"a longer one"[..], b"third", b"and another", b"end"]);
        for (wanted, octets) in [(1, 14), (2, 21), (3, 34), (4, 39), (5, 39)] {
            let (messages, taken) = read(&sent, usize::MAX, wanted);
            assert_eq!((messages.len(), taken), (wanted.min(4), octets));
        }
    }

    #[test]
    fn reads_a_message_of_no_octets() {
        assert_eq!(read(&[0, 0], 1, 1), (vec![vec![]], 2));
        assert_eq!(read(&[0, 0], 9, 1), (vec![vec![]], 2));
    }

    #[test]
    fn reads_the_largest_message() {
        // RFC 6926 section 6.1: the maximum message size is 65535 octets.
        let sent = vec![7; 65_535];
        let stream = frames(&[&sent[..], b"third"]);
        assert_eq!(read(&stream, 1_000, 1), (vec![sent], 65_537));
    }

    #[test]
    fn reads_a_bounded_number_of_octets_ahead_however_many_messages_are_wanted() {
        let mut reader = FrameReader::new(SHORTEST);
        assert_eq!(reader.space(usize::MAX).remaining_mut(), READ_AHEAD);
        let stream = frames(&vec![b"first"; 1_000]);
        reader.space(usize::MAX).put(&stream[..READ_AHEAD]);
        assert_eq!(reader.space(usize::MAX).remaining_mut(), 0);
        // A message returned makes room for as many octets as it had.
        reader.next_message();
        assert_eq!(reader.space(usize::MAX).remaining_mut(), SIZE + SHORTEST);
    }

    #[test]
    fn asks_for_no_octet_after_a_large_message_and_gives_its_memory_back() {
        let mut reader = FrameReader::new(SHORTEST);
        let mut start = vec![7; READ_AHEAD];
        start[..SIZE].copy_from_slice(&60_000_u16.to_be_bytes());
        reader.space(usize::MAX).put(&start[..]);
        let rest = SIZE + 60_000 - READ_AHEAD;
        let mut space = reader.space(usize::MAX);
        assert_eq!(space.remaining_mut(), rest);
        space.put_bytes(7, rest);
        assert_eq!(reader.space(usize::MAX).remaining_mut(), 0);
        assert_eq!(reader.next_message().unwrap().len(), 60_000);
        assert!(reader.is_empty());
        assert_eq!(reader.space(usize::MAX).remaining_mut(), READ_AHEAD);
        assert!(reader.received.capacity() < 60_000);
    }

    #[test]
    fn knows_a_frame_that_is_cut() {
        for cut in [&[0][..], &[0, 1], &[0, 2, 7]] {
            assert_eq!(read(cut, usize::MAX, 9), (vec![], cut.len()));
        }
    }

    proptest! {
        /// RFC 6926 section 8.4, whatever the pieces and however many messages may be begun: they are
        /// the same, and nothing behind the last of them was taken.
        #[test]
        fn reads_what_is_wanted_and_nothing_else_however_it_is_cut(
            sent in proptest::collection::vec(
                (prop_oneof![
                    8 => SHORTEST..40usize, 4 => SHORTEST..6_000usize, 1 => 60_000..65_536usize
                ], any::<u8>()).prop_map(|(length, octet)| vec![octet; length]),
                0..8,
            ),
            piece in prop_oneof![1..9usize, 1..9_000usize, Just(usize::MAX)],
            wanted in 1..10usize,
        ) {
            let (messages, octets) = read(&frames(&sent), piece, wanted);
            let wanted = &sent[..wanted.min(sent.len())];
            prop_assert_eq!(&messages, wanted);
            prop_assert_eq!(octets, frames(wanted).len());
        }

        /// The message that ends the stream is the last, and those before it are read.
        #[test]
        fn reads_up_to_a_message_that_is_too_short(
            sent in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..60usize), 1..8,
            ),
            piece in 1..200usize,
            wanted in 1..10usize,
        ) {
            let (messages, _) = read(&frames(&sent), piece, wanted);
            let is_last = |message: &Vec<u8>| message.len() < SHORTEST;
            let last = sent.iter().position(is_last).map_or(sent.len(), |last| last + 1);
            prop_assert_eq!(&messages[..], &sent[..last.min(wanted)]);
        }
    }
}
