//! Configured addresses, with the time each was first configured.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::network::ConfiguredRange;
use crate::time::Time;
use crate::vpn::Vpn;

/// A range of configured addresses that were first configured at the same time.
///
/// A free address that was never leased became available then: its start-time-of-state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedRange {
    /// Its first address.
    pub first: Ipv4Addr,
    /// Its last address, not before the first.
    pub last: Ipv4Addr,
    /// The VPN its free addresses belong to.
    pub vpn: Vpn,
    /// When these addresses were first configured in this VPN.
    pub since: Time,
}

/// Gives each configured address the time it was first configured: what was `known` keeps its
/// time, the rest was configured `now`. Both lists ascend without overlap; so does the result.
pub fn timed(configured: &[ConfiguredRange], known: &[TimedRange], now: Time) -> Vec<TimedRange> {
    let mut timed = Vec::new();
    let mut known = known.iter().peekable();
    for range in configured {
        // Where the part of the range not dealt with yet begins; past the end when done.
        let mut position = u64::from(range.first.to_bits());
        let last = u64::from(range.last.to_bits());
        while position <= last {
            while known
                .next_if(|known| u64::from(known.last.to_bits()) < position)
                .is_some()
            {}
            let (end, since) = match known.peek() {
                Some(known) if u64::from(known.first.to_bits()) <= position => {
                    let since = if known.vpn == range.vpn {
                        known.since
                    } else {
                        now
                    };
                    (last.min(known.last.to_bits().into()), since)
                }
                Some(known) => (last.min(u64::from(known.first.to_bits()) - 1), now),
                None => (last, now),
            };
            push(
                &mut timed,
                TimedRange {
                    // Both lie within the range, so they fit 32 bits.
                    first: Ipv4Addr::from_bits(position as u32),
                    last: Ipv4Addr::from_bits(end as u32),
                    vpn: range.vpn.clone(),
                    since,
                },
            );
            position = end + 1;
        }
    }
    timed
}

/// Appends a range, as part of the last one if it goes on with it.
fn push(ranges: &mut Vec<TimedRange>, next: TimedRange) {
    match ranges.last_mut() {
        Some(last)
            if last.since == next.since
                && last.vpn == next.vpn
                && last.last.to_bits().checked_add(1) == Some(next.first.to_bits()) =>
        {
            last.last = next.last;
        }
        _ => ranges.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(first: [u8; 4], last: [u8; 4]) -> ConfiguredRange {
        ConfiguredRange {
            first: first.into(),
            last: last.into(),
            vpn: Vpn::Default,
        }
    }

    fn range(first: [u8; 4], last: [u8; 4], since: u32) -> TimedRange {
        TimedRange {
            first: first.into(),
            last: last.into(),
            vpn: Vpn::Default,
            since: Time(since),
        }
    }

    #[test]
    fn a_pool_that_grows_keeps_the_time_of_its_old_part() {
        let known = timed(&[configured([10, 0, 0, 10], [10, 0, 0, 20])], &[], Time(5));
        assert_eq!(known, [range([10, 0, 0, 10], [10, 0, 0, 20], 5)]);
        let grown = timed(
            &[configured([10, 0, 0, 5], [10, 0, 0, 30])],
            &known,
            Time(9),
        );
        assert_eq!(
            grown,
            [
                range([10, 0, 0, 5], [10, 0, 0, 9], 9),
                range([10, 0, 0, 10], [10, 0, 0, 20], 5),
                range([10, 0, 0, 21], [10, 0, 0, 30], 9),
            ]
        );
        assert_eq!(
            timed(
                &[configured([10, 0, 0, 8], [10, 0, 0, 12])],
                &grown,
                Time(11)
            ),
            [
                range([10, 0, 0, 8], [10, 0, 0, 9], 9),
                range([10, 0, 0, 10], [10, 0, 0, 12], 5),
            ]
        );
    }

    #[test]
    fn a_range_that_moves_to_another_vpn_is_new_there() {
        let known = [range([10, 0, 0, 0], [10, 0, 0, 3], 5)];
        let blue = ConfiguredRange {
            vpn: Vpn::Name("blue".into()),
            ..configured([10, 0, 0, 0], [10, 0, 0, 3])
        };
        assert_eq!(timed(&[blue], &known, Time(9))[0].since, Time(9));
    }

    #[test]
    fn the_last_address_there_is_can_be_configured() {
        let all = [configured([0, 0, 0, 0], [255, 255, 255, 255])];
        let known = timed(&all, &[], Time(1));
        assert_eq!(timed(&all, &known, Time(2)), known);
    }
}
