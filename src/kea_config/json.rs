//! Repair of invalid JSON from Kea.

use std::borrow::Cow;

/// Returns the text with numbers such as `1e-06.0` repaired: Kea appends `.0` to each real number
/// without a point, even after an exponent.
pub fn repaired(text: &str) -> Cow<'_, str> {
    let octets = text.as_bytes();
    let mut repaired = String::new();
    let mut copied = 0;
    let mut position = 0;
    while let Some(octet) = octets.get(position) {
        match octet {
            b'"' => position = end_of_string(octets, position),
            b'0'..=b'9' | b'-' => {
                let end = end_of_number(octets, position);
                let number = &octets[position..end];
                if number.contains(&b'e') && number.ends_with(b".0") {
                    repaired.push_str(&text[copied..end - 2]);
                    copied = end;
                }
                position = end;
            }
            _ => position += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.push_str(&text[copied..]);
    Cow::Owned(repaired)
}

/// Returns the end of the string that begins at `start`.
fn end_of_string(octets: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while let Some(octet) = octets.get(position) {
        match octet {
            b'"' => return position + 1,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    octets.len()
}

/// Returns the end of the number that begins at `start`.
fn end_of_number(octets: &[u8], start: usize) -> usize {
    let part = |octet: &u8| matches!(octet, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let rest = octets[start..].iter();
    start + rest.take_while(|octet| part(octet)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repairs_small_numbers_only() {
        let kea = r#"{ "a": 1e-06.0, "b": [ -2.5e-07.0, 1.5e-05 ], "c": "3e-06.0", "d\"": 0.5, "e": 2.0, "f": 1e+20.0 }"#;
        let json = r#"{ "a": 1e-06, "b": [ -2.5e-07, 1.5e-05 ], "c": "3e-06.0", "d\"": 0.5, "e": 2.0, "f": 1e+20 }"#;
        assert_eq!(repaired(kea), json);
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["c"], "3e-06.0");
    }

    proptest! {
        #[test]
        fn leaves_valid_json_unchanged(text in r#"([\[\]{}:,"\\e. 0-9a-z-]|é){0,40}"#, number: f64) {
            // The function terminates for any text, and leaves valid JSON unchanged.
            repaired(&text);
            let json = serde_json::json!({ text: number, "b": [number] }).to_string();
            prop_assert_eq!(repaired(&json), json.as_str());
        }
    }
}
