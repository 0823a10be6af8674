//! A client's message, and the lease events that it causes.

use std::net::Ipv4Addr;

use proto::MessageType;

use crate::mirror::event::client_info::ClientMessage;
use crate::mirror::event::report::Report;
use crate::mirror::event::stored_lease::{StoredLease, hardware_address};
use crate::mirror::event::{Event, Origin};
use crate::model::client::ClientIds;
use crate::model::time::Time;

/// Kea's number for no message type, as of an answer to a BOOTP client.
const NO_TYPE: MessageType = MessageType(0);

/// A client's message, lent for the time of a callout. All but its options field is as Kea has parsed it, and
/// as other hooks have left it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The DHCP message type, DHCPREQUEST also for a BOOTP client; 0 if the message made or changed leases and
    /// ended none.
    pub message_type: u8,
    /// The client's hardware type.
    pub htype: u16,
    /// The client's hardware address; empty if none.
    pub hardware: &'a [u8],
    /// The client identifier; empty if none.
    pub client_id: &'a [u8],
    /// The parts that Kea does not put into the lease.
    pub rest: ClientMessage<'a>,
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
        let is_ack = matches!(MessageType(self.message_type), MessageType::ACK | NO_TYPE);
        (is_ack && self.address != 0).then(|| Ipv4Addr::from_bits(self.address))
    }
}

impl Message<'_> {
    /// Returns the event of a lease that the message ended, given the lease before.
    pub fn ended(&self, lease: &StoredLease<'_>, now: Time) -> Event {
        let address = Ipv4Addr::from_bits(lease.address);
        // Kea has made the change, and may have given the address to another client.
        let client = Some(ClientIds {
            hardware: hardware_address(lease.htype, lease.hardware),
            client_id: lease.client_id.to_vec(),
        });
        match MessageType(self.message_type) {
            MessageType::RELEASE => Event::Released {
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

    /// Reports a message that led to no lease, new or renewed. If the message asks for an address and the
    /// answer gives that of the client's lease, Kea has left the lease as it is because it is fresh
    /// (`cache-threshold`). Kea may also have refused the address: then there is nothing to report.
    pub fn confirmed(&self, answer: &Answer, now: Time) -> Option<Report> {
        let is_request = MessageType(self.message_type) == MessageType::REQUEST;
        let address = answer.leased().filter(|_| is_request)?;
        let client = StoredLease {
            htype: self.htype,
            hardware: self.hardware,
            client_id: self.client_id,
            ..StoredLease::default()
        };
        Some(Report::confirmed(address, &client, now, &self.rest))
    }
}
