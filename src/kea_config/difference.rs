//! The leases whose replies differ between two of Kea's configurations.
//!
//! Replies contain the options and times that Kea sends with a lease: options of several scopes, T1
//! and T2. A configuration that changes any of these changes the lease for a requester. Digests
//! make the comparison cheap: most configurations differ in few subnets.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use proto::option::code;

use crate::kea_config::config::{KeaConfig, Scopes, Subnet};
use crate::kea_config::digest::digest;
use crate::model::binding::BindingRef;
use crate::model::time::Lifetime;

/// The difference between two configurations, restricted to the parts that affect replies about
/// leases.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a> {
    /// The configuration before.
    before: &'a KeaConfig,
    /// The configuration after.
    after: &'a KeaConfig,
    /// Whether both are equal outside of subnets.
    pub is_common_equal: bool,
}

impl<'a> Difference<'a> {
    /// Compares two configurations; `with_hosts` includes host reservations.
    pub fn between(
        before: &'a KeaConfig,
        after: &'a KeaConfig,
        with_hosts: bool,
    ) -> Difference<'a> {
        let are_hosts_equal = !with_hosts || before.hosts_digest == after.hosts_digest;
        Difference {
            before,
            after,
            is_common_equal: before.common_digest == after.common_digest && are_hosts_equal,
        }
    }

    /// Whether replies about a lease may have other options or times than before.
    pub fn affects(&self, binding: BindingRef<'_>) -> bool {
        let subnet_of =
            |kea_config: &'a KeaConfig| kea_config.subnet_of(binding.address, binding.subnet);
        let digest = |subnet: Option<&Subnet>| subnet.map(|subnet| subnet.digest);
        let are_subnets_equal = digest(subnet_of(self.before)) == digest(subnet_of(self.after));
        if are_subnets_equal && self.is_common_equal {
            return false;
        }
        let (before, after) = (self.before.scopes(binding), self.after.scopes(binding));
        let is_sent_by_client = |code| {
            binding
                .client
                .and_then(|client| client.option(code))
                .is_some_and(|value| !value.is_empty())
        };
        !before.has_equal_reply(&after, binding.lifetime, is_sent_by_client)
    }
}

impl KeaConfig {
    /// Computes all digests. The rest of the configuration must be complete.
    pub(super) fn compute_digests(&mut self) {
        let subnet_digests: Vec<u64> = self
            .subnets
            .iter()
            .map(|subnet| self.subnet_digest(subnet))
            .collect();
        for (subnet, digest) in self.subnets.iter_mut().zip(subnet_digests) {
            subnet.digest = digest;
        }
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_unstable_by_key(|(name, _)| *name);
        self.common_digest = digest(&(&self.global, classes));
        self.hosts_digest = self.hosts.digest();
    }

    /// Returns a digest of the values in a subnet and its shared network that replies use.
    fn subnet_digest(&self, subnet: &Subnet) -> u64 {
        let mut digest = DefaultHasher::new();
        (subnet.prefix, &subnet.options).hash(&mut digest);
        subnet.timers.digest(&mut digest);
        let shared_network = subnet.shared_network;
        let outer = shared_network.and_then(|index| self.shared_networks.get(index));
        outer.hash(&mut digest);
        for pool in subnet.pools.iter().filter(|pool| !pool.options.is_empty()) {
            (pool.first, pool.last, &pool.options).hash(&mut digest);
        }
        (subnet.reservations_global, subnet.reservations_in_subnet).hash(&mut digest);
        digest.finish()
    }
}

impl Scopes<'_> {
    /// Whether the replies about a lease with this lifetime are equal with both. An option that the
    /// client sent has precedence over a configured one.
    fn has_equal_reply(
        &self,
        other: &Scopes<'_>,
        lifetime: Lifetime,
        is_sent_by_client: impl Fn(u8) -> bool,
    ) -> bool {
        let tee_times = |scopes: &Scopes<'_>| {
            scopes
                .subnet
                .map(|subnet| subnet.timers.tee_times(lifetime))
        };
        let mut codes = BTreeSet::from([code::SUBNET_MASK, code::HOST_NAME]);
        for set in self.sets.iter().chain(&other.sets) {
            codes.extend(set.codes());
        }
        let is_equal = |option: &u8| {
            self.option(*option) == other.option(*option) || is_sent_by_client(*option)
        };
        tee_times(self) == tee_times(other) && codes.iter().all(is_equal)
    }
}
