//! The addresses that changed since the state file was last written.
//!
//! A change is in the state file some tenths of a second after it is in the mirror, and may have
//! been sent to requesters by then. If the process is killed in between, Kea's lease database need
//! not show that there was a change: the lease may be gone, or be as it was. So each address that
//! changes is noted here before anybody can see the change, in a small file beside the state file,
//! without waiting for the disk: what a process wrote outlives it, if not a loss of power. At the
//! next start these addresses count as changed.
//!
//! Renewals that Kea stores are not noted one by one, for its lease database has them. The time of the
//! latest is: a database without it is an older one.
//!
//! ```text
//!  16  "kea-blq recent", 1, line feed
//!   4  when the latest lease began, in seconds since 1970, lowest octet first; 0 if there is none
//!  4n  addresses, each with its lowest octet first; an address may come several times
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::model::time::Time;
use crate::persist::store::file::Fingerprint;
use crate::persist::store::{StoreError, ownership};

/// What the file begins with.
const HEADER: [u8; 16] = *b"kea-blq recent\x01\n";

/// Octets of an address, and of a time.
const ENTRY: usize = 4;

/// Where the addresses begin.
const ADDRESSES: usize = HEADER.len() + ENTRY;

/// The contents of a file of recent changes.
#[derive(Debug, Default)]
pub struct Noted {
    /// Addresses that changed since the state file was written.
    pub addresses: Vec<u32>,
    /// When the latest lease began that Kea's lease database had; `None` if no lease was known.
    pub latest: Option<Time>,
}

/// The file of recent changes, in use.
#[derive(Debug)]
pub struct Recent {
    /// Where it is.
    path: PathBuf,
    /// The file; `None` before [`Recent::make`].
    file: Option<File>,
    /// Length of the file in octets; at least [`ADDRESSES`].
    length: u64,
    /// When the latest lease began, as the file has it.
    latest: Option<Time>,
}

impl Recent {
    /// Opens the file that belongs to the state file at `state_file`, if it is there; gives its
    /// contents.
    ///
    /// # Errors
    /// If the file cannot be used, or is somebody else's, which is left as it is.
    pub fn open(state_file: &Path) -> Result<(Recent, Noted), StoreError> {
        let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
        let mut recent = Recent {
            path: path(state_file),
            file: None,
            length: ADDRESSES as u64,
            latest: None,
        };
        if ownership::look(&recent.path, is_own)?.is_none() {
            return Ok((recent, Noted::default()));
        }
        let mut file = ownership::open(&recent.path, false, is_own)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).map_err(unavailable)?;
        let noted = Noted::in_file(&octets);
        file.write_all_at(&header(noted.latest), 0)
            .map_err(unavailable)?;
        recent.length += (noted.addresses.len() * ENTRY) as u64;
        recent.latest = noted.latest;
        recent.file = Some(file);
        Ok((recent, noted))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has no address.
    fn is_empty(&self) -> bool {
        self.length <= ADDRESSES as u64
    }

    /// Makes the file, if it is not there.
    ///
    /// # Errors
    /// As for [`Recent::open`].
    pub fn make(&mut self) -> Result<(), StoreError> {
        if self.file.is_none() {
            let file = ownership::open(&self.path, true, is_own)?;
            file.write_all_at(&header(self.latest), 0)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Adds addresses to the file made.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, addresses: impl IntoIterator<Item = u32>) -> io::Result<()> {
        let entries = encoded(addresses);
        self.file()?.write_all_at(&entries, self.length)?;
        self.length += entries.len() as u64;
        Ok(())
    }

    /// Notes when the latest lease began, if that is not what the file has.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_latest(&mut self, latest: Option<Time>) -> io::Result<()> {
        if self.latest != latest {
            self.file()?.write_all_at(&header(latest), 0)?;
            self.latest = latest;
        }
        Ok(())
    }

    /// Has only these addresses left. A process that is killed meanwhile leaves more.
    ///
    /// # Errors
    /// If they cannot be written: all addresses stay.
    pub fn keep(&mut self, addresses: impl IntoIterator<Item = u32>) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let entries = encoded(addresses);
        let length = (ADDRESSES + entries.len()) as u64;
        self.file()?.write_all_at(&entries, ADDRESSES as u64)?;
        self.file()?.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Takes the file away, if it has no address.
    pub fn close(self) {
        let Some(file) = self.file.as_ref().filter(|_| self.is_empty()) else {
            return;
        };
        let found = Fingerprint::of(&self.path).and_then(|found| {
            let own = Fingerprint::of_file(file)?;
            Ok(found.is_same_file(&own))
        });
        if found.is_ok_and(|is_own| is_own) {
            // One that stays does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The file made.
    fn file(&self) -> io::Result<&File> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.file.as_ref().ok_or_else(missing)
    }
}

/// Where the file is that belongs to the state file at `state_file`.
pub fn path(state_file: &Path) -> PathBuf {
    let mut path = state_file.as_os_str().to_owned();
    path.push(".recent");
    path.into()
}

/// Notes in the log that the file at `path` cannot be used.
pub fn warn_unusable(path: &Path, error: &dyn fmt::Display) {
    tracing::warn!(
        id = "BLQ_RECENT_UNUSABLE",
        "{}, beside 'state-file', cannot be used: {error}; if Kea is killed, requesters may not learn of \
         changes of the last second before",
        path.display(),
    );
}

/// Whether an open file is one of recent changes.
fn is_own(file: &File) -> io::Result<bool> {
    ownership::begins_with(file, &HEADER)
}

/// What comes before the addresses.
fn header(latest: Option<Time>) -> [u8; ADDRESSES] {
    let mut header = [0; ADDRESSES];
    let (mark, time) = header.split_at_mut(HEADER.len());
    mark.copy_from_slice(&HEADER);
    time.copy_from_slice(&latest.unwrap_or(Time(0)).0.to_le_bytes());
    header
}

impl Noted {
    /// The contents of a file with these octets; nothing if it was not written to the end of its header.
    fn in_file(octets: &[u8]) -> Noted {
        let entries = octets.get(HEADER.len()..).unwrap_or_default();
        // Nor may its last address be.
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let mut entries = entries.iter().map(|entry| u32::from_le_bytes(*entry));
        let latest = entries.next().filter(|time| *time != 0);
        Noted {
            addresses: entries.collect(),
            latest: latest.map(Time),
        }
    }
}

/// Addresses as the file has them.
fn encoded(addresses: impl IntoIterator<Item = u32>) -> Vec<u8> {
    addresses.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_what_was_added_since_it_was_last_cleared_also_after_the_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let (mut recent, noted) = Recent::open(&path).unwrap();
        assert!(noted.addresses.is_empty());
        recent.make().unwrap();
        recent.add([1, 2, 3]).unwrap();
        recent.add([]).unwrap();
        recent.keep([2, 7]).unwrap();
        recent.add([9]).unwrap();
        recent.set_latest(Some(Time(77))).unwrap();
        drop(recent);
        let (mut recent, noted) = Recent::open(&path).unwrap();
        assert_eq!(
            (noted.addresses, noted.latest),
            (vec![2, 7, 9], Some(Time(77)))
        );
        assert!(!recent.is_empty());
        // What was known is kept until it is in the state file.
        recent.add([10]).unwrap();
        drop(recent);
        let (mut recent, noted) = Recent::open(&path).unwrap();
        assert_eq!(
            (noted.addresses, noted.latest),
            (vec![2, 7, 9, 10], Some(Time(77)))
        );
        recent.keep([]).unwrap();
        recent.close();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        // Somebody else's file may have got the name meanwhile.
        let (mut recent, _) = Recent::open(&path).unwrap();
        recent.make().unwrap();
        fs::remove_file(&recent.path).unwrap();
        fs::write(&recent.path, b"theirs").unwrap();
        let name = recent.path.clone();
        recent.close();
        assert_eq!(fs::read(name).unwrap(), b"theirs");
    }

    #[test]
    fn reads_what_was_written_whole_before_the_process_was_killed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let file = directory.path().join("state.recent");
        let whole = [&HEADER[..], &[9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]].concat();
        for length in [0].into_iter().chain(8..=whole.len()) {
            fs::write(&file, &whole[..length]).unwrap();
            let (_, noted) = Recent::open(&path).unwrap();
            let expected = length.saturating_sub(ADDRESSES) / ENTRY;
            assert_eq!(noted.addresses, [1, 2][..expected], "{length} octets");
            assert_eq!(
                noted.latest.is_some(),
                length >= ADDRESSES,
                "{length} octets"
            );
        }
    }

    #[test]
    fn leaves_a_file_alone_that_is_not_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let file = directory.path().join("state.recent");
        fs::write(&file, b"address,hwaddr,client_id").unwrap();
        assert!(Recent::open(&path).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"address,hwaddr,client_id");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(Recent::open(&path).is_err());
    }
}
