//! The delays between transmissions of a query (RFC 4388 section 6.6, RFC 2131 section 4.1).

use std::time::Duration;

/// The delays between transmissions of a query, each twice as long as the one before.
///
/// With the defaults a server without replies gets about one message in ten seconds, the most that RFC
/// 4388 section 6.6 allows towards a server that may not support the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// The delay before the first retransmission; > 0.
    pub first: Duration,
    /// The longest delay; >= `first`.
    pub most: Duration,
    /// The largest random difference of a delay from its value, in either direction; < `first`.
    pub spread: Duration,
}

impl Default for Retransmission {
    fn default() -> Retransmission {
        Retransmission {
            first: Duration::from_secs(4),
            most: Duration::from_secs(64),
            spread: Duration::from_secs(1),
        }
    }
}

impl Retransmission {
    /// Returns the delays without end; `random` returns uniformly distributed numbers.
    pub(super) fn delays(self, mut random: impl FnMut() -> u32) -> impl Iterator<Item = Duration> {
        let doubled = move |delay: &Duration| Some(delay.saturating_mul(2).min(self.most));
        let delays = std::iter::successors(Some(self.first.min(self.most)), doubled);
        delays.map(move |delay| {
            let range = self.spread.saturating_mul(2).as_nanos();
            let part = range.saturating_mul(random().into()) / u128::from(u32::MAX);
            let part = Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX));
            delay.saturating_add(part).saturating_sub(self.spread)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 2131 section 4.1: 4, 8, 16, 32 and 64 s, each with up to 1 s more or less.
    #[test]
    fn doubles_up_to_64_seconds() {
        for (random, difference) in [(0, -1), (u32::MAX, 1)] {
            let delays = Retransmission::default().delays(|| random);
            let delays: Vec<i64> = delays.take(7).map(|delay| delay.as_secs() as i64).collect();
            let expected = [4, 8, 16, 32, 64, 64, 64].map(|delay| delay + difference);
            assert_eq!(delays, expected);
        }
    }

    proptest! {
        #[test]
        fn stays_within_the_spread(random in any::<u32>()) {
            let plain = [4, 8, 16, 32, 64, 64].map(Duration::from_secs);
            let second = Duration::from_secs(1);
            for (delay, plain) in Retransmission::default().delays(|| random).zip(plain) {
                prop_assert!(delay >= plain - second && delay <= plain + second, "{delay:?}");
            }
        }

        /// No values panic, not even senseless ones.
        #[test]
        fn survives_any_values(
            (first, most, spread) in any::<(Duration, Duration, Duration)>(),
            random in any::<u32>(),
        ) {
            let retransmission = Retransmission { first, most, spread };
            prop_assert_eq!(retransmission.delays(|| random).take(70).count(), 70);
        }
    }
}
