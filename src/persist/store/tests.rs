//! What survives, and what becomes of files that cannot be used.

use super::*;
use crate::mirror::ranges::{
    CommonDigests, ConfiguredSubnet, FormerSubnet, SavedView, SubnetView, TimedRange,
};
use crate::model::binding::{Binding, SubnetId};
use crate::model::client::{Client, ClientParts};
use crate::model::state::State;
use crate::model::time::Lifetime;
use crate::model::vpn::Vpn;
use crate::persist::store::content::{META, VERSION, VERSION_KEY};
use crate::persist::store::file::{MARK, STORE};
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
        learned_at: None,
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
        saved_view: Some(SavedView {
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
        resynced_at: Some(Time(580)),
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
    assert_eq!(Some(saved.saved_view), batch(&[]).saved_view);
    assert_eq!(saved.saved_at, Some(Time(601)));
    assert_eq!(saved.latest, Some(Time(590)));
    assert_eq!(saved.resynced_at, Some(Time(580)));
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
    let mut without_store_mark = good.clone();
    without_store_mark[STORE..STORE + 9].fill(0);
    let of_first_layout = &good[STORE..];
    let mut damaged_of_first_layout = of_first_layout.to_vec();
    damaged_of_first_layout[100..300].fill(0xa5);
    for contents in [
        truncated,
        &damaged,
        &without_store_mark,
        &of_first_layout[..of_first_layout.len() / 3],
        &damaged_of_first_layout,
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

/// Files that are not this library's, or cannot be told from such.
fn foreign() -> Vec<(&'static str, Vec<u8>)> {
    let store_of_others = {
        let (_directory, path) = place();
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            // Names alone are not enough.
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert(VERSION_KEY, VERSION).unwrap();
            let mut bindings = transaction.open_table(BINDINGS).unwrap();
            bindings.insert(1, b"stamp".as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        std::fs::read(&path).unwrap()
    };
    let without_beginning = |mut octets: Vec<u8>| {
        octets[..8].fill(0xa5);
        octets
    };
    vec![
        ("a lease file", b"address,hwaddr,client_id\n".to_vec()),
        ("a configuration", b"{ \"Dhcp4\": {} }\n".to_vec()),
        ("one octet", b"k".to_vec()),
        ("what is much like the mark", b"kea-blq".to_vec()),
        (
            "a text about state files",
            b"kea-blq state files\n".to_vec(),
        ),
        ("zeros", vec![0; 9_000]),
        ("another program's store", store_of_others),
        (
            "the mark of a store",
            good_file()[STORE..STORE + 9].to_vec(),
        ),
        (
            "a state file without its beginning",
            without_beginning(good_file()),
        ),
        (
            "one of the first layout without its beginning",
            without_beginning(good_file()[STORE..].to_vec()),
        ),
    ]
}

/// All files in a directory, with their names and contents, and when they were changed.
fn all(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
            (path.clone(), (std::fs::read(&path).unwrap(), changed))
        })
        .collect()
}

#[test]
fn leaves_a_file_alone_that_is_not_its_own() {
    for (what, contents) in foreign() {
        let (directory, path) = place();
        std::fs::write(&path, &contents).unwrap();
        let before = all(directory.path());
        assert!(
            matches!(check(&path), Err(StoreError::Foreign(_))),
            "{what}"
        );
        assert!(
            matches!(Store::open(&path), Err(StoreError::Foreign(_))),
            "{what}"
        );
        let (mut store, saved) = Store::open_or_recover(&path);
        assert!(!store.is_open() && saved.bindings.is_empty(), "{what}");
        assert!(
            matches!(store.reopen(), Err(StoreError::Foreign(_))),
            "{what}"
        );
        assert!(store.write(&batch(&[binding(1)])).is_err(), "{what}");
        drop(store);
        assert!(
            Preload::begin(&path).unwrap().take(&path).is_none(),
            "{what}"
        );
        assert_eq!(all(directory.path()), before, "{what}");
    }
}

#[test]
fn leaves_what_is_no_file_alone() {
    let (directory, path) = place();
    let pipe = directory.path().join("pipe");
    let socket = directory.path().join("socket");
    let link = directory.path().join("link");
    make_pipe(&pipe);
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::symlink(directory.path(), &link).unwrap();
    for (path, what) in [
        (directory.path(), "directory"),
        (&link, "directory"),
        (&pipe, "pipe"),
        (&socket, "socket"),
        (Path::new("/dev/null"), "device"),
        (Path::new("/dev/zero"), "device"),
    ] {
        let Err(StoreError::Foreign(text)) = check(path) else {
            panic!("{}", path.display())
        };
        assert!(text.contains(what), "{text}");
        assert!(!Store::open_or_recover(path).0.is_open());
        assert!(Preload::begin(path).is_none());
    }
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

/// Makes a named pipe.
fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// A link, symbolic or hard, is what it leads to.
#[test]
fn judges_what_a_link_leads_to() {
    let (directory, path) = place();
    let [soft, hard] = ["soft", "hard"].map(|name| directory.path().join(name));
    std::fs::write(&path, b"address,hwaddr").unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    std::fs::hard_link(&path, &hard).unwrap();
    let before = all(directory.path());
    for link in [&soft, &hard] {
        assert!(matches!(check(link), Err(StoreError::Foreign(_))));
        assert!(!Store::open_or_recover(link).0.is_open());
    }
    assert_eq!(all(directory.path()), before);
    std::fs::remove_file(&path).unwrap();
    // To nothing: the file that it leads to is made.
    let (mut store, _) = Store::open(&soft).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().1.bindings, [binding(1)]);
    // A damaged one is renamed, and not the link.
    std::fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
    assert!(Store::open_or_recover(&soft).0.is_open());
    assert!(soft.is_symlink() && !path.is_symlink());
    assert_eq!(Store::open(&path).unwrap().1.bindings, []);
}

#[test]
fn goes_on_with_a_file_of_the_first_layout() {
    let (directory, path) = place();
    std::fs::write(&path, &good_file()[STORE..]).unwrap();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, (1..=99).map(binding).collect::<Vec<_>>());
    for count in 1..=20 {
        store.write(&batch(&[binding(99 + count)])).unwrap();
        if count % 2 == 0 {
            store.close();
            assert_eq!(store.reopen().unwrap(), Reopened::Continued);
        }
    }
    drop(store);
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings, (1..=119).map(binding).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Whatever a crash leaves of a file that is being made is known as this library's, or empty.
#[test]
fn begins_a_new_file_where_making_one_was_cut_short() {
    let mut page = MARK.to_vec();
    page.resize(STORE, 0);
    for length in (8..=MARK.len()).chain([100, STORE, STORE + 1, STORE + 9_000]) {
        let mut left = page.clone();
        left.resize(length, 0);
        let (_directory, path) = place();
        std::fs::write(&path, left).unwrap();
        check(&path).unwrap();
        let (mut store, saved) = Store::open_or_recover(&path);
        assert!(saved.bindings.is_empty());
        store.write(&batch(&[binding(1)])).unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1.bindings, [binding(1)]);
    }
}

#[test]
fn makes_nothing_to_find_out_whether_a_path_may_be_used() {
    let (directory, path) = place();
    check(&path).unwrap();
    check(&path.join("below")).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    std::fs::write(&path, b"").unwrap();
    let before = all(directory.path());
    check(&path).unwrap();
    assert!(Preload::begin(&path).is_none());
    assert_eq!(all(directory.path()), before);
}

#[test]
fn leaves_a_foreign_file_alone_that_took_the_place_of_its_own() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    let own = directory.path().join("own");
    std::fs::rename(&path, &own).unwrap();
    std::fs::write(&path, b"not a state file").unwrap();
    assert!(store.write(&batch(&[binding(2)])).is_err());
    for _ in 0..2 {
        assert!(matches!(store.reopen(), Err(StoreError::Foreign(_))));
        assert!(!store.is_open());
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"not a state file");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    std::fs::rename(&own, &path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
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
        std::fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
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
    std::fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
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

/// Checks that a file with these contents is read as what was written, or is set aside as it is; or
/// left as it is, if even its beginning is damaged.
fn check_damaged(contents: &[u8]) {
    let (directory, path) = place();
    std::fs::write(&path, contents).unwrap();
    let may_be_foreign = matches!(check(&path), Err(StoreError::Foreign(_)));
    let (store, saved) = Store::open_or_recover(&path);
    assert_eq!(store.is_open(), !may_be_foreign);
    if may_be_foreign {
        assert!(!contents.starts_with(MARK));
        assert_eq!(std::fs::read(&path).unwrap(), contents);
        return;
    }
    let expected: Vec<Binding> = (1..=99).map(binding).collect();
    if saved.bindings == expected {
        return;
    }
    assert!(saved.bindings.is_empty() && saved.saved_view == SavedView::default());
    let is_aside = |entry: &std::io::Result<std::fs::DirEntry>| {
        let other = entry.as_ref().unwrap().path();
        other != path && std::fs::read(other).unwrap() == contents
    };
    // Without the store's part it has nothing to keep.
    assert!(
        contents.len() <= STORE
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
    for place in (0..MARK.len() + 20).chain(STORE..STORE + 400) {
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
        let is_own = octets.is_empty() || octets.starts_with(MARK);
        std::fs::write(&path, octets).unwrap();
        let (store, saved) = Store::open_or_recover(&path);
        prop_assert!(store.is_open() || !is_own);
        if !store.is_open() {
            return Ok(());
        }
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
