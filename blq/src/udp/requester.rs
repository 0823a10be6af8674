//! The socket, and the exchange of a query and its reply (RFC 4388 sections 6.5 and 6.6).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::query::InvalidQuery;
use crate::udp::reply::{Rejected, read};
use crate::udp::{Ignored, LeaseQuery, Reply, Retransmission, Violation};

/// Default time to wait for a reply, with all retransmissions.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Octets of the longest datagram.
const LONGEST: usize = 65_535;

/// A socket for queries to one server.
///
/// One query is in progress at a time, so a server that does not answer gets no more than its
/// retransmissions (RFC 4388 section 6.6).
#[derive(Debug)]
pub struct Requester {
    /// The socket, not connected: a server may reply from another of its addresses.
    socket: UdpSocket,
    /// The address of the socket, to which servers send replies.
    giaddr: Ipv4Addr,
    /// The server.
    server: SocketAddrV4,
    /// The delays between transmissions.
    retransmission: Retransmission,
}

impl Requester {
    /// Opens the UDP port `port` of the address `source` of this machine; without `source`, of the
    /// address from which this machine reaches the server.
    ///
    /// Servers send replies to port 67 ([`SERVER_PORT`](crate::udp::SERVER_PORT)) of that address, so
    /// another port receives replies only from servers made for tests, or where the network redirects
    /// port 67 to it. Port 0 stands for any free port.
    ///
    /// # Errors
    /// No route leads to the server, or the port cannot be opened: ports below 1024 usually need a
    /// privilege, and a DHCP server or relay agent of this machine may use port 67.
    pub fn open(
        server: SocketAddrV4,
        source: Option<Ipv4Addr>,
        port: u16,
    ) -> Result<Requester, Error> {
        let giaddr = match source.filter(|source| !source.is_unspecified()) {
            Some(source) => source,
            None => route(server).map_err(Error::Route)?,
        };
        let address = SocketAddrV4::new(giaddr, port);
        let socket = UdpSocket::bind(address).map_err(|error| Error::Bind { address, error })?;
        Ok(Requester {
            socket,
            giaddr,
            server,
            retransmission: Retransmission::default(),
        })
    }

    /// Sets other delays between transmissions.
    pub fn with_retransmission(self, retransmission: Retransmission) -> Requester {
        Requester {
            retransmission,
            ..self
        }
    }

    /// Returns the address and port at which replies are received.
    ///
    /// # Errors
    /// The system's error.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a query, repeatedly until its reply arrives, for at most `timeout`. The source of the reply
    /// may be any address: its xid and giaddr count.
    ///
    /// # Errors
    /// The query cannot be encoded or sent, no reply arrives in time, or the reply violates the
    /// protocol.
    pub fn query(&self, query: &LeaseQuery, timeout: Duration) -> Result<Reply, Error> {
        let message = query.to_message(self.giaddr)?.encode();
        let begin = Instant::now();
        let mut silence = Silence {
            giaddr: self.giaddr,
            seconds: timeout.as_secs_f64(),
            transmissions: 0,
            ignored: 0,
            last_ignored: None,
        };
        for delay in self.retransmission.delays(random) {
            self.socket
                .send_to(&message, self.server)
                .map_err(Error::Send)?;
            silence.transmissions += 1;
            let sent = Instant::now();
            loop {
                let left = timeout.saturating_sub(begin.elapsed());
                if left.is_zero() {
                    return Err(Error::NoReply(silence));
                }
                let wait = left.min(delay.saturating_sub(sent.elapsed()));
                if wait.is_zero() {
                    break;
                }
                let Some(datagram) = self.receive(wait).map_err(Error::Receive)? else {
                    continue;
                };
                match read(&datagram, query, self.giaddr) {
                    Ok(reply) => return Ok(reply),
                    Err(Rejected::Violation(violation)) => return Err(violation.into()),
                    Err(Rejected::Ignored(reason)) => {
                        silence.ignored += 1;
                        silence.last_ignored = Some(reason);
                    }
                }
            }
        }
        Err(Error::NoReply(silence))
    }

    /// Receives a datagram; `None` if none arrives within `wait`, which is > 0.
    fn receive(&self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        self.socket.set_read_timeout(Some(wait))?;
        let mut datagram = vec![0; LONGEST];
        match self.socket.recv_from(&mut datagram) {
            Ok((length, _)) => {
                datagram.truncate(length);
                Ok(Some(datagram))
            }
            // The kind of a timeout depends on the system.
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Returns the address from which this machine reaches `server`. Nothing is sent.
fn route(server: SocketAddrV4) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Ok(address),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Returns a random number, from the seed of the standard library's hash tables.
fn random() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
}

/// A time without a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silence {
    /// The requester's address, to which servers send replies.
    pub giaddr: Ipv4Addr,
    /// The time in seconds.
    pub seconds: f64,
    /// Number of transmissions of the query.
    pub transmissions: u32,
    /// Number of other datagrams that arrived.
    pub ignored: u64,
    /// The reason why the last one of them is not the reply.
    pub last_ignored: Option<Ignored>,
}

/// The reason why a query has no reply.
#[derive(Debug, Error)]
pub enum Error {
    /// No route leads to the server. No query was sent.
    #[error("the server cannot be reached: {0}")]
    Route(#[source] io::Error),
    /// The port at which replies are received cannot be opened. No query was sent.
    #[error("cannot receive replies at UDP port {} of {}: {error}", address.port(), address.ip())]
    Bind {
        /// The address and port.
        address: SocketAddrV4,
        /// The system's error.
        error: io::Error,
    },
    /// The query could not be sent.
    #[error("the query cannot be sent: {0}")]
    Send(#[source] io::Error),
    /// The socket failed.
    #[error("receiving failed: {0}")]
    Receive(#[source] io::Error),
    /// No reply arrived in time.
    #[error(
        "no reply within {} s, to {} {}{}",
        .0.seconds,
        .0.transmissions,
        if .0.transmissions == 1 { "transmission" } else { "transmissions" },
        ignored(.0)
    )]
    NoReply(Silence),
    /// The reply violates the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The query cannot be encoded.
    #[error(transparent)]
    Invalid(#[from] InvalidQuery),
}

/// Returns the end of the message about a time without a reply.
fn ignored(silence: &Silence) -> String {
    match (silence.ignored, silence.last_ignored) {
        (1, Some(reason)) => format!("; another datagram was ignored ({reason})"),
        (count, Some(reason)) => {
            format!("; {count} datagrams were ignored (the last one: {reason})")
        }
        _ => String::new(),
    }
}
