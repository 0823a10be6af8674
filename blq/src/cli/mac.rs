//! MAC addresses in the notations that systems and switches print.

use std::str::FromStr;

use super::values::{hex, strip_hex_prefix};
use crate::wire::CHADDR_LENGTH;

/// Octets of an Ethernet address.
pub const ETHERNET_LENGTH: usize = 6;

/// A hardware address of 1 to 16 octets, in a notation with one meaning.
///
/// | notation | example |
/// |---|---|
/// | octets of one or two digits | `0:c:1:2:3:5`, `00-0c-01-02-03-05` |
/// | octets of two digits with dots, one of them with a letter or a leading zero | `00.0c.01.02.03.05` |
/// | groups of four digits | `000c.0102.0305`, `000c-0102-0305`, `000c:0102:0305` |
/// | two groups of six digits | `000c01-020305`, `000c01:020305`, `000c01.020305` |
/// | 12 digits | `000c01020305` |
/// | digits of any number of octets after a prefix | `0x000c01020305`, `hex:000c01020305` |
///
/// A hardware type may precede the address, as in the table of bindings: `6/00:0c:01:02:03:05`.
/// Everything else is refused, and so is a notation that others read in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mac {
    /// The hardware type before the address.
    pub htype: Option<u8>,
    /// The address.
    pub octets: Vec<u8>,
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(value: &str) -> Result<Mac, String> {
        let (htype, address) = match value.split_once('/') {
            None => (None, value),
            Some((htype, address)) => {
                let htype = htype
                    .parse()
                    .map_err(|_| format!("`{htype}` is not a hardware type from 0 to 255"))?;
                (Some(htype), address)
            }
        };
        let octets = octets(address)?;
        match octets.len() {
            1..=CHADDR_LENGTH => Ok(Mac { htype, octets }),
            length => Err(format!("1 to 16 octets are allowed, found {length}")),
        }
    }
}

/// Reads the octets of an address.
fn octets(address: &str) -> Result<Vec<u8>, String> {
    if let Some(digits) = strip_hex_prefix(address) {
        return hex(digits);
    }
    let Some(separator) = address.chars().find(|c| !c.is_ascii_hexdigit()) else {
        return unseparated(address);
    };
    if !matches!(separator, ':' | '-' | '.') {
        return Err(format!("`{separator}` is not allowed: {FORMS}"));
    }
    let groups: Vec<&str> = address.split(separator).collect();
    if !groups.iter().all(|group| is_digits(group)) {
        return Err(format!(
            "groups of digits with one separator between them are required: {FORMS}"
        ));
    }
    let all = |lengths: &[usize]| groups.iter().all(|group| lengths.contains(&group.len()));
    match separator {
        _ if all(&[4]) => hex(&groups.concat()),
        _ if all(&[6]) && groups.len() == 2 => hex(&groups.concat()),
        '.' if all(&[2]) && groups.iter().any(|group| is_hexadecimal(group)) => {
            hex(&groups.concat())
        }
        // SNMP indexes and others print the octets of an address in decimal, with dots.
        '.' if groups.iter().all(|group| group.parse::<u8>().is_ok()) => Err(format!(
            "decimal or hexadecimal? Write octets with colons: in hexadecimal {}, in decimal {}",
            groups.join(":"),
            decimal(&groups)
        )),
        ':' | '-' if all(&[1, 2]) => {
            let padded: Vec<String> = groups.iter().map(|group| format!("{group:0>2}")).collect();
            hex(&padded.concat())
        }
        _ => Err(format!("groups of different or unusual length: {FORMS}")),
    }
}

/// Examples of the notations, for error messages.
const FORMS: &str = "an address is written as in 00:0c:01:02:03:05, 0:c:1:2:3:5, \
                     00-0c-01-02-03-05, 000c.0102.0305 or 000c01020305";

/// Reads digits without separators: the address has the length of Ethernet's. With fewer digits,
/// separators or leading zeros may have been lost.
fn unseparated(digits: &str) -> Result<Vec<u8>, String> {
    match digits.len() {
        0 => Err("at least one octet is required".into()),
        length if length == 2 * ETHERNET_LENGTH => hex(digits),
        length if length % 2 == 0 => Err(format!(
            "{length} digits without separators: 12 are required; write 0x{digits} for an \
             address of {} octets",
            length / 2
        )),
        length => Err(format!(
            "{length} digits without separators: 12 are required"
        )),
    }
}

/// Whether `group` consists of hexadecimal digits, at least one.
fn is_digits(group: &str) -> bool {
    !group.is_empty() && group.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether a group of two digits cannot be a decimal number: it has a letter or a leading zero.
fn is_hexadecimal(group: &str) -> bool {
    group.starts_with('0') || group.bytes().any(|c| c.is_ascii_alphabetic())
}

/// Returns decimal octets in hexadecimal, with colons between them.
fn decimal(groups: &[&str]) -> String {
    let octets = groups.iter().filter_map(|group| group.parse::<u8>().ok());
    let octets: Vec<String> = octets.map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the octets of an address.
    fn read(value: &str) -> Result<Vec<u8>, String> {
        value.parse::<Mac>().map(|mac| mac.octets)
    }

    #[test]
    fn accepts_every_usual_notation() {
        for value in [
            "00:0c:01:02:03:05",
            "00:0C:01:02:03:05",
            "0:c:1:2:3:5",
            "0:0c:1:02:3:05",
            "00-0c-01-02-03-05",
            "0-c-1-2-3-5",
            "00.0c.01.02.03.05",
            "000c.0102.0305",
            "000C-0102-0305",
            "000c:0102:0305",
            "000c01-020305",
            "000c01:020305",
            "000c01.020305",
            "000c01020305",
            "0x000c01020305",
            "0x00:0c:01:02:03:05",
            "hex:000c01020305",
        ] {
            assert_eq!(read(value), Ok(vec![0, 0xc, 1, 2, 3, 5]), "{value}");
        }
    }

    /// RFC 2131 section 2: chaddr has 16 octets.
    #[test]
    fn accepts_other_lengths_that_fit_chaddr() {
        assert_eq!(read("0x0a"), Ok(vec![10]));
        assert_eq!(read("a:b"), Ok(vec![10, 11]));
        assert_eq!(
            read("0001.0203.0405.0607"),
            Ok(vec![0, 1, 2, 3, 4, 5, 6, 7])
        );
        assert_eq!(read(&format!("0x{}", "01".repeat(16))), Ok(vec![1; 16]));
        assert!(read(&format!("0x{}", "01".repeat(17))).is_err());
        assert!(read(&["1"; 17].join(":")).is_err());
    }

    /// The table of bindings prints hardware types other than Ethernet's in this form.
    #[test]
    fn accepts_a_hardware_type_before_the_address() {
        let mac = "6/02:00:00:00:00:01".parse::<Mac>().unwrap();
        assert_eq!(mac.htype, Some(6));
        assert_eq!(mac.octets, [2, 0, 0, 0, 0, 1]);
        for value in ["/02:00:00:00:00:01", "256/02:00:00:00:00:01", "6/", "1/2/3"] {
            assert!(read(value).is_err(), "{value}");
        }
    }

    /// Digits or separators may be missing, or the digits may be decimal.
    #[test]
    fn refuses_notations_with_more_than_one_meaning() {
        for value in [
            "",
            "0",
            "c123",
            "c12",
            "00c01020305",
            "0c01020305",
            "00000c01020305",
            "0x00c01020305",
            "0xc",
            "0:c:1:2:3:",
            ":0:c:1:2:3",
            "0::c",
            "00:0c-01:02-03:05",
            "000:c:1:2:3:5",
            "000c.0102.305",
            "c.102.305",
            "c:102:305",
            "000c:01:02:03:05",
            "0.12.1.2.3.5",
            "10.12.21.22.33.45",
            "192.0.2.1",
            "0.c.1.2.3.5",
            "000c01-0203-05",
            "000c01",
            "000c",
            "00 0c 01 02 03 05",
            "00:0g:01:02:03:05",
            "00\u{ff1a}0c",
            "\u{ff11}1:22",
            "0x",
            "0x0:c",
            "hex:é",
            " 00:0c:01:02:03:05",
            "00:0c:01:02:03:05\n",
            "+0:c:1:2:3:5",
        ] {
            assert!(read(value).is_err(), "{value}");
        }
        assert!(
            read("0.12.1.2.3.5")
                .unwrap_err()
                .contains("in hexadecimal 0:12:1:2:3:5, in decimal 00:0c:01:02:03:05")
        );
    }

    proptest! {
        /// Each notation of an address is read as this address.
        #[test]
        fn reads_what_each_notation_writes(octets in any::<[u8; 6]>(), upper in any::<bool>()) {
            let long = octets.map(|octet| format!("{octet:02x}"));
            let short = octets.map(|octet| format!("{octet:x}"));
            let digits = long.concat();
            let fours = [&digits[..4], &digits[4..8], &digits[8..]];
            let sixes = [&digits[..6], &digits[6..]];
            let mut written = vec![digits.clone(), format!("0x{digits}")];
            for separator in [":", "-"] {
                written.extend([long.join(separator), short.join(separator)]);
            }
            for separator in [":", "-", "."] {
                written.extend([fours.join(separator), sixes.join(separator)]);
            }
            for value in written {
                let value = if upper { value.replace('x', "X").to_uppercase() } else { value };
                prop_assert_eq!(read(&value), Ok(octets.to_vec()), "{}", value);
            }
        }

        /// Octets of one dotted notation are never read as those of the other.
        #[test]
        fn never_reads_decimal_octets_as_hexadecimal(octets in any::<[u8; 6]>()) {
            let value = octets.map(|octet| octet.to_string()).join(".");
            prop_assert!(read(&value).is_err(), "{}", value);
        }

        /// Any accepted value has the digits of its address: none is dropped, moved or added, except
        /// leading zeros of an octet.
        #[test]
        fn keeps_every_digit(value in "(0x)?[0-9a-fA-F:.-]{0,20}") {
            if let Ok(octets) = read(&value) {
                let address = value.strip_prefix("0x").unwrap_or(&value);
                let digits: String = address.chars().filter(char::is_ascii_hexdigit).collect();
                let expected: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                if digits.len() == expected.len() {
                    prop_assert_eq!(digits.to_lowercase(), expected);
                } else {
                    let groups: Vec<u8> = address
                        .split([':', '-'])
                        .map(|group| u8::from_str_radix(group, 16).unwrap())
                        .collect();
                    prop_assert_eq!(groups, octets);
                }
            }
        }

        #[test]
        fn survives_any_text(value in any::<String>()) {
            let _ = value.parse::<Mac>();
        }
    }
}
