//! A lease in the form in which Kea stores it.

use std::net::Ipv4Addr;

use crate::mirror::event::{Lease, LeaseState};
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::hex;
use crate::model::relay_agent_information::MAX_LENGTH;
use crate::model::time::{Lifetime, Time};

/// A lease in the form in which Kea stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredLease<'a> {
    /// The leased address, in host byte order.
    pub address: u32,
    /// Kea's number of its state.
    pub state: u32,
    /// Client last transaction time, seconds since 1970.
    pub cltt: i64,
    /// Valid lifetime, in seconds.
    pub valid_lifetime: u32,
    /// The number of the subnet.
    pub subnet: u32,
    /// The client's hardware type; 0 without a hardware address.
    pub htype: u16,
    /// The client's hardware address; empty if none.
    pub hardware: &'a [u8],
    /// The client identifier; empty if none.
    pub client_id: &'a [u8],
    /// The host name, any octets.
    pub hostname: &'a [u8],
    /// The text of the relay agent information in the user-context; empty if there is none.
    pub relay_agent_info: &'a [u8],
}

impl StoredLease<'_> {
    /// Returns the lease.
    pub fn lease(&self) -> Lease {
        Lease {
            address: Ipv4Addr::from_bits(self.address),
            state: state(self.state, self.valid_lifetime),
            cltt: Time::from_time_t(self.cltt),
            valid_lifetime: Lifetime(self.valid_lifetime),
            subnet: SubnetId(self.subnet),
            hardware: hardware_address(self.htype, self.hardware),
            client_id: self.client_id.to_vec(),
            hostname: self.hostname.to_vec(),
            relay_agent_information: relay_agent_information(self.relay_agent_info),
        }
    }
}

/// Returns a hardware address. Its type has one octet on the wire (RFC 2131 section 2).
pub fn hardware_address(htype: u16, octets: &[u8]) -> HardwareAddress {
    HardwareAddress {
        htype: u8::try_from(htype).unwrap_or(0),
        octets: octets.to_vec(),
    }
}

/// Returns the value of option 82 that Kea stores as `text` in a lease's user-context
/// (`store-extended-info`): hexadecimal digits after `0x`.
///
/// An administrator may write any text there: one of another form, or longer than the mirror keeps, counts
/// as absent.
fn relay_agent_information(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    hex::read(digits).filter(|octets| (1..=MAX_LENGTH).contains(&octets.len()))
}

/// Returns a lease's state by Kea's number of it.
fn state(number: u32, valid_lifetime: u32) -> LeaseState {
    match (number, valid_lifetime) {
        // Kea 2.6 gives a released lease this lifetime.
        (0, 0) => LeaseState::Released,
        (0, _) => LeaseState::Default,
        (1, _) => LeaseState::Declined,
        (3, _) => LeaseState::Released,
        // 2. In a state that a later Kea may add, no client holds the address.
        _ => LeaseState::ExpiredReclaimed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_digits_that_kea_writes() {
        assert_eq!(
            relay_agent_information(b"0x0104AABBccDD0203010203"),
            Some(vec![1, 4, 0xAA, 0xBB, 0xCC, 0xDD, 2, 3, 1, 2, 3])
        );
    }

    #[test]
    fn a_released_lease_of_kea_2_6_has_no_lifetime() {
        let states = [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 1)];
        assert_eq!(
            states.map(|(number, lifetime)| state(number, lifetime)),
            [
                LeaseState::Released,
                LeaseState::Default,
                LeaseState::Declined,
                LeaseState::ExpiredReclaimed,
                LeaseState::Released,
                LeaseState::ExpiredReclaimed,
            ]
        );
    }

    #[test]
    fn malformed_text_counts_as_absent() {
        for text in [
            &b""[..],
            b"0x",
            b"0x012",
            b"0xzz",
            b"0x 1",
            b"relay-agent-info",
            b"\xff\xfe",
            "0xé1".as_bytes(),
        ] {
            assert_eq!(
                relay_agent_information(text),
                None,
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
