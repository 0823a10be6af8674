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
            "received": 9, "active": 4, "unassigned": 2, "unknown": 1,
            "dropped": { "admin-filtered": 1, "rfc-violation": 1 },
        },
        "bulk-query-enabled": true,
        "udp-query-enabled": true,
        "listeners": [
            { "address": "192.0.2.1", "port": 67, "protocol": "tcp", "listening": true, "error": null },
            { "address": "192.0.2.2", "port": 67, "protocol": "tcp", "listening": false,
              "error": "Address not available" },
        ],
        "connections": { "open": 2, "limit": 10 },
        "bindings": {
            "total": 100,
            "census": {
                "at": 1_699_999_990, "age": 10, "bindings": 99,
                "by-state": { "active": 90, "released": 9, "expired": 0 },
                "by-vpn": [
                    { "type": "default", "bindings": 60, "active": 55 },
                    { "type": "name", "name": "b\"\\\u{202e}", "bindings": 39, "active": 35 },
                ],
                "free-addresses": 156,
                "indexes": { "mac": 90, "time": 99 },
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
