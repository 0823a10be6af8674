//! The rules of connections with an active query, over sockets (RFC 7724 sections 7.4 and 8).

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use active::loopback::PATIENCE;
use active::*;
use bench::{Bench, all, by_mac};
use blq::{Message, MessageType};
use dhcp_blq::config::Config;
use dhcp_blq::server::Server;
use socket2::SockRef;

/// Serves an empty mirror to 127.0.0.1, with active queries without TLS.
fn start(advanced: &str) -> Server {
    let comma = if advanced.is_empty() { "" } else { ", " };
    start_with(&config(
        r#"["127.0.0.1"]"#,
        &format!("{INSECURE}{comma}{advanced}"),
    ))
}

/// Serves an empty mirror.
fn start_with(config: &Config) -> Server {
    serve(&Bench::new().mirror, config)
}

/// Sends an active query whose stream has begun.
fn stream(server: &Server) -> Requester {
    let mut requester = Requester::connect(server);
    assert!(requester.begins_stream(query(7)));
    requester
}

/// Returns a Bulk Leasequery for all addresses.
fn bulk() -> Message {
    all().to_message().unwrap()
}

/// Whether a Bulk Leasequery is answered on the connection.
fn is_answered(requester: &mut Requester) -> bool {
    requester.send(&by_mac(1).to_message().unwrap());
    requester
        .next()
        .is_some_and(|done| done.message_type() == 15)
}

//------------ Enabling (RFC 7724 section 8.1) -------------------------------------------------

/// RFC 7724 sections 8.1 and 8.1.1: MUST NOT be enabled by default.
#[test]
fn an_active_query_that_is_not_enabled_closes_the_connection() {
    let server = start_with(&config(
        r#"["127.0.0.1"]"#,
        r#""max-concurrent-queries": 1"#,
    ));
    assert!(Requester::ask(&server, &query(7)).is_closed());
    assert!(is_answered(&mut Requester::connect(&server)));
    let counts = server.counts();
    assert_eq!(counts.unanswerable.load(Ordering::Relaxed), 1);
}

/// RFC 7724 section 8.2: an error at the start is a status, then the connection is closed.
#[test]
fn a_query_type_that_the_requester_may_not_use_is_not_allowed() {
    let requesters = r#"[{ "address": "127.0.0.1", "query-types": ["mac", "all"] }]"#;
    let server = start_with(&config(requesters, INSECURE));
    let mut requester = Requester::ask(&server, &query(7));
    let status = requester.message();
    assert_eq!(status.status_code(), 4);
    assert!(status.status().unwrap().1.contains("active"));
    assert!(requester.is_closed());
    assert!(is_answered(&mut Requester::connect(&server)));
}

/// RFC 7724 section 8.1.1.
#[test]
fn message_types_not_supported_over_tcp_close_the_connection() {
    let server = start("");
    for message_type in [1, 3, 10, 11, 13, 15, 17, 99, 0, 255] {
        let message = Message::new(1, 7, MessageType(message_type));
        assert!(
            Requester::ask(&server, &message).is_closed(),
            "{message_type}"
        );
    }
    let mut none = query(7);
    none.remove(53);
    assert!(Requester::ask(&server, &none).is_closed());
    let reply = Message { op: 2, ..query(7) };
    assert!(Requester::ask(&server, &reply).is_closed());
}

//------------ Malformed queries (RFC 7724 sections 7.3 and 8.2) -------------------------------

/// RFC 7724 sections 7.3 and 8.2: query-end-time and others are MalformedQuery, then the connection is closed.
#[test]
fn a_malformed_query_is_answered_with_its_status_then_the_connection_is_closed() {
    let server = start("");
    let address = Ipv4Addr::new(10, 0, 1, 10);
    let with_chaddr = |htype, hlen| Message {
        htype,
        hlen,
        chaddr: [2; 16],
        ..query(7)
    };
    let mut broken = query(7);
    broken.ending = vec![12].into();
    for (message, code, field) in [
        (
            Message {
                ciaddr: address,
                ..query(7)
            },
            3,
            "ciaddr",
        ),
        (with_chaddr(1, 6), 3, "chaddr"),
        (with_chaddr(0, 0), 3, "chaddr"),
        (query(7).with(61, [1, 2]), 3, "client-identifier"),
        (query(7).with(155, [0, 0, 0, 9]), 3, "query-end-time"),
        (query(7).with(154, [0, 0, 9]), 3, "query-start-time"),
        (query(7).with(221, [2, 1]), 3, "VPN-ID"),
        (query(7).with(82, [2, 1, 7]), 4, "relay-agent-information"),
        (broken, 3, "option 12"),
    ] {
        let mut requester = Requester::ask(&server, &message);
        let status = requester.message();
        assert_eq!((status.status_code(), status.message.xid), (code, 7));
        let (_, text) = status.status().unwrap();
        assert!(text.contains(field), "{text:?} names {field}");
        assert!(status.number(152).is_some(), "base-time");
        assert_eq!(status.options[&54], [127, 0, 0, 1]);
        assert!(requester.is_closed(), "{field}");
    }
}

/// RFC 7724 section 7.3; the contract.
#[test]
fn htype_and_hlen_beside_an_address_of_zeros_are_ignored() {
    let server = start("");
    let message = Message {
        htype: 1,
        hlen: 6,
        ..query_from(7, u32::MAX)
    };
    let mut requester = Requester::ask(&server, &message);
    assert_eq!(requester.message().status_code(), CATCH_UP_COMPLETE);
}

//------------ Alone on its connection (RFC 7724 section 8.3) ----------------------------------

/// RFC 7724 section 8.3: an active query is alone on its connection.
#[test]
fn another_query_ends_the_stream_with_not_allowed_as_the_last_message() {
    let server = start("");
    for other in [
        bulk(),
        query(8),
        query(7),
        Message::new(1, 8, MessageType(1)),
    ] {
        let mut requester = stream(&server);
        requester.send(&other);
        let last = requester.message();
        assert_eq!((last.status_code(), last.message.xid), (4, 7));
        assert!(last.number(152).is_some());
        assert!(requester.is_closed());
    }
}

/// RFC 7724 section 8.3: an active query is alone on its connection.
#[test]
fn an_active_query_beside_a_bulk_query_is_not_allowed() {
    // In one segment, so that the first is in progress.
    let server = start("");
    let mut requester = Requester::connect(&server);
    let frames = [bulk(), query(7)].map(|message| message.to_frame().unwrap());
    requester.send_octets(&frames.concat());
    let messages = requester.rest();
    let of_active: Vec<_> = messages.iter().filter(|one| one.message.xid == 7).collect();
    assert_eq!(of_active.len(), 1);
    assert_eq!(of_active[0].status_code(), 4);
    // The bulk query is answered.
    assert!(
        messages
            .iter()
            .any(|one| one.message_type() == 15 && one.status().is_none())
    );
}

/// RFC 7724 section 8.3; the contract.
#[test]
fn an_active_query_may_follow_a_finished_bulk_answer() {
    let server = start("");
    let mut requester = Requester::connect(&server);
    for _ in 0..2 {
        assert!(is_answered(&mut requester));
    }
    requester.send(&query_from(7, u32::MAX));
    let first = requester.message();
    assert_eq!(first.status_code(), CATCH_UP_COMPLETE);
    assert_eq!(
        first.options[&54],
        [127, 0, 0, 1],
        "the first message of the stream"
    );
}

//------------ Time (RFC 7724 sections 7.4, 8.1 and 8.2) ---------------------------------------

/// RFC 7724 sections 7.4 and 8.4: ConnectionActive after each idle time; an active connection is not idle.
#[test]
fn a_silent_stream_is_shown_to_be_active_and_never_idle() {
    // Longer than 'max-requester-idle-time'.
    let server = start(r#""active-idle-timeout": 1, "max-requester-idle-time": 1"#);
    let mut requester = Requester::ask(&server, &query(7));
    for number in 0..3 {
        let status = requester.message();
        assert_eq!(status.status_code(), CONNECTION_ACTIVE);
        assert_eq!(status.status().unwrap().1, "");
        assert_eq!(status.message.xid, 7);
        assert!(status.number(152).is_some());
        assert_eq!(status.options.contains_key(&54), number == 0);
    }
}

/// RFC 7724 section 7.4: ConnectionActive is for the time without binding data alone.
#[test]
fn a_stream_with_changes_is_not_shown_to_be_active() {
    const IDLE: Duration = Duration::from_secs(1);
    let bench = Bench::new();
    let advanced = format!(r#"{INSECURE}, "active-idle-timeout": 1"#);
    let server = serve(&bench.mirror, &config(r#"["127.0.0.1"]"#, &advanced));
    let mut requester = stream(&server);
    let mut latest = Instant::now();
    // For several idle times, with changes in each.
    let mut client = 0_u8;
    let begin = latest;
    while begin.elapsed() < 3 * IDLE {
        client += 1;
        let before = std::mem::replace(&mut latest, Instant::now());
        bench.lease([10, 0, 1, 10], client, 0, &[]);
        loop {
            let message = requester.message();
            if message.message_type() == ACTIVE && message.message.chaddr[5] == client {
                break;
            }
            // Only if this machine made no change for so long.
            assert_eq!(message.status_code(), CONNECTION_ACTIVE);
            assert!(before.elapsed() >= IDLE);
        }
        thread::sleep(IDLE / 4);
    }
    // Then it comes, an idle time after the last change.
    assert_eq!(requester.message().status_code(), CONNECTION_ACTIVE);
    assert!(latest.elapsed() >= IDLE);
}

/// RFC 7724 section 8.2: also if the kernel holds all that is to be sent, as it does for a host that is down. No
/// later message finds it out before.
#[test]
fn a_requester_that_acknowledges_nothing_is_closed_after_the_send_time() {
    let bench = Bench::new();
    let advanced = format!(r#"{INSECURE}, "active-send-timeout": 1"#);
    let server = serve(&bench.mirror, &config(r#"["127.0.0.1"]"#, &advanced));
    let requester = stream(&server);
    // No room for the next messages, which fit the server's kernel: a closed window is not acknowledged.
    SockRef::from(&requester.0).set_recv_buffer_size(1).unwrap();
    let mut client = 0_u8;
    let is_open = || server.monitor().connection_count() > 0;
    while is_open() && server.counts().octets_sent.load(Ordering::Relaxed) < 16 * 1024 {
        client = client.wrapping_add(1);
        bench.lease([10, 0, 1, 10], client, 0, &[200; 202]);
    }
    let begin = Instant::now();
    while is_open() {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

/// RFC 7724 section 8.2: ACTIVE_LQ_SEND_TIMEOUT.
#[test]
fn a_requester_that_reads_nothing_is_closed_after_the_send_time() {
    let advanced = format!(r#"{INSECURE}, "active-send-timeout": 1"#);
    let bench = Bench::new();
    let server = serve(&bench.mirror, &config(r#"["127.0.0.1"]"#, &advanced));
    let mut requester = stream(&server);
    // Until its connection is closed; the kernel holds some messages.
    for client in (0..200).cycle() {
        if server.monitor().connection_count() == 0 {
            break;
        }
        for host in 10..20 {
            bench.lease([10, 0, 1, host], client, 0, &[200; 202]);
        }
    }
    // It was reset, or ends within a message: no status can be sent.
    let mut received = Vec::new();
    let _ = requester.0.read_to_end(&mut received);
    assert!(received.len() > 1_000);
}

/// RFC 7724 section 8.1: BULK_LQ_DATA_TIMEOUT.
#[test]
fn a_query_that_stays_incomplete_is_closed_after_the_idle_time() {
    let server = start(r#""max-requester-idle-time": 1"#);
    let mut requester = Requester::connect(&server);
    let octets = query(7).to_frame().unwrap();
    requester.send_octets(&octets[..octets.len() - 1]);
    assert!(requester.is_closed());
}

/// RFC 7724 section 8.4.
#[test]
fn a_connection_without_a_query_is_closed_after_the_idle_time() {
    let server = start(r#""max-requester-idle-time": 1"#);
    assert!(Requester::connect(&server).is_closed());
}

//------------ Places (RFC 7724 sections 8.1 and 8.3) ------------------------------------------

/// RFC 7724 section 8.1: at the limit the query is rejected, and never by TLSConnectionRefused.
#[test]
fn too_many_active_queries_end_with_query_terminated() {
    let server = start(r#""max-active-connections": 2"#);
    let first = stream(&server);
    let _second = stream(&server);
    let mut third = Requester::ask(&server, &query(7));
    let status = third.message();
    // Never TLSConnectionRefused.
    assert_eq!(status.status_code(), 2);
    assert!(
        status
            .status()
            .unwrap()
            .1
            .contains("'advanced.max-active-connections'")
    );
    assert!(third.is_closed());
    // Once the server has closed one, there is a place.
    first.finish();
    assert!({ first }.is_closed());
    stream(&server);
}

/// RFC 7724 sections 8.1 and 8.4: connections are limited; the contract.
#[test]
fn active_connections_do_not_exclude_others() {
    let server = start(r#""max-requester-connections": 1, "max-active-connections": 2"#);
    let _first = stream(&server);
    let _second = stream(&server);
    let mut bulk = Requester::connect(&server);
    assert!(is_answered(&mut bulk));
    // It is the one connection without an active query.
    assert!(Requester::connect(&server).is_closed());
    assert_eq!(server.monitor().connection_count(), 3);
    assert_eq!(server.monitor().active_count(), 2);
}

/// RFC 7724 section 8.3: a limit for each requester.
#[test]
fn active_connections_count_in_the_limits_of_their_entry() {
    let requesters = r#"[{ "address": "127.0.0.0/30", "max-connections": 3, "max-connections-per-address": 1 },
        { "address": "127.0.0.4", "max-connections-per-address": 1 }]"#;
    let server = start_with(&config(requesters, INSECURE));
    let connect = |host| Requester::connect_from(&server, [127, 0, 0, host]);
    let mut streams: Vec<Requester> = (1..=3).map(connect).collect();
    for requester in &mut streams {
        requester.send(&query_from(7, u32::MAX));
        assert_eq!(requester.message().status_code(), CATCH_UP_COMPLETE);
        assert!({ connect(1) }.is_closed(), "one of each address");
    }
    assert!(is_answered(&mut connect(4)));
    drop(streams.pop());
    while !is_served(&mut connect(3)) {
        std::thread::yield_now();
    }
}

/// Whether the connection is open; a closed one may fail already while the query is sent.
fn is_served(requester: &mut Requester) -> bool {
    use std::io::Write;
    let query = by_mac(1).to_message().unwrap().to_frame().unwrap();
    requester.0.write_all(&query).is_ok() && requester.next().is_some()
}

//------------ Ends (RFC 7724 sections 7.4 and 8.4) --------------------------------------------

/// RFC 7724 section 8.4: a connection that the requester closed is closed, without a status.
#[test]
fn the_requesters_close_closes_the_connection() {
    let server = start("");
    let mut requester = stream(&server);
    requester.finish();
    assert!(requester.is_closed());
}

/// RFC 7724 section 8.4: QueryTerminated with a base-time is the last message, then the connection is closed.
#[test]
fn a_stop_is_query_terminated_as_the_last_message() {
    let server = start("");
    let mut requesters = [stream(&server), stream(&server), stream(&server)];
    let stopping = std::thread::spawn(move || server.stop("the configuration changes"));
    for requester in &mut requesters {
        let last = requester.message();
        assert_eq!(last.status_code(), 2);
        assert_eq!(last.status().unwrap().1, "the configuration changes");
        assert!(last.number(152).is_some(), "base-time");
        assert!(requester.is_closed());
    }
    stopping.join().unwrap();
}

/// RFC 7724 section 8.4: a query that is aborted in process ends with QueryTerminated.
#[test]
fn an_administrator_ends_a_stream_with_query_terminated() {
    let server = start("");
    let mut requester = stream(&server);
    let connections = server.monitor().connections();
    assert!(connections[0].is_active);
    let ended = server.monitor().disconnect(Ipv4Addr::LOCALHOST, None);
    assert_eq!(ended, 1);
    let last = requester.message();
    assert_eq!(last.status_code(), 2);
    assert!(last.number(152).is_some());
    assert!(requester.is_closed());
}
