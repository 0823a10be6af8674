//! Delta queries return each binding of which a requester would see a difference, and Kea's leases
//! take precedence over earlier client info and the state file. Without sockets and without Kea.

#[path = "support/bench.rs"]
mod bench;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bench::*;
use blq::{Binding, Primary, Query, State, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, DatabaseReservation, KeaConfig, Scope};
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin, ResyncScope};
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::client::ClientIds;
use dhcp_blq::model::time::{Lifetime, Time};

/// Returns an address of subnet 1.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

/// Returns a lease of one hour of an address of subnet 1, to the client of that number.
fn lease_of(last: u8, client: u8, cltt: u32) -> Lease {
    lease([10, 0, 1, last], client, cltt)
}

/// Returns the lease with relay agent information that Kea stores.
fn stored_with(lease: Lease, information: &[u8]) -> Lease {
    Lease {
        relay_agent_information: Some(information.to_vec()),
        ..lease
    }
}

/// Returns a query for all addresses in all VPNs that changed at `start` or later.
fn since(start: u32) -> Query {
    Query {
        start: Some(start),
        vpn: Some(Vss::All),
        ..all()
    }
}

/// Returns the last octets of the addresses of subnet 1 that changed at `start` or later.
fn delta(bench: &Bench, start: u32) -> Vec<u8> {
    let addresses = bench.addresses(&since(start));
    let octets = addresses.iter().map(Ipv4Addr::octets);
    octets
        .filter(|octets| octets[2] == 1)
        .map(|octets| octets[3])
        .collect()
}

/// Returns those of the remote-ids by which a query finds the address.
fn found_by<'a>(bench: &Bench, last: u8, remote_ids: &[&'a str]) -> Vec<&'a str> {
    let is_found = |remote_id: &&&str| {
        let query = Query::new(Primary::RemoteId(remote_id.as_bytes().to_vec()));
        bench.addresses(&query).contains(&address(last))
    };
    remote_ids.iter().filter(is_found).copied().collect()
}

/// Returns relay agent information with a remote-id.
fn information(remote_id: &str) -> Vec<u8> {
    let length = u8::try_from(remote_id.len()).unwrap();
    [&[2, length], remote_id.as_bytes()].concat()
}

/// Applies a lease event of Kea's lease manager at the bench's `now`.
fn update(bench: &Bench, lease: Lease, origin: Origin) {
    bench.mirror.queue().push(Event::Updated {
        lease,
        at: Time(bench.now),
        origin,
    });
    bench.mirror.catch_up_by(|| Time(bench.now));
}

/// Returns the contents of the state file after a complete flush at the bench's `now`.
fn saved(bench: &Bench) -> Saved {
    let bindings = bench.mirror.read(|table| {
        let bindings = table.bindings(0..=u32::MAX);
        bindings.map(|binding| binding.to_owned()).collect()
    });
    Saved {
        bindings: bindings.expect("a complete mirror"),
        saved_view: bench.mirror.saved_view(),
        saved_at: Some(Time(bench.now)),
        latest: bench.mirror.latest(),
        ..Saved::default()
    }
}

/// Restarts Kea at `now`, with these leases in its database.
fn restarted(saved: Saved, kea_config: KeaConfig, leases: &[Lease], now: u32) -> Bench {
    let mut initial_load = InitialLoad::begin(Arc::new(kea_config), saved, Time(now));
    for lease in leases {
        initial_load.lease(lease);
    }
    Bench::over(initial_load.finish())
}

/// Returns the configuration of the bench with replacements.
fn kea_config(replacements: &[(&str, &str)]) -> KeaConfig {
    let mut config = CONFIGURATION.to_owned();
    for (from, to) in replacements {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, to);
    }
    KeaConfig::new(&config, Vec::new(), &[]).unwrap()
}

/// Returns a bench whose addresses were configured hours ago.
fn long_configured(kea_config: KeaConfig) -> Bench {
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    restarted(saved, kea_config, &[], Time::now().0 - 10_000)
}

/// Puts another configuration in force at the bench's `now`.
fn configure(bench: &Bench, kea_config: KeaConfig) {
    bench.mirror.queue().push(Event::Reconfigured {
        kea_config: Arc::new(kea_config),
        is_complete: true,
        at: Time(bench.now),
    });
    bench.mirror.catch_up_by(|| Time(bench.now));
}

// ----- Relay agent information stored by Kea ----------------------------------------------------

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

// ----- Differences between leases ----------------------------------------------------------------

// Any difference is a change at the time at which the mirror learned of it.
#[test]
fn a_delta_has_changes_that_leave_the_times_equal() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    let declined = |lifetime| Lease {
        state: LeaseState::Declined,
        valid_lifetime: Lifetime(lifetime),
        ..lease_of(12, 3, now - 500)
    };
    bench.commit(lease_of(10, 1, now - 500), &[]);
    bench.commit(lease_of(11, 2, now - 500), &[]);
    bench.commit(declined(1_000), &[]);
    assert_eq!(delta(&bench, now), [0u8; 0]);
    let longer = Lease {
        valid_lifetime: Lifetime(7_200),
        ..lease_of(10, 1, now - 500)
    };
    update(&bench, longer, Origin::Local);
    let renamed = Lease {
        hostname: b"name".to_vec(),
        ..lease_of(11, 2, now - 500)
    };
    update(&bench, renamed, Origin::Local);
    update(&bench, declined(2_000), Origin::Local);
    assert_eq!(delta(&bench, now), [10, 11, 12]);
    // Their older times do not bring them into a window before the change.
    let window = Query {
        end: Some(now - 1),
        ..since(now - 499)
    };
    assert!(bench.ask(&window).is_empty());
}

// The mirror may learn of a lease after its end: no earlier answer contained the lease.
#[test]
fn a_delta_has_a_lease_learned_of_after_its_end() {
    for origin in [Origin::Local, Origin::Remote] {
        for left in [3_605, 3_602, 3_600] {
            let bench = long_configured(kea_config(&[]));
            let added = lease_of(10, 1, bench.now - left);
            update(&bench, added, origin);
            assert_eq!(delta(&bench, bench.now), [10], "{left}");
            let binding = bench.ask(&since(bench.now)).remove(0);
            assert_eq!(binding.state, Some(State::EXPIRED));
            assert_eq!(binding.state_started_at(), Some(bench.now - left + 3_600));
        }
    }
}

// A free address is AVAILABLE since the end of its probation, of which the server may learn later.
#[test]
fn a_delta_has_a_free_address_learned_of_late() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(lease_of(10, 1, now - 500), &[]);
    bench.mirror.queue().push(Event::Committed {
        lease: Lease {
            state: LeaseState::Declined,
            valid_lifetime: Lifetime(100),
            ..lease_of(10, 1, now - 101)
        },
        client_info: ClientInfo::default(),
    });
    bench.mirror.catch_up_by(|| Time(now));
    assert_eq!(bench.ask(&since(now))[0].state, Some(State::AVAILABLE));
    assert_eq!(delta(&bench, now), [10]);
}

// ----- Restarts ----------------------------------------------------------------------------------

// A lifetime differs after a kill, or after an older lease file was restored.
#[test]
fn a_delta_has_leases_that_differ_at_a_start() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    for (last, client) in [(10, 1), (11, 2), (12, 3)] {
        bench.commit(lease_of(last, client, now - 500), &[]);
    }
    let before = saved(&bench);
    let leases = [
        Lease {
            valid_lifetime: Lifetime(7_200),
            ..lease_of(10, 1, now - 500)
        },
        lease_of(11, 2, now - 600),
        lease_of(12, 3, now - 500),
    ];
    let bench = restarted(before, kea_config(&[]), &leases, now + 10);
    assert_eq!(delta(&bench, now + 10), [10, 11]);
}

// The state file does not contain renewals. It has the time of the latest transaction, which shows
// whether Kea's database lost some.
#[test]
fn a_delta_has_every_lease_if_keas_database_lost_renewals() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(lease_of(10, 1, now - 500), &[]);
    bench.commit(lease_of(11, 2, now - 500), &[]);
    // A release is later than the renewal, and does not appear in a lease of the database.
    bench.commit(lease_of(12, 3, now - 300), &[]);
    bench.mirror.queue().push(Event::Released {
        address: address(12),
        client: None,
        at: Time(now - 40),
        origin: Origin::Local,
    });
    bench.mirror.catch_up_by(|| Time(now - 40));
    let bindings = saved(&bench).bindings;
    bench.commit(lease_of(10, 1, now - 100), &[]);
    let saved = Saved {
        bindings,
        ..saved(&bench)
    };
    let restart = |leases: &[Lease]| restarted(saved.clone(), kea_config(&[]), leases, now + 10);
    let restored = restart(&[lease_of(10, 1, now - 500), lease_of(11, 2, now - 500)]);
    assert_eq!(delta(&restored, now + 10), [10, 11]);
    let intact = restart(&[lease_of(10, 1, now - 100), lease_of(11, 2, now - 500)]);
    assert_eq!(delta(&intact, now + 10), [0u8; 0]);
    // The latest lease ended just before Kea was killed.
    let killed = Saved {
        recent: vec![address(13).to_bits()],
        ..saved.clone()
    };
    let leases = [lease_of(10, 1, now - 500), lease_of(11, 2, now - 500)];
    let killed = restarted(killed, kea_config(&[]), &leases, now + 10);
    assert_eq!(delta(&killed, now + 10), [13]);
    // Kea serves clients during the initial load.
    let renewed = restart(&[lease_of(10, 1, now - 500), lease_of(11, 2, now + 10)]);
    assert_eq!(delta(&renewed, now + 10), [10, 11]);
    // A further start compares with the time of the older database.
    let again = Saved {
        latest: restored.mirror.latest(),
        ..self::saved(&restored)
    };
    let leases = [lease_of(10, 1, now - 500), lease_of(11, 2, now - 500)];
    let again = restarted(again, kea_config(&[]), &leases, now + 20);
    assert_eq!(delta(&again, now + 20), [0u8; 0]);
}

// A start is the first to find a renewal by another server after the last resync.
#[test]
fn a_delta_has_renewals_by_other_servers_that_a_start_shows() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    for (last, client) in [(10, 1), (11, 2)] {
        bench.commit(lease_of(last, client, now - 500), &[]);
    }
    let before = Saved {
        resynced_at: Some(Time(now - 300)),
        ..saved(&bench)
    };
    let leases = [lease_of(10, 1, now - 400), lease_of(11, 2, now - 200)];
    let bench = restarted(before, kea_config(&[]), &leases, now + 10);
    assert_eq!(delta(&bench, now - 100), [11]);
}

// Changes between the last flush and a kill are not in the state file.
#[test]
fn a_delta_has_changes_just_before_a_kill() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(lease_of(10, 1, now - 500), &[]);
    let before = Saved {
        // 10 was renewed from the cache, 11 leased and released, and 99 leased outside of pools.
        recent: [10, 11, 11, 99]
            .map(|last| address(last).to_bits())
            .to_vec(),
        ..saved(&bench)
    };
    let bench = restarted(
        before,
        kea_config(&[]),
        &[lease_of(10, 1, now - 500)],
        now + 10,
    );
    assert_eq!(delta(&bench, now + 10), [10, 11, 99]);
    let bindings: Vec<Binding> = bench.ask(&since(now + 10));
    assert_eq!(bindings[1].state, Some(State::AVAILABLE));
    assert!(!bench.addresses(&all()).contains(&address(99)));
}

// A configuration that was in force after the last flush is lost with a kill.
#[test]
fn a_delta_has_every_binding_if_a_kill_lost_a_configuration() {
    let bench = long_configured(kea_config(&[]));
    let now = bench.now;
    bench.commit(lease_of(10, 1, now - 500), &[]);
    let restart = |recent| {
        let before = Saved {
            recent,
            ..saved(&bench)
        };
        restarted(
            before,
            kea_config(&[]),
            &[lease_of(10, 1, now - 500)],
            now + 10,
        )
    };
    assert_eq!(delta(&restart(Vec::new()), now + 10), [0u8; 0]);
    assert!(delta(&restart(vec![u32::MAX]), now + 10).contains(&10));
}

// ----- Configurations ----------------------------------------------------------------------------

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
