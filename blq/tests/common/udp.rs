//! A server over UDP on a loopback port, whose replies each test provides.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use blq::wire::BOOTREPLY;
use blq::{Message, MessageType};

/// The address of requesters. Their port has the number of the server's, as both ports are 67 outside of
/// tests, so no other test has it.
pub const REQUESTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A server over UDP.
pub struct UdpServer {
    /// The address of its socket.
    pub address: SocketAddrV4,
    /// The thread that serves.
    thread: JoinHandle<()>,
}

impl UdpServer {
    /// Opens a port, and runs `serve` with it.
    pub fn start(serve: impl FnOnce(UdpPeer) + Send + 'static) -> UdpServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let peer = UdpPeer { socket, port };
        UdpServer {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            thread: thread::spawn(move || serve(peer)),
        }
    }

    /// Waits for the server to end; a failed assertion in it fails the test.
    pub fn join(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The server's socket.
pub struct UdpPeer {
    /// The socket.
    pub socket: UdpSocket,
    /// The port of the server, and of requesters.
    port: u16,
}

impl UdpPeer {
    /// Receives the octets of a query.
    pub fn receive(&self) -> Vec<u8> {
        let mut octets = vec![0; 65_535];
        let (length, _) = self.socket.recv_from(&mut octets).unwrap();
        octets.truncate(length);
        octets
    }

    /// Receives a query.
    pub fn read(&self) -> Message {
        Message::decode(&self.receive()).unwrap()
    }

    /// Sends octets to the requester at `giaddr`.
    pub fn send(&self, octets: &[u8], giaddr: Ipv4Addr) {
        self.socket.send_to(octets, (giaddr, self.port)).unwrap();
    }

    /// Sends a reply to giaddr, from another address and port than those that were asked.
    pub fn send_from_another_address(&self, reply: &Message) {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 8), 0)).unwrap();
        let requester = (reply.giaddr, self.port);
        socket.send_to(&reply.encode(), requester).unwrap();
    }
}

/// Returns a server that answers one query by the message that `reply` makes of it.
pub fn answering(reply: impl FnOnce(&Message) -> Message + Send + 'static) -> UdpServer {
    UdpServer::start(move |peer| {
        let query = peer.read();
        let reply = reply(&query);
        peer.send(&reply.encode(), query.giaddr);
    })
}

/// Returns a reply to `query` about 192.0.2.`last`.
pub fn reply(query: &Message, message_type: MessageType, last: u8) -> Message {
    Message {
        ciaddr: Ipv4Addr::new(192, 0, 2, last),
        giaddr: query.giaddr,
        ..Message::new(BOOTREPLY, query.xid, message_type)
    }
}

/// Runs the command with `--udp` against a server until both end.
pub fn run_udp(server: UdpServer, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blq"));
    command
        .args([&server.address.to_string(), "--udp", "--source"])
        .arg(REQUESTER.to_string())
        .args(["--source-port", &server.address.port().to_string()])
        .args(arguments);
    let output = command.output().unwrap();
    server.join();
    output
}
