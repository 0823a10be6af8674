//! Sub-options of relay-agent-information, option 82 (RFC 3046 section 2.0).
//!
//! A sub-option is a code, a length and as many octets; no code means padding or an end.

use crate::option::Lengths;

/// Agent Circuit ID (RFC 3046 section 3.1).
pub const CIRCUIT_ID: u8 = 1;
/// Agent Remote ID (RFC 3046 section 3.2).
pub const REMOTE_ID: u8 = 2;
/// Relay Agent Identifier (RFC 6925 section 4).
pub const RELAY_ID: u8 = 12;
/// DHCPv4 Virtual Subnet Selection: a [`Vss`](crate::Vss) (RFC 6607 section 3.2).
pub const VSS: u8 = 151;

/// Lengths of an identifier by which a requester can query: remote-id and relay-id.
pub const IDENTIFIER_LENGTHS: Lengths = Lengths::between(1, 255);
