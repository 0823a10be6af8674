//! `blq --watch` against a server in the test.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;

use common::tls::{Authority, agree, text};
use common::{
    Peer, Server, accept, active, at, command, done, failed, run, run_alone, start_of, status,
    stderr, stdout, unassigned,
};
use rustix::process::{Pid, Signal, kill_process};

/// A running command.
struct Running {
    /// The process.
    child: Child,
    /// Standard output.
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts the command.
    fn start(server: &Server, arguments: &[&str]) -> Running {
        let mut child = command(server, &[&["--watch"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// Reads a line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    /// Sends a signal.
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end. Returns the exit status and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

/// Answers the bulk query of a watch with two bindings, and accepts the active query.
fn begin(listener: &std::net::TcpListener) -> (Peer, u32) {
    let mut peer = accept(listener);
    let xid = peer.read().xid;
    let answer = at(done(xid), 500);
    peer.send(&[at(active(xid, 1), 501), at(unassigned(xid, 2), 501), answer]);
    let mut stream = accept(listener);
    let query = stream.read();
    assert_eq!(query.option(53), Some(vec![16]));
    assert_eq!(start_of(&query), Some(500));
    stream.send(&[status(query.xid, 7, "", 510)]);
    (stream, query.xid)
}

/// Each change is printed before the next one arrives; a signal ends the watch.
#[test]
fn prints_changes_as_they_happen() {
    for (signal, arguments) in [
        (Signal::INT, &["--csv", "--columns", "address,state"][..]),
        (Signal::TERM, &["--csv", "--columns", "address,state"]),
    ] {
        let (seen, wait_until_seen) = mpsc::channel::<()>();
        let server = Server::serve(move |listener| {
            let (mut stream, xid) = begin(&listener);
            for (last, time) in [(1, 520), (3, 530)] {
                stream.send(&[at(unassigned(xid, last), time)]);
                wait_until_seen.recv().unwrap();
            }
            stream.wait_for_close().unwrap();
        });
        let mut running = Running::start(&server, arguments);
        for expected in [
            "address,state",
            "192.0.2.1,ACTIVE",
            "192.0.2.2,AVAILABLE",
            "192.0.2.1,AVAILABLE",
        ] {
            assert_eq!(running.line(), expected);
        }
        seen.send(()).unwrap();
        assert_eq!(running.line(), "192.0.2.3,AVAILABLE");
        seen.send(()).unwrap();
        running.signal(signal);
        let (code, errors) = running.end();
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(
            errors,
            "blq: 2 bindings at the beginning\n\
             blq: all changes since 1970-01-01T00:08:20Z are shown; from now on each one as it happens\n\
             blq: 4 bindings; to go on: --start 530\n"
        );
        server.join();
    }
}

#[test]
fn prints_one_json_object_for_each_change() {
    let server = Server::serve(move |listener| {
        let mut stream = accept(&listener);
        let query = stream.read();
        assert_eq!(start_of(&query), Some(77));
        assert_eq!(query.option(221), Some(b"\0blue".to_vec()));
        assert_eq!(query.option(55), Some(vec![51, 152]));
        stream.send(&[common::full(query.xid)]);
        stream.wait_for_close().unwrap();
    });
    let arguments = [
        "--json",
        "--start",
        "77",
        "--vpn",
        "blue",
        "--options",
        "51",
    ];
    let mut running = Running::start(&server, &arguments);
    let object: serde_json::Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(object["address"], "192.0.2.7");
    assert_eq!(object["vpn"]["name"], "blue");
    running.signal(Signal::TERM);
    let (code, errors) = running.end();
    assert_eq!(code, Some(0), "{errors}");
    // The catch-up is not complete: the old start.
    assert_eq!(errors, "blq: 1 binding; to go on: --start 77\n");
    server.join();
}

/// `blq --watch ... | head -1` ends although no change follows.
#[test]
fn ends_quietly_when_its_output_is_closed() {
    let (begun, wait_until_begun) = mpsc::channel();
    let server = Server::serve(move |listener| {
        let (mut stream, _) = begin(&listener);
        begun.send(()).unwrap();
        stream.wait_for_close().unwrap();
    });
    let mut running = Running::start(&server, &["--json"]);
    running.line();
    wait_until_begun.recv().unwrap();
    running.out = BufReader::new(dummy());
    let (code, errors) = running.end();
    assert_eq!(code, Some(0));
    assert!(!errors.contains("cannot"), "{errors}");
    server.join();
}

/// Returns the output of a process that has ended.
fn dummy() -> ChildStdout {
    let mut child = std::process::Command::new("true")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    child.stdout.take().unwrap()
}

/// Lost connections and statuses are reported; the watch goes on.
#[test]
fn reports_lost_connections_and_goes_on() {
    let server = Server::serve(move |listener| {
        let (mut stream, xid) = begin(&listener);
        stream.send(&[status(xid, 99, "a text\x1b[2J", 520)]);
        stream.send(&[status(xid, 2, "reconfigured", 530)]);
        drop(stream);
        let mut stream = accept(&listener);
        let query = stream.read();
        assert_eq!(start_of(&query), Some(530));
        stream.send(&[status(query.xid, 5, "", 600)]);
        let mut bulk = accept(&listener);
        let query = bulk.read();
        assert_eq!(start_of(&query), Some(530));
        assert_eq!(common::end_of(&query), Some(600));
        bulk.send(&[at(active(query.xid, 9), 601), done(query.xid)]);
        stream.wait_for_close().unwrap();
    });
    let arguments = ["--csv", "--columns", "address", "--retry-interval", "1"];
    let mut running = Running::start(&server, &arguments);
    for expected in ["address", "192.0.2.1", "192.0.2.2", "192.0.2.9"] {
        assert_eq!(running.line(), expected);
    }
    running.signal(Signal::INT);
    let (code, errors) = running.end();
    assert_eq!(code, Some(0));
    for expected in [
        "blq: server: unassigned (99): a text\\u{1b}[2J\n",
        "blq: 127.0.0.1: active query: the server ended the query: QueryTerminated (2): \
         reconfigured; trying again ",
        "(DataMissing)",
        "blq: 3 bindings; to go on: --start ",
    ] {
        assert!(errors.contains(expected), "{errors}");
    }
    server.join();
}

/// A server without Active Leasequery, and the announcement.
#[test]
fn polls_a_server_without_active_leasequery() {
    let server = Server::serve(move |listener| {
        let mut peer = accept(&listener);
        let xid = peer.read().xid;
        peer.send(&[at(active(xid, 1), 501), at(done(xid), 500)]);
        accept(&listener).read();
        let mut peer = accept(&listener);
        let query = peer.read();
        assert_eq!(query.option(53), Some(vec![14]));
        assert_eq!(start_of(&query), Some(500));
        peer.send(&[at(active(query.xid, 2), 561), at(done(query.xid), 560)]);
        peer.wait_for_close().unwrap();
    });
    let arguments = [
        "--csv",
        "--no-header",
        "--columns",
        "address",
        "--poll-interval",
        "1",
    ];
    let mut running = Running::start(&server, &arguments);
    assert_eq!(running.line(), "192.0.2.1");
    assert_eq!(running.line(), "192.0.2.2");
    server.join();
    running.signal(Signal::INT);
    let (code, errors) = running.end();
    assert_eq!(code, Some(0));
    assert!(
        errors.contains("no Active Leasequery with this server: changes are queried every 1 s"),
        "{errors}"
    );
    assert!(errors.contains("--tls"), "{errors}");
}

#[test]
fn watches_over_tls() {
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let config = authority.server(&authority.issue(&["127.0.0.1"]), false);
    let server = Server::serve(move |listener| {
        let mut stream = agree(accept(&listener), &config);
        let query = stream.read();
        stream.send(&[at(active(query.xid, 1), 90), status(query.xid, 7, "", 100)]);
        // A signal ends TLS by close_notify; without it, reading would fail.
        assert!(stream.read_or_end().is_none());
    });
    let arguments = [
        "--csv",
        "--no-header",
        "--tls",
        "--ca",
        text(&ca),
        "--start",
        "1",
    ];
    let mut running = Running::start(&server, &arguments);
    assert!(running.line().starts_with("192.0.2.1,"));
    running.signal(Signal::TERM);
    let (code, errors) = running.end();
    assert_eq!(code, Some(0), "{errors}");
    server.join();
}

/// The exit status of a watch that cannot begin.
#[test]
fn fails_if_its_first_query_is_refused() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[failed(xid, 4, "")]);
    });
    let output = run(server, &["--watch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("NotAllowed (4)"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("`query-types`"));
    assert_eq!(stdout(&output), "");
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[common::tls::agreement(xid).with(151, [8])]);
    });
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let output = run(server, &["--watch", "--tls", "--ca", text(&ca)]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("TLSConnectionRefused (8)"));
}

/// RFC 7724 section 7.3: an active query has no key and no end.
#[test]
fn refuses_arguments_without_a_meaning_for_a_watch() {
    for arguments in [
        &["--mac", "02:00:00:00:00:01"][..],
        &["--client-id", "x"],
        &["--remote-id", "x"],
        &["--relay-id", "x"],
        &["--end", "5"],
        &["--since-file", "x"],
        &["--json", "--summary"],
    ] {
        let output = run_alone(&[&["127.0.0.1", "--watch"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let expected = "is possible without --watch only";
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    for arguments in [
        &["--watch", "--udp", "--address", "192.0.2.1"][..],
        &["--retry-interval", "5"],
        &["--poll-interval", "5"],
        &["--watch", "--retry-interval", "0"],
    ] {
        let output = run_alone(&[&["127.0.0.1"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
