//! Changes that a requester could miss: VPNs that lose bindings, kills and restarts, partners that take over.

use parking_lot::Mutex;

use super::*;
use crate::mirror::ChangeRecorder;
use crate::mirror::dirty_set::{HIDDEN, LEFT_VPN};
use crate::model::client::ClientRef;

/// A log with room for all changes.
const LARGE: usize = 32_768;

/// The record of recent changes, as the file beside the state file has it.
#[derive(Debug, Default)]
struct Recent(Mutex<Vec<u32>>);

impl ChangeRecorder for Recent {
    fn record(&self, changed: &mut dyn Iterator<Item = u32>, _latest: Option<Time>) {
        self.0.lock().extend(changed);
    }

    fn retain(&self, dirty: &mut dyn Iterator<Item = u32>) {
        *self.0.lock() = dirty.collect();
    }
}

impl World {
    /// Returns a mirror without followers but this one, whose recent changes are recorded.
    fn recorded(selector: VpnSelector) -> (World, Arc<Recent>) {
        let world = World::new(LARGE, selector);
        let recent = Arc::new(Recent::default());
        world
            .mirror
            .attach_recorder(Arc::clone(&recent) as Arc<dyn ChangeRecorder>);
        (world, recent)
    }

    /// Flushes all changes. Returns the contents of the state file.
    fn flush(&self) -> Saved {
        let mut table = self.mirror.table_mut().unwrap();
        let _ = table.take_dirty_view();
        let _ = table.take_dirty(usize::MAX);
        let _ = table.take_dirty_history();
        let bindings = table.bindings(0..=u32::MAX);
        let saved = Saved {
            bindings: bindings.map(|binding| binding.to_owned()).collect(),
            saved_view: table.saved_view(),
            saved_at: Some(Time(self.now)),
            latest: table.latest,
            history: Some(Box::new(table.changes().history().to_saved())),
            ..Saved::default()
        };
        drop(table);
        self.mirror.trim_record();
        saved
    }

    /// Returns Kea's leases.
    fn leases(&self) -> Vec<Lease> {
        let leases = self.mirror.read(|table| {
            let bindings = table.bindings(0..=u32::MAX);
            let leased = bindings.filter(|binding| binding.state == State::Active);
            let leases = leased.map(|binding| {
                let mut lease = Lease::example(binding.address, binding.lease_start);
                lease.hardware.octets = binding.client.map_or(&[][..], ClientRef::chaddr).to_vec();
                lease.valid_lifetime = binding.lifetime;
                lease.subnet = binding.subnet;
                lease
            });
            leases.collect()
        });
        leases.unwrap()
    }

    /// Kea starts again, a second later, with these contents of the state file and these leases. The requester connects
    /// again.
    fn restart(&mut self, saved: Saved, leases: &[Lease], kea_config: &Arc<KeaConfig>) {
        self.now += 1;
        let kea_config = Arc::clone(kea_config);
        let mut initial_load = InitialLoad::begin(kea_config, saved, Time(self.now));
        for lease in leases {
            initial_load.lease(lease);
        }
        self.mirror = initial_load.finish();
        self.reconnect();
    }
}

//--- Kills and restarts

#[test]
fn a_binding_that_entered_and_left_a_vpn_before_a_kill_is_missing_in_that_vpn() {
    for (selector, missing) in [(one("blue"), 1), (VpnSelector::All, 0)] {
        let (mut world, recent) = World::recorded(selector);
        world.commit(1, 1, 1_000, "");
        world.receive_all();
        let saved = world.flush();
        world.now += 1;
        world.commit(1, 2, 1_000, "blue");
        world.receive_all();
        assert_eq!(world.known.len(), 1);
        world.now += 1;
        world.commit(1, 3, 1_000, "");
        let leases = world.leases();
        let saved = Saved {
            recent: recent.0.lock().clone(),
            ..saved
        };
        world.restart(saved, &leases, &CONFIGURATIONS[0]);
        world.receive_all();
        world.check();
        assert_eq!(world.missing, missing);
    }
}

#[test]
fn a_kill_after_changes_within_vpns_is_no_loss() {
    for vpn in ["", "blue"] {
        let selector = if vpn.is_empty() {
            VpnSelector::One(Vpn::Default)
        } else {
            one(vpn)
        };
        let (mut world, recent) = World::recorded(selector);
        world.commit(1, 1, 1_000, vpn);
        world.receive_all();
        let saved = world.flush();
        world.now += 1;
        world.commit(1, 2, 1_000, vpn);
        world.commit(2, 2, 1_000, vpn);
        world.release(2);
        let mut leases = world.leases();
        // The relay agent's information is in the lease.
        let mut information = vec![sub_option::VSS, 1 + vpn.len() as u8, 0];
        information.extend(vpn.as_bytes());
        if !vpn.is_empty() {
            leases[0].relay_agent_information = Some(information);
        }
        let saved = Saved {
            recent: recent.0.lock().clone(),
            ..saved
        };
        world.restart(saved, &leases, &CONFIGURATIONS[0]);
        world.receive_all();
        world.check();
        assert_eq!((world.missing, world.known.is_empty()), (0, false));
    }
}

#[test]
fn a_loss_that_was_not_written_is_recorded_until_it_is() {
    let (world, recent) = World::recorded(one("blue"));
    let recorded = |address: u32| recent.0.lock().contains(&address);
    world.commit(1, 1, 1_000, "blue");
    assert!(!recorded(LEFT_VPN));
    world.commit(1, 1, 1_000, "red");
    assert!(recorded(LEFT_VPN) && !recorded(HIDDEN));
    world.flush();
    assert!(!recorded(LEFT_VPN));
    // Outside of any subnet.
    world.commit(200, 1, 1_000, "blue");
    world.commit(200, 2, 1_000, "");
    assert!(recorded(LEFT_VPN) && recorded(HIDDEN));
    world.flush();
    assert!(!recorded(LEFT_VPN) && !recorded(HIDDEN));
    // A write that failed.
    world
        .mirror
        .change_dirty_set(|dirty| dirty.put_back_history());
    world.mirror.trim_record();
    assert!(recorded(LEFT_VPN) && recorded(HIDDEN));
}

#[test]
fn a_binding_hidden_before_a_kill_is_missing_for_all() {
    let (mut world, recent) = World::recorded(VpnSelector::All);
    world.receive_all();
    let saved = world.flush();
    world.now += 1;
    world.commit(200, 1, 1_000, "blue");
    world.receive_all();
    assert_eq!(world.known.len(), 1);
    world.commit(200, 2, 1_000, "");
    let leases = world.leases();
    let saved = Saved {
        recent: recent.0.lock().clone(),
        ..saved
    };
    world.restart(saved, &leases, &CONFIGURATIONS[0]);
    world.receive_all();
    world.check();
    assert_eq!(world.missing, 1);
}

#[test]
fn a_former_subnet_that_returns_in_another_vpn_at_a_start_is_missing_in_the_former_one() {
    let vpn = |name: &str| {
        let config = format!(
            r#"{{ "Dhcp4": {{ "subnet4": [ {{ "id": 3, "subnet": "10.0.0.16/29",
                "user-context": {{ "vpn": {{ "name": "{name}" }} }} }} ] }} }}"#
        );
        Arc::new(KeaConfig::new(&config, Vec::new(), &[]).unwrap())
    };
    for (selector, to, missing) in [
        (one("red"), "blue", 1),
        (one("red"), "red", 0),
        (one("blue"), "blue", 0),
        (VpnSelector::All, "blue", 0),
    ] {
        let mut world = World::new(LARGE, selector);
        world.commit(17, 1, 1_000, "");
        world.receive_all();
        // Without its subnet, the binding stays in its VPN.
        world.configure(2);
        world.receive_all();
        world.now += 1;
        let (saved, leases) = (world.flush(), world.leases());
        world.restart(saved, &leases, &vpn(to));
        world.receive_all();
        world.check();
        assert_eq!(world.missing, missing, "to {to}");
    }
}

//--- Many VPNs

#[test]
fn any_number_of_vpns_may_lose_bindings_at_once() {
    let vpns = 5_000;
    for selector in [VpnSelector::All, one("vpn 7"), one("vpn 4321"), one("no")] {
        let mut world = World::new(LARGE, selector);
        for number in 0..vpns {
            world.commit(1, number as u8, 1_000, &format!("vpn {number}"));
            if number % 1_000 == 8 {
                world.receive_all();
            }
        }
        // The last one leaves its VPN for none.
        world.commit(200, 1, 1_000, "vpn 7");
        world.receive_all();
        world.commit(200, 2, 1_000, "");
        world.receive_all();
        world.check();
        assert_eq!(world.missing, 0);
    }
}

#[test]
fn more_vpns_than_the_log_has_changes_lose_bindings() {
    for selector in [VpnSelector::All, one("vpn 7"), one("vpn 399"), one("no")] {
        let mut world = World::new(8, selector);
        for number in 0..500 {
            world.now += number % 2;
            world.commit(
                (number % 24) as u8,
                1,
                10_000,
                &format!("vpn {}", number % 400),
            );
            if number % 5 == 0 {
                world.receive(1);
            }
        }
        world.receive_all();
        world.check();
    }
}

//--- High availability

/// Returns the configuration of one of two partners, each with a pool.
fn partners() -> Arc<KeaConfig> {
    let config = r#"{ "Dhcp4": {
        "hooks-libraries": [ { "library": "/usr/lib/libdhcp_ha.so", "parameters": {
            "high-availability": [ { "this-server-name": "one", "mode": "load-balancing",
                "peers": [ { "name": "one", "role": "primary" },
                           { "name": "two", "role": "secondary" } ] } ] } } ],
        "subnet4": [ { "id": 1, "subnet": "10.0.0.0/16", "pools": [
            { "pool": "10.0.0.0-10.0.0.15", "client-class": "HA_one" },
            { "pool": "10.0.0.16-10.0.10.255", "client-class": "HA_two" } ] } ] } }"#;
    Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap())
}

impl World {
    /// An offer of an address is made and lapses, so that the address has a binding and is available.
    fn offer_in_vain(&self, address: Ipv4Addr) {
        let mut lease = Lease::example(address, Time(self.now));
        lease.valid_lifetime = Lifetime(1);
        let client_info = ClientInfo::default();
        self.apply(Event::Offered { lease, client_info });
    }

    /// Serves these scopes from now on.
    fn serve(&self, scopes: &[&str]) {
        self.apply(Event::Serving {
            serving: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            at: Time(self.now),
        });
    }

    /// Returns the state of each address with a binding that requesters see, and its start.
    fn states(&self) -> Vec<(u32, (State, Time), bool)> {
        let now = Time(self.now);
        let states = self.mirror.read(|table| {
            let bindings = table.bindings(0..=u32::MAX);
            let states = bindings.map(|binding| {
                let address = binding.address.to_bits();
                let state = table.view().state(&binding, now);
                (address, state, binding.is_remote(now))
            });
            states.collect()
        });
        states.unwrap()
    }

    /// Receives everything; returns the addresses.
    fn received_addresses(&mut self) -> Vec<u32> {
        self.messages.clear();
        self.receive_all();
        let mut addresses: Vec<u32> = self.messages.iter().map(|message| message.0).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

#[test]
fn available_addresses_that_another_server_assigns_are_sent() {
    // Of one part, and of several, also when the log loses changes.
    for (many, capacity) in [(3, LARGE), (2_000, LARGE), (600, 16)] {
        let mut world = World::new(capacity, VpnSelector::All);
        world.apply(Event::Reconfigured {
            kea_config: partners(),
            is_complete: true,
            at: Time(world.now),
        });
        let first = Ipv4Addr::new(10, 0, 1, 0).to_bits();
        for number in 0..many {
            world.offer_in_vain(Ipv4Addr::from_bits(first + number));
        }
        // Leases, of this server's pool and the partner's, that were released and have expired.
        for (last, lifetime) in [(1, 1_000), (2, 2), (17, 1_000), (18, 2), (19, 1_000)] {
            world.commit(last, 1, lifetime, "");
        }
        world.release(1);
        world.release(17);
        world.now += 10;
        world.receive_all();
        for scopes in [&["one", "two"][..], &["one"], &[]] {
            let before = world.states();
            let reconnected_at = world.base;
            world.now += 1;
            world.serve(scopes);
            let after = world.states();
            let differs = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before != after);
            let differs: Vec<u32> = differs.map(|(before, _)| before.0).collect();
            let is_available = |address: &u32| *address >= first;
            assert!(differs.iter().all(is_available), "others have other states");
            assert_eq!(world.received_addresses(), differs, "{scopes:?}");
            assert_eq!(differs.is_empty(), scopes.is_empty());
            // Found by a catch-up, too.
            world.start = Some(reconnected_at);
            world.reconnect();
            let found = world.received_addresses();
            let is_found = |address: &u32| found.binary_search(address).is_ok();
            assert!(differs.iter().all(is_found));
            world.now += 1;
        }
        assert_eq!(world.missing, 0);
    }
}

#[test]
fn available_addresses_that_a_new_configuration_passes_to_a_partner_are_sent() {
    let mut world = World::new(LARGE, VpnSelector::All);
    let config = r#"{ "Dhcp4": { "subnet4": [ { "id": 1, "subnet": "10.0.0.0/16", "pools": [
        { "pool": "10.0.0.0-10.0.10.255" } ] } ] } }"#;
    let alone = Arc::new(KeaConfig::new(config, Vec::new(), &[]).unwrap());
    let configure = |world: &World, kea_config| {
        world.apply(Event::Reconfigured {
            kea_config,
            is_complete: true,
            at: Time(world.now),
        });
    };
    configure(&world, alone);
    for last in [3, 20] {
        world.offer_in_vain(address(last));
    }
    world.now += 10;
    world.serve(&["one"]);
    world.receive_all();
    configure(&world, partners());
    assert_eq!(world.received_addresses(), [address(20).to_bits()]);
}

#[test]
fn queries_and_commands_do_not_wait_for_addresses_that_another_server_assigns() {
    let world = World::new(LARGE, VpnSelector::All);
    world.apply(Event::Reconfigured {
        kea_config: partners(),
        is_complete: true,
        at: Time(world.now),
    });
    for last in [3, 20] {
        world.offer_in_vain(address(last));
    }
    let serving = ["one".to_owned(), "two".to_owned()].into_iter().collect();
    let at = Time(world.now);
    world.mirror.queue().push(Event::Serving { serving, at });
    world.mirror.catch_up_by(|| at);
    let has_reassigned = |world: &World| world.mirror.read(Table::has_reassigned).unwrap();
    assert!(has_reassigned(&world));
    assert!(!world.mirror.mark_reassigned(at));
    assert!(!has_reassigned(&world));
}

//--- Queries that waited for the load

#[test]
fn a_query_without_start_that_waited_misses_nothing_that_was_lost_before() {
    let mut world = World::new(LARGE, one("blue"));
    world.commit(8, 1, 1_000, "");
    let (saved, leases) = (world.flush(), world.leases());
    // The subnet is in another VPN, and the query came in the second of the load.
    world.now += 1;
    let now = Time(world.now);
    let kea_config = Arc::clone(&CONFIGURATIONS[1]);
    let mut initial_load = InitialLoad::begin(kea_config, saved, now);
    leases.iter().for_each(|lease| initial_load.lease(lease));
    world.mirror = initial_load.finish();
    world.known.clear();
    let history = world.mirror.read(|table| table.changes().history().clone());
    assert!(!history.unwrap().has_lost_nothing(now, &one("blue")));
    // Another query, by which the requester knows this binding, was answered before the stream began.
    world.commit(1, 1, 1_000, "");
    world.known = world.all();
    assert_eq!(world.known.len(), 1);
    world.commit(1, 2, 1_000, "red");
    world.follower = world.mirror.follow_since(now, one("blue"), now).unwrap();
    world.receive_all();
    world.check();
    assert_eq!(world.missing, 0);
}
