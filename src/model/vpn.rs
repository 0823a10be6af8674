//! VPNs (virtual subnets, RFC 6607) and their selection by a query.

use std::fmt;

use proto::{InvalidVss, Vss};
use serde::{Deserialize, Serialize};

use crate::model::hex::Hex;

/// A VPN, identified by the means of RFC 6607 section 3.5.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Vpn {
    /// The global, default VPN (type 255), for addresses outside of any other VPN.
    #[default]
    Default,
    /// An NVT ASCII VPN identifier (type 0): 1 to 254 octets, none of them NUL.
    Name(String),
    /// An RFC 2685 VPN-ID (type 1).
    Rfc2685([u8; 7]),
}

impl Vpn {
    /// Reads the VPN of a relay agent's VSS sub-option; `None` if it is invalid or names all VPNs.
    pub fn read(value: &[u8]) -> Option<Vpn> {
        match VpnSelector::read(value) {
            Ok(VpnSelector::One(vpn)) => Some(vpn),
            Ok(VpnSelector::All) | Err(_) => None,
        }
    }

    /// Returns the value of a VPN-ID option with this VPN.
    pub fn to_vss(&self) -> Vec<u8> {
        let vss = match self {
            Vpn::Default => Vss::Default,
            Vpn::Name(name) => Vss::Name(name.clone()),
            Vpn::Rfc2685(id) => Vss::Rfc2685(*id),
        };
        vss.encode()
    }
}

/// The name of the VPN; an RFC 2685 VPN-ID in hexadecimal digits.
impl fmt::Display for Vpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vpn::Default => f.write_str("default"),
            Vpn::Name(name) => write!(f, "{name:?}"),
            Vpn::Rfc2685(id) => Hex(id).fmt(f),
        }
    }
}

/// The VPNs selected by the VPN-ID qualifier of a query (RFC 6926 sections 6.2.9 and 8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpnSelector {
    /// One VPN.
    One(Vpn),
    /// Every VPN, including the default one (type 254).
    All,
}

impl VpnSelector {
    /// Reads the VPN-ID of a query.
    pub fn read(value: &[u8]) -> Result<VpnSelector, InvalidVss> {
        Ok(match Vss::decode(value)? {
            Vss::Name(name) => VpnSelector::One(Vpn::Name(name)),
            Vss::Rfc2685(id) => VpnSelector::One(Vpn::Rfc2685(id)),
            Vss::Default => VpnSelector::One(Vpn::Default),
            Vss::All => VpnSelector::All,
        })
    }

    /// Whether bindings in `vpn` are selected.
    #[inline]
    pub fn selects(&self, vpn: &Vpn) -> bool {
        match self {
            // The usual one needs no comparison of names.
            VpnSelector::One(Vpn::Default) => matches!(vpn, Vpn::Default),
            VpnSelector::One(one) => one == vpn,
            VpnSelector::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes_vpns() {
        for (vpn, octets) in [
            (Vpn::Default, b"\xff".as_slice()),
            (Vpn::Name("blue".into()), b"\x00blue"),
            (
                Vpn::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]),
                b"\x01\x00\x00\x5e\x00\x00\x00\x07",
            ),
        ] {
            assert_eq!(vpn.to_vss(), octets);
            assert_eq!(VpnSelector::read(octets), Ok(VpnSelector::One(vpn)));
        }
        assert_eq!(VpnSelector::read(b"\xfe"), Ok(VpnSelector::All));
    }

    #[test]
    fn a_relay_cannot_put_a_client_into_all_vpns() {
        assert_eq!(Vpn::read(&[254]), None);
        assert_eq!(Vpn::read(&[255]), Some(Vpn::Default));
        assert_eq!(Vpn::read(&[2]), None);
    }
}
