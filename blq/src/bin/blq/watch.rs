//! `blq --watch`: all bindings, then each change as it happens.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use blq::cli::Args;
use blq::watch::{Event, Failure, Stopper};
use blq::{Tls, Watch, active};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::causes::{self, Circumstances};
use crate::cells::utc;
use crate::connect::connect;
use crate::output::Output;
use crate::{EXIT_CONNECTION, EXIT_OUTPUT, EXIT_SERVER, count, report, report_hidden};

/// Watches a server until a signal or the close of standard output, and returns the exit status.
pub fn run(args: Args, tls: Option<Tls>) -> u8 {
    let mut output = Output::new(&args);
    let args = Arc::new(args);
    let connecting = Arc::clone(&args);
    let watch = Watch::new(
        move || connect(&connecting, tls.as_ref()),
        args.watch_settings(),
    );
    let is_closed = Arc::new(AtomicBool::new(false));
    if let Err(error) = stop_on_signals(watch.stopper()) {
        report(format_args!("signals cannot be received: {error}"));
        return EXIT_OUTPUT;
    }
    stop_on_closed_output(watch.stopper(), Arc::clone(&is_closed));
    let mut session = Session {
        args: &args,
        watch,
        last_failure: String::new(),
        has_started: false,
    };
    let result = session.run(&mut output);
    session.end(result, &mut output, is_closed.load(Ordering::SeqCst))
}

/// A watch and its reports.
struct Session<'a> {
    /// The command line.
    args: &'a Args,
    /// The watch.
    watch: Watch,
    /// The last failure that was reported with its causes.
    last_failure: String,
    /// Whether the beginning of the changes was reported.
    has_started: bool,
}

/// The end of a watch.
enum End {
    /// The watch has failed.
    Watch(Failure),
    /// Standard output could not be written.
    Output(io::Error),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Watch(failure)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Output(error)
    }
}

impl Session<'_> {
    /// Writes bindings and reports other events until the watch ends. A row is written before the next
    /// event has to be waited for.
    fn run(&mut self, output: &mut Output) -> Result<(), End> {
        loop {
            let event = match self.watch.next_if_ready()? {
                Some(event) => event,
                None => {
                    output.flush()?;
                    match self.watch.next_event()? {
                        Some(event) => event,
                        None => return Ok(()),
                    }
                }
            };
            match event {
                Event::Binding(binding) => output.write(&binding)?,
                other => {
                    output.flush()?;
                    self.report(other);
                }
            }
        }
    }

    /// Reports an event on standard error.
    fn report(&mut self, event: Event) {
        match event {
            Event::Binding(_) | Event::Alive => {}
            Event::Answer { start, bindings } => match start {
                None => report(format_args!("{} at the beginning", count(bindings))),
                Some(start) => report(format_args!(
                    "{} changed since {}",
                    count(bindings),
                    utc(start.into())
                )),
            },
            Event::CaughtUp { start } => {
                let since = utc(start.into());
                report(format_args!(
                    "all changes since {since} are shown; from now on each one as it happens"
                ));
                self.last_failure.clear();
                self.has_started = true;
            }
            Event::DataMissing { start, end } => {
                let at = |time: Option<u32>| time.map_or("?".into(), |time| utc(time.into()));
                report(format_args!(
                    "the server lacks the order of changes from {} to {} (DataMissing): they are \
                     queried by Bulk Leasequery",
                    at(start),
                    at(end)
                ));
            }
            Event::Status(status) => report(format_args!("server: {status}")),
            Event::Lost { failure, retry } => {
                self.report_failure(&failure, "active query", &again(retry));
            }
            Event::Unanswered { failure, retry } => {
                self.report_failure(&failure, "bulk query", &again(retry));
            }
            Event::NoActive { failure, interval } => {
                let then = format!(
                    "no Active Leasequery with this server: changes are queried every {} s",
                    interval.as_secs()
                );
                self.report_failure(&failure, "active query", &then);
                report(
                    "likely cause: Active Leasequery is not enabled there, not without TLS (--tls), or \
                     not for this requester",
                );
            }
        }
    }

    /// Reports a failure, with its causes unless it repeats the last one.
    fn report_failure(&mut self, failure: &Failure, query: &str, then: &dyn Display) {
        let host = &self.args.server.host;
        let message = failure.to_string();
        report(format_args!("{host}: {query}: {message}; {then}"));
        if message != self.last_failure {
            self.report_causes(failure);
            self.last_failure = message;
        }
    }

    /// Reports the likely causes of a failure.
    fn report_causes(&self, failure: &Failure) {
        let mut circumstances = Circumstances {
            port: self.args.port(),
            replied: self.has_started,
            ..Circumstances::default()
        };
        let causes = match failure {
            Failure::Connection(error) => causes::causes(error, circumstances),
            Failure::Active(active::Error::Connection { error, has_reply }) => {
                circumstances.replied = *has_reply;
                causes::causes(error, circumstances)
            }
            Failure::Refused(status) => causes::causes_of_status(status.code).map(Into::into),
            Failure::Active(active::Error::Closed { .. })
            | Failure::Ended(_)
            | Failure::NoBaseTime => None,
        };
        if let Some(causes) = causes {
            report(format_args!("likely cause: {causes}"));
        }
    }

    /// Reports the end, and returns the exit status.
    fn end(mut self, result: Result<(), End>, output: &mut Output, is_closed: bool) -> u8 {
        let start = self.watch.start();
        let result = result.and_then(|()| Ok(output.flush()?));
        match result {
            // The reader of the pipe, such as `head`, needs no more output.
            Ok(()) if is_closed => 0,
            Err(End::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Ok(()) => {
                report_hidden(output);
                let bindings = count(output.bindings);
                match start {
                    Some(start) => report(format_args!("{bindings}; to go on: --start {start}")),
                    None => report(format_args!("{bindings}: the first answer is not complete")),
                }
                0
            }
            Err(End::Output(error)) => {
                report(format_args!("cannot write the answer: {error}"));
                EXIT_OUTPUT
            }
            Err(End::Watch(failure)) => {
                let _ = output.flush();
                self.report_failure(&failure, "query", &"the watch has ended");
                match failure {
                    Failure::Refused(_) | Failure::Ended(_) => EXIT_SERVER,
                    _ => EXIT_CONNECTION,
                }
            }
        }
    }
}

/// Returns the announcement of another attempt.
fn again(retry: Duration) -> String {
    match retry.as_secs() {
        0 => "trying again now".into(),
        seconds => format!("trying again in {seconds} s"),
    }
}

/// Stops the watch at SIGINT or SIGTERM; a second signal ends the process at once.
fn stop_on_signals(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            if stopper.is_stopped() {
                // The usual exit status of a process that a signal has ended.
                std::process::exit(128 + signal);
            }
            stopper.stop();
        }
    })?;
    Ok(())
}

/// Stops the watch when the reader of standard output closes its pipe, though no change occurs.
fn stop_on_closed_output(stopper: Stopper, is_closed: Arc<AtomicBool>) {
    let wait = move || {
        let stdout = io::stdout();
        let mut output = [PollFd::new(&stdout, PollFlags::empty())];
        let closed = PollFlags::ERR | PollFlags::HUP;
        loop {
            match poll(&mut output, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) if output[0].revents().intersects(closed) => break,
                _ => return,
            }
        }
        is_closed.store(true, Ordering::SeqCst);
        stopper.stop();
    };
    // Without the thread, the next row finds the pipe closed.
    let _ = thread::Builder::new().spawn(wait);
}
