//! Reading the configuration of each Kea release.
//!
//! `config-get-*.json` are the answers of Kea 2.2.0, 2.6.3 and 3.0.3 to `config-get`, for the same
//! configuration file.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::*;
use crate::model::binding::{Binding, SubnetId};
use crate::model::client::{Client, ClientParts};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::model::vpn::Vpn;

/// The answers of each release.
const RELEASES: [&str; 3] = [
    include_str!("config-get-2.2.json"),
    include_str!("config-get-2.6.json"),
    include_str!("config-get-3.0.json"),
];

/// Parses an address.
fn ip(address: &str) -> Ipv4Addr {
    address.parse().unwrap()
}

/// Returns a configuration with one subnet 192.0.2.0/24, id 1, with further parameters.
fn one_subnet(parameters: &str) -> Result<KeaConfig, KeaConfigError> {
    let config = format!(
        r#"{{"Dhcp4": {{"subnet4": [{{"id": 1, "subnet": "192.0.2.0/24" {parameters}}}]}}}}"#
    );
    KeaConfig::new(&config, Vec::new(), &[])
}

/// Returns an option for all clients.
fn option(scope: Scope, code: u8, value: &str) -> ConfiguredOption {
    ConfiguredOption {
        scope,
        code,
        value: value.into(),
        never_send: false,
        always_send: false,
        client_classes: Vec::new(),
    }
}

/// Returns a binding of `address` in `subnet` to `client`.
fn binding(address: &str, subnet: u32, client: ClientParts<'_>) -> Binding {
    Binding {
        address: ip(address),
        state: State::Active,
        since: Time(1),
        last_transaction: Some(Time(1)),
        lease_start: Time(1),
        lifetime: Lifetime(4000),
        subnet: SubnetId(subnet),
        client: Some(Client::from(&client)),
        remote: false,
        learned_at: None,
        reserved_until: None,
    }
}

/// Returns a client with this MAC address.
fn with_mac(chaddr: &[u8; 6]) -> ClientParts<'_> {
    ClientParts {
        htype: 1,
        chaddr,
        ..ClientParts::default()
    }
}

/// Returns a client without a reservation.
fn stranger() -> ClientParts<'static> {
    with_mac(&[0, 0, 0x5e, 0, 0x53, 0xff])
}

#[test]
fn finds_pools_and_reservations_of_each_kea_release() {
    for config in RELEASES {
        let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
        let range = |first, last, vpn: &Vpn| ConfiguredRange {
            first: ip(first),
            last: ip(last),
            vpn: vpn.clone(),
            allocators: Allocators::default(),
        };
        let rfc2685 = Vpn::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]);
        let blue = Vpn::Name("blue".into());
        assert_eq!(
            kea_config.ranges,
            [
                range("10.0.0.5", "10.0.0.5", &rfc2685),
                range("10.0.0.10", "10.0.0.20", &rfc2685),
                range("10.0.0.77", "10.0.0.77", &rfc2685),
                range("10.1.0.0", "10.1.0.255", &blue),
                range("10.1.2.1", "10.1.2.9", &blue),
                range("10.1.200.1", "10.1.200.1", &blue),
            ]
        );
        assert_eq!(kea_config.subnet(SubnetId(1)).unwrap().vpn, rfc2685);
        assert_eq!(kea_config.subnet(SubnetId(2)).unwrap().vpn, blue);
        assert!(kea_config.subnet(SubnetId(3)).is_none());
    }
}

#[test]
fn inherits_timers_from_the_shared_network_and_globally() {
    for config in RELEASES {
        let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
        let times = |subnet, lifetime| {
            let subnet = kea_config.subnet(SubnetId(subnet)).unwrap();
            let times = subnet.timers.tee_times(Lifetime(lifetime));
            (times.renewal, times.rebinding)
        };
        // Global renew-timer, calculate-tee-times in the subnet.
        assert_eq!(times(1, 4000), (Some(900), Some(3500)));
        // Global renew-timer, the shared network's rebind-timer.
        assert_eq!(times(2, 4000), (Some(900), Some(3000)));
        assert_eq!(times(2, 1000), (Some(900), None));
    }
}

#[test]
fn takes_the_option_of_the_most_specific_scope() {
    let scopes = [
        Scope::Reservation {
            subnet: SubnetId(2),
            identifier_type: "client-id".into(),
            identifier: vec![1, 2, 3],
            address: Some(ip("10.1.200.1")),
        },
        Scope::Pool {
            subnet: SubnetId(2),
            first: ip("10.1.2.1"),
            last: ip("10.1.2.9"),
        },
        Scope::Subnet(SubnetId(2)),
        Scope::SharedNetwork("net".into()),
        Scope::Class("gold".into()),
        Scope::Class("silver".into()),
        Scope::Global,
    ];
    let names = [
        "reservation",
        "pool",
        "subnet",
        "network",
        "gold",
        "silver",
        "global",
    ];
    let client = ClientParts {
        client_id: &[1, 2, 3],
        classes: vec!["ALL", "gold", "silver"],
        ..stranger()
    };
    // Each scope decides if the more specific ones have no value.
    for configured in 0..scopes.len() {
        let options = scopes
            .iter()
            .zip(names)
            .skip(configured)
            .map(|(scope, name)| option(scope.clone(), 15, name))
            .collect();
        let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
        let binding = binding("10.1.2.5", 2, client.clone());
        assert_eq!(
            kea_config.option(15, binding.view()).as_deref(),
            Some(names[configured].as_bytes())
        );
    }
}

#[test]
fn sends_no_option_of_a_scope_the_lease_is_not_in() {
    let scopes = [
        Scope::Reservation {
            subnet: SubnetId(1),
            identifier_type: "hw-address".into(),
            identifier: vec![10, 0, 0x5e, 0, 0x53, 2],
            address: None,
        },
        Scope::Pool {
            subnet: SubnetId(1),
            first: ip("10.0.0.10"),
            last: ip("10.0.0.20"),
        },
        Scope::Subnet(SubnetId(2)),
        Scope::SharedNetwork("net".into()),
        Scope::Class("gold".into()),
    ];
    let options = scopes
        .into_iter()
        .map(|scope| option(scope, 15, "wrong"))
        .collect();
    let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
    let elsewhere = binding("10.0.0.30", 1, stranger());
    assert_eq!(kea_config.option(15, elsewhere.view()), None);
}

#[test]
fn never_send_withholds_an_option_of_narrower_scopes() {
    let options = vec![
        option(Scope::Subnet(SubnetId(1)), 15, "subnet"),
        ConfiguredOption {
            never_send: true,
            always_send: false,
            ..option(Scope::Class("gold".into()), 15, "")
        },
    ];
    let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
    let gold = ClientParts {
        classes: vec!["gold"],
        ..stranger()
    };
    assert_eq!(
        kea_config.option(15, binding("10.0.0.11", 1, gold).view()),
        None
    );
    assert_eq!(
        kea_config
            .option(15, binding("10.0.0.11", 1, stranger()).view())
            .as_deref(),
        Some(&b"subnet"[..])
    );
}

#[test]
fn the_subnet_mask_is_always_the_subnets() {
    let options = vec![option(Scope::Global, 1, "\0\0\0\0")];
    let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
    let mask = |subnet, address| {
        let binding = binding(address, subnet, stranger());
        kea_config.option(1, binding.view()).map(Cow::into_owned)
    };
    assert_eq!(mask(1, "10.0.0.11"), Some(vec![255, 255, 255, 0]));
    assert_eq!(mask(2, "10.1.0.1"), Some(vec![255, 255, 0, 0]));
}

#[test]
fn a_lease_of_a_removed_subnet_gets_the_options_of_its_new_subnet() {
    let options = vec![option(Scope::Global, 15, "global")];
    let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
    let value = |address| {
        let binding = binding(address, 99, stranger());
        kea_config.option(15, binding.view()).map(Cow::into_owned)
    };
    assert_eq!(value("10.0.0.11"), Some(b"global".to_vec()));
    assert_eq!(value("203.0.113.1"), None);
}

#[test]
fn finds_the_reservation_by_each_identifier_a_client_has() {
    let reservations = r#", "reservations-global": true, "reservations": [
        {"hw-address": "00:00:5e:00:53:01", "hostname": "by-mac"},
        {"client-id": "01020304", "hostname": "by-client-id"},
        {"duid": "00:03:00:01:00:00:5e:00:53:09", "hostname": "by-duid"},
        {"circuit-id": "706F7274", "hostname": "by-circuit"},
        {"flex-id": "616263", "ip-address": "192.0.2.9", "hostname": "by-address"},
        {"client-id": "0909", "ip-address": "192.0.2.10", "hostname": "another's"}
    ]"#;
    let kea_config = one_subnet(reservations).unwrap();
    let hostname = |address, client: ClientParts<'_>| {
        let binding = binding(address, 1, client);
        let name = kea_config.option(12, binding.view())?;
        Some(String::from_utf8(name.into_owned()).unwrap())
    };
    let found = |client: ClientParts<'_>| hostname("192.0.2.1", client);
    assert_eq!(
        found(with_mac(&[0, 0, 0x5e, 0, 0x53, 1])).as_deref(),
        Some("by-mac")
    );
    let with_id = |client_id: &'static [u8]| ClientParts {
        client_id,
        ..stranger()
    };
    assert_eq!(
        found(with_id(&[1, 2, 3, 4])).as_deref(),
        Some("by-client-id")
    );
    const DUID: [u8; 15] = [255, 0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0x5e, 0, 0x53, 9];
    assert_eq!(found(with_id(&DUID)).as_deref(), Some("by-duid"));
    let relayed = ClientParts {
        relay_agent_information: b"\x01\x04port",
        ..stranger()
    };
    assert_eq!(found(relayed).as_deref(), Some("by-circuit"));
    assert_eq!(found(stranger()), None);
    // A flexible identifier is unknown here, but a reserved address is leased to its client only.
    assert_eq!(
        hostname("192.0.2.9", stranger()).as_deref(),
        Some("by-address")
    );
    // An address that is still leased to a client other than that of its reservation.
    assert_eq!(hostname("192.0.2.10", with_id(&[7, 7])), None);
}

#[test]
fn looks_for_reservations_only_where_kea_does() {
    let config = |modes: &str| {
        format!(
            r#"{{"Dhcp4": {{"reservations": [{{"hw-address": "00:00:5e:00:53:01", "hostname": "global"}}],
            "subnet4": [{{"id": 1, "subnet": "192.0.2.0/24" {modes},
            "reservations": [{{"hw-address": "00:00:5e:00:53:01", "hostname": "subnet"}}]}}]}}}}"#
        )
    };
    let hostname = |modes: &str| {
        let kea_config = KeaConfig::new(&config(modes), Vec::new(), &[]).unwrap();
        let binding = binding("192.0.2.1", 1, with_mac(&[0, 0, 0x5e, 0, 0x53, 1]));
        let name = kea_config.option(12, binding.view())?;
        Some(String::from_utf8(name.into_owned()).unwrap())
    };
    assert_eq!(hostname("").as_deref(), Some("subnet"));
    assert_eq!(
        hostname(r#", "reservations-global": true"#).as_deref(),
        Some("subnet")
    );
    let global = r#", "reservations-global": true, "reservations-in-subnet": false"#;
    assert_eq!(hostname(global).as_deref(), Some("global"));
    assert_eq!(hostname(r#", "reservations-in-subnet": false"#), None);
}

#[test]
fn the_leases_host_name_precedes_the_reserved_and_the_configured_one() {
    let options = vec![option(Scope::Global, 12, "configured")];
    let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
    let reserved = with_mac(&[0, 0, 0x5e, 0, 0x53, 1]);
    let named = ClientParts {
        hostname: b"lease",
        ..reserved.clone()
    };
    let hostname = |client: ClientParts<'_>| {
        let binding = binding("10.0.0.77", 1, client);
        kea_config.option(12, binding.view()).map(Cow::into_owned)
    };
    assert_eq!(hostname(named), Some(b"lease".to_vec()));
    assert_eq!(hostname(reserved), Some(b"global.example".to_vec()));
    assert_eq!(hostname(stranger()), Some(b"configured".to_vec()));
}

#[test]
fn the_server_identifier_is_the_global_one_of_four_octets() {
    let identifier = |options| {
        let kea_config = KeaConfig::new(RELEASES[0], options, &[]).unwrap();
        kea_config.server_identifier()
    };
    assert_eq!(identifier(Vec::new()), None);
    assert_eq!(
        identifier(vec![option(Scope::Global, 54, "\x0a\x00\x00\x01")]),
        Some(ip("10.0.0.1"))
    );
    assert_eq!(identifier(vec![option(Scope::Global, 54, "abc")]), None);
    let subnet = Scope::Subnet(SubnetId(1));
    assert_eq!(
        identifier(vec![option(subnet, 54, "\x0a\x00\x00\x01")]),
        None
    );
}

#[test]
fn the_most_specific_subnet_holds_an_address() {
    let config = r#"{"Dhcp4": {"subnet4": [
        {"id": 1, "subnet": "10.0.0.0/8"}, {"id": 2, "subnet": "10.1.0.0/16"},
        {"id": 3, "subnet": "0.0.0.0/0"}, {"id": 4, "subnet": "192.0.2.1/32"}]}}"#;
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    let holding = |address| {
        kea_config
            .subnet_holding(ip(address))
            .map(|found| found.id.0)
    };
    assert_eq!(holding("10.1.2.3"), Some(2));
    assert_eq!(holding("10.2.2.3"), Some(1));
    assert_eq!(holding("192.0.2.1"), Some(4));
    assert_eq!(holding("192.0.2.2"), Some(3));
    assert_eq!(
        KeaConfig::default()
            .subnet_holding(ip("10.1.2.3"))
            .map(|found| found.id),
        None
    );
}

#[test]
fn a_subnets_vpn_precedes_its_shared_networks() {
    let config = r#"{"Dhcp4": {"shared-networks": [{"name": "net",
        "user-context": {"vpn": {"name": "blue"}},
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "user-context": {"vpn": {"name": "red"}}},
                    {"id": 2, "subnet": "198.51.100.0/24", "user-context": {"note": 1}}]}]}}"#;
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    assert_eq!(
        kea_config.subnet(SubnetId(1)).unwrap().vpn,
        Vpn::Name("red".into())
    );
    assert_eq!(
        kea_config.subnet(SubnetId(2)).unwrap().vpn,
        Vpn::Name("blue".into())
    );
}

#[test]
fn refuses_a_malformed_vpn_with_its_location_and_the_allowed_values() {
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(255));
    for vpn in [
        r#""blue""#,
        "null",
        "{}",
        r#"{"name": ""}"#,
        r#"{"name": 7}"#,
        r#"{"name": "bl\u00fce"}"#,
        r#"{"name": "a\u0000b"}"#,
        &long,
        r#"{"rfc2685": "00005e000000"}"#,
        r#"{"rfc2685": "00005e0000000700"}"#,
        r#"{"rfc2685": "00005e0000000g"}"#,
        r#"{"rfc2685": "00:00:5e:00:00:00:07"}"#,
        r#"{"name": "blue", "rfc2685": "00005e00000007"}"#,
        r#"{"name": "blue", "colour": "blue"}"#,
        r#"{"colour": "blue"}"#,
    ] {
        let user_context = format!(r#", "user-context": {{"vpn": {vpn}}}"#);
        let error = one_subnet(&user_context).unwrap_err().to_string();
        let value = serde_json::from_str::<serde_json::Value>(vpn).unwrap();
        assert!(error.contains("subnet 1 (192.0.2.0/24)"), "{error}");
        assert!(error.contains(&value.to_string()), "{error}");
        assert!(error.contains("14 hexadecimal digits"), "{error}");
    }
    let longest = format!(
        r#", "user-context": {{"vpn": {{"name": "{}"}}}}"#,
        "x".repeat(254)
    );
    assert!(one_subnet(&longest).is_ok());
    let config = r#"{"Dhcp4": {"shared-networks": [{"name": "net", "user-context": {"vpn": 1}}]}}"#;
    let error = KeaConfig::new(config, Vec::new(), &[]).unwrap_err();
    assert!(
        error.to_string().contains("shared network 'net'"),
        "{error}"
    );
}

#[test]
fn refuses_layouts_of_no_kea() {
    for config in [
        "",
        "{}",
        "[]",
        r#"{"Dhcp4": []}"#,
        r#"{"Dhcp4": {"subnet4": [{"subnet": "192.0.2.0/24"}]}}"#,
    ] {
        let error = KeaConfig::new(config, Vec::new(), &[]).unwrap_err();
        assert!(matches!(error, KeaConfigError::Layout(_)), "{error}");
    }
    for (parameters, named) in [
        (
            r#", "pools": [{"pool": "192.0.2.9-192.0.2.1"}]"#,
            "192.0.2.9-192.0.2.1",
        ),
        (r#", "pools": [{"pool": "nonsense"}]"#, "nonsense"),
        (
            r#", "reservations": [{"ip-address": "192.0.2"}]"#,
            "192.0.2",
        ),
    ] {
        let error = one_subnet(parameters).unwrap_err().to_string();
        assert!(error.contains("subnet 1"), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn accepts_an_empty_configuration() {
    let kea_config = KeaConfig::new(r#"{"Dhcp4": {}}"#, Vec::new(), &[]).unwrap();
    assert!(kea_config.ranges.is_empty());
    assert_eq!(
        kea_config.option(15, binding("192.0.2.1", 1, stranger()).view()),
        None
    );
}

#[test]
fn accepts_pools_with_spaces_and_global_reservations_outside_every_subnet() {
    let config = r#"{"Dhcp4": {"reservations": [{"hw-address": "00:00:5e:00:53:01", "ip-address": "203.0.113.1"}],
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1 - 192.0.2.9"}]}]}}"#;
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    assert_eq!(kea_config.ranges.len(), 1);
}

#[test]
fn finds_the_addresses_of_ranges_outside_of_pools() {
    let config = r#"{ "Dhcp4": { "subnet4": [
        { "id": 1, "subnet": "10.0.0.0/24", "pools": [
            { "pool": "10.0.0.10-10.0.0.19" }, { "pool": "10.0.0.30-10.0.0.39" } ] },
        { "id": 2, "subnet": "10.0.0.0/16", "pools": [ { "pool": "10.0.0.15-10.0.0.31" } ] },
        { "id": 3, "subnet": "0.0.0.0/0", "pools": [ { "pool": "255.255.255.255/32" } ] } ] } }"#;
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    let outside = |ranges: &[([u8; 4], [u8; 4])]| -> Vec<Ipv4Addr> {
        let ranges = ranges
            .iter()
            .map(|(first, last)| ((*first).into(), (*last).into()));
        kea_config.outside_of_pools(ranges).collect()
    };
    let found = outside(&[
        ([10, 0, 0, 8], [10, 0, 0, 12]),
        ([10, 0, 0, 20], [10, 0, 0, 20]),
        ([10, 0, 0, 35], [10, 0, 0, 41]),
        ([255, 255, 255, 254], [255, 255, 255, 255]),
    ]);
    let expected = [[10, 0, 0, 8], [10, 0, 0, 9], [10, 0, 0, 40], [10, 0, 0, 41]];
    let mut expected: Vec<Ipv4Addr> = expected.map(Ipv4Addr::from).into();
    expected.push(Ipv4Addr::new(255, 255, 255, 254));
    assert_eq!(found, expected);
    assert!(outside(&[]).is_empty());
}
