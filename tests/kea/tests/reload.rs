//! A hundred consecutive reloads under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use blq::{Primary, Query, StatusCode, Vss};
use kea_tests::ask::{addresses, failure};
use kea_tests::storm::observation::{KeaLease, kea_leases};
use kea_tests::storm::plan::Plan;
use kea_tests::storm::topology::{Topology, Variant};
use kea_tests::storm::traffic::Traffic;
use kea_tests::{Kea, Setup, eventually, eventually_some};
use serde_json::{Value, json};

/// Number of reloads between two comparisons.
const RELOADS: [usize; 3] = [30, 30, 40];

/// The highest growth of Kea's resident memory from the first comparison to the last, in KiB. A
/// leak of a hundred KiB for each reload would exceed it.
const MEMORY_LEFT: u64 = 8 * 1024;

/// The highest growth of the number of open files. The state file may or may not be open, and a
/// connection may be closing; a leak of one file for each reload would exceed it.
const FILES_LEFT: usize = 8;

/// Number of clients.
const CLIENTS: usize = 200;

/// Resources of a process.
#[derive(Debug, Clone, Copy)]
struct Resources {
    /// Resident memory, in KiB.
    memory: u64,
    /// Open files.
    files: usize,
}

/// Returns the resources of the server.
fn resources(kea: &Kea) -> Resources {
    let process = format!("/proc/{}", kea.pid());
    let status = fs::read_to_string(format!("{process}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let files = fs::read_dir(format!("{process}/fd")).expect("its files");
    Resources {
        memory: memory.expect("VmRSS"),
        files: files.count(),
    }
}

/// Reloads while one connection has a query in progress and another has none.
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

/// Returns the addresses of each client's leases in Kea, by MAC address.
fn by_mac(leases: &BTreeMap<Ipv4Addr, KeaLease>) -> BTreeMap<&[u8], BTreeSet<Ipv4Addr>> {
    let mut all: BTreeMap<&[u8], BTreeSet<_>> = BTreeMap::new();
    for (address, lease) in leases.iter().filter(|(_, lease)| lease.state == 0) {
        all.entry(&lease.identity.mac).or_default().insert(*address);
    }
    all
}

/// Checks that each client's active bindings are the leases that Kea holds for it. `known` are the
/// clients seen so far. Returns the number of active bindings.
fn compare(kea: &Kea, known: &mut BTreeSet<Vec<u8>>) -> usize {
    let before = kea_leases(kea);
    known.extend(before.values().map(|lease| lease.identity.mac.clone()));
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
    // Leases that end during the comparison may be found or not.
    let after = kea_leases(kea);
    let may = by_mac(&before);
    let must: BTreeMap<_, _> = after
        .iter()
        .filter(|(address, lease)| before.get(address) == Some(lease))
        .map(|(address, lease)| (*address, lease.clone()))
        .collect();
    let must = by_mac(&must);
    let mut count = 0;
    for (mac, bindings) in &found {
        let found_addresses: BTreeSet<_> = addresses(bindings).into_iter().collect();
        count += found_addresses.len();
        let none = BTreeSet::new();
        let may = may.get(&mac[..]).unwrap_or(&none);
        assert!(
            found_addresses.is_subset(may),
            "{mac:x?}: {found_addresses:?} of {may:?}"
        );
        let now = bindings.iter().filter_map(|binding| binding.base_time);
        let now = u64::from(now.max().unwrap_or(u32::MAX));
        for address in must.get(&mac[..]).unwrap_or(&none) {
            let is_held = after[address].ends().is_none_or(|ends| ends > now);
            assert!(
                found_addresses.contains(address) || !is_held,
                "{mac:x?}: {address}"
            );
        }
    }
    count
}

/// The contract: at each reload queries end with QueryTerminated and connections are closed, not
/// reset. The listener returns, no binding is lost and no resource leaks.
#[test]
fn loses_and_leaks_nothing_over_a_hundred_reloads() {
    let setup = Setup::with_hook(json!({})).kea_library("libdhcp_lease_cmds.so", json!({}));
    let place = setup.place;
    let topology = Topology::new(place, &[]);
    // Enough addresses that a query is not complete before the reload.
    let kea = topology
        .configure(setup, Variant::FIRST)
        .subnet(
            json!({ "id": 9, "subnet": "10.128.0.0/12", "valid-lifetime": 3600,
            "pools": [{ "pool": "10.128.0.0/12" }],
            "relay": { "ip-addresses": [place.relay(40)] } }),
        )
        .start();
    let mut traffic = Traffic::new(&topology, place, CLIENTS);
    let mut plan = Plan::new(7, CLIENTS);
    let mut known = BTreeSet::new();
    let mut measured = Vec::new();
    for reloads in RELOADS {
        let is_disturbed = AtomicBool::new(true);
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                while is_disturbed.load(Ordering::Relaxed) {
                    traffic.run(&plan.round().actions, 32, &is_disturbed);
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
        assert!(count > CLIENTS / 4, "{count} leases are too few");
        measured.push(resources(&kea));
    }
    println!(
        "{measured:?}, {} messages, {} answered",
        traffic.sent, traffic.answered
    );
    let [first, .., last] = measured[..] else {
        unreachable!("three measurements were made")
    };
    assert!(last.memory <= first.memory + MEMORY_LEFT, "{measured:?}");
    // Kea may not have closed the last connection yet.
    eventually("no more open files", || {
        resources(&kea).files <= first.files + FILES_LEFT
    });
}
