//! What was done to addresses, as far as the clients and the administrator can know.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much is remembered of an address.
const REMEMBERED: usize = 16;

/// Seconds since 1970, with their fractions.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs_f64()
}

/// A client as Kea knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its MAC address; empty if none is known.
    pub mac: Vec<u8>,
    /// Its client identifier; empty if none.
    pub client_id: Vec<u8>,
}

impl Identity {
    /// Whether Kea may take both for the same client.
    pub fn may_be(&self, other: &Identity) -> bool {
        let same = |own: &[u8], other: &[u8]| !own.is_empty() && own == other;
        same(&self.mac, &other.mac) || same(&self.client_id, &other.client_id)
    }
}

impl Identity {
    /// Whether both stand for the same client: by client identifier where both have one (RFC
    /// 2131, section 4.2), else by MAC address.
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

/// Octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Something done to an address.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The server acknowledged the address to a client; the option 82 of that message if it came
    /// by way of a relay agent (empty if that added none).
    Acknowledged(Identity, Option<Vec<u8>>),
    /// A client asked for the address and got no answer: it may have it or not.
    Requested(Identity, Option<Vec<u8>>),
    /// The server offered the address.
    Offered(Identity),
    /// A client sent a RELEASE, to which there is no answer.
    Release(Identity),
    /// A client sent a DECLINE, to which there is no answer.
    Decline(Identity),
    /// The client that has it, or had it, was acknowledged another address.
    GivenUp(Identity),
    /// A command put a lease there for this client.
    Put(Identity),
    /// A command removed its lease, if there was one.
    Deleted(&'static str),
    /// The server was killed so soon after that the hook may not have saved it.
    Shaken,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Acknowledged(who, Some(option_82)) => {
                write!(f, "acknowledged to {who}, relayed {}", hex(option_82))
            }
            What::Acknowledged(who, None) => write!(f, "acknowledged to {who}, not relayed"),
            What::Requested(who, _) => write!(f, "requested by {who}, unanswered"),
            What::Offered(who) => write!(f, "offered to {who}"),
            What::Release(who) => write!(f, "RELEASE sent by {who}"),
            What::Decline(who) => write!(f, "DECLINE sent by {who}"),
            What::GivenUp(who) => write!(f, "{who} got another address"),
            What::Put(who) => write!(f, "put by command for {who}"),
            What::Deleted(command) => write!(f, "removed by {command}"),
            What::Shaken => f.write_str("killed shortly after"),
        }
    }
}

/// Something done to an address, and when it was known to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Touch {
    /// The address.
    pub address: Ipv4Addr,
    /// When, in seconds since 1970: when its answer came, or it was sent if there is none.
    pub at: f64,
    /// What.
    pub what: What,
    /// By which step.
    pub step: String,
}

/// What was lately done to each address.
#[derive(Debug, Default)]
pub struct History {
    /// By address, latest last.
    touches: HashMap<Ipv4Addr, Vec<(u32, Touch)>>,
}

impl History {
    /// Remembers what was done in a round.
    pub fn remember(&mut self, round: u32, touches: &[Touch]) {
        for touch in touches {
            let all = self.touches.entry(touch.address).or_default();
            all.push((round, touch.clone()));
            if all.len() > REMEMBERED {
                all.remove(0);
            }
        }
    }

    /// What was done to an address, a line each.
    pub fn of(&self, address: Ipv4Addr) -> String {
        let all = self.touches.get(&address).map_or(&[][..], Vec::as_slice);
        let lines = all.iter().map(|(round, touch)| {
            let Touch { at, what, step, .. } = touch;
            format!("      round {round} at {at:.3} ({step}): {what}\n")
        });
        lines.collect()
    }
}
