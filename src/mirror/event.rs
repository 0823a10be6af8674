//! What Kea reports: its leases and the changes it makes to them.

pub mod client_info;
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
    /// The value of option 82 that Kea stores with the lease (`store-extended-info`), possibly of an earlier
    /// message.
    pub relay_agent_information: Option<Vec<u8>>,
}

#[cfg(test)]
impl Lease {
    /// A lease for ever since `cltt`, to a client that has the address's last octet in its MAC address.
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

/// What a client's message carried besides what Kea puts into the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The value of option 82 as Kea took it from a message that a relay agent forwarded (giaddr is
    /// not zero). In any other message the option is the client's own.
    pub relay_agent_information: Option<Vec<u8>>,
    /// The options worth keeping, in the order of their codes.
    pub options: Vec<RawOption>,
    /// The classes Kea put the message in: mostly those of the message before.
    pub classes: Arc<[String]>,
}

/// Which server made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This one.
    Local,
    /// A high-availability partner, another server that shares the lease database, or someone
    /// who is not known.
    Remote,
}

/// Why leases are gone of whose deletion Kea's lease manager has told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A command deleted them.
    Command,
    /// Their clients gave them up by taking others.
    GivenUp,
}

/// The addresses that were looked up in Kea's lease database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncScope {
    /// All from the first to the last.
    Range(RangeInclusive<u32>),
    /// These, once more: they were missing at a look before.
    Again(Vec<Ipv4Addr>),
    /// These, of which it is known that they were changed, and by whom.
    Changed(Vec<Ipv4Addr>, Origin),
    /// This one, which its client gave back to another server.
    Released(Ipv4Addr),
}

/// What changes the mirror: of one thread of Kea's in the order in which it made it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client's message led to this lease: new, renewed, or declined (by its state).
    Committed {
        /// The lease as committed.
        lease: Lease,
        /// What the client's message told.
        client_info: ClientInfo,
    },
    /// A client asked for the lease it has, and Kea left it as it is because it is fresh enough
    /// (`cache-threshold`).
    Confirmed {
        /// The address of Kea's answer.
        address: Ipv4Addr,
        /// Who asked, by the identities that Kea goes by.
        client: ClientIds,
        /// When.
        at: Time,
        /// What the client's message told.
        client_info: ClientInfo,
    },
    /// The client has given the lease up, if it had it still, by taking another.
    GivenUp {
        /// The address given up.
        address: Ipv4Addr,
        /// Who had it; `None` if this is told at the very moment. Else somebody else may have
        /// been given the address already.
        client: Option<ClientIds>,
        /// When.
        at: Time,
    },
    /// The client released the lease.
    Released {
        /// The address released.
        address: Ipv4Addr,
        /// Who had it: as in [`Event::GivenUp`].
        client: Option<ClientIds>,
        /// When.
        at: Time,
        /// The server that was told.
        origin: Origin,
    },
    /// Kea reclaims the lease whose lifetime is over, or recovers a declined address.
    Reclaimed {
        /// The address reclaimed.
        address: Ipv4Addr,
        /// Client last transaction time of the lease as Kea found it: it may have been renewed
        /// since.
        cltt: Time,
        /// Whether it was over because its client had released it.
        was_released: bool,
        /// When.
        at: Time,
    },
    /// The address is reserved for a client by an offer until `lease` ends.
    Offered {
        /// The lease as offered.
        lease: Lease,
        /// What the client's message told.
        client_info: ClientInfo,
    },
    /// Kea's database holds this lease now, for a reason other than a client's message:
    /// an administrator's command, or a partner server.
    Updated {
        /// The lease as it stands.
        lease: Lease,
        /// When that was seen.
        at: Time,
        /// Who changed it.
        origin: Origin,
    },
    /// Kea's database no longer holds a lease for the address, for a reason that is not known yet or
    /// by an administrator's doing.
    Removed {
        /// The address freed.
        address: Ipv4Addr,
        /// When that was seen.
        at: Time,
        /// Who removed it.
        origin: Origin,
    },
    /// Leases that were told of as [`Event::Removed`] elsewhere were ended here. An address that is
    /// leased anew is not.
    Explained {
        /// Their addresses.
        addresses: Vec<Ipv4Addr>,
        /// Why they ended.
        reason: Reason,
    },
    /// Kea's lease database is about to be read, of which [`Event::ResyncPage`] tells next.
    ResyncBegun,
    /// What was found in Kea's lease database. Unless it is known who made a difference that no
    /// other event told of, it was made elsewhere.
    ResyncPage {
        /// What was looked for.
        scope: ResyncScope,
        /// The leases there are.
        leases: Vec<Lease>,
        /// When.
        at: Time,
    },
    /// All of Kea's lease database was compared with the mirror, by [`Event::ResyncPage`].
    ResyncDone {
        /// When that began: changes up to then are in the mirror.
        began: Time,
    },
    /// Kea's configuration has changed while it runs.
    SavedView {
        /// The configuration now.
        kea_config: Arc<KeaConfig>,
        /// Whether the host reservations that are in databases are in it.
        is_complete: bool,
        /// Since when.
        at: Time,
    },
    /// This server serves these high-availability scopes now.
    Serving {
        /// The scopes.
        serving: Serving,
        /// Since when.
        at: Time,
    },
}
