//! The command `blq4-status`.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::mirror::{Census, Unready, VpnCount};
use crate::model::state::State;
use crate::model::time::Time;
use crate::plugin::control::answer::vpn;
use crate::plugin::observed::{LoadProgress, Observed, ResyncProgress};
use crate::plugin::statistics::Totals;
use crate::query::udp::DropKind;
use crate::server::{FileReport, Monitor, TlsContext, TlsReport};

/// All states, in the order of their values.
const STATES: [State; 8] = [
    State::Available,
    State::Active,
    State::Expired,
    State::Released,
    State::Abandoned,
    State::Reset,
    State::Remote,
    State::Transitioning,
];

/// Returns the text and the arguments of the answer. `observed` is the instance that runs, or the reason why none
/// does; parts that it would describe are null then.
pub fn status(
    observed: Result<&Observed, &String>,
    totals: &Totals,
    version: u32,
) -> (String, Value) {
    let (state, text) = state(observed);
    let now = Time::now();
    let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
    let mut status = json!({
        "state": state,
        "reason": (state != "serving").then_some(&text),
        "time": now.0,
        "versions": {
            "hook": env!("CARGO_PKG_VERSION"),
            "kea": format!("{major}.{minor}.{patch}"),
            "hooks-interface": version,
        },
        "queries": queries(totals),
        "udp-queries": udp_queries(totals),
        "bulk-query-enabled": null,
        "udp-query-enabled": null,
        "listeners": [],
        "connections": null,
        "tls": null,
        "bindings": null,
        "coverage": null,
        "memory": memory(None),
        "load": null,
        "resync": null,
        "state-file": null,
        "history-since": null,
    });
    if let (Ok(observed), Some(status)) = (observed, status.as_object_mut()) {
        let census = match observed.mirror.is_complete() {
            true => observed.census.census(),
            false => None,
        };
        let census = census.as_deref();
        let config = &observed.config;
        for (name, value) in [
            ("bulk-query-enabled", config.bulk_query_enabled.into()),
            ("udp-query-enabled", config.udp_query_enabled.into()),
            ("listeners", listeners(&observed.monitor)),
            ("connections", connections(observed)),
            ("tls", tls(observed, totals, now)),
            ("bindings", bindings(observed, census, now)),
            ("coverage", census.map(coverage).into()),
            ("memory", memory(census)),
            ("load", load(&observed.load.lock())),
            ("resync", resync(&observed.resync.lock(), totals)),
            ("state-file", state_file(observed)),
            ("history-since", history_since(observed)),
        ] {
            status.insert(name.to_owned(), value);
        }
    }
    (text, status)
}

/// Returns the state of the service, and a text about it.
fn state(observed: Result<&Observed, &String>) -> (&'static str, String) {
    let observed = match observed {
        Ok(observed) => observed,
        Err(reason) => {
            return (
                "stopped",
                format!("Bulk Leasequery is not served: {reason}"),
            );
        }
    };
    match observed.mirror.ready() {
        Ok(()) => ("serving", "Bulk Leasequery is served".to_owned()),
        Err(Unready::InitialLoad) => {
            let leases = observed.load.lock().leases;
            let text = format!("leases are being loaded, {leases} so far; queries wait");
            ("loading", text)
        }
        Err(Unready::Failed(failure)) => (
            "failed",
            format!("{failure}: reload the configuration or restart Kea"),
        ),
    }
}

/// Describes the numbers of connections, those with an active query apart from the others.
fn connections(observed: &Observed) -> Value {
    let Observed {
        monitor, config, ..
    } = observed;
    let active = monitor.active_count();
    json!({
        "open": monitor.connection_count().saturating_sub(active),
        "limit": config.max_connections,
        "active": active,
        "active-limit": config.active.as_ref().map_or(0, |active| active.max_connections),
    })
}

/// Describes the counters of queries and connections.
fn queries(totals: &Totals) -> Value {
    let counts = &totals.counts;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "received": read(&counts.queries),
        "refused": read(&counts.queries_not_allowed),
        "malformed": read(&counts.queries_malformed),
        "terminated": read(&counts.queries_terminated),
        "not-queries": read(&counts.unanswerable),
        "messages-sent": read(&counts.messages_sent),
        "octets-sent": read(&counts.octets_sent),
        "connections-accepted": read(&counts.connections_accepted),
        "connections-not-permitted": read(&counts.connections_refused),
        "connections-over-limit": read(&counts.connections_over_limit),
    })
}

/// Describes the counters of queries over UDP.
fn udp_queries(totals: &Totals) -> Value {
    let counts = &totals.counts.udp;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let dropped = DropKind::ALL.iter().zip(&counts.dropped);
    let dropped: Map<String, Value> = dropped
        .map(|(kind, counter)| (kind.name().to_owned(), read(counter).into()))
        .collect();
    json!({
        "received": read(&counts.received),
        "active": read(&counts.active),
        "unassigned": read(&counts.unassigned),
        "unknown": read(&counts.unknown),
        "dropped": dropped,
    })
}

/// Describes the listening addresses.
fn listeners(monitor: &Monitor) -> Value {
    let listeners = monitor.listeners().into_iter().map(|listener| {
        json!({
            "address": listener.address.ip().to_string(),
            "port": listener.address.port(),
            "protocol": "tcp",
            "listening": listener.error.is_none(),
            "error": listener.error,
        })
    });
    listeners.collect::<Vec<Value>>().into()
}

/// Describes the files of TLS; null if it is off.
fn tls(observed: &Observed, totals: &Totals, now: Time) -> Value {
    let Some(TlsReport {
        is_required,
        is_cert_required,
        trust_anchor,
        cert_file,
        names,
        key_file,
        crl_file,
    }) = observed.tls.as_deref().map(TlsContext::report)
    else {
        return Value::Null;
    };
    let seconds = |file: &FileReport| file.ends.as_ref().map(|end| end.seconds);
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "mode": if *is_required { "required" } else { "allowed" },
        "cert-required": is_cert_required,
        "trust-anchor": {
            "path": trust_anchor.path.to_string_lossy(),
            "certificates": trust_anchor.count,
            "ends": seconds(trust_anchor),
        },
        "cert-file": {
            "path": cert_file.path.to_string_lossy(),
            "certificates": cert_file.count,
            "names": names,
            "ends": seconds(cert_file),
            "ends-soon": cert_file.ends.as_ref().is_some_and(|end| end.is_near(now)),
        },
        "key-file": { "path": key_file.to_string_lossy() },
        "crl-file": crl_file.as_ref().map(|file| json!({
            "path": file.path.to_string_lossy(),
            "lists": file.count,
            "next-update": seconds(file),
        })),
        "handshakes": {
            "completed": read(&totals.counts.tls_started),
            "failed": read(&totals.counts.tls_failed),
        },
    })
}

/// Describes the bindings. Those by state and VPN are as of the census.
fn bindings(observed: &Observed, census: Option<&Census>, now: Time) -> Value {
    let counts = census.map(|census| {
        let by_state = STATES.map(|state| {
            let name = proto::State(state as u8).name().unwrap_or_default();
            (name.to_ascii_lowercase(), census.in_state(state).into())
        });
        let counted = |mut value: Value, count: &VpnCount| {
            value["bindings"] = count.bindings.into();
            value["active"] = count.active.into();
            value
        };
        let mut by_vpn: Vec<Value> = (census.vpns.iter())
            .map(|(name, count)| counted(vpn(name), count))
            .collect();
        for (kind, count) in [
            ("others", &census.other_vpns),
            ("unknown", &census.unknown_vpn),
        ] {
            if count.bindings > 0 {
                by_vpn.push(counted(json!({ "type": kind }), count));
            }
        }
        let indexes = &census.indexes;
        json!({
            "at": census.at.0,
            "age": now.seconds_since(census.at),
            "bindings": census.bindings,
            "by-state": Map::from_iter(by_state),
            "by-vpn": by_vpn,
            "free-addresses": census.free,
            "indexes": {
                "mac": indexes.mac,
                "client-id": indexes.client_id,
                "remote-id": indexes.remote_id,
                "relay-id": indexes.relay_id,
                "time": indexes.time,
            },
        })
    });
    json!({ "total": observed.mirror.count_now(), "census": counts })
}

/// Describes how many active bindings have relay agent information, and why others have none.
fn coverage(census: &Census) -> Value {
    let coverage = &census.coverage;
    json!({
        "active": coverage.active,
        "with-relay-agent-information": coverage.with_information,
        "with-remote-id": coverage.with_remote_id,
        "with-relay-id": coverage.with_relay_id,
        "without": {
            "total": coverage.active - coverage.with_information,
            "message-without-option-82": coverage.message_without_option,
            "not-stored-and-no-message-yet": coverage.no_message,
        },
    })
}

/// Describes the memory, in octets.
fn memory(census: Option<&Census>) -> Value {
    let estimate = census.map(|census| {
        let (bindings, indexes) = (census.binding_octets(), census.index_octets());
        json!({ "bindings": bindings, "indexes": indexes, "total": bindings + indexes })
    });
    json!({ "estimate": estimate, "process-resident": resident() })
}

/// Returns the resident memory of the process, in octets.
fn resident() -> Option<u64> {
    // A file of the kernel, not of a disk.
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Returns a duration in seconds, with milliseconds.
fn seconds(duration: Duration) -> f64 {
    // Far fewer than the integers that a float can hold.
    duration.as_millis() as f64 / 1_000.0
}

/// Describes the initial load.
fn load(load: &LoadProgress) -> Value {
    json!({
        "began": load.began.0,
        "leases": load.leases,
        "complete": load.took.is_some(),
        "seconds": load.took.map(seconds),
        "from": if load.is_reload { "reload" } else { "start" },
    })
}

/// Describes the resync.
fn resync(resync: &ResyncProgress, totals: &Totals) -> Value {
    json!({
        "interval": resync.interval.map(|interval| interval.as_secs()),
        "in-progress": resync.is_running,
        "last-ended": resync.last.map(|(ended, _)| ended.0),
        "last-seconds": resync.last.map(|(_, took)| seconds(took)),
        "failing": resync.has_failed,
        "differences": totals.resync_differences.load(Ordering::Relaxed),
    })
}

/// Describes the state file.
fn state_file(observed: &Observed) -> Value {
    let file = &observed.state_file;
    let state = file.state();
    json!({
        "path": file.path().to_string_lossy(),
        "healthy": state.failure.is_none(),
        "last-written": state.flushed.map(|flushed| flushed.0),
        "octets": state.octets,
        "failing-since": state.failure.as_ref().map(|(since, _)| since.0),
        "error": state.failure.map(|(_, error)| error),
    })
}

/// Returns the time since when changes are known.
fn history_since(observed: &Observed) -> Value {
    let since = observed.mirror.read(|table| table.history_since().0).ok();
    since.into()
}
