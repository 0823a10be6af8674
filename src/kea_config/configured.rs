//! Options and host reservations in Kea's own representation, with option values in wire format.

use std::net::Ipv4Addr;

use crate::model::binding::SubnetId;

/// An option of Kea's configuration, and its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredOption {
    /// The scope.
    pub scope: Scope,
    /// The option's code.
    pub code: u8,
    /// The value on the wire, of any length.
    pub value: Vec<u8>,
    /// `never-send`: clients of this scope never receive the option, even if other scopes configure
    /// it. Its value may be empty in Kea.
    pub never_send: bool,
    /// `always-send`: clients receive the option whether they ask for it or not.
    pub always_send: bool,
    /// `client-classes` (Kea 2.7.4 and later): only clients in one of these receive the option; if
    /// empty, all.
    pub client_classes: Vec<String>,
}

/// The part of Kea's configuration that holds an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `Dhcp4` itself.
    Global,
    /// The shared network of this name.
    SharedNetwork(String),
    /// A subnet.
    Subnet(SubnetId),
    /// A subnet's pool.
    Pool {
        /// The subnet.
        subnet: SubnetId,
        /// The pool's first address.
        first: Ipv4Addr,
        /// The pool's last address.
        last: Ipv4Addr,
    },
    /// The client class of this name.
    Class(String),
    /// A host reservation.
    Reservation {
        /// The subnet of the reservation; 0 for a global one.
        subnet: SubnetId,
        /// `hw-address`, `client-id`, `duid`, `circuit-id` or `flex-id`.
        identifier_type: String,
        /// The identifier's octets.
        identifier: Vec<u8>,
        /// The address reserved, if one is.
        address: Option<Ipv4Addr>,
    },
}

/// A host reservation in a database, which Kea's configuration does not contain. Its options are
/// separate [`ConfiguredOption`]s with [`Scope::Reservation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseReservation {
    /// The subnet of the reservation; 0 for a global one.
    pub subnet: SubnetId,
    /// `hw-address`, `client-id`, `duid`, `circuit-id` or `flex-id`.
    pub identifier_type: String,
    /// The identifier's octets.
    pub identifier: Vec<u8>,
    /// The reserved address, if any.
    pub address: Option<Ipv4Addr>,
    /// The reserved host name; empty if none.
    pub hostname: String,
}
