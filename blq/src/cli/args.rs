//! The arguments, and the query that they describe.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};

use super::mac::ETHERNET_LENGTH;
use super::values::{self, Identifier, Parameters, VpnName, add};
use super::{Column, Columns, Mac, Server, TlsArgs, WatchArgs};
use crate::active::ACTIVE_LQ_RCV_TIMEOUT;
use crate::client::{BULK_LQ_DATA_TIMEOUT, CONNECT_TIMEOUT, SERVER_PORT};
use crate::udp::{self, Key, LeaseQuery};
use crate::watch::Settings;
use crate::wire::{code, hardware_type};
use crate::{Primary, Query, Timeouts, Vss};

/// The text of `--help` after the options.
const AFTER_HELP: &str = "\
MAC addresses (--mac) are written as in 00:0c:01:02:03:05, 0:c:1:2:3:5, 00-0c-01-02-03-05,
000c.0102.0305, 000c01-020305 or 000c01020305. Addresses of another length than Ethernet's
6 octets need --htype; without separators, they begin with 0x.

Identifiers (--client-id, --remote-id, --relay-id) are text; they are hexadecimal if they
begin with 0x or hex: or have colons between octets, as in 01:02:ab. The prefix text: makes
any value text.

Times (--start, --end) are by the server's clock: seconds since 1970, as in
`--start 1700000000`; RFC 3339, as in 2026-01-31T12:00:00Z; or relative to this machine's
clock, as in `-1h` or `10m ago`. Both bounds are inclusive. Each complete answer, even an empty
one, ends with the --start of a query for later changes, if the server sends its time.

Options (--options) are codes or names, separated by commas, and replace the default list:
51,58,59,61,82,91,152,153,156,157. The prefix + adds them to that list, as in
`--options +12,vendor-class-identifier`; `--options none` leaves the choice to the server.
base-time (152) and the options behind --columns are always part of a list.

Columns (--columns) are address, state, mac, lease-left, since, last-transaction, client-id,
remote-id, relay-id, vpn, circuit-id, which are the default; lease-ends, renewal-time,
rebinding-time, base-time, source, server, relay-agent-information, status, message-type;
and any option by its code or name, such as host-name. The prefix + adds them to the default,
as do the options named with --options. On a terminal the table is as wide as the terminal:
long values are cut with `\u{2026}`, and columns that do not fit are left out, which is reported.

With --udp, the query is a DHCPLEASEQUERY (RFC 4388) for one address or client, by --address,
--mac, --client-id or --remote-id (RFC 6148), in one VPN. The reply is a row with the state
ACTIVE, with the client's other addresses in the column associated-ip, or UNASSIGNED: the
address is free; or no row, if the address or client is unknown to the server. Servers send
replies to UDP port 67 of this machine, which needs root or CAP_NET_BIND_SERVICE, and no DHCP
server or relay agent on that port. Without a reply the query is sent again after 4, 8, 16, 32
and 64 seconds, within --timeout. associated-ip (92) is always part of an --options list.

With --watch, all bindings are printed, and then each one that changes as soon as it changes: the
last row of an address counts. --start TIME begins with the changes since then instead. Lost
connections are reported on standard error, and the next one catches up, so no change is missed. A
server without Active Leasequery is queried for changes every --poll-interval. SIGINT and SIGTERM
end the watch; the last line on standard error then has the --start to go on from.

With --tls, the server's certificate is checked against --ca and SERVER or --server-name, and
nothing is sent without TLS.

Exit status:
  0  the answer is complete, even if it is empty; a watch was ended by a signal or a closed pipe
  1  the server ended the query with a status other than Success, shown on standard error
  2  the command line is wrong, or the file of --since-file or a file of TLS cannot be used
  3  no connection, a lost or silent connection, no reply over UDP, no UDP port for replies,
     or a server that violates the protocol
  4  the answer, or the file of --since-file, could not be written
Bindings received before a failure are valid and have been written.";

/// Queries the bindings of a DHCPv4 server by Bulk Leasequery (RFC 6926), watches them by Active
/// Leasequery (RFC 7724), or queries one of them by Leasequery over UDP (RFC 4388).
///
/// Without --udp and without one of --mac, --client-id, --remote-id and --relay-id the query is for all
/// configured addresses.
#[derive(Debug, Parser)]
#[command(name = "blq", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(group = ArgGroup::new("primary").multiple(false))]
#[command(group = ArgGroup::new("where").multiple(false))]
pub struct Args {
    /// The DHCPv4 server: an IPv4 address or a name, or SERVER:PORT
    pub server: Server,

    /// Query one address or client over UDP, by DHCPLEASEQUERY (RFC 4388)
    #[arg(long)]
    pub udp: bool,

    /// The server's TCP port, or its UDP port with --udp [default: 67]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// The address of this machine to query from: servers allow requesters by address
    #[arg(long, value_name = "ADDRESS", value_parser = source)]
    pub source: Option<Ipv4Addr>,

    /// With --udp, the port at which replies are received: servers send them to port 67, so another
    /// port needs a redirection by the firewall [default: 67]
    #[arg(long, value_name = "PORT", requires = "udp")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    source_port: Option<u16>,

    /// BULK_LQ_DATA_TIMEOUT: longest time that the connection may stay blocked, of which less than 300
    /// is not recommended; with --watch, also the longest silence of the server; with --udp, longest
    /// time to wait for the reply [default: 300; with --watch, 120 of silence; with --udp, 30]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    timeout: Option<u64>,

    /// Longest time to wait for the connection to be established
    #[arg(long, value_name = "SECONDS", default_value_t = CONNECT_TIMEOUT.as_secs())]
    #[arg(conflicts_with = "udp")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    connect_timeout: u64,

    /// Query by IP address, with --udp only
    #[arg(
        long,
        group = "primary",
        value_name = "ADDRESS",
        value_parser = leased_address,
        help_heading = "Primary query"
    )]
    pub address: Option<Ipv4Addr>,

    /// Query by MAC address, as in 02:00:00:00:00:01 or 0200.0000.0001
    #[arg(long, group = "primary", help_heading = "Primary query")]
    mac: Option<Mac>,

    /// Hardware type of the MAC address, which may then have 1 to 16 octets [default: 1, Ethernet]
    #[arg(
        long,
        requires = "mac",
        value_name = "NUMBER",
        help_heading = "Primary query"
    )]
    htype: Option<u8>,

    /// Query by Client-identifier
    #[arg(
        long,
        group = "primary",
        value_name = "ID",
        help_heading = "Primary query"
    )]
    client_id: Option<Identifier>,

    /// Query by Remote ID
    #[arg(
        long,
        group = "primary",
        value_name = "ID",
        help_heading = "Primary query"
    )]
    remote_id: Option<Identifier>,

    /// Query by Relay-ID
    #[arg(
        long,
        group = "primary",
        value_name = "ID",
        help_heading = "Primary query"
    )]
    relay_id: Option<Identifier>,

    /// Query for all configured addresses; the default
    #[arg(long, group = "primary", help_heading = "Primary query")]
    all: bool,

    /// Only bindings that changed at this time or later
    #[arg(long, value_name = "TIME", value_parser = values::time, allow_hyphen_values = true)]
    #[arg(help_heading = "Qualifiers")]
    start: Option<u32>,

    /// Only bindings that changed since the last run with this file, all in the first run; a complete
    /// answer writes the file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "start",
        help_heading = "Qualifiers"
    )]
    pub since_file: Option<PathBuf>,

    /// Only bindings that changed at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = values::time, allow_hyphen_values = true)]
    #[arg(help_heading = "Qualifiers")]
    end: Option<u32>,

    /// Only bindings in the VPN of this name; without a VPN, only those in the default VPN
    #[arg(
        long,
        group = "where",
        value_name = "NAME",
        help_heading = "Qualifiers"
    )]
    vpn: Option<VpnName>,

    /// Only bindings in the VPN with this RFC 2685 VPN-ID: 7 octets in hexadecimal
    #[arg(long, group = "where", value_name = "HEX", help_heading = "Qualifiers")]
    #[arg(value_parser = values::vpn_id)]
    vpn_rfc2685: Option<[u8; 7]>,

    /// Bindings in all VPNs
    #[arg(long, group = "where", help_heading = "Qualifiers")]
    all_vpns: bool,

    /// Only bindings in the default VPN, by an explicit VPN-ID
    #[arg(long, group = "where", help_heading = "Qualifiers")]
    default_vpn: bool,

    /// The options to request
    #[arg(long, value_name = "LIST", help_heading = "Answer")]
    options: Option<Parameters>,

    /// Print one JSON object for each binding, one on a line, instead of a table
    #[arg(long, help_heading = "Answer")]
    pub json: bool,

    /// After the JSON objects of bindings, print one with the key `summary`: whether the answer is
    /// complete, and the start time to go on from
    #[arg(
        long,
        requires = "json",
        conflicts_with = "csv",
        help_heading = "Answer"
    )]
    pub summary: bool,

    /// Print comma-separated values instead of a table; lease-left, renewal-time and rebinding-time
    /// are in seconds
    #[arg(long, conflicts_with = "json", help_heading = "Answer")]
    pub csv: bool,

    /// The columns to print, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        conflicts_with = "json",
        help_heading = "Answer"
    )]
    columns: Option<Columns>,

    /// Print no row of titles
    #[arg(long, conflicts_with = "json", help_heading = "Answer")]
    pub no_header: bool,

    /// The arguments of a watch.
    #[command(flatten)]
    pub watch: WatchArgs,

    /// The arguments of TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl Args {
    /// Checks values that depend on others.
    ///
    /// # Errors
    /// Two values contradict one another, or fit no query.
    pub(super) fn check(&self) -> Result<(), String> {
        if let (Some(port), Some(other)) = (self.server.port, self.port) {
            if port != other {
                return Err(format!("SERVER has port {port}, --port is {other}"));
            }
        }
        if let (Some(start), Some(end)) = (self.start, self.end) {
            if start > end {
                return Err(format!("--start, {start}, is after --end, {end}"));
            }
        }
        if let Some(mac) = &self.mac {
            self.check_mac(mac)?;
        }
        if self.udp {
            return self.check_udp();
        }
        if self.address.is_some() {
            return Err(
                "--address: Bulk Leasequery has no query by IP address: add --udp for Leasequery over \
                 UDP (RFC 4388), or filter the answer of `blq SERVER --all`"
                    .into(),
            );
        }
        self.check_watch()?;
        let query = self.query(self.start).to_bytes();
        query.map(drop).map_err(|error| error.to_string())
    }

    /// Checks the arguments of a query over UDP.
    fn check_udp(&self) -> Result<(), String> {
        const POSSIBLE: &str = "over UDP (RFC 4388) a query is by --address, --mac, --client-id or \
                                --remote-id, in the default VPN or that of --vpn or --vpn-rfc2685";
        let impossible = [
            (self.relay_id.is_some(), "--relay-id"),
            (self.all, "--all"),
            (self.start.is_some(), "--start"),
            (self.end.is_some(), "--end"),
            (self.since_file.is_some(), "--since-file"),
            (self.all_vpns, "--all-vpns"),
        ];
        let found = impossible.iter().find(|(is_present, _)| *is_present);
        if let Some((_, argument)) = found {
            return Err(format!(
                "{argument} is possible without --udp only: {POSSIBLE}"
            ));
        }
        let Some(query) = self.lease_query() else {
            return Err(format!("--udp without an address or client: {POSSIBLE}"));
        };
        if matches!(query.key, Key::RemoteId(_)) && query.parameter_request_list.is_none() {
            return Err(
                "--options none: over UDP a query by Remote ID has a list (RFC 6148 section 4.1)"
                    .into(),
            );
        }
        let message = query.to_message(Ipv4Addr::LOCALHOST);
        message.map(drop).map_err(|error| error.to_string())
    }

    /// Checks the arguments of a watch.
    fn check_watch(&self) -> Result<(), String> {
        let impossible = [
            (self.mac.is_some(), "--mac"),
            (self.client_id.is_some(), "--client-id"),
            (self.remote_id.is_some(), "--remote-id"),
            (self.relay_id.is_some(), "--relay-id"),
            (self.end.is_some(), "--end"),
            (self.since_file.is_some(), "--since-file"),
            (self.summary, "--summary"),
        ];
        let found = impossible.iter().find(|(is_present, _)| *is_present);
        match found.filter(|_| self.watch.watch) {
            None => Ok(()),
            Some((_, argument)) => Err(format!(
                "{argument} is possible without --watch only: a watch (RFC 7724) is for all addresses, \
                 from now on or from --start on, in the VPNs of --vpn, --vpn-rfc2685 or --all-vpns"
            )),
        }
    }

    /// Checks a MAC address and its hardware type.
    fn check_mac(&self, mac: &Mac) -> Result<(), String> {
        let length = mac.octets.len();
        match (mac.htype, self.htype) {
            (Some(one), Some(other)) if one != other => {
                Err(format!("--mac has hardware type {one}, --htype is {other}"))
            }
            (Some(_), _) | (_, Some(_)) => Ok(()),
            (None, None) if length == ETHERNET_LENGTH => Ok(()),
            (None, None) => {
                let advice = match mac.octets.first() {
                    Some(&hardware_type::ETHERNET) if length == ETHERNET_LENGTH + 1 => {
                        "; a client identifier begins with the hardware type: write --client-id"
                    }
                    _ => "; write --htype NUMBER for an address of another length",
                };
                Err(format!(
                    "--mac: {length} octets: an Ethernet address has {ETHERNET_LENGTH}{advice}"
                ))
            }
        }
    }

    /// Returns the server's TCP or UDP port.
    pub fn port(&self) -> u16 {
        self.port.or(self.server.port).unwrap_or(SERVER_PORT)
    }

    /// Returns the UDP port at which replies are received.
    pub fn source_port(&self) -> u16 {
        self.source_port.unwrap_or(udp::SERVER_PORT)
    }

    /// Returns the query-start-time of the command line.
    pub fn start(&self) -> Option<u32> {
        self.start
    }

    /// Returns the query that the command line describes, with this query-start-time.
    pub fn query(&self, start: Option<u32>) -> Query {
        let mut query = Query::new(self.primary());
        query.start = start;
        query.end = self.end;
        query.vpn = self.vpn();
        // Without base-time, no later query can go on from the answer.
        query.parameter_request_list = self.list(query.parameter_request_list, code::BASE_TIME);
        query
    }

    /// Returns the query over UDP that the command line describes; `None` without --udp, or without an
    /// address or client.
    pub fn lease_query(&self) -> Option<LeaseQuery> {
        let key = match (self.address, self.primary()) {
            _ if !self.udp => return None,
            (Some(address), _) => Key::Address(address),
            (None, Primary::Mac { htype, address }) => Key::Mac { htype, address },
            (None, Primary::ClientId(id)) => Key::ClientId(id),
            (None, Primary::RemoteId(id)) => Key::RemoteId(id),
            (None, Primary::RelayId(_) | Primary::All) => return None,
        };
        let mut query = LeaseQuery::new(key);
        query.vpn = self.vpn();
        query.parameter_request_list = self.list(query.parameter_request_list, code::ASSOCIATED_IP);
        Some(query)
    }

    /// Returns the parameter request list of the command line, by default `usual`. A list always has the
    /// option `always`, and those behind the columns.
    fn list(&self, usual: Option<Vec<u8>>, always: u8) -> Option<Vec<u8>> {
        let mut list = match &self.options {
            Some(parameters) => parameters.list.clone()?,
            None => usual?,
        };
        let columns = self.columns.iter().flat_map(|Columns(columns)| columns);
        let shown = columns.flat_map(|column| column.options());
        for code in std::iter::once(always).chain(shown) {
            add(code, &mut list);
        }
        Some(list)
    }

    /// Returns the columns to print: those of the command line; else the default ones, associated-ip in
    /// a query by client over UDP, and those of the options that the command line names.
    pub fn columns(&self) -> Vec<Column> {
        if let Some(Columns(columns)) = &self.columns {
            return columns.clone();
        }
        let mut columns = Column::DEFAULT.to_vec();
        if self.udp && self.address.is_none() {
            columns.push(Column::of_option(code::ASSOCIATED_IP));
        }
        for code in self.options.iter().flat_map(|parameters| &parameters.named) {
            add(Column::of_option(*code), &mut columns);
        }
        columns
    }

    /// Whether the command line selects the columns.
    pub fn selects_columns(&self) -> bool {
        self.columns.is_some()
    }

    /// Returns the identifier of the primary query, and the name of its argument.
    pub fn identifier(&self) -> Option<(&'static str, &Identifier)> {
        let client_id = self.client_id.as_ref().map(|id| ("--client-id", id));
        let remote_id = self.remote_id.as_ref().map(|id| ("--remote-id", id));
        let relay_id = self.relay_id.as_ref().map(|id| ("--relay-id", id));
        client_id.or(remote_id).or(relay_id)
    }

    /// Returns the primary query. The argument group allows one at most.
    fn primary(&self) -> Primary {
        if let Some(mac) = &self.mac {
            Primary::Mac {
                htype: self.htype.or(mac.htype).unwrap_or(hardware_type::ETHERNET),
                address: mac.octets.clone(),
            }
        } else if let Some(id) = &self.client_id {
            Primary::ClientId(id.octets.clone())
        } else if let Some(id) = &self.remote_id {
            Primary::RemoteId(id.octets.clone())
        } else if let Some(id) = &self.relay_id {
            Primary::RelayId(id.octets.clone())
        } else {
            Primary::All
        }
    }

    /// Returns the VPN-ID qualifier. The argument group allows one at most.
    pub fn vpn(&self) -> Option<Vss> {
        if let Some(VpnName(name)) = &self.vpn {
            Some(Vss::Name(name.clone()))
        } else if let Some(id) = self.vpn_rfc2685 {
            Some(Vss::Rfc2685(id))
        } else if self.all_vpns {
            Some(Vss::All)
        } else {
            self.default_vpn.then_some(Vss::Default)
        }
    }

    /// Returns the timeouts of the connection.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(self.connect_timeout),
            data: self
                .timeout
                .map_or(BULK_LQ_DATA_TIMEOUT, Duration::from_secs),
        }
    }

    /// Returns the settings of a watch.
    pub fn watch_settings(&self) -> Settings {
        let query = self.query(self.start);
        Settings {
            start: query.start,
            vpn: query.vpn,
            parameter_request_list: query.parameter_request_list,
            retry_interval: self.watch.retry_interval(),
            poll_interval: self.watch.poll_interval(),
            receive_timeout: self
                .timeout
                .map_or(ACTIVE_LQ_RCV_TIMEOUT, Duration::from_secs),
            ..Settings::default()
        }
    }

    /// Returns the longest time to wait for a reply over UDP.
    pub fn reply_timeout(&self) -> Duration {
        self.timeout.map_or(udp::TIMEOUT, Duration::from_secs)
    }
}

/// Reads the address of a lease.
fn leased_address(value: &str) -> Result<Ipv4Addr, String> {
    match value.parse::<Ipv4Addr>() {
        Ok(address) if !address.is_unspecified() => Ok(address),
        _ => Err("the IPv4 address of a lease is required, such as 192.0.2.9".into()),
    }
}

/// Reads an address of this machine.
fn source(value: &str) -> Result<Ipv4Addr, String> {
    match value.parse::<Ipv4Addr>() {
        Ok(address) if !address.is_unspecified() => Ok(address),
        _ => Err("an IPv4 address of this machine is required, such as 192.0.2.7".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the query of a command line.
    fn query(line: &str) -> Query {
        let args = args(line).unwrap();
        args.query(args.start())
    }

    /// Reads a command line without the name of the program.
    fn args(line: &str) -> Result<Args, clap::Error> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let line = std::iter::once("blq").chain(words).map(Into::into);
        crate::cli::parse(line).map(|invocation| invocation.query().unwrap())
    }

    #[test]
    fn definition_is_consistent() {
        crate::cli::command().debug_assert();
    }

    #[test]
    fn help_lists_the_default_options() {
        let usual = query("s").parameter_request_list.unwrap();
        let codes: Vec<String> = usual.iter().map(u8::to_string).collect();
        assert!(AFTER_HELP.contains(&format!("\n{}.", codes.join(","))));
    }

    /// RFC 6926 section 7.2: all primary queries.
    #[test]
    fn accepts_every_primary_query() {
        for (line, primary) in [
            ("s", Primary::All),
            ("s --all", Primary::All),
            ("s --client-id 0x01ab", Primary::ClientId(vec![1, 0xab])),
            ("s --remote-id line-7", Primary::RemoteId(b"line-7".into())),
            ("s --relay-id 01:02", Primary::RelayId(vec![1, 2])),
            (
                "s --mac 02:00:00:00:00:0A --htype 6",
                Primary::Mac {
                    htype: 6,
                    address: vec![2, 0, 0, 0, 0, 10],
                },
            ),
        ] {
            assert_eq!(query(line).primary, primary, "{line}");
        }
    }

    /// RFC 6926 section 7.2: all qualifiers, with any primary query.
    #[test]
    fn accepts_every_qualifier() {
        let both = query("s --remote-id x --start 5 --end 2023-11-14T22:13:20Z");
        assert_eq!((both.start, both.end), (Some(5), Some(1_700_000_000)));
        for (line, vpn) in [
            ("s", None),
            ("s --vpn blue", Some(Vss::Name("blue".into()))),
            (
                "s --vpn-rfc2685 00005e00000007",
                Some(Vss::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7])),
            ),
            ("s --all-vpns --start -1h", Some(Vss::All)),
            ("s --default-vpn", Some(Vss::Default)),
        ] {
            assert_eq!(query(line).vpn, vpn, "{line}");
        }
    }

    /// RFC 6926 section 7.2: at most one primary query and one of each qualifier.
    #[test]
    fn refuses_command_lines_that_are_not_one_query() {
        for line in [
            "",
            "s --mac 02:00:00:00:00:01 --all",
            "s --client-id a --remote-id b",
            "s --vpn blue --all-vpns",
            "s --start 1 --start 2",
            "s --htype 1",
            "s --mac zz",
            "s --port 0",
            "s --timeout 0",
            "s --remote-id=",
            "s --options 256",
            "s:67 --port 68",
            "s --start 2 --end 1",
            "s --start 2 --since-file x",
            "s --mac 02:00:00:00:01",
            "s --mac 01:02:00:00:00:00:01",
            "s --mac 6/02:00:00:00:00:01 --htype 1",
            "s --source s",
            "s --source 0.0.0.0",
            "s --source 2001:db8::1",
            "s --json --csv",
            "s --json --columns mac",
            "s --json --no-header",
            "s --summary",
            "s --csv --summary",
            "s --columns no-such",
            "2001:db8::1",
            "s --address 192.0.2.9",
            "s --source-port 67 --mac 02:00:00:00:00:01",
            "s --udp",
            "s --udp --address 0.0.0.0",
            "s --udp --address 192.0.2",
            "s --udp --address 192.0.2.9 --mac 02:00:00:00:00:01",
            "s --udp --address 192.0.2.9 --source-port 0",
            "s --udp --address 192.0.2.9 --connect-timeout 5",
            "s --udp --remote-id x --options none",
        ] {
            assert_eq!(args(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    /// RFC 4388 section 6.2 and RFC 6148: the keys of queries over UDP; RFC 6607: in one VPN.
    #[test]
    fn accepts_every_query_over_udp() {
        for (line, key) in [
            (
                "s --udp --address 192.0.2.9",
                Key::Address([192, 0, 2, 9].into()),
            ),
            (
                "s --udp --mac 6/01:02",
                Key::Mac {
                    htype: 6,
                    address: vec![1, 2],
                },
            ),
            ("s --client-id 0x01ab --udp", Key::ClientId(vec![1, 0xab])),
            (
                "s --udp --remote-id line-7",
                Key::RemoteId(b"line-7".into()),
            ),
        ] {
            let args = args(line).unwrap();
            assert_eq!(args.lease_query().unwrap().key, key, "{line}");
            assert_eq!((args.port(), args.source_port()), (67, 67));
            assert_eq!(args.reply_timeout(), Duration::from_secs(30));
        }
        let line = "s:1067 --udp --mac 02:00:00:00:00:01 --vpn blue --options 51 --columns 12 \
                    --source-port 1068 --timeout 5";
        let args = args(line).unwrap();
        let query = args.lease_query().unwrap();
        assert_eq!(query.vpn, Some(Vss::Name("blue".into())));
        assert_eq!(query.parameter_request_list, Some(vec![51, 92, 12]));
        assert_eq!((args.port(), args.source_port()), (1067, 1068));
        assert_eq!(args.reply_timeout(), Duration::from_secs(5));
    }

    /// A qualifier that a query over UDP does not have is an error, not a wider answer.
    #[test]
    fn names_the_queries_over_udp_for_those_that_are_none() {
        for argument in [
            "--relay-id x",
            "--all",
            "--mac 02:00:00:00:00:01 --start 5",
            "--mac 02:00:00:00:00:01 --end 5",
            "--mac 02:00:00:00:00:01 --since-file f",
            "--mac 02:00:00:00:00:01 --all-vpns",
        ] {
            let error = args(&format!("s --udp {argument}")).unwrap_err();
            let error = error.to_string();
            for expected in ["without --udp only", "--address, --mac, --client-id"] {
                assert!(error.contains(expected), "{argument}: {error}");
            }
        }
        let error = args("s --address 192.0.2.9").unwrap_err().to_string();
        assert!(error.contains("add --udp"), "{error}");
    }

    /// Only a query by client can find several addresses.
    #[test]
    fn shows_associated_ip_in_queries_by_client_over_udp() {
        let associated = Column::Option(92);
        for (line, is_shown) in [
            ("s --mac 02:00:00:00:00:01", false),
            ("s --udp --address 192.0.2.9", false),
            ("s --udp --mac 02:00:00:00:00:01", true),
            ("s --udp --remote-id x --columns mac", false),
        ] {
            let columns = args(line).unwrap().columns();
            assert_eq!(columns.contains(&associated), is_shown, "{line}");
        }
    }

    #[test]
    fn help_lists_every_column() {
        let help: String = AFTER_HELP.split_whitespace().collect::<Vec<_>>().join(" ");
        for columns in [&Column::DEFAULT[..], &Column::OTHERS] {
            let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
            assert!(help.contains(&names.join(", ")), "{names:?}");
        }
    }

    #[test]
    fn accepts_the_port_in_either_place() {
        for (line, port) in [
            ("s", 67),
            ("s:1067", 1067),
            ("s --port 1067", 1067),
            ("s:1067 --port 1067", 1067),
        ] {
            assert_eq!(args(line).unwrap().port(), port, "{line}");
        }
    }

    /// An address of another length than Ethernet's may have lost or gained octets.
    #[test]
    fn accepts_other_lengths_of_mac_addresses_with_a_hardware_type() {
        for (line, htype) in [
            ("s --mac 0x0102 --htype 6", 6),
            ("s --mac 6/01:02", 6),
            ("s --mac 01:02 --htype 1", 1),
        ] {
            let address = vec![1, 2];
            assert_eq!(
                query(line).primary,
                Primary::Mac { htype, address },
                "{line}"
            );
        }
        let error = args("s --mac 01:02:00:00:00:00:01")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--client-id"), "{error}");
    }

    /// RFC 6926 section 8.3 item 2: base-time is what a later query goes on from.
    #[test]
    fn requests_the_options_behind_columns_and_the_next_start() {
        let list = |line: &str| query(line).parameter_request_list;
        assert_eq!(list("s --options 51"), Some(vec![51, 152]));
        assert_eq!(list("s --options none --columns 12"), None);
        assert_eq!(
            list("s --options 51 --columns since,host-name"),
            Some(vec![51, 152, 153, 12])
        );
        let more = list("s --columns circuit-id,12").unwrap();
        assert_eq!(
            more,
            [crate::query::DEFAULT_PARAMETERS.as_slice(), &[12]].concat()
        );
    }

    #[test]
    fn shows_the_options_that_were_asked_for() {
        let columns = args("s --options +12,82,51,157").unwrap().columns();
        let added = [
            Column::Option(12),
            Column::RelayAgentInformation,
            Column::Source,
        ];
        assert_eq!(columns, [Column::DEFAULT.as_slice(), &added].concat());
        let columns = args("s --options +12 --columns mac").unwrap().columns();
        assert_eq!(columns, [Column::Mac]);
    }
}
