//! DHCP options of any code.

use serde::{Deserialize, Serialize};

/// An option as it stands on the wire: its code and its value, of any length once split
/// options are joined (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawOption {
    /// The option's code.
    pub code: u8,
    /// The option's value, without code and length.
    pub value: Vec<u8>,
}
