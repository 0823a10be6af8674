//! The control commands and statistics, on a fake Kea.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use blq::{Connection, Message, MessageType, Primary, Query, StatusCode, Timeouts};
use serde_json::{Value, json};

use crate::mirror::event::{Lease, LeaseState};
use crate::model::time::{Lifetime, Time};
use crate::plugin::fake::{FakeKea, Server};

/// Returns an address of the pool.
fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// Returns a lease of that address.
fn lease(last: u8) -> Lease {
    Lease::example(address(last), Time(1_000))
}

/// Returns a Kea with the leases 1 to `count`.
fn with_leases(count: u8) -> FakeKea {
    let kea = FakeKea::new();
    (1..=count).for_each(|last| kea.put(lease(last)));
    kea
}

/// Returns a server that has counted its leases, of which there are `count`.
fn counted(count: u8) -> Server {
    let server = Server::started(with_leases(count));
    server.run_until("a census", |server| !census(server).is_null());
    server
}

/// Returns the arguments of the answer to a command that must succeed.
#[track_caller]
fn ok(server: &Server, name: &str, arguments: &Value) -> Value {
    let mut answer = server.command(name, arguments);
    assert_eq!(answer["result"], 0, "{name}: {answer}");
    answer["arguments"].take()
}

/// Returns the arguments of `blq4-status`.
#[track_caller]
fn status(server: &Server) -> Value {
    ok(server, "blq4-status", &json!(null))
}

/// Returns the census in `blq4-status`.
#[track_caller]
fn census(server: &Server) -> Value {
    status(server)["bindings"]["census"].take()
}

/// Has the plugin listen on an address of this process and test; returns it.
fn listen(kea: &FakeKea, test: u8) -> Ipv4Addr {
    let [high, low, ..] = (std::process::id() as u16).to_be_bytes();
    let address = Ipv4Addr::new(127, 1 | high, low, 200 + test);
    kea.with(|state| {
        state.parameters["advanced"] = json!({
            "lease-query-ip": address.to_string(), "lease-query-tcp-port": PORT,
        });
    });
    address
}

/// The port that tests listen on.
const PORT: u16 = 10_067;

/// Connects to the listener.
fn connect(listener: Ipv4Addr) -> Connection {
    Connection::open((listener, PORT), &Timeouts::default()).unwrap()
}

/// A query for all configured addresses.
fn all() -> Query {
    Query::new(Primary::All)
}

/// Waits for the answer to a query sent; returns the status, 0 for success.
fn status_of_answer(requester: &mut Connection) -> StatusCode {
    let mut answers = requester.collect_answers().into_values();
    let done = answers.next().unwrap().done.expect("DHCPLEASEQUERYDONE");
    done.failure()
        .map_or(StatusCode::SUCCESS, |status| status.code)
}

/// Waits until `condition` holds, without ticks.
#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        thread::yield_now();
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: never");
    }
}

//--- Commands

#[test]
fn registers_its_commands_while_it_is_loaded() {
    let kea = FakeKea::new();
    let server = Server::new(kea.clone());
    assert_eq!(server.load(), Ok(()));
    let commands = kea.with(|state| state.commands.clone());
    assert_eq!(
        commands,
        [
            "blq4-status",
            "blq4-connections",
            "blq4-disconnect",
            "blq4-resync",
            "blq4-lease-get",
        ]
    );
}

#[test]
fn answers_before_during_and_after_an_instance() {
    let server = Server::new(with_leases(3));
    let state = |server: &Server| status(server)["state"].take();
    assert_eq!(state(&server), "stopped");
    assert_eq!(server.load_and_configure(), Ok(()));
    let loading = status(&server);
    assert_eq!(loading["state"], "loading");
    assert_eq!(loading["load"]["complete"], false);
    assert_eq!(loading["bindings"]["census"], json!(null));
    let answer = server.command("blq4-lease-get", &json!({ "ip-address": "192.0.2.1" }));
    assert_eq!(answer["result"], 1);
    assert!(answer["text"].as_str().unwrap().contains("loaded"));
    server.run_until("the mirror is complete", Server::is_complete);
    assert_eq!(state(&server), "serving");
    server.plugin.unload();
    let stopped = status(&server);
    assert_eq!(stopped["state"], "stopped");
    for part in ["bindings", "load", "resync", "state-file", "history-since"] {
        assert_eq!(stopped[part], json!(null), "{part}");
    }
    for name in ["blq4-connections", "blq4-resync"] {
        let answer = server.command(name, &json!({}));
        assert_eq!(answer["result"], 1, "{answer}");
    }
}

#[test]
fn says_why_nothing_is_served() {
    let kea = FakeKea::new();
    kea.with(|state| state.leases = None);
    let server = Server::new(kea.clone());
    assert_eq!(server.load_and_configure(), Ok(()));
    let reason = status(&server)["reason"].take();
    assert!(
        reason
            .as_str()
            .unwrap()
            .contains("no current lease manager")
    );
    kea.with(|state| state.leases = Some(Default::default()));
    server.run_until("the mirror is complete", Server::is_complete);
    assert_eq!(status(&server)["reason"], json!(null));
}

#[test]
fn refuses_wrong_arguments() {
    let server = Server::started(with_leases(1));
    for (name, arguments, part) in [
        ("blq4-status", json!({ "verbose": true }), "'verbose'"),
        ("blq4-connections", json!([]), "must be a map"),
        (
            "blq4-resync",
            json!({ "now": 1 }),
            "no arguments are allowed",
        ),
        ("blq4-disconnect", json!({}), "'address'"),
        (
            "blq4-disconnect",
            json!({ "address": "192.0.2.1", "port": 70_000 }),
            "'port'",
        ),
        (
            "blq4-lease-get",
            json!({ "address": "192.0.2.1" }),
            "'ip-address'",
        ),
        (
            "blq4-lease-get",
            json!({ "ip-address": "192.0.2" }),
            "\"192.0.2\"",
        ),
        ("blq4-no-such", json!({}), "'blq4-no-such'"),
    ] {
        let answer = server.command(name, &arguments);
        assert_eq!(answer["result"], 1, "{name}: {answer}");
        let text = answer["text"].as_str().unwrap();
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_status_counts_bindings_by_state_and_vpn() {
    let server = counted(5);
    let released = Lease {
        valid_lifetime: Lifetime(10),
        ..lease(6)
    };
    server.kea.put(released);
    ok(&server, "blq4-resync", &json!({}));
    server.run_until("a resync and a census", |server| {
        census(server)["bindings"] == 6 && server.statistic("blq4-resync-differences") == Some(1)
    });
    let status = status(&server);
    let census = &status["bindings"]["census"];
    assert_eq!(status["bindings"]["total"], 6);
    assert_eq!(census["by-state"]["active"], 5);
    assert_eq!(census["by-state"]["expired"], 1);
    assert_eq!(
        census["by-vpn"],
        json!([{ "type": "default", "bindings": 6, "active": 5 }])
    );
    assert_eq!(census["free-addresses"], 253 - 6);
    assert_eq!(census["indexes"]["client-id"], 0);
    assert!(census["indexes"]["mac"].as_u64() >= Some(5));
    assert_eq!(
        status["coverage"]["without"]["not-stored-and-no-message-yet"],
        5
    );
    assert!(status["memory"]["estimate"]["total"].as_u64() > Some(0));
    assert_eq!(status["versions"]["kea"], "3.0.3");
    assert_eq!(status["load"]["leases"], 5);
    assert_eq!(status["load"]["complete"], true);
    assert!(status["resync"]["last-ended"].is_u64());
    assert_eq!(status["resync"]["differences"], 1);
}

#[test]
fn the_status_shows_whether_the_state_file_can_be_written() {
    let server = counted(1);
    let file = || status(&server)["state-file"].take();
    eventually("a flush", || file()["last-written"].is_u64());
    let healthy = file();
    assert_eq!(healthy["healthy"], true);
    assert!(healthy["octets"].as_u64() > Some(0));
    for part in ["failing-since", "error"] {
        assert_eq!(healthy[part], json!(null), "{part}");
    }
    let path = PathBuf::from(healthy["path"].as_str().unwrap());
    assert!(path.ends_with("kea-blq.state"));

    // A file of another program in its place is never written, whatever the privileges.
    let other = path.with_file_name("other");
    fs::write(&other, "address,hwaddr").unwrap();
    fs::rename(&other, &path).unwrap();
    server.kea.put(lease(2));
    ok(&server, "blq4-resync", &json!({}));
    server.run_until("a failure", |_| file()["healthy"] == false);
    let failing = file();
    assert!(failing["failing-since"].is_u64(), "{failing}");
    let error = failing["error"].as_str().unwrap();
    assert!(error.contains("another program's"), "{error}");

    fs::remove_file(&path).unwrap();
    server.run_until("a flush", |_| file()["healthy"] == true);
    assert_eq!(file()["error"], json!(null));
}

#[test]
fn explains_what_a_requester_is_sent_of_an_address() {
    let kea = FakeKea::new();
    kea.put(Lease {
        relay_agent_information: Some(vec![2, 3, 1, 2, 3]),
        ..lease(1)
    });
    kea.put(Lease {
        state: LeaseState::Declined,
        ..lease(2)
    });
    let server = Server::started(kea);
    let get = |address: &str| server.command("blq4-lease-get", &json!({ "ip-address": address }));
    let found = get("192.0.2.1");
    assert_eq!(
        (&found["result"], &found["text"]),
        (&json!(0), &json!("192.0.2.1 is active"))
    );
    let found = &found["arguments"];
    let reply = &found["reply"];
    assert_eq!(reply["message-type"], "DHCPLEASEACTIVE");
    assert_eq!(reply["client"]["hw-address"], "00:00:5e:00:53:01");
    assert_eq!(reply["vpn"], json!({ "type": "default" }));
    let option = json!({ "code": 82, "data": "0203010203" });
    assert!(
        reply["options"].as_array().unwrap().contains(&option),
        "{reply}"
    );
    assert_eq!(found["option-82"]["from"], "lease-database");
    assert_eq!(found["option-82"]["remote-id"], "010203");
    assert_eq!(found["subnet"]["subnet"], "192.0.2.0/24");
    assert_eq!(found["vpn-from"], "subnet");
    assert_eq!(found["listed"], true);
    let declined = get("192.0.2.2");
    assert_eq!(
        declined["arguments"]["reply"]["message-type"],
        "DHCPLEASEUNASSIGNED"
    );
    assert_eq!(declined["arguments"]["option-82"]["from"], "none");
    let free = get("192.0.2.3");
    assert_eq!(free["text"], "192.0.2.3 is available");
    assert_eq!(free["arguments"]["times"], json!(null));
    let range = &free["arguments"]["range"];
    assert_eq!(
        (&range["first"], &range["last"]),
        (&json!("192.0.2.1"), &json!("192.0.2.253"))
    );
    let other = get("198.51.100.1");
    assert_eq!(other["result"], 3, "{other}");
}

#[test]
fn lists_connections_and_ends_them_with_query_terminated() {
    let kea = with_leases(2);
    let listener = listen(&kea, 1);
    let server = Server::new(kea);
    assert_eq!(server.command("blq4-connections", &json!({}))["result"], 1);
    assert_eq!(server.load_and_configure(), Ok(()));
    assert_eq!(server.command("blq4-connections", &json!({}))["result"], 3);
    let mut requester = connect(listener);
    // The query waits for the leases.
    requester.send(&all()).unwrap();
    let connections = |server: &Server| {
        let mut answer = server.command("blq4-connections", &json!({}));
        answer["arguments"]["connections"].take()
    };
    eventually("a query", || {
        connections(&server)[0]["queries-in-progress"] == 1
    });
    let connection = connections(&server)[0].take();
    assert_eq!(connection["address"], "127.0.0.1");
    assert_eq!(connection["local-address"], listener.to_string());
    assert_eq!(connection["messages-sent"], 0);
    assert_eq!(status(&server)["connections"]["open"], 1);
    let listening = json!([{
        "address": listener.to_string(), "port": PORT, "protocol": "tcp", "listening": true, "error": null,
    }]);
    assert_eq!(status(&server)["listeners"], listening);
    let disconnect = |arguments: Value| server.command("blq4-disconnect", &arguments);
    let other = disconnect(json!({ "address": "127.0.0.1", "port": 1 }));
    assert_eq!(other["result"], 3, "{other}");
    let port = &connection["port"];
    let ended = disconnect(json!({ "address": "127.0.0.1", "port": port }));
    assert_eq!(
        (&ended["result"], &ended["arguments"]["count"]),
        (&json!(0), &json!(1))
    );
    let status_code = status_of_answer(&mut requester);
    assert_eq!(status_code, StatusCode::QUERY_TERMINATED);
    eventually("the end", || connections(&server) == json!([]));
    server.run_until("the mirror is complete", Server::is_complete);
    server.run_for(Duration::from_secs(2));
    for (name, value) in [
        ("blq4-connections", 0),
        ("blq4-connections-accepted", 1),
        ("blq4-queries", 1),
        ("blq4-queries-terminated", 1),
        ("blq4-messages-sent", 1),
    ] {
        assert_eq!(server.statistic(name), Some(value), "{name}");
    }
}

#[test]
fn active_connections_are_listed_and_counted_apart() {
    let kea = with_leases(2);
    let listener = listen(&kea, 3);
    kea.with(|state| {
        for name in ["active-query-enabled", "active-query-insecure"] {
            state.parameters["advanced"][name] = json!(true);
        }
    });
    let server = Server::started(kea);
    server.run_until("the mirror is complete", Server::is_complete);
    let mut active = TcpStream::connect((listener, PORT)).unwrap();
    // Changes from the future on: the catch-up is complete at once.
    let query = Message::new(1, 7, MessageType::ACTIVE_LEASE_QUERY).with(154, [0xff; 4]);
    active.write_all(&query.to_frame().unwrap()).unwrap();
    active.read_exact(&mut [0; 2]).unwrap();
    let _bulk = connect(listener);
    eventually("both connections", || {
        status(&server)["connections"]
            == json!({ "open": 1, "limit": 10, "active": 1, "active-limit": 10 })
    });
    let listed = ok(&server, "blq4-connections", &json!({}));
    let connection = &listed["connections"][0];
    assert_eq!(connection["type"], "active");
    assert_eq!(connection["queries-in-progress"], 1);
    assert_eq!(listed["connections"][1]["type"], "bulk");
    server.run_for(Duration::from_secs(2));
    for (name, value) in [("blq4-connections", 2), ("blq4-active-connections", 1)] {
        assert_eq!(server.statistic(name), Some(value), "{name}");
    }
    drop(active);
    server.run_until("the end", |server| {
        server.statistic("blq4-active-connections") == Some(0)
    });
}

#[test]
fn commands_come_on_any_thread_while_the_library_is_reloaded() {
    let server = Server::started(with_leases(50));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for name in [
            "blq4-status",
            "blq4-connections",
            "blq4-resync",
            "blq4-lease-get",
        ] {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let arguments = match name {
                    "blq4-lease-get" => json!({ "ip-address": "192.0.2.7" }),
                    _ => json!({}),
                };
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) || answers == 0 {
                    let answer = server.command(name, &arguments);
                    assert!(answer["text"].is_string(), "{answer}");
                    answers += 1;
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(server.reload(), Ok(()));
            server.run_until("the mirror is complete", Server::is_complete);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // No command has kept the mirror from being handed over.
    assert_eq!(status(&server)["load"]["from"], "reload");
}

//--- Statistics

#[test]
fn all_statistics_exist_from_the_load_on_and_count_on_after_a_reload() {
    let kea = with_leases(2);
    let listener = listen(&kea, 2);
    let server = Server::new(kea.clone());
    assert_eq!(server.load(), Ok(()));
    let statistics = kea.with(|state| state.statistics.clone());
    let names: Vec<&str> = statistics.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "blq4-active-connections",
            "blq4-bindings",
            "blq4-connections",
            "blq4-connections-accepted",
            "blq4-connections-refused",
            "blq4-messages-sent",
            "blq4-octets-sent",
            "blq4-queries",
            "blq4-queries-malformed",
            "blq4-queries-refused",
            "blq4-queries-terminated",
            "blq4-resync-differences",
            "blq4-udp-dropped",
            "pkt4-lease-query-received",
            "pkt4-lease-query-response-active-sent",
            "pkt4-lease-query-response-unassigned-sent",
            "pkt4-lease-query-response-unknown-sent",
        ]
    );
    assert!(statistics.values().all(|value| *value == 0));
    assert_eq!(server.configure(), Ok(()));
    server.run_until("the mirror is complete", Server::is_complete);
    let query = || {
        let mut requester = connect(listener);
        requester.send(&all()).unwrap();
        assert_eq!(status_of_answer(&mut requester), StatusCode::SUCCESS);
    };
    query();
    let statistic = |name: &str| server.statistic(name).unwrap();
    // Octets are counted when they are sent, later than the query.
    server.run_until("the statistics", |_| statistic("blq4-messages-sent") == 254);
    assert_eq!(statistic("blq4-queries"), 1);
    let octets = statistic("blq4-octets-sent");
    assert!(octets > 254 * 240, "{octets}");
    assert_eq!(statistic("blq4-bindings"), 2);
    assert_eq!(server.reload(), Ok(()));
    assert_eq!(statistic("blq4-queries"), 1);
    server.run_until("the mirror is complete", Server::is_complete);
    query();
    server.run_until("the statistics", |_| {
        statistic("blq4-messages-sent") == 2 * 254
    });
    assert_eq!(statistic("blq4-queries"), 2);
    assert_eq!(statistic("blq4-octets-sent"), 2 * octets);
    // Each that did not change is not set again.
    let set = || kea.with(|state| state.statistics_set);
    server.run_until("no connection", |_| statistic("blq4-connections") == 0);
    let before = set();
    server.run_for(Duration::from_secs(10));
    assert_eq!(set(), before);
}

#[test]
fn statistics_that_kea_resets_or_removes_count_on_from_0() {
    let kea = with_leases(2);
    let listener = listen(&kea, 3);
    let server = Server::started(kea.clone());
    let statistic = |name: &str| server.statistic(name);
    let query = || {
        let mut requester = connect(listener);
        requester.send(&all()).unwrap();
        assert_eq!(status_of_answer(&mut requester), StatusCode::SUCCESS);
    };
    query();
    server.run_until("the statistics", |_| statistic("blq4-queries") == Some(1));
    kea.with(|state| state.statistics.values_mut().for_each(|value| *value = 0));
    server.processed("statistic-reset-all", &json!({}));
    query();
    server.run_until("the statistics", |_| {
        statistic("blq4-queries") == Some(1) && statistic("blq4-bindings") == Some(2)
    });
    kea.with(|state| state.statistics.remove("blq4-queries"));
    server.processed("statistic-remove", &json!({ "name": "blq4-queries" }));
    server.run_until("the statistic", |_| statistic("blq4-queries") == Some(1));
}
