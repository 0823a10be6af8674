//! The ceiling: what the client reads per second when a trivial sender writes it messages that
//! were encoded before, over loopback.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::client::{Client, Request, Result};

/// Octets written at once: with more or less of them fewer messages come through.
const WRITE: usize = 1024 * 1024;

/// Octets of an answer that are kept, at least; then it is sent again and again.
const KEPT: usize = 64 * 1024 * 1024;

/// An answer of a server, to be sent again.
#[derive(Debug)]
pub struct Recording {
    /// Messages about single addresses: the first ones of the answer.
    bindings: Vec<u8>,
    /// How often to send all of them.
    times: u64,
    /// How many octets of them to send after that, to have sent as many messages as there were.
    rest: usize,
    /// The message at the end.
    done: Vec<u8>,
}

impl Recording {
    /// Asks a server and keeps its answer.
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

/// Sends octets in large parts.
fn send(octets: &[u8], to: &mut impl Write) -> io::Result<()> {
    octets.chunks(WRITE).try_for_each(|part| to.write_all(part))
}

/// Where each message ends.
fn ends(octets: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut end = 0;
    while let Some(size) = octets.get(end..end + 2) {
        end += 2 + usize::from(u16::from_be_bytes([size[0], size[1]]));
        ends.push(end);
    }
    ends
}

/// A sender that answers each query with a recording.
#[derive(Debug)]
pub struct Ceiling {
    /// Where it listens.
    address: SocketAddrV4,
}

impl Ceiling {
    /// Starts it; its threads end with their connections, and with the process.
    pub fn start(recording: Recording) -> Result<Ceiling> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let SocketAddr::V4(address) = listener.local_addr()? else {
            return Err("no IPv4 address".into());
        };
        let recording = Arc::new(recording);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let recording = Arc::clone(&recording);
                thread::spawn(move || serve(connection, &recording));
            }
        });
        Ok(Ceiling { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

/// Answers queries until the other side closes.
fn serve(mut connection: TcpStream, recording: &Recording) {
    // Else the last message may wait until those before it are acknowledged.
    if connection.set_nodelay(true).is_err() {
        return;
    }
    let mut size = [0; 2];
    while connection.read_exact(&mut size).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(size))];
        if connection.read_exact(&mut query).is_err() || recording.send(&mut connection).is_err() {
            return;
        }
    }
}
