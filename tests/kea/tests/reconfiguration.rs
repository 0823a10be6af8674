//! Reconfigurations, restarts and ends of Kea, as requesters see them.

use std::fs;
use std::net::TcpListener;
use std::thread;

use blq::{Primary, Query, State, StatusCode};
use kea_tests::ask::{addresses, by_mac, failure};
use kea_tests::{Client, Kea, Setup, eventually};
use serde_json::{Value, json};

/// Waits until the hook answers a query.
fn await_answer(kea: &Kea) {
    eventually("an answer", || {
        kea.try_connect().is_ok_and(|mut connection| {
            let answer = connection.query(&Query::new(by_mac(&Client::new(99))));
            answer.done.is_ok_and(|done| done.failure().is_none())
        })
    });
}

/// Starts Kea with a million configured addresses: the answer does not fit into sockets and
/// buffers.
fn large() -> Kea {
    let setup = Setup::with_hook(json!({}));
    let relay = setup.place.relay(0).to_string();
    setup
        .subnets(json!([{
            "id": 1,
            "subnet": "10.0.0.0/12",
            "pools": [{ "pool": "10.0.0.0/12" }],
            "relay": { "ip-addresses": [relay] },
        }]))
        .start()
}

/// RFC 6926, section 8.4, and the contract: at a reload each query in progress ends with
/// QueryTerminated, and the listener returns afterwards.
#[test]
fn ends_queries_at_a_reload_and_listens_again() {
    for by_signal in [false, true] {
        let kea = large();
        let mut connection = kea.connect();
        let query = Query::new(Primary::All);
        connection.send(&query).expect("sent");
        let first = connection.next_reply().expect("a reply");
        assert!(first.is_some());
        let reader = thread::spawn(move || connection.collect_answers());
        if by_signal {
            kea.hang_up();
        } else {
            let answer = kea.command("config-reload", Value::Null);
            assert_eq!(answer["result"], 0, "{answer}");
        }
        let answers = reader.join().expect("no panic");
        let done = answers[&query.xid].done.as_ref();
        let done = done.expect("DHCPLEASEQUERYDONE");
        assert_eq!(failure(done).0, StatusCode::QUERY_TERMINATED);
        await_answer(&kea);
    }
}

/// RFC 6926, section 8.4: queries end with QueryTerminated when Kea ends, and Kea's end does not
/// wait for a requester that does not read.
#[test]
fn ends_queries_when_kea_ends() {
    let mut kea = large();
    let (mut reading, mut silent) = (kea.connect(), kea.connect());
    let query = Query::new(Primary::All);
    for connection in [&mut reading, &mut silent] {
        connection.send(&query).expect("sent");
        assert!(connection.next_reply().expect("a reply").is_some());
    }
    let reader = thread::spawn(move || reading.collect_answers());
    kea.stop();
    let answers = reader.join().expect("no panic");
    if let Ok(done) = &answers[&query.xid].done {
        // The answer may have been complete before Kea ended.
        let code = done.failure().map(|status| status.code);
        assert!(code.is_none_or(|code| code == StatusCode::QUERY_TERMINATED));
    } else {
        panic!("no DHCPLEASEQUERYDONE: {:?}", answers[&query.xid].done);
    }
}

/// `libreload` (Kea 2.2) loads libraries again without configuring them: the hook serves as before.
#[test]
fn serves_again_after_libraries_are_reloaded() {
    let kea = Setup::with_hook(json!({})).start();
    let commands = kea.command("list-commands", Value::Null);
    let known = commands["arguments"].as_array().expect("commands");
    if !known.contains(&json!("libreload")) {
        // Later versions of Kea do not have the command.
        return;
    }
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    let answer = kea.command("libreload", Value::Null);
    assert_eq!(answer["result"], 0, "{answer}");
    await_answer(&kea);
    assert_eq!(addresses(&kea.find(by_mac(&client))), [address]);
    relay.release(&mut client);
    kea.await_state(address, State::RELEASED);
}

/// A reload keeps leases and their states.
#[test]
fn keeps_leases_over_a_reload() {
    let mut kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0).remote_id("line 1");
    let (mut stays, mut goes) = (Client::new(1), Client::new(2));
    relay.lease(&mut stays);
    let released = relay.lease(&mut goes).yiaddr;
    relay.release(&mut goes);
    let before = [
        kea.await_active(&stays),
        kea.await_state(released, State::RELEASED),
    ];
    let answer = kea.reconfigure(|setup| setup.set("valid-lifetime", json!(1234)));
    assert_eq!(answer["result"], 0, "{answer}");
    await_answer(&kea);
    let after = [
        kea.await_active(&stays),
        kea.await_state(released, State::RELEASED),
    ];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.state_started_at(), after.state_started_at());
        assert_eq!(before.chaddr, after.chaddr);
        assert_eq!(
            before.relay_agent_information,
            after.relay_agent_information
        );
    }
    let mut third = Client::new(3);
    relay.lease(&mut third);
    kea.await_active(&third);
}

/// A lease whose subnet was removed is found by its client's identity.
#[test]
fn finds_a_lease_whose_subnet_was_removed() {
    let setup = Setup::with_hook(json!({}));
    let relay = setup.place.relay(1).to_string();
    let own = json!({
        "id": 1,
        "subnet": setup.place.subnet(),
        "pools": [{ "pool": setup.place.pool(100, 200) }],
    });
    let other = json!({
        "id": 2,
        "subnet": "10.2.0.0/24",
        "pools": [{ "pool": "10.2.0.10 - 10.2.0.20" }],
        "relay": { "ip-addresses": [relay] },
    });
    let mut kea = setup.subnets(json!([own, other])).start();
    let mut client = Client::new(1);
    let address = kea.relay(1).lease(&mut client).yiaddr;
    kea.await_active(&client);
    let answer = kea.reconfigure(|setup| setup.subnets(json!([own])));
    assert_eq!(answer["result"], 0, "{answer}");
    await_answer(&kea);
    assert_eq!(addresses(&kea.find(by_mac(&client))), [address]);
    kea.restart();
    assert_eq!(addresses(&kea.find(by_mac(&client))), [address]);
    assert_eq!(kea.find(Primary::All).len(), 101);
}

/// The contract: the configured addresses, among them reservations, follow the configuration.
#[test]
fn follows_the_configured_addresses() {
    let mut kea = Setup::with_hook(json!({})).start();
    assert_eq!(kea.find(Primary::All).len(), 101);
    let place = kea.place();
    let answer = kea.reconfigure(|setup| {
        setup.in_subnet(json!({
            "pools": [{ "pool": place.pool(100, 104) }],
            "reservations": [
                { "hw-address": "02:00:00:00:00:01", "ip-address": place.address(50).to_string() },
                { "hw-address": "02:00:00:00:00:02", "ip-address": place.address(102).to_string() },
            ],
        }))
    });
    assert_eq!(answer["result"], 0, "{answer}");
    await_answer(&kea);
    let configured: Vec<_> = [50, 100, 101, 102, 103, 104]
        .map(|host| place.address(host))
        .into();
    assert_eq!(addresses(&kea.find(Primary::All)), configured);
}

/// The contract: the refusal of a configuration names the fault, and a running server continues
/// with the former configuration.
#[test]
fn continues_after_a_refused_configuration() {
    let kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let wrong = json!({ "advanced": { "max-requester-connections": "many" } });
    let answer = kea.config_set(|setup| setup.hook_parameters(wrong));
    assert_eq!(answer["result"], 1, "{answer}");
    let text = answer["text"].as_str().unwrap_or_default();
    for part in ["max-requester-connections", "many", "integer"] {
        assert!(text.contains(part), "'{part}' in {text}");
    }
    await_answer(&kea);
    let mut client = Client::new(1);
    relay.lease(&mut client);
    kea.await_active(&client);
}

/// The contract: the refusal of a listener names its port when that is taken, and the former
/// listener continues, whichever command was used.
#[test]
fn continues_when_the_new_port_is_taken() {
    let mut kea = Setup::with_hook(json!({})).start();
    let taken = TcpListener::bind((kea.place().address(2), 0)).expect("a port");
    let address = taken.local_addr().expect("its address");
    let elsewhere = json!({ "advanced": {
        "lease-query-ip": address.ip().to_string(),
        "lease-query-tcp-port": address.port(),
    } });
    let set = kea.config_set(|setup| setup.hook_parameters(elsewhere.clone()));
    let reloaded = kea.reconfigure(|setup| setup.hook_parameters(elsewhere));
    for answer in [set, reloaded] {
        assert_eq!(answer["result"], 1, "{answer}");
        let text = answer["text"].as_str().unwrap_or_default();
        assert!(text.contains(&address.to_string()), "{text}");
        await_answer(&kea);
    }
    kea.hang_up();
    eventually("the third refusal", || {
        kea.log().matches("BLQ_CONFIGURATION_REFUSED").count() == 3
    });
    await_answer(&kea);
    assert!(!kea.log().contains("BLQ_LISTEN_FAILED"));
}

/// A configuration with another listener moves the service there.
#[test]
fn moves_to_another_listener() {
    let kea = Setup::with_hook(json!({})).start();
    let port = kea.place().lease_query().port();
    let [second, third] = [2, 3].map(|host| kea.place().address(host).to_string());
    let both = json!({ "advanced": { "lease-query-ip": [second, third] } });
    let answer = kea.config_set(|setup| setup.hook_parameters(both));
    assert_eq!(answer["result"], 0, "{answer}");
    for host in [2, 3] {
        let server = std::net::SocketAddrV4::new(kea.place().address(host), port);
        eventually("the new listener", || {
            kea_tests::ask::connect_to(server).is_ok_and(|mut connection| {
                let answer = connection.query(&Query::new(Primary::All));
                answer.bindings.len() == 101
            })
        });
    }
    assert!(kea.try_connect().is_err());
}

/// The contract: `-t` and `-T` beside a running server affect neither its port nor its state file.
#[test]
fn checks_configurations_beside_a_running_server() {
    let kea = Setup::with_hook(json!({})).start();
    let mut client = Client::new(1);
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    let mut options = vec!["-t"];
    if !kea_tests::kea_version().starts_with("2.2.") {
        // Kea 2.4 and later: a check that also loads hooks.
        options.push("-T");
    }
    for option in options {
        let output = kea.check(option);
        assert!(output.success, "{option}: {}", output.text);
        kea.await_active(&client);
    }
    let mut again = Client::new(2);
    kea.relay(0).lease(&mut again);
    kea.await_active(&again);
    let state = fs::metadata(kea.data().join("kea-blq.state"));
    assert!(state.is_ok_and(|state| state.len() > 0));
}

/// The contract: `-T` reports wrong parameters.
#[test]
fn finds_wrong_parameters_when_checking() {
    if kea_tests::kea_version().starts_with("2.2.") {
        // Kea 2.2 has no `-T`, and its `-t` does not load hooks.
        return;
    }
    let mut kea = Setup::with_hook(json!({})).start();
    kea.rewrite(|setup| setup.hook_parameters(json!({ "requesters": [] })));
    let output = kea.check("-T");
    assert!(!output.success, "{}", output.text);
    assert!(output.text.contains("requesters"), "{}", output.text);
    await_answer(&kea);
}
