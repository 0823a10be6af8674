//! Jobs that run in ticks on Kea's main loop.
//!
//! - [`lease_reader`]: reading Kea's leases into a new mirror.
//! - [`resync`]: comparing the mirror with Kea's lease database; [`kea_database`]: the two that it compares.
//! - [`reservations`]: reading host reservations from databases.
//! - [`partner`]: following the state of high-availability relationships.

pub mod kea_database;
pub mod lease_reader;
pub mod partner;
pub mod reservations;
pub mod resync;
