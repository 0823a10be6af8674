//! The attribution of changes to a client, an administrator or another server, by the callouts that
//! announce them or by the thread of Kea that makes them.
//!
//! Kea's lease manager reports changes before their origin is known. Changes that the hook first
//! attributes to another server are in its log, even if it corrects the attribution a moment later.

use std::net::Ipv4Addr;

use blq::{Primary, Query, State};
use kea_tests::clock::later;
use kea_tests::packet::MessageType;
use kea_tests::{Client, Kea, Relay, Setup, eventually, eventually_some, kea_version, may_ping};
use serde_json::json;

/// Starts Kea with its command library and a log of each change, and without reclamation of leases.
fn kea(multi_threading: bool) -> Kea {
    setup(multi_threading).start()
}

/// Returns the setup of that server.
fn setup(multi_threading: bool) -> Setup {
    Setup::with_hook(json!({}))
        .multi_threading(multi_threading)
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .set(
            "expired-leases-processing",
            json!({ "reclaim-timer-wait-time": 3600 }),
        )
        .verbose()
}

/// Returns the changes that the hook logged without attribution, and the number of all changes.
/// Declined leases do not count, since Kea may decline an address itself.
fn unattributed(kea: &Kea) -> (Vec<String>, usize) {
    let log = kea.log();
    let changes = log
        .lines()
        .filter(|line| line.contains("BLQ_LEASE_CHANGED"));
    let is_unattributed = |line: &&str| {
        let updated = line.contains(" updated: ") && !line.contains("state declined");
        updated || line.contains(" removed: ")
    };
    let count = changes.clone().count();
    let unattributed = changes.filter(is_unattributed).map(str::to_owned);
    (unattributed.collect(), count)
}

/// Clients lease addresses, renew, release and decline, on all threads.
fn change_leases_as_clients(kea: &Kea, relay: &Relay, first: u16) {
    let mut clients: Vec<_> = (first..first + 6).map(Client::new).collect();
    for client in &mut clients {
        relay.lease(client);
        kea.await_active(client);
    }
    later();
    for client in &clients {
        relay.renew(client);
    }
    let [released, declined, ..] = &mut clients[..] else {
        unreachable!("there are six")
    };
    let addresses = [&released, &declined].map(|client| client.address.expect("a lease"));
    relay.release(released);
    kea.await_state(addresses[0], State::RELEASED);
    relay.decline(declined);
    kea.await_state(addresses[1], State::ABANDONED);
    // Kea leases the released address last.
    relay.lease(released);
    kea.await_active(released);
}

/// Whether the last change of an address has the origin remote.
fn is_remote(kea: &Kea, address: Ipv4Addr) -> bool {
    let mut query = Query::new(Primary::All);
    query.parameter_request_list = Some(vec![156, 157]);
    let mut found = kea.bindings(&query).into_iter();
    let binding = found.find(|binding| binding.address == address);
    binding.expect("a configured address").is_remote()
}

/// Changes by command have the origin local, and so have the client's later ones.
fn change_leases_by_command(kea: &Kea, relay: &Relay, first: u16) {
    let mut clients = [first, first + 1].map(Client::new);
    let [deleted, updated] = clients.each_mut().map(|client| relay.lease(client).yiaddr);
    for client in &clients {
        kea.await_active(client);
    }
    kea.command_ok("lease4-del", json!({ "ip-address": deleted.to_string() }));
    kea.command_ok(
        "lease4-update",
        json!({ "ip-address": updated.to_string(), "hw-address": "02:00:00:00:ff:09",
            "subnet-id": 1, "valid-lft": 700 }),
    );
    kea.await_state(deleted, State::RESET);
    for address in [deleted, updated] {
        eventually("origin local", || !is_remote(kea, address));
    }
    kea.command_ok("lease4-wipe", json!({ "subnet-id": 1 }));
    kea.await_state(updated, State::RESET);
    eventually("origin local", || !is_remote(kea, updated));
}

/// RFC 6926, section 6.2.8: changes by this server's clients are never attributed to another
/// server, whichever thread reports them first; also when a client moves to another address, and
/// after a reconfiguration, which creates all threads anew.
#[test]
fn never_attributes_changes_by_clients_to_another_server() {
    for multi_threading in [false, true] {
        let mut kea = kea(multi_threading);
        let relay = kea.relay(0).remote_id("line 1");
        change_leases_as_clients(&kea, &relay, 1);
        let mut moves = Client::new(1000);
        let before = relay.lease(&mut moves).yiaddr;
        kea.await_active(&moves);
        let reserved = kea.place().address(50);
        let answer = kea.reconfigure(|setup| {
            setup.in_subnet(json!({ "reservations":
                [{ "hw-address": "02:00:00:00:03:e8", "ip-address": reserved.to_string() }] }))
        });
        assert_eq!(answer["result"], 0, "{answer}");
        assert_eq!(relay.lease(&mut moves).yiaddr, reserved);
        eventually("an answer", || kea.binding(reserved).is_some());
        kea.await_state(before, State::RELEASED);
        change_leases_as_clients(&kea, &relay, 11);
        let (unattributed, count) = unattributed(&kea);
        assert_eq!(unattributed, [""; 0], "{multi_threading}");
        assert!(count > 30, "{count} changes in the log");
        change_leases_by_command(&kea, &relay, 21);
    }
}

/// After a refused configuration Kea may continue without packet threads: changes by clients are
/// attributed correctly a moment later.
#[test]
fn attributes_changes_by_clients_after_a_refused_configuration() {
    if kea_version().starts_with("3.") {
        // This version continues without leases.
        return;
    }
    let kea = kea(true);
    let relay = kea.relay(0);
    change_leases_as_clients(&kea, &relay, 1);
    let answer = kea.config_set(|setup| setup.in_subnet(json!({ "pools": [{ "pool": "no" }] })));
    assert_eq!(answer["result"], 1, "{answer}");
    if kea_version().starts_with("2.2.") {
        // This version no longer answers clients.
        return;
    }
    change_leases_as_clients(&kea, &relay, 11);
    let mut client = Client::new(31);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    eventually("origin local", || !is_remote(&kea, address));
    change_leases_by_command(&kea, &relay, 21);
}

/// RFC 6926, section 6.2.8: an address that Kea itself declines, since it answers a ping, is never
/// attributed to another server; one that a partner declines is.
#[test]
fn attributes_an_address_that_kea_declines_itself_to_this_server() {
    if !may_ping() {
        return;
    }
    let kea = setup(true).pinging().start();
    let (relay, client) = (kea.relay(0), Client::new(1));
    // The system answers a ping to any loopback address.
    relay.forward(&client.message(MessageType::DISCOVER));
    let declined = eventually_some("a declined address", || {
        let mut all = kea.find(Primary::All).into_iter();
        all.find(|binding| binding.state == Some(State::ABANDONED))
    });
    assert!(!is_remote(&kea, declined.address));
    let log = kea.log();
    let of_another =
        |line: &&str| line.contains("BLQ_LEASE_CHANGED") && line.contains("origin remote");
    let elsewhere: Vec<_> = log.lines().filter(of_another).collect();
    assert_eq!(elsewhere, [""; 0]);
    let address = kea.place().address(200);
    kea.command_ok(
        "lease4-add",
        json!({ "ip-address": address.to_string(), "hw-address": "02:00:00:00:00:07",
            "subnet-id": 1, "state": 1, "origin": "ha-partner" }),
    );
    kea.await_state(address, State::ABANDONED);
    assert!(is_remote(&kea, address));
}
