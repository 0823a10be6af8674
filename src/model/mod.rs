//! The model of lease data: bindings, clients, states, times and VPNs.

pub mod address;
pub mod binding;
pub mod client;
pub(crate) mod hex;
pub mod option;
pub mod relay_agent_information;
pub mod state;
pub mod time;
pub mod vpn;
