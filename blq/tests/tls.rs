//! TLS on connections (RFC 7724 section 7.2), against a server in the test.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use blq::tls::{self, FileError, IdentityFiles};
use blq::{Connection, Error, Primary, Query, Timeouts, Tls, TlsFiles};
use common::tls::{Authority, agree, agreement, text};
use common::{Peer, Server, active, done, run, stderr, stdout};
use rustls::ServerConfig;

/// Long enough for any message of a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the requester's side of TLS, without a certificate.
fn requester(authority: &Authority, server_name: &str) -> Tls {
    let ca = authority.write("ca.pem");
    let files = TlsFiles { ca, identity: None };
    Tls::from_files(&files, server_name).unwrap()
}

/// Connects to a server with TLS.
fn connect(server: &Server, tls: &Tls) -> Result<Connection, Error> {
    let connection = Connection::open(server.address, &Timeouts::default()).unwrap();
    connection.start_tls(tls, PATIENCE)
}

/// Returns the error of TLS.
fn error(result: Result<Connection, Error>) -> tls::Error {
    match result {
        Err(Error::Tls(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Returns a server that agrees to TLS and answers one query.
fn answering(config: Arc<ServerConfig>) -> Server {
    Server::start(move |peer| {
        let mut peer = agree(peer, &config);
        let xid = peer.read().xid;
        peer.send(&[active(xid, 1), done(xid)]);
        peer.close();
    })
}

/// RFC 7724 section 7.2: DHCPTLS, the handshake, and queries over TLS; both sides close by close_notify.
#[test]
fn queries_over_tls() {
    let authority = Authority::new();
    let config = authority.server(&authority.issue(&["127.0.0.1"]), false);
    let server = answering(config);
    let mut connection = connect(&server, &requester(&authority, "127.0.0.1")).unwrap();
    let answer = connection.query(&Query::new(Primary::All));
    assert_eq!(answer.bindings.len(), 1);
    assert!(answer.done.is_ok());
    assert!(connection.next_message().unwrap().is_none());
    drop(connection);
    server.join();
}

/// Many messages in records of any size, as servers send them.
#[test]
fn reads_messages_over_any_records() {
    let authority = Authority::new();
    let config = authority.server(&authority.issue(&["127.0.0.1"]), false);
    let server = Server::start(move |peer| {
        let mut peer = agree(peer, &config);
        let xid = peer.read().xid;
        for _ in 0..100 {
            // One message in a record.
            peer.send(&[active(xid, 1)]);
        }
        let mut octets = vec![active(xid, 2).to_frame().unwrap(); 400].concat();
        octets.extend(done(xid).to_frame().unwrap());
        for part in octets.chunks(1021) {
            peer.stream.write_all(part).unwrap();
        }
        peer.close();
    });
    let mut connection = connect(&server, &requester(&authority, "127.0.0.1")).unwrap();
    let answer = connection.query(&Query::new(Primary::All));
    assert_eq!(answer.bindings.len(), 500);
    assert!(answer.done.is_ok());
    drop(connection);
    server.join();
}

/// RFC 7724 section 7.2: the requester validates the server's certificate, its name, authority and time.
#[test]
fn refuses_certificates_that_are_not_the_servers() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (identity, server_name, is_accepted) in [
        (authority.issue(&["127.0.0.1"]), "127.0.0.1", true),
        (authority.issue(&["kea.example"]), "kea.example", true),
        (authority.issue(&["kea.example"]), "kea.example.", true),
        (authority.issue(&["kea.example"]), "127.0.0.1", false),
        (authority.issue(&["127.0.0.2"]), "127.0.0.1", false),
        (authority.issue(&["127.0.0.1"]), "kea.example", false),
        (authority.issue(&[]), "127.0.0.1", false),
        (authority.issue_expired("127.0.0.1"), "127.0.0.1", false),
        (other.issue(&["127.0.0.1"]), "127.0.0.1", false),
    ] {
        let config = authority.server(&identity, false);
        let server = Server::start(move |peer| {
            let mut peer = agree(peer, &config);
            let mut octet = [0];
            assert_eq!(peer.stream.read(&mut octet).is_ok(), is_accepted);
        });
        let connection = connect(&server, &requester(&authority, server_name));
        if is_accepted {
            drop(connection.unwrap());
        } else {
            let error = error(connection);
            assert!(matches!(error, tls::Error::Certificate(_)), "{error}");
        }
        server.join();
    }
}

/// RFC 7724 section 8.1: a server asks for the requester's certificate.
#[test]
fn presents_its_own_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.write("ca.pem");
    let known = authority.write_identity(&authority.issue(&["bng1.example"]), "known");
    let unknown = other.write_identity(&other.issue(&["bng1.example"]), "unknown");
    for (files, is_accepted) in [(Some(known), true), (Some(unknown), false), (None, false)] {
        let config = authority.server(&authority.issue(&["127.0.0.1"]), true);
        let server = Server::start(move |peer| {
            let mut peer = agree(peer, &config);
            let mut octets = [0; 2];
            if peer.stream.read_exact(&mut octets).is_err() {
                assert!(!is_accepted);
                return;
            }
            let mut message = vec![0; usize::from(u16::from_be_bytes(octets))];
            peer.stream.read_exact(&mut message).unwrap();
            let xid = blq::Message::decode(&message).unwrap().xid;
            peer.send(&[done(xid)]);
        });
        let identity = files.map(|(certificate, key)| IdentityFiles { certificate, key });
        let ca = ca.clone();
        let tls = Tls::from_files(&TlsFiles { ca, identity }, "127.0.0.1").unwrap();
        // With TLS 1.3 the requester's part of the handshake ends before the server's.
        let result = connect(&server, &tls).and_then(|mut connection| {
            connection.send(&Query::new(Primary::All))?;
            connection.next_reply()
        });
        match result {
            Ok(_) => assert!(is_accepted),
            Err(Error::Tls(tls::Error::Alert(_))) => assert!(!is_accepted),
            Err(error) => panic!("{error:?}"),
        }
        server.join();
    }
}

/// RFC 7724 section 7.2: each answer to DHCPTLS but one makes the requester close the connection.
#[test]
fn closes_the_connection_without_agreement() {
    let authority = Authority::new();
    let tls = requester(&authority, "127.0.0.1");
    type Serve = fn(&mut Peer, u32);
    let cases: [(Serve, &str); 6] = [
        (
            |peer, xid| peer.send(&[agreement(xid).with(151, *b"\x08no TLS here")]),
            "the server refuses TLS: TLSConnectionRefused (8): no TLS here",
        ),
        (
            |peer, xid| peer.send(&[done(xid)]),
            "the server answered DHCPTLS by DHCPLEASEQUERYDONE",
        ),
        (
            |peer, xid| peer.send(&[agreement(xid).with(151, [])]),
            "the server answered DHCPTLS by a malformed message: option 151 has 0 octets, must have at \
             least 1 octet",
        ),
        (
            |peer, xid| peer.send(&[agreement(xid), active(xid, 1)]),
            "octets in plain text behind its answer to DHCPTLS",
        ),
        (
            |peer, xid| peer.send(&[agreement(xid).with(151, *b"\x01")]),
            "the server refuses TLS: UnspecFail (1)",
        ),
        (
            |peer, xid| {
                peer.send(&[agreement(xid)]);
                // Until the ClientHello has arrived, so that it is not in one segment with the rest.
                let mut hello = [0; 5];
                peer.stream.read_exact(&mut hello).unwrap();
                peer.send(&[active(xid, 1)]);
            },
            "the TLS handshake failed: ",
        ),
    ];
    for (serve, expected) in cases {
        let server = Server::start(move |mut peer| {
            let xid = peer.read().xid;
            serve(&mut peer, xid);
            let mut rest = Vec::new();
            // The requester ends the connection, whatever it has sent before.
            let _ = peer.stream.read_to_end(&mut rest);
        });
        let error = error(connect(&server, &tls)).to_string();
        assert!(error.contains(expected), "{error}");
        server.join();
    }
    // RFC 7724 section 7.2, the first two of four possibilities: no answer.
    let server = Server::start(|mut peer| {
        peer.read();
    });
    assert!(matches!(error(connect(&server, &tls)), tls::Error::Closed));
    server.join();
    let server = Server::start(|mut peer| {
        peer.read();
        peer.wait_for_close().unwrap();
    });
    let connection = Connection::open(server.address, &Timeouts::default()).unwrap();
    let silent = connection.start_tls(&tls, Duration::from_millis(50));
    assert!(matches!(error(silent), tls::Error::NoAnswer(0.05)));
    server.join();
}

/// A status of Success, with a text, agrees (RFC 7724 section 5.2.2).
#[test]
fn accepts_an_agreement_with_a_text() {
    let authority = Authority::new();
    let config = authority.server(&authority.issue(&["127.0.0.1"]), false);
    let server = Server::start(move |mut peer| {
        let xid = peer.read().xid;
        peer.send(&[agreement(xid).with(151, *b"\0go on")]);
        let connection = rustls::ServerConnection::new(config).unwrap();
        let stream = rustls::StreamOwned::new(connection, peer.stream);
        assert!(Peer { stream }.read_or_end().is_none());
    });
    drop(connect(&server, &requester(&authority, "127.0.0.1")).unwrap());
    server.join();
}

/// RFC 7724 section 7.2: DHCPTLS is the first message, so a connection has TLS from its begin or never.
#[test]
fn requests_tls_before_all_else() {
    let authority = Authority::new();
    let tls = requester(&authority, "127.0.0.1");
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        peer.send(&[done(xid)]);
        peer.wait_for_close().unwrap();
    });
    let mut connection = Connection::open(server.address, &Timeouts::default()).unwrap();
    assert!(connection.query(&Query::new(Primary::All)).done.is_ok());
    let late = connection.start_tls(&tls, PATIENCE);
    assert!(matches!(error(late), tls::Error::NotFirst));
    server.join();
}

/// An attacker who cuts the connection cannot send close_notify: such an end is no end of an answer.
#[test]
fn takes_an_end_without_close_notify_as_broken() {
    let authority = Authority::new();
    for is_clean in [true, false] {
        let config = authority.server(&authority.issue(&["127.0.0.1"]), false);
        let server = Server::start(move |peer| {
            let mut peer = agree(peer, &config);
            let xid = peer.read().xid;
            peer.send(&[active(xid, 1)]);
            if is_clean {
                peer.close();
            }
        });
        let tls = requester(&authority, "127.0.0.1");
        let mut connection = connect(&server, &tls).unwrap();
        let answer = connection.query(&Query::new(Primary::All));
        assert_eq!(answer.bindings.len(), 1);
        let error = answer.done.unwrap_err();
        match is_clean {
            true => assert!(matches!(*error, Error::Closed(1)), "{error}"),
            false => assert!(matches!(*error, Error::ClosedWithoutNotify(1)), "{error}"),
        }
        server.join();
    }
}

// ------------ Files -----------------------------------------------------------------------

/// Kea's `trust-anchor` is a file or a directory, too.
#[test]
fn reads_authorities_from_a_directory() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = authority.path("authorities");
    fs::create_dir_all(directory.join("more")).unwrap();
    fs::copy(other.write("ca.pem"), directory.join("other.pem")).unwrap();
    fs::copy(authority.write("ca.pem"), directory.join("this.pem")).unwrap();
    fs::write(directory.join("README"), "no certificate").unwrap();
    // The names by which OpenSSL finds certificates.
    std::os::unix::fs::symlink("this.pem", directory.join("0123abcd.0")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("dangling")).unwrap();
    let files = TlsFiles {
        ca: directory,
        identity: None,
    };
    let tls = Tls::from_files(&files, "127.0.0.1").unwrap();
    let server = answering(authority.server(&authority.issue(&["127.0.0.1"]), false));
    let mut connection = connect(&server, &tls).unwrap();
    assert!(connection.query(&Query::new(Primary::All)).done.is_ok());
    drop(connection);
    server.join();
}

#[test]
fn refuses_files_that_cannot_be_used() {
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let (certificate, key) = authority.write_identity(&authority.issue(&["a"]), "a");
    let (_, other_key) = authority.write_identity(&authority.issue(&["b"]), "b");
    let empty = authority.path("empty");
    fs::write(&empty, "").unwrap();
    let damaged = authority.path("damaged.pem");
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&damaged, text).unwrap();
    let encrypted = authority.path("encrypted.key");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&encrypted, text).unwrap();
    let missing = authority.path("missing");
    let no_files = authority.path("no-files");
    fs::create_dir(&no_files).unwrap();
    let read = |ca: &std::path::Path, identity: Option<(&std::path::Path, &std::path::Path)>| {
        let identity = identity.map(|(certificate, key)| IdentityFiles {
            certificate: certificate.into(),
            key: key.into(),
        });
        let ca = ca.into();
        Tls::from_files(&TlsFiles { ca, identity }, "kea.example")
    };
    assert!(read(&ca, Some((&certificate, &key))).is_ok());
    type Matches = fn(&FileError) -> bool;
    let cases: [(Result<Tls, FileError>, Matches); 10] = [
        (read(&missing, None), |e| matches!(e, FileError::Read(..))),
        (read(&empty, None), |e| {
            matches!(e, FileError::NoCertificate(_))
        }),
        (read(&no_files, None), |e| {
            matches!(e, FileError::NoCertificate(_))
        }),
        (read(&damaged, None), |e| {
            matches!(e, FileError::Unusable(..))
        }),
        (read(&key, None), |e| {
            matches!(e, FileError::NoCertificate(_))
        }),
        (read(&ca, Some((&key, &key))), |e| {
            matches!(e, FileError::NoCertificate(_))
        }),
        (read(&ca, Some((&certificate, &certificate))), |e| {
            matches!(e, FileError::NoKey(_))
        }),
        (read(&ca, Some((&certificate, &encrypted))), |e| {
            matches!(e, FileError::NoKey(_))
        }),
        (read(&ca, Some((&certificate, &other_key))), |e| {
            matches!(e, FileError::Unusable(..))
        }),
        (read(&ca, Some((&certificate, &missing))), |e| {
            matches!(e, FileError::Read(..))
        }),
    ];
    for (index, (result, is_expected)) in cases.iter().enumerate() {
        let error = result.as_ref().unwrap_err();
        assert!(is_expected(error), "{index}: {error:?}");
        assert!(error.to_string().contains('/'), "no path: {error}");
    }
    let files = TlsFiles { ca, identity: None };
    let error = Tls::from_files(&files, "a b").unwrap_err();
    assert!(matches!(error, FileError::ServerName(_)));
}

// ------------ Program ---------------------------------------------------------------------

#[test]
fn program_queries_over_tls() {
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let (cert, key) = authority.write_identity(&authority.issue(&["bng1.example"]), "bng1");
    let identity = ["--cert", text(&cert), "--key", text(&key)];
    for (names, more) in [
        (["127.0.0.1"], &[][..]),
        (["kea.example"], &["--server-name", "kea.example"]),
    ] {
        let server = answering(authority.server(&authority.issue(&names), true));
        let arguments = [&["--json", "--tls", "--ca", text(&ca)], &identity[..], more].concat();
        let output = run(server, &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains("192.0.2.1"));
    }
}

#[test]
fn program_names_causes_of_failures_of_tls() {
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let arguments = ["--tls", "--ca", text(&ca)];
    let fails = |server: Server, expected: &[&str]| {
        let output = run(server, &arguments);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(stdout(&output), "");
        for expected in expected {
            assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        }
    };
    let config = authority.server(&authority.issue(&["kea.example"]), false);
    let other_name = Server::start(move |peer| {
        let mut peer = agree(peer, &config);
        assert!(peer.stream.read(&mut [0]).is_err());
    });
    fails(
        other_name,
        &["the server's certificate is not accepted", "--server-name"],
    );
    let config = authority.server(&authority.issue(&["127.0.0.1"]), true);
    let requires = Server::start(move |peer| {
        let mut peer = agree(peer, &config);
        assert!(peer.stream.read(&mut [0]).is_err());
    });
    fails(
        requires,
        &["the server ended TLS: CertificateRequired", "--cert"],
    );
    let refuses = Server::start(move |mut peer| {
        let xid = peer.read().xid;
        peer.send(&[agreement(xid).with(151, [8])]);
    });
    fails(refuses, &["TLSConnectionRefused (8)", "TLS is off there"]);
}

#[test]
fn program_refuses_files_and_arguments_that_cannot_be_used() {
    let authority = Authority::new();
    let ca = authority.write("ca.pem");
    let ca = text(&ca);
    for (arguments, expected) in [
        (&["--tls"][..], "--ca"),
        (&["--ca", ca], "--tls"),
        (&["--tls", "--ca", ca, "--cert", ca], "--key"),
        (&["--tls", "--ca", ca, "--key", ca], "--cert"),
        (&["--tls", "--ca", ca, "--server-name", "a b"], "DNS name"),
        (
            &["--tls", "--ca", ca, "--udp", "--mac", "02:00:00:00:00:01"],
            "--udp",
        ),
        (
            &["--tls", "--ca", "/no/such/file"],
            "blq: TLS: /no/such/file: ",
        ),
        (
            &["--tls", "--ca", ca, "--cert", ca, "--key", ca],
            "no private key",
        ),
    ] {
        let output = common::run_alone(&[&["127.0.0.1"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
