//! The values of columns as text.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use blq::binding::INFINITE;
use blq::cli::Column;
use blq::cli::values::{Identifier, Notation};
use blq::wire::{code, hardware_type};
use blq::{Binding, MessageType, Vss};
use jiff::Timestamp;

/// Placeholder in the table of a value that the server did not send.
pub const NOTHING: &str = "-";

/// The form of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For readers: lease times in two units, [`NOTHING`] for a missing value.
    Table,
    /// For programs: lease times in seconds, no text for a missing value. No value begins with a
    /// character that spreadsheets take as the begin of a formula.
    Csv,
}

impl Style {
    /// Returns the text of a missing value.
    fn nothing(self) -> Cow<'static, str> {
        match self {
            Style::Table => NOTHING.into(),
            Style::Csv => "".into(),
        }
    }

    /// Returns the text of a lease time.
    fn lease_time(self, seconds: Option<u32>) -> Cow<'static, str> {
        match (self, seconds) {
            (_, None) => self.nothing(),
            (Style::Table, Some(seconds)) => lease_left(seconds),
            (Style::Csv, Some(INFINITE)) => "infinite".into(),
            (Style::Csv, Some(seconds)) => seconds.to_string().into(),
        }
    }

    /// Returns the text of a time, or that of a missing value.
    fn time(self, seconds: Option<u64>) -> Cow<'static, str> {
        seconds.map_or(self.nothing(), |seconds| utc(seconds).into())
    }
}

/// Returns the value of a column.
pub fn value(column: Column, binding: &Binding, style: Style) -> Cow<'static, str> {
    let base = binding.base_time;
    let or_nothing = |value: Option<String>| value.map_or(style.nothing(), Cow::Owned);
    match column {
        Column::Address => binding.address.to_string().into(),
        Column::State => state(binding, style),
        Column::Mac => hardware(binding, style),
        Column::LeaseLeft => style.lease_time(binding.lease_time),
        Column::LeaseEnds if binding.lease_time == Some(INFINITE) => "infinite".into(),
        Column::LeaseEnds => style.time(binding.lease_ends_at()),
        Column::Since => time_before(base, binding.start_time_of_state, style),
        Column::LastTransaction => time_before(base, binding.client_last_transaction_time, style),
        Column::ClientId => identifier(binding.client_id.as_deref(), style),
        Column::RemoteId => identifier(binding.remote_id(), style),
        Column::RelayId => identifier(binding.relay_id(), style),
        Column::CircuitId => identifier(binding.circuit_id(), style),
        Column::Vpn => binding
            .vpn
            .as_ref()
            .map_or(style.nothing(), |name| vpn(name, style)),
        Column::RenewalTime => style.lease_time(binding.renewal_time),
        Column::RebindingTime => style.lease_time(binding.rebinding_time),
        Column::BaseTime => style.time(base.map(u64::from)),
        Column::Source => match binding.data_source {
            None => style.nothing(),
            Some(_) if binding.is_remote() => "remote".into(),
            Some(_) => "local".into(),
        },
        Column::Server => or_nothing(binding.server_identifier.map(|address| address.to_string())),
        Column::RelayAgentInformation => {
            let relay = binding.relay_agent_information.as_ref();
            or_nothing(relay.map(|relay| octets(&relay.raw)))
        }
        Column::Status => or_nothing(binding.status.as_ref().map(|status| status.to_string())),
        Column::MessageType => binding.message_type.to_string().into(),
        Column::Option(code) => match binding.options.get(&code) {
            None => style.nothing(),
            Some(value) => option(code, value, style),
        },
    }
}

/// Returns the state; without dhcp-state, the part of it that the message type implies.
fn state(binding: &Binding, style: Style) -> Cow<'static, str> {
    match binding.state {
        Some(state) => match state.name() {
            Some(name) => name.into(),
            None => state.to_string().into(),
        },
        None if binding.message_type == MessageType::LEASE_UNASSIGNED => "UNASSIGNED".into(),
        None => style.nothing(),
    }
}

/// Returns the MAC address, with its hardware type as in `6/` if that is not Ethernet.
fn hardware(binding: &Binding, style: Style) -> Cow<'static, str> {
    let address = colons(&binding.chaddr);
    match (binding.chaddr.is_empty(), binding.htype) {
        (true, _) => style.nothing(),
        (false, hardware_type::ETHERNET) => address.into(),
        (false, htype) => format!("{htype}/{address}").into(),
    }
}

/// Returns a lease time in its two largest units.
fn lease_left(seconds: u32) -> Cow<'static, str> {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        INFINITE => "infinite".into(),
        86_400.. => format!("{days}d{:02}h", hours % 24).into(),
        3600.. => format!("{hours}h{:02}m", minutes % 60).into(),
        60.. => format!("{minutes}m{:02}s", seconds % 60).into(),
        _ => format!("{seconds}s").into(),
    }
}

/// Returns the time `before` seconds before base-time, in UTC; without a base-time, the time
/// before the reply.
fn time_before(base_time: Option<u32>, before: Option<u32>, style: Style) -> Cow<'static, str> {
    let Some(before) = before else {
        return style.nothing();
    };
    match base_time.and_then(|base| base.checked_sub(before)) {
        Some(seconds) => utc(seconds.into()).into(),
        None if style == Style::Table => format!("{} ago", lease_left(before)).into(),
        None => format!("{before}s ago").into(),
    }
}

/// Returns a time in RFC 3339, UTC.
pub fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).map(Timestamp::from_second);
    match time {
        Ok(Ok(time)) => time.to_string(),
        _ => seconds.to_string(),
    }
}

/// Returns an identifier as text if it reads as text, otherwise as octets. Options of the command line
/// accept both forms.
fn identifier(value: Option<&[u8]>, style: Style) -> Cow<'static, str> {
    match value {
        None | Some([]) => style.nothing(),
        Some(value) if is_plain_text(value, style) => {
            String::from_utf8_lossy(value).into_owned().into()
        }
        Some(value) => octets(value).into(),
    }
}

/// Whether an identifier can be printed as text: it has no spaces or control characters, and does not
/// read as octets, as the placeholder or as a formula.
fn is_plain_text(value: &[u8], style: Style) -> bool {
    let text = String::from_utf8_lossy(value);
    let identifier = Identifier {
        octets: value.to_vec(),
        notation: Notation::Text,
    };
    value.iter().all(u8::is_ascii_graphic)
        && text != NOTHING
        && !is_formula(&text, style)
        && text.parse() == Ok(identifier)
}

/// Whether a spreadsheet may take `text` as a formula.
fn is_formula(text: &str, style: Style) -> bool {
    style == Style::Csv && text.starts_with(['=', '+', '-', '@'])
}

/// Returns the value of an option: addresses, numbers and text where the option has them, otherwise
/// octets.
fn option(code: u8, value: &[u8], style: Style) -> Cow<'static, str> {
    match code {
        code::SUBNET_MASK
        | 3..=11
        | 28
        | 42
        | 44
        | code::REQUESTED_ADDRESS
        | code::ASSOCIATED_IP
        | 118 => addresses(value).unwrap_or_else(|| octets(value)).into(),
        26 | code::MAX_MESSAGE_SIZE => match value.try_into() {
            Ok(number) => u16::from_be_bytes(number).to_string().into(),
            Err(_) => octets(value).into(),
        },
        _ => text(value, style),
    }
}

/// Returns addresses, separated by commas; `None` if the value has a length that none have.
fn addresses(value: &[u8]) -> Option<String> {
    let addresses = value.chunks(4).map(|chunk| {
        let octets: [u8; 4] = chunk.try_into().ok()?;
        Some(Ipv4Addr::from(octets).to_string())
    });
    let addresses: Vec<String> = addresses.collect::<Option<_>>()?;
    (!addresses.is_empty()).then(|| addresses.join(","))
}

/// Returns text, in quotation marks if it has spaces in the table, or octets where the value has other
/// characters than printable ASCII.
fn text(value: &[u8], style: Style) -> Cow<'static, str> {
    if value.is_empty() && style == Style::Table {
        return "\"\"".into();
    }
    if is_plain_text(value, style) {
        return String::from_utf8_lossy(value).into_owned().into();
    }
    let is_text = |c: &u8| (c.is_ascii_graphic() || *c == b' ') && !b"\"\\".contains(c);
    if !value.iter().all(is_text) || !value.contains(&b' ') {
        return octets(value).into();
    }
    let text = String::from_utf8_lossy(value);
    match style {
        Style::Table => format!("\"{text}\"").into(),
        Style::Csv if is_formula(&text, style) => octets(value).into(),
        Style::Csv => text.into_owned().into(),
    }
}

/// Returns the name of a VPN, or its VPN-ID as octets.
fn vpn(vpn: &Vss, style: Style) -> Cow<'static, str> {
    match vpn {
        Vss::Name(name) => identifier(Some(name.as_bytes()), style),
        Vss::Rfc2685(id) => colons(id).into(),
        Vss::All => "(all)".into(),
        Vss::Default => "(default)".into(),
    }
}

/// Returns octets in a form that the command line reads as octets.
fn octets(value: &[u8]) -> String {
    match value {
        [octet] => format!("0x{octet:02x}"),
        value => colons(value),
    }
}

/// Returns octets with colons between them.
pub fn colons(octets: &[u8]) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_lease_times_in_two_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3599, "59m59s"),
            (3600, "1h00m"),
            (86_399, "23h59m"),
            (90_000, "1d01h"),
            (u32::MAX - 1, "49710d06h"),
            (INFINITE, "infinite"),
        ] {
            assert_eq!(lease_left(seconds), shown);
        }
        assert_eq!(Style::Csv.lease_time(Some(90_000)), "90000");
        assert_eq!(Style::Csv.lease_time(Some(INFINITE)), "infinite");
        assert_eq!(Style::Csv.lease_time(None), "");
    }

    /// A relay agent or client controls all octets of an identifier; only printable characters reach the
    /// terminal.
    #[test]
    fn prints_identifiers_without_control_characters() {
        for (value, shown) in [
            (b"line-7".as_slice(), "line-7"),
            (b"a b", "61:20:62"),
            (b"\x1b[2J", "1b:5b:32:4a"),
            (&[1], "0x01"),
            (b"-", "0x2d"),
            (b"0x01", "30:78:30:31"),
            (b"01:02", "30:31:3a:30:32"),
            (b"text:a", "74:65:78:74:3a:61"),
            ("\u{202e}".as_bytes(), "e2:80:ae"),
            (&[], "-"),
        ] {
            assert_eq!(identifier(Some(value), Style::Table), shown);
        }
        assert_eq!(identifier(None, Style::Table), "-");
        assert_eq!(identifier(None, Style::Csv), "");
        assert_eq!(vpn(&Vss::Name("a\nb".into()), Style::Table), "61:0a:62");
    }

    /// Spreadsheets run formulas in CSV.
    #[test]
    fn writes_no_formulas() {
        for formula in ["=1+1", "+1", "-1", "@a", "=a b"] {
            assert_eq!(
                identifier(Some(formula.as_bytes()), Style::Csv),
                colons(formula.as_bytes())
            );
            let text = text(formula.as_bytes(), Style::Csv);
            assert!(!text.starts_with(['=', '+', '-', '@']), "{text}");
        }
        assert_eq!(identifier(Some(b"+1"), Style::Table), "+1");
    }

    /// RFC 6926 section 6.2.4: the offset counts back from base-time, by the server's clock.
    #[test]
    fn prints_times_before_base_time() {
        let time_before = |base, before| time_before(base, before, Style::Table);
        assert_eq!(
            time_before(Some(1_700_000_000), Some(20)),
            "2023-11-14T22:13:00Z"
        );
        assert_eq!(time_before(None, Some(20)), "20s ago");
        assert_eq!(time_before(Some(10), Some(1067)), "17m47s ago");
        assert_eq!(time_before(Some(10), None), "-");
    }

    /// RFC 2132: the values of usual options.
    #[test]
    fn prints_options_by_their_values() {
        for (code, value, shown) in [
            (12, b"host".as_slice(), "host"),
            (60, b"MSFT 5.0", "\"MSFT 5.0\""),
            (60, b"a\"b c", "61:22:62:20:63"),
            (3, &[192, 0, 2, 1, 192, 0, 2, 2], "192.0.2.1,192.0.2.2"),
            (3, &[192, 0, 2], "c0:00:02"),
            (92, &[192, 0, 2, 1, 192, 0, 2, 2], "192.0.2.1,192.0.2.2"),
            (26, &[5, 220], "1500"),
            (12, b"", "\"\""),
            (43, &[1, 1, 7], "01:01:07"),
        ] {
            assert_eq!(option(code, value, Style::Table), shown, "{code}");
        }
    }

    proptest! {
        /// The command line reads each printed identifier as its octets.
        #[test]
        fn prints_identifiers_that_the_command_line_reads(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 1..12),
                "[0-9a-fx:.+=-]{1,12}".prop_map(String::into_bytes),
            ],
            style in prop_oneof![Just(Style::Table), Just(Style::Csv)],
        ) {
            let shown = identifier(Some(&value), style);
            prop_assert!(shown.bytes().all(|c| c.is_ascii_graphic()));
            let read = shown.parse::<Identifier>().map(|identifier| identifier.octets);
            prop_assert_eq!(read, Ok(value));
        }

        /// Values of options have no control characters, whatever a client sent.
        #[test]
        fn prints_any_option_with_printable_characters(
            code in any::<u8>(),
            value in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let shown = option(code, &value, Style::Table);
            prop_assert!(shown.bytes().all(|c| c.is_ascii_graphic() || c == b' '), "{shown}");
        }
    }
}
