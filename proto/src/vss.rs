//! Virtual subnet selection (RFC 6607 section 3.5, extended by RFC 6926 section 6.2.9).

use std::error::Error;
use std::fmt;

/// Types of VSS information.
mod vss_type {
    /// An NVT ASCII VPN identifier.
    pub const NAME: u8 = 0;
    /// An RFC 2685 VPN-ID.
    pub const RFC_2685: u8 = 1;
    /// All VPNs, without information.
    pub const ALL: u8 = 254;
    /// The global, default VPN, without information.
    pub const DEFAULT: u8 = 255;
}

/// Virtual subnet selection: the value of the VPN-ID option (221) and of the VSS sub-option (151).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Vss {
    /// Type 0: a VPN by its NVT ASCII name, 1 to [`Vss::MAX_NAME`] octets without NUL.
    Name(String),
    /// Type 1: an RFC 2685 VPN-ID.
    Rfc2685([u8; 7]),
    /// Type 254: all VPNs. In queries only.
    All,
    /// Type 255: the global, default VPN.
    Default,
}

/// The reason why a value is not a virtual subnet selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidVss {
    /// The value is empty, and so has no type.
    Empty,
    /// The type is unassigned: 2 to 253.
    UnassignedType(u8),
    /// The information has a length that the type does not allow.
    Length {
        /// The type.
        vss_type: u8,
        /// Octets after the type.
        length: usize,
    },
    /// The name contains octets other than ASCII characters, or a NUL.
    NotAscii,
}

impl Vss {
    /// Octets of the longest name: type and name fit one option.
    pub const MAX_NAME: usize = 254;

    /// Returns the value: the type and its information.
    ///
    /// Encodes any name, also one that [`Vss::decode`] refuses; see [`Vss::is_name`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Vss::Name(name) => [&[vss_type::NAME], name.as_bytes()].concat(),
            Vss::Rfc2685(id) => [&[vss_type::RFC_2685], id.as_slice()].concat(),
            Vss::All => vec![vss_type::ALL],
            Vss::Default => vec![vss_type::DEFAULT],
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// An unassigned type, or information that does not fit its type.
    pub fn decode(value: &[u8]) -> Result<Vss, InvalidVss> {
        let (&vss_type, information) = value.split_first().ok_or(InvalidVss::Empty)?;
        let wrong_length = InvalidVss::Length {
            vss_type,
            length: information.len(),
        };
        match vss_type {
            vss_type::NAME if !(1..=Vss::MAX_NAME).contains(&information.len()) => {
                Err(wrong_length)
            }
            vss_type::NAME => match std::str::from_utf8(information) {
                Ok(name) if Vss::is_name(name) => Ok(Vss::Name(name.to_owned())),
                _ => Err(InvalidVss::NotAscii),
            },
            vss_type::RFC_2685 => match information.try_into() {
                Ok(id) => Ok(Vss::Rfc2685(id)),
                Err(_) => Err(wrong_length),
            },
            vss_type::ALL | vss_type::DEFAULT if !information.is_empty() => Err(wrong_length),
            vss_type::ALL => Ok(Vss::All),
            vss_type::DEFAULT => Ok(Vss::Default),
            unassigned => Err(InvalidVss::UnassignedType(unassigned)),
        }
    }

    /// Whether `name` can be the name of a VPN: 1 to [`Vss::MAX_NAME`] ASCII characters, none of
    /// them NUL.
    pub fn is_name(name: &str) -> bool {
        (1..=Vss::MAX_NAME).contains(&name.len()) && name.is_ascii() && !name.contains('\0')
    }
}

impl fmt::Display for InvalidVss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidVss::Empty => f.write_str("the VSS has no type"),
            InvalidVss::UnassignedType(vss_type) => write!(f, "VSS type {vss_type} is unassigned"),
            InvalidVss::Length { vss_type, length } => {
                write!(f, "VSS type {vss_type} with {length} octets of information")
            }
            InvalidVss::NotAscii => f.write_str("the VPN's name is not NVT ASCII without NUL"),
        }
    }
}

impl Error for InvalidVss {}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6607 section 3.5 and RFC 6926 section 6.2.9: the four types, both ways.
    #[test]
    fn encodes_and_decodes_each_assigned_type() {
        for (vss, value) in [
            (Vss::Name("blue".into()), b"\x00blue".as_slice()),
            (
                Vss::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]),
                b"\x01\x00\x00\x5e\x00\x00\x00\x07",
            ),
            (Vss::All, b"\xfe"),
            (Vss::Default, b"\xff"),
        ] {
            assert_eq!(vss.encode(), value);
            assert_eq!(Vss::decode(value), Ok(vss));
        }
    }

    #[test]
    fn refuses_wrong_lengths_and_unassigned_types() {
        let length = |vss_type, length| Err(InvalidVss::Length { vss_type, length });
        let unassigned = |vss_type| Err(InvalidVss::UnassignedType(vss_type));
        for (value, error) in [
            (b"".as_slice(), Err(InvalidVss::Empty)),
            (b"\x00", length(0, 0)),
            (&[0; 256], length(0, 255)),
            (b"\x01", length(1, 0)),
            (b"\x01\x01\x02\x03\x04\x05\x06", length(1, 6)),
            (&[1; 9], length(1, 8)),
            (b"\xfe\x00", length(254, 1)),
            (b"\xff\x00", length(255, 1)),
            (b"\x02\x01", unassigned(2)),
            (b"\xfd", unassigned(253)),
        ] {
            assert_eq!(Vss::decode(value), error, "{value:?}");
        }
    }

    /// RFC 6607 section 3.5: a name is NVT ASCII and not terminated.
    #[test]
    fn refuses_names_that_are_not_ascii_without_nul() {
        for value in [b"\x00bl\x00ue".as_slice(), b"\x00blue\x00", b"\x00\xe9"] {
            assert_eq!(Vss::decode(value), Err(InvalidVss::NotAscii), "{value:?}");
        }
    }

    #[test]
    fn decodes_the_longest_name() {
        let longest = "n".repeat(Vss::MAX_NAME);
        let vss = Vss::Name(longest.clone());
        assert_eq!(Vss::decode(&vss.encode()), Ok(vss));
        assert!(Vss::is_name(&longest));
        assert!(!Vss::is_name(&(longest + "n")));
        assert!(!Vss::is_name(""));
    }
}
