//! The model: bindings, their clients, VPNs and times.

pub mod binding;
pub mod client;
pub(crate) mod hex;
pub mod time;
pub mod vpn;
