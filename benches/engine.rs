//! What the engine costs without sockets and without Kea: `cargo bench --no-default-features`.
//!
//! 1,000,000 leases with relay information of 40 octets, ten relays of 100,000 leases each.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use blq::{Message, Primary, Query};
use dhcp_blq::mirror::Mirror;
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester};
use divan::Bencher;
use divan::counter::ItemsCount;
use leases::PER_RELAY;

#[path = "support/leases.rs"]
mod leases;

/// Leases in the mirror.
const LEASES: u32 = 1_000_000;

/// An engine over a full mirror, when that was filled, and the mirror.
static FULL: LazyLock<(LeaseEngine, u32, Arc<Mirror>)> = LazyLock::new(|| {
    let now = Time::now().0;
    let mirror = Arc::new(leases::load(LEASES, now));
    (LeaseEngine::new(Arc::clone(&mirror), None), now, mirror)
});

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

/// What changed since some time, up to now: nothing yet. All leases end later.
#[divan::bench]
fn delta_without_end(bencher: Bencher<'_, '_>) {
    let query = Query {
        start: Some(FULL.1 + 3_600),
        ..Query::new(Primary::All)
    };
    bench_query(bencher, &query, 1);
}

#[divan::bench]
fn applying_a_renewal(bencher: Bencher<'_, '_>) {
    let mirror = &FULL.2;
    let mut number = 0;
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            number = (number + 7_919) % LEASES;
            leases::renewal(number, Time::now().0)
        })
        .bench_local_values(|renewal| {
            mirror.queue().push(renewal);
            mirror.catch_up();
        });
}

#[divan::bench(sample_count = 2)]
fn loading_1_000_000(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(LEASES))
        .bench_local(|| leases::load(LEASES, Time::now().0));
}

fn main() {
    divan::main();
}
