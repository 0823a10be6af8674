//! The facts of the mirror that Kea does not keep, on disk.
//!
//! - [`flush_worker`]: the thread that writes changes.
//! - [`store`]: the state file.

pub mod flush_worker;
pub mod store;
