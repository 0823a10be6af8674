//! DHCPTLS, and the octets after it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use dhcp_blq::query::Security;
use dhcp_blq::server::Server;
use rustls::client::{ClientSessionMemoryCache, Resumption};

use crate::certificates::Files;
use crate::client::{Client, agree, client_config, config, dhcptls, served, start, tls_reply};
use crate::fake_engine::{FakeEngine, Query, Reply};
use crate::loopback::{connect_from, read_message, rest};

/// The address of the requesters.
const SOURCE: [u8; 4] = [127, 0, 0, 1];

/// Returns the octets of a query.
fn query(xid: u32) -> Vec<u8> {
    Query {
        xid,
        replies: 1,
        size: 300,
    }
    .frame()
}

/// Reads the next reply on a connection without TLS.
fn reply(mut stream: &TcpStream) -> io::Result<Reply> {
    Ok(Reply::read(&read_message(&mut stream)?))
}

/// RFC 7724 section 8.1: status 8; the requester closes.
#[test]
fn without_tls_refuses_a_dhcptls_and_goes_on() {
    let config =
        config(r#"{ "requesters": ["127.0.0.1"], "advanced": { "lease-query-ip": "127.0.0.1" } }"#);
    let engine = Arc::new(FakeEngine::default());
    let server = Server::start(&config, Arc::clone(&engine)).unwrap();
    let mut stream = connect_from(&server, SOURCE);
    stream.write_all(&dhcptls(&[255])).unwrap();
    assert_eq!(tls_reply(&stream).unwrap(), Some(8));
    stream.write_all(&query(1)).unwrap();
    assert_eq!(reply(&stream).unwrap(), Reply::binding(1, 0));
    assert_eq!(engine.requesters()[0].security, Security::Plain);
    // Only the first message may be a DHCPTLS.
    stream.write_all(&dhcptls(&[255])).unwrap();
    assert_eq!(reply(&stream).unwrap(), Reply::done(1));
    assert!(rest(&stream).is_empty());
}

/// RFC 7724 section 8.1: a parameter request list, vendor options, and an option without its value.
#[test]
fn ignores_options_in_a_dhcptls() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    for options in [
        &[55, 2, 151, 51, 255][..],
        &[43, 3, 1, 2, 3, 255],
        &[61, 90],
    ] {
        let mut stream = connect_from(&server, SOURCE);
        stream.write_all(&dhcptls(options)).unwrap();
        assert_eq!(tls_reply(&stream).unwrap(), None, "{options:?}");
    }
}

/// RFC 7724 section 8.1: blocked while accepting. The handshake has ten seconds.
#[test]
fn closes_a_connection_whose_client_hello_stays_incomplete() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let mut stream = agree(connect_from(&server, SOURCE));
    // The beginning of a handshake record of 512 octets.
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).unwrap();
    assert!(rest(&stream).is_empty());
}

/// RFC 7724 section 8.1; the contract.
#[test]
fn tls_may_be_started_by_the_first_message_alone() {
    let files = Files::new();
    let (server, engine) = start(&files, r#"["127.0.0.1"]"#, "");
    // On a connection without TLS.
    let mut stream = connect_from(&server, SOURCE);
    stream.write_all(&query(1)).unwrap();
    assert_eq!(reply(&stream).unwrap(), Reply::binding(1, 0));
    assert_eq!(reply(&stream).unwrap(), Reply::done(1));
    stream.write_all(&dhcptls(&[255])).unwrap();
    assert!(rest(&stream).is_empty());
    // And on a secured one.
    let requester = files.authority.issue(&["a.example.net"]);
    let mut client = served(&files, &server, SOURCE, Some(&requester)).unwrap();
    let opened = engine.opened();
    client.0.write_all(&dhcptls(&[255])).unwrap();
    let mut received = Vec::new();
    // A close_notify is an end without an error.
    assert_eq!(client.0.read_to_end(&mut received).unwrap(), 0);
    assert_eq!(engine.opened(), opened + 1, "read as any message");
}

/// RFC 7724 section 8.1: nothing is read without TLS once it is agreed to.
#[test]
fn octets_behind_a_dhcptls_are_never_taken_as_dhcp() {
    let files = Files::new();
    let (server, engine) = start(&files, r#"["127.0.0.1"]"#, "");
    // In the segment of the DHCPTLS, and after its reply.
    let mut together = connect_from(&server, SOURCE);
    together
        .write_all(&[dhcptls(&[255]), query(1)].concat())
        .unwrap();
    let mut after = agree(connect_from(&server, SOURCE));
    after.write_all(&query(1)).unwrap();
    let mut cut = agree(connect_from(&server, SOURCE));
    cut.write_all(&[0]).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tls_reply(&together).unwrap(), None);
    for stream in [together, after, cut] {
        let received = rest(&stream);
        // At most an alert.
        assert!(received.is_empty() || received[0] == 21, "{received:?}");
    }
    assert_eq!(engine.opened(), 0);
}

/// RFC 7724 section 8.1: connections that are not secured are closed.
#[test]
fn required_tls_closes_connections_without_it_and_no_others() {
    let files = Files::new();
    let (server, engine) = start(&files, r#"["127.0.0.1"]"#, r#", "tls": "required""#);
    let mut stream = connect_from(&server, SOURCE);
    stream.write_all(&query(1)).unwrap();
    assert!(rest(&stream).is_empty());
    assert_eq!(engine.opened(), 0);
    let requester = files.authority.issue(&["a.example.net"]);
    assert!(served(&files, &server, SOURCE, Some(&requester)).is_ok());
}

#[test]
fn resumes_no_session() {
    // A resumed session would skip the check of the certificate.
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = client_config(&files, Some(&requester), &[version]);
        let cache = Arc::new(ClientSessionMemoryCache::new(8));
        config.resumption = Resumption::store(cache);
        for _ in 0..3 {
            let stream = agree(connect_from(&server, SOURCE));
            let mut client = Client::on(stream, config.clone());
            client.ask(1, 1, 300).unwrap();
            assert_eq!(
                client.0.conn.handshake_kind(),
                Some(rustls::HandshakeKind::Full)
            );
        }
    }
}

/// RFC 7724 section 8.4, over TLS.
#[test]
fn closes_with_a_close_notify_when_the_server_stops() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let mut client = served(&files, &server, SOURCE, Some(&requester)).unwrap();
    client.0.write_all(&Query::waiting(9).frame()).unwrap();
    let mut next = Query::search(10, 0).frame();
    client.0.write_all(&std::mem::take(&mut next)).unwrap();
    assert_eq!(client.reply().unwrap(), Reply::done(10));
    server.stop("reconfigured");
    let ended = Reply::Done {
        xid: 9,
        status: "reconfigured".to_owned(),
    };
    assert_eq!(client.reply().unwrap(), ended);
    let mut received = Vec::new();
    assert_eq!(client.0.read_to_end(&mut received).unwrap(), 0);
}

#[test]
fn a_requester_that_closes_without_a_close_notify_gets_its_answers() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let mut client = served(&files, &server, SOURCE, Some(&requester)).unwrap();
    let queries = [query(1), query(2)].concat();
    client.0.write_all(&queries).unwrap();
    client.0.flush().unwrap();
    client.0.sock.stream.shutdown(Shutdown::Write).unwrap();
    let replies: Vec<Reply> = (0..4).map(|_| client.reply().unwrap()).collect();
    for xid in [1, 2] {
        assert!(replies.contains(&Reply::done(xid)));
    }
    let mut received = Vec::new();
    assert_eq!(client.0.read_to_end(&mut received).unwrap(), 0);
}

/// RFC 7724 section 8.4: connections are limited.
#[test]
fn a_connection_in_its_handshake_occupies_a_slot() {
    let files = Files::new();
    let limit = r#", "max-requester-connections": 1"#;
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, limit);
    let stalled = agree(connect_from(&server, SOURCE));
    let refused = connect_from(&server, SOURCE);
    assert!(rest(&refused).is_empty());
    drop(stalled);
    let requester = files.authority.issue(&["a.example.net"]);
    while connect_is_refused(&server) {
        std::thread::yield_now();
    }
    assert!(served(&files, &server, SOURCE, Some(&requester)).is_ok());
}

/// Whether the server closes a new connection at once.
fn connect_is_refused(server: &Server) -> bool {
    let mut stream = connect_from(server, SOURCE);
    let sent = stream.write_all(&query(1));
    sent.is_err() || reply(&stream).is_err()
}
