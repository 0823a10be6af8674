//! The cost of the state file: `cargo bench --no-default-features --bench state_file`.
//!
//! 1,000,000 leases with relay information of 40 octets, all in the state file. `benches/stores`
//! compares it with other stores.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{Event, Lease, LeaseState, Origin};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::persist::{Batch, Store};
use divan::Bencher;
use divan::counter::ItemsCount;
use parking_lot::Mutex;

/// Leases in the mirror.
const LEASES: u32 = 1_000_000;
/// The first address leased.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// A full mirror.
static FULL: LazyLock<Mirror> = LazyLock::new(|| {
    let mut initial_load =
        InitialLoad::begin(KeaConfig::default().into(), Saved::default(), Time(1_000));
    for number in 0..LEASES {
        initial_load.lease(&lease(number, 1_000));
    }
    initial_load.finish()
});

/// A state file that holds all of it.
static SAVED: LazyLock<(tempfile::TempDir, Mutex<Store>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(&directory.path().join("state")).expect("a new file");
    FULL.mark_all_dirty();
    write(&mut store);
    // Enough changes for the log to be as long as it gets.
    for _ in 0..400 {
        change(1_000);
        write(&mut store);
    }
    (directory, Mutex::new(store))
});

/// A lease whose last transaction was at `cltt`.
fn lease(number: u32, cltt: u32) -> Lease {
    let mut information = vec![12, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 28];
    information.extend(format!("line {number:023}").into_bytes());
    Lease {
        address: Ipv4Addr::from_bits(FIRST + number),
        state: LeaseState::Default,
        cltt: Time(cltt),
        valid_lifetime: Lifetime::INFINITE,
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

/// Releases or leases again `count` addresses, here and there.
fn change(count: u32) {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let mut next = NEXT.lock();
    for _ in 0..count {
        *next = (*next + 1) % (2 * LEASES);
        let number = (*next).wrapping_mul(7_919) % LEASES;
        let event = if *next < LEASES {
            Event::Released {
                address: Ipv4Addr::from_bits(FIRST + number),
                client: None,
                at: Time(2_000 + *next),
                origin: Origin::Local,
            }
        } else {
            Event::Committed {
                lease: lease(number, 2_000 + *next),
                client_info: Default::default(),
            }
        };
        FULL.queue().push(event);
        FULL.catch_up();
    }
}

/// Writes all that is not saved.
fn write(store: &mut Store) {
    loop {
        let batch = Batch {
            bindings: FULL.take_dirty(10_000),
            at: Time::now(),
            ..Batch::default()
        };
        if batch.bindings.is_empty() {
            return;
        }
        store.write(&batch).expect("a good disk");
    }
}

/// How long changes and queries wait for the writer.
#[divan::bench(args = [256, 1_000, 10_000])]
fn taking_unsaved(bencher: Bencher<'_, '_>, count: u32) {
    LazyLock::force(&SAVED);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| change(count))
        .bench_local_values(|()| FULL.take_dirty(count as usize));
}

#[divan::bench]
fn writing_1_000_changes(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher
        .counter(ItemsCount::new(1_000_u32))
        .with_inputs(|| change(1_000))
        .bench_local_values(|()| write(&mut SAVED.1.lock()));
}

#[divan::bench(sample_count = 10)]
fn closing_and_reopening(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher.bench_local(|| {
        let mut store = SAVED.1.lock();
        store.close();
        store.reopen().expect("a good file")
    });
}

#[divan::bench(sample_count = 3)]
fn opening_and_reading(bencher: Bencher<'_, '_>) {
    LazyLock::force(&SAVED);
    bencher.bench_local(|| {
        let mut store = SAVED.1.lock();
        store.close();
        let opened = Store::open(store.path()).expect("a good file");
        drop(opened.0);
        store.reopen().expect("a good file");
        opened.1
    });
}

fn main() {
    divan::main();
}
