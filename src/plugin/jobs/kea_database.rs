//! Kea's lease database and the mirror, as the resync compares them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::mirror::Mirror;
use crate::mirror::event::{Event, ResyncScope};
use crate::model::time::Time;
use crate::plugin::jobs::resync::{LeaseDatabase, Page, PageSize, ResyncJob};
use crate::plugin::kea::{Kea, KeaError, Result};
use crate::plugin::lookup;
use crate::plugin::sink::Sink;

/// Time from one resync with Kea's memfile to the next, unless configured: no other process writes it, and
/// Kea reports nearly every change of its own.
const MEMFILE_INTERVAL: Duration = Duration::from_secs(600);
/// Time from one resync with a database to the next, unless configured: other servers may write it, too.
const DATABASE_INTERVAL: Duration = Duration::from_secs(60);

/// Creates the resync with Kea's lease database.
pub fn resync_job(kea: &impl Kea, config: &Config, now: Instant) -> ResyncJob {
    let (usual, page_size) = match kea.is_memfile() {
        Ok(true) => (MEMFILE_INTERVAL, PageSize::MEMFILE),
        _ => (DATABASE_INTERVAL, PageSize::DATABASE),
    };
    ResyncJob::new(config.resync_interval(usual), page_size, now)
}

/// Kea's lease database, and the mirror that it is compared with.
pub struct KeaDatabase<'a, K> {
    /// Kea.
    pub kea: &'a K,
    /// The way to the mirror.
    pub sink: &'a Sink,
    /// The mirror.
    pub mirror: &'a Mirror,
}

impl<K: Kea> LeaseDatabase for KeaDatabase<'_, K> {
    type Error = KeaError;

    fn page(&self, after: u32, limit: usize) -> Option<Result<Page>> {
        let looked = lookup::try_look_up(self.sink, || {
            let mut leases = Vec::new();
            self.kea.lease_page(after, limit, &mut leases)?;
            let last = leases.last().filter(|_| leases.len() >= limit);
            let last = last.map_or(u32::MAX, |last| last.address.to_bits());
            Ok((ResyncScope::Range(after.saturating_add(1)..=last), leases))
        })?;
        Some(looked.map(|scope| match scope {
            ResyncScope::Range(range) if *range.end() != u32::MAX => Page::Until(*range.end()),
            _ => Page::Last,
        }))
    }

    fn missing(&self, limit: usize) -> Vec<Ipv4Addr> {
        // They have been missing for a second at least, in whole seconds.
        let since = Time(Time::now().0.saturating_sub(2));
        self.mirror.missing(limit, since).unwrap_or_default()
    }

    fn again(&self, addresses: Vec<Ipv4Addr>) -> Option<Result<()>> {
        let looked = lookup::try_look_up(self.sink, || {
            let leases = lookup::leases_of(self.kea, &addresses)?;
            Ok((ResyncScope::Again(addresses), leases))
        })?;
        Some(looked.map(drop))
    }

    fn compared(&self, took: Duration) {
        // A second more: changes in the second in which it began may have come before or after.
        let took = u32::try_from(took.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(2);
        self.sink.push(Event::ResyncDone {
            began: Time(Time::now().0.saturating_sub(took)),
        });
    }

    fn now(&self) -> Instant {
        self.kea.now()
    }

    fn backlog(&self) -> usize {
        self.mirror.queue().len()
    }
}
