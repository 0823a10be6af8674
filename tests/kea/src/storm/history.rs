//! The record of actions on addresses, from the viewpoint of clients and the administrator.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of actions kept for an address.
const REMEMBERED: usize = 16;

/// Returns the time in seconds since 1970, with fractions.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs_f64()
}

/// A client as Kea knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The MAC address; empty if unknown.
    pub mac: Vec<u8>,
    /// The client identifier; empty if the client has none.
    pub client_id: Vec<u8>,
}

impl Identity {
    /// Whether Kea may identify both as one client.
    pub fn may_be(&self, other: &Identity) -> bool {
        let same = |own: &[u8], other: &[u8]| !own.is_empty() && own == other;
        same(&self.mac, &other.mac) || same(&self.client_id, &other.client_id)
    }
}

impl Identity {
    /// Whether both are the same client: by client identifier if both have one (RFC 2131, section
    /// 4.2), otherwise by MAC address.
    pub fn is_same_client(&self, other: &Identity) -> bool {
        match self.client_id.is_empty() || other.client_id.is_empty() {
            true => self.mac == other.mac,
            false => self.client_id == other.client_id,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", hex(&self.mac), hex(&self.client_id))
    }
}

/// Returns octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The kind of an action on an address.
#[derive(Debug, Clone, PartialEq)]
pub enum TouchKind {
    /// The server acknowledged the address to a client. With the option 82 of that message if a
    /// relay agent forwarded it (empty if the relay agent added none).
    Acknowledged(Identity, Option<Vec<u8>>),
    /// A client requested the address and received no answer: the client may or may not have the
    /// lease.
    Requested(Identity, Option<Vec<u8>>),
    /// The server offered the address.
    Offered(Identity),
    /// A client sent a RELEASE, to which there is no answer.
    Release(Identity),
    /// A client sent a DECLINE, to which there is no answer.
    Decline(Identity),
    /// The present or former client of the address was acknowledged another address.
    GivenUp(Identity),
    /// A command wrote a lease of this client.
    Put(Identity),
    /// A command removed the lease of the address, if it had one.
    Deleted(&'static str),
    /// The server was killed so soon afterwards that the change may not be in the state file.
    MaybeUnsaved,
}

impl fmt::Display for TouchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TouchKind::Acknowledged(who, Some(option_82)) => {
                write!(f, "acknowledged to {who}, relayed {}", hex(option_82))
            }
            TouchKind::Acknowledged(who, None) => write!(f, "acknowledged to {who}, not relayed"),
            TouchKind::Requested(who, _) => write!(f, "requested by {who}, unanswered"),
            TouchKind::Offered(who) => write!(f, "offered to {who}"),
            TouchKind::Release(who) => write!(f, "RELEASE sent by {who}"),
            TouchKind::Decline(who) => write!(f, "DECLINE sent by {who}"),
            TouchKind::GivenUp(who) => write!(f, "{who} got another address"),
            TouchKind::Put(who) => write!(f, "put by command for {who}"),
            TouchKind::Deleted(command) => write!(f, "removed by {command}"),
            TouchKind::MaybeUnsaved => f.write_str("killed shortly after"),
        }
    }
}

/// An action on an address, with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Touch {
    /// The address.
    pub address: Ipv4Addr,
    /// The time in seconds since 1970: when the answer arrived, or when the message was sent if it
    /// has no answer.
    pub at: f64,
    /// The kind of action.
    pub kind: TouchKind,
    /// The action of the client or of the administrator, for reports.
    pub step: String,
}

/// The latest actions on each address.
#[derive(Debug, Default)]
pub struct History {
    /// Actions by address, with their rounds, latest last.
    touches: HashMap<Ipv4Addr, Vec<(u32, Touch)>>,
}

impl History {
    /// Records the actions of a round.
    pub fn remember(&mut self, round: u32, touches: &[Touch]) {
        for touch in touches {
            let all = self.touches.entry(touch.address).or_default();
            all.push((round, touch.clone()));
            if all.len() > REMEMBERED {
                all.remove(0);
            }
        }
    }

    /// Returns the actions on an address, one per line.
    pub fn of(&self, address: Ipv4Addr) -> String {
        let all = self.touches.get(&address).map_or(&[][..], Vec::as_slice);
        let lines = all.iter().map(|(round, touch)| {
            let Touch { at, kind, step, .. } = touch;
            format!("      round {round} at {at:.3} ({step}): {kind}\n")
        });
        lines.collect()
    }
}
