//! The active query of the library (RFC 7724 section 7), against a server in the test.

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use blq::active::Error;
use blq::client::{self, Operation};
use blq::{
    ActiveQuery, ActiveReply, ActiveStream, Connection, MessageType, Primary, Query, StatusCode,
    Timeouts,
};
use common::{BASE_TIME, Server, active, done, failed, full, status, unassigned};

/// Long enough for any message of a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the query to a server from `start` on.
fn stream(server: &Server, start: Option<u32>, timeout: Duration) -> ActiveStream {
    let connection = Connection::open(server.address, &Timeouts::default()).unwrap();
    ActiveStream::start(connection, &ActiveQuery::new(start), timeout).unwrap()
}

/// RFC 7724 sections 7.3 and 7.4: the query, and each kind of reply as it arrives.
#[test]
fn returns_replies_as_they_arrive() {
    let (seen, wait_until_seen) = std::sync::mpsc::channel::<()>();
    let server = Server::start(move |mut peer| {
        let query = peer.read();
        assert_eq!(query.message_type(), Some(MessageType::ACTIVE_LEASE_QUERY));
        assert_eq!(common::start_of(&query), Some(77));
        let xid = query.xid;
        peer.send(&[full(xid)]);
        wait_until_seen.recv().unwrap();
        peer.send(&[
            unassigned(xid, 8),
            status(xid, 7, "", 1000),
            status(xid, 6, "", 1060),
            status(xid, 2, "shut down", 1070),
        ]);
        peer.wait_for_close().unwrap();
    });
    let mut stream = stream(&server, Some(77), PATIENCE);
    assert!(stream.may_wait());
    let Some(ActiveReply::Binding(first)) = stream.next_reply().unwrap() else {
        panic!();
    };
    assert_eq!(first.address, Ipv4Addr::new(192, 0, 2, 7));
    assert_eq!(first.lease_time, Some(5400));
    seen.send(()).unwrap();
    let Some(ActiveReply::Binding(second)) = stream.next_reply().unwrap() else {
        panic!();
    };
    assert_eq!(second.message_type, MessageType::LEASE_UNASSIGNED);
    // The server identifier of the first reply, as in an answer to a bulk query.
    assert_eq!(second.server_identifier, Some(Ipv4Addr::new(192, 0, 2, 1)));
    let reports: Vec<(StatusCode, Option<u32>, bool)> = (&mut stream)
        .map(|reply| match reply.unwrap() {
            ActiveReply::Status(report) => (report.status.code, report.base_time, report.is_last),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        reports,
        [
            (StatusCode::CATCH_UP_COMPLETE, Some(1000), false),
            (StatusCode::CONNECTION_ACTIVE, Some(1060), false),
            (StatusCode::QUERY_TERMINATED, Some(1070), true),
        ]
    );
    // The connection is closed although the stream still exists.
    server.join();
    assert!(stream.next_reply().unwrap().is_none());
    assert!(!stream.may_wait());
}

/// RFC 7724 section 5.3: ACTIVE_LQ_RCV_TIMEOUT; any message begins it anew.
#[test]
fn closes_the_connection_to_a_silent_server() {
    let server = Server::start(move |mut peer| {
        let xid = peer.read().xid;
        peer.send(&[status(xid, 7, "", 1000)]);
        peer.wait_for_close().unwrap();
    });
    let mut stream = stream(&server, None, Duration::from_millis(50));
    assert!(stream.next_reply().unwrap().is_some());
    let error = stream.next_reply().unwrap_err();
    assert!(error.has_reply());
    assert!(matches!(
        error,
        Error::Connection {
            error: client::Error::Blocked {
                operation: Operation::Read,
                ..
            },
            ..
        }
    ));
    server.join();
}

/// RFC 7724 section 8.1.1: a server without Active Leasequery closes the connection.
#[test]
fn reports_a_connection_closed_without_a_reply() {
    for replies in [0, 1] {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            peer.send(&vec![active(xid, 1); replies]);
        });
        let mut stream = stream(&server, None, PATIENCE);
        let last = stream.by_ref().last().unwrap();
        let Err(Error::Closed { has_reply }) = last else {
            panic!("{last:?}");
        };
        assert_eq!(has_reply, replies == 1);
        server.join();
    }
}

/// Other servers: DHCPLEASEQUERYDONE for a status, an empty DHCPLEASEACTIVE for ConnectionActive.
#[test]
fn accepts_messages_of_other_servers() {
    let server = Server::start(move |mut peer| {
        let xid = peer.read().xid;
        let mut keepalive = active(0, 0);
        keepalive.ciaddr = Ipv4Addr::UNSPECIFIED;
        peer.send(&[keepalive, failed(xid, 7, ""), done(xid)]);
        peer.wait_for_close().unwrap();
    });
    let mut stream = stream(&server, Some(1), PATIENCE);
    let replies: Vec<ActiveReply> = stream.by_ref().map(Result::unwrap).collect();
    let [
        first,
        ActiveReply::Status(caught_up),
        ActiveReply::Status(end),
    ] = &replies[..]
    else {
        panic!("{replies:?}");
    };
    let base_time = Some(BASE_TIME);
    assert_eq!(*first, ActiveReply::Keepalive { base_time });
    assert_eq!(caught_up.status.code, StatusCode::CATCH_UP_COMPLETE);
    assert!(!caught_up.is_last);
    assert!(end.is_last);
    server.join();
}

/// RFC 6926 section 7.3, which RFC 7724 section 7.1 refers to: replies have the xid of the query.
#[test]
fn closes_the_connection_on_a_message_that_is_no_reply() {
    type Build = fn(u32) -> blq::Message;
    let builds: [Build; 4] = [
        |xid| active(xid.wrapping_add(1), 1),
        |xid| status(xid.wrapping_add(1), 7, "", 1),
        |xid| common::tls::agreement(xid),
        |xid| unassigned(xid, 1).with(152, [1]),
    ];
    for build in builds {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            peer.send(&[build(xid)]);
            peer.wait_for_close().unwrap();
        });
        let mut stream = stream(&server, None, PATIENCE);
        let error = stream.next_reply().unwrap_err();
        assert!(matches!(
            error,
            Error::Connection {
                error: client::Error::UnknownXid(_) | client::Error::Malformed(_),
                has_reply: false
            }
        ));
        server.join();
    }
}

/// RFC 7724 section 8.3: an active query is alone on its connection.
#[test]
fn refuses_a_connection_with_a_query_in_progress() {
    let server = Server::start(move |mut peer| {
        peer.read();
        assert!(peer.read_or_end().is_none());
    });
    let mut connection = Connection::open(server.address, &Timeouts::default()).unwrap();
    connection.send(&Query::new(Primary::All)).unwrap();
    let started = ActiveStream::start(connection, &ActiveQuery::new(None), PATIENCE);
    assert!(matches!(started, Err(client::Error::Busy(1))));
    server.join();
}
