//! Ownership of files. A configuration may name any path, and a file of another program there must
//! stay unchanged: it is never opened for writing, locked, renamed or truncated. A path is used
//! only if there is no file, an empty file, or a file that begins like those of this library.
//!
//! The contents decide, not the name: symbolic links are followed, and contents are checked through
//! the descriptor that is used afterwards.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::persist::error::StoreError;
use crate::persist::file::{Fingerprint, open_directory, sync_directory};

/// The mode of a new file: read and write for the owner, read for the group.
const FILE_MODE: u32 = 0o640;

/// Minimum number of octets of a [`Mark`] in a file whose first write was interrupted.
const MIN_MARK: usize = 8;

/// The octets that files of a kind begin with.
pub type Mark = &'static [u8];

/// Opens the file at `path` for reading, if it may be used as one with this mark; `None` if there is no file.
///
/// # Errors
/// [`StoreError::Foreign`] if it may not be used, [`StoreError::Unavailable`] if that cannot be
/// determined now.
pub fn open_existing(path: &Path, mark: Mark) -> Result<Option<File>, StoreError> {
    // Checked before opening: opening a device or a named pipe may have side effects.
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => check_type(metadata?.file_type())?,
    }
    let file = options().read(true).open(path)?;
    check(&file, mark)?;
    Ok(Some(file))
}

/// Opens the file at `path` for reading and writing, if it may be used as one with this mark. If there is none,
/// `create` creates an empty one.
///
/// # Errors
/// Those of [`open_existing`].
pub fn open(path: &Path, create: bool, mark: Mark) -> Result<File, StoreError> {
    let existing = open_existing(path, mark)?;
    let must_create = create && existing.is_none();
    let file = options()
        .read(true)
        .write(true)
        .create(must_create)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    let opened = Fingerprint::from(file.metadata()?);
    let existing = existing.map(|existing| existing.metadata()).transpose()?;
    if !existing.is_some_and(|existing| opened.is_same_file(&existing.into())) {
        // The file is new, or was replaced after `open_existing`.
        check(&file, mark)?;
    }
    if must_create {
        // If the name is lost with the power, the next start creates a file again.
        let _ = open_directory(path).and_then(|directory| sync_directory(&directory));
    }
    Ok(file)
}

/// Whether a file begins with a mark, or consists of a part of one: the mark is written first, in
/// one write, and never changed.
fn begins_with(file: &File, mark: Mark) -> io::Result<bool> {
    let mut octets = vec![0; mark.len()];
    let length = read_at(file, &mut octets, 0)?;
    let found = octets.get(..length).unwrap_or_default();
    Ok(length >= MIN_MARK && mark.starts_with(found))
}

/// Reads octets from `offset` on, up to the end of the file. Returns their number.
pub fn read_at(file: &File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = octets.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Returns options with which opening does not block and acquires no controlling terminal.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Checks that an open file may be used.
fn check(file: &File, mark: Mark) -> Result<(), StoreError> {
    let metadata = file.metadata()?;
    check_type(metadata.file_type())?;
    if metadata.len() == 0 || begins_with(file, mark)? {
        return Ok(());
    }
    Err(StoreError::Foreign(
        "its contents are another program's, or its beginning is damaged".to_owned(),
    ))
}

/// Checks that a file is a regular one.
fn check_type(found: FileType) -> Result<(), StoreError> {
    let kind = if found.is_file() {
        return Ok(());
    } else if found.is_dir() {
        "it is a directory"
    } else if found.is_fifo() {
        "it is a named pipe"
    } else if found.is_socket() {
        "it is a socket"
    } else {
        "it is a device"
    };
    Err(StoreError::Foreign(kind.to_owned()))
}
