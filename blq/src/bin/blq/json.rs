//! JSON output: one object for each binding, one on a line.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use blq::text::is_plain;
use blq::wire::{code, sub_option};
use blq::{Binding, Status, Vss};
use serde::Serialize;
use serde_json::ser::Formatter;

use crate::cells::{colons, utc};

/// Writes the object of a binding.
pub fn write(binding: &Binding, out: &mut impl Write) -> io::Result<()> {
    write_object(&Object::from(binding), out)
}

/// Writes the object about the whole answer, with the key `summary`.
pub fn write_summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    write_object(&BTreeMap::from([("summary", summary)]), out)
}

/// Facts about the whole answer. Facts that are not known have no key.
#[derive(Serialize)]
pub struct Summary {
    /// Whether the server sent the answer completely, with Success.
    pub complete: bool,
    /// Number of bindings.
    pub bindings: u64,
    /// The query-start-time of this query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// The query-start-time of a query for later changes, after a complete answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start: Option<u32>,
    /// `next_start` in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<String>,
    /// The reason why the answer is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status of the query, if it is not Success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusObject>,
}

/// Writes an object on one line.
fn write_object(object: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Escaping);
    object.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Writes JSON without white space, with escapes for the characters that [`is_plain`] excludes: the
/// output may be a terminal, and a reader of JSON gets the same text.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if is_plain(character) {
                write!(out, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// The object of a binding. Facts that the server did not send have no key. Octets are hexadecimal,
/// times are seconds as on the wire; keys with `_at` have the same times in RFC 3339.
#[derive(Serialize)]
struct Object {
    /// The address.
    address: Ipv4Addr,
    /// Name of the dhcp-state.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// DHCPLEASEACTIVE or DHCPLEASEUNASSIGNED.
    message_type: String,
    /// The hardware type, if the binding has a hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    htype: Option<u8>,
    /// The hardware address, with colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    chaddr: Option<String>,
    /// The client identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// Remaining seconds of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_time: Option<u32>,
    /// Seconds to T1.
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_time: Option<u32>,
    /// Seconds to T2.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebinding_time: Option<u32>,
    /// Seconds since 1970 by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_time: Option<u32>,
    /// Seconds before base-time.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_of_state: Option<u32>,
    /// Seconds before base-time.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_last_transaction_time: Option<u32>,
    /// base_time plus lease_time; no key for an infinite lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ends_at: Option<String>,
    /// base_time less start_time_of_state.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_started_at: Option<String>,
    /// base_time less client_last_transaction_time.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_last_transaction_at: Option<String>,
    /// Option 82.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_agent_information: Option<RelayObject>,
    /// Option 221.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpn: Option<VpnValue>,
    /// The REMOTE flag of the data-source option: `remote` or `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_source: Option<&'static str>,
    /// Option 54 of this reply, or else of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_identifier: Option<Ipv4Addr>,
    /// The status-code option of this reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusObject>,
    /// Option 92: the client's other addresses, in replies over UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_ip: Option<Vec<Ipv4Addr>>,
    /// All other options, by code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<u8, String>,
}

/// The relay-agent-information option.
#[derive(Serialize)]
struct RelayObject {
    /// Sub-option 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit_id: Option<String>,
    /// Sub-option 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_id: Option<String>,
    /// Sub-option 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_id: Option<String>,
    /// All other sub-options, by code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sub_options: BTreeMap<u8, String>,
    /// The whole value, in hexadecimal.
    hex: String,
}

/// The value of option 221.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum VpnValue {
    /// Type 0: a name.
    Name(String),
    /// Type 1: an RFC 2685 VPN-ID.
    Rfc2685(String),
    /// Type 254: all VPNs.
    All,
    /// Type 255: the default VPN.
    Default,
}

/// A status-code option.
#[derive(Serialize)]
pub struct StatusObject {
    /// The status code.
    code: u8,
    /// The name of the status code, if the code is assigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    /// The status message.
    text: String,
}

impl From<&Binding> for Object {
    fn from(binding: &Binding) -> Object {
        let has_hardware = !binding.chaddr.is_empty();
        let at = |seconds: Option<u32>| seconds.map(|seconds| utc(seconds.into()));
        let associated_ip = binding.associated_ip();
        let has_key = |code: u8| code == code::ASSOCIATED_IP && associated_ip.is_some();
        Object {
            address: binding.address,
            state: binding.state.map(|state| state.to_string()),
            message_type: binding.message_type.to_string(),
            htype: has_hardware.then_some(binding.htype),
            chaddr: has_hardware.then(|| colons(&binding.chaddr)),
            client_id: binding.client_id.as_deref().map(hex),
            lease_time: binding.lease_time,
            renewal_time: binding.renewal_time,
            rebinding_time: binding.rebinding_time,
            base_time: binding.base_time,
            start_time_of_state: binding.start_time_of_state,
            client_last_transaction_time: binding.client_last_transaction_time,
            lease_ends_at: binding.lease_ends_at().map(utc),
            state_started_at: at(binding.state_started_at()),
            client_last_transaction_at: at(binding.client_last_transaction_at()),
            relay_agent_information: binding.relay_agent_information.as_ref().map(Into::into),
            vpn: binding.vpn.as_ref().map(Into::into),
            data_source: binding.data_source.map(|_| match binding.is_remote() {
                true => "remote",
                false => "local",
            }),
            server_identifier: binding.server_identifier,
            status: binding.status.as_ref().map(Into::into),
            options: (binding.options.iter())
                .filter(|(code, _)| !has_key(**code))
                .map(|(code, value)| (*code, hex(value)))
                .collect(),
            associated_ip,
        }
    }
}

impl From<&blq::RelayAgentInformation> for RelayObject {
    fn from(relay: &blq::RelayAgentInformation) -> RelayObject {
        const NAMED: [u8; 3] = [
            sub_option::CIRCUIT_ID,
            sub_option::REMOTE_ID,
            sub_option::RELAY_ID,
        ];
        RelayObject {
            circuit_id: relay.circuit_id().map(hex),
            remote_id: relay.remote_id().map(hex),
            relay_id: relay.relay_id().map(hex),
            sub_options: (relay.sub_options.iter())
                .filter(|(code, _)| !NAMED.contains(code))
                .map(|(code, value)| (*code, hex(value)))
                .collect(),
            hex: hex(&relay.raw),
        }
    }
}

impl From<&Vss> for VpnValue {
    fn from(vpn: &Vss) -> VpnValue {
        match vpn {
            Vss::Name(name) => VpnValue::Name(name.clone()),
            Vss::Rfc2685(id) => VpnValue::Rfc2685(hex(id)),
            Vss::All => VpnValue::All,
            Vss::Default => VpnValue::Default,
        }
    }
}

impl From<&Status> for StatusObject {
    fn from(status: &Status) -> StatusObject {
        StatusObject {
            code: status.code.0,
            name: status.code.name(),
            text: status.text.clone(),
        }
    }
}

/// Returns octets as hexadecimal digits.
fn hex(octets: &[u8]) -> String {
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 0xf])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Escapes change no value, and leave plain characters alone.
        #[test]
        fn writes_any_text_with_plain_characters(text in any::<String>()) {
            let mut line = Vec::new();
            write_object(&text, &mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            prop_assert!(line.trim_end_matches('\n').chars().all(is_plain), "{line}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
