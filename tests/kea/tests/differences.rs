//! Kea's values take precedence over remembered ones, and a delta query returns each difference.

use std::fs;
use std::net::Ipv4Addr;

use blq::{Binding, Primary, Query, State, Vss};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::{later, now, settle};
use kea_tests::{Client, Kea, Setup, eventually, eventually_some};
use serde_json::{Value, json};

/// The REMOTE flag of data-source: another server made the change (RFC 6926, section 6.2.8).
const REMOTE: u8 = 1;

/// Returns the bindings in all VPNs that changed at `start` or later.
fn delta(kea: &Kea, start: u64) -> Vec<Binding> {
    let mut query = Query::new(Primary::All);
    query.start = Some(start.try_into().expect("a time before 2106"));
    query.vpn = Some(Vss::All);
    kea.bindings(&query)
}

/// Waits until the delta query from `start` returns an address. Returns its binding.
#[track_caller]
fn await_in_delta(kea: &Kea, start: u64, address: Ipv4Addr) -> Binding {
    eventually_some(&format!("{address} in the delta from {start}"), || {
        let found = delta(kea, start);
        found.into_iter().find(|binding| binding.address == address)
    })
}

/// Returns the addresses found by a remote-id.
fn by_remote_id(kea: &Kea, remote_id: &str) -> Vec<Ipv4Addr> {
    addresses(&kea.find(Primary::RemoteId(remote_id.as_bytes().to_vec())))
}

/// Returns the flags of data-source of a client's only binding.
fn data_source(kea: &Kea, client: &Client) -> Option<u8> {
    let mut query = Query::new(by_mac(client));
    query.parameter_request_list = Some(vec![157]);
    let bindings = kea.bindings(&query);
    assert_eq!(bindings.len(), 1);
    bindings[0].data_source
}

/// Returns a lease from Kea, for use with `lease4-update`.
fn lease_of(kea: &Kea, address: Ipv4Addr) -> Value {
    kea.command_ok("lease4-get", json!({ "ip-address": address.to_string() }))
}

/// Applies `change` to a lease by command, as an administrator would.
fn update(kea: &Kea, address: Ipv4Addr, change: impl FnOnce(&mut Value)) {
    let found = lease_of(kea, address);
    let end =
        found["cltt"].as_u64().expect("cltt") + found["valid-lft"].as_u64().expect("valid-lft");
    let mut lease = json!({ "expire": end });
    for name in [
        "ip-address",
        "subnet-id",
        "hw-address",
        "client-id",
        "valid-lft",
        "state",
        "user-context",
    ] {
        if !found[name].is_null() {
            lease[name] = found[name].clone();
        }
    }
    change(&mut lease);
    kea.command_ok("lease4-update", lease);
}

/// Returns octets in hexadecimal, as Kea writes them.
fn digits(octets: &[u8]) -> String {
    let digits = octets.iter().map(|octet| format!("{octet:02X}"));
    digits.collect()
}

/// A delta query returns changes by commands that keep the cltt: of relay agent information,
/// lifetime, probation, and the addition of an ended lease.
#[test]
fn a_delta_has_an_administrators_changes_with_the_same_cltt() {
    let kea = Setup::with_hook(json!({}))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .set("store-extended-info", json!(true))
        .set("valid-lifetime", json!(3_000_000_000_u32))
        .start();
    let relay = kea.relay(0).remote_id("typo-rid");
    let [mut corrected, mut prolonged, mut declined] = [1, 2, 3].map(Client::new);
    let of_corrected = relay.lease(&mut corrected).yiaddr;
    let of_prolonged = relay.lease(&mut prolonged).yiaddr;
    let of_declined = relay.lease(&mut declined).yiaddr;
    relay.decline(&mut declined);
    let long = kea.await_active(&prolonged);
    kea.await_state(of_declined, State::ABANDONED);
    // A lifetime whose end does not fit into 32 bits.
    let passed = long.client_last_transaction_time.expect("option 91");
    assert_eq!(
        long.lease_time.map(|left| left + passed),
        Some(3_000_000_000)
    );
    assert_eq!(by_remote_id(&kea, "typo-rid"), [of_corrected, of_prolonged]);

    let start = later();
    let good = kea.relay(1).remote_id("good-rid").option_82();
    update(&kea, of_corrected, |lease| {
        let context = &mut lease["user-context"]["ISC"]["relay-agent-info"];
        let text = json!(format!("0x{}", digits(&good)));
        match context.is_string() {
            true => *context = text,
            false => *context = json!({ "sub-options": text, "remote-id": digits(b"good-rid") }),
        }
    });
    await_in_delta(&kea, start, of_corrected);
    assert_eq!(by_remote_id(&kea, "good-rid"), [of_corrected]);
    assert_eq!(by_remote_id(&kea, "typo-rid"), [of_prolonged]);
    assert_eq!(data_source(&kea, &corrected).unwrap_or(0) & REMOTE, 0);

    let start = later();
    for address in [of_prolonged, of_declined] {
        update(&kea, address, |lease| {
            let end = lease["expire"].as_u64().expect("expire") + 100;
            let lifetime = lease["valid-lft"].as_u64().expect("valid-lft") + 100;
            lease["expire"] = json!(end);
            lease["valid-lft"] = json!(lifetime);
        });
        await_in_delta(&kea, start, address);
    }
    let over = Ipv4Addr::from_bits(of_prolonged.to_bits() + 7);
    kea.command_ok(
        "lease4-add",
        json!({ "ip-address": over.to_string(), "subnet-id": 1, "hw-address": "02:00:00:00:00:99",
            "valid-lft": 10, "expire": now() - 3 }),
    );
    let binding = await_in_delta(&kea, start, over);
    assert_eq!(binding.state, Some(State::EXPIRED));
    let found: Vec<Ipv4Addr> = addresses(&delta(&kea, start));
    assert!(!found.contains(&of_corrected), "{found:?}");
}

/// A delta query returns the changes of the half second before Kea was killed, whether or not an
/// answer contained them before, and a client that moved to another relay.
#[test]
fn a_delta_has_the_changes_just_before_kea_was_killed() {
    let mut kea = Setup::with_hook(json!({}))
        .set("store-extended-info", json!(true))
        // Later versions would not write early renewals to the database.
        .set("cache-threshold", json!(0.0001))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start();
    let (old, new) = (
        kea.relay(0).remote_id("old line"),
        kea.relay(1).remote_id("new line"),
    );
    let [mut moves, mut stays, mut changes] = [1, 2, 3].map(Client::new);
    let moved = old.lease(&mut moves).yiaddr;
    let stayed = old.lease(&mut stays).yiaddr;
    let changed = old.lease(&mut changes).yiaddr;
    kea.await_active(&changes);
    settle();
    let start = later();
    let mut leaves = Client::new(9);
    let left = old.lease(&mut leaves).yiaddr;
    kea.await_active(&leaves);
    old.release(&mut leaves);
    // There is no reply, and Kea's threads may process later messages first.
    kea.await_state(left, State::RELEASED);
    update(&kea, changed, |lease| {
        lease["expire"] = json!(lease["expire"].as_u64().expect("expire") + 100);
        lease["valid-lft"] = json!(lease["valid-lft"].as_u64().expect("valid-lft") + 100);
    });
    new.renew(&moves);
    kea.kill();
    kea.start_again();
    let gone = await_in_delta(&kea, start, left);
    assert_ne!(gone.state, Some(State::ACTIVE));
    await_in_delta(&kea, start, moved);
    await_in_delta(&kea, start, changed);
    assert_eq!(by_remote_id(&kea, "new line"), [moved]);
    assert_eq!(by_remote_id(&kea, "old line"), [stayed, changed]);
    assert!(!addresses(&delta(&kea, start)).contains(&stayed));
}

/// Data that Kea drops over restarts stays in the bindings: hardware types, and transactions
/// answered from its cache. Renewals lost with an older lease file are in a delta.
#[test]
fn data_kea_drops_over_a_restart_stays_and_lost_renewals_are_in_a_delta() {
    let mut kea = Setup::with_hook(json!({}))
        .set("cache-threshold", json!(0.5))
        .set("valid-lifetime", json!(4_000))
        .start();
    let relay = kea.relay(0).remote_id("line 1");
    let mut plain = Client::new(1);
    let mut token_ring = Client::new(2);
    token_ring.htype = 6;
    let mut with_id = Client::new(3).client_id([1, 2, 3]);
    with_id.htype = 6;
    for client in [&mut plain, &mut token_ring, &mut with_id] {
        relay.lease(client);
    }
    later();
    relay.renew(&plain);
    let look = |kea: &Kea| {
        [&plain, &token_ring, &with_id].map(|client| {
            let found = kea.find(by_mac(client));
            assert_eq!(found.len(), 1, "{client:?}");
            assert_eq!(data_source(kea, client).unwrap_or(0) & REMOTE, 0);
            assert_eq!(found[0].htype, client.htype);
            (
                found[0].state_started_at(),
                found[0].client_last_transaction_at(),
                found[0].relay_agent_information.clone(),
            )
        })
    };
    eventually("the cached renewal", || {
        let [(since, last, _), ..] = look(&kea);
        last > since
    });
    let before = look(&kea);
    let reloaded = kea.command("config-reload", Value::Null);
    assert_eq!(reloaded["result"], 0, "{reloaded}");
    assert_eq!(look(&kea), before);
    settle();
    let file = kea.data().join("leases.csv");
    let copy = fs::read(&file).expect("the lease file");
    for crash in [false, true] {
        let start = later();
        if crash {
            kea.kill();
        } else {
            kea.stop();
        }
        kea.start_again();
        assert_eq!(look(&kea), before);
        assert_eq!(addresses(&delta(&kea, start)), [Ipv4Addr::LOCALHOST; 0]);
    }
    // A new lease, already returned to a requester, is lost with the file.
    let mut lost = Client::new(4);
    let of_lost = relay.lease(&mut lost).yiaddr;
    kea.await_active(&lost);
    let start = later();
    kea.stop();
    fs::write(&file, copy).expect("putting the lease file back");
    kea.start_again();
    let gone = await_in_delta(&kea, start, of_lost);
    assert_ne!(gone.state, Some(State::ACTIVE));
    assert_eq!(look(&kea), before);
    // Kea takes a client for another one with the same MAC address of another type.
    relay.renew(&with_id);
    let [.., (since, _, information)] = look(&kea);
    assert_eq!((since, information), (before[2].0, before[2].2.clone()));
}

/// Returns a subnet of the test's place, and one in VPN blue, whose clients are behind relay 1.
fn two_subnets(setup: &Setup, ids: [u32; 2], vpn: &str) -> Value {
    let relay = setup.place.relay(1).to_string();
    json!([
        { "id": ids[0], "subnet": setup.place.subnet(), "pools": [{ "pool": setup.place.pool(100, 200) }],
          "renew-timer": 100 },
        { "id": ids[1], "subnet": "10.2.0.0/24", "pools": [{ "pool": "10.2.0.10-10.2.0.20" }],
          "renew-timer": 200, "relay": { "ip-addresses": [relay] },
          "user-context": { "vpn": { "name": vpn } } },
    ])
}

/// Bindings of subnets that are removed, renumbered or moved to another VPN while they have leases
/// keep their VPN, and a delta query returns those that change, over a restart too.
#[test]
fn bindings_keep_or_change_their_vpn_with_their_subnets() {
    let setup = Setup::with_hook(json!({})).kea_library("libdhcp_lease_cmds.so", json!({}));
    let subnets = two_subnets(&setup, [1, 2], "blue");
    let mut kea = setup
        .subnets(subnets)
        .set("valid-lifetime", json!(4_000))
        .start();
    let plain_relay = kea.relay(0).remote_id("plain line");
    let vpn_relay = kea.relay(1).remote_id("vpn line");
    let (mut plain, mut inside) = (Client::new(1), Client::new(2));
    let plain_address = plain_relay.lease(&mut plain).yiaddr;
    let inside_address = vpn_relay.lease(&mut inside).yiaddr;
    assert_eq!(inside_address, Ipv4Addr::new(10, 2, 0, 10));
    let outside = Ipv4Addr::from_bits(plain_address.to_bits() & !0xff | 210);
    kea.command_ok(
        "lease4-add",
        json!({ "ip-address": outside.to_string(), "subnet-id": 1, "hw-address": "02:00:00:00:00:99" }),
    );
    kea.await_active(&inside);
    let in_vpn = |kea: &Kea, client: &Client, vpn: Option<&str>| {
        let mut query = Query::new(by_mac(client));
        query.vpn = vpn.map(|name| Vss::Name(name.to_owned()));
        kea.bindings(&query)
    };
    let is_seen_in = |kea: &Kea, vpn: &str| {
        assert!(in_vpn(kea, &inside, None).is_empty());
        assert_eq!(
            addresses(&in_vpn(kea, &inside, Some(vpn))),
            [inside_address]
        );
        assert_eq!(addresses(&in_vpn(kea, &plain, None)), [plain_address]);
    };
    is_seen_in(&kea, "blue");

    // A released address outside of pools.
    let all = |kea: &Kea| addresses(&kea.find(Primary::All));
    assert!(all(&kea).contains(&outside));
    kea.command_ok("lease4-del", json!({ "ip-address": outside.to_string() }));
    eventually("the deletion", || !all(&kea).contains(&outside));

    let set = |kea: &Kea, ids: Option<[u32; 2]>, vpn: &str| {
        let start = later();
        let answer = kea.config_set(|setup| {
            let mut subnets = two_subnets(&setup, ids.unwrap_or([1, 2]), vpn);
            if ids.is_none() {
                subnets.as_array_mut().expect("a list").truncate(1);
            }
            setup.subnets(subnets)
        });
        assert_eq!(answer["result"], 0, "{answer}");
        start
    };
    // Another VPN: a change for requesters that see it.
    let start = set(&kea, Some([1, 2]), "red");
    await_in_delta(&kea, start, inside_address);
    is_seen_in(&kea, "red");
    assert!(!addresses(&delta(&kea, start)).contains(&plain_address));

    // Without its subnet the binding keeps its VPN.
    set(&kea, None, "");
    is_seen_in(&kea, "red");
    settle();
    kea.rewrite(|setup| {
        let mut subnets = two_subnets(&setup, [1, 2], "");
        subnets.as_array_mut().expect("a list").truncate(1);
        setup.subnets(subnets)
    });
    kea.restart();
    is_seen_in(&kea, "red");

    // The subnets return with other numbers: the subnet that contains an address decides.
    set(&kea, Some([2, 1]), "red");
    is_seen_in(&kea, "red");
    let times = |client: &Client, vpn| {
        let binding = in_vpn(&kea, client, vpn).remove(0);
        let passed = binding.client_last_transaction_time.expect("option 91");
        binding.renewal_time.map(|left| left + passed)
    };
    assert_eq!(times(&plain, None), Some(100));
    assert_eq!(times(&inside, Some("red")), Some(200));
    assert_eq!(kea.log().matches("BLQ_SUBNET_CONTRADICTED").count(), 1);

    // A restart with another VPN.
    settle();
    let start = later();
    kea.rewrite(|setup| {
        let subnets = two_subnets(&setup, [1, 2], "green");
        setup.subnets(subnets)
    });
    kea.restart();
    await_in_delta(&kea, start, inside_address);
    is_seen_in(&kea, "green");
}
