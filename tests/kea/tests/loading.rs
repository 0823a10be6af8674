//! Loading the hook: accepted and refused parameters, and the messages about them.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use blq::{Primary, State};
use kea_tests::clock::{now, settle};
use kea_tests::{Client, HOME, Kea, Setup, eventually, hook_library, kea_version, run_daemon};
use serde_json::{Value, json};

/// The contract's parameters: a wrong parameter prevents Kea's start. The message has its name, its
/// value and the allowed values.
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
        (
            json!({ "advanced": { "cert-required": true } }),
            &["advanced.cert-required", "true", "advanced.trust-anchor"],
        ),
        (
            json!({ "advanced": { "active-query-enabled": true } }),
            &[
                "advanced.active-query-enabled",
                "true",
                "active-query-insecure",
            ],
        ),
    ];
    for (parameters, parts) in cases {
        let log = Setup::with_hook(parameters.clone()).fail_to_start();
        for part in parts {
            assert!(log.contains(part), "'{part}' for {parameters} in:\n{log}");
        }
    }
}

/// Any daemon other than kea-dhcp4 is refused, with a message that names it.
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

/// Parameters of TLS are accepted though it is off, with a warning that nothing is encrypted. At a reconfiguration a
/// protection without its files is refused as at the start, and Kea continues.
#[test]
fn warns_that_parameters_of_tls_encrypt_nothing_while_it_is_off() {
    let parameters = json!({ "advanced": {
        "trust-anchor": "/etc/ssl/certs", "cert-file": "/etc/cert", "key-file": "/etc/key",
        "cert-required": true, "tls": "off",
    } });
    let kea = Setup::with_hook(parameters).start();
    assert_eq!(kea.find(Primary::All).len(), 101);
    let log = kea.log();
    let line = log.lines().find(|line| line.contains("BLQ_NOT_ENCRYPTED"));
    let line = line.expect("a warning");
    for part in ["WARN", "advanced.trust-anchor", "advanced.cert-required"] {
        assert!(line.contains(part), "'{part}' in: {line}");
    }
    let required = json!({ "advanced": { "trust-anchor": "" } });
    let answer = kea.config_set(|setup| setup.hook_parameters(required));
    assert_eq!(answer["result"], 1, "{answer}");
    let text = answer["text"].as_str().unwrap_or_default();
    assert!(text.contains("advanced.trust-anchor"), "{text}");
    assert_eq!(kea.find(Primary::All).len(), 101);
}

/// The contract: with `bulk-query-enabled` false the hook does not listen, and Kea serves.
#[test]
fn listens_only_when_enabled() {
    let disabled = json!({ "advanced": { "bulk-query-enabled": false } });
    let kea = Setup::with_hook(disabled).start();
    kea.relay(0).lease(&mut Client::new(1));
    assert!(kea.try_connect().is_err());
}

/// The contract: the state file has the configured path.
#[test]
fn writes_the_state_file_to_the_configured_path() {
    let elsewhere = json!({ "state-file": format!("{HOME}/data/elsewhere") });
    let kea = Setup::with_hook(elsewhere).start();
    eventually("the state file", || kea.data().join("elsewhere").exists());
    assert!(!kea.data().join("kea-blq.state").exists());
}

/// The contract: by default the state file is in Kea's data directory.
#[test]
fn writes_the_state_file_to_the_data_directory_by_default() {
    let kea = Setup::with_hook(json!({ "state-file": null })).start();
    let file = kea.data().join("kea-blq.state");
    eventually("the state file", || file.exists());
}

/// Returns parameters with the state file at `path` in the server's home.
fn at(path: &str) -> Value {
    json!({ "state-file": format!("{HOME}/{path}") })
}

/// Returns all files below a directory with their contents, without Kea's log and lock files and
/// the hook's own; for links, their targets.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let kind = entry.file_type().expect("its type");
        let of_others = ["log.", "kea-blq.state"]
            .iter()
            .all(|own| !name.starts_with(own))
            && !name.contains("lock")
            || name.contains("unreadable");
        if kind.is_dir() {
            found.insert(path.clone(), Vec::new());
            found.extend(files(&path));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).expect("where it leads to");
            found.insert(path, target.into_os_string().into_encoded_bytes());
        } else if kind.is_file() && of_others {
            found.insert(path.clone(), fs::read(&path).expect("its contents"));
        }
    }
    found
}

/// Checks that a text refuses the state file at `path`.
fn assert_refuses_state_file(text: &str, path: &str) {
    for part in ["'state-file'", path, "must be"] {
        assert!(text.contains(part), "'{part}' in:\n{text}");
    }
}

/// Creates files that are not the hook's in the server's home, and returns paths of such files.
fn foreign(kea: &Kea) -> Vec<&'static str> {
    let data = kea.data();
    fs::write(data.join("notes"), "text\n").expect("writing a file");
    fs::write(data.join("zeros"), [0; 8_192]).expect("writing a file");
    fs::create_dir(data.join("directory")).expect("making a directory");
    for (target, link) in [
        ("notes", "to-notes"),
        ("leases.csv", "to-leases"),
        ("/dev/null", "to-null"),
    ] {
        symlink(target, data.join(link)).expect("making a link");
    }
    fs::hard_link(data.join("leases.csv"), data.join("hard")).expect("making a link");
    vec![
        "data/leases.csv",
        "data/leases.csv.2",
        "data/notes",
        "data/zeros",
        "data/directory",
        "data/to-notes",
        "data/to-leases",
        "data/to-null",
        "data/hard",
        // Outside the data directory, as Kea understands it from 2.6.3 on.
        "kea.json",
    ]
}

/// The contract: a state file that names another file is refused, by a running server, which
/// continues with its former configuration, by a starting one, and by a check. The other file stays
/// unchanged.
#[test]
fn refuses_a_state_file_that_is_not_its_own() {
    let mut kea = Setup::with_hook(json!({})).start();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    kea.await_active(&client);
    settle();
    let paths = foreign(&kea);
    let before = files(kea.home());
    for path in &paths {
        let answer = kea.config_set(|setup| setup.hook_parameters(at(path)));
        assert_eq!(answer["result"], 1, "{path}: {answer}");
        assert_refuses_state_file(answer["text"].as_str().unwrap_or_default(), path);
        kea.await_log("BLQ_PREVIOUS_CONFIGURATION");
        assert_eq!(kea.await_active(&client).address, address);
    }
    let after = files(kea.home());
    assert!(after == before, "{:?} {:?}", after.keys(), before.keys());
    kea.stop();
    kea.rewrite(|setup| setup);
    let before = files(kea.home());
    let good = kea.home().join("kea.json");
    for path in &paths {
        kea.rewrite(|setup| setup.hook_parameters(at(path)));
        if !kea_version().starts_with("2.2.") {
            // Kea 2.2 has no `-T`.
            let output = kea.check("-T");
            assert!(!output.success, "{path}: {}", output.text);
            assert_refuses_state_file(&output.text, path);
        }
        let log = kea.fail_to_start_again();
        assert_refuses_state_file(&log, path);
        let mut after = files(kea.home());
        after.insert(good.clone(), before[&good].clone());
        assert!(
            after == before,
            "{path}: {:?} {:?}",
            after.keys(),
            before.keys()
        );
    }
    kea.rewrite(|setup| setup.hook_parameters(at("data/kea-blq.state")));
    kea.start_again();
    assert_eq!(kea.await_active(&client).address, address);
}

/// The paths of the lease file and of its temporary companions belong to Kea before the files
/// exist.
#[test]
fn refuses_keas_lease_file_before_it_exists() {
    for path in [
        "data/leases.csv",
        "data/leases.csv.1",
        "data/leases.csv.completed",
    ] {
        let log = Setup::with_hook(at(path)).fail_to_start();
        assert_refuses_state_file(&log, path);
        assert!(log.contains("leases"), "{log}");
    }
}

/// The contract: from 2.6.3 on Kea keeps no data outside its data directory, nor does the hook;
/// earlier versions allow any path.
#[test]
fn refuses_state_files_outside_the_data_directory_as_kea_does() {
    let elsewhere = Setup::with_hook(at("elsewhere.state"));
    if kea_version().starts_with("2.2.") {
        let kea = elsewhere.start();
        let file = kea.home().join("elsewhere.state");
        eventually("the state file", || file.exists());
        return;
    }
    let log = elsewhere.fail_to_start();
    assert_refuses_state_file(&log, "elsewhere.state");
    assert!(log.contains("supported path"), "{log}");
    let by_name = Setup::with_hook(json!({ "state-file": "by-name" })).start();
    let file = by_name.data().join("by-name");
    eventually("the state file", || file.exists());
}

/// Returns the hook's library under another name, as a link or a copy.
fn under_another_name(directory: &Path, how: &str) -> PathBuf {
    let file = directory.join("libdhcp_blq_again.so");
    match how {
        "symbolic link" => symlink(hook_library(), &file),
        "hard link" => fs::hard_link(hook_library(), &file)
            // Hard links are impossible across file systems.
            .or_else(|_| symlink(hook_library(), &file)),
        _ => fs::copy(hook_library(), &file).map(drop),
    }
    .expect("a library under another name");
    file
}

/// The hook listed twice would have two sets of parameters. It is refused, by a starting server and
/// by a running one, which continues with its former configuration.
#[test]
fn refuses_to_be_loaded_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    for how in ["itself", "symbolic link", "hard link", "copy"] {
        let other = match how {
            "itself" => hook_library(),
            how => {
                let place = directory.path().join(how);
                fs::create_dir(&place).expect("making a directory");
                under_another_name(&place, how)
            }
        };
        let name = other
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let twice = |setup: Setup| setup.library(&other, json!({ "requesters": ["192.0.2.1"] }));
        let assert_refused = |text: &str| {
            for part in [
                "'hooks-libraries'",
                "2 times",
                "libdhcp_blq.so",
                &name,
                "once",
            ] {
                assert!(text.contains(part), "{how}: '{part}' in:\n{text}");
            }
        };
        assert_refused(&twice(Setup::with_hook(json!({}))).fail_to_start());

        let mut kea = Setup::with_hook(json!({})).start();
        let answer = kea.config_set(twice);
        assert_eq!(answer["result"], 1, "{how}: {answer}");
        assert_refused(answer["text"].as_str().unwrap_or_default());
        kea.await_log("BLQ_PREVIOUS_CONFIGURATION");
        let relay = kea.relay(0);
        let mut client = Client::new(1);
        let address = relay.lease(&mut client).yiaddr;
        kea.await_active(&client);
        relay.release(&mut client);
        kea.await_state(address, State::RELEASED);
        let answer = kea.reconfigure(|setup| setup.set("valid-lifetime", json!(1234)));
        assert_eq!(answer["result"], 0, "{how}: {answer}");
        relay.lease(&mut client);
        kea.await_active(&client);
        kea.restart();
        kea.await_active(&client);
    }
}

/// Changes of leases are logged at debug level, on one line each, with the client labelled as in
/// Kea's own messages; any octets of a client are escaped.
#[test]
fn logs_changes_of_leases_in_keas_notation() {
    let kea = Setup::with_hook(json!({})).verbose().start();
    let relay = kea.relay(0).remote_id("line 1");
    let mut client = Client::new(1)
        .option(61, *b"\0\nERROR")
        .option(60, *b"\r\n2026 FATAL");
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    relay.release(&mut client);
    kea.await_state(address, State::RELEASED);
    let label = "[hwtype=1 02:00:00:00:00:01], cid=[00:0a:45:52:52:4f:52]";
    let log = kea.log();
    let (own, keas): (Vec<_>, Vec<_>) = log
        .lines()
        .filter(|line| line.contains(label))
        .partition(|line| line.contains("BLQ_LEASE_CHANGED"));
    assert!(!keas.is_empty(), "{log}");
    for part in [
        format!("lease {address} committed: {label}, state default, cltt "),
        ", subnet-id 1, relay-agent-info 0x02066C696E652031, option 60 0x0D0A32303236".to_owned(),
    ] {
        assert!(
            own.iter().any(|line| line.contains(&part)),
            "{part} in {own:?}"
        );
    }
    let released = format!("lease {address} released: {label}, at ");
    let is_released = |line: &&str| line.contains(&released) && line.ends_with(", origin local");
    assert!(own.iter().any(is_released), "{own:?}");
}

/// Number of Kea's leases in tests of the initial load.
const LEASES: u16 = 20_000;

/// Returns a setup with that many leases of as many clients, and free addresses.
fn with_leases() -> Setup {
    let setup = Setup::with_hook(json!({}));
    let subnets = json!([{
        "id": 1, "subnet": "10.64.0.0/16", "pools": [{ "pool": "10.64.0.0 - 10.64.127.255" }],
        "relay": { "ip-addresses": [setup.place.relay(0)] },
    }]);
    let end = now() + 3_600;
    let setup = setup.subnets(subnets);
    (0..LEASES).fold(setup, |setup, number| {
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 64, high, low);
        let mac = format!("02:00:00:00:{high:02x}:{low:02x}");
        setup.stored_lease(address, &mac, 3_600, end, "")
    })
}

/// Returns the number of addresses with an active binding.
fn active(kea: &Kea) -> usize {
    let bindings = kea.find(Primary::All);
    let active = bindings
        .iter()
        .filter(|one| one.state == Some(State::ACTIVE));
    active.count()
}

/// Kea does not wait for the initial load. An earlier query returns all leases, at the first start
/// and with a state file, and Kea can be stopped.
#[test]
fn answers_completely_right_after_the_start() {
    let mut kea = with_leases().start();
    assert_eq!(active(&kea), usize::from(LEASES));
    for _ in 0..3 {
        kea.restart();
        assert_eq!(active(&kea), usize::from(LEASES));
        kea.restart();
        kea.stop();
        kea.start_again();
    }
}

/// The initial load runs after Kea's start, while it serves clients: their new leases and releases
/// are reported as usual.
fn serves_clients_while_leases_are_loaded(multi_threading: bool) {
    let setup = with_leases().multi_threading(multi_threading);
    let mut kea = setup.start();
    let mut number = LEASES;
    for _ in 0..3 {
        let relay = kea.relay(0);
        let mut clients = BTreeMap::new();
        while clients.is_empty() || !kea.log().contains("BLQ_LOADED") {
            number += 1;
            let mut client = Client::new(number);
            let address = relay.lease(&mut client).yiaddr;
            let mut state = State::ACTIVE;
            if number % 2 == 0 {
                relay.release(&mut client);
                state = State::RELEASED;
            }
            // A released address may have been leased to another client.
            clients.insert(address, state);
        }
        let log = kea.log();
        let position = |text| log.find(text).expect(text);
        assert!(position("DHCP4_STARTED") < position("BLQ_LOADED"), "{log}");
        eventually("the clients' leases and releases", || {
            let bindings = kea.find(Primary::All).into_iter();
            let bindings: BTreeMap<_, _> = bindings.map(|one| (one.address, one)).collect();
            clients.iter().all(|(address, state)| {
                let found = &bindings[address];
                // Each change has the origin local.
                assert_eq!(found.data_source, None, "{address}");
                found.state == Some(*state)
            })
        });
        kea.restart();
    }
}

/// Kea processes packets on the thread that runs the initial load.
#[test]
fn serves_clients_while_leases_are_loaded_on_one_thread() {
    serves_clients_while_leases_are_loaded(false);
}

/// Kea processes packets on other threads than the initial load.
#[test]
fn serves_clients_while_leases_are_loaded_on_several_threads() {
    serves_clients_while_leases_are_loaded(true);
}

/// A reconfiguration during the initial load loses nothing that is in the mirror.
#[test]
fn loads_again_after_a_reconfiguration_while_leases_are_loaded() {
    let mut kea = with_leases().start();
    let relay = kea.relay(0);
    let mut client = Client::new(LEASES);
    let address = relay.lease(&mut client).yiaddr;
    relay.release(&mut client);
    let before = kea.await_state(address, State::RELEASED);
    settle();
    for _ in 0..3 {
        kea.restart();
        kea.command_ok("config-reload", Value::Null);
        kea.command_ok("config-reload", Value::Null);
        assert_eq!(active(&kea), usize::from(LEASES));
        let after = kea.await_state(address, State::RELEASED);
        assert_eq!(before.state_started_at(), after.state_started_at());
        kea.command_ok("config-reload", Value::Null);
        kea.command_ok("config-reload", Value::Null);
        assert_eq!(active(&kea), usize::from(LEASES));
    }
}

/// The contract: a wrong parameter is refused as at the first start, also if the preload has read
/// the state file by then, and the file stays unchanged.
#[test]
fn keeps_the_preloaded_state_file_if_the_configuration_is_refused() {
    let mut kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    relay.release(&mut client);
    let before = kea.await_state(address, State::RELEASED);
    settle();
    kea.stop();
    // The hook's parameters are valid; the subnet's VPN is not.
    let vpn = |value: Value| move |setup: Setup| setup.in_subnet(json!({ "user-context": value }));
    kea.rewrite(vpn(json!({ "vpn": 7 })));
    let log = kea.fail_to_start_again();
    assert!(log.contains("BLQ_CONFIGURATION_REFUSED"), "{log}");
    kea.rewrite(vpn(Value::Null));
    kea.start_again();
    let after = kea.await_state(address, State::RELEASED);
    assert_eq!(before.state_started_at(), after.state_started_at());
}
