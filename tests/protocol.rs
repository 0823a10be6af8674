//! The server over real sockets on the loopback interface, with an engine without leases.

#[path = "support/fake_engine.rs"]
mod fake_engine;
#[path = "support/loopback.rs"]
mod loopback;

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhcp_blq::config::Config;
use dhcp_blq::server::{Listeners, Server};

use fake_engine::{FakeEngine, Query, Reply, frame};
use loopback::{PATIENCE, connect_from, is_close, read_message};

/// Returns parameters that permit all local addresses, on a port the system chooses.
fn config(advanced: &str) -> Config {
    let json = format!(
        r#"{{ "requesters": ["127.0.0.0/8"],
             "advanced": {{ "lease-query-ip": "127.0.0.1" {advanced} }} }}"#
    );
    Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    }
}

/// Starts a server that runs until dropped.
fn start(config: &Config) -> Server {
    Server::start(config, Arc::new(FakeEngine::default())).unwrap()
}

/// Connects to the server.
fn connect(server: &Server) -> TcpStream {
    connect_from(server, [127, 0, 0, 1])
}

/// Returns a query's octets.
fn query(xid: u32, replies: u32, size: u16) -> Vec<u8> {
    Query { xid, replies, size }.frame()
}

/// Reads the next reply.
fn reply(mut stream: &TcpStream) -> io::Result<Reply> {
    Ok(Reply::read(&read_message(&mut stream)?))
}

/// Reads all replies until the server closes.
fn replies(mut stream: &TcpStream) -> Vec<Reply> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let (replies, rest) = Reply::read_all(&received);
    assert!(rest.is_empty(), "the stream ends within a message");
    replies
}

/// Whether the server answers on the connection; otherwise it must have closed it.
fn is_served(mut stream: &TcpStream) -> bool {
    let outcome = stream
        .write_all(&query(77, 0, 8))
        .and_then(|()| reply(stream));
    match outcome {
        Ok(reply) => reply == Reply::done(77),
        Err(error) => {
            assert!(is_close(&error), "{error}");
            false
        }
    }
}

#[test]
fn answers_consecutive_queries_on_one_connection() {
    // RFC 6926 section 8.4: several queries from a single connection.
    let server = start(&config(""));
    let mut stream = connect(&server);
    for xid in 0..3 {
        stream.write_all(&query(xid, 2, 300)).unwrap();
        assert_eq!(reply(&stream).unwrap(), Reply::binding(xid, 0));
        assert_eq!(reply(&stream).unwrap(), Reply::binding(xid, 1));
        assert_eq!(reply(&stream).unwrap(), Reply::done(xid));
    }
}

#[test]
fn answers_queries_in_one_segment_and_queries_cut_into_octets() {
    // RFC 6926 section 6.1: TCP keeps no message boundaries.
    let server = start(&config(""));
    let mut stream = connect(&server);
    let octets: Vec<u8> = (0..40).flat_map(|xid| query(xid, 1, 300)).collect();
    stream.write_all(&octets).unwrap();
    for octet in query(40, 0, 8) {
        stream.write_all(&[octet]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let replies = replies(&stream);
    assert_eq!(replies.len(), 81);
    for xid in 0..=40 {
        assert!(replies.contains(&Reply::done(xid)), "{xid}");
    }
}

#[test]
fn answers_queries_in_turn_if_only_one_may_be_in_progress() {
    // RFC 6926 section 8.4. Both are in one segment, and the requester closes its side.
    let server = start(&config(r#", "max-concurrent-queries": 1"#));
    let mut stream = connect(&server);
    let octets: Vec<u8> = (0..40).flat_map(|xid| query(xid, 1, 300)).collect();
    stream.write_all(&octets).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let expected: Vec<Reply> = (0..40)
        .flat_map(|xid| [Reply::binding(xid, 0), Reply::done(xid)])
        .collect();
    assert_eq!(replies(&stream), expected);
}

#[test]
fn a_reset_connection_frees_its_slot_whatever_was_sent_on_it() {
    let server = start(&config(
        r#", "max-requester-connections": 1, "max-concurrent-queries": 2"#,
    ));
    let whole = query(1, 1_000_000, 300);
    for octets in [
        &[][..],
        // A message-size alone, a part of a query, the first octets of the largest message.
        &[0],
        &whole[..7],
        &[255, 255, 0],
        // Queries in progress, and queries that cannot begin yet.
        &whole,
        &[
            query(1, u32::MAX, 300),
            query(2, u32::MAX, 300),
            whole.clone(),
        ]
        .concat(),
    ] {
        let mut stream = connect(&server);
        stream.write_all(octets).unwrap();
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        while !is_served(&connect(&server)) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_small_query_sent_after_a_large_one_finishes_first() {
    // RFC 6926 section 7.7.
    let server = start(&config(""));
    let mut stream = connect(&server);
    stream.write_all(&query(1, 200_000, 300)).unwrap();
    // The large one is in progress.
    for number in 0..1_000 {
        assert_eq!(reply(&stream).unwrap(), Reply::binding(1, number));
    }
    stream.write_all(&query(2, 3, 300)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let replies = replies(&stream);
    let of = |wanted: Reply| replies.iter().position(|reply| *reply == wanted).unwrap();
    assert!(of(Reply::done(2)) < of(Reply::done(1)));
    assert_eq!(replies.len(), 200_001 - 1_000 + 4);
}

#[test]
fn closes_after_a_message_that_cannot_be_answered_and_loses_nothing() {
    // RFC 7724 section 8.1.1; RFC 6926 section 8.5: graceful, not an abort.
    let server = start(&config(""));
    let mut stream = connect(&server);
    let mut octets = query(1, 1_000, 300);
    octets.extend(frame(b"nonsense"));
    // Unread octets must not turn the close into a reset.
    octets.extend(query(2, 1, 300));
    stream.write_all(&octets).unwrap();
    let replies = replies(&stream);
    assert!(matches!(replies.last(), Some(Reply::Done { xid: 1, .. })));
    assert!(!replies.contains(&Reply::done(2)));
}

#[test]
fn closes_connections_that_are_not_permitted() {
    // RFC 6926 section 8.1.
    let mut config = config("");
    config.requesters = Config::parse(r#"{ "requesters": ["127.0.0.0/30", "127.0.1.1"] }"#)
        .unwrap()
        .requesters;
    let server = start(&config);
    for (source, permitted) in [
        ([127, 0, 0, 1], true),
        ([127, 0, 0, 4], false),
        ([127, 0, 1, 1], true),
        ([127, 0, 1, 2], false),
    ] {
        assert_eq!(
            is_served(&connect_from(&server, source)),
            permitted,
            "{source:?}"
        );
    }
}

#[test]
fn closes_connections_over_the_limit() {
    // RFC 6926 section 8.1: accepted, then closed immediately.
    let server = start(&config(r#", "max-requester-connections": 2"#));
    let first = connect(&server);
    let second = connect(&server);
    assert!(is_served(&first) && is_served(&second));
    let third = connect(&server);
    assert!(!is_served(&third));
    assert!(is_served(&first) && is_served(&second));
    // Once the server has closed a connection, another one is admitted.
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(replies(&first), []);
    assert!(is_served(&connect(&server)));
}

#[test]
fn requesters_that_do_not_read_do_not_delay_others() {
    // RFC 6926 section 9: exhaustion by requesters.
    let server = start(&config(""));
    let blocked: Vec<TcpStream> = (0..9)
        .map(|xid| {
            let mut stream = connect(&server);
            stream.write_all(&query(xid, 1_000_000, 1_000)).unwrap();
            assert_eq!(reply(&stream).unwrap(), Reply::binding(xid, 0));
            stream
        })
        .collect();
    let mut stream = connect(&server);
    stream.write_all(&query(100, 10_000, 300)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(replies(&stream).len(), 10_001);
    drop(blocked);
}

#[test]
fn listens_on_every_address() {
    let mut config = config("");
    config.listen_addresses = vec![Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let engine = Arc::new(FakeEngine::default());
    let server = Server::start(&config, Arc::clone(&engine)).unwrap();
    for address in server.local_addresses() {
        let stream = TcpStream::connect(address).unwrap();
        assert!(is_served(&stream), "{address}");
    }
    let locals: Vec<Ipv4Addr> = engine
        .requesters()
        .iter()
        .map(|requester| requester.local)
        .collect();
    assert_eq!(locals, config.listen_addresses);
}

#[test]
fn refuses_to_start_on_a_port_that_is_taken() {
    let running = start(&config(""));
    let port = running.local_addresses()[0].port();
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let mut config = config("");
        config.port = port;
        config.listen_addresses = vec![address];
        let Err(error) = Server::start(&config, Arc::new(FakeEngine::default())) else {
            panic!("the port is taken");
        };
        let text = error.to_string();
        for part in [
            &format!("{address}:{port}"),
            "'advanced.lease-query-ip'",
            "'advanced.lease-query-tcp-port'",
            "Address already in use",
            "no other process",
        ] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
    // The running server is not disturbed.
    assert!(is_served(&connect(&running)));
}

#[test]
fn listens_nowhere_if_one_address_fails() {
    let mut config = config("");
    // An address used by this test only, so that no other test takes the port.
    let good = Ipv4Addr::new(127, 0, 7, 1);
    config.listen_addresses = vec![good];
    let free = start(&config).local_addresses()[0].port();
    config.port = free;
    // 192.0.2.0/24 is for documentation (RFC 5737): no host has such an address.
    config.listen_addresses = vec![good, Ipv4Addr::new(192, 0, 2, 1)];
    let Err(error) = Server::start(&config, Arc::new(FakeEngine::default())) else {
        panic!("the address is not of this host");
    };
    let text = error.to_string();
    for part in [&format!("192.0.2.1:{free}"), "address of this host"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    let refused = TcpStream::connect((good, free)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Connects to a server, with retries until it listens.
fn connect_to(address: SocketAddrV4) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn listens_at_available_addresses_and_at_others_once_available() {
    // Two addresses used by this test only, so that no other test takes the port.
    let [good, late] = [3, 4].map(|host| Ipv4Addr::new(127, 0, 7, host));
    let mut config = config("");
    config.listen_addresses = vec![good, late];
    let taken = TcpListener::bind((late, 0)).unwrap();
    config.port = taken.local_addr().unwrap().port();
    let listeners = Listeners::open(&config, &[]).unwrap();
    let server = Server::start_with(listeners, &config, Arc::new(FakeEngine::default())).unwrap();
    assert_eq!(
        server.local_addresses(),
        [SocketAddrV4::new(good, config.port)]
    );
    assert!(is_served(&connect(&server)));
    drop(taken);
    // Nothing listens there yet.
    assert!(is_served(&connect_to(SocketAddrV4::new(late, config.port))));
    assert!(is_served(&connect(&server)));
    server.stop("the configuration changes");
    // Binding is not retried for either address.
    for address in [good, late] {
        TcpListener::bind((address, config.port)).unwrap();
    }
}

#[test]
fn stops_at_once_while_an_address_is_tried_again() {
    let address = Ipv4Addr::new(127, 0, 7, 5);
    let mut config = config("");
    config.listen_addresses = vec![address];
    let taken = TcpListener::bind((address, 0)).unwrap();
    config.port = taken.local_addr().unwrap().port();
    let listeners = Listeners::open(&config, &[]).unwrap();
    let server = Server::start_with(listeners, &config, Arc::new(FakeEngine::default())).unwrap();
    server.stop("the configuration changes");
    drop(taken);
    TcpListener::bind((address, config.port)).unwrap();
}

/// RFC 7724 section 8.2: an error later in a stream is a status, then the connection is closed.
#[test]
fn a_failure_during_an_active_query_is_its_last_status() {
    let config = config(r#", "active-query-enabled": true, "active-query-insecure": true"#);
    let engine = Arc::new(FakeEngine::default());
    let server = Server::start(&config, Arc::clone(&engine)).unwrap();
    let mut stream = connect(&server);
    stream.write_all(&Query::active(1).frame()).unwrap();
    while engine.writes() == 0 {
        std::thread::yield_now();
    }
    engine.change(1);
    assert_eq!(reply(&stream).unwrap(), Reply::binding(1, 0));
    engine.fail();
    let status = Reply::status(1, proto::StatusCode::QUERY_TERMINATED, "failed");
    assert_eq!(replies(&stream), [status]);
}

#[test]
fn signals_aborted_queries_when_it_stops() {
    // RFC 6926 section 8.5: QueryTerminated with a reason, then a graceful close.
    let server = start(&config(""));
    let mut stream = connect(&server);
    for xid in 1..=16 {
        stream.write_all(&query(xid, 100_000_000, 300)).unwrap();
    }
    let idle = connect(&server);
    assert!(is_served(&idle));
    // All of them are in progress.
    let mut answered = HashSet::new();
    while answered.len() < 16 {
        if let Reply::Binding { xid, .. } = reply(&stream).unwrap() {
            answered.insert(xid);
        }
    }
    let stopping = std::thread::spawn(move || server.stop("the configuration changes"));
    let replies = replies(&stream);
    let mut ended: Vec<u32> = replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Done { xid, status } if status == "the configuration changes" => Some(*xid),
            _ => None,
        })
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, (1..=16).collect::<Vec<_>>());
    assert!(!is_served(&idle));
    stopping.join().unwrap();
}

#[test]
fn a_requester_that_reads_late_receives_the_end_of_its_query() {
    // RFC 6926 section 8.5. The requester reads nothing until the server has stopped: its replies
    // wait in the system.
    let server = start(&config(""));
    let mut streams: Vec<TcpStream> = (0..5).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        stream.write_all(&query(1, 100_000_000, 300)).unwrap();
        assert_eq!(reply(stream).unwrap(), Reply::binding(1, 0));
    }
    // The first connection has filled the system's buffers by now.
    let mut other = connect(&server);
    other.write_all(&query(1, 200_000, 300)).unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(replies(&other).len(), 200_001);
    server.stop("the configuration changes");
    for stream in &streams {
        let replies = replies(stream);
        let ended = Reply::Done {
            xid: 1,
            status: "the configuration changes".to_owned(),
        };
        assert_eq!(replies.last(), Some(&ended), "{} replies", replies.len());
    }
}

#[test]
fn starts_again_on_the_same_port_at_once() {
    // A reconfiguration, with a requester that has not closed its side, and one that does not read.
    let mut config = config("");
    // An address used by this test only, so that no other test takes the port.
    config.listen_addresses = vec![Ipv4Addr::new(127, 0, 7, 2)];
    let first = start(&config);
    config.port = first.local_addresses()[0].port();
    let idle = connect(&first);
    assert!(is_served(&idle));
    let mut blocked = connect(&first);
    blocked.write_all(&query(1, 1_000_000, 1_000)).unwrap();
    reply(&blocked).unwrap();
    first.stop("the configuration changes");
    let second = start(&config);
    assert!(is_served(&connect(&second)));
    drop(second);
    let refused = TcpStream::connect((config.listen_addresses[0], config.port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
