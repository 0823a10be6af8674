//! Advice on arguments that do not exist, by the names that users know from elsewhere.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Args;

/// Replaces the suggestion for an argument that does not exist by better advice, if there is any.
pub(super) fn advise(error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let name = argument.trim_start_matches('-');
    let name = name.split('=').next().unwrap_or_default();
    match advice(&name.to_lowercase().replace('_', "-")) {
        None => error,
        Some(advice) => Args::command().error(
            ErrorKind::UnknownArgument,
            format!("unexpected argument '{argument}': {advice}"),
        ),
    }
}

/// Returns advice on the argument `--name`.
fn advice(name: &str) -> Option<String> {
    let write = |arguments: &str| Some(format!("write {arguments}"));
    match name {
        "circuit-id" | "circuitid" | "circuit" | "agent-circuit-id" => no_query_type(
            "circuit-id",
            "the table shows the circuit-id of each binding, and so does \
             --columns address,circuit-id",
        ),
        "subscriber-id" | "link-selection" | "vendor-specific" => no_query_type(
            name,
            "--json shows each sub-option of option 82 in relay_agent_information",
        ),
        "giaddr" => no_query_type(
            name,
            "a relay agent that sends a relay-id is found by --relay-id; the giaddr of a query over \
             UDP is --source",
        ),
        "relay" | "relay-address" | "relay-agent" | "interface" | "iface" | "port-id" => {
            no_query_type(
                name,
                "a relay agent that sends a relay-id is found by --relay-id",
            )
        }
        "subnet" | "subnet-id" | "pool" | "shared-network" | "hostname" | "host-name" | "state" => {
            no_query_type(
                name,
                "--columns and --csv suit a filter behind `blq SERVER --all`",
            )
        }
        "ip" | "ip-address" | "addr" | "ciaddr" | "lease" => write("--udp --address ADDRESS"),
        "mac-address" | "mac-addr" | "macaddr" | "macaddress" | "chaddr" | "hw" | "hwaddr"
        | "hw-addr" | "hw-address" | "hwaddress" | "hardware-address" | "ether" | "ethernet" => {
            write("--mac ADDRESS")
        }
        "hardware-type" | "hw-type" | "hwtype" => write("--htype NUMBER, with --mac"),
        "clientid" | "client" | "client-identifier" | "dhcp-client-identifier" | "duid" | "cid" => {
            write("--client-id ID")
        }
        "remoteid" | "remote" | "agent-remote-id" => write("--remote-id ID"),
        "relayid" | "relay-agent-id" | "agent-relay-id" | "relay-identifier" => {
            write("--relay-id ID")
        }
        "vpn-id" | "vpnid" | "vss" | "vpn-name" | "vrf" | "vrf-id" => write(
            "--vpn NAME for a VPN by name, --vpn-rfc2685 HEX for one by RFC 2685 VPN-ID, or --all-vpns",
        ),
        "all-vpn" | "vpns" => write("--all-vpns"),
        "since" | "from" | "after" | "start-time" | "query-start-time" => {
            write("--start TIME, or --since-file FILE to go on from the last run")
        }
        "until" | "to" | "before" | "end-time" | "query-end-time" => write("--end TIME"),
        "host" | "server" | "h" => write("the server without an option, as in `blq 192.0.2.1`"),
        "p" | "tcp-port" | "server-port" => write("--port PORT, or SERVER:PORT"),
        "s" | "src" | "bind" | "source-address" | "source-ip" | "local" | "local-address" | "b" => {
            write("--source ADDRESS")
        }
        "option" | "o" | "prl" | "parameter-request-list" | "request" | "parameters" => {
            write("--options LIST")
        }
        "column" | "fields" | "c" => write("--columns LIST"),
        "format" | "output" | "output-format" | "f" => {
            write("--json or --csv; the default is a table")
        }
        "j" | "jsonl" | "ndjson" | "json-lines" => write("--json: one object on each line"),
        "no-headers" | "noheader" | "noheaders" | "no-heading" | "no-headings" => {
            write("--no-header")
        }
        "tcp" => Some("Bulk Leasequery is over TCP, without --udp".into()),
        "u" => write("--udp"),
        "ssl" | "starttls" | "secure" => write("--tls"),
        "cafile" | "ca-file" | "cacert" | "ca-cert" | "capath" | "trust-anchor" => {
            write("--ca FILE|DIR, with --tls")
        }
        "certificate" | "cert-file" | "client-cert" => write("--cert FILE, with --tls and --key"),
        "key-file" | "private-key" | "client-key" => write("--key FILE, with --tls and --cert"),
        "sni" | "servername" | "tls-name" | "verify-name" => write("--server-name NAME"),
        "active" | "follow" | "monitor" | "subscribe" | "stream" | "live" | "tail" => {
            write("--watch")
        }
        "interval" | "poll" => write("--poll-interval SECONDS, with --watch"),
        "retry" | "retries" => write("--retry-interval SECONDS, with --watch"),
        "ipv6" | "6" | "v6" => Some("DHCPv4 servers are queried over IPv4".into()),
        "w" | "wait" | "data-timeout" | "t" => {
            write("--timeout SECONDS or --connect-timeout SECONDS")
        }
        _ => None,
    }
}

/// Returns advice on a name that is no query type.
fn no_query_type(name: &str, instead: &str) -> Option<String> {
    Some(format!(
        "{name} is no query type of RFC 6926, which has --mac, --client-id, --remote-id, --relay-id \
         and --all; {instead}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;
    use std::ffi::OsString;

    /// Returns the error of a command line.
    fn error(line: &str) -> String {
        let line = format!("blq s {line}");
        parse(line.split(' ').map(OsString::from))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn names_the_query_types_for_arguments_that_are_none() {
        for argument in [
            "--circuit-id e0",
            "--circuit-id=e0",
            "--Circuit_ID",
            "--giaddr x",
        ] {
            let error = error(argument);
            assert!(error.contains("is no query type of RFC 6926"), "{error}");
            assert!(error.contains("--remote-id"), "{error}");
            assert!(!error.contains("similar"), "{error}");
        }
    }

    #[test]
    fn suggests_arguments_of_the_same_meaning() {
        for (argument, expected) in [
            ("--mac-address x", "write --mac ADDRESS"),
            ("--chaddr x", "write --mac ADDRESS"),
            ("--ip 192.0.2.9", "write --udp --address ADDRESS"),
            ("--vpn-id x", "--vpn-rfc2685"),
            ("--vss", "--vpn NAME"),
            ("--since x", "--start TIME"),
            ("--bind x", "--source ADDRESS"),
            ("-p 67", "--port"),
            ("--no-headers", "--no-header"),
            ("--follow", "write --watch"),
            ("--ssl", "write --tls"),
            ("--cacert x", "write --ca FILE|DIR"),
        ] {
            let error = error(argument);
            assert!(error.contains(expected), "{argument}: {error}");
        }
    }

    /// An argument with advice exists, or the advice would never be printed.
    #[test]
    fn gives_no_advice_on_arguments_that_exist() {
        for argument in Args::command().get_arguments() {
            if let Some(long) = argument.get_long() {
                assert_eq!(advice(long), None, "{long}");
            }
        }
    }

    /// Each argument that advice names exists.
    #[test]
    fn names_existing_arguments_alone() {
        let command = Args::command();
        let known: Vec<&str> = command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .collect();
        for name in [
            "circuit-id",
            "subscriber-id",
            "giaddr",
            "tcp",
            "subnet",
            "ip",
            "chaddr",
            "hwtype",
            "duid",
            "vss",
            "remote",
            "relayid",
            "since",
            "until",
            "p",
            "src",
            "prl",
            "fields",
            "format",
            "j",
            "t",
            "no-headers",
            "vpns",
            "ssl",
            "cacert",
            "client-cert",
            "private-key",
            "sni",
            "follow",
            "interval",
            "retry",
        ] {
            let advice = advice(name).unwrap();
            for word in advice
                .split([' ', ',', '.', ':', ';', '`'])
                .filter(|w| w.starts_with("--"))
            {
                assert!(known.contains(&&word[2..]), "{name}: {word}");
            }
        }
    }
}
