//! Host reservations, and their lookup in Kea's order.

use std::net::Ipv4Addr;

use hashbrown::HashMap;
use proto::sub_option::CIRCUIT_ID;

use crate::kea_config::configured::DatabaseReservation;
use crate::kea_config::digest::digest;
use crate::kea_config::layout;
use crate::kea_config::options::OptionSet;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::hex;
use crate::model::relay_agent_information;

/// Kea's subnet id of global reservations.
pub const GLOBAL: SubnetId = SubnetId(0);

/// Types of a reservation's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum IdentifierType {
    /// The MAC address without its type.
    HardwareAddress,
    /// The client identifier.
    ClientId,
    /// The DUID in an RFC 4361 client identifier.
    Duid,
    /// The circuit ID that a relay agent adds.
    CircuitId,
    /// The identifier that Kea's flexible identifier hook computes from a message; not known to
    /// this library.
    FlexId,
}

/// Kea's default order of preference.
const DEFAULT_ORDER: [IdentifierType; 4] = [
    IdentifierType::HardwareAddress,
    IdentifierType::Duid,
    IdentifierType::CircuitId,
    IdentifierType::ClientId,
];

impl IdentifierType {
    /// Returns the type with this name in Kea's configuration.
    fn from_name(name: &str) -> Option<IdentifierType> {
        match name {
            "hw-address" => Some(IdentifierType::HardwareAddress),
            "client-id" => Some(IdentifierType::ClientId),
            "duid" => Some(IdentifierType::Duid),
            "circuit-id" => Some(IdentifierType::CircuitId),
            "flex-id" => Some(IdentifierType::FlexId),
            _ => None,
        }
    }

    /// Returns the client's identifier of this type; `None` if the client has none, or the type is
    /// unknown.
    fn identifier_of(self, client: ClientRef<'_>) -> Option<&[u8]> {
        let identifier = match self {
            IdentifierType::HardwareAddress => Some(client.chaddr()),
            IdentifierType::ClientId => Some(client.client_id()),
            IdentifierType::Duid => match client.client_id() {
                // Type 255 and an IAID of 4 octets precede the DUID (RFC 4361 section 6.1).
                [255, _, _, _, _, duid @ ..] => Some(duid),
                _ => None,
            },
            IdentifierType::CircuitId => {
                relay_agent_information::find(client.relay_agent_information(), CIRCUIT_ID)
            }
            IdentifierType::FlexId => None,
        };
        identifier.filter(|identifier| !identifier.is_empty())
    }
}

/// A host reservation.
#[derive(Debug, Hash)]
pub struct Host {
    /// The type of the identifier.
    identifier_type: Option<IdentifierType>,
    /// The reserved host name; empty if none.
    pub hostname: Box<str>,
    /// The options configured for it.
    pub options: OptionSet,
}

/// Indexes in a list of reservations, by identifier.
type Places = HashMap<Box<[u8]>, usize>;

/// All host reservations.
#[derive(Debug, Default)]
pub struct Hosts {
    /// The reservations.
    hosts: Vec<Host>,
    /// Indexes in `hosts` by identifier, for each subnet and type.
    by_identifier: HashMap<(SubnetId, IdentifierType), Places>,
    /// Indexes in `hosts` by the reserved address.
    by_address: HashMap<(SubnetId, Ipv4Addr), usize>,
    /// The types in the order in which Kea searches by them.
    order: Vec<IdentifierType>,
    /// Whether any reservation has a host name.
    pub have_names: bool,
}

impl Hosts {
    /// Creates an empty set; `order` has the names of the identifier types that Kea looks up.
    pub fn new(order: Option<&[String]>) -> Hosts {
        let order = match order {
            Some(names) => names
                .iter()
                .filter_map(|name| IdentifierType::from_name(name))
                .collect(),
            None => DEFAULT_ORDER.to_vec(),
        };
        Hosts {
            order,
            ..Hosts::default()
        }
    }

    /// Adds a reservation in `subnet`, of `address` if it has one.
    pub fn insert(
        &mut self,
        subnet: SubnetId,
        reservation: &layout::Reservation,
        address: Option<Ipv4Addr>,
    ) {
        let identifiers = [
            (IdentifierType::HardwareAddress, &reservation.hw_address),
            (IdentifierType::ClientId, &reservation.client_id),
            (IdentifierType::Duid, &reservation.duid),
            (IdentifierType::CircuitId, &reservation.circuit_id),
            (IdentifierType::FlexId, &reservation.flex_id),
        ];
        let identifier = identifiers.into_iter().find_map(|(identifier_type, text)| {
            let identifier = hex::read_identifier(text.as_deref()?)?;
            Some((identifier_type, identifier))
        });
        self.add(subnet, identifier, address, &reservation.hostname);
    }

    /// Adds a reservation from a database.
    pub fn insert_from_database(&mut self, reservation: &DatabaseReservation) {
        let of = IdentifierType::from_name(&reservation.identifier_type);
        self.add(
            reservation.subnet,
            of.map(|of| (of, reservation.identifier.clone())),
            reservation.address,
            &reservation.hostname,
        );
    }

    /// Returns the options of a reservation, which is added if it does not exist: it may be in a
    /// database rather than in Kea's configuration.
    pub fn options_mut(
        &mut self,
        subnet: SubnetId,
        identifier_type: &str,
        identifier: &[u8],
        address: Option<Ipv4Addr>,
    ) -> Option<&mut OptionSet> {
        let of = IdentifierType::from_name(identifier_type)?;
        let known = self
            .by_identifier
            .get(&(subnet, of))
            .and_then(|places| places.get(identifier).copied());
        let place = known
            .unwrap_or_else(|| self.add(subnet, Some((of, identifier.to_owned())), address, ""));
        self.hosts.get_mut(place).map(|host| &mut host.options)
    }

    /// Returns a digest of all reservations with options or a host name, on which replies depend.
    /// It is independent of the order of insertion.
    pub fn digest(&self) -> u64 {
        let matters = |place: &usize| {
            let has_more_than_address =
                |host: &&Host| !host.hostname.is_empty() || !host.options.is_empty();
            self.hosts.get(*place).filter(has_more_than_address)
        };
        let by_identifier = self.by_identifier.iter().flat_map(|(of, places)| {
            let found = places.iter();
            found.filter_map(move |(identifier, place)| {
                Some(digest(&(of, identifier, matters(place)?)))
            })
        });
        let by_address = self.by_address.iter();
        let by_address = by_address.filter_map(|(of, place)| Some(digest(&(of, matters(place)?))));
        by_identifier.chain(by_address).fold(0, u64::wrapping_add)
    }

    /// Adds a reservation and returns its index.
    fn add(
        &mut self,
        subnet: SubnetId,
        identifier: Option<(IdentifierType, Vec<u8>)>,
        address: Option<Ipv4Addr>,
        hostname: &str,
    ) -> usize {
        let place = self.hosts.len();
        self.have_names |= !hostname.is_empty();
        self.hosts.push(Host {
            identifier_type: identifier.as_ref().map(|(of, _)| *of),
            hostname: hostname.into(),
            options: OptionSet::default(),
        });
        if let Some(address) = address {
            self.by_address.entry((subnet, address)).or_insert(place);
        }
        if let Some((of, identifier)) = identifier {
            self.by_identifier
                .entry((subnet, of))
                .or_default()
                .entry(identifier.into())
                .or_insert(place);
        }
        place
    }

    /// Returns the reservation in `subnet` for the client of `binding`.
    ///
    /// Kea searches by the client's identifiers. If the mirror does not know the identifier of a
    /// reservation, the address decides: Kea leases a reserved address only to the client of its
    /// reservation.
    pub fn find(&self, subnet: SubnetId, binding: BindingRef<'_>) -> Option<&Host> {
        let client = binding.client;
        let by_identifier = client.and_then(|client| {
            self.order.iter().find_map(|of| {
                let places = self.by_identifier.get(&(subnet, *of))?;
                places.get(of.identifier_of(client)?)
            })
        });
        if let Some(place) = by_identifier {
            return self.hosts.get(*place);
        }
        let place = self.by_address.get(&(subnet, binding.address))?;
        self.hosts.get(*place).filter(|host| {
            let known = host
                .identifier_type
                .zip(client)
                .and_then(|(of, client)| of.identifier_of(client));
            known.is_none()
        })
    }
}
