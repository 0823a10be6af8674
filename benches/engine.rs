//! What the engine costs without sockets and without Kea: `cargo bench --no-default-features`.
//!
//! 1,000,000 leases with relay information of 40 octets, ten relays of 100,000 leases each.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use blq::{Message, Primary, Query};
use dhcp_blq::binding::{HardwareAddress, SubnetId};
use dhcp_blq::event::{Event, Heard, Lease, LeaseState};
use dhcp_blq::mirror::{Loading, Mirror, Saved};
use dhcp_blq::network::Network;
use dhcp_blq::query::engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester};
use dhcp_blq::time::{Lifetime, Time};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Leases in the mirror.
const LEASES: u32 = 1_000_000;
/// Leases behind each relay.
const PER_RELAY: u32 = 100_000;
/// The first address leased.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// An engine over a full mirror, when that was filled, and the mirror.
static FULL: LazyLock<(LeaseEngine, u32, Arc<Mirror>)> = LazyLock::new(|| {
    let now = Time::now().0;
    let mirror = Arc::new(load(now));
    (LeaseEngine::new(Arc::clone(&mirror), None), now, mirror)
});

/// A lease, last heard of at `cltt`.
fn lease(number: u32, cltt: u32) -> Lease {
    let relay = u8::try_from(number / PER_RELAY).unwrap_or(u8::MAX);
    let mut information = vec![12, 8, 0, 0, 0, 0, 0, 0, 0, relay, 2, 28];
    information.extend(format!("line {number:023}").into_bytes());
    Lease {
        address: Ipv4Addr::from_bits(FIRST + number),
        state: LeaseState::Default,
        cltt: Time(cltt),
        valid_lifetime: Lifetime(86_400),
        subnet: SubnetId(1),
        hardware: HardwareAddress {
            htype: 1,
            octets: [&[2, 0], &number.to_be_bytes()[..]].concat(),
        },
        client_id: [&[1, 2, 0], &number.to_be_bytes()[..]].concat(),
        hostname: Vec::new(),
        relay_agent_information: Some(information),
    }
}

/// Loads the mirror as at start-up.
fn load(now: u32) -> Mirror {
    let configuration = r#"{ "Dhcp4": { "subnet4": [
        { "id": 1, "subnet": "10.0.0.0/8", "pools": [ { "pool": "10.0.0.0/8" } ] } ] } }"#;
    let network = Network::from_json(configuration, Vec::new()).expect("a good configuration");
    let mut loading = Loading::begin(Arc::new(network), Saved::default(), Time::now());
    for number in 0..LEASES {
        loading.lease(&lease(number, now - 1_000 - number % 10_000));
    }
    loading.finish()
}

/// Answers a query and counts its octets.
fn answer(engine: &LeaseEngine, message: &Message, out: &mut Vec<u8>) -> usize {
    let requester = Requester {
        peer: Ipv4Addr::LOCALHOST,
        local: Ipv4Addr::LOCALHOST,
        allowed: QueryTypes::ALL,
    };
    let Ok(mut answer) = engine.open(&message.encode(), &requester) else {
        return 0;
    };
    let mut octets = 0;
    loop {
        out.clear();
        let progress = engine.write(&mut answer, out, 64 * 1024);
        octets += out.len();
        if progress == Progress::Done {
            return octets;
        }
    }
}

/// Benches a query that returns `bindings`.
fn bench_query(bencher: Bencher<'_, '_>, query: &Query, bindings: u32) {
    let message = query.to_message().expect("a good query");
    let engine = &FULL.0;
    let mut out = Vec::with_capacity(128 * 1024);
    bencher
        .counter(ItemsCount::new(bindings))
        .bench_local(|| answer(engine, &message, &mut out));
}

#[divan::bench]
fn relay_id_returning_100_000(bencher: Bencher<'_, '_>) {
    let query = Query::new(Primary::RelayId(vec![0, 0, 0, 0, 0, 0, 0, 3]));
    bench_query(bencher, &query, PER_RELAY);
}

#[divan::bench(sample_count = 3)]
fn all_of_16_777_216(bencher: Bencher<'_, '_>) {
    bench_query(bencher, &Query::new(Primary::All), 1 << 24);
}

#[divan::bench]
fn one_by_remote_id(bencher: Bencher<'_, '_>) {
    let query = Query::new(Primary::RemoteId(b"line 00000000000000000123456".to_vec()));
    bench_query(bencher, &query, 1);
}

#[divan::bench]
fn delta_returning_about_100(bencher: Bencher<'_, '_>) {
    // The last second in which leases were heard of before the mirror was filled.
    let last = FULL.1 - 1_000;
    let query = Query {
        start: Some(last),
        end: Some(last),
        ..Query::new(Primary::All)
    };
    bench_query(bencher, &query, 100);
}

#[divan::bench]
fn applying_a_renewal(bencher: Bencher<'_, '_>) {
    let mirror = &FULL.2;
    let mut number = 0;
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            number = (number + 7_919) % LEASES;
            lease(number, Time::now().0)
        })
        .bench_local_values(|lease| {
            let heard = Heard {
                relay_agent_information: lease.relay_agent_information.clone(),
                ..Heard::default()
            };
            mirror.feed().push(Event::Committed { lease, heard });
            mirror.catch_up();
        });
}

#[divan::bench(sample_count = 2)]
fn loading_1_000_000(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(LEASES))
        .bench_local(|| load(Time::now().0));
}

fn main() {
    divan::main();
}
