//! Columns of the table and of CSV.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::values::{add, option};
use crate::wire::{code, option_name};

/// A column: a fact about a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The address.
    Address,
    /// dhcp-state.
    State,
    /// The hardware address, with its type if that is not Ethernet.
    Mac,
    /// The rest of the lease time.
    LeaseLeft,
    /// The time at which the address entered its state.
    Since,
    /// The time of the client's last transaction.
    LastTransaction,
    /// The client identifier.
    ClientId,
    /// The Remote ID.
    RemoteId,
    /// The Relay-ID.
    RelayId,
    /// The VPN.
    Vpn,
    /// The Circuit ID.
    CircuitId,
    /// The time at which the lease ends.
    LeaseEnds,
    /// T1.
    RenewalTime,
    /// T2.
    RebindingTime,
    /// base-time.
    BaseTime,
    /// data-source.
    Source,
    /// server-identifier.
    Server,
    /// The whole option 82.
    RelayAgentInformation,
    /// status-code.
    Status,
    /// dhcp-message-type.
    MessageType,
    /// Any other option, by code.
    Option(u8),
}

impl Column {
    /// The columns of the default table, in its order.
    pub const DEFAULT: [Column; 11] = [
        Column::Address,
        Column::State,
        Column::Mac,
        Column::LeaseLeft,
        Column::Since,
        Column::LastTransaction,
        Column::ClientId,
        Column::RemoteId,
        Column::RelayId,
        Column::Vpn,
        Column::CircuitId,
    ];

    /// The columns outside of the default table that have a name of their own.
    pub const OTHERS: [Column; 9] = [
        Column::LeaseEnds,
        Column::RenewalTime,
        Column::RebindingTime,
        Column::BaseTime,
        Column::Source,
        Column::Server,
        Column::RelayAgentInformation,
        Column::Status,
        Column::MessageType,
    ];

    /// Returns the name on the command line and in CSV.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Column::Address => "address",
            Column::State => "state",
            Column::Mac => "mac",
            Column::LeaseLeft => "lease-left",
            Column::Since => "since",
            Column::LastTransaction => "last-transaction",
            Column::ClientId => "client-id",
            Column::RemoteId => "remote-id",
            Column::RelayId => "relay-id",
            Column::Vpn => "vpn",
            Column::CircuitId => "circuit-id",
            Column::LeaseEnds => "lease-ends",
            Column::RenewalTime => "renewal-time",
            Column::RebindingTime => "rebinding-time",
            Column::BaseTime => "base-time",
            Column::Source => "source",
            Column::Server => "server",
            Column::RelayAgentInformation => "relay-agent-information",
            Column::Status => "status",
            Column::MessageType => "message-type",
            Column::Option(code) => match option_name(code) {
                Some(name) => name,
                None => return format!("option-{code}").into(),
            },
        })
    }

    /// Returns the column that shows option `code`.
    pub fn of_option(code: u8) -> Column {
        match code {
            code::DHCP_STATE => Column::State,
            code::LEASE_TIME => Column::LeaseLeft,
            code::START_TIME_OF_STATE => Column::Since,
            code::CLIENT_LAST_TRANSACTION_TIME => Column::LastTransaction,
            code::CLIENT_IDENTIFIER => Column::ClientId,
            code::VPN_ID => Column::Vpn,
            code::RENEWAL_TIME => Column::RenewalTime,
            code::REBINDING_TIME => Column::RebindingTime,
            code::BASE_TIME => Column::BaseTime,
            code::DATA_SOURCE => Column::Source,
            code::SERVER_IDENTIFIER => Column::Server,
            code::RELAY_AGENT_INFORMATION => Column::RelayAgentInformation,
            code::STATUS_CODE => Column::Status,
            code::MESSAGE_TYPE => Column::MessageType,
            other => Column::Option(other),
        }
    }

    /// Returns the codes of the options that the column is computed from.
    pub fn options(self) -> Vec<u8> {
        match self {
            // Sent without request: status-code if there is one, server-identifier in the first
            // reply, VPN-ID in bindings of VPNs other than the default one.
            Column::Address
            | Column::Mac
            | Column::Status
            | Column::MessageType
            | Column::Server
            | Column::Vpn => Vec::new(),
            Column::State => vec![code::DHCP_STATE],
            Column::LeaseLeft => vec![code::LEASE_TIME],
            Column::LeaseEnds => vec![code::LEASE_TIME, code::BASE_TIME],
            Column::Since => vec![code::START_TIME_OF_STATE, code::BASE_TIME],
            Column::LastTransaction => vec![code::CLIENT_LAST_TRANSACTION_TIME, code::BASE_TIME],
            Column::ClientId => vec![code::CLIENT_IDENTIFIER],
            Column::RemoteId
            | Column::RelayId
            | Column::CircuitId
            | Column::RelayAgentInformation => vec![code::RELAY_AGENT_INFORMATION],
            Column::RenewalTime => vec![code::RENEWAL_TIME],
            Column::RebindingTime => vec![code::REBINDING_TIME],
            Column::BaseTime => vec![code::BASE_TIME],
            Column::Source => vec![code::DATA_SOURCE],
            Column::Option(code) => vec![code],
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(name: &str) -> Result<Column, String> {
        let known = Column::DEFAULT.into_iter().chain(Column::OTHERS);
        let mut named = known.filter(|column| column.name().eq_ignore_ascii_case(name));
        if let Some(column) = named.next() {
            return Ok(column);
        }
        let code = option(name.strip_prefix("option-").unwrap_or(name));
        code.map(Column::of_option).map_err(|_| {
            format!(
                "`{name}` is not a column. Columns are {}, {}, and any option by its code or name, \
                 such as host-name",
                list(&Column::DEFAULT),
                list(&Column::OTHERS)
            )
        })
    }
}

/// Returns the names of columns, separated by commas.
fn list(columns: &[Column]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
    names.join(", ")
}

/// A list of columns, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub Vec<Column>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(value: &str) -> Result<Columns, String> {
        let (mut columns, list) = match value.strip_prefix('+') {
            Some(list) => (Column::DEFAULT.to_vec(), list),
            None => (Vec::new(), value),
        };
        for name in list.split(',') {
            add(name.trim().parse()?, &mut columns);
        }
        Ok(Columns(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_names_of_columns_and_options() {
        let columns = |value: &str| value.parse::<Columns>().map(|Columns(columns)| columns);
        assert_eq!(
            columns("mac,Circuit-ID, host-name,250,option-251,mac"),
            Ok(vec![
                Column::Mac,
                Column::CircuitId,
                Column::Option(12),
                Column::Option(250),
                Column::Option(251),
            ])
        );
        let more = columns("+12").unwrap();
        assert_eq!(
            more,
            [Column::DEFAULT.as_slice(), &[Column::Option(12)]].concat()
        );
        for value in ["", "mac,", "no-such", "0", "255", "option-", "option-256"] {
            assert!(columns(value).is_err(), "{value}");
        }
    }

    /// Options that replies have in fields are never columns of other options, which would stay empty.
    #[test]
    fn shows_each_option_in_one_column() {
        for code in 1..=254 {
            let column = Column::of_option(code);
            assert_eq!(code.to_string().parse(), Ok(column));
            if let Column::Option(shown) = column {
                assert_eq!(shown, code);
                assert_eq!(column.name().parse(), Ok(column));
            }
        }
    }

    #[test]
    fn reads_each_name_as_its_column() {
        for column in Column::DEFAULT.into_iter().chain(Column::OTHERS) {
            assert_eq!(column.name().parse(), Ok(column));
        }
        let error = "colour".parse::<Column>().unwrap_err();
        assert!(error.contains("circuit-id") && error.contains("lease-ends"));
    }

    proptest! {
        #[test]
        fn survives_any_text(value in any::<String>()) {
            let _ = value.parse::<Columns>();
        }
    }
}
