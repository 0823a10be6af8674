//! The plugin: loading, configuring and unloading, and the work while a configuration is in force.
//!
//! - `service`: load, configure and unload.
//! - `instance`: the parts that run one configuration.
//! - `hand_over`: a mirror passed across a reload.
//! - `lease_events`, `attribution`: lease events by callouts and by the lease manager.
//! - [`required_callouts`]: the callouts that can be forgone.
//! - [`commands`]: the changes made by a control command.
//! - [`jobs`]: work in slices on Kea's main loop.
//! - [`state_file`]: where the state file may be.
//! - [`stored_relay`]: relay agent information stored by Kea.
//! - [`command_line`]: whether Kea only checks its configuration.

pub mod command_line;
pub mod commands;
pub mod jobs;
pub mod required_callouts;
pub mod state_file;
pub mod stored_relay;

#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod attribution;
#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod hand_over;
#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod instance;
#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod lease_events;
#[cfg(all(feature = "hook", not(test)))]
pub(crate) mod service;
