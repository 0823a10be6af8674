//! Virtual subnet selection: the VPN of the VPN-ID option (221) and of sub-option 151 of option 82.

use proto::{InvalidVss, Vss};

use crate::model::vpn::{Vpn, VpnSelector};

/// Reads the VPN-ID of a query.
pub fn read(value: &[u8]) -> Result<VpnSelector, InvalidVss> {
    Ok(match Vss::decode(value)? {
        Vss::Name(name) => VpnSelector::One(Vpn::Name(name)),
        Vss::Rfc2685(id) => VpnSelector::One(Vpn::Rfc2685(id)),
        Vss::Default => VpnSelector::One(Vpn::Default),
        Vss::All => VpnSelector::All,
    })
}

/// Reads the VPN that a relay agent's VSS sub-option names; `None` if it names none, or all.
pub fn read_vpn(value: &[u8]) -> Option<Vpn> {
    match read(value) {
        Ok(VpnSelector::One(vpn)) => Some(vpn),
        Ok(VpnSelector::All) | Err(_) => None,
    }
}

/// Returns the value of the VPN-ID option for `vpn`.
pub fn value(vpn: &Vpn) -> Vec<u8> {
    let vss = match vpn {
        Vpn::Default => Vss::Default,
        Vpn::Name(name) => Vss::Name(name.clone()),
        Vpn::Rfc2685(id) => Vss::Rfc2685(*id),
    };
    vss.encode()
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
            assert_eq!(value(&vpn), octets);
            assert_eq!(read(octets), Ok(VpnSelector::One(vpn)));
        }
        assert_eq!(read(b"\xfe"), Ok(VpnSelector::All));
    }

    #[test]
    fn a_relay_cannot_put_a_client_into_all_vpns() {
        assert_eq!(read_vpn(&[254]), None);
        assert_eq!(read_vpn(&[255]), Some(Vpn::Default));
        assert_eq!(read_vpn(&[2]), None);
    }
}
