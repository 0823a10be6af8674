//! The initial load: reads Kea's leases into a new mirror, some at a time, while Kea serves its clients.
//!
//! The lease database may be used on Kea's main thread only, which also receives all packets: after each part
//! of the leases there is a pause for them.

use std::time::{Duration, Instant};

use crate::mirror::LoadWorker;
use crate::mirror::event::Lease;

/// The time for a part, and so the longest wait of a packet; a query of a database may take longer.
const PART: Duration = Duration::from_millis(2);

/// The shortest pause after a part. A pause is half as long as the part was: queries wait until all leases are
/// read.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Time from a failure to read leases to the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// The number of leases handed to the load worker at once, which is woken for them.
const BATCH: usize = 1_024;

/// The reading of Kea's leases.
#[derive(Debug)]
pub struct LeaseReader {
    /// The number of leases read at once.
    page_size: usize,
    /// The address after which the reading continues.
    after: u32,
    /// Leases read and not handed to the load worker yet.
    batch: Vec<Lease>,
    /// The number of leases read.
    count: usize,
    /// Time of the next part.
    next: Instant,
    /// Whether the last attempt failed.
    has_failed: bool,
}

/// The result of a part.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<E> {
    /// There are more leases.
    More,
    /// All leases have been handed to the load worker; their number.
    Last(usize),
    /// The leases cannot be read, for the first time in a row. A later part tries again.
    Failed(E),
}

impl LeaseReader {
    /// Begins to read the leases, `page_size` at once.
    pub fn new(page_size: usize, now: Instant) -> LeaseReader {
        LeaseReader {
            page_size,
            after: 0,
            batch: Vec::with_capacity(BATCH + page_size),
            count: 0,
            next: now,
            has_failed: false,
        }
    }

    /// Returns the time of the next part.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Returns the number of leases read.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads a part and hands it to `load_worker`, if it is time. `read` appends leases of addresses after the
    /// given one, up to the given number, in ascending order.
    pub fn resume<E>(
        &mut self,
        load_worker: &LoadWorker,
        clock: impl Fn() -> Instant,
        mut read: impl FnMut(u32, usize, &mut Vec<Lease>) -> Result<(), E>,
    ) -> Part<E> {
        let now = clock();
        if now < self.next {
            return Part::More;
        }
        while load_worker.has_room() {
            let waiting = self.batch.len();
            if let Err(error) = read(self.after, self.page_size, &mut self.batch) {
                self.batch.truncate(waiting);
                self.next = now + RETRY;
                return match std::mem::replace(&mut self.has_failed, true) {
                    false => Part::Failed(error),
                    true => Part::More,
                };
            }
            self.has_failed = false;
            let Some(last) = self.batch[waiting..].last() else {
                load_worker.take(std::mem::take(&mut self.batch));
                return Part::Last(self.count);
            };
            self.after = last.address.to_bits();
            self.count += self.batch.len() - waiting;
            if self.batch.len() >= BATCH {
                let next = Vec::with_capacity(BATCH + self.page_size);
                load_worker.take(std::mem::replace(&mut self.batch, next));
            }
            if clock().saturating_duration_since(now) >= PART {
                break;
            }
        }
        let took = clock().saturating_duration_since(now);
        self.next = now + took + SHORTEST_PAUSE.max(took / 2);
        Part::More
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::kea_config::KeaConfig;
    use crate::mirror::{InitialLoad, Saved, Table};
    use crate::model::time::Time;

    /// When leases are loaded.
    const NOW: Time = Time(1_000);

    /// Returns a load worker that takes no leases before `begun` gives the signal.
    fn load_worker(begun: mpsc::Receiver<()>) -> LoadWorker {
        let kea_config =
            Arc::new(KeaConfig::new(r#"{"Dhcp4": {"subnet4": []}}"#, Vec::new(), &[]).unwrap());
        let loaded = Arc::clone(&kea_config);
        let begin = move || {
            begun.recv().unwrap();
            Some(InitialLoad::begin(loaded, Saved::default(), NOW))
        };
        LoadWorker::start(kea_config, NOW, begin).unwrap()
    }

    /// Returns a load worker that takes leases at once.
    fn ready_load_worker() -> LoadWorker {
        let (begin, begun) = mpsc::channel();
        begin.send(()).unwrap();
        load_worker(begun)
    }

    /// Appends up to `limit` of the leases of the addresses 1 to `count` after `after`.
    fn page(count: u32, after: u32, limit: usize, leases: &mut Vec<Lease>) {
        leases.extend(
            (after + 1..=count)
                .take(limit)
                .map(|address| Lease::example(Ipv4Addr::from_bits(address), NOW)),
        );
    }

    #[test]
    fn all_leases_are_read_and_handed_on() {
        let mut load_worker = ready_load_worker();
        let mirror = Arc::clone(load_worker.mirror());
        let mut reading = LeaseReader::new(32, Instant::now());
        let count = loop {
            let now = reading.next();
            let part = reading.resume(
                &load_worker,
                || now,
                |after, limit, leases| {
                    page(10_000, after, limit, leases);
                    Ok::<_, ()>(())
                },
            );
            match part {
                Part::More => assert!(reading.next() > now, "a part must not follow at once"),
                Part::Last(count) => break count,
                Part::Failed(()) => panic!("nothing failed"),
            }
        };
        assert_eq!(count, 10_000);
        load_worker.complete(|| {});
        load_worker.wait();
        assert_eq!(mirror.read(Table::count), Ok(10_000));
    }

    #[test]
    fn nothing_is_read_before_it_is_time_or_while_there_is_no_room() {
        let (begin, begun) = mpsc::channel();
        let load_worker = load_worker(begun);
        let mut reading = LeaseReader::new(1_000, Instant::now());
        let read = |after, limit, leases: &mut Vec<Lease>| {
            page(u32::MAX, after, limit, leases);
            Ok::<_, ()>(())
        };
        while load_worker.has_room() {
            let now = reading.next();
            assert_eq!(reading.resume(&load_worker, || now, read), Part::More);
        }
        let never = |_, _, _: &mut Vec<Lease>| -> Result<(), ()> { panic!("nothing must be read") };
        let next = reading.next();
        assert_eq!(reading.resume(&load_worker, || next, never), Part::More);
        assert!(reading.next() > next);
        assert_eq!(reading.resume(&load_worker, || next, never), Part::More);
        begin.send(()).unwrap();
    }

    #[test]
    fn a_failure_is_reported_once_and_tried_again() {
        let load_worker = ready_load_worker();
        let mut reading = LeaseReader::new(32, Instant::now());
        let broken = |after, limit, leases: &mut Vec<Lease>| {
            page(100, after, limit, leases);
            Err("it is down")
        };
        let good = |after, limit, leases: &mut Vec<Lease>| {
            page(100, after, limit, leases);
            Ok::<_, &str>(())
        };
        let now = reading.next();
        let part = reading.resume(&load_worker, || now, broken);
        assert_eq!(part, Part::Failed("it is down"));
        assert!(reading.next() >= now + RETRY);
        let now = reading.next();
        assert_eq!(reading.resume(&load_worker, || now, broken), Part::More);
        let now = reading.next();
        assert_eq!(reading.resume(&load_worker, || now, good), Part::Last(100));
    }
}
