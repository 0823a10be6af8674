//! Clients and their relays, with many messages in flight.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::history::{Identity, Touch, TouchKind, now};
use super::plan::ClientAction;
use super::random::pick;
use super::topology::Topology;
use crate::packet::{self, Message, MessageType, code};
use crate::{PATIENCE, Place, eventually_some};

/// The time after which an unanswered message is sent again.
const RETRY: Duration = Duration::from_millis(120);

/// Number of retransmissions of a message.
const TRIES: u32 = 2;

/// A client and its view of its lease.
#[derive(Debug, Clone)]
struct Host {
    /// The MAC address.
    mac: [u8; 6],
    /// The client identifier; empty if the client sends none.
    client_id: Vec<u8>,
    /// Whether the client is in the class with short lifetimes.
    is_brief: bool,
    /// The number of its line.
    line: usize,
    /// The leased address, according to the client.
    address: Option<Ipv4Addr>,
    /// The last leased address.
    last_address: Option<Ipv4Addr>,
}

impl Host {
    /// Returns client number `n`.
    fn new(n: usize) -> Self {
        let [high, low] = (n as u16).to_be_bytes();
        let client_id = match n % 3 {
            0 => Vec::new(),
            _ => vec![0xff, 9, high, low],
        };
        Host {
            mac: [2, 0, 0, 0, high, low],
            client_id,
            is_brief: n % 17 == 5,
            line: n,
            address: None,
            last_address: None,
        }
    }

    /// Returns the identity by which Kea knows the client.
    fn identity(&self) -> Identity {
        Identity {
            mac: self.mac.to_vec(),
            client_id: self.client_id.clone(),
        }
    }
}

/// A message in flight.
#[derive(Debug)]
struct Flight {
    /// The number of the client.
    host: usize,
    /// The action it belongs to.
    action: ClientAction,
    /// The message.
    message: Message,
    /// The option 82 of the relay; `None` if the client sent the message to the server directly.
    relayed: Option<Vec<u8>>,
    /// The address of the socket it was sent from.
    socket: Ipv4Addr,
    /// The time of the next retransmission.
    again: Instant,
    /// Number of retransmissions left.
    tries: u32,
}

impl Flight {
    /// Returns the effect of the answer on its address.
    fn touch(&self, answer: &Message) -> Option<Touch> {
        let identity = identity_in(&self.message);
        let kind = match (self.message.message_type(), answer.message_type()) {
            (Some(MessageType::DISCOVER), Some(MessageType::OFFER)) => TouchKind::Offered(identity),
            (Some(MessageType::REQUEST), Some(MessageType::ACK)) => {
                TouchKind::Acknowledged(identity, self.relayed.clone())
            }
            _ => return None,
        };
        Some(Touch {
            address: answer.yiaddr,
            at: now(),
            kind,
            step: format!("client {} {:?}", self.host, self.action),
        })
    }
}

/// All clients and relays.
#[derive(Debug)]
pub struct Traffic {
    /// The subnets and relays.
    topology: Topology,
    /// The address and port of kea-dhcp4.
    server: SocketAddrV4,
    /// The port of relays and clients.
    port: u16,
    /// The clients.
    hosts: Vec<Host>,
    /// A socket for each relay, and for each client that contacts the server directly.
    sockets: HashMap<Ipv4Addr, UdpSocket>,
    /// Messages of the last round that were answered or given up: late answers may follow.
    finished: HashMap<u32, Flight>,
    /// The next transaction id.
    xid: u32,
    /// Number of messages sent.
    pub sent: u64,
    /// Number of answers received.
    pub answered: u64,
}

/// The state of a round.
struct Round<'a> {
    /// The remaining actions of each client.
    waiting: HashMap<usize, VecDeque<ClientAction>>,
    /// Clients with remaining actions and no message in flight.
    ready: VecDeque<usize>,
    /// Messages in flight, by transaction id.
    flights: HashMap<u32, Flight>,
    /// Whether messages may get lost.
    is_disturbed: &'a AtomicBool,
    /// The effects on addresses.
    touches: &'a mut Vec<Touch>,
}

impl Traffic {
    /// Returns the clients of a topology, all without a lease.
    pub fn new(topology: &Topology, place: Place, clients: usize) -> Self {
        let port = place.client_port();
        let bind = |address| (address, bind(address, port).expect("a relay's address"));
        Traffic {
            topology: topology.clone(),
            server: place.server(),
            port,
            hosts: (0..clients).map(Host::new).collect(),
            sockets: topology.relays().into_iter().map(bind).collect(),
            finished: HashMap::new(),
            xid: 1,
            sent: 0,
            answered: 0,
        }
    }

    /// Performs the actions of clients, with at most `width` messages in flight. Each message is
    /// sent up to three times, not counting those that the server loses while it `is_disturbed`.
    /// Returns the effects on addresses.
    pub fn run(
        &mut self,
        actions: &[(usize, ClientAction)],
        width: usize,
        is_disturbed: &AtomicBool,
    ) -> Vec<Touch> {
        self.finished.clear();
        let mut touches = Vec::new();
        let mut round = Round {
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            flights: HashMap::new(),
            is_disturbed,
            touches: &mut touches,
        };
        for (host, action) in actions {
            let waiting = round.waiting.entry(*host).or_default();
            if waiting.is_empty() {
                round.ready.push_back(*host);
            }
            waiting.push_back(*action);
        }
        while !round.ready.is_empty() || !round.flights.is_empty() {
            while round.flights.len() < width {
                let Some(host) = round.ready.pop_front() else {
                    break;
                };
                let action = round.waiting.get_mut(&host).and_then(VecDeque::pop_front);
                if !action.is_some_and(|action| self.begin_action(host, action, &mut round)) {
                    self.queue_next(host, &mut round);
                }
            }
            self.receive(&mut round);
            self.retry(&mut round);
        }
        touches
    }

    /// Waits until the server has processed all messages: it answers several messages that affect
    /// no lease, more of them than it has threads. Returns the effects that late answers reveal.
    pub fn settle(&mut self) -> Vec<Touch> {
        let address = self.topology.bystander();
        let socket = bind(address, self.port).expect("an address outside all pools");
        for _ in 0..6 {
            let message = self.message(MessageType::INFORM, &[2, 0xff, 0, 0, 0, 1]);
            let message = Message {
                ciaddr: address,
                ..message
            };
            eventually_some("an answer to INFORM", || {
                self.sent += 1;
                let sent = socket.send_to(&message.encode(), self.server);
                sent.expect("sending a message");
                receive_from(&socket, message.xid, RETRY)
            });
        }
        let mut touches = Vec::new();
        for answer in self.incoming(Duration::ZERO) {
            touches.extend(self.late_touch(&answer));
        }
        // Other clients may lease these addresses later.
        let relays = self.topology.relays();
        self.sockets.retain(|address, _| relays.contains(address));
        touches
    }

    /// Queues a client that has remaining actions.
    fn queue_next(&self, host: usize, round: &mut Round) {
        if round
            .waiting
            .get(&host)
            .is_some_and(|actions| !actions.is_empty())
        {
            round.ready.push_back(host);
        }
    }

    /// Returns a message with a new transaction id.
    fn message(&mut self, message_type: MessageType, mac: &[u8]) -> Message {
        self.xid += 1;
        packet::request(message_type, self.xid, mac)
    }

    /// Returns a message of a client.
    fn message_of(&mut self, host: usize, message_type: MessageType) -> Message {
        let Host {
            mac,
            client_id,
            is_brief,
            ..
        } = self.hosts[host].clone();
        let mut message = self.message(message_type, &mac);
        if !client_id.is_empty() {
            message.set(code::CLIENT_IDENTIFIER, client_id);
        }
        if is_brief && !matches!(message_type, MessageType::RELEASE | MessageType::DECLINE) {
            message.set(60, b"brief".to_vec());
        }
        message
    }

    /// Returns the address of another client, or one that may be in a pool.
    fn other_address(&self, salt: u32) -> Ipv4Addr {
        let other = &self.hosts[pick(salt, self.hosts.len())];
        let address = other.address.or(other.last_address);
        address.unwrap_or_else(|| self.topology.some_address(salt).0)
    }

    /// Begins an action of a client. Returns whether a message is in flight.
    fn begin_action(&mut self, host: usize, action: ClientAction, round: &mut Round) -> bool {
        let Host {
            address,
            last_address,
            ..
        } = self.hosts[host];
        match (action, address) {
            (ClientAction::Discover | ClientAction::Lease, _) => {
                let message = self.message_of(host, MessageType::DISCOVER);
                self.relay(host, action, message, round)
            }
            (ClientAction::Take(salt), _) => {
                let mut message = self.message_of(host, MessageType::DISCOVER);
                ask_for(&mut message, self.other_address(salt));
                self.relay(host, action, message, round)
            }
            (ClientAction::Renew, Some(address)) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                message.ciaddr = address;
                self.relay(host, action, message, round)
            }
            (ClientAction::RenewUnicast, Some(address)) if self.open_socket(address) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                message.ciaddr = address;
                self.send_request(host, action, message, None, address, round)
            }
            (ClientAction::Renew | ClientAction::Reboot | ClientAction::RenewUnicast, _) => {
                let Some(address) = address.or(last_address) else {
                    return self.begin_action(host, ClientAction::Lease, round);
                };
                let mut message = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut message, address);
                self.relay(host, action, message, round)
            }
            (ClientAction::RequestWrong(salt), _) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut message, self.other_address(salt));
                self.relay(host, action, message, round)
            }
            (ClientAction::Release, Some(address)) => self.release(host, action, address, round),
            (ClientAction::ReleaseOld, _) if last_address.is_some() => {
                let address = last_address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.release(host, action, address, round)
            }
            (ClientAction::ReleaseOther(salt), _) => {
                let address = self.other_address(salt);
                self.release(host, action, address, round)
            }
            (ClientAction::Decline, Some(address)) => {
                let mut message = self.message_of(host, MessageType::DECLINE);
                ask_for(&mut message, address);
                let kind = TouchKind::Decline(self.hosts[host].identity());
                self.send_unanswered(host, action, message, address, kind, round)
            }
            (ClientAction::Inform, Some(address)) if self.open_socket(address) => {
                let mut message = self.message_of(host, MessageType::INFORM);
                message.ciaddr = address;
                self.send_request(host, action, message, None, address, round)
            }
            (ClientAction::NewClientId(salt), _) => {
                self.hosts[host].client_id = match salt % 4 {
                    0 => Vec::new(),
                    _ => [&[0xfe], &salt.to_be_bytes()[..]].concat(),
                };
                false
            }
            (ClientAction::NewMac, _) => {
                let generation = &mut self.hosts[host].mac[1];
                *generation = generation.wrapping_add(1) & 0x7f;
                false
            }
            (ClientAction::Move(line), _) => {
                self.hosts[host].line = line;
                false
            }
            (
                ClientAction::Release
                | ClientAction::ReleaseOld
                | ClientAction::Decline
                | ClientAction::Inform,
                _,
            ) => false,
        }
    }

    /// Opens a socket at a client's own address, if that is a loopback address. Returns whether
    /// there is such a socket.
    fn open_socket(&mut self, address: Ipv4Addr) -> bool {
        if !self.sockets.contains_key(&address) && address.is_loopback() {
            let socket = bind(address, self.port);
            self.sockets.extend(socket.map(|socket| (address, socket)));
        }
        self.sockets.contains_key(&address)
    }

    /// Sends a RELEASE.
    fn release(
        &mut self,
        host: usize,
        action: ClientAction,
        address: Ipv4Addr,
        round: &mut Round,
    ) -> bool {
        let mut message = self.message_of(host, MessageType::RELEASE);
        message.ciaddr = address;
        let kind = TouchKind::Release(self.hosts[host].identity());
        self.send_unanswered(host, action, message, address, kind, round)
    }

    /// Sends a message that has no answer, so that none is in flight afterwards.
    fn send_unanswered(
        &mut self,
        host: usize,
        action: ClientAction,
        mut message: Message,
        address: Ipv4Addr,
        kind: TouchKind,
        round: &mut Round,
    ) -> bool {
        if self.hosts[host].address == Some(address) {
            self.hosts[host].address = None;
        }
        let server = self.server.ip().octets().to_vec();
        message.set(code::SERVER_IDENTIFIER, server);
        let line = self.topology.line(self.hosts[host].line);
        add_relay(&mut message, line.relay, line.option_82.as_deref());
        self.send(line.relay, &message);
        round.touches.push(Touch {
            address,
            at: now(),
            kind,
            step: format!("client {host} {action:?}"),
        });
        false
    }

    /// Sends a client's message through its relay.
    fn relay(
        &mut self,
        host: usize,
        action: ClientAction,
        mut message: Message,
        round: &mut Round,
    ) -> bool {
        let line = self.topology.line(self.hosts[host].line);
        add_relay(&mut message, line.relay, line.option_82.as_deref());
        let relayed = Some(line.option_82.unwrap_or_default());
        self.send_request(host, action, message, relayed, line.relay, round)
    }

    /// Sends a message and awaits its answer.
    fn send_request(
        &mut self,
        host: usize,
        action: ClientAction,
        message: Message,
        relayed: Option<Vec<u8>>,
        socket: Ipv4Addr,
        round: &mut Round,
    ) -> bool {
        self.send(socket, &message);
        let flight = Flight {
            host,
            action,
            message,
            relayed,
            socket,
            again: Instant::now() + RETRY,
            tries: TRIES,
        };
        round.flights.insert(flight.message.xid, flight);
        true
    }

    /// Sends a message.
    fn send(&mut self, socket: Ipv4Addr, message: &Message) {
        self.sent += 1;
        if let Some(socket) = self.sockets.get(&socket) {
            // Sending may fail while the server is down.
            let _ = socket.send_to(&message.encode(), self.server);
        }
    }

    /// Receives the answers that have arrived, after a short wait if there are none.
    fn receive(&mut self, round: &mut Round) {
        for answer in self.incoming(Duration::from_millis(5)) {
            if let Some(flight) = round.flights.remove(&answer.xid) {
                self.answered += 1;
                self.process_answer(flight, &answer, round);
            } else {
                round.touches.extend(self.late_touch(&answer));
            }
        }
    }

    /// Returns the effect of a further answer to a message.
    fn late_touch(&self, answer: &Message) -> Option<Touch> {
        let flight = self.finished.get(&answer.xid)?;
        flight.touch(answer)
    }

    /// Returns the answers that have arrived or arrive within `wait`.
    fn incoming(&self, wait: Duration) -> Vec<Message> {
        let sockets: Vec<&UdpSocket> = self.sockets.values().collect();
        let mut all: Vec<_> = sockets
            .iter()
            .map(|socket| PollFd::new(*socket, PollFlags::IN))
            .collect();
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut answers = Vec::new();
        if !poll(&mut all, Some(&wait)).is_ok_and(|ready| ready > 0) {
            return answers;
        }
        let ready = all.iter().map(|one| !one.revents().is_empty());
        let mut octets = [0; 4096];
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            while let Ok(length) = socket.recv(&mut octets) {
                answers.extend(octets.get(..length).and_then(packet::decode));
            }
        }
        answers
    }

    /// Processes an answer.
    fn process_answer(&mut self, flight: Flight, answer: &Message, round: &mut Round) {
        let Flight { host, action, .. } = flight;
        let sent = flight.message.message_type();
        round.touches.extend(flight.touch(answer));
        self.finished.insert(answer.xid, flight);
        match (sent, answer.message_type()) {
            (Some(MessageType::DISCOVER), Some(MessageType::OFFER))
                if action != ClientAction::Discover =>
            {
                let mut request = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut request, answer.yiaddr);
                let server = packet::value(answer, code::SERVER_IDENTIFIER);
                request.set(code::SERVER_IDENTIFIER, server);
                self.relay(host, action, request, round);
                return;
            }
            (Some(MessageType::REQUEST), Some(MessageType::ACK)) => {
                self.hosts[host].address = Some(answer.yiaddr);
                self.hosts[host].last_address = Some(answer.yiaddr);
            }
            (Some(MessageType::REQUEST), Some(MessageType::NAK)) => self.hosts[host].address = None,
            _ => {}
        }
        self.queue_next(host, round);
    }

    /// Sends overdue messages again, or gives them up.
    fn retry(&mut self, round: &mut Round) {
        let late = Instant::now();
        let overdue: Vec<u32> = round
            .flights
            .iter()
            .filter(|(_, flight)| flight.again <= late)
            .map(|(xid, _)| *xid)
            .collect();
        for xid in overdue {
            let Some(mut flight) = round.flights.remove(&xid) else {
                continue;
            };
            if flight.tries > 0 {
                self.send(flight.socket, &flight.message);
                if !round.is_disturbed.load(Ordering::Relaxed) {
                    flight.tries -= 1;
                }
                flight.again = Instant::now() + RETRY;
                round.flights.insert(xid, flight);
                continue;
            }
            if flight.message.message_type() == Some(MessageType::REQUEST) {
                let requested = packet::value(&flight.message, code::REQUESTED_ADDRESS);
                let requested: Result<[u8; 4], _> = requested.try_into();
                let address = requested.map_or(flight.message.ciaddr, Ipv4Addr::from);
                let identity = identity_in(&flight.message);
                round.touches.push(Touch {
                    address,
                    at: now(),
                    kind: TouchKind::Requested(identity, flight.relayed.clone()),
                    step: format!("client {} {:?}", flight.host, flight.action),
                });
            }
            self.queue_next(flight.host, round);
            self.finished.insert(xid, flight);
        }
    }
}

/// Returns the identity in a message; that of the client may have changed since.
fn identity_in(message: &Message) -> Identity {
    Identity {
        mac: message.hardware_address().unwrap_or_default().to_vec(),
        client_id: packet::value(message, code::CLIENT_IDENTIFIER),
    }
}

/// Adds the requested address to a message.
fn ask_for(message: &mut Message, address: Ipv4Addr) {
    let octets = address.octets().to_vec();
    message.set(code::REQUESTED_ADDRESS, octets);
}

/// Adds giaddr and option 82 to a message.
fn add_relay(message: &mut Message, relay: Ipv4Addr, option_82: Option<&[u8]>) {
    message.giaddr = relay;
    if let Some(value) = option_82 {
        let value = value.to_vec();
        message.set(code::RELAY_AGENT_INFORMATION, value);
    }
}

/// Returns a non-blocking socket, if binding it succeeds.
fn bind(address: Ipv4Addr, port: u16) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((address, port)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// Returns the answer with a transaction id, if it arrives in time.
fn receive_from(socket: &UdpSocket, xid: u32, patience: Duration) -> Option<Message> {
    let deadline = Instant::now() + patience.min(PATIENCE);
    let mut octets = [0; 4096];
    while Instant::now() < deadline {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut one = [PollFd::new(socket, PollFlags::IN)];
        if !poll(&mut one, Some(&wait)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        while let Ok(length) = socket.recv(&mut octets) {
            let answer = octets.get(..length).and_then(packet::decode);
            if answer.as_ref().is_some_and(|answer| answer.xid == xid) {
                return answer;
            }
        }
    }
    None
}
