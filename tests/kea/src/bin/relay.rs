//! A DHCPv4 relay agent (RFC 3046) for one interface, the access node of the demonstration. Unlike
//! Debian's relay agents it sets remote-id and relay-id.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;

use blq::wire::{BOOTREPLY, BOOTREQUEST, port};
use clap::Parser;
use kea_tests::packet::{self, Message, code, sub_option};
use socket2::{Domain, Protocol, Socket, Type};

/// Relays DHCPv4 between the clients on an interface and a server.
#[derive(Parser)]
struct Arguments {
    /// Interface of the clients
    #[arg(long)]
    interface: String,
    /// Address of the interface, the giaddr
    #[arg(long)]
    address: Ipv4Addr,
    /// Address of the DHCPv4 server
    #[arg(long)]
    server: Ipv4Addr,
    /// Remote-id (sub-option 2) added to clients' messages
    #[arg(long)]
    remote_id: String,
    /// Relay-id (sub-option 12) added to clients' messages
    #[arg(long)]
    relay_id: String,
}

impl Arguments {
    /// Returns the value of the option 82 to add.
    fn option_82(&self) -> Vec<u8> {
        packet::sub_options(&[
            (sub_option::CIRCUIT_ID, self.interface.clone().into_bytes()),
            (sub_option::REMOTE_ID, self.remote_id.clone().into_bytes()),
            (sub_option::RELAY_ID, self.relay_id.clone().into_bytes()),
        ])
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let clients = socket(Ipv4Addr::UNSPECIFIED, Some(&arguments.interface))?;
    let server = socket(arguments.address, None)?;
    let (to_clients, from_server) = (clients.try_clone()?, server.try_clone()?);
    thread::spawn(move || forward_answers(&from_server, &to_clients));
    forward_requests(&clients, &server, &arguments)
}

/// Forwards clients' broadcasts to the server.
fn forward_requests(
    clients: &UdpSocket,
    server: &UdpSocket,
    arguments: &Arguments,
) -> io::Result<()> {
    let to = SocketAddrV4::new(arguments.server, port::SERVER);
    loop {
        let Some(mut message) = receive(clients)?.filter(|message| message.op == BOOTREQUEST)
        else {
            continue;
        };
        message.giaddr = arguments.address;
        message.set(code::RELAY_AGENT_INFORMATION, arguments.option_82());
        server.send_to(&message.encode(), to)?;
    }
}

/// Forwards the server's answers to the clients, without option 82 (RFC 3046, section 2.1).
fn forward_answers(server: &UdpSocket, clients: &UdpSocket) -> io::Result<()> {
    loop {
        let Some(mut message) = receive(server)?.filter(|message| message.op == BOOTREPLY) else {
            continue;
        };
        message.remove(code::RELAY_AGENT_INFORMATION);
        clients.send_to(&message.encode(), (Ipv4Addr::BROADCAST, port::CLIENT))?;
    }
}

/// Returns the message of the next datagram; `None` if it is malformed.
fn receive(socket: &UdpSocket) -> io::Result<Option<Message>> {
    let mut octets = [0; 65_536];
    let length = socket.recv(&mut octets)?;
    Ok(octets.get(..length).and_then(packet::decode))
}

/// Returns a socket on the relay's port that may broadcast, bound to the interface if there is one.
fn socket(address: Ipv4Addr, interface: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.bind(&SocketAddrV4::new(address, port::SERVER).into())?;
    Ok(socket.into())
}
