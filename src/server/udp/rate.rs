//! The rate limit of queries over UDP, one for each requester.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The number of requesters with a limit of their own; all others share one. It bounds the memory, to some 40 KiB.
const MAX_REQUESTERS: usize = 1_024;

/// The queries that a requester may send at once, as a part of its rate: 200 of the default rate of 1,000/s,
/// which is the number of queries that RFC 4388 section 6.6 lets a requester have outstanding.
const BURST: u32 = 5;

/// Limits the queries/s of each requester: a flood, or replies that a forged giaddr turns on a victim, end at
/// the limit.
#[derive(Debug)]
pub struct RateLimit {
    /// The time that one query takes of a requester's share; `None` without a limit.
    interval: Option<Duration>,
    /// How far a requester may be ahead of its share.
    burst: Duration,
    /// The requesters.
    requesters: Mutex<Requesters>,
}

/// The time up to which each requester has used its share.
#[derive(Debug, Default)]
struct Requesters {
    /// Requesters with a limit of their own; len() <= MAX_REQUESTERS
    own: HashMap<Ipv4Addr, Option<Instant>>,
    /// All others.
    shared: Option<Instant>,
    /// When the requesters that have not used their share were last removed.
    swept: Option<Instant>,
}

impl Requesters {
    /// Returns the time up to which a requester has used its share; `None` if it has not.
    fn used(&mut self, requester: Ipv4Addr, now: Instant) -> &mut Option<Instant> {
        let is_full = self.own.len() >= MAX_REQUESTERS;
        if is_full && !self.own.contains_key(&requester) {
            // Not at each query of a flood from many addresses.
            let pause = Duration::from_millis(100);
            if self
                .swept
                .is_none_or(|swept| now.saturating_duration_since(swept) > pause)
            {
                self.swept = Some(now);
                self.own
                    .retain(|_, used| used.is_some_and(|used| used > now));
            }
            if self.own.len() >= MAX_REQUESTERS {
                return &mut self.shared;
            }
        }
        self.own.entry(requester).or_default()
    }
}

impl RateLimit {
    /// Creates a limit of `rate` queries/s; `None` for none.
    pub fn new(rate: Option<NonZeroU32>) -> RateLimit {
        let interval = rate.map(|rate| Duration::from_secs(1) / rate.get());
        let burst = rate.map_or(0, |rate| (rate.get() / BURST).max(1) - 1);
        RateLimit {
            interval,
            burst: interval.unwrap_or_default() * burst,
            requesters: Mutex::default(),
        }
    }

    /// Whether a query of `requester` that arrives `now` is within the limit.
    pub fn admits(&self, requester: Ipv4Addr, now: Instant) -> bool {
        let Some(interval) = self.interval else {
            return true;
        };
        let mut requesters = self.requesters.lock();
        let used = requesters.used(requester, now);
        let start = used.unwrap_or(now).max(now);
        if start - now > self.burst {
            return false;
        }
        *used = Some(start + interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// Returns the number of queries out of `count` at once that are admitted.
    fn admitted(limit: &RateLimit, requester: Ipv4Addr, now: Instant, count: usize) -> usize {
        (0..count).filter(|_| limit.admits(requester, now)).count()
    }

    #[test]
    fn admits_a_fifth_of_the_rate_at_once_and_the_rate_in_the_long_run() {
        let limit = RateLimit::new(NonZeroU32::new(1_000));
        let start = Instant::now();
        assert_eq!(admitted(&limit, REQUESTER, start, 5_000), 200);
        let mut later = 0;
        for millisecond in 1..=10_000 {
            later += admitted(
                &limit,
                REQUESTER,
                start + Duration::from_millis(millisecond),
                3,
            );
        }
        assert_eq!(later, 10_000);
    }

    #[test]
    fn admits_one_query_a_second_at_the_lowest_rate() {
        let limit = RateLimit::new(NonZeroU32::new(1));
        let start = Instant::now();
        assert_eq!(admitted(&limit, REQUESTER, start, 3), 1);
        assert_eq!(
            admitted(&limit, REQUESTER, start + Duration::from_millis(999), 3),
            0
        );
        assert_eq!(
            admitted(&limit, REQUESTER, start + Duration::from_secs(1), 3),
            1
        );
    }

    #[test]
    fn admits_everything_without_a_limit() {
        let limit = RateLimit::new(None);
        assert_eq!(admitted(&limit, REQUESTER, Instant::now(), 5_000), 5_000);
    }

    #[test]
    fn no_requester_uses_the_share_of_another_and_the_memory_is_bounded() {
        let limit = RateLimit::new(NonZeroU32::new(5));
        let start = Instant::now();
        let requester = |number| Ipv4Addr::from_bits(0x0a00_0000 + number);
        for number in 0..MAX_REQUESTERS as u32 {
            assert_eq!(admitted(&limit, requester(number), start, 2), 1);
        }
        let further = MAX_REQUESTERS as u32..20_000;
        let shared = further.filter(|number| limit.admits(requester(*number), start));
        assert_eq!(shared.count(), 1);
        assert!(limit.requesters.lock().own.len() <= MAX_REQUESTERS);
        // Those that are idle make room.
        let later = start + Duration::from_secs(2);
        assert_eq!(admitted(&limit, requester(20_000), later, 2), 1);
        assert_eq!(admitted(&limit, requester(20_001), later, 2), 1);
    }
}
