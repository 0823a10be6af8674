//! Differences between leases, at run time and over restarts.

use super::*;

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
