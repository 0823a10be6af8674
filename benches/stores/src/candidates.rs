//! The stores that are compared, each used as its documentation advises for many small durable
//! transactions, behind what the state file needs of one.

use std::path::Path;

use dhcp_blq::model::binding::Binding;
use dhcp_blq::persist::{Batch, Store};
use dhcp_blq::mirror::dirty_set::DirtyPart;
use dhcp_blq::model::time::Time;
use fjall::{KeyspaceCreateOptions, PersistMode};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U32};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rusqlite::Connection;

/// The result of a step; an error ends the measurement.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The memory each store is given to hold parts of the file, where it asks.
const CACHE_OCTETS: usize = 32 << 20;

/// The names by which candidates are chosen.
pub const NAMES: [&str; 7] = [
    "kea-blq",
    "redb",
    "redb-quick-repair",
    "fjall",
    "sqlite",
    "sqlite-small-pages",
    "lmdb",
];

/// The value of an address.
pub struct Value {
    /// The address.
    pub address: u32,
    /// The value.
    pub binding: Binding,
    /// The value, encoded.
    pub encoded: Vec<u8>,
}

/// The part of the work that a transaction belongs to.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The first fill, in the order of addresses.
    Fill,
    /// Changes here and there.
    Change,
}

/// A store, as far as the state file needs one.
pub trait Candidate {
    /// Writes values by address, on disk when it returns.
    fn write(&mut self, kind: Kind, values: &[Value]) -> Result<()>;

    /// Reads every value.
    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()>;
}

/// Opens or makes candidate `name` at `path`.
pub fn open(name: &str, path: &Path) -> Result<Box<dyn Candidate>> {
    Ok(match name {
        "redb" => Box::new(Redb::open(path, false)?),
        "redb-quick-repair" => Box::new(Redb::open(path, true)?),
        "kea-blq" => Box::new(StateFile::open(path)?),
        "fjall" => Box::new(Fjall::open(path)?),
        "sqlite" => Box::new(Sqlite::open(path, 4096)?),
        "sqlite-small-pages" => Box::new(Sqlite::open(path, 1024)?),
        "lmdb" => Box::new(Lmdb::open(path)?),
        _ => return Err(format!("{name} is none of {NAMES:?}").into()),
    })
}

/// Values by address.
const VALUES: TableDefinition<u32, &[u8]> = TableDefinition::new("values");

/// redb: a B-tree that copies pages as it writes them, in one file.
struct Redb {
    database: redb::Database,
    quick_repair: bool,
}

impl Redb {
    fn open(path: &Path, quick_repair: bool) -> Result<Redb> {
        let database = redb::Database::builder()
            .set_cache_size(CACHE_OCTETS)
            .set_check_integrity_on_open(true)
            .create(path)?;
        Ok(Redb {
            database,
            quick_repair,
        })
    }
}

impl Candidate for Redb {
    fn write(&mut self, _: Kind, values: &[Value]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(self.quick_repair);
        {
            let mut table = transaction.open_table(VALUES)?;
            for Value {
                address, encoded, ..
            } in values
            {
                table.insert(address, encoded.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()> {
        let table = self.database.begin_read()?.open_table(VALUES)?;
        for entry in table.iter()? {
            let (_, value) = entry?;
            take(postcard::from_bytes(value.value())?);
        }
        Ok(())
    }
}

/// The state file of kea-blq: a journal, compacted when half of it is of no use.
struct StateFile {
    store: Store,
    /// The bindings found when it was opened, which is when all are read; dropped with the first write.
    saved: Vec<Binding>,
}

impl StateFile {
    fn open(path: &Path) -> Result<StateFile> {
        let (store, saved) = Store::open(path).map_err(|error| error.to_string())?;
        Ok(StateFile {
            store,
            saved: saved.bindings,
        })
    }
}

impl Candidate for StateFile {
    fn write(&mut self, kind: Kind, values: &[Value]) -> Result<()> {
        let bindings = values
            .iter()
            .map(|value| (value.binding.address, Some(value.binding.clone())))
            .collect();
        self.saved = Vec::new();
        let bindings = match kind {
            Kind::Fill => DirtyPart {
                changed: Vec::new(),
                rest: bindings,
            },
            Kind::Change => DirtyPart {
                changed: bindings,
                rest: Vec::new(),
            },
        };
        let batch = Batch {
            bindings,
            at: Time::now(),
            ..Batch::default()
        };
        let written = self.store.write(&batch);
        // One step with each transaction, as the flush worker does.
        let compacted = written.and_then(|()| self.store.compact());
        compacted.map_err(|error| error.to_string())?;
        Ok(())
    }

    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()> {
        self.saved.iter().cloned().for_each(take);
        Ok(())
    }
}

/// fjall: a log-structured merge tree, in a directory.
struct Fjall {
    database: fjall::Database,
    values: fjall::Keyspace,
}

impl Fjall {
    fn open(path: &Path) -> Result<Fjall> {
        let database = fjall::Database::builder(path)
            .cache_size(CACHE_OCTETS as u64)
            .worker_threads(1)
            .open()?;
        let values = database.keyspace("values", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, values })
    }
}

impl Candidate for Fjall {
    fn write(&mut self, _: Kind, values: &[Value]) -> Result<()> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for Value {
            address, encoded, ..
        } in values
        {
            batch.insert(&self.values, address.to_be_bytes(), encoded.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()> {
        for entry in self.values.iter() {
            let (_, value) = entry.into_inner()?;
            take(postcard::from_bytes(&value)?);
        }
        Ok(())
    }
}

/// SQLite: a B-tree and a write-ahead log, in three files while open.
struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    fn open(path: &Path, page_octets: i64) -> Result<Sqlite> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", page_octets)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -((CACHE_OCTETS / 1024) as i64))?;
        // The same octets between two checkpoints as with pages of 4096: by default 4 MB, which
        // is one transaction here.
        connection.pragma_update(None, "wal_autocheckpoint", (64 << 20) / page_octets)?;
        connection.execute(
            "CREATE TABLE IF NOT EXISTS stored (address INTEGER PRIMARY KEY, value BLOB)",
            [],
        )?;
        Ok(Sqlite { connection })
    }
}

impl Candidate for Sqlite {
    fn write(&mut self, _: Kind, values: &[Value]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement =
                transaction.prepare_cached("INSERT OR REPLACE INTO stored VALUES (?1, ?2)")?;
            for Value {
                address, encoded, ..
            } in values
            {
                statement.execute((address, encoded))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()> {
        let mut statement = self
            .connection
            .prepare("SELECT value FROM stored ORDER BY address")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(postcard::from_bytes(row.get_ref(0)?.as_blob()?)?);
        }
        Ok(())
    }
}

/// LMDB: a B-tree that copies pages as it writes them, mapped into memory; a file of data and
/// one of locks.
struct Lmdb {
    env: &'static heed::Env,
    values: heed::Database<'static, U32<BigEndian>, Bytes>,
}

impl Lmdb {
    fn open(path: &Path) -> Result<Lmdb> {
        let mut options = heed::EnvOpenOptions::new();
        options.map_size(4 << 30);
        // SAFETY: nothing else uses the files of a measurement.
        let env = unsafe {
            options.flags(heed::EnvFlags::NO_SUB_DIR);
            options.open(path)?
        };
        // A table borrows its environment; the end of the process closes both.
        let env: &'static heed::Env = Box::leak(Box::new(env));
        let transaction = env.write_txn()?;
        let values = env
            .create_databases_and_commit(transaction, |databases, transaction| {
                databases
                    .create_database(transaction, None)
                    .map(heed::CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Lmdb { env, values })
    }
}

impl Candidate for Lmdb {
    fn write(&mut self, _: Kind, values: &[Value]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for Value {
            address, encoded, ..
        } in values
        {
            self.values.put(&mut transaction, address, encoded)?;
        }
        Ok(transaction.commit()?)
    }

    fn read_all(&self, take: &mut dyn FnMut(Binding)) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for entry in self.values.iter(&transaction)? {
            let (_, value) = entry?;
            take(postcard::from_bytes(value)?);
        }
        Ok(())
    }
}
