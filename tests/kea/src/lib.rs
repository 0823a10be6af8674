//! Drives a real kea-dhcp4, with or without the hook, for the tests in `tests/`.
//!
//! Kea serves on the loopback interface, on ports of its own, so that neither privileges nor
//! network namespaces are needed and tests run beside each other.
//! - [`Setup`]: a configuration to start a Kea with.
//! - [`Kea`]: a running server: its log, its commands, its restarts.
//! - [`Held`]: keeps Kea's main thread from doing anything.
//! - [`Relay`] and [`Client`]: a fake relay agent and the clients behind it.
//! - [`ask`]: queries to the hook.
//! - [`Database`]: a database server for Kea's leases, reservations and configurations.
//! - [`StoredLease`]: a lease that is put into a database by SQL.
//! - [`Pair`]: two servers that are each other's high-availability partners.
//! - [`Link`]: what the partners send each other, to be listened to and cut.
//! - [`clock`]: the clock that Kea reads.
//! - [`packet`]: DHCPv4 messages, encoded apart from the code under test.
//! - [`Place`]: the addresses and ports one test has to itself.
//! - [`storm`]: a randomised storm, and whether the hook is right all the time.
//! - [`eventually`]: waits for a condition.

pub mod ask;
pub mod clock;
mod control;
mod database;
mod ha;
mod held;
mod kea;
mod link;
pub mod packet;
mod place;
mod relay;
mod setup;
mod stored;
pub mod storm;
mod wait;

pub use database::{Database, Kind};
pub use ha::{Mode, Pair};
pub use held::Held;
pub use kea::{Kea, Output, kea_version, run_daemon};
pub use link::Link;
pub use place::Place;
pub use relay::{Client, Relay};
pub use setup::{HOME, Setup, has_kea_library, hook_library, may_ping};
pub use stored::StoredLease;
pub use wait::{PATIENCE, eventually, eventually_some};
