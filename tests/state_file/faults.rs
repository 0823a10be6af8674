//! A state file that becomes unusable or disappears, and its recovery.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dhcp_blq::model::binding::Binding;
use dhcp_blq::model::state::State;
use dhcp_blq::persist::Store;
use tempfile::TempDir;

use super::child::{ChildProcess, address, give_to_child};

/// Number of leases of a child.
const LEASES: u32 = 500;

/// Returns a temporary directory that the child may write to, and a path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    give_to_child(directory.path(), 0o755);
    let path = directory.path().join("state");
    (directory, path)
}

/// Starts a child without privileges, with its state file at `path`.
fn start(path: &Path) -> ChildProcess {
    ChildProcess::run("keep as nobody", &[], path, LEASES)
}

/// Returns the binding of lease `number` in the file at `path`, which must have all bindings.
fn saved(path: &Path, number: u32) -> Binding {
    let (_store, saved) = Store::open(path).unwrap();
    assert_eq!(saved.bindings.len(), LEASES as usize);
    saved
        .bindings
        .into_iter()
        .find(|binding| binding.address == address(number))
        .unwrap()
}

/// Waits up to ten seconds for a file at `path`.
fn wait_until_exists(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(Instant::now() < deadline, "no {}", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the number of files in a directory.
fn count(directory: &Path) -> usize {
    directory.read_dir().unwrap().count()
}

/// A file that was unreadable at the start may hold useful data: it is never overwritten.
#[test]
fn begins_a_new_file_once_an_unreadable_one_can_be_read() {
    let (directory, path) = place();
    start(&path).stop();
    give_to_child(&path, 0);
    let mut child = start(&path);
    child.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    child.send("release 7");
    give_to_child(&path, 0o640);
    child.expect_logged(&["BLQ_STATE_REPLACED", "BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
    assert_eq!(count(directory.path()), 2);
}

/// A read-only file cannot be used.
#[test]
fn does_not_change_a_read_only_file() {
    let (directory, path) = place();
    start(&path).stop();
    give_to_child(&path, 0o440);
    let before = fs::read(&path).unwrap();
    let mut child = start(&path);
    child.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    child.send("release 7");
    child.stop();
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(count(directory.path()), 1);
}

/// The file is created as soon as the directory is writable.
#[test]
fn begins_a_file_once_its_directory_can_be_written() {
    let (directory, path) = place();
    give_to_child(directory.path(), 0o555);
    let mut child = start(&path);
    child.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    child.send("release 7");
    give_to_child(directory.path(), 0o755);
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
}

/// A damaged file that cannot be renamed stays unchanged.
#[test]
fn sets_a_damaged_file_aside_once_its_directory_can_be_written() {
    let (directory, path) = place();
    start(&path).stop();
    let mut damaged = fs::read(&path).unwrap();
    damaged[5_000..].fill(0xa5);
    fs::write(&path, damaged).unwrap();
    give_to_child(&path, 0o640);
    give_to_child(directory.path(), 0o555);
    let mut child = start(&path);
    child.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    child.send("release 7");
    give_to_child(directory.path(), 0o755);
    child.expect_logged(&["BLQ_STATE_DAMAGED", "BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
    assert_eq!(count(directory.path()), 2);
}

/// A start would not find a file whose name was removed.
#[test]
fn writes_a_deleted_file_anew() {
    let (_directory, path) = place();
    let mut child = start(&path);
    child.next("started").unwrap();
    fs::remove_file(&path).unwrap();
    child.send("release 7");
    child.expect_logged(&["BLQ_STATE_WRITE_FAILED", "BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
}

/// A file of another program that takes the state file's name is never written, renamed or
/// truncated. Everything is written once that file is gone.
#[test]
fn leaves_a_foreign_file_in_its_place_unchanged() {
    let (directory, path) = place();
    let other = directory.path().join("other");
    let mut child = start(&path);
    child.next("started").unwrap();
    fs::write(&other, "address,hwaddr").unwrap();
    give_to_child(&other, 0o640);
    fs::rename(&other, &path).unwrap();
    child.send("release 7");
    child.expect_logged(&["BLQ_STATE_FOREIGN"]);
    child.send("release 8");
    child.stop();
    assert_eq!(fs::read(&path).unwrap(), b"address,hwaddr");
    // The changes that could not be written are recorded in the file of recent changes.
    assert_eq!(count(directory.path()), 2);

    let mut child = start(&path);
    child.expect_logged(&["BLQ_STATE_FOREIGN"]);
    child.send("release 7");
    fs::remove_file(&path).unwrap();
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
    assert_eq!(count(directory.path()), 1);
}

/// A file system may be unmounted and mounted again.
#[test]
fn continues_when_a_missing_directory_returns() {
    let (directory, _) = place();
    let place = directory.path().join("place");
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&place).unwrap();
    give_to_child(&place, 0o755);
    let path = place.join("state");
    let mut child = start(&path);
    child.next("started").unwrap();
    // The worker creates this file on its thread; without the directory it would log an error.
    wait_until_exists(&place.join("state.recent"));
    fs::rename(&place, &elsewhere).unwrap();
    child.send("release 7");
    child.expect_logged(&["BLQ_STATE_WRITE_FAILED"]);
    child.send("release 8");
    fs::rename(&elsewhere, &place).unwrap();
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
    assert_eq!(saved(&path, 8).state, State::Released);
    assert_eq!(count(&place), 1);
}

/// The first process holds the file; the second one takes over when the first ends.
#[test]
fn takes_over_when_another_process_ends() {
    let (directory, path) = place();
    let mut first = start(&path);
    first.next("started").unwrap();
    let mut second = start(&path);
    second.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    first.send("release 7");
    first.stop();
    second.send("release 8");
    second.expect_logged(&["BLQ_STATE_REPLACED", "BLQ_STATE_WRITTEN_AGAIN"]);
    second.kill();
    assert_eq!(saved(&path, 8).state, State::Released);
    assert_eq!(count(directory.path()), 2);
}

/// A failed write is repeated, even if the system reports success later.
#[test]
fn rewrites_data_that_a_failing_disk_may_have_lost() {
    let (directory, path) = place();
    let mut child = start(&path);
    child.next("started").unwrap();
    child.send("fail-syncs");
    child.send("release 7");
    child.expect_logged(&["BLQ_STATE_WRITE_FAILED"]);
    child.send("heal");
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Released);
    assert_eq!(count(directory.path()), 1);
}

/// Lifts the limit on the size of a child's files.
fn lift_file_size_limit(child: &ChildProcess) {
    let raised = Command::new("prlimit")
        .args(["--fsize=unlimited", "--pid"])
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(raised.success());
}

/// After a full disk has space again, everything is written. The failure is logged once.
#[test]
fn writes_everything_once_a_full_disk_has_room_again() {
    const MANY: u32 = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    // A limit on file sizes, here 2 MiB, simulates a full disk without privileges.
    let limited = r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#;
    let mut child = ChildProcess::start(&["sh", "-c", limited], &path, MANY);
    child.expect_logged(&["BLQ_STATE_WRITE_FAILED"]);
    lift_file_size_limit(&child);
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    let (_store, saved) = Store::open(&path).unwrap();
    assert_eq!(saved.bindings.len(), MANY as usize);
}

/// A disk too full for a new file leaves no partial file that would be set aside later.
#[test]
fn begins_a_file_once_a_full_disk_has_room() {
    let (directory, path) = place();
    let mut child = ChildProcess::run("keep on a full disk", &[], &path, LEASES);
    child.expect_logged(&["BLQ_STATE_UNAVAILABLE"]);
    child.send("heal");
    child.expect_logged(&["BLQ_STATE_WRITTEN_AGAIN"]);
    child.kill();
    assert_eq!(saved(&path, 7).state, State::Active);
    assert_eq!(count(directory.path()), 1);
}
