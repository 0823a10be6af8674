//! Message framing for TCP (RFC 6926 section 6.1): the receiving side.

use proto::message::MESSAGE_SIZE_LENGTH as SIZE;

/// Octets a reader holds of small messages at most: those sent together cost one system call and not two
/// each.
pub const READ_AHEAD: usize = 4 * 1024;

/// Collects octets received, and gives the messages in them one at a time.
///
/// The reader takes no octet beyond the wanted messages: what follows stays where it is. To know where that begins
/// it does not look ahead, which not every stream can: it asks for no more octets than the message being received
/// and the shortest ones possible take. It holds at most [`READ_AHEAD`] octets, or a message that is larger (65537
/// octets) and nothing of the next one.
#[derive(Debug)]
pub struct FrameReader {
    /// Octets of the shortest frame that may be followed by another.
    shortest: usize,
    /// Octets received, and room for more.
    octets: Vec<u8>,
    /// Where the first message not consumed begins, with its message-size; <= end.
    begin: usize,
    /// Where the octets received end; <= octets.len().
    end: usize,
}

impl FrameReader {
    /// A reader at the start of a frame. Messages shorter than `shortest` octets must end the stream:
    /// what follows one of them may have been received with it.
    pub fn new(shortest: usize) -> FrameReader {
        FrameReader {
            shortest: SIZE + shortest,
            octets: Vec::new(),
            begin: 0,
            end: 0,
        }
    }

    /// What was received and not consumed.
    fn received(&self) -> &[u8] {
        self.octets.get(self.begin..self.end).unwrap_or_default()
    }

    /// Octets of the first frame, once its size is known.
    fn expected(&self) -> Option<usize> {
        let size = self.received().first_chunk()?;
        Some(SIZE + usize::from(u16::from_be_bytes(*size)))
    }

    /// Where the next octets received belong, if `messages` (at least 1) are wanted besides those
    /// consumed: none of what follows those. It is empty only if a message is complete.
    pub fn space(&mut self, messages: usize) -> &mut [u8] {
        let first = self.expected().unwrap_or(self.shortest);
        let capacity = first.max(READ_AHEAD);
        if self.begin > 0 {
            // At most what was read ahead.
            self.octets.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.octets.len() != capacity {
            self.octets.resize(capacity.max(self.end), 0);
            // A message much larger than others leaves no trace.
            self.octets.shrink_to(capacity);
        }
        let others = self.shortest.saturating_mul(messages.saturating_sub(1));
        let wanted = first.saturating_add(others).min(capacity);
        self.octets.get_mut(self.end..wanted).unwrap_or_default()
    }

    /// Takes note that `count` octets were put into [`FrameReader::space`].
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.octets.len());
    }

    /// The first message not consumed, without its size, once it is complete.
    pub fn message(&self) -> Option<&[u8]> {
        let frame = self.received().get(..self.expected()?)?;
        frame.get(SIZE..)
    }

    /// Whether nothing was received that is not consumed.
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Forgets the first message, if it is complete: the next octet begins a new frame.
    pub fn consume(&mut self) {
        if let Some(message) = self.message() {
            self.begin += SIZE + message.len();
        }
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
            let space = reader.space(wanted - messages.len());
            assert!(!space.is_empty());
            let count = space.len().min(piece).min(stream.len());
            space[..count].copy_from_slice(&stream[..count]);
            stream = &stream[count..];
            reader.advance(count);
            while let Some(message) = reader.message() {
                messages.push(message.to_vec());
                reader.consume();
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
        assert_eq!(reader.space(usize::MAX).len(), READ_AHEAD);
        let count = reader.space(usize::MAX).len();
        let stream = frames(&vec![b"first"; 1_000]);
        reader.space(usize::MAX).copy_from_slice(&stream[..count]);
        reader.advance(count);
        assert_eq!(reader.space(usize::MAX).len(), 0);
        // One consumed makes room for as many octets as it had.
        reader.consume();
        assert_eq!(reader.space(usize::MAX).len(), SIZE + SHORTEST);
    }

    #[test]
    fn asks_for_no_octet_after_a_large_message_and_gives_its_memory_back() {
        let mut reader = FrameReader::new(SHORTEST);
        let space = reader.space(usize::MAX);
        space.fill(7);
        space[..SIZE].copy_from_slice(&60_000_u16.to_be_bytes());
        reader.advance(READ_AHEAD);
        let rest = SIZE + 60_000 - READ_AHEAD;
        assert_eq!(reader.space(usize::MAX).len(), rest);
        reader.advance(rest);
        assert_eq!(reader.space(usize::MAX).len(), 0);
        assert_eq!(reader.message().map(<[u8]>::len), Some(60_000));
        reader.consume();
        assert!(reader.is_empty());
        assert_eq!(reader.space(usize::MAX).len(), READ_AHEAD);
        assert!(reader.octets.capacity() < 60_000);
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
