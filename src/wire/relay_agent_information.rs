//! The relay agent information option, 82 (RFC 3046), of a query.

use crate::wire::options::{PastEnd, Tlvs};

/// Returns the values of all sub-options `code` of an option 82 in a query. Strict: a query is understood
/// as a whole or not at all.
pub fn all(option: &[u8], code: u8) -> Result<Vec<&[u8]>, PastEnd> {
    let mut values = Vec::new();
    for sub_option in Tlvs::sub_options(option) {
        let (found, value) = sub_option?;
        if found == code {
            values.push(value);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_query_whose_sub_options_run_past_the_end() {
        assert_eq!(all(&[2, 1, 7, 12, 9, 1], 2), Err(PastEnd(12)));
        assert_eq!(all(&[2, 1, 7, 2, 1, 8], 2), Ok(vec![&[7][..], &[8][..]]));
    }
}
