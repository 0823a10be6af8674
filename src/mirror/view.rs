//! What is configured, and what becomes of a binding by it.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kea_config::{KeaConfig, Subnet, TeeTimes};
use crate::mirror::former_subnets::FormerSubnets;
use crate::mirror::ranges::TimedRange;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::model::vpn::Vpn;

/// The most subnets that are remembered after they were removed from the configuration. Bindings of
/// more are in no VPN that is known, and answer no query.
pub const FORMER_SUBNETS: usize = 65_536;

/// What bindings of one subnet with the same lifetime have in common. Most that come one after the
/// other do, so it is looked up for many at once.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The number of the subnet that Kea leased them from.
    subnet: SubnetId,
    /// The first and the last address of which all this holds.
    span: (Ipv4Addr, Ipv4Addr),
    /// The lifetime.
    lifetime: Lifetime,
    /// The VPN of the subnet they belong to; `None` if no subnet contains them, and none is known to
    /// have done so.
    vpn: Option<&'a Vpn>,
    /// When their clients renew and rebind: seconds from the start of their leases.
    tee_times: TeeTimes,
    /// The subnet they belong to, if it is configured.
    belong_to: Option<&'a Subnet>,
}

impl<'a> Terms<'a> {
    /// When the client of a binding renews and rebinds: seconds from [`BindingRef::answered`].
    ///
    /// Where Kea acknowledges a lease again and leaves it as it is, it sends the client what is left
    /// of the lifetime, and times that suit it.
    #[inline]
    pub fn tee_times(&self, binding: &BindingRef<'_>) -> TeeTimes {
        let passed = binding.answered().seconds_since(binding.lease_start);
        match self.belong_to {
            Some(subnet) if passed > 0 && self.lifetime != Lifetime::INFINITE => {
                subnet.tee_times(Lifetime(self.lifetime.0.saturating_sub(passed)))
            }
            _ => self.tee_times,
        }
    }

    /// Returns T1 and T2 for a client answered last when its lease began.
    pub fn tee_times_of_lease(&self) -> TeeTimes {
        self.tee_times
    }

    /// Whether a binding has these.
    pub fn are_those_of(&self, binding: &BindingRef<'_>) -> bool {
        self.subnet == binding.subnet
            && self.lifetime == binding.lifetime
            && self.contain(binding.address)
    }

    /// Whether they hold for a binding of this address, if it has the subnet number and lifetime.
    #[inline]
    fn contain(&self, address: Ipv4Addr) -> bool {
        self.span.0 <= address && address <= self.span.1
    }

    /// The first and the last address of which all this holds.
    pub fn span(&self) -> (Ipv4Addr, Ipv4Addr) {
        self.span
    }

    /// The VPN a binding in `state` belongs to: the one its relay agent named, else its subnet's. A
    /// free address is no relay agent's, even if Kea has not got round to it. `None` if it is not
    /// known.
    pub fn vpn(&self, binding: &BindingRef<'_>, state: State) -> Option<Cow<'a, Vpn>> {
        let is_free = matches!(state, State::Available | State::Remote);
        let client = binding.client.filter(|_| !is_free);
        let named = client.and_then(ClientRef::vpn);
        named.map(Cow::Owned).or(self.vpn.map(Cow::Borrowed))
    }
}

/// Kea's configuration and the configured addresses with their times: it stays as it is while
/// queries read it.
#[derive(Clone, Debug)]
pub struct View {
    /// Kea's configuration.
    pub kea_config: Arc<KeaConfig>,
    /// Configured addresses, ascending, without overlap.
    pub ranges: Vec<TimedRange>,
    /// Subnets that are not configured any more, the latest last: their bindings keep their VPNs.
    /// At most [`FORMER_SUBNETS`].
    pub former_subnets: FormerSubnets,
}

impl View {
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
        self.kea_config
            .subnet_of(binding.address, binding.subnet)
            .is_some()
            || self.range_of(binding.address.to_bits()).is_some()
    }

    /// Whether the address of a binding is among all configured addresses at `now`: those outside of
    /// pools and reservations are while they are leased.
    pub fn lists(&self, binding: BindingRef<'_>, now: Time) -> bool {
        match binding.at(now).0.is_leased() {
            true => self.has(binding),
            false => self.range_of(binding.address.to_bits()).is_some(),
        }
    }

    /// The place of the former subnet that an address belongs to, leased from the subnet with the
    /// number `id`.
    pub fn former_subnet_of(&self, address: Ipv4Addr, id: SubnetId) -> Option<usize> {
        self.former_subnets.place_of(address, id)
    }

    /// The VPN of the subnet that an address belongs to, leased from the subnet with the number
    /// `id`; `None` if no subnet contains it, and none is known to have done so.
    pub fn vpn(&self, address: Ipv4Addr, id: SubnetId) -> Option<&Vpn> {
        if let Some(subnet) = self.kea_config.subnet_of(address, id) {
            return Some(&subnet.vpn);
        }
        let former = self
            .former_subnets
            .get(self.former_subnet_of(address, id)?)?;
        Some(&former.vpn)
    }

    /// What a binding has in common with others of its subnet and lifetime.
    pub fn terms(&self, binding: &BindingRef<'_>) -> Terms<'_> {
        let (address, id, lifetime) = (binding.address, binding.subnet, binding.lifetime);
        let named = self.kea_config.subnet(id);
        let span = match named.filter(|subnet| subnet.prefix.contains(&address)) {
            Some(subnet) => (subnet.prefix.network(), subnet.prefix.broadcast()),
            // The number contradicts the address, or is nobody's: others may belong elsewhere.
            None => (address, address),
        };
        let subnet = self.kea_config.subnet_of(address, id);
        Terms {
            subnet: id,
            span,
            lifetime,
            vpn: self.vpn(address, id),
            tee_times: subnet.map_or_else(TeeTimes::default, |subnet| subnet.tee_times(lifetime)),
            belong_to: subnet,
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
