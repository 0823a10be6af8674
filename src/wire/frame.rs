//! Message framing for TCP (RFC 6926 section 6.1): the receiving side.

/// Octets of message-size, before each message.
const SIZE: usize = 2;

/// Collects the octets of one message at a time.
///
/// It asks for no octet after the message's last, so that the messages that follow stay
/// where they are until [`FrameReader::clear`]: a server must not read more queries than it
/// is prepared to process (RFC 6926 section 8.4). It holds 65537 octets at most.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// message-size and message, as far as received; room for the rest after that.
    octets: Vec<u8>,
    /// received <= octets.len()
    received: usize,
}

impl FrameReader {
    /// A reader at the start of a frame.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// Octets of the frame, as far as its size is known.
    fn expected(&self) -> usize {
        match self.octets.first_chunk() {
            Some(size) if self.received >= SIZE => SIZE + usize::from(u16::from_be_bytes(*size)),
            _ => SIZE,
        }
    }

    /// Where the next octets received belong. It is empty only if the message is complete.
    pub fn space(&mut self) -> &mut [u8] {
        let expected = self.expected();
        self.octets.resize(expected, 0);
        self.octets.get_mut(self.received..).unwrap_or_default()
    }

    /// Takes note that `count` octets were put into [`FrameReader::space`].
    pub fn advance(&mut self, count: usize) {
        self.received = (self.received + count).min(self.octets.len());
    }

    /// The message, without its size, once it is complete.
    pub fn message(&self) -> Option<&[u8]> {
        if self.received < SIZE {
            return None;
        }
        self.octets
            .get(..self.received)
            .filter(|frame| frame.len() == self.expected())
            .and_then(|frame| frame.get(SIZE..))
    }

    /// Whether nothing of a frame was received yet.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// Forgets the message: the next octet begins a new frame.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.received = 0;
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
            if let Some(message) = reader.message() {
                messages.push(message.to_vec());
                reader.clear();
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
    fn asks_for_no_octet_of_the_next_message() {
        let mut reader = FrameReader::new();
        assert_eq!(reader.space().len(), 2);
        reader.space().copy_from_slice(&[0, 3]);
        reader.advance(2);
        assert_eq!(reader.space().len(), 3);
        reader.advance(3);
        assert_eq!(reader.space().len(), 0);
        reader.clear();
        assert_eq!(reader.space().len(), 2);
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
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..6),
            piece in 1..500usize,
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
