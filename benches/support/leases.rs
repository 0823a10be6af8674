//! Leases for benchmarks: with relay information of 40 octets, 100,000 behind each relay.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::time::{Lifetime, Time};

/// Leases behind each relay.
pub const PER_RELAY: u32 = 100_000;
/// The first address leased, of a pool of 2^24.
pub const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// Lease `number`, last heard of at `cltt`.
pub fn lease(number: u32, cltt: u32) -> Lease {
    let relay = u8::try_from(number / PER_RELAY).unwrap_or(u8::MAX);
    let mut information = vec![12, 8, 0, 0, 0, 0, 0, 0, 0, relay, 2, 28];
    information.extend(format!("line {number:023}").into_bytes());
    Lease {
        address: Ipv4Addr::from_bits(FIRST + number),
        state: LeaseState::Default,
        cltt: Time(cltt),
        valid_lifetime: Lifetime(86_400),
        subnet: SubnetId(1),
        hardware: HardwareAddress {
            htype: 1,
            octets: [&[2, 0], &number.to_be_bytes()[..]].concat(),
        },
        client_id: [&[1, 2, 0], &number.to_be_bytes()[..]].concat(),
        hostname: Vec::new(),
        relay_agent_information: Some(information),
    }
}

/// A mirror loaded with `count` leases as at start-up, last heard of in the hours before `now`.
pub fn load(count: u32, now: u32) -> Mirror {
    let view = r#"{ "Dhcp4": { "subnet4": [
        { "id": 1, "subnet": "10.0.0.0/8", "pools": [ { "pool": "10.0.0.0/8" } ] } ] } }"#;
    let kea_config = KeaConfig::from_json(view, Vec::new()).expect("a good configuration");
    let mut initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), Time(now));
    for number in 0..count {
        initial_load.lease(&lease(number, now - 1_000 - number % 10_000));
    }
    initial_load.finish()
}

/// The client of lease `number` renews it at `now`.
pub fn renewal(number: u32, now: u32) -> Event {
    let lease = lease(number, now);
    let client_info = ClientInfo {
        relay_agent_information: lease.relay_agent_information.clone(),
        ..ClientInfo::default()
    };
    Event::Committed { lease, client_info }
}
