//! Errors at the start of a server.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;

/// An address cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    /// The address and port.
    pub address: SocketAddrV4,
    /// The error of the system.
    pub cause: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, cause } = self;
        write!(
            f,
            "cannot listen on {address} (parameters 'advanced.lease-query-ip' and \
             'advanced.lease-query-tcp-port'): {cause}"
        )?;
        match cause.kind() {
            io::ErrorKind::AddrInUse => {
                f.write_str("; it must be a port no other process listens on")
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("; it must be an address of this host, or 0.0.0.0")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("; ports below 1024 need the capability CAP_NET_BIND_SERVICE")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Errors that keep the server from starting.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(ListenError),
    /// The threads or their event loop could not be set up.
    Threads(io::Error),
}

impl StartError {
    /// Returns the identifier of the log message about the error.
    pub fn log_id(&self) -> &'static str {
        match self {
            StartError::Listen(_) => "BLQ_LISTEN_FAILED",
            StartError::Threads(_) => "BLQ_SERVER_NOT_STARTED",
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Threads(cause) => {
                write!(f, "the threads that serve requesters cannot start: {cause}")
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen(error) => Some(error),
            StartError::Threads(cause) => Some(cause),
        }
    }
}
