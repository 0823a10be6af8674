//! Changes of leases, subnets and reservations by an administrator's commands.

use blq::{Binding, Primary, Query, State, Vss};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::now;
use kea_tests::{Client, Kea, Setup, eventually, eventually_some, has_kea_library};
use serde_json::{Value, json};

/// Starts Kea with the hook and the lease commands.
fn kea() -> Kea {
    Setup::with_hook(json!({}))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start()
}

/// RFC 6926, section 6.2.7: an address whose lease an administrator deletes is RESET.
#[test]
fn resets_an_address_whose_lease_is_deleted_by_command() {
    let kea = kea();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    kea.command_ok("lease4-del", json!({ "ip-address": address.to_string() }));
    let reset = kea.await_state(address, State::RESET);
    assert_eq!(reset.chaddr, client.chaddr);
}

/// RFC 6926, section 6.2.7: deletion by the client's identifier has the same effect.
#[test]
fn resets_an_address_whose_lease_is_deleted_by_client_identifier() {
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

/// A lease deleted after it had ended and was renewed before Kea reclaimed it is RESET: with a
/// single thread, where the expiry, the new lease and the command follow one another.
#[test]
fn resets_an_address_whose_lease_had_ended_before() {
    let kea = Setup::with_hook(json!({}))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .multi_threading(false)
        .set("valid-lifetime", json!(5))
        .set(
            "expired-leases-processing",
            json!({ "reclaim-timer-wait-time": 0 }),
        )
        .start();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    let expired = kea.await_state(address, State::EXPIRED);
    let end = expired.state_started_at().map(u64::from);
    // Kea takes the lease as ended from the second after its end.
    eventually("a later second", || Some(now()) > end.map(|end| end + 1));
    assert_eq!(kea.relay(0).lease(&mut client).yiaddr, address);
    kea.command_ok(
        "lease4-del",
        json!({ "identifier-type": "hw-address", "identifier": "02:00:00:00:00:01",
            "subnet-id": 1 }),
    );
    let gone = |state| matches!(state, State::RESET | State::EXPIRED);
    let binding = eventually_some("the end of the lease", || {
        let binding = kea.binding(address)?;
        binding.state.is_some_and(gone).then_some(binding)
    });
    assert_eq!(binding.state, Some(State::RESET));
}

/// RFC 6926, section 6.2.7: all addresses of a wiped subnet are RESET.
#[test]
fn resets_the_addresses_of_a_wiped_subnet() {
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

/// RFC 6926, section 8.2: a lease added by command is found like any other.
#[test]
fn finds_leases_added_and_changed_by_command() {
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

/// RFC 6926, section 8.2: option 82 is found in leases stored by any version of Kea.
#[test]
fn finds_stored_option_82_in_each_layout() {
    let later = json!({ "remote-id": "010203", "sub-options": "0x0203010203" });
    let kea = kea();
    for (number, stored) in (1..).zip([json!("0x0203010203"), later]) {
        let context = json!({ "comment": "x", "ISC": { "relay-agent-info": stored } });
        let found = stored_option_82(&kea, number, &context);
        assert_eq!(found, Some(vec![2, 3, 1, 2, 3]), "{context}");
    }
}

/// Other values that an administrator writes in its place are ignored.
#[test]
fn ignores_malformed_stored_option_82() {
    let kea = kea();
    for (number, context) in (1..).zip([
        json!({}),
        json!({ "ISC": { "relay-agent-info": 7 } }),
        json!({ "ISC": { "relay-agent-info": null } }),
        json!({ "ISC": { "relay-agent-info": "no digits" } }),
        json!({ "ISC": { "relay-agent-info": { "sub-options": [] } } }),
        json!({ "ISC": { "relay-agent-info": { "remote-id": "010203" } } }),
    ]) {
        let found = stored_option_82(&kea, number, &context);
        assert_eq!(found, None, "{context}");
    }
}

/// Adds lease number `number` with a user-context and returns the option 82 of its binding.
fn stored_option_82(kea: &Kea, number: u8, user_context: &Value) -> Option<Vec<u8>> {
    let address = kea.place().address(150 + number);
    kea.command_ok(
        "lease4-add",
        json!({ "ip-address": address.to_string(), "subnet-id": 1,
            "hw-address": format!("02:00:00:00:00:{number:02}"), "user-context": user_context }),
    );
    let binding = || {
        kea.binding(address)
            .filter(|binding| binding.chaddr.len() == 6)
    };
    eventually("the lease added", || binding().is_some());
    let option_82 = binding()?.relay_agent_information?;
    Some(option_82.raw)
}

/// A failed command changes nothing.
#[test]
fn keeps_leases_when_a_command_fails() {
    let kea = kea();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    let other = kea.place().address(199).to_string();
    kea.command("lease4-del", json!({ "ip-address": other }));
    kea.await_active(&client);
    assert_eq!(addresses(&kea.find(by_mac(&client))), [address]);
}

/// Starts Kea with the hook and one of Kea's libraries that change the configuration; `None` if
/// this version of Kea does not have it.
fn kea_with(library: &str) -> Option<Kea> {
    if !has_kea_library(library) {
        return None;
    }
    let setup = Setup::with_hook(json!({}));
    Some(setup.kea_library(library, json!({})).start())
}

/// The contract: the configured addresses follow subnets that are added, changed and deleted by
/// command, with their VPNs. New ones are AVAILABLE from then on.
#[test]
fn follows_subnets_changed_by_command() {
    let Some(kea) = kea_with("libdhcp_subnet_cmds.so") else {
        return;
    };
    let all = || {
        let mut query = Query::new(Primary::All);
        query.vpn = Some(Vss::All);
        kea.bindings(&query)
    };
    let in_subnet = |third: u8| {
        let found = all().into_iter();
        found
            .filter(|binding| binding.address.octets()[..3] == [10, 7, third])
            .collect::<Vec<Binding>>()
    };
    let before = all()[0].base_time.expect("base-time");
    eventually("a later second", || all()[0].base_time > Some(before));
    let subnet = |pool: &str| {
        json!({ "subnet4": [{ "id": 7, "subnet": "10.7.1.0/24", "pools": [{ "pool": pool }],
            "user-context": { "vpn": { "name": "blue" } } }] })
    };
    kea.command_ok("subnet4-add", subnet("10.7.1.1 - 10.7.1.2"));
    eventually("the subnet's addresses", || in_subnet(1).len() == 2);
    let added = &in_subnet(1)[0];
    assert_eq!(added.state, Some(State::AVAILABLE));
    assert!(added.state_started_at() > Some(before));
    assert_eq!(added.vpn, Some(Vss::Name("blue".into())));
    kea.command_ok("subnet4-update", subnet("10.7.1.1 - 10.7.1.5"));
    eventually("more addresses", || in_subnet(1).len() == 5);
    kea.command_ok("subnet4-del", json!({ "id": 7 }));
    eventually("no addresses", || in_subnet(1).is_empty());
}

/// The contract's states: once a command enables `offer-lifetime`, offers reserve addresses, and
/// the hook reports them.
#[test]
fn reports_offers_that_reserve_addresses_since_a_command() {
    let Some(kea) = kea_with("libdhcp_subnet_cmds.so") else {
        return;
    };
    let offered = kea.relay(0).discover(&Client::new(1)).yiaddr;
    let state = kea.binding(offered).and_then(|binding| binding.state);
    assert_eq!(state, Some(State::AVAILABLE));
    let listed = kea.command_ok("subnet4-list", Value::Null);
    let prefix = listed["subnets"][0]["subnet"].clone();
    kea.command_ok(
        "subnet4-delta-add",
        json!({ "subnet4": [{ "id": 1, "subnet": prefix, "offer-lifetime": 60 }] }),
    );
    let reserved = kea.relay(0).discover(&Client::new(2)).yiaddr;
    kea.await_state(reserved, State::TRANSITIONING);
}

/// The contract: the configured addresses follow reservations that are added and deleted by
/// command.
#[test]
fn follows_reservations_changed_by_command() {
    let Some(kea) = kea_with("libdhcp_host_cmds.so") else {
        return;
    };
    let reserved = kea.place().address(50);
    kea.command_ok(
        "reservation-add",
        json!({ "operation-target": "memory", "reservation": { "subnet-id": 1,
            "hw-address": "02:00:00:00:00:01", "ip-address": reserved.to_string() } }),
    );
    kea.await_state(reserved, State::AVAILABLE);
    kea.command_ok(
        "reservation-del",
        json!({ "operation-target": "memory", "subnet-id": 1,
            "ip-address": reserved.to_string() }),
    );
    eventually("no address", || kea.binding(reserved).is_none());
}

/// RFC 6926, section 6.2.8: changes by an administrator's commands have the origin local.
#[test]
fn attributes_an_administrators_changes_to_this_server() {
    let kea = kea();
    let relay = kea.relay(0);
    let mut clients = [1, 2, 3].map(Client::new);
    let leased = clients.each_mut().map(|client| relay.lease(client).yiaddr);
    for client in &clients {
        kea.await_active(client);
    }
    kea.command_ok("lease4-del", json!({ "ip-address": leased[0].to_string() }));
    kea.command_ok(
        "lease4-update",
        json!({ "ip-address": leased[1].to_string(), "hw-address": "02:00:00:00:00:09",
            "subnet-id": 1, "valid-lft": 700 }),
    );
    eventually("the lease changed", || {
        addresses(&kea.find(by_mac(&Client::new(9)))) == [leased[1]]
    });
    kea.command_ok("lease4-wipe", json!({ "subnet-id": 1 }));
    for address in leased {
        kea.await_state(address, State::RESET);
    }
    let is_remote = |address| {
        let mut query = Query::new(Primary::All);
        query.parameter_request_list = Some(vec![156, 157]);
        let found = kea.bindings(&query).into_iter();
        let binding = found.clone().find(|binding| binding.address == address);
        binding.expect("a configured address").is_remote()
    };
    for address in leased {
        eventually("origin local", || !is_remote(address));
    }
}
