//! Log messages about refused peers and queries, their rate limits and counters.
//!
//! Each test uses different peer addresses, since the process has one log.

#[path = "support/loopback.rs"]
mod loopback;
#[path = "support/recorded_log.rs"]
mod recorded_log;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blq::wire::code;
use blq::{MessageType, Primary, Query};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::{Counts, Server};
use loopback::connect_from;
use tracing::Level;

/// Starts a server with an empty mirror that 127.0.0.0/9 may query by MAC address.
fn start() -> Server {
    recorded_log::record(Level::INFO);
    let config = r#"{
        "requesters": [{ "address": "127.0.0.0/9", "query-types": ["mac"] }],
        "advanced": { "lease-query-ip": "127.0.0.1", "max-requester-connections": 100 }
    }"#;
    let config = Config {
        port: 0,
        ..Config::parse(config).unwrap()
    };
    let kea_config = KeaConfig::new(r#"{ "Dhcp4": {} }"#, Vec::new(), &[]).unwrap();
    let initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), Time::now());
    let engine = LeaseEngine::new(Arc::new(initial_load.finish()), None);
    Server::start(&config, Arc::new(engine)).unwrap()
}

/// Sends octets to the server, closes the sending side, and reads until the server closes.
fn send(server: &Server, peer: Ipv4Addr, octets: &[u8]) -> Vec<u8> {
    let mut stream = connect_from(server, peer);
    // Writing fails if the server has already closed the connection.
    let _ = stream.write_all(octets);
    let _ = stream.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    received
}

/// Waits for a line about a peer, and returns all lines about it.
fn lines(peer: Ipv4Addr) -> Vec<String> {
    recorded_log::lines(peer, &[], 1)
}

/// Returns a query by MAC address.
fn mac_query() -> Query {
    Query::new(Primary::Mac {
        htype: 1,
        address: vec![2, 0, 0, 0, 0, 1],
    })
}

/// A message and the log line about it.
struct Case {
    /// The octets sent.
    octets: Vec<u8>,
    /// The level and identifier.
    id: &'static str,
    /// Parts of the text, besides the peer.
    parts: Vec<String>,
    /// The counter.
    counter: fn(&Counts) -> &AtomicU64,
}

/// Returns one case of each cause.
fn cases() -> Vec<Case> {
    let mut malformed = mac_query().to_message().unwrap();
    malformed.ciaddr = Ipv4Addr::new(192, 0, 0, 0);
    // The last option has no length.
    let mut broken = mac_query().to_message().unwrap();
    broken.ending = vec![12].into();
    let not_allowed = Query::new(Primary::All);
    let mut discover = mac_query().to_message().unwrap();
    discover.set(code::MESSAGE_TYPE, [MessageType::DISCOVER.0]);
    let xid = |xid: u32| format!("xid={xid:#010x}");
    vec![
        Case {
            octets: malformed.to_frame().unwrap(),
            id: "INFO BLQ_QUERY_MALFORMED",
            parts: vec![
                xid(malformed.xid),
                "MalformedQuery (3)".into(),
                "ciaddr".into(),
            ],
            counter: |counts| &counts.queries_malformed,
        },
        Case {
            octets: broken.to_frame().unwrap(),
            id: "INFO BLQ_QUERY_MALFORMED",
            parts: vec![xid(broken.xid), "MalformedQuery (3)".into()],
            counter: |counts| &counts.queries_malformed,
        },
        Case {
            octets: not_allowed.to_bytes().unwrap(),
            id: "INFO BLQ_QUERY_NOT_ALLOWED",
            parts: vec![
                xid(not_allowed.xid),
                "NotAllowed (4)".into(),
                "query type all".into(),
            ],
            counter: |counts| &counts.queries_not_allowed,
        },
        Case {
            octets: discover.to_frame().unwrap(),
            id: "INFO BLQ_NOT_A_QUERY",
            parts: vec![xid(discover.xid), "dhcp-message-type 1".into()],
            counter: |counts| &counts.unanswerable,
        },
        Case {
            octets: vec![0, 3, 1, 1, 6],
            id: "INFO BLQ_NOT_DHCP",
            parts: vec!["ends within its fixed fields".into()],
            counter: |counts| &counts.unanswerable,
        },
        Case {
            // The first two octets are the size of a message that never arrives.
            octets: b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            id: "INFO BLQ_MESSAGE_INCOMPLETE",
            parts: vec!["message-size".into()],
            counter: |counts| &counts.unanswerable,
        },
    ]
}

#[test]
fn logs_each_cause_once_for_each_peer_and_counts_all() {
    let server = start();
    for (number, case) in (1..).zip(cases()) {
        let before = (case.counter)(server.counts()).load(Ordering::Relaxed);
        for host in 1..=3 {
            let peer = Ipv4Addr::new(127, 1, number, host);
            for _ in 0..5 {
                send(&server, peer, &case.octets);
            }
            let lines = lines(peer);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with(case.id), "{lines:?}");
            for part in &case.parts {
                assert!(lines[0].contains(part), "'{part}' in {lines:?}");
            }
        }
        let counted = (case.counter)(server.counts()).load(Ordering::Relaxed) - before;
        assert_eq!(counted, 15, "{}", case.id);
    }
}

#[test]
fn logs_a_peer_that_is_no_requester_also_while_a_scanner_connects() {
    let server = start();
    let (scanner, misconfigured) = ([127, 129, 0, 1].into(), [127, 129, 0, 2].into());
    for _ in 0..20 {
        send(&server, scanner, b"scan");
    }
    send(&server, misconfigured, &mac_query().to_bytes().unwrap());
    for peer in [scanner, misconfigured] {
        let lines = lines(peer);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("WARN BLQ_REQUESTER_REFUSED"));
    }
    let refused = &server.counts().connections_refused;
    assert_eq!(refused.load(Ordering::Relaxed), 21);
}

#[test]
fn logs_no_query_that_is_answered() {
    let server = start();
    let peer = [127, 2, 0, 1].into();
    assert!(!send(&server, peer, &mac_query().to_bytes().unwrap()).is_empty());
    // A message that is logged, after the query.
    send(&server, peer, &[0, 0]);
    let lines = lines(peer);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("BLQ_NOT_DHCP"), "{lines:?}");
}
