//! Property test: for random lease events, configurations, restarts and reloads, a delta query from
//! the time of an earlier answer returns the addresses whose full reply has changed since, those
//! with a transaction since (RFC 6926 section 8.2), and no others. [`Excess`] lists the exceptions,
//! in which a delta returns more.

#[path = "support/bench.rs"]
mod bench;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use bench::*;
use blq::{Binding, Query, State, Vss};
use dhcp_blq::kea_config::{ConfiguredOption, KeaConfig, Scope};
use dhcp_blq::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin, ResyncScope};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::model::binding::SubnetId;
use dhcp_blq::model::client::ClientIds;
use dhcp_blq::model::option::RawOption;
use dhcp_blq::model::time::{Lifetime, Time};
use dhcp_blq::persist::RecentFile;
use dhcp_blq::query::lease_engine::LeaseEngine;
use proptest::prelude::*;

/// Seconds from one step to the next.
const STEP: u32 = 10;

/// The time of the first step.
const BEGINNING: u32 = 1_700_000_000;

thread_local! {
    /// The time of the current step, which the engine takes as the current time.
    static NOW: Cell<u32> = const { Cell::new(BEGINNING) };
}

/// The engine's clock.
fn clock() -> Time {
    Time(NOW.get())
}

/// A lifetime that ends within the steps, and one that does not.
const LIFETIMES: [u32; 2] = [33, 100_000_000];

/// A step of the test. Its numbers choose an address, a client, and other details.
#[derive(Clone, Debug)]
enum Step {
    /// A client leases or renews an address.
    Lease,
    /// A client asks for the lease it has, which is answered from Kea's cache.
    Confirm,
    /// A client is offered an address.
    Offer,
    /// A client gives its address up for another one.
    GiveUp,
    /// A client releases its lease.
    Release,
    /// A client declines its address.
    Decline,
    /// Kea reclaims expired leases.
    Reclaim,
    /// An administrator changes a lease, but not its cltt.
    Update,
    /// An administrator adds a lease, perhaps an expired one.
    Add,
    /// An administrator deletes a lease.
    Delete,
    /// Another server leases or renews an address, or changes a lease, without an event.
    Unreported,
    /// Another server deletes a lease, without an event.
    UnreportedDelete,
    /// The mirror is resynced with the lease database.
    Resync,
    /// Another configuration is in force.
    Configure,
    /// The high-availability scopes of this server change.
    Serve,
    /// The dirty set is written to the state file.
    Flush,
    /// Kea reloads its configuration: the mirror is handed over.
    Reload,
    /// Kea is stopped and started.
    Restart,
    /// Kea is stopped and started with another configuration.
    Reconfigure,
    /// Kea is killed and started.
    Crash,
    /// A requester queries all addresses.
    Answer,
}

/// Generates a step.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Lease),
        2 => Just(Step::Confirm),
        1 => Just(Step::Offer),
        1 => Just(Step::GiveUp),
        2 => Just(Step::Release),
        1 => Just(Step::Decline),
        2 => Just(Step::Reclaim),
        2 => Just(Step::Update),
        1 => Just(Step::Add),
        1 => Just(Step::Delete),
        2 => Just(Step::Unreported),
        1 => Just(Step::UnreportedDelete),
        2 => Just(Step::Resync),
        2 => Just(Step::Configure),
        1 => Just(Step::Serve),
        2 => Just(Step::Flush),
        1 => Just(Step::Reload),
        1 => Just(Step::Restart),
        1 => Just(Step::Reconfigure),
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

/// Returns the configuration with a number.
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
        9 => replaced(
            r#""hw-address": "02:00:00:00:00:99", "ip-address": "10.0.1.200""#,
            r#""hw-address": "02:00:00:00:00:01", "hostname": "reserved""#,
        ),
        10 => replaced(
            r#""valid-lifetime": 3600,"#,
            r#""hooks-libraries": [ { "library": "/usr/lib/libdhcp_ha.so", "parameters": {
                "high-availability": [ { "this-server-name": "one", "mode": "hot-standby",
                    "peers": [ { "name": "one", "role": "primary" },
                               { "name": "two", "role": "standby" } ] } ] } } ],
            "valid-lifetime": 3600,"#,
        ),
        _ => CONFIGURATION.to_owned(),
    };
    let option = |scope, value: &[u8]| ConfiguredOption {
        scope,
        code: 15,
        value: value.to_vec(),
        never_send: false,
        always_send: false,
        client_classes: Vec::new(),
    };
    let options = match number {
        7 => vec![option(Scope::Subnet(SubnetId(1)), b"a")],
        8 => vec![option(Scope::Class("class 1".to_owned()), b"b")],
        _ => Vec::new(),
    };
    Arc::new(KeaConfig::new(&config, options, &[]).unwrap())
}

/// Number of configurations.
const CONFIGURATIONS: usize = 11;

/// Replies at one time, with absolute times.
type Replies = BTreeMap<Ipv4Addr, Binding>;

/// The full replies for all addresses at one time, and whether a query for all configured addresses returns them.
type View = BTreeMap<Ipv4Addr, (Binding, bool)>;

/// An answer to a query for all addresses.
struct Answer {
    /// The time of the query.
    at: u32,
    /// The replies.
    replies: Replies,
    /// The addresses whose full reply has changed since.
    changed: BTreeSet<Ipv4Addr>,
    /// The addresses that deltas may return although their full reply has not changed.
    excess: BTreeMap<Ipv4Addr, Excess>,
}

/// The reason why a delta after a restart returns an address whose full reply has not changed.
#[derive(Clone, Copy, Debug)]
enum Excess {
    /// The binding changed after the last flush before a kill, or at the start before that:
    /// requesters may have seen any reply.
    LostChange,
    /// The lease was renewed after the last resync. Renewals are not in the state file, so this one
    /// may be a remote change.
    Renewed,
    /// A configuration or high-availability scopes were in force that were not flushed before a
    /// kill.
    LostConfiguration,
    /// Client classes or host reservations changed over a restart. The state file has only their digest.
    CommonDigest,
    /// Kea's lease database lacks the latest transaction of which the state file has the time, as a
    /// restored backup would.
    OlderDatabase,
}

/// Kea, the hook, the state file, and requesters.
struct World {
    bench: Bench,
    /// The time of the step.
    now: u32,
    /// The number of the configuration in force.
    kea_config: usize,
    /// Kea's lease database.
    leases: BTreeMap<Ipv4Addr, Lease>,
    /// The bindings in the state file.
    file: BTreeMap<Ipv4Addr, dhcp_blq::model::binding::Binding>,
    /// The rest of the state file.
    rest: Saved,
    /// The file of recent changes.
    recent: Option<Arc<RecentFile>>,
    /// The path of the state file, from which the path of the file of recent changes derives.
    path: PathBuf,
    /// The answers so far.
    answers: Vec<Answer>,
    /// The full replies after the step before.
    view: View,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let now = BEGINNING;
        NOW.set(now);
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
            recent: None,
            path,
            answers: Vec::new(),
            view: View::new(),
            _directory: directory,
        };
        world.start();
        world.view = world.full_view();
        world
    }

    /// Starts Kea: the hook reads its state file.
    fn start(&mut self) {
        let (recent, record) = RecentFile::open(&self.path).unwrap();
        assert!(recent.open_or_create());
        self.expect_excess(&record.addresses, record.latest);
        let saved = Saved {
            bindings: self.file.values().cloned().collect(),
            recent: record.addresses,
            latest: self.rest.latest.max(record.latest),
            ..self.rest.clone()
        };
        let mut initial_load =
            InitialLoad::begin(kea_config(self.kea_config), saved, Time(self.now));
        for lease in self.leases.values() {
            initial_load.lease(lease);
        }
        let mirror = initial_load.finish();
        self.recent = Some(Arc::new(recent));
        self.serve(mirror);
    }

    /// Reloads Kea's configuration: the hook hands its mirror over.
    fn reload(&mut self) {
        let Bench { mirror, engine, .. } = std::mem::replace(&mut self.bench, Bench::new());
        drop(engine);
        let mirror = Arc::try_unwrap(mirror).expect("no other owner");
        mirror.detach_recorder();
        let kea_config = kea_config(self.kea_config);
        let mut initial_load = InitialLoad::resume(mirror, kea_config, Time(self.now)).unwrap();
        for lease in self.leases.values() {
            initial_load.lease(lease);
        }
        self.serve(initial_load.finish());
    }

    /// Answers queries from this mirror from now on.
    fn serve(&mut self, mirror: Mirror) {
        let recent = self.recent.clone().expect("a file of recent changes");
        mirror.attach_recorder(recent);
        self.bench = Bench::over(mirror);
        let engine = LeaseEngine::new(Arc::clone(&self.bench.mirror), None);
        self.bench.engine = engine.with_clock(clock);
    }

    /// Records the addresses that deltas may return after a start although their replies have not
    /// changed.
    fn expect_excess(&mut self, lost: &[u32], lost_latest: Option<Time>) {
        let mut excess = BTreeMap::new();
        let kea_config = kea_config(self.kea_config);
        let is_active = |(_, (binding, _)): &(&Ipv4Addr, &(Binding, bool))| {
            binding.state == Some(State::ACTIVE)
        };
        let active = || {
            self.view
                .iter()
                .filter(is_active)
                .map(|(address, _)| *address)
        };
        let digests = (kea_config.common_digest, kea_config.hosts_digest);
        let saved = self.rest.saved_view.digests;
        if saved.is_some_and(|saved| (saved.common, saved.hosts) != digests) {
            excess.extend(active().map(|address| (address, Excess::CommonDigest)));
        }
        let latest = self.leases.values().map(|lease| lease.cltt).max();
        if self.rest.latest.max(lost_latest) > latest {
            excess.extend(active().map(|address| (address, Excess::OlderDatabase)));
        }
        if lost.contains(&u32::MAX) {
            let all = self.view.keys();
            excess.extend(all.map(|address| (*address, Excess::LostConfiguration)));
        }
        let resynced_at = self.rest.resynced_at;
        let renewed = self.leases.values();
        let renewed = renewed.filter(|lease| resynced_at.is_some_and(|at| lease.cltt >= at));
        excess.extend(renewed.map(|lease| (lease.address, Excess::Renewed)));
        let lost = lost.iter().map(|address| Ipv4Addr::from_bits(*address));
        excess.extend(lost.map(|address| (address, Excess::LostChange)));
        for answer in &mut self.answers {
            answer.excess.extend(&excess);
        }
    }

    /// Writes the dirty set to the state file.
    fn flush(&mut self) {
        let mirror = &self.bench.mirror;
        self.catch_up();
        let _ = mirror.take_dirty_view();
        let dirty = mirror.take_dirty(usize::MAX);
        for (address, binding) in dirty.rest.into_iter().chain(dirty.changed) {
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
        mirror.trim_record();
    }

    /// Applies the events pushed so far.
    fn catch_up(&self) {
        self.bench.mirror.catch_up_by(|| Time(self.now));
    }

    /// Pushes an event and applies it.
    fn push(&self, event: Event) {
        self.bench.mirror.queue().push(event);
        self.catch_up();
    }

    /// Returns the lease of an address to a client that begins now.
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

    /// Returns the relay agent information that Kea stores with the lease of an address after a
    /// message with this information.
    fn stored(&self, address: [u8; 4], information: &[u8]) -> Option<Vec<u8>> {
        match self.kea_config == 6 && !information.is_empty() {
            true => Some(information.to_vec()),
            false => {
                let before = self.leases.get(&address.into())?;
                before.relay_agent_information.clone()
            }
        }
    }

    /// Returns Kea's lease of an address if a client holds it now.
    fn held(&self, address: Ipv4Addr) -> Option<Lease> {
        let lease = self.leases.get(&address)?;
        let end = u64::from(lease.cltt.0) + u64::from(lease.valid_lifetime.0);
        let is_held = lease.state == LeaseState::Default && end > u64::from(self.now);
        is_held.then(|| lease.clone())
    }

    /// Takes a step, and compares the full replies before and after it.
    fn take_step(&mut self, step: &Step, place: usize, client: u8, choice: u8) {
        self.now += STEP;
        NOW.set(self.now);
        self.step(step, place, client, choice);
        let view = self.full_view();
        let addresses = self.view.keys().chain(view.keys());
        let changed = addresses.filter(|address| self.view.get(address) != view.get(address));
        let changed: BTreeSet<Ipv4Addr> = changed.copied().collect();
        for answer in &mut self.answers {
            answer.changed.extend(&changed);
        }
        if let Step::Answer = step {
            self.answers.push(Answer {
                at: self.now,
                replies: self.answer(None),
                changed: BTreeSet::new(),
                excess: BTreeMap::new(),
            });
        }
        self.view = view;
    }

    fn step(&mut self, step: &Step, place: usize, client: u8, choice: u8) {
        let octets = ADDRESSES[place % ADDRESSES.len()];
        let address = Ipv4Addr::from(octets);
        let client_info = ClientInfo {
            relay_agent_information: Some(information(choice)).filter(|all| !all.is_empty()),
            classes: [format!("class {client}")].into(),
            options: match choice % 5 {
                0 => vec![RawOption {
                    code: 12,
                    value: b"sent".to_vec(),
                }],
                _ => Vec::new(),
            },
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
            Step::Offer => {
                let lease = Lease {
                    valid_lifetime: Lifetime(15),
                    ..self.lease(octets, client, choice)
                };
                let holder = self.held(address).map(|held| held.client_id);
                if holder.is_none_or(|holder| holder == lease.client_id) {
                    self.leases.insert(address, lease.clone());
                    self.push(Event::Offered { lease, client_info });
                }
            }
            Step::GiveUp => {
                if self.leases.remove(&address).is_some() {
                    self.push(Event::GivenUp {
                        address,
                        client: None,
                        at,
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
            Step::Unreported => {
                // If the cltt is equal, another server changes the relay agent information alone:
                // renewals are not saved, so a start could not find more.
                let lease = match self.changed(address, choice).filter(|_| choice % 3 == 2) {
                    Some(lease) => lease,
                    None => self.lease(octets, client, choice),
                };
                self.leases.insert(address, lease);
            }
            Step::UnreportedDelete => {
                self.leases.remove(&address);
            }
            Step::Resync => self.resync(),
            Step::Configure => {
                self.kea_config = usize::from(choice) % CONFIGURATIONS;
                self.push(Event::Reconfigured {
                    kea_config: kea_config(self.kea_config),
                    is_complete: true,
                    at,
                });
            }
            Step::Serve => {
                let scopes = ["one", "two"].into_iter().take(usize::from(choice) % 3);
                self.push(Event::Serving {
                    serving: scopes.map(str::to_owned).collect(),
                    at,
                });
            }
            Step::Flush => self.flush(),
            Step::Reload => {
                self.kea_config = usize::from(choice) % CONFIGURATIONS;
                self.reload();
            }
            Step::Restart => {
                self.flush();
                self.bench.mirror.detach_recorder();
                self.start();
            }
            Step::Reconfigure => {
                self.flush();
                self.bench.mirror.detach_recorder();
                self.kea_config = usize::from(choice) % CONFIGURATIONS;
                self.start();
            }
            Step::Crash => {
                self.bench.mirror.detach_recorder();
                self.start();
            }
            Step::Answer => {}
        }
    }

    /// Returns the lease that Kea holds of an address with another lifetime, host name or relay
    /// agent information, and the same cltt.
    fn changed(&self, address: Ipv4Addr, choice: u8) -> Option<Lease> {
        let mut lease = self.leases.get(&address)?.clone();
        match choice % 3 {
            0 if lease.state != LeaseState::ExpiredReclaimed => lease.valid_lifetime.0 += 1,
            1 => lease.hostname = vec![b'a' + choice % 5],
            _ => lease.relay_agent_information = Some(information(choice | 1)),
        }
        Some(lease)
    }

    /// Runs a resync, with a second look-up of missing leases.
    fn resync(&mut self) {
        let push_page = |world: &World, scope| {
            world.push(Event::ResyncBegun);
            world.push(Event::ResyncPage {
                scope,
                leases: world.leases.values().cloned().collect(),
                at: Time(world.now),
            });
        };
        push_page(self, ResyncScope::Range(0..=u32::MAX));
        self.now += 2;
        NOW.set(self.now);
        let missing = self
            .bench
            .mirror
            .missing(usize::MAX, Time(self.now))
            .unwrap();
        push_page(self, ResyncScope::Again(missing));
    }

    /// Returns the full replies for all addresses, including those that are no longer configured.
    fn full_view(&self) -> View {
        let listed = self.answer(None);
        let all = self.answer(Some(1)).into_iter();
        all.map(|(address, binding)| (address, (binding, listed.contains_key(&address))))
            .collect()
    }

    /// Returns the bindings that changed at `start` or later, or all.
    fn answer(&self, start: Option<u32>) -> Replies {
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

/// Returns relay agent information by a choice: none, a remote-id, or a remote-id and a VPN.
fn information(choice: u8) -> Vec<u8> {
    match choice % 5 {
        0 => Vec::new(),
        4 => [&[2, 1, 4, 151, 6, 0][..], b"green"].concat(),
        line => vec![2, 1, line],
    }
}

/// Replaces times relative to base-time by absolute times.
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

/// Whether one of the times by which RFC 6926 section 8.2 selects a binding is `start` or later.
fn is_selected(binding: &Binding, start: u32) -> bool {
    let times = [
        binding.start_time_of_state,
        binding.client_last_transaction_time,
    ];
    times.into_iter().flatten().any(|time| time >= start)
}

proptest! {
    #[test]
    fn a_delta_has_the_addresses_whose_replies_changed(
        steps in proptest::collection::vec((step(), any::<usize>(), 1..4u8, any::<u8>()), 1..40),
    ) {
        let mut world = World::new();
        for (step, place, client, choice) in &steps {
            world.take_step(step, *place, *client, *choice);
        }
        let now = world.full_view();
        for answer in &world.answers {
            let delta = world.answer(Some(answer.at));
            for (address, (binding, _)) in &now {
                let is_expected = answer.changed.contains(address) || is_selected(binding, answer.at);
                if is_expected {
                    prop_assert!(
                        delta.get(address) == Some(binding),
                        "not in the delta from {}: {:?}, then {:?}",
                        answer.at,
                        binding,
                        answer.replies.get(address),
                    );
                } else if !answer.excess.contains_key(address) {
                    prop_assert!(
                        !delta.contains_key(address),
                        "in the delta from {}: {:?}, then {:?}",
                        answer.at,
                        binding,
                        answer.replies.get(address),
                    );
                }
            }
            // No reply is about an address that is no longer configured, except for the end of its
            // lease.
            for (address, before) in &answer.replies {
                let is_in_subnet = world.kea_config != 5 || address.octets()[2] == 1;
                if before.state == Some(State::ACTIVE) && is_in_subnet && !now.contains_key(address) {
                    prop_assert!(delta.contains_key(address), "{address} is still active for the requester");
                }
            }
        }
    }
}
