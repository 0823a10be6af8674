//! The streams that carry a connection's octets.

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream that carries a connection's octets.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// Removes the limit of unsent octets in the kernel. Called when the server stops: octets in
    /// the kernel reach the requester even after the end of the process.
    fn write_freely(&self) {}

    /// Returns the number of octets that the stream took and has not sent yet.
    fn unsent(&self) -> usize {
        0
    }

    /// Returns the reason for which the stream can carry only a few more messages, if there is one.
    fn exhausted(&self) -> Option<&'static str> {
        None
    }
}

impl Carrier for TcpStream {
    fn write_freely(&self) {
        // If this fails, the requester may not receive the status of its queries.
        let _ = SockRef::from(self).set_tcp_notsent_lowat(u32::MAX);
    }
}
