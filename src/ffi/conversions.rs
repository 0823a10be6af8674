//! Conversions of the bridge's plain values to those of the rest of the crate.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::ffi::bridge::{
    KeaAnswer, KeaLease, KeaMessage, KeaOption, KeaReservation, KeaReservations, KeaScope,
};
use crate::kea_config::{ConfiguredOption, DatabaseReservation, Scope};
use crate::mirror::event::Lease;
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::time::{Lifetime, Time};
use crate::plugin::kea::{HostPage, HostPosition};
use crate::plugin::message::{Answer, Message};
use crate::plugin::stored_lease;

impl From<&KeaLease<'_>> for Lease {
    fn from(kea: &KeaLease<'_>) -> Lease {
        Lease {
            address: Ipv4Addr::from_bits(kea.address),
            state: stored_lease::state(kea.state, kea.valid_lifetime),
            cltt: Time::from_time_t(kea.cltt),
            valid_lifetime: Lifetime(kea.valid_lifetime),
            subnet: SubnetId(kea.subnet),
            hardware: HardwareAddress {
                htype: htype(kea.hardware_type),
                octets: kea.hardware.to_vec(),
            },
            client_id: kea.client_id.to_vec(),
            hostname: kea.hostname.to_vec(),
            relay_agent_information: stored_lease::relay_agent_information(kea.relay_agent_info),
        }
    }
}

/// Returns a hardware type, which has one octet on the wire (RFC 2131 section 2).
fn htype(hardware_type: u16) -> u8 {
    u8::try_from(hardware_type).unwrap_or(0)
}

thread_local! {
    /// The classes of the last message on this thread: most messages are in the same.
    static CLASSES: RefCell<Arc<[String]>> = RefCell::default();
}

impl KeaMessage<'_> {
    /// Returns the client's message.
    pub fn message(&self) -> Message<'_> {
        Message {
            message_type: self.message_type,
            octets: self.octets,
            htype: htype(self.hardware_type),
            hardware: self.hardware,
            client_id: self.client_id,
            is_relayed: self.relay != 0,
            relay_agent_information: &self.relay_agent_information,
            classes: self.classes(),
        }
    }

    /// Returns its client classes.
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
}

impl From<KeaAnswer> for Answer {
    fn from(kea: KeaAnswer) -> Answer {
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
