//! The state file as a file: its mode, its directory, and names to set it aside under.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::Database;

use super::StoreError;
use crate::time::Time;

/// Who may read the file: its owner, and its group.
const MODE: u32 = 0o640;

/// The most memory the store uses to hold parts of the file. Writes go all over the file, so
/// more saves little; without a limit it would be a gigabyte of Kea's.
const CACHE_OCTETS: usize = 32 << 20;

/// How much is read at once when the file is read from end to end.
const READ_OCTETS: usize = 1 << 20;

/// Opens or makes the file at `path`, and checks what is in it.
pub fn open(path: &Path) -> Result<Database, StoreError> {
    prepare(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let database = Database::builder()
        .set_cache_size(CACHE_OCTETS)
        .set_check_integrity_on_open(true)
        .create(path);
    Ok(database.map_err(redb::Error::from)?)
}

/// Makes the file at `path` if there is none: empty, which the store takes for a new one. Has
/// the system read one that is there.
fn prepare(path: &Path) -> io::Result<()> {
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
    // The store will read all of it, page by page in the order of its trees. Read through once
    // from end to end, it comes from memory then, which saves a disk much seeking after a reboot.
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
