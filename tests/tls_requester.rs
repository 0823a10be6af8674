//! `blq` with TLS, on a server with TLS and a mirror, over sockets (RFC 7724 sections 7.2 and 8.1). Both sides
//! are written independently.

#[path = "support/bench.rs"]
mod bench;
#[path = "support/certificates.rs"]
mod certificates;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, all};
use blq::tls::{Error as TlsError, IdentityFiles};
use blq::{Binding, Connection, Error, Query, Timeouts, Tls, TlsFiles};
use certificates::{Files, Identity};
use dhcp_blq::config::Config;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;

/// Time after which a test fails; never reached by a correct server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves a mirror with one lease to requesters with the certificate of bng1.example.net; TLS with these
/// files and further parameters.
fn start(files: Option<&Files>, advanced: &str) -> Server {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 0, &[]);
    let (certificates, files) = match files {
        Some(files) => (
            r#", "certificates": ["bng1.example.net"]"#,
            files.parameters(),
        ),
        None => ("", r#""bulk-query-enabled": true"#.into()),
    };
    let json = format!(
        r#"{{ "requesters": [{{ "address": "127.0.0.1" {certificates} }}],
              "advanced": {{ "lease-query-ip": "127.0.0.1", {files} {advanced} }} }}"#
    );
    let config = Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    };
    Server::start(&config, Arc::new(LeaseEngine::new(bench.mirror, None))).unwrap()
}

/// Returns the requester's side of TLS.
fn requester(files: &Files, identity: Option<&Identity>, server_name: &str) -> Tls {
    let identity = identity.map(|identity| IdentityFiles {
        certificate: files.write("requester.pem", &identity.certificate),
        key: files.write("requester.key", &identity.key),
    });
    let ca = files.path("ca.pem");
    Tls::from_files(&TlsFiles { ca, identity }, server_name).unwrap()
}

/// Queries all bindings over TLS.
fn query(server: &Server, tls: &Tls) -> Result<Vec<Binding>, Error> {
    let connection = Connection::open(server.local_addresses()[0], &Timeouts::default())?;
    let mut connection = connection.start_tls(tls, PATIENCE)?;
    connection.send(&all())?;
    let replies: Result<Vec<_>, Error> = connection.replies().collect();
    let bindings = replies?.into_iter().filter_map(|reply| match reply {
        blq::Reply::Binding(binding) => Some(*binding),
        blq::Reply::Done(_) => None,
    });
    Ok(bindings.collect())
}

/// RFC 7724 section 8.1: who is permitted by a certificate is configurable.
#[test]
fn a_requester_with_the_listed_certificate_is_answered() {
    let files = Files::new();
    let server = start(Some(&files), "");
    let identity = files.authority.issue(&["bng1.example.net"]);
    let tls = requester(&files, Some(&identity), "dhcp.example.net");
    let mut bindings = query(&server, &tls).unwrap();
    bindings.retain(|binding| !binding.chaddr.is_empty());
    assert_eq!(bindings.len(), 1);
    assert_eq!(bindings[0].address.octets(), [10, 0, 1, 10]);
}

/// RFC 7724 section 8.1: other certificates are refused.
#[test]
fn other_requesters_are_not_answered() {
    let files = Files::new();
    let server = start(Some(&files), "");
    let unlisted = files.authority.issue(&["bng2.example.net"]);
    for identity in [Some(&unlisted), None] {
        let tls = requester(&files, identity, "dhcp.example.net");
        let error = query(&server, &tls).unwrap_err();
        assert!(matches!(error, Error::Tls(TlsError::Alert(_))), "{error:?}");
    }
}

#[test]
fn another_server_is_not_queried() {
    let files = Files::new();
    let server = start(Some(&files), "");
    let identity = files.authority.issue(&["bng1.example.net"]);
    let tls = requester(&files, Some(&identity), "127.0.0.1");
    let error = query(&server, &tls).unwrap_err();
    assert!(
        matches!(error, Error::Tls(TlsError::Certificate(_))),
        "{error:?}"
    );
}

/// RFC 7724 section 8.1: TLSConnectionRefused without TLS; plain connections are closed if TLS is required.
#[test]
fn both_sides_agree_on_tls_or_close() {
    let files = Files::new();
    let tls = requester(&files, None, "dhcp.example.net");
    let error = query(&start(None, ""), &tls).unwrap_err();
    assert!(
        matches!(error, Error::Tls(TlsError::Refused(_))),
        "{error:?}"
    );
    let server = start(Some(&files), r#", "tls": "required""#);
    let mut connection =
        Connection::open(server.local_addresses()[0], &Timeouts::default()).unwrap();
    let answer = connection.query(&all());
    assert!(matches!(
        *answer.done.unwrap_err(),
        Error::Closed(1) | Error::Broken { .. }
    ));
}

/// The end of a server is the clean end of TLS.
#[test]
fn a_stopped_server_sends_close_notify() {
    let files = Files::new();
    let server = start(Some(&files), "");
    let identity = files.authority.issue(&["bng1.example.net"]);
    let tls = requester(&files, Some(&identity), "dhcp.example.net");
    let connection = Connection::open(server.local_addresses()[0], &Timeouts::default()).unwrap();
    let mut connection = connection.start_tls(&tls, PATIENCE).unwrap();
    assert!(
        connection
            .query(&Query {
                start: Some(u32::MAX),
                ..all()
            })
            .done
            .is_ok()
    );
    drop(server);
    // Without close_notify: an error.
    assert!(connection.next_message().unwrap().is_none());
}
