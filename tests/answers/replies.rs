//! The contents of replies: options, times, server identifiers and base times.

use std::net::Ipv4Addr;
use std::sync::Arc;

use blq::{Done, Message, Primary, Query, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, Scope};
use dhcp_blq::mirror::Saved;
use dhcp_blq::mirror::event::{Event, Lease, LeaseState, Origin};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, QueryTypes};
use proptest::prelude::*;

use crate::bench::*;
use crate::{UNASSIGNED, raw};

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
// request are returned, declared non-sensitive or not.
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

// RFC 6926 section 8.3 items 2 and 7, and the contract: the parameter request list applies to each
// DHCPLEASEQUERYDONE too, with any status.
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
        let mut answer = bench.open(&with_list(&found)).unwrap();
        bench.engine.terminate(&mut answer, "reload", &mut out);
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

// RFC 6926 section 5: associated-ip (92) and DHCPLEASEUNKNOWN (12) never occur.
#[test]
fn associated_ip_and_leaseunknown_never_appear() {
    let saved_view = ConfiguredOption {
        scope: Scope::Global,
        code: 92,
        value: vec![10, 0, 1, 10],
        never_send: false,
        always_send: false,
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

/// Generates histories, mostly equal, with the usual lifetime and relay agent information.
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
        // Most clients derive it from the MAC address.
        lease.client_id = [&[1], &lease.hardware.octets[..]].concat();
    }
    let mut information = relay_information(b"line", b"relay");
    match relay {
        1 => information.extend([151, 8, 1, 0, 0, 0x5e, 0, 0, 0, 7]),
        2 => information = relay_information(b"a longer line", b"relay"),
        3 => information = relay_information(b"line", b"other"),
        // A value of the length of a VPN-ID, but of an undefined type.
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
    // A batch's first reply is written in full; later ones may be copied from a template, with the
    // same result.
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
