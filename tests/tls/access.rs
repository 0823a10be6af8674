//! The certificates that requesters present.

use std::io::ErrorKind;

use dhcp_blq::query::Security;
use rcgen::{KeyPair, date_time_ymd};

use crate::certificates::{Authority, Files, Identity};
use crate::client::{served, served_by, start};

/// The address of the requesters.
const SOURCE: [u8; 4] = [127, 0, 0, 1];

/// RFC 7724 section 8.1: TLS begins for who asks for it.
#[test]
fn serves_a_requester_with_a_certificate_of_the_authority_by_tls_1_2_and_1_3() {
    let files = Files::new();
    let (server, engine) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["bng1.example.net", "bng1"]);
    for (version, name) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let client = served_by(&files, &server, SOURCE, Some(&requester), &[version]).unwrap();
        assert_eq!(client.0.conn.protocol_version(), Some(version.version));
        let open = server.monitor().connections();
        let tls = open.last().unwrap().tls.clone().unwrap();
        assert_eq!(tls.version, name);
        assert_eq!(tls.name.as_deref(), Some("bng1.example.net"));
    }
    for requester in engine.requesters() {
        assert_eq!(
            requester.security,
            Security::Tls {
                is_authenticated: true
            }
        );
    }
}

/// RFC 7724 section 8.1: the certificate is validated in the handshake, else the connection closes.
#[test]
fn refuses_certificates_that_are_not_valid_in_the_handshake() {
    let files = Files::new();
    let (server, engine) = start(&files, r#"["127.0.0.1"]"#, "");
    let other = Authority::new("other authority");
    // The authority's name with another key.
    let false_authority = Authority::new("authority");
    let names = ["bng1.example.net"];
    let expired = files.authority.issue_with(&names, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let future = files.authority.issue_with(&names, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    let stolen = Identity {
        key: KeyPair::generate().unwrap().serialize_pem(),
        ..files.authority.issue(&names)
    };
    let unknown = other.issue(&names);
    let forged = false_authority.issue(&names);
    let own = Identity::self_signed(&names);
    for (what, identity) in [
        ("missing", None),
        ("expired", Some(&expired)),
        ("not valid yet", Some(&future)),
        ("another authority", Some(&unknown)),
        ("an authority of the same name", Some(&forged)),
        ("self-signed", Some(&own)),
    ] {
        assert!(served(&files, &server, SOURCE, identity).is_err(), "{what}");
        let older = [&rustls::version::TLS12];
        let refused = served_by(&files, &server, SOURCE, identity, &older);
        assert!(refused.is_err(), "{what}, TLS 1.2");
    }
    assert!(served(&files, &server, SOURCE, Some(&stolen)).is_err());
    assert_eq!(engine.opened(), 0, "no query is read");
    let valid = files.authority.issue(&names);
    assert!(served(&files, &server, SOURCE, Some(&valid)).is_ok());
}

/// RFC 7724 sections 8.1 and 9.
#[test]
fn an_entry_decides_which_certificates_its_requesters_may_present() {
    let files = Files::new();
    let by_fingerprint = files.authority.issue(&[]);
    let hash = fingerprint(&by_fingerprint);
    let requesters = format!(
        r#"[ {{ "address": "127.0.0.1", "certificates": ["bng1.example.net", "*.pop.example.net"] }},
             {{ "address": "127.0.0.2", "certificates": ["sha256:{hash}"] }},
             "127.0.0.3" ]"#
    );
    let (server, _) = start(&files, &requesters, "");
    let cases: [(&[&str], [bool; 3]); 8] = [
        (&["bng1.example.net"], [true, false, true]),
        (&["BNG1.Example.Net"], [true, false, true]),
        (&["a.pop.example.net"], [true, false, true]),
        (
            &["other.example.net", "a.pop.example.net"],
            [true, false, true],
        ),
        (&["a.b.pop.example.net"], [false, false, true]),
        (&["pop.example.net"], [false, false, true]),
        // No requester is identified by a wildcard of its own.
        (&["*.pop.example.net"], [false, false, true]),
        (&[], [false, false, true]),
    ];
    for (names, expected) in cases {
        let identity = files.authority.issue(names);
        for (last, expected) in (1..).zip(expected) {
            let client = served(&files, &server, [127, 0, 0, last], Some(&identity));
            assert_eq!(client.is_ok(), expected, "{names:?} from 127.0.0.{last}");
        }
    }
    let client = served(&files, &server, [127, 0, 0, 2], Some(&by_fingerprint)).unwrap();
    let open = server.monitor().connections();
    let name = open.last().unwrap().tls.clone().unwrap().name;
    assert_eq!(name, Some(format!("sha256:{hash}")));
    drop(client);
    // The common name is no subject alternative name.
    let named = files.authority.issue_with(&[], |params| {
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, "bng1.example.net");
    });
    assert!(served(&files, &server, SOURCE, Some(&named)).is_err());
}

#[test]
fn there_may_be_more_authorities_than_names_fit_a_message() {
    let files = Files::new();
    let authorities = (0..700).map(|number| {
        let name = format!("authority {number} {}", "x".repeat(60));
        Authority::new(&name).certificate()
    });
    let others: String = authorities.collect();
    files.write(
        "ca.pem",
        &format!("{others}{}", files.authority.certificate()),
    );
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["a.example.net"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert!(served_by(&files, &server, SOURCE, Some(&requester), &[version]).is_ok());
    }
}

/// Returns the SHA-256 of a certificate as openssl prints it.
fn fingerprint(identity: &Identity) -> String {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let hash = suite.common.hash_provider.hash(&identity.certificate_der());
    let digits = hash.as_ref().iter().map(|octet| format!("{octet:02x}"));
    digits.collect()
}

/// RFC 7724 section 9: certificates limit the sources of an entry.
#[test]
fn a_certificate_may_be_optional_but_not_for_entries_that_list_some() {
    let files = Files::new();
    let requesters =
        r#"["127.0.0.1", { "address": "127.0.0.2", "certificates": ["a.example.net"] }]"#;
    let (server, engine) = start(&files, requesters, r#", "cert-required": false"#);
    assert!(served(&files, &server, [127, 0, 0, 1], None).is_ok());
    let open = server.monitor().connections();
    assert_eq!(open.last().unwrap().tls.clone().unwrap().name, None);
    assert_eq!(
        engine.requesters()[0].security,
        Security::Tls {
            is_authenticated: false
        }
    );
    assert!(served(&files, &server, [127, 0, 0, 2], None).is_err());
    // One that is presented must be valid all the same.
    let own = Identity::self_signed(&["a.example.net"]);
    assert!(served(&files, &server, [127, 0, 0, 1], Some(&own)).is_err());
    let listed = files.authority.issue(&["a.example.net"]);
    assert!(served(&files, &server, [127, 0, 0, 2], Some(&listed)).is_ok());
}

/// RFC 7724 section 8.1: certificates are validated in the handshake.
#[test]
fn refuses_revoked_certificates() {
    let files = Files::new();
    let revoked = files.authority.issue(&["a.example.net"]);
    let valid = files.authority.issue(&["b.example.net"]);
    // An obsolete list still holds.
    for next in [2026, 2095] {
        let path = files.write("crl.pem", &files.authority.revoke(&[&revoked], next));
        let parameter = format!(r#", "crl-file": {path:?}"#);
        let (server, _) = start(&files, r#"["127.0.0.1"]"#, &parameter);
        assert!(served(&files, &server, SOURCE, Some(&revoked)).is_err());
        assert!(served(&files, &server, SOURCE, Some(&valid)).is_ok());
    }
}

/// RFC 7724 section 8.1: certificates are validated in the handshake, by the files in force.
#[test]
fn the_files_at_the_start_of_a_server_decide() {
    let files = Files::new();
    let requester = files.authority.issue(&["a.example.net"]);
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let mut before = served(&files, &server, SOURCE, Some(&requester)).unwrap();
    // An authority is replaced: that of the server's certificate stays, as the client trusts it.
    let next = Authority::new("next");
    files.write("ca.pem", &next.certificate());
    assert!(before.ask(8, 3, 300).is_ok());
    assert!(served(&files, &server, SOURCE, Some(&requester)).is_ok());
    let (reloaded, _) = start(&files, r#"["127.0.0.1"]"#, "");
    assert!(served(&files, &reloaded, SOURCE, Some(&requester)).is_err());
    let requester = next.issue(&["a.example.net"]);
    assert!(served(&files, &reloaded, SOURCE, Some(&requester)).is_ok());
    let refused = served(&files, &server, SOURCE, Some(&requester));
    assert!(refused.is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
}
