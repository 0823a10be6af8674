//! Conversions of the bridge's plain values to those of the rest of the crate.

use std::net::Ipv4Addr;

use crate::ffi::bridge::{
    KeaAnswer, KeaLease, KeaMessage, KeaOption, KeaReservation, KeaReservations, KeaScope,
};
use crate::kea_config::{ConfiguredOption, DatabaseReservation, Scope};
use crate::mirror::event::Lease;
use crate::mirror::event::client_info::ClientMessage;
use crate::mirror::event::stored_lease::StoredLease;
use crate::model::binding::SubnetId;
use crate::plugin::kea::{HostPage, HostPosition};
use crate::plugin::message::{Answer, Message};
use crate::wire::message::options_field;

impl<'a> From<&KeaLease<'a>> for StoredLease<'a> {
    fn from(kea: &KeaLease<'a>) -> StoredLease<'a> {
        StoredLease {
            address: kea.address,
            state: kea.state,
            cltt: kea.cltt,
            valid_lifetime: kea.valid_lifetime,
            subnet: kea.subnet,
            htype: kea.hardware_type,
            hardware: kea.hardware,
            client_id: kea.client_id,
            hostname: kea.hostname,
            relay_agent_info: kea.relay_agent_info,
        }
    }
}

impl From<&KeaLease<'_>> for Lease {
    fn from(kea: &KeaLease<'_>) -> Lease {
        StoredLease::from(kea).lease()
    }
}

impl<'a> From<&KeaMessage<'a>> for Message<'a> {
    fn from(kea: &KeaMessage<'a>) -> Message<'a> {
        Message {
            message_type: kea.message_type,
            htype: kea.hardware_type,
            hardware: kea.hardware,
            client_id: kea.client_id,
            rest: ClientMessage {
                options: options_field(kea.octets).unwrap_or_default(),
                // In a message that no relay agent forwarded, the option is the client's own.
                relay_agent_information: match kea.relay {
                    0 => &[],
                    _ => kea.relay_agent_information,
                },
                classes: kea.classes,
            },
        }
    }
}

impl From<&KeaAnswer> for Answer {
    fn from(kea: &KeaAnswer) -> Answer {
        Answer {
            message_type: kea.message_type,
            address: kea.address,
        }
    }
}

/// Converts options, without those whose codes DHCPv4 does not have.
pub fn configured_options(options: Vec<KeaOption>) -> Vec<ConfiguredOption> {
    let options = options.into_iter();
    options.filter_map(KeaOption::configured).collect()
}

impl KeaOption {
    /// Returns the option; `None` if DHCPv4 does not have its code.
    fn configured(self) -> Option<ConfiguredOption> {
        let subnet = SubnetId(self.subnet);
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
                address: reserved(self.first),
            },
            _ => Scope::Global,
        };
        Some(ConfiguredOption {
            scope,
            code: u8::try_from(self.code).ok()?,
            value: self.value,
            never_send: self.never_send,
            always_send: self.always_send,
            client_classes: self.client_classes,
        })
    }
}

/// Returns a reserved address; `None` for 0, which stands for none.
fn reserved(address: u32) -> Option<Ipv4Addr> {
    (address != 0).then(|| Ipv4Addr::from_bits(address))
}

impl From<KeaReservations> for HostPage {
    fn from(page: KeaReservations) -> HostPage {
        let end = HostPosition {
            source: page.source,
            after: page.last,
        };
        HostPage {
            end: (!page.reservations.is_empty()).then_some(end),
            hosts: page
                .reservations
                .into_iter()
                .filter_map(KeaReservation::host)
                .collect(),
            options: configured_options(page.options),
        }
    }
}

impl KeaReservation {
    /// Returns the reservation; `None` for one of DHCPv6 alone.
    fn host(self) -> Option<DatabaseReservation> {
        /// Kea's number for no subnet.
        const UNUSED: u32 = u32::MAX;
        (self.subnet != UNUSED).then(|| DatabaseReservation {
            subnet: SubnetId(self.subnet),
            identifier_type: self.identifier_type,
            identifier: self.identifier,
            address: reserved(self.address),
            hostname: self.hostname,
        })
    }
}
