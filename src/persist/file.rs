//! Files by name and by identity.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::time::Time;

/// The identity of a file and the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The device, and the inode number.
    file: (u64, u64),
    /// The length in octets.
    length: u64,
    /// Times of the last change of contents and of attributes, in seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

impl From<Metadata> for Fingerprint {
    fn from(metadata: Metadata) -> Fingerprint {
        Fingerprint {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        }
    }
}

impl Fingerprint {
    /// Whether both are of one file, changed or not.
    pub fn is_same_file(&self, other: &Fingerprint) -> bool {
        self.file == other.file
    }
}

/// Renames a file to an unused name that contains the time. A symbolic link to it remains.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let now = Time::now().0;
    let mut suffix = format!(".unreadable-{now}");
    let mut count = 1;
    loop {
        let aside = beside(&path, &suffix);
        // A file set aside earlier is kept.
        if !aside.try_exists()? {
            fs::rename(&path, &aside)?;
            // The rename need not be durable: the file is not used again.
            let _ = open_directory(&path).and_then(|directory| sync_directory(&directory));
            return Ok(aside);
        }
        suffix = format!(".unreadable-{now}-{count}");
        count += 1;
    }
}

/// Returns `path` with `suffix` appended to the name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the directory of the file at `path`.
pub fn open_directory(path: &Path) -> io::Result<File> {
    let parent = path.parent();
    let named = parent.filter(|parent| !parent.as_os_str().is_empty());
    File::open(named.unwrap_or(Path::new(".")))
}

/// Makes changes of names in a directory durable, where the file system supports that.
pub fn sync_directory(directory: &File) -> io::Result<()> {
    match directory.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}
