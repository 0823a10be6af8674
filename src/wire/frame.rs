//! Message framing for TCP (RFC 6926 section 6.1): the receiving side.

/// Octets of message-size, before each message.
const SIZE: usize = 2;

/// Octets a reader may hold of what follows a message: some small queries, so that those sent
/// together cost one system call and not two each.
pub const READ_AHEAD: usize = 4 * 1024;

/// Collects octets received, and gives the messages in them one at a time.
///
/// It holds at most [`READ_AHEAD`] octets, or a message that is larger (65537 octets) and nothing
/// of the next one: what a peer sends beyond that stays where it is until the messages before it
/// are [consumed](FrameReader::consume).
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Octets received, and room for more.
    octets: Vec<u8>,
    /// Where the first message not consumed begins, with its message-size; <= end.
    begin: usize,
    /// Where the octets received end; <= octets.len().
    end: usize,
}

impl FrameReader {
    /// A reader at the start of a frame.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// What was received and not consumed.
    fn received(&self) -> &[u8] {
        self.octets.get(self.begin..self.end).unwrap_or_default()
    }

    /// Octets of the first frame, as far as its size is known.
    fn expected(&self) -> usize {
        match self.received().first_chunk() {
            Some(size) => SIZE + usize::from(u16::from_be_bytes(*size)),
            None => SIZE,
        }
    }

    /// Where the next octets received belong. It is empty only if a message is complete.
    pub fn space(&mut self) -> &mut [u8] {
        let size = self.expected().max(READ_AHEAD);
        if self.begin > 0 {
            // At most what was read ahead.
            self.octets.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.octets.len() != size {
            self.octets.resize(size.max(self.end), 0);
            // A message much larger than others leaves no trace.
            self.octets.shrink_to(size);
        }
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes note that `count` octets were put into [`FrameReader::space`].
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.octets.len());
    }

    /// The first message not consumed, without its size, once it is complete.
    pub fn message(&self) -> Option<&[u8]> {
        self.received()
            .get(..self.expected())
            .and_then(|frame| frame.get(SIZE..))
    }

    /// Whether nothing was received that is not consumed.
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Forgets the first message, if it is complete: the next octet begins a new frame.
    pub fn consume(&mut self) {
        if self.message().is_some() {
            self.begin += self.expected();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages in `stream`, received in pieces of at most `piece` octets; and whether
    /// it ended between two of them.
    fn messages(mut stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
        let mut reader = FrameReader::new();
        let mut messages = Vec::new();
        while !stream.is_empty() {
            let space = reader.space();
            assert!(!space.is_empty());
            let count = space.len().min(piece).min(stream.len());
            space[..count].copy_from_slice(&stream[..count]);
            stream = &stream[count..];
            reader.advance(count);
            while let Some(message) = reader.message() {
                messages.push(message.to_vec());
                reader.consume();
            }
        }
        (messages, reader.is_empty())
    }

    #[test]
    fn reads_two_messages_in_one_segment() {
        let stream = [0, 3, b'o', b'n', b'e', 0, 3, b't', b'w', b'o'];
        let (messages, complete) = messages(&stream, usize::MAX);
        assert_eq!(messages, [b"one", b"two"]);
        assert!(complete);
    }

    #[test]
    fn reads_a_message_of_no_octets() {
        assert_eq!(messages(&[0, 0, 0, 1, 7], 9), (vec![vec![], vec![7]], true));
    }

    #[test]
    fn reads_the_largest_message() {
        // RFC 6926 section 6.1: the maximum message size is 65535 octets.
        let mut stream = vec![255, 255];
        stream.resize(2 + 65_535, 7);
        assert_eq!(messages(&stream, 1_000).0, [vec![7; 65_535]]);
    }

    #[test]
    fn reads_a_bounded_number_of_octets_ahead() {
        let mut reader = FrameReader::new();
        assert_eq!(reader.space().len(), READ_AHEAD);
        // Small messages, of which none is taken.
        let count = reader.space().len();
        reader.space().fill(0);
        reader.advance(count);
        assert_eq!(reader.space().len(), 0);
        // One consumed makes room for as many octets as it had.
        reader.consume();
        assert_eq!(reader.space().len(), SIZE);
    }

    #[test]
    fn asks_for_no_octet_after_a_large_message() {
        let mut reader = FrameReader::new();
        let space = reader.space();
        space.fill(7);
        space[..SIZE].copy_from_slice(&60_000_u16.to_be_bytes());
        reader.advance(READ_AHEAD);
        assert_eq!(reader.space().len(), SIZE + 60_000 - READ_AHEAD);
        reader.advance(SIZE + 60_000 - READ_AHEAD);
        assert_eq!(reader.space().len(), 0);
        assert_eq!(reader.message().map(<[u8]>::len), Some(60_000));
        reader.consume();
        assert!(reader.is_empty());
        assert_eq!(reader.space().len(), READ_AHEAD);
        assert!(reader.octets.capacity() < 60_000);
    }

    #[test]
    fn knows_a_frame_that_is_cut() {
        assert!(!messages(&[0], 1).1);
        assert!(!messages(&[0, 1], 1).1);
        assert!(!messages(&[0, 2, 7], 2).1);
    }

    proptest! {
        #[test]
        fn reads_the_same_messages_however_they_are_cut(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6_000), 0..6),
            piece in 1..9_000usize,
        ) {
            let mut stream = Vec::new();
            for message in &sent {
                stream.extend((message.len() as u16).to_be_bytes());
                stream.extend(message);
            }
            prop_assert_eq!(messages(&stream, piece), (sent, true));
        }
    }
}
