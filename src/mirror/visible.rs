//! The parts of a binding that requesters see: differences after an event, or under another Kea configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kea_config::{Difference, KeaConfig};
use crate::mirror::former_subnets::FormerSubnets;
use crate::mirror::pages::Pages;
use crate::mirror::saved_view::{CommonDigests, ConfiguredSubnet, FormerSubnet, SavedView};
use crate::mirror::view::{FORMER_SUBNETS, View, named_vpn};
use crate::model::binding::{Binding, BindingRef, SubnetId};
use crate::model::client::are_visibly_equal;
use crate::model::state::State;
use crate::model::time::Time;
use crate::model::vpn::Vpn;

//--- Bindings

/// Whether a requester sees a difference at `now` between two bindings of an address, under one configuration.
pub fn differ(before: BindingRef<'_>, after: BindingRef<'_>, now: Time) -> bool {
    let (state, since) = after.at(now);
    if before.at(now) != (state, since)
        || before.is_remote(now) != after.is_remote(now)
        || before.subnet != after.subnet
    {
        return true;
    }
    if state.is_free() {
        return false;
    }
    // Remaining lifetime, T1 and T2.
    let times = |binding: BindingRef<'_>| {
        let times = (
            binding.lease_start,
            binding.lifetime,
            binding.reserved_until,
        );
        state.is_leased().then_some(times)
    };
    // Clients last: their comparison takes the longest, and most changes are of times.
    before.last_transaction != after.last_transaction
        || times(before) != times(after)
        || !are_visibly_equal(before.client, after.client)
}

/// Returns [`Binding::learned_at`] of a binding after an update at `now`: `now` if requesters see a
/// difference, unless a time in their replies is as late. Returns also whether they see one.
pub fn learned_at(
    view: &View,
    before: Option<BindingRef<'_>>,
    after: BindingRef<'_>,
    now: Time,
) -> (Option<Time>, bool) {
    if let Some(before) = before.filter(|before| !differ(*before, after, now)) {
        return (before.learned_at, false);
    }
    let (state, since) = view.state(&after, now);
    let last_transaction = after.last_transaction.filter(|_| !state.is_free());
    let latest = last_transaction.max(Some(since));
    ((latest < Some(now)).then_some(now), true)
}

/// Whether a renewal is the only change of a binding. The state file does not store renewals, because Kea's lease
/// database has them. A transaction that Kea's lease database lacks does not count as a renewal.
pub fn is_renewal(before: BindingRef<'_>, after: BindingRef<'_>) -> bool {
    let renewed = Binding {
        last_transaction: after.last_transaction,
        lease_start: after.lease_start,
        lifetime: after.lifetime,
        learned_at: after.learned_at,
        ..before
    };
    // The clock may enter the next second while Kea processes a message. If the mirror learned of the renewal
    // even later, `learned_at` must be in the state file to survive a restart.
    let in_time = after.last_transaction.map(|last| last.plus(1));
    after.state == State::Active
        && before.last_transaction < after.last_transaction
        && after.last_transaction == Some(after.lease_start)
        && after.learned_at <= in_time
        && renewed == after
}

//--- Configurations

/// A binding whose replies differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedBinding {
    /// The address.
    pub address: u32,
    /// The VPN before, if it is another one than now.
    pub left: Option<Arc<Vpn>>,
}

/// The changes that a new configuration makes.
#[derive(Debug, Default)]
pub struct Changed {
    /// The bindings whose replies differ.
    pub bindings: Vec<ChangedBinding>,
    /// The indexes of former subnets that still have bindings.
    pub former_subnets: BTreeSet<usize>,
}

/// Returns the changes between two views, of which `after` is in force since `at`. `with_hosts` includes
/// host reservations.
pub fn changed(
    bindings: &Pages,
    before: &View,
    after: &View,
    with_hosts: bool,
    at: Time,
) -> Changed {
    let difference = Difference::between(&before.kea_config, &after.kea_config, with_hosts);
    let mut is_unchanged = unchanged_subnets(&before.kea_config, &after.kea_config, &difference);
    let mut changed = Changed::default();
    let mut left_vpns = Shared::default();
    for binding in bindings.iter() {
        let (state, _) = binding.at(at);
        if state.is_leased() && is_unchanged(&binding) {
            continue;
        }
        let (address, id) = (binding.address, binding.subnet);
        if after.kea_config.subnet_of(address, id).is_none() {
            let former = after.former_subnets.index_of(address, id);
            changed.former_subnets.extend(former);
        }
        let vpns = (
            before.vpn_of(&binding, state),
            after.vpn_of(&binding, state),
        );
        let is_other_vpn = vpns.0 != vpns.1;
        if is_other_vpn
            || before.lists(binding, at) != after.lists(binding, at)
            // Another server may assign an available address.
            || state == State::Available && before.state(&binding, at) != after.state(&binding, at)
            // Only replies for active bindings carry configured options and times.
            || state == State::Active && difference.affects(binding)
        {
            let left = vpns.0.filter(|_| is_other_vpn);
            changed.bindings.push(ChangedBinding {
                address: address.to_bits(),
                left: left.map(|vpn| left_vpns.share(&vpn)),
            });
        }
    }
    changed
}

/// Copies of VPNs, of which consecutive equal ones are shared.
#[derive(Default)]
struct Shared(Option<Arc<Vpn>>);

impl Shared {
    /// Returns a copy of a VPN.
    fn share(&mut self, vpn: &Vpn) -> Arc<Vpn> {
        let last = self.0.take().filter(|last| **last == *vpn);
        let shared = last.unwrap_or_else(|| Arc::new(vpn.clone()));
        Arc::clone(self.0.insert(shared))
    }
}

/// Returns the bindings whose replies differ, after a restart at `now`, from those by the saved
/// view of `before`.
pub fn changed_since(
    bindings: &Pages,
    before: &SavedView,
    after: &View,
    now: Time,
) -> Vec<ChangedBinding> {
    let kea_config = &after.kea_config;
    // Reservations in databases are read, and compared, later.
    let digests_match = |then: CommonDigests| {
        then.common == kea_config.common_digest
            && (kea_config.has_host_database || then.hosts == kea_config.hosts_digest)
    };
    let is_common_equal = before.digests.is_none_or(digests_match);
    let mut left_vpns = Shared::default();
    let former_subnets = FormerSubnets::from(before.former_subnets.clone());
    let former_vpn = |address, id| {
        let former = former_subnets.get(former_subnets.index_of(address, id)?)?;
        Some(&former.vpn)
    };
    let changed = |binding: BindingRef<'_>| {
        let (address, id) = (binding.address, binding.subnet);
        let (state, _) = binding.at(now);
        let then = before.subnet_of(address, id);
        let was_listed = state.is_leased() && then.is_some() || before.has_in_range(address);
        let views = then.and_then(|then| then.view.as_ref());
        let vpn_before = match then {
            Some(_) => views.map(|then| &then.vpn),
            None => former_vpn(address, id),
        };
        let left = vpn_before.filter(|before| {
            named_vpn(&binding, state).is_none() && after.vpn(address, id) != Some(*before)
        });
        let views = views.zip(kea_config.subnet_of(address, id));
        // Only replies for active bindings carry configured options and times.
        let is_other_reply = state == State::Active
            && (!is_common_equal || views.is_some_and(|(then, now)| then.digest != now.digest));
        let is_changed =
            left.is_some() || was_listed != after.lists(binding, now) || is_other_reply;
        is_changed.then(|| ChangedBinding {
            address: address.to_bits(),
            left: left.map(|before| left_vpns.share(before)),
        })
    };
    bindings.iter().filter_map(changed).collect()
}

/// Returns a test whether a binding belongs to a subnet for whose leases two configurations with this difference
/// have equal replies. `false` may be wrong.
fn unchanged_subnets<'a>(
    before: &'a KeaConfig,
    after: &'a KeaConfig,
    difference: &Difference<'_>,
) -> impl FnMut(&BindingRef<'_>) -> bool + use<'a> {
    let is_common_equal = difference.is_common_equal;
    let prefix = move |id| {
        let (before, after) = before.subnet(id).zip(after.subnet(id))?;
        let is_unchanged = is_common_equal
            && before.prefix == after.prefix
            && before.vpn == after.vpn
            && before.digest == after.digest;
        is_unchanged.then_some(after.prefix)
    };
    // The last subnet id and its prefix, if unchanged: consecutive bindings are mostly of one subnet.
    let mut last: Option<(SubnetId, _)> = None;
    move |binding| {
        let id = binding.subnet;
        let (_, prefix) = *match &mut last {
            Some(last) if last.0 == id => last,
            last => last.insert((id, prefix(id))),
        };
        prefix.is_some_and(|prefix| prefix.contains(&binding.address))
    }
}

//--- Former subnets

/// Returns the former subnets under `kea_config`: the `known` ones, and those of `before` that `kea_config`
/// lacks or has with another prefix. Only the last [`FORMER_SUBNETS`] are kept.
pub fn former_subnets(
    known: &[FormerSubnet],
    before: impl Iterator<Item = FormerSubnet>,
    kea_config: &KeaConfig,
) -> Vec<FormerSubnet> {
    let is_gone = |former: &FormerSubnet| {
        let same = kea_config.subnet(former.id);
        same.is_none_or(|same| {
            (same.prefix.network(), same.prefix.broadcast()) != (former.first, former.last)
        })
    };
    let mut gone: Vec<FormerSubnet> = before.filter(is_gone).collect();
    let key = |subnet: &FormerSubnet| (subnet.id, subnet.first, subnet.last);
    let anew: BTreeSet<_> = gone.iter().map(key).collect();
    let known = known.iter().filter(|old| !anew.contains(&key(old)));
    let mut all: Vec<FormerSubnet> = known.cloned().collect();
    all.append(&mut gone);
    let excess = all.len().saturating_sub(FORMER_SUBNETS);
    all.drain(..excess);
    all
}

/// Returns the subnets of a configuration in the form of former subnets.
pub fn subnets_of(kea_config: &KeaConfig) -> impl Iterator<Item = FormerSubnet> {
    kea_config.subnets.iter().map(|subnet| FormerSubnet {
        id: subnet.id,
        first: subnet.prefix.network(),
        last: subnet.prefix.broadcast(),
        vpn: subnet.vpn.clone(),
    })
}

/// Returns the subnets of a saved view in the form of former subnets, except those with unknown VPNs.
pub fn subnets_before(saved_view: &SavedView) -> impl Iterator<Item = FormerSubnet> {
    let subnets = saved_view.subnets.iter();
    subnets.filter_map(|subnet: &ConfiguredSubnet| {
        Some(FormerSubnet {
            id: subnet.id,
            first: subnet.first,
            last: subnet.last,
            vpn: subnet.view.as_ref()?.vpn.clone(),
        })
    })
}
