//! Whose doing a change of a lease is: a client's, an administrator's, or somebody else's; by what
//! callouts announce, or by the thread of Kea that makes it.
//!
//! Kea's lease manager tells of changes before it is known who makes them. What the hook then takes
//! for somebody else's doing is in its log, even if it is put right a moment later.

use std::net::Ipv4Addr;

use blq::{Primary, Query, State};
use kea_tests::clock::later;
use kea_tests::packet::MessageType;
use kea_tests::{Client, Kea, Relay, Setup, eventually, eventually_some, kea_version, may_ping};
use serde_json::json;

/// Kea with its command library, which logs each change that it tells of. It changes nothing of itself
/// meanwhile.
fn kea(multi_threading: bool) -> Kea {
    setup(multi_threading).start()
}

/// Prepares the server without starting it.
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

/// The changes told of that nobody is known to have made, and what has been told of in all. That an
/// address is declined is told by the lease manager, too: Kea may decline one itself.
fn untold(kea: &Kea) -> (Vec<String>, usize) {
    let log = kea.log();
    let told = log
        .lines()
        .filter(|line| line.contains("BLQ_LEASE_CHANGED"));
    let is_untold = |line: &&str| {
        let updated = line.contains(" updated: ") && !line.contains("state declined");
        updated || line.contains(" removed: ")
    };
    let count = told.clone().count();
    let untold = told.filter(is_untold).map(str::to_owned);
    (untold.collect(), count)
}

/// Clients lease addresses, renew, release and decline, on as many threads as there are.
fn what_clients_do(kea: &Kea, relay: &Relay, first: u16) {
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

/// Whether the last change of an address was made elsewhere.
fn is_remote(kea: &Kea, address: Ipv4Addr) -> bool {
    let mut query = Query::new(Primary::All);
    query.parameter_request_list = Some(vec![156, 157]);
    let mut found = kea.bindings(&query).into_iter();
    let binding = found.find(|binding| binding.address == address);
    binding.expect("a configured address").is_remote()
}

/// What an administrator does by command was done here, and what a client does next is its own.
fn what_an_administrator_does(kea: &Kea, relay: &Relay, first: u16) {
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
        eventually("known to be made here", || !is_remote(kea, address));
    }
    kea.command_ok("lease4-wipe", json!({ "subnet-id": 1 }));
    kea.await_state(updated, State::RESET);
    eventually("known to be made here", || !is_remote(kea, updated));
}

/// RFC 6926, section 6.2.8: what clients of this server do is nobody else's doing, not for a moment,
/// whatever thread comes to it first; also when a client moves to another address, and after a
/// reconfiguration, which makes all threads anew.
#[test]
fn takes_what_clients_do_for_nobody_elses_doing() {
    for multi_threading in [false, true] {
        let mut kea = kea(multi_threading);
        let relay = kea.relay(0).remote_id("line 1");
        what_clients_do(&kea, &relay, 1);
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
        what_clients_do(&kea, &relay, 11);
        let (untold, count) = untold(&kea);
        assert_eq!(untold, [""; 0], "{multi_threading}");
        assert!(count > 30, "{count} changes in the log");
        what_an_administrator_does(&kea, &relay, 21);
    }
}

/// The same after a configuration that Kea has refused: it may go on without threads for packets, and
/// what clients do is known to be theirs a moment later.
#[test]
fn knows_what_clients_do_after_a_refused_configuration() {
    if kea_version().starts_with("3.") {
        // It goes on without leases.
        return;
    }
    let kea = kea(true);
    let relay = kea.relay(0);
    what_clients_do(&kea, &relay, 1);
    let answer = kea.config_set(|setup| setup.in_subnet(json!({ "pools": [{ "pool": "no" }] })));
    assert_eq!(answer["result"], 1, "{answer}");
    if kea_version().starts_with("2.2.") {
        // It answers nobody.
        return;
    }
    what_clients_do(&kea, &relay, 11);
    let mut client = Client::new(31);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    eventually("known to be made here", || !is_remote(&kea, address));
    what_an_administrator_does(&kea, &relay, 21);
}

/// RFC 6926, section 6.2.8: an address that Kea itself declines, since it answers a ping, is not for a
/// moment declined by another server; one that a partner declines is.
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
