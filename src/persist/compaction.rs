//! Compaction: a new state file without entries that later ones replaced.
//!
//! The new file is written in steps beside the old one, while transactions are still appended to
//! the old one. Once the new file has all of them and is durable, it takes the old one's name.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::{io, mem};

use crate::persist::error::StoreError;
use crate::persist::file;
use crate::persist::journal::{self, Boundary, Journal};
use crate::persist::ownership;
use crate::persist::scan::Scan;
use crate::persist::transaction::{self, Meta};

/// Suffix of the new file's name until the compaction is complete.
const SUFFIX: &str = ".compacted";

/// Minimum octets of transactions that one step reads, as far as there are any. The next flush
/// waits for the step.
const STEP: u64 = if cfg!(test) { 256 } else { 1 << 20 };

/// Octets that a file may have in addition to twice its current entries.
const SLACK: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// Returns the length at which a file with `live` octets of current entries is compacted.
pub fn threshold(live: u64) -> u64 {
    SLACK.saturating_add(live.saturating_mul(2))
}

/// Returns the path of the new file of a compaction in progress.
pub fn path(state_file: &Path) -> PathBuf {
    file::beside(state_file, SUFFIX)
}

/// Removes the file of a compaction that a process did not complete.
pub fn remove_left_over(state_file: &Path) -> Result<(), StoreError> {
    let path = path(&fs::canonicalize(state_file)?);
    if ownership::open_existing(&path, journal::MARK)?.is_some() {
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// A compaction in progress.
#[derive(Debug)]
pub struct Compaction {
    /// The new file.
    journal: Journal,
    /// The name of the new file.
    name: Temporary,
    /// The path of the old file, whose name the new one takes.
    target: PathBuf,
    /// The directory of both.
    directory: File,
    /// The scan of transactions that are not copied yet.
    scan: Scan,
    /// The end of the scanned transactions.
    scanned: Boundary,
    /// The end of the old file at the last step.
    end: u64,
    /// The metadata of the copied transactions.
    meta: Meta,
}

impl Compaction {
    /// Begins to compact `old`, the file at `path`.
    pub fn begin(old: &Journal, path: &Path) -> Result<Compaction, StoreError> {
        // Compacts the target of a symbolic link, not the link.
        let target = fs::canonicalize(path)?;
        let directory = file::open_directory(&target)?;
        let path = self::path(&target);
        let journal = Journal::create(&path)?;
        let compaction = Compaction {
            journal,
            name: Temporary(path),
            target,
            directory,
            scan: Scan::new(old),
            scanned: old.tail(),
            end: old.tail().offset,
            meta: Meta::default(),
        };
        let attributes = old.file().metadata()?;
        let file = compaction.journal.file();
        file.set_permissions(attributes.permissions())?;
        // Fails unless this process is a member of the group.
        let _ = fchown(file, None, Some(attributes.gid()));
        Ok(compaction)
    }

    /// Copies some entries of `old`. Returns whether the new file has all of them.
    pub fn step(&mut self, old: &Journal) -> Result<bool, StoreError> {
        // A multiple of the octets appended since the last step, so that the compaction catches up.
        let written = old.tail().offset.saturating_sub(self.end);
        self.end = old.tail().offset;
        let mut budget = STEP.max(4 * written);
        while budget > 0 {
            if !self.copy(old, &mut budget)? {
                return Ok(false);
            }
            let mut meta = mem::take(&mut self.scan.meta);
            meta.complete(mem::take(&mut self.meta));
            self.meta = meta;
            if self.scanned == old.tail() {
                self.journal.append(transaction::new_frame(&self.meta)?)?;
                return Ok(true);
            }
            // The transactions appended since then are later ones, as their frames in the new file
            // are.
            self.scan = Scan::after(self.scanned, old);
            self.scanned = old.tail();
        }
        Ok(false)
    }

    /// Copies entries of the transactions to scan, up to `budget` octets. Returns whether these
    /// were all.
    fn copy(&mut self, old: &Journal, budget: &mut u64) -> Result<bool, StoreError> {
        let mut frame = transaction::new_frame(&Meta::default())?;
        let empty = frame.0.len();
        let mut is_over = false;
        while *budget > 0 && !is_over {
            let left = self.scan.left();
            is_over = !self.scan.step(old, |entry| {
                transaction::copy(entry, &mut frame);
                Ok(())
            })?;
            *budget = budget.saturating_sub(left - self.scan.left());
        }
        if frame.0.len() > empty {
            self.journal.append(frame)?;
        }
        Ok(is_over)
    }

    /// Replaces the old file by the new one, which has all entries.
    pub fn finish(self) -> io::Result<Journal> {
        fs::rename(&self.name.0, &self.target)?;
        // The new name must be durable before anything is written to the file.
        file::sync_directory(&self.directory)?;
        Ok(self.journal)
    }
}

/// A file name. Dropping it removes the file, unless the file was renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If this fails, the file is removed when the state file is next opened.
        let _ = fs::remove_file(&self.0);
    }
}
