//! The DHCPv4 Bulk Leasequery requester for the command line.

mod json;
mod next_start;
mod table;

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Instant;

use blq::cli::Args;
use blq::{Binding, Connection, Error, Query, Reply, Status, StatusCode};
use clap::{CommandFactory, Parser};

use next_start::NextStart;

/// Exit status: the server ended the query with a status other than Success.
const EXIT_SERVER: u8 = 1;
/// Exit status: the command line is wrong.
const EXIT_USAGE: u8 = 2;
/// Exit status: no connection, a lost or silent one, or a server that violates the protocol.
const EXIT_CONNECTION: u8 = 3;
/// Exit status: the answer could not be written.
const EXIT_OUTPUT: u8 = 4;

/// Sends one query and prints the answer.
fn main() -> ExitCode {
    let args = Args::parse();
    let query = args.query();
    if let Err(error) = query.to_bytes() {
        return usage(error);
    }
    let mut output = Output::new(&args);
    let result = run(&args, &query, &mut output).and_then(|()| Ok(output.flush()?));
    match result {
        Ok(()) => {
            report(output.summary(&query));
            ExitCode::SUCCESS
        }
        // A reader such as `head` has closed the pipe: it needs no more output.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Bindings received before the failure are valid (RFC 6926 section 7.8).
            let _ = output.flush();
            match &failure {
                Failure::Server(status) => report(format_args!("server: {status}")),
                Failure::Connection(error) => report(format_args!("{}: {error}", args.server)),
                Failure::Output(error) => report(format_args!("cannot write the answer: {error}")),
            }
            if output.bindings > 0 {
                report(format_args!(
                    "{} received before that: the answer is not complete",
                    count(output.bindings)
                ));
            }
            // A later start would miss changes that the answer lacks. The absolute time is printed
            // since a relative one such as `-1h` moves.
            if let Some(start) = query.start.filter(|_| failure.is_retryable()) {
                report(format_args!("for the same again: --start {start}"));
            }
            ExitCode::from(failure.exit_status())
        }
    }
}

/// Sends the query and writes each binding as it arrives.
fn run(args: &Args, query: &Query, output: &mut Output) -> Result<(), Failure> {
    let server = (args.server.as_str(), args.port);
    let mut connection = Connection::open(server, &args.timeouts())?;
    let sent = Instant::now();
    connection.send(query)?;
    loop {
        if connection.may_wait() {
            output.flush()?;
        }
        match connection.next_reply()? {
            Some(Reply::Binding(binding)) => {
                output
                    .next_start
                    .record_reply(binding.base_time, sent.elapsed());
                output.write(&binding)?;
            }
            Some(Reply::Done(done)) => {
                let elapsed = sent.elapsed();
                output.next_start.record_done(done.base_time, elapsed);
                return match done.failure() {
                    Some(status) => Err(Failure::Server(status.clone())),
                    None => Ok(()),
                };
            }
            None => return Ok(()),
        }
    }
}

/// The reason why the answer is incomplete.
enum Failure {
    /// The server ended the query with a status other than Success.
    Server(Status),
    /// No connection could be established, or it failed.
    Connection(Error),
    /// Writing to standard output failed.
    Output(io::Error),
}

impl Failure {
    /// Whether the query may succeed when sent again (RFC 6926 section 7.1).
    fn is_retryable(&self) -> bool {
        match self {
            Failure::Server(status) => status.code == StatusCode::QUERY_TERMINATED,
            Failure::Connection(_) | Failure::Output(_) => true,
        }
    }

    /// Returns the exit status of the process.
    fn exit_status(&self) -> u8 {
        match self {
            Failure::Server(_) => EXIT_SERVER,
            Failure::Connection(_) => EXIT_CONNECTION,
            Failure::Output(_) => EXIT_OUTPUT,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Connection(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// Standard output, and the summary of the answer written to it.
struct Output {
    /// Standard output.
    out: BufWriter<StdoutLock<'static>>,
    /// Whether the format is JSON rather than a table.
    json: bool,
    /// Number of bindings written.
    bindings: u64,
    /// The query-start-time of a later query for changes.
    next_start: NextStart,
}

impl Output {
    /// Returns the output of an answer without bindings.
    fn new(args: &Args) -> Output {
        Output {
            out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
            json: args.json,
            bindings: 0,
            next_start: NextStart::default(),
        }
    }

    /// Writes a binding.
    fn write(&mut self, binding: &Binding) -> io::Result<()> {
        if self.json {
            json::write(binding, &mut self.out)?;
        } else {
            if self.bindings == 0 {
                table::write_header(&mut self.out)?;
            }
            table::write(binding, &mut self.out)?;
        }
        self.bindings += 1;
        Ok(())
    }

    /// Writes buffered rows to standard output.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Returns the last line about a complete answer.
    fn summary(&self, query: &Query) -> String {
        let bindings = count(self.bindings);
        match self.next_start.after(query.end) {
            Some(start) => format!("{bindings}; for what changes from now on: --start {start}"),
            None => bindings,
        }
    }
}

/// Returns a number of bindings as text.
fn count(bindings: u64) -> String {
    match bindings {
        1 => "1 binding".to_string(),
        n => format!("{n} bindings"),
    }
}

/// Prints a message on standard error.
fn report(message: impl Display) {
    // If standard error is closed, no other place remains for the message.
    let _ = writeln!(io::stderr(), "blq: {message}");
}

/// Refuses a command line whose values fit no message.
fn usage(error: impl Display) -> ExitCode {
    let error = Args::command().error(clap::error::ErrorKind::ValueValidation, error);
    let _ = error.print();
    ExitCode::from(EXIT_USAGE)
}
