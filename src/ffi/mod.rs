//! The C ABI and the bridge to Kea's C++; `cpp-shim/` is its other side.
//!
//! From the bottom up:
//! - `bridge`: the functions of both sides, with plain values.
//! - `conversions`: these values as those of the rest of the crate.
//! - `main_loop`: ticks on Kea's main loop.
//! - `kea_log`: Kea's log.
//! - `kea`: the [`Kea`](crate::plugin::kea::Kea) of the plugin.
//! - `exports`: the functions that Kea calls, each behind a guard.
//!
//! Assumptions of these and of `cpp-shim/` about Kea are collected in `cpp-shim/SAFETY.md`.
//!
//! Unit tests run outside Kea, without its functions. So this folder is left out of test builds, as it is
//! without the feature `hook`.

mod bridge;
mod conversions;
mod exports;
mod kea;
mod kea_log;
mod main_loop;
