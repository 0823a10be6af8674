//! Leases for benchmarks, generated from a fixed seed: the same ones in each run, of any number.
//!
//! - [`Set::Realistic`]: leases of an access network. Relay agents take turns at random in shared
//!   subnets; identifiers, host names and options have different lengths or are missing; a third
//!   of the bindings are not active; the last event of each is in random order.
//! - [`Set::Uniform`]: identifiers of one length, each relay agent's leases side by side, all
//!   active. Flatters caches and branch prediction.

// Each program uses a part.
#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::ops::Range;

use dhcp_blq::mirror::event::{Lease, LeaseState};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::option::RawOption;
use dhcp_blq::model::time::{Lifetime, Time};
use serde_json::{Value, json};

/// The first address of the pools.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// The id of the first subnet: lower ones are free for other subnets.
const FIRST_ID: u32 = 10;

/// Subnets of the realistic set; the size of the pools is a multiple.
pub const SUBNETS: u32 = 1_000;

/// The least of them with leases.
const LEAST_USED: u32 = 8;

/// Leases in each subnet with leases, where the numbers of leases and addresses allow it.
const PER_SUBNET: u32 = 10_000;

/// Addresses of each of them: a /18.
const SUBNET_SIZE: u32 = 1 << 14;

/// One subnet in so many belongs to [`VPN`] in the realistic set.
const VPN_EVERY: u32 = 4;

/// The name of the second VPN of the realistic set.
pub const VPN: &str = "business";

/// The largest pool: [`SUBNETS`] pools of 16,000 addresses.
pub const LARGEST_POOL: u32 = 16_000_000;

/// Seconds for which leases of the uniform set last: longer than any measurement.
const LIFETIME: u32 = 10 * 86_400;

/// Bindings of the uniform set that changed lately.
const CHANGED: u32 = 1_000;

/// Seconds since the first of them changed.
const CHANGED_AGO: u32 = 5_000;

/// Seconds from the first of these changes to the last.
const CHANGED_WITHIN: u32 = 60;

/// Seconds since the last change of the other bindings, which changed within as many seconds.
const OTHERS_AGO: u32 = 10_000;

/// Seconds since the churn of the realistic set ended.
const CHURN_AGO: u32 = 600;

/// Seconds for which it lasted.
const CHURN_LASTED: u32 = 40_000;

/// The last events of the churn come at [`TAIL_RATE`], however many bindings there are.
const TAIL: u32 = 60_000;

/// Events a second at the end of the churn.
const TAIL_RATE: u32 = 20;

/// A kind of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// As an access network has them.
    Realistic,
    /// All alike.
    Uniform,
}

impl Set {
    /// All sets, the main one first.
    pub const ALL: [Set; 2] = [Set::Realistic, Set::Uniform];

    /// The name in tables and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Set::Realistic => "realistic",
            Set::Uniform => "uniform",
        }
    }

    /// The set of a name.
    pub fn from_name(name: &str) -> Option<Set> {
        Set::ALL.into_iter().find(|set| set.name() == name)
    }

    /// The number of relay agents.
    pub fn relays(self) -> u32 {
        match self {
            // Two thirds of the bindings are active, three quarters in the default VPN: a query
            // for one of five relay agents returns a tenth of all, as in the uniform set.
            Set::Realistic => 5,
            Set::Uniform => 10,
        }
    }
}

/// A set of leases, numbered in the order of their addresses.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// The kind.
    pub set: Set,
    /// The number of leases.
    pub count: u32,
    /// Addresses of all pools together: a multiple of [`SUBNETS`], `count` at least.
    pub pool: u32,
    /// The time of the measurement, in seconds since 1970.
    pub now: u32,
}

/// A DHCP client, and the sub-options that its relay agent adds. Empty: not sent.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The MAC address, of Ethernet.
    pub mac: Vec<u8>,
    /// The client identifier (RFC 2132 section 9.14, RFC 4361).
    pub client_id: Vec<u8>,
    /// The host name.
    pub hostname: Vec<u8>,
    /// The vendor class identifier.
    pub vendor_class: Vec<u8>,
    /// The parameter request list.
    pub parameters: Vec<u8>,
    /// The circuit-id.
    pub circuit_id: Vec<u8>,
    /// The remote-id.
    pub remote_id: Vec<u8>,
    /// The link selection (RFC 3527).
    pub link: Vec<u8>,
    /// The relay-id (RFC 6925).
    pub relay_id: Vec<u8>,
}

impl Client {
    /// The value of option 82.
    pub fn relay_agent_information(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        for (code, part) in [
            (1, &self.circuit_id),
            (2, &self.remote_id),
            (5, &self.link),
            (12, &self.relay_id),
        ] {
            if !part.is_empty() {
                value.extend([code, part.len() as u8]);
                value.extend(part);
            }
        }
        value
    }

    /// The options that it sends besides its identifiers, in the order of their codes.
    pub fn options(&self) -> Vec<RawOption> {
        let options = [
            (12, &self.hostname),
            (55, &self.parameters),
            (60, &self.vendor_class),
        ];
        let sent = options.into_iter().filter(|(_, value)| !value.is_empty());
        sent.map(|(code, value)| RawOption {
            code,
            value: value.clone(),
        })
        .collect()
    }
}

/// The last event of a binding, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The client renews it.
    Renewed,
    /// The client gives it up, and another one gets it.
    Replaced,
    /// The client releases it.
    Released,
    /// The lease expires.
    Expired,
    /// The client declines it.
    Declined,
}

impl Fate {
    /// Whether the binding is active in the end.
    pub fn is_active(self) -> bool {
        matches!(self, Fate::Renewed | Fate::Replaced)
    }
}

/// The last event of a binding, by its time.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The time, in seconds since 1970.
    pub at: u32,
    /// The number of the lease.
    pub number: u32,
}

impl Leases {
    /// Leases of a kind. Both numbers are rounded to thousands and limited by [`LARGEST_POOL`].
    pub fn new(set: Set, count: u32, pool: u32, now: u32) -> Leases {
        let rounded = |value: u32| (value / SUBNETS).max(1) * SUBNETS;
        let count = rounded(count).min(LARGEST_POOL);
        Leases {
            set,
            count,
            pool: rounded(pool).clamp(count, LARGEST_POOL),
            now,
        }
    }

    /// Whether the set is the realistic one.
    pub fn is_realistic(&self) -> bool {
        self.set == Set::Realistic
    }

    // ----- Addresses --------------------------------------------------------------------------

    /// Leases in each subnet of the realistic set that has any.
    fn per_subnet(&self) -> u32 {
        let used = (self.count / PER_SUBNET).max(LEAST_USED);
        let least = self.count.div_ceil(self.pool / SUBNETS);
        self.count.div_ceil(used.max(least).min(SUBNETS))
    }

    /// The index of a lease's subnet, from 0.
    pub fn subnet_index(&self, number: u32) -> u32 {
        match self.set {
            Set::Realistic => number / self.per_subnet(),
            Set::Uniform => 0,
        }
    }

    /// The address of lease `number`, below `count`.
    ///
    /// Realistic: Kea fills one subnet after the other from the beginning of its pool, and five of
    /// eight addresses there are bound as long as there is room; other subnets are in reserve.
    /// Uniform: evenly over the pool.
    pub fn address(&self, number: u32) -> Ipv4Addr {
        let place = match self.set {
            Set::Realistic => {
                let each = self.per_subnet();
                let used = (each * 8).div_ceil(5).min(self.pool / SUBNETS);
                let place = u64::from(number % each) * u64::from(used) / u64::from(each);
                number / each * SUBNET_SIZE + place as u32
            }
            Set::Uniform => {
                (u64::from(number) * u64::from(self.pool) / u64::from(self.count)) as u32
            }
        };
        Ipv4Addr::from_bits(FIRST + place)
    }

    /// Whether lease `number` is in the default VPN.
    pub fn is_in_default_vpn(&self, number: u32) -> bool {
        match self.set {
            Set::Realistic => self.subnet_index(number) % VPN_EVERY != 1,
            Set::Uniform => true,
        }
    }

    /// Addresses of the pools in the default VPN.
    pub fn pool_of_default_vpn(&self) -> u32 {
        match self.set {
            Set::Realistic => self.pool / VPN_EVERY * (VPN_EVERY - 1),
            Set::Uniform => self.pool,
        }
    }

    /// The subnets as Kea is configured with them (`subnet4`).
    pub fn subnets(&self) -> Vec<Value> {
        let (count, size, length) = match self.set {
            Set::Realistic => (SUBNETS, SUBNET_SIZE, 18),
            Set::Uniform => (1, 0, 8),
        };
        let subnet = |index: u32| {
            let first = FIRST + index * size;
            let last = Ipv4Addr::from_bits(first + self.pool / count - 1);
            let first = Ipv4Addr::from_bits(first);
            let mut subnet = json!({
                "id": FIRST_ID + index,
                "subnet": format!("{first}/{length}"),
                "pools": [{ "pool": format!("{first} - {last}") }],
            });
            if self.is_realistic() && index % VPN_EVERY == 1 {
                subnet["user-context"] = json!({ "vpn": { "name": VPN } });
            }
            subnet
        };
        (0..count).map(subnet).collect()
    }

    // ----- Clients ----------------------------------------------------------------------------

    /// The relay agent of lease `number`'s client in the end, below [`Set::relays`].
    pub fn relay(&self, number: u32) -> u32 {
        match self.set {
            Set::Realistic => relay_of(number, LAST),
            Set::Uniform => number / (self.count / self.set.relays()),
        }
    }

    /// The relay-id of a relay agent: of different lengths, as DUIDs have.
    pub fn relay_id(&self, relay: u32) -> Vec<u8> {
        match (self.set, relay % 4) {
            (Set::Uniform, _) => vec![0, 0, 0, 0, 0, 0, 0, relay as u8],
            // DUID-LL and DUID-LLT (RFC 8415 section 11).
            (Set::Realistic, 0) => {
                [&[0, 3, 0, 1, 0, 0x1e, 0x4a, 0, 0][..], &[relay as u8]].concat()
            }
            (Set::Realistic, 1) => {
                let time_and_address = [0x2c, 0x11, 7, 1, 0, 0x1e, 0x4a, 9, 9];
                [&[0, 1, 0, 1][..], &time_and_address, &[relay as u8]].concat()
            }
            // DUID-EN: an enterprise number and a name.
            (Set::Realistic, _) => {
                let name = format!("bng{relay}.pop7.example.net");
                [&[0, 2, 0, 0, 0x0a, 0x4c][..], name.as_bytes()].concat()
            }
        }
    }

    /// The remote-id of lease `number`'s client in the end.
    pub fn remote_id(&self, number: u32) -> RemoteId {
        match self.set {
            Set::Realistic => RemoteId::of(number, LAST),
            Set::Uniform => RemoteId::Own,
        }
    }

    /// The client of lease `number` in the end. A declined lease has none, but a relay agent.
    pub fn client(&self, number: u32) -> Client {
        match self.set {
            Set::Realistic => self.realistic_client(number, LAST),
            Set::Uniform => self.uniform_client(number),
        }
    }

    /// The client of lease `number` at first.
    pub fn first_client(&self, number: u32) -> Client {
        match self.fate(number) {
            Fate::Replaced => self.realistic_client(number, FORMER),
            _ => self.client(number),
        }
    }

    /// A client of the uniform set: identifiers of one length, option 82 of 40 octets.
    fn uniform_client(&self, number: u32) -> Client {
        let [a, b, c, d] = number.to_be_bytes();
        Client {
            mac: vec![2, 0, a, b, c, d],
            client_id: vec![1, 2, 0, a, b, c, d],
            remote_id: format!("line {number:023}").into_bytes(),
            relay_id: self.relay_id(self.relay(number)),
            ..Client::default()
        }
    }

    /// A client of the realistic set.
    fn realistic_client(&self, number: u32, generation: u64) -> Client {
        let random = |what| random(number, generation + what);
        let mac = mac(number, generation);
        let [.., c, d] = number.to_be_bytes();
        let hostname = match random(HOST_NAME) {
            // One in four has none.
            value if value % 4 == 1 => Vec::new(),
            value => {
                let prefix = HOST_NAMES[(value >> 8) as usize % HOST_NAMES.len()];
                let digits = 2 + (value >> 16) as usize % 11;
                let own = format!("{:012x}", value >> 16);
                format!("{prefix}{}", &own[..digits]).into_bytes()
            }
        };
        let vendor_class = VENDOR_CLASSES[random(VENDOR_CLASS) as usize % VENDOR_CLASSES.len()];
        let parameters = PARAMETERS[random(PARAMETER_LIST) as usize % PARAMETERS.len()];
        let circuit_id = match random(CIRCUIT_ID) % 4 {
            0 => Vec::new(),
            1 => vec![0, 4, 0, d, c % 4, d % 48],
            2 => format!("ge-0/0/{}.{}", c % 8, number % 4_000).into_bytes(),
            _ => format!("xpon 0/{}/0/{}:{}.1.1", c % 16, d % 16, number % 128).into_bytes(),
        };
        let link = self.address(number).to_bits() & !(SUBNET_SIZE - 1);
        Client {
            client_id: client_id(number, generation, &mac),
            remote_id: RemoteId::of(number, generation).octets(number, generation),
            link: link.to_be_bytes().to_vec(),
            relay_id: self.relay_id(relay_of(number, generation)),
            hostname,
            vendor_class: vendor_class.as_bytes().to_vec(),
            parameters: parameters.to_vec(),
            circuit_id,
            mac,
        }
    }

    // ----- Life -------------------------------------------------------------------------------

    /// The fate of lease `number`.
    pub fn fate(&self, number: u32) -> Fate {
        if self.set == Set::Uniform {
            return Fate::Renewed;
        }
        match random(number, FATE) % 24 {
            0..12 => Fate::Renewed,
            12..16 => Fate::Replaced,
            16..20 => Fate::Released,
            20..23 => Fate::Expired,
            _ => Fate::Declined,
        }
    }

    /// The last change of each binding.
    ///
    /// Realistic: in random order of addresses, by time. Uniform: in the order of addresses.
    pub fn changes(&self, positions: Range<u32>) -> impl Iterator<Item = Change> {
        let leases = *self;
        positions.map(move |position| match leases.set {
            Set::Realistic => Change {
                at: leases.change_time(position),
                number: shuffled(position, leases.count, ORDER),
            },
            Set::Uniform => Change {
                at: leases.last_transaction(position),
                number: position,
            },
        })
    }

    /// The time of the change at a position of the churn: at [`TAIL_RATE`] in the end, and spread
    /// over the rest of the time before.
    fn change_time(&self, position: u32) -> u32 {
        let end = self.now - CHURN_AGO;
        let from_end = self.count - 1 - position;
        if from_end < TAIL {
            return end - from_end / TAIL_RATE;
        }
        let rest = u64::from(CHURN_LASTED - TAIL / TAIL_RATE);
        let before = u64::from(from_end - TAIL) * rest / u64::from(self.count - TAIL);
        end - TAIL / TAIL_RATE - before as u32
    }

    /// The time of the last change of all.
    pub fn last_change(&self) -> u32 {
        match self.set {
            Set::Realistic => self.now - CHURN_AGO,
            Set::Uniform => self.now - CHANGED_AGO + CHANGED_WITHIN,
        }
    }

    /// When the mirror is loaded: before the churn, if there is one.
    pub fn loaded_at(&self) -> u32 {
        match self.set {
            Set::Realistic => self.now - CHURN_AGO - CHURN_LASTED - 1,
            Set::Uniform => self.now,
        }
    }

    /// The last transaction of lease `number` in the uniform set.
    fn last_transaction(&self, number: u32) -> u32 {
        let step = (self.count / CHANGED).max(1);
        match (number % step, number / step) {
            (0, index) if index < CHANGED => self.now - CHANGED_AGO + index % CHANGED_WITHIN,
            _ => self.now - OTHERS_AGO - number % OTHERS_AGO,
        }
    }

    /// Seconds for which lease `number` lasts: all longer than any measurement.
    fn lifetime(&self, number: u32) -> u32 {
        match self.set {
            Set::Realistic => 86_400 * [4, 4, 7, 14][random(number, LIFE) as usize % 4],
            Set::Uniform => LIFETIME,
        }
    }

    /// Lease `number` before the churn, as Kea's lease database holds it.
    pub fn first_lease(&self, number: u32) -> Lease {
        let cltt = match self.set {
            Set::Realistic => self.loaded_at() - (random(number, AGE) % 40_000) as u32,
            Set::Uniform => self.last_transaction(number),
        };
        self.lease(number, &self.first_client(number), cltt)
    }

    /// Lease `number` after its last change at `at`, as Kea's lease database holds it, and its
    /// client.
    pub fn last_lease(&self, number: u32, at: u32) -> (Lease, Client) {
        let client = self.client(number);
        let lease = self.lease(number, &client, at);
        let lease = match self.fate(number) {
            Fate::Renewed | Fate::Replaced => lease,
            Fate::Released | Fate::Expired => Lease {
                state: LeaseState::ExpiredReclaimed,
                cltt: Time(at - lease.valid_lifetime.0),
                ..lease
            },
            Fate::Declined => Lease {
                state: LeaseState::Declined,
                hardware: HardwareAddress {
                    htype: 1,
                    octets: Vec::new(),
                },
                client_id: Vec::new(),
                hostname: Vec::new(),
                ..lease
            },
        };
        (lease, client)
    }

    /// An active lease of a client.
    pub fn lease(&self, number: u32, client: &Client, cltt: u32) -> Lease {
        Lease {
            address: self.address(number),
            state: LeaseState::Default,
            cltt: Time(cltt),
            valid_lifetime: Lifetime(self.lifetime(number)),
            subnet: SubnetId(FIRST_ID + self.subnet_index(number)),
            hardware: HardwareAddress {
                htype: 1,
                octets: client.mac.clone(),
            },
            client_id: client.client_id.clone(),
            hostname: client.hostname.clone(),
            relay_agent_information: Some(client.relay_agent_information()),
        }
    }

    /// The number of the `index`-th active lease of those in random order that begin anywhere and
    /// satisfy `is_wanted`.
    pub fn scattered(&self, index: u32, is_wanted: impl Fn(u32) -> bool) -> u32 {
        let mut number = shuffled(index % self.count, self.count, QUERIES);
        while !(self.fate(number).is_active() && is_wanted(number)) {
            number = (number + 1) % self.count;
        }
        number
    }
}

// ----- Random choices -------------------------------------------------------------------------

/// The generation of clients that hold the leases in the end.
const LAST: u64 = 0;
/// The generation of those replaced by others.
const FORMER: u64 = 100;

// The properties chosen at random: numbers below `FORMER`.
const RELAY: u64 = 1;
const HOST_NAME: u64 = 2;
const VENDOR_CLASS: u64 = 3;
const PARAMETER_LIST: u64 = 4;
const CIRCUIT_ID: u64 = 5;
const REMOTE_ID: u64 = 6;
const CLIENT_ID: u64 = 7;
const FATE: u64 = 8;
const LIFE: u64 = 9;
const AGE: u64 = 10;

// Orders of leases.
const ORDER: u64 = 1;
const QUERIES: u64 = 2;

/// The beginnings of host names.
const HOST_NAMES: [&str; 12] = [
    "iPhone-",
    "android-",
    "DESKTOP-",
    "LAPTOP-",
    "MacBook-Pro-of-",
    "Galaxy-S23-",
    "HP-LaserJet-M404-",
    "ESP_",
    "router-",
    "living-room-television-",
    "cam",
    "ps5-",
];

/// Vendor class identifiers; one client in four has none.
const VENDOR_CLASSES: [&str; 8] = [
    "",
    "",
    "MSFT 5.0",
    "android-dhcp-14",
    "udhcp 1.36.1",
    "dhcpcd-9.4.1:Linux-6.1.21:armv7l",
    "docsis3.1:05240101010201030301040101050101060101070F70",
    "dslforum.org",
];

/// Parameter request lists.
const PARAMETERS: [&[u8]; 4] = [
    &[1, 121, 3, 6, 15, 108, 114, 119, 252],
    &[1, 3, 6, 15, 26, 28, 51, 58, 59, 43, 114, 108],
    &[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252],
    &[1, 3, 6, 12, 15, 28, 42],
];

/// A random number for a lease: always the same.
fn random(number: u32, what: u64) -> u64 {
    // SplitMix64.
    let mut mixed = (u64::from(number) << 16 | what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// The number at a position of a random order of `count` numbers: each of them once.
fn shuffled(position: u32, count: u32, order: u64) -> u32 {
    let bits = (count.max(4) - 1).ilog2() + 1;
    let mask = u32::MAX >> (32 - bits);
    let mut mixed = position;
    loop {
        // Each step maps the numbers of so many bits onto themselves one to one; those too large
        // are mapped again.
        for round in 0..4 {
            let key = random(round, order << 8);
            mixed = mixed.wrapping_add(key as u32) & mask;
            mixed = mixed.wrapping_mul((key >> 32) as u32 | 1) & mask;
            mixed ^= mixed >> (bits / 2);
        }
        if mixed < count {
            return mixed;
        }
    }
}

/// The relay agent of a client of the realistic set.
fn relay_of(number: u32, generation: u64) -> u32 {
    (random(number, generation + RELAY) % u64::from(Set::Realistic.relays())) as u32
}

/// The MAC address of a client of the realistic set: different for each.
fn mac(number: u32, generation: u64) -> Vec<u8> {
    const VENDORS: [[u8; 2]; 4] = [[0x00, 0x1a], [0x3c, 0x52], [0xa4, 0x83], [0xf0, 0x9f]];
    // Odd, so that no two numbers come to the same.
    let own = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
    let [first, second] = VENDORS[number as usize % 4];
    let former = u8::from(generation == FORMER);
    [&[first, second ^ former][..], &own].concat()
}

/// The client identifier of a client of the realistic set: a tenth has none, half a type and the
/// MAC address (RFC 2132 section 9.14), the others an IAID and a DUID (RFC 4361).
fn client_id(number: u32, generation: u64, mac: &[u8]) -> Vec<u8> {
    let value = random(number, generation + CLIENT_ID);
    let iaid = &mac[2..6];
    match value % 10 {
        0 => Vec::new(),
        1..6 => [&[1][..], mac].concat(),
        // DUID-LLT, DUID-LL, DUID-EN and DUID-UUID (RFC 8415 section 11, RFC 6355).
        6 => {
            let time = (value >> 32) as u32;
            let duid = [&[0, 1, 0, 1][..], &time.to_be_bytes(), mac].concat();
            [&[255], iaid, &duid].concat()
        }
        7 => [&[255], iaid, &[0, 3, 0, 1], mac].concat(),
        8 => {
            let machine = value.to_be_bytes();
            [&[255], iaid, &[0, 2, 0, 0, 0xab, 0x11], &machine].concat()
        }
        _ => {
            let uuid = [random(number, value).to_be_bytes(), value.to_be_bytes()].concat();
            [&[255], iaid, &[0, 4], &uuid].concat()
        }
    }
}

/// The remote-id that a relay agent sends for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteId {
    /// Nothing.
    None,
    /// The identifier of an access node, shared by a fifth of the clients.
    Node,
    /// The identifier of the subscriber's line or modem.
    Own,
}

impl RemoteId {
    /// Of a client of the realistic set.
    fn of(number: u32, generation: u64) -> RemoteId {
        match random(number, generation + REMOTE_ID) % 10 {
            0 => RemoteId::None,
            1..3 => RemoteId::Node,
            _ => RemoteId::Own,
        }
    }

    /// The octets, in the realistic set.
    fn octets(self, number: u32, generation: u64) -> Vec<u8> {
        match self {
            RemoteId::None => Vec::new(),
            RemoteId::Node => NODE.to_vec(),
            RemoteId::Own if number % 2 == 1 => {
                // A cable modem's MAC address.
                let mut modem = mac(number, generation);
                modem[0] ^= 4;
                modem
            }
            RemoteId::Own => {
                const LINES: [&str; 4] = [
                    "",
                    "line-",
                    "DSL-",
                    "access-node-12.example.net:subscriber-",
                ];
                let prefix = LINES[random(number, REMOTE_ID) as usize / 16 % LINES.len()];
                format!("{prefix}{generation}{number}").into_bytes()
            }
        }
    }
}

/// The remote-id that an access node sends for each of its clients.
pub const NODE: &[u8] = b"\x00\x06\x00\x1e\x4a\x77\x00\x07";
