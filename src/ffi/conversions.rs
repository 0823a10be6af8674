//! The bridge's plain values as the rest of the crate knows them.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proto::MessageType;

use crate::ffi::bridge::{KeaAnswer, KeaLease, KeaMessage, KeaOption, KeaScope};
use crate::kea_config::{ConfiguredOption, Scope};
use crate::mirror::event::client_info::client_info;
use crate::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin};
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::client::ClientIds;
use crate::model::time::{Lifetime, Time};
use crate::plugin::stored_relay;

/// A DHCPREQUEST; Kea gives this type to the message of a BOOTP client, too.
const DHCPREQUEST: u8 = MessageType::REQUEST.0;
/// A DHCPACK.
const DHCPACK: u8 = MessageType::ACK.0;
/// A DHCPRELEASE.
const DHCPRELEASE: u8 = MessageType::RELEASE.0;
/// Kea's number for no message type, as of an answer to a BOOTP client.
const NO_TYPE: u8 = 0;

impl From<&KeaLease<'_>> for Lease {
    fn from(kea: &KeaLease<'_>) -> Lease {
        Lease {
            address: Ipv4Addr::from_bits(kea.address),
            state: lease_state(kea.state, kea.valid_lifetime),
            cltt: Time::from_time_t(kea.cltt),
            valid_lifetime: Lifetime(kea.valid_lifetime),
            subnet: SubnetId(kea.subnet),
            hardware: hardware(kea.hardware_type, kea.hardware),
            client_id: kea.client_id.to_vec(),
            hostname: kea.hostname.to_vec(),
            relay_agent_information: stored_relay::relay_agent_information(kea.relay_agent_info),
        }
    }
}

/// A hardware address.
fn hardware(htype: u16, octets: &[u8]) -> HardwareAddress {
    HardwareAddress {
        // htype has one octet on the wire (RFC 2131 section 2).
        htype: u8::try_from(htype).unwrap_or(0),
        octets: octets.to_vec(),
    }
}

/// A lease's state from Kea's number of it.
fn lease_state(number: u32, valid_lifetime: u32) -> LeaseState {
    match (number, valid_lifetime) {
        // What Kea 2.6 leaves of a released lease.
        (0, 0) => LeaseState::Released,
        (0, _) => LeaseState::Default,
        (1, _) => LeaseState::Declined,
        (3, _) => LeaseState::Released,
        // 2. A state that a later Kea may add is none in which a client holds the address.
        _ => LeaseState::ExpiredReclaimed,
    }
}

thread_local! {
    /// The classes of the last message on this thread: most messages are in the same.
    static CLASSES: RefCell<Arc<[String]>> = RefCell::default();
}

impl KeaAnswer {
    /// The address that the client of a DHCPREQUEST has by this answer.
    pub fn leased(&self) -> Option<Ipv4Addr> {
        let is_ack = matches!(self.message_type, DHCPACK | NO_TYPE);
        (is_ack && self.address != 0).then(|| Ipv4Addr::from_bits(self.address))
    }
}

impl KeaMessage<'_> {
    /// What the message carried besides what Kea puts into the lease.
    fn client_info(&self) -> ClientInfo {
        let is_relayed = self.relay != 0;
        let relayed = is_relayed.then(|| self.relay_agent_information.clone());
        client_info(self.octets, relayed.unwrap_or_default(), self.classes())
    }

    /// The classes it is in.
    fn classes(&self) -> Arc<[String]> {
        let names = || self.classes.iter().map(|class| class.name);
        CLASSES.with_borrow_mut(|known| {
            if !names().eq(known.iter().map(String::as_bytes)) {
                *known = names()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect();
            }
            Arc::clone(known)
        })
    }

    /// It led to a lease, made or changed.
    pub fn committed(&self, lease: &KeaLease<'_>) -> Event {
        Event::Committed {
            lease: lease.into(),
            client_info: self.client_info(),
        }
    }

    /// It led to an offer that reserves the address.
    pub fn offered(&self, lease: &KeaLease<'_>) -> Event {
        Event::Offered {
            lease: lease.into(),
            client_info: self.client_info(),
        }
    }

    /// It ended a lease, given as it was before.
    pub fn ended(&self, lease: Lease, now: Time) -> Event {
        let address = lease.address;
        // Kea has made the change, and may have given the address to another client.
        let client = Some(ClientIds {
            hardware: lease.hardware,
            client_id: lease.client_id,
        });
        match self.message_type {
            DHCPRELEASE => Event::Released {
                address,
                client,
                at: now,
                origin: Origin::Local,
            },
            _ => Event::GivenUp {
                address,
                client,
                at: now,
            },
        }
    }

    /// The event of a message that led to no lease, new or renewed. If it asks for an address, and the
    /// answer gives that of the client's lease, Kea has left the lease as it is because it is fresh.
    pub fn confirmed(&self, answer: &KeaAnswer, now: Time) -> Option<Event> {
        let address = answer
            .leased()
            .filter(|_| self.message_type == DHCPREQUEST)?;
        Some(Event::Confirmed {
            address,
            client: ClientIds {
                hardware: hardware(self.hardware_type, self.hardware),
                client_id: self.client_id.to_vec(),
            },
            at: now,
            client_info: self.client_info(),
        })
    }
}

impl KeaOption {
    /// The option as the network keeps it; `None` for one whose code DHCPv4 does not have.
    pub fn configured(self) -> Option<ConfiguredOption> {
        let subnet = SubnetId(self.subnet);
        let address = |bits| (bits != 0).then(|| Ipv4Addr::from_bits(bits));
        let scope = match self.scope {
            KeaScope::SharedNetwork => Scope::SharedNetwork(self.name),
            KeaScope::Subnet => Scope::Subnet(subnet),
            KeaScope::Pool => Scope::Pool {
                subnet,
                first: Ipv4Addr::from_bits(self.first),
                last: Ipv4Addr::from_bits(self.last),
            },
            KeaScope::Class => Scope::Class(self.name),
            KeaScope::Reservation => Scope::Reservation {
                subnet,
                identifier_type: self.name,
                identifier: self.identifier,
                address: address(self.first),
            },
            _ => Scope::Global,
        };
        Some(ConfiguredOption {
            scope,
            code: u8::try_from(self.code).ok()?,
            value: self.value,
            never_send: self.never_send,
            client_classes: self.client_classes,
        })
    }
}
