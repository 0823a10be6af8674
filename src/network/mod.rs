//! Kea's own configuration as far as leases depend on it: subnets, configured addresses,
//! VPNs, options.

mod configured;

pub use configured::{ConfiguredOption, Scope};
