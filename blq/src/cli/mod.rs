//! The command line of the program `blq`.
//!
//! The definitions are part of the library, so that another program can generate a manual page or
//! completions from them (`Args` implements `clap::CommandFactory`).
//!
//! - [`Args`]: the arguments, and the query that they describe.
//! - [`values`]: the notations of their values.

mod args;
pub mod values;

pub use args::Args;
