//! Why the state file cannot be used.

use std::{fmt, io};

/// Why the state file cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// The file belongs to another program and stays as it is.
    Foreign(String),
    /// The file is this library's, but damaged or of another version.
    Unreadable(String),
    /// The file cannot be opened, read or written now: permissions, a full disk, another process.
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

impl From<io::Error> for StoreError {
    /// A good file must never be set aside for a fault of the moment.
    fn from(error: io::Error) -> Self {
        StoreError::Unavailable(error.to_string())
    }
}
