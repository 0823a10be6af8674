//! The files of certificates and keys.

use std::fs;
use std::os::unix::fs::symlink;

use dhcp_blq::config::Config;
use dhcp_blq::model::time::Time;
use dhcp_blq::server::TlsContext;
use rcgen::date_time_ymd;

use crate::certificates::{Authority, Files};
use crate::client::config;

/// Returns parameters with these files and further ones of `advanced`.
fn with(files: &Files, advanced: &str) -> Config {
    let parameters = files.parameters();
    config(&format!(
        r#"{{ "requesters": ["192.0.2.1"], "advanced": {{ {parameters} {advanced} }} }}"#
    ))
}

/// Returns the error of the files.
fn refused(config: &Config) -> String {
    TlsContext::load(config).unwrap_err().to_string()
}

#[test]
fn errors_name_the_parameter_the_file_and_what_it_must_be() {
    let files = Files::new();
    let good = with(&files, "");
    let ca = files.authority.certificate();
    let key = fs::read_to_string(files.path("server.key")).unwrap();
    let server = fs::read_to_string(files.path("server.pem")).unwrap();
    let other = files.authority.issue(&["other.example.net"]).key;
    let cut = server.replace("-----END CERTIFICATE-----", "");
    let broken = server.replace("MII", "!!!");
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cases: [(&str, &str, Option<&str>, &str); 12] = [
        ("trust-anchor", "ca.pem", None, "No such file"),
        ("trust-anchor", "ca.pem", Some(""), "no certificate"),
        ("trust-anchor", "ca.pem", Some(&key), "no certificate"),
        ("trust-anchor", "ca.pem", Some(not_der), "cannot be used"),
        ("cert-file", "server.pem", None, "No such file"),
        ("cert-file", "server.pem", Some(&cut), "has no end"),
        ("cert-file", "server.pem", Some(&broken), "is broken"),
        ("cert-file", "server.pem", Some(not_der), "cannot be read"),
        ("key-file", "server.key", None, "No such file"),
        ("key-file", "server.key", Some(&ca), "no private key"),
        ("key-file", "server.key", Some(&encrypted), "is encrypted"),
        (
            "key-file",
            "server.key",
            Some(&other),
            "not that of the certificate",
        ),
    ];
    for (parameter, file, text, part) in cases {
        let path = files.path(file);
        let before = fs::read_to_string(&path).unwrap();
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = refused(&good);
        let begin = format!("parameter 'advanced.{parameter}' is {path:?}: ");
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(error.contains("; it must be a PEM file with "), "{error}");
        fs::write(&path, before).unwrap();
    }
    assert!(TlsContext::load(&good).is_ok());
    // A directory is no file, except of trust anchors.
    fs::remove_file(files.path("server.key")).unwrap();
    fs::create_dir(files.path("server.key")).unwrap();
    assert!(refused(&good).contains("it is no regular file"));
}

#[test]
fn a_revocation_list_must_be_one() {
    let files = Files::new();
    let path = files.write("crl.pem", &files.authority.certificate());
    let config = with(&files, &format!(r#", "crl-file": {path:?}"#));
    let error = refused(&config);
    assert!(error.contains("'advanced.crl-file'"), "{error}");
    assert!(error.contains("no certificate revocation list"), "{error}");
}

#[test]
fn a_directory_of_trust_anchors_is_read_once_by_file_and_certificate() {
    let files = Files::new();
    let directory = files.path("anchors");
    fs::create_dir(&directory).unwrap();
    let other = Authority::new("other").certificate();
    let both = format!("{}{other}", files.authority.certificate());
    fs::write(directory.join("both.pem"), both).unwrap();
    fs::write(directory.join("other.pem"), &other).unwrap();
    fs::write(directory.join("README"), "no certificate").unwrap();
    fs::write(directory.join("key.pem"), "-----BEGIN PRIVATE KEY-----\n!").unwrap();
    symlink("other.pem", directory.join("0a1b2c3d.0")).unwrap();
    symlink("removed.pem", directory.join("4e5f6071.0")).unwrap();
    fs::create_dir(directory.join("old")).unwrap();
    let config = |directory| {
        let mut config = with(&files, "");
        let tls = config.tls.as_mut().unwrap();
        tls.trust_anchor = directory;
        config
    };
    let context = TlsContext::load(&config(directory.clone()));
    let report = context.unwrap().unwrap().report().clone();
    assert_eq!(report.trust_anchor.count, 2);
    assert_eq!(report.trust_anchor.path, directory);
    let error = refused(&config(directory.join("old")));
    assert!(
        error.contains("no file in the directory has a certificate"),
        "{error}"
    );
}

#[test]
fn warns_of_a_certificate_that_ends_and_of_an_obsolete_revocation_list() {
    let files = Files::new();
    let crl = files.write("crl.pem", &files.authority.revoke(&[], 2027));
    let config = with(&files, &format!(r#", "crl-file": {crl:?}"#));
    let ends = |year, month, day| {
        let server = files.authority.issue_with(&["dhcp.example.net"], |params| {
            params.not_after = date_time_ymd(year, month, day);
        });
        files.write("server.pem", &server.certificate);
        files.write("server.key", &server.key);
        let context = TlsContext::load(&config).unwrap().unwrap();
        // 2026-12-01T00:00:00Z
        let warnings = context.report().warnings(Time(1_796_083_200));
        (context.report().cert_file.ends.clone().unwrap(), warnings)
    };
    let (end, warnings) = ends(2027, 6, 1);
    assert_eq!(
        (end.text.as_str(), warnings.len()),
        ("2027-06-01T00:00:00Z", 0)
    );
    let (_, warnings) = ends(2026, 12, 11);
    assert_eq!(warnings[0].0, "BLQ_TLS_CERTIFICATE_ENDS");
    let text = &warnings[0].1;
    assert!(
        text.contains("ends in 10 days, at 2026-12-11T00:00:00Z"),
        "{text}"
    );
    let (end, warnings) = ends(2026, 11, 1);
    assert!(warnings[0].1.contains("has ended at 2026-11-01T00:00:00Z"));
    assert!(end.seconds < 1_796_083_200);
    files.write("crl.pem", &files.authority.revoke(&[], 2026));
    let (_, warnings) = ends(2027, 6, 1);
    let ids: Vec<&str> = warnings.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, ["BLQ_TLS_CRL_OBSOLETE"]);
}
