//! Panics, and events that are lost.

use super::*;

/// Returns why queries end, once the mirror has failed.
fn failure(server: &Server) -> Option<Failure> {
    match server.mirror()?.ready() {
        Err(Unready::Failed(failure)) => Some(failure),
        _ => None,
    }
}

/// Checks that a server whose mirror has failed serves again after a reload.
#[track_caller]
fn check_reload_repairs(server: &Server, listener: (Ipv4Addr, u16)) {
    assert_eq!(ask(listener, 1), Err(StatusCode::QUERY_TERMINATED));
    server.run_for(LONG);
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete", Server::is_complete);
    assert_eq!(ask(listener, 1), Ok(1));
}

#[test]
fn a_panic_of_the_load_worker_ends_queries_until_a_reload() {
    let kea = with_leases(3);
    let listener = listen(&kea);
    let server = Server::new(kea);
    assert_eq!(server.load_and_configure(), Ok(()));
    server.mirror().unwrap().panic_on("blq-loading");
    server.run_until("failed", |server| {
        failure(server) == Some(Failure::InitialLoad)
    });
    check_reload_repairs(&server, listener);
}

#[test]
fn a_panic_of_the_apply_worker_ends_queries_until_a_reload() {
    let kea = with_leases(3);
    let listener = listen(&kea);
    let server = Server::started(kea);
    let mirror = server.mirror().unwrap();
    mirror.panic_on("blq-mirror");
    server.plugin.events().lease_changed(renewed(2));
    server.run_until("failed", |server| failure(server) == Some(Failure::Change));
    drop(mirror);
    check_reload_repairs(&server, listener);
}

/// The mirror is whole, only the state file is not written any more.
#[test]
fn a_panic_of_the_flush_worker_leaves_queries_alone() {
    let kea = with_leases(3);
    let listener = listen(&kea);
    let server = Server::started(kea);
    server.mirror().unwrap().panic_on("blq-state");
    server.plugin.events().lease_changed(renewed(2));
    server.run_until("panicked", |server| server.mirror().unwrap().has_panicked());
    assert_eq!(ask(listener, 2), Ok(1));
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete", Server::is_complete);
    assert_eq!(ask(listener, 2), Ok(1));
}

/// A panic in an answer ends its connection, and no other.
#[test]
fn a_panic_of_a_server_thread_ends_one_connection() {
    let kea = with_leases(3);
    kea.with(|state| state.parameters["advanced"] = json!({}));
    let listener = listen(&kea);
    kea.with(|state| state.parameters["advanced"]["max-bulk-query-threads"] = json!(1));
    let server = Server::started(kea);
    let mut other = Connection::open(listener, &Timeouts::default()).unwrap();
    server.mirror().unwrap().panic_on("blq-server");
    let mut first = Connection::open(listener, &Timeouts::default()).unwrap();
    let query = || {
        Query::new(Primary::Mac {
            htype: 1,
            address: lease(1).hardware.octets,
        })
    };
    assert!(first.query(&query()).done.is_err());
    assert!(server.mirror().unwrap().has_panicked());
    assert_eq!(other.query(&query()).bindings.len(), 1);
}

#[test]
fn a_panic_in_a_tick_is_followed_by_the_next_tick() {
    for method in ["lease_page", "host_reservations", "status_of_hooks"] {
        let kea = with_leases(100);
        kea.with(|state| {
            state.hosts = Some(Vec::new());
            state.dhcp4["hosts-database"] = json!({ "type": "mysql" });
            state.dhcp4["hooks-libraries"] = high_availability();
        });
        let server = Server::new(kea);
        assert_eq!(server.load_and_configure(), Ok(()));
        server.kea.with(|state| state.panics_in = Some(method));
        server.run_until(method, Server::is_complete);
        assert_eq!(server.kea.with(|state| state.panics_in), None, "{method}");
        assert_eq!(states(&server, 100), [Some(State::Active); 100]);
    }
}

/// A reconfiguration that panics leaves no lock behind.
#[test]
fn a_panic_while_a_configuration_in_force_is_read_is_not_the_end_of_it() {
    let server = Server::started(FakeKea::new());
    server
        .kea
        .with(|state| state.panics_in = Some("current_configuration"));
    server.plugin.events().request_reconfiguration();
    server.tick();
    assert_eq!(server.kea.with(|state| state.panics_in), None);
    assert_eq!(server.reload(), Ok(()));
    server.run_until("complete", Server::is_complete);
}

// -------------------------------------------------------------------------------- Lost events

#[test]
fn events_lost_are_found_by_a_resync_at_once() {
    let server = Server::started(with_leases(2));
    // The next one is far away.
    server.run_for(Duration::from_secs(1));
    server.kea.put(renewed(2));
    let before = server.now();
    server.plugin.events().change_missed();
    server.run_until("the renewal", |server| {
        let binding = server.binding(address(2)).unwrap();
        binding.last_transaction == Some(Time(2_000))
    });
    assert!(server.now() < before + Duration::from_secs(600));
}

#[test]
fn events_lost_during_the_initial_load_are_found_after_it() {
    let server = Server::new(with_leases(2));
    assert_eq!(server.load_and_configure(), Ok(()));
    server.plugin.events().change_missed();
    server.run_until("complete", Server::is_complete);
    server.kea.put(renewed(2));
    server.run_until("the renewal", |server| {
        let binding = server.binding(address(2)).unwrap();
        binding.last_transaction == Some(Time(2_000))
    });
}
