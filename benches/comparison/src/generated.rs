//! Tests of the generated leases and of the queries for them.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use blq::Primary;

use crate::support::leases::{Change, Client, Fate, Leases, RemoteId, Set};
use crate::support::queries::{By, Expected, RECENT, Recent};

/// A time long after 1970.
const NOW: u32 = 1_700_000_000;

/// The share of the leases that satisfy a condition.
fn share(leases: &Leases, is_counted: impl Fn(u32) -> bool) -> f64 {
    let counted = (0..leases.count).filter(|number| is_counted(*number));
    counted.count() as f64 / f64::from(leases.count)
}

#[test]
fn gives_each_lease_an_address_of_a_pool() {
    for (set, count, pool) in [
        (Set::Realistic, 10_000, 16_000_000),
        (Set::Realistic, 10_000, 10_000),
        (Set::Realistic, 40_000, 51_000),
        (Set::Uniform, 10_000, 16_000_000),
        (Set::Uniform, 30_000, 70_000),
    ] {
        let leases = Leases::new(set, count, pool, NOW);
        let addresses: Vec<u32> = (0..count)
            .map(|number| leases.address(number).to_bits())
            .collect();
        assert!(addresses.is_sorted_by(|a, b| a < b), "{leases:?}");
        let bits = |address: &str| address.parse::<Ipv4Addr>().unwrap().to_bits();
        let subnets = leases.subnets();
        for (number, address) in (0..count).zip(addresses) {
            let subnet = &subnets[leases.subnet_index(number) as usize];
            let pool = subnet["pools"][0]["pool"].as_str().unwrap();
            let (first, last) = pool.split_once(" - ").unwrap();
            let pool = bits(first)..=bits(last);
            assert!(pool.contains(&address), "{leases:?}: {number}");
        }
    }
}

#[test]
fn changes_each_lease_once_in_random_order_and_in_the_order_of_time() {
    for count in [1_000, 70_000] {
        let leases = Leases::new(Set::Realistic, count, count, NOW);
        let changes: Vec<Change> = leases.changes(0..count).collect();
        let numbers: HashSet<u32> = changes.iter().map(|change| change.number).collect();
        assert_eq!(numbers.len(), count as usize);
        assert!(numbers.iter().all(|number| *number < count));
        assert!(!changes.is_sorted_by_key(|change| change.number));
        assert!(changes.is_sorted_by_key(|change| change.at));
        let last = changes.last().map(|change| change.at);
        assert_eq!(last, Some(leases.last_change()));
        assert!(changes[0].at > leases.loaded_at());
    }
}

#[test]
fn has_the_promised_shares() {
    let leases = Leases::new(Set::Realistic, 100_000, 100_000, NOW);
    let near = |share: f64, expected: f64| (share - expected).abs() < 0.01;
    assert!(near(
        share(&leases, |n| leases.fate(n).is_active()),
        2.0 / 3.0
    ));
    assert!(near(share(&leases, |n| leases.relay(n) == 3), 0.2));
    assert!(near(share(&leases, |n| leases.is_in_default_vpn(n)), 0.75));
    let without = |n| leases.client(n).client_id.is_empty();
    assert!(near(share(&leases, without), 0.1));
    let duid = |n| leases.client(n).client_id.first() == Some(&255);
    assert!(near(share(&leases, duid), 0.4));
    let node = |n| leases.remote_id(n) == RemoteId::Node;
    assert!(near(share(&leases, node), 0.2));
}

#[test]
fn gives_clients_identifiers_of_their_own_and_of_different_lengths() {
    let leases = Leases::new(Set::Realistic, 20_000, 20_000, NOW);
    let all = (0..leases.count).flat_map(|n| [leases.client(n), leases.first_client(n)]);
    let all: Vec<Client> = all.collect();
    let macs: HashSet<&[u8]> = all.iter().map(|client| &client.mac[..]).collect();
    let replaced = (0..leases.count).filter(|n| leases.fate(*n) == Fate::Replaced);
    assert_eq!(macs.len(), leases.count as usize + replaced.count());
    let lengths = |of: fn(&Client) -> &[u8]| {
        let lengths: HashSet<usize> = all.iter().map(|client| of(client).len()).collect();
        lengths.len()
    };
    assert!(lengths(|client| &client.client_id) >= 4);
    assert!(lengths(|client| &client.hostname) >= 20);
    assert!(lengths(|client| &client.remote_id) >= 10);
    assert!(lengths(|client| &client.relay_id) >= 3);
    let longest = all
        .iter()
        .map(|client| client.relay_agent_information().len());
    assert!(longest.max() < Some(256), "it fits an option");
    assert_eq!(
        leases.client(7).mac,
        leases.client(7).mac,
        "the seed is fixed"
    );
}

#[test]
fn asks_for_as_many_recent_changes_as_wanted_or_a_few_more() {
    for set in Set::ALL {
        let leases = Leases::new(set, 200_000, 3_200_000, 1_700_000_000);
        for recent in Recent::ALL.into_iter().filter(|one| one.is_in(&leases)) {
            let Expected { query, bindings } = leases.recent_query(recent, RECENT);
            assert!(
                (RECENT..RECENT + 40).contains(&bindings),
                "{recent:?}: {bindings}"
            );
            let (start, end) = (query.start.unwrap(), query.end.unwrap());
            let window = start..=end;
            let changes = leases.changes(0..leases.count);
            let inside = changes.filter(|change| {
                window.contains(&change.at) && leases.is_returned(recent, change.number)
            });
            assert_eq!(inside.count() as u32, bindings, "{recent:?}");
        }
    }
}

#[test]
fn queries_single_leases_by_identifiers_that_they_have() {
    let leases = Leases::new(Set::Realistic, 5_000, 5_000, 1_700_000_000);
    for by in By::ALL {
        for index in 0..1_000 {
            let is_empty = match leases.one(index, by).primary {
                Primary::Mac { address, .. } => address.is_empty(),
                Primary::ClientId(id) | Primary::RemoteId(id) => id.is_empty(),
                Primary::RelayId(_) | Primary::All => true,
            };
            assert!(!is_empty, "{by:?}");
        }
    }
}
