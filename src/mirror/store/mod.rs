//! The state file: what Kea does not keep, in an embedded store of one file.
//!
//! It holds, for each address with a state to tell, the whole binding as last changed (not
//! renewed), and each configured range with the time it was first configured. Every write is
//! one transaction that is on disk when it returns, so a crash loses nothing written before.
//! Everything in the file carries a checksum, which is checked when it is opened.

mod file;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};

use super::Saved;
use super::ranges::TimedRange;
use crate::binding::Binding;
use crate::time::Time;

/// Numbers about the file as a whole, by name.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Bindings by address, each a [`Binding`] in postcard's encoding.
const BINDINGS: TableDefinition<u32, &[u8]> = TableDefinition::new("bindings");
/// Configured ranges by first address, each a [`TimedRange`] in postcard's encoding.
const RANGES: TableDefinition<u32, &[u8]> = TableDefinition::new("ranges");

/// In [`META`]: the version of the layout.
const VERSION_KEY: &str = "version";
/// In [`META`]: when the file was last written.
const SAVED_AT_KEY: &str = "saved-at";
/// The layout this code reads and writes.
const VERSION: u64 = 1;

/// Why the state file cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// It is there, but not as it was written: damaged, something else, or of a newer version.
    Unreadable(String),
    /// It cannot be opened, read or written now: permissions, a full disk, another process.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StoreError::Unreadable(reason) | StoreError::Unavailable(reason)) = self;
        f.write_str(reason)
    }
}

impl From<redb::Error> for StoreError {
    /// Only what the file itself says makes it unreadable: a good one must never be set aside
    /// for a fault of the moment.
    fn from(error: redb::Error) -> Self {
        let is_files_fault = match &error {
            redb::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => true,
            _ => false,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Unavailable("another process uses it".to_owned())
            }
            error if is_files_fault => StoreError::Unreadable(error.to_string()),
            error => StoreError::Unavailable(error.to_string()),
        }
    }
}

/// What is to be written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Addresses that changed, each with its binding, or without if it is to be removed.
    pub bindings: Vec<(Ipv4Addr, Option<Binding>)>,
    /// The configured ranges, if they changed.
    pub ranges: Option<Vec<TimedRange>>,
    /// When the batch was put together.
    pub at: Time,
}

/// What a file that could not be written turned out to be once it could be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// All that was written before the failure.
    Continued,
    /// A new file, or one in another state: everything has to be written again.
    Replaced,
}

/// A state file in use.
pub struct Store {
    /// Where it is.
    path: PathBuf,
    /// The store, which locks the file as long as it is open; `None` after a failed write.
    database: Option<Database>,
    /// When the file was last written, by what it said or by a write that succeeded.
    saved_at: Option<Time>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .field("saved_at", &self.saved_at)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the state file at `path` and reads it, or makes a new one.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is left as it was found.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        guarded(StoreError::Unreadable, || {
            let (database, saved_at) = open_checked(path)?;
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let saved = Saved {
                bindings: read_table(&transaction, BINDINGS)?,
                ranges: read_table(&transaction, RANGES)?,
                saved_at,
            };
            drop(transaction);
            let store = Store {
                path: path.to_owned(),
                database: Some(database),
                saved_at,
            };
            Ok((store, saved))
        })
    }

    /// Opens the state file at `path` whatever it takes. One that cannot be read is set aside
    /// under another name and a new one begun; where not even that works the answer is without
    /// a store, and nothing is saved. Either is logged: the mirror can be filled from Kea.
    pub fn open_or_recover(path: &Path) -> (Option<Store>, Saved) {
        let opened = match Store::open(path) {
            Err(StoreError::Unreadable(reason)) => {
                set_aside(path, &reason).and_then(|()| Store::open(path))
            }
            opened => opened,
        };
        match opened {
            Ok((store, saved)) => (Some(store), saved),
            Err(error) => {
                tracing::error!(
                    id = "BLQ_STATE_UNAVAILABLE",
                    "'state-file' {} cannot be used: {error}; states are not saved",
                    path.display(),
                );
                (None, Saved::default())
            }
        }
    }

    /// Writes a batch. It is on disk when this returns.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then, for the store refuses to go on after an
    /// error of the disk: see [`Store::reopen`].
    pub fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let written = guarded(StoreError::Unavailable, || match &self.database {
            Some(database) => write_batch(database, batch).map_err(StoreError::from),
            None => Err(StoreError::Unavailable("it is closed".to_owned())),
        });
        match written {
            Ok(()) => self.saved_at = Some(batch.at),
            Err(_) => self.close(),
        }
        written
    }

    /// Opens the file again after a failed write. One that has become unreadable is set aside
    /// and a new one begun.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is closed then.
    pub fn reopen(&mut self) -> Result<Reopened, StoreError> {
        self.close();
        let open = || guarded(StoreError::Unreadable, || open_checked(&self.path));
        let (database, saved_at) = match open() {
            Err(StoreError::Unreadable(reason)) => {
                set_aside(&self.path, &reason).and_then(|()| open())?
            }
            opened => opened?,
        };
        self.database = Some(database);
        if saved_at == self.saved_at {
            Ok(Reopened::Continued)
        } else {
            self.saved_at = saved_at;
            Ok(Reopened::Replaced)
        }
    }

    /// Closes the file.
    fn close(&mut self) {
        let database = self.database.take();
        // The store tidies up as it closes, and reports what fails by itself when reopened.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Does what the store's own code may panic at: a damaged file can take it anywhere. A panic
/// is one more way for it to say so.
fn guarded<T>(
    panicked: fn(String) -> StoreError,
    act: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(panicked(panic_text(&*panic))))
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it cannot be read")
        .to_owned()
}

/// Renames an unreadable file and says so.
fn set_aside(path: &Path, reason: &str) -> Result<(), StoreError> {
    let aside = file::set_aside(path).map_err(|error| {
        StoreError::Unavailable(format!("{reason}; and it cannot be renamed: {error}"))
    })?;
    tracing::error!(
        id = "BLQ_STATE_SET_ASIDE",
        "'state-file' {} cannot be read ({reason}); it was renamed to {}, and states are saved in \
         a new one",
        path.display(),
        aside.display(),
    );
    Ok(())
}

/// Opens or makes the file at `path`; says when it was last written, `None` if it is new.
fn open_checked(path: &Path) -> Result<(Database, Option<Time>), StoreError> {
    let database = file::open(path)?;
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok((database, None)),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    let number = |key| -> Result<Option<u64>, StoreError> {
        let value = meta.get(key).map_err(redb::Error::from)?;
        Ok(value.map(|value| value.value()))
    };
    let version = number(VERSION_KEY)?.unwrap_or(0);
    if version != VERSION {
        return Err(StoreError::Unreadable(format!(
            "its layout has version {version}, this library reads {VERSION}"
        )));
    }
    let saved_at = number(SAVED_AT_KEY)?
        .and_then(|at| u32::try_from(at).ok())
        .map(Time);
    drop((meta, transaction));
    Ok((database, saved_at))
}

/// All values of a table, in the order of their keys; none if there is no such table.
fn read_table<T: serde::de::DeserializeOwned>(
    transaction: &ReadTransaction,
    definition: TableDefinition<u32, &[u8]>,
) -> Result<Vec<T>, StoreError> {
    let table = match transaction.open_table(definition) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    table
        .iter()
        .map_err(redb::Error::from)?
        .map(|entry| {
            let (_, value) = entry.map_err(redb::Error::from)?;
            postcard::from_bytes(value.value())
                .map_err(|error| StoreError::Unreadable(error.to_string()))
        })
        .collect()
}

/// Writes a batch, as one transaction.
fn write_batch(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(VERSION_KEY, VERSION)?;
        meta.insert(SAVED_AT_KEY, u64::from(batch.at.0))?;
        let mut bindings = transaction.open_table(BINDINGS)?;
        for (address, binding) in &batch.bindings {
            match binding.as_ref().map(postcard::to_stdvec) {
                Some(Ok(encoded)) => {
                    bindings.insert(address.to_bits(), encoded.as_slice())?;
                }
                // Encoding to memory cannot fail; if it did, better no state than an old one.
                Some(Err(_)) | None => {
                    bindings.remove(address.to_bits())?;
                }
            }
        }
    }
    if let Some(ranges) = &batch.ranges {
        transaction.delete_table(RANGES)?;
        let mut table = transaction.open_table(RANGES)?;
        for range in ranges {
            if let Ok(encoded) = postcard::to_stdvec(range) {
                table.insert(range.first.to_bits(), encoded.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
