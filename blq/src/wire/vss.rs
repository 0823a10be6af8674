//! Virtual subnet selection: which VPN (RFC 6607, extended by RFC 6926 section 6.2.9).

use thiserror::Error;

/// The payload of the VPN-ID option (221) and of the VSS sub-option (151).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Vss {
    /// Type 0: a VPN by its NVT ASCII name.
    Name(String),
    /// Type 1: an RFC 2685 VPN-ID.
    Rfc2685([u8; 7]),
    /// Type 254: all VPNs; in queries only.
    All,
    /// Type 255: the global, default VPN.
    Default,
}

/// Why a VSS payload says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidVss {
    /// Not even a type.
    #[error("the VSS is empty")]
    Empty,
    /// A type of the range 2-253.
    #[error("VSS type {0} is unassigned: 0, 1, 254 and 255 are")]
    Type(u8),
    /// More or fewer octets than the type has.
    #[error("VSS type {vss_type} with {length} octets of information")]
    Length {
        /// The type.
        vss_type: u8,
        /// Octets after it.
        length: usize,
    },
    /// A name that is not made of ASCII characters.
    #[error("the name of the VPN is not NVT ASCII")]
    NotAscii,
}

impl Vss {
    /// The payload: the type and its information.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Vss::Name(name) => [&[0], name.as_bytes()].concat(),
            Vss::Rfc2685(id) => [&[1], id.as_slice()].concat(),
            Vss::All => vec![254],
            Vss::Default => vec![255],
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// An unassigned type, or information that does not fit the type.
    pub fn decode(payload: &[u8]) -> Result<Vss, InvalidVss> {
        let (vss_type, information) = payload.split_first().ok_or(InvalidVss::Empty)?;
        let wrong_length = InvalidVss::Length {
            vss_type: *vss_type,
            length: information.len(),
        };
        match vss_type {
            0 if information.is_empty() => Err(wrong_length),
            0 if !information.is_ascii() || information.contains(&0) => Err(InvalidVss::NotAscii),
            0 => Ok(Vss::Name(String::from_utf8_lossy(information).into_owned())),
            1 => match information.try_into() {
                Ok(id) => Ok(Vss::Rfc2685(id)),
                Err(_) => Err(wrong_length),
            },
            254 | 255 if !information.is_empty() => Err(wrong_length),
            254 => Ok(Vss::All),
            255 => Ok(Vss::Default),
            other => Err(InvalidVss::Type(*other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6607 section 3.5 and RFC 6926 section 6.2.9: the four types, both ways.
    #[test]
    fn accepts_each_assigned_type() {
        for (vss, payload) in [
            (Vss::Name("blue".into()), b"\x00blue".as_slice()),
            (
                Vss::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]),
                b"\x01\x00\x00\x5e\x00\x00\x00\x07",
            ),
            (Vss::All, b"\xfe"),
            (Vss::Default, b"\xff"),
        ] {
            assert_eq!(vss.encode(), payload);
            assert_eq!(Vss::decode(payload), Ok(vss));
        }
    }

    /// RFC 6607 section 3.5: anything else is no VSS.
    #[test]
    fn refuses_other_types_and_lengths() {
        for payload in [
            b"".as_slice(),
            b"\x00",
            b"\x00bl\x00ue",
            b"\x00\xe9",
            b"\x01\x00",
            b"\x01\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x02",
            b"\xfd",
            b"\xfe\x00",
            b"\xff\x00",
        ] {
            assert!(Vss::decode(payload).is_err(), "{payload:?}");
        }
    }
}
