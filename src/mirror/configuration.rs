//! What is configured, and what becomes of a binding by it.

use std::borrow::Cow;
use std::sync::Arc;

use super::ranges::TimedRange;
use crate::binding::{BindingRef, State, SubnetId};
use crate::client::ClientRef;
use crate::network::{Network, TeeTimes};
use crate::time::{Lifetime, Time};
use crate::vpn::Vpn;

/// What bindings of one subnet with the same lifetime have in common. Most that come one after the
/// other do, so it is looked up for many at once.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The subnet.
    subnet: SubnetId,
    /// The lifetime.
    lifetime: Lifetime,
    /// The subnet's VPN.
    vpn: &'a Vpn,
    /// When their clients renew and rebind.
    pub tee_times: TeeTimes,
}

impl<'a> Terms<'a> {
    /// Whether a binding has these.
    pub fn are_those_of(&self, binding: &BindingRef<'_>) -> bool {
        self.subnet == binding.subnet && self.lifetime == binding.lifetime
    }

    /// The VPN a binding in `state` belongs to: the one its relay agent named, else its subnet's. A
    /// free address is no relay agent's, even if Kea has not got round to it.
    pub fn vpn(&self, binding: &BindingRef<'_>, state: State) -> Cow<'a, Vpn> {
        let is_free = matches!(state, State::Available | State::Remote);
        let client = binding.client.filter(|_| !is_free);
        let named = client.and_then(ClientRef::vpn);
        named.map_or(Cow::Borrowed(self.vpn), Cow::Owned)
    }
}

/// Kea's configuration and the configured addresses with their times: it stays as it is while
/// somebody reads it.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Kea's configuration.
    pub network: Arc<Network>,
    /// Configured addresses, ascending, without overlap.
    pub ranges: Vec<TimedRange>,
}

impl Configuration {
    /// The configured range an address is in.
    pub fn range_of(&self, address: u32) -> Option<&TimedRange> {
        let after = self
            .ranges
            .partition_point(|range| range.last.to_bits() < address);
        let range = self.ranges.get(after)?;
        (range.first.to_bits() <= address).then_some(range)
    }

    /// Whether the address of a binding belongs to the configured addresses: in a configured
    /// subnet, a pool, or reserved.
    pub fn has(&self, binding: BindingRef<'_>) -> bool {
        let subnet = self.network.subnet(binding.subnet);
        subnet.is_some_and(|subnet| subnet.prefix.contains(&binding.address))
            || self.range_of(binding.address.to_bits()).is_some()
    }

    /// What the bindings of a subnet with this lifetime have in common.
    pub fn terms(&self, subnet: SubnetId, lifetime: Lifetime) -> Terms<'_> {
        Terms {
            subnet,
            lifetime,
            vpn: self.network.vpn(subnet),
            tee_times: self.network.tee_times(subnet, lifetime),
        }
    }

    /// The state of a binding, and since when, as it is at `now`. An address that is free is so since
    /// it was given up, or since it was configured or came over from another server if that was
    /// later.
    pub fn state(&self, binding: &BindingRef<'_>, now: Time) -> (State, Time) {
        match binding.at(now) {
            (State::Available, since) => match self.range_of(binding.address.to_bits()) {
                Some(range) => {
                    let (state, configured) = range.free();
                    (state, since.max(configured))
                }
                None => (State::Available, since),
            },
            state => state,
        }
    }
}
