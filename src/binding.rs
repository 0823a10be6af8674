//! The model: an IP address binding, who holds or held it, and its state.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::{Lifetime, Time};

/// The number Kea gives a subnet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SubnetId(pub u32);

/// The state of an address, by its value in the dhcp-state option (RFC 6926 section 6.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    /// Never leased, or recovered after probation.
    Available = 1,
    /// Assigned to a client whose lifetime is not over.
    Active = 2,
    /// The lease's lifetime ended.
    Expired = 3,
    /// The client released the lease, or gave it up by taking another.
    Released = 4,
    /// Declined by the client; on probation.
    Abandoned = 5,
    /// Removed by an administrator.
    Reset = 6,
    /// Free, but a high-availability partner's to give.
    Remote = 7,
    /// Offered and reserved, not yet acknowledged.
    Transitioning = 8,
}

/// A client's MAC address in the sense of RFC 6926 section 2: htype, hlen and chaddr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardwareAddress {
    /// Hardware type (htype).
    pub htype: u8,
    /// The address; at most 20 octets, empty if the client gave none.
    pub octets: Vec<u8>,
}

/// An option as it stands on the wire: its code and its value, of any length once split
/// options are joined (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawOption {
    /// The option's code.
    pub code: u8,
    /// The option's value, without code and length.
    pub value: Vec<u8>,
}

/// What is known of the client that holds an address, or held it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// Its MAC address.
    pub hardware: HardwareAddress,
    /// Its client identifier (option 61); empty if it sent none.
    pub client_id: Vec<u8>,
    /// The value of the latest relay agent information option (82) received with one of its
    /// messages (RFC 4388 section 6.4.2); empty if none came.
    pub relay_agent_information: Vec<u8>,
    /// Options of its last message worth giving to requestors, in the order of their codes.
    pub options: Vec<RawOption>,
    /// The host name Kea keeps with the lease; empty if it keeps none.
    pub hostname: Vec<u8>,
    /// The client classes Kea put its last message in, in Kea's order.
    pub classes: Vec<String>,
}

/// What tells a DHCP client from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIds {
    /// Its MAC address.
    pub hardware: HardwareAddress,
    /// Its client identifier (option 61); empty if it sends none.
    pub client_id: Vec<u8>,
}

impl Client {
    /// Whether both stand for the same DHCP client.
    pub fn is_same_client(&self, other: &Client) -> bool {
        self.has_ids(&other.hardware, &other.client_id)
    }

    /// Whether this is the client that is told by these from others.
    pub fn is(&self, ids: &ClientIds) -> bool {
        self.has_ids(&ids.hardware, &ids.client_id)
    }

    /// By client identifier where both have one (RFC 2131 section 4.2), else by MAC address.
    fn has_ids(&self, hardware: &HardwareAddress, client_id: &[u8]) -> bool {
        if !self.client_id.is_empty() && !client_id.is_empty() {
            self.client_id == client_id
        } else {
            self.hardware == *hardware
        }
    }

    /// The value of the client's option `code`, if it sent one.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|option| option.code == code)
            .map(|option| option.value.as_slice())
    }
}

/// An IP address binding (RFC 6926 section 2): an address, its state, and its last client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The address.
    pub address: Ipv4Addr,
    /// Its state when last changed. Time goes on: see [`Binding::at`].
    pub state: State,
    /// When it came into that state: start-time-of-state.
    pub since: Time,
    /// When the client last spoke to the server about it: client-last-transaction-time.
    pub last_transaction: Option<Time>,
    /// When the current lease, probation or offer began to count: `lifetime` runs from here.
    pub lease_start: Time,
    /// How long the lease, probation or offer lasts; 0 in states without an end.
    pub lifetime: Lifetime,
    /// The subnet Kea leased it from.
    pub subnet: SubnetId,
    /// The client that holds or last held it; `None` if it has none to tell of.
    pub client: Option<Arc<Client>>,
    /// Whether the last change was made by another server: see [`Binding::is_remote`].
    pub remote: bool,
    /// When the last change was taken in, if that was later than it says: it was made elsewhere,
    /// or the clock went on meanwhile; or when its address came to be configured again. Whoever asked
    /// in between was not told of it, so it has changed then, too.
    pub noticed: Option<Time>,
    /// Until when an offer, made to its client while the lease lasts, keeps the address for it;
    /// `None` without one.
    pub reserved_until: Option<Time>,
}

impl Binding {
    /// The state and its start as they are at `now`: what was active expires at the very end
    /// of its lifetime, unless it is reserved still, and a declined or offered address is
    /// available again at the end of its, whenever Kea gets round to it.
    pub fn at(&self, now: Time) -> (State, Time) {
        let ended = self.ends().filter(|end| *end <= now);
        match (self.state, ended) {
            (State::Active, Some(end)) => match self.reserved_until {
                Some(until) if until > now => (State::Transitioning, end),
                Some(until) => (State::Expired, until.max(end)),
                None => (State::Expired, end),
            },
            (State::Abandoned | State::Transitioning, Some(end)) => (State::Available, end),
            _ => (self.state, self.since),
        }
    }

    /// When the state ends by itself; `None` if it does not.
    pub fn ends(&self) -> Option<Time> {
        match self.state {
            State::Active | State::Abandoned | State::Transitioning => {
                self.lifetime.end(self.lease_start)
            }
            _ => None,
        }
    }

    /// Whether the last change up to `now` was made by another server: data-source's REMOTE flag
    /// (RFC 6926 section 6.2.8). What has ended by itself has ended here too.
    pub fn is_remote(&self, now: Time) -> bool {
        self.remote && self.at(now).0 == self.state
    }

    /// Whether a client has the right to use the address at `now`: an active binding.
    pub fn is_active(&self, now: Time) -> bool {
        self.at(now).0 == State::Active
    }
}
