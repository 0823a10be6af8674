//! Numbers and layouts of DHCPv4 leasequery, shared by the plugin and by `blq`.
//!
//! The crate holds facts of the RFCs and the IANA registries; it does no I/O and has no codec for
//! messages. The plugin and `blq` have one each, written independently, so that each tests the
//! other.
//!
//! - [`message`]: fixed fields of a message, framing for TCP, limits.
//! - [`MessageType`]: values of dhcp-message-type.
//! - [`option`]: option codes, and the lengths that values may have.
//! - [`sub_option`]: sub-options of relay-agent-information.
//! - [`State`]: values of dhcp-state.
//! - [`StatusCode`]: numbers in status-code.
//! - [`data_source`]: flags of data-source.
//! - [`Vss`]: virtual subnet selection, the one value that both sides encode and decode here.
//! - [`hardware_type`], [`port`], [`lease_time`], [`timing`]: single numbers.
//!
//! Numbers that a peer can send are newtypes with named constants rather than enums: a peer may
//! use a number that was assigned later, and it must remain possible to show that number.

#![forbid(unsafe_code)]

pub mod message;
mod message_type;
pub mod option;
mod state;
mod status;
pub mod sub_option;
mod vss;

pub use message_type::MessageType;
pub use option::Lengths;
pub use state::State;
pub use status::StatusCode;
pub use vss::{InvalidVss, Vss};

/// Flags of the data-source option (RFC 6926 section 6.2.8).
///
/// Unassigned bits must be ignored. Without the option, the source is local.
pub mod data_source {
    /// The most recent change of the binding took place on another server.
    pub const REMOTE: u8 = 0b0000_0001;
}

/// Hardware types: the values of htype (RFC 1700, ARP hardware types).
pub mod hardware_type {
    /// Ethernet; a hardware address has 6 octets.
    pub const ETHERNET: u8 = 1;
    /// InfiniBand; a hardware address has 20 octets and does not fit chaddr, so hlen is 0
    /// (RFC 4390 section 2.1).
    pub const INFINIBAND: u8 = 32;
}

/// UDP and TCP ports.
pub mod port {
    /// Servers and relay agents over UDP (RFC 2131 section 4.1), and the default of servers over TCP
    /// (RFC 6926 section 6.3, RFC 7724 section 5.3).
    pub const SERVER: u16 = 67;
    /// Clients over UDP (RFC 2131 section 4.1).
    pub const CLIENT: u16 = 68;
}

/// Values of dhcp-lease-time.
pub mod lease_time {
    /// The lease does not end (RFC 2131 section 3.3).
    pub const INFINITE: u32 = u32::MAX;
}

/// Parameters of connections with their recommended values, below which timeouts should not be
/// set.
pub mod timing {
    use std::time::Duration;

    /// BULK_LQ_DATA_TIMEOUT: maximum time that a connection may stay blocked while a peer reads or
    /// writes (RFC 6926 section 6.3).
    pub const BULK_LQ_DATA_TIMEOUT: Duration = Duration::from_secs(300);
    /// BULK_LQ_MAX_CONNS: connections that a server has open at the same time (RFC 6926 section
    /// 6.3).
    pub const BULK_LQ_MAX_CONNS: u32 = 10;
    /// ACTIVE_LQ_RCV_TIMEOUT: maximum time that a requester waits for any message on an active
    /// connection (RFC 7724 section 5.3).
    pub const ACTIVE_LQ_RCV_TIMEOUT: Duration = Duration::from_secs(120);
    /// ACTIVE_LQ_SEND_TIMEOUT: maximum time that a server may be blocked while it sends on an active
    /// connection (RFC 7724 section 5.3).
    pub const ACTIVE_LQ_SEND_TIMEOUT: Duration = Duration::from_secs(120);
    /// ACTIVE_LQ_IDLE_TIMEOUT: time without a message after which a server sends a
    /// DHCPLEASEQUERYSTATUS with ConnectionActive (RFC 7724 section 5.3).
    pub const ACTIVE_LQ_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
}
