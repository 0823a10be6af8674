//! Two servers with their leases in one database: each server's hook answers for both.

use blq::{Binding, MessageType, Primary, Query, State};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::now;
use kea_tests::{
    Client, Database, Kea, Kind, Relay, Setup, StoredLease, eventually, for_each_kind, kea_version,
};
use serde_json::json;

for_each_kind! {
    reports_leases_of_the_other_server,
    reports_ends_of_leases_at_the_other_server,
    reports_expiries_of_the_other_servers_leases,
    dates_changes_in_the_database_when_they_are_found,
    finds_changes_by_the_other_server_made_while_it_was_down,
    finds_at_a_start_changes_made_before_the_end,
    finds_the_latest_relay_of_a_client_at_the_other_server,
    follows_an_address_to_the_other_servers_client,
    agrees_with_the_database_after_a_storm_at_both,
}

/// A lifetime whose end the tests await, in seconds; long enough for the other server to find the
/// lease before.
const SHORT: u32 = 8;

/// The REMOTE flag of data-source: another server made the change (RFC 6926, section 6.2.8).
const REMOTE: u8 = 1;

/// Returns the start of a binding's state.
fn since(binding: &Binding) -> u64 {
    let since = binding.state_started_at().expect("start-time-of-state");
    since.into()
}

/// Two servers, and the database with the leases of both.
struct Servers {
    /// The first server, with relay number 0.
    first: Kea,
    /// The second server, with relay number 1.
    second: Kea,
    /// The database, which ends after the servers.
    database: Database,
}

impl Servers {
    /// Starts the servers; `change` applies to the configuration of both.
    fn start(kind: Kind, change: impl FnOnce(Setup) -> Setup) -> Self {
        let database = Database::start(kind);
        let setup = Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 1 } }))
            .lease_database(&database)
            .kea_library("libdhcp_lease_cmds.so", json!({}));
        let first = change(setup).start();
        let second = Setup::beside(&first).start();
        Servers {
            first,
            second,
            database,
        }
    }

    /// Returns the relay of each server.
    fn relays(&self) -> [Relay; 2] {
        [self.first.relay(0), self.second.relay(1)].map(|relay| relay.remote_id("line 1"))
    }
}

/// Returns the bindings that changed at `start` or later.
fn changes(kea: &Kea, start: u64) -> Vec<Binding> {
    let mut query = Query::new(Primary::All);
    query.start = Some(start.try_into().expect("a time before 2106"));
    kea.bindings(&query)
}

/// Waits for the next second of the clock, so that later changes have a later time.
fn next_second() -> u64 {
    let start = now();
    eventually("the next second", || now() > start);
    start + 1
}

/// New leases and renewals at either server are found at both, with the relay's option 82; those of
/// the other server are marked REMOTE.
fn reports_leases_of_the_other_server(kind: Kind) {
    for multi_threading in [false, true] {
        let servers = Servers::start(kind, |setup| {
            setup
                .multi_threading(multi_threading)
                .set("store-extended-info", json!(true))
                // Later versions would not write early renewals to the database.
                .set("cache-threshold", json!(0.0001))
        });
        let Servers { first, second, .. } = &servers;
        let relays = servers.relays();
        let mut clients = [1, 2].map(Client::new);
        let [own, other] = [0, 1].map(|n| relays[n].lease(&mut clients[n]).yiaddr);
        assert_ne!(own, other);
        for kea in [first, second] {
            for client in &clients {
                kea.await_active(client);
            }
            eventually("both by their remote-id", || {
                let found = kea.find(Primary::RemoteId(b"line 1".to_vec()));
                let mut found = addresses(&found);
                found.sort();
                let mut both = [own, other];
                both.sort();
                found == both
            });
        }
        let source = |kea: &Kea, n: usize| kea.await_active(&clients[n]).data_source.unwrap_or(0);
        assert_eq!(source(first, 0) & REMOTE, 0);
        assert_eq!(source(first, 1) & REMOTE, REMOTE);
        assert_eq!(source(second, 0) & REMOTE, REMOTE);
        assert_eq!(source(second, 1) & REMOTE, 0);
        // A renewal at the other server is a transaction, not a change of state.
        let before = first.await_active(&clients[1]);
        next_second();
        relays[1].renew(&clients[1]);
        eventually("the later transaction", || {
            let after = first.await_active(&clients[1]);
            assert_eq!(since(&after), since(&before));
            after.client_last_transaction_at() > before.client_last_transaction_at()
        });
    }
}

/// A release, a decline and a deletion at the other server are found, and delta queries return
/// them.
fn reports_ends_of_leases_at_the_other_server(kind: Kind) {
    let servers = Servers::start(kind, |setup| setup);
    let Servers { first, second, .. } = &servers;
    let relay = &servers.relays()[1];
    let [mut releases, mut declines, mut deleted, mut stays] = [1, 2, 3, 4].map(Client::new);
    let leased = [&mut releases, &mut declines, &mut deleted, &mut stays]
        .map(|client| relay.lease(client).yiaddr);
    for client in [&releases, &declines, &deleted, &stays] {
        first.await_active(client);
    }
    let start = next_second();
    assert_eq!(changes(first, start), []);
    relay.release(&mut releases);
    relay.decline(&mut declines);
    let arguments = json!({ "ip-address": leased[2].to_string() });
    second.command_ok("lease4-del", arguments);
    let ended = |n: usize, states: &[State]| {
        eventually(&format!("the end of {}", leased[n]), || {
            let binding = first.binding(leased[n]);
            binding.is_some_and(|binding| {
                let ended = binding.message_type == MessageType::LEASE_UNASSIGNED;
                ended && states.iter().any(|state| binding.state == Some(*state))
            })
        });
    };
    // The remains of a released lease in the database depend on the version of Kea and on time.
    let release = match kea_version() {
        version if version.starts_with("2.2.") => [State::RESET].as_slice(),
        _ => &[State::RELEASED],
    };
    ended(0, release);
    ended(1, &[State::ABANDONED]);
    ended(2, &[State::RESET]);
    second.await_state(leased[0], State::RELEASED);
    for kea in [first, second] {
        let found = changes(kea, start);
        let mut expected = leased[..3].to_vec();
        expected.sort();
        assert_eq!(addresses(&found), expected);
        for binding in found {
            assert!((start..=now()).contains(&since(&binding)), "{binding:?}");
        }
    }
    assert_eq!(
        first.await_active(&stays).chaddr,
        second.await_active(&stays).chaddr
    );
}

/// The contract's states: a lease expires when its lifetime ends, whichever server granted it and
/// whichever reclaims it.
fn reports_expiries_of_the_other_servers_leases(kind: Kind) {
    let servers = Servers::start(kind, |setup| setup.set("valid-lifetime", json!(SHORT)));
    let Servers { first, second, .. } = &servers;
    let mut client = Client::new(1);
    let address = servers.relays()[1].lease(&mut client).yiaddr;
    first.await_active(&client);
    let end = since(&second.await_active(&client)) + u64::from(SHORT);
    for kea in [first, second] {
        assert_eq!(since(&kea.await_state(address, State::EXPIRED)), end);
    }
    eventually("one of them to reclaim the lease", || {
        servers.database.sql("SELECT state FROM lease4;") == [["2"]]
    });
    let observed_at = now();
    eventually("two resyncs", || now() >= observed_at + 3);
    for kea in [first, second] {
        let expired = kea.await_state(address, State::EXPIRED);
        assert_eq!(since(&expired), end);
        assert_eq!(expired.chaddr, client.chaddr);
    }
}

/// RFC 6926, section 8.2: a change made before a query and found after it is in the next delta,
/// with the time at which it was found.
fn dates_changes_in_the_database_when_they_are_found(kind: Kind) {
    let servers = Servers::start(kind, |setup| setup);
    let Servers {
        first,
        second,
        database,
    } = &servers;
    let place = first.place();
    let [added, old] = [150, 151].map(|host| place.address(host));
    let lease = |address, n: u8| StoredLease::new(address, [2, 0, 0, 0, 0, n], now());
    database.insert_leases(&[lease(old, 2)]);
    for kea in [first, second] {
        kea.await_state(old, State::ACTIVE);
    }
    let start = next_second();
    // The client's last transaction was half an hour ago.
    database.insert_leases(&[lease(added, 1)]);
    for kea in [first, second] {
        let found = kea.await_state(added, State::ACTIVE);
        assert!((start..=now()).contains(&since(&found)), "{found:?}");
        assert_eq!(addresses(&changes(kea, start)), [added]);
    }
    let start = next_second();
    let context = r#"{ "ISC": { "relay-agent-info": "0x02046C696E65" } }"#;
    database.change_lease(added, &[2, 0, 0, 0, 0, 3], context);
    for kea in [first, second] {
        eventually("another client", || {
            addresses(&kea.find(by_mac(&Client::new(3)))) == [added]
        });
        assert_eq!(kea.find(by_mac(&Client::new(1))), []);
        let remote_id = Primary::RemoteId(b"line".to_vec());
        assert_eq!(addresses(&kea.find(remote_id)), [added]);
        assert_eq!(addresses(&changes(kea, start)), [added]);
    }
    let start = next_second();
    database.delete_lease(old);
    for kea in [first, second] {
        let found = kea.await_state(old, State::RESET);
        assert!((start..=now()).contains(&since(&found)), "{found:?}");
        assert_eq!(addresses(&changes(kea, start)), [old]);
    }
}

/// Changes made by the other server while this one was down have the time at which they were found.
fn finds_changes_by_the_other_server_made_while_it_was_down(kind: Kind) {
    for crash in [false, true] {
        let mut servers = Servers::start(kind, |setup| setup);
        let relays = servers.relays();
        let Servers { first, second, .. } = &mut servers;
        let [mut goes, mut stays, mut comes] = [1, 2, 3].map(Client::new);
        let [gone, stayed] = [&mut goes, &mut stays].map(|client| relays[1].lease(client).yiaddr);
        for client in [&goes, &stays] {
            first.await_active(client);
        }
        next_second();
        // Until the flush: half a second, by the contract.
        let start = next_second();
        if crash {
            first.kill();
        } else {
            first.stop();
        }
        let arguments = json!({ "ip-address": gone.to_string() });
        second.command_ok("lease4-del", arguments);
        let came = relays[1].lease(&mut comes).yiaddr;
        second.await_active(&comes);
        first.start_again();
        first.await_active(&comes);
        first.await_active(&stays);
        let mut expected = vec![gone, came];
        expected.sort();
        expected.dedup();
        let found = addresses(&changes(first, start));
        assert_eq!(found, expected, "{stayed} did not change");
        if gone != came {
            first.await_state(gone, State::RESET);
        }
    }
}

/// RFC 6926, section 8.2: a change made before a query and found after it is in the next delta,
/// also if the server was restarted in between.
fn finds_at_a_start_changes_made_before_the_end(kind: Kind) {
    let database = Database::start(kind);
    let mut kea = Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 0 } }))
        .lease_database(&database)
        .start();
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    for (crash, host) in [(false, 150), (true, 151)] {
        next_second();
        let address = kea.place().address(host);
        database.insert_leases(&[StoredLease {
            expire: now() + 3600,
            ..StoredLease::new(address, [2, 0, 0, 0, 0, host], 0)
        }]);
        next_second();
        let start = next_second();
        assert_eq!(changes(&kea, start), []);
        if crash {
            kea.kill();
        } else {
            kea.stop();
        }
        kea.start_again();
        kea.await_state(address, State::ACTIVE);
        assert_eq!(
            addresses(&changes(&kea, start)),
            [address],
            "crash: {crash}"
        );
    }
}

/// RFC 4388, section 6.4.2: the latest relay agent information, from the database, is found while a
/// server runs, is down, or first reads the lease.
fn finds_the_latest_relay_of_a_client_at_the_other_server(kind: Kind) {
    let mut servers = Servers::start(kind, |setup| {
        setup
            .set("store-extended-info", json!(true))
            .set("cache-threshold", json!(0.0001))
    });
    let first_relay = servers.first.relay(0).remote_id("line 1");
    let second_relay = servers.second.relay(1).remote_id("line 2");
    let Servers { first, second, .. } = &mut servers;
    let mut client = Client::new(1);
    let address = first_relay.lease(&mut client).yiaddr;
    let lines = |kea: &Kea| {
        ["line 1", "line 2"].map(|line| addresses(&kea.find(Primary::RemoteId(line.into()))))
    };
    for kea in [&*first, &*second] {
        eventually("the first line", || lines(kea) == [vec![address], vec![]]);
    }
    second_relay.renew(&client);
    for kea in [&*first, &*second] {
        eventually("the second line", || lines(kea) == [vec![], vec![address]]);
    }
    for crash in [false, true] {
        first_relay.renew(&client);
        eventually("the first line", || lines(first) == [vec![address], vec![]]);
        next_second();
        next_second();
        if crash {
            first.kill();
        } else {
            first.stop();
        }
        second_relay.renew(&client);
        first.start_again();
        assert_eq!(lines(first), [vec![], vec![address]], "crash: {crash}");
    }
}

/// An address that the other server leases to another client is that client's.
fn follows_an_address_to_the_other_servers_client(kind: Kind) {
    let servers = Servers::start(kind, |setup| {
        let pool = setup.place.pool(100, 100);
        setup.in_subnet(json!({ "pools": [{ "pool": pool }] }))
    });
    let Servers { first, second, .. } = &servers;
    let relays = servers.relays();
    let [mut own, mut other] = [1, 2].map(Client::new);
    let address = relays[0].lease(&mut own).yiaddr;
    second.await_active(&own);
    relays[0].release(&mut own);
    first.await_state(address, State::RELEASED);
    let start = next_second();
    assert_eq!(relays[1].lease(&mut other).yiaddr, address);
    for kea in [first, second] {
        let binding = kea.await_active(&other);
        assert!((start..=now()).contains(&since(&binding)), "{binding:?}");
        assert_eq!(kea.find(by_mac(&Client::new(1))), []);
    }
}

/// After much activity at two servers, both hooks agree with the database, and delta queries miss
/// no change.
fn agrees_with_the_database_after_a_storm_at_both(kind: Kind) {
    let servers = Servers::start(kind, |setup| setup.multi_threading(true));
    let Servers {
        first,
        second,
        database,
    } = &servers;
    let relays = servers.relays();
    let mut before = [first, second].map(|kea| kea.find(Primary::All));
    let mut start = next_second();
    for round in 0..3 {
        let storm = |server: u8, relay: &Relay| {
            // A fixed pseudo-random sequence.
            let mut random = u32::from(server) + 2 * round + 1;
            let mut next = || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random >> 16
            };
            let first = 1 + 100 * u16::from(server);
            let mut clients: Vec<Client> = (first..first + 20).map(Client::new).collect();
            for _ in 0..60 {
                let client = &mut clients[next() as usize % 20];
                match (client.address, next() % 16) {
                    // The other server may be quicker.
                    (None, _) => drop(relay.try_lease(client)),
                    (_, 0) => relay.decline(client),
                    (_, 1..8) => relay.release(client),
                    _ => drop(relay.renew(client)),
                }
            }
        };
        std::thread::scope(|scope| {
            let storm = &storm;
            for (server, relay) in (0..).zip(&relays) {
                scope.spawn(move || storm(server, relay));
            }
        });
        let held = |kea: &Kea| -> Vec<_> {
            let bindings = kea.find(Primary::All).into_iter();
            let state = |binding: &Binding| match binding.state {
                Some(State::ACTIVE) => Some(0),
                Some(State::ABANDONED) => Some(1),
                _ => None,
            };
            bindings
                .filter_map(|binding| {
                    let state = state(&binding)?;
                    // Kea drops the client of a declined lease; the hook keeps it.
                    let hardware = if state == 0 {
                        binding.chaddr
                    } else {
                        Vec::new()
                    };
                    Some((binding.address, hardware, state))
                })
                .collect()
        };
        for (kea, before) in [first, second].into_iter().zip(&mut before) {
            eventually("agreement with the database", || {
                held(kea) == database.leases()
            });
            let after = kea.find(Primary::All);
            let changed = addresses(&changes(kea, start));
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(before.address, after.address);
                let state = |binding: &Binding| (binding.state, since(binding));
                if state(before) != state(after) {
                    let address = after.address;
                    assert!(changed.contains(&address), "{before:?} became {after:?}");
                }
            }
            *before = after;
        }
        start = next_second();
    }
}
