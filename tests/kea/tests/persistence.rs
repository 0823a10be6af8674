//! The mirror's contents survive restarts and crashes.

use std::fs;
use std::path::PathBuf;

use blq::{Binding, Primary, Query, State};
use kea_tests::ask::{addresses, by_mac};
use kea_tests::clock::{now, settle};
use kea_tests::{Client, Kea, Setup, eventually};
use serde_json::json;

/// Returns the start of a binding's state.
fn since(binding: &Binding) -> u32 {
    binding.state_started_at().expect("start-time-of-state")
}

/// Restarts Kea, by SIGTERM or by a crash.
fn restart(kea: &mut Kea, crash: bool) {
    if crash {
        kea.kill();
    } else {
        kea.stop();
    }
    kea.start_again();
}

/// The contract's state file: states, their times and last clients survive a restart and `kill -9`.
#[test]
fn keeps_states_times_and_last_clients() {
    for crash in [false, true] {
        let mut kea = Setup::with_hook(json!({})).start();
        let relay = kea.relay(0).remote_id("line 1").relay_id("relay 1");
        let [mut stays, mut releases, mut declines] = [1, 2, 3].map(Client::new);
        let [active, released, declined] =
            [&mut stays, &mut releases, &mut declines].map(|client| relay.lease(client).yiaddr);
        relay.release(&mut releases);
        relay.decline(&mut declines);
        let look = |kea: &Kea| {
            [
                kea.await_state(active, State::ACTIVE),
                kea.await_state(released, State::RELEASED),
                kea.await_state(declined, State::ABANDONED),
            ]
        };
        let before = look(&kea);
        settle();
        restart(&mut kea, crash);
        for (before, after) in before.iter().zip(look(&kea)) {
            assert_eq!(since(before), since(&after), "{after:?}");
            assert_eq!(before.chaddr, after.chaddr);
            assert_eq!(before.client_id, after.client_id);
            assert_eq!(
                before.relay_agent_information,
                after.relay_agent_information
            );
        }
    }
}

/// RFC 6926, section 8.2: bindings are found by relay-id and remote-id after a restart, though Kea
/// does not store option 82.
#[test]
fn keeps_option_82_without_kea_storing_it() {
    for crash in [false, true] {
        let mut kea = Setup::with_hook(json!({})).start();
        let relay = kea.relay(0).remote_id("line 1").relay_id("relay 1");
        let mut client = Client::new(1);
        let address = relay.lease(&mut client).yiaddr;
        kea.await_active(&client);
        settle();
        restart(&mut kea, crash);
        for primary in [
            Primary::RemoteId(b"line 1".to_vec()),
            Primary::RelayId(b"relay 1".to_vec()),
        ] {
            assert_eq!(addresses(&kea.find(primary)), [address]);
        }
        relay.renew_unicast(&client);
        let binding = kea.await_active(&client);
        let option_82 = binding.relay_agent_information.as_ref();
        assert_eq!(option_82.map(|all| &all.raw), Some(&relay.option_82()));
    }
}

/// Returns the state files set aside in Kea's data directory.
fn set_aside(kea: &Kea) -> Vec<PathBuf> {
    let entries = fs::read_dir(kea.data()).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_aside = |path: &PathBuf| path.to_string_lossy().contains("kea-blq.state.unreadable-");
    paths.filter(is_aside).collect()
}

/// The contract: a damaged state file does not prevent Kea's start. It is kept under another name.
#[test]
fn sets_a_damaged_state_file_aside() {
    let mut kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    settle();
    kea.stop();
    let path = kea.data().join("kea-blq.state");
    let mut damaged = fs::read(&path).expect("a state file");
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xa5);
    fs::write(&path, &damaged).expect("writing a file");
    kea.start_again();
    kea.await_active(&client);
    kea.await_log("BLQ_STATE_DAMAGED");
    let [aside] = &set_aside(&kea)[..] else {
        panic!("one file set aside")
    };
    assert!(fs::read(aside).expect("a file") == damaged);
    relay.release(&mut client);
    kea.await_state(address, State::RELEASED);
    settle();
    restart(&mut kea, true);
    kea.await_state(address, State::RELEASED);
}

/// A file of another program that takes the state file's name while Kea runs stays unchanged. Kea
/// continues, and flushes the dirty set once that file is gone.
#[test]
fn leaves_another_programs_file_with_the_state_files_name_unchanged() {
    let mut kea = Setup::with_hook(json!({})).start();
    let relay = kea.relay(0);
    let mut client = Client::new(1);
    let address = relay.lease(&mut client).yiaddr;
    kea.await_active(&client);
    settle();
    let path = kea.data().join("kea-blq.state");
    let other = kea.data().join("other");
    fs::write(&other, "text").expect("writing a file");
    fs::rename(&other, &path).expect("renaming a file");
    relay.release(&mut client);
    kea.await_log("BLQ_STATE_FOREIGN");
    kea.await_state(address, State::RELEASED);
    assert_eq!(fs::read(&path).expect("a file"), b"text");
    fs::remove_file(&path).expect("removing a file");
    kea.await_log("BLQ_STATE_WRITTEN_AGAIN");
    assert!(set_aside(&kea).is_empty());
    restart(&mut kea, true);
    kea.await_state(address, State::RELEASED);
}

/// RFC 6926, section 8.3, item 7: the client's options survive a restart.
#[test]
fn keeps_the_options_clients_sent() {
    let mut kea = Setup::with_hook(json!({})).start();
    let mut client = Client::new(1).option(60, *b"vendor").option(12, *b"host");
    kea.relay(0).lease(&mut client);
    kea.await_active(&client);
    settle();
    restart(&mut kea, true);
    let mut query = Query::new(by_mac(&client));
    query.parameter_request_list = Some(vec![12, 60]);
    let [binding] = &kea.bindings(&query)[..] else {
        panic!("one binding")
    };
    assert_eq!(binding.options[&60], b"vendor");
    assert_eq!(binding.options[&12], b"host");
}

/// The contract: a lease that expired while Kea was down is EXPIRED since the end of its lifetime.
#[test]
fn expires_leases_that_ended_while_kea_was_down() {
    let mut kea = Setup::with_hook(json!({}))
        .set("valid-lifetime", json!(6))
        .start();
    let mut client = Client::new(1);
    let address = kea.relay(0).lease(&mut client).yiaddr;
    let leased = kea.await_active(&client);
    settle();
    kea.kill();
    eventually("the lifetime's end", || {
        now() > u64::from(since(&leased)) + 6
    });
    kea.start_again();
    let expired = kea.await_state(address, State::EXPIRED);
    assert_eq!(since(&expired), since(&leased) + 6);
}

/// Leases older than the hook are found, with option 82 in both layouts in which Kea stores it.
#[test]
fn finds_leases_older_than_the_hook() {
    let setup = Setup::with_hook(json!({}));
    let place = setup.place;
    let expire = now() + 1000;
    // Remote-id "line", relay-id "r": as a whole in hexadecimal (Kea 2.2), and as a map (later).
    let whole = r#"{ "ISC": { "relay-agent-info": "0x02046C696E650C0172" } }"#;
    let map = r#"{ "ISC": { "relay-agent-info":
        { "sub-options": "0x02046C696E650C0172", "remote-id": "6C696E65", "relay-id": "72" } } }"#
        .replace('\n', "");
    let [plain, old, new] = [110, 111, 112].map(|host| place.address(host));
    let kea = setup
        .stored_lease(plain, "02:00:00:00:00:10", 3600, expire, "")
        .stored_lease(old, "02:00:00:00:00:11", 3600, expire, whole)
        .stored_lease(new, "02:00:00:00:00:12", 3600, expire, &map)
        .start();
    assert_eq!(addresses(&kea.find(by_mac(&Client::new(0x10)))), [plain]);
    for primary in [
        Primary::RemoteId(b"line".to_vec()),
        Primary::RelayId(b"r".to_vec()),
    ] {
        assert_eq!(addresses(&kea.find(primary)), [old, new]);
    }
}
