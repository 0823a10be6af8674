//! Host reservations that are in databases: read again and again, a little at a time. Only where
//! Kea is configured to have such databases.

use std::time::{Duration, Instant};

use crate::kea_config::{ConfiguredOption, DatabaseReservation};
use crate::plugin::kea::{HostPosition, Kea, KeaError, Result};

/// From one reading of all reservations to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// Until an end that nobody waits for: a year.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many are read at once.
const AT_ONCE: usize = 100;
/// How much longer a pause is than the reading it follows: as for leases, Kea's main thread is
/// ours for a tenth of its time at most.
const PAUSES: u32 = 9;
/// How long to wait before a database is tried again after an error.
const RETRY: Duration = Duration::from_secs(5);

/// All reservations there are in databases, and their options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// The reservations, in the databases' order.
    pub hosts: Vec<DatabaseReservation>,
    /// Their options.
    pub options: Vec<ConfiguredOption>,
}

/// Reads them.
#[derive(Debug)]
pub struct Reader {
    /// What was read of them so far.
    read: Reservations,
    /// The position of the last one read.
    position: HostPosition,
    /// When to go on.
    next: Instant,
    /// From the end of one reading to the next; `None`: once only.
    interval: Option<Duration>,
    /// Whether it is asked to read again when it is done.
    is_asked: bool,
    /// Whether it failed last.
    failed: bool,
}

impl Reader {
    /// Begins at `now`; reads again after `interval`, in seconds: 0 for never, `None` for the usual.
    pub fn new(interval: Option<u32>, now: Instant) -> Reader {
        Reader {
            read: Reservations::default(),
            position: HostPosition::START,
            next: now,
            interval: match interval {
                None => Some(INTERVAL),
                Some(0) => None,
                Some(seconds) => Some(Duration::from_secs(seconds.into())),
            },
            is_asked: false,
            failed: false,
        }
    }

    /// Asks for a reading from the beginning, as soon as possible: after the one in progress.
    pub fn ask(&mut self, now: Instant) {
        self.is_asked = true;
        if !self.is_reading() {
            self.next = self.next.min(now);
        }
    }

    /// Whether a reading has begun and is not over.
    fn is_reading(&self) -> bool {
        self.position != HostPosition::START
    }

    /// Reads some, if it is time; all of them once there are no more.
    pub fn tick(&mut self, kea: &impl Kea) -> Option<Reservations> {
        let now = kea.now();
        if now < self.next {
            return None;
        }
        if !self.is_reading() {
            self.is_asked = false;
        }
        let all = match self.go_on(kea) {
            Ok(all) => {
                self.failed = false;
                all
            }
            Err(error) => {
                if !self.failed {
                    tracing::warn!(
                        id = "BLQ_RESERVATIONS_UNREADABLE",
                        "host reservations cannot be read from their database: {error}; trying \
                         again"
                    );
                }
                self.failed = true;
                self.begin(now + RETRY);
                return None;
            }
        };
        let took = kea.now().saturating_duration_since(now);
        match &all {
            None => self.next = now + took + took * PAUSES,
            Some(_) => {
                let pause = match self.interval {
                    _ if self.is_asked => Duration::ZERO,
                    Some(interval) => interval,
                    None => NEVER,
                };
                self.begin(now + took * PAUSES + pause);
            }
        }
        all
    }

    /// When there is more to do.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Begins anew at `at`.
    fn begin(&mut self, at: Instant) {
        self.read = Reservations::default();
        self.position = HostPosition::START;
        self.next = at;
    }

    /// Reads some; returns all of them if there are no more.
    fn go_on(&mut self, kea: &impl Kea) -> Result<Option<Reservations>> {
        // While Kea connects to it anew there is none, and no reservation to be found.
        if !kea.has_host_database()? {
            return Err(KeaError("Kea has no connection to it".to_owned()));
        }
        let page = kea.host_reservations(self.position, AT_ONCE)?;
        let Some(end) = page.end else {
            return Ok(Some(std::mem::take(&mut self.read)));
        };
        self.position = end;
        self.read.hosts.extend(page.hosts);
        self.read.options.extend(page.options);
        Ok(None)
    }
}
