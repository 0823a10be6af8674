//! DHCP options of any code.

use serde::{Deserialize, Serialize};

/// A DHCP option in wire format. Its value has any length, because the pieces of a long option are
/// joined (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawOption {
    /// The option's code.
    pub code: u8,
    /// The option's value, without code and length.
    pub value: Vec<u8>,
}
