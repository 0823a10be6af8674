//! The life of leases in Kea, as the hook reports it.

use blq::{Binding, MessageType, Primary, Query, State};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::now;
use kea_tests::packet::{sub_option, value};
use kea_tests::{Client, Setup, eventually, eventually_some, kea_version};
use serde_json::json;

/// A lifetime whose end the tests await, in seconds; long enough to observe the lease before it.
const SHORT: u32 = 5;

/// Returns the start of a binding's state, in seconds since 1970.
fn since(binding: &Binding) -> u32 {
    binding.state_started_at().expect("start-time-of-state")
}

/// RFC 6926, section 8.3: a new lease is a DHCPLEASEACTIVE in state ACTIVE, with client, lease time
/// and start, from single-threaded and multi-threaded Kea.
#[test]
fn reports_a_new_lease() {
    for multi_threading in [false, true] {
        let kea = Setup::with_hook(json!({}))
            .multi_threading(multi_threading)
            .set("valid-lifetime", json!(1000))
            .start();
        let relay = kea.relay(0).circuit_id("port 3").remote_id("line 3");
        let before = now();
        let mut client = Client::new(1).client_id([0xff, 1, 2, 3]);
        relay.lease(&mut client);
        let binding = kea.await_active(&client);
        assert_eq!(binding.message_type, MessageType::LEASE_ACTIVE);
        assert_eq!((binding.htype, &binding.chaddr), (1, &client.chaddr));
        assert_eq!(binding.client_id.as_deref(), Some(&[0xff, 1, 2, 3][..]));
        let option_82 = binding.relay_agent_information.as_ref();
        assert_eq!(option_82.map(|all| &all.raw), Some(&relay.option_82()));
        let passed = binding.client_last_transaction_time.expect("option 91");
        assert_eq!(binding.lease_time.map(|left| left + passed), Some(1000));
        let since = u64::from(since(&binding));
        assert!((before..=now()).contains(&since), "{before} {since}");
    }
}

/// RFC 6926, section 6.2.4: a renewal is a transaction, not a change of state.
#[test]
fn keeps_the_start_of_the_state_over_a_renewal() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let mut client = Client::new(1);
    relay.lease(&mut client);
    let leased = kea.await_active(&client);
    let renewed = eventually_some("a later transaction", || {
        relay.renew(&client);
        let binding = kea.await_active(&client);
        (binding.client_last_transaction_at() > leased.client_last_transaction_at())
            .then_some(binding)
    });
    assert_eq!(since(&renewed), since(&leased));
}

/// RFC 6926, section 8.3: a released address is a DHCPLEASEUNASSIGNED in state RELEASED, since the
/// release.
#[test]
fn reports_a_release() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let leased = kea.await_active(&client);
    eventually("a later second", || now() > u64::from(since(&leased)));
    relay.release(&mut client);
    let released = kea.await_state(address, State::RELEASED);
    assert_eq!(released.message_type, MessageType::LEASE_UNASSIGNED);
    assert!(since(&released) > since(&leased));
    assert_eq!(released.lease_time, None);
}

/// RFC 6926, section 6.2.7: a declined address is ABANDONED, with the rest of the probation as
/// lease time, and AVAILABLE once Kea has recovered it.
#[test]
fn reports_a_decline_and_the_recovery() {
    let kea = Setup::with_hook(json!({}))
        .set("decline-probation-period", json!(SHORT))
        .start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    relay.decline(&mut client);
    let abandoned = kea.await_state(address, State::ABANDONED);
    assert_eq!(abandoned.message_type, MessageType::LEASE_UNASSIGNED);
    assert!(abandoned.lease_time.is_none_or(|left| left <= SHORT));
    let recovered = kea.await_state(address, State::AVAILABLE);
    assert!(since(&recovered) >= since(&abandoned) + SHORT);
}

/// The contract's states: a lease expires when its lifetime ends, not when Kea reclaims it.
#[test]
fn expires_a_lease_at_the_end_of_its_lifetime() {
    let reclaiming_late = json!({ "reclaim-timer-wait-time": 3600 });
    let reclaiming_soon = json!({ "reclaim-timer-wait-time": 1, "hold-reclaimed-time": 3600 });
    for processing in [reclaiming_late, reclaiming_soon] {
        let kea = Setup::with_hook(json!({}))
            .set("expired-leases-processing", processing)
            .set("valid-lifetime", json!(SHORT))
            .start();
        let relay = kea.relay(0).remote_id("line 1");
        let mut client = Client::new(1);
        let address = relay.lease(&mut client).yiaddr;
        let leased = kea.await_active(&client);
        let expired = kea.await_state(address, State::EXPIRED);
        assert_eq!(expired.message_type, MessageType::LEASE_UNASSIGNED);
        assert_eq!(since(&expired), since(&leased) + SHORT);
    }
}

/// The contract's states: an address whose expired lease Kea deletes stays EXPIRED, since the same
/// time.
#[test]
fn keeps_an_expiry_after_kea_has_removed_the_lease() {
    let kea = Setup::with_hook(json!({}))
        .set(
            "expired-leases-processing",
            json!({
                "reclaim-timer-wait-time": 1,
                "hold-reclaimed-time": 0,
                "flush-reclaimed-timer-wait-time": 1,
            }),
        )
        .set("valid-lifetime", json!(SHORT))
        .kea_library("libdhcp_lease_cmds.so", json!({}))
        .start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let leased = kea.await_active(&client);
    eventually("Kea to remove the lease", || {
        let answer = kea.command("lease4-get", json!({ "ip-address": address.to_string() }));
        answer["result"] == 3
    });
    let expired = kea.await_state(address, State::EXPIRED);
    assert_eq!(since(&expired), since(&leased) + SHORT);
    assert_eq!(expired.chaddr, client.chaddr);
}

/// RFC 6926, section 8.2: an address belongs to the client with the lease, not to former ones.
#[test]
fn reports_a_client_that_replaces_another() {
    let setup = Setup::with_hook(json!({})).set("valid-lifetime", json!(SHORT));
    let pool = setup.place.pool(100, 100);
    let kea = setup
        .in_subnet(json!({ "pools": [{ "pool": pool }] }))
        .start();
    let relay = kea.relay(0);
    let (mut first, mut second) = (Client::new(1), Client::new(2));
    let address = relay.lease(&mut first).yiaddr;
    kea.await_active(&first);
    kea.await_state(address, State::EXPIRED);
    assert_eq!(relay.lease(&mut second).yiaddr, address);
    kea.await_active(&second);
    assert_eq!(addresses(&kea.find(by_mac(&second))), [address]);
    assert_eq!(kea.find(by_mac(&first)), []);
}

/// RFC 6926, section 7.2: a query with a start time returns the changes since then: leases,
/// releases and expiries.
#[test]
fn finds_changes_by_start_time() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let (mut stays, mut goes) = (Client::new(1), Client::new(2));
    relay.lease(&mut stays);
    let address = relay.lease(&mut goes).yiaddr;
    let last = since(&kea.await_active(&goes)).max(since(&kea.await_active(&stays)));
    eventually("a later second", || now() > u64::from(last));
    relay.release(&mut goes);
    kea.await_state(address, State::RELEASED);
    let mut query = Query::new(Primary::All);
    query.start = Some(last + 1);
    assert_eq!(addresses(&kea.bindings(&query)), [address]);
    query.end = Some(last);
    query.start = None;
    let before = addresses(&kea.bindings(&query));
    assert!(before.contains(&stays.address.expect("a lease")));
}

/// RFC 6926, section 8.3, item 7: options that both sides can send have the client's latest values.
#[test]
fn returns_the_options_clients_sent() {
    let sent: [(u8, &[u8]); 8] = [
        (12, b"set-top-box"),
        (60, b"vendor 1.0"),
        (77, b"\x05class"),
        (93, &[0, 7]),
        (94, &[1, 2, 1]),
        (97, &[0; 17]),
        (124, &[0, 0, 0x0d, 0xe9, 3, 2, 1, 2]),
        (125, &[0, 0, 0x0d, 0xe9, 4, 1, 2, 3, 4]),
    ];
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    for (code, value) in sent {
        client = client.option(code, value);
    }
    // Flags: the client updates no names itself; RFC 4702, section 2.1.
    let name = b"\x08\0\0set-top-box";
    client = client.option(81, name);
    relay.lease(&mut client);
    kea.await_active(&client);
    let mut query = Query::new(by_mac(&client));
    let codes = sent.iter().map(|(code, _)| *code).chain([81]).collect();
    query.parameter_request_list = Some(codes);
    let [binding] = &kea.bindings(&query)[..] else {
        panic!("one binding")
    };
    for (code, value) in sent {
        let got = binding.options.get(&code).map(Vec::as_slice);
        assert_eq!(got, Some(value), "option {code}");
    }
    assert_eq!(binding.options.get(&81).map(Vec::as_slice), Some(&name[..]));
}

/// RFC 6926, section 8.3, and RFC 4388, section 6.4.2: options that only the server sends have the
/// values of the client's ACK; times are the rest of those in the ACK.
#[test]
fn returns_the_options_of_the_ack() {
    let setup = Setup::with_hook(json!({}));
    let router = setup.place.address(254).to_string();
    let kea = setup
        .set("valid-lifetime", json!(3000))
        .set("renew-timer", json!(1000))
        .set("rebind-timer", json!(2000))
        .set(
            "option-data",
            json!([
                { "name": "domain-name", "data": "example.org" },
                { "name": "domain-name-servers", "data": "192.0.2.53" },
            ]),
        )
        .in_subnet(json!({
            "option-data": [
                { "name": "routers", "data": router },
                { "name": "domain-name-servers", "data": "192.0.2.54, 192.0.2.55" },
            ],
        }))
        .start();
    let (plain, timed) = ([1, 3, 6, 15], [51, 58, 59]);
    let mut client = Client::new(1).asking_for(&[1, 3, 6, 15, 51, 58, 59]);
    let ack = kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    let mut query = Query::new(by_mac(&client));
    query.parameter_request_list = Some(vec![1, 3, 6, 15, 51, 58, 59, 91, 152]);
    let [binding] = &kea.bindings(&query)[..] else {
        panic!("one binding")
    };
    for code in plain {
        assert!(!value(&ack, code).is_empty(), "option {code} in the ACK");
        let got = binding.options.get(&code);
        assert_eq!(got, ack.option(code).as_ref(), "option {code}");
    }
    let passed = binding.client_last_transaction_time.expect("option 91");
    let left = [
        binding.lease_time,
        binding.renewal_time,
        binding.rebinding_time,
    ];
    for (code, left) in timed.into_iter().zip(left) {
        let whole = left.expect("a time") + passed;
        assert_eq!(value(&ack, code), whole.to_be_bytes(), "option {code}");
    }
}

/// The contract: options that only the server sends come from where Kea takes them for that lease:
/// reservation, class, pool, subnet, shared network, global.
#[test]
fn returns_the_options_of_the_ack_wherever_they_are_configured() {
    let option = |name: &str, address: &str| json!([{ "name": name, "data": address }]);
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let kea = setup
        .subnets(json!([]))
        .set("option-data", option("time-servers", "192.0.2.1"))
        .set(
            "client-classes",
            json!([{
                "name": "boxes",
                "test": "option[60].text == 'box'",
                "option-data": option("log-servers", "192.0.2.2"),
            }]),
        )
        .set(
            "shared-networks",
            json!([{
                "name": "network",
                "option-data": option("domain-name-servers", "192.0.2.3"),
                "subnet4": [{
                    "id": 1,
                    "subnet": place.subnet(),
                    "option-data": option("routers", "192.0.2.4"),
                    "pools": [{
                        "pool": place.pool(100, 200),
                        "option-data": option("ntp-servers", "192.0.2.5"),
                    }],
                    "reservations": [{
                        "hw-address": "02:00:00:00:00:02",
                        "ip-address": place.address(150).to_string(),
                        "option-data": option("routers", "192.0.2.6"),
                    }],
                }],
            }]),
        )
        .start();
    let codes = [1, 3, 4, 6, 7, 42];
    let plain = Client::new(1).asking_for(&codes);
    let reserved = Client::new(2).asking_for(&codes);
    let classified = Client::new(3).asking_for(&codes).option(60, *b"box");
    for mut client in [plain, reserved, classified] {
        let ack = kea.relay(0).lease(&mut client);
        kea.await_active(&client);
        let mut query = Query::new(by_mac(&client));
        query.parameter_request_list = Some(codes.to_vec());
        let [binding] = &kea.bindings(&query)[..] else {
            panic!("one binding")
        };
        for code in codes {
            let got = binding.options.get(&code).map_or(&[][..], Vec::as_slice);
            assert_eq!(got, value(&ack, code), "option {code} of {client:?}");
        }
    }
}

/// RFC 2131, section 3.3: an infinite lease stays infinite.
#[test]
fn reports_an_infinite_lease() {
    let kea = Setup::with_hook(json!({}))
        .set("valid-lifetime", json!(u32::MAX))
        .start();
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    assert_eq!(kea.await_active(&client).lease_time, Some(u32::MAX));
}

/// The contract's states: an offer changes nothing, unless Kea reserves the address for it: then
/// the address is TRANSITIONING.
#[test]
fn reports_an_address_reserved_by_an_offer() {
    let kea = Setup::with_hook(json!({})).start();
    let mut client = Client::new(1);
    let address = kea.relay(0).discover(&client).yiaddr;
    let offered = kea.binding(address).and_then(|binding| binding.state);
    assert_eq!(offered, Some(State::AVAILABLE));
    if kea_version().starts_with("2.2.") {
        // Kea 2.2 never reserves on DISCOVER.
        return;
    }
    let kea = Setup::with_hook(json!({}))
        .set("offer-lifetime", json!(60))
        .start();
    let address = kea.relay(0).discover(&client).yiaddr;
    let before = kea.await_state(address, State::TRANSITIONING);
    let answer = kea.command("config-reload", serde_json::Value::Null);
    assert_eq!(answer["result"], 0, "{answer}");
    let after = eventually_some("an answer", || kea.binding(address));
    assert_eq!(after.state, Some(State::TRANSITIONING));
    assert_eq!(after.state_started_at(), before.state_started_at());
    assert_eq!(kea.relay(0).lease(&mut client).yiaddr, address);
    kea.await_active(&client);
}

/// RFC 6926, section 6.2.7: an address that was never leased is AVAILABLE. The answer has each
/// configured address once, in ascending order.
#[test]
fn reports_every_configured_address() {
    let kea = Setup::with_hook(json!({})).start();
    let found = kea.find(Primary::All);
    let pool: Vec<_> = (100..=200).map(|host| kea.place().address(host)).collect();
    assert_eq!(addresses(&found), pool);
    for binding in found {
        assert_eq!(binding.state, Some(State::AVAILABLE));
        assert_eq!(binding.message_type, MessageType::LEASE_UNASSIGNED);
    }
}

/// RFC 3046, section 2.1: a renewal sent to the server directly has no option 82. The lease keeps
/// its option 82, and is found by it.
#[test]
fn keeps_option_82_over_a_unicast_renewal() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1").relay_id("relay 1");
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let leased = kea.await_active(&client);
    let renewed = eventually_some("a later transaction", || {
        relay.renew_unicast(&client);
        let binding = kea.await_active(&client);
        (binding.client_last_transaction_at() > leased.client_last_transaction_at())
            .then_some(binding)
    });
    let option_82 = renewed.relay_agent_information.as_ref();
    assert_eq!(option_82.map(|all| &all.raw), Some(&relay.option_82()));
    let found = kea.find(Primary::RemoteId(b"line 1".to_vec()));
    assert_eq!(addresses(&found), [address]);
}

/// RFC 3046: a binding has the option 82 of the latest message with that option.
#[test]
fn follows_a_client_to_another_line() {
    let kea = Setup::with_hook(json!({})).start();
    let mut relay = kea.relay(0).remote_id("line 1");
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    relay.set_sub_options(&[(sub_option::REMOTE_ID, b"line 2".to_vec())]);
    relay.renew(&client);
    eventually("the new line", || {
        let found = kea.find(Primary::RemoteId(b"line 2".to_vec()));
        addresses(&found) == [address]
    });
    assert_eq!(kea.find(Primary::RemoteId(b"line 1".to_vec())), []);
}
