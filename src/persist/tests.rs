//! Tests of the state file: contents that survive, and files that cannot be used.

mod compaction;
mod damage;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::mirror::dirty_set::{DirtyBinding, DirtyPart};
use crate::mirror::history::SavedHistory;
use crate::mirror::ranges::TimedRange;
use crate::mirror::saved_view::{
    CommonDigests, ConfiguredSubnet, FormerSubnet, SavedView, SubnetView,
};
use crate::model::binding::{Binding, SubnetId};
use crate::model::client::{Client, ClientParts};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::model::vpn::Vpn;
use crate::persist::journal::{HEADER, MARK};
use crate::persist::store::{Reopened, check};
use crate::persist::{Batch, Preload, Store, StoreError};

/// Returns a released binding.
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

/// Returns the part of a batch with these changes.
fn part(changed: Vec<DirtyBinding>) -> DirtyPart {
    DirtyPart {
        changed,
        ..DirtyPart::default()
    }
}

/// Returns the part of a batch that stores bindings.
fn changes(bindings: &[Binding]) -> DirtyPart {
    let change = |binding: &Binding| (binding.address, Some(binding.clone()));
    part(bindings.iter().map(change).collect())
}

/// Returns a batch that stores bindings and a view.
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
        history: Some(SavedHistory {
            since: Time(400),
            lost: vec![(Vpn::Name("blue".into()), Time(550))],
            others_lost: Some(Time(450)),
            hidden: None,
        }),
    }
}

/// Returns a temporary directory and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kea-blq.state");
    (directory, path)
}

#[test]
fn a_written_binding_is_read_and_a_removed_one_is_not() {
    let (_directory, path) = place();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert!(saved.bindings.is_empty() && saved.saved_at.is_none());
    store.write(&batch(&[binding(1), binding(2)])).unwrap();
    store
        .write(&Batch {
            bindings: part(vec![(Ipv4Addr::new(10, 0, 0, 1), None)]),
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
    assert_eq!(saved.history, batch(&[]).history.map(Box::new));
}

#[test]
fn stores_the_relay_agent_information_that_kea_stores_with_a_lease() {
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
fn sets_an_unreadable_file_aside_and_creates_a_new_one() {
    let good = {
        let (_directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        store.write(&batch(&[binding(1)])).unwrap();
        drop(store);
        fs::read(&path).unwrap()
    };
    let truncated = &good[..good.len() / 3];
    let mut damaged = good.clone();
    damaged[100..].fill(0xa5);
    let mut later_version = good.clone();
    later_version[MARK.len()] += 1;
    let mut earlier_version = MARK.to_vec();
    earlier_version.resize(4_096, 0);
    earlier_version.extend(b"redb\x1a\n\xa9\r\n");
    for contents in [truncated, &damaged, &later_version, &earlier_version] {
        let (directory, path) = place();
        fs::write(&path, contents).unwrap();
        let (mut store, saved) = Store::open_or_recover(&path);
        assert!(saved.bindings.is_empty());
        store.write(&batch(&[binding(3)])).unwrap();
        let aside = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|found| *found != path)
            .expect("the old file under another name");
        assert_eq!(fs::read(aside).unwrap(), contents);
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings, [binding(3)]);
    }
}

/// Returns contents of files that do not belong to this library, or cannot be distinguished from
/// such.
fn foreign() -> Vec<(&'static str, Vec<u8>)> {
    let without_beginning = |mut octets: Vec<u8>| {
        octets[..8].fill(0xa5);
        octets
    };
    vec![
        ("a lease file", b"address,hwaddr,client_id\n".to_vec()),
        ("a configuration", b"{ \"Dhcp4\": {} }\n".to_vec()),
        ("one octet", b"k".to_vec()),
        ("the beginning of the mark, too short", b"kea-blq".to_vec()),
        (
            "a text about state files",
            b"kea-blq state files\n".to_vec(),
        ),
        ("zeros", vec![0; 9_000]),
        ("another program's store", b"redb\x1a\n\xa9\r\n".repeat(500)),
        (
            "a state file without its beginning",
            without_beginning(good_file()),
        ),
    ]
}

/// Returns all files in a directory: their names, contents and times of change.
fn all(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let files = fs::read_dir(directory).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            (path.clone(), (fs::read(&path).unwrap(), changed))
        })
        .collect()
}

#[test]
fn does_not_change_a_file_of_another_program() {
    for (what, contents) in foreign() {
        let (directory, path) = place();
        fs::write(&path, &contents).unwrap();
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
fn refuses_paths_that_are_not_regular_files() {
    let (directory, path) = place();
    let pipe = directory.path().join("pipe");
    let socket = directory.path().join("socket");
    let link = directory.path().join("link");
    create_pipe(&pipe);
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
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}

/// Creates a named pipe.
fn create_pipe(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status();
    assert!(status.unwrap().success());
}

/// A symbolic or hard link represents its file.
#[test]
fn the_target_of_a_link_decides() {
    let (directory, path) = place();
    let [soft, hard] = ["soft", "hard"].map(|name| directory.path().join(name));
    fs::write(&path, b"address,hwaddr").unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let before = all(directory.path());
    for link in [&soft, &hard] {
        assert!(matches!(check(link), Err(StoreError::Foreign(_))));
        assert!(!Store::open_or_recover(link).0.is_open());
    }
    assert_eq!(all(directory.path()), before);
    fs::remove_file(&path).unwrap();
    // A dangling link: its target is created.
    let (mut store, _) = Store::open(&soft).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().1.bindings, [binding(1)]);
    // A damaged file is renamed, not the link.
    fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
    assert!(Store::open_or_recover(&soft).0.is_open());
    assert!(soft.is_symlink() && !path.is_symlink());
    assert_eq!(Store::open(&path).unwrap().1.bindings, []);
}

/// A file whose creation was interrupted by a crash is recognised as this library's, or is empty.
#[test]
fn completes_a_file_whose_creation_was_interrupted() {
    let new = {
        let (_directory, path) = place();
        drop(Store::open(&path).unwrap());
        fs::read(&path).unwrap()
    };
    assert_eq!(new.len(), HEADER);
    for length in 8..=HEADER {
        let left = &new[..length];
        let (_directory, path) = place();
        fs::write(&path, left).unwrap();
        check(&path).unwrap();
        let (mut store, saved) = Store::open_or_recover(&path);
        assert!(saved.bindings.is_empty());
        store.write(&batch(&[binding(1)])).unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1.bindings, [binding(1)]);
    }
}

#[test]
fn checking_a_path_creates_no_file() {
    let (directory, path) = place();
    check(&path).unwrap();
    check(&path.join("below")).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    fs::write(&path, b"").unwrap();
    let before = all(directory.path());
    check(&path).unwrap();
    assert!(Preload::begin(&path).is_none());
    assert_eq!(all(directory.path()), before);
}

#[test]
fn does_not_change_a_foreign_file_that_replaced_its_own() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    let own = directory.path().join("own");
    fs::rename(&path, &own).unwrap();
    fs::write(&path, b"not a state file").unwrap();
    assert!(store.write(&batch(&[binding(2)])).is_err());
    for _ in 0..2 {
        assert!(matches!(store.reopen(), Err(StoreError::Foreign(_))));
        assert!(!store.is_open());
    }
    assert_eq!(fs::read(&path).unwrap(), b"not a state file");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    fs::rename(&own, &path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
}

#[test]
fn continues_without_a_file_that_another_process_uses() {
    let (directory, path) = place();
    let (mut first, _) = Store::open(&path).unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Unavailable(_))
    ));
    let (second, _) = Store::open_or_recover(&path);
    assert!(!second.is_open());
    first.write(&batch(&[binding(1)])).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn continues_without_a_file_that_cannot_be_created() {
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
fn accepts_an_empty_file_as_a_new_one() {
    let (directory, path) = place();
    fs::write(&path, b"").unwrap();
    let (mut store, saved) = Store::open(&path).unwrap();
    assert!(saved.bindings.is_empty() && saved.saved_at.is_none());
    store.write(&batch(&[binding(1)])).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn never_replaces_a_file_set_aside_earlier() {
    let (directory, path) = place();
    for count in 1..=3 {
        fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
        assert!(Store::open_or_recover(&path).0.is_open());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), count + 1);
    }
}

#[test]
fn users_outside_of_its_group_have_no_access_to_the_file() {
    let (_directory, path) = place();
    let (_store, _) = Store::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7137, 0, "{mode:o}");
}

#[test]
fn continues_with_the_same_file_after_a_failed_write() {
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
fn reports_a_replaced_file_after_a_failed_write() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    fs::remove_file(&path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    fs::write(&path, [MARK, b"damaged"].concat()).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    store.write(&batch(&[binding(1)])).unwrap();
}

#[test]
fn checks_a_file_again_that_changed_while_it_was_closed() {
    for place_in_file in [MARK.len(), 100, 3_000, 6_000] {
        let (directory, path) = place();
        let (mut store, _) = Store::open(&path).unwrap();
        let bindings: Vec<Binding> = (1..=200).map(binding).collect();
        store.write(&batch(&bindings)).unwrap();
        store.close();
        let mut octets = fs::read(&path).unwrap();
        octets[place_in_file..place_in_file + 2_000].fill(0xa5);
        fs::write(&path, octets).unwrap();
        let reopened = store.reopen().unwrap();
        let set_aside = fs::read_dir(directory.path()).unwrap().count() == 2;
        assert_eq!(reopened == Reopened::Replaced, set_aside);
        drop(store);
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings.is_empty(), set_aside);
        assert!(set_aside || saved.bindings == bindings);
    }
}

#[test]
fn refuses_an_older_copy_of_the_file() {
    let (directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    store.write(&batch(&[binding(1)])).unwrap();
    store.close();
    let copy = fs::read(&path).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Continued);
    // Within the same second.
    store.write(&batch(&[binding(2)])).unwrap();
    store.close();
    fs::write(&path, copy).unwrap();
    assert_eq!(store.reopen().unwrap(), Reopened::Replaced);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

/// Returns a file of some transactions.
fn good_file() -> Vec<u8> {
    let (_directory, path) = place();
    let (mut store, _) = Store::open(&path).unwrap();
    for part in [1..=99, 1..=20, 30..=40] {
        let bindings: Vec<Binding> = part.map(binding).collect();
        store.write(&batch(&bindings)).unwrap();
    }
    drop(store);
    fs::read(&path).unwrap()
}
