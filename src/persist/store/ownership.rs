//! Whose a file is. A configuration may name any path, and what somebody else keeps there must stay
//! as it is: never opened for writing, locked, renamed or truncated. So a path is used only if it
//! names no file yet, an empty one, or one that begins as files of this library do.
//!
//! The file itself decides, whatever its name: links are followed, and contents are judged by the
//! descriptor that is used afterwards.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::persist::store::StoreError;
use crate::persist::store::file::{Fingerprint, sync_directory};

/// Who may read a file of this library: its owner, and its group.
const MODE: u32 = 0o640;

/// How much of a [`Mark`] is there at least if writing it was cut short.
const LEAST_MARK: usize = 8;

/// The octets that a kind of files begins with.
pub type Mark = &'static [u8];

/// Opens the file at `path` for reading, if it may be used; `None` if there is no file.
///
/// # Errors
/// [`StoreError::Foreign`] if it may not be used; [`StoreError::Unavailable`] if that cannot be found
/// out now.
pub fn look(
    path: &Path,
    is_own: impl Fn(&File) -> io::Result<bool>,
) -> Result<Option<File>, StoreError> {
    match looked(path, is_own) {
        Err(Refusal::Failed(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        looked => Ok(Some(looked?)),
    }
}

/// Opens the file at `path` for reading and writing, if it may be used. Where there is none an empty
/// one is made, if `make` is set.
///
/// # Errors
/// As for [`look`].
pub fn open(
    path: &Path,
    make: bool,
    is_own: impl Fn(&File) -> io::Result<bool>,
) -> Result<File, StoreError> {
    let found = look(path, &is_own)?;
    let is_to_make = make && found.is_none();
    let opened = || -> Result<File, Refusal> {
        let file = options()
            .read(true)
            .write(true)
            .create(is_to_make)
            .truncate(false)
            .mode(MODE)
            .open(path)?;
        let now = Fingerprint::of_file(&file)?;
        let found = found.as_ref().map(Fingerprint::of_file).transpose()?;
        if !found.is_some_and(|found| found.is_same_file(&now)) {
            // New, or put there since: by this descriptor it is known what is used.
            judge(&file, is_own)?;
        }
        Ok(file)
    };
    let file = opened()?;
    if is_to_make {
        sync_directory(path);
    }
    Ok(file)
}

/// Whether a file begins with a mark, or with a part of it and nothing else: the mark is written
/// first, at once, and never again.
pub fn begins_with(file: &File, mark: Mark) -> io::Result<bool> {
    let mut octets = vec![0; mark.len()];
    let length = read_at(file, &mut octets, 0)?;
    let found = octets.get(..length).unwrap_or_default();
    Ok(length >= LEAST_MARK && mark.starts_with(found))
}

/// Reads octets from `place` on, until there are no more; says how many.
pub fn read_at(file: &File, octets: &mut [u8], place: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = octets.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, place + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Why a file is not opened.
enum Refusal {
    /// Another program's file, or no regular file; says which.
    Foreign(&'static str),
    /// The system refuses.
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> StoreError {
        match refusal {
            Refusal::Foreign(what) => StoreError::Foreign(what.to_owned()),
            Refusal::Failed(error) => StoreError::Unavailable(error.to_string()),
        }
    }
}

/// Opens what is at `path` for reading, if it may be used.
fn looked(path: &Path, is_own: impl Fn(&File) -> io::Result<bool>) -> Result<File, Refusal> {
    // Before it is opened: to open a device or a named pipe may have effects of its own.
    check_type(fs::metadata(path)?.file_type())?;
    let file = options().read(true).open(path)?;
    judge(&file, is_own)?;
    Ok(file)
}

/// Options with which nothing that is opened waits for anybody, or becomes a controlling terminal.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Checks that an open file may be used.
fn judge(file: &File, is_own: impl Fn(&File) -> io::Result<bool>) -> Result<(), Refusal> {
    let metadata = file.metadata()?;
    check_type(metadata.file_type())?;
    if metadata.len() == 0 || is_own(file)? {
        return Ok(());
    }
    Err(Refusal::Foreign(
        "its contents are another program's, or its beginning is damaged",
    ))
}

/// Checks that something is a regular file.
fn check_type(found: FileType) -> Result<(), Refusal> {
    let what = if found.is_file() {
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
    Err(Refusal::Foreign(what))
}
