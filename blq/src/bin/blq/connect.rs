//! The connection to the server of the command line.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use blq::cli::Args;
use blq::{Connection, Error, Tls};

/// Connects, with TLS if `tls` is given.
pub fn connect(args: &Args, tls: Option<&Tls>) -> Result<Connection, Error> {
    let addresses = addresses(args)?;
    let source = args.source.map(IpAddr::V4);
    let timeouts = args.timeouts();
    let connection = Connection::open_from(source, addresses.as_slice(), &timeouts)?;
    match tls {
        Some(tls) => connection.start_tls(tls, timeouts.connect),
        None => Ok(connection),
    }
}

/// Returns the IPv4 addresses of the server, at least one.
pub fn addresses(args: &Args) -> Result<Vec<SocketAddr>, Error> {
    let server = (args.server.host.as_str(), args.port());
    let addresses = server.to_socket_addrs().map_err(Error::Resolve)?;
    let addresses: Vec<SocketAddr> = addresses.filter(SocketAddr::is_ipv4).collect();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(no_address()),
    }
}

/// Returns the error of a name without an IPv4 address.
pub fn no_address() -> Error {
    Error::Resolve(io::Error::other(
        "the name has no IPv4 address: DHCPv4 servers are queried over IPv4",
    ))
}
