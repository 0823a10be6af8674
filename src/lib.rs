//! kea-blq: DHCPv4 Bulk Leasequery (RFC 6926), Active Leasequery (RFC 7724) and Leasequery over UDP (RFC 4388) for ISC Kea, as
//! a hook library.
//!
//! The lowest layer first; each folder depends only on folders above it in this list.
//! - [`model`]: bindings, clients, VPNs, times.
//! - [`wire`]: messages, options and their framing.
//! - [`kea_config`]: Kea's configuration, restricted to the parts that affect leases: subnets,
//!   configured addresses, VPNs, options.
//! - [`mirror`]: every binding, indexed by address, client, relay agent and time.
//! - [`persist`]: the state file.
//! - [`query`]: decodes a query and produces its replies.
//! - [`config`]: the hook's parameters.
//! - [`server`]: connections, limits and access.
//! - [`log`]: the log and its catalogue.
//! - [`plugin`]: load, configure, unload.
//! - `ffi`: the C ABI and the bridge to Kea's C++.
//!
//! `docs/architecture.md` has the glossary and the path of a lease from a callout to a frame.

pub mod config;
pub mod kea_config;
pub mod log;
pub mod mirror;
pub mod model;
pub mod persist;
pub mod plugin;
pub mod query;
pub mod server;
pub mod wire;

#[cfg(all(feature = "hook", not(test)))]
mod ffi;

/// The name by which test support, shared with the tests outside this crate, knows it.
#[cfg(test)]
extern crate self as dhcp_blq;
