//! The state file as a file: how it begins, its lock, and names to set it aside under.
//!
//! The file begins with a mark that identifies it as this library's before anything else is done to it. The mark
//! is never written again. The store has the rest. A file of the first layout is the store's from the first octet
//! on; it stays one.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, BufReader};
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;
use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend};

use crate::model::time::Time;
use crate::persist::store::StoreError;
use crate::persist::store::ownership::{self, Mark};

/// How a state file begins. Zeros follow, up to [`STORE`].
pub const MARK: Mark = b"kea-blq state file\n";

/// Where the store's part of a file begins, in octets: a page.
pub const STORE: usize = 4_096;

/// How a file of the first layout begins: as any file of the store's, whoever made it.
const STORE_MARK: Mark = b"redb\x1a\n\xa9\r\n";

/// What every file of the first layout holds, and hardly any other: in the page with the numbers about
/// the file as a whole their names stand side by side, in this order. As long as such files are written,
/// no name may come in between.
const NAMES: &[u8] = b"saved-atstampversion";

/// How much of a file is looked through for that, in octets: many times what comes before it in a file
/// of ten million bindings.
const MOST_LOOKED_THROUGH: u64 = 1 << 30;

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
    /// Returns the fingerprint of the file at `path`.
    pub fn of(path: &Path) -> io::Result<Fingerprint> {
        fs::metadata(path).map(|metadata| Fingerprint::new(&metadata))
    }

    /// Returns the fingerprint of an open file.
    pub fn of_file(file: &File) -> io::Result<Fingerprint> {
        file.metadata().map(|metadata| Fingerprint::new(&metadata))
    }

    /// Makes a fingerprint of a file's metadata.
    fn new(metadata: &Metadata) -> Fingerprint {
        Fingerprint {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        }
    }

    /// Whether it is the same file, changed or not.
    pub fn is_same_file(&self, other: &Fingerprint) -> bool {
        self.file == other.file
    }
}

/// Whether an open file is a state file of this library's, of whatever version, damaged or not.
pub fn is_own(file: &File) -> io::Result<bool> {
    Ok(ownership::begins_with(file, MARK)? || is_of_first_layout(file)?)
}

/// Whether a file is one of the first layout.
fn is_of_first_layout(file: &File) -> io::Result<bool> {
    if !ownership::begins_with(file, STORE_MARK)? {
        return Ok(false);
    }
    let names = Finder::new(NAMES);
    let mut octets = vec![0; READ_OCTETS];
    let mut place = 0;
    while place < MOST_LOOKED_THROUGH {
        let length = ownership::read_at(file, &mut octets, place)?;
        let found = octets.get(..length).unwrap_or_default();
        if names.find(found).is_some() {
            return Ok(true);
        }
        if length < READ_OCTETS {
            break;
        }
        // What is looked for may begin at the end of these.
        place += (READ_OCTETS - NAMES.len()) as u64;
    }
    Ok(false)
}

/// Opens the file at `path`; where there is none one is made, if `make` is set. With `check`, also
/// checks all that is in it: without, a damaged one may be read wrongly, or bring the store's code to
/// panic.
pub fn open(path: &Path, make: bool, check: bool) -> Result<(Database, Fingerprint), StoreError> {
    let unavailable = |error: io::Error| StoreError::Unavailable(error.to_string());
    let file = ownership::open(path, make, is_own)?;
    // The store does so, too, but what comes before it is to be done by one process alone.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(redb::Error::DatabaseAlreadyOpen.into());
    }
    let fingerprint = Fingerprint::of_file(&file).map_err(unavailable)?;
    let is_marked =
        fingerprint.length == 0 || ownership::begins_with(&file, MARK).map_err(unavailable)?;
    let start = if is_marked { STORE as u64 } else { 0 };
    let is_new = fingerprint.length <= start;
    if is_new && !is_beginning(&file).map_err(unavailable)? {
        return Err(StoreError::Unreadable(
            "its beginning is damaged".to_owned(),
        ));
    }
    let opened = || -> Result<Database, StoreError> {
        if is_new {
            begin(&file).map_err(unavailable)?;
        } else if check {
            read_through(&file).map_err(unavailable)?;
        }
        let file = file.try_clone().map_err(unavailable)?;
        let file = FileBackend::new(file).map_err(redb::Error::from)?;
        let database = Database::builder()
            .set_cache_size(CACHE_OCTETS)
            .set_check_integrity_on_open(check && !is_new)
            .create_with_backend(StorePart { file, start });
        Ok(database.map_err(redb::Error::from)?)
    };
    let opened = opened();
    if opened.is_err() && is_new && file.try_lock().is_ok() {
        // A beginning that failed, on a full disk for one, would be a damaged file later.
        let _ = file.set_len(0);
    }
    Ok((opened?, fingerprint))
}

/// What comes before the store's part of a file.
fn beginning() -> Vec<u8> {
    let mut page = MARK.to_vec();
    page.resize(STORE, 0);
    page
}

/// Writes what comes before the store's part. It is on disk when this returns: whatever happens to the
/// file from now on, it is known as this library's.
fn begin(file: &File) -> io::Result<()> {
    file.write_all_at(&beginning(), 0)?;
    file.sync_data()
}

/// Whether a file without the store's part is as [`begin`] leaves it, or on the way there.
fn is_beginning(file: &File) -> io::Result<bool> {
    let mut octets = vec![0; STORE];
    let length = ownership::read_at(file, &mut octets, 0)?;
    Ok(beginning().starts_with(octets.get(..length).unwrap_or_default()))
}

/// The store's part of a file.
#[derive(Debug)]
struct StorePart {
    /// The file, which locks itself as a whole.
    file: FileBackend,
    /// Where the part begins, in octets.
    start: u64,
}

impl StorePart {
    /// Where something is in the file.
    fn place(&self, offset: u64) -> io::Result<u64> {
        let place = offset.checked_add(self.start);
        place.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl StorageBackend for StorePart {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?.saturating_sub(self.start))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(self.place(offset)?, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(self.place(len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(self.place(offset)?, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
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

/// Renames this library's file at `path`, to a name of its own that says when; says to which. A file
/// that has come to be somebody else's keeps its name.
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    ownership::look(path, is_own)?;
    renamed(path).map_err(|error| StoreError::Unavailable(format!("it cannot be renamed: {error}")))
}

/// Renames a file, to a name of its own. A link to it stays, and leads to the next one.
fn renamed(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let now = Time::now().0;
    let mut suffix = format!(".unreadable-{now}");
    let mut count = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(&suffix);
        let aside = PathBuf::from(name);
        // One set aside earlier must stay.
        if !aside.try_exists()? {
            fs::rename(&path, &aside)?;
            sync_directory(&path);
            return Ok(aside);
        }
        suffix = format!(".unreadable-{now}-{count}");
        count += 1;
    }
}

/// Has the name of the file at `path` survive a loss of power, where the system can do that.
pub fn sync_directory(path: &Path) {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
