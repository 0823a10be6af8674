//! The state file: what Kea does not keep, in an embedded store of one file.
//!
//! It holds, for each address with a state to tell, the whole binding as last changed (not
//! renewed), each configured range with the time it was first configured, and each configured subnet. Every write is
//! one transaction that is on disk when it returns, so a crash loses nothing written before.
//! Everything in the file carries a checksum, which is checked when it is opened, unless it is
//! as this process closed it.
//!
//! - [`ownership`]: whose a file is, before it is touched.
//! - [`mod@file`]: how it begins, its lock and its name.
//! - [`content`]: its tables.
//! - [`journal`]: how few octets are written for scattered changes.
//! - `recent`: which addresses changed since it was last written.
//! - `preload`: a file read before it is needed.

mod content;
mod error;
mod file;
mod journal;
mod ownership;
mod preload;
mod recent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};

use crate::mirror::Saved;
use crate::mirror::dirty_set::Taken;
use crate::mirror::ranges::SavedView;
use crate::model::binding::Binding;
use crate::model::time::Time;
use crate::persist::store::content::Meta;
pub use crate::persist::store::error::StoreError;
use crate::persist::store::error::guarded;
use crate::persist::store::file::Fingerprint;
use crate::persist::store::journal::Journal;
pub use crate::persist::store::preload::Preload;
pub use crate::persist::store::recent::{Noted, Recent, warn_unusable};

/// Bindings by address, each a [`Binding`] in postcard's encoding, unless the log has a later one.
const BINDINGS: TableDefinition<u32, &[u8]> = TableDefinition::new("bindings");

/// What is to be written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// What is to be written of addresses. Scattered changes go to the log first, the rest to
    /// its place at once.
    pub bindings: Taken,
    /// What is configured, if it changed.
    pub saved_view: Option<SavedView>,
    /// When the batch was put together.
    pub at: Time,
    /// The latest transaction of a lease that Kea's lease database had then.
    pub latest: Option<Time>,
    /// When that was last compared as a whole.
    pub resynced_at: Option<Time>,
}

/// What a file that was closed turned out to be once it was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// All that was written before.
    Continued,
    /// A new file: everything has to be written again.
    Replaced,
}

/// A state file in use.
pub struct Store {
    /// Where it is.
    path: PathBuf,
    /// What is open; `None` after [`Store::close`], a failed write, or when it never could be.
    open: Option<Open>,
    /// What was closed in good order; `None` if it was not.
    closed: Option<Closed>,
    /// The stamp of the last write that succeeded, or that the file had when opened.
    stamp: Option<u64>,
    /// The stamp of the last write that failed: it may have reached the disk all the same.
    attempted: Option<u64>,
    /// Whether the log tells already that the file cannot be used.
    is_reported: bool,
    /// The file of recent changes, until it is taken.
    recent: Option<Recent>,
}

/// An open state file.
struct Open {
    /// The store, which locks the file.
    database: Database,
    /// Where things are in its log.
    journal: Journal,
    /// Which file it is, whatever becomes of its name.
    file: Fingerprint,
}

/// A state file closed in good order.
struct Closed {
    /// The file as it was then.
    file: Fingerprint,
    /// Where things are in its log.
    journal: Journal,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .field("is_open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the state file at `path` and reads it, or makes a new one.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is left as it was found.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        let mut bindings = Vec::new();
        let (store, rest) = Store::open_each(path, true, |binding| bindings.push(binding))?;
        Ok((store, Saved { bindings, ..rest }))
    }

    /// Opens the state file at `path` and reads it binding by binding, without making one unless `make`
    /// is set; gives all else that is known. In case of an error what was given is void.
    fn open_each(
        path: &Path,
        make: bool,
        take: impl FnMut(Binding),
    ) -> Result<(Store, Saved), StoreError> {
        guarded(StoreError::Unreadable, || {
            let (open, meta) = open(path, make, None)?;
            let mut saved_view = content::read(&open.database, &open.journal, take)?;
            saved_view.digests = meta.digests;
            let mut store = Store::closed(path);
            store.open = Some(open);
            store.stamp = meta.stamp;
            let noted = store.open_recent();
            let saved = Saved {
                saved_view,
                saved_at: meta.saved_at,
                latest: meta.latest.max(noted.latest),
                resynced_at: meta.resynced_at,
                recent: noted.addresses,
                ..Saved::default()
            };
            Ok((store, saved))
        })
    }

    /// Opens the file of recent changes, which belongs to whoever has the state file; gives what
    /// it has. Without it the state file serves all the same.
    fn open_recent(&mut self) -> Noted {
        match Recent::open(&self.path) {
            Ok((recent, noted)) => {
                self.recent = Some(recent);
                noted
            }
            Err(error) => {
                warn_unusable(&recent::path(&self.path), &error);
                Noted::default()
            }
        }
    }

    /// The file of recent changes, made if it was not there, if it can be used and was not taken.
    pub fn take_recent(&mut self) -> Option<Recent> {
        let mut recent = self.recent.take()?;
        match recent.make() {
            Ok(()) => Some(recent),
            Err(error) => {
                warn_unusable(recent.path(), &error);
                None
            }
        }
    }

    /// Takes the file of recent changes back, to be closed with the store.
    pub fn give_back(&mut self, recent: Option<Recent>) {
        self.recent = recent.or(self.recent.take());
    }

    /// Opens the state file at `path` whatever it takes. One of this library's that cannot be read is
    /// set aside under another name and a new one begun; where not even that works, or the file is
    /// another program's, the answer is a closed store, which [`Store::reopen`] may open when the
    /// trouble is over. Either is logged: the mirror can be filled from Kea.
    pub fn open_or_recover(path: &Path) -> (Store, Saved) {
        let opened = match Store::open(path) {
            Err(StoreError::Unreadable(reason)) => {
                set_aside(path, &reason).and_then(|()| Store::open(path))
            }
            opened => opened,
        };
        opened.unwrap_or_else(|error| {
            tracing::error!(
                id = "BLQ_STATE_UNAVAILABLE",
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
            open: None,
            closed: None,
            stamp: None,
            attempted: None,
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
        self.open.is_some()
    }

    /// Whether the log already tells that the file cannot be used.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Writes a batch. It is on disk when this returns, in the file that the path names.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then, for the store refuses to go on after an
    /// error of the disk: see [`Store::reopen`].
    pub fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let stamp = RandomState::new().hash_one(&self.path);
        let written = guarded(StoreError::Unavailable, || match &mut self.open {
            Some(open) => {
                content::write(&open.database, &mut open.journal, batch, stamp)?;
                open.check_place(&self.path)
            }
            None => Err(StoreError::Unavailable("it is closed".to_owned())),
        });
        match written {
            Ok(()) => self.stamp = Some(stamp),
            Err(_) => {
                self.attempted = Some(stamp);
                self.close();
                // Not everything that was to be written to it was.
                self.closed = None;
            }
        }
        written
    }

    /// Opens the file again after it was closed, or after a failed write; quick if it is just as
    /// it was closed. One that has become unreadable, or another one of this library's, is set aside
    /// and a new one begun; another program's is left alone.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then.
    pub fn reopen(&mut self) -> Result<Reopened, StoreError> {
        self.close();
        let found = self.reopen_unless_strange();
        let (open, meta) = match found {
            Err(StoreError::Unreadable(reason)) => {
                set_aside(&self.path, &reason)?;
                guarded(StoreError::Unreadable, || open(&self.path, true, None))?
            }
            found => found?,
        };
        self.open = Some(open);
        self.stamp = meta.stamp;
        self.attempted = None;
        self.is_reported = false;
        // What it has is in the mirror.
        let _ = self.open_recent();
        // One without a stamp is new. One with another stamp than that would not be used.
        Ok(match meta.stamp {
            Some(_) => Reopened::Continued,
            None => Reopened::Replaced,
        })
    }

    /// Opens the file if it is as it was last written, or new.
    fn reopen_unless_strange(&mut self) -> Result<(Open, Meta), StoreError> {
        let found = Fingerprint::of(&self.path).ok();
        let journal = match self.closed.take() {
            Some(closed) if found == Some(closed.file) => Some(closed.journal),
            _ => None,
        };
        let (open, meta) = guarded(StoreError::Unreadable, || open(&self.path, true, journal))?;
        if meta.stamp.is_none() || meta.stamp == self.stamp || meta.stamp == self.attempted {
            return Ok((open, meta));
        }
        open.close();
        Err(StoreError::Unreadable(
            "it is not the one that was written before".to_owned(),
        ))
    }

    /// Closes the file, ready for [`Store::reopen`]; nothing if it is closed. That of recent changes
    /// stays in use: a mirror that is gone on with notes its changes before the state file is opened.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let before = open.file;
            self.closed = open.close().and_then(|journal| {
                let file = Fingerprint::of(&self.path).ok()?;
                file.is_same_file(&before)
                    .then_some(Closed { file, journal })
            });
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

impl Open {
    /// Checks that the file still has the name `path`: what is written to one that was deleted
    /// or renamed is lost.
    fn check_place(&self, path: &Path) -> Result<(), StoreError> {
        match Fingerprint::of(path) {
            Ok(found) if found.is_same_file(&self.file) => Ok(()),
            Ok(_) => Err(StoreError::Unavailable(
                "another file has taken its place".to_owned(),
            )),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Closes the file; gives its log if that went well.
    fn close(self) -> Option<Journal> {
        let closed = guarded(StoreError::Unavailable, || {
            Ok(self.database.close().map_err(redb::Error::from)?)
        });
        closed.is_ok().then_some(self.journal)
    }
}

/// Opens the file at `path`; where there is none one is made, if `make` is set. All that is in it is
/// checked, unless it is known to be as this process closed it, with this `journal`.
fn open(path: &Path, make: bool, journal: Option<Journal>) -> Result<(Open, Meta), StoreError> {
    let (database, file) = file::open(path, make, journal.is_none())?;
    let meta = Meta::read(&database)?;
    let journal = match journal {
        Some(journal) => journal,
        None => content::read_log(&database)?,
    };
    let open = Open {
        database,
        journal,
        file,
    };
    Ok((open, meta))
}

/// The files that belong to a state file at `path`: it, and the one of recent changes.
pub fn files(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), recent::path(path)]
}

/// Checks that the file at `path`, if there is one, may be used as a state file, for all that can be
/// known without touching it.
///
/// # Errors
/// [`StoreError::Foreign`] if it may not; [`StoreError::Unavailable`] if that cannot be found out now.
pub fn check(path: &Path) -> Result<(), StoreError> {
    ownership::look(path, file::is_own).map(drop)
}

/// Renames an unreadable file and says so.
fn set_aside(path: &Path, reason: &str) -> Result<(), StoreError> {
    let aside = file::set_aside(path).map_err(|error| {
        StoreError::Unavailable(format!("{reason}; and it is not set aside: {error}"))
    })?;
    tracing::error!(
        id = "BLQ_STATE_SET_ASIDE",
        "'state-file' {} cannot be used ({reason}); it was renamed to {}, and states are saved in \
         a new one",
        path.display(),
        aside.display(),
    );
    Ok(())
}
