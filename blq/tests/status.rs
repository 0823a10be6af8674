//! `blq status` against a Kea in the test: a control socket that sends one answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

/// Runs `blq status` with these arguments against a Kea that sends `answer` and keeps the connection open.
fn status(arguments: &[&str], answer: String) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let kea = kea(UnixListener::bind(&path).unwrap(), answer);
    let output = command(&path).args(arguments).output().unwrap();
    assert_eq!(kea.join().unwrap(), json!({ "command": "blq4-status" }));
    output
}

/// Returns the command for a control socket.
fn command(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blq"));
    command.arg("status").arg("--socket").arg(socket);
    command
}

/// Serves one connection, and returns the command received.
fn kea(listener: UnixListener, answer: String) -> JoinHandle<Value> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        serde_json::from_str(&received).unwrap()
    })
}

/// Returns an answer with everything; the name of one VPN is hostile.
fn full() -> Value {
    json!({ "result": 0, "text": "Bulk Leasequery is served", "arguments": {
        "state": "serving",
        "reason": null,
        "time": 1_700_000_000,
        "versions": { "hook": "0.1.0", "kea": "3.0.3", "hooks-interface": 30_003 },
        "queries": {
            "received": 12, "refused": 1, "malformed": 2, "terminated": 3, "not-queries": 4,
            "messages-sent": 500, "octets-sent": 150_000, "connections-accepted": 5,
            "connections-not-permitted": 6, "connections-over-limit": 7,
        },
        "udp-queries": {
            "received": 18, "active": 4, "unassigned": 2, "unknown": 1,
            "dropped": {
                "parse-failed": 3, "rfc-violation": 2, "admin-filtered": 1, "limit-exceeded": 1,
                "not-for-us": 3, "processing-failed": 1,
            },
        },
        "bulk-query-enabled": true,
        "udp-query-enabled": true,
        "listeners": [
            { "address": "192.0.2.1", "port": 67, "protocol": "tcp", "listening": true, "error": null },
            { "address": "192.0.2.2", "port": 67, "protocol": "tcp", "listening": false,
              "error": "Address not available" },
        ],
        "connections": { "open": 2, "limit": 10, "active": 3, "active-limit": 20 },
        "tls": {
            "mode": "allowed",
            "cert-required": true,
            "trust-anchor": { "path": "/etc/kea/ca.pem", "certificates": 2, "ends": 1_900_000_000 },
            "cert-file": {
                "path": "/etc/kea/server.pem", "certificates": 1, "names": ["dhcp.example.net"],
                "ends": 1_701_000_000, "ends-soon": true,
            },
            "key-file": { "path": "/etc/kea/server.key" },
            "crl-file": { "path": "/etc/kea/crl.pem", "lists": 4, "next-update": 1_699_000_000 },
            "handshakes": { "completed": 11, "failed": 13 },
        },
        "bindings": {
            "total": 100,
            "census": {
                "at": 1_699_999_990, "age": 10, "bindings": 99,
                "by-state": {
                    "available": 0, "active": 90, "expired": 0, "released": 9, "abandoned": 0,
                    "reset": 0, "remote": 0, "transitioning": 0,
                },
                "by-vpn": [
                    { "type": "default", "bindings": 60, "active": 55 },
                    { "type": "name", "name": "b\"\\\u{202e}", "bindings": 39, "active": 35 },
                ],
                "free-addresses": 156,
                "indexes": {
                    "mac": 90, "client-id": 85, "remote-id": 70, "relay-id": 60, "time": 99,
                },
            },
        },
        "coverage": {
            "active": 90, "with-relay-agent-information": 80, "with-remote-id": 70, "with-relay-id": 60,
            "without": { "total": 10, "message-without-option-82": 7, "not-stored-and-no-message-yet": 3 },
        },
        "memory": { "estimate": { "bindings": 20_000, "indexes": 3_000, "total": 23_000 },
                    "process-resident": 50_000_000 },
        "load": { "began": 1_699_990_000, "leases": 95, "complete": true, "seconds": 0.25, "from": "start" },
        "resync": { "interval": 300, "in-progress": false, "last-ended": 1_699_999_900, "last-seconds": 0.5,
                    "failing": false, "differences": 8 },
        "state-file": { "path": "/var/lib/kea/kea-blq.state", "healthy": true, "last-written": 1_699_999_999,
                        "octets": 4_096, "failing-since": null, "error": null },
        "history-since": 1_690_000_000,
    } })
}

/// Returns the place of each number below a value, as a JSON pointer.
fn numbers(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(place),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                numbers(value, format!("{place}/{index}"), found);
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                numbers(value, format!("{place}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// Returns the metrics of an answer.
fn metrics(answer: &Value) -> String {
    let status = blq::status::Status::read(answer["arguments"].clone());
    status.unwrap().metrics()
}

/// Returns the output of a successful run.
fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the error of a run that failed for want of an answer.
fn stderr(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn prints_the_parts_of_the_status() {
    let text = stdout(&status(&[], full().to_string()));
    for line in [
        "State          serving",
        "Listening      192.0.2.1:67",
        "Not listening  192.0.2.2:67: Address not available",
        "Connections    2 of 10",
        " active        3 of 20",
        "TLS            allowed; handshakes completed 11, failed 13",
        " cert-file     ENDS SOON, at 2023-11-26T12:00:00Z",
        " trust-anchor  ends at 2030-03-17T17:46:40Z",
        " crl-file      next list WAS DUE at 2023-11-03T08:26:40Z",
        "Queries        12; refused 1, malformed 2, terminated 3",
        " by state      active 90, released 9",
        " by VPN        default 60, b\"\\\\u{202e} 39",
        "Option 82      80 of 90 active bindings; remote-id 70, relay-id 60",
        "Resync         ended at 2023-11-14T22:11:40Z; 8 differences",
        "Versions       kea-blq 0.1.0, Kea 3.0.3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

/// The text format of Prometheus 0.0.4.
#[test]
fn prints_metrics() {
    let text = stdout(&status(&["--prometheus"], full().to_string()));
    for line in [
        "# TYPE blq4_queries_total counter",
        "blq4_queries_total 12",
        "blq4_connections 2",
        "blq4_active_connections 3",
        "blq4_active_connections_limit 20",
        "# TYPE blq4_tls_certificate_end_timestamp_seconds gauge",
        "blq4_tls_certificate_end_timestamp_seconds{file=\"cert-file\"} 1701000000",
        "blq4_tls_certificate_end_timestamp_seconds{file=\"trust-anchor\"} 1900000000",
        "blq4_tls_revocation_list_next_update_timestamp_seconds 1699000000",
        "# TYPE blq4_tls_handshakes_total counter",
        "blq4_tls_handshakes_total{result=\"completed\"} 11",
        "blq4_tls_handshakes_total{result=\"failed\"} 13",
        "blq4_queries_failed_total{status=\"MalformedQuery\"} 2",
        "blq4_udp_replies_total{type=\"unassigned\"} 2",
        "blq4_udp_dropped_total{reason=\"admin-filtered\"} 1",
        "# TYPE blq4_bindings gauge",
        "blq4_bindings 100",
        "blq4_bindings_by_state{state=\"active\"} 90",
        "blq4_bindings_by_vpn{type=\"name\",vpn=\"b\\\"\\\\\u{202e}\"} 39",
        "blq4_state{state=\"serving\"} 1",
        "blq4_state{state=\"failed\"} 0",
        "blq4_listening{address=\"192.0.2.2\",port=\"67\"} 0",
        "blq4_load_seconds 0.25",
        "blq4_resync_timestamp_seconds 1699999900",
        "blq4_state_file_healthy 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each family once");
}

#[test]
fn the_answer_of_the_tests_is_that_of_the_schema() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text = std::fs::read_to_string(docs.join("commands/blq4-status.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let answer = full();
    let errors: Vec<String> = schema
        .iter_errors(&answer)
        .map(|error| format!("{error} at {}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Each number of the answer, changed to one that occurs nowhere else, is in the output.
#[test]
fn prints_each_number_of_the_answer_as_a_metric() {
    const UNIQUE: u32 = 4_123_456_789;
    // Numbers that others give, and parts of labels.
    let others = [
        "/versions/hooks-interface",
        "/listeners/0/port",
        "/listeners/1/port",
        "/bindings/census/at",
        "/bindings/census/bindings",
        "/coverage/without/total",
        "/memory/estimate/total",
    ];
    let mut answer = full();
    answer["arguments"]["state-file"]["failing-since"] = json!(1_699_999_998);
    let mut places = Vec::new();
    numbers(&answer["arguments"], String::new(), &mut places);
    let value = format!(" {UNIQUE}");
    let mut missing = Vec::new();
    for place in places {
        let mut changed = answer.clone();
        let number = changed["arguments"].pointer_mut(&place).unwrap();
        if others.contains(&&*place) {
            continue;
        }
        *number = UNIQUE.into();
        let text = metrics(&changed);
        let is_value = |line: &str| !line.starts_with('#') && line.ends_with(&value);
        if !text.lines().any(is_value) {
            missing.push(place);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// An older hook does not have the numbers of active connections; TLS may be off, and have no revocation lists.
#[test]
fn prints_nothing_about_parts_that_are_absent() {
    let mut answer = full();
    answer["arguments"]["tls"]["crl-file"] = Value::Null;
    answer["arguments"]["tls"]["cert-file"]["ends"] = Value::Null;
    let text = metrics(&answer);
    assert!(text.contains("blq4_tls_certificate_end"), "{text}");
    assert!(!text.contains("{file=\"cert-file\"} 17"), "{text}");
    assert!(!text.contains("revocation"), "{text}");
    answer["arguments"]["tls"] = Value::Null;
    answer["arguments"]["connections"] = json!({ "open": 2, "limit": 10 });
    let text = metrics(&answer);
    assert!(text.contains("blq4_connections 2\n"), "{text}");
    assert!(!text.contains("active_connections"), "{text}");
    assert!(!text.contains("tls"), "{text}");
    let text = stdout(&status(&[], answer.to_string()));
    for name in ["TLS", " active", " cert-file"] {
        assert!(!text.lines().any(|line| line.starts_with(name)), "{text}");
    }
    let arguments = answer["arguments"].as_object_mut().unwrap();
    arguments.remove("tls");
    assert!(!metrics(&answer).contains("tls"));
}

/// While leases are loaded there is no number of bindings.
#[test]
fn prints_the_state_while_leases_are_loaded() {
    let mut answer = full();
    answer["arguments"]["state"] = "loading".into();
    answer["arguments"]["bindings"] = json!({ "total": null, "census": null });
    let text = stdout(&status(&[], answer.to_string()));
    assert!(text.contains("Bindings       unknown\n"), "{text}");
    let text = metrics(&answer);
    assert!(text.contains("blq4_state{state=\"loading\"} 1\n"), "{text}");
    assert!(!text.contains("blq4_bindings"), "{text}");
}

/// Ends are compared with the time of the answer.
#[test]
fn prints_certificates_that_have_ended() {
    let mut answer = full();
    answer["arguments"]["time"] = json!(1_900_000_001);
    let text = stdout(&status(&[], answer.to_string()));
    for line in [
        " cert-file     HAS ENDED at 2023-11-26T12:00:00Z",
        " trust-anchor  HAS ENDED at 2030-03-17T17:46:40Z",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

/// Each metric of the dashboard and of the page about monitoring is in the output.
#[test]
fn prints_every_metric_that_is_documented() {
    let text = stdout(&status(&["--prometheus"], full().to_string()));
    let printed = |name: &str| {
        let mut types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.any(|family| family.split(' ').next() == Some(name))
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for file in ["grafana/kea-blq.json", "monitoring.md"] {
        let text = std::fs::read_to_string(docs.join(file)).unwrap();
        let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let words = text.split(|character| !is_name(character));
        let names: Vec<&str> = words.filter(|word| word.starts_with("blq4_")).collect();
        assert!(names.len() > 5, "{file}");
        for name in names {
            assert!(printed(name), "{name} in {file}");
        }
    }
}

#[test]
fn prints_the_arguments_of_the_answer() {
    let text = stdout(&status(&["--json"], full().to_string()));
    let printed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed, full()["arguments"]);
}

/// A stopped instance has neither bindings nor listeners.
#[test]
fn prints_what_there_is_of_a_stopped_service() {
    let mut answer = full();
    let arguments = &mut answer["arguments"];
    arguments["state"] = "stopped".into();
    arguments["reason"] = "Bulk Leasequery is not served: no configuration".into();
    arguments["listeners"] = json!([]);
    arguments["memory"]["estimate"] = Value::Null;
    for part in [
        "connections",
        "tls",
        "bindings",
        "coverage",
        "load",
        "resync",
        "state-file",
        "history-since",
    ] {
        arguments[part] = Value::Null;
    }
    let text = stdout(&status(&[], answer.to_string()));
    let first = "State          stopped: Bulk Leasequery is not served: no configuration\n";
    assert!(text.starts_with(first), "{text}");
    let text = stdout(&status(&["--prometheus"], answer.to_string()));
    assert!(text.contains("blq4_state{state=\"stopped\"} 1\n"), "{text}");
    assert!(!text.contains("blq4_bindings"), "{text}");
}

#[test]
fn names_the_cause_of_a_failure() {
    for (answer, expected) in [
        (
            json!({ "result": 2, "text": "'blq4-status' command not supported." }).to_string(),
            "libdhcp_blq.so",
        ),
        (
            json!({ "result": 1, "text": "no\u{202e}" }).to_string(),
            "Kea: no\\u{202e}",
        ),
        (
            json!({ "result": 0, "arguments": { "state": 1 } }).to_string(),
            "not that of blq4-status",
        ),
        ("[".to_owned(), "not that of blq4-status"),
        (String::new(), "not that of blq4-status"),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
            "not that of blq4-status",
        ),
    ] {
        let error = stderr(&status(&[], answer));
        assert!(error.contains(expected), "{expected} in {error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let output = command(&path).output().unwrap();
    assert!(stderr(&output).contains("--socket"), "{output:?}");
    // The socket of a Kea that has ended.
    drop(UnixListener::bind(&path).unwrap());
    let output = command(&path).output().unwrap();
    assert!(
        stderr(&output).contains("is kea-dhcp4 running?"),
        "{output:?}"
    );
}
