//! The VPN (virtual subnet) an address belongs to (RFC 6607).

use serde::{Deserialize, Serialize};

/// A VPN as RFC 6607 section 3.5 identifies one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Vpn {
    /// The global, default VPN (type 255): addresses that are part of no VPN.
    #[default]
    Default,
    /// An NVT ASCII VPN identifier (type 0), 1 to 254 octets, without a NUL.
    Name(String),
    /// An RFC 2685 VPN-ID (type 1).
    Rfc2685([u8; 7]),
}

/// What the VPN-ID qualifier of a query selects (RFC 6926 sections 6.2.9 and 8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpnSelector {
    /// Bindings of this VPN alone.
    One(Vpn),
    /// Bindings of every VPN, the default one included (type 254).
    All,
}

impl VpnSelector {
    /// Whether a binding in `vpn` is among those selected.
    pub fn selects(&self, vpn: &Vpn) -> bool {
        match self {
            VpnSelector::One(one) => one == vpn,
            VpnSelector::All => true,
        }
    }
}
