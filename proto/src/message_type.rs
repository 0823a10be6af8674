//! Message types (RFC 2132 section 9.6, RFC 3203, RFC 4388 section 6.1, RFC 6926 section 6.2.1, RFC 7724
//! section 5.2.1).

use std::fmt;

/// The value of the dhcp-message-type option, any octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// DHCPDISCOVER: a client looks for servers.
    pub const DISCOVER: MessageType = MessageType(1);
    /// DHCPOFFER: a server offers an address.
    pub const OFFER: MessageType = MessageType(2);
    /// DHCPREQUEST: a client requests or renews an address.
    pub const REQUEST: MessageType = MessageType(3);
    /// DHCPDECLINE: a client found the address in use.
    pub const DECLINE: MessageType = MessageType(4);
    /// DHCPACK: a server leases an address.
    pub const ACK: MessageType = MessageType(5);
    /// DHCPNAK: a server refuses an address.
    pub const NAK: MessageType = MessageType(6);
    /// DHCPRELEASE: a client gives its address up.
    pub const RELEASE: MessageType = MessageType(7);
    /// DHCPINFORM: a client requests only options.
    pub const INFORM: MessageType = MessageType(8);
    /// DHCPFORCERENEW (RFC 3203): a server makes a client renew.
    pub const FORCE_RENEW: MessageType = MessageType(9);
    /// DHCPLEASEQUERY (RFC 4388): a requester queries one binding over UDP.
    pub const LEASE_QUERY: MessageType = MessageType(10);
    /// DHCPLEASEUNASSIGNED (RFC 4388): no client holds the address.
    pub const LEASE_UNASSIGNED: MessageType = MessageType(11);
    /// DHCPLEASEUNKNOWN (RFC 4388): the server has no such binding. Never sent over TCP.
    pub const LEASE_UNKNOWN: MessageType = MessageType(12);
    /// DHCPLEASEACTIVE (RFC 4388): a client holds the address.
    pub const LEASE_ACTIVE: MessageType = MessageType(13);
    /// DHCPBULKLEASEQUERY (RFC 6926): a requester queries any number of bindings.
    pub const BULK_LEASE_QUERY: MessageType = MessageType(14);
    /// DHCPLEASEQUERYDONE (RFC 6926): the end of the replies to a DHCPBULKLEASEQUERY.
    pub const LEASE_QUERY_DONE: MessageType = MessageType(15);
    /// DHCPACTIVELEASEQUERY (RFC 7724): a requester subscribes to changes of bindings.
    pub const ACTIVE_LEASE_QUERY: MessageType = MessageType(16);
    /// DHCPLEASEQUERYSTATUS (RFC 7724): the status of the replies to a DHCPACTIVELEASEQUERY.
    pub const LEASE_QUERY_STATUS: MessageType = MessageType(17);
    /// DHCPTLS (RFC 7724): a requester requests TLS on the connection; a server accepts or refuses.
    pub const TLS: MessageType = MessageType(18);

    /// Returns the registry's name of the type, if the type is assigned.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            MessageType::DISCOVER => "DHCPDISCOVER",
            MessageType::OFFER => "DHCPOFFER",
            MessageType::REQUEST => "DHCPREQUEST",
            MessageType::DECLINE => "DHCPDECLINE",
            MessageType::ACK => "DHCPACK",
            MessageType::NAK => "DHCPNAK",
            MessageType::RELEASE => "DHCPRELEASE",
            MessageType::INFORM => "DHCPINFORM",
            MessageType::FORCE_RENEW => "DHCPFORCERENEW",
            MessageType::LEASE_QUERY => "DHCPLEASEQUERY",
            MessageType::LEASE_UNASSIGNED => "DHCPLEASEUNASSIGNED",
            MessageType::LEASE_UNKNOWN => "DHCPLEASEUNKNOWN",
            MessageType::LEASE_ACTIVE => "DHCPLEASEACTIVE",
            MessageType::BULK_LEASE_QUERY => "DHCPBULKLEASEQUERY",
            MessageType::LEASE_QUERY_DONE => "DHCPLEASEQUERYDONE",
            MessageType::ACTIVE_LEASE_QUERY => "DHCPACTIVELEASEQUERY",
            MessageType::LEASE_QUERY_STATUS => "DHCPLEASEQUERYSTATUS",
            MessageType::TLS => "DHCPTLS",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// IANA, "DHCP Message Type 53 Values".
    #[test]
    fn names_types_as_the_registry_does() {
        for (value, name) in [
            (5, "DHCPACK"),
            (10, "DHCPLEASEQUERY"),
            (11, "DHCPLEASEUNASSIGNED"),
            (12, "DHCPLEASEUNKNOWN"),
            (13, "DHCPLEASEACTIVE"),
            (14, "DHCPBULKLEASEQUERY"),
            (15, "DHCPLEASEQUERYDONE"),
            (16, "DHCPACTIVELEASEQUERY"),
            (17, "DHCPLEASEQUERYSTATUS"),
            (18, "DHCPTLS"),
        ] {
            assert_eq!(MessageType(value).to_string(), name);
        }
        assert!((1..=18).all(|value| MessageType(value).name().is_some()));
    }

    #[test]
    fn shows_unassigned_types() {
        assert_eq!(MessageType(0).to_string(), "message type 0");
        assert_eq!(MessageType(19).to_string(), "message type 19");
    }
}
