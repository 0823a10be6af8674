//! The view: the configuration as queries see it, and the properties that a binding gets from it.

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

/// The maximum number of former subnets. The VPN of a binding in an older one is unknown, and no query
/// returns it.
pub const FORMER_SUBNETS: usize = 65_536;

/// The number of lifetimes whose T1 and T2 are kept. The leases of a subnet mostly have one or a few lifetimes, by
/// client class or pool.
const LIFETIMES: usize = 4;

/// The properties shared by bindings of one subnet. Consecutive bindings mostly share them, so one look-up serves
/// many.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The id of the subnet that Kea leased the addresses from.
    subnet: SubnetId,
    /// The first and the last address with these properties.
    span: (Ipv4Addr, Ipv4Addr),
    /// The VPN of the configured or former subnet that contains the addresses; `None` without one.
    pub subnet_vpn: Option<&'a Vpn>,
    /// Some lifetimes, with T1 and T2: seconds from the start of the lease.
    lifetimes: [(Lifetime, TeeTimes); LIFETIMES],
    /// The index of the oldest of these.
    next: usize,
    /// The configured subnet that contains the addresses.
    configured_subnet: Option<&'a Subnet>,
}

impl<'a> Terms<'a> {
    /// Returns T1 and T2 of a binding's client: seconds from [`BindingRef::answered`].
    ///
    /// If Kea confirms a lease without an update, it sends the client the rest of the lifetime, and T1 and
    /// T2 computed from that rest.
    #[inline]
    pub fn tee_times(&self, binding: &BindingRef<'_>) -> TeeTimes {
        let passed = binding.answered().seconds_since(binding.lease_start);
        let lifetime = binding.lifetime;
        if passed > 0 && lifetime != Lifetime::INFINITE {
            let rest = Lifetime(lifetime.0.saturating_sub(passed));
            return tee_times(self.configured_subnet, rest);
        }
        // Without a branch for each: lifetimes in no order would be mispredicted.
        let known = self.lifetimes.iter().fold(None, |found, known| {
            let is_known = known.0 == lifetime;
            if is_known { Some(&known.1) } else { found }
        });
        match known {
            Some(tee_times) => *tee_times,
            None => tee_times(self.configured_subnet, lifetime),
        }
    }

    /// Whether a binding has these properties.
    #[inline]
    pub fn are_those_of(&self, binding: &BindingRef<'_>) -> bool {
        self.subnet == binding.subnet
            && self.span.0 <= binding.address
            && binding.address <= self.span.1
    }

    /// Whether T1 and T2 of a lifetime are kept.
    #[inline]
    pub fn have(&self, lifetime: Lifetime) -> bool {
        let is_known = |found, known: &(Lifetime, TeeTimes)| found | (known.0 == lifetime);
        self.lifetimes.iter().fold(false, is_known)
    }

    /// Keeps T1 and T2 of a lifetime, in place of the oldest ones.
    pub fn add(&mut self, lifetime: Lifetime) {
        self.lifetimes[self.next] = (lifetime, tee_times(self.configured_subnet, lifetime));
        self.next = (self.next + 1) % LIFETIMES;
    }
}

/// Returns T1 and T2 of a lease from a subnet: seconds from its start. Neither outside of any subnet.
fn tee_times(subnet: Option<&Subnet>, lifetime: Lifetime) -> TeeTimes {
    subnet.map_or_else(TeeTimes::default, |subnet| {
        subnet.timers.tee_times(lifetime)
    })
}

/// Returns the VPN that the relay agent of a binding in `state` named. A free address has no relay agent, even if
/// Kea has not reclaimed its lease.
pub fn named_vpn<'a>(binding: &BindingRef<'_>, state: State) -> Option<Cow<'a, Vpn>> {
    let client = binding.client.filter(|_| !state.is_free());
    client.and_then(ClientRef::vpn).map(Cow::Owned)
}

/// Kea's configuration, and the configured ranges with their times. A view is immutable: queries read a
/// snapshot of it.
#[derive(Clone, Debug)]
pub struct View {
    /// Kea's configuration.
    pub kea_config: Arc<KeaConfig>,
    /// The ranges of pools and reservations, ascending, without overlap.
    pub ranges: Vec<TimedRange>,
    /// Former subnets, the latest last, at most [`FORMER_SUBNETS`]. They determine the VPNs of their remaining
    /// bindings.
    pub former_subnets: FormerSubnets,
}

impl View {
    /// Returns the configured range that contains an address.
    pub fn range_of(&self, address: u32) -> Option<&TimedRange> {
        self.ranges.get(self.index_of_range(address)?)
    }

    /// Returns the index of the configured range that contains an address.
    pub fn index_of_range(&self, address: u32) -> Option<usize> {
        let after = self
            .ranges
            .partition_point(|range| range.last.to_bits() < address);
        let range = self.ranges.get(after)?;
        (range.first.to_bits() <= address).then_some(after)
    }

    /// Whether the address of a binding is configured: in a subnet or pool, or reserved.
    pub fn has(&self, binding: BindingRef<'_>) -> bool {
        self.kea_config
            .subnet_of(binding.address, binding.subnet)
            .is_some()
            || self.range_of(binding.address.to_bits()).is_some()
    }

    /// Whether a query for all configured addresses at `now` covers the address of a binding. Addresses
    /// outside of pools and reservations are covered while they are leased.
    pub fn lists(&self, binding: BindingRef<'_>, now: Time) -> bool {
        match binding.at(now).0.is_leased() {
            true => self.has(binding),
            false => self.range_of(binding.address.to_bits()).is_some(),
        }
    }

    /// Returns the VPN of the configured or former subnet of an address that was leased from the subnet
    /// `id`; `None` if no subnet contains the address.
    pub fn vpn(&self, address: Ipv4Addr, id: SubnetId) -> Option<&Vpn> {
        if let Some(subnet) = self.kea_config.subnet_of(address, id) {
            return Some(&subnet.vpn);
        }
        let former = self.former_subnets.index_of(address, id)?;
        let former = self.former_subnets.get(former)?;
        Some(&former.vpn)
    }

    /// Returns the VPN of all addresses of a span that were leased from the subnet `id`, if relay agents named none;
    /// `None` if this is not known.
    pub fn vpn_of_span(&self, first: Ipv4Addr, last: Ipv4Addr, id: SubnetId) -> Option<&Vpn> {
        let subnet = self.kea_config.subnet(id)?;
        let has = |address: &Ipv4Addr| subnet.prefix.contains(address);
        (has(&first) && has(&last)).then_some(&subnet.vpn)
    }

    /// Returns the VPN of a binding in `state`: the one that its relay agent named, else that of its subnet.
    /// `None` if it is unknown.
    pub fn vpn_of(&self, binding: &BindingRef<'_>, state: State) -> Option<Cow<'_, Vpn>> {
        let of_subnet = || self.vpn(binding.address, binding.subnet).map(Cow::Borrowed);
        named_vpn(binding, state).or_else(of_subnet)
    }

    /// Returns the VPN of the binding `before` an update at `now`, if it is in another one `after` it. A binding whose
    /// state has ended counts as one that has not: the end was no update.
    pub fn vpn_left(
        &self,
        before: &BindingRef<'_>,
        after: &BindingRef<'_>,
        now: Time,
    ) -> Option<Cow<'_, Vpn>> {
        let names_vpn = |binding: &BindingRef<'_>| binding.client.is_some_and(ClientRef::names_vpn);
        if before.subnet == after.subnet && !names_vpn(before) && !names_vpn(after) {
            return None;
        }
        let vpn = self.vpn_of(before, before.state);
        let is_other = vpn != self.vpn_of(after, after.at(now).0);
        vpn.filter(|_| is_other)
    }

    /// Returns the properties that a binding shares with others of its subnet.
    pub fn terms(&self, binding: &BindingRef<'_>) -> Terms<'_> {
        let (address, id, lifetime) = (binding.address, binding.subnet, binding.lifetime);
        let named = self.kea_config.subnet(id);
        let span = match named.filter(|subnet| subnet.prefix.contains(&address)) {
            Some(subnet) => (subnet.prefix.network(), subnet.prefix.broadcast()),
            // No subnet has this id, or that subnet does not contain the address. Neighbouring addresses may
            // be in other subnets.
            None => (address, address),
        };
        let configured_subnet = self.kea_config.subnet_of(address, id);
        Terms {
            subnet: id,
            span,
            subnet_vpn: self.vpn(address, id),
            lifetimes: [(lifetime, tee_times(configured_subnet, lifetime)); LIFETIMES],
            next: 1,
            configured_subnet,
        }
    }

    /// Returns the state of a binding at `now` and the start of that state. For a free address, the start
    /// is the time at which it became free or, if later, [`TimedRange::since`].
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
