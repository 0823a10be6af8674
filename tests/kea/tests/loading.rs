//! Loading the hook: what it accepts, what it refuses, and in which words.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use blq::{Primary, State};
use kea_tests::clock::{now, settle};
use kea_tests::{Client, HOME, Kea, Setup, eventually, hook_library, run_daemon};
use serde_json::{Value, json};

/// The contract's parameters: a wrong one keeps Kea from starting, and the message names it, its
/// value and what is allowed.
#[test]
fn refuses_wrong_parameters_at_start() {
    let cases = [
        (json!({ "requesters": null }), &["requesters"][..]),
        (json!({ "requesters": [] }), &["requesters"]),
        (
            json!({ "requesters": ["192.0.2.1/33"] }),
            &["requesters", "192.0.2.1/33"],
        ),
        (
            json!({ "requesters": [{ "address": "192.0.2.1", "query-types": ["mca"] }] }),
            &["query-types", "mca", "mac"],
        ),
        (json!({ "state-file": 7 }), &["state-file", "7", "string"]),
        (json!({ "no-such-parameter": true }), &["no-such-parameter"]),
        (
            json!({ "advanced": { "no-such-parameter": true } }),
            &["no-such-parameter"],
        ),
        (
            json!({ "advanced": { "lease-query-tcp-port": 65536 } }),
            &["lease-query-tcp-port", "65536", "65535"],
        ),
        (
            json!({ "advanced": { "lease-query-ip": "2001:db8::1" } }),
            &["lease-query-ip", "2001:db8::1"],
        ),
        (
            json!({ "advanced": { "max-requester-connections": 0 } }),
            &["max-requester-connections", "0"],
        ),
        (
            json!({ "advanced": { "bulk-query-enabled": "yes" } }),
            &["bulk-query-enabled", "yes"],
        ),
    ];
    for (parameters, parts) in cases {
        let log = Setup::with_hook(parameters.clone()).fail_to_start();
        for part in parts {
            assert!(log.contains(part), "'{part}' for {parameters} in:\n{log}");
        }
    }
}

/// The contract: a port that cannot be had keeps Kea from starting, and the message names it.
#[test]
fn refuses_a_taken_port_at_start() {
    let setup = Setup::with_hook(json!({}));
    let _taken = TcpListener::bind(setup.place.lease_query()).expect("a port");
    let port = setup.place.lease_query().port().to_string();
    let log = setup.fail_to_start();
    for part in [&port, "in use"] {
        assert!(log.contains(part), "'{part}' in:\n{log}");
    }
}

/// Parts of the issue: any daemon but kea-dhcp4 is refused, clearly.
#[test]
fn refuses_kea_dhcp6() {
    let configuration = json!({ "Dhcp6": {
        "interfaces-config": { "interfaces": [] },
        "lease-database": { "type": "memfile", "persist": false },
        "hooks-libraries": [{
            "library": format!("{HOME}/hooks/libdhcp_blq.so"),
            "parameters": { "requesters": ["127.0.0.1"] },
        }],
        "loggers": [{
            "name": "kea-dhcp6",
            "severity": "INFO",
            "output_options": [{ "output": "stdout" }],
        }],
    } });
    let output = run_daemon("kea-dhcp6", &configuration, &hook_library());
    assert!(!output.success, "{}", output.text);
    for part in ["kea-dhcp4", "kea-dhcp6", "blq"] {
        assert!(output.text.contains(part), "'{part}' in:\n{}", output.text);
    }
}

/// The contract: every parameter of Kea's own leasequery hook is accepted.
#[test]
fn accepts_the_parameters_of_keas_own_hook() {
    let kea = Setup::with_hook(json!({
        "advanced": {
            "active-query-enabled": false,
            "extended-info-tables-enabled": true,
            "max-leases-per-fetch": 100,
            "max-bulk-query-threads": 2,
            "max-concurrent-queries": 4,
            "max-requester-idle-time": 300,
        },
    }))
    .start();
    assert_eq!(kea.find(Primary::All).len(), 101);
}

/// The contract: with bulk-query-enabled false nothing listens, and Kea serves.
#[test]
fn listens_only_when_enabled() {
    let disabled = json!({ "advanced": { "bulk-query-enabled": false } });
    let kea = Setup::with_hook(disabled).start();
    kea.relay(0).lease(&mut Client::new(1));
    assert!(kea.try_connect().is_err());
}

/// The contract: the state file is where it is asked for.
#[test]
fn writes_the_state_file_where_it_is_asked_to() {
    let elsewhere = json!({ "state-file": format!("{HOME}/data/elsewhere") });
    let kea = Setup::with_hook(elsewhere).start();
    eventually("the state file", || kea.data().join("elsewhere").exists());
    assert!(!kea.data().join("kea-blq.state").exists());
}

/// The contract: else it is in Kea's data directory.
#[test]
fn writes_the_state_file_to_the_data_directory_by_default() {
    let kea = Setup::with_hook(json!({ "state-file": null })).start();
    let file = kea.data().join("kea-blq.state");
    eventually("the state file", || file.exists());
}

/// Kea need not wait until its leases are in the mirror. Whoever asks before is told of all of them,
/// at the first start and with a state file, and Kea can be stopped.
#[test]
fn answers_completely_however_soon_after_the_start() {
    const LEASES: u16 = 20_000;
    let subnets = json!([{
        "id": 1, "subnet": "10.64.0.0/16", "pools": [{ "pool": "10.64.0.0 - 10.64.127.255" }],
    }]);
    let end = now() + 3_600;
    let mut setup = Setup::with_hook(json!({})).subnets(subnets);
    for number in 0..LEASES {
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 64, high, low);
        let mac = format!("02:00:00:00:{high:02x}:{low:02x}");
        setup = setup.stored_lease(address, &mac, 3_600, end, "");
    }
    let mut kea = setup.start();
    let active = |kea: &Kea| {
        let bindings = kea.find(Primary::All);
        let active = bindings
            .iter()
            .filter(|one| one.state == Some(State::ACTIVE));
        active.count()
    };
    assert_eq!(active(&kea), usize::from(LEASES));
    for _ in 0..3 {
        kea.restart();
        assert_eq!(active(&kea), usize::from(LEASES));
        kea.restart();
        kea.stop();
        kea.start_again();
    }
}

/// The contract: a port that cannot be had is told of as at the first start, with a state file that
/// has been read by then, and the file is as it was.
#[test]
fn keeps_what_it_read_ahead_if_the_configuration_is_refused() {
    let mut kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    relay.release(&mut client);
    let before = kea.await_state(address, State::RELEASED);
    settle();
    kea.stop();
    let taken = TcpListener::bind(kea.place().lease_query()).expect("a port");
    let log = kea.fail_to_start_again();
    assert!(log.contains("in use"), "{log}");
    drop(taken);
    kea.start_again();
    let after = kea.await_state(address, State::RELEASED);
    assert_eq!(before.state_started_at(), after.state_started_at());
}

/// Parts of the issue: each configuration example loads in a real Kea, whose interface, ports and
/// paths alone are others.
#[test]
fn loads_every_configuration_example() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kea-config-examples");
    let examples = examples(&directory);
    assert!(
        !examples.is_empty(),
        "no examples in {}",
        directory.display()
    );
    for file in examples {
        let text = fs::read_to_string(&file).expect("an example");
        let kea = Setup::example(&without_comments(&text)).start();
        assert!(!kea.find(Primary::All).is_empty(), "{}", file.display());
    }
}

/// The examples' files.
fn examples(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory of examples");
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .filter(|file| file.extension().is_some_and(|end| end == "json"))
        .collect()
}

/// JSON without the comment lines that Kea allows.
fn without_comments(text: &str) -> Value {
    let lines = text.lines();
    let json: String = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    serde_json::from_str(&json).expect("JSON apart from comments")
}
