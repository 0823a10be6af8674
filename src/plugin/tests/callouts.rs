//! Reports of callouts and of the lease manager.

use super::*;

/// Returns a message of the client of a lease.
fn message(message_type: u8, lease: &Lease) -> Message<'_> {
    Message {
        message_type,
        htype: lease.hardware.htype.into(),
        hardware: &lease.hardware.octets,
        ..Message::default()
    }
}

/// Returns a lease in state 0 as Kea stores it.
fn stored(lease: &Lease) -> StoredLease<'_> {
    StoredLease {
        address: lease.address.to_bits(),
        cltt: lease.cltt.0.into(),
        valid_lifetime: lease.valid_lifetime.0,
        subnet: lease.subnet.0,
        htype: lease.hardware.htype.into(),
        hardware: &lease.hardware.octets,
        ..StoredLease::default()
    }
}

/// Returns whether another server made the last change of a binding.
fn is_remote(server: &Server, last: u8) -> Option<bool> {
    server.binding(address(last)).map(|binding| binding.remote)
}

#[test]
fn a_client_s_message_makes_ends_and_confirms_leases() {
    let server = Server::started(with_leases(2));
    let events = server.plugin.events();
    let [one, two, three, four] = [1, 2, 3, 4].map(lease);
    let none = Some(Answer::default());
    events.committed(&message(3, &three), [stored(&three)], [], none);
    assert_eq!(states(&server, 3)[2], Some(State::Active));
    events.committed(&message(7, &one), [], [stored(&one)], none);
    assert_eq!(states(&server, 1), [Some(State::Released)]);
    // The client moved to another address.
    events.committed(&message(3, &two), [stored(&four)], [stored(&two)], none);
    assert_eq!(states(&server, 4)[1], Some(State::Released));
    let ack = Answer {
        message_type: 5,
        address: address(3).to_bits(),
    };
    let before = server.binding(address(3)).unwrap().last_transaction;
    events.committed(&message(3, &three), [], [], Some(ack));
    assert!(server.binding(address(3)).unwrap().last_transaction > before);
}

#[test]
fn an_offer_counts_if_it_reserves_its_address() {
    let server = Server::started(FakeKea::new());
    let events = server.plugin.events();
    let offered = Lease {
        cltt: Time::now(),
        ..lease(1)
    };
    events.offered(&message(1, &offered), [stored(&offered)], 0);
    assert_eq!(states(&server, 1), [None]);
    events.offered(&message(1, &offered), [stored(&offered)], 60);
    assert_eq!(states(&server, 1), [Some(State::Transitioning)]);
}

#[test]
fn before_kea_3_0_the_answer_comes_later() {
    let server = Server::started(with_leases(1));
    let events = server.plugin.events();
    let (lease, renewed) = (lease(1), renewed(1));
    events.committed(&message(3, &lease), [stored(&renewed)], [], None);
    assert!(!events.needs_answer());
    events.committed(&message(3, &lease), [], [], None);
    assert!(events.needs_answer());
    assert!(!events.needs_answer(), "once");
}

/// Kea's log may be at debug level.
#[test]
fn events_are_the_same_where_they_are_logged() {
    let server = Server::started(FakeKea::new());
    let lines = Lines::default();
    let subscriber = crate::log::subscriber::to(lines.clone());
    let lease = lease(1);
    let logged = || {
        let events = server.plugin.events();
        events.committed(&message(3, &lease), [stored(&lease)], [], None);
    };
    tracing::subscriber::with_default(subscriber, logged);
    assert_eq!(states(&server, 1), [Some(State::Active)]);
    let lines = lines.0.lock();
    let [(id, text)] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(*id, "BLQ_LEASE_CHANGED");
    assert!(text.contains("192.0.2.1"), "{text}");
}

/// The lines of a log at debug level.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Sink for Lines {
    fn is_enabled(&self, _: tracing::Level) -> bool {
        true
    }

    fn write(&self, _: tracing::Level, id: &'static str, text: &str) {
        self.0.lock().push((id, text.to_owned()));
    }
}

#[test]
fn reports_of_the_lease_manager_count_as_another_server_s_unless_explained() {
    let server = Server::started(with_leases(3));
    let events = server.plugin.events();
    events.lease_changed(renewed(1));
    assert_eq!(is_remote(&server, 1), Some(true));
    // A client's message is announced: its changes come by leases4_committed.
    events.announced();
    assert!(!events.wants_change(0));
    events.leave_packet();
    assert!(events.wants_change(0));
    // A command on this thread deletes a lease, which the lease manager reports first.
    server
        .kea
        .with(|state| state.leases.as_mut().unwrap().remove(&address(2)));
    events.lease_deleted(address(2));
    assert_eq!(is_remote(&server, 2), Some(true));
    let arguments = json!({ "subnet-id": 1 });
    server.processed("lease4-wipe", &arguments);
    assert_eq!(is_remote(&server, 2), Some(false));
    assert_eq!(states(&server, 2)[1], Some(State::Reset));
    // A reclaim is reported by a callout, then by the lease manager.
    let expired = Lease {
        state: LeaseState::ExpiredReclaimed,
        valid_lifetime: Lifetime(1),
        ..lease(3)
    };
    events.expired(&lease(3));
    events.lease_changed(expired);
    assert_eq!(is_remote(&server, 3), Some(false));
    assert_eq!(states(&server, 3)[2], Some(State::Expired));
}

#[test]
fn a_command_is_looked_up_where_the_lease_manager_reports_nothing() {
    let kea = with_leases(3);
    kea.with(|state| state.version = 2_02_00);
    let server = Server::started(kea);
    server.kea.with(|state| {
        let leases = state.leases.as_mut().unwrap();
        leases.remove(&address(1));
        leases.remove(&address(2));
    });
    let arguments = json!({ "ip-address": address(1).to_string() });
    server.processed("lease4-del", &arguments);
    let active = Some(State::Active);
    assert_eq!(states(&server, 3), [Some(State::Reset), active, active]);
    server.processed("lease4-wipe", &json!({ "subnet-id": 1 }));
    assert_eq!(states(&server, 3)[1], Some(State::Reset));
    // By the identity of its client.
    server
        .kea
        .with(|state| state.leases.as_mut().unwrap().remove(&address(3)));
    let arguments = json!({
        "subnet-id": 1, "identifier-type": "hw-address", "identifier": "00:00:5e:00:53:03",
    });
    server.processed("lease4-del", &arguments);
    assert_eq!(states(&server, 3)[2], Some(State::Reset));
}
