//! The DHCPv4 Bulk Leasequery requestor for the command line.

mod args;
mod json;
mod next_start;
mod table;
mod values;

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Instant;

use blq::{Binding, Connection, Error, Query, Reply, Status, StatusCode};
use clap::{CommandFactory, Parser};

use args::Args;
use next_start::NextStart;

/// The server ended the query with a status that is not Success.
const EXIT_SERVER: u8 = 1;
/// The command line makes no query.
const EXIT_USAGE: u8 = 2;
/// No connection, a lost one, or a server that does not keep to the protocol.
const EXIT_CONNECTION: u8 = 3;
/// The answer could not be written.
const EXIT_OUTPUT: u8 = 4;

/// Asks the server and shows what it answers.
fn main() -> ExitCode {
    let args = Args::parse();
    let query = args.query();
    if let Err(error) = query.to_bytes() {
        return usage(error);
    }
    let mut output = Output::new(&args);
    let result = ask(&args, &query, &mut output).and_then(|()| Ok(output.flush()?));
    match result {
        Ok(()) => {
            say(output.summary(&query));
            ExitCode::SUCCESS
        }
        // Who reads our output, `head` for one, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // What was received is valid however the answer ended (RFC 6926 section 7.8).
            let _ = output.flush();
            match &failure {
                Failure::Server(status) => say(format_args!("server: {status}")),
                Failure::Connection(error) => say(format_args!("{}: {error}", args.server)),
                Failure::Output(error) => say(format_args!("cannot write the answer: {error}")),
            }
            if output.bindings > 0 {
                say(format_args!(
                    "{} received before that: the answer is not complete",
                    count(output.bindings)
                ));
            }
            // Any later start would miss what the answer lacks. It is shown since `-1h` moves.
            if let Some(start) = query.start.filter(|_| failure.is_retryable()) {
                say(format_args!("for the same again: --start {start}"));
            }
            ExitCode::from(failure.exit_status())
        }
    }
}

/// Sends the query and writes each binding as it comes.
fn ask(args: &Args, query: &Query, output: &mut Output) -> Result<(), Failure> {
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
                output.next_start.note(binding.base_time, sent.elapsed());
                output.write(&binding)?;
            }
            Some(Reply::Done(done)) => {
                let elapsed = sent.elapsed();
                output.next_start.note_done(done.base_time, elapsed);
                return match done.failure() {
                    Some(status) => Err(Failure::Server(status.clone())),
                    None => Ok(()),
                };
            }
            None => return Ok(()),
        }
    }
}

/// Why there is no complete answer.
enum Failure {
    /// The server said so.
    Server(Status),
    /// The connection did not come about or did not last.
    Connection(Error),
    /// Standard output does not take it.
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

    /// What the process ends with.
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

/// Standard output, and what is remembered of an answer while it passes.
struct Output {
    /// Where rows go.
    out: BufWriter<StdoutLock<'static>>,
    /// JSON, not a table.
    json: bool,
    /// Bindings written.
    bindings: u64,
    /// Where a later query for what changed has to begin.
    next_start: NextStart,
}

impl Output {
    /// An output for an answer of which nothing has come yet.
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

    /// Shows what was written so far.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// What to say at the end of a complete answer.
    fn summary(&self, query: &Query) -> String {
        let bindings = count(self.bindings);
        match self.next_start.after(query.end) {
            Some(start) => format!("{bindings}; for what changes from now on: --start {start}"),
            None => bindings,
        }
    }
}

/// A number of bindings, in words.
fn count(bindings: u64) -> String {
    match bindings {
        1 => "1 binding".to_string(),
        n => format!("{n} bindings"),
    }
}

/// Says something to the user, beside the answer.
fn say(what: impl Display) {
    // There is nobody to tell that standard error is closed.
    let _ = writeln!(io::stderr(), "blq: {what}");
}

/// Refuses a command line clap could not refuse.
fn usage(error: impl Display) -> ExitCode {
    let error = Args::command().error(clap::error::ErrorKind::ValueValidation, error);
    let _ = error.print();
    ExitCode::from(EXIT_USAGE)
}
