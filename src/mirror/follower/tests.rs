//! A requester that follows a mirror, through all that may happen to both.

mod cases;
mod losses;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::sub_option;

use super::*;
use crate::kea_config::KeaConfig;
use crate::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin};
use crate::mirror::{InitialLoad, Saved};
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::Client;
use crate::model::state::State;
use crate::model::time::Lifetime;
use crate::model::vpn::Vpn;

/// The addresses of the tests are those of one page.
const ADDRESSES: u8 = 24;

/// The time at which the mirror begins.
const BIRTH: u32 = 10_000;

/// The configurations: a subnet in each VPN or in none, with pools that change.
static CONFIGURATIONS: LazyLock<[Arc<KeaConfig>; 4]> = LazyLock::new(|| {
    let subnet = |id: u8, pool: &str, vpn: &str| {
        format!(
            r#"{{ "id": {id}, "subnet": "10.0.0.{}/29", "pools": [ {{ "pool": "{pool}" }} ] {vpn} }}"#,
            8 * (id - 1),
        )
    };
    let in_vpn = |name: &str| format!(r#", "user-context": {{ "vpn": {{ "name": "{name}" }} }}"#);
    [
        [
            subnet(1, "10.0.0.0-10.0.0.3", ""),
            subnet(2, "10.0.0.8-10.0.0.15", &in_vpn("blue")),
            subnet(3, "10.0.0.16-10.0.0.18", &in_vpn("red")),
        ]
        .join(","),
        [
            subnet(1, "10.0.0.2-10.0.0.7", &in_vpn("blue")),
            subnet(2, "10.0.0.8-10.0.0.9", ""),
            subnet(3, "10.0.0.16-10.0.0.23", &in_vpn("red")),
        ]
        .join(","),
        [
            subnet(1, "10.0.0.0-10.0.0.7", ""),
            subnet(2, "10.0.0.8-10.0.0.15", &in_vpn("blue")),
        ]
        .join(","),
        String::new(),
    ]
    .map(|subnets| {
        let config = format!(r#"{{ "Dhcp4": {{ "subnet4": [ {subnets} ] }} }}"#);
        Arc::new(KeaConfig::new(&config, Vec::new(), &[]).unwrap())
    })
});

/// Returns an address of the tests.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// Returns the selection of a VPN.
fn one(name: &str) -> VpnSelector {
    VpnSelector::One(Vpn::Name(name.to_owned()))
}

/// The knowledge of a requester about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    state: State,
    since: Time,
    last_transaction: Option<Time>,
    end: Option<Time>,
    client: Option<Client>,
    is_remote: bool,
    vpn: Vpn,
}

impl Known {
    /// Returns the knowledge from a reply about a binding at the time `base`; `None` if its VPN is unknown.
    fn of(view: &View, binding: &BindingRef<'_>, base: Time) -> Option<Known> {
        let (state, since) = binding.at(base);
        let client = binding.client.filter(|_| !state.is_free());
        Some(Known {
            state,
            since,
            last_transaction: binding.last_transaction.filter(|_| client.is_some()),
            end: binding.ends().filter(|_| state.is_leased()),
            client: client.map(Client::from),
            is_remote: binding.is_remote(base),
            vpn: view.vpn_of(binding, state)?.into_owned(),
        })
    }
}

/// A mirror, its clock, and a requester that follows it.
struct World {
    mirror: Mirror,
    now: u32,
    selector: VpnSelector,
    follower: Follower,
    /// The knowledge of the requester; free addresses that never had a binding are left out.
    known: BTreeMap<u32, Known>,
    /// The base-time of the last message.
    base: Time,
    /// The query-start-time, until the end of the catch-up.
    start: Option<Time>,
    /// The messages received.
    messages: Vec<(u32, Time)>,
    /// How often changes were missing.
    missing: usize,
    /// The latest time of the clock, which may be set back.
    latest: u32,
}

impl World {
    /// Returns a mirror whose log has room for `capacity` changes, and a requester that knows it.
    fn new(capacity: usize, selector: VpnSelector) -> World {
        let kea_config = Arc::clone(&CONFIGURATIONS[0]);
        let initial_load = InitialLoad::begin(kea_config, Saved::default(), Time(BIRTH));
        let mirror = initial_load.finish();
        let mut table = mirror.table_mut().unwrap();
        table.shorten_log(capacity, Time(BIRTH));
        drop(table);
        let now = BIRTH + 1;
        let follower = mirror
            .follow(None, selector.clone(), None, Time(now))
            .unwrap();
        World {
            mirror,
            now,
            selector,
            follower,
            known: BTreeMap::new(),
            base: Time(now),
            start: None,
            messages: Vec::new(),
            missing: 0,
            latest: now,
        }
    }

    /// Applies an event.
    fn apply(&self, event: Event) {
        self.mirror.queue().push(event);
        self.mirror.catch_up_by(|| Time(self.now));
        while self.mirror.mark_reassigned(Time(self.now)) {}
    }

    /// Commits a lease to a client whose relay agent may name a VPN.
    fn commit(&self, last: u8, client: u8, lifetime: u32, vpn: &str) {
        let mut lease = Lease::example(address(last), Time(self.now));
        lease.hardware.octets = vec![2, 0, 0, 0, 0, client];
        lease.valid_lifetime = Lifetime(lifetime);
        lease.subnet = SubnetId(u32::from(last) / 8 + 1);
        let vss = |vpn: &str| {
            let value = [&[0], vpn.as_bytes()].concat();
            [&[sub_option::VSS, value.len() as u8], &value[..]].concat()
        };
        let client_info = ClientInfo {
            relay_agent_information: (!vpn.is_empty()).then(|| vss(vpn)),
            ..ClientInfo::default()
        };
        self.apply(Event::Committed { lease, client_info });
    }

    /// Changes the configuration.
    fn configure(&self, index: usize) {
        self.apply(Event::Reconfigured {
            kea_config: Arc::clone(&CONFIGURATIONS[index]),
            is_complete: true,
            at: Time(self.now),
        });
    }

    /// The client of an address releases its lease.
    fn release(&self, last: u8) {
        self.apply(Event::Released {
            address: address(last),
            client: None,
            at: Time(self.now),
            origin: Origin::Local,
        });
    }

    /// Kea reclaims a lease that has ended.
    fn reclaim(&self, last: u8) {
        let binding = self
            .mirror
            .read(|table| table.binding(address(last)))
            .unwrap();
        let ended = binding.filter(|binding| {
            let end = binding.ends();
            end.is_some_and(|end| end <= Time(self.now))
        });
        if let Some(binding) = ended {
            self.apply(Event::Reclaimed {
                address: address(last),
                cltt: binding.lease_start,
                was_released: false,
                at: Time(self.now),
            });
        }
    }

    /// Returns the time of a reply.
    fn reply_time(&self) -> Time {
        self.mirror.note_time(Time(self.now))
    }

    /// Returns the answer to a query for all addresses.
    fn all(&self) -> BTreeMap<u32, Known> {
        let now = self.reply_time();
        let all = self.mirror.read(|table| {
            let view = table.view();
            let known = table.bindings(0..=u32::MAX).filter_map(|binding| {
                let known = Known::of(view, &binding, now)?;
                let is_selected = self.selector.selects(&known.vpn);
                is_selected.then(|| (binding.address.to_bits(), known))
            });
            known.collect()
        });
        all.unwrap()
    }

    /// The requester receives up to `count` messages, or all if the follower makes another step before.
    fn receive(&mut self, count: usize) -> bool {
        match self.follower.part(&self.mirror, self.reply_time()).unwrap() {
            Step::Changes(part) => {
                assert!(part.items.len() <= ENTRIES);
                let mut entries = self.follower.entries(&part);
                for _ in 0..count {
                    match entries.next() {
                        Some(Entry::Bound(found, base)) => {
                            let known = Known::of(&part.view, &found.binding(), base);
                            let known = known.expect("a VPN");
                            assert!(self.selector.selects(&known.vpn));
                            self.known.insert(found.address, known);
                            self.base = base;
                            self.messages.push((found.address, base));
                        }
                        Some(Entry::Free(run, base)) => {
                            assert!(self.selector.selects(&run.range.vpn));
                            for address in run.first.to_bits()..=run.last.to_bits() {
                                self.known.remove(&address);
                                self.messages.push((address, base));
                            }
                            self.base = base;
                        }
                        Some(Entry::Left(address, vpn, base)) => {
                            assert!(self.selector.selects(vpn));
                            self.known.remove(&address.to_bits());
                            self.base = base;
                            self.messages.push((address.to_bits(), base));
                        }
                        None => break,
                    }
                }
                true
            }
            Step::CatchUpComplete { base } => {
                assert!(self.start.take().is_some(), "asked for");
                self.base = base;
                true
            }
            Step::DataMissing { base } => {
                self.missing += 1;
                self.start = None;
                self.base = base;
                self.known = self.all();
                true
            }
            Step::Nothing { base } => {
                assert_eq!(self.start, None);
                assert!(base <= Time(self.now.max(self.latest)));
                self.base = base;
                false
            }
        }
    }

    /// The requester receives everything.
    fn receive_all(&mut self) {
        let mut steps = 0;
        while self.receive(usize::MAX) {
            steps += 1;
            assert!(steps < 10_000, "it comes to an end");
        }
    }

    /// The connection breaks, and the requester connects again.
    fn reconnect(&mut self) {
        let start = self.start.unwrap_or(self.base);
        self.start = Some(start);
        let (selector, now) = (self.selector.clone(), self.reply_time());
        self.follower = self
            .mirror
            .follow(Some(start), selector, None, now)
            .unwrap();
    }

    /// Checks that the requester knows the same as after a query for all addresses. A requester does not learn of
    /// addresses that are merely configured.
    fn check(&self) {
        // States that ended are as they were before, until the clock passes their ends again.
        if self.now < self.latest {
            return;
        }
        let is_bound = |known: &Known| !known.state.is_free();
        let bound = |all: &BTreeMap<u32, Known>| -> BTreeMap<u32, Known> {
            let all = all.iter().filter(|(_, known)| is_bound(known));
            all.map(|(address, known)| (*address, known.clone()))
                .collect()
        };
        let (known, all) = (bound(&self.known), bound(&self.all()));
        let differs = |address: &&u32| known.get(address) != all.get(address);
        let different = known.keys().chain(all.keys()).find(differs);
        if let Some(address) = different {
            panic!(
                "{address:x}: {:?} != {:?}",
                known.get(address),
                all.get(address)
            );
        }
    }
}

/// A step of the world.
#[derive(Clone, Debug)]
enum Happens {
    /// Kea commits a lease.
    Commit(u8, u8, u32, &'static str),
    /// A lease of another server is found, whose clock differs.
    Find(u8, u8, i32, LeaseState),
    /// A client releases a lease.
    Release(u8),
    /// An administrator removes a lease.
    Remove(u8),
    /// Kea offers an address.
    Offer(u8, u8),
    /// Kea reclaims a lease.
    Reclaim(u8),
    /// The configuration changes.
    Configure(usize),
    /// Time passes.
    Clock(u32),
    /// The clock is set back.
    SetBack(u32),
    /// Many addresses change.
    Burst(u8, u8),
    /// The requester receives some messages.
    Receive(usize),
    /// The requester receives all messages.
    ReceiveAll,
    /// The connection breaks, and the requester connects again.
    Reconnect,
}

fn happens() -> impl Strategy<Value = Happens> {
    let last = 0..ADDRESSES;
    let vpn = prop_oneof![6 => Just(""), 1 => Just("blue"), 1 => Just("red")];
    let lifetime = prop_oneof![0..12u32, Just(20), Just(30), Just(u32::MAX)];
    let state = prop_oneof![3 => Just(LeaseState::Default), 2 => Just(LeaseState::Declined)];
    prop_oneof![
        6 => (last.clone(), 0..3u8, lifetime, vpn)
            .prop_map(|(a, c, l, v)| Happens::Commit(a, c, l, v)),
        2 => (last.clone(), 0..3u8, -9..4i32, state)
            .prop_map(|(a, c, ago, s)| Happens::Find(a, c, ago, s)),
        2 => last.clone().prop_map(Happens::Release),
        1 => last.clone().prop_map(Happens::Remove),
        1 => (last.clone(), 0..3u8).prop_map(|(a, c)| Happens::Offer(a, c)),
        2 => last.clone().prop_map(Happens::Reclaim),
        1 => (0..4usize).prop_map(Happens::Configure),
        4 => (1..15u32).prop_map(Happens::Clock),
        1 => (last, 1..ADDRESSES).prop_map(|(a, n)| Happens::Burst(a, n)),
        4 => (0..4usize).prop_map(Happens::Receive),
        1 => Just(Happens::ReceiveAll),
        1 => Just(Happens::Reconnect),
    ]
}

impl World {
    /// Makes a step.
    fn step(&mut self, step: &Happens) {
        let now = Time(self.now);
        match step {
            Happens::Commit(last, client, lifetime, vpn) => {
                self.commit(*last, *client, *lifetime, vpn);
            }
            Happens::Find(last, client, ahead, state) => {
                let cltt = Time(self.now.saturating_add_signed(*ahead));
                let mut lease = Lease::example(address(*last), cltt);
                lease.hardware.octets = vec![2, 0, 0, 0, 0, *client];
                lease.valid_lifetime = Lifetime(10);
                lease.subnet = SubnetId(u32::from(*last) / 8 + 1);
                lease.state = *state;
                self.apply(Event::Updated {
                    lease,
                    at: now,
                    origin: Origin::Remote,
                });
            }
            Happens::Release(last) => self.release(*last),
            Happens::Remove(last) => self.apply(Event::Removed {
                address: address(*last),
                at: now,
                origin: Origin::Local,
            }),
            Happens::Offer(last, client) => {
                let mut lease = Lease::example(address(*last), now);
                lease.hardware.octets = vec![2, 0, 0, 0, 0, *client];
                lease.valid_lifetime = Lifetime(4);
                lease.subnet = SubnetId(u32::from(*last) / 8 + 1);
                let client_info = ClientInfo::default();
                self.apply(Event::Offered { lease, client_info });
            }
            Happens::Reclaim(last) => self.reclaim(*last),
            Happens::Configure(index) => self.configure(*index),
            Happens::Clock(seconds) => self.now += seconds,
            Happens::SetBack(seconds) => {
                self.latest = self.latest.max(self.now);
                self.now -= seconds;
            }
            Happens::Burst(first, count) => {
                for last in 0..*count {
                    self.commit((first + last) % ADDRESSES, last % 3, 20, "");
                }
            }
            Happens::Receive(count) => {
                self.receive(*count);
            }
            Happens::ReceiveAll => {
                self.receive_all();
                self.check();
            }
            Happens::Reconnect => self.reconnect(),
        }
    }
}

fn selectors() -> impl Strategy<Value = VpnSelector> {
    prop_oneof![
        3 => Just(VpnSelector::All),
        2 => Just(VpnSelector::One(Vpn::Default)),
        1 => Just(one("blue")),
        1 => Just(one("red")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The requester knows in the end what a query for all addresses would return, through all changes and breaks.
    #[test]
    fn a_requester_misses_no_change(
        capacity in prop_oneof![Just(2_000), 1..40usize],
        selector in selectors(),
        steps in vec(happens(), 0..120),
    ) {
        let mut world = World::new(capacity, selector.clone());
        for step in &steps {
            world.step(step);
        }
        world.receive_all();
        world.check();
        // Time passes, and everything ends.
        world.now += 100;
        world.receive_all();
        world.check();
        let history = world.mirror.read(|table| table.changes().history().to_saved());
        let may_miss = selector != VpnSelector::All || history.unwrap().hidden.is_some();
        prop_assert!(world.missing == 0 || may_miss);
    }

    /// Likewise if the clock is set back, once it has passed the time before: what it misses, it is informed of.
    #[test]
    fn a_requester_misses_no_change_when_the_clock_is_set_back(
        capacity in prop_oneof![Just(2_000), 1..40usize],
        steps in vec(prop_oneof![12 => happens(), 1 => (1..60u32).prop_map(Happens::SetBack)], 0..120),
    ) {
        let mut world = World::new(capacity, VpnSelector::All);
        for step in &steps {
            world.step(step);
        }
        world.now = world.now.max(world.latest) + 100;
        world.receive_all();
        world.check();
    }
}
