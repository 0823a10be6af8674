//! The engine's answers to queries, clause by clause, without sockets and without Kea.

#[path = "support/bench.rs"]
mod bench;

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use bench::*;
use blq::{Done, HEADER_LENGTH, Message, Primary, Query, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, Scope};
use dhcp_blq::mirror::Saved;
use dhcp_blq::mirror::event::{Event, Lease, LeaseState, Origin};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::lease_engine::{Answer, LeaseEngine};
use dhcp_blq::query::{Engine, Progress, QueryType, QueryTypes};
use proptest::prelude::*;

// Returns a query for all addresses with one more option.
fn all_with(code: u8, value: &[u8]) -> Message {
    all().to_message().unwrap().with(code, value)
}

const ACTIVE: u8 = 13;
const UNASSIGNED: u8 = 11;

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

// RFC 6926 section 8.3 and the contract's default list.
#[test]
fn without_a_parameter_request_list_the_options_of_the_contract_are_sent() {
    let bench = Bench::new();
    bench.lease(
        [10, 0, 1, 12],
        1,
        100,
        &relay_information(b"line", b"relay"),
    );
    let query = Query {
        parameter_request_list: None,
        ..by_mac(1)
    };
    let binding = &bench.ask(&query)[0];
    assert_eq!(
        bench.option_codes(&query),
        [51, 53, 54, 58, 59, 61, 82, 91, 152, 153, 156]
    );
    assert_eq!(binding.server_identifier, Some(LOCAL));
    assert_eq!(binding.htype, 1);
    assert_eq!(binding.chaddr, mac(1));
    assert_eq!(binding.client_id, Some(vec![1, 1]));
    let base = binding.base_time.unwrap();
    let elapsed = base - (bench.now - 100);
    assert_eq!(binding.start_time_of_state, Some(elapsed));
    assert_eq!(binding.client_last_transaction_time, Some(elapsed));
    assert_eq!(binding.lease_time, Some(3600 - elapsed));
    assert_eq!(binding.renewal_time, Some(900 - elapsed));
    assert_eq!(binding.rebinding_time, Some(1800 - elapsed));
}

// RFC 6926 section 8.3 item 7, RFC 4388 section 6.4.2.
#[test]
fn with_a_parameter_request_list_exactly_the_requested_options_are_sent() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 12], 1, 100, &[]);
    let query = Query {
        // The server sends 1, the client sent 60, 82 and 157 are absent, 221 cannot be requested.
        parameter_request_list: Some(vec![60, 1, 82, 157, 152, 60, 54, 221, 0, 255]),
        ..by_mac(1)
    };
    let binding = &bench.ask(&query)[0];
    assert_eq!(bench.option_codes(&query), [1, 53, 54, 60, 152]);
    assert_eq!(binding.options[&60], b"vendor");
    assert_eq!(binding.options[&1], [255, 255, 255, 0]);
}

// RFC 4388 section 6.4.2, non-sensitive options.
#[test]
fn an_option_that_is_not_declared_non_sensitive_is_not_returned() {
    let mut bench = Bench::new();
    bench.engine = LeaseEngine::new(Arc::clone(&bench.mirror), Some([1, 60].into()));
    bench.lease([10, 0, 1, 12], 1, 100, &[]);
    let query = Query {
        parameter_request_list: Some(vec![1, 12, 51, 60, 61, 152]),
        ..by_mac(1)
    };
    assert_eq!(bench.option_codes(&query), [1, 51, 53, 54, 60, 152]);
    bench.engine = LeaseEngine::new(Arc::clone(&bench.mirror), Some([].into()));
    assert_eq!(bench.option_codes(&query), [51, 53, 54, 152]);
}

// RFC 4388 section 6.4.2 and RFC 6926 section 8.3 items 1 to 6: options that MUST be returned on
// request are returned, whatever is declared non-sensitive.
#[test]
fn options_that_must_be_returned_are_not_withheld_as_sensitive() {
    let mut bench = Bench::new();
    let information = [&relay_information(b"line", b"relay")[..], b"\x97\x05\0blue"].concat();
    let updated = Event::Updated {
        lease: lease([10, 0, 1, 12], 1, bench.now - 10),
        at: Time(bench.now - 10),
        origin: Origin::Remote,
    };
    bench.lease([10, 0, 1, 12], 1, 100, &information);
    bench.mirror.queue().push(updated);
    bench.mirror.catch_up();
    for non_sensitive in [None, Some([].into()), Some([12].into())] {
        let is_limited = non_sensitive.is_some();
        bench.engine = LeaseEngine::new(Arc::clone(&bench.mirror), non_sensitive);
        let asked = |parameter_request_list| Query {
            parameter_request_list,
            vpn: Some(Vss::Name("blue".into())),
            ..by_mac(1)
        };
        let owed = [51, 58, 59, 82, 91, 152, 153, 156, 157];
        let everything = asked(Some(owed.to_vec()));
        // Plus the options that the protocol adds itself: 53, 54, 221.
        assert_eq!(
            bench.option_codes(&everything),
            [51, 53, 54, 58, 59, 82, 91, 152, 153, 156, 157, 221]
        );
        // Each alone.
        for code in owed {
            let codes = bench.option_codes(&asked(Some(vec![code])));
            let mut expected = vec![code, 53, 54, 221];
            expected.sort_unstable();
            assert_eq!(codes, expected);
        }
        // Without a list, those of the default list.
        let by_default = bench.option_codes(&asked(None));
        assert_eq!(by_default.contains(&61), !is_limited);
        assert!(
            [51, 58, 59, 82, 91, 152, 153, 156]
                .iter()
                .all(|code| by_default.contains(code))
        );
        // RFC 6926 section 8.2: a status other than success.
        let refused = all().to_message().unwrap().with(154, [1]);
        assert_eq!(bench.refusal(&refused).0, 3);
        assert!(bench.answer(&refused).1.base_time.is_some());
    }
}

// RFC 4388 section 6.4.2: times in the past are not returned.
#[test]
fn renewal_times_in_the_past_are_omitted() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 12], 1, 1000, &[]);
    let binding = &bench.ask(&by_mac(1))[0];
    assert_eq!(binding.renewal_time, None);
    assert!(binding.rebinding_time.is_some_and(|left| left <= 800));
}

// RFC 6926 sections 6.2.7 and 8.3: the state of an address after its lease, with the last client.
#[test]
fn an_address_no_longer_leased_has_its_state_and_last_client() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 100, &[]);
    bench.mirror.queue().push(Event::Released {
        address: Ipv4Addr::new(10, 0, 1, 10),
        client: None,
        at: Time(bench.now - 50),
        origin: Origin::Local,
    });
    bench.lease([10, 0, 1, 11], 2, 4000, &[]);
    bench.commit(
        Lease {
            state: LeaseState::Declined,
            hardware: HardwareAddress::default(),
            client_id: Vec::new(),
            ..lease([10, 0, 1, 12], 3, bench.now - 10)
        },
        &[],
    );
    let bindings = bench.ask(&all());
    let [released, expired, declined] = &bindings[..3] else {
        panic!("three addresses");
    };
    for (binding, state) in [(released, 4), (expired, 3), (declined, 5)] {
        assert_eq!(binding.message_type.0, UNASSIGNED);
        assert_eq!(binding.state.unwrap().0, state);
    }
    assert_eq!(released.state_started_at(), Some(bench.now - 50));
    assert_eq!(released.chaddr, mac(1));
    assert_eq!(released.lease_time, None);
    assert_eq!(expired.state_started_at(), Some(bench.now - 400));
    assert_eq!(declined.lease_ends_at(), Some(u64::from(bench.now) + 3590));
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

// RFC 6926 section 8.3: server-identifier in the first message only; section 7.1: the xid in all
// messages.
#[test]
fn the_first_message_alone_carries_the_server_identifier() {
    let bench = Bench::new();
    let query = all();
    let (bindings, done) = bench.answer(&query.to_message().unwrap());
    let (first, rest) = bindings.split_first().unwrap();
    assert_eq!(first.server_identifier, Some(LOCAL));
    assert!(
        rest.iter()
            .all(|binding| binding.server_identifier.is_none())
    );
    assert_eq!(done.server_identifier, None);
    assert!(bindings.iter().all(|binding| binding.xid == query.xid));
    assert_eq!(done.xid, query.xid);

    // RFC 6926 section 7.3: a query that finds nothing succeeds, with its only message.
    let (bindings, done) = bench.answer(&by_mac(77).to_message().unwrap());
    assert!(bindings.is_empty());
    assert_eq!((done.status, done.server_identifier), (None, Some(LOCAL)));
}

// RFC 6926 section 8.3 items 2 and 7, and the contract: the parameter request list applies to the
// DHCPLEASEQUERYDONE too, however the query ended.
#[test]
fn each_done_has_a_base_time_if_requested() {
    let mut bench = Bench::new();
    bench.requester.allowed = QueryTypes::ALL;
    bench.lease([10, 0, 1, 12], 1, 10, &[]);
    let [found, empty] = [1, 77].map(|client| by_mac(client).to_message().unwrap());
    let not_allowed = found.clone().with(61, [1, 2]);
    let malformed = Message {
        siaddr: LOCAL,
        ..found.clone()
    };
    for (list, is_carried) in [
        (None, true),
        (Some(vec![152]), true),
        (Some(vec![51, 153, 152, 61]), true),
        (Some(vec![51, 153, 61]), false),
        (Some(vec![]), false),
    ] {
        let with_list = |message: &Message| {
            let mut message = message.clone();
            message.options.retain(|(code, _)| *code != 55);
            message.options.extend(list.clone().map(|list| (55, list)));
            message.encode()
        };
        let before = Time::now();
        let is_right = |done: &Done, status: Option<u8>| {
            assert_eq!(done.status.as_ref().map(|status| status.code.0), status);
            assert_eq!(done.base_time.is_some(), is_carried, "{list:?}");
            let began = done.base_time.map_or(before, Time);
            assert!((before..=Time::now()).contains(&began));
            // Option 51 and others apply to bindings only.
            assert!(done.options.is_empty());
        };
        for (message, status) in [
            (&found, None),
            (&empty, None),
            (&not_allowed, Some(4)),
            (&malformed, Some(3)),
        ] {
            let (bindings, done) = bench.finish(bench.open(&with_list(message)).unwrap(), 1);
            is_right(&done, status);
            for binding in bindings {
                assert_eq!(binding.base_time.is_some(), is_carried);
            }
        }
        let mut out = Vec::new();
        let answer = bench.open(&with_list(&found)).unwrap();
        bench.engine.terminate(answer, "reload", &mut out);
        is_right(&decode(&out).1, Some(2));
        // An option that exceeds the message.
        let mut broken = with_list(&found);
        broken.pop();
        broken.extend([61, 9, 1]);
        let (_, done) = bench.finish(bench.open(&broken).unwrap(), 1);
        is_right(&done, Some(3));
    }
}

// The contract: an unreadable parameter request list counts as absent.
#[test]
fn base_time_is_in_the_done_of_a_query_whose_parameter_request_list_is_malformed() {
    let bench = Bench::new();
    for (options, is_carried) in [
        (&[53, 1, 14, 61, 9, 55, 1, 51][..], true),
        (&[53, 1, 14, 55, 9, 51], true),
        (&[55, 1, 51, 53, 1, 14, 61, 9], false),
        (&[55, 2, 51, 152, 53, 1, 14, 61, 9], true),
    ] {
        let (_, done) = bench.finish(bench.open(&raw(options)).unwrap(), 1);
        assert_eq!(done.base_time.is_some(), is_carried, "{options:?}");
    }
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

// The contract's table: MalformedQuery (3), with a text that names the field.
#[test]
fn refusals_of_malformed_queries_name_the_field() {
    let bench = Bench::new();
    let plain = || all().to_message().unwrap();
    let address = Ipv4Addr::new(10, 0, 1, 10);
    let times = |start: u32, end: u32| {
        plain()
            .with(154, start.to_be_bytes())
            .with(155, end.to_be_bytes())
    };
    let cases: Vec<(&str, Message)> = vec![
        (
            "ciaddr",
            Message {
                ciaddr: address,
                ..plain()
            },
        ),
        (
            "yiaddr",
            Message {
                yiaddr: address,
                ..plain()
            },
        ),
        (
            "siaddr",
            Message {
                siaddr: address,
                ..plain()
            },
        ),
        (
            "hlen",
            Message {
                htype: 1,
                hlen: 0,
                chaddr: [1; 16],
                ..plain()
            },
        ),
        (
            "hlen",
            Message {
                htype: 1,
                hlen: 17,
                chaddr: [1; 16],
                ..plain()
            },
        ),
        ("query-start-time", times(9, 8)),
        ("query-start-time", all_with(154, &[1, 2, 3])),
        (
            "query-start-time",
            all_with(154, &[0, 0, 0, 1]).with(154, [0, 0, 0, 1]),
        ),
        ("query-end-time", all_with(155, &[1, 2, 3, 4, 5])),
        (
            "query-end-time",
            all_with(155, &[0, 0, 0, 1]).with(155, [0, 0, 0, 1]),
        ),
        ("VPN-ID", all_with(221, &[])),
        ("VPN-ID", all_with(221, &[2, 1])),
        ("VPN-ID", all_with(221, &[1, 1, 2, 3])),
        ("VPN-ID", all_with(221, &[255, 0])),
        ("VPN-ID", all_with(221, &[254, 0])),
        ("VPN-ID", all_with(221, &[255]).with(221, [255])),
        ("client-identifier", all_with(61, &[])),
        ("client-identifier", all_with(61, &[1])),
        ("remote-id", all_with(82, &[2, 0])),
        ("relay-id", all_with(82, &[12, 0])),
        ("relay-agent-information", all_with(82, &[2, 5, 1])),
    ];
    for (field, message) in cases {
        let (status, text) = bench.refusal(&message);
        assert_eq!(status, 3, "{field}: {text}");
        assert!(text.contains(field), "{text:?} names {field}");
    }
}

// RFC 6926 section 8.2: more than one primary query is NotAllowed (4).
#[test]
fn two_primary_queries_are_not_allowed() {
    let bench = Bench::new();
    let with_mac = by_mac(1).to_message().unwrap();
    for message in [
        with_mac.clone().with(61, [1, 2]),
        with_mac.clone().with(82, [2, 1, 7]),
        all_with(61, &[1, 2]).with(82, [12, 1, 7]),
        all_with(82, &[2, 1, 7, 12, 1, 8]),
        all_with(82, &[2, 1, 7, 2, 1, 8]),
    ] {
        assert_eq!(bench.refusal(&message).0, 4);
    }
}

// RFC 6926 sections 8.1 and 9: a requester may be restricted to certain query types.
#[test]
fn a_query_type_that_is_not_permitted_is_not_allowed() {
    let mut bench = Bench::new();
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::Mac);
    assert!(bench.ask(&by_mac(1)).is_empty());
    let (status, text) = bench.refusal(&all().to_message().unwrap());
    assert_eq!(status, 4);
    assert!(text.contains("all"), "{text}");
}

/// Returns the message with other fields of a MAC address.
fn with_hardware(message: &Message, htype: u8, hlen: u8, chaddr: [u8; 16]) -> Message {
    Message {
        htype,
        hlen,
        chaddr,
        ..message.clone()
    }
}

/// Commits a lease of a client whose hardware address consists of zeros.
fn lease_of_zeros(bench: &Bench, last: u8, htype: u8, length: usize) -> Ipv4Addr {
    let lease = lease([10, 0, 1, last], last, bench.now - 10);
    let address = lease.address;
    let hardware = HardwareAddress {
        htype,
        octets: vec![0; length],
    };
    bench.commit(Lease { hardware, ..lease }, &[]);
    address
}

// RFC 6926 section 8.2: a message with a value in hlen is a query by MAC address, for htype, hlen
// and chaddr, and never one for all configured addresses.
#[test]
fn an_address_of_zeros_alone_is_a_query_by_mac_address() {
    let mut bench = Bench::new();
    let [ethernet, token_ring, longer, untyped] = [(10, 1, 6), (11, 6, 6), (12, 1, 16), (13, 0, 6)]
        .map(|(last, htype, length)| lease_of_zeros(&bench, last, htype, length));
    // No match: a client without a MAC address, and one with another address.
    lease_of_zeros(&bench, 14, 1, 0);
    bench.lease([10, 0, 1, 15], 1, 10, &[]);
    let plain = all().to_message().unwrap();
    let found = |bench: &Bench, htype, hlen| {
        let (bindings, done) = bench.answer(&with_hardware(&plain, htype, hlen, [0; 16]));
        assert_eq!(done.status, None);
        let addresses = bindings.iter().map(|binding| binding.address);
        addresses.collect::<Vec<_>>()
    };
    assert_eq!(found(&bench, 1, 6), [ethernet]);
    assert_eq!(found(&bench, 6, 6), [token_ring]);
    assert_eq!(found(&bench, 1, 16), [longer]);
    assert_eq!(found(&bench, 0, 6), [untyped]);
    assert!(found(&bench, 1, 1).is_empty());
    assert!(found(&bench, 7, 6).is_empty());
    // Octets beyond hlen are not part of the address.
    let mut chaddr = [0; 16];
    chaddr[6] = 9;
    let (bindings, _) = bench.answer(&with_hardware(&plain, 1, 6, chaddr));
    assert_eq!(bindings.len(), 1);
    // The query needs the permission of its type.
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::Mac);
    assert_eq!(found(&bench, 1, 6), [ethernet]);
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::All);
    let (status, text) = bench.refusal(&with_hardware(&plain, 1, 6, [0; 16]));
    assert_eq!(status, 4);
    assert!(text.contains("mac"), "{text}");
}

// The contract: deployed requesters always fill in htype; without hlen there is no MAC address.
#[test]
fn htype_alone_is_no_query_by_mac_address() {
    let mut bench = Bench::new();
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::All);
    lease_of_zeros(&bench, 14, 1, 0);
    for htype in [0, 1, 6, 255] {
        let message = with_hardware(&all().to_message().unwrap(), htype, 0, [0; 16]);
        assert_eq!(bench.answer(&message).0.len(), 11);
    }
}

// The contract: deployed requesters fill in htype 1 and hlen 6 in every query.
#[test]
fn an_address_of_zeros_beside_another_identity_is_ignored() {
    let mut bench = Bench::new();
    lease_of_zeros(&bench, 10, 1, 6);
    bench.lease([10, 0, 1, 11], 1, 10, &relay_information(b"line", b"relay"));
    for (query_type, primary) in [
        (QueryType::ClientId, Primary::ClientId(vec![1, 1])),
        (QueryType::RemoteId, Primary::RemoteId(b"line".to_vec())),
        (QueryType::RelayId, Primary::RelayId(b"relay".to_vec())),
    ] {
        bench.requester.allowed = QueryTypes::NONE.with(query_type);
        let message = Query::new(primary).to_message().unwrap();
        for (htype, hlen) in [(1, 0), (1, 6), (0, 6), (6, 16), (1, 17), (255, 255)] {
            let (bindings, done) = bench.answer(&with_hardware(&message, htype, hlen, [0; 16]));
            assert_eq!(done.status, None, "{query_type:?}, {htype}, {hlen}");
            assert_eq!(bindings.len(), 1);
            assert_eq!(bindings[0].address, Ipv4Addr::new(10, 0, 1, 11));
        }
    }
}

// The contract: a length that exceeds chaddr, or a length of 0 with an address in chaddr, is
// refused.
#[test]
fn a_hardware_length_that_does_not_fit_its_address_is_malformed() {
    let bench = Bench::new();
    let plain = all().to_message().unwrap();
    let with_id = plain.clone().with(61, [1, 1]);
    let mut chaddr = [0; 16];
    chaddr[15] = 1;
    for message in [
        with_hardware(&plain, 1, 17, [0; 16]),
        with_hardware(&plain, 0, 255, [0; 16]),
        with_hardware(&plain, 1, 17, chaddr),
        with_hardware(&plain, 1, 0, chaddr),
        with_hardware(&plain, 0, 0, chaddr),
        with_hardware(&with_id, 1, 17, chaddr),
        with_hardware(&with_id, 1, 0, chaddr),
    ] {
        let (status, text) = bench.refusal(&message);
        assert_eq!(status, 3);
        assert!(text.contains("hlen"), "{text}");
    }
}

// RFC 7724 section 8.1.1 and the contract: such a connection is closed.
#[test]
fn messages_other_than_bulk_leasequeries_are_unanswerable() {
    let bench = Bench::new();
    let plain = all().to_message().unwrap();
    let with_type = |message_type: &[u8]| Message {
        options: vec![(53, message_type.to_vec())],
        ..plain.clone()
    };
    let unanswerable = |octets: &[u8]| {
        bench
            .engine
            .open(octets, &bench.requester)
            .err()
            .is_some_and(|error| !error.to_string().is_empty())
    };
    for message_type in [1, 3, 10, 11, 13, 15, 16, 18] {
        assert!(unanswerable(&with_type(&[message_type]).encode()));
    }
    assert!(unanswerable(&with_type(&[]).encode()));
    assert!(unanswerable(&with_type(&[14, 14]).encode()));
    // Two message types, of one octet each or joined.
    for options in [
        vec![(53, vec![14]), (53, vec![14])],
        vec![(53, vec![14]), (53, vec![])],
        vec![(53, vec![]), (53, vec![14])],
        vec![(53, vec![14]), (61, vec![1, 2]), (53, vec![13])],
    ] {
        let twice = Message {
            options,
            ..plain.clone()
        };
        assert!(unanswerable(&twice.encode()));
    }
    assert!(unanswerable(
        &Message {
            options: vec![],
            ..plain.clone()
        }
        .encode()
    ));
    assert!(unanswerable(
        &Message {
            op: 2,
            ..plain.clone()
        }
        .encode()
    ));
    let encoded = plain.encode();
    for length in 0..240 {
        assert!(unanswerable(&encoded[..length]), "{length} octets");
    }
    assert!(!unanswerable(&encoded));
    // An error before the message type makes the type unreadable. An error after another type, or
    // in a reply, does not make it a query.
    for options in [
        &[61, 9, 53, 1, 14][..],
        &[53, 9, 14],
        &[53],
        &[53, 1, 13, 61, 9],
        &[53, 1, 14, 53, 1, 14, 61, 9],
        &[52, 1, 1, 61, 9],
    ] {
        let mut octets = raw(options);
        // The file field has the message type, but the options do not declare validly that it holds
        // options.
        octets[108..111].copy_from_slice(&[53, 1, 14]);
        assert!(unanswerable(&octets), "{options:?}");
    }
    let mut reply = raw(&[53, 1, 14, 61, 9]);
    reply[0] = 2;
    assert!(unanswerable(&reply));
}

/// Returns a query's fixed fields with these octets as its options.
fn raw(options: &[u8]) -> Vec<u8> {
    let mut octets = all().to_message().unwrap().encode();
    octets.truncate(HEADER_LENGTH);
    octets.extend(options);
    octets
}

// RFC 6926 section 8.2: "Every Bulk Leasequery request MUST be terminated by sending a final
// DHCPLEASEQUERYDONE message"; by the contract with MalformedQuery if there is an error after its
// type.
#[test]
fn a_query_malformed_after_its_type_is_the_last_of_its_connection() {
    let bench = Bench::new();
    for (options, expected) in [
        (&[53, 1, 14, 61][..], "option 61 runs past"),
        (&[53, 1, 14, 61, 2, 1], "option 61 runs past"),
        (&[53, 1, 14, 55, 200, 51], "option 55 runs past"),
        (&[53, 1, 14, 53, 2, 14], "option 53 runs past"),
        // Valid options before it, and other errors, do not matter.
        (&[53, 1, 14, 61, 2, 1, 9, 154, 4, 1], "option 154 runs past"),
        (
            &[53, 1, 14, 82, 3, 2, 1, 7, 61, 2, 1, 9, 12],
            "option 12 runs past",
        ),
        // A relay agent's sub-options, whatever else is wrong.
        (
            &[53, 1, 14, 82, 3, 2, 9, 1, 255],
            "relay-agent-information has a sub-option",
        ),
        (
            &[53, 1, 14, 154, 1, 1, 82, 4, 1, 1, 7, 12, 255],
            "relay-agent-information has a sub-option",
        ),
        (&[53, 1, 14, 52, 0, 255], "option-overload"),
        (&[53, 1, 14, 52, 1, 0, 255], "option-overload"),
        (&[52, 1, 4, 53, 1, 14, 255], "option-overload"),
        (&[53, 1, 14, 52, 2, 1, 1, 255], "option-overload"),
        (&[53, 1, 14, 52, 1, 1, 52, 1, 1, 255], "option-overload"),
    ] {
        let answer = bench.open(&raw(options)).unwrap();
        assert!(bench.engine.ends_connection(&answer));
        let (bindings, done) = bench.finish(answer, 1);
        assert!(bindings.is_empty());
        let status = done.status.unwrap();
        assert_eq!(status.code.0, 3);
        assert!(status.text.contains(expected), "{}", status.text);
        assert_eq!(done.server_identifier, Some(LOCAL));
    }
    // RFC 3396 section 5: also in the fields that option 52 declares to hold options, and only in
    // those.
    for (overload, at, field, other) in [
        (1, 108, "file", 2),
        (2, 44, "sname", 1),
        (3, 44, "sname", 1),
    ] {
        let mut octets = raw(&[53, 1, 14, 52, 1, overload, 255]);
        octets[at..at + 2].copy_from_slice(&[61, 255]);
        let (_, done) = bench.finish(bench.open(&octets).unwrap(), 1);
        let status = done.status.unwrap();
        assert_eq!(status.code.0, 3);
        assert!(status.text.contains(field), "{}", status.text);
        octets[HEADER_LENGTH + 5] = other;
        let answer = bench.open(&octets).unwrap();
        assert!(!bench.engine.ends_connection(&answer));
    }
    // A query refused for its contents leaves the connection open.
    let malformed = bench.open(&all_with(154, &[1]).encode()).unwrap();
    assert!(!bench.engine.ends_connection(&malformed));
    let good = bench.open(&all().to_message().unwrap().encode()).unwrap();
    assert!(!bench.engine.ends_connection(&good));
}

/// Splits a field into options (RFC 2132 section 2); `None` if an option exceeds it.
fn split_options(mut field: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut options = Vec::new();
    loop {
        match field {
            [] | [255, ..] => return Some(options),
            [0, rest @ ..] => field = rest,
            [_] => return None,
            [code, length, rest @ ..] => {
                let length = usize::from(*length);
                options.push((*code, rest.get(..length)?.to_vec()));
                field = &rest[length..];
            }
        }
    }
}

/// Whether the sub-options of option 82, its parts joined, fill it exactly (RFC 3046 section 2.0).
fn has_whole_sub_options<'a>(options: impl Iterator<Item = &'a (u8, Vec<u8>)>) -> bool {
    let parts = options.filter(|(code, _)| *code == 82);
    let information: Vec<u8> = parts.flat_map(|(_, value)| value.clone()).collect();
    let mut rest = &information[..];
    while let [_, length, after @ ..] = rest {
        match after.get(usize::from(*length)..) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Generates octets of options, mostly valid, of codes that matter to a query.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        4 => proptest::sample::select(vec![52_u8, 55, 61, 82, 154, 155, 221]),
        1 => any::<u8>(),
    ];
    let value = prop_oneof![
        4 => proptest::collection::vec(0..4_u8, 0..5),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let option = (code, value).prop_map(|(code, value)| {
        let length = u8::try_from(value.len()).unwrap();
        [&[code, length], &value[..]].concat()
    });
    let part = prop_oneof![
        6 => option,
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

// RFC 6926 section 8.5.
#[test]
fn an_answer_ended_early_has_query_terminated_with_the_reason() {
    let bench = Bench::new();
    let message = all().to_message().unwrap();
    let open = || -> Answer {
        bench
            .engine
            .open(&message.encode(), &bench.requester)
            .ok()
            .unwrap()
    };
    let mut begun = open();
    let mut out = Vec::new();
    assert_eq!(bench.engine.write(&mut begun, &mut out, 1), Progress::More);
    bench
        .engine
        .terminate(begun, "the server is being reconfigured", &mut out);
    let (bindings, done) = decode(&out);
    assert_eq!(bindings.len(), 1);
    let status = done.status.unwrap();
    assert_eq!(status.code.0, 2);
    assert_eq!(status.text, "the server is being reconfigured");
    assert_eq!(done.server_identifier, None);

    let mut out = Vec::new();
    bench.engine.terminate(open(), "shutdown", &mut out);
    assert_eq!(decode(&out).1.server_identifier, Some(LOCAL));
}

// RFC 6926 section 8.2: a refused query ends with its own status even if the connection ends before
// its turn, so that the requester does not repeat it.
#[test]
fn a_refused_query_whose_connection_ends_early_keeps_its_status() {
    let bench = Bench::new();
    for (message, expected) in [
        (all_with(154, &[1]).encode(), 3),
        (by_mac(1).to_message().unwrap().with(61, [1, 2]).encode(), 4),
        (raw(&[53, 1, 14, 61, 9]), 3),
    ] {
        let mut out = Vec::new();
        let answer = bench.open(&message).unwrap();
        bench.engine.terminate(answer, "shutdown", &mut out);
        let (_, done) = decode(&out);
        let status = done.status.unwrap();
        assert_eq!(status.code.0, expected);
        assert!(!status.text.contains("shutdown"));
    }
}

// RFC 6926 section 5: associated-ip (92) and DHCPLEASEUNKNOWN (12) never occur.
#[test]
fn associated_ip_and_leaseunknown_never_appear() {
    let saved_view = ConfiguredOption {
        scope: Scope::Global,
        code: 92,
        value: vec![10, 0, 1, 10],
        never_send: false,
        client_classes: Vec::new(),
    };
    let bench = Bench::with(Saved::default(), vec![saved_view]);
    for last in 10..15 {
        bench.lease([10, 0, 1, last], 1, 10, &[]);
    }
    let everything = Query {
        parameter_request_list: Some((1..=254).collect()),
        ..all()
    };
    for binding in bench.ask(&everything) {
        assert!(!binding.options.contains_key(&92));
        assert_ne!(binding.message_type.0, 12);
    }
}

/// The history of an address: age of its lease, lifetime, client, number of its relay agent
/// information, and number of the next event.
type History = (u32, u32, u8, u8, u8);

/// Generates histories, mostly alike, with the usual lifetime and relay agent information.
fn history((usual, relay): (u32, u8)) -> impl Strategy<Value = History> {
    (
        prop_oneof![8 => 0..20u32, 1 => 890..910u32, 1 => 1_790..1_810u32, 1 => 3_590..3_610u32],
        prop_oneof![8 => Just(usual), 1 => Just(1_000), 1 => Just(u32::MAX)],
        any::<u8>(),
        prop_oneof![8 => Just(relay), 2 => 0..5u8],
        prop_oneof![8 => Just(0_u8), 1 => 1..4u8],
    )
}

/// Applies a history to an address.
fn apply(bench: &Bench, address: [u8; 4], (ago, lifetime, client, relay, next): History) {
    let mut lease = lease(address, client, bench.now - ago);
    lease.valid_lifetime = Lifetime(lifetime);
    if client % 8 != 0 {
        // Most clients make it of the MAC address.
        lease.client_id = [&[1], &lease.hardware.octets[..]].concat();
    }
    let mut information = relay_information(b"line", b"relay");
    match relay {
        1 => information.extend([151, 8, 1, 0, 0, 0x5e, 0, 0, 0, 7]),
        2 => information = relay_information(b"a longer line", b"relay"),
        3 => information = relay_information(b"line", b"other"),
        // As long as a VPN-ID, but of an undefined type.
        4 => information.extend([151, 8, 9, 0, 0, 0x5e, 0, 0, 0, 7]),
        _ => {}
    }
    let event = match next {
        1 => Some(Event::Released {
            address: address.into(),
            client: None,
            at: Time(bench.now),
            origin: Origin::Local,
        }),
        2 => Some(Event::Updated {
            lease: Lease {
                valid_lifetime: Lifetime(7_200),
                ..lease.clone()
            },
            at: Time(bench.now),
            origin: Origin::Remote,
        }),
        3 => Some(Event::Removed {
            address: address.into(),
            at: Time(bench.now),
            origin: Origin::Local,
        }),
        _ => None,
    };
    bench.commit(lease, &information);
    if let Some(event) = event {
        bench.mirror.queue().push(event);
        bench.mirror.catch_up();
    }
}

proptest! {
    // RFC 6926 section 8.2: whatever follows the message type, the query is answered or the
    // connection is closed, and a malformed query never succeeds.
    #[test]
    fn any_octets_after_the_type_are_answered_and_succeed_only_if_well_formed(
        before_type in prop_oneof![3 => Just(Vec::new()), 1 => options()],
        after in options(),
        sname in options(),
        file in options(),
    ) {
        static BENCH: LazyLock<Bench> = LazyLock::new(Bench::new);
        let bench = &*BENCH;
        let mut octets = raw(&[&before_type[..], &[53, 1, 14], &after].concat());
        let mut fill = |field: std::ops::Range<usize>, options: &[u8]| {
            let length = options.len().min(field.len());
            octets[field][..length].copy_from_slice(&options[..length]);
        };
        fill(44..108, &sname);
        fill(108..236, &file);
        // The readable options, in the order of RFC 3396 section 5.
        let mut read = split_options(&octets[HEADER_LENGTH..]);
        let overload = |options: &[(u8, Vec<u8>)]| -> Option<u8> {
            let mut found = options.iter().filter(|(code, _)| *code == 52);
            match (found.next(), found.next()) {
                (None, _) => Some(0),
                (Some((_, value)), None) if matches!(value[..], [1..=3]) => Some(value[0]),
                _ => None,
            }
        };
        if let Some(fields) = read.as_deref().and_then(overload) {
            for (bit, field) in [(1, 108..236), (2, 44..108)] {
                if fields & bit != 0 {
                    let more = split_options(&octets[field]);
                    read = read.zip(more).map(|(read, more)| [read, more].concat());
                }
            }
        }
        let is_sound = read.as_deref().and_then(overload).is_some()
            && has_whole_sub_options(read.iter().flatten());
        match bench.open(&octets) {
            Err(why) => prop_assert!(!why.is_empty()),
            Ok(answer) => {
                let ends = bench.engine.ends_connection(&answer);
                let (bindings, done) = bench.finish(answer, 60_000);
                prop_assert_eq!(ends, !is_sound);
                prop_assert!(is_sound || bindings.is_empty());
                if !is_sound {
                    prop_assert_eq!(done.status.map(|status| status.code.0), Some(3));
                }
            }
        }
        if before_type.is_empty() && is_sound {
            let types = read.iter().flatten().filter(|(code, _)| *code == 53);
            prop_assert_eq!(bench.open(&octets).is_ok(), types.count() == 1);
        }
    }

    // A batch's first reply is written in full; the others may be copied from a template, which
    // must not make a difference.
    #[test]
    fn replies_are_the_same_whether_batched_or_not(
        histories in (prop_oneof![Just(3_600), Just(15)], prop_oneof![Just(0), Just(4)])
            .prop_flat_map(|usual| proptest::collection::vec(history(usual), 0..60)),
        is_windowed in any::<bool>(),
        primary in prop_oneof![Just(Primary::All), Just(Primary::RelayId(b"relay".to_vec()))],
        requested in prop_oneof![
            Just(None),
            proptest::collection::vec(prop_oneof![Just(61_u8), Just(82), 51..60u8, 151..158u8], 1..9)
                .prop_map(Some),
        ],
    ) {
        let bench = Bench::new();
        for (number, history) in (0..).zip(histories) {
            // Some addresses are of the subnet in a VPN.
            apply(&bench, [10, 0, if number < 50 { 1 } else { 2 }, 1 + number], history);
        }
        let query = Query {
            parameter_request_list: requested,
            vpn: Some(Vss::All),
            start: is_windowed.then_some(bench.now - 5),
            ..Query::new(primary)
        };
        let message = query.to_message().unwrap();
        let (one_by_one, together) = loop {
            let before = Time::now();
            let both = [1, 60_000].map(|room| bench.answer_in_turns(&message, room));
            // Both answers are of the same time.
            if before == Time::now() {
                break both.into();
            }
        };
        prop_assert_eq!(one_by_one, together);
    }
}
