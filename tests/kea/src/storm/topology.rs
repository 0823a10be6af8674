//! The topology of a storm: subnets, relays and lines, and the variants of their configuration.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::packet::{self, sub_option};
use crate::{Place, Setup, kea_version};

/// Number of subscriber lines. Each belongs to one relay and has its own remote-id.
pub const LINES: usize = 90;

/// The lifetime of a reserved offer, in seconds, if Kea reserves offers. No lease has this
/// lifetime, so offers are distinguishable from leases in Kea's database.
pub const OFFER_LIFETIME: u32 = 7;

/// The subnet that commands remove and add again.
pub const COMMANDED_SUBNET: u32 = 6;

/// The choices that `--without` can exclude, by name: bits of a [`Variant`].
const OPTIONAL: [(&str, u32); 4] = [
    ("Cache", 1 << 5),
    ("StoredRelay", 1 << 6),
    ("Offers", 1 << 8),
    ("Vpn", 1 << 4),
];

/// A variant of the configuration. Each bit is one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant(pub u32);

impl Variant {
    /// The initial variant: all subnets, no optional features.
    pub const FIRST: Variant = Variant(0);

    /// Whether a choice is made.
    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Whether Kea leaves recent leases unchanged on renewal (lease caching).
    pub fn caches(self) -> bool {
        self.has(5) && self.has(11)
    }
}

/// The subnets and relays of a storm.
#[derive(Debug, Clone)]
pub struct Topology {
    /// A loopback /24 for each of the first four subnets.
    places: [Place; 4],
    /// The bits allowed in a variant.
    choices: u32,
    /// Whether Kea can reserve offered addresses: 2.6 and later.
    pub reserves_offers: bool,
    /// Whether Kea has commands for subnets and reservations: 3.0 and later.
    pub has_network_commands: bool,
}

/// A subscriber line: its relay, and the option 82 which that relay adds.
#[derive(Debug, Clone)]
pub struct Line {
    /// The relay's address.
    pub relay: Ipv4Addr,
    /// The value of option 82, if the relay adds it.
    pub option_82: Option<Vec<u8>>,
}

impl Topology {
    /// Returns the topology for a server at `place`, `without` some choices of the configuration.
    pub fn new(place: Place, without: &[String]) -> Self {
        let version = kea_version();
        let mut choices = u32::MAX;
        for (name, bit) in OPTIONAL {
            if without.iter().any(|without| without == name) {
                choices &= !bit;
            }
        }
        Topology {
            choices,
            places: [place, Place::take(), Place::take(), Place::take()],
            reserves_offers: !version.starts_with("2.2."),
            has_network_commands: !version.starts_with("2."),
        }
    }

    /// Returns the relays' addresses: two in each loopback subnet, and one for the remaining
    /// subnet.
    pub fn relays(&self) -> Vec<Ipv4Addr> {
        let own = self.places.iter();
        own.flat_map(|place| [place.relay(0), place.relay(1)])
            .chain([self.places[0].relay(20)])
            .collect()
    }

    /// Returns line number `n`. Some relays add no option 82, some lines are in a VPN.
    pub fn line(&self, n: usize) -> Line {
        let relays = self.relays();
        let relay = n % relays.len();
        let mut all = vec![
            (sub_option::CIRCUIT_ID, format!("port {n}").into_bytes()),
            (sub_option::REMOTE_ID, format!("line {n}").into_bytes()),
            (sub_option::RELAY_ID, format!("relay {relay}").into_bytes()),
        ];
        if n % 11 == 3 {
            all.push((sub_option::VSS, b"\0green".to_vec()));
        }
        Line {
            relay: relays[relay],
            option_82: (n % 13 != 5).then(|| packet::sub_options(&all)),
        }
    }

    /// Returns an address outside all pools, for messages that must not affect a lease.
    pub fn bystander(&self) -> Ipv4Addr {
        self.places[0].address(253)
    }

    /// Returns an address, and the subnet which some variant configures for it.
    pub fn some_address(&self, salt: u32) -> (Ipv4Addr, u32) {
        let place = salt as usize % 5;
        let host = 40 + (salt >> 8) % 200;
        let host = u8::try_from(host).expect("below 240");
        match place {
            4 => (Ipv4Addr::new(10, 77, 0, 8 + host % 16), COMMANDED_SUBNET),
            3 if host < 128 => (self.places[3].address(host), 4),
            3 => (self.places[3].address(host), 5),
            place => (self.places[place].address(host), place as u32 + 1),
        }
    }

    /// Applies a variant of the configuration to `setup`.
    pub fn configure(&self, setup: Setup, variant: Variant) -> Setup {
        let variant = Variant(variant.0 & self.choices);
        let mut setup = setup
            .set("valid-lifetime", json!(3600))
            .set("decline-probation-period", json!(8))
            .set("store-extended-info", json!(variant.has(6)))
            .set("expired-leases-processing", processing(variant.has(7)))
            .set(
                "client-classes",
                json!([{
                    "name": "brief",
                    "test": "option[60].text == 'brief'",
                    "valid-lifetime": 5,
                }]),
            )
            .set(
                "shared-networks",
                json!([{
                    "name": "pair",
                    "valid-lifetime": 60,
                    "subnet4": [self.half(4, 0, (40, 60)), self.half(5, 128, (140, 190))],
                }]),
            )
            .subnets(self.subnets(variant));
        // The default depends on the version of Kea, and 0 is refused: less than a second serves
        // instead.
        let threshold = if variant.caches() { 0.6 } else { 0.0001 };
        setup = setup.set("cache-threshold", json!(threshold));
        if self.reserves_offers {
            let lifetime = if variant.has(8) { OFFER_LIFETIME } else { 0 };
            setup = setup.set("offer-lifetime", json!(lifetime));
        }
        setup
    }

    /// Returns the subnets outside shared networks.
    fn subnets(&self, variant: Variant) -> Value {
        let [first, second, third, _] = self.places;
        let pools = match variant.0 & 3 {
            0 => json!([{ "pool": first.pool(100, 200) }]),
            1 => json!([{ "pool": first.pool(100, 150) }]),
            2 => json!([{ "pool": first.pool(120, 220) }]),
            _ => json!([{ "pool": first.pool(100, 130) }, { "pool": first.pool(140, 200) }]),
        };
        let of_first = if variant.has(2) { [2, 3, 4] } else { [5, 3, 6] };
        let reserved = [first.address(50), first.address(125), first.address(51)];
        let reservations: Vec<_> = of_first
            .iter()
            .zip(reserved)
            .map(|(client, address)| {
                json!({ "hw-address": format!("02:00:00:00:00:{client:02x}"),
                    "ip-address": address.to_string() })
            })
            .collect();
        let mut subnets = vec![
            json!({ "id": 1, "subnet": first.subnet(), "pools": pools,
                "reservations": reservations, "reservations-out-of-pool": false }),
            json!({ "id": 2, "subnet": second.subnet(),
                "pools": [{ "pool": second.pool(100, 160) }],
                "valid-lifetime": if variant.has(9) { 9 } else { 4 } }),
            json!({ "id": 3, "subnet": third.subnet(), "valid-lifetime": 20,
                "pools": [{ "pool": third.pool(100, if variant.has(10) { 180 } else { 170 }) }] }),
        ];
        if variant.has(4) {
            subnets[2]["user-context"] = json!({ "vpn": { "name": "blue" } });
        }
        if !(variant.has(3) && variant.has(12)) {
            subnets.push(self.commanded_subnet(9));
        }
        subnets.into()
    }

    /// Returns the subnet that commands remove and add. Its pool is small, so that clients compete
    /// for addresses.
    pub fn commanded_subnet(&self, last: u8) -> Value {
        json!({ "id": COMMANDED_SUBNET, "subnet": "10.77.0.0/24", "valid-lifetime": 3,
            "pools": [{ "pool": format!("10.77.0.10 - 10.77.0.{}", 10 + last) }],
            "relay": { "ip-addresses": [self.places[0].relay(20).to_string()] } })
    }

    /// Returns half of the fourth /24 as a subnet of the shared network; one relay serves both
    /// halves.
    fn half(&self, id: u32, first: u8, (from, to): (u8, u8)) -> Value {
        let place = self.places[3];
        json!({ "id": id, "subnet": format!("{}/25", place.address(first)),
            "pools": [{ "pool": place.pool(from, to) }] })
    }
}

/// Returns the settings for expired leases: Kea reclaims them after a second, and removes them
/// after two seconds or an hour.
fn processing(removes_soon: bool) -> Value {
    json!({
        "reclaim-timer-wait-time": 1,
        "flush-reclaimed-timer-wait-time": 2,
        "hold-reclaimed-time": if removes_soon { 2 } else { 3600 },
    })
}
