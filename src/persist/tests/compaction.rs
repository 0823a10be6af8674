//! Tests of compaction.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::persist::compaction;

/// Changes the same bindings repeatedly, with compactions in between.
fn churn(store: &mut Store, times: u32) -> Vec<Binding> {
    let mut bindings = Vec::new();
    for since in 1..=times {
        let changed = |last| Binding {
            since: Time(since),
            ..binding(last)
        };
        bindings = (1..=20).map(changed).collect();
        store.write(&batch(&bindings)).unwrap();
        store.compact().unwrap();
    }
    bindings
}

#[test]
fn a_binding_removed_during_a_compaction_stays_removed() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    let bindings = (1..=20).map(binding).collect::<Vec<_>>();
    loop {
        store.write(&batch(&bindings)).unwrap();
        if store.compact().unwrap() {
            break;
        }
    }
    // The first step of the compaction has copied some or all of the bindings.
    for removed in &bindings {
        let batch = Batch {
            bindings: part(vec![(removed.address, None)]),
            ..Batch::default()
        };
        store.write(&batch).unwrap();
    }
    while store.compact().unwrap() {}
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, []);
}

/// A compaction ends even if the transactions appended meanwhile are longer than a step.
#[test]
fn compaction_bounds_the_file() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    let bindings = churn(&mut store, 200);
    let needed: u64 = 20 * 60 + 200;
    let length = fs::metadata(&path).unwrap().len();
    assert!(length < 3 * compaction::threshold(needed), "{length}");
    // The compaction continues after a reopen.
    store.close();
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
    assert!(store.write(&batch(&[])).is_ok());
    drop(store);
    let (_, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, bindings);
    assert_eq!(Some(saved.saved_view), batch(&[]).saved_view);
    assert_eq!(saved.resynced_at, Some(Time(580)));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

/// A file that is only filled needs all of its length.
#[test]
fn a_first_fill_is_not_compacted() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    for part in 0..50 {
        let rest = (1..=5).map(|last| {
            let address = Ipv4Addr::new(10, 0, part, last);
            let filled = Binding {
                address,
                ..binding(last)
            };
            (address, Some(filled))
        });
        let batch = Batch {
            bindings: DirtyPart {
                rest: rest.collect(),
                ..DirtyPart::default()
            },
            ..Batch::default()
        };
        store.write(&batch).unwrap();
        assert!(!store.compact().unwrap());
    }
}

/// The old file stays complete until the new one is.
#[test]
fn an_interrupted_compaction_leaves_no_file_behind() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    let expected = (1..=20).map(binding).collect::<Vec<_>>();
    loop {
        store.write(&batch(&expected)).unwrap();
        if store.compact().unwrap() {
            break;
        }
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 2);
    // The state that a killed process leaves.
    let left = all(directory.path());
    drop(store);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    for (path, (contents, _)) in left {
        fs::write(path, contents).unwrap();
    }
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, expected);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn continues_with_a_file_that_cannot_be_compacted() {
    let (directory, path) = place();
    let foreign = compaction::path(&path);
    fs::write(&foreign, b"address,hwaddr").unwrap();
    let (mut store, _) = Store::open(&path).unwrap();
    let bindings = churn(&mut store, 50);
    assert!(store.is_open());
    assert_eq!(fs::read(&foreign).unwrap(), b"address,hwaddr");
    drop(store);
    let (_, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, bindings);
    assert_eq!(directory.path().read_dir().unwrap().count(), 2);
}

/// Compaction detects damage of a file in use. All its contents are in memory then.
#[test]
fn sets_a_file_aside_that_compaction_finds_damaged() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    churn(&mut store, 2);
    let mut octets = fs::read(&path).unwrap();
    octets[HEADER + 100] ^= 1;
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &octets, 0).unwrap();
    let found = loop {
        store.write(&batch(&[binding(1), binding(2)])).unwrap();
        if let Err(error) = store.compact() {
            break error;
        }
    };
    assert!(matches!(found, StoreError::Unreadable(..)));
    assert!(!store.is_open());
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    assert_eq!(directory.path().read_dir().unwrap().count(), 2);
}

#[test]
fn a_compacted_file_keeps_its_link_and_its_mode() {
    let (directory, path) = place();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (mut store, _) = Store::open(&link).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&path, mode).unwrap();
    let mut longest = 0;
    let mut after = fs::metadata(&path).unwrap();
    while longest <= after.len() {
        longest = after.len();
        churn(&mut store, 1);
        after = fs::metadata(&path).unwrap();
    }
    assert_eq!(after.permissions().mode() & 0o777, 0o600);
    assert!(link.is_symlink() && !path.is_symlink());
    // The file is locked against other processes.
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Unavailable(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The file has the latest bindings after any sequence of transactions, compactions, closes and
    /// opens.
    #[test]
    fn has_the_latest_bindings(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec((any::<u8>(), any::<bool>()), 0..30),
                proptest::collection::vec(any::<u8>(), 0..10),
                0..16,
            ),
            1..80,
        ),
    ) {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let mut expected = BTreeMap::new();
        for (at, (changed, rest, then)) in (1..).zip(steps) {
            let changed_now = |last| Binding { since: Time(at), ..binding(last) };
            let rest: BTreeSet<u8> = rest.into_iter().collect();
            let dirty_binding = |last: u8, is_leased: bool| {
                let change = changed_now(last);
                (change.address, is_leased.then_some(change))
            };
            let batch = Batch {
                bindings: DirtyPart {
                    // One address may change twice.
                    changed: changed.iter().map(|(last, is_leased)| dirty_binding(*last, *is_leased)).collect(),
                    rest: rest.iter().map(|last| dirty_binding(*last, true)).collect(),
                },
                at: Time(at),
                ..Batch::default()
            };
            store.write(&batch).unwrap();
            for (address, binding) in batch.bindings.rest.into_iter().chain(batch.bindings.changed) {
                match binding {
                    Some(binding) => expected.insert(address, binding),
                    None => expected.remove(&address),
                };
            }
            match then {
                0 => {
                    store.close();
                    prop_assert_eq!(store.reopen().unwrap(), Reopened::Continued);
                }
                1 => {
                    drop(store);
                    let (opened, saved) = Store::open(&path).unwrap();
                    store = opened;
                    let expected: Vec<Binding> = expected.values().cloned().collect();
                    prop_assert_eq!(saved.bindings, expected);
                    prop_assert_eq!(saved.saved_at, Some(Time(at)));
                }
                // Most compactions take several steps.
                _ => {
                    store.compact().unwrap();
                }
            }
        }
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        prop_assert_eq!(saved.bindings, expected.into_values().collect::<Vec<_>>());
        prop_assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
