//! The `blq` command against a server in the test: its queries, output and exit status.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use blq::Message;
use common::{
    BASE_TIME, Server, active, command, done, failed, full, next_start, run, stderr, stdout,
    unassigned,
};
use serde_json::{Value, json};

/// Returns the query that the command sends for these arguments.
fn query_of(arguments: &[&str]) -> Message {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = Server::start(move |mut peer| {
        let query = peer.read();
        peer.send(&[done(query.xid)]);
        sender.send(query).unwrap();
    });
    let output = run(server, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    receiver.recv().unwrap()
}

/// RFC 6926 section 7.2: the part of the query for each option of the command.
#[test]
fn sends_the_query_of_the_command_line() {
    let query = query_of(&[]);
    assert_eq!((query.htype, query.hlen, query.chaddr), (0, 0, [0; 16]));
    let codes: Vec<u8> = query.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 55]);

    let query = query_of(&["--mac", "02:00:00:00:00:0A", "--htype", "6"]);
    assert_eq!((query.htype, query.hlen), (6, 6));
    assert_eq!(query.chaddr[..6], [2, 0, 0, 0, 0, 10]);

    let query = query_of(&["--client-id", "0x0102", "--start", "-1h", "--all-vpns"]);
    assert_eq!(query.option(61), Some(vec![1, 2]));
    assert_eq!(query.option(154).map(|time| time.len()), Some(4));
    assert_eq!(query.option(221), Some(vec![254]));

    let query = query_of(&["--remote-id", "line-7", "--end", "258", "--vpn", "blue"]);
    assert_eq!(query.option(82), Some(b"\x02\x06line-7".to_vec()));
    assert_eq!(query.option(155), Some(vec![0, 0, 1, 2]));
    assert_eq!(query.option(221), Some(b"\0blue".to_vec()));

    let query = query_of(&["--relay-id", "01:02", "--options", "51,host-name"]);
    assert_eq!(query.option(82), Some(vec![12, 2, 1, 2]));
    assert_eq!(query.option(55), Some(vec![51, 12, 152]));

    let query = query_of(&["--all", "--options=none", "--default-vpn"]);
    assert_eq!(query.option(55), None);
    assert_eq!(query.option(221), Some(vec![255]));

    let query = query_of(&["--vpn-rfc2685", "00005e00000007"]);
    assert_eq!(query.option(221), Some(vec![1, 0, 0, 0x5e, 0, 0, 0, 7]));
}

/// RFC 6926 section 7.3: a row for each binding, and the query-start-time of a later query.
#[test]
fn prints_bindings_in_a_table() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[full(xid), unassigned(xid, 8), done(xid)]);
    });
    let output = run(server, &[]);
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<Vec<&str>> = stdout(&output)
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            [
                "192.0.2.7",
                "ACTIVE",
                "02:00:00:00:00:07",
                "1h30m",
                "2023-11-14T22:12:00Z",
                "2023-11-14T22:13:00Z",
                "01:02:00:00:00:00:07",
                "line-7",
                "00:01",
                "blue",
                "e0",
            ],
            [
                "192.0.2.8",
                "AVAILABLE",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-"
            ],
        ]
    );
    let header = stdout(&output).lines().next().unwrap();
    assert!(header.starts_with("ADDRESS         STATE         MAC"));
    let start = stderr(&output)
        .trim_end()
        .strip_prefix("blq: 2 bindings; for what changes from now on: --start ")
        .unwrap();
    // The base-time of the first reply, less the time until its arrival.
    assert!(start.parse::<u32>().unwrap() < BASE_TIME);
}

/// RFC 6926 section 6.2.6: an answer up to query-end-time lacks later changes.
#[test]
fn continues_where_the_query_ended() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1), done(xid)]);
    });
    let output = run(server, &["--end", "1000"]);
    assert!(
        stderr(&output).ends_with("--start 1000\n"),
        "{}",
        stderr(&output)
    );
}

/// Each field of the reply has its name from the RFCs.
#[test]
fn prints_each_binding_as_a_json_object() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[full(xid), unassigned(xid, 8), done(xid)]);
    });
    let output = run(server, &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let objects: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        objects,
        [
            json!({
                "address": "192.0.2.7",
                "state": "ACTIVE",
                "message_type": "DHCPLEASEACTIVE",
                "htype": 1,
                "chaddr": "02:00:00:00:00:07",
                "client_id": "01020000000007",
                "lease_time": 5400,
                "renewal_time": 2700,
                "rebinding_time": 4725,
                "base_time": BASE_TIME,
                "start_time_of_state": 80,
                "client_last_transaction_time": 20,
                "lease_ends_at": "2023-11-14T23:43:20Z",
                "state_started_at": "2023-11-14T22:12:00Z",
                "client_last_transaction_at": "2023-11-14T22:13:00Z",
                "relay_agent_information": {
                    "circuit_id": "6530",
                    "remote_id": "6c696e652d37",
                    "relay_id": "0001",
                    "sub_options": {"9": "78"},
                    "hex": "010265300206 6c696e652d37 0c020001 090178".replace(' ', ""),
                },
                "vpn": {"name": "blue"},
                "data_source": "remote",
                "server_identifier": "192.0.2.1",
                "options": {"12": "686f7374"},
            }),
            json!({
                "address": "192.0.2.8",
                "state": "AVAILABLE",
                "message_type": "DHCPLEASEUNASSIGNED",
                "base_time": BASE_TIME,
                // RFC 6926 section 7.3: from the first reply.
                "server_identifier": "192.0.2.1",
            }),
        ]
    );
}

/// RFC 6926 section 7.3: an empty answer is no error.
#[test]
fn succeeds_with_an_empty_answer() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[done(xid)]);
        // RFC 6926 section 7.8: the requester closes gracefully.
        peer.wait_for_close().unwrap();
    });
    let output = run(server, &["--remote-id", "nobody"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).ends_with(
            "blq: 0 bindings; no --start for what changes from now on: the server sent no \
             base-time\n"
        ),
        "{}",
        stderr(&output)
    );
}

/// RFC 6926 section 8.3 item 2: after an empty answer, a later query starts at the base-time of the
/// DHCPLEASEQUERYDONE, less the time until its arrival.
#[test]
fn continues_after_an_empty_answer() {
    for arguments in [&["--start", "1600000000"][..], &["--json"]] {
        let server = Server::start(|mut peer| {
            let xid = peer.read().xid;
            peer.send(&[done(xid).with(152, BASE_TIME.to_be_bytes())]);
        });
        let output = run(server, arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(stderr(&output).contains("blq: 0 bindings; "));
        let start = next_start(&output).unwrap();
        assert!((BASE_TIME - 60..BASE_TIME).contains(&start), "{start}");
    }
}

/// A base-time of the DHCPLEASEQUERYDONE before that of the first reply is the time at which the server
/// began. With any other one, the server began before the first reply.
#[test]
fn continues_from_the_begin_of_the_answer() {
    let continued = |base_time: Option<u32>| {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            let mut done = done(xid);
            if let Some(time) = base_time {
                done = done.with(152, time.to_be_bytes());
            }
            peer.send(&[active(xid, 1), unassigned(xid, 2), done]);
        });
        next_start(&run(server, &[])).unwrap()
    };
    assert_eq!(continued(Some(BASE_TIME - 500)), BASE_TIME - 500);
    for base_time in [None, Some(BASE_TIME), Some(BASE_TIME + 500)] {
        let start = continued(base_time);
        assert!((BASE_TIME - 60..BASE_TIME).contains(&start), "{start}");
    }
}

/// RFC 6926 section 7.1: a terminated query can be sent again with the same start; a refused one cannot
/// succeed.
#[test]
fn repeats_the_start_of_a_terminated_query() {
    for (code, bindings, expected) in [
        (
            2,
            1,
            "blq: server: QueryTerminated (2): reload\n\
             blq: 1 binding received before that: the answer is not complete\n\
             blq: for the same again: --start 1600000000\n",
        ),
        (
            2,
            0,
            "blq: server: QueryTerminated (2): reload\n\
             blq: for the same again: --start 1600000000\n",
        ),
        (3, 0, "blq: server: MalformedQuery (3): reload\n"),
    ] {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            let mut messages = vec![active(xid, 1); bindings];
            messages.push(failed(xid, code, "reload").with(152, BASE_TIME.to_be_bytes()));
            peer.send(&messages);
        });
        let output = run(server, &["--start", "1600000000"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), expected);
    }
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1)]);
    });
    let output = run(server, &["--start", "1600000000"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).ends_with("blq: for the same again: --start 1600000000\n"),
        "{}",
        stderr(&output)
    );
}

/// RFC 6926 section 6.2.2: the status message is for the user.
#[test]
fn fails_with_the_servers_status_text() {
    let not_allowed = "blq: likely cause: the server does not allow this requester the query type \
                       (`query-types` of its entry in `requesters`)\n";
    for (code, name, causes) in [
        (1, "UnspecFail (1)", ""),
        (2, "QueryTerminated (2)", ""),
        (3, "MalformedQuery (3)", ""),
        (4, "NotAllowed (4)", not_allowed),
        (99, "unassigned (99)", ""),
    ] {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            peer.send(&[failed(xid, code, "start is after end")]);
        });
        let output = run(server, &["--json"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stdout(&output), "");
        assert_eq!(
            stderr(&output),
            format!("blq: server: {name}: start is after end\n{causes}")
        );
    }
}

/// RFC 6926 sections 7.1 and 7.8: bindings before an early end are valid.
#[test]
fn prints_bindings_received_before_a_failure() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1), active(xid, 2), failed(xid, 2, "reload")]);
    });
    let output = run(server, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 2);
    assert_eq!(
        stderr(&output),
        "blq: server: QueryTerminated (2): reload\n\
         blq: 2 bindings received before that: the answer is not complete\n"
    );
}

/// RFC 6926 section 7.8: bindings before the connection breaks are valid.
#[test]
fn fails_when_the_connection_ends_early() {
    for octets in [0, 1, 2, 100] {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            peer.send(&[active(xid, 1)]);
            let frame = active(xid, 2).to_frame().unwrap();
            peer.stream.write_all(&frame[..octets]).unwrap();
        });
        let output = run(server, &["--json"]);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(stdout(&output).lines().count(), 1);
        assert!(
            stderr(&output).contains("the server closed the connection"),
            "{}",
            stderr(&output)
        );
    }
}

/// RFC 6926 section 7.3: an xid that matches no query closes the connection.
#[test]
fn fails_on_an_unknown_xid() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1), active(xid.wrapping_add(1), 2), done(xid)]);
    });
    let output = run(server, &["--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stderr(&output).contains("no query in progress"));
}

/// RFC 6926 section 7.3: BULK_LQ_DATA_TIMEOUT is configurable.
#[test]
fn fails_after_the_timeout_of_a_silent_server() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.wait_for_close().unwrap();
    });
    let output = run(server, &["--timeout", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("the server sent nothing for 1 s"));
}

/// A wrong command line has a separate exit status, and sends no query.
#[test]
fn refuses_wrong_command_lines() {
    for arguments in [
        &["--mac", "02:00", "--all"][..],
        &["--start", "tomorrow"],
        &["--remote-id", ""],
        &["--options", "no-such-option"],
        &["--remote-id", &"x".repeat(256)],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_blq"))
            .arg("127.0.0.1")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn fails_without_a_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let output = Command::new(env!("CARGO_BIN_EXE_blq"))
        .args(["127.0.0.1", "--port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).starts_with("blq: 127.0.0.1: cannot connect: "));
}

/// Starts the command with pipes for its output.
fn spawn(server: &Server, arguments: &[&str]) -> Child {
    command(server, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Rows are written when they arrive, not at the end of the answer.
#[test]
fn prints_a_binding_before_the_next_one_arrives() {
    let (seen, wait_until_seen) = std::sync::mpsc::channel::<()>();
    let server = Server::start(move |mut peer| {
        let xid = peer.read().xid;
        let mut messages = active(xid, 1).to_frame().unwrap();
        // Part of the next message has arrived, too.
        messages.extend(&done(xid).to_frame().unwrap()[..50]);
        peer.stream.write_all(&messages).unwrap();
        wait_until_seen.recv().unwrap();
        peer.stream
            .write_all(&done(xid).to_frame().unwrap()[50..])
            .unwrap();
    });
    let mut child = spawn(&server, &["--json"]);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert!(line.contains("192.0.2.1"), "{line}");
    seen.send(()).unwrap();
    assert!(child.wait().unwrap().success());
    server.join();
}

/// `blq ... | head -1` ends without an error message, also with more replies to arrive.
#[test]
fn ends_quietly_when_its_output_is_closed() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        let frame = active(xid, 1).to_frame().unwrap();
        // Until the requester closes the connection.
        while peer.stream.write_all(&frame).is_ok() {}
    });
    let mut child = spawn(&server, &[]);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(rest, "");
    server.join();
}
