//! A property: whatever happens to leases, configurations and the server itself, the delta from the time
//! of an earlier answer on has every address of which a requestor would see anything else now.

#[path = "support/bench.rs"]
mod bench;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use bench::*;
use blq::{Binding, Query, State, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, KeaConfig, Scope};
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin, ResyncScope};
use dhcp_blq::mirror::{InitialLoad, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::client::ClientIds;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::persist::store::Recent;
use proptest::prelude::*;

/// Seconds from one step to the next.
const STEP: u32 = 10;

/// A lifetime that ends within the steps, and one that does not.
const LIFETIMES: [u32; 2] = [33, 100_000_000];

/// What happens in a step. The numbers choose an address, a client, and what else there is to choose.
#[derive(Clone, Debug)]
enum Step {
    /// A client leases or renews an address.
    Lease,
    /// A client asks for the lease it has, which is answered from Kea's cache.
    Confirm,
    /// A client releases its lease.
    Release,
    /// A client declines its address.
    Decline,
    /// Kea reclaims what is over.
    Reclaim,
    /// An administrator changes a lease, and leaves its cltt as it is.
    Update,
    /// An administrator adds a lease that may be over.
    Add,
    /// An administrator deletes a lease.
    Delete,
    /// Another server leases or renews an address, or changes a lease, unheard.
    Unheard,
    /// Another server deletes a lease, unheard.
    UnheardDelete,
    /// The mirror is compared with the lease database.
    Resync,
    /// Another configuration is in force.
    Configure,
    /// The state file is written.
    Flush,
    /// Kea is stopped and started.
    Restart,
    /// Kea is killed and started.
    Crash,
    /// A requestor asks for everything.
    Answer,
}

/// Any step.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Lease),
        2 => Just(Step::Confirm),
        2 => Just(Step::Release),
        1 => Just(Step::Decline),
        2 => Just(Step::Reclaim),
        2 => Just(Step::Update),
        1 => Just(Step::Add),
        1 => Just(Step::Delete),
        2 => Just(Step::Unheard),
        1 => Just(Step::UnheardDelete),
        2 => Just(Step::Resync),
        2 => Just(Step::Configure),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        4 => Just(Step::Answer),
    ]
}

/// The addresses in use: in a pool, outside of it, and in VPN blue.
const ADDRESSES: [[u8; 4]; 5] = [
    [10, 0, 1, 10],
    [10, 0, 1, 11],
    [10, 0, 1, 99],
    [10, 0, 2, 1],
    [10, 0, 2, 2],
];

/// A configuration by its number.
fn kea_config(number: usize) -> Arc<KeaConfig> {
    let replaced = |from: &str, to: &str| {
        assert!(CONFIGURATION.contains(from));
        CONFIGURATION.replace(from, to)
    };
    let config = match number {
        1 => replaced(r#""blue""#, r#""red""#),
        2 => replaced("10.0.1.10-10.0.1.19", "10.0.1.11-10.0.1.30"),
        3 => replaced(r#""id": 2"#, r#""id": 3"#),
        4 => replaced(r#""renew-timer": 900"#, r#""renew-timer": 901"#),
        5 => r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "10.0.1.0/24" } ] } }"#.to_owned(),
        6 => replaced(
            r#""valid-lifetime": 3600,"#,
            r#""valid-lifetime": 3600, "store-extended-info": true,"#,
        ),
        _ => CONFIGURATION.to_owned(),
    };
    let option = |scope, value: &[u8]| ConfiguredOption {
        scope,
        code: 15,
        value: value.to_vec(),
        never_send: false,
        client_classes: Vec::new(),
    };
    let options = match number {
        7 => vec![option(Scope::Subnet(SubnetId(1)), b"a")],
        8 => vec![option(Scope::Class("class 1".to_owned()), b"b")],
        _ => Vec::new(),
    };
    Arc::new(KeaConfig::from_json(&config, options).unwrap())
}

/// How many configurations there are.
const NETWORKS: usize = 9;

/// What a requestor saw.
struct Answer {
    /// When it asked.
    at: u32,
    /// The bindings, with times from 1970 on.
    bindings: BTreeMap<Ipv4Addr, Binding>,
}

/// Kea, the hook, the state file, and requestors.
struct World {
    bench: Bench,
    /// The second of the step.
    now: u32,
    /// The number of the configuration in force.
    kea_config: usize,
    /// Kea's lease database.
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// The state file's bindings, and when it was written.
    file: BTreeMap<Ipv4Addr, dhcp_blq::model::binding::Binding>,
    /// All else in it.
    rest: Saved,
    /// Where the state file is, whose name that of recent changes has.
    path: PathBuf,
    /// What requestors saw.
    answers: Vec<Answer>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(steps: usize) -> World {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let end = Time::now().0;
        // Nothing ends by itself while answers are compared.
        let now = end - STEP * u32::try_from(steps).unwrap() - 1_003;
        let mut world = World {
            bench: Bench::new(),
            now,
            kea_config: 0,
            leases: BTreeMap::new(),
            file: BTreeMap::new(),
            rest: Saved {
                saved_at: Some(Time(now)),
                ..Saved::default()
            },
            path,
            answers: Vec::new(),
            _directory: directory,
        };
        world.start();
        world
    }

    /// Kea starts, and the hook reads its state file.
    fn start(&mut self) {
        let (mut recent, noted) = Recent::open(&self.path).unwrap();
        recent.make().unwrap();
        let saved = Saved {
            bindings: self.file.values().cloned().collect(),
            recent: noted.addresses,
            latest: self.rest.latest.max(noted.latest),
            ..self.rest.clone()
        };
        let mut initial_load =
            InitialLoad::begin(kea_config(self.kea_config), saved, Time(self.now));
        for lease in self.leases.values() {
            initial_load.lease(lease);
        }
        let mirror = initial_load.finish();
        mirror.attach_recent(recent);
        self.bench = Bench::over(mirror);
    }

    /// The state file is written.
    fn flush(&mut self) {
        let mirror = &self.bench.mirror;
        self.catch_up();
        let _ = mirror.take_dirty_view();
        let taken = mirror.take_dirty(usize::MAX);
        for (address, binding) in taken.rest.into_iter().chain(taken.changed) {
            match binding {
                Some(binding) => self.file.insert(address, binding),
                None => self.file.remove(&address),
            };
        }
        self.rest = Saved {
            saved_view: mirror.saved_view(),
            saved_at: Some(Time(self.now)),
            latest: mirror.latest(),
            resynced_at: mirror.resynced_at(),
            ..Saved::default()
        };
        mirror.trim_recent();
    }

    /// What was pushed is in the mirror.
    fn catch_up(&self) {
        self.bench.mirror.catch_up_by(|| Time(self.now));
    }

    /// An event reaches the mirror.
    fn push(&self, event: Event) {
        self.bench.mirror.queue().push(event);
        self.catch_up();
    }

    /// The lease of an address to a client that begins now.
    fn lease(&self, address: [u8; 4], client: u8, choice: u8) -> Lease {
        let subnet = match (address[2], self.kea_config) {
            (2, 3) => 3,
            (octet, _) => octet.into(),
        };
        let lifetime = LIFETIMES[usize::from(choice % 2)];
        Lease {
            valid_lifetime: Lifetime(lifetime),
            subnet: SubnetId(subnet),
            relay_agent_information: self.stored(address, &information(choice)),
            ..lease(address, client, self.now)
        }
    }

    /// What Kea stores with the lease of an address whose client came with this information.
    fn stored(&self, address: [u8; 4], information: &[u8]) -> Option<Vec<u8>> {
        match self.kea_config == 6 && !information.is_empty() {
            true => Some(information.to_vec()),
            false => {
                let before = self.leases.get(&address.into())?;
                before.relay_agent_information.clone()
            }
        }
    }

    /// Kea's lease of an address, if its client holds it now.
    fn held(&self, address: Ipv4Addr) -> Option<Lease> {
        let lease = self.leases.get(&address)?;
        let end = u64::from(lease.cltt.0) + u64::from(lease.valid_lifetime.0);
        let is_held = lease.state == LeaseState::Default && end > u64::from(self.now);
        is_held.then(|| lease.clone())
    }

    fn take(&mut self, step: &Step, place: usize, client: u8, choice: u8) {
        self.now += STEP;
        let octets = ADDRESSES[place % ADDRESSES.len()];
        let address = Ipv4Addr::from(octets);
        let client_info = ClientInfo {
            relay_agent_information: Some(information(choice)).filter(|all| !all.is_empty()),
            classes: [format!("class {client}")].into(),
            ..ClientInfo::default()
        };
        let at = Time(self.now);
        match step {
            Step::Lease => {
                let lease = self.lease(octets, client, choice);
                self.leases.insert(address, lease.clone());
                self.push(Event::Committed { lease, client_info });
            }
            Step::Confirm => {
                if let Some(lease) = self.held(address) {
                    let client = ClientIds {
                        hardware: lease.hardware,
                        client_id: lease.client_id,
                    };
                    self.push(Event::Confirmed {
                        address,
                        client,
                        at,
                        client_info,
                    });
                }
            }
            Step::Release => {
                if self.held(address).is_some() {
                    self.leases.remove(&address);
                    self.push(Event::Released {
                        address,
                        client: None,
                        at,
                        origin: Origin::Local,
                    });
                }
            }
            Step::Decline => {
                if let Some(lease) = self.held(address) {
                    let lease = Lease {
                        state: LeaseState::Declined,
                        cltt: at,
                        valid_lifetime: Lifetime(LIFETIMES[usize::from(choice % 2)]),
                        hardware: HardwareAddress::default(),
                        client_id: Vec::new(),
                        ..lease
                    };
                    self.leases.insert(address, lease.clone());
                    self.push(Event::Committed { lease, client_info });
                }
            }
            Step::Reclaim => {
                let over = |lease: &Lease| {
                    let ends = matches!(lease.state, LeaseState::Default | LeaseState::Declined);
                    ends && lease.cltt.0 + lease.valid_lifetime.0 < self.now
                };
                let over: Vec<Lease> = self
                    .leases
                    .values()
                    .filter(|lease| over(lease))
                    .cloned()
                    .collect();
                for lease in over {
                    let (address, cltt) = (lease.address, lease.cltt);
                    if lease.state == LeaseState::Declined {
                        self.leases.remove(&address);
                    } else {
                        let state = LeaseState::ExpiredReclaimed;
                        self.leases.insert(address, Lease { state, ..lease });
                    }
                    self.push(Event::Reclaimed {
                        address,
                        cltt,
                        was_released: false,
                        at,
                    });
                }
            }
            Step::Update => {
                if let Some(lease) = self.changed(address, choice) {
                    self.leases.insert(address, lease.clone());
                    self.push(Event::Updated {
                        lease,
                        at,
                        origin: Origin::Local,
                    });
                }
            }
            Step::Add => {
                if !self.leases.contains_key(&address) {
                    let lease = Lease {
                        cltt: Time(self.now - u32::from(choice) % 80),
                        ..self.lease(octets, client, choice)
                    };
                    self.leases.insert(address, lease.clone());
                    self.push(Event::Updated {
                        lease,
                        at,
                        origin: Origin::Local,
                    });
                }
            }
            Step::Delete => {
                if self.leases.remove(&address).is_some() {
                    self.push(Event::Removed {
                        address,
                        at,
                        origin: Origin::Local,
                    });
                }
            }
            Step::Unheard => {
                // With the same cltt another server stores other relay agent information alone: renewals
                // are not saved, so more than that could not be seen after a start.
                let lease = match self.changed(address, choice).filter(|_| choice % 3 == 2) {
                    Some(lease) => lease,
                    None => self.lease(octets, client, choice),
                };
                self.leases.insert(address, lease);
            }
            Step::UnheardDelete => {
                self.leases.remove(&address);
            }
            Step::Resync => self.resync(),
            Step::Configure => {
                self.kea_config = usize::from(choice) % NETWORKS;
                self.push(Event::Reconfigured {
                    kea_config: kea_config(self.kea_config),
                    is_complete: true,
                    at,
                });
            }
            Step::Flush => self.flush(),
            Step::Restart => {
                self.flush();
                drop(self.bench.mirror.detach_recent());
                self.start();
            }
            Step::Crash => {
                drop(self.bench.mirror.detach_recent());
                self.start();
            }
            Step::Answer => {
                let bindings = self.answer(None);
                self.answers.push(Answer {
                    at: self.now,
                    bindings,
                });
            }
        }
    }

    /// The lease that Kea holds of an address with another lifetime, host name or relay agent
    /// information, and the same cltt.
    fn changed(&self, address: Ipv4Addr, choice: u8) -> Option<Lease> {
        let mut lease = self.leases.get(&address)?.clone();
        match choice % 3 {
            0 if lease.state != LeaseState::ExpiredReclaimed => lease.valid_lifetime.0 += 1,
            1 => lease.hostname = vec![b'a' + choice % 5],
            _ => lease.relay_agent_information = Some(information(choice | 1)),
        }
        Some(lease)
    }

    /// The mirror is compared with the lease database, twice where leases are missing.
    fn resync(&mut self) {
        let seen = |world: &World, scope| {
            world.push(Event::ResyncBegun);
            world.push(Event::ResyncPage {
                scope,
                leases: world.leases.values().cloned().collect(),
                at: Time(world.now),
            });
        };
        seen(self, ResyncScope::Range(0..=u32::MAX));
        self.now += 2;
        let missing = self
            .bench
            .mirror
            .missing(usize::MAX, Time(self.now))
            .unwrap();
        seen(self, ResyncScope::Again(missing));
    }

    /// The bindings that changed at `start` or later, or all.
    fn answer(&self, start: Option<u32>) -> BTreeMap<Ipv4Addr, Binding> {
        let query = Query {
            start,
            vpn: Some(Vss::All),
            parameter_request_list: Some(vec![
                51, 58, 59, 61, 82, 91, 152, 153, 156, 157, 12, 15, 60,
            ]),
            ..all()
        };
        let bindings = self.bench.ask(&query).into_iter();
        bindings
            .map(|binding| (binding.address, absolute(binding)))
            .collect()
    }
}

/// Relay agent information by a choice, empty for some.
fn information(choice: u8) -> Vec<u8> {
    match choice % 4 {
        0 => Vec::new(),
        line => vec![2, 1, line],
    }
}

/// The binding as it would be told in the first second of all.
fn absolute(binding: Binding) -> Binding {
    let base = binding.base_time.unwrap();
    let ago = |seconds: Option<u32>| seconds.map(|seconds| base - seconds);
    let left = |seconds: Option<u32>| seconds.map(|seconds| base + seconds);
    Binding {
        xid: 0,
        base_time: None,
        server_identifier: None,
        start_time_of_state: ago(binding.start_time_of_state),
        client_last_transaction_time: ago(binding.client_last_transaction_time),
        lease_time: left(binding.lease_time),
        renewal_time: left(binding.renewal_time),
        rebinding_time: left(binding.rebinding_time),
        ..binding
    }
}

proptest! {
    #[test]
    fn a_delta_has_every_address_of_which_a_requestor_sees_anything_else(
        steps in proptest::collection::vec((step(), any::<usize>(), 1..4u8, any::<u8>()), 1..40),
    ) {
        let mut world = World::new(steps.len());
        for (step, place, client, choice) in &steps {
            world.take(step, *place, *client, *choice);
        }
        let now = world.answer(None);
        for answer in &world.answers {
            let delta = world.answer(Some(answer.at));
            for (address, binding) in &now {
                if answer.bindings.get(address) != Some(binding) {
                    prop_assert!(
                        delta.get(address) == Some(binding),
                        "not in the delta from {}: {:?}, then {:?}",
                        answer.at,
                        binding,
                        answer.bindings.get(address),
                    );
                }
            }
            // An address that is configured no more cannot be told, but for the end of its lease.
            for (address, before) in &answer.bindings {
                let is_in_subnet = world.kea_config != 5 || address.octets()[2] == 1;
                if before.state == Some(State::ACTIVE) && is_in_subnet && !now.contains_key(address) {
                    prop_assert!(delta.contains_key(address), "{address} is still active for who asked");
                }
            }
        }
    }
}
