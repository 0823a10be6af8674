//! The command line as a whole: a query, or a subcommand.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args as _, Command, CommandFactory, FromArgMatches};

use super::advice::advise;
use super::{Args, StatusArgs};

/// The name of the subcommand [`StatusArgs`].
const STATUS: &str = "status";

/// The request of a command line.
#[derive(Debug)]
pub enum Invocation {
    /// A query.
    Query(Box<Args>),
    /// The state of a server.
    Status(StatusArgs),
}

impl Invocation {
    /// Returns the arguments of a query; `None` if the command line asks for something else.
    pub fn query(self) -> Option<Args> {
        match self {
            Invocation::Query(args) => Some(*args),
            Invocation::Status(_) => None,
        }
    }
}

/// Returns the definition of the command line.
pub fn command() -> Command {
    let status = StatusArgs::augment_args(Command::new(STATUS)).max_term_width(100);
    Args::command()
        .subcommand(status)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
}

/// Reads a command line, the name of the program first.
///
/// # Errors
/// The command line is wrong, or asks for help or the version; `clap::Error::exit` prints the error.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(line).map_err(advise)?;
    if let Some((STATUS, matches)) = matches.subcommand() {
        return StatusArgs::from_arg_matches(matches).map(Invocation::Status);
    }
    let args = Args::from_arg_matches(&matches)?;
    match args.check() {
        Ok(()) => Ok(Invocation::Query(Box::new(args))),
        Err(reason) => Err(command().error(ErrorKind::ValueValidation, reason)),
    }
}
