//! Changes of Kea's configuration, and times that depend on it.

use super::*;

/// Commits an active lease in each subnet, and an expired lease in subnet 2.
fn leases_in_two_vpns(bench: &Bench) {
    bench.commit(lease_of(10, 1, bench.now - 500), &[]);
    bench.commit(lease([10, 0, 2, 1], 2, bench.now - 500), &[]);
    bench.commit(lease([10, 0, 2, 2], 3, bench.now - 4_000), &[]);
}

/// Returns the last octets of the addresses of subnet 2 that changed at `start` or later, in a VPN.
fn delta_of_2(bench: &Bench, start: u32, vpn: Vss) -> Vec<u8> {
    let query = Query {
        vpn: Some(vpn),
        ..since(start)
    };
    let addresses = bench.addresses(&query);
    let octets = addresses.iter().map(Ipv4Addr::octets);
    let in_2 = octets.filter(|octets| octets[2] == 2);
    in_2.map(|octets| octets[3]).collect()
}

/// Replaces the name of VPN blue.
const RED: (&str, &str) = (r#""blue""#, r#""red""#);

// A binding has changed if its VPN has, at run time and over a restart.
#[test]
fn a_delta_has_bindings_that_moved_to_another_vpn() {
    let name = |name: &str| Vss::Name(name.to_owned());
    let check = |bench: &Bench, start: u32| {
        assert_eq!(delta_of_2(bench, start, name("red")), [1, 2]);
        assert_eq!(delta_of_2(bench, start, Vss::All), [1, 2]);
        assert_eq!(delta_of_2(bench, start, name("blue")), [0u8; 0]);
        assert_eq!(delta(bench, start), [0u8; 0]);
    };
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    leases_in_two_vpns(&bench);
    let before = saved(&bench);
    configure(&bench, kea_config(&[RED]));
    check(&bench, now);
    let leases = [
        lease_of(10, 1, now - 500),
        lease([10, 0, 2, 1], 2, now - 500),
        lease([10, 0, 2, 2], 3, now - 4_000),
    ];
    check(
        &restarted(before.clone(), kea_config(&[RED]), &leases, now + 10),
        now + 10,
    );
    // An equal configuration changes nothing.
    let same = restarted(before, kea_config(&[]), &leases, now + 10);
    assert_eq!(delta_of_2(&same, now + 10, Vss::All), [0u8; 0]);
    assert_eq!(delta(&same, now + 10), [0u8; 0]);
}

/// Returns two options: 15, whose value of subnet 1 takes precedence over the value of class
/// `gold`, and 17 of the class alone.
fn options(subnet: &str, shadowed: &str, class: &str) -> Vec<ConfiguredOption> {
    let option = |scope, code, value: &str| ConfiguredOption {
        scope,
        code,
        value: value.into(),
        never_send: false,
        always_send: false,
        client_classes: Vec::new(),
    };
    vec![
        option(Scope::Subnet(SubnetId(1)), 15, subnet),
        option(Scope::Class("gold".to_owned()), 15, shadowed),
        option(Scope::Class("gold".to_owned()), 17, class),
    ]
}

// The options, T1 and T2 and host names that Kea sends with a lease are part of its reply.
#[test]
fn a_delta_has_leases_with_which_kea_sends_other_options_and_times() {
    let with = |subnet: &str, shadowed: &str, class: &str| {
        KeaConfig::new(CONFIGURATION, options(subnet, shadowed, class), &[]).unwrap()
    };
    let original = || with("a", "b", "c");
    let changed = |(from, to)| {
        let config = CONFIGURATION.replace(from, to);
        assert_ne!(config, CONFIGURATION);
        KeaConfig::new(&config, options("a", "b", "c"), &[]).unwrap()
    };
    let reservation = DatabaseReservation {
        subnet: SubnetId(1),
        identifier_type: "hw-address".to_owned(),
        identifier: mac(1),
        address: None,
        hostname: "reserved".to_owned(),
    };
    let reserved = KeaConfig::new(CONFIGURATION, options("a", "b", "c"), &[reservation]).unwrap();
    let timers = (r#""renew-timer": 900"#, r#""renew-timer": 901"#);
    let unrelated = (
        r#""user-context": { "vpn": { "name": "blue" } }"#,
        r#""user-context": { "vpn": { "name": "blue" } }, "store-extended-info": true"#,
    );
    for (after, expected) in [
        (original(), vec![]),
        (with("other", "b", "c"), vec![10, 11]),
        (with("a", "other", "c"), vec![]),
        // 11 is in the class.
        (with("a", "b", "other"), vec![11]),
        (reserved, vec![10]),
        (changed(timers), vec![10, 11]),
        (changed(unrelated), vec![]),
    ] {
        let bench = long_configured(original());
        bench.commit(lease_of(10, 1, bench.now - 500), &[]);
        let client_info = ClientInfo {
            classes: ["gold".to_owned()].into(),
            ..ClientInfo::default()
        };
        bench.mirror.queue().push(Event::Committed {
            lease: lease_of(11, 2, bench.now - 500),
            client_info,
        });
        bench.mirror.catch_up_by(|| Time(bench.now - 500));
        configure(&bench, after);
        assert_eq!(delta(&bench, bench.now), expected);
    }
}

// A binding whose subnet is removed keeps its VPN, and appears in no other VPN.
#[test]
fn a_binding_keeps_its_vpn_when_its_subnet_is_removed() {
    let without = || KeaConfig::new(r#"{ "Dhcp4": { "subnet4": [] } }"#, Vec::new(), &[]).unwrap();
    let check = |bench: &Bench| {
        let found = |vpn: Option<Vss>| {
            let by_mac = Query { vpn, ..by_mac(2) };
            bench.addresses(&by_mac).len()
        };
        assert_eq!(found(None), 0);
        assert_eq!(found(Some(Vss::Default)), 0);
        assert_eq!(found(Some(Vss::Name("blue".to_owned()))), 1);
        assert_eq!(found(Some(Vss::All)), 1);
        // Leases of the default VPN stay in it.
        assert_eq!(bench.addresses(&by_mac(1)), [address(10)]);
        assert!(bench.ask(&since(1)).is_empty());
    };
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    leases_in_two_vpns(&bench);
    let before = saved(&bench);
    let leases = [
        lease_of(10, 1, now - 500),
        lease([10, 0, 2, 1], 2, now - 500),
    ];
    configure(&bench, without());
    check(&bench);
    // Also after one restart and two, whether the subnet was removed while Kea ran or between runs.
    let after = saved(&bench);
    for before in [before, after] {
        let bench = restarted(before, without(), &leases, now + 10);
        check(&bench);
        let bench = restarted(saved(&bench), without(), &leases, now + 20);
        check(&bench);
        // When the subnet returns, its addresses are configured again.
        configure(&bench, kea_config(&[]));
        assert_eq!(delta_of_2(&bench, bench.now, Vss::All), [1, 2]);
    }
    // A lease of an unknown VPN is returned in no VPN.
    let unknown = restarted(Saved::default(), without(), &leases, now + 10);
    for vpn in [None, Some(Vss::Default), Some(Vss::All)] {
        assert!(unknown.ask(&Query { vpn, ..by_mac(1) }).is_empty());
    }
}

// If a lease's subnet number contradicts its address, the subnet that contains the address decides.
#[test]
fn the_subnet_that_contains_an_address_decides_where_numbers_contradict_it() {
    let swapped = kea_config(&[
        (r#""id": 1"#, r#""id": 9"#),
        (r#""id": 2"#, r#""id": 1"#),
        (r#""id": 9"#, r#""id": 2, "renew-timer": 700"#),
    ]);
    let renumbered = kea_config(&[(r#""id": 1"#, r#""id": 11, "renew-timer": 700"#)]);
    for after in [swapped, renumbered] {
        let bench = long_configured(kea_config(&[]));
        leases_in_two_vpns(&bench);
        configure(&bench, after);
        let [binding] = &bench.ask(&by_mac(1))[..] else {
            panic!("one binding in the default VPN")
        };
        assert_eq!(binding.renewal_time, Some(200));
        assert!(bench.ask(&by_mac(2)).is_empty());
        let blue = Query {
            vpn: Some(Vss::Name("blue".to_owned())),
            ..by_mac(2)
        };
        assert_eq!(bench.addresses(&blue), [Ipv4Addr::new(10, 0, 2, 1)]);
        assert_eq!(delta(&bench, bench.now), [10]);
    }
}

// An address outside of pools and reservations is configured only while it is leased. Its release
// is a change, after which it is not configured.
#[test]
fn an_address_outside_of_pools_is_not_configured_once_it_is_released() {
    let bench = long_configured(kea_config(&[]));
    bench.commit(lease_of(99, 1, bench.now - 500), &[]);
    assert!(bench.addresses(&all()).contains(&address(99)));
    bench.mirror.queue().push(Event::Released {
        address: address(99),
        client: None,
        at: Time(bench.now),
        origin: Origin::Local,
    });
    bench.mirror.catch_up();
    assert!(!bench.addresses(&all()).contains(&address(99)));
    assert_eq!(delta(&bench, bench.now), [99]);
}

// ----- Times -------------------------------------------------------------------------------------

// Kea answers from its cache with the remaining lifetime, and with T1 and T2 computed from it.
#[test]
fn t1_and_t2_count_from_the_last_answer() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(lease_of(10, 1, now - 500), &[]);
    bench.commit(lease_of(11, 2, now - 500), &[]);
    bench.mirror.queue().push(Event::Confirmed {
        address: address(10),
        client: ClientIds {
            hardware: lease_of(10, 1, 0).hardware,
            client_id: Vec::new(),
        },
        at: Time(now - 2),
        client_info: ClientInfo::default(),
    });
    bench.mirror.catch_up();
    let times = |client| {
        let binding = bench.ask(&by_mac(client)).remove(0);
        let base = binding.base_time.unwrap();
        let passed = base - now;
        [
            binding.lease_time,
            binding.renewal_time,
            binding.rebinding_time,
        ]
        .map(|left| left.map(|left| left + passed))
    };
    assert_eq!(times(1), [Some(3_100), Some(898), Some(1_798)]);
    assert_eq!(times(2), [Some(3_100), Some(400), Some(1_300)]);
}

// Kea accepts lifetimes that end after 2^32 seconds since 1970.
#[test]
fn a_lifetime_that_ends_beyond_2106_is_returned_whole() {
    for lifetime in [3_000_000_000, u32::MAX - 1] {
        let bench = long_configured(kea_config(&[]));
        let long = Lease {
            valid_lifetime: Lifetime(lifetime),
            ..lease_of(10, 1, bench.now - 500)
        };
        bench.commit(long, &[]);
        let binding = bench.ask(&by_mac(1)).remove(0);
        let passed = binding.base_time.unwrap() - bench.now + 500;
        assert_eq!(binding.lease_time, Some(lifetime - passed));
    }
}
