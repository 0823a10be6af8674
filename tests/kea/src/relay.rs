//! A simulated relay agent (RFC 3046) and the clients behind it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::packet::{self, Message, MessageType, code, sub_option};
use crate::{PATIENCE, Place, eventually_some};

/// The time after which an unanswered message is sent again.
const RETRY: Duration = Duration::from_secs(2);

/// A client: the contents of its messages, and its lease.
#[derive(Debug, Clone)]
pub struct Client {
    /// Hardware type.
    pub htype: u8,
    /// Hardware address, at most 16 octets.
    pub chaddr: Vec<u8>,
    /// Options of DISCOVER and REQUEST, by code.
    pub options: BTreeMap<u8, Vec<u8>>,
    /// The field sname of DISCOVER and REQUEST.
    pub sname: Vec<u8>,
    /// The field file of DISCOVER and REQUEST.
    pub file: Vec<u8>,
    /// The octets after the options of DISCOVER and REQUEST, those of a relay agent included.
    pub ending: Vec<u8>,
    /// The leased address.
    pub address: Option<Ipv4Addr>,
    /// The server that granted the lease.
    pub server: Option<Ipv4Addr>,
}

impl Client {
    /// Returns a client with an Ethernet address ending in `n`.
    pub fn new(n: u16) -> Self {
        let [high, low] = n.to_be_bytes();
        Client {
            htype: 1,
            chaddr: vec![0x02, 0, 0, 0, high, low],
            options: BTreeMap::new(),
            sname: Vec::new(),
            file: Vec::new(),
            ending: vec![code::END],
            address: None,
            server: None,
        }
    }

    /// Adds an option to its messages.
    pub fn option(mut self, code: u8, value: impl Into<Vec<u8>>) -> Self {
        self.options.insert(code, value.into());
        self
    }

    /// Adds a client identifier.
    pub fn client_id(self, value: impl Into<Vec<u8>>) -> Self {
        self.option(code::CLIENT_IDENTIFIER, value)
    }

    /// Sets the octets after the options, by default the end option alone.
    pub fn ending(mut self, octets: impl Into<Vec<u8>>) -> Self {
        self.ending = octets.into();
        self
    }

    /// Adds a parameter request list.
    pub fn asking_for(self, codes: &[u8]) -> Self {
        self.option(code::PARAMETER_REQUEST_LIST, codes)
    }

    /// Returns a message of this client.
    pub fn message(&self, message_type: MessageType) -> Message {
        let mut message = packet::request(message_type, new_xid(), &self.chaddr);
        message.htype = self.htype;
        match message_type {
            // RFC 2131, table 5: these have the client's identity and the address only.
            MessageType::RELEASE | MessageType::DECLINE => {
                if let Some(id) = self.options.get(&code::CLIENT_IDENTIFIER) {
                    message.set(code::CLIENT_IDENTIFIER, id.clone());
                }
            }
            _ => {
                message.options.extend(self.options.clone());
                message.sname = packet::field(&self.sname);
                message.file = packet::field(&self.file);
                message.ending = self.ending.clone().into();
            }
        }
        message
    }

    /// Returns the leased address; panics if there is none.
    #[track_caller]
    fn leased(&self) -> Ipv4Addr {
        self.address.expect("the client has a lease")
    }
}

/// A relay agent: its address, and the option 82 it adds.
#[derive(Debug)]
pub struct Relay {
    /// The giaddr.
    address: Ipv4Addr,
    /// A socket bound to the giaddr.
    socket: UdpSocket,
    /// The address and port of each kea-dhcp4 it forwards to (RFC 1542, section 4.1.1).
    servers: Vec<SocketAddrV4>,
    /// Sub-options of option 82, in order.
    sub_options: Vec<(u8, Vec<u8>)>,
}

// ----- The relay ------------------------------------------------------------------------------

impl Relay {
    /// Returns a relay agent that adds no option 82.
    pub fn new(address: Ipv4Addr, port: u16, servers: Vec<SocketAddrV4>) -> Self {
        Relay {
            address,
            socket: bind(address, port),
            servers,
            sub_options: Vec::new(),
        }
    }

    /// Returns a relay agent for a server at `place` that was not started by these tests.
    pub fn of(place: Place, n: u8) -> Self {
        Relay::new(place.relay(n), place.client_port(), vec![place.server()])
    }

    /// Adds a sub-option to its option 82.
    pub fn sub_option(mut self, code: u8, value: impl Into<Vec<u8>>) -> Self {
        self.sub_options.push((code, value.into()));
        self
    }

    /// Adds a circuit-id.
    pub fn circuit_id(self, value: impl Into<Vec<u8>>) -> Self {
        self.sub_option(sub_option::CIRCUIT_ID, value)
    }

    /// Adds a remote-id.
    pub fn remote_id(self, value: impl Into<Vec<u8>>) -> Self {
        self.sub_option(sub_option::REMOTE_ID, value)
    }

    /// Adds a relay-id.
    pub fn relay_id(self, value: impl Into<Vec<u8>>) -> Self {
        self.sub_option(sub_option::RELAY_ID, value)
    }

    /// Changes the option 82 of later messages.
    pub fn set_sub_options(&mut self, all: &[(u8, Vec<u8>)]) {
        self.sub_options = all.to_vec();
    }

    /// Returns the value of its option 82.
    pub fn option_82(&self) -> Vec<u8> {
        packet::sub_options(&self.sub_options)
    }

    /// Returns the giaddr.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Forwards a client's message to the servers.
    pub fn forward(&self, message: &Message) {
        let mut message = message.clone();
        message.giaddr = self.address;
        if !self.sub_options.is_empty() {
            let value = self.option_82();
            message.set(code::RELAY_AGENT_INFORMATION, value);
        }
        self.send(&self.socket, &message);
    }

    /// Sends a message to each of its servers.
    fn send(&self, socket: &UdpSocket, message: &Message) {
        for server in &self.servers {
            send(socket, message, *server);
        }
    }

    /// Forwards a client's message repeatedly until a server answers.
    #[track_caller]
    pub fn exchange(&self, message: &Message) -> Message {
        exchange(&self.socket, message.xid, || self.forward(message))
    }
}

// ----- Client exchanges -----------------------------------------------------------------------

impl Relay {
    /// Sends DISCOVER and returns the server's offer.
    #[track_caller]
    pub fn discover(&self, client: &Client) -> Message {
        let offer = self.exchange(&client.message(MessageType::DISCOVER));
        assert_eq!(offer.message_type(), Some(MessageType::OFFER), "{offer:?}");
        offer
    }

    /// Performs the four-message exchange of a new lease (RFC 2131, section 3.1). Returns the ACK.
    #[track_caller]
    pub fn lease(&self, client: &mut Client) -> Message {
        let ack = self.try_lease(client);
        ack.unwrap_or_else(|| panic!("DHCPNAK to {:?}", client.chaddr))
    }

    /// Performs the exchange of a new lease; `None` if the server leased the address to another
    /// client after the offer (DHCPNAK).
    #[track_caller]
    pub fn try_lease(&self, client: &mut Client) -> Option<Message> {
        let offer = self.discover(client);
        let server = server_of(&offer);
        let mut request = client.message(MessageType::REQUEST);
        request.set(code::REQUESTED_ADDRESS, offer.yiaddr.octets());
        request.set(code::SERVER_IDENTIFIER, server.octets());
        let ack = self.exchange(&request);
        if ack.message_type() == Some(MessageType::NAK) {
            return None;
        }
        assert_eq!(ack.message_type(), Some(MessageType::ACK), "{ack:?}");
        client.address = Some(ack.yiaddr);
        client.server = Some(server);
        Some(ack)
    }

    /// Renews the lease through the relay, as when rebinding (RFC 2131, section 4.3.2). Returns the
    /// ACK.
    #[track_caller]
    pub fn renew(&self, client: &Client) -> Message {
        let mut request = client.message(MessageType::REQUEST);
        request.ciaddr = client.leased();
        let ack = self.exchange(&request);
        assert_eq!(ack.message_type(), Some(MessageType::ACK), "{ack:?}");
        ack
    }

    /// Renews the lease at the server directly, without option 82 (RFC 3046, section 2.1). Returns
    /// the ACK.
    ///
    /// The answer goes to the leased address, which must be a loopback address.
    #[track_caller]
    pub fn renew_unicast(&self, client: &Client) -> Message {
        let mut request = client.message(MessageType::REQUEST);
        request.ciaddr = client.leased();
        let port = self.socket.local_addr().expect("its address").port();
        let socket = bind(client.leased(), port);
        let ack = exchange(&socket, request.xid, || self.send(&socket, &request));
        assert_eq!(ack.message_type(), Some(MessageType::ACK), "{ack:?}");
        ack
    }

    /// Sends a RELEASE, which has no answer.
    #[track_caller]
    pub fn release(&self, client: &mut Client) {
        let mut release = client.message(MessageType::RELEASE);
        release.ciaddr = client.leased();
        self.end(client, release);
    }

    /// Sends a DECLINE, which has no answer.
    #[track_caller]
    pub fn decline(&self, client: &mut Client) {
        let mut decline = client.message(MessageType::DECLINE);
        let address = client.leased().octets();
        decline.set(code::REQUESTED_ADDRESS, address);
        self.end(client, decline);
    }

    /// Sends a message that ends a lease.
    fn end(&self, client: &mut Client, mut message: Message) {
        let server = client.server.expect("the client has a lease");
        message.set(code::SERVER_IDENTIFIER, server.octets());
        self.forward(&message);
        client.address = None;
    }
}

// ----- Messages over UDP ----------------------------------------------------------------------

/// Sends repeatedly until an answer with the transaction id arrives.
#[track_caller]
fn exchange(socket: &UdpSocket, xid: u32, send: impl Fn()) -> Message {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        send();
        if let Some(answer) = receive(socket, xid) {
            return answer;
        }
    }
    panic!("kea-dhcp4 does not answer");
}

/// Returns the answer with the transaction id, if it arrives before the next retransmission.
fn receive(socket: &UdpSocket, xid: u32) -> Option<Message> {
    let deadline = Instant::now() + RETRY;
    let mut octets = [0; 65_536];
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        let left = left.max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).expect("a timeout");
        let length = socket.recv(&mut octets).ok()?;
        let answer = octets.get(..length).and_then(packet::decode);
        if let Some(answer) = answer.filter(|answer| answer.xid == xid) {
            return Some(answer);
        }
    }
}

/// Sends one message.
fn send(socket: &UdpSocket, message: &Message, server: SocketAddrV4) {
    let octets = message.encode();
    socket.send_to(&octets, server).expect("sending a message");
}

/// Binds a socket, once its port is free.
///
/// A port that this test has just given up may still be in use: a process that another test starts
/// holds copies of all sockets until it executes its program.
#[track_caller]
pub(crate) fn bind(address: Ipv4Addr, port: u16) -> UdpSocket {
    eventually_some(
        &format!("{address}:{port}, free"),
        || match UdpSocket::bind((address, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            result => Some(result.expect("a socket")),
        },
    )
}

/// Returns the server identifier of an answer.
#[track_caller]
fn server_of(answer: &Message) -> Ipv4Addr {
    let value: Result<[u8; 4], _> = packet::value(answer, code::SERVER_IDENTIFIER).try_into();
    value.expect("a server identifier").into()
}

/// Returns an unused transaction id.
fn new_xid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0x1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
