//! The VPN (virtual subnet) an address belongs to (RFC 6607).

use proto::{InvalidVss, Vss};
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

impl Vpn {
    /// Reads the VPN that a relay agent's VSS sub-option names; `None` if it names none, or all.
    pub fn read(value: &[u8]) -> Option<Vpn> {
        match VpnSelector::read(value) {
            Ok(VpnSelector::One(vpn)) => Some(vpn),
            Ok(VpnSelector::All) | Err(_) => None,
        }
    }

    /// Returns the value of the VPN-ID option for this VPN.
    pub fn to_vss(&self) -> Vec<u8> {
        let vss = match self {
            Vpn::Default => Vss::Default,
            Vpn::Name(name) => Vss::Name(name.clone()),
            Vpn::Rfc2685(id) => Vss::Rfc2685(*id),
        };
        vss.encode()
    }
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
    /// Reads the VPN-ID of a query.
    pub fn read(value: &[u8]) -> Result<VpnSelector, InvalidVss> {
        Ok(match Vss::decode(value)? {
            Vss::Name(name) => VpnSelector::One(Vpn::Name(name)),
            Vss::Rfc2685(id) => VpnSelector::One(Vpn::Rfc2685(id)),
            Vss::Default => VpnSelector::One(Vpn::Default),
            Vss::All => VpnSelector::All,
        })
    }

    /// Whether a binding in `vpn` is among those selected.
    pub fn selects(&self, vpn: &Vpn) -> bool {
        match self {
            VpnSelector::One(one) => one == vpn,
            VpnSelector::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
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
