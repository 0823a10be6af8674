//! The C ABI and the bridge to Kea's C++; `cpp-shim/` is its other side.
//!
//! - [`exports`]: the functions Kea calls, each behind a guard.
//! - [`bridge`]: calls into Kea, with plain values.
//! - [`conversions`]: these values as events and leases; [`lease_taker`]: leases as C++ lends them.
//! - [`main_loop`]: slices of work on Kea's main loop.
//! - [`kea_log`]: Kea's log.
//!
//! Assumptions of these and of `cpp-shim/` about Kea are collected in `cpp-shim/SAFETY.md`.
//!
//! Unit tests run outside Kea, without its functions. So this folder is left out of test builds, as it is
//! without the feature `hook`.

pub mod bridge;
pub mod conversions;
pub mod exports;
pub mod kea_log;
pub mod lease_taker;
pub mod main_loop;
