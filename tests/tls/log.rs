//! The log messages about TLS. Each test uses another peer address, since the process has one log.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use dhcp_blq::server::Server;
use rcgen::date_time_ymd;
use tracing::Level;

use crate::certificates::{Files, Identity};
use crate::client::{agree, dhcptls, served, start};
use crate::fake_engine::Query;
use crate::loopback::connect_from;
use crate::recorded_log;

/// Records the log from now on.
fn record() {
    recorded_log::record(Level::DEBUG);
}

/// Waits for a line of this message about a peer; returns it.
fn line(id: &str, peer: [u8; 4]) -> String {
    let lines = recorded_log::lines(peer, &[id], 1);
    let first = lines.into_iter().next();
    first.unwrap_or_else(|| panic!("{id} about {peer:?}"))
}

/// Connects with a certificate that is refused; returns the line about it.
fn refused(files: &Files, server: &Server, last: u8, identity: Option<&Identity>) -> String {
    let peer = [127, 2, 0, last];
    assert!(served(files, server, peer, identity).is_err());
    line("BLQ_TLS_FAILED", peer)
}

#[test]
fn a_failed_handshake_is_logged_with_its_reason() {
    record();
    let files = Files::new();
    let requesters =
        r#"["127.2.0.0/24", { "address": "127.2.0.9", "certificates": ["bng1.example.net"] }]"#;
    let (server, _) = start(&files, requesters, "");
    let names = ["bng2.example.net"];
    let expired = files.authority.issue_with(&names, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let unlisted = files.authority.issue(&names);
    let own = Identity::self_signed(&names);
    for (last, identity, part) in [
        (1, None, "the requester presented no certificate"),
        (2, Some(&expired), "expired"),
        (3, Some(&own), "UnknownIssuer"),
        (
            9,
            Some(&unlisted),
            "the certificate of \"bng2.example.net\", sha256:",
        ),
    ] {
        let line = refused(&files, &server, last, identity);
        assert!(line.starts_with("WARN BLQ_TLS_FAILED "), "{line}");
        assert!(line.contains(part), "{part} in {line}");
    }
    let mut plain = agree(connect_from(&server, [127, 2, 0, 5]));
    plain.write_all(b"no TLS at all").unwrap();
    let line = line("BLQ_TLS_FAILED", [127, 2, 0, 5]);
    assert!(line.contains("TLS handshake failed"), "{line}");
    assert_eq!(server.counts().tls_failed.load(Ordering::Relaxed), 5);
}

#[test]
fn connections_with_and_without_tls_are_logged() {
    record();
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.2.1.0/24"]"#, r#", "tls": "required""#);
    let requester = files.authority.issue(&["bng3.example.net"]);
    let client = served(&files, &server, [127, 2, 1, 1], Some(&requester));
    assert!(client.is_ok());
    let started = line("BLQ_TLS_STARTED", [127, 2, 1, 1]);
    let part = "connection secured by TLSv1.3, certificate of bng3.example.net";
    assert!(started.contains(part), "{started}");
    assert_eq!(server.counts().tls_started.load(Ordering::Relaxed), 1);
    let mut stream = connect_from(&server, [127, 2, 1, 2]);
    stream.write_all(&Query::search(1, 0).frame()).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let closed = line("BLQ_TLS_REQUIRED", [127, 2, 1, 2]);
    assert!(closed.starts_with("WARN"), "{closed}");
    drop(server);
    let (server, _) = start(&files, r#"["127.2.1.0/24"]"#, r#", "tls": "off""#);
    let mut stream = connect_from(&server, [127, 2, 1, 3]);
    stream.write_all(&dhcptls(&[255])).unwrap();
    line("BLQ_TLS_REFUSED", [127, 2, 1, 3]);
}
