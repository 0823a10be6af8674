//! The parameters of TLS and Active Leasequery.

use super::*;

#[test]
fn tls_is_allowed_with_its_files_unless_another_mode_is_given() {
    for (parameters, expected) in [
        ("{}".to_owned(), None),
        (r#"{ "tls": "off" }"#.to_owned(), None),
        (
            r#"{ "trust-anchor": "", "cert-file": "", "key-file": "" }"#.to_owned(),
            None,
        ),
        (format!("{{ {FILES} }}"), Some(tls())),
        (format!(r#"{{ {FILES}, "tls": "allowed" }}"#), Some(tls())),
        (
            format!(r#"{{ {FILES}, "tls": "required" }}"#),
            Some(Tls {
                is_required: true,
                ..tls()
            }),
        ),
        (format!(r#"{{ {FILES}, "tls": "off" }}"#), None),
    ] {
        assert_eq!(advanced(&parameters).unwrap().tls, expected, "{parameters}");
    }
}

#[test]
fn warns_of_parameters_that_do_not_encrypt_connections() {
    let requester = r#"[{ "address": "192.0.2.1", "certificates": ["*.example.net"] }]"#;
    let off = format!(r#"{{ {FILES}, "tls": "off" }}"#);
    for (config, parts) in [
        (advanced(&off), ["'advanced.trust-anchor'", "not encrypted"]),
        (
            advanced(r#"{ "cert-required": false }"#),
            ["'advanced.cert-required'", "not encrypted"],
        ),
        (
            with_requesters(requester),
            ["192.0.2.1, but TLS is off", "not encrypted"],
        ),
    ] {
        let notices = config.unwrap().notices;
        let [notice] = &notices[..] else {
            panic!("one notice: {notices:?}");
        };
        let found = (notice.level, notice.id);
        assert_eq!(found, (Level::WARN, "BLQ_NOT_ENCRYPTED"));
        for part in parts {
            assert!(notice.text.contains(part), "{}", notice.text);
        }
    }
}

#[test]
fn warns_of_certificates_that_active_queries_without_tls_do_not_need() {
    let with = |types: &str, parameters: &str| {
        let json = format!(
            r#"{{ "requesters": [{{ "address": "192.0.2.1", "certificates": ["a.example.net"] {types} }}],
                  "advanced": {{ "active-query-enabled": true, {parameters} }} }}"#
        );
        let notices = Config::parse(&json).unwrap().notices;
        let found = notices.iter().map(|notice| (notice.level, notice.id));
        let ids: Vec<_> = found.collect();
        (ids, notices.first().map(|notice| notice.text.clone()))
    };
    let insecure = format!(r#"{FILES}, "active-query-insecure": true"#);
    let (ids, text) = with("", &insecure);
    assert_eq!(ids, [(Level::WARN, "BLQ_ACTIVE_INSECURE")]);
    for part in ["192.0.2.1", "'advanced.active-query-insecure'"] {
        assert!(text.as_ref().unwrap().contains(part), "{text:?}");
    }
    let bulk = r#", "query-types": ["mac", "all"]"#;
    assert_eq!(with(bulk, &insecure).0, []);
    assert_eq!(with("", FILES).0, []);
    // Without TLS there is no certificate at all.
    let (ids, _) = with("", r#""active-query-insecure": true"#);
    assert_eq!(ids, [(Level::WARN, "BLQ_NOT_ENCRYPTED")]);
}

#[test]
fn refuses_protections_without_their_files() {
    for (parameters, parts) in [
        (
            r#""trust-anchor": "/etc/ca""#,
            [
                "'advanced.trust-anchor'",
                "'advanced.cert-file', 'advanced.key-file'",
            ],
        ),
        (
            r#""cert-file": "/c", "key-file": "/k""#,
            ["'advanced.cert-file'", "without 'advanced.trust-anchor'"],
        ),
        (
            r#""crl-file": "/crl""#,
            ["'advanced.crl-file'", "'advanced.key-file'"],
        ),
        (
            r#""tls": "required""#,
            ["'advanced.tls' is \"required\"", "\"off\""],
        ),
        (
            r#""tls": "allowed""#,
            ["'advanced.tls' is \"allowed\"", "'advanced.key-file'"],
        ),
        (
            r#""tls": "on""#,
            ["'advanced.tls' is \"on\"", "\"required\""],
        ),
        (
            r#""cert-required": true"#,
            ["'advanced.cert-required' is true", "false"],
        ),
    ] {
        let error = advanced(&format!("{{ {parameters} }}"))
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// RFC 7724 sections 8 and 8.1.
#[test]
fn active_leasequery_needs_bulk_leasequery_and_tls_or_a_step_of_its_own() {
    for (parameters, refused) in [
        (
            r#""active-query-enabled": true"#.to_owned(),
            Some("active-query-insecure"),
        ),
        (r#""active-query-insecure": true"#.to_owned(), None),
        (
            r#""active-query-enabled": true, "active-query-insecure": true"#.to_owned(),
            None,
        ),
        (format!(r#"{FILES}, "active-query-enabled": true"#), None),
        (
            format!(r#"{FILES}, "active-query-enabled": true, "tls": "off""#),
            Some("active-query-enabled"),
        ),
        (
            format!(r#"{FILES}, "active-query-enabled": true, "bulk-query-enabled": false"#),
            Some("bulk-query-enabled"),
        ),
        (
            format!(r#"{FILES}, "tls": "required", "active-query-insecure": true"#),
            Some("active-query-insecure"),
        ),
        (
            r#""max-active-connections": 0"#.to_owned(),
            Some("from 1 to 65535"),
        ),
        (r#""active-idle-timeout": 0"#.to_owned(), Some("from 1")),
        (r#""active-send-timeout": 0"#.to_owned(), Some("from 1")),
        (r#""active-history": -1"#.to_owned(), Some("from 0")),
    ] {
        let config = advanced(&format!("{{ {parameters} }}"));
        match refused {
            None => assert_eq!(
                config.unwrap().active.is_some(),
                parameters.contains("active-query-enabled"),
                "{parameters}"
            ),
            Some(part) => {
                let error = config.unwrap_err().to_string();
                assert!(error.contains(part), "{parameters}: {error}");
            }
        }
    }
}

/// RFC 7724 section 5.3.
#[test]
fn active_timeouts_have_the_defaults_of_the_rfc_and_shorter_ones_a_warning() {
    let enabled = r#""active-query-enabled": true, "active-query-insecure": true"#;
    let config = advanced(&format!("{{ {enabled} }}")).unwrap();
    assert_eq!(
        config.active,
        Some(Active {
            is_insecure: true,
            max_connections: 10,
            idle_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(120),
            history: None,
        })
    );
    assert_eq!(config.notices, []);
    for name in ["active-idle-timeout", "active-send-timeout"] {
        let config = advanced(&format!(r#"{{ {enabled}, "{name}": 59 }}"#)).unwrap();
        let notice = &config.notices[0];
        let found = (notice.level, notice.id);
        assert_eq!(found, (Level::WARN, "BLQ_IDLE_TIME_SHORT"));
        assert!(notice.text.contains(name), "{}", notice.text);
    }
}
