//! The preload: reads the state file while Kea loads its own leases.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::mirror::Prepared;
use crate::persist::store::Store;

/// A state file that is being read. Dropping it closes the file unchanged.
#[derive(Debug)]
pub struct Preload {
    /// The path.
    path: PathBuf,
    /// The reading thread; `None` once joined. Its result is `None` if the file cannot be used.
    thread: Option<JoinHandle<Option<(Store, Prepared)>>>,
}

impl Preload {
    /// Begins to read the file at `path`, on a thread that inherits this thread's signal mask.
    /// `None` if there is no file that can be read: a file is created or set aside only once the
    /// configuration is accepted.
    pub fn begin(path: &Path) -> Option<Preload> {
        let path = path.to_owned();
        if !fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() > 0) {
            return None;
        }
        let reading = path.clone();
        let started = thread::Builder::new()
            .name("blq-loading".into())
            .spawn(move || {
                let mut saved = Prepared::default();
                // Added one by one: a list of all bindings would need as much memory again.
                let opened = Store::open_each(&reading, false, |binding| saved.add(&binding));
                let (store, rest) = opened.ok()?;
                saved.rest = rest;
                Some((store, saved))
            });
        let thread = Some(started.ok()?);
        Some(Preload { path, thread })
    }

    /// Waits until the file is read. Returns the file and its contents if it is not damaged and
    /// `path` still names it; otherwise closes it.
    pub fn take(mut self, path: &Path) -> Option<(Store, Prepared)> {
        let is_same_path = self.path == path;
        let (store, saved) = self.join().filter(|_| is_same_path)?;
        store.is_at_path().then_some((store, saved))
    }

    /// Waits until the file is read.
    fn join(&mut self) -> Option<(Store, Prepared)> {
        // A panic has been logged.
        self.thread.take()?.join().ok()?
    }
}

impl Drop for Preload {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::InitialLoad;
    use crate::mirror::dirty_set::DirtyPart;
    use crate::model::binding::Binding;
    use crate::model::time::Time;
    use crate::persist::transaction::Batch;

    /// Creates a state file with one binding, in a temporary directory.
    fn state_file() -> (tempfile::TempDir, PathBuf, Binding) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let binding = Binding::example([192, 0, 2, 1].into(), Time(500));
        let (mut store, _) = Store::open(&path).unwrap();
        let batch = Batch {
            bindings: DirtyPart {
                changed: vec![(binding.address, Some(binding.clone()))],
                rest: Vec::new(),
            },
            at: Time(600),
            ..Batch::default()
        };
        store.write(&batch).unwrap();
        (directory, path, binding)
    }

    /// Returns the bindings of a mirror that is loaded from `saved` without any lease of Kea.
    fn loaded(saved: impl Into<Prepared>) -> Vec<Binding> {
        let config = r#"{"Dhcp4": {"subnet4": [
            {"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.1-192.0.2.9"}]}]}}"#;
        let kea_config = Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap());
        let mirror = InitialLoad::begin(kea_config, saved, Time(1_000)).finish();
        let bindings = mirror.read(|table| {
            let bindings = table.bindings(0..=u32::MAX);
            bindings.map(|binding| binding.to_owned()).collect()
        });
        bindings.unwrap()
    }

    #[test]
    fn reads_the_contents_that_a_later_open_reads() {
        let (_directory, path, _) = state_file();
        let (mut store, preload) = Preload::begin(&path).unwrap().take(&path).unwrap();
        assert!(store.is_open());
        store.close();
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(loaded(preload), loaded(saved));
    }

    #[test]
    fn returns_nothing_for_another_path_and_unlocks_the_file() {
        let (directory, path, binding) = state_file();
        let preload = Preload::begin(&path).unwrap();
        assert!(preload.take(&directory.path().join("other")).is_none());
        let (_, saved) = Store::open(&path).unwrap();
        assert_eq!(saved.bindings, [binding]);
    }

    #[test]
    fn unlocks_the_file_when_dropped() {
        let (_directory, path, _) = state_file();
        drop(Preload::begin(&path).unwrap());
        assert!(Store::open(&path).is_ok());
    }

    #[test]
    fn returns_nothing_if_the_file_was_replaced() {
        let (directory, path, _) = state_file();
        let preload = Preload::begin(&path).unwrap();
        let thread = preload.thread.as_ref().unwrap();
        while !thread.is_finished() {
            thread::yield_now();
        }
        fs::rename(&path, directory.path().join("old")).unwrap();
        fs::write(&path, b"").unwrap();
        assert!(preload.take(&path).is_none());
    }

    #[test]
    fn creates_no_file_and_does_not_change_a_damaged_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert!(Preload::begin(&path).is_none());
        assert!(!path.exists());
        fs::write(&path, b"damaged").unwrap();
        assert!(Preload::begin(&path).unwrap().take(&path).is_none());
        assert_eq!(fs::read(&path).unwrap(), b"damaged");
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1);
    }
}
