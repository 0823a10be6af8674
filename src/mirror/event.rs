//! Events: Kea's reports of leases and of changes to them, the results of reads, and changes of configuration.

pub mod client_info;
pub mod report;
pub mod stored_lease;
mod text;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::kea_config::{KeaConfig, Serving};
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::client::ClientIds;
use crate::model::option::RawOption;
use crate::model::time::{Lifetime, Time};

/// The state of a lease in Kea's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Assigned: Kea's state 0.
    Default,
    /// Declined: state 1.
    Declined,
    /// Expired and reclaimed: state 2.
    ExpiredReclaimed,
    /// Released and not deleted: state 3 on Kea 3, state 0 with a lifetime of 0 on Kea 2.6.
    Released,
}

/// A lease of Kea's lease database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// The state in Kea.
    pub state: LeaseState,
    /// Client last transaction time.
    pub cltt: Time,
    /// Valid lifetime from `cltt`.
    pub valid_lifetime: Lifetime,
    /// The subnet that the address is leased from.
    pub subnet: SubnetId,
    /// The client's MAC address; empty if declined.
    pub hardware: HardwareAddress,
    /// The client identifier; empty without one, or if declined.
    pub client_id: Vec<u8>,
    /// The client's host name, any octets; empty without one.
    pub hostname: Vec<u8>,
    /// The value of option 82 that Kea stores with the lease (`store-extended-info`), possibly that of an
    /// earlier message.
    pub relay_agent_information: Option<Vec<u8>>,
}

#[cfg(test)]
impl Lease {
    /// Returns an infinite lease since `cltt`; the last octet of the client's MAC address is that of `address`.
    pub(crate) fn example(address: Ipv4Addr, cltt: Time) -> Lease {
        let [.., last] = address.octets();
        Lease {
            address,
            state: LeaseState::Default,
            cltt,
            valid_lifetime: Lifetime::INFINITE,
            subnet: SubnetId(1),
            hardware: HardwareAddress {
                htype: 1,
                octets: vec![0, 0, 0x5e, 0, 0x53, last],
            },
            client_id: Vec::new(),
            hostname: Vec::new(),
            relay_agent_information: None,
        }
    }
}

/// The contents of a client's message that Kea's lease lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The value of option 82, parsed by Kea, of a message that a relay agent forwarded (giaddr is not
    /// zero). In any other message the option is from the client itself.
    pub relay_agent_information: Option<Vec<u8>>,
    /// The options to store, ascending by code.
    pub options: Vec<RawOption>,
    /// The client classes of the message, shared because most messages have those of the previous one.
    pub classes: Arc<[String]>,
}

/// The server that made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The local server.
    Local,
    /// Another server: a high-availability partner, one that shares the lease database, or an unknown
    /// one.
    Remote,
}

/// The reason for deletions that Kea's lease manager has already reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A command deleted the leases.
    Command,
    /// The clients gave the leases up by accepting others.
    GivenUp,
}

/// The addresses whose leases were read from Kea's lease database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncScope {
    /// All addresses of a range.
    Range(RangeInclusive<u32>),
    /// Addresses whose leases an earlier page lacked.
    Again(Vec<Ipv4Addr>),
    /// Addresses whose leases have changed, and the origin of the changes.
    Changed(Vec<Ipv4Addr>, Origin),
    /// An address whose client released the lease at another server.
    Released(Ipv4Addr),
}

/// An event. The events of one thread of Kea are in the order in which it made the changes.
#[derive(Clone, Debug)]
pub enum Event {
    /// Kea committed a lease for a client's message. It is new, renewed, or declined (by its state).
    Committed {
        /// The committed lease.
        lease: Lease,
        /// The client info of the message.
        client_info: ClientInfo,
    },
    /// A client requested its current lease, and Kea confirmed it without an update, because the lease is
    /// recent enough (`cache-threshold`).
    Confirmed {
        /// The address of Kea's answer.
        address: Ipv4Addr,
        /// The client, by the identifiers that Kea uses.
        client: ClientIds,
        /// The time of the answer.
        at: Time,
        /// The client info of the message.
        client_info: ClientInfo,
    },
    /// The client gave the lease up, if still its own, by accepting another.
    GivenUp {
        /// The address given up.
        address: Ipv4Addr,
        /// The client that had the lease; `None` if the event is pushed at the moment of the change. If it
        /// is pushed later, Kea may already have leased the address to another client.
        client: Option<ClientIds>,
        /// The time of the change.
        at: Time,
    },
    /// The client released the lease.
    Released {
        /// The address released.
        address: Ipv4Addr,
        /// The client that had the lease; `None` as in [`Event::GivenUp`].
        client: Option<ClientIds>,
        /// The time of the release.
        at: Time,
        /// The server that the client's message was sent to.
        origin: Origin,
    },
    /// Kea reclaims a lease whose lifetime has ended, or recovers a declined address.
    Reclaimed {
        /// The address reclaimed.
        address: Ipv4Addr,
        /// The client last transaction time of the reclaimed lease. The client may have renewed the lease
        /// since.
        cltt: Time,
        /// Whether the lifetime had ended by a release of the client.
        was_released: bool,
        /// The time of the change.
        at: Time,
    },
    /// Kea offered an address to a client; it is reserved until the end of `lease`.
    Offered {
        /// The offered lease.
        lease: Lease,
        /// The client info of the message.
        client_info: ClientInfo,
    },
    /// Kea's database has a new or changed lease for a reason other than a client's message: an
    /// administrator's command, or a partner server.
    Updated {
        /// The current lease.
        lease: Lease,
        /// The time at which the change was found.
        at: Time,
        /// The origin of the change.
        origin: Origin,
    },
    /// Kea's database no longer has a lease for the address. An administrator removed it, or the reason
    /// is not known yet.
    Removed {
        /// The address freed.
        address: Ipv4Addr,
        /// The time at which the removal was found.
        at: Time,
        /// The origin of the removal.
        origin: Origin,
    },
    /// Leases whose end was pushed as an [`Event::Removed`] of remote origin were in fact ended by this
    /// server. An address that has been leased again since is unaffected.
    Explained {
        /// The addresses.
        addresses: Vec<Ipv4Addr>,
        /// Why the leases ended.
        reason: Reason,
    },
    /// A read of Kea's lease database begins; the next [`Event::ResyncPage`] has its result.
    ResyncBegun,
    /// The result of a read of Kea's lease database. A difference that no other event reported counts as
    /// remote, unless its origin is known.
    ResyncPage {
        /// The addresses that were read.
        scope: ResyncScope,
        /// The leases found.
        leases: Vec<Lease>,
        /// The time of the read.
        at: Time,
    },
    /// A resync of all leases has ended, after the last [`Event::ResyncPage`].
    ResyncDone {
        /// The beginning of the resync: the mirror has all changes up to this time.
        began: Time,
    },
    /// Kea's configuration changed at run time.
    Reconfigured {
        /// The new configuration.
        kea_config: Arc<KeaConfig>,
        /// Whether it includes the host reservations of databases.
        is_complete: bool,
        /// The time of the change.
        at: Time,
    },
    /// The high-availability scopes that this server serves have changed.
    Serving {
        /// The scopes served from now on.
        serving: Serving,
        /// The time of the change.
        at: Time,
    },
}

/// The most leases in an event that does not take long to apply.
const FEW: usize = 128;

impl Event {
    /// Whether the event takes long to apply: it may concern all bindings, or many.
    pub fn takes_long(&self) -> bool {
        match self {
            Event::Reconfigured { .. } | Event::Serving { .. } | Event::ResyncDone { .. } => true,
            Event::ResyncPage { leases, .. } => leases.len() > FEW,
            Event::Explained { addresses, .. } => addresses.len() > FEW,
            _ => false,
        }
    }
}
