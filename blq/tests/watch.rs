//! A watch of the library (RFC 7724 section 7), against servers in the test. The rules themselves are
//! tested without sockets.

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use blq::watch::{Event, Failure, Settings};
use blq::{Connection, Message, MessageType, Timeouts, Watch};
use common::{Peer, Server, accept, active, at, done, end_of, failed, start_of, status};

/// Settings whose intervals are short enough for a test.
fn settings(start: Option<u32>) -> Settings {
    Settings {
        start,
        retry_interval: Duration::from_millis(20),
        poll_interval: Duration::from_millis(20),
        active_interval: Duration::from_secs(3600),
        receive_timeout: Duration::from_secs(30),
        ..Settings::default()
    }
}

/// Returns a watch of a server.
fn watch(server: &Server, settings: Settings) -> Watch {
    let address = server.address;
    let connect = move || Connection::open(address, &Timeouts::default());
    Watch::new(connect, settings)
}

/// Accepts a connection and reads its query, which must be of this type.
fn query(listener: &TcpListener, message_type: MessageType) -> (Peer, Message) {
    let mut peer = accept(listener);
    let query = peer.read();
    assert_eq!(query.message_type(), Some(message_type));
    (peer, query)
}

/// Returns the next event, in short.
fn next(watch: &mut Watch) -> String {
    let event = watch.next().expect("an event").expect("no failure");
    match event {
        Event::Binding(binding) => format!("binding {}", binding.address.octets()[3]),
        Event::Answer { start, bindings } => format!("answer {start:?} {bindings}"),
        Event::CaughtUp { start } => format!("caught up {start}"),
        Event::DataMissing { start, end } => format!("missing {start:?} {end:?}"),
        Event::Alive => "alive".into(),
        Event::Status(status) => status.to_string(),
        Event::Lost { failure, .. } => format!("lost: {failure}"),
        Event::Unanswered { failure, .. } => format!("unanswered: {failure}"),
        Event::NoActive { failure, .. } => format!("no active: {failure}"),
    }
}

/// RFC 7724 sections 7.3 and 7.4: all bindings, then the changes since, then each change; after a lost
/// connection from the latest base-time on.
#[test]
fn goes_on_over_lost_connections() {
    let server = Server::serve(|listener| {
        let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
        assert_eq!((start_of(&bulk), end_of(&bulk)), (None, None));
        let answer = at(done(bulk.xid), 500);
        peer.send(&[
            at(active(bulk.xid, 1), 501),
            at(active(bulk.xid, 2), 501),
            answer,
        ]);

        let (mut peer, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        assert_eq!(start_of(&first), Some(500));
        // The connection ends before the catch-up is complete.
        peer.send(&[at(active(first.xid, 3), 600)]);
        drop(peer);

        let (mut peer, second) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        assert_eq!(start_of(&second), Some(500));
        let xid = second.xid;
        peer.send(&[at(active(xid, 3), 610), status(xid, 7, "", 620)]);
        peer.send(&[at(active(xid, 4), 630), status(xid, 6, "", 690)]);
        peer.send(&[status(xid, 2, "bye", 700)]);
        peer.wait_for_close().unwrap();

        let (mut peer, third) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        assert_eq!(start_of(&third), Some(700));
        peer.send(&[status(third.xid, 7, "", 710)]);
        peer.wait_for_close().unwrap();
    });
    let mut watch = watch(&server, settings(None));
    for expected in [
        "binding 1",
        "binding 2",
        "answer None 2",
        "binding 3",
        "lost: the server closed the connection",
        "binding 3",
        "caught up 500",
        "binding 4",
        "alive",
        "lost: the server ended the query: QueryTerminated (2): bye",
        "caught up 700",
    ] {
        assert_eq!(next(&mut watch), expected);
    }
    assert_eq!(watch.start(), Some(710));
    drop(watch);
    server.join();
}

/// RFC 7724 section 7.4.1: a bulk query on a second connection, while the active one goes on.
#[test]
fn queries_missing_data_while_the_active_query_goes_on() {
    let server = Server::serve(|listener| {
        let (mut stream, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        let xid = first.xid;
        assert_eq!(start_of(&first), Some(100));
        stream.send(&[status(xid, 5, "", 800)]);
        let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
        assert_eq!((start_of(&bulk), end_of(&bulk)), (Some(100), Some(800)));
        assert_eq!(bulk.option(221), Some(vec![254]));
        peer.send(&[at(active(bulk.xid, 1), 801)]);
        // Without the end of the answer; the active query goes on.
        stream.send(&[at(active(xid, 2), 802), status(xid, 99, "unheard of", 803)]);
        drop(peer);
        let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
        assert_eq!((start_of(&bulk), end_of(&bulk)), (Some(100), Some(800)));
        peer.send(&[at(active(bulk.xid, 1), 804), done(bulk.xid)]);
        stream.wait_for_close().unwrap();
    });
    let settings = Settings {
        vpn: Some(blq::Vss::All),
        ..settings(Some(100))
    };
    let mut watch = watch(&server, settings);
    assert_eq!(next(&mut watch), "missing Some(100) Some(800)");
    // The order of messages of different connections is any.
    let mut events: Vec<String> = (0..6).map(|_| next(&mut watch)).collect();
    events.sort();
    assert_eq!(
        events,
        [
            "answer Some(100) 1",
            "binding 1",
            "binding 1",
            "binding 2",
            "unanswered: the server closed the connection before the end of the answer (1 in progress)",
            "unassigned (99): unheard of",
        ]
    );
    assert_eq!(watch.start(), Some(803));
    drop(watch);
    server.join();
}

/// RFC 7724 section 8.1.1: a server without Active Leasequery; NotAllowed from a server with it.
#[test]
fn polls_a_server_without_active_leasequery() {
    for is_status in [false, true] {
        let server = Server::serve(move |listener| {
            let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
            peer.send(&[at(active(bulk.xid, 1), 500), at(done(bulk.xid), 499)]);
            let (mut peer, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
            if is_status {
                peer.send(&[status(first.xid, 4, "no", 500)]);
                peer.wait_for_close().unwrap();
            }
            drop(peer);
            for (start, next) in [(499, 560), (560, 620), (620, 680)] {
                let (mut peer, delta) = query(&listener, MessageType::BULK_LEASE_QUERY);
                assert_eq!((start_of(&delta), end_of(&delta)), (Some(start), None));
                peer.send(&[
                    at(active(delta.xid, 2), next + 1),
                    at(done(delta.xid), next),
                ]);
            }
            // Until the watch ends.
            drop(listener);
        });
        let mut watch = watch(&server, settings(None));
        assert_eq!(next(&mut watch), "binding 1");
        assert_eq!(next(&mut watch), "answer None 1");
        let expected = match is_status {
            true => "no active: the server ended the query: NotAllowed (4): no",
            false => {
                "no active: the server closed the connection without a reply to \
                 DHCPACTIVELEASEQUERY"
            }
        };
        assert_eq!(next(&mut watch), expected);
        for start in [499, 560, 620] {
            assert_eq!(next(&mut watch), "binding 2");
            assert_eq!(next(&mut watch), format!("answer Some({start}) 1"));
        }
        assert!(next(&mut watch).starts_with("unanswered: "));
        assert_eq!(watch.start(), Some(680));
        server.join();
    }
}

/// RFC 7724 section 7.4: ACTIVE_LQ_RCV_TIMEOUT, and a retry.
#[test]
fn reconnects_to_a_silent_server() {
    let server = Server::serve(|listener| {
        for _ in 0..2 {
            let (mut peer, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
            peer.send(&[status(first.xid, 7, "", 200)]);
            peer.wait_for_close().unwrap();
        }
    });
    let mut watch = watch(
        &server,
        Settings {
            receive_timeout: Duration::from_millis(50),
            ..settings(Some(100))
        },
    );
    assert_eq!(next(&mut watch), "caught up 100");
    assert_eq!(next(&mut watch), "lost: the server sent nothing for 0.05 s");
    assert_eq!(next(&mut watch), "caught up 200");
    drop(watch);
    server.join();
}

/// RFC 7724 section 7.1: the base-time is part of any list, since queries go on from it.
#[test]
fn requests_base_time_in_any_case() {
    let server = Server::serve(|listener| {
        let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
        assert_eq!(bulk.option(55), Some(vec![51, 152]));
        // A server that does not send it all the same.
        peer.send(&[done(bulk.xid)]);
    });
    let mut watch = watch(
        &server,
        Settings {
            parameter_request_list: Some(vec![51]),
            ..settings(None)
        },
    );
    let failure = watch.next().unwrap().unwrap_err();
    assert!(matches!(failure, Failure::NoBaseTime));
    assert!(watch.next().is_none());
    server.join();
}

#[test]
fn ends_by_a_refusal_of_its_first_query() {
    let server = Server::serve(|listener| {
        let (mut peer, bulk) = query(&listener, MessageType::BULK_LEASE_QUERY);
        peer.send(&[failed(bulk.xid, 4, "query type all")]);
        peer.wait_for_close().unwrap();
    });
    let mut watch = watch(&server, settings(None));
    let failure = watch.next().unwrap().unwrap_err();
    assert!(matches!(failure, Failure::Refused(_)));
    assert!(watch.next().is_none());
    server.join();
}

#[test]
fn retries_until_the_server_is_there() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let connect = move || Connection::open(address, &Timeouts::default());
    let mut watch = Watch::new(connect, settings(None));
    for _ in 0..3 {
        assert!(next(&mut watch).starts_with("unanswered: cannot connect"));
    }
}

/// Another thread ends a watch that waits for the server, and the server sees its connection closed.
#[test]
fn ends_while_it_waits() {
    let server = Server::serve(|listener| {
        let (mut peer, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        peer.send(&[status(first.xid, 7, "", 200)]);
        peer.wait_for_close().unwrap();
    });
    let mut watch = watch(&server, settings(Some(100)));
    assert_eq!(next(&mut watch), "caught up 100");
    let stopper = watch.stopper();
    let stopping = thread::spawn(move || stopper.stop());
    assert!(watch.next().is_none());
    assert!(matches!(watch.next_if_ready(), Ok(None)));
    stopping.join().unwrap();
    drop(watch);
    server.join();
}

/// A caller that takes no events delays the server, and can still end the watch.
#[test]
fn ends_while_its_events_wait() {
    let is_blocked = Arc::new(AtomicBool::new(false));
    let blocked = Arc::clone(&is_blocked);
    let server = Server::serve(move |listener| {
        let (mut peer, first) = query(&listener, MessageType::ACTIVE_LEASE_QUERY);
        peer.send(&[status(first.xid, 7, "", 200)]);
        peer.stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let frame = active(first.xid, 1).to_frame().unwrap();
        while std::io::Write::write_all(&mut peer.stream, &frame).is_ok() {}
        blocked.store(true, Ordering::SeqCst);
    });
    let mut watch = watch(&server, settings(Some(100)));
    assert_eq!(next(&mut watch), "caught up 100");
    server.join();
    assert!(is_blocked.load(Ordering::SeqCst));
    drop(watch);
}
