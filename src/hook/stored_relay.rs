//! The relay agent information that Kea keeps in a lease's user-context (`store-extended-info`).

use serde_json::Value;

use crate::hex;

/// Finds the value of option 82 in a lease's user-context, given as JSON text.
///
/// Kea writes it as hexadecimal digits, up to Kea 2.2 in `ISC.relay-agent-info` itself, later in
/// `sub-options` of a map of that name. Leases keep the form they were written in, so a server
/// may have both. Whatever is of another form, an administrator may write here anything, holds
/// no relay agent information.
pub fn relay_agent_information(context: &[u8]) -> Option<Vec<u8>> {
    // Leases without it are many, and reading them as JSON is the dearest part of loading them.
    if !contains(context, b"relay-agent-info") {
        return None;
    }
    let context: Value = serde_json::from_slice(context).ok()?;
    let stored = context.get("ISC")?.get("relay-agent-info")?;
    let digits = stored.get("sub-options").unwrap_or(stored).as_str()?;
    hex::read(digits.strip_prefix("0x").unwrap_or(digits)).filter(|octets| !octets.is_empty())
}

/// Whether `text` has `part` in it.
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_layout_of_kea_2_2() {
        let context = br#"{ "ISC": { "relay-agent-info": "0x0104AABBCCDD0203010203" } }"#;
        assert_eq!(
            relay_agent_information(context),
            Some(vec![1, 4, 0xAA, 0xBB, 0xCC, 0xDD, 2, 3, 1, 2, 3])
        );
    }

    #[test]
    fn reads_the_layout_of_later_kea() {
        let context = br#"{ "comment": "x", "ISC": { "relay-agent-info":
            { "remote-id": "010203", "relay-id": "AA", "sub-options": "0x02030102030C01aa" } } }"#;
        assert_eq!(
            relay_agent_information(context),
            Some(vec![2, 3, 1, 2, 3, 12, 1, 0xAA])
        );
    }

    #[test]
    fn takes_what_is_malformed_as_absent() {
        for context in [
            &b""[..],
            b"null",
            b"{",
            b"[1]",
            b"\xff\xferelay-agent-info",
            br#"{ "ISC": "relay-agent-info" }"#,
            br#"{ "ISC": { "relay-agent-info": 7 } }"#,
            br#"{ "ISC": { "relay-agent-info": "" } }"#,
            br#"{ "ISC": { "relay-agent-info": "0x" } }"#,
            br#"{ "ISC": { "relay-agent-info": "0x012" } }"#,
            br#"{ "ISC": { "relay-agent-info": "0xzz" } }"#,
            br#"{ "ISC": { "relay-agent-info": { "sub-options": [] } } }"#,
            br#"{ "ISC": { "relay-agent-info": { "remote-id": "01" } } }"#,
            "{ \"ISC\": { \"relay-agent-info\": \"0xé1\" } }".as_bytes(),
        ] {
            assert_eq!(
                relay_agent_information(context),
                None,
                "{}",
                String::from_utf8_lossy(context)
            );
        }
    }
}
