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
    /// A transient error must never set a valid file aside. Errors that an administrator can end say how.
    fn from(error: io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "; Kea runs as user {}, who must own the file or be able to write to it and to its directory \
                 (AppArmor denies other directories than Kea's)",
                rustix::process::geteuid().as_raw()
            ),
            io::ErrorKind::ReadOnlyFilesystem => {
                "; name a file in a directory that Kea's service may write to, such as Kea's data directory"
                    .to_owned()
            }
            io::ErrorKind::NotFound => "; its directory must exist".to_owned(),
            _ => String::new(),
        };
        StoreError::Unavailable(format!("{error}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_an_administrator_can_end_says_how() {
        let user = format!("user {}", rustix::process::geteuid().as_raw());
        for (kind, part) in [
            (io::ErrorKind::PermissionDenied, &*user),
            (io::ErrorKind::ReadOnlyFilesystem, "data directory"),
            (io::ErrorKind::NotFound, "must exist"),
        ] {
            let text = StoreError::from(io::Error::from(kind)).to_string();
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
