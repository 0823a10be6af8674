//! What Kea reports: its leases and the changes it makes to them.

use std::net::Ipv4Addr;

use crate::binding::{HardwareAddress, RawOption, SubnetId};
use crate::time::{Lifetime, Time};

/// A lease's state in Kea's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Assigned: Kea's state 0.
    Default,
    /// Declined: state 1.
    Declined,
    /// Expired and reclaimed: state 2.
    ExpiredReclaimed,
    /// Released, kept by Kea 3: state 3, or state 0 with a lifetime of 0 on Kea 2.6.
    Released,
}

/// A lease as Kea's lease database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// Its state in Kea.
    pub state: LeaseState,
    /// Client last transaction time.
    pub cltt: Time,
    /// Valid lifetime from `cltt`.
    pub valid_lifetime: Lifetime,
    /// The subnet it is leased from.
    pub subnet: SubnetId,
    /// The client's MAC address; empty once declined.
    pub hardware: HardwareAddress,
    /// The client identifier; empty if none, or once declined.
    pub client_id: Vec<u8>,
    /// The client's host name, any octets; empty if none.
    pub hostname: Vec<u8>,
    /// The value of option 82 where Kea stores it (`store-extended-info`).
    pub relay_agent_information: Option<Vec<u8>>,
}

/// What a client's message carried besides what Kea puts into the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The value of option 82, if the message came through a relay agent that added one.
    pub relay_agent_information: Option<Vec<u8>>,
    /// The options worth keeping, in the order of their codes.
    pub options: Vec<RawOption>,
    /// The classes Kea put the message in.
    pub classes: Vec<String>,
}

/// A change of a lease, in the order Kea made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client's message led to this lease: new, renewed, or declined (by its state).
    Committed {
        /// The lease as committed.
        lease: Lease,
        /// What the client's message told.
        heard: Heard,
    },
    /// A client asked for the lease it has, and Kea left it as it is because it is fresh enough
    /// (`cache-threshold`).
    Confirmed {
        /// The address asked for.
        address: Ipv4Addr,
        /// The client's MAC address.
        hardware: HardwareAddress,
        /// The client's identifier; empty if none.
        client_id: Vec<u8>,
        /// When.
        at: Time,
        /// What the client's message told.
        heard: Heard,
    },
    /// The client released the lease, or gave it up by taking another.
    Released {
        /// The address released.
        address: Ipv4Addr,
        /// When.
        at: Time,
    },
    /// Kea reclaims the lease whose lifetime is over, or recovers a declined address.
    Reclaimed {
        /// The address reclaimed.
        address: Ipv4Addr,
        /// When.
        at: Time,
    },
    /// The address is reserved for a client by an offer until `lease` ends.
    Offered {
        /// The lease as offered.
        lease: Lease,
        /// What the client's message told.
        heard: Heard,
    },
    /// Kea's database holds this lease now, for a reason other than a client's message:
    /// an administrator's command, or a partner server.
    Updated {
        /// The lease as it stands.
        lease: Lease,
        /// When that was seen.
        at: Time,
    },
    /// Kea's database no longer holds a lease for the address, by an administrator's doing.
    Removed {
        /// The address freed.
        address: Ipv4Addr,
        /// When that was seen.
        at: Time,
    },
}
