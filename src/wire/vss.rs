//! Virtual subnet selection: type and VSS information (RFC 6607 section 3.5, RFC 6926
//! section 6.2.9), the value of the VPN-ID option (221) and of sub-option 151 of option 82.

use std::fmt;

use crate::model::vpn::{Vpn, VpnSelector};

/// An NVT ASCII VPN identifier.
const TYPE_NAME: u8 = 0;
/// An RFC 2685 VPN-ID, 7 octets.
const TYPE_RFC2685: u8 = 1;
/// All VPNs, in queries only (RFC 6926 section 6.2.9).
const TYPE_ALL: u8 = 254;
/// The global, default VPN.
const TYPE_DEFAULT: u8 = 255;

/// Why VSS information cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VssError {
    /// There is not even a type.
    Empty,
    /// The type is unassigned.
    UnassignedType(u8),
    /// The information is too long or too short for the type; 0 to 254 octets.
    WrongLength(u8, usize),
    /// The name is not NVT ASCII, or holds a NUL.
    NotAscii,
}

impl fmt::Display for VssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VssError::Empty => write!(f, "it is empty"),
            VssError::UnassignedType(found) => write!(f, "type {found} is unassigned"),
            VssError::WrongLength(of, found) => {
                write!(f, "type {of} with {found} octets of information")
            }
            VssError::NotAscii => write!(f, "the name is not NVT ASCII without NUL"),
        }
    }
}

/// Reads VSS information.
pub fn read(value: &[u8]) -> Result<VpnSelector, VssError> {
    let (&vss_type, information) = value.split_first().ok_or(VssError::Empty)?;
    let wrong_length = VssError::WrongLength(vss_type, information.len());
    match vss_type {
        TYPE_NAME if information.is_empty() || information.len() > 254 => Err(wrong_length),
        TYPE_NAME => std::str::from_utf8(information)
            .ok()
            .filter(|name| name.is_ascii() && !name.contains('\0'))
            .map(|name| VpnSelector::One(Vpn::Name(name.to_owned())))
            .ok_or(VssError::NotAscii),
        TYPE_RFC2685 => information
            .try_into()
            .map(|id| VpnSelector::One(Vpn::Rfc2685(id)))
            .map_err(|_| wrong_length),
        TYPE_ALL | TYPE_DEFAULT if !information.is_empty() => Err(wrong_length),
        TYPE_ALL => Ok(VpnSelector::All),
        TYPE_DEFAULT => Ok(VpnSelector::One(Vpn::Default)),
        unassigned => Err(VssError::UnassignedType(unassigned)),
    }
}

/// The VPN a relay agent's VSS sub-option names; `None` if it makes no sense for a client.
pub fn read_vpn(value: &[u8]) -> Option<Vpn> {
    match read(value) {
        Ok(VpnSelector::One(vpn)) => Some(vpn),
        Ok(VpnSelector::All) | Err(_) => None,
    }
}

/// Type and VSS information for `vpn`.
pub fn value(vpn: &Vpn) -> Vec<u8> {
    match vpn {
        Vpn::Default => vec![TYPE_DEFAULT],
        Vpn::Name(name) => [&[TYPE_NAME], name.as_bytes()].concat(),
        Vpn::Rfc2685(id) => [&[TYPE_RFC2685], &id[..]].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for vpn in [
            Vpn::Default,
            Vpn::Name("blue".into()),
            Vpn::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]),
        ] {
            assert_eq!(read(&value(&vpn)), Ok(VpnSelector::One(vpn)));
        }
        assert_eq!(read(&[254]), Ok(VpnSelector::All));
    }

    #[test]
    fn refuses_wrong_lengths_and_unassigned_types() {
        assert_eq!(read(&[]), Err(VssError::Empty));
        assert_eq!(read(&[0]), Err(VssError::WrongLength(0, 0)));
        assert_eq!(
            read(&[1, 1, 2, 3, 4, 5, 6]),
            Err(VssError::WrongLength(1, 6))
        );
        assert_eq!(read(&[1; 9]), Err(VssError::WrongLength(1, 8)));
        assert_eq!(read(&[254, 0]), Err(VssError::WrongLength(254, 1)));
        assert_eq!(read(&[255, 0]), Err(VssError::WrongLength(255, 1)));
        assert_eq!(read(&[2, 1]), Err(VssError::UnassignedType(2)));
        assert_eq!(read(&[253]), Err(VssError::UnassignedType(253)));
        assert_eq!(read(&[0, b'a', 0]), Err(VssError::NotAscii));
    }

    #[test]
    fn a_relay_cannot_put_a_client_into_all_vpns() {
        assert_eq!(read_vpn(&[254]), None);
        assert_eq!(read_vpn(&[255]), Some(Vpn::Default));
    }
}
