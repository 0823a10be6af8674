//! The state file: what Kea does not keep, in an embedded store of one file.
//!
//! It holds, for each address with a state to tell, the whole binding as last changed (not
//! renewed), and each configured range with the time it was first configured. Every write is
//! one transaction that is on disk when it returns, so a crash loses nothing written before.

use std::any::Any;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
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
/// Who may read the file: its owner, and its group.
const MODE: u32 = 0o640;

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
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                StoreError::Unavailable(error.to_string())
            }
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Unavailable("another process uses it".to_owned())
            }
            error => StoreError::Unreadable(error.to_string()),
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

/// An open state file.
pub struct Store {
    /// The store. It locks the file as long as it is open.
    database: Database,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the state file at `path` and reads it, or makes a new one.
    ///
    /// # Errors
    /// See [`StoreError`]. The file is left as it was found.
    pub fn open(path: &Path) -> Result<(Store, Saved), StoreError> {
        // A damaged file can take the store's own code anywhere; a panic is one more way for
        // it to say so.
        catch_unwind(AssertUnwindSafe(|| {
            let store = Store {
                database: create(path)?,
            };
            let saved = store.read()?;
            Ok((store, saved))
        }))
        .unwrap_or_else(|panic| Err(StoreError::Unreadable(panic_text(&*panic))))
    }

    /// Opens the state file at `path` whatever it takes. One that cannot be read is set aside
    /// under another name and a new one begun; where not even that works the answer is without
    /// a store, and nothing is saved. Either is logged: the mirror can be filled from Kea.
    pub fn open_or_recover(path: &Path) -> (Option<Store>, Saved) {
        let refused = match Store::open(path) {
            Ok((store, saved)) => return (Some(store), saved),
            Err(StoreError::Unavailable(reason)) => reason,
            Err(StoreError::Unreadable(reason)) => match set_aside(path) {
                Ok(aside) => {
                    tracing::error!(
                        id = "BLQ_STATE_SET_ASIDE",
                        "state file {} cannot be read ({reason}); it was renamed to {}, and \
                         states are saved in a new one",
                        path.display(),
                        aside.display(),
                    );
                    match Store::open(path) {
                        Ok((store, saved)) => return (Some(store), saved),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => format!("{reason}; and cannot be renamed: {error}"),
            },
        };
        tracing::error!(
            id = "BLQ_STATE_UNAVAILABLE",
            "state file {} cannot be used: {refused}; states are not saved",
            path.display(),
        );
        (None, Saved::default())
    }

    /// Writes a batch. It is on disk when this returns.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing of the batch is written then.
    pub fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        catch_unwind(AssertUnwindSafe(|| self.write_batch(batch)))
            .unwrap_or_else(|panic| Err(StoreError::Unavailable(panic_text(&*panic))))
    }

    /// Writes a batch, as one transaction.
    fn write_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let written: Result<(), redb::Error> = (|| {
            let transaction = self.database.begin_write()?;
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
                        // Encoding to memory cannot fail; if it did, better no state than an
                        // old one.
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
        })();
        written.map_err(StoreError::from)
    }

    /// Reads everything.
    fn read(&self) -> Result<Saved, StoreError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Saved::default()),
            Err(error) => return Err(redb::Error::from(error).into()),
        };
        let number = |key| -> Result<Option<u64>, StoreError> {
            let value = meta.get(key).map_err(redb::Error::from)?;
            Ok(value.map(|value| value.value()))
        };
        match number(VERSION_KEY)? {
            Some(VERSION) => {}
            other => {
                return Err(StoreError::Unreadable(format!(
                    "its layout has version {}, this library reads {VERSION}",
                    other.unwrap_or(0)
                )));
            }
        }
        let saved_at = number(SAVED_AT_KEY)?
            .and_then(|at| u32::try_from(at).ok())
            .map(Time);
        Ok(Saved {
            bindings: read_table(&transaction, BINDINGS)?,
            ranges: read_table(&transaction, RANGES)?,
            saved_at,
        })
    }
}

/// Opens or makes the file at `path`.
fn create(path: &Path) -> Result<Database, StoreError> {
    // Made here for its mode; the store takes an empty file for a new one.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Database::create(path).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error)) => redb::Error::Io(error).into(),
        error => redb::Error::from(error).into(),
    })
}

/// All values of a table, in the order of their keys; none if there is no such table.
fn read_table<T: serde::de::DeserializeOwned>(
    transaction: &redb::ReadTransaction,
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

/// Renames an unreadable file, to a name of its own that tells when; says to which.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".unreadable-{}", Time::now().0));
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::{Client, HardwareAddress, State, SubnetId};
    use crate::time::Lifetime;
    use crate::vpn::Vpn;
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
            remote: false,
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
        let (store, saved) = Store::open(&path).unwrap();
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
            let (store, _) = Store::open(&path).unwrap();
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
        let (store, _) = Store::open(&path).unwrap();
        store.write(&batch(&[binding(1)])).unwrap();
        let transaction = store.database.begin_write().unwrap();
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
        let (first, _) = Store::open(&path).unwrap();
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
        let (store, _) = Store::open_or_recover(&path.join("below/nothing"));
        assert!(store.is_none());
        let (store, _) = Store::open_or_recover(directory.path());
        assert!(store.is_none());
        assert!(directory.path().is_dir());
    }
}
