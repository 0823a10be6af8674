//! `blq --udp` against a server in the test: its query, output and exit status.

mod common;

use std::net::UdpSocket;
use std::process::Output;

use blq::{Message, MessageType};
use common::udp::{REQUESTER, UdpServer, answering, reply, run_udp};
use common::{run_alone, stderr, stdout};
use serde_json::{Value, json};

/// Checks the exit status and parts of standard error.
fn assert_ends(output: &Output, status: i32, expected: &[&str]) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
    for expected in expected {
        assert!(
            stderr(output).contains(expected),
            "no `{expected}` in: {}",
            stderr(output)
        );
    }
}

/// Returns a DHCPLEASEACTIVE for 192.0.2.7 with options, and two other addresses of the client.
fn active(query: &Message) -> Message {
    let mut message = reply(query, MessageType::LEASE_ACTIVE, 7)
        .with(54, [192, 0, 2, 1])
        .with(51, 5400_u32.to_be_bytes())
        .with(82, *b"\x01\x02e0\x02\x06line-7")
        .with(91, 20_u32.to_be_bytes())
        .with(92, [192, 0, 2, 8, 192, 0, 2, 9]);
    (message.htype, message.hlen) = (1, 6);
    message.chaddr[..6].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
    message
}

/// Returns the query that the command sends for these arguments.
fn query_of(arguments: &[&str]) -> Message {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = answering(move |query| {
        sender.send(query.clone()).unwrap();
        reply(query, MessageType::LEASE_UNKNOWN, 7).with(221, *b"\0blue")
    });
    assert_ends(&run_udp(server, arguments), 0, &[]);
    receiver.recv().unwrap()
}

/// RFC 4388 section 6.2, RFC 6148 section 4.1, RFC 6607 section 5.2.
#[test]
fn sends_the_query_of_the_command_line() {
    let query = query_of(&["--address", "192.0.2.7", "--vpn", "blue"]);
    assert_eq!(query.message_type(), Some(MessageType::LEASE_QUERY));
    assert_eq!((query.op, query.giaddr), (1, REQUESTER));
    assert_eq!(query.ciaddr.octets(), [192, 0, 2, 7]);
    assert_eq!((query.htype, query.hlen, query.chaddr), (0, 0, [0; 16]));
    assert_eq!(query.option(221), Some(b"\0blue".to_vec()));
    let codes: Vec<u8> = query.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 55, 57, 221]);

    let query = query_of(&["--mac", "0200.0000.0007", "--options", "none"]);
    assert!(query.ciaddr.is_unspecified());
    assert_eq!((query.htype, query.hlen), (1, 6));
    assert_eq!(query.chaddr[..7], [2, 0, 0, 0, 0, 7, 0]);
    assert_eq!(query.option(55), None);

    let query = query_of(&["--client-id", "01:02", "--options", "51"]);
    assert_eq!(query.option(61), Some(vec![1, 2]));
    assert_eq!(query.option(55), Some(vec![51, 92]));

    let query = query_of(&["--remote-id", "line-7"]);
    assert_eq!(query.option(82), Some(b"\x02\x06line-7".to_vec()));
    assert!(query.option(55).unwrap().contains(&92));
}

/// RFC 4388 section 6.5: the message type is the state.
#[test]
fn prints_the_reply_in_a_table() {
    let output = run_udp(
        answering(active),
        &[
            "--mac",
            "0200.0000.0007",
            "--columns",
            "address,state,mac,lease-left,remote-id,92",
        ],
    );
    assert_ends(&output, 0, &["blq: 1 binding\n"]);
    let row: Vec<&str> = stdout(&output)
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        row,
        [
            "192.0.2.7",
            "ACTIVE",
            "02:00:00:00:00:07",
            "1h30m",
            "line-7",
            "192.0.2.8,192.0.2.9"
        ]
    );
    // A query by client may find several addresses.
    let output = run_udp(answering(active), &["--mac", "0200.0000.0007"]);
    assert!(
        stdout(&output).contains(" ASSOCIATED-IP\n"),
        "{}",
        stdout(&output)
    );
    assert!(!stderr(&output).contains("--start"), "{}", stderr(&output));

    let unassigned = |query: &Message| reply(query, MessageType::LEASE_UNASSIGNED, 7);
    let output = run_udp(
        answering(unassigned),
        &["--address", "192.0.2.7", "--no-header"],
    );
    assert_ends(&output, 0, &["blq: 1 binding\n"]);
    let row: Vec<&str> = stdout(&output).split_whitespace().collect();
    assert_eq!(row[..3], ["192.0.2.7", "UNASSIGNED", "-"]);
}

/// A query over UDP has an answer without bindings, too.
#[test]
fn reports_what_is_unknown_to_the_server() {
    let unknown = |query: &Message| reply(query, MessageType::LEASE_UNKNOWN, 7);
    for (arguments, expected) in [
        (
            ["--address", "192.0.2.7"],
            [
                "192.0.2.7 is unknown to the server",
                "hint: only the default VPN",
            ],
        ),
        (
            ["--remote-id", "0102"],
            ["no active lease of this client", "--remote-id 0x0102"],
        ),
    ] {
        let output = run_udp(answering(unknown), &arguments);
        assert_ends(&output, 0, &expected);
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).ends_with("blq: 0 bindings\n"));
    }
}

#[test]
fn prints_the_reply_as_json_and_csv() {
    let mac = ["--mac", "0200.0000.0007"];
    let output = run_udp(
        answering(active),
        &[&mac[..], &["--json", "--summary"]].concat(),
    );
    assert_ends(&output, 0, &[]);
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
                "lease_time": 5400,
                "client_last_transaction_time": 20,
                "relay_agent_information": {
                    "circuit_id": "6530",
                    "remote_id": "6c696e652d37",
                    "hex": "0102653002066c696e652d37",
                },
                "server_identifier": "192.0.2.1",
                "associated_ip": ["192.0.2.8", "192.0.2.9"],
            }),
            json!({"summary": {"complete": true, "bindings": 1}}),
        ]
    );
    let output = run_udp(
        answering(active),
        &[
            &mac[..],
            &["--csv", "--columns", "address,state,associated-ip"],
        ]
        .concat(),
    );
    assert_eq!(
        stdout(&output),
        "address,state,associated-ip\n192.0.2.7,ACTIVE,\"192.0.2.8,192.0.2.9\"\n"
    );
}

/// RFC 4388 section 6.6: silence does not show its cause.
#[test]
fn names_causes_of_silence() {
    let server = UdpServer::start(|peer| drop(peer.read()));
    let output = run_udp(
        server,
        &[
            "--address",
            "192.0.2.7",
            "--timeout",
            "1",
            "--json",
            "--summary",
        ],
    );
    assert_ends(
        &output,
        3,
        &[
            "blq: 127.0.0.1: no reply within 1 s, to 1 transmission",
            "likely cause: ",
            "127.0.0.9 (giaddr) is not among its `requesters`",
            "rate limit",
            "firewall",
        ],
    );
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(summary["summary"]["complete"], false);
}

#[test]
fn explains_why_replies_cannot_be_received() {
    let taken = UdpSocket::bind((REQUESTER, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = |source: &str| {
        let address = ["127.0.0.1", "--udp", "--address", "192.0.2.7"];
        run_alone(&[&address[..], &["--source", source, "--source-port", &port]].concat())
    };
    let cannot = format!("cannot receive replies at UDP port {port} of 127.0.0.9");
    assert_ends(&run("127.0.0.9"), 3, &[&cannot, "a relay agent"]);
    assert_ends(&run("192.0.2.77"), 3, &["not one of this machine"]);
}

/// RFC 6607 section 6: a server without VPNs searches another VPN than that of the query.
#[test]
fn refuses_a_reply_about_another_vpn() {
    let unknown = |query: &Message| reply(query, MessageType::LEASE_UNKNOWN, 7);
    let output = run_udp(
        answering(unknown),
        &["--address", "192.0.2.7", "--vpn", "blue"],
    );
    assert_ends(
        &output,
        3,
        &["does not have the VPN-ID", "does not support VPN-ID"],
    );
}

#[test]
fn names_the_way_out_of_arguments_that_do_not_fit() {
    for (arguments, expected) in [
        (&["--address", "192.0.2.7"][..], "add --udp"),
        (&["--udp", "--all"], "--all is possible without --udp only"),
        (&["--udp"], "a query is by --address, --mac"),
    ] {
        let output = run_alone(&[&["127.0.0.1"], arguments].concat());
        assert_ends(&output, 2, &[expected]);
    }
}
