//! A hundred reloads in a row, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blq::{Primary, Query, StatusCode, Vss};
use kea_tests::ask::{addresses, failure};
use kea_tests::storm::look::{Row, rows};
use kea_tests::storm::plan::Plan;
use kea_tests::storm::traffic::Traffic;
use kea_tests::storm::world::{Variant, World};
use kea_tests::{Kea, Setup, eventually, eventually_some};
use serde_json::{Value, json};

/// How many reloads there are between two comparisons.
const RELOADS: [usize; 3] = [30, 30, 40];

/// How much more memory Kea may have in use after the last reload than after the first
/// comparison, in KiB: a hundred and more for each reload meanwhile would be a leak.
const MEMORY_LEFT: u64 = 8 * 1024;

/// How many more files may be open then: the state file may be or not, and a connection not quite
/// closed; one for each reload would be a leak.
const FILES_LEFT: usize = 8;

/// How many clients there are.
const CLIENTS: usize = 200;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Resident memory, in KiB.
    memory: u64,
    /// Open files.
    files: usize,
}

/// What the server holds.
fn held(kea: &Kea) -> Held {
    let process = format!("/proc/{}", kea.pid());
    let status = fs::read_to_string(format!("{process}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let files = fs::read_dir(format!("{process}/fd")).expect("its files");
    Held {
        memory: memory.expect("VmRSS"),
        files: files.count(),
    }
}

/// A reload while one connection has a query in progress and another none.
fn reload(kea: &Kea) {
    let mut idle = kea.connect();
    let mut connection = kea.connect();
    let query = Query::new(Primary::All);
    connection.send(&query).expect("sent");
    assert!(connection.next_reply().expect("a reply").is_some());
    let reader = thread::spawn(move || {
        let answers = connection.collect_answers();
        (answers, connection.next_message())
    });
    kea.command_ok("config-reload", Value::Null);
    let (answers, end) = reader.join().expect("no panic");
    let done = answers[&query.xid].done.as_ref();
    let done = done.expect("DHCPLEASEQUERYDONE");
    assert_eq!(failure(done).0, StatusCode::QUERY_TERMINATED);
    for end in [end, idle.next_message()] {
        assert!(end.as_ref().is_ok_and(Option::is_none), "{end:?}");
    }
}

/// Kea's leases of a client, by its MAC address.
fn by_mac(rows: &BTreeMap<Ipv4Addr, Row>) -> BTreeMap<&[u8], BTreeSet<Ipv4Addr>> {
    let mut all: BTreeMap<&[u8], BTreeSet<_>> = BTreeMap::new();
    for (address, row) in rows.iter().filter(|(_, row)| row.state == 0) {
        all.entry(&row.identity.mac).or_default().insert(*address);
    }
    all
}

/// Each client's active bindings are the leases Kea holds for it, `known` of the clients ever seen
/// being told of.
fn compare(kea: &Kea, known: &mut BTreeSet<Vec<u8>>) -> usize {
    let before = rows(kea);
    known.extend(before.values().map(|row| row.identity.mac.clone()));
    known.remove(&[][..]);
    let mut connection = eventually_some("the listener", || kea.try_connect().ok());
    let mut found = BTreeMap::new();
    for mac in known.iter() {
        let mut query = Query::new(Primary::Mac {
            htype: 1,
            address: mac.clone(),
        });
        query.vpn = Some(Vss::All);
        let answer = connection.query(&query);
        assert_eq!(answer.done.expect("DHCPLEASEQUERYDONE").failure(), None);
        found.insert(mac, answer.bindings);
    }
    // Leases that end meanwhile may be there or not.
    let after = rows(kea);
    let may = by_mac(&before);
    let must: BTreeMap<_, _> = after
        .iter()
        .filter(|(address, row)| before.get(address) == Some(row))
        .map(|(address, row)| (*address, row.clone()))
        .collect();
    let must = by_mac(&must);
    let mut count = 0;
    for (mac, bindings) in &found {
        let told: BTreeSet<_> = addresses(bindings).into_iter().collect();
        count += told.len();
        let none = BTreeSet::new();
        let may = may.get(&mac[..]).unwrap_or(&none);
        assert!(told.is_subset(may), "{mac:x?}: {told:?} of {may:?}");
        let now = bindings.iter().filter_map(|binding| binding.base_time);
        let now = u64::from(now.max().unwrap_or(u32::MAX));
        for address in must.get(&mac[..]).unwrap_or(&none) {
            let is_held = after[address].ends().is_none_or(|ends| ends > now);
            assert!(told.contains(address) || !is_held, "{mac:x?}: {address}");
        }
    }
    count
}

/// The contract: at each reload queries end with QueryTerminated and connections are closed, not
/// reset; the listener is back, no binding is lost, and nothing is left behind.
#[test]
fn loses_and_leaks_nothing_over_a_hundred_reloads() {
    let setup = Setup::with_hook(json!({})).kea_library("libdhcp_lease_cmds.so", json!({}));
    let place = setup.place;
    let world = World::new(place, &[]);
    // Addresses enough for a query never to be done before the reload.
    let kea = world
        .configure(setup, Variant::FIRST)
        .subnet(
            json!({ "id": 9, "subnet": "10.128.0.0/12", "valid-lifetime": 3600,
            "pools": [{ "pool": "10.128.0.0/12" }],
            "relay": { "ip-addresses": [place.relay(40)] } }),
        )
        .start();
    let mut traffic = Traffic::new(&world, place, CLIENTS);
    let mut plan = Plan::new(7, CLIENTS);
    let mut known = BTreeSet::new();
    let mut measured = Vec::new();
    for reloads in RELOADS {
        let is_disturbed = AtomicBool::new(true);
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                while is_disturbed.load(Ordering::Relaxed) {
                    traffic.run(&plan.round().acts, 32, &is_disturbed);
                }
            });
            for _ in 0..reloads {
                reload(&kea);
            }
            is_disturbed.store(false, Ordering::Relaxed);
            clients.join().expect("no panic");
        });
        traffic.settle();
        let count = compare(&kea, &mut known);
        assert!(count > CLIENTS / 4, "{count} leases are too few to tell");
        measured.push(held(&kea));
    }
    println!(
        "{measured:?}, {} messages, {} answered",
        traffic.sent, traffic.answered
    );
    let [first, .., last] = measured[..] else {
        unreachable!("three measurements were made")
    };
    assert!(last.memory <= first.memory + MEMORY_LEFT, "{measured:?}");
    // The last connection may not be closed on Kea's side yet.
    eventually("no more open files", || {
        held(&kea).files <= first.files + FILES_LEFT
    });
}
