//! The metrics of a status in Prometheus's text format.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{
    Bindings, Connections, Coverage, Load, Queries, Resync, StateFile, Status, Tls, UdpQueries,
};

/// The states of the service.
const STATES: [&str; 4] = ["serving", "loading", "failed", "stopped"];

/// Returns the metrics of a status.
pub fn text(status: &Status) -> String {
    let mut metrics = Metrics::default();
    let versions = [
        ("hook", &*status.versions.hook),
        ("kea", &*status.versions.kea),
    ];
    metrics.gauge("info", "Versions of the hook and of Kea", &versions, 1);
    let help = "Time of Kea's answer";
    metrics.number("answer_timestamp_seconds", help, status.time);
    for state in STATES {
        let is_current = u8::from(state == status.state);
        let help = "1 for the state of the service";
        metrics.gauge("state", help, &[("state", state)], is_current);
    }
    for listener in &status.listeners {
        let port = listener.port.to_string();
        let labels = [("address", &*listener.address), ("port", &*port)];
        let help = "Whether the server listens at an address";
        metrics.gauge("listening", help, &labels, u8::from(listener.listening));
    }
    metrics.queries(&status.queries);
    metrics.udp_queries(&status.udp_queries);
    if let Some(connections) = &status.connections {
        metrics.connections(connections);
    }
    if let Some(tls) = &status.tls {
        metrics.tls(tls);
    }
    if let Some(bindings) = &status.bindings {
        metrics.bindings(bindings);
    }
    if let Some(coverage) = &status.coverage {
        metrics.coverage(coverage);
    }
    if let Some(octets) = status.memory.process_resident {
        metrics.number(
            "process_resident_bytes",
            "Resident memory of kea-dhcp4",
            octets,
        );
    }
    if let Some(estimate) = &status.memory.estimate {
        for (part, octets) in [
            ("bindings", estimate.bindings),
            ("indexes", estimate.indexes),
        ] {
            let help = "Estimated memory of the mirror";
            metrics.gauge("memory_bytes", help, &[("part", part)], float(octets));
        }
    }
    if let Some(load) = &status.load {
        metrics.load(load);
    }
    if let Some(resync) = &status.resync {
        metrics.resync(resync);
    }
    if let Some(file) = &status.state_file {
        metrics.state_file(file);
    }
    if let Some(since) = status.history_since {
        let help = "Time since when changes are known";
        metrics.gauge("history_timestamp_seconds", help, &[], since);
    }
    let encoded = TextEncoder::new().encode_to_string(&metrics.0);
    // The encoder refuses families without a name or a value; each has both.
    encoded.unwrap_or_default()
}

/// Metrics in the order of their addition.
#[derive(Default)]
struct Metrics(Vec<MetricFamily>);

impl Metrics {
    /// Adds the counters of queries, which begin at 0 when Kea starts.
    fn queries(&mut self, queries: &Queries) {
        for (name, help, value) in [
            ("queries_total", "Queries read", queries.received),
            (
                "messages_sent_total",
                "Messages sent",
                queries.messages_sent,
            ),
            ("sent_bytes_total", "Octets sent", queries.octets_sent),
            (
                "connections_accepted_total",
                "Connections served",
                queries.connections_accepted,
            ),
        ] {
            self.counter(name, help, &[], value);
        }
        for (status, value) in [
            ("NotAllowed", queries.refused),
            ("MalformedQuery", queries.malformed),
            ("QueryTerminated", queries.terminated),
            ("none", queries.not_queries),
        ] {
            let help = "Messages without a complete answer, by the status sent";
            self.counter("queries_failed_total", help, &[("status", status)], value);
        }
        for (reason, value) in [
            ("not-permitted", queries.connections_not_permitted),
            ("over-limit", queries.connections_over_limit),
        ] {
            let help = "Connections refused, by reason";
            let labels = [("reason", reason)];
            self.counter("connections_refused_total", help, &labels, value);
        }
    }

    /// Adds the counters of queries over UDP.
    fn udp_queries(&mut self, queries: &UdpQueries) {
        let help = "Queries received over UDP";
        self.counter("udp_queries_total", help, &[], queries.received);
        for (message_type, value) in [
            ("active", queries.active),
            ("unassigned", queries.unassigned),
            ("unknown", queries.unknown),
        ] {
            let help = "Replies sent over UDP, by type";
            self.counter("udp_replies_total", help, &[("type", message_type)], value);
        }
        for (reason, value) in &queries.dropped {
            let help = "Queries over UDP without a reply, by reason";
            self.counter("udp_dropped_total", help, &[("reason", reason)], *value);
        }
    }

    /// Adds the numbers of connections.
    fn connections(&mut self, connections: &Connections) {
        let help = "Open connections without an active query";
        self.number("connections", help, connections.open);
        let help = "The most open connections without an active query";
        self.number("connections_limit", help, connections.limit);
        if let Some(active) = connections.active {
            let help = "Open connections with an active query";
            self.number("active_connections", help, active);
        }
        if let Some(limit) = connections.active_limit {
            let help = "The most connections with an active query, 0 if these are not enabled";
            self.number("active_connections_limit", help, limit);
        }
    }

    /// Adds the files and handshakes of TLS.
    fn tls(&mut self, tls: &Tls) {
        let (anchor, certificate) = (&tls.trust_anchor, &tls.cert_file);
        for (file, count, ends) in [
            ("trust-anchor", anchor.certificates, anchor.ends),
            ("cert-file", certificate.certificates, certificate.ends),
        ] {
            let labels = [("file", file)];
            let help = "Certificates by file";
            self.gauge("tls_certificates", help, &labels, float(count));
            if let Some(ends) = ends {
                let name = "tls_certificate_end_timestamp_seconds";
                let help = "End of the certificate that ends first, by file";
                self.gauge(name, help, &labels, float(ends));
            }
        }
        if let Some(file) = &tls.crl_file {
            let help = "Certificate revocation lists";
            self.number("tls_revocation_lists", help, file.lists);
            if let Some(next) = file.next_update {
                let name = "tls_revocation_list_next_update_timestamp_seconds";
                let help = "First time at which a next revocation list is to be issued";
                self.number(name, help, next);
            }
        }
        for (result, value) in [
            ("completed", tls.handshakes.completed),
            ("failed", tls.handshakes.failed),
        ] {
            let help = "TLS handshakes, by result";
            self.counter("tls_handshakes_total", help, &[("result", result)], value);
        }
    }

    /// Adds the numbers of bindings.
    fn bindings(&mut self, bindings: &Bindings) {
        if let Some(total) = bindings.total {
            self.number("bindings", "Bindings", total);
        }
        let Some(census) = &bindings.census else {
            return;
        };
        let help = "Age of the numbers by state, VPN and index";
        self.number("census_age_seconds", help, census.age);
        let help = "Configured addresses without a binding";
        self.number("free_addresses", help, census.free_addresses);
        for (state, count) in &census.by_state {
            let labels = [("state", &**state)];
            self.gauge(
                "bindings_by_state",
                "Bindings by state",
                &labels,
                float(*count),
            );
        }
        for vpn in &census.by_vpn {
            let labels = [("type", &*vpn.kind), ("vpn", vpn.label())];
            let (all, active) = (float(vpn.bindings), float(vpn.active));
            self.gauge("bindings_by_vpn", "Bindings by VPN", &labels, all);
            let help = "Active bindings by VPN";
            self.gauge("active_bindings_by_vpn", help, &labels, active);
        }
        for (index, count) in &census.indexes {
            let labels = [("index", &**index)];
            self.gauge(
                "index_entries",
                "Entries of each index",
                &labels,
                float(*count),
            );
        }
    }

    /// Adds the numbers of active bindings with and without option 82.
    fn coverage(&mut self, coverage: &Coverage) {
        let without = &coverage.without;
        self.number("active_bindings", "Active bindings", coverage.active);
        for (part, value) in [
            ("option-82", coverage.with_relay_agent_information),
            ("remote-id", coverage.with_remote_id),
            ("relay-id", coverage.with_relay_id),
        ] {
            let help = "Active bindings with option 82, and with identifiers in it";
            let labels = [("part", part)];
            self.gauge("active_bindings_with", help, &labels, float(value));
        }
        for (reason, value) in [
            (
                "message-without-option-82",
                without.message_without_option_82,
            ),
            ("not-stored", without.not_stored_and_no_message_yet),
        ] {
            let help = "Active bindings without option 82, by reason";
            let labels = [("reason", reason)];
            self.gauge("active_bindings_without", help, &labels, float(value));
        }
    }

    /// Adds the initial load.
    fn load(&mut self, load: &Load) {
        let help = "Whether the initial load is complete";
        self.gauge("load_complete", help, &[], u8::from(load.complete));
        let help = "Begin of the initial load";
        self.number("load_began_timestamp_seconds", help, load.began);
        let help = "Leases read by the initial load";
        self.number("load_leases", help, load.leases);
        if let Some(seconds) = load.seconds {
            self.gauge("load_seconds", "Duration of the initial load", &[], seconds);
        }
    }

    /// Adds the resync.
    fn resync(&mut self, resync: &Resync) {
        let help = "Changes found by comparison with Kea's lease database";
        self.counter("resync_differences_total", help, &[], resync.differences);
        let help = "Whether the last resync failed";
        self.gauge("resync_failing", help, &[], u8::from(resync.failing));
        if let Some(interval) = resync.interval {
            let help = "Interval between two resyncs";
            self.number("resync_interval_seconds", help, interval);
        }
        if let Some(ended) = resync.last_ended {
            let help = "End of the last resync";
            self.gauge("resync_timestamp_seconds", help, &[], ended);
        }
        if let Some(seconds) = resync.last_seconds {
            self.gauge(
                "resync_seconds",
                "Duration of the last resync",
                &[],
                seconds,
            );
        }
    }

    /// Adds the state file.
    fn state_file(&mut self, file: &StateFile) {
        let help = "Whether the state file can be written";
        self.gauge("state_file_healthy", help, &[], u8::from(file.healthy));
        if let Some(octets) = file.octets {
            self.number("state_file_bytes", "Size of the state file", octets);
        }
        if let Some(written) = file.last_written {
            let help = "Last write of the state file";
            self.gauge("state_file_timestamp_seconds", help, &[], written);
        }
        if let Some(since) = file.failing_since {
            let name = "state_file_failing_timestamp_seconds";
            let help = "First failed write of the state file since the last that succeeded";
            self.gauge(name, help, &[], since);
        }
    }

    /// Adds a gauge without labels.
    fn number(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(name, help, &[], float(value));
    }

    /// Adds a value of the gauge `blq4_NAME`.
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Into<f64>) {
        let mut gauge = Gauge::default();
        gauge.set_value(value.into());
        let mut metric = Metric::default();
        metric.set_gauge(gauge);
        self.add(MetricType::GAUGE, name, help, labels, metric);
    }

    /// Adds a value of the counter `blq4_NAME`.
    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let mut counter = Counter::default();
        counter.set_value(float(value));
        let mut metric = Metric::default();
        metric.set_counter(counter);
        self.add(MetricType::COUNTER, name, help, labels, metric);
    }

    /// Adds a value to the family of its name.
    fn add(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        mut metric: Metric,
    ) {
        let name = format!("blq4_{name}");
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        metric.set_label(pairs.collect());
        let families = self.0.iter_mut();
        if let Some(family) = families.into_iter().find(|family| family.name() == name) {
            return family.mut_metric().push(metric);
        }
        let mut family = MetricFamily::default();
        family.set_name(name);
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.mut_metric().push(metric);
        self.0.push(family);
    }
}

/// Returns a number as Prometheus has it. Above 2^53 it is rounded.
fn float(value: u64) -> f64 {
    value as f64
}
