//! kea-blq: DHCPv4 Bulk Leasequery (RFC 6926) for ISC Kea, as a hook library.
//!
//! Host side: what Kea says.
//! - [`hook`]: the C ABI, the bridge to Kea's C++, its log; the only module that knows Kea exists.
//! - [`config`]: the hook's parameters.
//! - [`network`]: Kea's own configuration as far as leases depend on it: subnets, configured
//!   addresses, VPNs, options.
//! - [`event`]: leases and their changes as Kea reports them.
//! - `hex`: octets as Kea writes them in text.
//!
//! Lease data: what we know.
//! - [`binding`], [`client`], [`vpn`], [`time`]: the model.
//! - [`mirror`]: every binding, found by address, client, relay and time; and the state file.
//!
//! Network side: what we answer.
//! - [`wire`]: messages, options and their framing.
//! - [`query`]: from a query to its replies.
//! - [`server`]: connections, limits and access.

pub mod binding;
pub mod client;
pub mod config;
pub mod event;
mod hex;
pub mod hook;
pub mod mirror;
pub mod network;
pub mod query;
pub mod server;
pub mod time;
pub mod vpn;
pub mod wire;

/// The name by which test support, shared with the tests outside this crate, knows it.
#[cfg(test)]
extern crate self as dhcp_blq;
