//! The rows of the table, by what they need: a Kea with both hooks, the library alone, or Keas
//! with and without the hook.

pub mod alone;
pub mod queries;
pub mod service;
pub mod stalled;
pub mod startup;

use std::fmt;

use clap::ValueEnum;

use crate::leases::Leases;

/// What can be measured by itself (`--only`).
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
    /// Delta queries
    Delta,
    /// Memory
    Memory,
    /// Loading the mirror, and the start of Kea
    Loading,
    /// Applying changes while queries stream
    Changes,
    /// DHCP service
    Service,
    /// Readers that stop reading
    Stalled,
    /// Each measure at more and more leases
    Growth,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The leases in Kea.
    pub leases: Leases,
    /// How often each pair is measured.
    pub rounds: u32,
    /// How often each pair is started.
    pub starts: u32,
    /// One-binding queries of each kind in a round.
    pub queries: u32,
    /// The same of Kea's own hook, which takes its time.
    pub keas_queries: u32,
    /// Changes applied.
    pub changes: u32,
    /// Seconds for which DHCP clients come, each time.
    pub service_seconds: u32,
    /// How often they come to each.
    pub service_rounds: u32,
}

/// Says what is being done.
pub fn say(what: impl fmt::Display) {
    eprintln!("==> {what}");
}
