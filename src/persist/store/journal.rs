//! The log in the state file: where scattered changes are written first.
//!
//! A transaction rewrites each page of the file that it changes, and changes of addresses here
//! and there change a page of the table of bindings each: about fifty times the octets that
//! changed. In the log they lie side by side. What waits there is settled, which is to move it
//! into the table, a little with each transaction and in the order of addresses, round and
//! round: the more waits, the more of it goes into each page that is rewritten. `benches/README.md`
//! has figures.
//!
//! An address that has an entry in the log is as its last entry says, whatever the table says.
//! Entries leave the log from its old end, once settled or overtaken by a later one.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError};
use redb::{StorageError, WriteTransaction};

use crate::persist::store::BINDINGS;

/// What was written, by its serial number: the address and its binding in postcard's encoding,
/// empty for one that is to be removed.
const LOG: TableDefinition<u64, (u32, &[u8])> = TableDefinition::new("log");

/// The share of all bindings that may wait to be settled is one of this many.
const SHARE: u64 = 4;
/// How many may wait whatever the share: below, the log of a small table would be moved about
/// for nothing. So few in tests that it is.
const LEAST_WAITING: u64 = if cfg!(test) { 8 } else { 1_000 };
/// The most that may wait: bounds memory.
const MOST_WAITING: u64 = 250_000;
/// How many times as many entries as may wait the log may have, before more than that is
/// settled: those overtaken or settled behind one that waits.
const LENGTHS: u64 = 3;

/// A binding to be written: address, and postcard's encoding; empty to remove it.
pub type Entry = (u32, Vec<u8>);

/// What the log holds of one address.
#[derive(Clone, Copy, Debug)]
struct Latest {
    /// The serial number of its last entry.
    serial: u64,
    /// Whether that has been moved to the table of bindings.
    is_settled: bool,
}

/// Where things are in the log.
#[derive(Debug, Default)]
pub struct Journal {
    /// The addresses that have entries.
    latest: BTreeMap<u32, Latest>,
    /// How many of them are not settled.
    waiting: u64,
    /// The serial number of the next entry.
    next: u64,
    /// The address from which on the next ones are settled.
    hand: u32,
}

impl Journal {
    /// Reads a log; none is an empty one. What is settled is not known, and it does no harm to
    /// settle it again.
    pub fn read(transaction: &ReadTransaction) -> Result<Journal, redb::Error> {
        let mut journal = Journal::default();
        let table = match transaction.open_table(LOG) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(journal),
            opened => opened?,
        };
        for entry in table.iter()? {
            let (serial, entry) = entry?;
            journal.enter(entry.value().0, serial.value());
        }
        Ok(journal)
    }

    /// Gives what each address in the log is to be, in no order.
    pub fn latest<E: From<redb::Error>>(
        &self,
        transaction: &ReadTransaction,
        mut take: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.latest.is_empty() {
            return Ok(());
        }
        // From end to end: looking for each one would take longer.
        let table = transaction.open_table(LOG).map_err(redb::Error::from)?;
        for entry in table.iter().map_err(redb::Error::from)? {
            let (serial, entry) = entry.map_err(redb::Error::from)?;
            let (address, encoded) = entry.value();
            let latest = self.latest.get(&address);
            if latest.is_some_and(|latest| latest.serial == serial.value()) {
                take(address, encoded)?;
            }
        }
        Ok(())
    }

    /// Writes `rest`, which goes to the table of bindings at once as it is so much that it fills
    /// pages, and scattered changes, which are later than what the rest says of their addresses.
    /// In case of an error the log must be read again.
    pub fn write(
        &mut self,
        transaction: &WriteTransaction,
        changes: &[Entry],
        rest: &[Entry],
    ) -> Result<(), redb::Error> {
        let mut journal = transaction.open_table(LOG)?;
        let mut bindings = transaction.open_table(BINDINGS)?;
        let mut written = 0_u64;
        let mut append =
            |this: &mut Journal, (address, encoded): &Entry| -> Result<(), StorageError> {
                journal.insert(this.next, (*address, encoded.as_slice()))?;
                this.enter(*address, this.next);
                written += 1;
                Ok(())
            };
        for entry in rest {
            // The table has no say in an address that has an entry in the log.
            if self.latest.contains_key(&entry.0) {
                append(self, entry)?;
            } else {
                put(&mut bindings, entry.0, &entry.1)?;
            }
        }
        for change in changes {
            append(self, change)?;
        }
        let may_wait = (bindings.len()? / SHARE).clamp(LEAST_WAITING, MOST_WAITING);
        if self.waiting > may_wait || journal.len()? > may_wait * LENGTHS {
            // More than was written, so that there is an end to it after a shorter share.
            for (address, serial) in self.settle(written + written / 8 + 64) {
                let entry = journal.get(serial)?.ok_or_else(missing)?;
                put(&mut bindings, address, entry.value().1)?;
            }
        }
        for _ in 0..2 * written + 64 {
            let Some((serial, address)) = journal
                .first()?
                .map(|(serial, entry)| (serial.value(), entry.value().0))
            else {
                break;
            };
            match self.latest.get(&address) {
                Some(latest) if latest.serial == serial && !latest.is_settled => break,
                Some(latest) if latest.serial == serial => {
                    self.latest.remove(&address);
                }
                _ => {}
            }
            journal.remove(serial)?;
        }
        Ok(())
    }

    /// Notes an entry.
    fn enter(&mut self, address: u32, serial: u64) {
        let latest = Latest {
            serial,
            is_settled: false,
        };
        let before = self.latest.insert(address, latest);
        if before.is_none_or(|before| before.is_settled) {
            self.waiting += 1;
        }
        self.next = serial + 1;
    }

    /// Notes up to `count` of the next entries as settled; gives their addresses and numbers.
    fn settle(&mut self, count: u64) -> Vec<(u32, u64)> {
        let mut settled = Vec::new();
        let hand = self.hand;
        'round: for part in [hand..=u32::MAX, 0..=hand] {
            for (address, latest) in self.latest.range_mut(part) {
                if settled.len() as u64 >= count {
                    self.hand = *address;
                    break 'round;
                }
                if !latest.is_settled {
                    latest.is_settled = true;
                    settled.push((*address, latest.serial));
                }
            }
        }
        self.waiting -= settled.len() as u64;
        settled
    }
}

/// Writes a binding to the table, or removes it.
fn put(
    bindings: &mut redb::Table<'_, u32, &[u8]>,
    address: u32,
    encoded: &[u8],
) -> Result<(), StorageError> {
    if encoded.is_empty() {
        bindings.remove(address)?;
    } else {
        bindings.insert(address, encoded)?;
    }
    Ok(())
}

/// An entry of the log is not there.
fn missing() -> redb::Error {
    redb::Error::Corrupted("an entry of the log is missing".to_owned())
}
