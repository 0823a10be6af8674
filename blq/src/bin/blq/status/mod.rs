//! `blq status`: the state of the leasequery server of a Kea on this machine.

mod summary;

use std::io::{self, Write};

use blq::cli::StatusArgs;
use blq::status::{self, Status};

use crate::{EXIT_CONNECTION, EXIT_OUTPUT, report};

/// Prints the state, and returns the exit status of the process.
pub fn run(args: &StatusArgs) -> u8 {
    let text = match text(args) {
        Ok(text) => text,
        Err(error) => {
            report(format_args!("{}: {error}", args.socket.display()));
            return EXIT_CONNECTION;
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            report(format_args!("cannot write the answer: {error}"));
            EXIT_OUTPUT
        }
        _ => 0,
    }
}

/// Returns the text to print.
fn text(args: &StatusArgs) -> Result<String, status::Error> {
    let arguments = status::request(&args.socket)?;
    if args.json {
        return Ok(format!("{arguments:#}\n"));
    }
    let status = Status::read(arguments)?;
    Ok(match args.prometheus {
        true => status.metrics(),
        false => summary::text(&status),
    })
}
