//! Leases, reservations and subnets that Kea keeps in databases.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;

use blq::{Binding, Primary, Query, State, StatusCode};
use kea_tests::ask::{addresses, by_mac, failure};
use kea_tests::clock::now;
use kea_tests::packet::value;
use kea_tests::{
    Client, Database, Kea, Kind, Setup, StoredLease, eventually, eventually_some, for_each_kind,
    kea_version,
};
use serde_json::{Value, json};

for_each_kind! {
    follows_the_life_of_a_lease,
    expires_a_lease_at_the_end_of_its_lifetime,
    finds_relays_after_restarts_and_crashes,
    finds_leases_older_than_the_hook,
    follows_commands,
    finds_each_of_thousands_of_leases,
    does_not_answer_from_a_part_of_the_database,
    serves_once_a_late_database_is_available,
    answers_while_the_database_is_down_and_finds_changes_afterwards,
    follows_changes_when_the_database_is_back,
    continues_after_a_reload_without_the_database,
    does_not_keep_kea_from_ending_without_its_database,
    finds_changes_in_the_database_at_a_reload,
    reports_infinite_leases,
    finds_addresses_reserved_in_a_database,
    follows_reservations_in_a_database,
    returns_options_reserved_in_a_database,
    finds_subnets_configured_in_a_database,
}

/// A lifetime whose end the tests await, in seconds.
const SHORT: u32 = 5;

/// Returns the start of a binding's state.
fn since(binding: &Binding) -> u64 {
    let since = binding.state_started_at().expect("start-time-of-state");
    since.into()
}

/// Returns a setup with the hook and a resync every second.
fn with_frequent_resync() -> Setup {
    Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 1 } }))
}

/// Starts Kea with the hook and its leases in a database.
fn kea(database: &Database) -> Kea {
    with_frequent_resync()
        .lease_database(database)
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start()
}

/// Leases in a database are followed like those in Kea's memfile, with a single thread and with
/// several.
fn follows_the_life_of_a_lease(kind: Kind) {
    for multi_threading in [false, true] {
        let database = Database::start(kind);
        let kea = with_frequent_resync()
            .multi_threading(multi_threading)
            .lease_database(&database)
            .start();
        let relay = kea.relay(0).remote_id("line 1");
        let [mut releases, mut declines] = [1, 2].map(Client::new);
        let leased = [&mut releases, &mut declines].map(|client| relay.lease(client).yiaddr);
        let first = kea.await_active(&releases);
        let option_82 = first.relay_agent_information.as_ref();
        assert_eq!(option_82.map(|all| &all.raw), Some(&relay.option_82()));
        let renewed = eventually_some("a later transaction", || {
            relay.renew(&releases);
            let binding = kea.await_active(&releases);
            (binding.client_last_transaction_at() > first.client_last_transaction_at())
                .then_some(binding)
        });
        assert_eq!(since(&renewed), since(&first));
        assert_eq!(renewed.data_source.unwrap_or(0), 0);
        kea.await_active(&declines);
        relay.release(&mut releases);
        relay.decline(&mut declines);
        let released = kea.await_state(leased[0], State::RELEASED);
        assert_eq!(released.chaddr, releases.chaddr);
        kea.await_state(leased[1], State::ABANDONED);
    }
}

/// The contract's states: a lease expires when its lifetime ends.
fn expires_a_lease_at_the_end_of_its_lifetime(kind: Kind) {
    let database = Database::start(kind);
    let kea = with_frequent_resync()
        .set("valid-lifetime", json!(SHORT))
        .lease_database(&database)
        .start();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    let leased = kea.await_active(&client);
    let end = since(&leased) + u64::from(SHORT);
    assert_eq!(since(&kea.await_state(address, State::EXPIRED)), end);
    eventually("Kea to reclaim the lease", || {
        database.sql("SELECT state FROM lease4;") == [["2"]]
    });
    // A later resync confirms the state.
    let observed_at = now();
    eventually("two resyncs", || now() >= observed_at + 3);
    let expired = kea.await_state(address, State::EXPIRED);
    assert_eq!(since(&expired), end);
    assert_eq!(expired.data_source.unwrap_or(0), 0);
}

/// RFC 6926, section 8.2: bindings are found by relay-id and remote-id after restarts and crashes.
fn finds_relays_after_restarts_and_crashes(kind: Kind) {
    let database = Database::start(kind);
    let mut kea = kea(&database);
    let relay = kea.relay(0).remote_id("line 1").relay_id("relay 1");
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let before = kea.await_active(&client);
    for crash in [false, true] {
        // Until the flush: half a second, by the contract.
        let start = now();
        eventually("two seconds", || now() >= start + 2);
        if crash {
            kea.kill();
        } else {
            kea.stop();
        }
        kea.start_again();
        for primary in [
            Primary::RemoteId(b"line 1".to_vec()),
            Primary::RelayId(b"relay 1".to_vec()),
        ] {
            assert_eq!(addresses(&kea.find(primary)), [address]);
        }
        assert_eq!(since(&kea.await_active(&client)), since(&before));
    }
}

/// Leases older than the hook are found, in the states and with the option 82 that Kea has stored.
fn finds_leases_older_than_the_hook(kind: Kind) {
    let database = Database::start(kind);
    let setup = with_frequent_resync().lease_database(&database);
    let place = setup.place;
    let at = now();
    let lease = |host: u8| StoredLease::new(place.address(host), [2, 0, 0, 0, 0, host], at);
    // Remote-id "line", relay-id "r": as a whole in hexadecimal (Kea 2.2), and as a map (later).
    let whole = r#"{ "ISC": { "relay-agent-info": "0x02046C696E650C0172" } }"#;
    let map = r#"{ "ISC": { "relay-agent-info": { "sub-options": "0x02046C696E650C0172",
        "remote-id": "6C696E65", "relay-id": "72" } } }"#;
    database.insert_leases(&[
        StoredLease {
            client_id: vec![1, 2, 3, 4],
            ..lease(110)
        },
        StoredLease {
            user_context: whole.into(),
            ..lease(111)
        },
        StoredLease {
            user_context: map.into(),
            ..lease(112)
        },
        StoredLease {
            hardware: Vec::new(),
            state: 1,
            ..lease(113)
        },
        StoredLease {
            expire: at - 60,
            ..lease(114)
        },
        StoredLease {
            state: 2,
            expire: at - 60,
            ..lease(115)
        },
    ]);
    let kea = setup.start();
    let [plain, old, new] = [110, 111, 112].map(|host| place.address(host));
    assert_eq!(addresses(&kea.find(by_mac(&Client::new(110)))), [plain]);
    let by_client_id = Primary::ClientId(vec![1, 2, 3, 4]);
    assert_eq!(addresses(&kea.find(by_client_id)), [plain]);
    for primary in [
        Primary::RemoteId(b"line".to_vec()),
        Primary::RelayId(b"r".to_vec()),
    ] {
        assert_eq!(addresses(&kea.find(primary)), [old, new]);
    }
    kea.await_state(place.address(113), State::ABANDONED);
    for host in [114, 115] {
        let expired = kea.await_state(place.address(host), State::EXPIRED);
        assert_eq!(since(&expired), at - 60);
    }
}

/// Leases added, changed and deleted by command (libdhcp_lease_cmds).
fn follows_commands(kind: Kind) {
    let database = Database::start(kind);
    let kea = kea(&database);
    let [first, second] = [150, 151].map(|host| kea.place().address(host));
    let lease = |address: Ipv4Addr, mac: &str| {
        json!({ "ip-address": address.to_string(), "hw-address": mac, "subnet-id": 1,
            "valid-lft": 500 })
    };
    let found = |n| addresses(&kea.find(by_mac(&Client::new(n))));
    kea.command_ok("lease4-add", lease(first, "02:00:00:00:00:01"));
    kea.command_ok("lease4-add", lease(second, "02:00:00:00:00:02"));
    eventually("the leases added", || {
        found(1) == [first] && found(2) == [second]
    });
    kea.command_ok("lease4-update", lease(first, "02:00:00:00:00:03"));
    eventually("the lease changed", || found(3) == [first]);
    assert!(found(1).is_empty());
    kea.command_ok("lease4-del", json!({ "ip-address": first.to_string() }));
    kea.await_state(first, State::RESET);
    // Kea cannot wipe leases in databases; then nothing changes.
    let answer = kea.command("lease4-wipe", json!({ "subnet-id": 1 }));
    let wiped = answer["result"] == 0;
    let state = if wiped { State::RESET } else { State::ACTIVE };
    kea.await_state(second, state);
}

/// More leases than one page of the database holds, inserted before and after the start.
fn finds_each_of_thousands_of_leases(kind: Kind) {
    /// Number of leases each time.
    const COUNT: u32 = 5_000;
    let database = Database::start(kind);
    let at = now();
    let leases = |first: u32| -> Vec<StoredLease> {
        (first..first + COUNT)
            .map(|n| {
                let [.., a, b] = n.to_be_bytes();
                StoredLease::new(Ipv4Addr::new(10, 0, a, b), [2, 0, 0, 0, a, b], at)
            })
            .collect()
    };
    database.insert_leases(&leases(0));
    let kea = with_frequent_resync()
        .lease_database(&database)
        .subnets(json!([{ "id": 1, "subnet": "10.0.0.0/16" }]))
        .start();
    let found = |count: u32| {
        let bindings = kea.find(Primary::All);
        let active = bindings
            .iter()
            .filter(|binding| binding.state == Some(State::ACTIVE));
        let expected = (0..count).map(|n| Ipv4Addr::from_bits(0x0a00_0000 | n));
        active.map(|binding| binding.address).eq(expected)
    };
    assert!(found(COUNT), "the former leases");
    database.insert_leases(&leases(COUNT));
    eventually("the new leases", || found(2 * COUNT));
}

/// The database stops when a part of its leases has been read: a query waits at most for its
/// connection's idle time, and is answered completely once the database is back.
fn does_not_answer_from_a_part_of_the_database(kind: Kind) {
    /// Enough leases that Kea's main thread can be blocked before all are read.
    const COUNT: u32 = 20_000;
    let mut database = Database::start(kind);
    let at = now();
    let leases: Vec<StoredLease> = (0..COUNT)
        .map(|n| {
            let [.., a, b] = n.to_be_bytes();
            StoredLease::new(Ipv4Addr::new(10, 0, a, b), [2, 0, 0, 0, a, b], at)
        })
        .collect();
    database.insert_leases(&leases);
    let kea = with_frequent_resync()
        .hook_parameters(json!({ "advanced": { "max-requester-idle-time": 1 } }))
        .lease_database(&database)
        .subnets(json!([{ "id": 1, "subnet": "10.0.0.0/16" }]))
        .start();
    let blocked = kea.block_main_thread();
    database.stop();
    drop(blocked);
    kea.await_log("BLQ_LEASES_UNREADABLE");
    let ask = || {
        kea.query(&Query::new(Primary::Mac {
            htype: 1,
            address: vec![2, 0, 0, 0, 0, 7],
        }))
    };
    let ended = ask();
    assert!(ended.bindings.is_empty());
    let (code, _) = failure(ended.done.as_ref().expect("DHCPLEASEQUERYDONE"));
    assert_eq!(code, StatusCode::QUERY_TERMINATED);
    assert!(!kea.log().contains("BLQ_LOADED"));
    database.start_again();
    kea.await_log("BLQ_LOADED");
    assert_eq!(addresses(&ask().bindings), [Ipv4Addr::new(10, 0, 0, 7)]);
}

/// Kea that starts without its database, as later versions do if configured so, serves leases once
/// the database is available, and so does the hook.
fn serves_once_a_late_database_is_available(kind: Kind) {
    let mut database = Database::start(kind);
    let setup = with_frequent_resync().lease_database(&database);
    let address = setup.place.address(110);
    database.insert_leases(&[StoredLease::new(address, [2, 0, 0, 0, 0, 1], now())]);
    database.stop();
    if kea_version().starts_with("2.2.") {
        // This version ends.
        let log = setup.clone().fail_to_start();
        assert!(log.contains("DHCP4_CONFIG_LOAD_FAIL"), "{log}");
        database.start_again();
        let kea = setup.start();
        assert_eq!(addresses(&kea.find(by_mac(&Client::new(1)))), [address]);
        return;
    }
    let kea = setup.start();
    database.start_again();
    eventually("an answer", || {
        let connection = kea.try_connect();
        connection.is_ok_and(|mut connection| {
            let answer = connection.query(&Query::new(by_mac(&Client::new(1))));
            answer.done.is_ok() && addresses(&answer.bindings) == [address]
        })
    });
}

/// While the database is down, the hook answers from the mirror, and a failed reconfiguration
/// changes nothing. Afterwards the hook finds the changes made in that time.
fn answers_while_the_database_is_down_and_finds_changes_afterwards(kind: Kind) {
    for multi_threading in [false, true] {
        let mut database = Database::start(kind);
        let kea = with_frequent_resync()
            .multi_threading(multi_threading)
            .lease_database(&database)
            .start();
        let relay = kea.relay(0).remote_id("line 1");
        let mut client = Client::new(1);
        let address = relay.lease(&mut client).yiaddr;
        let before = kea.await_active(&client);
        database.stop();
        // Kea notices at its next use of the database, at the latest when it looks for expired
        // leases.
        kea.await_log("DB_RECONNECT_LOST_CONNECTION");
        let remote_id = || Primary::RemoteId(b"line 1".to_vec());
        assert_eq!(addresses(&kea.find(remote_id())), [address]);
        database.start_again();
        let added = kea.place().address(150);
        database.insert_leases(&[StoredLease::new(added, [2, 0, 0, 0, 0, 9], now())]);
        kea.await_state(added, State::ACTIVE);
        assert_eq!(addresses(&kea.find(remote_id())), [address]);
        assert_eq!(since(&kea.await_active(&client)), since(&before));
        let mut other = Client::new(2);
        relay.lease(&mut other);
        kea.await_active(&other);
    }
}

/// Lease events are applied once Kea has its database again, without a resync.
fn follows_changes_when_the_database_is_back(kind: Kind) {
    let mut database = Database::start(kind);
    let kea = Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 0 } }))
        .lease_database(&database)
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start();
    database.stop();
    kea.await_log("DB_RECONNECT_LOST_CONNECTION");
    database.start_again();
    let address = kea.place().address(150);
    let lease = json!({ "ip-address": address.to_string(), "hw-address": "02:00:00:00:00:09" });
    eventually("Kea to have its database", || {
        kea.command("lease4-add", lease.clone())["result"] == 0
    });
    kea.await_state(address, State::ACTIVE);
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let leased = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    relay.release(&mut client);
    kea.await_state(leased, State::RELEASED);
    kea.command_ok("lease4-del", json!({ "ip-address": address.to_string() }));
    kea.await_state(address, State::RESET);
}

/// The contract: a running server keeps its configuration, database included, when a new one fails,
/// and the hook continues to answer.
fn continues_after_a_reload_without_the_database(kind: Kind) {
    let mut database = Database::start(kind);
    let kea = with_frequent_resync().lease_database(&database).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let before = kea.await_active(&client);
    database.stop();
    kea.command("config-reload", Value::Null);
    let found = || {
        let connection = kea.try_connect();
        connection.is_ok_and(|mut connection| {
            let answer = connection.query(&Query::new(by_mac(&Client::new(1))));
            answer.done.is_ok() && addresses(&answer.bindings) == [address]
        })
    };
    eventually("an answer without the database", found);
    database.start_again();
    eventually("a successful reload", || {
        kea.command("config-reload", Value::Null)["result"] == 0
    });
    eventually("an answer with the database", found);
    assert_eq!(since(&kea.await_active(&client)), since(&before));
    let added = kea.place().address(150);
    database.insert_leases(&[StoredLease::new(added, [2, 0, 0, 0, 0, 9], now())]);
    kea.await_state(added, State::ACTIVE);
}

/// Kea ends when its database stops, unless configured otherwise. The hook does not prevent that,
/// though its reading may be the first to notice. The next start loads the leases.
fn does_not_keep_kea_from_ending_without_its_database(kind: Kind) {
    for multi_threading in [false, true] {
        let mut database = Database::start(kind);
        let mut kea = with_frequent_resync()
            .multi_threading(multi_threading)
            .lease_database(&database)
            .set("lease-database", database.access())
            .start();
        let mut client = Client::new(1);
        kea.relay(0).lease(&mut client);
        let before = kea.await_active(&client);
        let start = now();
        eventually("two seconds", || now() >= start + 2);
        database.stop();
        let status = kea.await_end();
        assert_eq!(status.signal(), None, "{}", kea.log());
        database.start_again();
        kea.start_again();
        assert_eq!(since(&kea.await_active(&client)), since(&before));
    }
}

/// A reload starts a resync, independently of the interval.
fn finds_changes_in_the_database_at_a_reload(kind: Kind) {
    let database = Database::start(kind);
    let kea = Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 0 } }))
        .lease_database(&database)
        .start();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    let start = now();
    let added = kea.place().address(150);
    database.delete_lease(address);
    database.insert_leases(&[StoredLease::new(added, [2, 0, 0, 0, 0, 9], start)]);
    kea.command_ok("config-reload", Value::Null);
    for (address, state) in [(address, State::RESET), (added, State::ACTIVE)] {
        let binding = kea.await_state(address, state);
        assert!((start..=now()).contains(&since(&binding)), "{binding:?}");
    }
}

/// RFC 2131, section 3.3: a lease may be infinite; databases represent it in their own way.
fn reports_infinite_leases(kind: Kind) {
    let database = Database::start(kind);
    let mut kea = with_frequent_resync()
        .set("valid-lifetime", json!(u32::MAX))
        .lease_database(&database)
        .start();
    let mut client = Client::new(1);
    let start = now();
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    kea.restart();
    let binding = kea.await_active(&client);
    assert_eq!(binding.lease_time, Some(u32::MAX));
    let transaction = binding.client_last_transaction_at().map(u64::from);
    assert!(transaction.is_some_and(|transaction| (start..=now()).contains(&transaction)));
}

/// The contract: configured addresses include reserved ones, wherever the reservations are.
fn finds_addresses_reserved_in_a_database(kind: Kind) {
    let database = Database::start(kind);
    let setup = with_frequent_resync().hosts_database(&database);
    let reserved = setup.place.address(50);
    database.reserve(1, &[(&[2, 0, 0, 0, 0, 1], reserved)]);
    let kea = setup.start();
    kea.await_state(reserved, State::AVAILABLE);
    let mut client = Client::new(1);
    assert_eq!(kea.relay(0).lease(&mut client).yiaddr, reserved);
    kea.await_active(&client);
}

/// The contract: configured addresses follow the reservations, with the time at which these were
/// found.
fn follows_reservations_in_a_database(kind: Kind) {
    /// More than one page holds.
    const COUNT: u32 = 550;
    let database = Database::start(kind);
    let kea = with_frequent_resync()
        .hosts_database(&database)
        .subnets(json!([{ "id": 1, "subnet": "10.0.0.0/16" }]))
        .start();
    assert_eq!(kea.find(Primary::All), []);
    let start = now();
    let hosts: Vec<Ipv4Addr> = (0..COUNT)
        .map(|n| Ipv4Addr::from_bits(0x0a00_0000 + 7 * n))
        .collect();
    let identifiers: Vec<[u8; 6]> = (hosts.iter())
        .map(|host| [2, 0, 0, 0, host.octets()[2], host.octets()[3]])
        .collect();
    let reservations: Vec<(&[u8], Ipv4Addr)> = identifiers
        .iter()
        .map(<[u8; 6]>::as_slice)
        .zip(hosts.iter().copied())
        .collect();
    database.reserve(1, &reservations);
    eventually("all reserved addresses", || {
        addresses(&kea.find(Primary::All)) == hosts
    });
    for binding in kea.find(Primary::All) {
        assert_eq!(binding.state, Some(State::AVAILABLE));
        assert!((start..=now()).contains(&since(&binding)), "{binding:?}");
    }
    database.remove_reservation(hosts[1]);
    eventually("one address less", || {
        addresses(&kea.find(Primary::All)).len() == hosts.len() - 1
    });
    assert_eq!(kea.binding(hosts[1]), None);
}

/// The contract: an option that only the server sends has the value that Kea would send, here from
/// a reservation.
fn returns_options_reserved_in_a_database(kind: Kind) {
    /// Domain Name (RFC 2132, section 3.17).
    const DOMAIN_NAME: u8 = 15;
    let database = Database::start(kind);
    let setup = with_frequent_resync().hosts_database(&database);
    let reserved = setup.place.address(150);
    database.reserve(1, &[(&[2, 0, 0, 0, 0, 1], reserved)]);
    database.reserve_option(reserved, DOMAIN_NAME, "reserved.example");
    let kea = setup.start();
    let mut client = Client::new(1).asking_for(&[DOMAIN_NAME]);
    let ack = kea.relay(0).lease(&mut client);
    assert_eq!(ack.yiaddr, reserved);
    assert_eq!(value(&ack, DOMAIN_NAME), b"reserved.example");
    kea.await_active(&client);
    let mut query = Query::new(by_mac(&client));
    query.parameter_request_list = Some(vec![DOMAIN_NAME]);
    eventually("the option reserved", || {
        let bindings = kea.bindings(&query);
        let [binding] = &bindings[..] else {
            panic!("one binding: {bindings:?}")
        };
        binding.options.get(&DOMAIN_NAME).map(Vec::as_slice) == Some(b"reserved.example")
    });
}

/// A subnet from a configuration backend is served without a reconfiguration, and does not count as
/// new after a reload or a restart.
fn finds_subnets_configured_in_a_database(kind: Kind) {
    let database = Database::start(kind);
    let mut kea = with_frequent_resync().config_database(&database).start();
    let pool = [1, 2].map(|host| Ipv4Addr::new(10, 77, 0, host));
    let before = now();
    assert_eq!(kea.binding(pool[0]), None);
    database.configure_subnet(77, "10.77.0.0/24", pool);
    let configured = pool.map(|address| {
        let binding = kea.await_state(address, State::AVAILABLE);
        assert!(since(&binding) >= before);
        binding
    });
    assert_eq!(kea.binding(Ipv4Addr::new(10, 77, 0, 3)), None);
    // Until the flush: half a second, by the contract.
    let start = now();
    eventually("two seconds", || now() >= start + 2);
    for how in 0..3 {
        match how {
            0 => drop(kea.command_ok("config-reload", Value::Null)),
            1 => kea.restart(),
            _ => {
                kea.kill();
                kea.start_again();
            }
        }
        for configured in &configured {
            let binding = kea.await_state(configured.address, State::AVAILABLE);
            assert_eq!(since(&binding), since(configured), "{how}");
        }
    }
    database.remove_subnet(77);
    eventually("the subnet to go", || kea.binding(pool[0]).is_none());
}
