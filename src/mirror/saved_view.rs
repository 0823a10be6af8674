//! The view in the form in which the state file stores it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::mirror::ranges::TimedRange;
use crate::model::binding::SubnetId;
use crate::model::vpn::Vpn;

/// A configured subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredSubnet {
    /// The subnet id.
    pub id: SubnetId,
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
    /// The properties of the subnet that replies depend on.
    pub view: Option<SubnetView>,
}

/// The properties of a subnet that replies about its leases depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetView {
    /// The VPN.
    pub vpn: Vpn,
    /// A digest of its options and times: see [`Subnet::digest`](crate::kea_config::Subnet::digest).
    pub digest: u64,
}

/// A subnet that is no longer configured and may still have bindings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerSubnet {
    /// The former subnet id.
    pub id: SubnetId,
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
    /// The former VPN.
    pub vpn: Vpn,
}

/// Digests of the parts of the configuration outside of subnets that replies depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonDigests {
    /// The digest of the global scope and client classes.
    pub common: u64,
    /// The digest of reservations, including those in databases.
    pub hosts: u64,
}

/// The view in the form in which the state file stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedView {
    /// Pools and reservations, ascending, without overlap.
    pub ranges: Vec<TimedRange>,
    /// Subnets, ascending by id. Their leased addresses count as configured.
    pub subnets: Vec<ConfiguredSubnet>,
    /// Former subnets, the latest last.
    pub former_subnets: Vec<FormerSubnet>,
    /// Digests of the other parts that replies depend on; `None` in a new state file.
    pub digests: Option<CommonDigests>,
}

impl SavedView {
    /// Whether an address is in a pool or reserved.
    pub fn has_in_range(&self, address: Ipv4Addr) -> bool {
        let after = self.ranges.partition_point(|range| range.last < address);
        let range = self.ranges.get(after);
        range.is_some_and(|range| range.first <= address)
    }

    /// Returns the subnet of an address that was leased from the subnet `id`: see
    /// [`KeaConfig::subnet_of`](crate::kea_config::KeaConfig::subnet_of).
    pub fn subnet_of(&self, address: Ipv4Addr, id: SubnetId) -> Option<&ConfiguredSubnet> {
        let contains = |subnet: &&ConfiguredSubnet| (subnet.first..=subnet.last).contains(&address);
        let place = self.subnets.binary_search_by_key(&id, |known| known.id);
        let named = place.ok().and_then(|place| self.subnets.get(place));
        named.filter(contains).or_else(|| {
            let holding = self.subnets.iter().filter(contains);
            holding.min_by_key(|subnet| subnet.last.to_bits() - subnet.first.to_bits())
        })
    }
}
