//! The formats of the `blq` command: columns, CSV, the summary in JSON, and tables on a terminal.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use common::{
    BASE_TIME, Server, active, answering, command, done, failed, full, next_start, run, stderr,
    stdout, unassigned,
};
use serde_json::{Value, json};

/// Returns a server that answers with one binding of every value and one of few.
fn two_bindings() -> Server {
    answering(|xid| vec![full(xid), unassigned(xid, 8), done(xid)])
}

// ------------ Columns and CSV -------------------------------------------------------------

#[test]
fn prints_the_columns_that_were_asked_for() {
    let output = run(
        two_bindings(),
        &["--columns", "circuit-id,address,host-name,lease-ends"],
    );
    let rows: Vec<Vec<&str>> = stdout(&output)
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["CIRCUIT-ID", "ADDRESS", "HOST-NAME", "LEASE-ENDS"],
            ["e0", "192.0.2.7", "host", "2023-11-14T23:43:20Z"],
            ["-", "192.0.2.8", "-", "-"],
        ]
    );
    let output = run(two_bindings(), &["--columns", "mac", "--no-header"]);
    assert_eq!(stdout(&output), "02:00:00:00:00:07\n-\n");
}

/// Options that were asked for have columns, without --columns too.
#[test]
fn prints_options_that_were_asked_for() {
    let output = run(two_bindings(), &["--options", "+12,157,250"]);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines[0].ends_with(" CIRCUIT-ID           HOST-NAME            SOURCE     OPTION-250"));
    assert!(
        lines[1].ends_with(" blue       e0                   host                 remote     -")
    );
}

#[test]
fn writes_comma_separated_values() {
    let output = run(two_bindings(), &["--csv"]);
    assert_eq!(
        stdout(&output),
        "address,state,mac,lease-left,since,last-transaction,client-id,remote-id,relay-id,vpn,\
         circuit-id\n\
         192.0.2.7,ACTIVE,02:00:00:00:00:07,5400,2023-11-14T22:12:00Z,2023-11-14T22:13:00Z,\
         01:02:00:00:00:00:07,line-7,00:01,blue,e0\n\
         192.0.2.8,AVAILABLE,,,,,,,,,\n"
    );
    assert!(next_start(&output).is_some());
    let output = run(
        two_bindings(),
        &["--csv", "--no-header", "--columns", "address"],
    );
    assert_eq!(stdout(&output), "192.0.2.7\n192.0.2.8\n");
}

/// RFC 4180 section 2: titles without rows, and quotation marks where a value needs them.
#[test]
fn quotes_values_that_need_it() {
    let output = run(
        answering(|xid| vec![done(xid)]),
        &["--csv", "--columns", "mac,12"],
    );
    assert_eq!(stdout(&output), "mac,host-name\n");
    let server = answering(|xid| {
        let binding = |name: &[u8]| active(xid, 1).with(12, name);
        vec![
            binding(b"a,b c"),
            binding(b"a\"b"),
            binding(b"=1+1"),
            binding(b"a\nb"),
            done(xid),
        ]
    });
    let output = run(server, &["--csv", "--no-header", "--columns", "host-name"]);
    assert_eq!(
        stdout(&output),
        "\"a,b c\"\n\"a\"\"b\"\n3d:31:2b:31\n61:0a:62\n"
    );
}

/// `blq --csv ... | head -1` ends without an error message.
#[test]
fn ends_quietly_when_the_reader_of_csv_has_enough() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        let frame = active(xid, 1).to_frame().unwrap();
        while peer.stream.write_all(&frame).is_ok() {}
    });
    let mut child = command(&server, &["--csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut error = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
    server.join();
}

// ------------ The summary in JSON ---------------------------------------------------------

/// Returns the last line of standard output as JSON.
fn last_object(output: &std::process::Output) -> Value {
    serde_json::from_str(stdout(output).lines().last().unwrap()).unwrap()
}

/// RFC 6926 section 8.3 item 2: the start of a query for later changes.
#[test]
fn ends_json_with_the_start_to_go_on_from() {
    let server = answering(|xid| {
        let done = done(xid).with(152, (BASE_TIME - 9).to_be_bytes());
        vec![active(xid, 1), done]
    });
    let output = run(server, &["--json", "--summary", "--start", "5"]);
    assert_eq!(stdout(&output).lines().count(), 2);
    assert_eq!(
        last_object(&output),
        json!({"summary": {
            "complete": true,
            "bindings": 1,
            "start": 5,
            "next_start": BASE_TIME - 9,
            "next_start_at": "2023-11-14T22:13:11Z",
        }})
    );
}

#[test]
fn ends_json_without_a_start_after_a_failure() {
    let server = answering(|xid| vec![active(xid, 1), failed(xid, 2, "reload")]);
    let output = run(server, &["--json", "--summary"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        last_object(&output),
        json!({"summary": {
            "complete": false,
            "bindings": 1,
            "error": "server: QueryTerminated (2): reload",
            "status": {"code": 2, "name": "QueryTerminated", "text": "reload"},
        }})
    );
    let output = run(
        answering(|xid| vec![active(xid, 1)]),
        &["--json", "--summary"],
    );
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(last_object(&output)["summary"]["complete"], false);
}

#[test]
fn prints_no_summary_unasked() {
    let output = run(
        answering(|xid| vec![active(xid, 1), done(xid)]),
        &["--json"],
    );
    assert_eq!(stdout(&output).lines().count(), 1);
}

/// A server without base-time: the same start misses nothing.
#[test]
fn repeats_the_start_of_a_query_without_base_time() {
    let server = answering(|xid| vec![done(xid)]);
    let output = run(server, &["--start", "1600000000"]);
    assert_eq!(next_start(&output), Some(1_600_000_000));
}

// ------------ Terminals -------------------------------------------------------------------

/// Runs the command with a terminal of this width as its standard output, and returns the lines on it
/// and standard error.
fn run_on_terminal(width: u16, server: Server, arguments: &[&str]) -> (Vec<String>, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let path = ptsname(&controller, Vec::new()).unwrap();
    let terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path.to_str().unwrap())
        .unwrap();
    let size = rustix::termios::Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size).unwrap();
    let mut command = command(&server, arguments);
    let child = command
        .stdout(Stdio::from(terminal))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command's end of the terminal must be the last one, so that reading ends with it.
    drop(command);
    let mut shown = Vec::new();
    // The system reports an error when the last process has closed the terminal.
    let _ = std::fs::File::from(controller).read_to_end(&mut shown);
    let output = child.wait_with_output().unwrap();
    server.join();
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8(shown).unwrap();
    let lines = shown.lines().map(|line| line.trim_end().to_string());
    (lines.collect(), stderr(&output).to_string())
}

#[test]
fn fits_the_table_to_the_terminal() {
    for width in [40, 80, 120, 200, 300] {
        let server = answering(|xid| {
            let long = active(xid, 9).with(82, *b"\x01\x1ea-circuit-id-of-thirty-octets-\x02\x01r");
            vec![full(xid), long, done(xid)]
        });
        let (lines, error) = run_on_terminal(width, server, &[]);
        assert_eq!(lines.len(), 3);
        for line in &lines {
            assert!(line.chars().count() <= width.into(), "{width}: {line}");
        }
        assert_eq!(error.contains("not shown"), width < 200, "{width}: {error}");
        assert_eq!(
            lines[2].contains('\u{2026}'),
            (80..300).contains(&width),
            "{}",
            lines[2]
        );
    }
}

#[test]
fn names_the_columns_for_which_the_terminal_has_no_room() {
    let (lines, error) = run_on_terminal(80, two_bindings(), &["--options", "+12"]);
    let titles: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        titles,
        [
            "ADDRESS",
            "STATE",
            "MAC",
            "REMOTE-ID",
            "CIRCUIT-ID",
            "HOST-NAME"
        ]
    );
    let not_shown = "not shown, for want of width: vpn, last-transaction, relay-id, since, \
                     client-id, lease-left; --columns selects, --csv shows all";
    assert!(error.contains(not_shown), "{error}");
}

/// A pipe has no width: nothing is hidden or cut.
#[test]
fn writes_whole_values_into_pipes() {
    let server = answering(|xid| {
        let remote_id = [b"\x02\xc8".as_slice(), &[b'r'; 200]].concat();
        vec![active(xid, 9).with(82, remote_id), done(xid)]
    });
    let output = run(server, &[]);
    assert!(stdout(&output).contains(&"r".repeat(200)));
    assert!(!stderr(&output).contains("not shown"));
}
