//! The bridge's plain values as the rest of the crate knows them.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::bridge::{KeaLease, KeaMessage, KeaOption, KeaScope};
use super::stored_relay;
use crate::binding::{HardwareAddress, SubnetId};
use crate::client::ClientIds;
use crate::event::{Event, Heard, Lease, LeaseState, Origin};
use crate::network::{ConfiguredOption, Scope};
use crate::time::{Lifetime, Time};
use crate::wire::heard::{heard, heard_of};
use crate::wire::message::Message;
use crate::wire::options::code;

/// The message type of a DHCPREQUEST (RFC 2132 section 9.6).
const DHCPREQUEST: u8 = 3;
/// The message type of a DHCPRELEASE.
const DHCPRELEASE: u8 = 7;
/// The option of the address a client asks for (RFC 2132 section 9.1).
const REQUESTED_IP_ADDRESS: u8 = 50;

impl From<&KeaLease<'_>> for Lease {
    fn from(kea: &KeaLease<'_>) -> Lease {
        Lease {
            address: Ipv4Addr::from_bits(kea.address),
            state: lease_state(kea.state, kea.valid_lifetime),
            cltt: Time::from_time_t(kea.cltt),
            valid_lifetime: Lifetime(kea.valid_lifetime),
            subnet: SubnetId(kea.subnet),
            hardware: HardwareAddress {
                // htype has one octet on the wire (RFC 2131 section 2).
                htype: u8::try_from(kea.hardware_type).unwrap_or(0),
                octets: kea.hardware.to_vec(),
            },
            client_id: kea.client_id.to_vec(),
            hostname: kea.hostname.to_vec(),
            relay_agent_information: stored_relay::relay_agent_information(kea.relay_agent_info),
        }
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

impl KeaMessage<'_> {
    /// What it told.
    fn heard(&self) -> Heard {
        heard(self.octets, self.classes())
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
    pub fn committed(&self, lease: Lease) -> Event {
        Event::Committed {
            lease,
            heard: self.heard(),
        }
    }

    /// It led to an offer that reserves the address.
    pub fn offered(&self, lease: Lease) -> Event {
        Event::Offered {
            lease,
            heard: self.heard(),
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
                origin: Origin::Here,
            },
            _ => Event::GivenUp {
                address,
                client,
                at: now,
            },
        }
    }

    /// It changed no lease. If it is a request for an address, and is answered by a DHCPACK, Kea has
    /// left the lease as it is because that is fresh.
    pub fn confirmed(&self, now: Time) -> Option<Event> {
        if self.message_type != DHCPREQUEST {
            return None;
        }
        let message = Message::read(self.octets).ok()?;
        // In a renewal the address is in ciaddr, else in the option (RFC 2131 section 4.3.2).
        let requested = || {
            let value = message.options.value(REQUESTED_IP_ADDRESS)?;
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
        };
        let address = match message.ciaddr {
            Ipv4Addr::UNSPECIFIED => requested()?,
            address => address,
        };
        let client_id = message.options.value(code::CLIENT_IDENTIFIER);
        Some(Event::Confirmed {
            address,
            client: ClientIds {
                hardware: HardwareAddress {
                    htype: message.htype,
                    octets: message.chaddr.get(..usize::from(message.hlen))?.to_vec(),
                },
                client_id: client_id.unwrap_or_default().to_vec(),
            },
            at: now,
            heard: heard_of(&message, self.classes()),
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
