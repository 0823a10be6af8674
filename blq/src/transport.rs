//! The octets of a connection: over TCP alone, or over TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

/// Longest time to wait for a peer to take the last octets of TLS.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket, and the layer above it.
#[derive(Debug)]
pub(crate) enum Transport {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Returns the socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => &stream.0.sock,
        }
    }

    /// Ends sending: over TLS by close_notify, then the socket's own end.
    pub fn finish_sending(&mut self) {
        if let Transport::Tls(stream) = self {
            stream.send_close_notify();
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buffer),
            Transport::Tls(stream) => stream.0.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(octets),
            Transport::Tls(stream) => stream.0.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.flush(),
            Transport::Tls(stream) => stream.0.flush(),
        }
    }
}

/// TLS after its handshake. Dropping it sends close_notify, by which the peer knows that no octets were
/// cut off.
pub(crate) struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl TlsStream {
    /// Returns the stream of a finished handshake.
    pub fn new(connection: ClientConnection, socket: TcpStream) -> TlsStream {
        TlsStream(StreamOwned::new(connection, socket))
    }

    /// Sends close_notify, once. A connection that failed needs none.
    fn send_close_notify(&mut self) {
        let StreamOwned { conn, sock } = &mut self.0;
        conn.send_close_notify();
        // Fails only if the connection is closed already.
        let _ = sock.set_write_timeout(Some(CLOSE_TIMEOUT));
        while conn.wants_write() {
            match conn.write_tls(sock) {
                Ok(length) if length > 0 => {}
                _ => return,
            }
        }
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.send_close_notify();
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsStream").field(&self.0.sock).finish()
    }
}
