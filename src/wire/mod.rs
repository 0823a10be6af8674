//! DHCPv4 messages and their framing on a TCP connection. One bounds-checked reader reads all octets of
//! peers. Messages are written directly to the connection's output. The crate `proto` defines the numbers.
//!
//! - [`frame`]: message framing for TCP (RFC 6926 section 6.1).
//! - [`message`]: the fixed header and the options of a message received.
//! - [`options`]: options read with long ones joined (RFC 3396).
//! - [`relay_agent_information`]: the sub-options of option 82 (RFC 3046, 6925, 6607).
//! - [`writer`]: replies, without framing.

pub mod frame;
pub mod message;
pub mod options;
mod reader;
pub mod relay_agent_information;
pub mod writer;

pub use crate::wire::reader::{Reader, Truncated};
