//! The command line of the program `blq`.
//!
//! The definitions are part of the library, so that another program can generate a manual page or
//! completions from them ([`command`]).
//!
//! - [`parse`]: reads a command line, with advice on arguments that do not exist.
//! - [`Args`]: the arguments of a query, and the query that they describe.
//! - [`TlsArgs`], [`WatchArgs`]: parts of them.
//! - [`StatusArgs`]: the arguments of `blq status`.
//! - [`values`]: identifiers, times, lists of options.
//! - [`Mac`], [`Server`], [`Column`]: other values.

mod advice;
mod args;
mod column;
mod invocation;
mod mac;
mod server;
mod status;
mod tls;
pub mod values;
mod watch;

pub use args::Args;
pub use column::{Column, Columns};
pub use invocation::{Invocation, command, parse};
pub use mac::Mac;
pub use server::Server;
pub use status::StatusArgs;
pub use tls::TlsArgs;
pub use watch::WatchArgs;
