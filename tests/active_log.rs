//! The lines that active queries leave in the log.
//!
//! Each test uses different peer addresses, since the process has one log.

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;
#[path = "support/recorded_log.rs"]
mod recorded_log;

use active::*;
use bench::{Bench, by_mac};
use blq::{Message, MessageType};
use dhcp_blq::config::{Active, Config};
use dhcp_blq::server::Server;
use recorded_log::lines;
use tracing::Level;

use crate::active::loopback;

/// Serves a mirror with these parameters.
fn start(bench: &Bench, advanced: &str) -> Server {
    let requesters =
        r#"[{ "address": "127.0.0.0/16", "max-connections-per-address": 2 }, "127.4.0.0/16"]"#;
    start_with(
        bench,
        &config(requesters, &format!("{INSECURE}, {advanced}")),
    )
}

/// Serves a mirror.
fn start_with(bench: &Bench, config: &Config) -> Server {
    recorded_log::record(Level::TRACE);
    serve(&bench.mirror, config)
}

/// The identifiers of lines about queries.
const QUERIES: [&str; 7] = [
    "BLQ_STREAM_ENDED",
    "BLQ_ACTIVE_LIMIT",
    "BLQ_QUERY_ABANDONED",
    "BLQ_QUERY_ANSWERED",
    "BLQ_QUERY_MALFORMED",
    "BLQ_QUERY_NOT_ALLOWED",
    "BLQ_QUERY_TERMINATED",
];

/// Returns a requester at `peer` with a stream that has begun.
fn stream(server: &Server, peer: [u8; 4]) -> Requester {
    let mut requester = Requester::connect_from(server, peer);
    assert!(requester.begins_stream(query(7)));
    requester
}

#[test]
fn the_end_of_a_stream_is_one_line_at_debug_level() {
    let bench = Bench::new();
    let server = start(&bench, r#""max-active-connections": 2"#);
    let peers = [[127, 4, 0, 1], [127, 4, 0, 2]];
    let mut requesters = peers.map(|peer| stream(&server, peer));
    bench.lease([10, 0, 1, 10], 1, 0, &[]);
    bench.lease([10, 0, 1, 11], 2, 0, &[]);
    for requester in &mut requesters {
        for _ in 0..2 {
            assert_eq!(requester.message().message_type(), ACTIVE);
        }
    }
    let [mut closed, mut stopped] = requesters;
    closed.finish();
    assert!(closed.is_closed());
    let found = lines(peers[0], &QUERIES, 1);
    let [line] = &found[..] else {
        panic!("{found:?}")
    };
    for part in [
        "DEBUG BLQ_STREAM_ENDED query for changes, query-start-time 4294967295: the connection ended",
        " bindings=2 ",
        " octets=",
        " seconds=",
        " status=none ",
        " xid=0x00000007 ",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    server.stop("the configuration changes");
    assert_eq!(stopped.message().status_code(), 2);
    let found = lines(peers[1], &QUERIES, 1);
    let [line] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(line.starts_with("DEBUG BLQ_STREAM_ENDED "), "{line}");
    assert!(line.contains("ended with QueryTerminated (2): the configuration changes"));
    assert!(line.contains(" bindings=2 "), "{line}");
}

#[test]
fn refused_queries_are_logged_at_info_level() {
    let bench = Bench::new();
    let server = start(&bench, r#""max-active-connections": 1"#);
    let malformed = query(7).with(155, [0, 0, 0, 9]);
    let not_allowed = query(7).with(82, [2, 1, 7]);
    for (number, message, id, part) in [
        (1, malformed, "BLQ_QUERY_MALFORMED", "query-end-time"),
        (
            2,
            not_allowed,
            "BLQ_QUERY_NOT_ALLOWED",
            "relay-agent-information",
        ),
    ] {
        let peer = [127, 4, 1, number];
        for _ in 0..2 {
            let mut requester = Requester::connect_from(&server, peer);
            requester.send(&message);
            assert_eq!(requester.rest().len(), 1);
        }
        let found = lines(peer, &QUERIES, 2);
        // The second one is beyond the rate limit.
        for (line, level) in found.iter().zip(["INFO", "DEBUG"]) {
            assert!(line.starts_with(&format!("{level} {id} ")), "{line}");
            assert!(line.contains(part), "{line}");
            assert!(line.contains(" bindings=0 "), "{line}");
        }
        assert_eq!(found.len(), 2);
    }
    // A second query.
    let peer = [127, 4, 1, 3];
    let mut requester = stream(&server, peer);
    requester.send(&by_mac(1).to_message().unwrap());
    assert_eq!(requester.message().status_code(), 4);
    let found = lines(peer, &QUERIES, 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("INFO BLQ_QUERY_NOT_ALLOWED query for changes"));
}

#[test]
fn limits_that_are_reached_are_logged_as_warnings() {
    let bench = Bench::new();
    let server = start(&bench, r#""max-active-connections": 1"#);
    let _first = stream(&server, [127, 4, 2, 1]);
    let peer = [127, 4, 2, 2];
    let mut second = Requester::connect_from(&server, peer);
    second.send(&query(7));
    assert_eq!(second.message().status_code(), 2);
    let found = lines(peer, &QUERIES, 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("WARN BLQ_ACTIVE_LIMIT "), "{found:?}");
    assert!(found[0].contains("'advanced.max-active-connections'"));
    let peer = [127, 0, 2, 3];
    let connections = [0; 3].map(|_| Requester::connect_from(&server, peer));
    let found = lines(peer, &["BLQ_ADDRESS_LIMIT"], 1);
    assert!(found[0].starts_with("WARN "), "{found:?}");
    assert!(found[0].contains("'max-connections-per-address'"));
    drop(connections);
}

/// RFC 7724 section 8.1: MUST close connections that are not secured.
#[test]
fn an_active_query_without_tls_is_closed_with_a_reason() {
    let bench = Bench::new();
    let mut config = config(r#"["127.4.0.0/16"]"#, INSECURE);
    config.active = config.active.map(|active| Active {
        is_insecure: false,
        ..active
    });
    let server = start_with(&bench, &config);
    let peer = [127, 4, 3, 1];
    let mut requester = Requester::connect_from(&server, peer);
    requester.send(&query(7));
    assert!(requester.is_closed());
    let found = lines(peer, &["BLQ_NOT_A_QUERY"], 1);
    assert!(found[0].starts_with("INFO "), "{found:?}");
    assert!(found[0].contains("without TLS"), "{found:?}");
}

/// RFC 7724 section 8.1: TLS begins a connection.
#[test]
fn a_dhcptls_that_is_not_the_first_message_is_logged_as_such() {
    let bench = Bench::new();
    let server = start(&bench, r#""max-active-connections": 1"#);
    let peer = [127, 4, 4, 1];
    let mut requester = Requester::connect_from(&server, peer);
    requester.send(&by_mac(1).to_message().unwrap());
    assert_eq!(requester.message().message_type(), 15);
    requester.send(&Message::new(1, 8, MessageType(18)));
    assert!(requester.is_closed());
    let found = lines(peer, &["BLQ_NOT_A_QUERY"], 1);
    assert!(found[0].starts_with("INFO "), "{found:?}");
    for part in ["DHCPTLS", "first message"] {
        assert!(found[0].contains(part), "{found:?}");
    }
}
