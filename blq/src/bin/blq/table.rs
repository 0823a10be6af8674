//! Table output: columns of a fixed width, so that each row is written at once.

use std::borrow::Cow;
use std::io::{self, Write};

use blq::binding::INFINITE;
use blq::cli::values::Identifier;
use blq::wire::hardware_type;
use blq::{Binding, MessageType, Vss};
use jiff::Timestamp;

/// Placeholder of a value that the server did not send.
const NOTHING: &str = "-";

/// Title and width of each column. A value longer than its column shifts the rest of its row and is
/// not cut. The widths are those of the longest usual values.
const COLUMNS: [(&str, usize); 10] = [
    ("ADDRESS", 15),
    ("STATE", 13),
    ("MAC", 17),
    ("LEASE LEFT", 10),
    ("SINCE", 20),
    ("LAST TRANSACTION", 20),
    ("CLIENT-ID", 20),
    ("REMOTE-ID", 20),
    ("RELAY-ID", 20),
    ("VPN", 0),
];

/// Writes the row of titles.
pub fn write_header(out: &mut impl Write) -> io::Result<()> {
    write_row(&COLUMNS.map(|(title, _)| Cow::Borrowed(title)), out)
}

/// Writes the row of a binding.
pub fn write(binding: &Binding, out: &mut impl Write) -> io::Result<()> {
    let base = binding.base_time;
    let row = [
        binding.address.to_string().into(),
        state(binding),
        hardware(binding),
        binding.lease_time.map_or(NOTHING.into(), lease_left),
        time_before(base, binding.start_time_of_state),
        time_before(base, binding.client_last_transaction_time),
        identifier(binding.client_id.as_deref()),
        identifier(binding.remote_id()),
        identifier(binding.relay_id()),
        binding.vpn.as_ref().map_or(NOTHING.into(), vpn),
    ];
    write_row(&row, out)
}

/// Writes one line.
fn write_row(row: &[Cow<'static, str>; COLUMNS.len()], out: &mut impl Write) -> io::Result<()> {
    let mut line = String::with_capacity(200);
    for (value, (_, width)) in row.iter().zip(COLUMNS) {
        line.push_str(value);
        let padding = width.saturating_sub(value.chars().count()) + 1;
        line.extend(std::iter::repeat_n(' ', padding));
    }
    writeln!(out, "{}", line.trim_end())
}

/// Returns the state; without dhcp-state, the part of it that the message type implies.
fn state(binding: &Binding) -> Cow<'static, str> {
    match binding.state {
        Some(state) => match state.name() {
            Some(name) => name.into(),
            None => state.to_string().into(),
        },
        None if binding.message_type == MessageType::LEASE_UNASSIGNED => "UNASSIGNED".into(),
        None => NOTHING.into(),
    }
}

/// Returns the MAC address, with its hardware type as in `6/` if that is not Ethernet.
fn hardware(binding: &Binding) -> Cow<'static, str> {
    let address = colons(&binding.chaddr);
    match (binding.chaddr.is_empty(), binding.htype) {
        (true, _) => NOTHING.into(),
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

/// Returns the time `before` seconds before base-time, in UTC; without a base-time, the number of
/// seconds.
fn time_before(base_time: Option<u32>, before: Option<u32>) -> Cow<'static, str> {
    let Some(before) = before else {
        return NOTHING.into();
    };
    match base_time.and_then(|base| base.checked_sub(before)) {
        Some(seconds) => utc(seconds.into()).into(),
        None => format!("{before}s before").into(),
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
fn identifier(value: Option<&[u8]>) -> Cow<'static, str> {
    match value {
        None | Some([]) => NOTHING.into(),
        Some(value) if is_plain_text(value) => String::from_utf8_lossy(value).into_owned().into(),
        Some([octet]) => format!("0x{octet:02x}").into(),
        Some(value) => colons(value).into(),
    }
}

/// Whether an identifier can be printed as text: it has no spaces or control characters, and does not
/// read as octets or as the placeholder.
fn is_plain_text(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value);
    value.iter().all(u8::is_ascii_graphic)
        && text != NOTHING
        && text.parse() == Ok(Identifier(value.to_vec()))
}

/// Returns the name of a VPN, or its VPN-ID as octets.
fn vpn(vpn: &Vss) -> Cow<'static, str> {
    match vpn {
        Vss::Name(name) => identifier(Some(name.as_bytes())),
        Vss::Rfc2685(id) => colons(id).into(),
        Vss::All => "(all)".into(),
        Vss::Default => "(default)".into(),
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
    }

    /// A relay agent or client controls all octets of an identifier; only printable characters reach the
    /// terminal.
    #[test]
    fn prints_identifiers_without_control_characters() {
        assert_eq!(identifier(Some(b"line-7")), "line-7");
        assert_eq!(identifier(Some(b"a b")), "61:20:62");
        assert_eq!(identifier(Some(b"\x1b[2J")), "1b:5b:32:4a");
        assert_eq!(identifier(Some(&[1])), "0x01");
        assert_eq!(identifier(Some(b"-")), "0x2d");
        assert_eq!(identifier(Some(b"0x01")), "30:78:30:31");
        assert_eq!(identifier(Some(b"01:02")), "30:31:3a:30:32");
        assert_eq!(identifier(Some(&[])), "-");
        assert_eq!(identifier(None), "-");
        assert_eq!(vpn(&Vss::Name("a\nb".into())), "61:0a:62");
    }

    /// RFC 6926 section 6.2.4: the offset counts back from base-time, by the server's clock.
    #[test]
    fn prints_times_before_base_time() {
        assert_eq!(
            time_before(Some(1_700_000_000), Some(20)),
            "2023-11-14T22:13:00Z"
        );
        assert_eq!(time_before(None, Some(20)), "20s before");
        assert_eq!(time_before(Some(10), Some(20)), "20s before");
        assert_eq!(time_before(Some(10), None), "-");
    }
}
