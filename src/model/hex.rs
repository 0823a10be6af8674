//! Octets in hexadecimal, in Kea's notation of identifiers.

use std::fmt;

/// Octets, displayed as pairs of hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Returns octets as pairs of hexadecimal digits with colons between them, as Kea writes hardware addresses.
pub fn with_colons(octets: &[u8]) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    pairs.join(":")
}

/// Reads pairs of hexadecimal digits; `None` if there is any other character or a digit without a partner.
pub fn read(digits: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let digits = digits.as_ref();
    let mut octets = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let [high, low] = pair else {
            return None;
        };
        octets.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(octets)
}

/// Reads an identifier, with or without colons between octets.
pub fn read_identifier(text: &str) -> Option<Vec<u8>> {
    if !text.contains(':') {
        return read(text);
    }
    text.split(':')
        .map(|octet| match octet.as_bytes() {
            [low] => digit(*low),
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Returns the value of a hexadecimal digit.
fn digit(character: u8) -> Option<u8> {
    let digit = char::from(character).to_digit(16)?;
    u8::try_from(digit).ok()
}
