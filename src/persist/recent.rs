//! The addresses that changed since the last flush.
//!
//! A flush writes a change some tenths of a second after the mirror has it, and requesters may see
//! it by then. If the process is killed in between, Kea's lease database may not show the change:
//! the lease may be deleted, or equal to the earlier one. Each changed address is therefore
//! recorded before readers can see the change, in a small file beside the state file. The write is
//! not synced: the record survives the process, but not a loss of power. At the next start these
//! addresses count as changed.
//!
//! The file is separate because a write to the state file would wait for a flush in progress, with
//! the mirror's tables locked.
//!
//! Renewals that Kea stores are not recorded one by one, because its lease database has them. The
//! time of the latest one is recorded: a database without it is an older copy.
//!
//! ```text
//!  16  "kea-blq recent", 1, line feed
//!   4  start of the latest lease, in seconds since 1970, little-endian; 0 without one
//!  4n  addresses, little-endian; an address may occur several times
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::mirror::ChangeRecorder;
use crate::model::time::Time;
use crate::persist::error::StoreError;
use crate::persist::file::{self, Fingerprint};
use crate::persist::ownership;

/// The beginning of the file.
const MARK: [u8; 16] = *b"kea-blq recent\x01\n";

/// Octets of an address or a time.
const ENTRY: usize = 4;

/// Offset of the addresses.
const ADDRESSES: usize = MARK.len() + ENTRY;

/// The contents of a file of recent changes.
#[derive(Debug, Default)]
pub struct RecentChanges {
    /// Addresses that changed since the last flush.
    pub addresses: Vec<u32>,
    /// The start of the latest lease in Kea's lease database; `None` if no lease was known.
    pub latest: Option<Time>,
}

/// The file of recent changes.
#[derive(Debug)]
pub struct RecentFile {
    /// The path.
    path: PathBuf,
    /// The file; `None` before [`RecentFile::open_or_create`] and after a failed write.
    open: Mutex<Option<OpenFile>>,
}

/// The open file.
#[derive(Debug)]
struct OpenFile {
    /// The file.
    file: File,
    /// Length of the file in octets; >= [`ADDRESSES`].
    length: u64,
    /// The start of the latest lease, as recorded in the file.
    latest: Option<Time>,
}

impl RecentFile {
    /// Opens the file that belongs to the state file at `state_file`, if it exists. Returns its
    /// contents.
    ///
    /// # Errors
    /// If the file cannot be used, or belongs to another program; such a file is not changed.
    pub fn open(state_file: &Path) -> Result<(RecentFile, RecentChanges), StoreError> {
        let path = path(state_file);
        let (open, changes) = match ownership::open_existing(&path, &MARK)? {
            Some(_) => OpenFile::open(&path, false).map(|(open, changes)| (Some(open), changes))?,
            None => (None, RecentChanges::default()),
        };
        let open = Mutex::new(open);
        Ok((RecentFile { path, open }, changes))
    }

    /// Creates the file if it does not exist. Returns whether it can be used.
    pub fn open_or_create(&self) -> bool {
        let mut open = self.open.lock();
        if open.is_none() {
            match OpenFile::open(&self.path, true) {
                Ok((file, _)) => *open = Some(file),
                Err(error) => warn_unusable(&self.path, &error),
            }
        }
        open.is_some()
    }

    /// Writes to the file if it is open. A failed write closes it.
    fn write(&self, write: impl FnOnce(&mut OpenFile) -> io::Result<()>) {
        let mut open = self.open.lock();
        if let Some(Err(error)) = open.as_mut().map(write) {
            warn_unusable(&self.path, &error.into());
            *open = None;
        }
    }

    /// Closes the file, and removes it if it has no address.
    pub fn close(&self) {
        let is_own = |open: &OpenFile| {
            let found = Fingerprint::from(fs::metadata(&self.path)?);
            Ok::<bool, io::Error>(found.is_same_file(&open.file.metadata()?.into()))
        };
        let open = self.open.lock().take();
        let empty = open.filter(|open| open.length <= ADDRESSES as u64);
        if empty.is_some_and(|open| is_own(&open).unwrap_or(false)) {
            // A file without addresses has no effect, so a failure is ignored.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl ChangeRecorder for RecentFile {
    fn record(&self, changed: &mut dyn Iterator<Item = u32>, latest: Option<Time>) {
        self.write(|open| {
            let entries: Vec<u8> = changed.flat_map(u32::to_le_bytes).collect();
            if !entries.is_empty() {
                open.file.write_all_at(&entries, open.length)?;
                open.length += entries.len() as u64;
            }
            if open.latest != latest {
                open.file.write_all_at(&header(latest), 0)?;
                open.latest = latest;
            }
            Ok(())
        });
    }

    /// Not atomic: a kill in between leaves more addresses, which is harmless.
    fn retain(&self, dirty: &mut dyn Iterator<Item = u32>) {
        self.write(|open| {
            if open.length <= ADDRESSES as u64 {
                return Ok(());
            }
            let entries: Vec<u8> = dirty.flat_map(u32::to_le_bytes).collect();
            open.file.write_all_at(&entries, ADDRESSES as u64)?;
            open.length = (ADDRESSES + entries.len()) as u64;
            open.file.set_len(open.length)
        });
    }
}

impl OpenFile {
    /// Opens the file at `path`; `create` makes a new one if it does not exist. Returns its contents.
    fn open(path: &Path, create: bool) -> Result<(OpenFile, RecentChanges), StoreError> {
        let mut file = ownership::open(path, create, &MARK)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        let changes = RecentChanges::decode(&octets);
        file.write_all_at(&header(changes.latest), 0)?;
        let open = OpenFile {
            file,
            length: (ADDRESSES + changes.addresses.len() * ENTRY) as u64,
            latest: changes.latest,
        };
        Ok((open, changes))
    }
}

/// Returns the path of the file that belongs to the state file at `state_file`.
pub fn path(state_file: &Path) -> PathBuf {
    file::beside(state_file, ".recent")
}

/// Logs that the file at `path` cannot be used.
pub fn warn_unusable(path: &Path, error: &StoreError) {
    tracing::warn!(
        id = error.log_id("BLQ_RECENT_FOREIGN", "BLQ_RECENT_UNAVAILABLE"),
        "{}, beside 'state-file', cannot be used: {error}; if Kea is killed, requesters may not learn of \
         changes of the last second before",
        path.display(),
    );
}

/// Returns the octets before the addresses.
fn header(latest: Option<Time>) -> Vec<u8> {
    let latest = latest.map_or(0, |latest| latest.0);
    [&MARK[..], &latest.to_le_bytes()].concat()
}

impl RecentChanges {
    /// Decodes the contents of a file; empty if the beginning is incomplete.
    fn decode(octets: &[u8]) -> RecentChanges {
        let entries = octets.get(MARK.len()..).unwrap_or_default();
        // The last address may be incomplete, too.
        let entries = entries.chunks_exact(ENTRY);
        let entries = entries.filter_map(|entry| entry.first_chunk().copied());
        let mut entries = entries.map(u32::from_le_bytes);
        let latest = entries.next().filter(|time| *time != 0);
        RecentChanges {
            addresses: entries.collect(),
            latest: latest.map(Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records addresses, with a time of the latest lease.
    fn add<const N: usize>(recent: &RecentFile, addresses: [u32; N], latest: Option<Time>) {
        recent.record(&mut addresses.into_iter(), latest);
    }

    #[test]
    fn has_the_addresses_recorded_since_the_last_flush_also_after_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (recent, changes) = RecentFile::open(&path).unwrap();
        assert!(changes.addresses.is_empty());
        assert!(recent.open_or_create());
        add(&recent, [1, 2, 3], None);
        add(&recent, [], None);
        recent.retain(&mut [2, 7].into_iter());
        add(&recent, [9], Some(Time(77)));
        drop(recent);
        let (recent, changes) = RecentFile::open(&path).unwrap();
        assert_eq!(
            (changes.addresses, changes.latest),
            (vec![2, 7, 9], Some(Time(77)))
        );
        // Addresses stay until they are in the state file.
        add(&recent, [10], Some(Time(77)));
        recent.close();
        drop(recent);
        let (recent, changes) = RecentFile::open(&path).unwrap();
        assert_eq!(
            (changes.addresses, changes.latest),
            (vec![2, 7, 9, 10], Some(Time(77)))
        );
        recent.retain(&mut [].into_iter());
        recent.close();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        // Another program's file may have taken the name since.
        let (recent, _) = RecentFile::open(&path).unwrap();
        assert!(recent.open_or_create());
        fs::remove_file(&recent.path).unwrap();
        fs::write(&recent.path, b"theirs").unwrap();
        recent.close();
        assert_eq!(fs::read(&recent.path).unwrap(), b"theirs");
    }

    #[test]
    fn reads_the_complete_entries_of_a_truncated_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let file = directory.path().join("state.recent");
        let whole = [&MARK[..], &[9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]].concat();
        for length in [0].into_iter().chain(8..=whole.len()) {
            fs::write(&file, &whole[..length]).unwrap();
            let (_, changes) = RecentFile::open(&path).unwrap();
            let expected = length.saturating_sub(ADDRESSES) / ENTRY;
            assert_eq!(changes.addresses, [1, 2][..expected], "{length} octets");
            assert_eq!(
                changes.latest.is_some(),
                length >= ADDRESSES,
                "{length} octets"
            );
        }
    }

    #[test]
    fn does_not_change_a_file_of_another_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let file = directory.path().join("state.recent");
        fs::write(&file, b"address,hwaddr,client_id").unwrap();
        assert!(RecentFile::open(&path).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"address,hwaddr,client_id");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(RecentFile::open(&path).is_err());
    }
}
