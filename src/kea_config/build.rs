//! Builds a [`KeaConfig`] from Kea's layout.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proto::option::code;
use serde_json::Value;

use crate::kea_config::config::{KeaConfig, Pool, Subnet};
use crate::kea_config::configured::{ConfiguredOption, DatabaseReservation, Scope};
use crate::kea_config::error::KeaConfigError;
use crate::kea_config::high_availability::{Allocators, HighAvailability};
use crate::kea_config::hosts::{self, Hosts};
use crate::kea_config::layout::{self, Inherited};
use crate::kea_config::lease_query_hook::LeaseQueryHook;
use crate::kea_config::options::OptionSet;
use crate::kea_config::ranges::{self, Claim};
use crate::kea_config::times::Timers;
use crate::kea_config::{json, vpn};
use crate::model::binding::SubnetId;
use crate::model::vpn::Vpn;

impl KeaConfig {
    /// Reads the configuration `config`, in the layout of `config-get`, with its options and the
    /// reservations in databases.
    ///
    /// # Errors
    /// If the declaration of a VPN is invalid, or if the layout is not that of `config-get`.
    pub fn new(
        config: &str,
        options: Vec<ConfiguredOption>,
        reservations: &[DatabaseReservation],
    ) -> Result<KeaConfig, KeaConfigError> {
        let root: layout::Root = serde_json::from_str(&json::repaired(config))
            .map_err(|error| KeaConfigError::Layout(error.to_string()))?;
        let config = root.dhcp4;
        let mut builder = Builder {
            kea_config: KeaConfig {
                hosts: Hosts::new(config.host_reservation_identifiers.as_deref()),
                high_availability: HighAvailability::new(&config.hooks_libraries),
                lease_query_hook: LeaseQueryHook::find(&config.hooks_libraries),
                has_host_database: config.hosts_database.is_some()
                    || config.hosts_databases.is_some_and(|all| !all.is_empty()),
                ..KeaConfig::default()
            },
            reserved: Vec::new(),
            shared_networks: HashMap::new(),
        };
        for subnet in config.subnet4 {
            builder.subnet(subnet, &config.inherited, &Enclosing::default())?;
        }
        for shared_network in config.shared_networks {
            builder.shared_network(shared_network, &config.inherited)?;
        }
        for reservation in &config.reservations {
            builder.reservation(hosts::GLOBAL, "the global reservations", reservation)?;
        }
        for reservation in reservations {
            let reserved = reservation.address;
            let reserved = reserved.map(|address| (reservation.subnet, address));
            builder.reserved.extend(reserved);
            builder.kea_config.hosts.insert_from_database(reservation);
        }
        for option in options {
            builder.option(option);
        }
        Ok(builder.finish())
    }
}

/// Properties that subnets inherit from their shared network.
#[derive(Default)]
struct Enclosing {
    /// Index of the shared network; `None` outside of any.
    place: Option<usize>,
    /// The VPN.
    vpn: Vpn,
    /// The classes that restrict its clients.
    classes: layout::Classes,
    /// The user-context.
    user_context: Option<Value>,
}

/// A configuration being built.
struct Builder {
    /// The configuration so far; its ranges are added last.
    kea_config: KeaConfig,
    /// Reserved addresses, with the subnets of their reservations.
    reserved: Vec<(SubnetId, Ipv4Addr)>,
    /// Indexes of shared networks by name.
    shared_networks: HashMap<String, usize>,
}

impl Builder {
    /// Adds a shared network and its subnets.
    fn shared_network(
        &mut self,
        shared_network: layout::SharedNetwork,
        global: &Inherited,
    ) -> Result<(), KeaConfigError> {
        let holder = format!("shared network '{}'", shared_network.name);
        let declared = vpn::declared(&holder, shared_network.user_context.as_ref())?;
        let place = self.kea_config.shared_networks.len();
        self.kea_config.shared_networks.push(OptionSet::default());
        self.shared_networks.insert(shared_network.name, place);
        let inherited = shared_network.inherited.or(global);
        let enclosing = Enclosing {
            place: Some(place),
            vpn: declared.unwrap_or_default(),
            classes: shared_network.classes,
            user_context: shared_network.user_context,
        };
        for subnet in shared_network.subnet4 {
            self.subnet(subnet, &inherited, &enclosing)?;
        }
        Ok(())
    }

    /// Adds a subnet, which inherits the parameters `wider` and the `enclosing` properties.
    fn subnet(
        &mut self,
        subnet: layout::Subnet,
        wider: &Inherited,
        enclosing: &Enclosing,
    ) -> Result<(), KeaConfigError> {
        let id = SubnetId(subnet.id);
        let holder = format!("subnet {} ({})", subnet.id, subnet.subnet);
        let prefix = subnet
            .subnet
            .parse::<Ipv4Net>()
            .map_err(|_| KeaConfigError::Refused {
                parameter: format!(r#""subnet" of subnet {}"#, subnet.id),
                value: format!("'{}'", subnet.subnet),
                allowed: "an IPv4 prefix".to_owned(),
            })?
            .trunc();
        let declared = vpn::declared(&holder, subnet.user_context.as_ref())?;
        let outer = || subnet.classes.names().chain(enclosing.classes.names());
        let high_availability = &self.kea_config.high_availability;
        let contexts = [
            subnet.user_context.as_ref(),
            enclosing.user_context.as_ref(),
        ];
        let allocators = high_availability.allocators(&contexts, outer());
        let mut pools = subnet
            .pools
            .iter()
            .map(|pool| {
                let classes = pool.classes.names().chain(outer());
                let allocators = high_availability.allocators(&contexts, classes);
                read_pool(&holder, &pool.pool, allocators)
            })
            .collect::<Result<Vec<Pool>, KeaConfigError>>()?;
        pools.sort_by_key(|pool| pool.first);
        for reservation in &subnet.reservations {
            self.reservation(id, &holder, reservation)?;
        }
        let inherited = subnet.inherited.or(wider);
        let place = self.kea_config.subnets.len();
        self.kea_config.by_id.entry(id).or_insert(place);
        self.kea_config.by_prefix.entry(prefix).or_insert(place);
        self.kea_config.subnets.push(Subnet {
            id,
            prefix,
            vpn: declared.unwrap_or_else(|| enclosing.vpn.clone()),
            shared_network: enclosing.place,
            allocators,
            pools,
            options: OptionSet::default(),
            timers: Timers::new(&inherited),
            reservations_global: inherited.reservations_global.unwrap_or(false),
            reservations_in_subnet: inherited.reservations_in_subnet.unwrap_or(true),
            digest: 0,
        });
        Ok(())
    }

    /// Adds a reservation in `subnet`; `holder` names the subnet for error messages.
    fn reservation(
        &mut self,
        subnet: SubnetId,
        holder: &str,
        reservation: &layout::Reservation,
    ) -> Result<(), KeaConfigError> {
        let address = reservation
            .ip_address
            .as_deref()
            .map(|address| {
                address
                    .parse::<Ipv4Addr>()
                    .map_err(|_| KeaConfigError::Refused {
                        parameter: format!(r#""ip-address" of a reservation in {holder}"#),
                        value: format!("'{address}'"),
                        allowed: "an IPv4 address".to_owned(),
                    })
            })
            .transpose()?
            .filter(|address| !address.is_unspecified());
        self.reserved
            .extend(address.map(|address| (subnet, address)));
        self.kea_config.hosts.insert(subnet, reservation, address);
        Ok(())
    }

    /// Adds an option to its scope. An option of an unknown scope applies to no client.
    fn option(&mut self, option: ConfiguredOption) {
        let kea_config = &mut self.kea_config;
        kea_config.configured_options.insert(option.code);
        if option.code == code::SERVER_IDENTIFIER {
            let address = <[u8; 4]>::try_from(&*option.value);
            (kea_config.server_identifiers).extend(address.map(Ipv4Addr::from));
        }
        let set = match &option.scope {
            Scope::Global => Some(&mut kea_config.global),
            Scope::SharedNetwork(name) => self
                .shared_networks
                .get(name)
                .and_then(|place| kea_config.shared_networks.get_mut(*place)),
            Scope::Subnet(id) => kea_config.subnet_mut(*id).map(|subnet| &mut subnet.options),
            Scope::Pool { subnet, first, .. } => kea_config
                .subnet_mut(*subnet)
                .and_then(|subnet| subnet.pool_mut(*first))
                .map(|pool| &mut pool.options),
            Scope::Class(name) => Some(kea_config.classes.entry(name.clone()).or_default()),
            Scope::Reservation {
                subnet,
                identifier_type,
                identifier,
                address,
            } => kea_config
                .hosts
                .options_mut(*subnet, identifier_type, identifier, *address),
        };
        if let Some(set) = set {
            set.insert(option);
        }
    }

    /// Returns the configuration, with its ranges and digests.
    fn finish(self) -> KeaConfig {
        let mut kea_config = self.kea_config;
        let lengths: BTreeSet<u8> = kea_config
            .by_prefix
            .keys()
            .map(Ipv4Net::prefix_len)
            .collect();
        kea_config.prefix_lengths = lengths.into_iter().rev().collect();

        let pools = kea_config
            .subnets
            .iter()
            .enumerate()
            .flat_map(|(place, subnet)| {
                let pools = subnet.pools.iter();
                pools.map(move |pool| Claim {
                    first: pool.first.to_bits(),
                    last: pool.last.to_bits(),
                    prefix_length: subnet.prefix.prefix_len(),
                    order: place,
                    vpn: &subnet.vpn,
                    allocators: &pool.allocators,
                })
            });
        let reserved = self.reserved.iter().filter_map(|(id, address)| {
            // The address of a global reservation belongs to the subnet that contains it.
            let id = match *id {
                hosts::GLOBAL => kea_config.subnet_holding(*address)?.id,
                id => id,
            };
            let place = *kea_config.by_id.get(&id)?;
            let subnet = kea_config.subnets.get(place)?;
            let pool = subnet.pool(*address);
            Some(Claim {
                first: address.to_bits(),
                last: address.to_bits(),
                prefix_length: subnet.prefix.prefix_len(),
                order: place,
                vpn: &subnet.vpn,
                allocators: pool.map_or(&subnet.allocators, |pool| &pool.allocators),
            })
        });
        kea_config.ranges = ranges::merge(pools.chain(reserved).collect());
        kea_config.compute_digests();
        kea_config
    }
}

impl KeaConfig {
    /// Returns the subnet with this id.
    fn subnet_mut(&mut self, id: SubnetId) -> Option<&mut Subnet> {
        self.subnets.get_mut(*self.by_id.get(&id)?)
    }
}

impl Subnet {
    /// Returns the pool that begins with `first`.
    fn pool_mut(&mut self, first: Ipv4Addr) -> Option<&mut Pool> {
        let place = self
            .pools
            .binary_search_by_key(&first, |pool| pool.first)
            .ok()?;
        self.pools.get_mut(place)
    }
}

/// Reads a pool in one of Kea's two forms; `holder` names its subnet for error messages.
fn read_pool(holder: &str, text: &str, allocators: Allocators) -> Result<Pool, KeaConfigError> {
    let bounds = match text.split_once('-') {
        Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()),
        None => text
            .trim()
            .parse::<Ipv4Net>()
            .ok()
            .map(|prefix| (prefix.network(), prefix.broadcast())),
    };
    bounds
        .filter(|(first, last)| first <= last)
        .map(|(first, last): (Ipv4Addr, Ipv4Addr)| Pool {
            first,
            last,
            allocators,
            options: OptionSet::default(),
        })
        .ok_or_else(|| KeaConfigError::Refused {
            parameter: format!(r#""pool" in {holder}"#),
            value: format!("'{text}'"),
            allowed: "'first-last' or a prefix".to_owned(),
        })
}
