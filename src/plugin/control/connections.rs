//! The commands `blq4-connections` and `blq4-disconnect`.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::plugin::control::answer::Answer;
use crate::server::{ConnectionState, Monitor};

/// Lists the open connections.
pub fn list(monitor: &Monitor) -> Answer {
    let connections: Vec<Value> = monitor.connections().iter().map(connection).collect();
    let text = match connections.len() {
        0 => "no connections are open".to_owned(),
        1 => "1 connection is open".to_owned(),
        count => format!("{count} connections are open"),
    };
    let is_empty = connections.is_empty();
    let arguments = json!({ "count": connections.len(), "connections": connections });
    match is_empty {
        true => Answer::Empty(text, arguments),
        false => Answer::Success(text, arguments),
    }
}

/// Describes a connection.
fn connection(state: &ConnectionState) -> Value {
    json!({
        "address": state.peer.ip().to_string(),
        "port": state.peer.port(),
        "local-address": state.local.to_string(),
        "since": state.since.0,
        "type": if state.is_active { "active" } else { "bulk" },
        "tls-version": state.tls.as_ref().map(|tls| tls.version),
        "tls-name": state.tls.as_ref().and_then(|tls| tls.name.as_deref()),
        "queries-in-progress": state.queries,
        "messages-sent": state.messages,
        "octets-sent": state.octets,
        "blocked-for": state.blocked_for.unwrap_or(0),
    })
}

/// Ends the connections from an address, or the one from that port.
pub fn disconnect(monitor: &Monitor, address: Ipv4Addr, port: Option<u16>) -> Answer {
    let count = monitor.disconnect(address, port);
    let peer = match port {
        Some(port) => format!("{address} port {port}"),
        None => address.to_string(),
    };
    let arguments = json!({ "count": count });
    if count == 0 {
        return Answer::Empty(format!("no connection from {peer} is open"), arguments);
    }
    tracing::info!(
        id = "BLQ_DISCONNECTED",
        "{count} connections from {peer} end by the command blq4-disconnect"
    );
    let text = match count {
        1 => format!("1 connection from {peer} ends"),
        _ => format!("{count} connections from {peer} end"),
    };
    Answer::Success(text, arguments)
}
