//! Hints after an answer without bindings: usual mistakes that have this effect.

use blq::Vss;
use blq::cli::Args;
use blq::cli::values::{Identifier, Notation};

use crate::cells::utc;

/// Returns hints on an empty answer to a query from `start` on, at the server's time `now` if that is
/// known.
pub fn hints(args: &Args, start: Option<u32>, now: Option<u32>) -> Vec<String> {
    let mut hints = Vec::new();
    if let (Some(start), Some(now)) = (start, now) {
        if start > now {
            hints.push(format!(
                "the start is later than the server's clock, which shows {}",
                utc(now.into())
            ));
        }
    }
    // A later run of a query that is repeated with --since-file has nothing new to find.
    if args.since_file.is_some() && start.is_some() {
        return hints;
    }
    if let Some((argument, identifier)) = args.identifier() {
        identifier_hints(argument, identifier, &mut hints);
    }
    hints.extend(vpn_hint(args, start));
    hints
}

/// Returns hints on a DHCPLEASEUNKNOWN.
pub fn udp_hints(args: &Args) -> Vec<String> {
    let mut hints = Vec::new();
    if args.address.is_none() {
        hints.push(
            "over UDP a query by client finds active leases only: without --udp others, too".into(),
        );
    }
    if let Some((argument, identifier)) = args.identifier() {
        identifier_hints(argument, identifier, &mut hints);
    }
    hints.push(match args.vpn() {
        None | Some(Vss::Default | Vss::All) => {
            "only the default VPN was searched: --vpn NAME or --vpn-rfc2685 HEX searches another"
                .into()
        }
        Some(Vss::Name(name)) => {
            format!("only VPN `{name}` was searched, whose name is compared with its letter case")
        }
        Some(Vss::Rfc2685(_)) => "only the VPN of --vpn-rfc2685 was searched".into(),
    });
    hints
}

/// Adds hints on an identifier.
fn identifier_hints(argument: &str, identifier: &Identifier, hints: &mut Vec<String>) {
    let text = String::from_utf8_lossy(&identifier.octets);
    let octets = &identifier.octets;
    match identifier.notation {
        Notation::Text => {
            if let Some(digits) = hexadecimal(&text) {
                hints.push(format!(
                    "`{text}` was taken as text; as octets it is {argument} 0x{digits}"
                ));
            }
            if text.trim() != text {
                hints.push(format!("`{text}` begins or ends with a space"));
            }
        }
        Notation::Octets => {
            let written: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let written = written.join(":");
            hints.push(format!(
                "`{written}` was taken as octets; as text it is {argument} text:{written}"
            ));
        }
        Notation::MarkedText | Notation::MarkedOctets => {}
    }
    let is_text = matches!(identifier.notation, Notation::Text | Notation::MarkedText);
    if is_text && text.chars().any(char::is_alphabetic) {
        hints.push(format!(
            "servers compare octets: `{text}` in another letter case is another identifier"
        ));
    }
    match (argument, octets.as_slice()) {
        ("--client-id", [_, _, _, _, _, _]) if !is_text => hints.push(format!(
            "the client identifier of a MAC address begins with its hardware type: {argument} \
             0x01{}, or query by --mac",
            digits(octets)
        )),
        ("--client-id", _) if is_text => hints.push(format!(
            "a client identifier of text may begin with the octet 0: {argument} 0x00{}",
            digits(octets)
        )),
        ("--remote-id", _) => hints.push(
            "relay agents such as dhcrelay send a circuit-id and no remote-id; circuit-id is no \
             query type, but a column of the table"
                .into(),
        ),
        _ => {}
    }
}

/// Returns a hint on bindings in other VPNs.
fn vpn_hint(args: &Args, start: Option<u32>) -> Option<String> {
    match args.vpn() {
        Some(Vss::All) => None,
        // No changes in a VPN are no sign of a mistake.
        None | Some(Vss::Default) if start.is_some() => None,
        None | Some(Vss::Default) => {
            Some("only the default VPN was searched: --all-vpns searches all".into())
        }
        Some(Vss::Name(name)) => Some(format!(
            "only VPN `{name}` was searched, whose name is compared with its letter case: \
             --all-vpns searches all and shows their names"
        )),
        Some(Vss::Rfc2685(_)) => Some(
            "only one VPN was searched: --all-vpns searches all and shows their VPN-IDs".into(),
        ),
    }
}

/// Returns the digits of `text` if it reads as octets in hexadecimal, with or without separators.
fn hexadecimal(text: &str) -> Option<String> {
    let is_separator = |c: char| matches!(c, ':' | '-' | '.' | ' ');
    let groups: Vec<&str> = text.split(is_separator).collect();
    let is_group = |group: &&str| !group.is_empty() && group.bytes().all(|c| c.is_ascii_hexdigit());
    if !groups.iter().all(is_group) {
        return None;
    }
    let is_separated = groups.len() > 1;
    let padded = groups.iter().map(|group| match group.len() {
        1 if is_separated => Some(format!("0{group}")),
        length if length % 2 == 0 => Some(group.to_ascii_lowercase()),
        _ => None,
    });
    padded.collect()
}

/// Returns octets as hexadecimal digits.
fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the hints on an empty answer at the server's time 1000.
    fn hints_on(line: &str) -> String {
        let line = format!("blq s {line}");
        let invocation = blq::cli::parse(line.split(' ').map(Into::into)).unwrap();
        let args = invocation.query().unwrap();
        hints(&args, args.start(), Some(1000)).join("\n")
    }

    #[test]
    fn suggests_octets_for_text_that_looks_like_them() {
        for (value, digits) in [
            ("00030001aabb", "00030001aabb"),
            ("AB-cd", "abcd"),
            ("0:c:1", "000c01"),
            ("000c.0102.0305", "000c01020305"),
            ("12", "12"),
        ] {
            let hints = hints_on(&format!("--relay-id {value}"));
            assert!(
                hints.contains(&format!("--relay-id 0x{digits}")),
                "{value}: {hints}"
            );
        }
        for value in ["line-7", "abc", "0x0102", "text:0102", "1:", "xyz"] {
            let hints = hints_on(&format!("--relay-id {value}"));
            assert!(!hints.contains("was taken as text"), "{value}: {hints}");
        }
        assert!(hints_on("--relay-id 01:02").contains("--relay-id text:01:02"));
    }

    #[test]
    fn points_to_letter_case_where_there_are_letters() {
        assert!(hints_on("--remote-id Line-7").contains("letter case"));
        assert!(!hints_on("--remote-id 17").contains("letter case"));
        assert!(hints_on("--vpn Blue").contains("letter case"));
    }

    #[test]
    fn points_to_other_vpns_unless_all_were_searched() {
        assert!(hints_on("--all").contains("--all-vpns"));
        assert!(hints_on("--default-vpn").contains("--all-vpns"));
        assert!(hints_on("--vpn-rfc2685 00005e00000007").contains("--all-vpns"));
        assert_eq!(hints_on("--all --all-vpns"), "");
        assert_eq!(hints_on("--all --start 5"), "");
    }

    #[test]
    fn points_to_the_forms_of_client_identifiers() {
        let hints = hints_on("--client-id 02:00:00:00:00:01");
        assert!(hints.contains("--client-id 0x01020000000001"), "{hints}");
        assert!(hints_on("--client-id host").contains("--client-id 0x00686f7374"));
        assert!(hints_on("--remote-id x").contains("circuit-id"));
    }

    #[test]
    fn points_to_a_start_in_the_future() {
        assert!(hints_on("--all --start 1001").contains("1970-01-01T00:16:40Z"));
        assert_eq!(hints_on("--all --start 1000"), "");
    }

    #[test]
    fn gives_no_hints_on_repeated_runs() {
        let line = "blq s --relay-id 0102 --since-file f";
        let invocation = blq::cli::parse(line.split(' ').map(Into::into)).unwrap();
        let args = invocation.query().unwrap();
        assert_eq!(hints(&args, Some(5), None), [""; 0]);
        assert_ne!(hints(&args, None, None), [""; 0]);
    }

    #[test]
    fn hints_at_possible_queries_alone_over_udp() {
        for (line, expected) in [
            ("--address 192.0.2.9", "--vpn NAME"),
            ("--address 192.0.2.9 --vpn Blue", "letter case"),
            ("--mac 02:00:00:00:00:01", "active leases only"),
            ("--remote-id 0102ab", "--remote-id 0x0102ab"),
        ] {
            let line = format!("blq s --udp {line}");
            let invocation = blq::cli::parse(line.split(' ').map(Into::into)).unwrap();
            let hints = udp_hints(&invocation.query().unwrap()).join("\n");
            assert!(hints.contains(expected), "{line}: {hints}");
            assert!(!hints.contains("--all-vpns"), "{line}: {hints}");
        }
    }

    proptest! {
        /// A suggested value is read as octets.
        #[test]
        fn suggests_values_that_are_read_as_octets(value in "[0-9a-f:. -]{1,12}") {
            if let Some(digits) = hexadecimal(&value) {
                let identifier = format!("0x{digits}").parse::<Identifier>().unwrap();
                prop_assert_eq!(identifier.notation, Notation::MarkedOctets);
            }
        }
    }
}
