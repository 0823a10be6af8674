//! The query-start-time of a query for the changes since an answer.

use std::time::Duration;

/// A query-start-time no later than the time at which the server began to answer, computed from the
/// base-times of its replies. A change of an address after its reply is thus part of the next answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextStart {
    /// The base-time of the first reply that has one.
    first: Option<u32>,
    /// The query-start-time, once known.
    start: Option<u32>,
}

impl NextStart {
    /// Records the base-time of a reply that arrived `elapsed` after the query was sent.
    ///
    /// base-time is the time at which the reply was made (RFC 6926 section 6.2.3). The server began
    /// at most `elapsed` before it; base-time has whole seconds, so `elapsed` is rounded up. The
    /// first reply yields the tightest bound.
    pub fn record_reply(&mut self, base_time: Option<u32>, elapsed: Duration) {
        if let (None, Some(time)) = (self.first, base_time) {
            let elapsed = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
            self.first = base_time;
            self.start = Some(time.saturating_sub(elapsed.saturating_add(1)));
        }
    }

    /// Records the base-time of the DHCPLEASEQUERYDONE.
    ///
    /// A base-time before that of the first reply is the time at which the server began. Any other
    /// one may be that time, or the time at which the message was made.
    pub fn record_done(&mut self, base_time: Option<u32>, elapsed: Duration) {
        if self.first.is_some() && base_time.is_some() && base_time < self.first {
            self.start = base_time;
        } else {
            self.record_reply(base_time, elapsed);
        }
    }

    /// Returns the query-start-time after a complete answer to a query with these bounds; `None` if
    /// neither a base-time nor an earlier start is known.
    ///
    /// Without a base-time, a query from the same start on misses nothing.
    pub fn after(self, query_start: Option<u32>, query_end: Option<u32>) -> Option<u32> {
        // An answer that ends at a query-end-time lacks later changes.
        let start = self.start.or(query_start)?;
        Some(query_end.map_or(start, |end| end.min(start)))
    }

    /// Returns the server's time: the base-time of the first reply that has one.
    pub fn base_time(self) -> Option<u32> {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the query-start-time after bindings and a DHCPLEASEQUERYDONE, each given by its
    /// base-time and the milliseconds until its arrival.
    fn next(bindings: &[(Option<u32>, u64)], done: (Option<u32>, u64)) -> Option<u32> {
        let mut next = NextStart::default();
        for (base_time, elapsed) in bindings {
            next.record_reply(*base_time, Duration::from_millis(*elapsed));
        }
        next.record_done(done.0, Duration::from_millis(done.1));
        next.after(None, None)
    }

    /// A base-time of the DHCPLEASEQUERYDONE before that of the first reply is taken as it is.
    #[test]
    fn starts_when_the_server_began() {
        assert_eq!(next(&[(Some(100), 9_000)], (Some(97), 9_500)), Some(97));
        assert_eq!(next(&[(None, 1), (Some(100), 9)], (Some(40), 9)), Some(40));
    }

    /// Otherwise the server began no earlier than the query was sent.
    #[test]
    fn starts_before_the_first_reply_was_made() {
        assert_eq!(next(&[(Some(100), 0)], (None, 5_000)), Some(99));
        assert_eq!(next(&[(Some(100), 2_999)], (Some(105), 8_000)), Some(97));
        assert_eq!(next(&[(Some(100), 10)], (Some(100), 20)), Some(99));
        assert_eq!(next(&[], (Some(100), 1_500)), Some(98));
        assert_eq!(next(&[(None, 1)], (Some(100), 1_500)), Some(98));
        assert_eq!(next(&[(Some(0), 1)], (Some(0), 1)), Some(0));
    }

    /// The local clock does not replace a base-time (RFC 6926 section 7.4).
    #[test]
    fn has_no_start_without_a_base_time() {
        assert_eq!(next(&[(None, 1)], (None, 1)), None);
        assert_eq!(next(&[], (None, 1)), None);
        let next = NextStart::default();
        assert_eq!(next.after(Some(70), None), Some(70));
        assert_eq!(next.after(Some(70), Some(60)), Some(60));
    }

    /// RFC 6926 section 6.2.6: changes after query-end-time are not in the answer.
    #[test]
    fn starts_where_the_query_ended() {
        let mut next = NextStart::default();
        next.record_done(Some(100), Duration::ZERO);
        assert_eq!(next.after(None, Some(50)), Some(50));
        assert_eq!(next.after(None, Some(100)), Some(99));
    }

    proptest! {
        /// The next query starts no later than the server began, and at most the delay of the first
        /// reply and two seconds earlier, for both meanings of the base-time in a DHCPLEASEQUERYDONE.
        #[test]
        fn never_starts_after_the_server_began(
            began in 5_000_000..6_000_000_u64,
            // Milliseconds from sending the query to its begin, and between replies.
            to_begin in 0..3_000_u64,
            steps in prop::collection::vec(0..3_000_u64, 1..5),
            is_begin in any::<bool>(),
        ) {
            let sent = began - to_begin;
            let mut now = began;
            let mut replies: Vec<(Option<u32>, u64)> = steps
                .iter()
                .map(|step| {
                    now += step;
                    (Some(u32::try_from(now / 1_000).unwrap()), now - sent)
                })
                .collect();
            let mut done = replies.pop().unwrap();
            if is_begin {
                done.0 = Some(u32::try_from(began / 1_000).unwrap());
            }
            let first = replies.first().unwrap_or(&done).1;
            let start = u64::from(next(&replies, done).unwrap());
            prop_assert!(start <= began / 1_000);
            prop_assert!(start + first / 1_000 + 2 >= began / 1_000);
        }
    }
}
