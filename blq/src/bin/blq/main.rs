//! The DHCPv4 Bulk and Active Leasequery requester for the command line.

mod causes;
mod cells;
mod connect;
mod hints;
mod json;
mod output;
mod since_file;
mod status;
mod table;
mod udp;
mod watch;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Instant;

use blq::cli::{self, Args, Invocation};
use blq::{Error, NextStart, Query, Reply, Status, StatusCode, Tls};

use causes::Circumstances;
use connect::connect;
use json::Summary;
use output::Output;
use since_file::SinceFile;

/// Exit status: the server ended the query with a status other than Success.
const EXIT_SERVER: u8 = 1;
/// Exit status: the command line is wrong, or the file of `--since-file` or a file of TLS cannot be used.
const EXIT_USAGE: u8 = 2;
/// Exit status: no connection, a lost or silent one, no reply over UDP, no UDP port for replies, or a
/// server that violates the protocol.
const EXIT_CONNECTION: u8 = 3;
/// Exit status: the answer, or the file of `--since-file`, could not be written.
const EXIT_OUTPUT: u8 = 4;

/// Sends one query and prints the answer, watches a server, or prints its state.
fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Invocation::Query(args)) => match args.lease_query() {
            Some(query) => ExitCode::from(udp::run(&args, &query)),
            None => run_over_tcp(*args),
        },
        Ok(Invocation::Status(args)) => ExitCode::from(status::run(&args)),
        Err(error) => error.exit(),
    }
}

/// Sends one query and prints the answer, or watches a server.
fn run_over_tcp(args: Args) -> ExitCode {
    let tls = match args.tls.read(&args.server.host) {
        Ok(tls) => tls,
        Err(error) => {
            report(format_args!("TLS: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if args.watch.watch {
        return ExitCode::from(watch::run(args, tls));
    }
    match Session::new(&args, tls) {
        Ok(session) => ExitCode::from(session.run()),
        Err(reason) => {
            report(reason);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// One query and its answer.
struct Session<'a> {
    /// The command line.
    args: &'a Args,
    /// The certificates of TLS, if the connection is encrypted.
    tls: Option<Tls>,
    /// The file of `--since-file`.
    since_file: Option<SinceFile>,
    /// The query.
    query: Query,
    /// Standard output.
    output: Output,
    /// The query-start-time of a later query for changes.
    next_start: NextStart,
    /// The server identifier of the replies.
    server_identifier: Option<Ipv4Addr>,
    /// Facts for the causes of an error.
    circumstances: Circumstances,
}

impl<'a> Session<'a> {
    /// Returns the session of a command line.
    ///
    /// # Errors
    /// The file of `--since-file` cannot be used.
    fn new(args: &'a Args, tls: Option<Tls>) -> Result<Session<'a>, String> {
        let mut query = args.query(args.start());
        let mut since_file = None;
        if let Some(path) = &args.since_file {
            let file = SinceFile::open(path, &args.server.host, args.port(), &query)
                .map_err(|reason| format!("{}: {reason}", path.display()))?;
            query.start = file.start();
            since_file = Some(file);
        }
        if let (Some(start), Some(end)) = (query.start, query.end) {
            if start > end {
                return Err(format!("the start, {start}, is after --end, {end}"));
            }
        }
        Ok(Session {
            output: Output::new(args),
            args,
            tls,
            since_file,
            query,
            next_start: NextStart::default(),
            server_identifier: None,
            circumstances: Circumstances {
                port: args.port(),
                ..Circumstances::default()
            },
        })
    }

    /// Runs the query and returns the exit status.
    fn run(mut self) -> u8 {
        let result = self.answer().and_then(|()| Ok(self.output.complete()?));
        let result = result.and_then(|()| {
            let next = self.next_start();
            self.write_summary(None, next)?;
            self.write_since_file(next)
        });
        match result {
            Ok(()) => {
                self.report_success();
                0
            }
            // A reader such as `head` has closed the pipe: it needs no more output.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.report_unchanged_file();
                0
            }
            Err(failure) => {
                self.report_failure(&failure);
                failure.exit_status()
            }
        }
    }

    /// Sends the query and writes each binding as it arrives.
    fn answer(&mut self) -> Result<(), Failure> {
        let mut connection = connect(self.args, self.tls.as_ref())?;
        let local = connection.socket().local_addr();
        self.circumstances.local = local.ok().map(|address| address.ip());
        let sent = Instant::now();
        connection.send(&self.query)?;
        loop {
            if connection.may_wait() {
                self.output.flush()?;
            }
            let Some(reply) = connection.next_reply()? else {
                return Ok(());
            };
            self.check_server(&reply)?;
            match reply {
                Reply::Binding(binding) => {
                    self.next_start
                        .record_reply(binding.base_time, sent.elapsed());
                    self.output.write(&binding)?;
                }
                Reply::Done(done) => {
                    self.next_start.record_done(done.base_time, sent.elapsed());
                    return match done.failure() {
                        Some(status) => Err(Failure::Server(status.clone())),
                        None => Ok(()),
                    };
                }
            }
        }
    }

    /// Records the server of a reply, and checks that it is that of the file of `--since-file`.
    fn check_server(&mut self, reply: &Reply) -> Result<(), Failure> {
        if !self.circumstances.replied {
            self.circumstances.replied = true;
            self.server_identifier = reply.server_identifier();
            if let (Some(file), Some(path)) = (&self.since_file, &self.args.since_file) {
                file.check_server(self.server_identifier)
                    .map_err(|reason| {
                        Failure::OtherServer(format!("{}: {reason}", path.display()))
                    })?;
            }
        }
        Ok(())
    }

    /// Returns the query-start-time of a later query, after a complete answer.
    fn next_start(&self) -> Option<u32> {
        self.next_start.after(self.query.start, self.query.end)
    }

    /// Writes the object about the answer, if the command line asks for it.
    fn write_summary(&mut self, failure: Option<&Failure>, next: Option<u32>) -> io::Result<()> {
        if !self.args.summary {
            return Ok(());
        }
        let status = match failure {
            Some(Failure::Server(status)) => Some(status.into()),
            _ => None,
        };
        let summary = Summary {
            complete: failure.is_none(),
            bindings: self.output.bindings,
            start: self.query.start,
            next_start: next,
            next_start_at: next.map(|seconds| cells::utc(seconds.into())),
            error: failure.map(Failure::to_string),
            status,
        };
        self.output.write_summary(&summary)
    }

    /// Writes the file of `--since-file` after a complete answer.
    fn write_since_file(&mut self, next: Option<u32>) -> Result<(), Failure> {
        let (Some(file), Some(path)) = (&self.since_file, &self.args.since_file) else {
            return Ok(());
        };
        let path = path.display();
        let Some(next) = next else {
            let reason = "the server sent no base-time to go on from";
            return Err(Failure::SinceFile(format!("{path}: not written: {reason}")));
        };
        // The bindings reach the disk first: a failure of the machine loses none.
        self.output.sync()?;
        file.write(next, self.server_identifier)
            .map_err(|error| Failure::SinceFile(format!("{path}: cannot be written: {error}")))
    }

    /// Reports a complete answer. The last line has the start of a later query.
    fn report_success(&self) {
        report_hidden(&self.output);
        if self.output.bindings == 0 {
            let now = self.next_start.base_time();
            for hint in hints::hints(self.args, self.query.start, now) {
                report(format_args!("hint: {hint}"));
            }
        }
        let bindings = count(self.output.bindings);
        match self.next_start() {
            Some(start) => report(format_args!(
                "{bindings}; for what changes from now on: --start {start}"
            )),
            None => report(format_args!(
                "{bindings}; no --start for what changes from now on: the server sent no base-time"
            )),
        }
    }

    /// Reports the reason why the answer is incomplete.
    fn report_failure(&mut self, failure: &Failure) {
        // Bindings received before the failure are valid (RFC 6926 section 7.8).
        let _ = self.output.flush();
        let is_complete = matches!(failure, Failure::SinceFile(_));
        if !is_complete {
            let _ = self.write_summary(Some(failure), None);
        }
        report_with_causes(self.args, failure, self.circumstances);
        if is_complete {
            return self.report_success();
        }
        if self.output.bindings > 0 {
            report(format_args!(
                "{} received before that: the answer is not complete",
                count(self.output.bindings)
            ));
        }
        self.report_unchanged_file();
        // A later start would miss changes that the answer lacks. The absolute time is printed
        // since a relative one such as `-1h` moves.
        let start = self.query.start.filter(|_| self.since_file.is_none());
        if let Some(start) = start.filter(|_| failure.is_retryable()) {
            report(format_args!("for the same again: --start {start}"));
        }
    }

    /// Reports that the file of `--since-file` is as before.
    fn report_unchanged_file(&self) {
        if let Some(path) = &self.args.since_file {
            let path = path.display();
            report(format_args!(
                "{path} is unchanged: the next run begins where this one did"
            ));
        }
    }
}

/// The reason why the answer is incomplete, or was not saved.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The server ended the query with a status other than Success.
    #[error("server: {0}")]
    Server(Status),
    /// No connection could be established, or it failed.
    #[error("{0}")]
    Connection(#[from] Error),
    /// A query over UDP has no reply.
    #[error("{0}")]
    Udp(#[from] blq::udp::Error),
    /// The server is not that of the file of `--since-file`.
    #[error("{0}")]
    OtherServer(String),
    /// Writing to standard output failed.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// The file of `--since-file` was not written after a complete answer.
    #[error("{0}")]
    SinceFile(String),
}

impl Failure {
    /// Whether the query may succeed when sent again (RFC 6926 section 7.1).
    fn is_retryable(&self) -> bool {
        match self {
            Failure::Server(status) => status.code == StatusCode::QUERY_TERMINATED,
            Failure::Connection(_) | Failure::Udp(_) | Failure::Output(_) => true,
            Failure::OtherServer(_) | Failure::SinceFile(_) => false,
        }
    }

    /// Returns the exit status of the process.
    fn exit_status(&self) -> u8 {
        match self {
            Failure::Server(_) => EXIT_SERVER,
            Failure::OtherServer(_) => EXIT_USAGE,
            Failure::Connection(_) | Failure::Udp(_) => EXIT_CONNECTION,
            Failure::Output(_) | Failure::SinceFile(_) => EXIT_OUTPUT,
        }
    }
}

/// Reports a failure and its likely causes.
fn report_with_causes(args: &Args, failure: &Failure, circumstances: Circumstances) {
    match failure {
        Failure::Connection(_) | Failure::Udp(_) => {
            report(format_args!("{}: {failure}", args.server.host));
        }
        _ => report(failure),
    }
    let causes = match failure {
        Failure::Connection(error) => causes::causes(error, circumstances),
        Failure::Udp(error) => causes::causes_of_udp(error, circumstances.port),
        Failure::Server(status) => causes::causes_of_status(status.code).map(Into::into),
        _ => None,
    };
    if let Some(causes) = causes {
        report(format_args!("likely cause: {causes}"));
    }
}

/// Reports the columns for which the terminal had no room.
fn report_hidden(output: &Output) {
    let hidden: Vec<_> = (output.hidden().iter())
        .map(|column| column.name())
        .collect();
    if output.bindings > 0 && !hidden.is_empty() {
        report(format_args!(
            "not shown, for want of width: {}; --columns selects, --csv shows all",
            hidden.join(", ")
        ));
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
