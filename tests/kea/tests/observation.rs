//! Control commands, statistics and log lines for the operator.

#[path = "../../support/certificates.rs"]
mod certificates;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use blq::{Primary, Query, State, StatusCode};
use jsonschema::Validator;
use kea_tests::ask::by_mac;
use kea_tests::copy::{Copy, active_query};
use kea_tests::{Client, Kea, Setup, eventually, eventually_some, kea_version};
use serde_json::{Value, json};

/// The contract's commands.
const COMMANDS: [&str; 5] = [
    "blq4-status",
    "blq4-connections",
    "blq4-disconnect",
    "blq4-resync",
    "blq4-lease-get",
];

/// The contract's statistics, without those of UDP that Kea names.
const STATISTICS: [&str; 13] = [
    "blq4-connections",
    "blq4-active-connections",
    "blq4-connections-accepted",
    "blq4-connections-refused",
    "blq4-queries",
    "blq4-queries-refused",
    "blq4-queries-malformed",
    "blq4-queries-terminated",
    "blq4-messages-sent",
    "blq4-octets-sent",
    "blq4-bindings",
    "blq4-resync-differences",
    "blq4-udp-dropped",
];

/// The contract's statistics of UDP, which Kea names, and creates from 3.1.5 on.
const UDP_STATISTICS: [&str; 4] = [
    "pkt4-lease-query-received",
    "pkt4-lease-query-response-active-sent",
    "pkt4-lease-query-response-unassigned-sent",
    "pkt4-lease-query-response-unknown-sent",
];

/// Reads the schema of a command's answers.
fn schema(command: &str) -> Validator {
    let file = format!("{command}.schema.json");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands");
    let text = std::fs::read_to_string(root.join(&file)).expect(&file);
    let schema = serde_json::from_str(&text).expect(&file);
    jsonschema::validator_for(&schema).expect(&file)
}

/// Sends a command, whose answer must have a result and conform to its schema. Returns the answer.
#[track_caller]
fn command(kea: &Kea, name: &str, arguments: Value, result: u64) -> Value {
    let answer = kea.command(name, arguments);
    let errors: Vec<String> = schema(name)
        .iter_errors(&answer)
        .map(|error| format!("{error} at {}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {answer:#}");
    assert_eq!(answer["result"], result, "{answer:#}");
    answer
}

/// Returns the arguments of `blq4-status`.
#[track_caller]
fn status(kea: &Kea) -> Value {
    command(kea, "blq4-status", Value::Null, 0)["arguments"].take()
}

/// Returns the statistics of the hook, which must be integers that are not negative.
#[track_caller]
fn statistics(kea: &Kea) -> BTreeMap<String, u64> {
    let all = kea.command_ok("statistic-get-all", Value::Null);
    let all = all.as_object().expect("a map");
    let own = all.iter().filter(|(name, _)| name.starts_with("blq"));
    own.map(|(name, samples)| {
        let value = samples[0][0].as_u64();
        (
            name.clone(),
            value.unwrap_or_else(|| panic!("{name}: {samples}")),
        )
    })
    .collect()
}

/// Starts Kea with the hook.
fn kea() -> Kea {
    Setup::with_hook(json!({})).start()
}

/// A client behind a relay agent with a remote-id, and one behind another without.
fn lease_two(kea: &Kea) -> [Client; 2] {
    let mut clients = [1, 2].map(Client::new);
    let with_remote_id = kea.relay(0).remote_id([1, 2, 3]);
    with_remote_id.lease(&mut clients[0]);
    kea.relay(1).lease(&mut clients[1]);
    clients.iter().for_each(|client| {
        kea.await_active(client);
    });
    clients
}

//--- Monitoring

/// `blq status` reads the answer of a real Kea, and has its numbers among the metrics.
#[test]
fn metrics_have_the_numbers_of_the_status() {
    let files = certificates::Files::new();
    let mut advanced = active_query();
    for (name, file) in [
        ("trust-anchor", "ca.pem"),
        ("cert-file", "server.pem"),
        ("key-file", "server.key"),
    ] {
        advanced[name] = json!(files.path(file));
    }
    let kea = Setup::with_hook(json!({ "advanced": advanced })).start();
    lease_two(&kea);
    let copy = Copy::begin(kea.place().lease_query());
    let (status, metrics) = eventually_some("a census and an active connection", || {
        let arguments = blq::status::request(&kea.control_socket()).expect("a status");
        let status = blq::status::Status::read(arguments.clone()).expect("the status");
        let bindings = status.bindings.as_ref().expect("bindings");
        let is_counted = bindings
            .census
            .as_ref()
            .is_some_and(|census| census.by_state["active"] == 2);
        let connections = status.connections.as_ref().expect("connections");
        let is_ready = is_counted && connections.active == Some(1);
        is_ready.then(|| (arguments, status.metrics()))
    });
    drop(copy);
    let tls = &status["tls"];
    let certificate = |file: &str| {
        let ends = tls[file]["ends"].as_u64().expect("an end");
        format!("blq4_tls_certificate_end_timestamp_seconds{{file=\"{file}\"}} {ends}")
    };
    let limit = status["connections"]["active-limit"]
        .as_u64()
        .expect("a limit");
    assert!(limit > 0);
    for line in [
        "blq4_bindings 2",
        "blq4_bindings_by_state{state=\"active\"} 2",
        "blq4_active_bindings_with{part=\"remote-id\"} 1",
        "blq4_state{state=\"serving\"} 1",
        "blq4_state_file_healthy 1",
        "blq4_active_connections 1",
        &format!("blq4_active_connections_limit {limit}"),
        "blq4_tls_certificates{file=\"cert-file\"} 1",
        &certificate("cert-file"),
        &certificate("trust-anchor"),
        "blq4_tls_handshakes_total{result=\"failed\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }
}

/// Stork and kea-exporter read each statistic as a list of samples, each a number and a time, and take the first one.
/// Stork accepts integers only, and reads a negative one as a huge one.
#[test]
fn exporters_can_read_the_statistics() {
    let kea = kea();
    let all = kea.command_ok("statistic-get-all", Value::Null);
    for name in STATISTICS.into_iter().chain(UDP_STATISTICS) {
        let samples = &all[name];
        let samples = samples.as_array().expect(name);
        assert!(!samples.is_empty(), "{name}");
        for sample in samples {
            assert_eq!(sample.as_array().map(Vec::len), Some(2), "{name}: {sample}");
            assert!(sample[0].is_u64(), "{name}: {sample}");
            let time = sample[1].as_str().expect(name);
            assert_eq!(
                time.len(),
                "2026-01-31 12:00:00.000000".len(),
                "{name}: {time}"
            );
        }
    }
}

/// kea-exporter as it is: its metrics are the same with and without the hook, and it prints each of the
/// hook's statistics once, however often it is asked.
///
/// `BLQ_KEA_EXPORTER=.../bin/kea-exporter scripts/test-in-kea --test observation kea_exporter -- --ignored`
#[test]
#[ignore = "kea-exporter comes from PyPI; BLQ_KEA_EXPORTER is its path"]
fn kea_exporter_shows_the_same_with_the_hook() {
    let (plain, _) = exported(&Setup::plain().start());
    assert!(
        plain.iter().any(|name| name.starts_with("kea_dhcp4_")),
        "{plain:?}"
    );
    let (with_hook, printed) = exported(&kea());
    assert_eq!(with_hook, plain);
    let unhandled = |name: &&str| {
        let line = format!("Unhandled metric '{name}'");
        printed
            .lines()
            .filter(|found| found.contains(&line))
            .count()
            == 1
    };
    let own = STATISTICS.into_iter().chain(UDP_STATISTICS);
    let own: Vec<&str> = own.collect();
    let once: Vec<&str> = own.iter().copied().filter(unhandled).collect();
    assert_eq!(once, own, "{printed}");
}

/// Returns the names of Kea's metrics that kea-exporter shows, and all that it prints over two scrapes.
fn exported(kea: &Kea) -> (BTreeSet<String>, String) {
    let program = std::env::var_os("BLQ_KEA_EXPORTER").expect("BLQ_KEA_EXPORTER");
    let address = SocketAddrV4::new(kea.place().address(7), 9547);
    let log = kea.home().join("kea-exporter");
    let out = File::create(&log).expect("a file");
    let mut exporter = Command::new(program)
        .args(["-a", &address.ip().to_string(), "-p", "9547"])
        .arg(kea.control_socket())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(out)
        .spawn()
        .expect("running kea-exporter");
    let scrape = || {
        let mut stream = TcpStream::connect(address).ok()?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        response.contains(" 200 OK\r\n").then_some(response)
    };
    let first = eventually_some("metrics", scrape);
    eventually_some("metrics", scrape);
    exporter.kill().expect("ended");
    exporter.wait().expect("ended");
    let lines = first.lines().filter(|line| line.starts_with("kea_"));
    let names = lines.filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned()));
    let printed = std::fs::read_to_string(&log).expect("a file");
    (names.collect(), printed)
}

//--- Commands

/// The contract: Kea knows the commands, and their answers conform to the schemas in each case.
#[test]
fn answers_conform_to_their_schemas() {
    let kea = kea();
    let known = kea.command_ok("list-commands", Value::Null);
    for name in COMMANDS {
        assert!(
            known.as_array().expect("a list").contains(&json!(name)),
            "{name}"
        );
    }
    command(&kea, "blq4-connections", json!({}), 3);
    let [client, _] = lease_two(&kea);
    status(&kea);
    let connection = kea.connect();
    eventually("the connection", || {
        kea.command("blq4-connections", json!({}))["result"] == 0
    });
    command(&kea, "blq4-connections", Value::Null, 0);
    command(
        &kea,
        "blq4-disconnect",
        json!({ "address": "192.0.2.1" }),
        3,
    );
    let peer = connection.socket().local_addr().expect("an address").ip();
    command(
        &kea,
        "blq4-disconnect",
        json!({ "address": peer.to_string() }),
        0,
    );
    command(&kea, "blq4-resync", Value::Null, 0);
    let leased = client.address.expect("a lease");
    for (address, result) in [
        (leased, 0),
        (kea.place().address(199), 0),
        (Ipv4Addr::new(198, 51, 100, 1), 3),
    ] {
        let arguments = json!({ "ip-address": address.to_string() });
        command(&kea, "blq4-lease-get", arguments, result);
    }
    for (name, arguments) in [
        ("blq4-status", json!({ "a": 1 })),
        ("blq4-connections", json!({ "a": 1 })),
        ("blq4-disconnect", json!({ "address": 7 })),
        ("blq4-resync", json!([])),
        ("blq4-lease-get", json!({ "ip-address": "x" })),
    ] {
        command(&kea, name, arguments, 1);
    }
}

/// The contract: the status has bindings by state and VPN, and the leases without option 82.
#[test]
fn the_status_describes_the_service() {
    let mut kea = kea();
    let [first, mut second] = lease_two(&kea);
    let released = second.address.expect("a lease");
    kea.relay(1).release(&mut second);
    kea.await_state(released, State::RELEASED);
    let found = eventually_some("a census", || {
        let status = status(&kea);
        let census = &status["bindings"]["census"];
        (census["by-state"]["released"] == 1).then_some(status)
    });
    assert_eq!(found["state"], "serving");
    let census = &found["bindings"]["census"];
    assert_eq!(census["by-state"]["active"], 1);
    assert_eq!(
        census["by-vpn"],
        json!([{ "type": "default", "bindings": 2, "active": 1 }])
    );
    assert_eq!(census["free-addresses"], 99);
    assert_eq!(census["indexes"]["remote-id"], 1);
    assert_eq!(found["coverage"]["with-remote-id"], 1);
    assert_eq!(found["coverage"]["without"]["total"], 0);
    assert_eq!(found["versions"]["kea"], kea_version());
    let listener = &found["listeners"][0];
    assert_eq!(
        listener["address"],
        kea.place().lease_query().ip().to_string()
    );
    assert_eq!(listener["listening"], true);
    assert_eq!(found["load"]["complete"], true);
    eventually("a flush", || {
        status(&kea)["state-file"]["last-written"].is_u64()
    });
    // After a restart from a lease file without option 82, the state file still has it.
    kea.restart();
    let restarted = eventually_some("a census", || {
        let status = status(&kea);
        (!status["coverage"].is_null()).then_some(status)
    });
    assert_eq!(restarted["coverage"]["with-remote-id"], 1);
    assert_eq!(restarted["history-since"], found["history-since"]);
    assert_eq!(kea.find(by_mac(&first)).len(), 1);
}

/// The contract: `blq4-lease-get` gives the reply that a requester is sent.
#[test]
fn the_lease_is_that_of_the_reply() {
    let kea = kea();
    let [client, without] = lease_two(&kea);
    for client in [&client, &without] {
        let address = client.address.expect("a lease");
        let arguments = json!({ "ip-address": address.to_string() });
        let lease = command(&kea, "blq4-lease-get", arguments, 0)["arguments"].take();
        let reply = &lease["reply"];
        let binding = kea.binding(address).expect("a binding");
        assert_eq!(reply["message-type"], "DHCPLEASEACTIVE");
        let mac: Vec<String> = binding
            .chaddr
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        assert_eq!(reply["client"]["hw-address"], mac.join(":"));
        let since = lease["times"]["state-since"].as_u64();
        assert_eq!(since, binding.state_started_at().map(u64::from));
        assert_eq!(lease["listed"], true);
        assert_eq!(lease["subnet"]["from"], "lease");
    }
    let option_82 = |client: &Client| {
        let arguments = json!({ "ip-address": client.address.expect("a lease").to_string() });
        command(&kea, "blq4-lease-get", arguments, 0)["arguments"]["option-82"].take()
    };
    assert_eq!(option_82(&client)["from"], "message");
    assert_eq!(option_82(&client)["remote-id"], "010203");
    let without = option_82(&without);
    assert_eq!(without["from"], "none");
    let reason = without["missing-because"].as_str().expect("a reason");
    assert!(
        reason.contains("message came without option 82"),
        "{reason}"
    );
}

/// RFC 6926, section 8.5: an administrator's disconnection ends queries with QueryTerminated. Other
/// connections stay.
#[test]
fn a_disconnection_ends_queries_with_query_terminated() {
    // More addresses than any requester reads in the time of a test.
    let kea = Setup::with_hook(json!({}))
        .subnet(json!({
            "id": 2, "subnet": "10.0.0.0/8", "pools": [{ "pool": "10.0.0.0 - 10.255.255.255" }],
        }))
        .start();
    let mut reading = kea.connect();
    let mut other = kea.connect();
    let port = reading.socket().local_addr().expect("an address").port();
    let peer = reading.socket().local_addr().expect("an address").ip();
    let reader = thread::spawn(move || {
        // Not collected: there are too many.
        reading.send(&Query::new(Primary::All)).expect("sending");
        let mut status = None;
        for reply in reading.replies() {
            if let blq::Reply::Done(done) = reply.expect("a reply") {
                status = done.failure().map(|status| status.code);
                break;
            }
        }
        status
    });
    let is_answering = |connection: &Value| {
        connection["port"] == port && connection["octets-sent"].as_u64() > Some(1_000_000)
    };
    eventually("an answer", || {
        let connections =
            kea.command("blq4-connections", Value::Null)["arguments"]["connections"].take();
        connections
            .as_array()
            .expect("a list")
            .iter()
            .any(is_answering)
    });
    let arguments = json!({ "address": peer.to_string(), "port": port });
    let ended = command(&kea, "blq4-disconnect", arguments, 0);
    assert_eq!(ended["arguments"]["count"], 1);
    let status = reader.join().expect("the reader");
    assert_eq!(status, Some(StatusCode::QUERY_TERMINATED));
    kea.await_log("BLQ_QUERY_TERMINATED");
    let answer = other.query(&Query::new(by_mac(&Client::new(9))));
    assert!(answer.done.expect("DHCPLEASEQUERYDONE").failure().is_none());
    eventually("the end", || statistics(&kea)["blq4-connections"] == 1);
}

/// The contract: `blq4-resync` compares all leases with Kea's lease database.
#[test]
fn a_resync_is_made_on_demand() {
    let kea = Setup::with_hook(json!({ "advanced": { "reconciliation-interval": 0 } })).start();
    let ended = |kea: &Kea| status(kea)["resync"]["last-ended"].take();
    assert_eq!(status(&kea)["resync"]["interval"], Value::Null);
    assert_eq!(ended(&kea), Value::Null);
    command(&kea, "blq4-resync", Value::Null, 0);
    eventually("a resync", || ended(&kea).is_u64());
}

//--- Statistics

/// The contract: all statistics exist at once after the start, as integers, and count on after
/// reconfigurations.
#[test]
fn statistics_exist_from_the_start_and_count_on_after_reconfigurations() {
    let mut kea = kea();
    let names: Vec<String> = statistics(&kea).into_keys().collect();
    let mut expected = STATISTICS.map(str::to_owned);
    expected.sort();
    assert_eq!(names, expected);
    lease_two(&kea);
    let query = |kea: &Kea| kea.find(Primary::RemoteId(vec![1, 2, 3])).len();
    assert_eq!(query(&kea), 1);
    let counters = |kea: &Kea| {
        let mut counters = statistics(kea);
        counters.retain(|name, _| !["blq4-connections", "blq4-bindings"].contains(&&**name));
        counters
    };
    eventually("all bindings", || statistics(&kea)["blq4-bindings"] == 2);
    eventually("no connection", || {
        statistics(&kea)["blq4-connections"] == 0
    });
    let before = counters(&kea);
    assert!(before["blq4-queries"] > 0);
    assert!(before["blq4-messages-sent"] > before["blq4-queries"]);
    assert!(before["blq4-octets-sent"] > 240 * before["blq4-messages-sent"]);
    for by_command in [true, false] {
        let answer = match by_command {
            true => kea.config_set(|setup| setup.set("valid-lifetime", json!(4_321))),
            false => kea.reconfigure(|setup| setup.set("valid-lifetime", json!(1_234))),
        };
        assert_eq!(answer["result"], 0, "{answer}");
        assert_eq!(counters(&kea), before);
    }
    assert_eq!(query(&kea), 1);
    eventually("one more query", || {
        statistics(&kea)["blq4-queries"] == before["blq4-queries"] + 1
    });
    eventually("all bindings", || statistics(&kea)["blq4-bindings"] == 2);
}

/// The contract: statistics are never missing for long, and Kea's reset restarts counters.
#[test]
fn statistics_survive_their_removal_and_restart_at_a_reset() {
    let kea = kea();
    kea.find(Primary::All);
    eventually("a query", || statistics(&kea)["blq4-queries"] == 1);
    kea.command_ok("statistic-remove-all", Value::Null);
    eventually("all statistics", || {
        statistics(&kea).len() == STATISTICS.len()
    });
    assert_eq!(statistics(&kea)["blq4-queries"], 1);
    kea.command_ok("statistic-reset", json!({ "name": "blq4-queries" }));
    kea.find(Primary::All);
    eventually("a query", || {
        statistics(&kea)["blq4-octets-sent"] > 100 * 240 * 2
    });
    assert_eq!(statistics(&kea)["blq4-queries"], 1);
}

//--- Log

/// The contract: each query leaves one line at debug level, with its qualifiers and the measures of
/// its answer.
#[test]
fn each_query_leaves_a_debug_line() {
    let kea = Setup::with_hook(json!({})).verbose().start();
    lease_two(&kea);
    let mut query = Query::new(Primary::RemoteId(vec![1, 2, 3]));
    query.start = Some(7);
    assert_eq!(kea.bindings(&query).len(), 1);
    kea.await_log("query for remote-id 010203, query-start-time 7");
    let log = kea.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("remote-id 010203"))
        .collect();
    let [line] = lines[..] else {
        panic!("one line: {lines:?}")
    };
    for part in [
        "DEBUG",
        "BLQ_QUERY_ANSWERED",
        "bindings=1",
        "octets=",
        "seconds=0.",
        "status=Success",
        "xid=0x",
        "peer=127.",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// docs/monitoring.md: a logger keeps a warning about descriptors, which Kea 3.2.0 has without it, out of the log, and
/// writes to the outputs of the other messages.
#[test]
fn a_logger_keeps_the_warning_about_descriptors_out() {
    const WARNING: &str = "DHCP_RECEIVE4_UNKNOWN";
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(manifest.join("../../docs/monitoring.md"));
    let text = text.expect("the documentation");
    let section = text.split_once("## Kea 3.2.0's log").expect("a section").1;
    let example = section.split_once("```json").expect("an example").1;
    let example = example.split_once("```").expect("its end").0;
    let logger: Value = serde_json::from_str(example).expect("JSON");
    // Does a lease, a query, a command and a tick.
    let used = |setup: Setup| {
        let kea = setup.start();
        lease_two(&kea);
        eventually("a tick", || statistics(&kea)["blq4-queries"] > 0);
        kea
    };
    let with = used(Setup::with_hook(json!({})).logger(logger.clone()));
    let log = with.log();
    assert!(!log.contains(WARNING), "{log}");
    for id in ["DHCP4_STARTED", "COMMAND_RECEIVED", "BLQ_LOADED"] {
        assert!(log.contains(id), "{id} in {log}");
    }
    if kea_version() == "3.2.0" {
        used(Setup::with_hook(json!({}))).await_log(WARNING);
        // Lower severities of this logger would come to the same file.
        let mut lower = logger;
        lower["severity"] = json!("WARN");
        used(Setup::with_hook(json!({})).logger(lower)).await_log(WARNING);
    }
}
