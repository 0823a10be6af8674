//! Errors of the state file.

use std::{fmt, io};

/// An error of the state file.
#[derive(Debug)]
pub enum StoreError {
    /// The file belongs to another program, and is not changed.
    Foreign(String),
    /// The file is this library's, but cannot be continued.
    Unreadable(Defect, String),
    /// The file cannot be opened, read or written now: permissions, a full disk, a lock of another
    /// process.
    Unavailable(String),
}

/// A defect of a file of this library, for which the file is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Octets differ from those written.
    Damaged,
    /// Another version of this library wrote the file.
    Version,
    /// The file is not the one written before.
    Replaced,
}

impl Defect {
    /// Returns the identifier of the log message about a file that is set aside.
    pub(super) fn log_id(self) -> &'static str {
        match self {
            Defect::Damaged => "BLQ_STATE_DAMAGED",
            Defect::Version => "BLQ_STATE_VERSION",
            Defect::Replaced => "BLQ_STATE_REPLACED",
        }
    }
}

impl StoreError {
    /// Returns `foreign`, the identifier of a log message, if the file is another program's,
    /// otherwise `other`.
    pub(super) fn log_id(&self, foreign: &'static str, other: &'static str) -> &'static str {
        match self {
            StoreError::Foreign(_) => foreign,
            _ => other,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (StoreError::Foreign(reason)
        | StoreError::Unreadable(_, reason)
        | StoreError::Unavailable(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    /// A transient error must never set a valid file aside.
    fn from(error: io::Error) -> Self {
        StoreError::Unavailable(error.to_string())
    }
}
