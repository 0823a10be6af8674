//! The relay agent information option, 82 (RFC 3046).

/// The maximum length of stored relay agent information, in octets: enough for every sub-option in use
/// at its maximum length. A longer one counts as absent, so that the memory that a peer can occupy is
/// bounded.
pub const MAX_LENGTH: usize = 4_096;

/// Returns the value of the first sub-option `code` of an option 82.
///
/// A sub-option that runs past the end, and all octets after it, count as absent. Kea has accepted such an
/// option, so its readable part is used.
pub fn find(option: &[u8], code: u8) -> Option<&[u8]> {
    // A query calls this for each binding that it visits, so only lengths are read.
    let mut rest = option;
    while let [found, length, after @ ..] = rest {
        let (value, after) = after.split_at_checked(usize::from(*length))?;
        if *found == code {
            return Some(value);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::sub_option;

    #[test]
    fn finds_sub_options_before_a_malformed_one() {
        let option = [1, 2, 0, 7, 2, 3, b'a', b'b', b'c', 12, 9, 1];
        assert_eq!(find(&option, sub_option::REMOTE_ID), Some(&b"abc"[..]));
        assert_eq!(find(&option, sub_option::RELAY_ID), None);
    }
}
