//! The rules for requesters of RFC 6926 section 7, against a server in the test.

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::time::Duration;

use blq::{Connection, Error, Primary, Query, Reply, StatusCode, Timeouts};
use common::{Server, active, done, failed, unassigned};

/// Returns a connection to `server` with timeouts short enough for a test.
fn connect(server: &Server) -> Connection {
    let timeouts = Timeouts {
        connect: Duration::from_secs(10),
        data: Duration::from_secs(30),
    };
    Connection::open(server.address, &timeouts).unwrap()
}

/// Returns a query for all addresses with this xid.
fn query(xid: u32) -> Query {
    Query {
        xid,
        ..Query::new(Primary::All)
    }
}

/// RFC 6926 section 7.7.1: the example of interleaved replies.
#[test]
fn sorts_interleaved_replies_by_xid() {
    let server = Server::start(|mut peer| {
        assert_eq!(peer.read().xid, 3);
        assert_eq!(peer.read().xid, 4);
        peer.send(&[active(4, 41), active(4, 42), active(3, 31)]);
        peer.send(&[active(4, 43), unassigned(3, 32), active(4, 44)]);
        peer.send(&[active(3, 33), done(3), active(4, 45), done(4)]);
        peer.wait_for_close().unwrap();
    });
    let mut connection = connect(&server);
    connection.send(&query(3)).unwrap();
    connection.send(&query(4)).unwrap();
    let answers = connection.collect_answers();
    for (xid, expected) in [(3, vec![31, 32, 33]), (4, vec![41, 42, 43, 44, 45])] {
        let answer = &answers[&xid];
        let addresses: Vec<u8> = (answer.bindings.iter())
            .map(|binding| binding.address.octets()[3])
            .collect();
        assert_eq!(addresses, expected);
        assert_eq!(answer.done.as_ref().unwrap().failure(), None);
    }
    assert!(matches!(connection.next_reply(), Ok(None)));
    // RFC 6926 section 7.8: closed gracefully; `wait_for_close` fails after a reset.
    drop(connection);
    server.join();
}

/// RFC 6926 section 7.7: a connection carries one query after another, each with its own answer.
#[test]
fn sends_several_queries_on_a_connection() {
    let server = Server::start(|mut peer| {
        for last in 1..=3 {
            let xid = peer.read().xid;
            peer.send(&[active(xid, last), done(xid)]);
        }
    });
    let mut connection = connect(&server);
    for last in 1..=3 {
        let answer = connection.query(&Query::new(Primary::All));
        assert_eq!(answer.bindings.len(), 1);
        assert_eq!(answer.bindings[0].address, Ipv4Addr::new(192, 0, 2, last));
        assert!(answer.done.is_ok());
    }
    server.join();
}

/// RFC 6926 section 7.3: later replies to a query have the server identifier of its first one.
#[test]
fn applies_the_server_identifier_to_later_replies() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.read();
        let first = active(1, 1).with(54, [198, 51, 100, 1]);
        let other = active(2, 2).with(54, [198, 51, 100, 2]);
        peer.send(&[first, other, active(1, 3), active(2, 4), done(1), done(2)]);
    });
    let mut connection = connect(&server);
    connection.send(&query(1)).unwrap();
    connection.send(&query(2)).unwrap();
    let identifiers: Vec<(u32, Option<Ipv4Addr>)> = connection
        .replies()
        .map(|reply| reply.map(|reply| (reply.xid(), reply.server_identifier())))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(identifiers.len(), 6);
    for (xid, identifier) in identifiers {
        let last = u8::try_from(xid).unwrap();
        assert_eq!(identifier, Some(Ipv4Addr::new(198, 51, 100, last)));
    }
    server.join();
}

/// RFC 6926 section 7.3: an xid that matches no query closes the connection.
#[test]
fn closes_the_connection_on_an_unknown_xid() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.send(&[active(1, 1), active(99, 2)]);
        peer.wait_for_close().unwrap();
    });
    let mut connection = connect(&server);
    let answer = connection.query(&query(1));
    assert_eq!(answer.bindings.len(), 1);
    assert!(matches!(*answer.done.unwrap_err(), Error::UnknownXid(99)));
    assert_eq!(connection.outstanding(), 0);
    // The connection is closed although it has not been dropped.
    server.join();
}

/// RFC 6926 section 7.3: a DHCPLEASEQUERYDONE ends its query; later replies with that xid match no
/// query.
#[test]
fn closes_the_connection_on_a_reply_after_the_end() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.read();
        peer.send(&[done(1), active(1, 1)]);
    });
    let mut connection = connect(&server);
    connection.send(&query(1)).unwrap();
    connection.send(&query(2)).unwrap();
    assert!(matches!(connection.next_reply(), Ok(Some(Reply::Done(_)))));
    assert!(matches!(connection.next_reply(), Err(Error::UnknownXid(1))));
    server.join();
}

/// RFC 6926 section 7.1: each query has an xid unique on the connection.
#[test]
fn refuses_to_send_an_xid_in_use() {
    let server = Server::start(|mut peer| {
        peer.read();
        assert!(peer.read_or_end().is_none());
    });
    let mut connection = connect(&server);
    connection.send(&query(1)).unwrap();
    assert!(matches!(
        connection.send(&query(1)),
        Err(Error::XidInUse(1))
    ));
    drop(connection);
    server.join();
}

/// RFC 6926 sections 7.1 and 7.8: bindings before QueryTerminated or a failure are valid.
#[test]
fn keeps_bindings_received_before_an_early_end() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1), failed(xid, 2, "shutting down")]);
        let xid = peer.read().xid;
        peer.send(&[active(xid, 2), active(xid, 3)]);
        // A frame cut within its message.
        let frame = active(xid, 4).to_frame().unwrap();
        peer.stream.write_all(&frame[..100]).unwrap();
    });
    let mut connection = connect(&server);
    let answer = connection.query(&Query::new(Primary::All));
    assert_eq!(answer.bindings.len(), 1);
    let done = answer.done.unwrap();
    let status = done.failure().unwrap();
    assert_eq!(status.code, StatusCode::QUERY_TERMINATED);
    assert_eq!(status.text, "shutting down");

    let answer = connection.query(&Query::new(Primary::All));
    assert_eq!(answer.bindings.len(), 2);
    assert!(matches!(
        *answer.done.unwrap_err(),
        Error::ClosedInMessage(1)
    ));
    server.join();
}

/// RFC 6926 section 7.3: a DHCPLEASEQUERYDONE completes an answer, a closed connection does not.
#[test]
fn reports_a_connection_closed_before_the_end_of_an_answer() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.send(&[active(1, 1)]);
        peer.stream.shutdown(Shutdown::Both).unwrap();
    });
    let answer = connect(&server).query(&query(1));
    assert_eq!(answer.bindings.len(), 1);
    assert!(matches!(*answer.done.unwrap_err(), Error::Closed(1)));
    server.join();
}

/// RFC 6926 section 7.3: a connection blocked for BULK_LQ_DATA_TIMEOUT is closed.
#[test]
fn closes_the_connection_to_a_silent_server() {
    let server = Server::start(|mut peer| {
        peer.read();
        peer.wait_for_close().unwrap();
    });
    let timeouts = Timeouts {
        data: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let mut connection = Connection::open(server.address, &timeouts).unwrap();
    let answer = connection.query(&query(1));
    assert!(matches!(*answer.done.unwrap_err(), Error::Blocked { .. }));
    server.join();
}

/// RFC 6926 sections 6.1 and 7.3: TCP segments have no relation to messages.
#[test]
fn reads_replies_split_at_every_octet() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.stream.set_nodelay(true).unwrap();
        for message in [active(xid, 1), unassigned(xid, 2), done(xid)] {
            for octet in message.to_frame().unwrap() {
                peer.stream.write_all(&[octet]).unwrap();
            }
        }
    });
    let answer = connect(&server).query(&Query::new(Primary::All));
    assert_eq!(answer.bindings.len(), 2);
    assert!(answer.done.is_ok());
    server.join();
}

/// RFC 6926 section 7.3: a request, DHCPLEASEUNKNOWN, and octets that are not a DHCP message.
#[test]
fn refuses_messages_that_are_not_replies() {
    let mut request = active(1, 1);
    request.op = 1;
    let mut unknown = active(1, 1);
    unknown.options[0] = (53, vec![12]);
    let frames = [
        request.to_frame().unwrap(),
        unknown.to_frame().unwrap(),
        vec![0, 0],
        vec![0, 3, 1, 2, 3],
    ];
    for frame in frames {
        let server = Server::start(move |mut peer| {
            peer.read();
            peer.stream.write_all(&frame).unwrap();
            peer.wait_for_close().unwrap();
        });
        let mut connection = connect(&server);
        let error = connection.query(&query(1)).done.unwrap_err();
        assert!(matches!(*error, Error::Malformed(_) | Error::Decode(_)));
        server.join();
    }
}

/// RFC 6926 section 6.1: the longest message.
#[test]
fn reads_a_message_of_65535_octets() {
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        // Each instance of an option has two octets before its value.
        let mut message = active(xid, 1);
        let left = 65_535 - message.encode().len();
        let (whole, rest) = (left / 257, left % 257);
        message = message
            .with(43, vec![7; whole * 255])
            .with(44, vec![8; rest - 2]);
        assert_eq!(message.encode().len(), 65_535);
        peer.send(&[message, done(xid)]);
    });
    let answer = connect(&server).query(&Query::new(Primary::All));
    assert!(answer.done.is_ok());
    assert!(answer.bindings[0].options[&43].len() > 60_000);
    server.join();
}

/// Tests of servers send malformed queries, and read replies without their being checked.
#[test]
fn sends_any_octets_and_reads_any_message() {
    let server = Server::start(|mut peer| {
        assert_eq!(peer.read().options, [(53, vec![14]), (154, vec![1])]);
        peer.send(&[failed(5, 3, "query-start-time: 1 octet"), done(6)]);
    });
    let mut connection = connect(&server);
    let malformed = query(5).to_message().unwrap();
    let malformed = blq::Message {
        options: vec![(53, vec![14]), (154, vec![1])],
        ..malformed
    };
    for octet in malformed.to_frame().unwrap() {
        connection.send_octets(&[octet]).unwrap();
    }
    connection.finish_sending().unwrap();
    assert_eq!(connection.next_message().unwrap().unwrap().xid, 5);
    connection.expect(6);
    assert!(matches!(connection.next_reply(), Ok(Some(Reply::Done(_)))));
    assert!(connection.next_message().unwrap().is_none());
    server.join();
}

/// RFC 6926 section 7.1: a failed attempt to connect is an error.
#[test]
fn reports_a_port_without_a_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Connection::open(address, &Timeouts::default()).unwrap_err();
    assert!(matches!(error, Error::Connect(_)));
}
