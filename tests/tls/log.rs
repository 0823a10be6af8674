//! The log messages about TLS. Each test uses another peer address, since the process has one log.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Instant;

use dhcp_blq::log::subscriber::{self, Sink};
use dhcp_blq::server::Server;
use rcgen::date_time_ymd;
use tracing::Level;

use crate::certificates::{Files, Identity};
use crate::client::{PATIENCE, agree, connect_from, dhcptls, served, start};
use crate::fake_engine::Query;

/// Lines logged.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records lines.
struct Log;

impl Sink for Log {
    fn is_enabled(&self, level: Level) -> bool {
        level <= Level::DEBUG
    }

    fn write(&self, level: Level, id: &'static str, text: &str) {
        LOG.lock().unwrap().push(format!("{level} {id} {text}"));
    }
}

/// Records the log from now on.
fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(subscriber::to(Log)).unwrap());
}

/// Waits for a line of this message about a peer; returns it.
fn line(id: &str, peer: [u8; 4]) -> String {
    let peer = format!("{}", Ipv4Addr::from(peer));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = LOG.lock().unwrap().clone();
        let is_meant = |line: &String| line.contains(&format!(" {id} ")) && line.contains(&peer);
        if let Some(line) = log.into_iter().find(is_meant) {
            return line;
        }
        assert!(Instant::now() < deadline, "{id} about {peer}");
        thread::yield_now();
    }
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
