//! A scan for the latest entry of each address.

use roaring::RoaringBitmap;

use crate::persist::error::StoreError;
use crate::persist::journal::{Boundary, Journal};
use crate::persist::transaction::{self, Entry, Meta};

/// A backward scan of a journal: the first entry found of an address is its latest. Its memory is
/// that of one transaction, and one or two bits for each address.
#[derive(Debug)]
pub struct Scan {
    /// The end of the transactions that are not scanned yet.
    tail: Boundary,
    /// The start of these transactions.
    start: Boundary,
    /// Addresses found.
    seen: RoaringBitmap,
    /// The metadata found.
    pub meta: Meta,
    /// Total octets of the entries and metadata found.
    pub live: u64,
    /// The last frame read.
    frame: Vec<u8>,
}

impl Scan {
    /// Returns a scan of all of `journal`.
    pub fn new(journal: &Journal) -> Scan {
        Scan::after(Boundary::START, journal)
    }

    /// Returns a scan of the transactions of `journal` after `start`.
    pub fn after(start: Boundary, journal: &Journal) -> Scan {
        Scan {
            tail: journal.tail(),
            start,
            seen: RoaringBitmap::new(),
            meta: Meta::default(),
            live: 0,
            frame: Vec::new(),
        }
    }

    /// Scans one transaction, and passes the latest entry of each address to `visit`. A scan of the
    /// whole journal omits removals. Returns `false` if no transaction is left.
    pub fn step(
        &mut self,
        journal: &Journal,
        mut visit: impl FnMut(&Entry<'_>) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if self.tail == self.start {
            return Ok(false);
        }
        let (payload, tail) = journal.read_before(self.tail, &mut self.frame)?;
        let (meta, entries) = transaction::decode(payload)?;
        self.tail = tail;
        self.meta.complete(meta);
        for entry in entries {
            let entry = entry?;
            // In a scan of later transactions, a removal applies to an entry before them.
            let is_needed = !entry.binding.is_empty() || self.start != Boundary::START;
            if self.seen.insert(entry.address) && is_needed {
                self.live += entry.octets();
                visit(&entry)?;
            }
        }
        Ok(true)
    }

    /// Returns the octets of transactions that are not scanned yet.
    pub fn left(&self) -> u64 {
        self.tail.offset.saturating_sub(self.start.offset)
    }
}
