//! Kea's configuration, restricted to the parts that affect leases: subnets, configured addresses,
//! VPNs, options.
//!
//! A [`KeaConfig`] is built at each reconfiguration and is immutable. Its source is Kea's
//! `config-get`, so that Kea itself applies defaults, inheritance and numbering. Options are read
//! separately in wire format, since their encoding depends on Kea's option definitions.
//!
//! - [`build`]: reads a configuration.
//! - [`config`]: the configuration and its lookups.
//! - [`layout`], [`json`]: the layout of `config-get`, and repairs of its text.
//! - [`configured`]: options and reservations that are read separately.
//! - [`hosts`], [`options`], [`ranges`], [`times`], [`vpn`], [`high_availability`],
//!   [`lease_query_hook`]: parts of a configuration.
//! - [`ignored_vpns`](mod@ignored_vpns): declarations of VPNs that have no effect.
//! - [`difference`]: the leases whose replies differ between two configurations.

mod build;
mod config;
mod configured;
mod difference;
mod digest;
mod error;
mod high_availability;
mod hosts;
mod ignored_vpns;
mod json;
mod layout;
mod lease_query_hook;
mod options;
mod ranges;
#[cfg(test)]
mod tests;
mod times;
mod vpn;

pub use config::{KeaConfig, Scopes, Subnet};
pub use configured::{ConfiguredOption, DatabaseReservation, Scope};
pub use difference::Difference;
pub use error::KeaConfigError;
pub use high_availability::{Allocators, Serving, only_others_allocate};
pub use ignored_vpns::ignored_vpns;
pub use lease_query_hook::LeaseQueryHook;
pub use ranges::ConfiguredRange;
pub use times::TeeTimes;
