//! The text of a status for readers.

use std::fmt::{Display, Write};

use blq::status::{Handshakes, Status};
use blq::text::escape;

use crate::cells::utc;

/// Returns the text of a status: a line for each part.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14} {value}");
    };
    match &status.reason {
        Some(reason) => line(
            "State",
            &format_args!("{}: {}", status.state, escape(reason)),
        ),
        None => line("State", &status.state),
    }
    for listener in &status.listeners {
        let address = format!("{}:{}", listener.address, listener.port);
        match &listener.error {
            Some(error) => line(
                "Not listening",
                &format_args!("{address}: {}", escape(error)),
            ),
            None => line("Listening", &address),
        }
    }
    if let Some(connections) = &status.connections {
        line(
            "Connections",
            &format_args!("{} of {}", connections.open, connections.limit),
        );
        match (connections.active, connections.active_limit) {
            (None, _) | (Some(0), None | Some(0)) => {}
            (Some(active), None) => line(" active", &active),
            (Some(active), Some(limit)) => line(" active", &format_args!("{active} of {limit}")),
        }
    }
    if let Some(tls) = &status.tls {
        let Handshakes { completed, failed } = tls.handshakes;
        line(
            "TLS",
            &format_args!(
                "{}; handshakes completed {completed}, failed {failed}",
                escape(&tls.mode)
            ),
        );
        let is_past = |end: u64| end < status.time;
        if let Some(ends) = tls.cert_file.ends {
            let how = match (is_past(ends), tls.cert_file.ends_soon) {
                (true, _) => "HAS ENDED",
                (false, true) => "ENDS SOON,",
                (false, false) => "ends",
            };
            line(" cert-file", &format_args!("{how} at {}", utc(ends)));
        }
        if let Some(ends) = tls.trust_anchor.ends {
            let how = if is_past(ends) { "HAS ENDED" } else { "ends" };
            line(" trust-anchor", &format_args!("{how} at {}", utc(ends)));
        }
        if let Some(next) = tls.crl_file.as_ref().and_then(|file| file.next_update) {
            let how = if is_past(next) { "WAS DUE" } else { "due" };
            let next = utc(next);
            line(" crl-file", &format_args!("next list {how} at {next}"));
        }
    }
    let queries = &status.queries;
    line(
        "Queries",
        &format_args!(
            "{}; refused {}, malformed {}, terminated {}",
            queries.received, queries.refused, queries.malformed, queries.terminated
        ),
    );
    line(
        "Peers refused",
        &format_args!(
            "{} not in requesters, {} over a limit",
            queries.connections_not_permitted, queries.connections_over_limit
        ),
    );
    line(
        "Sent",
        &format_args!(
            "{} messages, {} octets",
            queries.messages_sent, queries.octets_sent
        ),
    );
    if let Some(bindings) = &status.bindings {
        match &bindings.total {
            Some(total) => line("Bindings", total),
            None => line("Bindings", &"unknown"),
        }
        if let Some(census) = &bindings.census {
            let states = census.by_state.iter().filter(|(_, count)| **count > 0);
            let states: Vec<String> = states
                .map(|(state, count)| format!("{state} {count}"))
                .collect();
            line(" by state", &join(&states));
            let vpns = census
                .by_vpn
                .iter()
                .map(|vpn| format!("{} {}", escape(vpn.label()), vpn.bindings));
            line(" by VPN", &join(&vpns.collect::<Vec<String>>()));
            line(
                " free",
                &format_args!("{} configured addresses", census.free_addresses),
            );
        }
    }
    if let Some(coverage) = &status.coverage {
        line(
            "Option 82",
            &format_args!(
                "{} of {} active bindings; remote-id {}, relay-id {}",
                coverage.with_relay_agent_information,
                coverage.active,
                coverage.with_remote_id,
                coverage.with_relay_id
            ),
        );
        let without = &coverage.without;
        if without.not_stored_and_no_message_yet > 0 {
            line(
                "",
                &format_args!(
                    "{} not stored by Kea: see store-extended-info",
                    without.not_stored_and_no_message_yet
                ),
            );
        }
    }
    if let Some(estimate) = &status.memory.estimate {
        line(
            "Memory",
            &format_args!(
                "about {} octets for the bindings, {} for indexes",
                estimate.bindings, estimate.indexes
            ),
        );
    }
    if let Some(load) = &status.load {
        match load.seconds {
            Some(seconds) => line(
                "Initial load",
                &format_args!("{} leases in {seconds} s", load.leases),
            ),
            None => line(
                "Initial load",
                &format_args!("{} leases so far", load.leases),
            ),
        }
    }
    if let Some(resync) = &status.resync {
        let last = match (resync.in_progress, resync.last_ended) {
            (true, _) => "in progress".to_owned(),
            (_, Some(ended)) => format!("ended at {}", utc(ended.into())),
            _ => "none yet".to_owned(),
        };
        let failing = if resync.failing { "; FAILING" } else { "" };
        line(
            "Resync",
            &format_args!("{last}; {} differences{failing}", resync.differences),
        );
    }
    if let Some(file) = &status.state_file {
        let path = escape(&file.path);
        match &file.error {
            Some(error) => line(
                "State file",
                &format_args!("{path}: CANNOT BE WRITTEN: {}", escape(error)),
            ),
            None => line("State file", &path),
        }
    }
    if let Some(since) = status.history_since {
        line("History", &format_args!("since {}", utc(since.into())));
    }
    line(
        "Versions",
        &format_args!(
            "kea-blq {}, Kea {}",
            status.versions.hook, status.versions.kea
        ),
    );
    text
}

/// Returns a list with commas; `none` if it is empty.
fn join(list: &[String]) -> String {
    match list {
        [] => "none".to_owned(),
        list => list.join(", "),
    }
}
