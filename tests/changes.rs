//! Changes without a lease event, or at run time: resyncs with Kea's lease database,
//! reconfigurations and high-availability partners. Without sockets and without Kea.

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

/// Returns the configuration of these tests with another pool in subnet 1, and with reservations
/// from databases.
fn kea_config(pool: &str, reservations: &[DatabaseReservation]) -> Arc<KeaConfig> {
    let config = CONFIGURATION.replace("10.0.1.10-10.0.1.19", pool);
    Arc::new(KeaConfig::new(&config, Vec::new(), reservations).unwrap())
}

/// Returns a query for all addresses that changed at `start` or later.
fn since(start: u32) -> Query {
    Query {
        start: Some(start),
        ..all()
    }
}

/// Returns the last octets of the addresses that a query finds.
fn found(bench: &Bench, query: &Query) -> Vec<u8> {
    let addresses = bench.addresses(query);
    addresses
        .iter()
        .map(|address| address.octets()[3])
        .collect()
}

/// Returns an address of subnet 1.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

/// Returns the state of an address of subnet 1, and whether its last change was remote.
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

/// Applies a resync of a part of Kea's lease database; `meanwhile` runs between its beginning and
/// its page.
fn resync(bench: &Bench, scope: ResyncScope, leases: Vec<Lease>, meanwhile: impl FnOnce()) {
    bench.mirror.queue().push(Event::ResyncBegun);
    meanwhile();
    bench.mirror.queue().push(Event::ResyncPage {
        scope,
        leases,
        at: Time(bench.now),
    });
    bench.mirror.catch_up();
}

/// Returns the scope of all addresses of subnet 1.
fn all_of_subnet_1() -> ResyncScope {
    ResyncScope::Range(address(0).to_bits()..=address(255).to_bits())
}

// ----- Resyncs with Kea's lease database -------------------------------------------------------

// RFC 6926 sections 6.2.8 and 8.2. A resync finds a lease that no event reported, and a renewal or
// another client of a known lease. Each is a remote change at the time of the resync.
#[test]
fn a_resync_finds_changes_without_an_event() {
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
    resync(&bench, all_of_subnet_1(), leases, || {});
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

// An event during a resync is newer than the page that the resync read.
#[test]
fn an_event_during_a_resync_is_newer_than_its_page() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 11], 2, 500, &[]);
    let old = vec![
        lease([10, 0, 1, 10], 1, bench.now - 500),
        lease([10, 0, 1, 11], 2, bench.now - 500),
    ];
    resync(&bench, all_of_subnet_1(), old, || {
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

// A lease that a resync misses is looked up once more. If it is missing again and no event explains
// that, it is removed; until then its binding does not change.
#[test]
fn a_lease_missing_from_two_lookups_is_removed() {
    let bench = Bench::new();
    for last in 10..14 {
        bench.lease([10, 0, 1, last], last, 500, &[]);
    }
    resync(&bench, all_of_subnet_1(), Vec::new(), || {});
    let missing: Vec<Ipv4Addr> = (10..14).map(address).collect();
    let listed = |since| bench.mirror.missing(9, Time(since)).unwrap();
    assert_eq!(listed(bench.now), missing);
    assert!(listed(bench.now - 1).is_empty());
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    // The event of a release arrives shortly after Kea deletes the lease: 11 is released. 12
    // reappears.
    bench.mirror.queue().push(Event::Released {
        address: address(11),
        client: None,
        at: Time(bench.now),
        origin: Origin::Local,
    });
    let back = vec![lease([10, 0, 1, 12], 12, bench.now - 500)];
    resync(&bench, ResyncScope::Again(missing), back, || {});
    assert_eq!(state(&bench, 10), (State::RESET, true));
    assert_eq!(state(&bench, 11), (State::RELEASED, false));
    assert_eq!(state(&bench, 12), (State::ACTIVE, false));
    assert_eq!(state(&bench, 13), (State::RESET, true));
    assert!(listed(bench.now).is_empty());
}

// A lease changed by a command is a local change, and needs no second look-up.
#[test]
fn a_change_by_command_is_local() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    let changed = |last| ResyncScope::Changed(vec![address(last)], Origin::Local);
    resync(&bench, changed(10), Vec::new(), || {});
    assert_eq!(state(&bench, 10), (State::RESET, false));
    let added = vec![lease([10, 0, 1, 11], 2, bench.now)];
    resync(&bench, changed(11), added, || {});
    assert_eq!(state(&bench, 11), (State::ACTIVE, false));
}

// A resync page whose beginning was lost may be older than any event, and is ignored.
#[test]
fn a_resync_page_without_a_beginning_is_ignored() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.mirror.queue().push(Event::ResyncPage {
        scope: all_of_subnet_1(),
        leases: Vec::new(),
        at: Time(bench.now),
    });
    bench.mirror.catch_up();
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}

// Expiry follows from the lifetime alone: the reclamation of an expired lease is no change.
#[test]
fn reclaiming_an_expired_lease_is_no_change() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 1, 4000, &[]);
    let swept = Lease {
        state: LeaseState::ExpiredReclaimed,
        ..lease([10, 0, 1, 10], 1, bench.now - 4000)
    };
    resync(&bench, all_of_subnet_1(), vec![swept], || {});
    assert_eq!(state(&bench, 10), (State::EXPIRED, false));
    let gone = ResyncScope::Again(vec![address(10)]);
    resync(&bench, gone, Vec::new(), || {});
    assert_eq!(state(&bench, 10), (State::EXPIRED, false));
}

// ----- Reconfigurations -------------------------------------------------------------------------

/// Resumes the mirror of a bench after a reconfiguration, with `leases` in Kea's database.
fn reloaded(bench: Bench, kea_config: Arc<KeaConfig>, leases: &[Lease], later: u32) -> Bench {
    let Bench { mirror, engine, .. } = bench;
    drop(engine);
    let mirror = Arc::try_unwrap(mirror).expect("no other owner");
    let mut initial_load = InitialLoad::resume(mirror, kea_config, Time(later)).unwrap();
    for lease in leases {
        initial_load.lease(lease);
    }
    Bench::over(initial_load.finish())
}

// A reload keeps the mirror. Kea's database takes precedence for leases that changed during the
// reload; all other bindings keep their times.
#[test]
fn a_reload_finds_leases_that_changed_meanwhile() {
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
    let bench = reloaded(bench, kea_config("10.0.1.10-10.0.1.19", &[]), &leases, now);
    let kept = &bench.ask(&by_mac(1))[0];
    assert_eq!(kept.start_time_of_state, Some(500));
    assert_eq!(kept.client_last_transaction_time, Some(100));
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    assert_eq!(state(&bench, 11), (State::RESET, true));
    assert_eq!(state(&bench, 12), (State::ACTIVE, true));
    assert_eq!(state(&bench, 13), (State::ACTIVE, true));
    assert_eq!(found(&bench, &by_mac(4)), [12]);
}

// A free address is AVAILABLE since it was configured. A delta returns it if that was in the
// delta's window.
#[test]
fn a_reload_follows_the_configuration() {
    let bench = Bench::new();
    let later = bench.now + 100;
    bench.lease([10, 0, 1, 19], 1, 500, &[]);
    let held = [lease([10, 0, 1, 19], 1, bench.now - 500)];
    let bench = reloaded(bench, kea_config("10.0.1.15-10.0.1.21", &[]), &held, later);
    let mut all_found = found(&bench, &all());
    all_found.retain(|last| *last != 200);
    assert_eq!(all_found, (15..=21).collect::<Vec<u8>>());
    assert_eq!(found(&bench, &since(later)), [20, 21]);
}

// The configuration changes while Kea runs, by a command or by a configuration backend.
// Reservations in databases arrive after the rest of the configuration.
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
    // An address that is leased while its pool is removed and restored stays configured.
    bench.lease([10, 0, 1, 20], 1, 50, &[]);
    configure("10.0.1.10-10.0.1.19", &[], later + 100);
    configure("10.0.1.10-10.0.1.20", &[], later + 200);
    assert_eq!(found(&bench, &since(later + 200)), [0u8; 0]);
    // An address whose subnet is removed and restored has changed, even if its binding is equal.
    bench.lease([10, 0, 1, 99], 2, 50, &[]);
    let config = r#"{ "Dhcp4": { "subnet4": [] } }"#;
    bench.mirror.queue().push(Event::Reconfigured {
        kea_config: Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap()),
        is_complete: true,
        at: Time(later + 300),
    });
    bench.mirror.catch_up();
    assert!(bench.ask(&all()).is_empty());
    configure("10.0.1.10-10.0.1.10", &[], later + 400);
    assert_eq!(found(&bench, &since(later + 400)), [10, 20, 99, 200]);
}

// An address outside of pools and reservations is configured only while it is leased.
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

/// Returns the mirror of a load-balancing pair with one pool for each server, and one for both.
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
    let kea_config = KeaConfig::new(config, Vec::new(), &[]).unwrap();
    let saved = Saved {
        saved_at: Some(Time(1)),
        ..Saved::default()
    };
    InitialLoad::begin(Arc::new(kea_config), saved, Time::now()).finish()
}

/// Makes this server serve these high-availability scopes from `at` on.
fn serve(bench: &Bench, scopes: &[&str], at: u32) {
    bench.mirror.queue().push(Event::Serving {
        serving: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        at: Time(at),
    });
    bench.mirror.catch_up();
}

// RFC 6926 section 6.2.7: a free address that another server allocates is REMOTE.
#[test]
fn free_addresses_that_a_partner_allocates_are_remote() {
    let bench = Bench::over(balanced());
    let states = || [10, 20, 30].map(|last| state(&bench, last).0);
    // Before the first event about scopes, the configuration decides.
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

// After its probation, a declined address is free, and belongs to the partner that allocates it.
#[test]
fn an_address_after_probation_belongs_to_its_allocating_server() {
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

// RFC 6926 section 6.2.8: a release that the partner received is RELEASED here, as a remote change.
#[test]
fn a_release_to_a_partner_is_released_and_remote() {
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

// After a restart, every difference is a change at the time of the start. Another server may have
// made it, or the state file may have been written, long before a requester's last delta query.
#[test]
fn a_difference_found_at_a_start_changed_at_the_start() {
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

// An address that is configured now, but was not when the state file was written, has changed,
// even if its binding is equal.
#[test]
fn an_address_configured_again_at_a_start_changed_at_the_start() {
    let bench = Bench::with_saved(Saved::default());
    let now = bench.now;
    bench.lease([10, 0, 1, 10], 1, 500, &[]);
    bench.lease([10, 0, 1, 99], 2, 500, &[]);
    let bindings = [10, 99].map(|last| bench.mirror.binding(address(last)).unwrap());
    let without = r#"{ "Dhcp4": { "subnet4": [ { "id": 2, "subnet": "10.0.2.0/24" } ] } }"#;
    let without = Arc::new(KeaConfig::new(without, Vec::new(), &[]).unwrap());
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

// The state file does not contain renewals: a lease that was only renewed has not changed.
#[test]
fn a_renewal_before_a_restart_is_no_change() {
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
    // The mirror may have learned of it in the next second, of which a requester may have received other changes.
    assert!(found(&bench, &since(now - 99)).contains(&10));
    assert!(!found(&bench, &since(now - 98)).contains(&10));
}

// ----- Order ------------------------------------------------------------------------------------

// An event reaches the queue after Kea changed the lease, and a release has no reply: the address
// may be leased to another client before the event of the release.
#[test]
fn a_late_release_event_does_not_end_the_next_clients_lease() {
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

// A client may come back within the second of its release, while another thread of Kea reclaims the
// released lease. Kea's database decides which of the two prevailed.
#[test]
fn reclaiming_a_released_lease_does_not_end_its_successor() {
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
    let uncertain = reclaim_too_late();
    assert_eq!(uncertain, [address(10)]);
    resync(
        &bench,
        ResyncScope::Again(uncertain),
        vec![new.clone()],
        || {},
    );
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));

    // The lease manager reports that the new lease was overwritten.
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

// Two threads of Kea may lease one address to two clients, with their events in the opposite order.
// Kea's database decides which client holds the lease.
#[test]
fn the_database_decides_which_of_two_clients_has_the_lease() {
    let bench = Bench::new();
    bench.lease([10, 0, 1, 10], 2, 0, &[]);
    bench.lease([10, 0, 1, 10], 1, 0, &[]);
    let uncertain = bench.mirror.missing(9, Time::MIN).unwrap();
    assert_eq!(uncertain, [address(10)]);
    let held = vec![lease([10, 0, 1, 10], 2, bench.now)];
    resync(&bench, ResyncScope::Again(uncertain), held, || {});
    assert_eq!(found(&bench, &by_mac(2)), [10]);
    assert_eq!(found(&bench, &by_mac(1)), [0u8; 0]);
    assert_eq!(state(&bench, 10), (State::ACTIVE, false));
    assert!(bench.mirror.missing(9, Time(bench.now)).unwrap().is_empty());
}
