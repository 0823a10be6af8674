//! The relay agent information that Kea keeps in a lease's user-context (`store-extended-info`).

use crate::model::hex;
use crate::model::relay_agent_information::LONGEST;

/// The value of option 82 that Kea has stored as `text`: hexadecimal digits after `0x`.
///
/// Whatever is of another form, an administrator may write there anything, or is longer than what is
/// kept, holds no relay agent information.
pub fn relay_agent_information(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    hex::read(digits).filter(|octets| (1..=LONGEST).contains(&octets.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_digits_that_kea_writes() {
        assert_eq!(
            relay_agent_information(b"0x0104AABBccDD0203010203"),
            Some(vec![1, 4, 0xAA, 0xBB, 0xCC, 0xDD, 2, 3, 1, 2, 3])
        );
    }

    #[test]
    fn takes_what_is_malformed_as_absent() {
        for text in [
            &b""[..],
            b"0x",
            b"0x012",
            b"0xzz",
            b"0x 1",
            b"relay-agent-info",
            b"\xff\xfe",
            "0xé1".as_bytes(),
        ] {
            assert_eq!(
                relay_agent_information(text),
                None,
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
