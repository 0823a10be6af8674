//! The rows of the tables, by the servers that they need: a Kea with both hooks, the library alone,
//! or Keas with and without the hook.

pub mod active;
pub mod active_service;
pub mod alone;
pub mod before;
pub mod exchange;
pub mod queries;
pub mod recent;
pub mod service;
pub mod stalled;
pub mod startup;
pub mod tls;
pub mod udp;

use std::fmt;

use clap::ValueEnum;

use crate::support::leases::Leases;

/// A measurement that can be made by itself (`--only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// A relay-id query returning a tenth of the leases
    RelayId,
    /// All configured addresses
    All,
    /// Four connections at once
    Connections,
    /// One-binding queries
    One,
    /// The storm of queries after a reset
    Storm,
    /// Delta queries; needs no Kea
    Delta,
    /// Queries for a relay agent's recent changes; needs no Kea
    Recent,
    /// Memory, without Kea and in Kea
    Memory,
    /// Loading the mirror, and the start of Kea
    Loading,
    /// Applying changes while queries stream; needs no Kea
    Changes,
    /// Processor time of Kea for each DHCP exchange
    Exchange,
    /// DHCP service at saturation
    Service,
    /// Readers that stop reading
    Stalled,
    /// Queries over UDP, and floods of them; needs a Kea that has a hook of its own
    Udp,
    /// Changes to active requesters; needs no Kea
    Active,
    /// DHCP exchanges with active requesters connected
    ActiveService,
    /// Queries over TLS, and handshakes; needs no Kea
    Tls,
    /// Each measure at more and more leases; needs no Kea
    Growth,
}

impl Row {
    /// The rows measured without Kea, at several numbers of leases.
    pub const ALONE: [Row; 5] = [
        Row::Growth,
        Row::Delta,
        Row::Recent,
        Row::Memory,
        Row::Changes,
    ];
    /// The rows measured in a Kea with both hooks.
    pub const BOTH_HOOKS: [Row; 6] = [
        Row::RelayId,
        Row::All,
        Row::Connections,
        Row::One,
        Row::Storm,
        Row::Stalled,
    ];
    /// The rows measured in Keas with and without the hook.
    pub const WITH_AND_WITHOUT: [Row; 4] = [Row::Memory, Row::Loading, Row::Exchange, Row::Service];
}

/// The extent of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The leases in Kea.
    pub leases: Leases,
    /// Measurements of each pair.
    pub rounds: u32,
    /// Starts of each pair.
    pub starts: u32,
    /// One-binding queries of each kind in a round.
    pub queries: u32,
    /// One-binding queries in a round to Kea's own hook, which is slow.
    pub keas_queries: u32,
    /// Changes applied.
    pub changes: u32,
    /// Seconds of DHCP service in a round.
    pub service_seconds: u32,
    /// Rounds of DHCP service.
    pub service_rounds: u32,
    /// DHCP exchanges a second at a rate that Kea can serve.
    pub exchange_rate: u32,
}

/// Prints the current step.
pub fn say(what: impl fmt::Display) {
    eprintln!("==> {what}");
}
