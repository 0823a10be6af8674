//! The state of a stream, the answer to an active query, on its connection.

use std::time::Instant;

/// Octets of a stream that are produced before one write: changes that come while a requester reads slowly are sent
/// once, in their last state, so a large chunk would only delay them. With a message of usual length it fits
/// [`OUTPUT`].
pub const CHUNK: usize = 60 * 1024;

/// Capacity of the output of a stream. It is larger only while a message of more than 4 KiB needs it, by one
/// message.
pub const OUTPUT: usize = 64 * 1024;

/// The state of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Whether the connection has a place among the active ones. Nothing is written before.
    pub is_admitted: bool,
    /// Start of the time without a message.
    pub silent_since: Instant,
}
