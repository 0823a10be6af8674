//! The records in which messages are sent.

use std::io::Write;

use crate::certificates::Files;
use crate::client::{Client, agree, client_config, records, served_by, start};
use crate::fake_engine::{Query, Reply};
use crate::loopback::connect_from;

/// The address of the requesters.
const SOURCE: [u8; 4] = [127, 0, 0, 1];

/// RFC 7724 section 5.1. Octets beside the message: a type and a tag, in TLS 1.2 a nonce and a tag.
#[test]
fn each_message_is_in_a_record_of_its_own() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    for (version, beside) in [(&rustls::version::TLS12, 24), (&rustls::version::TLS13, 17)] {
        let mut client = served_by(&files, &server, SOURCE, Some(&requester), &[version]).unwrap();
        for size in [8, 300, 16_382] {
            client.0.sock.received.clear();
            let replies = client.ask(1, 1_000, size).unwrap();
            assert_eq!(replies.len(), 1_001);
            let mut expected = vec![(23, 2 + usize::from(size) + beside); 1_000];
            // The end of the answer.
            expected.push((23, 10 + beside));
            assert_eq!(records(&client.0.sock.received), expected, "{size}");
        }
    }
}

/// RFC 7724 section 5.1; a record has at most 16 KiB.
#[test]
fn sends_a_message_that_is_longer_than_a_record_in_several() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let versions = [&rustls::version::TLS13];
    let mut client = served_by(&files, &server, SOURCE, Some(&requester), &versions).unwrap();
    client.0.sock.received.clear();
    let replies = client.ask(1, 20, 65_535).unwrap();
    assert_eq!(replies.len(), 21);
    let lengths = records(&client.0.sock.received);
    assert!(lengths.iter().all(|(_, length)| *length <= 16_384 + 17));
}

#[test]
fn reads_queries_in_any_records() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let versions = [&rustls::version::TLS13];
    let mut client = served_by(&files, &server, SOURCE, Some(&requester), &versions).unwrap();
    let query = |xid| {
        Query {
            xid,
            replies: 1,
            size: 300,
        }
        .frame()
    };
    let together: Vec<u8> = (0..40).flat_map(query).collect();
    client.0.write_all(&together).unwrap();
    for octet in query(40) {
        client.0.write_all(&[octet]).unwrap();
    }
    let replies: Vec<Reply> = (0..82).map(|_| client.reply().unwrap()).collect();
    for xid in 0..=40 {
        assert!(replies.contains(&Reply::done(xid)), "{xid}");
    }
}

#[test]
fn accepts_a_query_with_the_last_message_of_the_handshake() {
    // A client of TLS 1.3 may send its query before it knows whether its certificate is accepted.
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let stream = agree(connect_from(&server, SOURCE));
    let config = client_config(&files, Some(&requester), &[&rustls::version::TLS13]);
    let mut client = Client::on(stream, config);
    let session = &mut client.0.conn;
    // Buffered until the handshake is complete.
    let query = Query {
        xid: 1,
        replies: 1,
        size: 300,
    };
    session.writer().write_all(&query.frame()).unwrap();
    assert_eq!(client.reply().unwrap(), Reply::binding(1, 0));
    assert_eq!(client.reply().unwrap(), Reply::done(1));
}

#[test]
fn a_requester_that_reads_slowly_gets_everything() {
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    let versions = [&rustls::version::TLS13];
    let mut client = served_by(&files, &server, SOURCE, Some(&requester), &versions).unwrap();
    let query = Query {
        xid: 1,
        replies: 30_000,
        size: 300,
    };
    client.0.write_all(&query.frame()).unwrap();
    // The server's buffers and the kernel's are full once it is blocked.
    while server.monitor().connections()[0].blocked_for.is_none() {
        std::thread::yield_now();
    }
    for number in 0..30_000 {
        assert_eq!(client.reply().unwrap(), Reply::binding(1, number));
    }
    assert_eq!(client.reply().unwrap(), Reply::done(1));
}
