//! Kea's own configuration as far as leases depend on it: subnets, configured addresses,
//! VPNs, options.
//!
//! A [`KeaConfig`] is made at each reconfiguration and never changes. It is read from what Kea
//! itself says its configuration is, so that defaults, inheritance and numbering are Kea's;
//! only options come apart from it, as octets, since how they are packed depends on Kea's
//! option definitions.

mod build;
mod configured;
mod difference;
mod high_availability;
mod hosts;
mod json;
mod layout;
mod options;
mod ranges;
#[cfg(test)]
mod tests;
mod times;
mod vpn;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use hashbrown::HashMap;
use ipnet::Ipv4Net;
use proto::option::code;

pub use crate::kea_config::configured::{ConfiguredOption, DatabaseReservation, Scope};
pub use crate::kea_config::difference::Difference;
use crate::kea_config::high_availability::HighAvailability;
pub use crate::kea_config::high_availability::{Givers, Serving, is_elsewhere};
use crate::kea_config::hosts::{Host, Hosts};
use crate::kea_config::options::OptionSet;
use crate::kea_config::ranges::Claim;
pub use crate::kea_config::ranges::ConfiguredRange;
pub use crate::kea_config::times::TeeTimes;
use crate::kea_config::times::Timers;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::time::Lifetime;
use crate::model::vpn::Vpn;

/// Why Kea's configuration cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeaConfigError {
    /// It is not laid out as any Kea lays it out.
    Layout(String),
    /// A value is not what it may be.
    Refused {
        /// The parameter, and the part of the configuration that holds it.
        parameter: String,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

impl fmt::Display for KeaConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeaConfigError::Layout(cause) => {
                write!(f, "Kea's configuration cannot be understood: {cause}")
            }
            KeaConfigError::Refused {
                parameter,
                value,
                allowed,
            } => write!(f, "{parameter} is {value}; it must be {allowed}"),
        }
    }
}

impl std::error::Error for KeaConfigError {}

/// A subnet.
#[derive(Debug)]
pub struct Subnet {
    /// The number Kea gives it.
    pub id: SubnetId,
    /// Its prefix.
    pub prefix: Ipv4Net,
    /// The VPN declared for it, or for its shared network.
    pub vpn: Vpn,
    /// Its shared network's place among the shared networks.
    shared_network: Option<usize>,
    /// The high-availability servers that can give its free addresses outside of pools.
    givers: Givers,
    /// Its pools, ascending; Kea lets none of them overlap.
    pools: Vec<Pool>,
    /// The options configured for it.
    options: OptionSet,
    /// What T1 and T2 come from.
    timers: Timers,
    /// Whether Kea looks for global reservations.
    reservations_global: bool,
    /// Whether Kea looks for the subnet's reservations.
    reservations_in_subnet: bool,
    /// A digest of what replies about leases take from the subnet, and from its shared network:
    /// see [`Difference`].
    pub digest: u64,
}

impl Subnet {
    /// T1 and T2 of a lease of this lifetime, as Kea sends them.
    pub fn tee_times(&self, lifetime: Lifetime) -> TeeTimes {
        self.timers.tee_times(lifetime)
    }

    /// The pool that holds `address`.
    fn pool(&self, address: Ipv4Addr) -> Option<&Pool> {
        let after = self.pools.partition_point(|pool| pool.first <= address);
        let pool = self.pools.get(after.checked_sub(1)?)?;
        (address <= pool.last).then_some(pool)
    }
}

/// A pool.
#[derive(Debug)]
struct Pool {
    /// The first address.
    first: Ipv4Addr,
    /// The last address, `first <= last`.
    last: Ipv4Addr,
    /// The high-availability servers that can give its free addresses.
    givers: Givers,
    /// The options configured for it.
    options: OptionSet,
}

/// Kea's configuration as far as leases depend on it.
#[derive(Debug, Default)]
pub struct KeaConfig {
    /// Subnets, those in shared networks after those outside.
    subnets: Vec<Subnet>,
    /// Places in `subnets` by number.
    by_id: HashMap<SubnetId, usize>,
    /// Places in `subnets` by prefix.
    by_prefix: HashMap<Ipv4Net, usize>,
    /// The lengths there are among the prefixes, the longest first.
    prefix_lengths: Vec<u8>,
    /// Options of shared networks.
    shared_networks: Vec<OptionSet>,
    /// Options of client classes, by the class's name.
    classes: HashMap<String, OptionSet>,
    /// Global options.
    global: OptionSet,
    /// Reservations.
    hosts: Hosts,
    /// All configured addresses.
    ranges: Vec<ConfiguredRange>,
    /// The VPNs declared.
    vpns: BTreeSet<Vpn>,
    /// This server's partners.
    high_availability: HighAvailability,
    /// Whether Kea keeps host reservations in databases too.
    has_host_database: bool,
    /// A digest of what replies about leases take from the global scope and from client classes.
    common_digest: u64,
    /// A digest of what replies about leases take from reservations.
    hosts_digest: u64,
}

impl KeaConfig {
    /// The configuration `config`, laid out as `config-get` gives it, with its options.
    ///
    /// # Errors
    /// See [`KeaConfig::new`].
    pub fn from_json(
        config: &str,
        options: Vec<ConfiguredOption>,
    ) -> Result<KeaConfig, KeaConfigError> {
        KeaConfig::new(config, options, &[])
    }

    /// The configuration `config`, laid out as `config-get` gives it, with its options, and the
    /// reservations that are in databases.
    ///
    /// # Errors
    /// If a VPN is declared in a wrong way, or if the configuration is not as Kea gives it.
    pub fn new(
        config: &str,
        options: Vec<ConfiguredOption>,
        reservations: &[DatabaseReservation],
    ) -> Result<KeaConfig, KeaConfigError> {
        let root: layout::Root = serde_json::from_str(&json::mended(config))
            .map_err(|error| KeaConfigError::Layout(error.to_string()))?;
        build::kea_config(root.dhcp4, options, reservations)
    }

    /// The subnet of this number.
    pub fn subnet(&self, id: SubnetId) -> Option<&Subnet> {
        self.subnets.get(*self.by_id.get(&id)?)
    }

    /// Whether Kea keeps host reservations in databases too, which its configuration does not
    /// show.
    pub fn has_host_database(&self) -> bool {
        self.has_host_database
    }

    /// Whether this server is configured to have a high-availability partner.
    pub fn has_partner(&self) -> bool {
        self.high_availability.is_configured()
    }

    /// The high-availability scopes this server serves while all is well.
    pub fn usually_serving(&self) -> Serving {
        self.high_availability.usually_serving()
    }

    /// The numbers of all subnets.
    pub fn subnet_ids(&self) -> impl Iterator<Item = SubnetId> {
        self.by_id.keys().copied()
    }

    /// All subnets.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter()
    }

    /// The subnet with the most specific prefix that holds `address`; the first configured
    /// if Kea has several of the same prefix.
    pub fn subnet_holding(&self, address: Ipv4Addr) -> Option<&Subnet> {
        let place = self.prefix_lengths.iter().find_map(|length| {
            let prefix = Ipv4Net::new(address, *length).ok()?.trunc();
            self.by_prefix.get(&prefix)
        })?;
        self.subnets.get(*place)
    }

    /// The subnet that `address` belongs to, leased from the subnet with the number `id`. Numbers
    /// outlive the subnets they were given to: where the subnet of that number does not contain the
    /// address, the one that contains it decides. `None` if none does.
    pub fn subnet_of(&self, address: Ipv4Addr, id: SubnetId) -> Option<&Subnet> {
        self.subnet(id)
            .filter(|subnet| subnet.prefix.contains(&address))
            .or_else(|| self.subnet_holding(address))
    }

    /// The VPNs declared for subnets and shared networks, in order.
    pub fn vpns(&self) -> impl Iterator<Item = &Vpn> {
        self.vpns.iter()
    }

    /// Whether there is such a VPN. The default VPN is always there.
    pub fn has_vpn(&self, vpn: &Vpn) -> bool {
        *vpn == Vpn::Default || self.vpns.contains(vpn)
    }

    /// All configured addresses: every pool and every reserved address, ascending, none of
    /// them in two ranges. An address in several subnets belongs to the one with the longest
    /// prefix, and among equals to the first configured.
    pub fn ranges(&self) -> &[ConfiguredRange] {
        &self.ranges
    }

    /// The server identifier configured for all clients.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        let value = options::sent(&[&self.global], code::SERVER_IDENTIFIER, &[])?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
    }

    /// The value of option `code` that Kea sends with the lease of `binding`: see
    /// [`KeaConfig::scopes`], which costs less for several options of one binding.
    pub fn option<'a>(&'a self, code: u8, binding: BindingRef<'a>) -> Option<Cow<'a, [u8]>> {
        self.scopes(binding).option(code)
    }

    /// The parts of the configuration that hold for the lease of `binding`: see
    /// [`KeaConfig::subnet_of`].
    pub fn scopes<'a>(&'a self, binding: BindingRef<'a>) -> Scopes<'a> {
        let client = binding.client;
        let classes: Vec<&str> = client.into_iter().flat_map(ClientRef::classes).collect();
        let lease_hostname = client.map_or(&[][..], ClientRef::hostname);
        let subnet = self.subnet_of(binding.address, binding.subnet);
        let host = subnet.and_then(|subnet| self.host(subnet, binding));
        let mut sets = Vec::new();
        // Without a subnet Kea sends nothing of what is configured.
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

    /// The reservation that holds for a lease in `subnet`: the subnet's goes before a global.
    fn host(&self, subnet: &Subnet, binding: BindingRef<'_>) -> Option<&Host> {
        let in_subnet = subnet
            .reservations_in_subnet
            .then(|| self.hosts.find(subnet.id, binding))
            .flatten();
        in_subnet.or_else(|| {
            subnet
                .reservations_global
                .then(|| self.hosts.find(hosts::GLOBAL, binding))
                .flatten()
        })
    }
}

/// The parts of the configuration that hold for one lease.
#[derive(Debug)]
pub struct Scopes<'a> {
    /// Options, in Kea's order: the reservation, the pool, the subnet, the shared network,
    /// the client's classes in the client's order, and the global ones.
    sets: Vec<&'a OptionSet>,
    /// The client's classes.
    classes: Vec<&'a str>,
    /// The host name Kea keeps with the lease; empty if none.
    lease_hostname: &'a [u8],
    /// The client's reservation.
    host: Option<&'a Host>,
    /// The lease's subnet.
    subnet: Option<&'a Subnet>,
}

impl<'a> Scopes<'a> {
    /// The value of option `code` that Kea sends with the lease.
    pub fn option(&self, code: u8) -> Option<Cow<'a, [u8]>> {
        match code {
            // Kea sets it from the prefix before it looks at what is configured.
            code::SUBNET_MASK => self
                .subnet
                .map(|subnet| Cow::Owned(subnet.prefix.netmask().octets().to_vec())),
            code::HOST_NAME => self.hostname().map(Cow::Borrowed),
            _ => options::sent(&self.sets, code, &self.classes).map(Cow::Borrowed),
        }
    }

    /// The client's host name: the one Kea keeps with the lease, else the one reserved, else
    /// the one configured.
    fn hostname(&self) -> Option<&'a [u8]> {
        let reserved = self.host.map_or(&[][..], |host| host.hostname.as_bytes());
        [self.lease_hostname, reserved]
            .into_iter()
            .find(|name| !name.is_empty())
            .or_else(|| options::sent(&self.sets, code::HOST_NAME, &self.classes))
    }
}
