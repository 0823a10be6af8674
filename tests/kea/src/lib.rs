//! Runs a real kea-dhcp4, with or without the hook, for the tests in `tests/`.
//!
//! Each test's Kea serves on the loopback interface, with separate ports. Such tests need neither
//! privileges nor network namespaces, and run in parallel.
//! - [`Setup`]: a configuration to start a Kea with.
//! - [`Kea`]: a running server: its log, its commands, its restarts.
//! - [`BlockedMainThread`]: a server whose main thread is blocked.
//! - [`Relay`] and [`Client`]: a fake relay agent and the clients behind it.
//! - [`ask`]: queries to the hook.
//! - [`copy`]: requesters that keep a copy of a server's bindings (RFC 7724).
//! - [`Requester`]: queries over UDP.
//! - [`Host`]: a network of its own for Kea and others.
//! - [`Database`]: a database server for Kea's leases, reservations and configurations.
//! - [`StoredLease`]: a lease written to a database by SQL.
//! - [`Pair`]: two servers that are each other's high-availability partners.
//! - [`Link`]: the connection between partners, which can be recorded and cut.
//! - [`clock`]: the clock that Kea reads.
//! - [`packet`]: DHCPv4 messages, encoded independently of the code under test.
//! - [`tshark`]: messages decoded by tshark.
//! - [`Place`]: the addresses and ports of one test.
//! - [`storm`]: random actions on Kea, and comparisons of the hook's answers with Kea's leases.
//! - [`eventually`]: waits for a condition.

pub mod ask;
mod blocked;
pub mod clock;
mod control;
pub mod copy;
mod database;
mod ha;
mod kea;
mod link;
mod network;
pub mod packet;
mod place;
mod relay;
mod requester;
mod setup;
mod stored;
pub mod storm;
pub mod tshark;
mod wait;

pub use blocked::BlockedMainThread;
pub use database::{Database, Kind};
pub use ha::{Mode, Pair};
pub use kea::{Kea, Output, kea_version, run_daemon};
pub use link::Link;
pub use network::Host;
pub use place::Place;
pub use relay::{Client, Relay};
pub use requester::Requester;
pub use setup::{HOME, Setup, has_kea_library, hook_library, may_ping};
pub use stored::StoredLease;
pub use wait::{PATIENCE, eventually, eventually_some};
