//! The state file of a process that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use dhcp_blq::mirror::dirty_set::DirtyPart;
use dhcp_blq::model::binding::{Binding, SubnetId};
use dhcp_blq::model::client::{Client, ClientParts};
use dhcp_blq::model::state::State;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::persist::{Batch, Store, store};

use super::child::{ChildProcess, address, report};

/// Addresses that are written.
const ADDRESSES: u32 = 5_000;
/// Addresses in one transaction: enough that the file is compacted every few transactions.
const CHANGES: u32 = 3_000;

/// Returns the changes of transaction `at`: scattered addresses, some of them removed.
fn changes(at: u32) -> Vec<(Ipv4Addr, Option<Binding>)> {
    // Pseudo-random numbers that depend on the transaction only (SplitMix64's mixing).
    let number = |index: u32| {
        let mut mixed =
            (u64::from(at) << 32 | u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33) as u32
    };
    let numbers: BTreeSet<u32> = (0..CHANGES)
        .map(|index| number(index) % ADDRESSES)
        .collect();
    numbers
        .into_iter()
        .map(|number| {
            let is_removed = (number + at) % 10 == 0;
            (address(number), (!is_removed).then(|| binding(number, at)))
        })
        .collect()
}

/// Returns binding `number` with a state since `since`.
fn binding(number: u32, since: u32) -> Binding {
    Binding {
        address: address(number),
        state: State::Released,
        since: Time(since),
        last_transaction: Some(Time(since)),
        lease_start: Time(since),
        lifetime: Lifetime(0),
        subnet: SubnetId(1),
        client: Some(Client::from(&ClientParts {
            htype: 1,
            chaddr: &number.to_be_bytes(),
            ..ClientParts::default()
        })),
        remote: false,
        learned_at: None,
        reserved_until: None,
    }
}

/// Writes transactions after the last one in the file until killed. Runs in a child.
pub fn write_without_end(path: &Path) {
    report("opens it");
    let (mut store, saved) = Store::open(path).unwrap();
    let mut at = saved.saved_at.unwrap_or_default().0;
    loop {
        at += 1;
        let batch = Batch {
            bindings: DirtyPart {
                changed: changes(at),
                ..DirtyPart::default()
            },
            at: Time(at),
            ..Batch::default()
        };
        store.write(&batch).unwrap();
        report(&format!("wrote {at}"));
        store.compact().unwrap();
    }
}

/// After `kill -9` the file has all complete transactions and nothing else.
#[test]
fn a_process_killed_at_any_moment_leaves_its_last_transaction_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut expected = BTreeMap::new();
    let mut applied = 0;
    for round in 0..25_u64 {
        let mut child = ChildProcess::run("write without end", &[], &path, 0);
        let mut reported = child.next("wrote");
        // No condition to await: any moment is suitable.
        thread::sleep(Duration::from_micros(round * round * 97 % 40_000));
        child.kill();
        while let Some(last) = child.next("wrote") {
            reported = Some(last);
        }
        let reported: u32 = reported.unwrap().parse().unwrap();
        let (_store, saved) = Store::open(&path).unwrap();
        let at = saved.saved_at.unwrap().0;
        assert!(at == reported || at == reported + 1, "{at} {reported}");
        for at in applied + 1..=at {
            for (address, binding) in changes(at) {
                match binding {
                    Some(binding) => expected.insert(address, binding),
                    None => expected.remove(&address),
                };
            }
        }
        applied = at;
        assert!(saved.bindings.iter().eq(expected.values()), "at {at}");
    }
    // No file was set aside.
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

/// A file whose creation was interrupted is recognised as this library's, or is empty.
#[test]
fn a_file_whose_creation_was_killed_can_be_used() {
    for round in 0..40_u64 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut child = ChildProcess::run("write without end", &[], &path, 0);
        child.next("opens it").unwrap();
        // No condition to await: any moment is suitable.
        thread::sleep(Duration::from_micros(round * 97 % 4_000));
        child.kill();
        store::check(&path).unwrap();
        let (mut store, _) = Store::open_or_recover(&path);
        let batch = Batch {
            bindings: DirtyPart {
                changed: changes(1),
                ..DirtyPart::default()
            },
            ..Batch::default()
        };
        store.write(&batch).unwrap();
    }
}
