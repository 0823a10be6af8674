//! IP address bindings: an address, its state, and its current or last client.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::model::client::{Client, ClientRef};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// The id of a subnet in Kea's configuration.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SubnetId(pub u32);

/// An IP address binding (RFC 6926 section 2): an address, its state, and its last client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding<C = Client> {
    /// The address.
    pub address: Ipv4Addr,
    /// The state at the last change; [`Binding::at`] returns the state at a time.
    pub state: State,
    /// The time at which that state began: start-time-of-state.
    pub since: Time,
    /// The time of the client's last transaction with the server: client-last-transaction-time.
    pub last_transaction: Option<Time>,
    /// The start of the current lease, probation or offer: `lifetime` counts from here.
    pub lease_start: Time,
    /// The length of the lease, probation or offer; 0 in states without an end.
    pub lifetime: Lifetime,
    /// The subnet that Kea leased the address from.
    pub subnet: SubnetId,
    /// The current or last client; `None` without one.
    pub client: Option<C>,
    /// Whether the last change was made by another server: see [`Binding::is_remote`].
    pub remote: bool,
    /// The time at which the mirror learned of the last change, if that is later than the times in
    /// a reply. Possible reasons: another server made the change, the change left these times
    /// equal, the clock entered the next second in between, or Kea's configuration changed. A query
    /// between both times did not return the change, so the binding counts as changed at this time
    /// too.
    pub learned_at: Option<Time>,
    /// The end of an offer made to the client during the lease, which reserves the address; `None`
    /// without such an offer.
    pub reserved_until: Option<Time>,
}

/// A binding whose client is borrowed from its storage.
pub type BindingRef<'a> = Binding<ClientRef<'a>>;

impl Binding {
    /// Returns the binding of an address of `subnet` that is free since `since`.
    pub fn free(address: Ipv4Addr, subnet: SubnetId, since: Time) -> Binding {
        Binding {
            address,
            state: State::Available,
            since,
            last_transaction: None,
            lease_start: since,
            lifetime: Lifetime(0),
            subnet,
            client: None,
            remote: false,
            learned_at: None,
            reserved_until: None,
        }
    }

    /// Borrows the binding.
    pub fn view(&self) -> BindingRef<'_> {
        self.with_client(self.client.as_ref().map(Client::view))
    }
}

impl BindingRef<'_> {
    /// Clones the binding with its client.
    pub fn to_owned(&self) -> Binding {
        self.with_client(self.client.map(Client::from))
    }
}

impl<C> Binding<C> {
    /// Returns this binding with another `client`.
    pub fn with_client<Other>(&self, client: Option<Other>) -> Binding<Other> {
        Binding {
            address: self.address,
            state: self.state,
            since: self.since,
            last_transaction: self.last_transaction,
            lease_start: self.lease_start,
            lifetime: self.lifetime,
            subnet: self.subnet,
            client,
            remote: self.remote,
            learned_at: self.learned_at,
            reserved_until: self.reserved_until,
        }
    }

    /// Returns the state at `now` and the start of that state.
    ///
    /// An active binding expires exactly at the end of its lifetime, unless an offer reserves its address
    /// for longer. A declined or offered address becomes available at the end of its lifetime. The time
    /// at which Kea reclaims the lease is irrelevant.
    #[inline]
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

    /// Returns the time at which the state ends by itself; `None` for states without such an end.
    #[inline]
    pub fn ends(&self) -> Option<Time> {
        match self.state {
            State::Active | State::Abandoned | State::Transitioning => {
                self.lifetime.end(self.lease_start)
            }
            _ => None,
        }
    }

    /// Returns the time of Kea's last answer about the current lease, from which the client's
    /// timers count.
    #[inline]
    pub fn answered(&self) -> Time {
        let lease_start = self.lease_start;
        (self.last_transaction).map_or(lease_start, |last| last.max(lease_start))
    }

    /// Whether another server made the last change up to `now`: data-source's REMOTE flag (RFC 6926
    /// section 6.2.8). The end of a state by itself is a change on every server, so it is local.
    #[inline]
    pub fn is_remote(&self, now: Time) -> bool {
        self.remote && self.at(now).0 == self.state
    }

    /// Whether the binding is active at `now`: its client may use the address.
    #[inline]
    pub fn is_active(&self, now: Time) -> bool {
        self.at(now).0 == State::Active
    }
}

#[cfg(test)]
impl<C> Binding<C> {
    /// Returns the binding of an address of subnet 1, released at `since`, without a client.
    pub(crate) fn example(address: Ipv4Addr, since: Time) -> Binding<C> {
        Binding {
            address,
            state: State::Released,
            since,
            last_transaction: None,
            lease_start: since,
            lifetime: Lifetime(0),
            subnet: SubnetId(1),
            client: None,
            remote: false,
            learned_at: None,
            reserved_until: None,
        }
    }
}
