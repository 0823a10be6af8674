//! The state file as a file: its mode, its directory, and names to set it aside under.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::Database;

use super::StoreError;
use crate::time::Time;

/// Who may read the file: its owner, and its group.
pub const MODE: u32 = 0o640;

/// The most memory the store uses to hold parts of the file. Writes go all over the file, so
/// more saves little; without a limit it would be a gigabyte of Kea's.
const CACHE_OCTETS: usize = 16 << 20;

/// How much is read at once when the file is read from end to end.
const READ_OCTETS: usize = 1 << 20;

/// Which file it is that has a name, and when it was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The device it is on, and its number there.
    file: (u64, u64),
    /// Its length in octets.
    length: u64,
    /// When its contents and its attributes last changed, in seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

impl Fingerprint {
    /// That of the file at `path` as it is now.
    pub fn of(path: &Path) -> io::Result<Fingerprint> {
        let metadata = fs::metadata(path)?;
        Ok(Fingerprint {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        })
    }

    /// Whether it is the same file, changed or not.
    pub fn is_same_file(&self, other: &Fingerprint) -> bool {
        self.file == other.file
    }
}

/// Opens or makes the file at `path`. With `check`, also checks all that is in it: without, a
/// damaged one may be read wrongly, or bring the store's code to panic.
pub fn open(path: &Path, check: bool) -> Result<Database, StoreError> {
    let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
    let file = open_or_make(path).map_err(unavailable)?;
    let is_new = file.metadata().map_err(unavailable)?.len() == 0;
    if check && !is_new {
        read_through(&file).map_err(unavailable)?;
    }
    let database = Database::builder()
        .set_cache_size(CACHE_OCTETS)
        .set_check_integrity_on_open(check && !is_new)
        .create(path);
    if database.is_err() && is_new {
        // A beginning that failed, on a full disk for one, would be a damaged file later.
        let _ = file.set_len(0);
    }
    Ok(database.map_err(redb::Error::from)?)
}

/// Opens the file at `path`, or makes it if there is none: empty, which the store takes for a
/// new one.
fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = options.create(true).truncate(false).mode(MODE).open(path)?;
            sync_directory(path);
            made
        }
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Has the system read a file. The store will read all of it, page by page in the order of its
/// trees. Read through once from end to end, it comes from memory then, which saves a disk much
/// seeking after a reboot.
fn read_through(file: &File) -> io::Result<()> {
    io::copy(
        &mut BufReader::with_capacity(READ_OCTETS, file),
        &mut io::sink(),
    )?;
    Ok(())
}

/// Renames a file, to a name of its own that tells when; says to which.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let now = Time::now().0;
    let mut suffix = format!(".unreadable-{now}");
    let mut count = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(&suffix);
        let aside = PathBuf::from(name);
        // One set aside earlier must stay.
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            sync_directory(path);
            return Ok(aside);
        }
        suffix = format!(".unreadable-{now}-{count}");
        count += 1;
    }
}

/// Has the name of the file at `path` survive a loss of power, where the system can do that.
fn sync_directory(path: &Path) {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
