//! The relay agent information option, 82 (RFC 3046), as Kea stores it with a lease.

/// The longest relay agent information kept, in octets: room for every sub-option in use at its
/// longest. A longer one is taken as absent: nobody must make the server remember whatever they
/// like.
pub const LONGEST: usize = 4_096;

/// The first sub-option `code` of an option 82 that a relay agent sent.
///
/// What follows a sub-option that runs past the end is unknowable and taken as absent: the
/// option was good enough for Kea, so it is good enough to be found by what can be read.
pub fn find(option: &[u8], code: u8) -> Option<&[u8]> {
    // Looked for in each binding that a query comes by, so it goes by lengths alone.
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
    fn finds_what_stands_before_a_broken_sub_option() {
        let option = [1, 2, 0, 7, 2, 3, b'a', b'b', b'c', 12, 9, 1];
        assert_eq!(find(&option, sub_option::REMOTE_ID), Some(&b"abc"[..]));
        assert_eq!(find(&option, sub_option::RELAY_ID), None);
    }
}
