//! Connections to a server from any address of the loopback interface.

// No test uses all items.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use dhcp_blq::server::Server;
use socket2::{Domain, Socket, Type};

/// Time after which a test fails; never reached by a correct server.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to the server from an address.
pub fn connect_from(server: &Server, source: impl Into<Ipv4Addr>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((source.into(), 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&server.local_addresses()[0].into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads a message without its message-size. An end within the message is invalid data.
pub fn read_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut size = [0; 2];
    stream.read_exact(&mut size)?;
    let mut message = vec![0; u16::from_be_bytes(size).into()];
    let read = stream.read_exact(&mut message);
    read.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(message)
}

/// Returns the octets that the server sends until it closes the connection.
pub fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received) {
        // A reset if octets were not read.
        assert!(is_close(&error), "{error}");
    }
    received
}

/// Whether an error of a read or write means that the server closed the connection.
pub fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}
