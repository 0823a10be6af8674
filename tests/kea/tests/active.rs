//! Active Leasequery (RFC 7724) of a real Kea: each change of a lease reaches a requester that stays connected, and
//! copies stay right over reloads, restarts and kills.

use std::net::Ipv4Addr;

use blq::{MessageType, State};
use kea_tests::clock::settle;
use kea_tests::copy::{Copy, active_query};
use kea_tests::{Client, Kea, Mode, PATIENCE, Pair, Setup, eventually};
use serde_json::{Value, json};

/// A lifetime whose end a test awaits, in seconds.
const SHORT: u32 = 3;

/// Returns a setup that serves Active Leasequery, with commands about leases.
fn setup() -> Setup {
    Setup::with_hook(json!({ "advanced": active_query() }))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
}

/// Begins a copy, and waits until it follows the changes.
#[track_caller]
fn follow(kea: &Kea) -> Copy {
    // A watch begins a second before its first answer, and changes are known from the second after the start on.
    settle();
    let copy = Copy::begin(kea.place().lease_query());
    copy.eventually("the first catch-up", |received| received.caught_up == 1);
    copy
}

/// Checks that a copy equals the answers of its server.
#[track_caller]
fn check(copy: &Copy) {
    if let Err(differences) = copy.compare(PATIENCE) {
        panic!("{differences}");
    }
}

/// Returns the states of an address in the order in which the requester received them.
fn states(copy: &Copy, address: Ipv4Addr) -> Vec<State> {
    copy.read(|received| {
        let history = received.history.iter();
        let of_address = history.filter(|(of, _)| *of == address);
        let mut states: Vec<State> = of_address.map(|(_, state)| *state).collect();
        states.dedup();
        states
    })
}

/// RFC 7724 section 8.2: a message for each change by a client, with all data of a bulk reply; an address that is not leased any
/// more is a DHCPLEASEUNASSIGNED.
#[track_caller]
fn follow_clients(is_multi_threaded: bool) {
    let kea = setup().multi_threading(is_multi_threaded).start();
    let copy = follow(&kea);
    let relay = kea.relay(0).remote_id("line 1");
    let mut client = Client::new(1).client_id([0xff, 1, 2, 3]);
    relay.lease(&mut client);
    let address = client.address.expect("a lease");
    let leased = copy.await_state(address, State::ACTIVE);
    assert_eq!(leased.message_type, MessageType::LEASE_ACTIVE);
    assert_eq!(leased.chaddr, client.chaddr);
    assert_eq!(leased.client_id.as_deref(), Some(&[0xff, 1, 2, 3][..]));
    let option_82 = leased.relay_agent_information.as_ref();
    assert_eq!(option_82.map(|all| &all.raw), Some(&relay.option_82()));
    check(&copy);
    let last = leased.client_last_transaction_at();
    copy.eventually("a renewal", |received| {
        relay.renew(&client);
        received.bindings[&address].client_last_transaction_at() > last
    });
    check(&copy);
    relay.release(&mut client);
    let released = copy.await_state(address, State::RELEASED);
    assert_eq!(released.message_type, MessageType::LEASE_UNASSIGNED);
    let mut other = Client::new(2);
    relay.lease(&mut other);
    let declined = other.address.expect("a lease");
    copy.await_state(declined, State::ACTIVE);
    relay.decline(&mut other);
    copy.await_state(declined, State::ABANDONED);
    check(&copy);
    let expected = [State::AVAILABLE, State::ACTIVE, State::RELEASED];
    let found = states(&copy, address);
    assert!(found.starts_with(&expected), "{found:?}");
}

#[test]
fn clients_of_a_single_thread_are_followed() {
    follow_clients(false);
}

#[test]
fn clients_of_several_threads_are_followed() {
    follow_clients(true);
}

/// The end of a lifetime is a change at that time: Kea reclaims the lease later, or here never.
#[test]
fn a_lease_that_ends_is_reported_without_kea() {
    let never = json!({ "reclaim-timer-wait-time": 0, "flush-reclaimed-timer-wait-time": 0 });
    let kea = setup()
        .set("valid-lifetime", json!(SHORT))
        .set("expired-leases-processing", never)
        .start();
    let copy = follow(&kea);
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    let address = client.address.expect("a lease");
    let leased = copy.await_state(address, State::ACTIVE);
    let ended = copy.await_state(address, State::EXPIRED);
    assert_eq!(ended.message_type, MessageType::LEASE_UNASSIGNED);
    assert_eq!(
        ended.state_started_at().map(u64::from),
        leased.lease_ends_at()
    );
    check(&copy);
}

/// Commands of an administrator are changes.
#[test]
fn commands_are_followed() {
    let kea = setup().start();
    let copy = follow(&kea);
    let address = kea.place().address(77);
    let lease = json!({ "ip-address": address, "hw-address": "02:00:00:00:00:77", "subnet-id": 1 });
    kea.command_ok("lease4-add", lease);
    let added = copy.await_state(address, State::ACTIVE);
    assert_eq!(added.chaddr, [2, 0, 0, 0, 0, 0x77]);
    let lease = json!({ "ip-address": address, "hw-address": "02:00:00:00:00:78", "subnet-id": 1 });
    kea.command_ok("lease4-update", lease);
    copy.eventually("an update", |received| {
        received.bindings[&address].chaddr == [2, 0, 0, 0, 0, 0x78]
    });
    kea.command_ok("lease4-del", json!({ "ip-address": address }));
    copy.await_state(address, State::RESET);
    check(&copy);
}

/// RFC 7724 sections 7.4.1 and 8.4: over a reload, a restart and a kill the requester learns of every change, without DataMissing.
#[test]
fn copies_stay_right_over_reloads_restarts_and_kills() {
    let mut kea = setup().start();
    let copy = follow(&kea);
    let relay = kea.relay(0);
    let mut clients: Vec<Client> = (1..=20).map(Client::new).collect();
    for client in &mut clients {
        relay.lease(client);
    }
    check(&copy);
    kea.command_ok("config-reload", Value::Null);
    relay.release(&mut clients[0]);
    relay.renew(&clients[1]);
    copy.eventually("a catch-up", |received| received.caught_up >= 2);
    check(&copy);
    relay.release(&mut clients[2]);
    kea.restart();
    let mut new = Client::new(21);
    relay.lease(&mut new);
    copy.eventually("a catch-up", |received| received.caught_up >= 3);
    check(&copy);
    relay.release(&mut clients[3]);
    kea.kill();
    kea.start_again();
    relay.release(&mut clients[4]);
    copy.eventually("a catch-up", |received| received.caught_up >= 4);
    check(&copy);
    copy.read(|received| assert_eq!(received.missing, 0, "{:?}", received.events));
}

/// Changes that reach a server from its partner are changes there too, whoever served the client.
#[test]
fn requesters_at_both_partners_follow_each_change() {
    let pair = Pair::start(Mode::LoadBalancing, true, |setup| {
        setup.hook_parameters(json!({ "advanced": active_query() }))
    });
    let copies = [follow(&pair.first), follow(&pair.second)];
    let relay = pair.relay(0);
    let mut clients: Vec<Client> = (1..=16).map(Client::new).collect();
    for client in &mut clients {
        relay.lease(client);
    }
    for copy in &copies {
        for client in &clients {
            copy.await_state(client.address.expect("a lease"), State::ACTIVE);
        }
        check(copy);
    }
    let addresses: Vec<_> = clients.iter().filter_map(|client| client.address).collect();
    for client in &mut clients[..8] {
        relay.release(client);
    }
    for copy in &copies {
        copy.eventually("the releases", |received| {
            let is_active = |address| received.bindings[address].state == Some(State::ACTIVE);
            !addresses[..8].iter().any(is_active)
        });
        check(copy);
    }
}

/// Active requesters have places of their own, and `blq4-connections` shows them.
#[test]
fn active_connections_are_shown_and_counted() {
    let kea = setup().start();
    let copies = [follow(&kea), follow(&kea)];
    let statistic = |name: &str| {
        let answer = kea.command_ok("statistic-get", json!({ "name": name }));
        answer[name][0][0].as_u64()
    };
    eventually("the statistic", || {
        statistic("blq4-active-connections") == Some(2)
    });
    let connections = kea.command_ok("blq4-connections", Value::Null);
    let text = connections.to_string();
    assert_eq!(text.matches("\"active\"").count(), 2, "{text}");
    drop(copies);
    eventually("the statistic", || {
        statistic("blq4-active-connections") == Some(0)
    });
}
