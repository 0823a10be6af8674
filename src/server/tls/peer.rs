//! The requester at the other end of a secured connection.

use std::fmt;

/// The requester of a connection that is secured by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPeer {
    /// The version of TLS.
    pub version: &'static str,
    /// The first DNS name of the requester's certificate, or the SHA-256 of one without names;
    /// `None` if it presented none.
    pub name: Option<String>,
}

impl fmt::Display for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}, certificate of {name}", self.version),
            None => write!(f, "{}, no certificate", self.version),
        }
    }
}
