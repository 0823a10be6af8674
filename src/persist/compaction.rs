//! Compaction: the state file written anew without entries that later ones replaced.
//!
//! The new file grows beside the old one, a part at a time, while transactions go on to the old one. It takes
//! the old one's name once it has all of them, and is complete and on disk before.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::{io, mem};

use crate::persist::error::StoreError;
use crate::persist::file;
use crate::persist::journal::{self, Journal, Tail};
use crate::persist::ownership;
use crate::persist::scan::Scan;
use crate::persist::transaction::{self, Meta};

/// The suffix of the new file's name until it is complete.
const SUFFIX: &str = ".compacted";

/// Octets of transactions that one step reads at least, if there are as many. The next flush waits meanwhile.
const STEP: u64 = if cfg!(test) { 256 } else { 1 << 20 };

/// Octets that a file may always have beyond twice the octets it needs.
const SLACK: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// Returns the length at which a file is compacted of which `live` octets are needed.
pub fn due(live: u64) -> u64 {
    SLACK.saturating_add(live.saturating_mul(2))
}

/// Returns the path of the new file until it is complete.
pub fn path(state_file: &Path) -> PathBuf {
    file::beside(state_file, SUFFIX)
}

/// Removes the file that a process left which ended during a compaction.
pub fn remove_left_over(state_file: &Path) -> Result<(), StoreError> {
    let path = path(&fs::canonicalize(state_file)?);
    if ownership::look(&path, journal::is_own)?.is_some() {
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// A compaction under way.
#[derive(Debug)]
pub struct Compaction {
    /// The new file.
    journal: Journal,
    /// The name of the new file.
    name: Temporary,
    /// The path of the old file, whose name it takes.
    target: PathBuf,
    /// The directory of both.
    directory: File,
    /// The scan of transactions that are not copied.
    scan: Scan,
    /// The end of those it scans.
    scanned: Tail,
    /// The end of the old file at the last step.
    end: u64,
    /// The metadata of those copied.
    meta: Meta,
}

impl Compaction {
    /// Begins to compact `old`, the file at `path`.
    pub fn begin(old: &Journal, path: &Path) -> Result<Compaction, StoreError> {
        // The file itself, where `path` is a link.
        let target = fs::canonicalize(path)?;
        let directory = file::open_directory(&target)?;
        let path = self::path(&target);
        let journal = Journal::begin(&path)?;
        let compaction = Compaction {
            journal,
            name: Temporary(path),
            target,
            directory,
            scan: Scan::new(old),
            scanned: old.tail(),
            end: old.tail().end,
            meta: Meta::default(),
        };
        let attributes = old.file().metadata()?;
        let file = compaction.journal.file();
        file.set_permissions(attributes.permissions())?;
        // Only a member of the group may.
        let _ = fchown(file, None, Some(attributes.gid()));
        Ok(compaction)
    }

    /// Copies some entries of `old`; returns whether the new file has all of them.
    pub fn step(&mut self, old: &Journal) -> Result<bool, StoreError> {
        // A multiple of the octets written since the last step: a compaction must come to an end.
        let written = old.tail().end.saturating_sub(self.end);
        self.end = old.tail().end;
        let mut budget = STEP.max(4 * written);
        while budget > 0 {
            if !self.copy(old, &mut budget)? {
                return Ok(false);
            }
            let mut meta = self.scan.take_meta();
            meta.complete(mem::take(&mut self.meta));
            self.meta = meta;
            if self.scanned == old.tail() {
                self.journal.append(transaction::begin(&self.meta)?)?;
                return Ok(true);
            }
            // The transactions written meanwhile are later ones, and so are their frames in the new file.
            self.scan = Scan::after(self.scanned, old);
            self.scanned = old.tail();
        }
        Ok(false)
    }

    /// Copies entries of the transactions to scan, as far as `budget` goes; returns whether these were all.
    fn copy(&mut self, old: &Journal, budget: &mut u64) -> Result<bool, StoreError> {
        let mut frame = transaction::begin(&Meta::default())?;
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

    /// Puts the new file, which has all entries, in the place of the old one.
    pub fn finish(self) -> io::Result<Journal> {
        fs::rename(&self.name.0, &self.target)?;
        // Writes to it depend on its name from now on.
        file::sync_directory(&self.directory)?;
        Ok(self.journal)
    }
}

/// A name that is in use until this is dropped, unless its file has got another one.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // One that stays is removed when the state file is opened.
        let _ = fs::remove_file(&self.0);
    }
}
