//! The layout of the state file: a header, then frames, each appended in one write.
//!
//! ```text
//! header   19  "kea-blq state file\n"
//!           1  version of the layout
//!           8  end of the durable frames, an offset in the file
//!           4  length of the payload of the last durable frame; 0 without one
//!           4  CRC-32 of the preceding octets
//! frame     4  CRC-32 of the frame's offset in the file, as 8 octets, and of the octets that follow
//!           4  length of its payload (n)
//!           4  length of the payload of the preceding frame; 0 in the first frame
//!           n  payload: one transaction
//! ```
//!
//! Numbers are little-endian. If a frame before the end in the header is not intact, the file is
//! damaged. The one frame after that end may be torn, if its process was killed; a torn frame is
//! ignored.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Buf, TryGetError};
use crc32fast::Hasher;
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;

use crate::persist::error::{Defect, StoreError};
use crate::persist::file::Fingerprint;
use crate::persist::ownership::{self, Mark, read_at};

/// The beginning of every state file, of any version.
pub const MARK: Mark = b"kea-blq state file\n";

/// The version of the layout that this code reads and writes. Version 2 has zeros after the mark,
/// version 1 has no mark.
const VERSION: u8 = 3;

/// Octets of the header.
pub const HEADER: usize = 36;

/// Octets of a frame before its payload.
pub const FRAME_HEAD: usize = 12;

/// An open state file, locked against other processes.
#[derive(Debug)]
pub struct Journal {
    /// The file.
    file: Locked,
    /// The fingerprint of the file when it was opened.
    opened: Fingerprint,
    /// The end of the last frame.
    tail: Boundary,
    /// Whether the file ends at its tail.
    is_trimmed: bool,
}

/// A boundary between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The offset in the file.
    pub offset: u64,
    /// Length of the payload before the boundary; 0 at the start.
    payload: u32,
}

impl Boundary {
    /// The boundary before the first frame.
    pub const START: Boundary = Boundary {
        offset: HEADER as u64,
        payload: 0,
    };

    /// Returns the boundary after a payload of `length` octets.
    fn after(self, length: u32) -> Boundary {
        Boundary {
            offset: self.offset + FRAME_HEAD as u64 + u64::from(length),
            payload: length,
        }
    }
}

/// The state of a journal when it was closed.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// The fingerprint when closed, or when opened if the last write failed.
    file: Fingerprint,
    /// The end after the last successful write.
    tail: Boundary,
}

/// A frame under construction: space for its head, then its payload.
#[derive(Debug)]
pub struct Frame(pub Vec<u8>);

impl Journal {
    /// Opens the file at `path` and finds its end. If there is no file, `create` creates one.
    pub fn open(path: &Path, create: bool) -> Result<Journal, StoreError> {
        let file = lock(ownership::open(path, create, MARK)?)?;
        let opened = Fingerprint::from(file.metadata()?);
        let tail = find_end(&file)?;
        let journal = Journal {
            file,
            opened,
            tail,
            is_trimmed: false,
        };
        // The previous holder of the lock may have replaced the file by a compacted one.
        journal.check_path(path)?;
        Ok(journal)
    }

    /// Begins a file at `path`, and overwrites an existing one of this library.
    pub fn create(path: &Path) -> Result<Journal, StoreError> {
        let file = lock(ownership::open(path, true, MARK)?)?;
        file.set_len(0)?;
        write_empty(&file)?;
        Ok(Journal {
            opened: Fingerprint::from(file.metadata()?),
            file,
            tail: Boundary::START,
            is_trimmed: true,
        })
    }

    /// Returns the file, for its attributes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the end of the last frame.
    pub fn tail(&self) -> Boundary {
        self.tail
    }

    /// Discards frames that were not confirmed before the file was closed: a disk reports a failed
    /// write only once. Returns whether the file is unchanged since then.
    pub fn resume(&mut self, closed: &Closed) -> bool {
        if self.opened.is_same_file(&closed.file) && closed.tail.offset < self.tail.offset {
            self.tail = closed.tail;
        }
        self.opened == closed.file
    }

    /// Appends a frame, which is durable on return.
    ///
    /// # Errors
    /// The journal must be closed then, because an unknown part of the frame is on disk.
    pub fn append(&mut self, frame: Frame) -> io::Result<()> {
        let Frame(mut octets) = frame;
        let length = octets.len() - FRAME_HEAD;
        let length = u32::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        put_number(&mut octets, 4, length);
        put_number(&mut octets, 8, self.tail.payload);
        let checksum = checksum(self.tail.offset, &octets);
        put_number(&mut octets, 0, checksum);
        if !self.is_trimmed {
            self.file.set_len(self.tail.offset)?;
        }
        self.is_trimmed = false;
        self.file.write_all_at(&octets, self.tail.offset)?;
        // All frames before this one are durable.
        self.file.write_all_at(&header(self.tail), 0)?;
        self.file.sync_data()?;
        self.is_trimmed = true;
        self.tail = self.tail.after(length);
        Ok(())
    }

    /// Checks that `path` still names the file: a start would not find a deleted or renamed one.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if a file of another program has the name, otherwise
    /// [`StoreError::Unavailable`].
    pub fn check_path(&self, path: &Path) -> Result<(), StoreError> {
        if Fingerprint::from(fs::metadata(path)?).is_same_file(&self.opened) {
            return Ok(());
        }
        ownership::open_existing(path, MARK)?;
        Err(StoreError::Unavailable(
            "another file has taken its place".to_owned(),
        ))
    }

    /// Makes the system read the file sequentially. [`Journal::read_before`] reads backwards, which
    /// is slow on a disk that has to seek.
    pub fn read_ahead(&self) {
        // The advice is an optimisation only.
        let _ = fadvise(&*self.file, 0, None, Advice::WillNeed);
    }

    /// Reads the payload before `tail` into `frame`. Returns the payload and the boundary before
    /// it.
    pub fn read_before<'a>(
        &self,
        tail: Boundary,
        frame: &'a mut Vec<u8>,
    ) -> Result<(&'a [u8], Boundary), StoreError> {
        let start = tail
            .offset
            .checked_sub(FRAME_HEAD as u64 + u64::from(tail.payload));
        let start = start.filter(|start| *start >= Boundary::START.offset);
        let start = start.ok_or_else(|| damaged(tail.offset))?;
        let payload =
            read(&self.file, start, tail.payload, frame)?.ok_or_else(|| damaged(start))?;
        Ok((
            frame.get(FRAME_HEAD..).unwrap_or_default(),
            Boundary {
                offset: start,
                payload,
            },
        ))
    }

    /// Closes the file.
    pub fn close(self) -> Closed {
        let write_tail = || {
            // With the tail in the header, the next start detects that the last frame is missing.
            self.file.write_all_at(&header(self.tail), 0)?;
            self.file.metadata()
        };
        let metadata = self.is_trimmed.then(write_tail).and_then(Result::ok);
        Closed {
            file: metadata.map_or(self.opened, Fingerprint::from),
            tail: self.tail,
        }
    }
}

/// Writes a number over the four octets at `offset`.
pub fn put_number(octets: &mut [u8], offset: usize, number: u32) {
    if let Some(octets) = octets.get_mut(offset..offset + 4) {
        octets.copy_from_slice(&number.to_le_bytes());
    }
}

/// A file that is locked against other processes until it is dropped.
#[derive(Debug)]
struct Locked(File);

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // To close the file is not enough: a process that was just forked shares it, and with it the lock, until it runs
        // another program. Nothing else depends on its success.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Locks a file against other processes.
fn lock(file: File) -> Result<Locked, StoreError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Locked(file)),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Unavailable(
            "another process uses it".to_owned(),
        )),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Returns the header of a file whose frames before `tail` are durable.
fn header(tail: Boundary) -> Vec<u8> {
    let numbers = (tail.offset.to_le_bytes(), tail.payload.to_le_bytes());
    let mut octets = [MARK, &[VERSION], &numbers.0, &numbers.1].concat();
    let checksum = crc32fast::hash(&octets);
    octets.extend(checksum.to_le_bytes());
    octets
}

/// Returns the checksum of a frame at `start`, over its offset and all its octets after the
/// checksum.
fn checksum(start: u64, frame: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&start.to_le_bytes());
    hasher.update(frame.get(4..).unwrap_or_default());
    hasher.finalize()
}

/// Writes the header of a file without frames, durably: from then on the file is recognised as one
/// of this library.
fn write_empty(file: &File) -> io::Result<()> {
    let written = file.write_all_at(&header(Boundary::START), 0);
    let written = written.and_then(|()| file.sync_data());
    if written.is_err() {
        // The disk may be full. The header of an empty file can be written later.
        let _ = file.set_len(0);
    }
    written
}

/// Finds the end of a file. A file without a complete header is begun anew.
fn find_end(file: &File) -> Result<Boundary, StoreError> {
    let mut octets = vec![0; HEADER];
    let length = read_at(file, &mut octets, 0)?;
    octets.truncate(length);
    if length < HEADER && header(Boundary::START).starts_with(&octets) {
        write_empty(file)?;
        return Ok(Boundary::START);
    }
    let durable = durable_tail(&octets)?;
    let mut tail = durable;
    let mut frame = Vec::new();
    while let Some(next) = read_after(file, tail, &mut frame)? {
        tail = next;
    }
    if tail != durable {
        // The header of the next write covers this frame.
        file.sync_data()?;
    }
    Ok(tail)
}

/// Returns the end of the durable frames according to the header.
fn durable_tail(octets: &[u8]) -> Result<Boundary, StoreError> {
    let mut rest = octets.get(MARK.len()..).unwrap_or_default();
    let mut fields = || {
        let version = rest.try_get_u8()?;
        let (offset, payload) = (rest.try_get_u64_le()?, rest.try_get_u32_le()?);
        Ok::<_, TryGetError>((version, Boundary { offset, payload }))
    };
    match fields() {
        Ok((VERSION, tail)) if header(tail) == octets => Ok(tail),
        Err(_) | Ok((VERSION, _)) => Err(damaged(0)),
        Ok((version, _)) => {
            let reason = match version {
                0 => "it was written by an earlier version of this library".to_owned(),
                version => {
                    format!("its layout has version {version}, this library reads {VERSION}")
                }
            };
            Err(StoreError::Unreadable(Defect::Version, reason))
        }
    }
}

/// Reads the frame after `tail` and returns the boundary after it; `None` if the frame is missing
/// or torn.
fn read_after(file: &File, tail: Boundary, frame: &mut Vec<u8>) -> io::Result<Option<Boundary>> {
    let mut octets = [0; 4];
    read_at(file, &mut octets, tail.offset + 4)?;
    let length = u32::from_le_bytes(octets);
    let next = tail.after(length);
    if next.offset > file.metadata()?.len() {
        return Ok(None);
    }
    let previous = read(file, tail.offset, length, frame)?;
    Ok((previous == Some(tail.payload)).then_some(next))
}

/// Reads the frame at `start` with a payload of `length` octets. Returns the length of the payload
/// before it; `None` if the frame is not intact.
fn read(file: &File, start: u64, length: u32, frame: &mut Vec<u8>) -> io::Result<Option<u32>> {
    frame.resize(FRAME_HEAD + length as usize, 0);
    if read_at(file, frame, start)? < frame.len() {
        return Ok(None);
    }
    let mut head = frame.as_slice();
    let [found, stated, previous] = [(); 3].map(|()| head.try_get_u32_le().ok());
    let is_whole = found == Some(checksum(start, frame)) && stated == Some(length);
    Ok(previous.filter(|_| is_whole))
}

/// Returns the error about octets that differ from those written.
fn damaged(offset: u64) -> StoreError {
    StoreError::Unreadable(Defect::Damaged, format!("it is damaged at octet {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlocks_a_closed_file_that_a_forked_process_still_has_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let journal = Journal::open(&path, true).unwrap();
        // Shares the lock, as the descriptor of a forked process does.
        let _shared = journal.file.try_clone().unwrap();
        journal.close();
        Journal::open(&path, false).unwrap();
    }
}
