//! The command line.

use std::time::Duration;

use crate::client::{BULK_LQ_DATA_TIMEOUT, CONNECT_TIMEOUT, SERVER_PORT};
use clap::{ArgGroup, Parser};

use super::values::{self, Identifier, Mac, Parameters, VpnName};
use crate::wire::hardware_type;
use crate::{Primary, Query, Timeouts, Vss};

/// The text of `--help` after the options.
const AFTER_HELP: &str = "\
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

Exit status:
  0  the answer is complete
  1  the server ended the query with a status other than Success, shown on standard error
  2  the command line is wrong
  3  no connection, a lost or silent connection, or a server that violates the protocol
  4  the answer could not be written
Bindings received before a failure are valid and have been written.";

/// Queries the bindings of a DHCPv4 server by Bulk Leasequery (RFC 6926).
///
/// Without one of --mac, --client-id, --remote-id and --relay-id the query is for all
/// configured addresses.
#[derive(Debug, Parser)]
#[command(name = "blq", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(group = ArgGroup::new("primary").multiple(false))]
#[command(group = ArgGroup::new("where").multiple(false))]
pub struct Args {
    /// The DHCPv4 server: an address or a name
    pub server: String,

    /// The server's TCP port
    #[arg(long, default_value_t = SERVER_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// BULK_LQ_DATA_TIMEOUT: longest time that the connection may stay blocked; less than 300 is
    /// not recommended
    #[arg(long, value_name = "SECONDS", default_value_t = BULK_LQ_DATA_TIMEOUT.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    timeout: u64,

    /// Longest time to wait for the connection to be established
    #[arg(long, value_name = "SECONDS", default_value_t = CONNECT_TIMEOUT.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    connect_timeout: u64,

    /// Query by MAC address: 1 to 16 octets, as in 02:00:00:00:00:01
    #[arg(long, group = "primary", help_heading = "Primary query")]
    mac: Option<Mac>,

    /// Hardware type of the MAC address; 1 is Ethernet
    #[arg(
        long,
        requires = "mac",
        default_value_t = hardware_type::ETHERNET,
        help_heading = "Primary query"
    )]
    htype: u8,

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
}

impl Args {
    /// Returns the query that the command line describes.
    pub fn query(&self) -> Query {
        let mut query = Query::new(self.primary());
        query.start = self.start;
        query.end = self.end;
        query.vpn = self.vpn();
        if let Some(Parameters(codes)) = &self.options {
            query.parameter_request_list = codes.clone();
        }
        query
    }

    /// Returns the primary query. The argument group allows one at most.
    fn primary(&self) -> Primary {
        if let Some(Mac(address)) = &self.mac {
            Primary::Mac {
                htype: self.htype,
                address: address.clone(),
            }
        } else if let Some(Identifier(id)) = &self.client_id {
            Primary::ClientId(id.clone())
        } else if let Some(Identifier(id)) = &self.remote_id {
            Primary::RemoteId(id.clone())
        } else if let Some(Identifier(id)) = &self.relay_id {
            Primary::RelayId(id.clone())
        } else {
            Primary::All
        }
    }

    /// Returns the VPN-ID qualifier. The argument group allows one at most.
    fn vpn(&self) -> Option<Vss> {
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
            data: Duration::from_secs(self.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Returns the query of a command line.
    fn query(line: &str) -> Query {
        let line = std::iter::once("blq").chain(line.split(' '));
        Args::try_parse_from(line).unwrap().query()
    }

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
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
        ] {
            let words = line.split(' ').filter(|word| !word.is_empty());
            let result = Args::try_parse_from(std::iter::once("blq").chain(words));
            assert_eq!(result.unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
