//! The health of the state file, for other threads.

use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::model::time::Time;

/// The health of a state file, which the flush worker publishes.
#[derive(Debug)]
pub struct Health {
    /// The path.
    path: PathBuf,
    /// The last result.
    state: Mutex<HealthState>,
}

/// The result of the last flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    /// The time of the last successful flush; `None` before the first.
    pub flushed: Option<Time>,
    /// The octets of the file then.
    pub octets: Option<u64>,
    /// Since when flushes fail, and the last error; `None` if the last flush succeeded.
    pub failure: Option<(Time, String)>,
}

impl Health {
    /// Creates the health of a file that was not flushed yet.
    pub fn new(path: &Path) -> Health {
        Health {
            path: path.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the result of the last flush.
    pub fn state(&self) -> HealthState {
        self.state.lock().clone()
    }

    /// Records a successful flush.
    pub fn flushed(&self) {
        // Before the lock: the disk may be slow.
        let octets = fs::metadata(&self.path).ok().map(|file| file.len());
        *self.state.lock() = HealthState {
            flushed: Some(Time::now()),
            octets,
            failure: None,
        };
    }

    /// Records a failed flush.
    pub fn failed(&self, error: String) {
        let mut state = self.state.lock();
        let since = state.failure.take().map(|(since, _)| since);
        state.failure = Some((since.unwrap_or_else(Time::now), error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_time_of_the_first_failure_until_a_flush_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, [0; 7]).unwrap();
        let health = Health::new(&path);
        assert_eq!(health.state(), HealthState::default());
        health.failed("one".into());
        let since = health.state().failure.unwrap().0;
        health.failed("two".into());
        assert_eq!(health.state().failure, Some((since, "two".into())));
        health.flushed();
        let state = health.state();
        assert_eq!((state.octets, state.failure), (Some(7), None));
        assert!(state.flushed >= Some(since));
    }
}
