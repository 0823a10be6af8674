//! Numbers and their names: options, message types, states, status codes.

use std::fmt;

/// Option codes this crate gives a meaning to.
pub mod code {
    /// pad (RFC 2132 section 3.1).
    pub const PAD: u8 = 0;
    /// dhcp-lease-time (RFC 2132 section 9.2).
    pub const LEASE_TIME: u8 = 51;
    /// option-overload (RFC 2132 section 9.3).
    pub const OVERLOAD: u8 = 52;
    /// dhcp-message-type (RFC 2132 section 9.6).
    pub const MESSAGE_TYPE: u8 = 53;
    /// server-identifier (RFC 2132 section 9.7).
    pub const SERVER_IDENTIFIER: u8 = 54;
    /// dhcp-parameter-request-list (RFC 2132 section 9.8).
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    /// renewal-time, T1 (RFC 2132 section 9.11).
    pub const RENEWAL_TIME: u8 = 58;
    /// rebinding-time, T2 (RFC 2132 section 9.12).
    pub const REBINDING_TIME: u8 = 59;
    /// client-identifier (RFC 2132 section 9.14).
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// relay-agent-information (RFC 3046).
    pub const RELAY_AGENT_INFORMATION: u8 = 82;
    /// client-last-transaction-time (RFC 4388 section 6.1).
    pub const CLIENT_LAST_TRANSACTION_TIME: u8 = 91;
    /// status-code (RFC 6926 section 6.2.2).
    pub const STATUS_CODE: u8 = 151;
    /// base-time (RFC 6926 section 6.2.3).
    pub const BASE_TIME: u8 = 152;
    /// start-time-of-state (RFC 6926 section 6.2.4).
    pub const START_TIME_OF_STATE: u8 = 153;
    /// query-start-time (RFC 6926 section 6.2.5).
    pub const QUERY_START_TIME: u8 = 154;
    /// query-end-time (RFC 6926 section 6.2.6).
    pub const QUERY_END_TIME: u8 = 155;
    /// dhcp-state (RFC 6926 section 6.2.7).
    pub const DHCP_STATE: u8 = 156;
    /// data-source (RFC 6926 section 6.2.8).
    pub const DATA_SOURCE: u8 = 157;
    /// VPN-ID: virtual subnet selection (RFC 6607 section 3.1).
    pub const VSS: u8 = 221;
    /// end (RFC 2132 section 3.2).
    pub const END: u8 = 255;
}

/// Sub-options of relay-agent-information this crate gives a meaning to.
pub mod sub_option {
    /// Agent Circuit ID (RFC 3046 section 3.1).
    pub const CIRCUIT_ID: u8 = 1;
    /// Agent Remote ID (RFC 3046 section 3.2).
    pub const REMOTE_ID: u8 = 2;
    /// Relay Agent Identifier (RFC 6925).
    pub const RELAY_ID: u8 = 12;
    /// DHCPv4 Virtual Subnet Selection (RFC 6607 section 3.2).
    pub const VSS: u8 = 151;
}

/// The value of the dhcp-message-type option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// DHCPLEASEUNASSIGNED (RFC 4388): nobody holds the address.
    pub const LEASE_UNASSIGNED: MessageType = MessageType(11);
    /// DHCPLEASEUNKNOWN (RFC 4388); never in a Bulk Leasequery.
    pub const LEASE_UNKNOWN: MessageType = MessageType(12);
    /// DHCPLEASEACTIVE (RFC 4388): a client holds the address.
    pub const LEASE_ACTIVE: MessageType = MessageType(13);
    /// DHCPBULKLEASEQUERY (RFC 6926 section 6.2.1).
    pub const BULK_LEASE_QUERY: MessageType = MessageType(14);
    /// DHCPLEASEQUERYDONE (RFC 6926 section 6.2.1).
    pub const LEASE_QUERY_DONE: MessageType = MessageType(15);

    /// The RFCs' name of the type, of those a leasequery can meet.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            MessageType::LEASE_UNASSIGNED => "DHCPLEASEUNASSIGNED",
            MessageType::LEASE_UNKNOWN => "DHCPLEASEUNKNOWN",
            MessageType::LEASE_ACTIVE => "DHCPLEASEACTIVE",
            MessageType::BULK_LEASE_QUERY => "DHCPBULKLEASEQUERY",
            MessageType::LEASE_QUERY_DONE => "DHCPLEASEQUERYDONE",
            _ => return None,
        })
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message type {}", self.0),
        }
    }
}

/// The value of the dhcp-state option (RFC 6926 section 6.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(pub u8);

impl State {
    /// Available to the server that answers.
    pub const AVAILABLE: State = State(1);
    /// Assigned to a client.
    pub const ACTIVE: State = State(2);
    /// The lease has expired.
    pub const EXPIRED: State = State(3);
    /// The client released the lease.
    pub const RELEASED: State = State(4);
    /// Flagged unusable by a server or a client.
    pub const ABANDONED: State = State(5);
    /// Freed by some external agent.
    pub const RESET: State = State(6);
    /// Available to another server.
    pub const REMOTE: State = State(7);
    /// Moving between states.
    pub const TRANSITIONING: State = State(8);

    /// The registry's name of the state, if it is assigned.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            State::AVAILABLE => "AVAILABLE",
            State::ACTIVE => "ACTIVE",
            State::EXPIRED => "EXPIRED",
            State::RELEASED => "RELEASED",
            State::ABANDONED => "ABANDONED",
            State::RESET => "RESET",
            State::REMOTE => "REMOTE",
            State::TRANSITIONING => "TRANSITIONING",
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "STATE-{}", self.0),
        }
    }
}

/// The number in the status-code option (RFC 6926 section 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusCode(pub u8);

impl StatusCode {
    /// Success; also signaled by the absence of the option.
    pub const SUCCESS: StatusCode = StatusCode(0);
    /// Failure, reason unspecified.
    pub const UNSPEC_FAIL: StatusCode = StatusCode(1);
    /// The server could not perform the query, or ended it early.
    pub const QUERY_TERMINATED: StatusCode = StatusCode(2);
    /// The query was not understood.
    pub const MALFORMED_QUERY: StatusCode = StatusCode(3);
    /// The query was understood but not allowed.
    pub const NOT_ALLOWED: StatusCode = StatusCode(4);

    /// The registry's name of the status code, if it is assigned.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            StatusCode::SUCCESS => "Success",
            StatusCode::UNSPEC_FAIL => "UnspecFail",
            StatusCode::QUERY_TERMINATED => "QueryTerminated",
            StatusCode::MALFORMED_QUERY => "MalformedQuery",
            StatusCode::NOT_ALLOWED => "NotAllowed",
            _ => return None,
        })
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name().unwrap_or("unassigned"), self.0)
    }
}

/// Names of the options one may want to ask a server for; the first of a code is the one shown.
const OPTION_NAMES: &[(u8, &str)] = &[
    (1, "subnet-mask"),
    (2, "time-offset"),
    (3, "routers"),
    (4, "time-servers"),
    (6, "domain-name-servers"),
    (7, "log-servers"),
    (12, "host-name"),
    (15, "domain-name"),
    (17, "root-path"),
    (26, "interface-mtu"),
    (28, "broadcast-address"),
    (33, "static-routes"),
    (42, "ntp-servers"),
    (43, "vendor-encapsulated-options"),
    (44, "netbios-name-servers"),
    (50, "dhcp-requested-address"),
    (51, "dhcp-lease-time"),
    (51, "lease-time"),
    (53, "dhcp-message-type"),
    (54, "dhcp-server-identifier"),
    (54, "server-identifier"),
    (55, "dhcp-parameter-request-list"),
    (57, "dhcp-max-message-size"),
    (58, "dhcp-renewal-time"),
    (58, "renewal-time"),
    (59, "dhcp-rebinding-time"),
    (59, "rebinding-time"),
    (60, "vendor-class-identifier"),
    (61, "dhcp-client-identifier"),
    (61, "client-identifier"),
    (61, "client-id"),
    (66, "tftp-server-name"),
    (67, "boot-file-name"),
    (77, "user-class"),
    (81, "fqdn"),
    (82, "relay-agent-information"),
    (82, "dhcp-agent-options"),
    (90, "authentication"),
    (91, "client-last-transaction-time"),
    (92, "associated-ip"),
    (93, "client-system"),
    (94, "client-ndi"),
    (97, "uuid-guid"),
    (97, "client-machine-identifier"),
    (116, "auto-config"),
    (118, "subnet-selection"),
    (119, "domain-search"),
    (121, "classless-static-route"),
    (124, "vivco-suboptions"),
    (124, "vendor-identifying-vendor-class"),
    (125, "vivso-suboptions"),
    (125, "vendor-identifying-vendor-options"),
    (151, "status-code"),
    (152, "base-time"),
    (153, "start-time-of-state"),
    (154, "query-start-time"),
    (155, "query-end-time"),
    (156, "dhcp-state"),
    (157, "data-source"),
    (221, "vpn-id"),
    (221, "vss"),
];

/// The code of the option called `name`, if that is one of the names known here.
pub fn option_code(name: &str) -> Option<u8> {
    OPTION_NAMES
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(name))
        .map(|(code, _)| *code)
}

/// What option `code` is called, if it has a name here.
pub fn option_name(code: u8) -> Option<&'static str> {
    OPTION_NAMES
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6926 section 10: the assigned numbers.
    #[test]
    fn names_numbers_as_the_registries_do() {
        for (name, code) in [
            ("status-code", 151),
            ("base-time", 152),
            ("start-time-of-state", 153),
            ("query-start-time", 154),
            ("query-end-time", 155),
            ("dhcp-state", 156),
            ("data-source", 157),
        ] {
            assert_eq!(option_code(name), Some(code));
            assert_eq!(option_name(code), Some(name));
        }
        assert_eq!(MessageType(14).to_string(), "DHCPBULKLEASEQUERY");
        assert_eq!(MessageType(15).to_string(), "DHCPLEASEQUERYDONE");
        assert_eq!(State(8).to_string(), "TRANSITIONING");
        assert_eq!(StatusCode(3).to_string(), "MalformedQuery (3)");
    }

    /// RFC 6926 section 10: new values may come; they are shown, not refused.
    #[test]
    fn shows_unassigned_numbers() {
        assert_eq!(State(9).to_string(), "STATE-9");
        assert_eq!(StatusCode(77).to_string(), "unassigned (77)");
        assert_eq!(MessageType(0).to_string(), "message type 0");
        assert_eq!(option_name(250), None);
        assert_eq!(option_code("no-such-option"), None);
    }
}
