//! Relay agent information stored by Kea.

use super::*;

// RFC 4388 section 6.4.2: the most recent relay agent information counts. An administrator corrects
// the stored information, and changes nothing else of the lease.
#[test]
fn corrected_relay_information_in_kea_takes_precedence() {
    for origin in [Origin::Local, Origin::Remote] {
        let bench = long_configured(kea_config(&[]));
        bench.lease([10, 0, 1, 10], 1, 500, &information("typo"));
        let corrected = stored_with(lease_of(10, 1, bench.now - 500), &information("good"));
        update(&bench, corrected.clone(), origin);
        assert_eq!(found_by(&bench, 10, &["typo", "good"]), ["good"]);
        assert_eq!(delta(&bench, bench.now), [10]);
        // A second event with the corrected lease is no change, even after a message with other
        // information.
        let client_info = ClientInfo {
            relay_agent_information: Some(information("later")),
            ..ClientInfo::default()
        };
        bench.mirror.queue().push(Event::Committed {
            lease: Lease {
                cltt: Time(bench.now - 10),
                ..corrected.clone()
            },
            client_info,
        });
        update(&bench, corrected, Origin::Remote);
        assert_eq!(found_by(&bench, 10, &["typo", "good", "later"]), ["later"]);
    }
}

// The partner may store relay agent information, or Kea without the hook: a resync and a start find
// it.
#[test]
fn relay_information_stored_without_an_event_is_found_by_resync_and_start() {
    for cltt in [500, 100] {
        let bench = long_configured(kea_config(&[]));
        let now = bench.now;
        bench.lease([10, 0, 1, 10], 1, 500, &information("old"));
        let stored = stored_with(lease_of(10, 1, now - cltt), &information("new"));
        let before = saved(&bench);
        bench.mirror.queue().push(Event::ResyncBegun);
        bench.mirror.queue().push(Event::ResyncPage {
            scope: ResyncScope::Range(address(0).to_bits()..=address(255).to_bits()),
            leases: vec![stored.clone()],
            at: Time(now),
        });
        bench.mirror.catch_up_by(|| Time(now));
        assert_eq!(found_by(&bench, 10, &["old", "new"]), ["new"]);
        assert_eq!(delta(&bench, now), [10]);
        let later = now + 10;
        let bench = restarted(before, kea_config(&[]), &[stored], later);
        assert_eq!(found_by(&bench, 10, &["old", "new"]), ["new"]);
        assert_eq!(delta(&bench, later), [10]);
    }
}

// If Kea ceases to store relay agent information, stored information remains with the lease. The
// information of a later message takes precedence.
#[test]
fn relay_information_left_in_kea_does_not_return() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(
        stored_with(lease_of(10, 1, now - 500), &information("a")),
        &information("a"),
    );
    bench.commit(
        stored_with(lease_of(10, 1, now - 400), &information("a")),
        &information("b"),
    );
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
    bench.commit(
        stored_with(lease_of(10, 1, now - 300), &information("a")),
        &[],
    );
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
    // The state file does not contain plain renewals, so the lease is newer than its saved binding.
    let before = saved(&bench);
    let renewed = stored_with(lease_of(10, 1, now - 100), &information("a"));
    let bench = restarted(before, kea_config(&[]), &[renewed], now);
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
}

// Relay agent information of an earlier client does not apply to the next client, even if it
// remains in Kea's lease. New information in Kea's lease does.
#[test]
fn relay_information_of_an_earlier_client_is_not_inherited() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(
        stored_with(lease_of(10, 1, now - 500), &information("a")),
        &information("a"),
    );
    bench.commit(
        stored_with(lease_of(10, 2, now - 400), &information("a")),
        &[],
    );
    assert_eq!(found_by(&bench, 10, &["a"]), [""; 0]);
    update(
        &bench,
        stored_with(lease_of(10, 2, now - 400), &information("a")),
        Origin::Remote,
    );
    assert_eq!(found_by(&bench, 10, &["a"]), [""; 0]);
    update(
        &bench,
        stored_with(lease_of(10, 3, now - 300), &information("c")),
        Origin::Remote,
    );
    assert_eq!(found_by(&bench, 10, &["a", "c"]), ["c"]);
}

// Of two requests within one second, the partner's Kea stores the second.
#[test]
fn the_last_request_that_kea_stored_within_a_second_counts() {
    let bench = long_configured(kea_config(&[]));
    for remote_id in ["first", "second"] {
        update(
            &bench,
            stored_with(lease_of(10, 1, bench.now), &information(remote_id)),
            Origin::Remote,
        );
    }
    assert_eq!(found_by(&bench, 10, &["first", "second"]), ["second"]);
}

// Option 82 that a client itself sent does not label its lease, unless Kea stores it.
#[test]
fn relay_information_that_only_kea_reports_counts() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(
        stored_with(lease_of(10, 1, now - 500), &information("relay")),
        &information("relay"),
    );
    bench.commit(
        stored_with(lease_of(10, 1, now - 400), &information("own")),
        &[],
    );
    assert_eq!(found_by(&bench, 10, &["relay", "own"]), ["own"]);
}

// Kea does not store a lease again that it answers from its cache: the relay agent information of
// the message is newer than the stored information.
#[test]
fn relay_information_of_a_cached_renewal_survives_resync_and_restart() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    let stored = stored_with(lease_of(10, 1, now - 500), &information("a"));
    bench.commit(stored.clone(), &information("a"));
    bench.mirror.queue().push(Event::Confirmed {
        address: address(10),
        client: ClientIds {
            hardware: stored.hardware.clone(),
            client_id: b"replaced by a hook".to_vec(),
        },
        at: Time(now - 400),
        client_info: ClientInfo {
            relay_agent_information: Some(information("b")),
            ..ClientInfo::default()
        },
    });
    update(&bench, stored.clone(), Origin::Remote);
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
    let before = saved(&bench);
    let bench = restarted(
        before,
        kea_config(&[]),
        std::slice::from_ref(&stored),
        now + 10,
    );
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
    let binding = bench.ask(&by_mac(1)).remove(0);
    assert_eq!(binding.client_last_transaction_at(), Some(now - 400));
    assert_eq!(delta(&bench, now + 10), [0u8; 0]);
    // An administrator sets the information of the last message, then the information stored
    // before.
    update(
        &bench,
        stored_with(stored.clone(), &information("b")),
        Origin::Local,
    );
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["b"]);
    update(&bench, stored, Origin::Local);
    assert_eq!(found_by(&bench, 10, &["a", "b"]), ["a"]);
}

// The end of the lease does not reset the time of that transaction.
#[test]
fn the_transaction_of_a_cached_renewal_survives_the_lease() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    let stored = lease_of(10, 1, now - 3_700);
    bench.commit(stored.clone(), &[]);
    bench.mirror.queue().push(Event::Confirmed {
        address: address(10),
        client: ClientIds {
            hardware: stored.hardware.clone(),
            client_id: stored.client_id.clone(),
        },
        at: Time(now - 3_000),
        client_info: ClientInfo::default(),
    });
    bench.mirror.catch_up();
    let before = saved(&bench);
    let reclaimed = Lease {
        state: LeaseState::ExpiredReclaimed,
        ..stored
    };
    let bench = restarted(before, kea_config(&[]), &[reclaimed], now + 10);
    let bindings = bench.ask(&all());
    let binding = bindings
        .iter()
        .find(|binding| binding.address == address(10));
    let binding = binding.expect("a configured address");
    assert_eq!(binding.state, Some(State::EXPIRED));
    assert_eq!(binding.client_last_transaction_at(), Some(now - 3_000));
}

// Kea's lease databases do not store the hardware type: the mirror keeps it.
#[test]
fn a_hardware_type_that_kea_does_not_store_is_kept() {
    for client_id in [Vec::new(), vec![1, 2, 3]] {
        let bench = long_configured(kea_config(&[]));
        let now = bench.now;
        let with_htype = |htype, cltt| {
            let mut lease = lease_of(10, 1, cltt);
            lease.hardware.htype = htype;
            lease.client_id = client_id.clone();
            lease
        };
        bench.commit(with_htype(6, now - 500), &information("a"));
        let query = Query::new(Primary::Mac {
            htype: 6,
            address: mac(1),
        });
        let check = |bench: &Bench| {
            let bindings = bench.ask(&query);
            let [binding] = &bindings[..] else {
                panic!("{bindings:?}")
            };
            assert_eq!(binding.state_started_at(), Some(now - 500));
            assert_eq!(binding.htype, 6);
            assert!(!binding.is_remote());
            assert_eq!(found_by(bench, 10, &["a"]), ["a"]);
        };
        check(&bench);
        let before = saved(&bench);
        update(&bench, with_htype(1, now - 500), Origin::Remote);
        check(&bench);
        let bench = restarted(
            before,
            kea_config(&[]),
            &[with_htype(1, now - 500)],
            now + 10,
        );
        check(&bench);
        assert_eq!(delta(&bench, now + 10), [0u8; 0]);
        // A release without the hardware type matches the lease.
        bench.mirror.queue().push(Event::Released {
            address: address(10),
            client: Some(ClientIds {
                hardware: with_htype(1, 0).hardware,
                client_id: client_id.clone(),
            }),
            at: Time(now + 20),
            origin: Origin::Local,
        });
        bench.mirror.catch_up();
        assert!(bench.ask(&query).is_empty());
    }
}
