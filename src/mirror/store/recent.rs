//! The addresses that changed since the state file was last written.
//!
//! A change is in the state file some tenths of a second after it is in the mirror, and may have
//! been sent to requesters by then. If the process is killed in between, Kea's lease database need
//! not show that there was a change: the lease may be gone, or be as it was. So each address that
//! changes is noted here before anybody can see the change, in a small file beside the state file,
//! without waiting for the disk: what a process wrote outlives it, if not a loss of power. At the
//! next start these addresses count as changed.
//!
//! ```text
//!  16  "kea-blq recent", 1, line feed
//!  4n  addresses, each with its lowest octet first; an address may come several times
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::file::Fingerprint;
use super::{StoreError, ownership};

/// What the file begins with.
const HEADER: [u8; 16] = *b"kea-blq recent\x01\n";

/// Octets of an address.
const ENTRY: usize = 4;

/// The file of recent changes, in use.
#[derive(Debug)]
pub struct Recent {
    /// Where it is.
    path: PathBuf,
    /// The file; `None` before [`Recent::make`].
    file: Option<File>,
    /// Length of the file in octets; >= HEADER.len().
    length: u64,
}

impl Recent {
    /// Opens the file that belongs to the state file at `state_file`, if it is there; gives the
    /// addresses that it has.
    ///
    /// # Errors
    /// If the file cannot be used, or is somebody else's, which is left as it is.
    pub fn open(state_file: &Path) -> Result<(Recent, Vec<u32>), StoreError> {
        let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
        let mut recent = Recent {
            path: path(state_file),
            file: None,
            length: HEADER.len() as u64,
        };
        if ownership::look(&recent.path, is_own)?.is_none() {
            return Ok((recent, Vec::new()));
        }
        let mut file = ownership::open(&recent.path, false, is_own)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).map_err(unavailable)?;
        let addresses = addresses(&octets);
        file.write_all_at(&HEADER, 0).map_err(unavailable)?;
        recent.length += (addresses.len() * ENTRY) as u64;
        recent.file = Some(file);
        Ok((recent, addresses))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has no address.
    fn is_empty(&self) -> bool {
        self.length <= HEADER.len() as u64
    }

    /// Makes the file, if it is not there.
    ///
    /// # Errors
    /// As for [`Recent::open`].
    pub fn make(&mut self) -> Result<(), StoreError> {
        if self.file.is_none() {
            let file = ownership::open(&self.path, true, is_own)?;
            file.write_all_at(&HEADER, 0)
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

    /// Has only these addresses left. A process that is killed meanwhile leaves more.
    ///
    /// # Errors
    /// If they cannot be written: all addresses stay.
    pub fn keep(&mut self, addresses: impl IntoIterator<Item = u32>) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let entries = encoded(addresses);
        let length = (HEADER.len() + entries.len()) as u64;
        self.file()?.write_all_at(&entries, HEADER.len() as u64)?;
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

/// The addresses in a file with these octets; none if it was not written to the end of its header.
fn addresses(octets: &[u8]) -> Vec<u32> {
    let entries = octets.get(HEADER.len()..).unwrap_or_default();
    // Nor may its last address be.
    let (entries, _) = entries.as_chunks::<ENTRY>();
    entries
        .iter()
        .map(|entry| u32::from_le_bytes(*entry))
        .collect()
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
        let (mut recent, addresses) = Recent::open(&path).unwrap();
        assert!(addresses.is_empty());
        recent.make().unwrap();
        recent.add([1, 2, 3]).unwrap();
        recent.add([]).unwrap();
        recent.keep([2, 7]).unwrap();
        recent.add([9]).unwrap();
        drop(recent);
        let (mut recent, addresses) = Recent::open(&path).unwrap();
        assert_eq!(addresses, [2, 7, 9]);
        assert!(!recent.is_empty());
        // What was known is kept until it is in the state file.
        recent.add([10]).unwrap();
        drop(recent);
        let (mut recent, addresses) = Recent::open(&path).unwrap();
        assert_eq!(addresses, [2, 7, 9, 10]);
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
        let whole = [&HEADER[..], &[1, 0, 0, 0, 2, 0, 0, 0]].concat();
        for length in [0].into_iter().chain(8..=whole.len()) {
            fs::write(&file, &whole[..length]).unwrap();
            let (_, addresses) = Recent::open(&path).unwrap();
            let expected = length.saturating_sub(HEADER.len()) / ENTRY;
            assert_eq!(addresses, [1, 2][..expected], "{length} octets");
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
