//! TLS (RFC 7724 section 8.1) of a real Kea: requesters with certificates follow its changes, and new files are taken over by
//! a reload.

#[path = "../../support/certificates.rs"]
mod certificates;

use std::fs;
use std::path::PathBuf;

use blq::tls::IdentityFiles;
use blq::{Binding, Connection, Error, Primary, Query, Reply, State, Timeouts, Tls, TlsFiles};
use certificates::{Files, Identity};
use kea_tests::copy::Copy;
use kea_tests::{Client, Kea, PATIENCE, Setup, clock, eventually, eventually_some};
use serde_json::{Value, json};

/// The server's name in its certificate.
const SERVER: &str = "dhcp.example.net";

/// The name in the certificate of a requester that may query.
const REQUESTER: &str = "bng1.bng.example.net";

/// Returns parameters by which every connection uses TLS with these files, and requesters need a certificate with a name.
fn parameters(files: &Files) -> Value {
    json!({
        "requesters": [{ "address": "127.0.0.0/8", "certificates": ["*.bng.example.net"] }],
        "advanced": {
            "active-query-enabled": true,
            "tls": "required",
            "trust-anchor": files.path("ca.pem"),
            "cert-file": files.path("server.pem"),
            "key-file": files.path("server.key"),
        },
    })
}

/// Returns the requester's side of TLS, with the authority in a file.
fn requester(files: &Files, identity: &Identity, authority: PathBuf) -> Tls {
    let identity = IdentityFiles {
        certificate: files.write("requester.pem", &identity.certificate),
        key: files.write("requester.key", &identity.key),
    };
    let files = TlsFiles {
        ca: authority,
        identity: Some(identity),
    };
    Tls::from_files(&files, SERVER).expect("the files of a requester")
}

/// Queries all bindings over TLS.
fn query(kea: &Kea, tls: &Tls) -> Result<Vec<Binding>, Error> {
    let connection = Connection::open(kea.place().lease_query(), &Timeouts::default())?;
    let mut connection = connection.start_tls(tls, PATIENCE)?;
    connection.send(&Query::new(Primary::All))?;
    let replies: Result<Vec<Reply>, Error> = connection.replies().collect();
    let bindings = replies?.into_iter().filter_map(|reply| match reply {
        Reply::Binding(binding) => Some(*binding),
        Reply::Done(_) => None,
    });
    Ok(bindings.collect())
}

/// A requester with a certificate follows the changes; one without its name is refused in the handshake, and one
/// without TLS at its first message.
#[test]
fn requesters_with_the_right_certificate_follow_changes() {
    let files = Files::new();
    let kea = Setup::with_hook(parameters(&files)).start();
    let own = files.authority.issue(&[REQUESTER]);
    let tls = requester(&files, &own, files.path("ca.pem"));
    clock::settle();
    let server = kea.place().lease_query();
    let copy = Copy::begin_with(server, move || {
        Connection::open(server, &Timeouts::default())?.start_tls(&tls, PATIENCE)
    });
    copy.eventually("the first catch-up", |received| received.caught_up == 1);
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    let address = client.address.expect("a lease");
    copy.await_state(address, State::ACTIVE);
    kea.relay(0).release(&mut client);
    copy.await_state(address, State::RELEASED);
    let connections = kea.command_ok("blq4-connections", Value::Null).to_string();
    assert!(connections.contains(REQUESTER), "{connections}");
    let other = files.authority.issue(&["bng1.example.org"]);
    let other = requester(&files, &other, files.path("ca.pem"));
    assert!(query(&kea, &other).is_err(), "a name that is not listed");
    let plain = kea.query(&Query::new(Primary::All));
    assert!(plain.done.is_err(), "no TLS");
}

/// A reload takes over new files; one with a broken key is refused, names the file, and changes nothing.
#[test]
fn a_reload_takes_over_new_files() {
    let files = Files::new();
    let kea = Setup::with_hook(parameters(&files)).start();
    let old_authority = files.write("old.pem", &files.authority.certificate());
    let own = files.authority.issue(&[REQUESTER]);
    let old = requester(&files, &own, old_authority);
    eventually("an answer", || query(&kea, &old).is_ok());
    let good = fs::read_to_string(files.path("server.key")).expect("the key");
    files.write("server.key", "no key");
    let answer = kea.command("config-reload", Value::Null);
    assert_ne!(answer["result"], 0, "{answer}");
    let text = answer["text"].as_str().unwrap_or_default();
    assert!(
        text.contains("key-file") && text.contains("server.key"),
        "{text}"
    );
    eventually("the old configuration", || query(&kea, &old).is_ok());
    files.write("server.key", &good);
    let new = certificates::Authority::new("another authority");
    let server = new.issue(&[SERVER]);
    files.write("ca.pem", &new.certificate());
    files.write("server.pem", &server.certificate);
    files.write("server.key", &server.key);
    kea.command_ok("config-reload", Value::Null);
    let renewed = new.issue(&[REQUESTER]);
    let renewed = requester(&files, &renewed, files.path("ca.pem"));
    let bindings = eventually_some("an answer by the new certificate", || {
        query(&kea, &renewed).ok()
    });
    assert_eq!(bindings.len(), 101);
    assert!(query(&kea, &old).is_err(), "the old authority");
}
