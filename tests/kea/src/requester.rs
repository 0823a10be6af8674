//! Queries over UDP (RFC 4388).

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use blq::wire::BOOTREQUEST;

use crate::packet::{Message, MessageType, code};
use crate::relay::bind;
use crate::{Client, Kea, PATIENCE, Place};

/// The time after which a query is sent again.
const RETRANSMISSION: Duration = Duration::from_millis(500);

/// A requester: it receives replies at port 67 of its address.
#[derive(Debug)]
pub struct Requester {
    /// The socket.
    socket: UdpSocket,
    /// giaddr.
    pub address: Ipv4Addr,
    /// The transaction id of the next query.
    xid: Cell<u32>,
}

impl Requester {
    /// Returns the requester number `n` in the net of a place.
    #[track_caller]
    pub fn new(place: Place, n: u8) -> Requester {
        Requester::at(place.relay(n))
    }

    /// Returns a requester with an address.
    #[track_caller]
    pub fn at(address: Ipv4Addr) -> Requester {
        let socket = bind(address, 67);
        let timeout = Some(RETRANSMISSION);
        socket.set_read_timeout(timeout).expect("a timeout");
        socket.set_broadcast(true).expect("broadcasts");
        Requester {
            socket,
            address,
            xid: Cell::new(1),
        }
    }

    // ------------------------------------------------------------------- Queries

    /// Returns a query without a key.
    pub fn query(&self) -> Message {
        let xid = self.xid.replace(self.xid.get() + 1);
        let mut query = Message::new(BOOTREQUEST, xid, MessageType::LEASE_QUERY);
        query.giaddr = self.address;
        query
    }

    /// Returns a query by the MAC address of a client.
    pub fn by_mac(&self, client: &Client) -> Message {
        let mut query = self.query();
        query.htype = client.htype;
        query.hlen = u8::try_from(client.chaddr.len()).expect("at most 16 octets");
        query.chaddr[..client.chaddr.len()].copy_from_slice(&client.chaddr);
        query
    }

    /// Returns a query by IP address.
    pub fn by_address(&self, address: Ipv4Addr) -> Message {
        let mut query = self.query();
        query.ciaddr = address;
        query
    }

    /// Returns a query by client identifier.
    pub fn by_client_id(&self, id: &[u8]) -> Message {
        self.query().with(code::CLIENT_IDENTIFIER, id)
    }

    // ------------------------------------------------------------------ Exchanges

    /// Sends a query once.
    #[track_caller]
    pub fn send(&self, kea: &Kea, query: &Message) {
        self.send_octets(kea.place().server(), &query.encode());
    }

    /// Sends octets.
    #[track_caller]
    pub fn send_octets(&self, server: SocketAddrV4, octets: &[u8]) {
        self.socket.send_to(octets, server).expect("sent");
    }

    /// Returns the reply to a query, if one arrives before a retransmission.
    pub fn receive(&self, query: &Message) -> Option<Message> {
        let (octets, server) = self.receive_octets(query)?;
        assert_eq!(*server.ip(), Ipv4Addr::LOCALHOST, "the address asked");
        Some(Message::decode(&octets).expect("a message"))
    }

    /// Likewise returns the octets of the reply, and the address and port from which it came.
    pub fn receive_octets(&self, query: &Message) -> Option<(Vec<u8>, SocketAddrV4)> {
        let mut octets = [0; 2_048];
        loop {
            let (size, from) = self.socket.recv_from(&mut octets).ok()?;
            let reply = &octets[..size];
            let std::net::SocketAddr::V4(from) = from else {
                panic!("an IPv6 address")
            };
            // The transaction id.
            if reply.get(4..8) == Some(&query.xid.to_be_bytes()) {
                return Some((reply.to_vec(), from));
            }
        }
    }

    /// Sends a query until it is answered.
    #[track_caller]
    pub fn ask(&self, kea: &Kea, query: &Message) -> Message {
        let (octets, server) = self.ask_at(kea.place().server(), query);
        assert_eq!(server, kea.place().server(), "the address asked");
        Message::decode(&octets).expect("a message")
    }

    /// Sends a query to a server until it is answered. Returns the octets of the reply, and the address and port
    /// from which it came.
    #[track_caller]
    pub fn ask_at(&self, server: SocketAddrV4, query: &Message) -> (Vec<u8>, SocketAddrV4) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.send_octets(server, &query.encode());
            if let Some(reply) = self.receive_octets(query) {
                return reply;
            }
        }
        panic!("no reply to {query:?}");
    }
}
