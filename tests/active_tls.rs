//! Active queries on connections with and without TLS, over sockets (RFC 7724 sections 5.1, 7.4 and 8).

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/tls_client.rs"]
mod tls_client;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use active::loopback::{self, connect_from};
use active::*;
use bench::{Bench, all, relay_information};
use certificates::{Files, Identity};
use dhcp_blq::server::Server;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use socket2::SockRef;
use tls_client::{TlsStream, agree, client_config, dhcptls, records, secure, tls_reply};

/// The address of the requesters.
const SOURCE: [u8; 4] = [127, 0, 0, 1];

/// The versions of TLS.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Parameters that enable active queries with TLS alone.
const SECURE: &str = r#""active-query-enabled": true"#;

/// A server with TLS, and a requester's certificate.
struct Setup {
    /// The certificates of the server.
    files: Files,
    /// The certificate of the requester.
    identity: Identity,
    /// The mirror.
    bench: Bench,
    /// The server.
    server: Server,
}

impl Setup {
    /// Serves an empty mirror with TLS and these parameters.
    fn new(advanced: &str) -> Setup {
        let files = Files::new();
        let bench = Bench::new();
        let parameters = format!("{}, {advanced}", files.parameters());
        Setup {
            identity: files.authority.issue(&["bng1.example.net"]),
            server: serve(&bench.mirror, &config(r#"["127.0.0.0/8"]"#, &parameters)),
            files,
            bench,
        }
    }

    /// Returns a requester whose connection is secured, with its certificate unless it has none.
    fn connect_by(
        &self,
        version: &'static SupportedProtocolVersion,
        has_certificate: bool,
    ) -> Requester<TlsStream> {
        let identity = has_certificate.then_some(&self.identity);
        let config = client_config(&self.files, identity, &[version]);
        let stream = agree(connect_from(&self.server, SOURCE));
        Requester(secure(stream, config))
    }

    /// Returns a requester whose connection is secured by TLS 1.3.
    fn connect(&self) -> Requester<TlsStream> {
        self.connect_by(&TLS13, true)
    }

    /// Returns a requester whose stream has begun.
    fn stream_by(&self, version: &'static SupportedProtocolVersion) -> Requester<TlsStream> {
        let mut requester = self.connect_by(version, true);
        assert!(requester.begins_stream(query(7)));
        requester
    }

    /// Returns a requester whose stream has begun, by TLS 1.3.
    fn stream(&self) -> Requester<TlsStream> {
        self.stream_by(&TLS13)
    }

    /// Waits until no connection is open.
    fn wait_until_closed(&self) {
        while self.server.monitor().connection_count() > 0 {
            thread::yield_now();
        }
    }
}

/// Whether a bulk query is answered.
fn is_bulk_answered<S: Read + Write>(requester: &mut Requester<S>) -> bool {
    requester.send(&all().to_message().unwrap());
    requester.next().is_some()
}

/// Returns the octets until the end, which must be a close_notify.
fn rest(requester: &mut Requester<TlsStream>) -> Vec<u8> {
    let mut received = Vec::new();
    requester.0.read_to_end(&mut received).unwrap();
    received
}

//------------ Security (RFC 7724 section 8.1) -------------------------------------------------

/// RFC 7724 section 8.1: secure and insecure mode, each configured by a step of its own; what is not configured is
/// closed, DHCPTLS without TLS is answered by TLSConnectionRefused.
#[test]
fn serves_active_queries_in_the_configured_modes_alone() {
    let files = Files::new();
    let bench = Bench::new();
    let identity = files.authority.issue(&["bng1.example.net"]);
    let tls = files.parameters();
    let with_tls = |parameters: &str| format!("{tls}, {parameters}");
    let off = r#""active-query-enabled": false"#;
    for (parameters, is_plain, is_secured) in [
        (off.to_owned(), false, None),
        (with_tls(off), false, Some(false)),
        (INSECURE.to_owned(), true, None),
        (with_tls(SECURE), false, Some(true)),
        (with_tls(INSECURE), true, Some(true)),
        (
            with_tls(&format!(r#"{SECURE}, "tls": "required""#)),
            false,
            Some(true),
        ),
    ] {
        let server = serve(&bench.mirror, &config(r#"["127.0.0.1"]"#, &parameters));
        let mut plain = Requester::connect(&server);
        assert_eq!(
            plain.begins_stream(query(7)),
            is_plain,
            "plain: {parameters}"
        );
        let mut stream = connect_from(&server, SOURCE);
        stream.write_all(&dhcptls(&[255])).unwrap();
        let status = tls_reply(&stream).unwrap();
        assert_eq!(status, is_secured.is_none().then_some(8), "{parameters}");
        if let Some(is_secured) = is_secured {
            let config = client_config(&files, Some(&identity), &[&TLS13]);
            let mut secured = Requester(secure(stream, config));
            assert_eq!(
                secured.begins_stream(query(7)),
                is_secured,
                "TLS: {parameters}"
            );
        }
    }
}

/// RFC 7724 section 8.1: connections that are not secured are closed; Bulk Leasequery goes on without TLS.
#[test]
fn an_active_query_without_tls_is_closed_where_tls_alone_is_configured() {
    let setup = Setup::new(SECURE);
    assert!(Requester::ask(&setup.server, &query(7)).is_closed());
    // Also after a bulk query, which is answered.
    let mut requester = Requester::connect(&setup.server);
    assert!(is_bulk_answered(&mut requester));
    while requester.message().message_type() != 15 {}
    requester.send(&query(7));
    assert!(requester.is_closed());
    assert!(setup.connect().begins_stream(query(7)));
}

/// RFC 7724 section 8.1: TLS of an active query is mutual, whatever Bulk Leasequery is permitted.
#[test]
fn an_active_query_over_tls_needs_a_certificate_even_where_none_is_required() {
    for other in ["", r#", "active-query-insecure": true"#] {
        let setup = Setup::new(&format!(r#"{SECURE}, "cert-required": false{other}"#));
        for version in VERSIONS {
            let mut without = setup.connect_by(version, false);
            assert!(is_bulk_answered(&mut without));
            let mut without = setup.connect_by(version, false);
            without.send(&query(7));
            assert!(rest(&mut without).is_empty(), "closed without a message");
            let mut with = setup.connect_by(version, true);
            assert!(with.begins_stream(query(7)));
        }
    }
}

//------------ Places (RFC 7724 sections 8.1 and 8.4) ------------------------------------------

/// RFC 7724 section 8.1: at the limit of active connections the query is rejected, over TLS too; the answer to a
/// DHCPTLS stays the same.
#[test]
fn the_limit_of_active_connections_does_not_change_the_answer_to_a_dhcptls() {
    let setup = Setup::new(&format!(r#"{INSECURE}, "max-active-connections": 2"#));
    let first = setup.stream();
    let mut second = Requester::connect(&setup.server);
    assert!(second.begins_stream(query(7)));
    for version in VERSIONS {
        // It agrees to TLS.
        let mut third = setup.connect_by(version, true);
        third.send(&query(7));
        let status = third.message();
        assert_eq!(status.status_code(), QUERY_TERMINATED);
        assert!(rest(&mut third).is_empty());
    }
    // A place that TLS leaves is for any.
    drop(first);
    while setup.server.monitor().active_count() > 1 {
        thread::yield_now();
    }
    assert!(Requester::connect(&setup.server).begins_stream(query(7)));
}

/// RFC 7724 section 8.1: at the limit of connections the TCP connection is rejected, before any DHCPTLS.
#[test]
fn the_limit_of_connections_closes_a_connection_without_an_answer() {
    let setup = Setup::new(&format!(r#"{SECURE}, "max-requester-connections": 1"#));
    let mut open = setup.connect();
    assert!(is_bulk_answered(&mut open));
    let mut refused = connect_from(&setup.server, SOURCE);
    let _ = refused.write_all(&dhcptls(&[255]));
    let received = loopback::rest(&refused);
    assert!(received.is_empty(), "no TLSConnectionRefused: {received:?}");
}

//------------ Messages (RFC 7724 section 5.1) -------------------------------------------------

/// RFC 7724 section 5.1: each message of a stream in one record, also many messages that are sent together.
#[test]
fn each_message_of_a_stream_is_in_a_record_of_its_own() {
    let setup = Setup::new(SECURE);
    // Octets beside the message: a type and a tag, in TLS 1.2 a nonce and a tag.
    for (version, beside) in [(&TLS12, 24), (&TLS13, 17)] {
        let mut requester = setup.stream_by(version);
        requester.0.sock.received.clear();
        let mut expected = Vec::new();
        for client in 0..30 {
            for host in 10..20 {
                let remote_id = vec![b'r'; usize::from(client) * 7];
                let information = relay_information(&remote_id, b"relay");
                setup.bench.lease([10, 0, 1, host], client, 0, &information);
            }
            // At least the last state of each.
            let mut missing: Vec<u8> = (10..20).collect();
            while !missing.is_empty() {
                let change = requester.message();
                expected.push((23, 2 + change.length + beside));
                if change.message.chaddr[5] == client {
                    missing.retain(|host| *host != change.address().octets()[3]);
                }
            }
        }
        let found = records(&requester.0.sock.received);
        assert_eq!(found, expected, "{version:?}");
        assert!(expected.len() >= 300);
    }
}

//------------ Time (RFC 7724 section 8.2) -----------------------------------------------------

/// RFC 7724 section 8.2: ACTIVE_LQ_SEND_TIMEOUT, over TLS.
#[test]
fn a_requester_that_reads_nothing_over_tls_is_closed_after_the_send_time() {
    let setup = Setup::new(&format!(r#"{SECURE}, "active-send-timeout": 1"#));
    let mut requester = setup.stream();
    // Until its connection is closed; the kernel holds some messages.
    for client in (0..200).cycle() {
        if setup.server.monitor().connection_count() == 0 {
            break;
        }
        for host in 10..20 {
            setup.bench.lease([10, 0, 1, host], client, 0, &[200; 202]);
        }
    }
    // No close_notify can be sent.
    let mut received = Vec::new();
    requester.0.read_to_end(&mut received).unwrap_err();
    assert!(received.len() > 1_000);
}

/// RFC 7724 section 7.4: ConnectionActive over TLS, too.
#[test]
fn a_silent_stream_over_tls_is_shown_to_be_active() {
    let setup = Setup::new(&format!(r#"{SECURE}, "active-idle-timeout": 1"#));
    let mut requester = setup.stream();
    for _ in 0..2 {
        assert_eq!(requester.message().status_code(), CONNECTION_ACTIVE);
    }
}

//------------ Ends (RFC 7724 sections 8.3 and 8.4) --------------------------------------------

/// RFC 7724 section 8.4: the requester's close closes the connection, by close_notify or without.
#[test]
fn the_requesters_close_of_tls_or_tcp_closes_the_connection() {
    let setup = Setup::new(SECURE);
    for version in VERSIONS {
        for has_close_notify in [true, false] {
            let mut requester = setup.stream_by(version);
            if has_close_notify {
                requester.0.conn.send_close_notify();
                requester.0.flush().unwrap();
            } else {
                requester.0.sock.stream.shutdown(Shutdown::Write).unwrap();
            }
            assert!(rest(&mut requester).is_empty(), "{has_close_notify}");
            drop(requester);
            setup.wait_until_closed();
        }
    }
}

/// RFC 7724 section 8.4: an error while sending closes the connection, and its place is free.
#[test]
fn a_connection_that_fails_while_a_change_is_sent_is_closed() {
    let setup = Setup::new(&format!(r#"{INSECURE}, "max-active-connections": 1"#));
    let mut plain = Requester::connect(&setup.server);
    assert!(plain.begins_stream(query(7)));
    let reset = |socket: &TcpStream| {
        SockRef::from(socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    };
    reset(&plain.0);
    drop(plain);
    setup.bench.lease([10, 0, 1, 10], 1, 0, &[]);
    setup.wait_until_closed();
    let secured = setup.stream();
    reset(&secured.0.sock.stream);
    // Without a close_notify.
    drop(secured);
    setup.bench.lease([10, 0, 1, 10], 2, 0, &[]);
    setup.wait_until_closed();
    setup.stream();
}

/// RFC 7724 sections 7.4 and 8.4: QueryTerminated is the last message, then TLS and the connection end.
#[test]
fn a_stream_over_tls_that_is_aborted_ends_with_query_terminated() {
    let setup = Setup::new(SECURE);
    let mut ended = setup.stream();
    assert_eq!(setup.server.monitor().disconnect(SOURCE.into(), None), 1);
    let mut stopped = [setup.stream_by(&TLS12), setup.stream()];
    setup.server.stop("the configuration changes");
    for requester in stopped.iter_mut().chain([&mut ended]) {
        let last = requester.message();
        assert_eq!(last.status_code(), QUERY_TERMINATED);
        assert!(last.number(152).is_some(), "base-time");
        // With a close_notify.
        assert!(rest(requester).is_empty());
    }
}

/// RFC 7724 section 8.3: an active query is alone on its connection, over TLS, too.
#[test]
fn another_query_over_tls_ends_the_stream_with_not_allowed() {
    let setup = Setup::new(SECURE);
    for other in [all().to_message().unwrap(), query(8)] {
        let mut requester = setup.stream();
        requester.send(&other);
        assert_eq!(requester.message().status_code(), NOT_ALLOWED);
        assert!(rest(&mut requester).is_empty());
    }
}
