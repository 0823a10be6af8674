//! The line that each query leaves in the log, at debug level.
//!
//! Each test uses different peer addresses, since the process has one log.

#[path = "support/loopback.rs"]
mod loopback;
#[path = "support/recorded_log.rs"]
mod recorded_log;

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blq::{Primary, Query, Vss};
use dhcp_blq::config::Config;
use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;
use loopback::connect_from;
use tracing::Level;

/// The identifiers of lines about queries.
const QUERIES: [&str; 5] = [
    "BLQ_QUERY_ABANDONED",
    "BLQ_QUERY_ANSWERED",
    "BLQ_QUERY_MALFORMED",
    "BLQ_QUERY_NOT_ALLOWED",
    "BLQ_QUERY_TERMINATED",
];

/// Starts a server with a pool of this many free addresses, which may be queried except by client
/// identifier.
fn start(addresses: u32) -> Server {
    recorded_log::record(Level::TRACE);
    let config = Config::parse(
        r#"{
            "requesters": [{ "address": "127.0.0.0/8", "query-types": ["mac", "relay-id", "all"] }],
            "advanced": { "lease-query-ip": "127.0.0.1" }
        }"#,
    );
    let config = Config {
        port: 0,
        ..config.unwrap()
    };
    let last = Ipv4Addr::from_bits(0x0a00_0000 + addresses - 1);
    let kea_config = format!(
        r#"{{ "Dhcp4": {{ "subnet4": [
            {{ "id": 1, "subnet": "10.0.0.0/8", "pools": [ {{ "pool": "10.0.0.0-{last}" }} ] }} ] }} }}"#
    );
    let kea_config = KeaConfig::new(&kea_config, Vec::new(), &[]).unwrap();
    let initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), Time::now());
    let engine = LeaseEngine::new(Arc::new(initial_load.finish()), None);
    Server::start(&config, Arc::new(engine)).unwrap()
}

/// Sends queries on a connection, and waits for their answers and the close.
fn ask(server: &Server, peer: Ipv4Addr, queries: &[Query]) -> usize {
    let mut stream = connect_from(server, peer);
    for query in queries {
        stream.write_all(&query.to_bytes().unwrap()).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    received.len()
}

/// Waits for `count` lines about queries of a peer, and returns all of them.
fn lines(peer: Ipv4Addr, count: usize) -> Vec<String> {
    recorded_log::lines(peer, &QUERIES, count)
}

#[test]
fn a_query_leaves_one_line_with_its_qualifiers_and_the_measures_of_its_answer() {
    let server = start(200);
    let peer = Ipv4Addr::new(127, 3, 0, 1);
    let mut query = Query::new(Primary::All);
    query.start = Some(3);
    query.vpn = Some(Vss::All);
    query.parameter_request_list = Some(vec![51, 156]);
    let octets = ask(&server, peer, std::slice::from_ref(&query));
    let lines = lines(peer, 1);
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    let xid = query.xid;
    for part in [
        "DEBUG BLQ_QUERY_ANSWERED query for all configured addresses, query-start-time 3, VPN-ID all, \
         options 51+156 answered",
        " bindings=200 ",
        &format!(" octets={octets} "),
        " seconds=",
        " status=Success ",
        &format!(" xid={xid:#010x} "),
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let counts = server.counts();
    assert_eq!(counts.queries.load(Ordering::Relaxed), 1);
    assert_eq!(counts.messages_sent.load(Ordering::Relaxed), 201);
    assert_eq!(counts.octets_sent.load(Ordering::Relaxed), octets as u64);
}

#[test]
fn refused_queries_beyond_the_rate_limit_are_logged_at_debug_level() {
    let server = start(1);
    let refused = || Query::new(Primary::ClientId(vec![1, 2, 3]));
    for host in 1..=2 {
        let peer = Ipv4Addr::new(127, 3, 1, host);
        ask(&server, peer, &[refused(), refused(), refused()]);
        let lines = lines(peer, 3);
        let levels: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(levels, ["INFO", "DEBUG", "DEBUG"], "{lines:?}");
        for line in &lines {
            assert!(line.contains("BLQ_QUERY_NOT_ALLOWED"), "{line}");
            assert!(line.contains("client-id"), "{line}");
            assert!(line.contains("bindings=0 "), "{line}");
            assert!(line.contains("status=NotAllowed "), "{line}");
        }
    }
    assert_eq!(
        server.counts().queries_not_allowed.load(Ordering::Relaxed),
        6
    );
}

#[test]
fn a_query_that_the_server_or_the_requester_ends_leaves_a_line_too() {
    let server = start(1 << 24);
    let peers = [1, 2].map(|host| Ipv4Addr::new(127, 3, 2, host));
    let mut streams = peers.map(|peer| {
        let mut stream = connect_from(&server, peer);
        let query = Query::new(Primary::All).to_bytes().unwrap();
        stream.write_all(&query).unwrap();
        // The answer has begun.
        stream.read_exact(&mut [0; 300]).unwrap();
        stream
    });
    // Closed with unread octets: a reset.
    drop(std::mem::replace(
        &mut streams[0],
        connect_from(&server, Ipv4Addr::new(127, 3, 2, 9)),
    ));
    let abandoned = lines(peers[0], 1);
    assert_eq!(abandoned.len(), 1, "{abandoned:?}");
    assert!(
        abandoned[0].starts_with("DEBUG BLQ_QUERY_ABANDONED query for all configured addresses, ")
    );
    assert!(abandoned[0].contains(" status=none "), "{abandoned:?}");
    server.stop("test");
    let terminated = lines(peers[1], 1);
    assert_eq!(terminated.len(), 1, "{terminated:?}");
    assert!(
        terminated[0].starts_with("INFO BLQ_QUERY_TERMINATED"),
        "{terminated:?}"
    );
    assert!(terminated[0].contains(": test "), "{terminated:?}");
}
