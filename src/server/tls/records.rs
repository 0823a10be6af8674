//! Splits messages into TLS records: one DHCP message in each (RFC 7724 section 5.1).

use proto::message::MESSAGE_SIZE_LENGTH as SIZE;

/// The most octets of plaintext in a record (RFC 8446 section 5.1). A longer message is carried in
/// several records.
pub const MAX_RECORD: usize = 16 * 1024;

/// Finds the frames, each a message-size and its message, in octets that are cut anywhere.
#[derive(Debug, Default)]
pub struct Records {
    /// The first octets of a frame that is not complete; if `is_returned`, a frame returned before.
    /// len() <= MAX_RECORD
    partial: Vec<u8>,
    /// Whether `partial` was returned as a record.
    is_returned: bool,
    /// Octets that are still to come of a frame that is longer than a record.
    rest: usize,
}

impl Records {
    /// Returns how many of the first octets of `input` belong to the next record, and the record if
    /// it is complete. Octets of an incomplete one are kept for the next call.
    ///
    /// Octets of a frame longer than [`MAX_RECORD`] are not kept: the record has as many as there
    /// are.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> (usize, Option<&'a [u8]>) {
        if self.is_returned {
            self.is_returned = false;
            self.partial.clear();
        }
        if self.rest == 0 && self.partial.is_empty() {
            match frame_length(input) {
                Some(length) if length > MAX_RECORD => self.rest = length,
                Some(length) => {
                    if let Some(frame) = input.get(..length) {
                        return (length, Some(frame));
                    }
                }
                None => {}
            }
        }
        if self.rest > 0 {
            let count = self.rest.min(MAX_RECORD).min(input.len());
            self.rest -= count;
            let part = input.get(..count).filter(|part| !part.is_empty());
            return (count, part);
        }
        self.complete(input)
    }

    /// Adds octets to the frame that is not complete. Returns their number, and the frame once it
    /// is complete, or its message-size if it is longer than a record.
    fn complete<'a>(&'a mut self, input: &'a [u8]) -> (usize, Option<&'a [u8]>) {
        let mut taken = 0;
        loop {
            let wanted = frame_length(&self.partial).unwrap_or(SIZE);
            if wanted > MAX_RECORD {
                self.rest = wanted - self.partial.len();
            } else if self.partial.len() < wanted {
                let rest = input.get(taken..).unwrap_or_default();
                let missing = wanted - self.partial.len();
                let more = rest.get(..missing).unwrap_or(rest);
                if more.is_empty() {
                    return (taken, None);
                }
                self.partial.extend_from_slice(more);
                taken += more.len();
                continue;
            }
            self.is_returned = true;
            return (taken, Some(&self.partial));
        }
    }
}

/// Returns the length of the frame that begins with these octets, if they have its message-size.
fn frame_length(octets: &[u8]) -> Option<usize> {
    let size = octets.first_chunk()?;
    Some(SIZE + usize::from(u16::from_be_bytes(*size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the records of a stream that comes in pieces of these sizes, repeatedly.
    fn records(stream: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
        let mut records = Records::default();
        let mut found = Vec::new();
        let mut rest = stream;
        for size in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut piece, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            while !piece.is_empty() {
                let (taken, record) = records.next(piece);
                found.extend(record.map(<[u8]>::to_vec));
                assert!(records.partial.len() <= MAX_RECORD);
                assert!(taken > 0, "each call makes progress");
                piece = &piece[taken..];
            }
        }
        found
    }

    /// Returns a frame with a message of this length.
    fn frame(length: usize) -> Vec<u8> {
        let size = u16::try_from(length).unwrap().to_be_bytes();
        let message = (0..length).map(|index| index as u8);
        size.into_iter().chain(message).collect()
    }

    #[test]
    fn a_frame_is_a_record_and_one_too_long_is_several() {
        let frames = [frame(0), frame(300), frame(MAX_RECORD - 2), frame(1)];
        assert_eq!(records(&frames.concat(), &[usize::MAX]), frames);
        let long = frame(40_000);
        let parts = records(&long, &[usize::MAX]);
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_RECORD, MAX_RECORD, 40_002 - 2 * MAX_RECORD]);
        assert_eq!(parts.concat(), long);
    }

    proptest! {
        #[test]
        fn splits_of_the_input_change_neither_plaintext_nor_records(
            lengths in proptest::collection::vec(
                prop_oneof![0..5usize, 240..400usize, 16_380..16_390usize, 30_000..65_536usize], 0..12),
            pieces in proptest::collection::vec(prop_oneof![1..4usize, 1..600usize, 1..70_000usize], 1..8),
        ) {
            let frames: Vec<Vec<u8>> = lengths.into_iter().map(frame).collect();
            let stream = frames.concat();
            let records = records(&stream, &pieces);
            prop_assert_eq!(records.concat(), stream);
            let of_frames = frames.iter().filter(|frame| frame.len() <= MAX_RECORD);
            let mut rest = records.iter();
            for frame in of_frames {
                prop_assert!(rest.any(|record| record == frame), "a record of its own");
            }
        }
    }
}
