//! Kea's configuration and its lookups.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use hashbrown::HashMap;
use ipnet::Ipv4Net;
use proto::option::code;

use crate::kea_config::high_availability::{Allocators, HighAvailability};
use crate::kea_config::hosts::{self, Host, Hosts};
use crate::kea_config::lease_query_hook::LeaseQueryHook;
use crate::kea_config::options::{self, OptionSet};
use crate::kea_config::ranges::ConfiguredRange;
use crate::kea_config::times::Timers;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::vpn::Vpn;

/// A subnet.
#[derive(Debug)]
pub struct Subnet {
    /// Kea's subnet id.
    pub id: SubnetId,
    /// The prefix.
    pub prefix: Ipv4Net,
    /// The VPN declared for the subnet or for its shared network.
    pub vpn: Vpn,
    /// Index of its shared network; `None` outside of any.
    pub(super) shared_network: Option<usize>,
    /// The high-availability servers that can lease its free addresses outside of pools.
    pub(super) allocators: Allocators,
    /// The pools, ascending; Kea allows no overlap.
    pub(super) pools: Vec<Pool>,
    /// The options configured for the subnet.
    pub(super) options: OptionSet,
    /// The parameters of T1 and T2.
    pub timers: Timers,
    /// Whether Kea looks for global reservations.
    pub(super) reservations_global: bool,
    /// Whether Kea looks for the subnet's reservations.
    pub(super) reservations_in_subnet: bool,
    /// A digest of the values that replies use from the subnet and its shared network: see
    /// [`Difference`](crate::kea_config::Difference).
    pub digest: u64,
}

impl Subnet {
    /// Returns the pool that contains `address`.
    pub(super) fn pool(&self, address: Ipv4Addr) -> Option<&Pool> {
        let after = self.pools.partition_point(|pool| pool.first <= address);
        let pool = self.pools.get(after.checked_sub(1)?)?;
        (address <= pool.last).then_some(pool)
    }
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// The first address.
    pub(super) first: Ipv4Addr,
    /// The last address, `first <= last`.
    pub(super) last: Ipv4Addr,
    /// The high-availability servers that can lease its free addresses.
    pub(super) allocators: Allocators,
    /// The options configured for the pool.
    pub(super) options: OptionSet,
}

/// Kea's configuration, restricted to the parts that affect leases.
#[derive(Debug, Default)]
pub struct KeaConfig {
    /// Subnets outside of shared networks, then those in shared networks.
    pub subnets: Vec<Subnet>,
    /// Indexes in `subnets` by subnet id.
    pub(super) by_id: HashMap<SubnetId, usize>,
    /// Indexes in `subnets` by prefix.
    pub(super) by_prefix: HashMap<Ipv4Net, usize>,
    /// The distinct prefix lengths, descending.
    pub(super) prefix_lengths: Vec<u8>,
    /// Options of shared networks.
    pub(super) shared_networks: Vec<OptionSet>,
    /// Options of client classes, by the class's name.
    pub(super) classes: HashMap<String, OptionSet>,
    /// Global options.
    pub(super) global: OptionSet,
    /// Reservations.
    pub(super) hosts: Hosts,
    /// All configured addresses: pools and reserved addresses, ascending and disjoint. An address in several
    /// subnets belongs to the subnet with the longest prefix, and among equals to the first configured.
    pub ranges: Vec<ConfiguredRange>,
    /// The partners of this server.
    pub high_availability: HighAvailability,
    /// Kea's own lease query hook, if it is loaded.
    pub lease_query_hook: Option<LeaseQueryHook>,
    /// The codes of the options configured in any scope.
    pub(super) configured_options: BTreeSet<u8>,
    /// The server identifiers that are configured for any clients.
    pub(super) server_identifiers: BTreeSet<Ipv4Addr>,
    /// Whether Kea has host reservations in databases too, which its configuration does not contain.
    pub has_host_database: bool,
    /// A digest of the values that replies use from the global scope and from client classes.
    pub common_digest: u64,
    /// A digest of the values that replies use from reservations.
    pub hosts_digest: u64,
}

impl KeaConfig {
    /// Returns the subnet with this id.
    pub fn subnet(&self, id: SubnetId) -> Option<&Subnet> {
        self.subnets.get(*self.by_id.get(&id)?)
    }

    /// Returns the subnet with the longest prefix that contains `address`; of several with this
    /// prefix, the first configured.
    pub fn subnet_holding(&self, address: Ipv4Addr) -> Option<&Subnet> {
        let place = self.prefix_lengths.iter().find_map(|length| {
            let prefix = Ipv4Net::new(address, *length).ok()?.trunc();
            self.by_prefix.get(&prefix)
        })?;
        self.subnets.get(*place)
    }

    /// Iterates over the addresses of some ranges, ascending and disjoint, that are in no pool.
    pub fn outside_of_pools(
        &self,
        ranges: impl Iterator<Item = (Ipv4Addr, Ipv4Addr)>,
    ) -> impl Iterator<Item = Ipv4Addr> {
        let pools = self.subnets.iter().flat_map(|subnet| &subnet.pools);
        let pools = pools.map(|pool| (pool.first.to_bits(), pool.last.to_bits()));
        let mut pools: Vec<(u32, u32)> = pools.collect();
        pools.sort_unstable();
        let mut pools = pools.into_iter().peekable();
        // The first address after all pools passed.
        let mut after_pools = 0;
        ranges.flat_map(move |(first, last)| {
            let last = u64::from(last.to_bits());
            let mut next = u64::from(first.to_bits()).max(after_pools);
            let mut outside = Vec::new();
            while next <= last {
                while let Some(pool) = pools.next_if(|pool| u64::from(pool.0) <= next) {
                    after_pools = after_pools.max(u64::from(pool.1) + 1);
                }
                next = next.max(after_pools);
                let until = pools.peek().map_or(last + 1, |pool| u64::from(pool.0));
                let until = until.min(last + 1);
                // Both are within the range, so they fit 32 bits.
                outside.extend((next..until).map(|address| Ipv4Addr::from_bits(address as u32)));
                next = next.max(until);
            }
            outside
        })
    }

    /// Returns the subnet of an `address` that was leased from the subnet with this `id`. Leases
    /// outlive subnets: if the subnet with the id does not contain the address, the subnet that
    /// contains the address decides; `None` without one.
    pub fn subnet_of(&self, address: Ipv4Addr, id: SubnetId) -> Option<&Subnet> {
        self.subnet(id)
            .filter(|subnet| subnet.prefix.contains(&address))
            .or_else(|| self.subnet_holding(address))
    }

    /// Returns the server identifier configured for all clients.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        let value = options::sent(&[&self.global], code::SERVER_IDENTIFIER, &[])?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
    }

    /// Whether an address is configured as a server identifier anywhere.
    pub fn is_server_identifier(&self, address: Ipv4Addr) -> bool {
        self.server_identifiers.contains(&address)
    }

    /// Whether Kea may send option `code` with a lease that has no host name of its own.
    pub fn may_send(&self, code: u8) -> bool {
        code == code::SUBNET_MASK
            || code == code::HOST_NAME && self.hosts.have_names
            || self.configured_options.contains(&code)
    }

    /// Returns the value of option `code` that Kea sends with the lease of `binding`. For several
    /// options of one binding, [`KeaConfig::scopes`] is cheaper.
    pub fn option<'a>(&'a self, code: u8, binding: BindingRef<'a>) -> Option<Cow<'a, [u8]>> {
        self.scopes(binding).option(code)
    }

    /// Returns the scopes that apply to the lease of `binding`, whose subnet is that of
    /// [`KeaConfig::subnet_of`].
    pub fn scopes<'a>(&'a self, binding: BindingRef<'a>) -> Scopes<'a> {
        let client = binding.client;
        let classes: Vec<&str> = client.into_iter().flat_map(ClientRef::classes).collect();
        let lease_hostname = client.map_or(&[][..], ClientRef::hostname);
        let subnet = self.subnet_of(binding.address, binding.subnet);
        let host = subnet.and_then(|subnet| self.host(subnet, binding));
        let mut sets = Vec::new();
        // Without a subnet Kea sends no configured option.
        if let Some(subnet) = subnet {
            sets.extend(host.map(|host| &host.options));
            sets.extend(subnet.pool(binding.address).map(|pool| &pool.options));
            sets.push(&subnet.options);
            let shared_network = subnet.shared_network;
            sets.extend(shared_network.and_then(|place| self.shared_networks.get(place)));
            sets.extend(classes.iter().filter_map(|class| self.classes.get(*class)));
            sets.push(&self.global);
        }
        Scopes {
            sets,
            classes,
            lease_hostname,
            host,
            subnet,
        }
    }

    /// Returns the reservation that applies to a lease in `subnet`: a reservation in the subnet
    /// precedes a global one.
    fn host(&self, subnet: &Subnet, binding: BindingRef<'_>) -> Option<&Host> {
        let find = |id| self.hosts.find(id, binding);
        let in_subnet = subnet.reservations_in_subnet.then(|| find(subnet.id));
        let global = || subnet.reservations_global.then(|| find(hosts::GLOBAL));
        in_subnet.flatten().or_else(|| global().flatten())
    }
}

/// The parts of the configuration that apply to one lease.
#[derive(Debug)]
pub struct Scopes<'a> {
    /// Options in Kea's order of precedence: reservation, pool, subnet, shared network, the
    /// client's classes in the client's order, global options.
    pub(super) sets: Vec<&'a OptionSet>,
    /// The client's classes.
    pub(super) classes: Vec<&'a str>,
    /// The host name that Kea stores with the lease; empty if none.
    pub(super) lease_hostname: &'a [u8],
    /// The client's reservation.
    pub(super) host: Option<&'a Host>,
    /// The lease's subnet.
    pub(super) subnet: Option<&'a Subnet>,
}

impl<'a> Scopes<'a> {
    /// Returns the codes of the options with `always-send`, which the client may not receive.
    pub fn always_sent(&self) -> Vec<u8> {
        self.sets.iter().flat_map(|set| set.always_sent()).collect()
    }

    /// Returns the value of option `code` that Kea sends with the lease.
    pub fn option(&self, code: u8) -> Option<Cow<'a, [u8]>> {
        match code {
            // Kea derives the subnet mask from the prefix before it evaluates configured options.
            code::SUBNET_MASK => self
                .subnet
                .map(|subnet| Cow::Owned(subnet.prefix.netmask().octets().to_vec())),
            code::HOST_NAME => self.hostname().map(Cow::Borrowed),
            _ => options::sent(&self.sets, code, &self.classes).map(Cow::Borrowed),
        }
    }

    /// Returns the client's host name: the one stored with the lease, otherwise the reserved one,
    /// otherwise the configured one.
    fn hostname(&self) -> Option<&'a [u8]> {
        let reserved = self.host.map_or(&[][..], |host| host.hostname.as_bytes());
        [self.lease_hostname, reserved]
            .into_iter()
            .find(|name| !name.is_empty())
            .or_else(|| options::sent(&self.sets, code::HOST_NAME, &self.classes))
    }
}
