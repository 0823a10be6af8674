//! The resync: compares the mirror with Kea's lease database, a few leases at a time.
//!
//! The lease database may be used on Kea's main thread only, which also receives all packets. So a page is
//! small, and a pause is longer than the page before it.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::model::time::Time;
use crate::plugin::observed::ResyncProgress;

/// The longest time for a page: after a longer one, fewer leases are read at once.
const TARGET: Duration = Duration::from_millis(6);
/// The least number of leases read at once: fewer cost hardly less.
const SMALLEST_PAGE: usize = 100;
/// The ratio of a pause to the page that it follows: the plugin uses a tenth of the main thread's time at most.
const PAUSES: u32 = 9;
/// The shortest pause: shorter ones only cost.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause within a pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Time from an error of the lease database to the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// Time from one look-up of missing leases to the next.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// The least such time if there are more of them.
const MISSING_PAUSE: Duration = Duration::from_millis(100);
/// The number of missing leases looked up at once.
const MISSING_AT_ONCE: usize = 50;
/// The number of events that may wait in the queue for a pass to continue.
const BACKLOG: usize = 1_000;

/// The number of leases read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The number now.
    size: usize,
    /// The highest number.
    largest: usize,
}

impl PageSize {
    /// The page of Kea's memfile, which stays the same: the cost of a page grows faster than its size.
    pub const MEMFILE: PageSize = PageSize {
        size: 100,
        largest: 100,
    };
    /// The first page of a database, where each page is a query.
    pub const DATABASE: PageSize = PageSize {
        size: 100,
        largest: 1_000,
    };

    /// Returns the size of the page after one that took `took`.
    fn after(self, took: Duration) -> PageSize {
        let size = if took > TARGET {
            (self.size / 2).max(SMALLEST_PAGE)
        } else if took < TARGET / 4 {
            self.size * 2
        } else {
            self.size
        };
        PageSize {
            size: size.min(self.largest),
            ..self
        }
    }
}

/// A page of leases that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// There are more leases after this address.
    Until(u32),
    /// The page was the last.
    Last,
}

/// A lease database. The leases that are read are pushed to the mirror, which compares them.
pub trait LeaseDatabase {
    /// The error of a read.
    type Error: Display;

    /// Reads up to `limit` leases after the address `after`; `None` if another thread reads.
    fn page(&self, after: u32, limit: usize) -> Option<Result<Page, Self::Error>>;
    /// Returns up to `limit` addresses whose leases must be looked up once more.
    fn missing(&self, limit: usize) -> Vec<Ipv4Addr>;
    /// Looks up the leases of these addresses; `None` if another thread reads.
    fn again(&self, addresses: Vec<Ipv4Addr>) -> Option<Result<(), Self::Error>>;
    /// Records that all leases were read, which took `took` up to now.
    fn compared(&self, took: Duration);
    /// Returns the number of events in the queue.
    fn backlog(&self) -> usize;
    /// Returns the time.
    fn now(&self) -> Instant;
}

/// The resync.
#[derive(Debug)]
pub struct ResyncJob {
    /// Time from one pass to the next; `None` if passes are made on demand only.
    interval: Option<Duration>,
    /// The number of leases read at once.
    page_size: PageSize,
    /// The address after which the pass in progress continues; `None` between passes.
    pass: Option<u32>,
    /// Time of the next pass.
    next_pass: Option<Instant>,
    /// Whether another pass must follow the one in progress.
    is_asked: bool,
    /// When the pass in progress began.
    began: Instant,
    /// Whether a pass has taken longer than the interval.
    is_slow: bool,
    /// Time of the next page.
    next_page: Instant,
    /// Time of the next look-up of missing leases.
    next_missing: Instant,
    /// Whether the last read failed.
    failed: bool,
    /// The time at which the last pass ended, and its duration.
    last: Option<(Time, Duration)>,
}

impl ResyncJob {
    /// Creates the resync at `now`, when the mirror and the database agree: the first pass comes after `interval`.
    pub fn new(interval: Option<Duration>, page_size: PageSize, now: Instant) -> ResyncJob {
        ResyncJob {
            interval,
            page_size,
            pass: None,
            next_pass: interval.map(|interval| now + interval),
            is_asked: false,
            began: now,
            is_slow: false,
            next_page: now,
            next_missing: now,
            failed: false,
            last: None,
        }
    }

    /// Returns the progress, for other threads.
    pub fn progress(&self) -> ResyncProgress {
        ResyncProgress {
            interval: self.interval,
            is_running: self.pass.is_some(),
            last: self.last,
            has_failed: self.failed,
        }
    }

    /// Requests a pass from the beginning, after the one in progress.
    pub fn ask(&mut self, now: Instant) {
        self.next_pass = Some(now);
        self.is_asked = self.pass.is_some();
    }

    /// Does the work that is due; returns the time at which there is more.
    pub fn tick(&mut self, database: &impl LeaseDatabase, now: Instant) -> Instant {
        if now >= self.next_missing {
            self.look_again(database, now);
        }
        if self.pass.is_none() && self.next_pass.is_some_and(|next| now >= next) {
            self.pass = Some(0);
            self.next_pass = None;
            self.began = now;
            self.next_page = self.next_page.max(now);
        }
        if let Some(after) = self.pass.filter(|_| now >= self.next_page) {
            self.resume(database, after, now);
        }
        let next = match self.pass {
            Some(_) => self.next_page,
            None => self.next_pass.unwrap_or(self.next_missing),
        };
        next.min(self.next_missing)
    }

    /// Looks up leases that were missing.
    fn look_again(&mut self, database: &impl LeaseDatabase, now: Instant) {
        self.next_missing = now + MISSING_INTERVAL;
        let missing = database.missing(MISSING_AT_ONCE);
        if missing.is_empty() {
            return;
        }
        let are_more = missing.len() == MISSING_AT_ONCE;
        let looked = database.again(missing);
        // The pause after this is added to the one after a page.
        let took = database.now().saturating_duration_since(now);
        let pause = took * PAUSES;
        self.next_page = self.next_page.max(now) + took + pause;
        if are_more {
            self.next_missing = self.next_page + pause.max(MISSING_PAUSE);
        }
        if let Some(Err(error)) = looked {
            self.fail(&error, now);
        }
    }

    /// Reads a page.
    fn resume(&mut self, database: &impl LeaseDatabase, after: u32, now: Instant) {
        if database.backlog() > BACKLOG {
            self.next_page = now + LONGEST_PAUSE / 10;
            return;
        }
        let read = database.page(after, self.page_size.size);
        let took = database.now().saturating_duration_since(now);
        self.next_page = now + took + (took * PAUSES).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        match read {
            None => {}
            Some(Err(error)) => self.fail(&error, now),
            Some(Ok(page)) => {
                if std::mem::take(&mut self.failed) {
                    tracing::info!(
                        id = "BLQ_RESYNC_RESUMED",
                        "the lease database can be read again"
                    );
                }
                self.page_size = self.page_size.after(took);
                match page {
                    Page::Until(last) => self.pass = Some(last),
                    Page::Last => {
                        tracing::debug!(id = "BLQ_RESYNCED", "all leases were compared");
                        self.pass = None;
                        let took = database.now().saturating_duration_since(self.began);
                        self.last = Some((Time::now(), took));
                        database.compared(took);
                        if std::mem::take(&mut self.is_asked) {
                            self.next_pass = Some(self.next_page);
                        } else if let Some(interval) = self.interval {
                            self.check_time(now - self.began, interval);
                            let next = self.began + interval;
                            self.next_pass = Some(next.max(now + LONGEST_PAUSE));
                        } else {
                            self.next_pass = None;
                        }
                    }
                }
            }
        }
    }

    /// Logs once that a pass took longer than the interval.
    fn check_time(&mut self, took: Duration, interval: Duration) {
        if took > interval && !self.is_slow {
            self.is_slow = true;
            tracing::warn!(
                id = "BLQ_RESYNC_SLOW",
                "to compare all leases with the lease database took {} s, more than \
                 'advanced.reconciliation-interval', which is {} s",
                took.as_secs(),
                interval.as_secs(),
            );
        }
    }

    /// Handles an error of the database: logs it once, and waits.
    fn fail(&mut self, error: &impl Display, now: Instant) {
        self.next_page = now + RETRY;
        self.next_missing = now + RETRY;
        if !self.failed {
            self.failed = true;
            tracing::warn!(
                id = "BLQ_RESYNC_FAILED",
                "the lease database cannot be read: {error}; trying again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A database of leases of the addresses from 1 to `leases`.
    #[derive(Default)]
    struct Fake {
        leases: u32,
        broken: bool,
        backlog: usize,
        missing: RefCell<Vec<Ipv4Addr>>,
        asked: RefCell<Vec<String>>,
        compared: Cell<usize>,
    }

    impl LeaseDatabase for Fake {
        type Error = &'static str;

        fn page(&self, after: u32, limit: usize) -> Option<Result<Page, &'static str>> {
            self.asked.borrow_mut().push(format!("after {after}"));
            if self.broken {
                return Some(Err("it is down"));
            }
            let last = after + u32::try_from(limit).unwrap();
            Some(Ok(if last > self.leases {
                Page::Last
            } else {
                Page::Until(last)
            }))
        }

        fn missing(&self, limit: usize) -> Vec<Ipv4Addr> {
            let mut missing = self.missing.borrow_mut();
            let count = limit.min(missing.len());
            missing.drain(..count).collect()
        }

        fn again(&self, addresses: Vec<Ipv4Addr>) -> Option<Result<(), &'static str>> {
            self.asked
                .borrow_mut()
                .push(format!("{} again", addresses.len()));
            Some(Ok(()))
        }

        fn compared(&self, _: Duration) {
            self.compared.set(self.compared.get() + 1);
        }

        fn backlog(&self) -> usize {
            self.backlog
        }

        fn now(&self) -> Instant {
            Instant::now()
        }
    }

    /// Runs ticks for `time` from `now` on, each at the time that the one before returned.
    fn run(resync_job: &mut ResyncJob, fake: &Fake, now: Instant, time: Duration) -> Vec<String> {
        let mut tick = now;
        while tick < now + time {
            let next = resync_job.tick(fake, tick);
            assert!(next > tick, "a tick must not follow at once");
            tick = next;
        }
        fake.asked.take()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pass_reads_all_leases_once_at_each_interval() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(Some(MINUTE), PageSize::MEMFILE, now);
        let fake = Fake {
            leases: 250,
            ..Fake::default()
        };
        assert_eq!(run(&mut resync_job, &fake, now, MINUTE), [""; 0]);
        let pages = run(&mut resync_job, &fake, now + MINUTE, MINUTE);
        assert_eq!(pages, ["after 0", "after 100", "after 200"]);
        assert_eq!(fake.compared.take(), 1);
        let pages = run(&mut resync_job, &fake, now + 2 * MINUTE, 2 * MINUTE);
        assert_eq!(pages.len(), 6);
    }

    #[test]
    fn without_an_interval_a_pass_is_made_on_demand() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::MEMFILE, now);
        let fake = Fake::default();
        assert_eq!(run(&mut resync_job, &fake, now, MINUTE), [""; 0]);
        resync_job.ask(now + MINUTE);
        let pages = run(&mut resync_job, &fake, now + MINUTE, MINUTE);
        assert_eq!(pages, ["after 0"]);
    }

    #[test]
    fn a_pass_requested_during_another_follows_it() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::MEMFILE, now);
        let fake = Fake {
            leases: 150,
            ..Fake::default()
        };
        resync_job.ask(now);
        resync_job.tick(&fake, now);
        resync_job.ask(now);
        let pages = run(&mut resync_job, &fake, now + MINUTE, MINUTE);
        assert_eq!(pages, ["after 0", "after 100", "after 0", "after 100"]);
    }

    #[test]
    fn a_pass_goes_on_while_leases_are_missing() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::MEMFILE, now);
        resync_job.ask(now);
        let fake = Fake {
            leases: 150,
            ..Fake::default()
        };
        let addresses = (0..5_000).map(Ipv4Addr::from_bits).collect();
        fake.missing.replace(addresses);
        let asked = run(&mut resync_job, &fake, now, Duration::from_secs(1));
        assert!(asked.contains(&"after 100".to_owned()), "{asked:?}");
    }

    #[test]
    fn a_pass_goes_on_where_it_was_when_the_database_is_back() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::MEMFILE, now);
        resync_job.ask(now);
        let mut fake = Fake {
            leases: 150,
            ..Fake::default()
        };
        resync_job.tick(&fake, now);
        fake.broken = true;
        let pages = run(&mut resync_job, &fake, now + MINUTE, 3 * RETRY);
        assert_eq!(pages[..3], ["after 0", "after 100", "after 100"]);
        fake.broken = false;
        let pages = run(&mut resync_job, &fake, now + 2 * MINUTE, MINUTE);
        assert_eq!(pages, ["after 100"]);
    }

    #[test]
    fn a_pass_waits_while_events_wait() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::MEMFILE, now);
        resync_job.ask(now);
        let mut fake = Fake {
            backlog: BACKLOG + 1,
            ..Fake::default()
        };
        assert_eq!(run(&mut resync_job, &fake, now, MINUTE), [""; 0]);
        fake.backlog = 0;
        assert_eq!(
            run(&mut resync_job, &fake, now + MINUTE, MINUTE),
            ["after 0"]
        );
    }

    #[test]
    fn missing_leases_are_looked_up_a_few_at_a_time_with_any_interval() {
        let now = Instant::now();
        let mut resync_job = ResyncJob::new(None, PageSize::DATABASE, now);
        let fake = Fake::default();
        let addresses = (0..70).map(Ipv4Addr::from_bits).collect();
        fake.missing.replace(addresses);
        let asked = run(&mut resync_job, &fake, now, MINUTE);
        assert_eq!(asked, ["50 again", "20 again"]);
    }

    #[test]
    fn pages_of_a_database_grow_while_they_are_quick_and_shrink_when_they_are_slow() {
        let quick = PageSize::DATABASE.after(Duration::ZERO);
        assert_eq!(quick.size, 200);
        assert_eq!(quick.after(TARGET).size, 200);
        assert_eq!(quick.after(2 * TARGET).size, 100);
        let largest = (0..9).fold(quick, |size, _| size.after(Duration::ZERO));
        assert_eq!(largest.size, 1_000);
        let smallest = (0..9).fold(quick, |size, _| size.after(2 * TARGET));
        assert_eq!(smallest.size, SMALLEST_PAGE);
        assert_eq!(PageSize::MEMFILE.after(Duration::ZERO), PageSize::MEMFILE);
    }
}
