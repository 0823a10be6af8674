//! Malformed and refused queries, answers that end early, and messages without an answer.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use blq::{HEADER_LENGTH, Message};
use dhcp_blq::query::lease_engine::Answer;
use dhcp_blq::query::{Engine, Progress, QueryType, QueryTypes};
use proptest::prelude::*;

use crate::bench::*;
use crate::{all_with, raw};

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
        // Valid options before the type, and other errors, make no difference.
        (&[53, 1, 14, 61, 2, 1, 9, 154, 4, 1], "option 154 runs past"),
        (
            &[53, 1, 14, 82, 3, 2, 1, 7, 61, 2, 1, 9, 12],
            "option 12 runs past",
        ),
        // The sub-options of a relay agent, also beside other errors.
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
        .terminate(&mut begun, "the server is being reconfigured", &mut out);
    let (bindings, done) = decode(&out);
    assert_eq!(bindings.len(), 1);
    let status = done.status.unwrap();
    assert_eq!(status.code.0, 2);
    assert_eq!(status.text, "the server is being reconfigured");
    assert_eq!(done.server_identifier, None);

    let mut out = Vec::new();
    bench.engine.terminate(&mut open(), "shutdown", &mut out);
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
        let mut answer = bench.open(&message).unwrap();
        bench.engine.terminate(&mut answer, "shutdown", &mut out);
        let (_, done) = decode(&out);
        let status = done.status.unwrap();
        assert_eq!(status.code.0, expected);
        assert!(!status.text.contains("shutdown"));
    }
}

proptest! {
    // RFC 6926 section 8.2: with any octets after the message type, the query is answered or the
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
}
