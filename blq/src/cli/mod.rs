//! The command line of the program `blq`.
//!
//! The definitions are part of the library, so that another program can generate a manual page or
//! completions from them ([`Args`] implements [`clap::CommandFactory`]).
//!
//! - [`parse`]: reads a command line, with advice on arguments that do not exist.
//! - [`Args`]: the arguments, and the query that they describe.
//! - [`values`]: identifiers, times, lists of options.
//! - [`Mac`], [`Server`], [`Column`]: other values.

mod advice;
mod args;
mod column;
mod mac;
mod server;
pub mod values;

pub use advice::parse;
pub use args::Args;
pub use column::{Column, Columns};
pub use mac::Mac;
pub use server::Server;
