//! The side that Kea sees: a hook library, and what Kea tells it.
//!
//! - `entry`: the functions Kea calls, each behind a guard.
//! - `bridge`: calls into Kea, with plain values; `cpp-shim/` is its other side.
//! - `values`: those values as events and leases; `lease_taker`: leases as C++ lends them.
//! - `service`: what loading, configuring and unloading do.
//! - `running`: what runs while a configuration is in force.
//! - [`lease_reading`]: Kea's leases read into a new mirror, turn by turn.
//! - `kept`: what it leaves for the next.
//! - `changes`, `tracking`: changes of leases on their way to the mirror, by callouts and by the
//!   lease manager.
//! - [`callouts`]: which callouts are needless.
//! - [`commands`]: what a control command changed.
//! - `main_thread`: turns on Kea's main thread.
//! - [`reconciler`]: the comparison with Kea's lease database, turn by turn.
//! - `reservations`: host reservations in databases, read turn by turn.
//! - [`partner`]: the state of a high-availability relationship.
//! - [`state_file`]: where the state file may be.
//! - [`stored_relay`]: relay agent information that Kea stored.
//! - [`command_line`]: whether Kea only checks its configuration.
//! - [`log`], `kea_log`, [`messages`]: the log and its catalogue.
//!
//! What these and `cpp-shim/` rely on of Kea is collected in `cpp-shim/SAFETY.md`.
//!
//! Unit tests run outside Kea, where its functions are not to be had. So whatever calls them is
//! left out of test builds, as it is without the feature `hook`.

pub mod callouts;
pub mod command_line;
pub mod commands;
pub mod lease_reading;
pub mod log;
pub mod messages;
pub mod partner;
pub mod reconciler;
pub mod state_file;
pub mod stored_relay;

#[cfg(all(feature = "hook", not(test)))]
mod bridge;
#[cfg(all(feature = "hook", not(test)))]
mod changes;
#[cfg(all(feature = "hook", not(test)))]
mod entry;
#[cfg(all(feature = "hook", not(test)))]
mod kea_log;
#[cfg(all(feature = "hook", not(test)))]
mod kept;
#[cfg(all(feature = "hook", not(test)))]
mod lease_taker;
#[cfg(all(feature = "hook", not(test)))]
mod main_thread;
#[cfg(all(feature = "hook", not(test)))]
mod reservations;
#[cfg(all(feature = "hook", not(test)))]
mod running;
#[cfg(all(feature = "hook", not(test)))]
mod service;
#[cfg(all(feature = "hook", not(test)))]
mod tracking;
#[cfg(all(feature = "hook", not(test)))]
mod values;
