//! The state file in use: opened, written, compacted, recovered.
//!
//! The file has the binding of each address as of its last change other than a renewal, and the
//! last saved view: subnets, and the configured ranges with the time at which each was first
//! configured; and the times from which on changes are known. Each write is one transaction, durable on return, so a crash loses nothing written
//! before.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mirror::Saved;
use crate::mirror::dirty_set::DirtyPart;
use crate::model::binding::Binding;
use crate::persist::compaction::{self, Compaction};
use crate::persist::error::{Defect, StoreError};
use crate::persist::journal::{self, Boundary, Closed, Journal};
use crate::persist::recent::{self, RecentChanges, RecentFile};
use crate::persist::scan::Scan;
use crate::persist::transaction::{self, Batch};
use crate::persist::{file, ownership};

/// The result of opening a file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// The file has everything written before.
    Continued,
    /// The file is new: everything must be written again.
    Replaced,
}

/// A state file in use.
#[derive(Debug)]
pub struct Store {
    /// The path.
    path: PathBuf,
    /// The open file; `None` after [`Store::close`], after a failed write, or before the first
    /// success.
    journal: Option<Journal>,
    /// The state of the file when closed; `None` if the file must be checked.
    closed: Option<Closed>,
    /// The length at which the file is compacted.
    compact_at: u64,
    /// The compaction in progress.
    compaction: Option<Compaction>,
    /// The stamp of the last durable write, or of the file when opened.
    stamp: Option<u64>,
    /// Whether it was logged already that the file cannot be used.
    pub(super) is_reported: bool,
    /// The file of recent changes, if it can be used.
    recent: Option<Arc<RecentFile>>,
}

impl Store {
    /// Opens the state file at `path` and reads it, or creates a new one. Returns the bindings in
    /// the order of addresses.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is unchanged then.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        let mut bindings = Vec::new();
        let (store, rest) = Store::open_each(path, true, |binding| bindings.push(binding))?;
        bindings.sort_unstable_by_key(|binding| binding.address);
        Ok((store, Saved { bindings, ..rest }))
    }

    /// Opens the state file at `path` and passes each binding to `visit`, in no order. Creates a
    /// file only if `create` is set. After an error the bindings passed are invalid.
    pub(super) fn open_each(
        path: &Path,
        create: bool,
        mut visit: impl FnMut(Binding),
    ) -> Result<(Store, Saved), StoreError> {
        let journal = Journal::open(path, create)?;
        journal.read_ahead();
        let mut scan = Scan::new(&journal);
        while scan.step(&journal, |entry| {
            entry.decode()?.into_iter().for_each(&mut visit);
            Ok(())
        })? {}
        let Scan { meta, live, .. } = scan;
        let mut store = Store::closed(path);
        store.journal = Some(journal);
        store.compact_at = compaction::threshold(live);
        store.stamp = meta.stamp;
        // If this fails, the file occupies space and does no harm.
        let _ = compaction::remove_left_over(path);
        let recent = store.open_recent();
        let saved = Saved {
            saved_view: meta.saved_view.unwrap_or_default(),
            saved_at: meta.saved_at,
            latest: meta.latest.max(recent.latest),
            resynced_at: meta.resynced_at,
            recent: recent.addresses,
            history: meta.history.map(Box::new),
            ..Saved::default()
        };
        Ok((store, saved))
    }

    /// Opens the file of recent changes, which belongs to the process that holds the state file.
    /// Returns its contents. The state file is used even if this one cannot be.
    fn open_recent(&mut self) -> RecentChanges {
        match RecentFile::open(&self.path) {
            Ok((file, changes)) => {
                self.recent = Some(Arc::new(file));
                changes
            }
            Err(error) => {
                recent::warn_unusable(&recent::path(&self.path), &error);
                RecentChanges::default()
            }
        }
    }

    /// Returns the file of recent changes, created if it does not exist; `None` if it cannot be
    /// used.
    pub(super) fn open_or_create_recent(&self) -> Option<Arc<RecentFile>> {
        let recent = self.recent.as_ref()?;
        recent.open_or_create().then(|| Arc::clone(recent))
    }

    /// Opens the state file at `path`; never fails. An unreadable file of this library is set aside
    /// under another name and a new one begun. If that fails, or the file is another program's, the
    /// result is a closed store, which [`Store::reopen`] may open later. Both cases are logged: the
    /// mirror can be filled from Kea.
    pub fn open_or_recover(path: &Path) -> (Store, Saved) {
        let opened = match Store::open(path) {
            Err(StoreError::Unreadable(defect, reason)) => {
                set_aside(path, defect, &reason).and_then(|()| Store::open(path))
            }
            opened => opened,
        };
        opened.unwrap_or_else(|error| {
            tracing::error!(
                id = error.log_id("BLQ_STATE_FOREIGN", "BLQ_STATE_UNAVAILABLE"),
                "'state-file' {} cannot be used: {error}; states are not saved until it can",
                path.display(),
            );
            let mut store = Store::closed(path);
            store.is_reported = true;
            (store, Saved::default())
        })
    }

    /// Returns a store for the file at `path`, not opened yet.
    fn closed(path: &Path) -> Store {
        Store {
            path: path.to_owned(),
            journal: None,
            closed: None,
            compact_at: compaction::threshold(0),
            compaction: None,
            stamp: None,
            is_reported: false,
            recent: None,
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is open and can be written.
    pub fn is_open(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether the file is open and still has its name.
    pub(super) fn is_at_path(&self) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.check_path(&self.path).is_ok())
    }

    /// Writes a batch, which is durable on return, in the file that the path names.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then; [`Store::reopen`] opens it again.
    pub fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let written = self.append(batch);
        if written.is_err() {
            self.close();
        }
        written
    }

    /// Writes a batch to the open file.
    fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let journal = self.journal.as_mut();
        let journal = journal.ok_or_else(|| StoreError::Unavailable("it is closed".to_owned()))?;
        let stamp = RandomState::new().hash_one(&self.path);
        let frame = transaction::encode(batch, stamp)?;
        let octets = frame.0.len();
        journal.append(frame)?;
        self.stamp = Some(stamp);
        // Most of the remaining bindings are new, in particular when a file is first filled.
        let DirtyPart { changed, rest } = &batch.bindings;
        let new = octets * rest.len() / (changed.len() + rest.len()).max(1);
        self.compact_at += 2 * new as u64;
        journal.check_path(&self.path)
    }

    /// Runs a step of compacting a file that has grown to twice the octets it needs. Returns
    /// whether another step is needed.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if the file is found damaged; it is closed then. Other failures
    /// are logged, and the compaction is postponed.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let Some(journal) = &mut self.journal else {
            return Ok(false);
        };
        let end = journal.tail().offset;
        if self.compaction.is_none() && end < self.compact_at {
            return Ok(false);
        }
        let mut step = || {
            let mut compaction = match self.compaction.take() {
                Some(compaction) => compaction,
                None => Compaction::begin(journal, &self.path)?,
            };
            if compaction.step(journal)? {
                return Ok(Some(compaction.finish()?));
            }
            self.compaction = Some(compaction);
            Ok(None)
        };
        match step() {
            Ok(None) => return Ok(true),
            Ok(Some(compacted)) => {
                self.compact_at = compaction::threshold(compacted.tail().offset);
                *journal = compacted;
            }
            Err(error @ StoreError::Unreadable(..)) => {
                self.close();
                self.closed = None;
                return Err(error);
            }
            Err(error) => {
                self.compact_at = end.saturating_add(self.compact_at / 2);
                tracing::warn!(
                    id = error.log_id("BLQ_COMPACTED_FOREIGN", "BLQ_STATE_NOT_COMPACTED"),
                    "'state-file' {} cannot be compacted: {error}; until it can, it grows with each change",
                    self.path.display(),
                );
            }
        }
        Ok(false)
    }

    /// Opens the file again after it was closed or a write failed; fast if the file is unchanged
    /// since it was closed. An unreadable file, or another file of this library, is set aside and a
    /// new one begun; a file of another program is not changed.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then.
    pub fn reopen(&mut self) -> Result<Reopened, StoreError> {
        self.close();
        let journal = match self.reopen_as_written() {
            Err(StoreError::Unreadable(defect, reason)) => {
                set_aside(&self.path, defect, &reason)?;
                Journal::open(&self.path, true)?
            }
            journal => journal?,
        };
        let is_new = journal.tail() == Boundary::START;
        if is_new {
            self.stamp = None;
            self.compact_at = compaction::threshold(0);
        }
        self.journal = Some(journal);
        self.is_reported = false;
        // The mirror already has the changes in this file.
        let _ = self.open_recent();
        Ok(match is_new {
            true => Reopened::Replaced,
            false => Reopened::Continued,
        })
    }

    /// Opens the file if it is unchanged since the last write, or new.
    fn reopen_as_written(&mut self) -> Result<Journal, StoreError> {
        let mut journal = Journal::open(&self.path, true)?;
        let closed = self.closed.take();
        let is_unchanged = closed.is_some_and(|closed| journal.resume(&closed));
        let mut scan = Scan::new(&journal);
        if scan.step(&journal, |_| Ok(()))? && scan.meta.stamp != self.stamp {
            return Err(StoreError::Unreadable(
                Defect::Replaced,
                "it is not the one that was written before".to_owned(),
            ));
        }
        while !is_unchanged && scan.step(&journal, |_| Ok(()))? {}
        Ok(journal)
    }

    /// Closes the file, ready for [`Store::reopen`]; does nothing if it is closed. The file of
    /// recent changes stays in use: a mirror that is handed over records changes before the state
    /// file is opened again.
    pub fn close(&mut self) {
        self.compaction = None;
        if let Some(journal) = self.journal.take() {
            self.closed = Some(journal.close());
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(recent) = self.recent.take() {
            recent.close();
        }
        self.close();
    }
}

/// Returns the paths of all files of a state file at `path`.
pub fn files(path: &Path) -> [PathBuf; 3] {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    [
        path.to_owned(),
        recent::path(path),
        compaction::path(&target),
    ]
}

/// Checks whether the file at `path`, if there is one, may be used as a state file, without
/// changing it.
///
/// # Errors
/// [`StoreError::Foreign`] if it may not be used, [`StoreError::Unavailable`] if that cannot be
/// determined now.
pub fn check(path: &Path) -> Result<(), StoreError> {
    ownership::open_existing(path, journal::MARK).map(drop)
}

/// Renames an unreadable file and logs it. A file that another program has replaced meanwhile keeps
/// its name.
fn set_aside(path: &Path, defect: Defect, reason: &str) -> Result<(), StoreError> {
    check(path)?;
    let aside = file::set_aside(path).map_err(|error| {
        StoreError::Unavailable(format!("{reason}; and it cannot be renamed: {error}"))
    })?;
    tracing::error!(
        id = defect.log_id(),
        "'state-file' {} cannot be used ({reason}); it was renamed to {}, and states are saved in \
         a new one",
        path.display(),
        aside.display(),
    );
    Ok(())
}
