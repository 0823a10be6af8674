//! DHCP options: their codes, and the lengths that their values may have.

use std::fmt;

/// Option codes.
///
/// Numbers in values are unsigned and in network byte order.
pub mod code {
    /// pad: one octet without length and value (RFC 2132 section 3.1).
    pub const PAD: u8 = 0;
    /// subnet-mask: four octets (RFC 2132 section 3.3).
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTERS: u8 = 3;
    /// DNS servers.
    pub const DOMAIN_NAME_SERVERS: u8 = 6;
    /// host-name: text (RFC 2132 section 3.14).
    pub const HOST_NAME: u8 = 12;
    /// Domain name.
    pub const DOMAIN_NAME: u8 = 15;
    /// vendor-specific-information: octets (RFC 2132 section 8.4).
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// dhcp-requested-address: one address (RFC 2132 section 9.1).
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// dhcp-lease-time: seconds from now, or from base-time (RFC 2132 section 9.2); in a leasequery
    /// reply, those that remain (RFC 4388 section 6.4.2). [`INFINITE`](crate::lease_time::INFINITE)
    /// if the lease does not end.
    pub const LEASE_TIME: u8 = 51;
    /// option-overload: 1 if file holds options, 2 if sname does, 3 if both do (RFC 2132 section 9.3).
    pub const OVERLOAD: u8 = 52;
    /// dhcp-message-type: a [`MessageType`](crate::MessageType) (RFC 2132 section 9.6).
    pub const MESSAGE_TYPE: u8 = 53;
    /// dhcp-server-identifier: one address (RFC 2132 section 9.7).
    pub const SERVER_IDENTIFIER: u8 = 54;
    /// dhcp-parameter-request-list: option codes (RFC 2132 section 9.8).
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    /// dhcp-max-message-size: two octets, at least 576 (RFC 2132 section 9.10).
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// dhcp-renewal-time, T1: seconds from now, or from base-time (RFC 2132 section 9.11).
    pub const RENEWAL_TIME: u8 = 58;
    /// dhcp-rebinding-time, T2: seconds from now, or from base-time (RFC 2132 section 9.12).
    pub const REBINDING_TIME: u8 = 59;
    /// vendor-class-identifier: octets (RFC 2132 section 9.13).
    pub const VENDOR_CLASS: u8 = 60;
    /// dhcp-client-identifier: a type and at least one octet (RFC 2132 section 9.14).
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// user-class (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Client FQDN (RFC 4702).
    pub const CLIENT_FQDN: u8 = 81;
    /// relay-agent-information: sub-options by [`sub_option`](crate::sub_option) (RFC 3046).
    pub const RELAY_AGENT_INFORMATION: u8 = 82;
    /// client-last-transaction-time: seconds before now, or before base-time, at which the client
    /// last communicated with the server about the address (RFC 4388 section 6.1).
    pub const CLIENT_LAST_TRANSACTION_TIME: u8 = 91;
    /// associated-ip: one or more addresses of one client (RFC 4388 section 6.1). Must not appear in replies over
    /// TCP (RFC 6926 section 5).
    pub const ASSOCIATED_IP: u8 = 92;
    /// Client system architecture (RFC 4578 section 2.1).
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    /// Client network interface identifier (RFC 4578 section 2.2).
    pub const CLIENT_NDI: u8 = 94;
    /// Client machine identifier, UUID or GUID (RFC 4578 section 2.3).
    pub const CLIENT_UUID: u8 = 97;
    /// Auto-configure (RFC 2563).
    pub const AUTO_CONFIGURE: u8 = 116;
    /// Vendor-identifying vendor class (RFC 3925 section 3).
    pub const VI_VENDOR_CLASS: u8 = 124;
    /// Vendor-identifying vendor-specific information (RFC 3925 section 4).
    pub const VI_VENDOR_SPECIFIC: u8 = 125;
    /// status-code: a [`StatusCode`](crate::StatusCode), then UTF-8 text without NUL (RFC 6926
    /// section 6.2.2).
    pub const STATUS_CODE: u8 = 151;
    /// base-time: seconds since 1970 by the server's clock at which the message was made, to which
    /// the other times in the message are relative (RFC 6926 section 6.2.3).
    pub const BASE_TIME: u8 = 152;
    /// start-time-of-state: seconds before base-time at which the address entered its state
    /// (RFC 6926 section 6.2.4).
    pub const START_TIME_OF_STATE: u8 = 153;
    /// query-start-time: seconds since 1970 by the server's clock; bindings changed at or after it
    /// are wanted (RFC 6926 section 6.2.5).
    pub const QUERY_START_TIME: u8 = 154;
    /// query-end-time: seconds since 1970 by the server's clock; bindings changed at or before it
    /// are wanted (RFC 6926 section 6.2.6).
    pub const QUERY_END_TIME: u8 = 155;
    /// dhcp-state: a [`State`](crate::State) (RFC 6926 section 6.2.7).
    pub const DHCP_STATE: u8 = 156;
    /// data-source: flags by [`data_source`](crate::data_source) (RFC 6926 section 6.2.8).
    pub const DATA_SOURCE: u8 = 157;
    /// VPN-ID: a [`Vss`](crate::Vss) (RFC 6607 section 3.1, RFC 6926 section 6.2.9).
    pub const VPN_ID: u8 = 221;
    /// end: one octet without length and value, after which no option follows (RFC 2132 section 3.2).
    pub const END: u8 = 255;
}

/// Numbers of octets that a value may have, its instances joined (RFC 3396 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// The fewest octets; <= most.
    least: usize,
    /// The most octets.
    most: usize,
}

impl Lengths {
    /// Returns the lengths of a value that always has `octets` octets.
    pub const fn exactly(octets: usize) -> Lengths {
        Lengths::between(octets, octets)
    }

    /// Returns the lengths of a value that has `least` octets or more.
    pub const fn at_least(least: usize) -> Lengths {
        Lengths::between(least, usize::MAX)
    }

    /// Returns the lengths of a value that has `least` to `most` octets.
    pub const fn between(least: usize, most: usize) -> Lengths {
        Lengths { least, most }
    }

    /// Whether a value may have `octets` octets.
    pub const fn contains(self, octets: usize) -> bool {
        self.least <= octets && octets <= self.most
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lengths { least, most } = *self;
        let octets = |count| if count == 1 { "octet" } else { "octets" };
        if least == most {
            write!(f, "{least} {}", octets(least))
        } else if most == usize::MAX {
            write!(f, "at least {least} {}", octets(least))
        } else {
            write!(f, "{least} to {most} {}", octets(most))
        }
    }
}

/// Returns the lengths that the value of option `code` may have, for options that a leasequery is
/// made of; any length for all others.
pub const fn lengths(code: u8) -> Lengths {
    match code {
        code::OVERLOAD | code::MESSAGE_TYPE | code::DHCP_STATE | code::DATA_SOURCE => {
            Lengths::exactly(1)
        }
        code::REQUESTED_ADDRESS
        | code::LEASE_TIME
        | code::SERVER_IDENTIFIER
        | code::RENEWAL_TIME
        | code::REBINDING_TIME
        | code::CLIENT_LAST_TRANSACTION_TIME
        | code::BASE_TIME
        | code::START_TIME_OF_STATE
        | code::QUERY_START_TIME
        | code::QUERY_END_TIME => Lengths::exactly(4),
        code::STATUS_CODE | code::VPN_ID => Lengths::at_least(1),
        code::CLIENT_IDENTIFIER => Lengths::at_least(2),
        _ => Lengths::at_least(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6926 section 10, RFC 4388 section 8, RFC 6607 section 10: the assigned codes.
    #[test]
    fn codes_of_leasequery_are_the_registrys() {
        use code::*;
        assert_eq!([CLIENT_LAST_TRANSACTION_TIME, ASSOCIATED_IP], [91, 92]);
        assert_eq!(
            [
                STATUS_CODE,
                BASE_TIME,
                START_TIME_OF_STATE,
                QUERY_START_TIME,
                QUERY_END_TIME,
                DHCP_STATE,
                DATA_SOURCE,
            ],
            [151, 152, 153, 154, 155, 156, 157]
        );
        assert_eq!([RELAY_AGENT_INFORMATION, VPN_ID], [82, 221]);
    }

    #[test]
    fn shows_the_allowed_lengths() {
        for (code, text) in [
            (code::DHCP_STATE, "1 octet"),
            (code::BASE_TIME, "4 octets"),
            (code::STATUS_CODE, "at least 1 octet"),
            (code::CLIENT_IDENTIFIER, "at least 2 octets"),
        ] {
            assert_eq!(lengths(code).to_string(), text);
        }
        assert_eq!(Lengths::between(1, 255).to_string(), "1 to 255 octets");
    }

    #[test]
    fn allows_both_bounds_and_nothing_outside() {
        let lengths = Lengths::between(1, 3);
        let allowed: Vec<usize> = (0..5).filter(|octets| lengths.contains(*octets)).collect();
        assert_eq!(allowed, [1, 2, 3]);
    }
}
