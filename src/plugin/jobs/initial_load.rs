//! Reading Kea's leases into a new mirror, some at a time, while Kea goes on.
//!
//! The lease database may be used on Kea's main thread only, which receives all packets: after each
//! part of the leases it is theirs for a while.

use std::time::{Duration, Instant};

use crate::mirror::LoadWorker;
use crate::mirror::event::Lease;

/// How long a part takes, and so packets wait at most; a query of a database may take longer.
const PART: Duration = Duration::from_millis(2);

/// The shortest pause after a part. A pause is half as long as the part was: whoever asks the mirror
/// waits until all leases are read.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// How long to wait before leases that cannot be read are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How many leases that were read are handed on at once: a thread is woken for them.
const BATCH: usize = 1_024;

/// How far the reading has come.
#[derive(Debug)]
pub struct LeaseReader {
    /// How many leases are read at once.
    page_size: usize,
    /// The address after which it goes on.
    after: u32,
    /// Leases that have not been handed on.
    batch: Vec<Lease>,
    /// How many have been read.
    count: usize,
    /// When it goes on.
    next: Instant,
    /// Whether the leases could not be read last.
    has_failed: bool,
}

/// What came of a part.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<E> {
    /// There is more.
    More,
    /// So many leases have been handed on, and these were all.
    Last(usize),
    /// The leases cannot be read, for the first time in a row. It will be tried again.
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

    /// When it goes on.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Reads a part and hands it on to `load_worker`, if it is time. `read` appends up to so many leases
    /// after an address, in the order of addresses.
    pub fn go_on<E>(
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

    /// A loader that takes nothing over before `begun` says so.
    fn load_worker(begun: mpsc::Receiver<()>) -> LoadWorker {
        let kea_config =
            Arc::new(KeaConfig::from_json(r#"{"Dhcp4": {"subnet4": []}}"#, Vec::new()).unwrap());
        let loaded = Arc::clone(&kea_config);
        let begin = move || {
            begun.recv().unwrap();
            Some(InitialLoad::begin(loaded, Saved::default(), NOW))
        };
        LoadWorker::start(kea_config, NOW, begin).unwrap()
    }

    /// The same, which takes leases over at once.
    fn ready_load_worker() -> LoadWorker {
        let (begin, begun) = mpsc::channel();
        begin.send(()).unwrap();
        load_worker(begun)
    }

    /// Up to `limit` of the leases of the addresses 1 to `count` after `after`.
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
            let part = reading.go_on(
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
            assert_eq!(reading.go_on(&load_worker, || now, read), Part::More);
        }
        let never = |_, _, _: &mut Vec<Lease>| -> Result<(), ()> { panic!("it is not to be read") };
        let next = reading.next();
        assert_eq!(reading.go_on(&load_worker, || next, never), Part::More);
        assert!(reading.next() > next);
        assert_eq!(reading.go_on(&load_worker, || next, never), Part::More);
        begin.send(()).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_told_of_once_and_tried_again() {
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
        let part = reading.go_on(&load_worker, || now, broken);
        assert_eq!(part, Part::Failed("it is down"));
        assert!(reading.next() >= now + RETRY);
        let now = reading.next();
        assert_eq!(reading.go_on(&load_worker, || now, broken), Part::More);
        let now = reading.next();
        assert_eq!(reading.go_on(&load_worker, || now, good), Part::Last(100));
    }
}
