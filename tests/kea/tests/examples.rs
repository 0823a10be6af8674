//! The configuration examples in a real Kea, with only paths, addresses and ports replaced; and
//! configurations whose effect is not the one that they seem to have.

#[path = "../../support/certificates.rs"]
mod certificates;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use blq::{Primary, State};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::{Client, Database, Kea, Kind, Relay, Setup, eventually, kea_version};
use serde_json::json;

/// The examples with tests of their own, which need more than one server.
const OF_SEVERAL_SERVERS: [&str; 2] = ["high-availability.json", "postgresql.json"];

/// Returns the path of an example, or of their directory.
fn path(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../kea-config-examples");
    directory.join(name)
}

/// Returns the text of an example.
fn example(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits until a server answers by MAC address and by remote-id that a client has its lease.
#[track_caller]
fn await_answers(kea: &Kea, client: &Client, line: &str) {
    let address = client.address.expect("a lease");
    let active = |primary: Primary| {
        let mut found = kea.find(primary);
        found.retain(|binding| binding.state == Some(State::ACTIVE));
        addresses(&found) == [address]
    };
    eventually(
        &format!("{address} at {}", kea.place().lease_query()),
        || active(by_mac(client)) && active(Primary::RemoteId(line.into())),
    );
}

/// Each example for one server loads.
#[test]
fn loads_every_example_for_one_server() {
    let files = certificates::Files::new();
    let directory = files.directory().display().to_string();
    let mut loaded = 0;
    for entry in fs::read_dir(path("")).expect("a directory of examples") {
        let file = entry.expect("an entry").file_name();
        let name = file.to_string_lossy();
        if !name.ends_with(".json") || OF_SEVERAL_SERVERS.contains(&&*name) {
            continue;
        }
        let text = example(&name).replace("/etc/kea/tls", &directory);
        let kea = Setup::example(&text).start();
        assert!(!kea.find(Primary::All).is_empty(), "{name}");
        loaded += 1;
    }
    assert_eq!(loaded, 5);
}

/// The partners of the example replicate leases in both directions of time: those of the first server
/// while both work, those of the second after the first has ended.
#[test]
fn partners_of_the_high_availability_example_answer_for_both() {
    let text = example("high-availability.json");
    let second = text.replace(
        r#""this-server-name": "server1""#,
        r#""this-server-name": "server2""#,
    );
    assert_ne!(text, second);
    // The example listens on addresses of the partners, which are the test's 2 and 3.
    let first = Setup::example(&text).start();
    let second = Setup::example_beside(&first, &second).start();
    for kea in [&first, &second] {
        kea.await_ha_state("hot-standby");
    }
    let place = first.place();
    let servers = [&first, &second].map(|kea| kea.place().server());
    let relay = Relay::new(place.relay(0), place.client_port(), servers.to_vec());
    let relay = relay.remote_id("line 7");
    let mut client = Client::new(7);
    relay.lease(&mut client);
    for kea in [&first, &second] {
        await_answers(kea, &client, "line 7");
    }
    relay.release(&mut client.clone());
    let address = client.address.expect("a lease");
    for kea in [&first, &second] {
        kea.await_state(address, State::RELEASED);
    }
}

/// Both servers of the example answer for the leases that either writes to the database.
#[test]
fn servers_of_the_postgresql_example_answer_for_both() {
    let text = example("postgresql.json");
    let database = Database::start(Kind::PostgreSql);
    let setup = |setup: Setup| {
        let setup = setup.at_database(&database);
        if kea_version().starts_with("2.") {
            setup.without_library("libdhcp_pgsql.so")
        } else {
            setup
        }
    };
    let first = setup(Setup::example(&text)).start();
    let second = setup(Setup::example_beside(&first, &text)).start();
    let servers = [&first, &second];
    for (n, kea) in (0..).zip(servers) {
        let line = format!("line {n}");
        let relay = kea.relay(n).remote_id(line.as_str());
        let mut client = Client::new(n.into());
        relay.lease(&mut client);
        for kea in servers {
            await_answers(kea, &client, &line);
        }
    }
    let rows = database.sql("SELECT count(*) FROM lease4");
    assert_eq!(rows, [["2"]]);
}

/// Declarations of VPNs without effect, and requesters that no peer will match, are named in the log.
#[test]
fn warns_of_declarations_without_effect() {
    let vpn = json!({ "vpn": { "name": "blue" } });
    let setup = Setup::with_hook(json!({
        "requesters": ["127.0.0.0/8", "192.0.2.0/24", "0.0.0.0", "224.0.0.1"],
    }));
    let pool = setup.place.pool(100, 200);
    let address = setup.place.address(99).to_string();
    let kea = setup
        .in_subnet(json!({
            "user-context": { "Vpn": { "name": "blue" }, "rfc2685": "00005e00000007" },
            "pools": [{ "pool": pool, "user-context": vpn }],
            "reservations": [{
                "hw-address": "02:00:00:00:00:63",
                "ip-address": address,
                "user-context": vpn,
            }],
        }))
        .set("user-context", vpn.clone())
        .start();
    let log = kea.log();
    for (id, part) in [
        ("BLQ_VPN_IGNORED", "\"vpn\" in the user-context of Dhcp4 "),
        ("BLQ_VPN_IGNORED", "\"Vpn\" in the user-context of subnet4 "),
        (
            "BLQ_VPN_IGNORED",
            "\"rfc2685\" in the user-context of subnet4 ",
        ),
        ("BLQ_VPN_IGNORED", "\"vpn\" in the user-context of pools "),
        (
            "BLQ_VPN_IGNORED",
            "\"vpn\" in the user-context of reservations ",
        ),
        ("BLQ_REQUESTER_NEVER", "192.0.2.0/24, "),
        ("BLQ_REQUESTER_NEVER", "0.0.0.0, "),
        ("BLQ_REQUESTER_NEVER", "224.0.0.1, "),
    ] {
        let found = log
            .lines()
            .filter(|line| line.contains(id) && line.contains(part));
        assert_eq!(found.count(), 1, "{id} with {part} in {log}");
    }
}

/// Kea as another user cannot use a state file that belongs to root; DHCP goes on, and the message names the
/// file and the user who must own it. With the owner changed the file is used again.
#[test]
fn says_who_must_be_able_to_write_the_state_file() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run Kea as another user");
        return;
    }
    let setup = Setup::with_hook(json!({})).unprivileged();
    let user = setup.user().expect("another user");
    let mut kea = setup.start();
    kea.stop();
    let file = kea.data().join("kea-blq.state");
    chown(&file, Some(0), Some(0)).expect("changing the owner");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("its mode");
    kea.start_again();
    let log = kea.log();
    let found = log
        .lines()
        .find(|line| line.contains("BLQ_STATE_UNAVAILABLE"));
    let found = found.unwrap_or_else(|| panic!("no message in {log}"));
    for part in [
        &*file.display().to_string(),
        "Permission denied",
        &format!("user {user}"),
        "own the file",
    ] {
        assert!(found.contains(part), "{part} in {found}");
    }
    assert!(kea.relay(0).lease(&mut Client::new(1)).yiaddr.octets()[3] >= 100);
    chown(&file, Some(user), Some(user)).expect("changing the owner");
    kea.await_log("BLQ_STATE_WRITTEN_AGAIN");
}
