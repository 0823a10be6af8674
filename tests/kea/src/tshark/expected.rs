//! The values that a message must have, in tshark's terms.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use blq::State;

use crate::packet::{MessageType, code, field};
use crate::tshark::{Decoded, Field};

/// An option that a message must have.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The code.
    pub code: u8,
    /// The value.
    pub value: Vec<u8>,
    /// tshark's fields of the value, each with the value in tshark's notation. Where the value differs
    /// between versions, or is wrong, only the name matters: `None`.
    pub shown: Vec<(String, Option<String>)>,
}

/// Returns an option that tshark shows as one field.
pub fn option(code: u8, value: impl Into<Vec<u8>>, field: &'static str, shown: &str) -> Expected {
    with_fields(code, value, &[(field, shown)])
}

/// Returns an option that tshark shows as several fields.
pub fn with_fields(
    code: u8,
    value: impl Into<Vec<u8>>,
    shown: &[(&'static str, &str)],
) -> Expected {
    let shown = shown.iter();
    let shown = shown.map(|(name, shown)| ((*name).to_owned(), Some((*shown).to_owned())));
    Expected {
        code,
        value: value.into(),
        shown: shown.collect(),
    }
}

/// Returns an option whose value is a number of four octets.
pub fn number(code: u8, number: u32) -> Expected {
    let field = match code {
        code::LEASE_TIME => "dhcp.option.ip_address_lease_time",
        code::RENEWAL_TIME => "dhcp.option.renewal_time_value",
        code::REBINDING_TIME => "dhcp.option.rebinding_time_value",
        code::CLIENT_LAST_TRANSACTION_TIME => "dhcp.option.client_last_transaction_time",
        code::START_TIME_OF_STATE => "dhcp.option.bulk_lease.start_time_of_state",
        _ => panic!("option {code}"),
    };
    option(code, number.to_be_bytes(), field, &number.to_string())
}

/// Returns an option whose value is a time in seconds since 1970 (RFC 6926, sections 6.2.3, 6.2.5 and
/// 6.2.6).
///
/// tshark up to version 4.4 shows them as if they counted from 1900, as in NTP.
pub fn time(code: u8, time: u32) -> Expected {
    let field = match code {
        code::BASE_TIME => "dhcp.option.bulk_lease.base_time",
        code::QUERY_START_TIME => "dhcp.option.bulk_lease.query_start_time",
        code::QUERY_END_TIME => "dhcp.option.bulk_lease.query_end_time",
        _ => panic!("option {code}"),
    };
    Expected {
        code,
        value: time.to_be_bytes().into(),
        shown: vec![(field.to_owned(), None)],
    }
}

/// Returns an option whose value is an address.
pub fn address(code: u8, value: Ipv4Addr, field: &'static str) -> Expected {
    option(code, value.octets(), field, &value.to_string())
}

/// Returns a dhcp-message-type.
pub fn message_type(of: MessageType) -> Expected {
    let field = "dhcp.option.dhcp";
    option(code::MESSAGE_TYPE, [of.0], field, &of.0.to_string())
}

/// Returns a dhcp-state.
pub fn state(of: State) -> Expected {
    let field = "dhcp.option.bulk_lease.dhcp_state";
    option(code::DHCP_STATE, [of.0], field, &of.0.to_string())
}

/// Returns a dhcp-parameter-request-list.
pub fn request_list(codes: &[u8]) -> Expected {
    let items = codes.iter().map(|code| {
        let shown = Some(code.to_string());
        ("dhcp.option.request_list_item".to_owned(), shown)
    });
    Expected {
        code: code::PARAMETER_REQUEST_LIST,
        value: codes.to_vec(),
        shown: items.collect(),
    }
}

/// Returns a VPN-ID, in which tshark shows no fields (RFC 6607).
pub fn vpn_id(value: impl Into<Vec<u8>>) -> Expected {
    with_fields(code::VPN_ID, value, &[])
}

/// Returns octets in tshark's notation.
pub fn colons(octets: &[u8]) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

/// Returns tshark's fields of a header for which only some values matter: zeros otherwise.
pub fn header(
    is_reply: bool,
    xid: u32,
    ciaddr: Ipv4Addr,
    (htype, chaddr): (u8, &[u8]),
) -> BTreeMap<&'static str, String> {
    let none = Ipv4Addr::UNSPECIFIED.to_string();
    let mut header = BTreeMap::from([
        ("dhcp.type", (1 + u8::from(is_reply)).to_string()),
        ("dhcp.hw.type", format!("{htype:#04x}")),
        ("dhcp.hw.len", chaddr.len().to_string()),
        ("dhcp.hops", "0".to_owned()),
        ("dhcp.id", format!("{xid:#010x}")),
        ("dhcp.secs", "0".to_owned()),
        ("dhcp.flags", "0x0000".to_owned()),
        ("dhcp.ip.client", ciaddr.to_string()),
        ("dhcp.ip.your", none.clone()),
        ("dhcp.ip.server", none.clone()),
        ("dhcp.ip.relay", none),
        ("dhcp.server", String::new()),
        ("dhcp.file", String::new()),
        ("dhcp.cookie", "99.130.83.99".to_owned()),
    ]);
    match chaddr.len() {
        0 => None,
        6 => header.insert("dhcp.hw.mac_addr", colons(chaddr)),
        // With its padding.
        _ => header.insert("dhcp.hw.addr", colons(&field::<16>(chaddr))),
    };
    header
}

/// Checks that a message has the fields of a header, exactly these options in order, and that tshark does not
/// complain.
#[track_caller]
pub fn check(decoded: &Decoded, header: &BTreeMap<&str, String>, options: &[Expected]) {
    assert_eq!(decoded.complaints, [""; 0], "{decoded:#?}");
    for (name, shown) in header {
        assert_eq!(decoded.header(name), shown, "{name}");
    }
    let values: Vec<(u8, &[u8])> = options
        .iter()
        .map(|option| (option.code, &option.value[..]))
        .collect();
    assert_eq!(decoded.values(), values, "of {header:?}");
    for Expected { code, shown, .. } in options {
        let parts = decoded.parts(*code);
        // In order, since a list's items have one name.
        let mut parts = parts.iter();
        for (name, shown) in shown {
            let is_it = |part: &&&Field| {
                part.name == *name && shown.as_ref().is_none_or(|shown| part.shown == *shown)
            };
            let found = parts.find(is_it).is_some();
            assert!(found, "{name} {shown:?} of option {code} in {decoded:#?}");
        }
    }
}

/// Returns the value of an option of four octets.
#[track_caller]
pub fn seconds(decoded: &Decoded, code: u8) -> u32 {
    let values = decoded.values();
    let value = values.iter().find(|(found, _)| *found == code);
    let (_, value) = value.unwrap_or_else(|| panic!("option {code} in {decoded:#?}"));
    u32::from_be_bytes((*value).try_into().expect("four octets"))
}
