//! A mirror with an engine, queried by `blq`'s codec.
//!
//! `blq` encodes the queries and decodes the replies: the other end of the protocol.

// No test uses all items.
#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use blq::{Binding, Done, Message, Primary, Query, Reply};
use dhcp_blq::kea_config::{ConfiguredOption, KeaConfig};
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::option::RawOption;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::query::lease_engine::{Answer, LeaseEngine};
use dhcp_blq::query::{Engine, Progress, QueryTypes, Requester, Security};

/// Subnet 1 with a pool of ten and a reservation outside it, subnet 2 in the VPN "blue".
pub const CONFIGURATION: &str = r#"{ "Dhcp4": {
    "valid-lifetime": 3600, "renew-timer": 900, "rebind-timer": 1800,
    "subnet4": [
        { "id": 1, "subnet": "10.0.1.0/24", "pools": [ { "pool": "10.0.1.10-10.0.1.19" } ],
          "reservations": [ { "hw-address": "02:00:00:00:00:99", "ip-address": "10.0.1.200" } ] },
        { "id": 2, "subnet": "10.0.2.0/24", "pools": [ { "pool": "10.0.2.1-10.0.2.2" } ],
          "user-context": { "vpn": { "name": "blue" } } }
    ] } }"#;

/// The server identifier if none is configured: the local address of the connection.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 67);

/// A mirror with an engine.
pub struct Bench {
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// The engine that answers from the mirror.
    pub engine: LeaseEngine,
    /// The requester of all queries.
    pub requester: Requester,
    /// The time at which the bench was created, in seconds since 1970.
    pub now: u32,
}

impl Bench {
    /// Returns a bench without bindings, with a state file that is not new.
    pub fn new() -> Bench {
        Bench::with_saved(Saved {
            saved_at: Some(Time(1)),
            ..Saved::default()
        })
    }

    /// Returns a bench with the contents of a state file.
    pub fn with_saved(saved: Saved) -> Bench {
        Bench::with(saved, Vec::new())
    }

    /// Returns a bench with the contents of a state file and configured options.
    pub fn with(saved: Saved, options: Vec<ConfiguredOption>) -> Bench {
        let kea_config = KeaConfig::new(CONFIGURATION, options, &[]).unwrap();
        Bench::over(InitialLoad::begin(Arc::new(kea_config), saved, Time::now()).finish())
    }

    /// Returns a bench over an existing mirror.
    pub fn over(mirror: Mirror) -> Bench {
        let mirror = Arc::new(mirror);
        Bench {
            engine: LeaseEngine::new(Arc::clone(&mirror), None),
            mirror,
            requester: Requester {
                peer: Ipv4Addr::LOCALHOST,
                local: LOCAL,
                allowed: QueryTypes::ALL,
                security: Security::Plain,
            },
            now: Time::now().0,
        }
    }

    /// Commits a lease that began `ago` seconds ago.
    pub fn lease(&self, address: [u8; 4], client: u8, ago: u32, relay_information: &[u8]) {
        self.commit(lease(address, client, self.now - ago), relay_information);
    }

    /// Commits a lease for a relayed message at the time of the lease.
    pub fn commit(&self, lease: Lease, relay_information: &[u8]) {
        let client_info = ClientInfo {
            relay_agent_information: Some(relay_information.to_vec()),
            options: vec![RawOption {
                code: 60,
                value: b"vendor".to_vec(),
            }],
            classes: Arc::default(),
        };
        // The time is correct: Kea commits a lease in the second of its client's request.
        let cltt = lease.cltt;
        self.mirror
            .queue()
            .push(Event::Committed { lease, client_info });
        self.mirror.catch_up_by(|| cltt);
    }

    /// Returns the whole answer to a message, in batches of `room` octets.
    pub fn answer_in_turns(&self, message: &Message, room: usize) -> (Vec<Binding>, Done) {
        let answer = self.open(&message.encode()).unwrap();
        self.finish(answer, room)
    }

    /// Begins to answer the octets of a message; the error is the reason why it cannot be answered.
    pub fn open(&self, octets: &[u8]) -> Result<Answer, String> {
        let opened = self.engine.open(octets, &self.requester);
        opened.map_err(|error| error.to_string())
    }

    /// Returns the rest of an answer, in batches of `room` octets.
    pub fn finish(&self, mut answer: Answer, room: usize) -> (Vec<Binding>, Done) {
        let mut out = Vec::new();
        while self.engine.write(&mut answer, &mut out, room) == Progress::More {}
        decode(&out)
    }

    /// Returns the whole answer to a message, one message in each batch.
    pub fn answer(&self, message: &Message) -> (Vec<Binding>, Done) {
        self.answer_in_turns(message, 1)
    }

    /// Returns the bindings of a query that must succeed.
    pub fn ask(&self, query: &Query) -> Vec<Binding> {
        let (bindings, done) = self.answer(&query.to_message().unwrap());
        assert_eq!(done.status, None, "successful: no status-code");
        bindings
    }

    /// Returns the addresses of the bindings of a query that must succeed.
    pub fn addresses(&self, query: &Query) -> Vec<Ipv4Addr> {
        self.ask(query)
            .iter()
            .map(|binding| binding.address)
            .collect()
    }

    /// Returns the codes of all options in the first reply, ascending.
    pub fn option_codes(&self, query: &Query) -> Vec<u8> {
        let message = query.to_message().unwrap().encode();
        let mut answer = self.engine.open(&message, &self.requester).ok().unwrap();
        let mut out = Vec::new();
        self.engine.write(&mut answer, &mut out, 1);
        let size = usize::from(u16::from_be_bytes([out[0], out[1]]));
        let first = Message::decode(&out[2..2 + size]).unwrap();
        first.joined().into_keys().collect()
    }

    /// Returns the status with which a message is refused.
    pub fn refusal(&self, message: &Message) -> (u8, String) {
        let (bindings, done) = self.answer(message);
        assert!(bindings.is_empty());
        let status = done.status.expect("a status-code");
        assert_eq!(done.server_identifier, Some(LOCAL));
        (status.code.0, status.text)
    }
}

/// Returns a lease of an hour that began at `cltt`, from subnet 1 or 2 by its address.
pub fn lease(address: [u8; 4], client: u8, cltt: u32) -> Lease {
    Lease {
        address: address.into(),
        state: LeaseState::Default,
        cltt: Time(cltt),
        valid_lifetime: Lifetime(3600),
        subnet: SubnetId(address[2].into()),
        hardware: HardwareAddress {
            htype: 1,
            octets: mac(client),
        },
        client_id: vec![1, client],
        hostname: Vec::new(),
        relay_agent_information: None,
    }
}

/// Returns the MAC address of a client.
pub fn mac(client: u8) -> Vec<u8> {
    vec![2, 0, 0, 0, 0, client]
}

/// Returns relay agent information with a remote-id and a relay-id.
pub fn relay_information(remote_id: &[u8], relay_id: &[u8]) -> Vec<u8> {
    let mut information = Vec::new();
    for (code, value) in [(2, remote_id), (12, relay_id)] {
        information.extend([code, u8::try_from(value.len()).unwrap()]);
        information.extend(value);
    }
    information
}

/// Splits and decodes frames: bindings, then the DHCPLEASEQUERYDONE.
pub fn decode(mut octets: &[u8]) -> (Vec<Binding>, Done) {
    let mut bindings = Vec::new();
    loop {
        let (size, rest) = octets.split_at(2);
        let size = usize::from(u16::from_be_bytes(size.try_into().unwrap()));
        let message = Message::decode(&rest[..size]).unwrap();
        octets = &rest[size..];
        match Reply::decode(&message).unwrap() {
            Reply::Binding(binding) => bindings.push(*binding),
            Reply::Done(done) => {
                assert!(octets.is_empty(), "the DHCPLEASEQUERYDONE comes last");
                return (bindings, done);
            }
        }
    }
}

/// Returns a query by the MAC address of a client.
pub fn by_mac(client: u8) -> Query {
    Query::new(Primary::Mac {
        htype: 1,
        address: mac(client),
    })
}

/// Returns a query for all configured addresses.
pub fn all() -> Query {
    Query::new(Primary::All)
}
