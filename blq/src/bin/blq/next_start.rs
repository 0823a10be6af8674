//! The query-start-time of the query that asks for what changed since an answer.

use std::time::Duration;

/// A query-start-time no later than the moment at which the server began to answer, from the
/// base-times of its replies. Changes of addresses that the answer had passed are so in the answer
/// to the next query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextStart {
    /// The base-time of the first reply that had one.
    first: Option<u32>,
    /// The query-start-time, once known.
    start: Option<u32>,
}

impl NextStart {
    /// Notes the base-time of a reply that came `elapsed` after the query was sent.
    ///
    /// A base-time says when the reply was made (RFC 6926 section 6.2.3). The server began at most `elapsed` before;
    /// its clock shows whole seconds, so those are counted up. The first reply gives the closest bound.
    pub fn note(&mut self, base_time: Option<u32>, elapsed: Duration) {
        if let (None, Some(time)) = (self.first, base_time) {
            let elapsed = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
            self.first = base_time;
            self.start = Some(time.saturating_sub(elapsed.saturating_add(1)));
        }
    }

    /// Notes the base-time of the DHCPLEASEQUERYDONE.
    ///
    /// If it is before that of the first reply, it is not when the message was made but when the
    /// server began. Else it may be either.
    pub fn note_done(&mut self, base_time: Option<u32>, elapsed: Duration) {
        if self.first.is_some() && base_time.is_some() && base_time < self.first {
            self.start = base_time;
        } else {
            self.note(base_time, elapsed);
        }
    }

    /// Returns the query-start-time after a complete answer to a query with this query-end-time;
    /// `None` if no reply had a base-time.
    pub fn after(self, query_end: Option<u32>) -> Option<u32> {
        // An answer that stops at a query-end-time knows nothing of what came after.
        let start = self.start?;
        Some(query_end.map_or(start, |end| end.min(start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What follows from the base-times of bindings and the DHCPLEASEQUERYDONE, each with the
    /// milliseconds it took to come.
    fn next(bindings: &[(Option<u32>, u64)], done: (Option<u32>, u64)) -> Option<u32> {
        let mut next = NextStart::default();
        for (base_time, elapsed) in bindings {
            next.note(*base_time, Duration::from_millis(*elapsed));
        }
        next.note_done(done.0, Duration::from_millis(done.1));
        next.after(None)
    }

    /// A base-time of the end that is earlier than that of the first reply is the very second.
    #[test]
    fn starts_when_the_server_says_it_began() {
        assert_eq!(next(&[(Some(100), 9_000)], (Some(97), 9_500)), Some(97));
        assert_eq!(next(&[(None, 1), (Some(100), 9)], (Some(40), 9)), Some(40));
    }

    /// Else it began at most as long ago as the first reply took.
    #[test]
    fn starts_before_the_first_reply_was_made() {
        assert_eq!(next(&[(Some(100), 0)], (None, 5_000)), Some(99));
        assert_eq!(next(&[(Some(100), 2_999)], (Some(105), 8_000)), Some(97));
        assert_eq!(next(&[(Some(100), 10)], (Some(100), 20)), Some(99));
        assert_eq!(next(&[], (Some(100), 1_500)), Some(98));
        assert_eq!(next(&[(None, 1)], (Some(100), 1_500)), Some(98));
        assert_eq!(next(&[(Some(0), 1)], (Some(0), 1)), Some(0));
    }

    /// A local clock is no replacement (RFC 6926 section 7.4).
    #[test]
    fn starts_nowhere_without_a_base_time() {
        assert_eq!(next(&[(None, 1)], (None, 1)), None);
        assert_eq!(next(&[], (None, 1)), None);
    }

    /// RFC 6926 section 6.2.6: what changed after query-end-time is not in the answer.
    #[test]
    fn starts_where_the_query_ended() {
        let mut next = NextStart::default();
        next.note_done(Some(100), Duration::ZERO);
        assert_eq!(next.after(Some(50)), Some(50));
        assert_eq!(next.after(Some(100)), Some(99));
    }

    proptest! {
        /// Whether the base-time of the DHCPLEASEQUERYDONE is when that was made or when the query
        /// began, the next query starts no later than the query began, and hardly earlier.
        #[test]
        fn never_starts_after_the_server_began(
            began in 5_000_000..6_000_000_u64,
            // Milliseconds from each step to the next: the query sent, begun, each reply.
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
