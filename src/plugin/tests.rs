//! The life cycle, on a fake Kea.

mod callouts;
mod failures;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use blq::{Connection, Primary, Query, StatusCode, Timeouts};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::kea_config::DatabaseReservation;
use crate::log::subscriber::Sink;
use crate::mirror::event::stored_lease::StoredLease;
use crate::mirror::event::{Event, Lease, LeaseState, Origin};
use crate::mirror::{Failure, Unready};
use crate::model::binding::SubnetId;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::plugin::Refused;
use crate::plugin::fake::{FakeKea, Server};
use crate::plugin::message::{Answer, Message};

/// A time longer than that from one retry to the next.
const LONG: Duration = Duration::from_secs(10);

/// Returns an address of the pool.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// Returns a lease of that address.
fn lease(last: u8) -> Lease {
    Lease::example(address(last), Time(1_000))
}

/// Returns that lease renewed.
fn renewed(last: u8) -> Lease {
    Lease {
        cltt: Time(2_000),
        ..lease(last)
    }
}

/// Returns a Kea with the leases 1 to `count`.
fn with_leases(count: u8) -> FakeKea {
    let kea = FakeKea::new();
    (1..=count).for_each(|last| kea.put(lease(last)));
    kea
}

/// Has the plugin listen on an address and port that no other test uses; returns both.
fn listen(kea: &FakeKea) -> (Ipv4Addr, u16) {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [high, low, ..] = (std::process::id() as u16).to_be_bytes();
    let address = Ipv4Addr::new(127, 1 | high, low, 1 + LAST.fetch_add(1, Ordering::Relaxed));
    listen_on(kea, address);
    (address, PORT)
}

/// The port that tests listen on.
const PORT: u16 = 10_067;

/// Has the plugin listen on an address.
fn listen_on(kea: &FakeKea, address: Ipv4Addr) {
    kea.with(|state| {
        state.parameters["advanced"] = json!({
            "lease-query-ip": address.to_string(), "lease-query-tcp-port": PORT,
        });
    });
}

/// Returns the states of the bindings of the addresses 1 to `count`.
fn states(server: &Server, count: u8) -> Vec<Option<State>> {
    let state = |last| server.binding(address(last)).map(|binding| binding.state);
    (1..=count).map(state).collect()
}

/// Asks for a lease by its client's MAC address; returns how many bindings were found, or the status.
fn ask(server: (Ipv4Addr, u16), last: u8) -> Result<usize, StatusCode> {
    let mut connection = Connection::open(server, &Timeouts::default()).unwrap();
    let query = Query::new(Primary::Mac {
        htype: 1,
        address: lease(last).hardware.octets,
    });
    let answer = connection.query(&query);
    let done = answer.done.expect("DHCPLEASEQUERYDONE");
    match done.failure() {
        None => Ok(answer.bindings.len()),
        Some(status) => Err(status.code),
    }
}

// ------------------------------------------------------------------------ Load and configure

#[test]
fn loads_kea_s_leases_and_answers() {
    let kea = with_leases(100);
    let listener = listen(&kea);
    let server = Server::started(kea);
    assert_eq!(states(&server, 100), [Some(State::Active); 100]);
    assert_eq!(ask(listener, 7), Ok(1));
    assert!(server.kea.with(|state| state.is_tracking));
    server.plugin.unload();
    assert!(TcpStream::connect(listener).is_err(), "the port is free");
    assert!(!server.kea.with(|state| state.is_tracking));
}

#[test]
fn refuses_other_daemons_before_it_asks_for_anything() {
    let kea = FakeKea::new();
    kea.with(|state| state.process_name = "kea-dhcp6");
    let server = Server::new(kea);
    assert_eq!(server.load(), Err(Refused));
    assert_eq!(server.kea.with(|state| state.forgone.len()), 0);
}

#[test]
fn takes_back_the_callouts_that_are_not_required() {
    for (version, forgone) in [
        (
            3_00_03,
            &["pkt4_send", "lease4_select", "lease4_renew", "lease4_offer"][..],
        ),
        (
            2_02_00,
            &[
                "lease4_select",
                "lease4_renew",
                "lease4_release",
                "lease4_decline",
            ],
        ),
    ] {
        let kea = FakeKea::new();
        kea.with(|state| {
            state.version = version;
            state.dhcp4["multi-threading"] = json!({ "enable-multi-threading": true });
        });
        let server = Server::new(kea);
        assert_eq!(server.load(), Ok(()));
        assert_eq!(server.kea.with(|state| state.forgone.clone()), forgone);
    }
}

#[test]
fn looks_at_no_message_if_neither_this_nor_the_previous_configuration_answers_over_udp() {
    let kea = with_leases(1);
    let server = Server::new(kea);
    let looks = |server: &Server| {
        let forgone = server.kea.with(|state| std::mem::take(&mut state.forgone));
        !forgone.contains(&"buffer4_receive".to_owned())
    };
    let set = |server: &Server, is_enabled: bool| {
        server.kea.with(|state| {
            state.parameters["advanced"]["udp-query-enabled"] = json!(is_enabled);
        });
        assert_eq!(server.load(), Ok(()));
        server.configure().unwrap();
    };
    set(&server, false);
    assert!(!looks(&server));
    set(&server, true);
    assert!(looks(&server));
    // The previous one is served again if this one is refused.
    set(&server, false);
    assert!(looks(&server));
    set(&server, false);
    assert!(!looks(&server));
}

#[test]
fn serves_the_previous_configuration_beside_the_libraries_that_are_loaded_now() {
    let kea = with_leases(1);
    let other = "/a/libdhcp_lease_query.so";
    let library = json!({ "library": other });
    let own = json!({ "library": "/a/libdhcp_blq.so" });
    kea.with(|state| {
        state.libraries.push((other, false));
        state.dhcp4["hooks-libraries"] = json!([own, library]);
    });
    let server = Server::new(kea);
    assert_eq!(server.load(), Ok(()));
    assert_eq!(server.configure(), Ok(()));
    let answers_over_udp = |server: &Server| {
        let status = server.command("blq4-status", &Value::Null);
        status["arguments"]["udp-query-enabled"] == true
    };
    assert!(!answers_over_udp(&server), "the other one does");
    // A refused configuration unloads the other library.
    server.kea.with(|state| {
        state.libraries.pop();
        state.forgone.clear();
        state.dhcp4["hooks-libraries"] = json!([own]);
        state.parameters["requesters"] = json!("wrong");
    });
    assert!(server.reload().is_err());
    assert!(answers_over_udp(&server));
    let forgone = server.kea.with(|state| state.forgone.clone());
    assert!(!forgone.contains(&"buffer4_receive".to_owned()));
}

#[test]
fn starts_nothing_where_the_configuration_is_only_checked() {
    let kea = with_leases(1);
    let listener = listen(&kea);
    kea.with(|state| state.checks_only = true);
    let server = Server::new(kea);
    assert_eq!(server.load_and_configure(), Ok(()));
    assert!(server.mirror().is_none());
    assert!(TcpStream::connect(listener).is_err());
    assert!(!server.kea.file("kea-blq.state").exists());
    server.kea.with(|state| state.parameters["typo"] = json!(1));
    assert!(server.load_and_configure().unwrap_err().contains("typo"));
    assert_eq!(server.kea.with(|state| state.reads), 0);
}

#[test]
fn refuses_to_be_loaded_twice() {
    let kea = FakeKea::new();
    kea.with(|state| state.libraries.push(("/b/copy.so", true)));
    let server = Server::new(kea);
    let error = server.load_and_configure().unwrap_err();
    assert!(
        error.contains("2 times") && error.contains("/b/copy.so"),
        "{error}"
    );
}

// --------------------------------------------------------------------------- Reconfiguration

#[test]
fn a_refused_configuration_leaves_the_previous_one_served() {
    let kea = with_leases(3);
    let listener = listen(&kea);
    let server = Server::started(kea);
    server
        .kea
        .with(|state| state.parameters["advanced"]["typo"] = json!(1));
    let error = server.reload().unwrap_err();
    assert!(error.contains("typo"), "{error}");
    assert_eq!(server.kea.with(|state| state.restored), 1);
    server.run_until("complete again", Server::is_complete);
    assert_eq!(ask(listener, 3), Ok(1));
    // The next good one is taken.
    let other = listen(&server.kea);
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete again", Server::is_complete);
    assert_eq!(ask(other, 3), Ok(1));
    assert!(TcpStream::connect(listener).is_err());
}

#[test]
fn the_first_configuration_refused_leaves_nothing_behind() {
    let kea = with_leases(1);
    let good = kea.with(|state| std::mem::replace(&mut state.parameters, json!({})));
    let server = Server::new(kea);
    assert!(server.load_and_configure().is_err());
    assert!(server.mirror().is_none());
    server.run_for(LONG);
    assert_eq!(server.kea.with(|state| state.reads), 0);
    server.kea.with(|state| state.parameters = good);
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete", Server::is_complete);
}

/// A new address that cannot be listened on refuses a reconfiguration, but never the start of Kea.
#[test]
fn a_port_in_use_refuses_a_reconfiguration_and_no_start() {
    let kea = with_leases(1);
    let listener = listen(&kea);
    let occupied = TcpListener::bind(listener).unwrap();
    let server = Server::started(kea);
    drop(occupied);
    server.run_until("listening", |_| TcpStream::connect(listener).is_ok());

    let new = listen(&server.kea);
    let _occupied = TcpListener::bind(new).unwrap();
    let error = server.reload().unwrap_err();
    assert!(error.contains("cannot listen"), "{error}");
    server.run_until("listening again", |_| TcpStream::connect(listener).is_ok());
}

/// Kea's configuration in force may change by commands and from databases.
#[test]
fn reads_a_configuration_that_changes_in_force_once_a_second_at_most() {
    let server = Server::started(FakeKea::new());
    let has_subnet = |server: &Server, id| {
        let mirror = server.mirror().unwrap();
        mirror.catch_up();
        mirror.kea_config().subnet(SubnetId(id)).is_some()
    };
    let add_subnet = |id| {
        server.kea.with(|state| {
            let subnets = state.in_force.as_mut().unwrap()["subnet4"].as_array_mut();
            let subnet = json!({ "id": id, "subnet": format!("10.0.{id}.0/24") });
            subnets.unwrap().push(subnet);
        });
        server.processed("subnet4-add", &json!({}));
    };
    add_subnet(2);
    server.tick();
    assert!(has_subnet(&server, 2));
    add_subnet(3);
    server.tick();
    assert!(!has_subnet(&server, 3));
    server.run_for(Duration::from_millis(1_500));
    assert!(has_subnet(&server, 3));
}

// --------------------------------------------------------------------------------- Hand-over

/// Returns the event of a release of an address by its client, at a time.
fn released(last: u8, at: Time) -> Event {
    Event::Released {
        address: address(last),
        client: None,
        at,
        origin: Origin::Local,
    }
}

#[test]
fn a_reload_hands_the_mirror_over_and_finds_what_changed_meanwhile() {
    let server = Server::started(with_leases(3));
    // Kea 2.2 deletes a lease that is released: only the mirror knows.
    server
        .mirror()
        .unwrap()
        .queue()
        .push(released(1, Time(1_500)));
    server
        .kea
        .with(|state| state.leases.as_mut().unwrap().remove(&address(1)));
    server.plugin.unload();
    // Not from the file.
    fs::remove_file(server.kea.file("kea-blq.state")).unwrap();
    server.kea.put(renewed(2));
    server.kea.put(lease(4));
    assert_eq!(server.load_and_configure(), Ok(()));
    server.run_until("complete", Server::is_complete);
    let active = Some(State::Active);
    let expected = [Some(State::Released), active, active, active];
    assert_eq!(states(&server, 4), expected);
    let binding = server.binding(address(2)).unwrap();
    assert_eq!(binding.last_transaction, Some(Time(2_000)));
}

#[test]
fn a_mirror_is_handed_over_to_another_state_file() {
    let server = Server::started(with_leases(1));
    server
        .mirror()
        .unwrap()
        .queue()
        .push(released(1, Time(1_500)));
    server.kea.with(|state| {
        state.leases.as_mut().unwrap().clear();
        state.parameters["state-file"] = json!("other.state");
    });
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete", Server::is_complete);
    assert_eq!(states(&server, 1), [Some(State::Released)]);
    server.plugin.unload();
    // Another process begins with that file.
    let next = Server::started(server.kea.clone());
    assert_eq!(states(&next, 1), [Some(State::Released)]);
}

/// Kea reads all of its leases between load and dhcp4_srv_configured.
#[test]
fn a_start_begins_with_the_state_file() {
    let server = Server::started(with_leases(1));
    server
        .mirror()
        .unwrap()
        .queue()
        .push(released(1, Time(1_500)));
    server
        .kea
        .with(|state| state.leases.as_mut().unwrap().clear());
    server.plugin.unload();
    let next = Server::new(server.kea.clone());
    assert_eq!(next.load(), Ok(()));
    assert_eq!(next.configure(), Ok(()));
    next.run_until("complete", Server::is_complete);
    let binding = next.binding(address(1)).unwrap();
    assert_eq!(
        (binding.state, binding.since),
        (State::Released, Time(1_500))
    );
}

// ----------------------------------------------------------------------------- Lease manager

/// Takes the leases from Kea, as an outage of their database does; returns them.
fn take_leases(kea: &FakeKea) -> std::collections::BTreeMap<Ipv4Addr, Lease> {
    kea.with(|state| state.leases.take())
        .expect("a lease manager")
}

#[test]
fn leases_that_cannot_be_read_at_the_start_are_awaited() {
    let kea = with_leases(2);
    let listener = listen(&kea);
    let leases = take_leases(&kea);
    let server = Server::new(kea);
    assert_eq!(server.load_and_configure(), Ok(()));
    server.run_for(LONG);
    assert!(server.mirror().is_none());
    assert!(TcpStream::connect(listener).is_err());
    assert_eq!(server.kea.with(|state| state.paused), 0);
    server.kea.with(|state| state.leases = Some(leases));
    server.run_until("complete", Server::is_complete);
    assert_eq!(states(&server, 2), [Some(State::Active); 2]);
    assert_eq!(ask(listener, 2), Ok(1));
    // The sink changes while no packet is processed.
    assert_eq!(server.kea.with(|state| state.paused), 1);
}

#[test]
fn an_initial_load_goes_on_where_the_database_left_off() {
    let server = Server::new(with_leases(200));
    assert_eq!(server.load_and_configure(), Ok(()));
    let leases = take_leases(&server.kea);
    server.run_for(LONG);
    assert!(!server.is_complete());
    server.kea.with(|state| state.leases = Some(leases));
    server.run_until("complete", Server::is_complete);
    assert_eq!(states(&server, 200), [Some(State::Active); 200]);
}

#[test]
fn a_resync_survives_an_outage_and_finds_its_changes() {
    let server = Server::started(with_leases(2));
    let mut leases = take_leases(&server.kea);
    server.run_for(Duration::from_secs(3_600));
    assert_eq!(states(&server, 2), [Some(State::Active); 2]);
    leases.insert(address(2), renewed(2));
    server.kea.with(|state| state.leases = Some(leases));
    server.run_until("the renewal", |server| {
        let binding = server.binding(address(2)).unwrap();
        binding.last_transaction == Some(Time(2_000))
    });
}

/// Kea 3.0 before 3.0.4 destroys its lease manager before it parses a new configuration. If it refuses that, it
/// continues without one, and with this library loaded but not configured.
#[test]
fn goes_on_without_a_lease_manager_after_a_bad_reload() {
    let kea = with_leases(2);
    let listener = listen(&kea);
    let server = Server::started(kea);
    server.plugin.unload();
    let mut leases = take_leases(&server.kea);
    assert_eq!(server.load(), Ok(()));
    server.processed("config-reload", &json!({}));
    // The bindings known before are better than none.
    server.run_until("complete", Server::is_complete);
    assert_eq!(states(&server, 2), [Some(State::Active); 2]);
    assert_eq!(ask(listener, 1), Ok(1));
    assert!(!server.kea.with(|state| state.is_tracking));
    assert_eq!(server.kea.with(|state| state.paused), 1);
    // The next reload is a good one.
    leases.insert(address(1), renewed(1));
    server.plugin.unload();
    server.kea.with(|state| state.leases = Some(leases));
    assert_eq!(server.load_and_configure(), Ok(()));
    server.run_until("complete", Server::is_complete);
    let binding = server.binding(address(1)).unwrap();
    assert_eq!(binding.last_transaction, Some(Time(2_000)));
    assert!(server.kea.with(|state| state.is_tracking));
}

#[test]
fn leases_are_tracked_as_soon_as_there_is_a_lease_manager() {
    let server = Server::started(with_leases(2));
    server.plugin.unload();
    let mut leases = take_leases(&server.kea);
    assert_eq!(server.load_and_configure(), Ok(()));
    server.run_until("complete", Server::is_complete);
    assert!(!server.kea.with(|state| state.is_tracking));
    leases.insert(address(1), renewed(1));
    server.kea.with(|state| state.leases = Some(leases));
    server.run_until("tracking", |server| {
        server.kea.with(|state| state.is_tracking)
    });
    // What changed before is found by a resync.
    server.run_until("the renewal", |server| {
        let binding = server.binding(address(1)).unwrap();
        binding.last_transaction == Some(Time(2_000))
    });
}

#[test]
fn libreload_serves_the_configuration_in_force() {
    let server = Server::started(with_leases(1));
    server.plugin.unload();
    assert_eq!(server.load(), Ok(()));
    assert!(server.mirror().is_none());
    server.processed("libreload", &json!({}));
    server.run_until("complete", Server::is_complete);
    // The end of another command changes nothing then.
    let mirror = server.mirror().unwrap();
    server.processed("config-set", &json!({}));
    assert!(std::ptr::eq(&*mirror, &*server.mirror().unwrap()));
}

// -------------------------------------------------------------------------------------- Stop

#[test]
fn stops_during_the_initial_load_and_starts_from_the_beginning() {
    let kea = with_leases(200);
    let listener = listen(&kea);
    let server = Server::new(kea);
    assert_eq!(server.load_and_configure(), Ok(()));
    assert!(!server.is_complete());
    server.plugin.unload();
    assert!(TcpStream::connect(listener).is_err());
    assert_eq!(server.load_and_configure(), Ok(()));
    server.run_until("complete", Server::is_complete);
    assert_eq!(states(&server, 200), [Some(State::Active); 200]);
}

#[test]
fn unload_may_come_at_any_time() {
    let server = Server::new(with_leases(1));
    server.plugin.unload();
    assert_eq!(server.load(), Ok(()));
    server.plugin.unload();
    assert_eq!(server.load_and_configure(), Ok(()));
    server.plugin.unload();
    server.plugin.unload();
    server.tick();
    assert!(server.mirror().is_none());
}

// -------------------------------------------------------------------------- Databases and HA

/// Returns the libraries of a server with a high-availability partner.
fn high_availability() -> Value {
    json!([
        { "library": "/a/libdhcp_ha.so", "parameters": { "high-availability": [{
            "this-server-name": "one", "mode": "hot-standby", "peers": [
                { "name": "one", "url": "http://127.0.0.1:1/", "role": "primary" },
                { "name": "two", "url": "http://127.0.0.1:2/", "role": "standby" },
            ],
        }] } },
        { "library": "/a/libdhcp_blq.so" },
    ])
}

#[test]
fn host_reservations_in_a_database_are_read_once_kea_is_connected() {
    let kea = FakeKea::new();
    kea.with(|state| state.dhcp4["hosts-database"] = json!({ "type": "mysql" }));
    let server = Server::started(kea);
    let outside = Ipv4Addr::new(192, 0, 2, 254);
    let is_configured = |server: &Server| {
        let mirror = server.mirror().unwrap();
        mirror.catch_up();
        let kea_config = mirror.kea_config();
        let mut ranges = kea_config.ranges.iter();
        ranges.any(|range| (range.first..=range.last).contains(&outside))
    };
    server.run_for(LONG);
    assert!(!is_configured(&server));
    let reservation = DatabaseReservation {
        subnet: SubnetId(1),
        identifier_type: "hw-address".to_owned(),
        identifier: vec![2, 0, 0, 0, 0, 1],
        address: Some(outside),
        hostname: String::new(),
    };
    server
        .kea
        .with(|state| state.hosts = Some(vec![reservation]));
    server.run_until("the reservation", is_configured);
}

#[test]
fn a_partner_that_has_synchronised_is_followed_by_a_resync() {
    let kea = with_leases(2);
    kea.with(|state| state.dhcp4["hooks-libraries"] = high_availability());
    let server = Server::started(kea);
    server.run_for(LONG);
    server.kea.put(renewed(2));
    let before = server.now();
    let status = |state: &str| {
        json!({ "result": 0, "arguments": { "high-availability": [{ "ha-servers": {
            "local": { "role": "primary", "scopes": ["one"], "state": state } } }] } })
    };
    server.kea.with(|state| state.status = status("syncing"));
    server.run_for(Duration::from_secs(1));
    server
        .kea
        .with(|state| state.status = status("hot-standby"));
    server.run_until("the renewal", |server| {
        let binding = server.binding(address(2)).unwrap();
        binding.last_transaction == Some(Time(2_000))
    });
    assert!(server.now() < before + Duration::from_secs(600));
}
