//! The model: an IP address binding, who holds or held it, and its state.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::model::client::{Client, ClientRef};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// The number Kea gives a subnet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SubnetId(pub u32);

/// An IP address binding (RFC 6926 section 2): an address, its state, and its last client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding<C = Client> {
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
    pub client: Option<C>,
    /// Whether the last change was made by another server: see [`Binding::is_remote`].
    pub remote: bool,
    /// When the last change was learned of, if that is later than the times a reply carries: it was
    /// made elsewhere, it changed none of these times, the clock went on meanwhile, or Kea's
    /// configuration changed what replies carry. Whoever asked in between did not see it, so the
    /// binding has changed then, too.
    pub learned_at: Option<Time>,
    /// Until when an offer, made to its client while the lease lasts, keeps the address for it;
    /// `None` without one.
    pub reserved_until: Option<Time>,
}

/// A binding where it is kept.
pub type BindingRef<'a> = Binding<ClientRef<'a>>;

impl Binding {
    /// A free address of a subnet, since `since`.
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

    /// The same, looked at.
    pub fn view(&self) -> BindingRef<'_> {
        self.with_client(self.client.as_ref().map(Client::view))
    }
}

impl BindingRef<'_> {
    /// The same, to be changed.
    pub fn to_owned(&self) -> Binding {
        self.with_client(self.client.map(Client::from))
    }
}

impl<C> Binding<C> {
    /// The same with another client.
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

    /// When the client was last answered about the lease it has: its timers count from then.
    #[inline]
    pub fn answered(&self) -> Time {
        let lease_start = self.lease_start;
        (self.last_transaction).map_or(lease_start, |last| last.max(lease_start))
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

#[cfg(test)]
impl<C> Binding<C> {
    /// An address of subnet 1 that was given back `since`, by nobody.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_that_of_its_value() {
        let states: Vec<State> = (0..=u8::MAX).filter_map(State::from_value).collect();
        let values: Vec<u8> = states.iter().map(|state| *state as u8).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
