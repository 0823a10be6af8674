//! The cost of the state file: `cargo bench --no-default-features --bench state_file`.
//!
//! 1,000,000 bindings of realistic leases, all in the state file. `benches/stores` compares it with
//! other stores.

use std::sync::LazyLock;

use dhcp_blq::mirror::Mirror;
use dhcp_blq::mirror::dirty_set::DirtySet;
use dhcp_blq::mirror::event::{Event, Origin};
use dhcp_blq::model::time::Time;
use dhcp_blq::persist::{Batch, Store};
use divan::Bencher;
use divan::counter::ItemsCount;
use parking_lot::Mutex;
use support::leases::{Leases, Set};
use support::mirror::{filled, renewal};

mod support;

/// Leases in the mirror.
const LEASES: u32 = 1_000_000;

/// A full mirror and its leases.
static FULL: LazyLock<(Mirror, Leases)> = LazyLock::new(|| {
    let leases = Leases::new(Set::Realistic, LEASES, LEASES, Time::now().0);
    (filled(&leases), leases)
});

/// A state file with all bindings.
static SAVED: LazyLock<(tempfile::TempDir, Mutex<Store>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(&directory.path().join("state")).expect("a new file");
    FULL.0.change_dirty_set(DirtySet::add_all);
    flush(&mut store);
    // Enough changes for the longest journal.
    for _ in 0..400 {
        change(1_000);
        flush(&mut store);
    }
    (directory, Mutex::new(store))
});

/// Releases `count` addresses at random, or leases them again once all have been released.
fn change(count: u32) {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let (mirror, leases) = &*FULL;
    let mut next = NEXT.lock();
    for _ in 0..count {
        *next = (*next + 1) % (2 * LEASES);
        let number = (*next).wrapping_mul(7_919) % LEASES;
        let at = Time::now();
        let event = if *next < LEASES {
            Event::Released {
                address: leases.address(number),
                client: None,
                at,
                origin: Origin::Local,
            }
        } else {
            renewal(leases, number, at.0)
        };
        mirror.queue().push(event);
        mirror.catch_up();
    }
}

/// Writes the dirty set to the state file.
fn flush(store: &mut Store) {
    loop {
        let batch = Batch {
            bindings: FULL.0.take_dirty(10_000),
            at: Time::now(),
            ..Batch::default()
        };
        if batch.bindings.is_empty() {
            return;
        }
        store.write(&batch).expect("a writable file");
    }
}

/// The time for which changes and queries wait for the flush.
#[divan::bench(args = [256, 1_000, 10_000])]
fn taking_the_dirty_set(bencher: Bencher<'_, '_>, count: u32) {
    LazyLock::force(&SAVED);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| change(count))
        .bench_local_values(|()| FULL.0.take_dirty(count as usize));
}

#[divan::bench]
fn writing_1_000_changes(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher
        .counter(ItemsCount::new(1_000_u32))
        .with_inputs(|| change(1_000))
        .bench_local_values(|()| flush(&mut SAVED.1.lock()));
}

#[divan::bench(sample_count = 10)]
fn closing_and_reopening(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher.bench_local(|| {
        let mut store = SAVED.1.lock();
        store.close();
        store.reopen().expect("a valid file")
    });
}

#[divan::bench(sample_count = 3)]
fn opening_and_reading(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher.bench_local(|| {
        let mut store = SAVED.1.lock();
        store.close();
        let opened = Store::open(store.path()).expect("a valid file");
        drop(opened.0);
        store.reopen().expect("a valid file");
        opened.1
    });
}

fn main() {
    divan::main();
}
