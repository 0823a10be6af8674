//! The contents of one transaction in the state file.
//!
//! ```text
//!  4   length of the metadata (m)
//!  m   `Meta` in postcard's encoding, with the changed values
//!      then for each changed address:
//!  4   address
//!  4   length of its binding (n)
//!  n   `Binding` in postcard's encoding; empty if it was removed
//! ```
//!
//! Numbers are little-endian. An address may occur several times: its first entry is the latest.

use std::{fmt, mem};

use bytes::Buf;
use serde::{Deserialize, Serialize};

use crate::mirror::dirty_set::DirtyPart;
use crate::mirror::history::SavedHistory;
use crate::mirror::saved_view::SavedView;
use crate::model::binding::Binding;
use crate::model::time::Time;
use crate::persist::error::{Defect, StoreError};
use crate::persist::journal::{FRAME_HEAD, Frame, put_number};

/// A transaction to be written.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Bindings to write.
    pub bindings: DirtyPart,
    /// The view, if it changed.
    pub saved_view: Option<SavedView>,
    /// The time at which the batch was assembled.
    pub at: Time,
    /// The latest transaction of a lease in Kea's lease database at that time.
    pub latest: Option<Time>,
    /// The time of the last complete resync.
    pub resynced_at: Option<Time>,
    /// The history, if it changed.
    pub history: Option<SavedHistory>,
}

/// Metadata of the file as a whole; `None` for values that a transaction does not change.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Meta {
    /// The random number that identifies the transaction.
    pub stamp: Option<u64>,
    /// The time at which it was written.
    pub saved_at: Option<Time>,
    /// The latest transaction of a lease in Kea's lease database at that time.
    pub latest: Option<Time>,
    /// The time of the last complete resync.
    pub resynced_at: Option<Time>,
    /// The view.
    pub saved_view: Option<SavedView>,
    /// The history. Files of earlier versions end before it.
    pub history: Option<SavedHistory>,
}

/// The metadata in files of earlier versions.
#[derive(Deserialize)]
struct FirstMeta {
    stamp: Option<u64>,
    saved_at: Option<Time>,
    latest: Option<Time>,
    resynced_at: Option<Time>,
    saved_view: Option<SavedView>,
}

impl Meta {
    /// Decodes metadata.
    fn decode(octets: &[u8]) -> Result<Meta, postcard::Error> {
        let (first, rest): (FirstMeta, _) = postcard::take_from_bytes(octets)?;
        let history = match rest.is_empty() {
            true => None,
            false => postcard::from_bytes(rest)?,
        };
        Ok(Meta {
            stamp: first.stamp,
            saved_at: first.saved_at,
            latest: first.latest,
            resynced_at: first.resynced_at,
            saved_view: first.saved_view,
            history,
        })
    }

    /// Fills missing values from `older` metadata.
    pub fn complete(&mut self, older: Meta) {
        self.stamp = self.stamp.or(older.stamp);
        self.saved_at = self.saved_at.or(older.saved_at);
        self.latest = self.latest.or(older.latest);
        self.resynced_at = self.resynced_at.or(older.resynced_at);
        self.saved_view = self.saved_view.take().or(older.saved_view);
        self.history = self.history.take().or(older.history);
    }
}

/// An entry of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The address.
    pub address: u32,
    /// The binding in postcard's encoding; empty if it was removed.
    pub binding: &'a [u8],
}

impl Entry<'_> {
    /// Returns the binding; `None` if it was removed.
    pub fn decode(&self) -> Result<Option<Binding>, StoreError> {
        if self.binding.is_empty() {
            return Ok(None);
        }
        let binding: Binding = postcard::from_bytes(self.binding).map_err(malformed)?;
        match binding.address.to_bits() == self.address {
            true => Ok(Some(binding)),
            false => Err(malformed("a binding is of another address")),
        }
    }

    /// Returns the number of octets of the entry.
    pub fn octets(&self) -> u64 {
        (8 + self.binding.len()) as u64
    }
}

/// Encodes a batch with a stamp.
pub fn encode(batch: &Batch, stamp: u64) -> Result<Frame, StoreError> {
    // The encoding of a `Meta`, without a copy of the view.
    let mut frame = new_frame(&(
        Some(stamp),
        Some(batch.at),
        batch.latest,
        batch.resynced_at,
        &batch.saved_view,
        &batch.history,
    ))?;
    // The latest entries come first.
    let DirtyPart { changed, rest } = &batch.bindings;
    for (address, binding) in changed.iter().rev().chain(rest.iter().rev()) {
        frame.0.extend(address.to_bits().to_le_bytes());
        append(&mut frame.0, binding.as_ref())?;
    }
    Ok(frame)
}

/// Begins a transaction with this metadata and no entries.
pub fn new_frame(meta: &impl Serialize) -> Result<Frame, StoreError> {
    let mut frame = Frame(vec![0; FRAME_HEAD]);
    append(&mut frame.0, Some(meta))?;
    Ok(frame)
}

/// Appends an entry of another transaction.
pub fn copy(entry: &Entry<'_>, frame: &mut Frame) {
    frame.0.extend(entry.address.to_le_bytes());
    frame.0.extend((entry.binding.len() as u32).to_le_bytes());
    frame.0.extend(entry.binding);
}

/// Appends the length of a value, and the value; `None` has the length 0.
fn append(octets: &mut Vec<u8>, value: Option<&impl Serialize>) -> Result<(), StoreError> {
    let offset = octets.len();
    octets.extend([0; 4]);
    let Some(value) = value else {
        return Ok(());
    };
    let encoded = postcard::to_extend(value, mem::take(octets));
    *octets = encoded.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let length = octets.len() - offset - 4;
    put_number(octets, offset, length as u32);
    Ok(())
}

/// Decodes a transaction: its metadata and its entries.
pub fn decode(payload: &[u8]) -> Result<(Meta, Entries<'_>), StoreError> {
    let mut rest = payload;
    let meta = value(&mut rest).ok_or_else(|| malformed("a transaction is cut off"))?;
    let meta = Meta::decode(meta).map_err(malformed)?;
    Ok((meta, Entries(rest)))
}

/// An iterator over the entries of a transaction, the latest entry of an address first.
#[derive(Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.0.try_get_u32_le().ok().and_then(|address| {
            let binding = value(&mut self.0)?;
            Some(Entry { address, binding })
        });
        Some(entry.ok_or_else(|| malformed("an entry is cut off")))
    }
}

/// Splits a value with its length off the beginning of `octets`.
fn value<'a>(octets: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = octets.try_get_u32_le().ok()?;
    let (value, rest) = octets.split_at_checked(usize::try_from(length).ok()?)?;
    *octets = rest;
    Some(value)
}

/// Returns the error about contents that are invalid although the checksums are correct.
fn malformed(error: impl fmt::Display) -> StoreError {
    StoreError::Unreadable(Defect::Damaged, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_metadata_of_earlier_versions() {
        let first = (
            Some(7_u64),
            Some(Time(5)),
            None::<Time>,
            Some(Time(4)),
            Some(SavedView::default()),
        );
        let frame = new_frame(&first).unwrap();
        let (meta, mut entries) = decode(&frame.0[FRAME_HEAD..]).unwrap();
        assert_eq!((meta.stamp, meta.saved_at), (Some(7), Some(Time(5))));
        assert_eq!((meta.latest, meta.resynced_at), (None, Some(Time(4))));
        assert_eq!(meta.saved_view, Some(SavedView::default()));
        assert_eq!(meta.history, None);
        assert!(entries.next().is_none());
    }

    #[test]
    fn metadata_that_is_cut_off_is_damaged() {
        let batch = Batch {
            history: Some(SavedHistory::default()),
            ..Batch::default()
        };
        let frame = encode(&batch, 1).unwrap();
        let payload = &frame.0[FRAME_HEAD..];
        let whole = decode(payload).unwrap().0;
        assert_eq!(whole.history, Some(SavedHistory::default()));
        // Only the end of the first part is that of metadata of an earlier version.
        let octets = &payload[4..];
        let readable = (0..octets.len()).filter(|length| Meta::decode(&octets[..*length]).is_ok());
        assert_eq!(readable.count(), 1);
    }
}
