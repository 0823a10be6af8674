//! Reads the host reservations in databases at intervals, a few at a time. Only where Kea is configured to have
//! such databases.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::kea_config::{ConfiguredOption, DatabaseReservation};
use crate::plugin::kea::{HostPosition, Kea, KeaError, Result};

/// Time from one reading of all reservations to the next, unless configured.
const INTERVAL: Duration = Duration::from_secs(60);
/// Time to the next reading where none is configured: a year.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The number of reservations read at once.
const AT_ONCE: usize = 100;
/// The ratio of a pause to the reading that it follows: as for leases, the plugin uses a tenth of the main
/// thread's time at most.
const PAUSES: u32 = 9;
/// Time from an error of a database to the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// All host reservations in databases, and their options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// The reservations, in the databases' order.
    pub hosts: Vec<DatabaseReservation>,
    /// The options of the reservations.
    pub options: Vec<ConfiguredOption>,
}

/// The reading of host reservations.
#[derive(Debug)]
pub struct Reader {
    /// The reservations read so far.
    read: Reservations,
    /// The position of the last reservation read.
    position: HostPosition,
    /// Time of the next part.
    next: Instant,
    /// Time from the end of one reading to the next; `None`: there is only one.
    interval: Option<Duration>,
    /// Whether another reading must follow the one in progress.
    is_asked: bool,
    /// Whether the last attempt failed.
    failed: bool,
}

impl Reader {
    /// Begins at `now`.
    pub fn new(config: &Config, now: Instant) -> Reader {
        Reader {
            read: Reservations::default(),
            position: HostPosition::START,
            next: now,
            interval: config.resync_interval(INTERVAL),
            is_asked: false,
            failed: false,
        }
    }

    /// Requests a reading from the beginning, after the one in progress.
    pub fn ask(&mut self, now: Instant) {
        self.is_asked = true;
        if !self.is_reading() {
            self.next = self.next.min(now);
        }
    }

    /// Returns whether a reading is in progress.
    fn is_reading(&self) -> bool {
        self.position != HostPosition::START
    }

    /// Reads some reservations, if it is time; returns all of them at the end of a reading.
    pub fn tick(&mut self, kea: &impl Kea) -> Option<Reservations> {
        let now = kea.now();
        if now < self.next {
            return None;
        }
        if !self.is_reading() {
            self.is_asked = false;
        }
        let all = match self.resume(kea) {
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

    /// Returns the time of the next part.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Begins a reading at `at`.
    fn begin(&mut self, at: Instant) {
        self.read = Reservations::default();
        self.position = HostPosition::START;
        self.next = at;
    }

    /// Reads some reservations; returns all of them if there are no more.
    fn resume(&mut self, kea: &impl Kea) -> Result<Option<Reservations>> {
        // While Kea reconnects, it has no database, and would return no reservations.
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
