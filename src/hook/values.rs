//! The bridge's plain values as the rest of the crate knows them.

use std::iter::repeat_n;
use std::net::Ipv4Addr;

use super::bridge::{KeaLease, KeaMessage, KeaOption, KeaScope};
use super::stored_relay;
use crate::binding::{HardwareAddress, SubnetId};
use crate::client::ClientIds;
use crate::event::{Event, Heard, Lease, LeaseState, Origin};
use crate::network::{ConfiguredOption, Scope};
use crate::time::{Lifetime, Time};
use crate::wire::heard::heard;
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

/// A client's message and what it did to leases.
pub struct Exchange {
    /// The client's message.
    pub message: KeaMessage,
    /// Leases made or changed.
    pub leases: Vec<Lease>,
    /// Leases given up, as they were before.
    pub deleted: Vec<Lease>,
}

impl KeaMessage {
    /// What it told.
    fn heard(self) -> Heard {
        heard(&self.octets, self.classes)
    }
}

impl Exchange {
    /// The changes of leases that the message led to.
    pub fn committed(self, now: Time) -> Vec<Event> {
        let Exchange {
            message,
            leases,
            deleted,
        } = self;
        let released = message.message_type == DHCPRELEASE;
        let mut events: Vec<_> = deleted
            .into_iter()
            .map(|lease| {
                let address = lease.address;
                // Kea has made the change, and may have given the address to another client.
                let client = Some(ClientIds {
                    hardware: lease.hardware,
                    client_id: lease.client_id,
                });
                match released {
                    true => Event::Released {
                        address,
                        client,
                        at: now,
                        origin: Origin::Here,
                    },
                    false => Event::GivenUp {
                        address,
                        client,
                        at: now,
                    },
                }
            })
            .collect();
        if !leases.is_empty() {
            let heard = repeat_n(message.heard(), leases.len());
            let leases = leases.into_iter().zip(heard);
            events.extend(leases.map(|(lease, heard)| Event::Committed { lease, heard }));
        } else if message.message_type == DHCPREQUEST && events.is_empty() {
            events.extend(confirmed(message, now));
        }
        events
    }

    /// The reservations by an offer.
    pub fn offered(self) -> Vec<Event> {
        let heard = repeat_n(self.message.heard(), self.leases.len());
        let leases = self.leases.into_iter().zip(heard);
        leases
            .map(|(lease, heard)| Event::Offered { lease, heard })
            .collect()
    }
}

/// A request that changed no lease, if it is for an address: if it is answered by a DHCPACK, Kea
/// has left the lease as it is because that is fresh.
fn confirmed(request: KeaMessage, now: Time) -> Option<Event> {
    let message = Message::read(&request.octets).ok()?;
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
        heard: request.heard(),
    })
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
