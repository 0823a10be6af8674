//! The bindings that a query returns: identities, time windows, VPNs.

use std::net::Ipv4Addr;

use blq::{Primary, Query, Vss};
use dhcp_blq::mirror::Saved;
use dhcp_blq::mirror::event::{Event, Origin};
use dhcp_blq::model::time::Time;
use dhcp_blq::query::{Engine, Progress};

use crate::bench::*;
use crate::{ACTIVE, UNASSIGNED};

// RFC 6926 section 8.2, Query for All Configured IP Addresses.
#[test]
fn all_configured_addresses_occur_once_whether_or_not_bound() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 12], 1, 10, &[]);
    bench.lease([10, 0, 1, 50], 2, 10, &[]); // outside pools, in a configured subnet
    let bindings = bench.ask(&all());
    let expected: Vec<Ipv4Addr> = (10..=19)
        .chain([50, 200])
        .map(|last| Ipv4Addr::new(10, 0, 1, last))
        .collect();
    let found: Vec<_> = bindings.iter().map(|binding| binding.address).collect();
    assert_eq!(found, expected);
    for binding in &bindings {
        let bound = [12, 50].contains(&binding.address.octets()[3]);
        let (message_type, state) = if bound { (ACTIVE, 2) } else { (UNASSIGNED, 1) };
        assert_eq!(binding.message_type.0, message_type, "{}", binding.address);
        assert_eq!(binding.state.unwrap().0, state);
    }
}

// RFC 6926 section 8.2: "MUST NOT send more than one message for each applicable IP address,
// even if the state of some of those IP addresses changes during the processing".
#[test]
fn an_address_occurs_at_most_once_despite_changes_during_the_query() {
    let bench = Bench::new();
    let message = all().to_message().unwrap();
    let mut answer = bench
        .engine
        .open(&message.encode(), &bench.requester)
        .ok()
        .unwrap();
    let mut out = Vec::new();
    let mut turn = 0;
    while bench.engine.write(&mut answer, &mut out, 1) == Progress::More {
        bench.lease([10, 0, 1, 10 + turn % 10], turn, 1, &[]);
        bench.mirror.queue().push(Event::Released {
            address: Ipv4Addr::new(10, 0, 1, 10 + (turn + 5) % 10),
            client: None,
            at: Time(bench.now),
            origin: Origin::Local,
        });
        bench.mirror.catch_up();
        turn += 1;
    }
    let (bindings, _) = decode(&out);
    let mut addresses: Vec<_> = bindings.iter().map(|binding| binding.address).collect();
    assert_eq!(addresses.len(), 11);
    addresses.dedup();
    assert_eq!(addresses.len(), 11);
}

// RFC 6926 section 8.2: each query by identity returns current bindings only.
#[test]
fn queries_by_identity_return_exactly_the_active_bindings_that_match() {
    let bench = Bench::new();
    let here = relay_information(b"line-1", b"relay-a");
    let there = relay_information(b"line-2", b"relay-a");
    bench.lease([10, 0, 1, 10], 1, 10, &here);
    bench.lease([10, 0, 1, 11], 2, 10, &there);
    bench.lease([10, 0, 1, 12], 1, 10, &there);
    bench.lease([10, 0, 1, 13], 1, 4000, &here); // ended
    let addresses = |primary| bench.addresses(&Query::new(primary));
    let [first, second, third] = [10, 11, 12].map(|last| Ipv4Addr::new(10, 0, 1, last));
    assert_eq!(bench.addresses(&by_mac(1)), [first, third]);
    assert_eq!(addresses(Primary::ClientId(vec![1, 2])), [second]);
    assert_eq!(
        addresses(Primary::RemoteId(b"line-2".to_vec())),
        [second, third]
    );
    assert_eq!(
        addresses(Primary::RelayId(b"relay-a".to_vec())),
        [first, second, third]
    );
    assert!(addresses(Primary::RelayId(b"relay".to_vec())).is_empty());
    let token_ring = addresses(Primary::Mac {
        htype: 6,
        address: mac(1),
    });
    assert!(token_ring.is_empty());
    assert!(
        bench
            .ask(&by_mac(1))
            .iter()
            .all(|binding| binding.message_type.0 == ACTIVE)
    );
}

// RFC 6925 section 5 and RFC 3396: the longest possible identifiers.
#[test]
fn finds_identifiers_of_255_octets_and_returns_their_option_82_whole() {
    let bench = Bench::new();
    let information = relay_information(&[7; 255], &[8; 255]);
    bench.lease([10, 0, 1, 10], 1, 10, &information);
    for primary in [
        Primary::RemoteId(vec![7; 255]),
        Primary::RelayId(vec![8; 255]),
    ] {
        let bindings = bench.ask(&Query::new(primary));
        assert_eq!(bindings.len(), 1);
        let returned = bindings[0].relay_agent_information.as_ref().unwrap();
        assert_eq!(returned.raw, information);
    }
}

// The contract: a lease of a subnet that is not configured, and whose VPN is unknown, is never
// returned as one of the default VPN.
#[test]
fn a_lease_of_a_subnet_that_was_never_configured_is_in_no_vpn() {
    let bench = Bench::new();
    bench.lease([10, 0, 7, 7], 1, 10, &[]);
    for vpn in [None, Some(Vss::Default), Some(Vss::All)] {
        let query = Query { vpn, ..by_mac(1) };
        assert!(bench.ask(&query).is_empty());
    }
    assert!(
        !bench
            .addresses(&all())
            .contains(&Ipv4Addr::new(10, 0, 7, 7))
    );
}

// RFC 6926 sections 6.2.5, 6.2.6 and 8.2: both bounds are included; either time counts.
#[test]
fn time_qualifiers_select_the_changes_in_the_window() {
    let bench = Bench::with_saved(Saved::default());
    // In this state for an hour according to the state file, with the last transaction 100 seconds
    // ago.
    bench.lease([10, 0, 1, 10], 1, 1000, &[]);
    bench.lease([10, 0, 1, 10], 1, 100, &[]);
    bench.lease([10, 0, 1, 11], 2, 500, &[]);
    let within = |start: Option<u32>, end: Option<u32>| {
        let query = |primary| Query {
            start: start.map(|ago| bench.now - ago),
            end: end.map(|ago| bench.now - ago),
            ..Query::new(primary)
        };
        let mut found: Vec<u8> = bench
            .addresses(&query(Primary::All))
            .iter()
            .map(|address| address.octets()[3])
            .filter(|last| [10, 11].contains(last))
            .collect();
        let by_client: Vec<u8> = [1, 2]
            .into_iter()
            .flat_map(|client| bench.addresses(&query(by_mac(client).primary)))
            .map(|address| address.octets()[3])
            .collect();
        assert_eq!(found, by_client, "equal for every primary query");
        found.dedup();
        found
    };
    assert_eq!(within(Some(100), None), [10]);
    assert_eq!(within(Some(99), None), [0u8; 0]);
    assert_eq!(within(Some(1000), Some(1000)), [10]);
    assert_eq!(within(None, Some(1000)), [10]);
    assert_eq!(within(None, Some(500)), [10, 11]);
    assert_eq!(within(Some(600), Some(400)), [11]);
    assert_eq!(within(Some(999), Some(501)), [0u8; 0]);
}

// RFC 6926 section 6.2.4: an address that was never leased counts as changed when it was
// configured.
#[test]
fn never_leased_addresses_count_as_changed_when_configured() {
    let bench = Bench::with_saved(Saved::default());
    let since = |start| Query {
        start: Some(start),
        ..all()
    };
    assert_eq!(bench.ask(&since(bench.now)).len(), 11);
    assert_eq!(bench.ask(&since(bench.now + 1)).len(), 0);
    let first = &bench.ask(&all())[0];
    assert_eq!(first.state_started_at(), Some(bench.now));
}

// RFC 6926 section 8.2, VPN-ID; RFC 6607.
#[test]
fn the_vpn_id_selects_and_is_returned_for_other_than_the_default_vpn() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 10, &[]);
    bench.lease([10, 0, 2, 1], 1, 10, &[]);
    // The relay's VSS sub-option takes precedence over the subnet's VPN.
    bench.lease(
        [10, 0, 1, 11],
        1,
        10,
        &[151, 8, 1, 0, 0, 0x5e, 0, 0, 0, 7, 152, 0],
    );
    let by_vpn = |vpn: Option<Vss>| {
        bench
            .ask(&Query { vpn, ..by_mac(1) })
            .iter()
            .map(|binding| (binding.address.octets()[3], binding.vpn.clone()))
            .collect::<Vec<_>>()
    };
    let blue = Vss::Name("blue".into());
    let numbered = Vss::Rfc2685([0, 0, 0x5e, 0, 0, 0, 7]);
    assert_eq!(by_vpn(None), [(10, None)]);
    assert_eq!(by_vpn(Some(Vss::Default)), [(10, None)]);
    assert_eq!(by_vpn(Some(blue.clone())), [(1, Some(blue.clone()))]);
    assert_eq!(
        by_vpn(Some(numbered.clone())),
        [(11, Some(numbered.clone()))]
    );
    assert_eq!(
        by_vpn(Some(Vss::All)),
        [(10, None), (11, Some(numbered)), (1, Some(blue.clone()))]
    );
    assert_eq!(by_vpn(Some(Vss::Name("green".into()))), []);
    // Free addresses belong to their subnet's VPN.
    let free = bench.ask(&Query {
        vpn: Some(blue),
        ..all()
    });
    assert_eq!(free.len(), 2);
    assert!(free.iter().all(|binding| binding.vpn.is_some()));
}

// The contract: the DHCPLEASEQUERYDONE's base-time is the beginning of the query, so that a
// requester's next query from it misses no change behind the cursor.
#[test]
fn a_query_from_the_base_time_of_the_done_returns_the_changes_since_the_query_began() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 100, &[]);
    let before = Time::now();
    let mut answer = bench.open(&all().to_message().unwrap().encode()).unwrap();
    let mut out = Vec::new();
    assert_eq!(bench.engine.write(&mut answer, &mut out, 1), Progress::More);
    let released = Ipv4Addr::new(10, 0, 1, 10);
    bench.mirror.queue().push(Event::Released {
        address: released,
        client: None,
        at: Time::now(),
        origin: Origin::Local,
    });
    bench.mirror.catch_up();
    let after = Time::now();
    while Time::now() == after {
        std::thread::yield_now();
    }
    while bench.engine.write(&mut answer, &mut out, 1) == Progress::More {}
    let (bindings, done) = decode(&out);
    assert_eq!(
        bindings[0].state.unwrap().0,
        2,
        "the cursor was beyond the address"
    );
    let began = done.base_time.unwrap();
    assert!((before..=after).contains(&Time(began)));
    assert!(bindings.last().unwrap().base_time > Some(began));
    let changed = bench.addresses(&Query {
        start: Some(began),
        ..all()
    });
    assert!(changed.contains(&released), "{changed:?}");
}
