//! One query over UDP and its reply (RFC 4388).

use std::io;
use std::net::SocketAddr;

use blq::cli::Args;
use blq::udp::{Key, LeaseQuery, Reply, Requester};

use crate::causes::Circumstances;
use crate::connect::{addresses, no_address};
use crate::json::Summary;
use crate::output::Output;
use crate::{Failure, count, hints, report, report_hidden, report_with_causes};

/// Sends a query, prints the reply and returns the exit status.
pub fn run(args: &Args, query: &LeaseQuery) -> u8 {
    let mut output = Output::new(args);
    match answer(args, query, &mut output) {
        Ok(()) => 0,
        // A reader such as `head` has closed the pipe: it needs no more output.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(failure) => {
            let _ = write_summary(args, &mut output, Some(&failure));
            let circumstances = Circumstances {
                port: args.port(),
                ..Circumstances::default()
            };
            report_with_causes(args, &failure, circumstances);
            failure.exit_status()
        }
    }
}

/// Sends a query and writes the reply.
fn answer(args: &Args, query: &LeaseQuery, output: &mut Output) -> Result<(), Failure> {
    // A query goes to one server, and only addresses of several servers are more than one.
    let server = addresses(args)?
        .into_iter()
        .find_map(|server| match server {
            SocketAddr::V4(server) => Some(server),
            SocketAddr::V6(_) => None,
        });
    let server = server.ok_or_else(no_address)?;
    let requester = Requester::open(server, args.source, args.source_port())?;
    let reply = requester.query(query, args.reply_timeout())?;
    if let Reply::Binding(binding) = &reply {
        output.write(binding)?;
    }
    output.complete()?;
    write_summary(args, output, None)?;
    report_hidden(output);
    if let Reply::Unknown(_) = reply {
        report(match &query.key {
            Key::Address(address) => {
                format!("{address} is unknown to the server (DHCPLEASEUNKNOWN)")
            }
            _ => "the server has no active lease of this client (DHCPLEASEUNKNOWN)".to_string(),
        });
        for hint in hints::udp_hints(args) {
            report(format_args!("hint: {hint}"));
        }
    }
    report(count(output.bindings));
    Ok(())
}

/// Writes the object about the answer, if the command line asks for it.
fn write_summary(args: &Args, output: &mut Output, failure: Option<&Failure>) -> io::Result<()> {
    if !args.summary {
        return Ok(());
    }
    output.write_summary(&Summary {
        complete: failure.is_none(),
        bindings: output.bindings,
        start: None,
        next_start: None,
        next_start_at: None,
        error: failure.map(Failure::to_string),
        status: None,
    })
}
