//! What survives, and what becomes of files that cannot be used.

use super::content::{META, VERSION, VERSION_KEY};
use super::*;
use crate::binding::{Binding, State, SubnetId};
use crate::client::{Client, ClientParts};
use crate::mirror::ranges::{
    CommonDigests, Configured, ConfiguredSubnet, FormerSubnet, SubnetView, TimedRange,
};
use crate::time::Lifetime;
use crate::vpn::Vpn;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

fn binding(last: u8) -> Binding {
    Binding {
        address: Ipv4Addr::new(10, 0, 0, last),
        state: State::Released,
        since: Time(500),
        last_transaction: Some(Time(500)),
        lease_start: Time(100),
        lifetime: Lifetime(0),
        subnet: SubnetId(7),
        client: Some(Client::from(&ClientParts {
            htype: 1,
            chaddr: &[2, 0, 0, 0, 0, last],
            relay_agent_information: &[2, 1, last],
            ..ClientParts::default()
        })),
        remote: false,
        noticed: None,
        reserved_until: None,
    }
}

/// What is to be written to store bindings.
fn changes(bindings: &[Binding]) -> Taken {
    let change = |binding: &Binding| (binding.address, Some(binding.clone()));
    bindings.iter().map(change).collect::<Vec<_>>().into()
}

fn batch(bindings: &[Binding]) -> Batch {
    Batch {
        bindings: changes(bindings),
        configured: Some(Configured {
            ranges: vec![TimedRange {
                first: Ipv4Addr::new(10, 0, 0, 1),
                last: Ipv4Addr::new(10, 0, 0, 99),
                vpn: Vpn::Name("blue".into()),
                remote: true,
                since: Time(50),
            }],
            subnets: vec![ConfiguredSubnet {
                id: SubnetId(7),
                first: Ipv4Addr::new(10, 0, 0, 0),
                last: Ipv4Addr::new(10, 0, 0, 255),
                view: Some(SubnetView {
                    vpn: Vpn::Name("blue".into()),
                    digest: u64::MAX,
                }),
            }],
            former_subnets: vec![FormerSubnet {
                id: SubnetId(7),
                first: Ipv4Addr::new(10, 0, 1, 0),
                last: Ipv4Addr::new(10, 0, 1, 255),
                vpn: Vpn::Rfc2685([7; 7]),
            }],
            digests: Some(CommonDigests {
                common: 3,
                hosts: u64::MAX,
            }),
        }),
        at: Time(600),
        latest: Some(Time(590)),
        compared_at: Some(Time(580)),
    }
}

/// A directory of the test's own, and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kea-blq.state");
    (directory, path)
}

#[test]
fn reads_what_it_wrote_and_not_what_was_removed() {
    let (_directory, path) = place();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert!(saved.bindings.is_empty() && saved.saved_at.is_none());
    store.write(&batch(&[binding(1), binding(2)])).unwrap();
    store
        .write(&Batch {
            bindings: vec![(Ipv4Addr::new(10, 0, 0, 1), None)].into(),
            at: Time(601),
            ..Batch::default()
        })
        .unwrap();
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, [binding(2)]);
    assert_eq!(Some(saved.configured), batch(&[]).configured);
    assert_eq!(saved.saved_at, Some(Time(601)));
    assert_eq!(saved.latest, Some(Time(590)));
    assert_eq!(saved.compared_at, Some(Time(580)));
}

/// What Kea has stored is written behind the rest, which earlier versions of this library read alone.
#[test]
fn reads_what_kea_has_stored_with_a_lease() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    let stored = Binding {
        client: Some(Client::from(&ClientParts {
            chaddr: &[2, 0, 0, 0, 0, 3],
            relay_agent_information: &[2, 1, 3],
            stored: &[2, 1, 4],
            ..ClientParts::default()
        })),
        ..binding(3)
    };
    let bindings = [binding(1), stored, binding(4)];
    store.write(&batch(&bindings)).unwrap();
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, bindings);
}

#[test]
fn sets_a_file_aside_that_it_cannot_read_and_begins_a_new_one() {
    let good = {
        let (_directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        store.write(&batch(&[binding(1)])).unwrap();
        drop(store);
        std::fs::read(&path).unwrap()
    };
    let truncated = &good[..good.len() / 3];
    let mut damaged = good.clone();
    damaged[200..].fill(0xa5);
    for contents in [
        b"not a state file".as_slice(),
        truncated,
        &damaged,
        &[0; 9000],
    ] {
        let (directory, path) = place();
        std::fs::write(&path, contents).unwrap();
        let (mut store, saved) = Store::open_or_recover(&path);
        assert!(saved.bindings.is_empty());
        store.write(&batch(&[binding(3)])).unwrap();
        let aside = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|found| *found != path)
            .expect("the old file under another name");
        assert_eq!(
            std::fs::metadata(aside).unwrap().len(),
            contents.len() as u64
        );
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings, [binding(3)]);
    }
}

#[test]
fn sets_a_file_of_a_newer_version_aside() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    let transaction = store.open.as_ref().unwrap().database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(VERSION_KEY, VERSION + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(store);
    assert!(matches!(Store::open(&path), Err(StoreError::Unreadable(_))));
    let (store, saved) = Store::open_or_recover(&path);
    assert!(store.is_open() && saved.bindings.is_empty());
}

#[test]
fn goes_without_a_file_that_another_process_uses_and_leaves_it_alone() {
    let (directory, path) = place();
    let (mut first, _) = Store::open(&path).unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Unavailable(_))
    ));
    let (second, _) = Store::open_or_recover(&path);
    assert!(!second.is_open());
    first.write(&batch(&[binding(1)])).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn goes_without_a_file_where_there_can_be_none() {
    let (directory, path) = place();
    for impossible in [
        path.join("below/nothing").as_path(),
        directory.path(),
        Path::new("/proc/kea-blq.state"),
        Path::new("/dev/null"),
    ] {
        let (store, saved) = Store::open_or_recover(impossible);
        assert!(!store.is_open(), "{}", impossible.display());
        assert!(saved.bindings.is_empty() && saved.saved_at.is_none());
    }
    assert!(directory.path().is_dir());
}

#[test]
fn takes_an_empty_file_for_a_new_one() {
    let (directory, path) = place();
    std::fs::write(&path, b"").unwrap();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert!(saved.bindings.is_empty() && saved.saved_at.is_none());
    store.write(&batch(&[binding(1)])).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn never_replaces_a_file_set_aside_earlier() {
    let (directory, path) = place();
    for count in 1..=3 {
        std::fs::write(&path, b"not a state file").unwrap();
        assert!(Store::open_or_recover(&path).0.is_open());
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            count + 1
        );
    }
}

#[test]
fn keeps_the_file_from_users_outside_its_group() {
    let (_directory, path) = place();
    let (_store, _) = Store::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7137, 0, "{mode:o}");
}

#[test]
fn goes_on_with_the_same_file_after_a_failed_write() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    assert!(store.write(&batch(&[binding(2)])).is_err());
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
    store.write(&batch(&[binding(2)])).unwrap();
    drop(store);
    let (_, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, [binding(1), binding(2)]);
}

#[test]
fn tells_when_the_file_is_another_one_after_a_failed_write() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    std::fs::write(&path, b"not a state file").unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    store.write(&batch(&[binding(1)])).unwrap();
}

#[test]
fn checks_a_file_again_that_changed_while_it_was_closed() {
    for place_in_file in [100, 5_000, 20_000, 40_000] {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let bindings: Vec<Binding> = (1..=200).map(binding).collect();
        store.write(&batch(&bindings)).unwrap();
        store.close();
        let mut octets = std::fs::read(&path).unwrap();
        octets[place_in_file..place_in_file + 2_000].fill(0xa5);
        std::fs::write(&path, octets).unwrap();
        let reopened = store.reopen().unwrap();
        let set_aside = std::fs::read_dir(directory.path()).unwrap().count() == 2;
        assert_eq!(reopened == Reopened::Replaced, set_aside);
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings.is_empty(), set_aside);
        assert!(set_aside || saved.bindings == bindings);
    }
}

#[test]
fn does_not_go_on_with_an_older_copy_of_the_file() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    let copy = std::fs::read(&path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
    // In the same second.
    store.write(&batch(&[binding(2)])).unwrap();
    store.close();
    std::fs::write(&path, copy).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

/// A file of some transactions, with entries in its log.
fn good_file() -> Vec<u8> {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    for part in [1..=99, 1..=20, 30..=40] {
        let bindings: Vec<Binding> = part.map(binding).collect();
        store.write(&batch(&bindings)).unwrap();
    }
    drop(store);
    std::fs::read(&path).unwrap()
}

/// Checks that a file with these contents is read as what was written, or is set aside as it is.
fn check_damaged(contents: &[u8]) {
    let (directory, path) = place();
    std::fs::write(&path, contents).unwrap();
    let (store, saved) = Store::open_or_recover(&path);
    assert!(store.is_open());
    let expected: Vec<Binding> = (1..=99).map(binding).collect();
    if saved.bindings == expected {
        return;
    }
    assert!(saved.bindings.is_empty() && saved.configured == Configured::default());
    let is_aside = |entry: &std::io::Result<std::fs::DirEntry>| {
        let other = entry.as_ref().unwrap().path();
        other != path && std::fs::read(other).unwrap() == contents
    };
    // An empty file has nothing to keep.
    assert!(
        contents.is_empty()
            || directory
                .path()
                .read_dir()
                .unwrap()
                .any(|entry| is_aside(&entry))
    );
}

#[test]
fn never_believes_a_damaged_header() {
    let good = good_file();
    for place in 0..400 {
        let mut damaged = good.clone();
        damaged[place] ^= 1 << (place % 8);
        check_damaged(&damaged);
    }
}

#[test]
fn never_believes_a_truncated_file() {
    let good = good_file();
    for length in (0..good.len()).step_by(499) {
        check_damaged(&good[..length]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens to the file, what is read from it is what was written at one time, or
    /// it is set aside.
    #[test]
    fn never_believes_a_damaged_file(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..20),
        length in proptest::option::of(any::<Index>()),
    ) {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let versions: Vec<Vec<Binding>> = [1, 2]
            .map(|since| {
                let changed = |last| Binding { since: Time(since), ..binding(last) };
                (1..=99).map(changed).collect()
            })
            .into();
        for version in &versions {
            store.write(&batch(version)).unwrap();
        }
        drop(store);
        let mut octets = std::fs::read(&path).unwrap();
        for (place, octet) in damage {
            *place.get_mut(&mut octets) = octet;
        }
        if let Some(length) = length {
            octets.truncate(length.index(octets.len()));
        }
        std::fs::write(&path, octets).unwrap();
        let (store, saved) = Store::open_or_recover(&path);
        prop_assert!(store.is_open());
        let set_aside = std::fs::read_dir(directory.path()).unwrap().count() == 2;
        prop_assert!(saved.bindings.is_empty() || versions.contains(&saved.bindings));
        prop_assert!(set_aside || !saved.bindings.is_empty() || saved.saved_at.is_none());
    }

    /// Whatever is written in whatever way, and however the file is closed and opened in between,
    /// it holds what was written last.
    #[test]
    fn holds_what_was_written_last(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec((any::<u8>(), any::<bool>()), 0..30),
                proptest::collection::vec(any::<u8>(), 0..10),
                0..4,
            ),
            1..40,
        ),
    ) {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let mut expected = BTreeMap::new();
        for (at, (changed, rest, then)) in (1..).zip(steps) {
            let changed_now = |last| Binding { since: Time(at), ..binding(last) };
            let changed: BTreeMap<u8, bool> = changed.into_iter().collect();
            let rest: BTreeSet<u8> = rest.into_iter().collect();
            let unwritten = |last: u8, is_there: bool| {
                let change = changed_now(last);
                (change.address, is_there.then_some(change))
            };
            let batch = Batch {
                bindings: Taken {
                    changed: changed.iter().map(|(last, is)| unwritten(*last, *is)).collect(),
                    rest: rest.iter().map(|last| unwritten(*last, true)).collect(),
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
                _ => {}
            }
        }
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        prop_assert_eq!(saved.bindings, expected.into_values().collect::<Vec<_>>());
        prop_assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
