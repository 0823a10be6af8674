//! The ceiling: the messages a second that the client reads from a trivial sender, which writes
//! messages encoded before, over loopback.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;

use crate::client::{Client, Request, Result, split_frame};
use crate::tls::Records;

/// Octets written at once: the size with the highest rate.
const WRITE: usize = 1024 * 1024;

/// The least octets kept of a long answer, which are sent repeatedly.
const KEPT: usize = 64 * 1024 * 1024;

/// A recorded answer of a server.
#[derive(Debug)]
pub struct Recording {
    /// Messages about single addresses: the first ones of the answer.
    bindings: Vec<u8>,
    /// The number of times that all of them are sent.
    times: u64,
    /// Octets of them sent after that, so that the number of messages is that of the answer.
    rest: usize,
    /// The message at the end.
    done: Vec<u8>,
}

impl Recording {
    /// Records the answer of a server.
    pub fn of(client: &mut Client, request: &Request) -> Result<Recording> {
        let mut bindings = Vec::new();
        let mut done = Vec::new();
        client.send(&request.octets)?;
        let answer = client.read_answer(request.xid, |messages, last| {
            if bindings.len() < KEPT {
                bindings.extend_from_slice(messages);
            }
            done.extend_from_slice(last);
        })?;
        let ends = ends(&bindings);
        let count = ends.len().max(1) as u64;
        // Below the number of ends.
        let left = (answer.bindings % count) as usize;
        Ok(Recording {
            times: answer.bindings / count,
            rest: left.checked_sub(1).map_or(0, |last| ends[last]),
            bindings,
            done,
        })
    }

    /// Sends the answer.
    fn send(&self, to: &mut impl Write) -> io::Result<()> {
        for _ in 0..self.times {
            send(&self.bindings, to)?;
        }
        send(&self.bindings[..self.rest], to)?;
        to.write_all(&self.done)
    }
}

impl Recording {
    /// Sends the answer over TLS, each message in a record of its own.
    fn send_records(&self, to: &mut Records) -> io::Result<()> {
        let mut push = |mut messages: &[u8]| -> io::Result<()> {
            while let Some((message, after)) = split_frame(messages) {
                to.push(message)?;
                messages = after;
            }
            Ok(())
        };
        for _ in 0..self.times {
            push(&self.bindings)?;
        }
        push(&self.bindings[..self.rest])?;
        push(&self.done)?;
        to.flush()
    }
}

/// Writes octets in large parts.
fn send(octets: &[u8], to: &mut impl Write) -> io::Result<()> {
    octets.chunks(WRITE).try_for_each(|part| to.write_all(part))
}

/// The end of each message.
fn ends(octets: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut end = 0;
    while let Some(size) = octets.get(end..end + 2) {
        end += 2 + usize::from(u16::from_be_bytes([size[0], size[1]]));
        ends.push(end);
    }
    ends
}

/// A sender that answers each query by a recording.
#[derive(Debug)]
pub struct Ceiling {
    /// The address that it listens on.
    address: SocketAddrV4,
}

impl Ceiling {
    /// Starts the sender. Its threads end with their connections and with the process.
    pub fn start(recording: Recording) -> Result<Ceiling> {
        Ceiling::start_with(recording, serve)
    }

    /// Starts a sender over TLS by rustls alone, without DHCPTLS.
    pub fn start_rustls(recording: Recording, config: Arc<ServerConfig>) -> Result<Ceiling> {
        Ceiling::start_with(recording, move |connection, recording| {
            serve_records(connection, recording, &config);
        })
    }

    /// Starts a sender that serves connections so.
    fn start_with(
        recording: Recording,
        serve: impl Fn(TcpStream, &Recording) + Send + Sync + 'static,
    ) -> Result<Ceiling> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let SocketAddr::V4(address) = listener.local_addr()? else {
            return Err("no IPv4 address".into());
        };
        let shared = Arc::new((recording, serve));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (recording, serve) = &*shared;
                    serve(connection, recording);
                });
            }
        });
        Ok(Ceiling { address })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

/// Answers queries until the peer closes the connection.
fn serve(mut connection: TcpStream, recording: &Recording) {
    // Otherwise the last message may wait for the acknowledgement of those before.
    if connection.set_nodelay(true).is_err() {
        return;
    }
    while read_query(&mut connection).is_ok() && recording.send(&mut connection).is_ok() {}
}

/// Answers queries over TLS until the peer closes the connection.
fn serve_records(connection: TcpStream, recording: &Recording, config: &Arc<ServerConfig>) {
    if connection.set_nodelay(true).is_err() {
        return;
    }
    let Ok(mut records) = Records::accept(connection, config) else {
        return;
    };
    while read_query(&mut records).is_ok() && recording.send_records(&mut records).is_ok() {}
}

/// Reads a query.
fn read_query(from: &mut impl Read) -> io::Result<()> {
    let mut size = [0; 2];
    from.read_exact(&mut size)?;
    from.read_exact(&mut vec![0; usize::from(u16::from_be_bytes(size))])
}
