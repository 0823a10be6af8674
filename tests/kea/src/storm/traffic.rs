//! Clients and their relays, many messages in flight at a time.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::history::{Identity, Touch, What, now};
use super::plan::Act;
use super::random::pick;
use super::world::World;
use crate::packet::{self, Message, MessageType, code};
use crate::{PATIENCE, Place, eventually_some};

/// How long to wait for an answer before a message is sent again.
const RETRY: Duration = Duration::from_millis(120);

/// How often a message is sent again.
const TRIES: u32 = 2;

/// A client and what it believes.
#[derive(Debug, Clone)]
struct Host {
    /// Its MAC address.
    mac: [u8; 6],
    /// Its client identifier; empty if it sends none.
    client_id: Vec<u8>,
    /// Whether it is of the class that gets short lifetimes.
    is_brief: bool,
    /// Where it is.
    line: usize,
    /// The address it has a lease of, as far as it knows.
    address: Option<Ipv4Addr>,
    /// The address it had last.
    last_address: Option<Ipv4Addr>,
}

impl Host {
    /// The client number `n`.
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

    /// What Kea knows it by.
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
    /// Who sent it.
    host: usize,
    /// What it is part of.
    act: Act,
    /// The message.
    message: Message,
    /// The option 82 it was relayed with; `None` if it went straight to the server.
    relayed: Option<Vec<u8>>,
    /// The socket it was sent from.
    socket: Ipv4Addr,
    /// When it is sent again.
    again: Instant,
    /// How often it may still be sent.
    tries: u32,
}

impl Flight {
    /// What an answer to the message did to its address.
    fn touch(&self, answer: &Message) -> Option<Touch> {
        let identity = identity_in(&self.message);
        let what = match (self.message.message_type(), answer.message_type()) {
            (Some(MessageType::DISCOVER), Some(MessageType::OFFER)) => What::Offered(identity),
            (Some(MessageType::REQUEST), Some(MessageType::ACK)) => {
                What::Acknowledged(identity, self.relayed.clone())
            }
            _ => return None,
        };
        Some(Touch {
            address: answer.yiaddr,
            at: now(),
            what,
            step: format!("client {} {:?}", self.host, self.act),
        })
    }
}

/// All clients and relays.
#[derive(Debug)]
pub struct Traffic {
    /// The network.
    world: World,
    /// Where kea-dhcp4 listens.
    server: SocketAddrV4,
    /// Where relays and clients listen.
    port: u16,
    /// The clients.
    hosts: Vec<Host>,
    /// A socket for each relay, and for clients that speak to the server themselves.
    sockets: HashMap<Ipv4Addr, UdpSocket>,
    /// What was answered in the last round, or given up: there may be answers yet.
    past: HashMap<u32, Flight>,
    /// The next transaction id.
    xid: u32,
    /// How many messages were sent.
    pub sent: u64,
    /// How many answers came.
    pub answered: u64,
}

/// What is going on in a round.
struct Round<'a> {
    /// What each client has still to do.
    waiting: HashMap<usize, VecDeque<Act>>,
    /// Clients with something to do and nothing in flight.
    ready: VecDeque<usize>,
    /// What is in flight by transaction id.
    flights: HashMap<u32, Flight>,
    /// Whether messages may get lost.
    is_disturbed: &'a AtomicBool,
    /// What was done to addresses.
    touches: &'a mut Vec<Touch>,
}

impl Traffic {
    /// The clients of a world, all without a lease.
    pub fn new(world: &World, place: Place, clients: usize) -> Self {
        let port = place.client_port();
        let bind = |address| (address, bind(address, port).expect("a relay's address"));
        Traffic {
            world: world.clone(),
            server: place.server(),
            port,
            hosts: (0..clients).map(Host::new).collect(),
            sockets: world.relays().into_iter().map(bind).collect(),
            past: HashMap::new(),
            xid: 1,
            sent: 0,
            answered: 0,
        }
    }

    /// Does what clients do, at most `width` messages in flight at a time, each sent up to twice
    /// more than is lost while the server `is_disturbed`; returns what that did to addresses.
    pub fn run(
        &mut self,
        acts: &[(usize, Act)],
        width: usize,
        is_disturbed: &AtomicBool,
    ) -> Vec<Touch> {
        self.past.clear();
        let mut touches = Vec::new();
        let mut round = Round {
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            flights: HashMap::new(),
            is_disturbed,
            touches: &mut touches,
        };
        for (host, act) in acts {
            let waiting = round.waiting.entry(*host).or_default();
            if waiting.is_empty() {
                round.ready.push_back(*host);
            }
            waiting.push_back(*act);
        }
        while !round.ready.is_empty() || !round.flights.is_empty() {
            while round.flights.len() < width
                && let Some(host) = round.ready.pop_front()
            {
                let act = round.waiting.get_mut(&host).and_then(VecDeque::pop_front);
                if !act.is_some_and(|act| self.begin(host, act, &mut round)) {
                    self.done(host, &mut round);
                }
            }
            self.receive(&mut round);
            self.retry(&mut round);
        }
        touches
    }

    /// Waits until the server has worked off all it was sent: it answers messages that touch no
    /// lease, one after the other, more of them than it has threads. Returns what late answers
    /// tell of addresses.
    pub fn settle(&mut self) -> Vec<Touch> {
        let address = self.world.bystander();
        let socket = bind(address, self.port).expect("an address nobody leases");
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
            touches.extend(self.answered_again(&answer));
        }
        // Addresses of clients' own may belong to somebody else soon.
        let relays = self.world.relays();
        self.sockets.retain(|address, _| relays.contains(address));
        touches
    }

    /// Goes on with what a client has to do next, if anything.
    fn done(&self, host: usize, round: &mut Round) {
        if round
            .waiting
            .get(&host)
            .is_some_and(|acts| !acts.is_empty())
        {
            round.ready.push_back(host);
        }
    }

    /// A message with a transaction id of its own.
    fn message(&mut self, message_type: MessageType, mac: &[u8]) -> Message {
        self.xid += 1;
        packet::request(message_type, self.xid, mac)
    }

    /// A client's message.
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

    /// An address that some other client has, or that may be in a pool.
    fn anothers(&self, salt: u32) -> Ipv4Addr {
        let other = &self.hosts[pick(salt, self.hosts.len())];
        let address = other.address.or(other.last_address);
        address.unwrap_or_else(|| self.world.some_address(salt).0)
    }

    /// Begins what a client does; whether something is in flight now.
    fn begin(&mut self, host: usize, act: Act, round: &mut Round) -> bool {
        let Host {
            address,
            last_address,
            ..
        } = self.hosts[host];
        match (act, address) {
            (Act::Discover | Act::Lease, _) => {
                let message = self.message_of(host, MessageType::DISCOVER);
                self.relay(host, act, message, round)
            }
            (Act::Take(salt), _) => {
                let mut message = self.message_of(host, MessageType::DISCOVER);
                ask_for(&mut message, self.anothers(salt));
                self.relay(host, act, message, round)
            }
            (Act::Renew, Some(address)) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                message.ciaddr = address;
                self.relay(host, act, message, round)
            }
            (Act::RenewUnicast, Some(address)) if self.open(address) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                message.ciaddr = address;
                self.launch(host, act, message, None, address, round)
            }
            (Act::Renew | Act::Reboot | Act::RenewUnicast, _) => {
                let Some(address) = address.or(last_address) else {
                    return self.begin(host, Act::Lease, round);
                };
                let mut message = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut message, address);
                self.relay(host, act, message, round)
            }
            (Act::RequestWrong(salt), _) => {
                let mut message = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut message, self.anothers(salt));
                self.relay(host, act, message, round)
            }
            (Act::Release, Some(address)) => self.release(host, act, address, round),
            (Act::ReleaseOld, _) if last_address.is_some() => {
                let address = last_address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.release(host, act, address, round)
            }
            (Act::ReleaseAnothers(salt), _) => {
                let address = self.anothers(salt);
                self.release(host, act, address, round)
            }
            (Act::Decline, Some(address)) => {
                let mut message = self.message_of(host, MessageType::DECLINE);
                ask_for(&mut message, address);
                let what = What::Decline(self.hosts[host].identity());
                self.end(host, act, message, address, what, round)
            }
            (Act::Inform, Some(address)) if self.open(address) => {
                let mut message = self.message_of(host, MessageType::INFORM);
                message.ciaddr = address;
                self.launch(host, act, message, None, address, round)
            }
            (Act::NewClientId(salt), _) => {
                self.hosts[host].client_id = match salt % 4 {
                    0 => Vec::new(),
                    _ => [&[0xfe], &salt.to_be_bytes()[..]].concat(),
                };
                false
            }
            (Act::NewMac, _) => {
                let generation = &mut self.hosts[host].mac[1];
                *generation = generation.wrapping_add(1) & 0x7f;
                false
            }
            (Act::Move(line), _) => {
                self.hosts[host].line = line;
                false
            }
            (Act::Release | Act::ReleaseOld | Act::Decline | Act::Inform, _) => false,
        }
    }

    /// Opens a socket at a client's own address, where the server can reach it without leaving
    /// this machine; whether that could be done.
    fn open(&mut self, address: Ipv4Addr) -> bool {
        if !self.sockets.contains_key(&address) && address.is_loopback() {
            let socket = bind(address, self.port);
            self.sockets.extend(socket.map(|socket| (address, socket)));
        }
        self.sockets.contains_key(&address)
    }

    /// Sends a RELEASE.
    fn release(&mut self, host: usize, act: Act, address: Ipv4Addr, round: &mut Round) -> bool {
        let mut message = self.message_of(host, MessageType::RELEASE);
        message.ciaddr = address;
        let what = What::Release(self.hosts[host].identity());
        self.end(host, act, message, address, what, round)
    }

    /// Sends what has no answer; nothing is in flight then.
    fn end(
        &mut self,
        host: usize,
        act: Act,
        mut message: Message,
        address: Ipv4Addr,
        what: What,
        round: &mut Round,
    ) -> bool {
        if self.hosts[host].address == Some(address) {
            self.hosts[host].address = None;
        }
        let server = self.server.ip().octets().to_vec();
        message.set(code::SERVER_IDENTIFIER, server);
        let line = self.world.line(self.hosts[host].line);
        add_relay(&mut message, line.relay, line.option_82.as_deref());
        self.send(line.relay, &message);
        round.touches.push(Touch {
            address,
            at: now(),
            what,
            step: format!("client {host} {act:?}"),
        });
        false
    }

    /// Sends a client's message by way of its relay.
    fn relay(&mut self, host: usize, act: Act, mut message: Message, round: &mut Round) -> bool {
        let line = self.world.line(self.hosts[host].line);
        add_relay(&mut message, line.relay, line.option_82.as_deref());
        let relayed = Some(line.option_82.unwrap_or_default());
        self.launch(host, act, message, relayed, line.relay, round)
    }

    /// Sends a message that is to be answered.
    fn launch(
        &mut self,
        host: usize,
        act: Act,
        message: Message,
        relayed: Option<Vec<u8>>,
        socket: Ipv4Addr,
        round: &mut Round,
    ) -> bool {
        self.send(socket, &message);
        let flight = Flight {
            host,
            act,
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
            // While the server is down the system may say so.
            let _ = socket.send_to(&message.encode(), self.server);
        }
    }

    /// Receives what has come, waiting a little if nothing has.
    fn receive(&mut self, round: &mut Round) {
        for answer in self.incoming(Duration::from_millis(5)) {
            if let Some(flight) = round.flights.remove(&answer.xid) {
                self.answered += 1;
                self.answer(flight, &answer, round);
            } else {
                round.touches.extend(self.answered_again(&answer));
            }
        }
    }

    /// What a further answer to a message tells of its address.
    fn answered_again(&self, answer: &Message) -> Option<Touch> {
        let flight = self.past.get(&answer.xid)?;
        flight.touch(answer)
    }

    /// Answers that have come, or come while waiting.
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

    /// Takes an answer.
    fn answer(&mut self, flight: Flight, answer: &Message, round: &mut Round) {
        let Flight { host, act, .. } = flight;
        let sent = flight.message.message_type();
        round.touches.extend(flight.touch(answer));
        self.past.insert(answer.xid, flight);
        match (sent, answer.message_type()) {
            (Some(MessageType::DISCOVER), Some(MessageType::OFFER)) if act != Act::Discover => {
                let mut request = self.message_of(host, MessageType::REQUEST);
                ask_for(&mut request, answer.yiaddr);
                let server = packet::value(answer, code::SERVER_IDENTIFIER);
                request.set(code::SERVER_IDENTIFIER, server);
                self.relay(host, act, request, round);
                return;
            }
            (Some(MessageType::REQUEST), Some(MessageType::ACK)) => {
                self.hosts[host].address = Some(answer.yiaddr);
                self.hosts[host].last_address = Some(answer.yiaddr);
            }
            (Some(MessageType::REQUEST), Some(MessageType::NAK)) => self.hosts[host].address = None,
            _ => {}
        }
        self.done(host, round);
    }

    /// Sends again what was not answered in time, or gives up.
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
                let asked = packet::value(&flight.message, code::REQUESTED_ADDRESS);
                let asked: Result<[u8; 4], _> = asked.try_into();
                let address = asked.map_or(flight.message.ciaddr, Ipv4Addr::from);
                let identity = identity_in(&flight.message);
                round.touches.push(Touch {
                    address,
                    at: now(),
                    what: What::Requested(identity, flight.relayed.clone()),
                    step: format!("client {} {:?}", flight.host, flight.act),
                });
            }
            self.done(flight.host, round);
            self.past.insert(xid, flight);
        }
    }
}

/// Who sent a message; a client may have changed since.
fn identity_in(message: &Message) -> Identity {
    Identity {
        mac: message.hardware_address().unwrap_or_default().to_vec(),
        client_id: packet::value(message, code::CLIENT_IDENTIFIER),
    }
}

/// Has a message ask for an address.
fn ask_for(message: &mut Message, address: Ipv4Addr) {
    let octets = address.octets().to_vec();
    message.set(code::REQUESTED_ADDRESS, octets);
}

/// Makes a message one that a relay passed on.
fn add_relay(message: &mut Message, relay: Ipv4Addr, option_82: Option<&[u8]>) {
    message.giaddr = relay;
    if let Some(value) = option_82 {
        let value = value.to_vec();
        message.set(code::RELAY_AGENT_INFORMATION, value);
    }
}

/// A socket that does not block, if the address can be had.
fn bind(address: Ipv4Addr, port: u16) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((address, port)).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// The answer with a transaction id, if it comes in time.
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
