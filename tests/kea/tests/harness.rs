//! The test library itself: the properties of Kea that the other tests rely on.

use kea_tests::packet::{code, value};
use kea_tests::{Client, Kea, Mode, Pair, Setup, eventually, kea_version};
use serde_json::{Value, json};

/// Returns Kea's lease of a client, by `lease4-get`.
fn lease(kea: &Kea, client: &Client) -> Value {
    let address = client.address.expect("a lease").to_string();
    kea.command_ok("lease4-get", json!({ "ip-address": address }))
}

/// Starts Kea without the hook, with its lease commands.
fn kea() -> Kea {
    Setup::plain()
        .set("store-extended-info", json!(true))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start()
}

/// RFC 2131, section 3.1: a client behind a relay gets a lease; Kea keeps the relay's option 82.
#[test]
fn leases_to_a_client_behind_a_relay() {
    let kea = kea();
    let relay = kea.relay(0).remote_id("line 1").relay_id([1, 2, 3]);
    let mut client = Client::new(1).client_id([0xff, 1, 2, 3]);
    let ack = relay.lease(&mut client);
    assert_eq!(
        value(&ack, code::RELAY_AGENT_INFORMATION),
        relay.option_82()
    );
    let lease = lease(&kea, &client);
    assert_eq!(lease["hw-address"], "02:00:00:00:00:01");
    assert!(
        lease["user-context"]["ISC"]["relay-agent-info"] != Value::Null,
        "{lease}"
    );
}

/// RFC 2131, section 4.4.5: a renewal is answered to the client directly, or through the relay.
#[test]
fn answers_renewals_with_and_without_the_relay() {
    let kea = kea();
    let relay = kea.relay(0);
    let mut client = Client::new(2);
    relay.lease(&mut client);
    assert_eq!(Some(relay.renew(&client).yiaddr), client.address);
    assert_eq!(Some(relay.renew_unicast(&client).yiaddr), client.address);
}

/// RFC 2131, sections 4.3.3 and 4.3.4: leases end by RELEASE and by DECLINE.
#[test]
fn ends_leases_by_release_and_decline() {
    let kea = kea();
    let relay = kea.relay(0);
    let (mut first, mut second) = (Client::new(3), Client::new(4));
    relay.lease(&mut first);
    relay.lease(&mut second);
    let declined = second.clone();
    relay.release(&mut first);
    relay.decline(&mut second);
    eventually("the declined address", || {
        lease(&kea, &declined)["state"] == 1
    });
    kea.await_log("DHCP4_RELEASE");
}

/// Leases survive a restart and a crash of Kea.
#[test]
fn keeps_leases_across_restart_and_crash() {
    let mut kea = kea();
    let relay = kea.relay(0);
    let mut client = Client::new(5);
    relay.lease(&mut client);
    kea.restart();
    assert_eq!(lease(&kea, &client)["state"], 0);
    kea.kill();
    kea.start_again();
    assert_eq!(lease(&kea, &client)["state"], 0);
}

/// Configurations are changed by file and by command, and errors reach the test.
#[test]
fn reconfigures() {
    let mut kea = kea();
    let answer = kea.reconfigure(|setup| setup.set("valid-lifetime", json!(1234)));
    assert_eq!(answer["result"], 0, "{answer}");
    let ack = kea.relay(0).lease(&mut Client::new(6));
    assert_eq!(value(&ack, 51), 1234_u32.to_be_bytes());
    let answer = kea.config_set(|setup| setup.set("valid-lifetime", json!("long")));
    assert_eq!(answer["result"], 1, "{answer}");
    assert!(kea.check("-t").success);
}

/// A configuration that Kea refuses at start is a failure with Kea's log.
#[test]
fn reports_why_kea_does_not_start() {
    let log = Setup::plain()
        .set("no-such-thing", json!(1))
        .fail_to_start();
    assert!(log.contains("no-such-thing"), "{log}");
}

/// Partners send each other their leases, directly or through control agents, and the link records
/// the commands.
#[test]
fn pairs_servers() {
    for multi_threading in [false, true] {
        let pair = Pair::start(Mode::HotStandby, multi_threading, |setup| setup);
        assert_eq!(pair.first.ha_scopes(), ["server1"]);
        assert_eq!(pair.second.ha_scopes(), [""; 0]);
        let mut client = Client::new(1);
        let address = pair.relay(0).lease(&mut client).yiaddr;
        for kea in pair.servers() {
            let lease = kea.await_lease(address, |lease| lease["state"] == 0);
            assert_eq!(lease["hw-address"], "02:00:00:00:00:01");
        }
        eventually("the update on the line", || {
            let updates = pair.link_to_second().commands("lease4-update");
            updates.len() == 1 && updates[0]["arguments"]["ip-address"] == address.to_string()
        });
        assert!(pair.link_to_first().commands("lease4-update").is_empty());
    }
}

/// Partners are separated and reconnected; in load balancing each leases from its own pool.
#[test]
fn separates_and_reconnects_a_pair() {
    let mut pair = Pair::start(Mode::LoadBalancing, true, |setup| setup);
    let relay = pair.relay(0);
    for n in [0, 1] {
        let (_, address) = pair.lease_from(n, &relay, 1);
        pair.servers()[1 - n].await_lease(address, |lease| lease["state"] == 0);
    }
    pair.partition();
    for kea in pair.servers() {
        assert_eq!(kea.ha_scopes(), ["server1", "server2"]);
    }
    let mut clients = [Client::new(100), Client::new(101)];
    let leased = [
        pair.first.relay(1).lease(&mut clients[0]).yiaddr,
        pair.second.relay(2).lease(&mut clients[1]).yiaddr,
    ];
    assert!(pair.first.lease(leased[0]).is_some());
    assert!(pair.second.lease(leased[1]).is_some());
    pair.restore();
    pair.second.kill();
    pair.first.await_ha_state("partner-down");
    pair.second.start_again();
    pair.await_normal();
}

/// The version under test is a supported one.
#[test]
fn knows_the_version_of_kea() {
    let version = kea_version();
    assert!(
        ["2.2.", "2.6.", "3.0.", "3.2."]
            .iter()
            .any(|known| version.starts_with(known)),
        "{version}"
    );
}
