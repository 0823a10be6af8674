//! The addresses that changed since the state file was last written.
//!
//! A change is in the state file some tenths of a second after it is in the mirror, and may have
//! been told to requestors by then. If the process is killed in between, Kea's lease database need
//! not show that there was a change: the lease may be gone, or be as it was. So each address that
//! changes is noted here before anybody can see the change, in a small file beside the state file,
//! without waiting for the disk: what a process wrote outlives it, if not a loss of power. At the
//! next start these addresses count as changed.
//!
//! ```text
//!  16  "kea-blq recent", 1, line feed
//!  4n  addresses, each with its lowest octet first; an address may come several times
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
    /// The file; `None` before there is an address to note.
    file: Option<File>,
    /// Its length in octets; >= HEADER.len().
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

    /// Whether it has no address.
    fn is_empty(&self) -> bool {
        self.length <= HEADER.len() as u64
    }

    /// Adds addresses. Where that fails, so does writing the state file a moment later, which is
    /// logged.
    pub fn add(&mut self, addresses: impl IntoIterator<Item = u32>) {
        let entries = encoded(addresses);
        if entries.is_empty() {
            return;
        }
        let at = self.length;
        let written = self.file().and_then(|file| file.write_all_at(&entries, at));
        if written.is_ok() {
            self.length += entries.len() as u64;
        }
    }

    /// Has only these addresses left. A process that is killed meanwhile leaves more.
    pub fn keep(&mut self, addresses: impl IntoIterator<Item = u32>) {
        if self.is_empty() {
            return;
        }
        let entries = encoded(addresses);
        self.length = (HEADER.len() + entries.len()) as u64;
        let length = self.length;
        // What is left over where this fails counts as changed once more.
        let _ = self.file().and_then(|file| {
            file.write_all_at(&entries, HEADER.len() as u64)?;
            file.set_len(length)
        });
    }

    /// Takes the file away, if it has no address.
    pub fn close(self) {
        if self.file.is_some() && self.is_empty() {
            // One that stays does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The file, which is made if there is none.
    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let file = ownership::open(&self.path, true, is_own).map_err(io::Error::other)?;
            file.write_all_at(&HEADER, 0)?;
            self.file = Some(file);
        }
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
        recent.add([1, 2, 3]);
        recent.add([]);
        recent.keep([2, 7]);
        recent.add([9]);
        drop(recent);
        let (mut recent, addresses) = Recent::open(&path).unwrap();
        assert_eq!(addresses, [2, 7, 9]);
        assert!(!recent.is_empty());
        // What was known is kept until it is in the state file.
        recent.add([10]);
        drop(recent);
        let (mut recent, addresses) = Recent::open(&path).unwrap();
        assert_eq!(addresses, [2, 7, 9, 10]);
        recent.keep([]);
        recent.close();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
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
