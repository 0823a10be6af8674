//! What survives, and what becomes of files that cannot be used.

use super::*;
use crate::binding::{Client, HardwareAddress, State, SubnetId};
use crate::time::Lifetime;
use crate::vpn::Vpn;
use proptest::prelude::*;
use proptest::sample::Index;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn binding(last: u8) -> Binding {
    Binding {
        address: Ipv4Addr::new(10, 0, 0, last),
        state: State::Released,
        since: Time(500),
        last_transaction: Some(Time(500)),
        lease_start: Time(100),
        lifetime: Lifetime(0),
        subnet: SubnetId(7),
        client: Some(Arc::new(Client {
            hardware: HardwareAddress {
                htype: 1,
                octets: vec![2, 0, 0, 0, 0, last],
            },
            relay_agent_information: vec![2, 1, last],
            ..Client::default()
        })),
        learned: None,
        reserved_until: None,
    }
}

fn batch(bindings: &[Binding]) -> Batch {
    Batch {
        bindings: bindings
            .iter()
            .map(|binding| (binding.address, Some(binding.clone())))
            .collect(),
        ranges: Some(vec![TimedRange {
            first: Ipv4Addr::new(10, 0, 0, 1),
            last: Ipv4Addr::new(10, 0, 0, 99),
            vpn: Vpn::Name("blue".into()),
            remote: true,
            configured: Time(40),
            since: Time(50),
        }]),
        at: Time(600),
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
            bindings: vec![(Ipv4Addr::new(10, 0, 0, 1), None)],
            ranges: None,
            at: Time(601),
        })
        .unwrap();
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, [binding(2)]);
    assert_eq!(Some(saved.ranges), batch(&[]).ranges);
    assert_eq!(saved.saved_at, Some(Time(601)));
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
        let (store, saved) = Store::open_or_recover(&path);
        assert!(saved.bindings.is_empty());
        store.unwrap().write(&batch(&[binding(3)])).unwrap();
        let aside = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|found| *found != path)
            .expect("the old file under another name");
        assert_eq!(
            std::fs::metadata(aside).unwrap().len(),
            contents.len() as u64
        );
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings, [binding(3)]);
    }
}

#[test]
fn sets_a_file_of_a_newer_version_aside() {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    let transaction = store.database.as_ref().unwrap().begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(VERSION_KEY, VERSION + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(store);
    assert!(matches!(Store::open(&path), Err(StoreError::Unreadable(_))));
    let (store, saved) = Store::open_or_recover(&path);
    assert!(store.is_some() && saved.bindings.is_empty());
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
    assert!(second.is_none());
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
        assert!(store.is_none(), "{}", impossible.display());
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
        assert!(Store::open_or_recover(&path).0.is_some());
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
        prop_assert!(store.is_some());
        let set_aside = std::fs::read_dir(directory.path()).unwrap().count() == 2;
        prop_assert!(saved.bindings.is_empty() || versions.contains(&saved.bindings));
        prop_assert!(set_aside || !saved.bindings.is_empty() || saved.saved_at.is_none());
    }
}
