//! Shared by the benchmarks: generated leases, mirrors of them, queries for them.

pub mod leases;
pub mod mirror;
pub mod queries;
