//! DHCPv4 messages on a TCP connection: what comes in is read through one bounds-checked
//! reader, what goes out is written straight into the connection's output.
//! The numbers are those of the crate `proto`.
//!
//! - [`frame`]: messages received, by their framing (RFC 6926 section 6.1).
//! - [`message`]: the fixed header and the options of a message received.
//! - [`options`]: options read with long ones joined (RFC 3396).
//! - [`relay_agent_information`]: the sub-options of option 82 (RFC 3046, 6925, 6607).
//! - [`writer`]: replies with their framing (RFC 6926 section 6.1).

pub mod frame;
pub mod message;
pub mod options;
mod reader;
pub mod relay_agent_information;
pub mod writer;

pub use crate::wire::reader::{Reader, Truncated};
