//! Each parameter: its default, its limits, and the messages of refusals.

mod security;

use super::*;
use crate::kea_config::KeaConfig;

/// Parses parameters with one requester and this value of `advanced`.
fn advanced(advanced: &str) -> Result<Config, ConfigError> {
    Config::parse(&format!(
        r#"{{ "requesters": ["192.0.2.1"], "advanced": {advanced} }}"#
    ))
}

/// Parses parameters with this value of `requesters`.
fn with_requesters(requesters: &str) -> Result<Config, ConfigError> {
    Config::parse(&format!(r#"{{ "requesters": {requesters} }}"#))
}

/// Asserts that each of `cases` is refused: parameters, and parts of the message.
fn refuses(cases: &[(&str, &[&str])]) {
    for (json, expected) in cases {
        let error = Config::parse(json).expect_err(json).to_string();
        for part in *expected {
            assert!(error.contains(part), "{json}: {error:?} lacks {part:?}");
        }
    }
}

/// Returns an entry of `requesters` without limits.
fn entry(prefix: &str) -> RequesterEntry {
    RequesterEntry {
        prefix: prefix.parse().unwrap(),
        query_types: QueryTypes::ALL,
        max_connections: None,
        max_connections_per_address: None,
        certificates: Vec::new(),
    }
}

/// Returns TLS with its files alone.
fn tls() -> Tls {
    Tls {
        is_required: false,
        trust_anchor: "/etc/ca".into(),
        cert_file: "/etc/cert".into(),
        key_file: "/etc/key".into(),
        crl_file: None,
        is_cert_required: true,
    }
}

/// The parameters of [`tls`].
const FILES: &str =
    r#""trust-anchor": "/etc/ca", "cert-file": "/etc/cert", "key-file": "/etc/key""#;

#[test]
fn requesters_alone_yield_the_defaults() {
    // RFC 6926 section 6.3: port 67, 10 connections, 300 seconds.
    assert_eq!(
        with_requesters(r#"["192.0.2.1"]"#).unwrap(),
        Config {
            requesters: vec![entry("192.0.2.1/32")],
            state_file: None,
            non_sensitive_options: None,
            bulk_query_enabled: true,
            udp_query_enabled: true,
            udp_rate_limit: NonZeroU32::new(1_000),
            active: None,
            tls: None,
            given: [false, false],
            listen_addresses: vec![Ipv4Addr::UNSPECIFIED],
            port: 67,
            max_connections: 10,
            max_queries: 16,
            idle_time: Duration::from_secs(300),
            threads: None,
            reconciliation_interval: None,
            notices: Vec::new(),
        }
    );
}

#[test]
fn accepts_every_parameter() {
    let config = Config::parse(
        r#"{
            "requesters": [
                "192.0.2.1",
                "198.51.100.0/24",
                { "address": "203.0.113.0/24", "query-types": ["mac", "all"] },
                { "address": "203.0.113.7", "max-connections": 2, "max-connections-per-address": 1,
                  "certificates": ["BNG1.example.net"], "query-types": ["ip", "active"] }
            ],
            "state-file": "/var/lib/kea/other.state",
            "non-sensitive-options": [1, 51, 254],
            "advanced": {
                "bulk-query-enabled": true,
                "udp-query-enabled": false,
                "udp-rate-limit": 7,
                "lease-query-ip": ["192.0.2.9", "192.0.2.10"],
                "lease-query-tcp-port": 65535,
                "max-requester-connections": 1,
                "max-concurrent-queries": 1,
                "max-requester-idle-time": 301,
                "max-bulk-query-threads": 3,
                "reconciliation-interval": 0,
                "active-query-enabled": true,
                "active-query-insecure": true,
                "max-active-connections": 3,
                "active-idle-timeout": 61,
                "active-send-timeout": 121,
                "active-history": 3600,
                "tls": "allowed",
                "trust-anchor": "/etc/ca", "cert-file": "/etc/cert", "key-file": "/etc/key",
                "cert-required": false,
                "crl-file": "/etc/crl"
            }
        }"#,
    );
    let mut config = config.unwrap();
    let notices = std::mem::take(&mut config.notices);
    let ids: Vec<&str> = notices.iter().map(|notice| notice.id).collect();
    assert_eq!(ids, ["BLQ_ACTIVE_INSECURE"]);
    assert_eq!(
        config,
        Config {
            requesters: vec![
                entry("192.0.2.1/32"),
                entry("198.51.100.0/24"),
                RequesterEntry {
                    query_types: QueryTypes::NONE.with(QueryType::Mac).with(QueryType::All),
                    ..entry("203.0.113.0/24")
                },
                RequesterEntry {
                    query_types: QueryTypes::NONE.with(QueryType::Ip).with(QueryType::Active),
                    max_connections: Some(2),
                    max_connections_per_address: Some(1),
                    certificates: vec![CertificateMatch::Name("bng1.example.net".to_owned())],
                    ..entry("203.0.113.7/32")
                },
            ],
            state_file: Some("/var/lib/kea/other.state".into()),
            non_sensitive_options: Some([1, 51, 254].into()),
            bulk_query_enabled: true,
            udp_query_enabled: false,
            udp_rate_limit: NonZeroU32::new(7),
            active: Some(Active {
                is_insecure: true,
                max_connections: 3,
                idle_timeout: Duration::from_secs(61),
                send_timeout: Duration::from_secs(121),
                history: NonZeroU32::new(3_600),
            }),
            tls: Some(Tls {
                is_cert_required: false,
                crl_file: Some("/etc/crl".into()),
                ..tls()
            }),
            given: [true, true],
            listen_addresses: vec![Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 10)],
            port: 65_535,
            max_connections: 1,
            max_queries: 1,
            idle_time: Duration::from_secs(301),
            threads: Some(3),
            reconciliation_interval: Some(0),
            notices: Vec::new(),
        }
    );
}

#[test]
fn accepts_keas_own_parameters_with_one_notice_for_each_without_effect() {
    let config = advanced(
        r#"{
            "bulk-query-enabled": true,
            "active-query-enabled": false,
            "extended-info-tables-enabled": true,
            "lease-query-ip": "192.0.2.9",
            "lease-query-tcp-port": 67,
            "max-bulk-query-threads": 0,
            "max-requester-connections": 10,
            "max-concurrent-queries": 4,
            "max-requester-idle-time": 300,
            "max-leases-per-fetch": 100,
            "trust-anchor": "/etc/ca", "cert-file": "/etc/cert", "key-file": "/etc/key",
            "cert-required": true
        }"#,
    )
    .unwrap();
    assert_eq!(config.tls, Some(tls()));
    assert_eq!(config.max_queries, 4);
    assert_eq!(config.threads, None);
    let notices = config.notices.iter();
    let notices: Vec<_> = notices
        .map(|notice| (notice.level, notice.id, &*notice.text))
        .collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    let no_effect = "BLQ_PARAMETER_NO_EFFECT";
    for ((level, id, text), expected) in notices.into_iter().zip([
        (
            Level::INFO,
            no_effect,
            "'advanced.extended-info-tables-enabled'",
        ),
        (Level::INFO, no_effect, "'advanced.max-leases-per-fetch'"),
    ]) {
        assert_eq!((level, id), (expected.0, expected.1));
        assert!(text.contains(expected.2), "{text}");
    }
}

// Kea's own hook accepts comments in these two maps.
#[test]
fn ignores_comments() {
    let commented = r#"{
        "comment": "BNGs", "requesters": ["192.0.2.1"],
        "advanced": { "comment": "defaults" }
    }"#;
    let plain = r#"{ "requesters": ["192.0.2.1"] }"#;
    assert_eq!(Config::parse(commented), Config::parse(plain));
}

#[test]
fn zero_concurrent_queries_means_16() {
    let config = advanced(r#"{ "max-concurrent-queries": 0 }"#).unwrap();
    assert_eq!(config.max_queries, 16);
}

#[test]
fn accepts_an_idle_time_below_300_with_a_warning() {
    // RFC 6926 section 6.3: smaller timeouts are NOT RECOMMENDED.
    let config = advanced(r#"{ "max-requester-idle-time": 299 }"#).unwrap();
    assert_eq!(config.idle_time, Duration::from_secs(299));
    assert_eq!(config.notices[0].level, Level::WARN);
    assert_eq!(config.notices[0].id, "BLQ_IDLE_TIME_SHORT");
    assert!(config.notices[0].text.contains("299"));
}

#[test]
fn warns_of_requesters_that_include_every_address() {
    let config = with_requesters(r#"["0.0.0.0/0"]"#).unwrap();
    assert_eq!(config.notices[0].level, Level::WARN);
}

#[test]
fn refuses_unknown_parameters() {
    refuses(&[
        (
            r#"{ "requesters": ["192.0.2.1"], "requestors": 5 }"#,
            &["'requestors'", "5", "requesters, state-file"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "advanced": { "port": 67 } }"#,
            &["'advanced.port'", "67", "lease-query-tcp-port"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1", { "address": "192.0.2.2", "types": [] }] }"#,
            &["'requesters[1].types'", "[]", "query-types"],
        ),
    ]);
}

#[test]
fn refuses_parameters_without_requesters() {
    refuses(&[
        ("{}", &["'requesters' is missing", "at least one"]),
        ("null", &["'requesters' is missing"]),
        (
            r#"{ "requesters": [] }"#,
            &["'requesters'", "[]", "at least one"],
        ),
        (
            r#"{ "requesters": "192.0.2.1" }"#,
            &["'requesters'", "a list"],
        ),
        (
            r#"{ "requesters": [{ "query-types": ["mac"] }] }"#,
            &["'requesters[0].address' is missing", "IPv4"],
        ),
    ]);
}

#[test]
fn refuses_parameters_that_are_no_map() {
    for json in ["", "[]", "5", "{"] {
        refuses(&[(json, &["must be a JSON map"])]);
    }
}

#[test]
fn refuses_requesters_that_are_no_ipv4_addresses() {
    for bad in [
        r#""""#,
        r#""2001:db8::1""#,
        r#""192.0.2""#,
        r#""192.0.2.256""#,
        r#""192.0.2.0/33""#,
        r#""192.0.2.0/""#,
        r#"" 192.0.2.1""#,
        r#""relay.example.net""#,
        "5",
        "null",
        "[]",
    ] {
        let error = with_requesters(&format!("[{bad}]"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("'requesters[0]'") && error.contains(bad) && error.contains("IPv4"),
            "{error}"
        );
        let map = format!(r#"[{{ "address": {bad} }}]"#);
        let error = with_requesters(&map).unwrap_err().to_string();
        assert!(
            error.contains("'requesters[0].address'") && error.contains("IPv4"),
            "{error}"
        );
    }
}

#[test]
fn refuses_a_prefix_that_may_mean_an_address() {
    refuses(&[(
        r#"{ "requesters": ["192.0.2.1/24"] }"#,
        &["192.0.2.1/24", "192.0.2.0/24", "the address 192.0.2.1"],
    )]);
    assert_eq!(
        with_requesters(r#"["192.0.2.1/32"]"#).unwrap().requesters,
        [entry("192.0.2.1/32")]
    );
}

#[test]
fn refuses_a_prefix_given_twice() {
    refuses(&[
        (
            r#"{ "requesters": ["192.0.2.1", { "address": "192.0.2.1/32" }] }"#,
            &["'requesters[1]'", "given once", "192.0.2.1/32"],
        ),
        (
            r#"{ "requesters": ["192.0.2.0/24", "192.0.2.0/25", "192.0.2.0/24"] }"#,
            &["'requesters[2]'", "given once"],
        ),
    ]);
}

#[test]
fn refuses_wrong_types_and_values_out_of_range() {
    for (name, bad, allowed) in [
        ("bulk-query-enabled", r#""true""#, "true or false"),
        ("bulk-query-enabled", "1", "true or false"),
        ("active-query-enabled", "0", "true or false"),
        ("extended-info-tables-enabled", "null", "true or false"),
        ("cert-required", r#""yes""#, "true or false"),
        ("trust-anchor", "true", "a string"),
        ("cert-file", "5", "a string"),
        ("key-file", "[]", "a string"),
        ("max-leases-per-fetch", "-1", "an integer"),
        ("max-leases-per-fetch", r#""100""#, "an integer"),
        ("lease-query-tcp-port", "0", "from 1 to 65535"),
        ("lease-query-tcp-port", "65536", "from 1 to 65535"),
        ("lease-query-tcp-port", "-67", "from 1 to 65535"),
        ("lease-query-tcp-port", "67.5", "from 1 to 65535"),
        ("lease-query-tcp-port", r#""67""#, "from 1 to 65535"),
        ("max-requester-connections", "0", "from 1 to 65535"),
        ("max-requester-connections", "65536", "from 1 to 65535"),
        ("max-concurrent-queries", "-1", "from 0 to 1024"),
        ("max-concurrent-queries", "1025", "from 0 to 1024"),
        ("max-requester-idle-time", "0", "from 1 to 4294967295"),
        (
            "max-requester-idle-time",
            "4294967296",
            "from 1 to 4294967295",
        ),
        ("max-bulk-query-threads", "-1", "from 0 to 1024"),
        ("max-bulk-query-threads", "1025", "from 0 to 1024"),
        ("lease-query-ip", "5", "IPv4"),
        ("lease-query-ip", r#""::1""#, "IPv4"),
        ("lease-query-ip", r#""localhost""#, "IPv4"),
        ("lease-query-ip", r#""224.0.0.1""#, "unicast"),
        ("lease-query-ip", r#""255.255.255.255""#, "unicast"),
        ("lease-query-ip", "[]", "at least one"),
        ("lease-query-ip", r#"["127.0.0.1",5]"#, "IPv4"),
        (
            "lease-query-ip",
            r#"["127.0.0.1","127.0.0.1"]"#,
            "given once",
        ),
        ("lease-query-ip", r#"["127.0.0.1","0.0.0.0"]"#, "alone"),
    ] {
        let error = advanced(&format!(r#"{{ "{name}": {bad} }}"#))
            .expect_err(bad)
            .to_string();
        let parameter = format!("'advanced.{name}'");
        // The message shows the wrong element of a list.
        let shown = bad.trim_start_matches('[').split(',').next_back().unwrap();
        assert!(
            error.contains(&parameter)
                && error.contains(shown.trim_end_matches(']'))
                && error.contains(allowed),
            "{name} {bad}: {error}"
        );
    }
    refuses(&[
        (
            r#"{ "requesters": ["192.0.2.1"], "advanced": [] }"#,
            &["'advanced'", "[]", "a map"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "state-file": "" }"#,
            &["'state-file'", "path"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "state-file": "/var/lib/kea/" }"#,
            &["'state-file'", "/var/lib/kea/", "path"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "state-file": "a/.." }"#,
            &["'state-file'", "a/..", "path"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "state-file": "a\u0000" }"#,
            &["'state-file'", "path"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "state-file": 5 }"#,
            &["'state-file'", "5", "a string"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "non-sensitive-options": 82 }"#,
            &["'non-sensitive-options'", "82", "a list"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "non-sensitive-options": [1, 0] }"#,
            &["'non-sensitive-options[1]'", "0", "1 to 254"],
        ),
        (
            r#"{ "requesters": ["192.0.2.1"], "non-sensitive-options": [255] }"#,
            &["'non-sensitive-options[0]'", "255", "1 to 254"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "query-types": ["udp"] }] }"#,
            &["'requesters[0].query-types[0]'", "\"udp\"", "\"remote-id\""],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "query-types": [] }] }"#,
            &["'requesters[0].query-types'", "[]", "at least one of"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "query-types": "mac" }] }"#,
            &["'requesters[0].query-types'", "\"mac\"", "a list"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "max-connections": 0 }] }"#,
            &["'requesters[0].max-connections'", "0", "from 1"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "max-connections-per-address": 0 }] }"#,
            &["'requesters[0].max-connections-per-address'", "0", "from 1"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "certificates": [] }] }"#,
            &["'requesters[0].certificates'", "[]", "at least one"],
        ),
        (
            r#"{ "requesters": [{ "address": "192.0.2.1", "certificates": ["a", "*"] }] }"#,
            &["'requesters[0].certificates[1]'", "\"*\"", "sha256:"],
        ),
    ]);
}

#[test]
fn an_empty_list_of_non_sensitive_options_means_none() {
    let config = Config::parse(r#"{"requesters": ["192.0.2.1"], "non-sensitive-options": []}"#);
    assert_eq!(config.unwrap().non_sensitive_options, Some(BTreeSet::new()));
}

#[test]
fn shows_only_the_beginning_of_a_long_value() {
    let long = "ü".repeat(10_000);
    let error = with_requesters(&format!(r#"["{long}"]"#)).unwrap_err();
    assert!(error.to_string().len() < 1_000);
}

#[test]
fn knows_which_listeners_a_configuration_adds() {
    let config = |parameters: &str| advanced(&format!("{{ {parameters} }}")).unwrap();
    let one = config(r#""lease-query-ip": "192.0.2.1""#);
    let both = config(r#""lease-query-ip": ["192.0.2.1", "192.0.2.2"]"#);
    let elsewhere = config(r#""lease-query-ip": "192.0.2.1", "lease-query-tcp-port": 68"#);
    let none = config(r#""lease-query-ip": "192.0.2.1", "bulk-query-enabled": false"#);
    for (new, before, added) in [
        (&one, &one, &[][..]),
        (&both, &one, &["192.0.2.2:67"]),
        (&one, &both, &[]),
        (&elsewhere, &both, &["192.0.2.1:68"]),
        (&one, &none, &["192.0.2.1:67"]),
        (&none, &one, &[]),
    ] {
        let found = new.new_listeners(before);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, added);
    }
}

/// Returns Kea's own hook, listening on TCP port 67 or not at all.
fn other_hook(bulk: bool) -> LeaseQueryHook {
    let config = format!(
        r#"{{ "Dhcp4": {{ "hooks-libraries": [ {{
            "library": "/usr/lib/kea/hooks/libdhcp_lease_query.so",
            "parameters": {{ "requesters": [], "advanced": {{ "bulk-query-enabled": {bulk} }} }}
        }} ] }} }}"#
    );
    let kea_config = KeaConfig::new(&config, Vec::new(), &[]).unwrap();
    kea_config.lease_query_hook.unwrap()
}

#[test]
fn leaves_to_keas_own_hook_what_no_parameter_asks_for() {
    for (parameters, bulk, [udp, tcp], notices) in [
        ("{}", false, [false, true], 1),
        ("{}", true, [false, false], 2),
        (
            r#"{ "lease-query-tcp-port": 6767 }"#,
            true,
            [false, true],
            1,
        ),
        (r#"{ "udp-query-enabled": false }"#, false, [false, true], 0),
        (
            r#"{ "udp-query-enabled": false, "bulk-query-enabled": false }"#,
            true,
            [false, false],
            0,
        ),
    ] {
        let mut config = advanced(parameters).unwrap();
        config.leave_to(&other_hook(bulk)).unwrap();
        assert_eq!(
            [config.udp_query_enabled, config.bulk_query_enabled],
            [udp, tcp],
            "{parameters}"
        );
        let found = config.notices.iter();
        let found = found.filter(|notice| notice.id == "BLQ_OTHER_HOOK");
        assert_eq!(found.count(), notices, "{parameters}");
    }
}

#[test]
fn refuses_what_keas_own_hook_does_already() {
    for (parameter, bulk) in [
        ("udp-query-enabled", false),
        ("bulk-query-enabled", true),
        ("active-query-enabled", true),
    ] {
        let parameters = format!(
            r#"{{ "udp-query-enabled": false, "active-query-insecure": true, "{parameter}": true }}"#
        );
        let parameters = match parameter {
            "udp-query-enabled" => r#"{ "udp-query-enabled": true }"#,
            _ => &parameters,
        };
        let error = advanced(parameters).unwrap().leave_to(&other_hook(bulk));
        let error = error.unwrap_err().to_string();
        for part in [
            parameter,
            "libdhcp_lease_query.so",
            "remove that library",
            "false",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn accepts_a_parameter_of_keas_dhcpv6_hook() {
    let parameters = |lengths: &str| {
        Config::parse(&format!(
            r#"{{ "requesters": ["192.0.2.1"], "prefix-lengths": {lengths} }}"#
        ))
    };
    let notices = parameters("[56, 64]").unwrap().notices;
    assert_eq!(notices[0].id, "BLQ_PARAMETER_NO_EFFECT");
    assert!(notices[0].text.contains("'prefix-lengths'"));
    assert!(parameters("56").is_err());
}

#[test]
fn a_rate_limit_of_0_is_none() {
    let limit = |parameters| advanced(parameters).unwrap().udp_rate_limit.map(u32::from);
    assert_eq!(limit("{}"), Some(1_000));
    assert_eq!(limit(r#"{ "udp-rate-limit": 7 }"#), Some(7));
    assert_eq!(limit(r#"{ "udp-rate-limit": 0 }"#), None);
    assert!(advanced(r#"{ "udp-rate-limit": -1 }"#).is_err());
}

/// Returns the texts of the warnings about entries of `requesters` that no peer can match.
fn never(parameters: &str) -> Vec<String> {
    let notices = Config::parse(parameters).unwrap().notices.into_iter();
    let never = notices.filter(|notice| notice.id == "BLQ_REQUESTER_NEVER");
    never.map(|notice| notice.text).collect()
}

#[test]
fn warns_of_requesters_that_no_peer_can_match() {
    for (requesters, entry, why) in [
        (r#"["0.0.0.0"]"#, "0.0.0.0,", "unicast"),
        (r#"["224.0.0.0/4"]"#, "224.0.0.0/4", "unicast"),
        (r#"["255.255.255.255"]"#, "255.255.255.255", "unicast"),
        (
            r#"["192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/26", "192.0.2.192/26"]"#,
            "192.0.2.0/24",
            "more specific",
        ),
    ] {
        let found = never(&format!(r#"{{ "requesters": {requesters} }}"#));
        assert_eq!(found.len(), 1, "{requesters}: {found:?}");
        assert!(
            found[0].contains(entry) && found[0].contains(why),
            "{found:?}"
        );
    }
    let on = |address: &str| {
        format!(
            r#"{{ "requesters": ["192.0.2.0/24", "127.0.0.1"],
                  "advanced": {{ "lease-query-ip": "{address}" }} }}"#
        )
    };
    let found = never(&on("127.0.0.1"));
    assert!(
        found.len() == 1 && found[0].contains("192.0.2.0/24"),
        "{found:?}"
    );
    let found = never(&on("192.0.2.1"));
    assert!(
        found.len() == 1 && found[0].contains("127.0.0.1,") && found[0].contains("come from"),
        "{found:?}"
    );
    assert_eq!(never(&on("0.0.0.0")), [""; 0]);
    for requesters in [
        r#"["0.0.0.0/0"]"#,
        r#"["192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/26"]"#,
        r#"["192.0.2.0/25", "192.0.2.128/25"]"#,
        r#"["127.0.0.0/8"]"#,
    ] {
        let found = never(&format!(r#"{{ "requesters": {requesters} }}"#));
        assert!(found.is_empty(), "{found:?}");
    }
}
