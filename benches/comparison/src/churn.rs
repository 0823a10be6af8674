//! The churn of leases in a Kea: clients renew their leases, in random order.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use kea_tests::Kea;
use kea_tests::packet::{Message, MessageType, code, decode, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::client::Result;
use crate::process::monotonic;
use crate::support::leases::Leases;

/// Messages without an answer yet, at most: fewer than Kea's queue and its socket hold.
const WINDOW: usize = 64;

/// The time after which messages without an answer are sent again.
const RETRY: Duration = Duration::from_millis(500);

/// Times in a row that no answer comes, at most.
const RETRIES: u32 = 20;

/// The longest wait for an answer before the next message may be due.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000,
};

/// The longest time without an answer, in seconds.
const PATIENCE: f64 = 10.0;

/// The receive buffer of the relay agent, in octets.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// The longest message of Kea's, and more.
const LONGEST: usize = 1_500;

/// Renews each active lease of a Kea once, through a relay agent. Returns their number.
///
/// The uniform set stays as it was loaded.
pub fn renew_all(kea: &Kea, leases: &Leases) -> Result<u32> {
    if !leases.is_realistic() {
        return Ok(0);
    }
    let (socket, agent) = relay_agent(kea)?;
    socket.set_read_timeout(Some(RETRY))?;
    let server = SocketAddr::V4(kea.place().server());
    let mut active = active(leases);
    let mut waiting: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut buffer = [0; LONGEST];
    let mut renewed = 0;
    let mut retries = 0;
    loop {
        let room = WINDOW - waiting.len();
        for number in active.by_ref().take(room) {
            let message = renewal(leases, number, agent);
            socket.send_to(&message, server)?;
            waiting.insert(number, message);
        }
        if waiting.is_empty() {
            return Ok(renewed);
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let answer = decode(&buffer[..length]).ok_or("an invalid message of Kea")?;
                // An answer to a message that was sent again comes twice.
                if waiting.remove(&answer.xid).is_some() {
                    expect_renewal(leases, &answer)?;
                    renewed += 1;
                    retries = 0;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                retries += 1;
                if retries > RETRIES {
                    return Err("Kea does not answer renewals".into());
                }
                for message in waiting.values() {
                    socket.send_to(message, server)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Renewals at a rate.
#[derive(Debug, Default)]
pub struct Renewals {
    /// When the DHCPREQUEST for each address was sent, by [`monotonic`].
    pub requests: HashMap<u32, f64>,
    /// The times from there to the DHCPACK, in seconds.
    pub answers: Vec<f64>,
    /// When the last one came.
    pub last: f64,
}

/// Renews `count` active leases, `rate` a second unless Kea is slower, after the first `skipped` ones of a random order.
pub fn renew(
    kea: &Kea,
    leases: &Leases,
    skipped: usize,
    count: usize,
    rate: u32,
) -> Result<Renewals> {
    let (socket, agent) = relay_agent(kea)?;
    let server = SocketAddr::V4(kea.place().server());
    let begin = monotonic();
    let due = |index: u32| begin + f64::from(index) / f64::from(rate);
    let mut left = (0..)
        .zip(active(leases).skip(skipped).take(count))
        .peekable();
    let mut waiting: HashMap<u32, f64> = HashMap::new();
    let mut renewals = Renewals {
        last: begin,
        ..Renewals::default()
    };
    let mut buffer = [0; LONGEST];
    while left.peek().is_some() || !waiting.is_empty() {
        while waiting.len() < WINDOW {
            let Some((_, number)) = left.next_if(|(index, _)| due(*index) <= monotonic()) else {
                break;
            };
            let message = renewal(leases, number, agent);
            let at = monotonic();
            socket.send_to(&message, server)?;
            waiting.insert(number, at);
            renewals
                .requests
                .insert(leases.address(number).to_bits(), at);
        }
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&GLANCE))? == 0 {
            let is_late = monotonic() - renewals.last > PATIENCE;
            if is_late && !waiting.is_empty() {
                return Err("Kea does not answer renewals".into());
            }
            continue;
        }
        let length = socket.recv(&mut buffer)?;
        let answer = decode(&buffer[..length]).ok_or("an invalid message of Kea")?;
        expect_renewal(leases, &answer)?;
        renewals.last = monotonic();
        if let Some(at) = waiting.remove(&answer.xid) {
            renewals.answers.push(renewals.last - at);
        }
    }
    Ok(renewals)
}

/// Opens the socket of a relay agent in the net of a Kea; returns its address, too.
fn relay_agent(kea: &Kea) -> Result<(UdpSocket, SocketAddrV4)> {
    let place = kea.place();
    let agent = SocketAddrV4::new(place.relay(0), place.client_port());
    let socket = UdpSocket::bind(agent)?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok((socket, agent))
}

/// The numbers of the active leases, in random order.
fn active(leases: &Leases) -> impl Iterator<Item = u32> {
    let changes = leases.changes(0..leases.count);
    changes
        .map(|change| change.number)
        .filter(|number| leases.fate(*number).is_active())
}

/// Expects the DHCPACK of a lease whose number is the xid.
fn expect_renewal(leases: &Leases, answer: &Message) -> Result<()> {
    let expected = (Some(MessageType::ACK), leases.address(answer.xid));
    if (answer.message_type(), answer.yiaddr) == expected {
        Ok(())
    } else {
        Err(format!("Kea does not renew a lease: {answer:?}").into())
    }
}

/// The DHCPREQUEST by which a client renews its lease, with the number of the lease as its xid.
fn renewal(leases: &Leases, number: u32, agent: SocketAddrV4) -> Vec<u8> {
    let client = leases.client(number);
    let mut message = request(MessageType::REQUEST, number, &client.mac);
    message.ciaddr = leases.address(number);
    message.giaddr = *agent.ip();
    let options = client.options();
    let information = client.relay_agent_information();
    // A relay agent adds its information at the end (RFC 3046 section 2.1).
    let options = options
        .into_iter()
        .map(|option| (option.code, option.value))
        .chain([
            (code::CLIENT_IDENTIFIER, client.client_id),
            (code::RELAY_AGENT_INFORMATION, information),
        ]);
    let sent = options.filter(|(_, value)| !value.is_empty());
    message.options.extend(sent);
    message.encode()
}
