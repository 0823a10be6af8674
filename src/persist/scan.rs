//! A scan for the latest entry of each address.

use std::mem;

use roaring::RoaringBitmap;

use crate::persist::error::StoreError;
use crate::persist::journal::{Journal, Tail};
use crate::persist::transaction::{self, Entry, Meta};

/// A scan of a journal from its last transaction to its first: the first entry found of an address is the
/// latest. Takes the memory of one transaction and of a bit or two for each address.
#[derive(Debug)]
pub struct Scan {
    /// The end of the transactions that are not scanned.
    tail: Tail,
    /// Where these begin.
    start: Tail,
    /// Addresses found.
    seen: RoaringBitmap,
    /// The metadata found.
    meta: Meta,
    /// Octets that the entries and metadata found take.
    live: u64,
    /// The last frame read.
    frame: Vec<u8>,
}

impl Scan {
    /// A scan of all of `journal`.
    pub fn new(journal: &Journal) -> Scan {
        Scan::after(Tail::NEW, journal)
    }

    /// A scan of the transactions of `journal` behind `start`.
    pub fn after(start: Tail, journal: &Journal) -> Scan {
        Scan {
            tail: journal.tail(),
            start,
            seen: RoaringBitmap::new(),
            meta: Meta::default(),
            live: 0,
            frame: Vec::new(),
        }
    }

    /// Scans one transaction, and passes each latest entry to `take`, in a scan of all without removals; `false` if
    /// there is no transaction left.
    pub fn step(
        &mut self,
        journal: &Journal,
        mut take: impl FnMut(&Entry<'_>) -> Result<(), StoreError>,
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
            // Of transactions behind others, a removal removes an entry of those.
            let counts = !entry.binding.is_empty() || self.start != Tail::NEW;
            if self.seen.insert(entry.address) && counts {
                self.live += entry.octets();
                take(&entry)?;
            }
        }
        Ok(true)
    }

    /// Octets of transactions that are not scanned.
    pub fn left(&self) -> u64 {
        self.tail.end.saturating_sub(self.start.end)
    }

    /// Octets that the entries found take.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Takes the metadata found.
    pub fn take_meta(&mut self) -> Meta {
        mem::take(&mut self.meta)
    }
}
