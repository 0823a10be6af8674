//! Values on the command line: identifiers, MAC addresses, times, lists of option codes.

use std::str::FromStr;

use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::query::DEFAULT_PARAMETERS;
use crate::wire::{CHADDR_LENGTH, Vss, option_code};

/// A client identifier, Remote ID or Relay-ID of at least one octet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(pub Vec<u8>);

impl FromStr for Identifier {
    type Err = String;

    fn from_str(value: &str) -> Result<Identifier, String> {
        let octets = if let Some(text) = value.strip_prefix("text:") {
            text.as_bytes().to_vec()
        } else if let Some(digits) = strip_hex_prefix(value) {
            hex(digits)?
        } else if has_colon_notation(value) {
            hex(value)?
        } else {
            value.as_bytes().to_vec()
        };
        match octets.len() {
            0 => Err("at least one octet is required".into()),
            _ => Ok(Identifier(octets)),
        }
    }
}

/// A hardware address of 1 to 16 octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mac(pub Vec<u8>);

impl FromStr for Mac {
    type Err = String;

    fn from_str(value: &str) -> Result<Mac, String> {
        let octets = hex(strip_hex_prefix(value).unwrap_or(value))?;
        match octets.len() {
            1..=CHADDR_LENGTH => Ok(Mac(octets)),
            length => Err(format!("1 to 16 octets are allowed, found {length}")),
        }
    }
}

/// The name of a VPN: NVT ASCII (RFC 6607 section 3.5), 1 to 254 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnName(pub String);

impl FromStr for VpnName {
    type Err = String;

    fn from_str(value: &str) -> Result<VpnName, String> {
        if !(1..=Vss::MAX_NAME).contains(&value.len()) {
            return Err(format!(
                "1 to {} octets are allowed, found {}",
                Vss::MAX_NAME,
                value.len()
            ));
        }
        if !value.is_ascii() {
            return Err("only ASCII characters are allowed".into());
        }
        Ok(VpnName(value.to_string()))
    }
}

/// A parameter request list; `None` for a query without that option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(pub Option<Vec<u8>>);

impl FromStr for Parameters {
    type Err = String;

    fn from_str(value: &str) -> Result<Parameters, String> {
        if value.eq_ignore_ascii_case("none") {
            return Ok(Parameters(None));
        }
        let (mut codes, list) = match value.strip_prefix('+') {
            Some(list) => (DEFAULT_PARAMETERS.to_vec(), list),
            None => (Vec::new(), value),
        };
        for item in list.split(',') {
            let code = option(item.trim())?;
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        Ok(Parameters(Some(codes)))
    }
}

/// Reads the code or name of an option.
fn option(item: &str) -> Result<u8, String> {
    let code = item.parse::<u8>().ok().or_else(|| option_code(item));
    code.filter(|code| (1..=254).contains(code)).ok_or_else(|| {
        format!("`{item}` is not an option: codes 1 to 254 and names such as host-name are allowed")
    })
}

/// Reads an RFC 2685 VPN-ID.
pub fn vpn_id(value: &str) -> Result<[u8; 7], String> {
    let octets = hex(strip_hex_prefix(value).unwrap_or(value))?;
    let length = octets.len();
    octets
        .try_into()
        .map_err(|_| format!("7 octets are required, found {length}"))
}

/// Reads a time and returns seconds since 1970.
pub fn time(value: &str) -> Result<u32, String> {
    time_at(value, Timestamp::now())
}

/// Reads a time, which may be relative to `now`.
fn time_at(value: &str, now: Timestamp) -> Result<u32, String> {
    // A number without a unit is never a span, not even a negative one.
    if let Ok(seconds) = value.parse::<i64>() {
        return absolute(seconds);
    }
    if value.eq_ignore_ascii_case("now") {
        return absolute(now.as_second());
    }
    if let Ok(timestamp) = value.parse::<Timestamp>() {
        return absolute(timestamp.as_second());
    }
    let span: Span = value.parse().map_err(|_| {
        "seconds since 1970, an RFC 3339 time, `now`, and times before now such as `-1h` or \
         `10m ago` are allowed"
            .to_string()
    })?;
    if span.is_positive() {
        return Err(format!(
            "a time in the future: write `-{value}` or `{value} ago` for a time before now"
        ));
    }
    let before = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|error| error.to_string())?;
    let then = now.checked_add(before).map_err(|error| error.to_string())?;
    absolute(then.as_second())
}

/// Checks that a time fits the query-start-time and query-end-time options.
fn absolute(seconds: i64) -> Result<u32, String> {
    u32::try_from(seconds).map_err(|_| {
        format!(
            "{seconds} seconds since 1970: 0 to {} are allowed",
            u32::MAX
        )
    })
}

/// Returns the digits after `0x` or `hex:`; `None` without such a prefix.
fn strip_hex_prefix(value: &str) -> Option<&str> {
    ["0x", "0X", "hex:"]
        .into_iter()
        .find_map(|prefix| value.strip_prefix(prefix))
}

/// Whether `value` consists of octets of two hexadecimal digits with colons between them.
fn has_colon_notation(value: &str) -> bool {
    let is_octet = |part: &str| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
    value.contains(':') && value.split(':').all(is_octet)
}

/// Reads octets of two hexadecimal digits, with or without colons or hyphens between them.
fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{digits}` does not consist of octets of two hexadecimal digits");
    let plain: Vec<u8> = digits.bytes().filter(|c| !b":-".contains(c)).collect();
    plain
        .chunks(2)
        .map(|octet| match octet {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)
}

/// Returns the value of a hexadecimal digit.
fn digit(character: u8) -> Option<u8> {
    let value = char::from(character).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, except with a prefix for octets or in the form of octets.
    #[test]
    fn accepts_identifiers_as_text_and_as_octets() {
        for (value, octets) in [
            ("line-7", b"line-7".as_slice()),
            ("abcd", b"abcd"),
            ("0xabCD", &[0xab, 0xcd]),
            ("hex:01", &[1]),
            ("01:02:ff", &[1, 2, 0xff]),
            ("text:01:02", b"01:02"),
            ("eth0:1", b"eth0:1"),
            ("12", b"12"),
        ] {
            assert_eq!(value.parse(), Ok(Identifier(octets.to_vec())), "{value}");
        }
        for value in ["", "text:", "0x", "0xabc", "0xgg", "hex:é"] {
            assert!(value.parse::<Identifier>().is_err(), "{value}");
        }
    }

    /// RFC 2131 section 2: chaddr has 16 octets.
    #[test]
    fn accepts_mac_addresses_that_fit_chaddr() {
        for value in ["02:00:00:00:00:0a", "02-00-00-00-00-0A", "02000000000a"] {
            assert_eq!(value.parse(), Ok(Mac(vec![2, 0, 0, 0, 0, 10])), "{value}");
        }
        assert!("01".repeat(16).parse::<Mac>().is_ok());
        for value in ["", "0", "02:0", &"01".repeat(17)] {
            assert!(value.parse::<Mac>().is_err(), "{value}");
        }
    }

    /// RFC 6926 sections 6.2.5 and 6.2.6: absolute times of 32 bits.
    #[test]
    fn accepts_absolute_and_relative_times() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        for (value, seconds) in [
            ("0", 0),
            ("4294967295", u32::MAX),
            ("now", 1_700_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000),
            ("-1h", 1_699_996_400),
            ("10m ago", 1_699_999_400),
            ("1d ago", 1_699_913_600),
            ("-2h30m", 1_699_991_000),
        ] {
            assert_eq!(time_at(value, now), Ok(seconds), "{value}");
        }
        for value in [
            "",
            "-1",
            "4294967296",
            "1h",
            "yesterday",
            "1900-01-01T00:00:00Z",
        ] {
            assert!(time_at(value, now).is_err(), "{value}");
        }
    }

    /// RFC 2132 section 9.8: option codes; 0 and 255 are pad and end.
    #[test]
    fn accepts_codes_and_names_of_options() {
        let list = |value: &str| value.parse::<Parameters>().map(|Parameters(codes)| codes);
        assert_eq!(list("51,host-name, 82,51"), Ok(Some(vec![51, 12, 82])));
        assert_eq!(list("none"), Ok(None));
        let more = list("+12,51").unwrap().unwrap();
        assert_eq!(more, [DEFAULT_PARAMETERS.as_slice(), &[12]].concat());
        for value in ["", "0", "255", "256", "host", "51,,52"] {
            assert!(list(value).is_err(), "{value}");
        }
    }

    /// RFC 2685: an OUI of 3 octets and an index of 4.
    #[test]
    fn accepts_vpn_ids_of_seven_octets() {
        for value in ["00005e00000007", "0x00005e00000007", "00005e:00000007"] {
            assert_eq!(vpn_id(value), Ok([0, 0, 0x5e, 0, 0, 0, 7]), "{value}");
        }
        assert!(vpn_id("00005e000007").is_err());
        assert!("".parse::<VpnName>().is_err());
        assert!("bl\u{fc}".parse::<VpnName>().is_err());
    }
}
