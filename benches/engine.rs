//! The cost of answering queries and of applying events, without sockets and without Kea:
//! `cargo bench --no-default-features --bench engine`.
//!
//! 1,000,000 leases of each set.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use blq::{Message, Primary, Query};
use dhcp_blq::mirror::Mirror;
use dhcp_blq::model::time::Time;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester, Security};
use divan::Bencher;
use divan::counter::ItemsCount;
use support::leases::{Leases, Set};
use support::mirror::{churn, filled, load, renewal};
use support::queries::{By, Expected, RECENT, Recent};

mod support;

/// Leases in a mirror.
const LEASES: u32 = 1_000_000;

/// A mirror of a set.
struct Full {
    /// The leases.
    leases: Leases,
    /// The engine.
    engine: LeaseEngine,
    /// The mirror.
    mirror: Arc<Mirror>,
}

impl Full {
    /// A mirror of a set after the churn.
    fn new(set: Set) -> Full {
        let leases = leases(set);
        let mirror = Arc::new(filled(&leases));
        Full {
            leases,
            engine: LeaseEngine::new(Arc::clone(&mirror), None),
            mirror,
        }
    }

    /// The mirror of a set, filled at its first use.
    fn of(set: Set) -> &'static Full {
        static REALISTIC: LazyLock<Full> = LazyLock::new(|| Full::new(Set::Realistic));
        static UNIFORM: LazyLock<Full> = LazyLock::new(|| Full::new(Set::Uniform));
        match set {
            Set::Realistic => &REALISTIC,
            Set::Uniform => &UNIFORM,
        }
    }
}

/// The leases of a set.
fn leases(set: Set) -> Leases {
    Leases::new(set, LEASES, 16_000_000, Time::now().0)
}

/// Answers a query, a chunk at a time.
fn answer(engine: &LeaseEngine, message: &Message, mut take: impl FnMut(&mut Vec<u8>)) {
    let requester = Requester {
        peer: Ipv4Addr::LOCALHOST,
        local: Ipv4Addr::LOCALHOST,
        allowed: QueryTypes::ALL,
        security: Security::Plain,
    };
    let opened = engine.open(&message.encode(), &requester);
    let Ok(mut answer) = opened else {
        panic!("a query is refused")
    };
    let mut out = Vec::with_capacity(128 * 1024);
    loop {
        let progress = engine.write(&mut answer, &mut out, 64 * 1024);
        take(&mut out);
        out.clear();
        if progress == Progress::Done {
            return;
        }
    }
}

/// The frames of an answer.
fn frames(engine: &LeaseEngine, message: &Message) -> u32 {
    let mut frames = 0;
    answer(engine, message, |out| {
        let mut rest = &out[..];
        while let Some((size, after)) = rest.split_first_chunk() {
            frames += 1;
            rest = &after[usize::from(u16::from_be_bytes(*size))..];
        }
    });
    frames
}

/// Benches a query.
fn bench_query(bencher: Bencher<'_, '_>, set: Set, expected: &Expected) {
    let message = expected.query.to_message().expect("a valid query");
    let engine = &Full::of(set).engine;
    // The DHCPLEASEQUERYDONE comes last.
    let frames = frames(engine, &message) - 1;
    assert_eq!(frames, expected.bindings, "{:?}", expected.query);
    bencher
        .counter(ItemsCount::new(expected.bindings.max(1)))
        .bench_local(|| {
            answer(engine, &message, |out| {
                divan::black_box(out);
            });
        });
}

#[divan::bench(args = Set::ALL)]
fn relay_id_returning_a_tenth(bencher: Bencher<'_, '_>, set: Set) {
    bench_query(bencher, set, &Full::of(set).leases.relay_query());
}

#[divan::bench(args = Set::ALL, sample_count = 3)]
fn all_addresses(bencher: Bencher<'_, '_>, set: Set) {
    bench_query(bencher, set, &Full::of(set).leases.all_query());
}

#[divan::bench(args = Set::ALL)]
fn one_by_remote_id(bencher: Bencher<'_, '_>, set: Set) {
    let expected = Expected {
        query: Full::of(set).leases.one(7, By::RemoteId),
        bindings: 1,
    };
    bench_query(bencher, set, &expected);
}

/// The latest changes among many bindings: the cost of the answer, not of all that the relay agent
/// has.
#[divan::bench(args = Recent::ALL)]
fn recent_changes_returning_834(bencher: Bencher<'_, '_>, recent: Recent) {
    let leases = Full::of(Set::Realistic).leases;
    let expected = leases.recent_query(recent, RECENT);
    bench_query(bencher, Set::Realistic, &expected);
}

/// Changes since a time after the last one: none. All leases end later.
#[divan::bench(args = Set::ALL)]
fn changes_since_the_last_one(bencher: Bencher<'_, '_>, set: Set) {
    let query = Query {
        start: Some(Full::of(set).leases.now + 3_600),
        ..Query::new(Primary::All)
    };
    bench_query(bencher, set, &Expected { query, bindings: 0 });
}

// Last, by its name: renewals change the answers to the queries.
#[divan::bench(args = Set::ALL)]
fn renewal_applied(bencher: Bencher<'_, '_>, set: Set) {
    let Full { leases, mirror, .. } = Full::of(set);
    let mut index = 0;
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            index += 1;
            renewal(leases, leases.scattered(index, |_| true), Time::now().0)
        })
        .bench_local_values(|renewal| {
            mirror.queue().push(renewal);
            mirror.catch_up();
        });
}

#[divan::bench(args = Set::ALL, sample_count = 2, sample_size = 1)]
fn loading_1_000_000(bencher: Bencher<'_, '_>, set: Set) {
    let leases = leases(set);
    bencher
        .counter(ItemsCount::new(LEASES))
        .bench_local(|| load(&leases));
}

/// In a pool of so many addresses: in the smaller one, pages are nearly full.
#[divan::bench(args = [16_000_000, 1_048_576], sample_count = 2, sample_size = 1)]
fn churn_of_1_000_000(bencher: Bencher<'_, '_>, pool: u32) {
    let leases = Leases::new(Set::Realistic, LEASES, pool, Time::now().0);
    bencher
        .counter(ItemsCount::new(LEASES))
        .with_inputs(|| load(&leases).0)
        .bench_local_refs(|mirror| churn(mirror, &leases));
}

fn main() {
    divan::main();
}
