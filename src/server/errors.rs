//! The error of listening on an address.

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
        let advice = match cause.kind() {
            io::ErrorKind::AddrInUse => "; it must be a port no other process listens on",
            io::ErrorKind::AddrNotAvailable => "; it must be an address of this host, or 0.0.0.0",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
            }
            _ => "",
        };
        write!(
            f,
            "cannot listen on {address} (parameters 'advanced.lease-query-ip' and \
             'advanced.lease-query-tcp-port'): {cause}{advice}"
        )
    }
}

impl std::error::Error for ListenError {}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> io::Error {
        io::Error::new(error.cause.kind(), error)
    }
}
