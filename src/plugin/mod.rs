//! The plugin: loading, configuring and unloading, and the work while a configuration is in force.
//!
//! Kea is behind a trait, so all of this is built and tested without it. From the bottom up:
//! - [`kea`]: the DHCP server as the plugin sees it.
//! - `system`: calls of the C library.
//! - [`command_line`]: whether Kea only checks its configuration.
//! - [`required_callouts`]: the callouts that this library needs.
//! - `commands`: the changes that a control command of Kea makes.
//! - [`message`]: a client's message, and the events that it causes.
//! - `attribution`: which server made a change that the lease manager reports.
//! - `sink`: the destination of lease events.
//! - `lookup`: reads of Kea's lease database whose results go to the mirror.
//! - [`lease_events`]: lease events from Kea's callouts and lease manager.
//! - `state_file`: where the state file may be.
//! - `jobs`: work in ticks on Kea's main loop.
//! - `settings`: the library's parameters and Kea's configuration.
//! - `statistics`: the statistics of the plugin among those of Kea.
//! - `census_worker`: counts the bindings for `blq4-status`.
//! - `observed`: the parts of an instance that control commands read.
//! - `control`: the control commands of this library.
//! - `hand_over`: a mirror passed across a reload.
//! - `listener`: the listener, started or waiting to be.
//! - `udp`: queries over UDP.
//! - `instance`: the parts that serve one configuration.
//! - `life_cycle`: load, configure, unload, and ticks.

pub mod command_line;
pub mod kea;
pub mod lease_events;
pub mod message;
pub mod required_callouts;

mod attribution;
mod census_worker;
mod commands;
mod control;
mod hand_over;
mod instance;
mod jobs;
mod life_cycle;
mod listener;
mod lookup;
mod observed;
mod settings;
mod sink;
mod state_file;
mod statistics;
mod system;
mod udp;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod observation_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

pub use life_cycle::{Plugin, Refused};
pub use udp::Verdict;
