//! The state file: its use.
//!
//! It holds, for each address with a state to return, the whole binding as last changed (not
//! renewed), and the view that was saved last: configured ranges, each with the time it was first configured,
//! and subnets. Every write is one transaction that is on disk when it returns, so a crash loses nothing written
//! before.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mirror::Saved;
use crate::mirror::dirty_set::Taken;
use crate::model::binding::Binding;
use crate::persist::compaction::{self, Compaction};
use crate::persist::error::{Defect, StoreError};
use crate::persist::journal::{self, Closed, Journal, Tail};
use crate::persist::recent::{self, Noted, Recent};
use crate::persist::scan::Scan;
use crate::persist::transaction::{self, Batch};
use crate::persist::{file, ownership};

/// The state of a file that was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// The file has all that was written before.
    Continued,
    /// The file is a new one: everything has to be written again.
    Replaced,
}

/// A state file in use.
#[derive(Debug)]
pub struct Store {
    /// Where it is.
    path: PathBuf,
    /// The open file; `None` after [`Store::close`], a failed write, or when it never could be opened.
    journal: Option<Journal>,
    /// The file as it was when closed; `None` if it must be checked.
    closed: Option<Closed>,
    /// The length at which the file is compacted.
    compact_at: u64,
    /// The compaction under way.
    compaction: Option<Compaction>,
    /// The stamp of the last write that is on disk, or that the file had when opened.
    stamp: Option<u64>,
    /// Whether it is logged already that the file cannot be used.
    is_reported: bool,
    /// The file of recent changes, if it can be used.
    recent: Option<Arc<Recent>>,
}

impl Store {
    /// Opens the state file at `path` and reads it, or makes a new one. Bindings come in the order of
    /// addresses.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is left as it was found.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        let mut bindings = Vec::new();
        let (store, rest) = Store::open_each(path, true, |binding| bindings.push(binding))?;
        bindings.sort_unstable_by_key(|binding| binding.address);
        Ok((store, Saved { bindings, ..rest }))
    }

    /// Opens the state file at `path` and gives each binding to `take`, in no order; makes no file unless
    /// `make` is set. In case of an error the bindings given are void.
    pub(super) fn open_each(
        path: &Path,
        make: bool,
        mut take: impl FnMut(Binding),
    ) -> Result<(Store, Saved), StoreError> {
        let journal = Journal::open(path, make)?;
        journal.read_ahead();
        let mut scan = Scan::new(&journal);
        while scan.step(&journal, |entry| {
            entry.decode()?.into_iter().for_each(&mut take);
            Ok(())
        })? {}
        let meta = scan.take_meta();
        let mut store = Store::closed(path);
        store.journal = Some(journal);
        store.compact_at = compaction::due(scan.live());
        store.stamp = meta.stamp;
        // It does no harm, but takes room.
        let _ = compaction::remove_left_over(path);
        let noted = store.open_recent();
        let saved = Saved {
            saved_view: meta.saved_view.unwrap_or_default(),
            saved_at: meta.saved_at,
            latest: meta.latest.max(noted.latest),
            resynced_at: meta.resynced_at,
            recent: noted.addresses,
            ..Saved::default()
        };
        Ok((store, saved))
    }

    /// Opens the file of recent changes, which belongs to the process that has the state file; gives its
    /// contents. Without it the state file serves all the same.
    fn open_recent(&mut self) -> Noted {
        match Recent::open(&self.path) {
            Ok((recent, noted)) => {
                self.recent = Some(Arc::new(recent));
                noted
            }
            Err(error) => {
                recent::warn_unusable(&recent::path(&self.path), &error);
                Noted::default()
            }
        }
    }

    /// The file of recent changes, made if it is not there, if it can be used.
    pub(super) fn make_recent(&self) -> Option<Arc<Recent>> {
        let recent = self.recent.as_ref()?;
        recent.make().then(|| Arc::clone(recent))
    }

    /// Opens the state file at `path`, and never fails. A file of this library's that cannot be read is
    /// set aside under another name and a new one begun; where not even that works, or the file is
    /// another program's, the result is a closed store, which [`Store::reopen`] may open when the
    /// trouble is over. Either is logged: the mirror can be filled from Kea.
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

    /// A store for the file at `path` that has not been opened.
    fn closed(path: &Path) -> Store {
        Store {
            path: path.to_owned(),
            journal: None,
            closed: None,
            compact_at: compaction::due(0),
            compaction: None,
            stamp: None,
            is_reported: false,
            recent: None,
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is open and can be written.
    pub fn is_open(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether the file is open and still has its name.
    pub(super) fn is_in_place(&self) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.check_place(&self.path).is_ok())
    }

    /// Whether it is logged already that the file cannot be used.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Writes a batch. It is on disk when this returns, in the file that the path names.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then: see [`Store::reopen`].
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
        // The rest is new for the most part, above all when a file is first filled.
        let Taken { changed, rest } = &batch.bindings;
        let new = octets * rest.len() / (changed.len() + rest.len()).max(1);
        self.compact_at += 2 * new as u64;
        journal.check_place(&self.path)
    }

    /// Takes a step of compacting a file that has grown to twice the octets it needs; returns whether there is
    /// more to do.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] if the file turns out to be damaged; it is closed then. Other failures are
    /// logged, and the compaction put off.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let Some(journal) = &mut self.journal else {
            return Ok(false);
        };
        let end = journal.tail().end;
        if self.compaction.is_none() && end < self.compact_at {
            return Ok(false);
        }
        let compaction = match self.compaction.take() {
            Some(compaction) => Ok(compaction),
            None => Compaction::begin(journal, &self.path),
        };
        let stepped = compaction.and_then(|mut compaction| {
            let is_complete = compaction.step(journal)?;
            Ok((is_complete, compaction))
        });
        let finished = stepped.and_then(|(is_complete, compaction)| match is_complete {
            true => Ok(Some(compaction.finish()?)),
            false => {
                self.compaction = Some(compaction);
                Ok(None)
            }
        });
        match finished {
            Ok(None) => return Ok(true),
            Ok(Some(compacted)) => {
                self.compact_at = compaction::due(compacted.tail().end);
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

    /// Opens the file again after it was closed, or after a failed write; quick if it is as it was
    /// closed. One that has become unreadable, or another one of this library's, is set aside
    /// and a new one begun; another program's is left alone.
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
        let is_new = journal.tail() == Tail::NEW;
        if is_new {
            self.stamp = None;
            self.compact_at = compaction::due(0);
        }
        self.journal = Some(journal);
        self.is_reported = false;
        // The mirror has the changes that it lists.
        let _ = self.open_recent();
        Ok(match is_new {
            true => Reopened::Replaced,
            false => Reopened::Continued,
        })
    }

    /// Opens the file if it is as it was last written, or new.
    fn reopen_as_written(&mut self) -> Result<Journal, StoreError> {
        let mut journal = Journal::open(&self.path, true)?;
        let closed = self.closed.take();
        let is_unchanged = closed.is_some_and(|closed| journal.resume(&closed));
        let mut scan = Scan::new(&journal);
        if scan.step(&journal, |_| Ok(()))? && scan.take_meta().stamp != self.stamp {
            return Err(StoreError::Unreadable(
                Defect::Replaced,
                "it is not the one that was written before".to_owned(),
            ));
        }
        while !is_unchanged && scan.step(&journal, |_| Ok(()))? {}
        Ok(journal)
    }

    /// Closes the file, ready for [`Store::reopen`]; nothing if it is closed. The file of recent changes
    /// stays in use: a mirror that is handed over records its changes before the state file is opened.
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

/// The files that belong to a state file at `path`, with those beside it.
pub fn files(path: &Path) -> [PathBuf; 3] {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    [
        path.to_owned(),
        recent::path(path),
        compaction::path(&target),
    ]
}

/// Checks that the file at `path`, if there is one, may be used as a state file, as far as that is known
/// without touching it.
///
/// # Errors
/// [`StoreError::Foreign`] if it may not; [`StoreError::Unavailable`] if that cannot be found out now.
pub fn check(path: &Path) -> Result<(), StoreError> {
    ownership::look(path, journal::is_own).map(drop)
}

/// Renames an unreadable file and logs it. A file that has come to be another program's keeps its name.
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
