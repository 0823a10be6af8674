//! Fields of a lease in the forms in which Kea stores them.

use crate::mirror::event::LeaseState;
use crate::model::hex;
use crate::model::relay_agent_information::LONGEST;

/// Returns the value of option 82 that Kea stores as `text` in a lease's user-context
/// (`store-extended-info`): hexadecimal digits after `0x`.
///
/// An administrator may write any text there: one of another form, or longer than the mirror keeps, counts
/// as absent.
pub fn relay_agent_information(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    hex::read(digits).filter(|octets| (1..=LONGEST).contains(&octets.len()))
}

/// Returns a lease's state by Kea's number of it.
pub fn state(number: u32, valid_lifetime: u32) -> LeaseState {
    match (number, valid_lifetime) {
        // Kea 2.6 gives a released lease this lifetime.
        (0, 0) => LeaseState::Released,
        (0, _) => LeaseState::Default,
        (1, _) => LeaseState::Declined,
        (3, _) => LeaseState::Released,
        // 2. In a state that a later Kea may add, no client holds the address.
        _ => LeaseState::ExpiredReclaimed,
    }
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
    fn a_released_lease_of_kea_2_6_has_no_lifetime() {
        let states = [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 1)];
        assert_eq!(
            states.map(|(number, lifetime)| state(number, lifetime)),
            [
                LeaseState::Released,
                LeaseState::Default,
                LeaseState::Declined,
                LeaseState::ExpiredReclaimed,
                LeaseState::Released,
                LeaseState::ExpiredReclaimed,
            ]
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
