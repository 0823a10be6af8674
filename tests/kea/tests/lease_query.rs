//! Queries over UDP (RFC 4388, RFC 6148) to a real Kea.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kea_tests::packet::{MessageType, code, sub_option, sub_options};
use kea_tests::{Client, Kea, Requester, Setup, eventually, has_kea_library, kea_version};
use serde_json::{Value, json};

/// Returns the statistics of messages.
fn statistics(kea: &Kea) -> BTreeMap<String, u64> {
    let all = kea.command_ok("statistic-get-all", Value::Null);
    let all = all.as_object().expect("a map").iter();
    let of_messages = all.filter(|(name, _)| name.starts_with("pkt4-") || name.contains("udp"));
    of_messages
        .map(|(name, samples)| (name.clone(), samples[0][0].as_u64().expect("a number")))
        .collect()
}

/// Asks a Kea by each key, with and without threads.
fn ask_by_each_key(is_multi_threaded: bool) {
    let kea = Setup::with_hook(json!({}))
        .multi_threading(is_multi_threaded)
        .start();
    let relay = kea.relay(0).remote_id("line 1");
    let requester = Requester::new(kea.place(), 1);
    let mut client = Client::new(1).client_id([0xff, 1, 2]);
    let address = relay.lease(&mut client).yiaddr;
    let information = relay.option_82();
    let mut by_address = requester.by_address(address);
    by_address.set(code::PARAMETER_REQUEST_LIST, [51, 61, 82, 91]);
    let by_remote_id = sub_options(&[(sub_option::REMOTE_ID, b"line 1".to_vec())]);
    for query in [
        by_address,
        requester.by_mac(&client),
        requester
            .query()
            .with(code::CLIENT_IDENTIFIER, [0xff, 1, 2]),
        requester
            .query()
            .with(code::RELAY_AGENT_INFORMATION, by_remote_id),
    ] {
        // The reply to a query right after the lease has it.
        let reply = requester.ask(&kea, &query);
        assert_eq!(
            reply.message_type(),
            Some(MessageType::LEASE_ACTIVE),
            "{query:?}"
        );
        assert_eq!((reply.ciaddr, reply.giaddr), (address, requester.address));
        assert_eq!(reply.chaddr[..6], client.chaddr[..]);
        assert_eq!(
            reply.option(code::RELAY_AGENT_INFORMATION),
            Some(information.clone())
        );
        assert_eq!(
            reply.option(code::SERVER_IDENTIFIER),
            Some(vec![127, 0, 0, 1])
        );
        assert!(reply.option(code::LEASE_TIME).is_some());
    }
    let free = requester.by_address(kea.place().address(150));
    let reply = requester.ask(&kea, &free);
    assert_eq!(reply.message_type(), Some(MessageType::LEASE_UNASSIGNED));
    let other = requester.by_mac(&Client::new(2));
    let reply = requester.ask(&kea, &other);
    assert_eq!(reply.message_type(), Some(MessageType::LEASE_UNKNOWN));
    // Kea still serves its clients.
    relay.renew(&client);
}

/// RFC 4388 section 6.4, RFC 6148 section 4.
#[test]
fn answers_by_each_key_on_the_main_thread() {
    ask_by_each_key(false);
}

/// Likewise on packet threads.
#[test]
fn answers_by_each_key_on_packet_threads() {
    ask_by_each_key(true);
}

/// Starts a Kea that permits requester number 1 alone, and has loaded its leases.
fn with_one_requester() -> Kea {
    let setup = Setup::with_hook(json!({}));
    let permitted = setup.place.relay(1).to_string();
    let kea = setup
        .hook_parameters(json!({ "requesters": [permitted] }))
        .start();
    kea.await_log("BLQ_LOADED");
    kea
}

/// Kea's own counters stay true for the messages that the hook takes from it.
#[test]
fn counts_queries_in_keas_statistics() {
    let kea = with_one_requester();
    let before = statistics(&kea);
    for name in [
        "received",
        "response-active-sent",
        "response-unassigned-sent",
        "response-unknown-sent",
    ] {
        let name = format!("pkt4-lease-query-{name}");
        assert_eq!(before.get(&name), Some(&0), "{name}");
    }
    let requester = Requester::new(kea.place(), 1);
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    let mut forbidden = requester.by_mac(&client);
    forbidden.giaddr = kea.place().relay(2);
    requester.send(&kea, &forbidden);
    let mut both = requester.by_mac(&client);
    both.ciaddr = Ipv4Addr::new(10, 0, 0, 1);
    requester.send(&kea, &both);
    let query = requester.by_mac(&client);
    requester.send(&kea, &query);
    assert!(requester.receive(&query).is_some());
    kea.await_log("BLQ_UDP_NOT_ALLOWED");
    kea.await_log("BLQ_UDP_MALFORMED");
    let has_reasons = !kea_version().starts_with("2.") && !kea_version().starts_with("3.0");
    eventually("the statistics", || {
        let now = statistics(&kea);
        let grown = |name: &str| now.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        // DISCOVER and REQUEST of the client are answered, too.
        grown("pkt4-received") == 5
            && grown("pkt4-sent") == 3
            && grown("pkt4-lease-query-received") == 3
            && grown("pkt4-lease-query-response-active-sent") == 1
            && grown("pkt4-lease-query-response-unknown-sent") == 0
            && grown("pkt4-receive-drop") == 2
            && grown("blq4-udp-dropped") == 2
            && (!has_reasons
                || grown("pkt4-admin-filtered") == 1 && grown("pkt4-rfc-violation") == 1)
    });
}

/// A query whose sender is not permitted is answered to giaddr, with a warning.
#[test]
fn warns_of_senders_that_are_not_permitted() {
    let kea = with_one_requester();
    let [requester, other] = [1, 2].map(|n| Requester::new(kea.place(), n));
    let query = requester.by_mac(&Client::new(1));
    other.send(&kea, &query);
    assert!(requester.receive(&query).is_some());
    kea.await_log("BLQ_UDP_SOURCE");
}

/// Without the parameter the queries are Kea's, which does not know them.
#[test]
fn answers_nothing_if_it_is_disabled() {
    let advanced = json!({ "udp-query-enabled": false });
    let mut kea = Setup::with_hook(json!({ "advanced": advanced })).start();
    let requester = Requester::new(kea.place(), 1);
    let query = requester.by_mac(&Client::new(1));
    requester.send(&kea, &query);
    // Kea handles messages in turn.
    let relay = kea.relay(0);
    relay.lease(&mut Client::new(2));
    assert_eq!(requester.receive(&query), None);
    kea.reconfigure(|setup| {
        setup.hook_parameters(json!({ "advanced": { "udp-query-enabled": true } }))
    });
    requester.ask(&kea, &query);
    kea.reconfigure(|setup| {
        setup.hook_parameters(json!({ "advanced": { "udp-query-enabled": false } }))
    });
    requester.send(&kea, &query);
    relay.lease(&mut Client::new(3));
    assert_eq!(requester.receive(&query), None);
}

/// Kea's own hook, which Kea 3.0 and later have.
const OTHER_HOOK: &str = "libdhcp_lease_query.so";

/// Beside Kea's own hook, which answers over UDP, the hook answers over TCP alone, or refuses to.
#[test]
fn leaves_queries_to_keas_own_hook() {
    if !has_kea_library(OTHER_HOOK) {
        return;
    }
    let beside =
        |setup: Setup| setup.kea_library(OTHER_HOOK, json!({ "requesters": ["127.0.0.1"] }));
    let mut kea = beside(Setup::with_hook(json!({}))).start();
    kea.await_log("BLQ_OTHER_HOOK");
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    let answer = kea.reconfigure(|setup| {
        setup.hook_parameters(json!({ "advanced": { "udp-query-enabled": true } }))
    });
    let text = answer["text"].as_str().unwrap_or_default();
    assert_ne!(answer["result"], 0);
    assert!(
        text.contains("udp-query-enabled") && text.contains(OTHER_HOOK),
        "{text}"
    );
    // The previous configuration is served again.
    kea.await_active(&client);
}
