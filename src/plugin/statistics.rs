//! The statistics of the plugin among those of Kea.
//!
//! Counters go on from one configuration to the next, because the library stays in memory. They are set on Kea's
//! main thread, about once a second, and only if they changed: Kea's statistics take a lock and keep samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::plugin::kea::Kea;
use crate::query::udp::DropKind;
use crate::server::{Counts, UdpCounts};

/// The least time from one update to the next.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The number of statistics.
const COUNT: usize = 13;

/// The names, in the order of [`Values`].
pub const NAMES: [&str; COUNT] = [
    "blq4-connections",
    "blq4-active-connections",
    "blq4-bindings",
    "blq4-connections-accepted",
    "blq4-connections-refused",
    "blq4-queries",
    "blq4-queries-refused",
    "blq4-queries-malformed",
    "blq4-queries-terminated",
    "blq4-messages-sent",
    "blq4-octets-sent",
    "blq4-resync-differences",
    "blq4-udp-dropped",
];

/// Kea's own statistics of leasequeries, which Kea has from 3.1.5 on, and of messages. This library counts the
/// messages that it takes from Kea. They are added to, because Kea and other libraries count, too.
const KEA_NAMES: [&str; KEA_COUNT] = [
    "pkt4-lease-query-received",
    "pkt4-lease-query-response-active-sent",
    "pkt4-lease-query-response-unassigned-sent",
    "pkt4-lease-query-response-unknown-sent",
    "pkt4-sent",
    "pkt4-receive-drop",
    // In the order of `DropKind::ALL`.
    "pkt4-parse-failed",
    "pkt4-rfc-violation",
    "pkt4-admin-filtered",
    "pkt4-limit-exceeded",
    "pkt4-not-for-us",
    "pkt4-processing-failed",
];

/// The number of [`KEA_NAMES`].
const KEA_COUNT: usize = FIRST_REASON + DropKind::ALL.len();

/// The number of those that exist from the start on.
const CREATED: usize = 4;

/// The index of the first reason.
const FIRST_REASON: usize = 6;

/// The index of the first reason that only some versions of Kea count: all but the first one.
const FIRST_NEW_REASON: usize = FIRST_REASON + 1;

/// The first version that counts the reasons for which messages are dropped.
const FIRST_WITH_REASONS: u32 = 3_01_04;

/// The index of the first counter: those before are numbers of present things, which a reset does not change.
const FIRST_COUNTER: usize = 3;

/// The totals since the start of the process.
#[derive(Debug, Default)]
pub struct Totals {
    /// Counters of the server.
    pub counts: Arc<Counts>,
    /// Changes that the resync has found.
    pub resync_differences: AtomicU64,
}

/// The numbers of present things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Open connections.
    pub connections: u64,
    /// Open connections with an active query.
    pub active_connections: u64,
    /// Bindings; `None` leaves the statistic as it is, while they are not known.
    pub bindings: Option<u64>,
}

/// The values of all statistics; `None` for a value that is not known.
type Values = [Option<u64>; COUNT];

/// The statistics in Kea.
#[derive(Debug, Default)]
pub struct Statistics {
    /// The values in Kea; `None` if there is none.
    published: Values,
    /// The totals of the counters when Kea last reset them.
    base: [u64; COUNT],
    /// The time of the next update.
    next: Option<Instant>,
    /// The totals that Kea's own statistics have.
    added: [u64; KEA_COUNT],
    /// Whether an error has been logged since the last success.
    has_failed: bool,
}

/// Commands of Kea that change statistics, and that the next update takes into account.
#[derive(Debug, Default)]
pub struct Requests(Mutex<Pending>);

/// The statistics that Kea has changed.
#[derive(Debug, Default)]
struct Pending {
    /// Statistics reset to 0.
    reset: [bool; COUNT],
    /// Statistics removed.
    removed: [bool; COUNT],
    /// Whether any others were removed.
    are_others_removed: bool,
}

/// Whether a command of this name changes statistics: its arguments are worth reading.
pub fn may_change(name: &str) -> bool {
    matches!(
        name,
        "statistic-reset" | "statistic-reset-all" | "statistic-remove" | "statistic-remove-all"
    )
}

impl Requests {
    /// Records a command that Kea has processed, with its arguments as JSON text.
    pub fn commanded(&self, name: &str, arguments: &[u8]) {
        let arguments: Value = serde_json::from_slice(arguments).unwrap_or_default();
        let is_meant = |statistic: &str| name.ends_with("-all") || arguments["name"] == statistic;
        let mut pending = self.0.lock();
        let Pending { reset, removed, .. } = &mut *pending;
        let marks = match name.starts_with("statistic-reset") {
            true => reset,
            false => removed,
        };
        for (mark, statistic) in marks.iter_mut().zip(NAMES) {
            *mark |= is_meant(statistic);
        }
        pending.are_others_removed |= name.starts_with("statistic-remove");
    }
}

impl Totals {
    /// Returns the values of all statistics.
    fn values(&self, present: Present) -> Values {
        let counts = &self.counts;
        let read = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed));
        [
            Some(present.connections),
            Some(present.active_connections),
            present.bindings,
            read(&counts.connections_accepted),
            Some(
                counts.connections_refused.load(Ordering::Relaxed)
                    + counts.connections_over_limit.load(Ordering::Relaxed),
            ),
            read(&counts.queries),
            read(&counts.queries_not_allowed),
            read(&counts.queries_malformed),
            read(&counts.queries_terminated),
            read(&counts.messages_sent),
            read(&counts.octets_sent),
            read(&self.resync_differences),
            Some(dropped(counts).iter().sum()),
        ]
    }

    /// Returns the totals of [`KEA_NAMES`].
    fn kea_values(&self) -> [u64; KEA_COUNT] {
        let UdpCounts {
            received,
            active,
            unassigned,
            unknown,
            ..
        } = &self.counts.udp;
        let sent = [active, unassigned, unknown].map(|counter| counter.load(Ordering::Relaxed));
        let dropped = dropped(&self.counts);
        let [active, unassigned, unknown] = sent;
        let received = received.load(Ordering::Relaxed);
        let mut values = [0; KEA_COUNT];
        let totals = [
            received,
            active,
            unassigned,
            unknown,
            sent.iter().sum(),
            dropped.iter().sum(),
        ];
        for (value, total) in values.iter_mut().zip(totals.into_iter().chain(dropped)) {
            *value = total;
        }
        values
    }
}

/// Returns the queries over UDP without a reply, by the reason.
fn dropped(counts: &Counts) -> [u64; DropKind::ALL.len()] {
    let mut totals = [0; DropKind::ALL.len()];
    for (total, counter) in totals.iter_mut().zip(&counts.udp.dropped) {
        *total = counter.load(Ordering::Relaxed);
    }
    totals
}

impl Statistics {
    /// Updates the statistics in Kea if it is time, or always if `is_forced`.
    pub fn update(
        &mut self,
        kea: &impl Kea,
        totals: &Totals,
        requests: &Requests,
        present: Present,
        is_forced: bool,
    ) {
        let now = kea.now();
        if !is_forced && self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + INTERVAL);
        let Pending {
            reset,
            removed,
            are_others_removed,
        } = std::mem::take(&mut *requests.0.lock());
        let values = totals.values(present);
        // Kea's own hook removes some when it is unloaded, at a reload; a command may remove any.
        let may_be_missing = is_forced || are_others_removed;
        self.add(kea, totals.kea_values(), may_be_missing);
        for (index, name) in NAMES.iter().enumerate() {
            let is_counter = index >= FIRST_COUNTER;
            if reset[index] {
                if is_counter {
                    self.base[index] += self.published[index].unwrap_or_default();
                }
                self.published[index] = Some(0);
            }
            if removed[index] {
                self.published[index] = None;
            }
            let known = values[index].map(|value| value.saturating_sub(self.base[index]));
            // A statistic exists from the first update on.
            let value = known.or(self.published[index]).unwrap_or_default();
            if self.published[index] == Some(value) {
                continue;
            }
            match kea.set_statistic(name, value) {
                Ok(()) => {
                    self.published[index] = Some(value);
                    self.has_failed = false;
                }
                Err(error) if !self.has_failed => {
                    self.has_failed = true;
                    tracing::warn!(
                        id = "BLQ_STATISTICS_FAILED",
                        "{name}: {error}; trying again"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Adds the new counts to Kea's own statistics. Those of leasequeries exist from the first update on; if they
    /// `may_be_missing`, they are created.
    fn add(&mut self, kea: &impl Kea, totals: [u64; KEA_COUNT], may_be_missing: bool) {
        let added = &mut self.added;
        for (index, name) in KEA_NAMES.iter().enumerate() {
            let is_known = index < FIRST_NEW_REASON || kea.version() >= FIRST_WITH_REASONS;
            let difference = totals[index].saturating_sub(added[index]);
            let is_created = may_be_missing && index < CREATED;
            // A failure is logged for the statistics of this library, and the difference stays.
            if is_known
                && (difference > 0 || is_created)
                && kea.add_statistic(name, difference).is_ok()
            {
                added[index] = totals[index];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fake::FakeKea;

    #[test]
    fn the_reasons_of_drops_are_in_keas_statistics_from_the_version_that_has_them() {
        for (version, has_reasons) in [
            (3_00_03, false),
            (3_01_03, false),
            (3_01_04, true),
            (3_02_00, true),
        ] {
            let kea = FakeKea::new();
            kea.with(|state| state.version = version);
            let mut totals = [0; KEA_COUNT];
            totals[FIRST_REASON..].fill(2);
            Statistics::default().add(&kea, totals, true);
            let found = kea.with(|state| state.statistics.clone());
            let found = |name: &str| found.get(name).copied();
            assert_eq!(found("pkt4-lease-query-received"), Some(0));
            assert_eq!(found("pkt4-parse-failed"), Some(2));
            for name in &KEA_NAMES[FIRST_NEW_REASON..] {
                assert_eq!(found(name), has_reasons.then_some(2), "{version} {name}");
            }
        }
    }
}
