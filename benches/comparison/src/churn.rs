//! The churn of leases in a Kea: each client renews its lease, in random order.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use kea_tests::Kea;
use kea_tests::packet::{MessageType, code, decode, request};
use socket2::SockRef;

use crate::client::Result;
use crate::support::leases::Leases;

/// Messages without an answer yet, at most: fewer than Kea's queue and its socket hold.
const WINDOW: usize = 64;

/// The time after which messages without an answer are sent again.
const RETRY: Duration = Duration::from_millis(500);

/// Times in a row that no answer comes, at most.
const RETRIES: u32 = 20;

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
    let place = kea.place();
    let agent = SocketAddrV4::new(place.relay(0), place.client_port());
    let socket = UdpSocket::bind(agent)?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(RETRY))?;
    let server = SocketAddr::V4(place.server());
    let changes = leases.changes(0..leases.count);
    let mut active = changes
        .map(|change| change.number)
        .filter(|number| leases.fate(*number).is_active());
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
                    let expected = (Some(MessageType::ACK), leases.address(answer.xid));
                    if (answer.message_type(), answer.yiaddr) != expected {
                        return Err(format!("Kea does not renew a lease: {answer:?}").into());
                    }
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
