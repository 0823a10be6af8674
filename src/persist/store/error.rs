//! What can go wrong with the state file, and the net for what its store's code may panic at.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why the state file cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// The file belongs to another program and stays as it is.
    Foreign(String),
    /// The file is this library's, but damaged or of a newer version.
    Unreadable(String),
    /// It cannot be opened, read or written now: permissions, a full disk, another process.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StoreError::Foreign(reason)
        | StoreError::Unreadable(reason)
        | StoreError::Unavailable(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StoreError {}

impl From<redb::Error> for StoreError {
    /// Only what the file itself says makes it unreadable: a good one must never be set aside
    /// for a fault of the moment.
    fn from(error: redb::Error) -> Self {
        let is_files_fault = match &error {
            redb::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => true,
            _ => false,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Unavailable("another process uses it".to_owned())
            }
            error if is_files_fault => StoreError::Unreadable(error.to_string()),
            error => StoreError::Unavailable(error.to_string()),
        }
    }
}

/// Does what the store's own code may panic at: a damaged file can take it anywhere. A panic
/// is one more way for it to say so.
pub fn guarded<T>(
    panicked: fn(String) -> StoreError,
    act: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(panicked(panic_text(&*panic))))
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it cannot be read")
        .to_owned()
}
