//! A server on a loopback port, whose replies each test provides.

// No test binary uses all of this module.
#![allow(dead_code)]

pub mod tls;
pub mod udp;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use blq::wire::BOOTREPLY;
use blq::{Message, MessageType};

/// The base-time of the replies built here.
pub const BASE_TIME: u32 = 1_700_000_000;

/// A server, of one connection unless its test accepts more.
pub struct Server {
    /// The address of its socket.
    pub address: SocketAddr,
    /// The thread that serves the connection.
    thread: JoinHandle<()>,
}

impl Server {
    /// Listens, and runs `serve` with the first connection.
    pub fn start(serve: impl FnOnce(Peer) + Send + 'static) -> Server {
        Server::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), serve)
    }

    /// Runs `serve` with the next connection to `listener`.
    pub fn start_on(listener: TcpListener, serve: impl FnOnce(Peer) + Send + 'static) -> Server {
        Server::serve_on(listener, |listener| serve(accept(&listener)))
    }

    /// Listens, and runs `serve` with the listener.
    pub fn serve(serve: impl FnOnce(TcpListener) + Send + 'static) -> Server {
        Server::serve_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), serve)
    }

    /// Runs `serve` with the listener.
    fn serve_on(listener: TcpListener, serve: impl FnOnce(TcpListener) + Send + 'static) -> Server {
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || serve(listener));
        Server { address, thread }
    }

    /// Waits for the server to end; a failed assertion in it fails the test.
    pub fn join(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Accepts a connection.
pub fn accept(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().unwrap();
    Peer { stream }
}

/// The server's end of a connection.
pub struct Peer<S = TcpStream> {
    /// The socket, or TLS above it.
    pub stream: S,
}

impl<S: Read + Write> Peer<S> {
    /// Reads a query.
    pub fn read(&mut self) -> Message {
        self.read_or_end().expect("a query")
    }

    /// Reads a query; `None` if the requester closes the connection before one.
    pub fn read_or_end(&mut self) -> Option<Message> {
        let mut size = [0; 2];
        if self.stream.read(&mut size[..1]).unwrap() == 0 {
            return None;
        }
        self.stream.read_exact(&mut size[1..]).unwrap();
        let mut octets = vec![0; usize::from(u16::from_be_bytes(size))];
        self.stream.read_exact(&mut octets).unwrap();
        Some(Message::decode(&octets).unwrap())
    }

    /// Sends messages in one write.
    pub fn send(&mut self, messages: &[Message]) {
        let frames: Vec<Vec<u8>> = messages.iter().map(|m| m.to_frame().unwrap()).collect();
        self.stream.write_all(&frames.concat()).unwrap();
    }

    /// Waits until the requester closes the connection.
    ///
    /// # Errors
    /// The requester reset the connection.
    pub fn wait_for_close(&mut self) -> std::io::Result<()> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        assert!(rest.is_empty(), "the requester sent {rest:?}");
        Ok(())
    }
}

/// Returns the command with the server's address and these arguments.
pub fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blq"));
    command
        .args([&server.address.ip().to_string(), "--port"])
        .arg(server.address.port().to_string())
        .args(arguments);
    command
}

/// Runs the command against a server until both end.
pub fn run(server: Server, arguments: &[&str]) -> Output {
    let output = command(&server, arguments).output().unwrap();
    server.join();
    output
}

/// Runs the command without a server.
pub fn run_alone(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blq"));
    command.args(arguments).output().unwrap()
}

/// Returns the standard output.
pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Returns the standard error.
pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Returns the `--start` of a later query from the last line of standard error.
pub fn next_start(output: &Output) -> Option<u32> {
    let last = stderr(output).lines().last()?;
    let (_, start) = last.split_once("; for what changes from now on: --start ")?;
    Some(start.parse().unwrap())
}

/// Returns a server that answers one query with these messages, given its xid.
pub fn answering(messages: impl FnOnce(u32) -> Vec<Message> + Send + 'static) -> Server {
    Server::start(move |mut peer| {
        let xid = peer.read().xid;
        peer.send(&messages(xid));
    })
}

/// Returns a binding with all options.
pub fn full(xid: u32) -> Message {
    active(xid, 7)
        .with(54, [192, 0, 2, 1])
        .with(51, 5400_u32.to_be_bytes())
        .with(58, 2700_u32.to_be_bytes())
        .with(59, 4725_u32.to_be_bytes())
        .with(61, [1, 2, 0, 0, 0, 0, 7])
        .with(82, *b"\x01\x02e0\x02\x06line-7\x0c\x02\x00\x01\x09\x01x")
        .with(91, 20_u32.to_be_bytes())
        .with(153, 80_u32.to_be_bytes())
        .with(156, [2])
        .with(157, [1])
        .with(221, *b"\0blue")
        .with(12, *b"host")
}

/// Returns a DHCPLEASEACTIVE for 192.0.2.`last`.
pub fn active(xid: u32, last: u8) -> Message {
    let message = Message {
        ciaddr: Ipv4Addr::new(192, 0, 2, last),
        htype: 1,
        hlen: 6,
        ..Message::new(BOOTREPLY, xid, MessageType::LEASE_ACTIVE)
    };
    let mut message = message.with(152, BASE_TIME.to_be_bytes());
    message.chaddr[..6].copy_from_slice(&[2, 0, 0, 0, 0, last]);
    message
}

/// Returns a DHCPLEASEUNASSIGNED for 192.0.2.`last`.
pub fn unassigned(xid: u32, last: u8) -> Message {
    Message {
        ciaddr: Ipv4Addr::new(192, 0, 2, last),
        ..Message::new(BOOTREPLY, xid, MessageType::LEASE_UNASSIGNED)
    }
    .with(152, BASE_TIME.to_be_bytes())
    .with(156, [1])
}

/// Returns a DHCPLEASEQUERYDONE.
pub fn done(xid: u32) -> Message {
    Message::new(BOOTREPLY, xid, MessageType::LEASE_QUERY_DONE)
}

/// Returns a DHCPLEASEQUERYSTATUS with a status and base-time.
pub fn status(xid: u32, code: u8, text: &str, base_time: u32) -> Message {
    Message::new(BOOTREPLY, xid, MessageType::LEASE_QUERY_STATUS)
        .with(151, [&[code], text.as_bytes()].concat())
        .with(152, base_time.to_be_bytes())
}

/// Returns `message` with another base-time.
pub fn at(mut message: Message, base_time: u32) -> Message {
    message.set(152, base_time.to_be_bytes());
    message
}

/// Returns the query-start-time of a query.
pub fn start_of(query: &Message) -> Option<u32> {
    let value = query.option(154)?;
    Some(u32::from_be_bytes(value.try_into().unwrap()))
}

/// Returns the query-end-time of a query.
pub fn end_of(query: &Message) -> Option<u32> {
    let value = query.option(155)?;
    Some(u32::from_be_bytes(value.try_into().unwrap()))
}

/// Returns a DHCPLEASEQUERYDONE with a status.
pub fn failed(xid: u32, code: u8, text: &str) -> Message {
    done(xid).with(151, [&[code], text.as_bytes()].concat())
}
