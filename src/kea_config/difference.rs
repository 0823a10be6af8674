//! Which leases a requester sees otherwise once Kea's configuration is another one.
//!
//! Replies carry what Kea sends with a lease: options of several scopes, T1 and T2. A configuration
//! that changes any of these for a lease changes the lease, as far as a requester can see. Digests
//! make that cheap to find out: most configurations differ in few subnets.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use proto::option::code;

use crate::kea_config::{KeaConfig, Scopes, Subnet};
use crate::model::binding::BindingRef;
use crate::model::time::Lifetime;

/// A digest of a value, the same in every process of one build.
pub fn digest(value: &impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    value.hash(&mut digest);
    digest.finish()
}

/// Two configurations, compared by what replies about leases take from them.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a> {
    /// The one before.
    before: &'a KeaConfig,
    /// The one after.
    after: &'a KeaConfig,
    /// Whether both are alike outside of subnets.
    is_common_alike: bool,
}

impl<'a> Difference<'a> {
    /// Compares two configurations. Whether reservations count is said by `with_hosts`.
    pub fn between(
        before: &'a KeaConfig,
        after: &'a KeaConfig,
        with_hosts: bool,
    ) -> Difference<'a> {
        let are_hosts_alike = !with_hosts || before.hosts_digest == after.hosts_digest;
        Difference {
            before,
            after,
            is_common_alike: before.common_digest == after.common_digest && are_hosts_alike,
        }
    }

    /// Whether both configurations are alike outside of subnets.
    pub fn is_common_alike(&self) -> bool {
        self.is_common_alike
    }

    /// Whether replies about a lease may carry other options or times than before.
    pub fn is_in(&self, binding: BindingRef<'_>) -> bool {
        let subnet_of =
            |kea_config: &'a KeaConfig| kea_config.subnet_of(binding.address, binding.subnet);
        let digest = |subnet: Option<&Subnet>| subnet.map(|subnet| subnet.digest);
        let are_subnets_alike = digest(subnet_of(self.before)) == digest(subnet_of(self.after));
        if are_subnets_alike && self.is_common_alike {
            return false;
        }
        let (before, after) = (self.before.scopes(binding), self.after.scopes(binding));
        !before.reply_alike(&after, binding.lifetime)
    }
}

impl KeaConfig {
    /// A digest of what replies about leases take from the configuration outside of subnets and
    /// reservations.
    pub fn common_digest(&self) -> u64 {
        self.common_digest
    }

    /// A digest of what replies about leases take from reservations.
    pub fn hosts_digest(&self) -> u64 {
        self.hosts_digest
    }

    /// Makes all digests; the rest of the configuration is complete.
    pub(super) fn make_digests(&mut self) {
        let of_subnets: Vec<u64> = self
            .subnets
            .iter()
            .map(|subnet| self.of_subnet(subnet))
            .collect();
        for (subnet, digest) in self.subnets.iter_mut().zip(of_subnets) {
            subnet.digest = digest;
        }
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_unstable_by_key(|(name, _)| *name);
        self.common_digest = digest(&(&self.global, classes));
        self.hosts_digest = self.hosts.digest();
    }

    /// A digest of what replies about leases take from a subnet and its shared network.
    fn of_subnet(&self, subnet: &Subnet) -> u64 {
        let mut digest = DefaultHasher::new();
        (subnet.prefix, &subnet.options).hash(&mut digest);
        subnet.timers.digest(&mut digest);
        let shared_network = subnet.shared_network;
        let around = shared_network.and_then(|place| self.shared_networks.get(place));
        around.hash(&mut digest);
        for pool in subnet.pools.iter().filter(|pool| !pool.options.is_empty()) {
            (pool.first, pool.last, &pool.options).hash(&mut digest);
        }
        (subnet.reservations_global, subnet.reservations_in_subnet).hash(&mut digest);
        digest.finish()
    }
}

impl Scopes<'_> {
    /// Whether the reply about a lease of this lifetime takes the same from both.
    fn reply_alike(&self, other: &Scopes<'_>, lifetime: Lifetime) -> bool {
        let tee_times =
            |scopes: &Scopes<'_>| scopes.subnet.map(|subnet| subnet.tee_times(lifetime));
        let mut codes = BTreeSet::from([code::SUBNET_MASK, code::HOST_NAME]);
        for set in self.sets.iter().chain(&other.sets) {
            codes.extend(set.codes());
        }
        let is_alike = |option: &u8| self.option(*option) == other.option(*option);
        tee_times(self) == tee_times(other) && codes.iter().all(is_alike)
    }
}
