//! Hardware addresses of clients.

use serde::{Deserialize, Serialize};

/// A client's MAC address in the sense of RFC 6926 section 2: htype, hlen and chaddr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardwareAddress {
    /// Hardware type (htype).
    pub htype: u8,
    /// The address; at most 20 octets, empty if the client gave none.
    pub octets: Vec<u8>,
}
