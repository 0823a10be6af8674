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
use crate::server::Counts;

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
        let Pending { reset, removed } = &mut *pending;
        let marks = match name.starts_with("statistic-reset") {
            true => reset,
            false => removed,
        };
        for (mark, statistic) in marks.iter_mut().zip(NAMES) {
            *mark |= is_meant(statistic);
        }
    }
}

impl Totals {
    /// Returns the values of all statistics.
    fn values(&self, present: Present) -> Values {
        let counts = &self.counts;
        let read = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed));
        [
            Some(present.connections),
            // No Active Leasequery is served.
            Some(0),
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
            // Nothing is answered over UDP.
            Some(0),
        ]
    }
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
        let Pending { reset, removed } = std::mem::take(&mut *requests.0.lock());
        let values = totals.values(present);
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
}
