//! The server on the command line.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A DHCPv4 server: an IPv4 address or a name, with a port if it was written as `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address or name.
    pub host: String,
    /// The TCP or UDP port, > 0.
    pub port: Option<u16>,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(value: &str) -> Result<Server, String> {
        if is_ipv6(value) {
            return Err(
                "an IPv6 address: DHCPv4 servers are queried over IPv4; write the server's \
                        IPv4 address or name"
                    .into(),
            );
        }
        let (host, port) = match value.split_once(':') {
            None => (value, None),
            Some((host, port)) => (host, Some(self::port(port)?)),
        };
        check_host(host)?;
        Ok(Server {
            host: host.to_string(),
            port,
        })
    }
}

/// Whether `value` is an IPv6 address, also in brackets or followed by a port or zone.
fn is_ipv6(value: &str) -> bool {
    let address = value
        .trim_start_matches('[')
        .split([']', '%'])
        .next()
        .unwrap_or_default();
    value.starts_with('[') || address.parse::<Ipv6Addr>().is_ok()
}

/// Reads the port of `HOST:PORT`.
fn port(port: &str) -> Result<u16, String> {
    let is_number = port.bytes().all(|c| c.is_ascii_digit());
    match port.parse() {
        Ok(number @ 1..) if is_number => Ok(number),
        _ => Err(format!(
            "`{port}` is not a port from 1 to 65535: write SERVER, SERVER:PORT or SERVER --port PORT"
        )),
    }
}

/// Checks that `host` is an IPv4 address of a host, or can be a name.
fn check_host(host: &str) -> Result<(), String> {
    let is_name_character = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || !host.chars().all(is_name_character) || host.starts_with('-') {
        return Err(
            "an IPv4 address or a name is required, as in 192.0.2.1 or kea.example.net, with a port \
             as in 192.0.2.1:67"
                .into(),
        );
    }
    if !is_numeric(host) {
        return Ok(());
    }
    // Systems read other forms too, such as 192.0.2 as 192.0.0.2, and 010 as 8.
    let address: Ipv4Addr = host.parse().map_err(|_| {
        "an IPv4 address consists of four decimal numbers without leading zeros".to_string()
    })?;
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
        return Err(format!("{address} is not the address of a server"));
    }
    Ok(())
}

/// Whether systems read `host` as an address: its last label is a number.
fn is_numeric(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|c| c.is_ascii_hexdigit()),
        None => last.bytes().all(|c| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_addresses_and_names_with_and_without_a_port() {
        for (value, host, port) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:67", "192.0.2.1", Some(67)),
            ("kea", "kea", None),
            ("kea.example.net:6767", "kea.example.net", Some(6767)),
            ("kea.example.net.", "kea.example.net.", None),
            ("10.example", "10.example", None),
            ("3com", "3com", None),
        ] {
            let host = host.to_string();
            assert_eq!(value.parse(), Ok(Server { host, port }), "{value}");
        }
    }

    /// DHCPv4 servers are queried over IPv4; systems read short addresses as others.
    #[test]
    fn refuses_servers_that_are_read_in_another_way() {
        for (value, reason) in [
            ("2001:db8::1", "IPv6"),
            ("[2001:db8::1]:67", "IPv6"),
            ("::1", "IPv6"),
            ("fe80::1%eth0", "IPv6"),
            ("::ffff:192.0.2.1", "IPv6"),
            ("192.0.2", "four decimal numbers"),
            ("192.0.2.010", "four decimal numbers"),
            ("192.0.2.256", "four decimal numbers"),
            ("3221225985", "four decimal numbers"),
            ("0x7f000001", "four decimal numbers"),
            ("0.0.0.0", "not the address of a server"),
            ("224.0.0.1", "not the address of a server"),
            ("kea:0", "--port PORT"),
            ("kea:", "--port PORT"),
            ("kea:+67", "--port PORT"),
            ("kea:65536", "--port PORT"),
            ("kea:67:67", "--port PORT"),
            ("tcp://kea", "--port PORT"),
            ("", "192.0.2.1:67"),
            (":67", "192.0.2.1:67"),
            ("kea example", "192.0.2.1:67"),
            ("192.0.2.0/24", "192.0.2.1:67"),
            ("k\u{e9}a", "192.0.2.1:67"),
        ] {
            let error = value.parse::<Server>().unwrap_err();
            assert!(error.contains(reason), "{value}: {error}");
        }
    }

    proptest! {
        /// A numeric host is exactly the address that it shows.
        #[test]
        fn reads_numeric_hosts_as_written(value in "[0-9.x]{1,16}") {
            if let Ok(server) = value.parse::<Server>() {
                let shown = server.host.parse::<Ipv4Addr>().map(|address| address.to_string());
                prop_assert!(shown == Ok(value) || server.host.contains('x'));
            }
        }

        #[test]
        fn survives_any_text(value in any::<String>()) {
            let _ = value.parse::<Server>();
        }
    }
}
