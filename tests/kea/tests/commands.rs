//! Leases changed by an administrator's commands.

use blq::{Binding, State};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::{Client, Kea, Setup, eventually};
use serde_json::json;

/// Kea with the hook and the lease commands.
fn kea() -> Kea {
    Setup::with_hook(json!({}))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start()
}

/// RFC 6926, section 6.2.7: what an administrator takes away is RESET.
#[test]
fn tells_of_a_lease_deleted_by_command() {
    let kea = kea();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    kea.command_ok("lease4-del", json!({ "ip-address": address.to_string() }));
    let reset = kea.await_state(address, State::RESET);
    assert_eq!(reset.chaddr, client.chaddr);
}

/// The same when the lease is named by its client.
#[test]
fn tells_of_a_lease_deleted_by_its_client() {
    let kea = kea();
    let relay = kea.relay(0);
    let mut by_mac = Client::new(1);
    let mut by_client_id = Client::new(2).client_id([1, 2, 3, 4]);
    let mut stays = Client::new(3);
    let leased = [&mut by_mac, &mut by_client_id].map(|client| relay.lease(client).yiaddr);
    relay.lease(&mut stays);
    kea.await_active(&stays);
    let mac: Vec<String> = by_mac
        .chaddr
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    for (kind, identifier) in [
        ("hw-address", mac.join(":")),
        ("client-id", "01020304".into()),
    ] {
        kea.command_ok(
            "lease4-del",
            json!({ "identifier-type": kind, "identifier": identifier, "subnet-id": 1 }),
        );
    }
    for address in leased {
        kea.await_state(address, State::RESET);
    }
    kea.await_active(&stays);
}

/// RFC 6926, section 6.2.7: so are all leases of a subnet wiped at once.
#[test]
fn tells_of_a_subnet_wiped_by_command() {
    let kea = kea();
    let relay = kea.relay(0);
    let mut clients = [1, 2].map(Client::new);
    let leased = clients.each_mut().map(|client| relay.lease(client).yiaddr);
    for client in &clients {
        kea.await_active(client);
    }
    kea.command_ok("lease4-wipe", json!({ "subnet-id": 1 }));
    for address in leased {
        kea.await_state(address, State::RESET);
    }
}

/// RFC 6926, section 8.2: a lease made by command is found like any other.
#[test]
fn tells_of_leases_added_and_changed_by_command() {
    let kea = kea();
    let address = kea.place().address(150);
    let lease = |mac: &str| {
        json!({ "ip-address": address.to_string(), "hw-address": mac, "subnet-id": 1,
            "valid-lft": 500 })
    };
    let found = |n| addresses(&kea.find(by_mac(&Client::new(n))));
    kea.command_ok("lease4-add", lease("02:00:00:00:00:01"));
    eventually("the lease added", || found(1) == [address]);
    let time = |binding: &Binding| binding.lease_time;
    let left = kea.binding(address).as_ref().and_then(time);
    assert!(left.is_some_and(|left| left <= 500), "{left:?}");
    kea.command_ok("lease4-update", lease("02:00:00:00:00:02"));
    eventually("the lease changed", || found(2) == [address]);
    assert!(found(1).is_empty());
}

/// Kea's failures change nothing.
#[test]
fn keeps_what_a_failed_command_did_not_change() {
    let kea = kea();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    let other = kea.place().address(199).to_string();
    kea.command("lease4-del", json!({ "ip-address": other }));
    kea.await_active(&client);
    assert_eq!(addresses(&kea.find(by_mac(&client))), [address]);
}
