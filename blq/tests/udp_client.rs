//! The requester over UDP against a server in the test: retransmission, and the assignment of replies.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use blq::udp::{Error, Ignored, Key, LeaseQuery, Reply, Requester, Retransmission, Violation};
use blq::{Message, MessageType};
use common::udp::{REQUESTER, UdpServer, answering, reply};

/// A timeout that no passing test reaches.
const LONG: Duration = Duration::from_secs(60);

/// Delays that no passing test waits for.
const NONE: Retransmission = Retransmission {
    first: LONG,
    most: LONG,
    spread: Duration::ZERO,
};

/// Returns a query by IP address.
fn by_address() -> LeaseQuery {
    LeaseQuery::new(Key::Address(Ipv4Addr::new(192, 0, 2, 9)))
}

/// Returns a requester for a server.
fn requester(server: &UdpServer) -> Requester {
    let port = server.address.port();
    let requester = Requester::open(server.address, Some(REQUESTER), port).unwrap();
    requester.with_retransmission(NONE)
}

/// Returns a DHCPLEASEACTIVE for 192.0.2.9.
fn active(query: &Message) -> Message {
    reply(query, MessageType::LEASE_ACTIVE, 9)
}

/// RFC 4388 sections 6.2 and 6.5: giaddr is the address at which replies are received.
#[test]
fn receives_the_reply_at_giaddr() {
    let server = answering(|query| {
        assert_eq!(query.message_type(), Some(MessageType::LEASE_QUERY));
        assert_eq!(query.giaddr, REQUESTER);
        active(query)
    });
    let query = by_address();
    match requester(&server).query(&query, LONG) {
        Ok(Reply::Binding(binding)) => assert_eq!(binding.xid, query.xid),
        other => panic!("{other:?}"),
    }
    server.join();
}

/// RFC 4388 section 6.6, RFC 2131 section 4.1: the query is sent again, unchanged.
#[test]
fn sends_the_query_again_until_it_is_answered() {
    let server = UdpServer::start(|peer| {
        let first = peer.receive();
        assert_eq!(peer.receive(), first);
        assert_eq!(peer.receive(), first);
        let query = Message::decode(&first).unwrap();
        peer.send(&active(&query).encode(), query.giaddr);
    });
    let requester = requester(&server).with_retransmission(Retransmission {
        first: Duration::from_millis(20),
        ..NONE
    });
    let reply = requester.query(&by_address(), LONG).unwrap();
    assert!(matches!(reply, Reply::Binding(_)));
    server.join();
}

/// A server may reply from another of its addresses, and others may send to port 67.
#[test]
fn assigns_replies_by_xid_and_giaddr_rather_than_by_source() {
    let server = UdpServer::start(|peer| {
        let query = peer.read();
        let mut other_xid = active(&query);
        other_xid.xid = query.xid.wrapping_add(1);
        let mut other_giaddr = active(&query);
        other_giaddr.giaddr = Ipv4Addr::LOCALHOST;
        peer.send(b"", query.giaddr);
        peer.send(b"SSH-2.0", query.giaddr);
        for other in [
            &query,
            &other_xid,
            &other_giaddr,
            &reply(&query, MessageType::ACK, 9),
        ] {
            peer.send(&other.encode(), query.giaddr);
        }
        peer.send_from_another_address(&reply(&query, MessageType::LEASE_UNASSIGNED, 9));
    });
    match requester(&server).query(&by_address(), LONG) {
        Ok(Reply::Binding(binding)) => {
            assert_eq!(binding.message_type, MessageType::LEASE_UNASSIGNED);
        }
        other => panic!("{other:?}"),
    }
    server.join();
}

/// A late reply to a query is not taken for that to the next one.
#[test]
fn ignores_late_replies_to_earlier_queries() {
    let server = UdpServer::start(|peer| {
        let first = peer.read();
        let unknown = reply(&first, MessageType::LEASE_UNKNOWN, 9);
        peer.send(&unknown.encode(), first.giaddr);
        peer.send(&unknown.encode(), first.giaddr);
        let second = peer.read();
        peer.send(&active(&second).encode(), second.giaddr);
    });
    let requester = requester(&server);
    let first = requester.query(&by_address(), LONG).unwrap();
    assert!(matches!(first, Reply::Unknown(_)));
    let second = requester.query(&by_address(), LONG).unwrap();
    assert!(matches!(second, Reply::Binding(_)));
    server.join();
}

#[test]
fn gives_up_after_the_timeout() {
    let server = UdpServer::start(|peer| drop(peer.read()));
    let requester = requester(&server);
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let local = requester.local_address().unwrap();
    other.send_to(b"SSH-2.0", local).unwrap();
    match &requester.query(&by_address(), Duration::from_secs(1)) {
        Err(error @ Error::NoReply(silence)) => {
            assert_eq!((silence.giaddr, silence.transmissions), (REQUESTER, 1));
            assert_eq!(silence.last_ignored, Some(Ignored::NotDhcp));
            assert_eq!(
                error.to_string(),
                "no reply within 1 s, to 1 transmission; another datagram was ignored (no DHCPv4 \
                 message)"
            );
        }
        other => panic!("{other:?}"),
    }
    server.join();
}

#[test]
fn reports_a_reply_that_violates_the_protocol_at_once() {
    let server = answering(|query| reply(query, MessageType::LEASE_ACTIVE, 10));
    let other = Ipv4Addr::new(192, 0, 2, 10);
    match requester(&server).query(&by_address(), LONG) {
        Err(Error::Violation(Violation::OtherAddress(address))) => assert_eq!(address, other),
        result => panic!("{result:?}"),
    }
    server.join();
}

/// Without a source address, giaddr is that from which this machine reaches the server.
#[test]
fn finds_its_address_by_the_route_to_the_server() {
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 67);
    let requester = Requester::open(server, None, 0).unwrap();
    let local = requester.local_address().unwrap();
    assert_eq!(local.ip(), Ipv4Addr::LOCALHOST);
}

#[test]
fn refuses_a_port_that_is_taken_and_an_address_that_is_not_its_own() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 67);
    for (source, expected) in [
        (Ipv4Addr::LOCALHOST, ErrorKind::AddrInUse),
        (Ipv4Addr::new(192, 0, 2, 77), ErrorKind::AddrNotAvailable),
    ] {
        match Requester::open(server, Some(source), port) {
            Err(Error::Bind { address, error }) => {
                assert_eq!(address, SocketAddrV4::new(source, port));
                assert_eq!(error.kind(), expected);
            }
            other => panic!("{other:?}"),
        }
    }
}
