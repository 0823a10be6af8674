//! The files of TLS over reconfigurations, on a fake Kea.

use std::fs;

use rcgen::date_time_ymd;
use serde_json::{Value, json};

use crate::plugin::fake::{FakeKea, Server};
use crate::server::certificates::Files;

/// Returns a Kea whose configuration names these files.
fn with(files: &Files) -> FakeKea {
    let kea = FakeKea::new();
    kea.with(|state| {
        state.parameters["advanced"] = json!({
            "lease-query-ip": "127.0.0.1",
            "bulk-query-enabled": false,
            "trust-anchor": files.path("ca.pem"),
            "cert-file": files.path("server.pem"),
            "key-file": files.path("server.key"),
        });
    });
    kea
}

/// Returns the part of `blq4-status` about TLS.
fn status(server: &Server) -> Value {
    let mut answer = server.command("blq4-status", &json!(null));
    assert_eq!(answer["result"], 0, "{answer}");
    answer["arguments"]["tls"].take()
}

/// Writes a certificate of the server that ends at the beginning of a year.
fn renew(files: &Files, year: i32) {
    let server = files.authority.issue_with(&["dhcp.example.net"], |params| {
        params.not_after = date_time_ymd(year, 1, 1);
    });
    files.write("server.pem", &server.certificate);
    files.write("server.key", &server.key);
}

#[test]
fn the_status_has_the_files_and_their_ends() {
    assert_eq!(status(&Server::started(FakeKea::new())), Value::Null);
    let files = Files::new();
    // 2001-01-01T00:00:00Z
    renew(&files, 2001);
    let server = Server::started(with(&files));
    let mut tls = status(&server);
    assert!(tls["trust-anchor"]["ends"].take().is_u64());
    assert_eq!(
        tls,
        json!({
            "mode": "allowed",
            "cert-required": true,
            "trust-anchor": { "path": files.path("ca.pem"), "certificates": 1, "ends": null },
            "cert-file": {
                "path": files.path("server.pem"), "certificates": 1, "names": ["dhcp.example.net"],
                "ends": 978_307_200, "ends-soon": true,
            },
            "key-file": { "path": files.path("server.key") },
            "crl-file": null,
            "handshakes": { "completed": 0, "failed": 0 },
        })
    );
    let crl = files.write("crl.pem", &files.authority.revoke(&[], 2026));
    server.kea.with(|state| {
        let advanced = &mut state.parameters["advanced"];
        advanced["crl-file"] = json!(crl);
        advanced["tls"] = json!("required");
        advanced["cert-required"] = json!(false);
    });
    assert_eq!(server.reload(), Ok(()));
    let tls = status(&server);
    assert_eq!(
        tls["crl-file"],
        json!({ "path": crl, "lists": 1, "next-update": 1_767_225_600 })
    );
    assert_eq!(tls["mode"], "required");
    assert_eq!(tls["cert-required"], false);
}

#[test]
fn a_reload_takes_over_new_files_and_refuses_bad_ones() {
    let files = Files::new();
    renew(&files, 2090);
    let server = Server::started(with(&files));
    let ends = |server: &Server| status(server)["cert-file"]["ends"].clone();
    let before = ends(&server);
    renew(&files, 2091);
    assert_eq!(
        ends(&server),
        before,
        "the files are read at a reload alone"
    );
    assert_eq!(server.reload(), Ok(()));
    let renewed = ends(&server);
    assert_eq!(
        renewed.as_u64().unwrap() - before.as_u64().unwrap(),
        365 * 24 * 3600
    );
    // The previous configuration is served again, with the files as they were.
    fs::write(files.path("server.key"), "no key").unwrap();
    let error = server.reload().unwrap_err();
    let path = files.path("server.key");
    let begin = format!("parameter 'advanced.key-file' is {path:?}: the file has no private key");
    assert!(error.starts_with(&begin), "{error}");
    assert_eq!(ends(&server), renewed);
    renew(&files, 2092);
    assert_eq!(server.reload(), Ok(()));
    assert_ne!(ends(&server), renewed);
}
