//! What is in the state file: its tables, read as a whole and written a batch at a time.

use std::iter::Peekable;
use std::net::Ipv4Addr;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mirror::dirty_set::Unwritten;
use crate::mirror::ranges::{CommonDigests, ConfiguredSubnet, SavedView};
use crate::model::binding::Binding;
use crate::model::client::{Client, ClientParts};
use crate::model::time::Time;
use crate::persist::store::journal::{Entry, Journal};
use crate::persist::store::{BINDINGS, Batch, StoreError};

/// Numbers about the file as a whole, by name.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Configured ranges by first address, each a [`TimedRange`](crate::mirror::ranges::TimedRange) in postcard's encoding.
const RANGES: TableDefinition<u32, &[u8]> = TableDefinition::new("ranges");
/// Configured subnets by number, each a [`ConfiguredSubnet`] in postcard's encoding, followed by its
/// [`SubnetView`](crate::mirror::ranges::SubnetView) in the same, which earlier versions of this library neither
/// wrote nor read.
const SUBNETS: TableDefinition<u32, &[u8]> = TableDefinition::new("subnets");
/// Subnets that were configured, each a [`FormerSubnet`](crate::mirror::ranges::FormerSubnet) in postcard's encoding,
/// numbered from 0 on, the latest last.
const FORMER_SUBNETS: TableDefinition<u32, &[u8]> = TableDefinition::new("former-subnets");

/// In [`META`]: the version of the layout.
pub const VERSION_KEY: &str = "version";
/// In [`META`]: when the file was last written.
const SAVED_AT_KEY: &str = "saved-at";
/// In [`META`]: the stamp of the last transaction.
const STAMP_KEY: &str = "stamp";
/// In [`META`]: the latest transaction of a lease in Kea's lease database.
const LATEST_KEY: &str = "latest-transaction";
/// In [`META`]: when that was last compared as a whole.
const COMPARED_AT_KEY: &str = "compared-at";
/// In [`META`]: [`CommonDigests::common`].
const COMMON_KEY: &str = "common-digest";
/// In [`META`]: [`CommonDigests::hosts`].
const HOSTS_KEY: &str = "hosts-digest";
/// The layout this code reads and writes.
pub const VERSION: u64 = 2;

/// What the file says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// When it was last written; `None` if it is new.
    pub saved_at: Option<Time>,
    /// The number drawn for the last transaction, which tells it from all others; `None` if
    /// there was none.
    pub stamp: Option<u64>,
    /// The latest transaction of a lease that Kea's lease database had.
    pub latest: Option<Time>,
    /// When that was last compared as a whole.
    pub resynced_at: Option<Time>,
    /// What replies about leases took from the configuration outside of subnets.
    pub digests: Option<CommonDigests>,
}

impl Meta {
    /// Reads it; one of a version that this code does not know is refused.
    pub fn read(database: &Database) -> Result<Meta, StoreError> {
        let transaction = database.begin_read().map_err(redb::Error::from)?;
        let table = match transaction.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Meta::default()),
            Err(error) => return Err(redb::Error::from(error).into()),
        };
        let number = |key| -> Result<Option<u64>, StoreError> {
            let value = table.get(key).map_err(redb::Error::from)?;
            Ok(value.map(|value| value.value()))
        };
        let version = number(VERSION_KEY)?.unwrap_or(0);
        if version != VERSION {
            return Err(StoreError::Unreadable(format!(
                "its layout has version {version}, this library reads {VERSION}"
            )));
        }
        let time = |key| -> Result<Option<Time>, StoreError> {
            Ok(number(key)?.and_then(|at| u32::try_from(at).ok()).map(Time))
        };
        let digests = number(COMMON_KEY)?.zip(number(HOSTS_KEY)?);
        Ok(Meta {
            saved_at: time(SAVED_AT_KEY)?,
            stamp: number(STAMP_KEY)?,
            latest: time(LATEST_KEY)?,
            resynced_at: time(COMPARED_AT_KEY)?,
            digests: digests.map(|(common, hosts)| CommonDigests { common, hosts }),
        })
    }
}

/// Reads where things are in the log.
pub fn read_log(database: &Database) -> Result<Journal, StoreError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    Ok(Journal::read(&transaction)?)
}

/// Reads everything: gives each binding, in the order of addresses, and what is configured.
pub fn read(
    database: &Database,
    journal: &Journal,
    mut take: impl FnMut(Binding),
) -> Result<SavedView, StoreError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let mut saved_view = SavedView::default();
    each(&transaction, RANGES, |_, encoded| {
        saved_view.ranges.push(decoded(encoded)?);
        Ok(())
    })?;
    each(&transaction, SUBNETS, |_, encoded| {
        let (subnet, view) = with_addition(encoded)?;
        saved_view.subnets.push(ConfiguredSubnet { view, ..subnet });
        Ok(())
    })?;
    each(&transaction, FORMER_SUBNETS, |_, encoded| {
        saved_view.former_subnets.push(decoded(encoded)?);
        Ok(())
    })?;
    let mut logged = Vec::new();
    journal.latest(&transaction, |address, encoded| -> Result<(), StoreError> {
        let binding = match encoded {
            [] => None,
            encoded => Some(binding(address, encoded)?),
        };
        logged.push((address, binding));
        Ok(())
    })?;
    logged.sort_unstable_by_key(|(address, _)| *address);
    let mut logged = logged.into_iter().peekable();
    each(&transaction, BINDINGS, |address, encoded| {
        let is_logged = overtake(&mut logged, address, &mut take);
        if !is_logged {
            take(binding(address, encoded)?);
        }
        Ok(())
    })?;
    logged.filter_map(|(_, binding)| binding).for_each(take);
    Ok(saved_view)
}

/// Gives what the log has of addresses up to `last`; says whether it has that one.
fn overtake(
    logged: &mut Peekable<impl Iterator<Item = (u32, Option<Binding>)>>,
    last: u32,
    take: &mut impl FnMut(Binding),
) -> bool {
    let mut has_last = false;
    while let Some((address, binding)) = logged.next_if(|(address, _)| *address <= last) {
        binding.into_iter().for_each(&mut *take);
        has_last = address == last;
    }
    has_last
}

/// Gives all values of a table, in the order of their keys; none if there is no such table.
fn each(
    transaction: &ReadTransaction,
    definition: TableDefinition<u32, &[u8]>,
    mut take: impl FnMut(u32, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let table = match transaction.open_table(definition) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    for entry in table.iter().map_err(redb::Error::from)? {
        let (key, value) = entry.map_err(redb::Error::from)?;
        take(key.value(), value.value())?;
    }
    Ok(())
}

/// The binding stored for an address.
fn binding(address: u32, encoded: &[u8]) -> Result<Binding, StoreError> {
    let (mut binding, stored): (Binding, Option<Vec<u8>>) = with_addition(encoded)?;
    if let Some((stored, client)) = stored.zip(binding.client.as_mut()) {
        *client = Client::from(&ClientParts {
            stored: &stored,
            ..client.view().parts()
        });
    }
    if binding.address.to_bits() != address {
        return Err(StoreError::Unreadable(format!(
            "what it has for {} is about {}",
            Ipv4Addr::from_bits(address),
            binding.address,
        )));
    }
    Ok(binding)
}

/// A stored value, and what was added to it, if anything was.
fn with_addition<T: DeserializeOwned, Addition: DeserializeOwned>(
    encoded: &[u8],
) -> Result<(T, Option<Addition>), StoreError> {
    let (value, rest) = postcard::take_from_bytes(encoded).map_err(unreadable)?;
    let addition = (!rest.is_empty()).then(|| decoded(rest));
    Ok((value, addition.transpose()?))
}

/// What is not as it was encoded.
fn unreadable(error: postcard::Error) -> StoreError {
    StoreError::Unreadable(error.to_string())
}

/// A stored value.
fn decoded<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(encoded).map_err(unreadable)
}

/// What is to be stored for an address. Encoding to memory cannot fail; if it did, better no
/// state than an old one.
fn entries(bindings: &[Unwritten]) -> Vec<Entry> {
    let encoded = |binding: &Option<Binding>| {
        let binding = binding.as_ref()?;
        let stored = binding.client.as_ref().map(|client| client.view().stored());
        encoded(binding, stored.filter(|stored| !stored.is_empty()))
    };
    bindings
        .iter()
        .map(|(address, binding)| (address.to_bits(), encoded(binding).unwrap_or_default()))
        .collect()
}

/// A value as it is stored, and what is added to it.
fn encoded(value: &impl Serialize, addition: Option<impl Serialize>) -> Option<Vec<u8>> {
    let octets = postcard::to_stdvec(value).ok()?;
    match addition {
        Some(addition) => postcard::to_extend(&addition, octets).ok(),
        None => Some(octets),
    }
}

/// Writes a batch, as one transaction with a stamp.
pub fn write(
    database: &Database,
    journal: &mut Journal,
    batch: &Batch,
    stamp: u64,
) -> Result<(), redb::Error> {
    let changes = entries(&batch.bindings.changed);
    let rest = entries(&batch.bindings.rest);
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(VERSION_KEY, VERSION)?;
        meta.insert(SAVED_AT_KEY, u64::from(batch.at.0))?;
        meta.insert(STAMP_KEY, stamp)?;
        for (key, time) in [
            (LATEST_KEY, batch.latest),
            (COMPARED_AT_KEY, batch.resynced_at),
        ] {
            if let Some(time) = time {
                meta.insert(key, u64::from(time.0))?;
            }
        }
        journal.write(&transaction, &changes, &rest)?;
        if let Some(saved_view) = &batch.saved_view {
            if let Some(digests) = saved_view.digests {
                meta.insert(COMMON_KEY, digests.common)?;
                meta.insert(HOSTS_KEY, digests.hosts)?;
            }
            let ranges = saved_view.ranges.iter();
            let ranges = ranges.map(|range| (range.first.to_bits(), encoded(range, NONE)));
            replace(&transaction, RANGES, ranges)?;
            let subnets = saved_view.subnets.iter();
            let subnets =
                subnets.map(|subnet| (subnet.id.0, encoded(subnet, subnet.view.as_ref())));
            replace(&transaction, SUBNETS, subnets)?;
            let former = (0..).zip(&saved_view.former_subnets);
            let former = former.map(|(number, subnet)| (number, encoded(subnet, NONE)));
            replace(&transaction, FORMER_SUBNETS, former)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Nothing is added.
const NONE: Option<()> = None;

/// Replaces all of a table.
fn replace(
    transaction: &WriteTransaction,
    definition: TableDefinition<u32, &[u8]>,
    entries: impl Iterator<Item = (u32, Option<Vec<u8>>)>,
) -> Result<(), redb::Error> {
    transaction.delete_table(definition)?;
    let mut table = transaction.open_table(definition)?;
    for (key, entry) in entries {
        // Encoding to memory cannot fail.
        table.insert(key, entry.unwrap_or_default().as_slice())?;
    }
    Ok(())
}
