//! The `blq` command after mistakes of its user: errors with likely causes, hints, and advice.

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;

use common::{
    BASE_TIME, Server, active, answering, command, done, failed, next_start, run, run_alone,
    stderr, stdout,
};

/// Returns the query-start-time of the servers of these tests, as an option.
fn with_base_time(xid: u32) -> blq::Message {
    done(xid).with(152, BASE_TIME.to_be_bytes())
}

/// Checks the exit status and a part of standard error.
fn assert_fails(output: &Output, status: i32, expected: &[&str]) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
    for expected in expected {
        assert!(
            stderr(output).contains(expected),
            "no `{expected}` in: {}",
            stderr(output)
        );
    }
}

// ------------ Connections -----------------------------------------------------------------

#[test]
fn names_causes_of_a_port_without_a_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let output = run_alone(&[&address.to_string()]);
    let port = format!("nothing listens on TCP port {} there", address.port());
    assert_fails(&output, 3, &["blq: 127.0.0.1: cannot connect: ", &port]);
}

/// A server closes the connection of a requester that it does not allow, with a reset if octets of the
/// requester are left.
#[test]
fn names_causes_of_a_connection_closed_without_a_reply() {
    for reads in [false, true] {
        let server = Server::start(move |mut peer| {
            if reads {
                peer.read();
            }
        });
        assert_fails(
            &run(server, &[]),
            3,
            &[
                "likely cause: the server does not allow 127.0.0.1",
                "`requesters`",
                "too many",
            ],
        );
    }
}

#[test]
fn names_other_causes_of_a_connection_closed_after_a_reply() {
    let output = run(answering(|xid| vec![active(xid, 1)]), &[]);
    assert_fails(
        &output,
        3,
        &["likely cause: the server stopped", "1 binding received"],
    );
    assert!(!stderr(&output).contains("requesters"));
}

/// A banner of another service looks like the begin of a long message.
#[test]
fn recognizes_another_service_by_its_first_octets() {
    for (banner, shown, cause) in [
        (
            b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(),
            "`SSH-2.0-OpenSSH_9.2\\r\\n`",
            "another service",
        ),
        (
            b"HTTP/1.1 400 \x1b[2J\r\n",
            "`HTTP/1.1 400 \\x1b[2J",
            "another service",
        ),
        (
            b"\x15\x03\x03\x00\x02\x02\x28",
            "`\\x15\\x03\\x03",
            "requires TLS",
        ),
    ] {
        let server = Server::start(move |mut peer| {
            peer.read();
            peer.stream.write_all(banner).unwrap();
            // The service waits, and so does no test that relies on its silence.
            peer.wait_for_close().unwrap();
        });
        let output = run(server, &[]);
        assert_fails(&output, 3, &["does not speak DHCP", shown, cause]);
        assert!(!stderr(&output).contains("sent nothing"));
    }
}

#[test]
fn distinguishes_silence_from_a_message_cut_short() {
    for (sent, expected) in [
        (b"".as_slice(), "the server sent nothing for 1 s"),
        (
            b"\r\n",
            "the server sent 2 octets of a message, and then nothing for 1 s",
        ),
        (
            b"\x01\x00\x02\x01",
            "the server sent 4 octets of a message, and then nothing for 1 s",
        ),
    ] {
        let server = Server::start(move |mut peer| {
            peer.read();
            peer.stream.write_all(sent).unwrap();
            peer.wait_for_close().unwrap();
        });
        let output = run(server, &["--timeout", "1"]);
        assert_fails(&output, 3, &[expected, "likely cause: ", "another service"]);
    }
}

#[test]
fn names_causes_of_an_unknown_name() {
    // RFC 6761 section 6.4: `invalid` names never exist.
    let output = run_alone(&["kea.invalid"]);
    assert_fails(
        &output,
        3,
        &[
            "blq: kea.invalid: cannot find the server",
            "the name is wrong",
        ],
    );
}

// ------------ Servers and source addresses ------------------------------------------------

#[test]
fn accepts_the_port_behind_the_server() {
    let server = answering(|xid| vec![with_base_time(xid)]);
    let output = run_alone(&[&server.address.to_string()]);
    server.join();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_fails(
        &run_alone(&["s:67", "--port", "68"]),
        2,
        &["SERVER has port 67, --port is 68"],
    );
}

#[test]
fn explains_that_servers_have_ipv4_addresses() {
    for server in ["2001:db8::1", "[::1]:67", "::1"] {
        assert_fails(&run_alone(&[server]), 2, &["IPv6", "over IPv4"]);
    }
    assert_fails(&run_alone(&["192.0.2"]), 2, &["four decimal numbers"]);
}

/// Servers allow requesters by address.
#[test]
fn connects_from_the_source_address() {
    let server = Server::start(|mut peer| {
        let from = peer.stream.peer_addr().unwrap().ip();
        assert_eq!(from, Ipv4Addr::new(127, 0, 0, 9));
        let xid = peer.read().xid;
        peer.send(&[done(xid)]);
    });
    let output = run(server, &["--source", "127.0.0.9"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let output = run_alone(&["127.0.0.1", "--source", "192.0.2.77"]);
    assert_fails(
        &output,
        3,
        &["cannot connect from 192.0.2.77", "not one of this machine"],
    );
    let server = Server::start(drop);
    let output = run(server, &["--source", "127.0.0.9"]);
    assert_fails(&output, 3, &["does not allow 127.0.0.9"]);
}

// ------------ MAC addresses ---------------------------------------------------------------

#[test]
fn sends_the_address_of_every_notation() {
    for notation in [
        "0:c:1:2:3:5",
        "000c.0102.0305",
        "00-0c-01-02-03-05",
        "000C01020305",
    ] {
        let server = Server::start(|mut peer| {
            let query = peer.read();
            assert_eq!((query.htype, query.hlen), (1, 6));
            assert_eq!(query.chaddr[..7], [0, 0xc, 1, 2, 3, 5, 0]);
            peer.send(&[done(query.xid)]);
        });
        assert_eq!(run(server, &["--mac", notation]).status.code(), Some(0));
    }
}

#[test]
fn refuses_ambiguous_addresses() {
    for (mac, reason) in [
        ("c123", "4 digits without separators: 12 are required"),
        (
            "00c01020305",
            "11 digits without separators: 12 are required",
        ),
        ("000c.0102.305", "groups of different or unusual length"),
        ("0.12.1.2.3.5", "decimal or hexadecimal?"),
        ("02:00:00:00:01", "an Ethernet address has 6"),
        ("01:02:00:00:00:00:01", "write --client-id"),
    ] {
        assert_fails(&run_alone(&["127.0.0.1", "--mac", mac]), 2, &[reason]);
    }
}

// ------------ Arguments -------------------------------------------------------------------

#[test]
fn suggests_arguments_for_those_of_other_names() {
    for (argument, expected) in [
        (
            "--circuit-id",
            "circuit-id is no query type of RFC 6926, which has --mac, --client-id",
        ),
        ("--mac-address", "write --mac ADDRESS"),
        ("--vpn-id", "--vpn-rfc2685 HEX"),
        ("--bind", "write --source ADDRESS"),
    ] {
        let output = run_alone(&["127.0.0.1", argument, "x"]);
        assert_fails(&output, 2, &["error: unexpected argument", expected]);
    }
}

#[test]
fn lists_the_columns_after_an_unknown_one() {
    let output = run_alone(&["127.0.0.1", "--columns", "mac,colour"]);
    assert_fails(
        &output,
        2,
        &["`colour` is not a column", "circuit-id", "lease-ends"],
    );
    let help = run_alone(&["--help"]);
    assert!(stdout(&help).contains("relay-agent-information"));
}

// ------------ Hints -----------------------------------------------------------------------

/// Returns standard error of a complete answer without bindings.
fn nothing_found(arguments: &[&str]) -> String {
    let output = run(answering(|xid| vec![with_base_time(xid)]), arguments);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    // The hints come before the line with the start.
    assert!(next_start(&output).is_some(), "{}", stderr(&output));
    stderr(&output).to_string()
}

#[test]
fn hints_at_likely_mistakes_where_nothing_was_found() {
    for (arguments, expected) in [
        (
            &["--relay-id", "00030001aabb"][..],
            "blq: hint: `00030001aabb` was taken as text; as octets it is --relay-id 0x00030001aabb",
        ),
        (
            &["--relay-id", "01:02"],
            "as text it is --relay-id text:01:02",
        ),
        (
            &["--remote-id", "Line-7"],
            "in another letter case is another identifier",
        ),
        (&["--remote-id", "line-7"], "circuit-id"),
        (
            &["--client-id", "02:00:00:00:00:01"],
            "--client-id 0x01020000000001",
        ),
        (
            &["--all"],
            "only the default VPN was searched: --all-vpns searches all",
        ),
        (&["--vpn", "Blue"], "only VPN `Blue` was searched"),
        (&["--start", "4000000000"], "later than the server's clock"),
    ] {
        let error = nothing_found(arguments);
        assert!(error.contains(expected), "no `{expected}` in: {error}");
    }
}

#[test]
fn gives_no_hints_where_something_was_found() {
    let output = run(
        answering(|xid| vec![active(xid, 1), done(xid)]),
        &["--relay-id", "0102"],
    );
    assert!(!stderr(&output).contains("hint"), "{}", stderr(&output));
    let output = run(
        answering(|xid| vec![failed(xid, 3, "")]),
        &["--relay-id", "0102"],
    );
    assert!(!stderr(&output).contains("hint"), "{}", stderr(&output));
    assert!(!nothing_found(&["--start", "5", "--all-vpns"]).contains("hint"));
}

// ------------ Text from servers -----------------------------------------------------------

/// RFC 6926 section 6.2.2: a status message is any text.
#[test]
fn escapes_the_text_of_servers() {
    let text = "a\u{202e}b\u{200b}\u{1b}[2J\u{9b}31m\u{2028}\u{7f}";
    for arguments in [&[][..], &["--json", "--summary"]] {
        let server = answering(move |xid| {
            let binding = active(xid, 1).with(151, [b"\x01", text.as_bytes()].concat());
            vec![binding, failed(xid, 1, text)]
        });
        let output = command(&server, arguments).output().unwrap();
        server.join();
        assert_eq!(output.status.code(), Some(1));
        let printed = [stdout(&output), stderr(&output)].concat();
        assert!(printed.contains("202e"), "{printed}");
        let is_plain = |c: char| c == '\n' || (' '..='~').contains(&c);
        assert!(printed.chars().all(is_plain), "{printed:?}");
        for line in stdout(&output).lines().filter(|_| !arguments.is_empty()) {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let status = object.get("summary").unwrap_or(&object);
            assert_eq!(status["status"]["text"], text);
        }
    }
}
