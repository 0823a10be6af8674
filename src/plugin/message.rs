//! A client's message, and the lease events that it causes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use proto::MessageType;

use crate::mirror::event::client_info::client_info;
use crate::mirror::event::{ClientInfo, Event, Lease, Origin};
use crate::model::address::HardwareAddress;
use crate::model::client::ClientIds;
use crate::model::time::Time;

/// A DHCPREQUEST; Kea gives this type to the message of a BOOTP client, too.
const DHCPREQUEST: u8 = MessageType::REQUEST.0;
/// A DHCPACK.
const DHCPACK: u8 = MessageType::ACK.0;
/// A DHCPRELEASE.
const DHCPRELEASE: u8 = MessageType::RELEASE.0;
/// Kea's number for no message type, as of an answer to a BOOTP client.
const NO_TYPE: u8 = 0;

/// A client's message, lent for the time of a callout. All but its octets is as Kea has parsed it, and as
/// other hooks have left it.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// The DHCP message type.
    pub message_type: u8,
    /// The message as received.
    pub octets: &'a [u8],
    /// The client's hardware type.
    pub htype: u8,
    /// The client's hardware address; empty if none.
    pub hardware: &'a [u8],
    /// The client identifier; empty if none.
    pub client_id: &'a [u8],
    /// Whether a relay agent forwarded the message (giaddr is not zero).
    pub is_relayed: bool,
    /// The value of option 82; empty if there is none.
    pub relay_agent_information: &'a [u8],
    /// The client classes of the message, in Kea's order.
    pub classes: Arc<[String]>,
}

/// An answer to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The DHCP message type; 0 if there is none, as in an answer to a BOOTP client.
    pub message_type: u8,
    /// The address that the client gets (yiaddr), in host byte order; 0 if none.
    pub address: u32,
}

impl Answer {
    /// Returns the address that the client of a DHCPREQUEST holds by this answer.
    fn leased(&self) -> Option<Ipv4Addr> {
        let is_ack = matches!(self.message_type, DHCPACK | NO_TYPE);
        (is_ack && self.address != 0).then(|| Ipv4Addr::from_bits(self.address))
    }
}

impl Message<'_> {
    /// Returns the parts of the message that Kea does not put into the lease.
    fn client_info(&self) -> ClientInfo {
        let relayed = self
            .is_relayed
            .then(|| self.relay_agent_information.to_vec());
        client_info(
            self.octets,
            relayed.unwrap_or_default(),
            Arc::clone(&self.classes),
        )
    }

    /// Returns the event of a lease that the message made or changed.
    pub fn committed(&self, lease: Lease) -> Event {
        Event::Committed {
            lease,
            client_info: self.client_info(),
        }
    }

    /// Returns the event of an offer that reserves its address.
    pub fn offered(&self, lease: Lease) -> Event {
        Event::Offered {
            lease,
            client_info: self.client_info(),
        }
    }

    /// Returns the event of a lease that the message ended, given the lease before.
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

    /// Returns the event of a message that led to no lease, new or renewed. If the message asks for an
    /// address and the answer gives that of the client's lease, Kea has left the lease as it is because it
    /// is fresh (`cache-threshold`). Kea may also have refused the address.
    pub fn confirmed(&self, answer: &Answer, now: Time) -> Option<Event> {
        let address = answer
            .leased()
            .filter(|_| self.message_type == DHCPREQUEST)?;
        Some(Event::Confirmed {
            address,
            client: ClientIds {
                hardware: HardwareAddress {
                    htype: self.htype,
                    octets: self.hardware.to_vec(),
                },
                client_id: self.client_id.to_vec(),
            },
            at: now,
            client_info: self.client_info(),
        })
    }
}
