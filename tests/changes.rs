//! What changes elsewhere, unheard, or at run time is told all the same: comparisons with Kea's
//! lease database, reconfigurations, high-availability partners. Without sockets and without Kea.

#[path = "support/bench.rs"]
mod bench;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bench::*;
use blq::{Primary, Query, State};
use dhcp_blq::kea_config::{DatabaseReservation, KeaConfig};
use dhcp_blq::mirror::event::{Event, Lease, LeaseState, Origin, ResyncScope};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::client::ClientIds;
use dhcp_blq::model::time::{Lifetime, Time};

/// The configuration of these tests with another pool in subnet 1, and reservations in databases.
fn kea_config(pool: &str, reservations: &[DatabaseReservation]) -> Arc<KeaConfig> {
    let config = CONFIGURATION.replace("10.0.1.10-10.0.1.19", pool);
    Arc::new(KeaConfig::new(&config, Vec::new(), reservations).unwrap())
}

/// All addresses that changed at `start` or later.
fn since(start: u32) -> Query {
    Query {
        start: Some(start),
        ..all()
    }
}

/// The last octets of the addresses a query finds.
fn found(bench: &Bench, query: &Query) -> Vec<u8> {
    let addresses = bench.addresses(query);
    addresses
        .iter()
        .map(|address| address.octets()[3])
        .collect()
}

/// An address of subnet 1.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

/// The state of an address of subnet 1, and whether its last change was made elsewhere.
fn state(bench: &Bench, last: u8) -> (State, bool) {
    let query = Query {
        parameter_request_list: Some(vec![156, 157]),
        ..all()
    };
    let bindings = bench.ask(&query);
    let binding = bindings
        .iter()
        .find(|binding| binding.address == address(last));
    let binding = binding.expect("a configured address");
    (binding.state.expect("dhcp-state"), binding.is_remote())
}

/// A part of Kea's lease database is read while `meanwhile` happens.
fn look(bench: &Bench, scope: ResyncScope, leases: Vec<Lease>, meanwhile: impl FnOnce()) {
    bench.mirror.queue().push(Event::ResyncBegun);
    meanwhile();
    bench.mirror.queue().push(Event::ResyncPage {
        scope,
        leases,
        at: Time(bench.now),
    });
    bench.mirror.catch_up();
}

/// Everything in subnet 1.
fn everything() -> ResyncScope {
    ResyncScope::Range(address(0).to_bits()..=address(255).to_bits())
}

// ----- Comparisons with Kea's lease database ---------------------------------------------------

// Contract: the mirror is always right. A lease that nobody told of is found, and so is one that was
// renewed or went to another client; they have changed when they were found, elsewhere (RFC 6926
// sections 6.2.8 and 8.2).
#[test]
fn finds_what_nobody_told_of() {
    let bench = Bench::with_saved(Saved::default());
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 11], 2, 500, &[]);
    bench.lease([10, 0, 1, 12], 3, 500, &[]);
    let long_ago = bench.now - 100;
    let leases = vec![
        lease([10, 0, 1, 10], 1, bench.now - 500),
        lease([10, 0, 1, 11], 2, long_ago),
        lease([10, 0, 1, 12], 4, long_ago),
        lease([10, 0, 1, 13], 5, long_ago),
    ];
    look(&bench, everything(), leases, || {});
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    for last in [11, 12, 13] {
        assert_eq!(state(&bench, last), (State::ACTIVE, true));
    }
    assert_eq!(found(&bench, &by_mac(4)), [12]);
    assert_eq!(found(&bench, &by_mac(3)), [0u8; 0]);
    let mut delta = found(&bench, &since(bench.now));
    delta.retain(|last| (10..=13).contains(last));
    assert_eq!(delta, [11, 12, 13]);
    let renewed = bench.ask(&by_mac(2));
    assert_eq!(renewed[0].client_last_transaction_time, Some(100));
}

// What packets changed while the database was read is newer than what was read.
#[test]
fn what_is_told_meanwhile_is_newer_than_what_was_read() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 11], 2, 500, &[]);
    let old = vec![
        lease([10, 0, 1, 10], 1, bench.now - 500),
        lease([10, 0, 1, 11], 2, bench.now - 500),
    ];
    look(&bench, everything(), old, || {
        bench.mirror.queue().push(Event::Released {
            address: address(10),
            client: None,
            at: Time(bench.now),
            origin: Origin::Local,
        });
        bench.lease([10, 0, 1, 12], 3, 0, &[]);
    });
    assert_eq!(state(&bench, 10), (State::RELEASED, false));
    assert_eq!(state(&bench, 12), (State::ACTIVE, false));
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}

// A lease is gone if it is missing twice and nobody told why; until then nothing is said of it.
#[test]
fn a_lease_is_gone_when_it_is_missing_twice() {
    let bench = Bench::new();
    for last in 10..14 {
        bench.lease([10, 0, 1, last], last, 500, &[]);
    }
    look(&bench, everything(), Vec::new(), || {});
    let missing: Vec<Ipv4Addr> = (10..14).map(address).collect();
    let listed = |since| bench.mirror.missing(9, Time(since)).unwrap();
    assert_eq!(listed(bench.now), missing);
    assert!(listed(bench.now - 1).is_empty());
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    // One is released, which Kea tells a moment after it has done it; one was there after all.
    bench.mirror.queue().push(Event::Released {
        address: address(11),
        client: None,
        at: Time(bench.now),
        origin: Origin::Local,
    });
    let back = vec![lease([10, 0, 1, 12], 12, bench.now - 500)];
    look(&bench, ResyncScope::Again(missing), back, || {});
    assert_eq!(state(&bench, 10), (State::RESET, true));
    assert_eq!(state(&bench, 11), (State::RELEASED, false));
    assert_eq!(state(&bench, 12), (State::ACTIVE, false));
    assert_eq!(state(&bench, 13), (State::RESET, true));
    assert!(listed(bench.now).is_empty());
}

// What an administrator changed was changed here, and needs no second look.
#[test]
fn what_a_command_changed_was_changed_here() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    let changed = |last| ResyncScope::Changed(vec![address(last)], Origin::Local);
    look(&bench, changed(10), Vec::new(), || {});
    assert_eq!(state(&bench, 10), (State::RESET, false));
    let added = vec![lease([10, 0, 1, 11], 2, bench.now)];
    look(&bench, changed(11), added, || {});
    assert_eq!(state(&bench, 11), (State::ACTIVE, false));
}

// A reading whose beginning was lost may be older than anything: it counts for nothing.
#[test]
fn a_reading_without_a_beginning_counts_for_nothing() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.mirror.queue().push(Event::ResyncPage {
        scope: everything(),
        leases: Vec::new(),
        at: Time(bench.now),
    });
    bench.mirror.catch_up();
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}

// Time passes by itself: what Kea makes of a lease that is over is no change.
#[test]
fn what_kea_sweeps_up_has_not_changed() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 4000, &[]);
    let swept = Lease {
        state: LeaseState::ExpiredReclaimed,
        ..lease([10, 0, 1, 10], 1, bench.now - 4000)
    };
    look(&bench, everything(), vec![swept], || {});
    assert_eq!(state(&bench, 10), (State::EXPIRED, false));
    let gone = ResyncScope::Again(vec![address(10)]);
    look(&bench, gone, Vec::new(), || {});
    assert_eq!(state(&bench, 10), (State::EXPIRED, false));
}

// ----- Reconfigurations -------------------------------------------------------------------------

/// The mirror of a bench, gone on with after a reconfiguration in which Kea showed `leases`.
fn resumed(bench: Bench, kea_config: Arc<KeaConfig>, leases: &[Lease], later: u32) -> Bench {
    let Bench { mirror, engine, .. } = bench;
    drop(engine);
    let mirror = Arc::try_unwrap(mirror).expect("nobody else has it");
    let mut initial_load = InitialLoad::resume(mirror, kea_config, Time(later)).unwrap();
    for lease in leases {
        initial_load.lease(lease);
    }
    Bench::over(initial_load.finish())
}

// Contract: the mirror is kept over a reconfiguration. What Kea's database then shows wins; the rest
// is as it was, renewals and all.
#[test]
fn a_kept_mirror_is_right_if_leases_changed_meanwhile() {
    let bench = Bench::new();
    let now = bench.now;
    bench.lease([10, 0, 1, 10], 1, 500, &[2, 1, 7]);
    bench.lease([10, 0, 1, 10], 1, 100, &[2, 1, 7]);
    bench.lease([10, 0, 1, 11], 2, 500, &[]);
    bench.lease([10, 0, 1, 12], 3, 500, &[]);
    let leases = [
        lease([10, 0, 1, 10], 1, now - 100),
        lease([10, 0, 1, 12], 4, now - 10),
        lease([10, 0, 1, 13], 5, now - 10),
    ];
    let bench = resumed(bench, kea_config("10.0.1.10-10.0.1.19", &[]), &leases, now);
    let kept = &bench.ask(&by_mac(1))[0];
    assert_eq!(kept.start_time_of_state, Some(500));
    assert_eq!(kept.client_last_transaction_time, Some(100));
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    assert_eq!(state(&bench, 11), (State::RESET, true));
    assert_eq!(state(&bench, 12), (State::ACTIVE, true));
    assert_eq!(state(&bench, 13), (State::ACTIVE, true));
    assert_eq!(found(&bench, &by_mac(4)), [12]);
}

// Contract, configured addresses: a free address is AVAILABLE since it was configured, so deltas
// have it; those that were configured before are not in them.
#[test]
fn a_kept_mirror_follows_the_configuration() {
    let bench = Bench::new();
    let later = bench.now + 100;
    bench.lease([10, 0, 1, 19], 1, 500, &[]);
    let held = [lease([10, 0, 1, 19], 1, bench.now - 500)];
    let bench = resumed(bench, kea_config("10.0.1.15-10.0.1.21", &[]), &held, later);
    let mut all_found = found(&bench, &all());
    all_found.retain(|last| *last != 200);
    assert_eq!(all_found, (15..=21).collect::<Vec<u8>>());
    assert_eq!(found(&bench, &since(later)), [20, 21]);
}

// The same while Kea runs, by command or from a configuration backend; and for reservations in
// databases, which are read after all else.
#[test]
fn addresses_configured_at_run_time_are_available_since_then() {
    let bench = Bench::new();
    let later = bench.now + 100;
    let reserved = DatabaseReservation {
        subnet: SubnetId(1),
        identifier_type: "hw-address".to_owned(),
        identifier: vec![2, 0, 0, 0, 0, 1],
        address: Some(address(100)),
        hostname: String::new(),
    };
    let configure = |pool, reservations: &[_], at| {
        bench.mirror.queue().push(Event::Reconfigured {
            kea_config: kea_config(pool, reservations),
            is_complete: true,
            at: Time(at),
        });
        bench.mirror.catch_up();
    };
    configure("10.0.1.10-10.0.1.21", &[reserved], later);
    assert_eq!(found(&bench, &since(later)), [20, 21, 100]);
    // What is leased is told of all along.
    bench.lease([10, 0, 1, 20], 1, 50, &[]);
    configure("10.0.1.10-10.0.1.19", &[], later + 100);
    configure("10.0.1.10-10.0.1.20", &[], later + 200);
    assert_eq!(found(&bench, &since(later + 200)), [0u8; 0]);
    // Taken away with its subnet and given back, an address has changed, even if its binding has
    // not.
    bench.lease([10, 0, 1, 99], 2, 50, &[]);
    let config = r#"{ "Dhcp4": { "subnet4": [] } }"#;
    bench.mirror.queue().push(Event::Reconfigured {
        kea_config: Arc::new(KeaConfig::from_json(config, Vec::new()).unwrap()),
        is_complete: true,
        at: Time(later + 300),
    });
    bench.mirror.catch_up();
    assert!(bench.ask(&all()).is_empty());
    configure("10.0.1.10-10.0.1.10", &[], later + 400);
    assert_eq!(found(&bench, &since(later + 400)), [10, 20, 99, 200]);
}

// An address outside of pools and reservations is a configured one while it is leased.
#[test]
fn an_address_that_is_free_and_outside_of_pools_is_not_configured() {
    let bench = Bench::new();
    let declined = Lease {
        state: LeaseState::Declined,
        valid_lifetime: Lifetime(10),
        ..lease([10, 0, 1, 99], 1, bench.now)
    };
    bench.commit(declined, &[]);
    assert_eq!(state(&bench, 99), (State::ABANDONED, false));
    bench.mirror.queue().push(Event::Reclaimed {
        address: address(99),
        cltt: Time(bench.now),
        was_released: false,
        at: Time(bench.now + 10),
    });
    bench.mirror.catch_up();
    assert!(!found(&bench, &all()).contains(&99));
}

// ----- High availability ------------------------------------------------------------------------

/// A pool for each of two servers, and one for both, that balance their load.
fn balanced() -> Mirror {
    let config = r#"{ "Dhcp4": {
        "hooks-libraries": [ { "library": "/usr/lib/libdhcp_ha.so", "parameters": {
            "high-availability": [ { "this-server-name": "one", "mode": "load-balancing",
                "peers": [ { "name": "one", "role": "primary" },
                           { "name": "two", "role": "secondary" },
                           { "name": "old", "role": "backup" } ] } ] } } ],
        "subnet4": [ { "id": 1, "subnet": "10.0.1.0/24", "pools": [
            { "pool": "10.0.1.10-10.0.1.11", "client-class": "HA_one" },
            { "pool": "10.0.1.20-10.0.1.21", "client-classes": [ "other", "HA_two" ] },
            { "pool": "10.0.1.30-10.0.1.31" } ] } ] } }"#;
    let kea_config = KeaConfig::from_json(config, Vec::new()).unwrap();
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    InitialLoad::begin(Arc::new(kea_config), saved, Time::now()).finish()
}

/// This server serves these scopes from `at` on.
fn serve(bench: &Bench, scopes: &[&str], at: u32) {
    bench.mirror.queue().push(Event::Serving {
        serving: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        at: Time(at),
    });
    bench.mirror.catch_up();
}

// RFC 6926 section 6.2.7: a free address that another server gives is REMOTE, as long as it does.
#[test]
fn free_addresses_that_a_partner_gives_are_remote() {
    let bench = Bench::over(balanced());
    let states = || [10, 20, 30].map(|last| state(&bench, last).0);
    // Before anything is known it is as the configuration has it.
    let usual = [State::AVAILABLE, State::REMOTE, State::AVAILABLE];
    assert_eq!(states(), usual);
    serve(&bench, &["one"], bench.now + 10);
    assert_eq!(states(), usual);
    assert_eq!(found(&bench, &since(bench.now + 10)), [0u8; 0]);
    serve(&bench, &["one", "two"], bench.now + 20);
    assert_eq!(states(), [State::AVAILABLE; 3]);
    assert_eq!(found(&bench, &since(bench.now + 20)), [20, 21]);
    serve(&bench, &[], bench.now + 30);
    assert_eq!(states(), [State::REMOTE; 3]);
}

// A declined address is nobody's; after its probation it is the partner's to give.
#[test]
fn an_address_recovered_after_probation_is_its_givers() {
    let bench = Bench::over(balanced());
    let declined = Lease {
        state: LeaseState::Declined,
        valid_lifetime: Lifetime(100),
        ..lease([10, 0, 1, 20], 1, bench.now)
    };
    bench.commit(declined, &[]);
    assert_eq!(state(&bench, 20).0, State::ABANDONED);
    bench.mirror.queue().push(Event::Reclaimed {
        address: address(20),
        cltt: Time(bench.now),
        was_released: false,
        at: Time(bench.now + 100),
    });
    bench.mirror.catch_up();
    assert_eq!(state(&bench, 20).0, State::REMOTE);
    assert_eq!(found(&bench, &since(bench.now + 100)), [20]);
    serve(&bench, &["two"], bench.now + 200);
    assert_eq!(state(&bench, 20).0, State::AVAILABLE);
    assert_eq!(found(&bench, &since(bench.now + 200)), [10, 11, 20, 21]);
}

// What a client gave back to a partner is RELEASED here too, made known by the partner (section 6.2.8).
#[test]
fn what_was_released_to_a_partner_is_released_and_remote() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.mirror.queue().push(Event::Removed {
        address: address(10),
        at: Time(bench.now),
        origin: Origin::Remote,
    });
    bench.mirror.queue().push(Event::Released {
        address: address(10),
        client: None,
        at: Time(bench.now),
        origin: Origin::Remote,
    });
    bench.mirror.catch_up();
    assert_eq!(state(&bench, 10), (State::RELEASED, true));
    assert_eq!(bench.addresses(&Query::new(Primary::All)).len(), 11);
}

// ----- Restarts ---------------------------------------------------------------------------------

// Contract: after a restart every difference counts as a change. When another server made it, and when
// the state file was last written, may both be long before a requestor was last told of the address.
#[test]
fn what_was_found_at_a_start_changed_then_whenever_it_was_made() {
    let now = Time::now();
    let kea_config = kea_config("10.0.1.10-10.0.1.19", &[]);
    let saved = Saved {
        saved_view: Bench::with_saved(Saved::default()).mirror.saved_view(),
        saved_at: Some(Time(now.0 - 1000)),
        ..Saved::default()
    };
    let mut initial_load = InitialLoad::begin(kea_config, saved, now);
    initial_load.lease(&lease([10, 0, 1, 10], 1, now.0 - 500));
    let bench = Bench::over(initial_load.finish());
    let found = bench.ask(&Query {
        start: Some(now.0),
        ..by_mac(1)
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].state_started_at(), Some(now.0 - 500));
}

// An address that was not a configured one when the state file was last written, and is now, has
// changed, whatever its binding.
#[test]
fn what_is_configured_again_at_a_start_has_changed_then() {
    let bench = Bench::with_saved(Saved::default());
    let now = bench.now;
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 99], 2, 500, &[]);
    let bindings = [10, 99].map(|last| bench.mirror.binding(address(last)).unwrap());
    let without = r#"{ "Dhcp4": { "subnet4": [ { "id": 2, "subnet": "10.0.2.0/24" } ] } }"#;
    let without = Arc::new(KeaConfig::from_json(without, Vec::new()).unwrap());
    let with = kea_config("10.0.1.10-10.0.1.19", &[]);
    let later = Time(now + 10);
    for (before, expected) in [(&without, vec![10, 99]), (&with, vec![])] {
        let saved = Saved {
            saved_at: Some(Time(now - 400)),
            ..Saved::default()
        };
        let before = InitialLoad::begin(Arc::clone(before), saved, Time(now - 400)).finish();
        let saved = Saved {
            bindings: bindings.to_vec(),
            saved_view: before.saved_view(),
            saved_at: Some(Time(now)),
            ..Saved::default()
        };
        let mut initial_load = InitialLoad::begin(Arc::clone(&with), saved, later);
        for (last, client) in [(10, 1), (99, 2)] {
            initial_load.lease(&lease([10, 0, 1, last], client, now - 500));
        }
        let bench = Bench::over(initial_load.finish());
        let mut delta = found(&bench, &since(later.0));
        delta.retain(|last| [10, 99].contains(last));
        assert_eq!(delta, expected);
    }
}

// A renewal is not in the state file: what was only renewed has not changed.
#[test]
fn what_was_renewed_before_a_restart_has_not_changed_since() {
    let bench = Bench::new();
    let now = bench.now;
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    let before = bench.mirror.binding(address(10)).unwrap();
    let saved = Saved {
        bindings: vec![before],
        saved_view: bench.mirror.saved_view(),
        saved_at: Some(Time(now - 400)),
        ..Saved::default()
    };
    let later = Time(now + 10);
    let mut initial_load = InitialLoad::begin(kea_config("10.0.1.10-10.0.1.19", &[]), saved, later);
    initial_load.lease(&lease([10, 0, 1, 10], 1, now - 100));
    let bench = Bench::over(initial_load.finish());
    assert_eq!(found(&bench, &since(now + 1)), [0u8; 0]);
    assert_eq!(found(&bench, &by_mac(1)), [10]);
}

// ----- Order ------------------------------------------------------------------------------------

// Kea's threads tell of what they have done a moment later, and a client's release is answered by
// nobody: meanwhile the address may be another client's.
#[test]
fn a_release_that_is_told_late_does_not_end_the_next_clients_lease() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 10], 2, 0, &[]);
    let late = |client| {
        let lease = lease([10, 0, 1, 10], client, 0);
        bench.mirror.queue().push(Event::Released {
            address: address(10),
            client: Some(ClientIds {
                hardware: lease.hardware,
                client_id: lease.client_id,
            }),
            at: Time(bench.now),
            origin: Origin::Local,
        });
        bench.mirror.catch_up();
    };
    late(1);
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    late(2);
    assert_eq!(state(&bench, 10), (State::RELEASED, false));
}

// A client may come back in the second of its release, while another thread of Kea's reclaims what it
// released and knows nothing of that. Whose doing lasts, the database says.
#[test]
fn reclaiming_a_released_lease_does_not_end_the_one_that_came_after_it() {
    let bench = Bench::new();
    let new = lease([10, 0, 1, 10], 1, bench.now);
    let reclaim_too_late = || {
        bench.commit(new.clone(), &[]);
        bench.mirror.queue().push(Event::Reclaimed {
            address: address(10),
            cltt: Time(bench.now),
            was_released: true,
            at: Time(bench.now),
        });
        bench.mirror.catch_up();
        bench.mirror.missing(9, Time::MIN).unwrap()
    };
    let doubtful = reclaim_too_late();
    assert_eq!(doubtful, [address(10)]);
    look(
        &bench,
        ResyncScope::Again(doubtful),
        vec![new.clone()],
        || {},
    );
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));

    // The lease manager tells that the new lease is overwritten.
    reclaim_too_late();
    bench.mirror.queue().push(Event::Updated {
        lease: Lease {
            state: LeaseState::ExpiredReclaimed,
            valid_lifetime: Lifetime(0),
            ..new.clone()
        },
        at: Time(bench.now),
        origin: Origin::Local,
    });
    bench.mirror.catch_up();
    assert_eq!(state(&bench, 10), (State::RELEASED, false));
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}

// Two of Kea's threads may lease an address to two clients at once, and tell of it in another order
// than they did it: Kea's database says who has it.
#[test]
fn of_two_clients_with_one_lease_the_one_in_the_database_has_it() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 2, 0, &[]);
    bench.lease([10, 0, 1, 10], 1, 0, &[]);
    let doubtful = bench.mirror.missing(9, Time::MIN).unwrap();
    assert_eq!(doubtful, [address(10)]);
    let held = vec![lease([10, 0, 1, 10], 2, bench.now)];
    look(&bench, ResyncScope::Again(doubtful), held, || {});
    assert_eq!(found(&bench, &by_mac(2)), [10]);
    assert_eq!(found(&bench, &by_mac(1)), [0u8; 0]);
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}
