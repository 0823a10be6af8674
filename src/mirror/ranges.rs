//! Ranges of configured addresses, with the time at which each was first configured.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::kea_config::{ConfiguredRange, Serving, only_others_allocate};
use crate::model::state::State;
use crate::model::time::Time;
use crate::model::vpn::Vpn;

/// A range of addresses that were first configured at the same time.
///
/// For a free address that was never leased, that time is the start of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedRange {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address, `>= first`.
    pub last: Ipv4Addr,
    /// The VPN of its free addresses.
    pub vpn: Vpn,
    /// Whether a high-availability partner assigns its free addresses instead of this server. Their state
    /// is then REMOTE, else AVAILABLE (RFC 6926 section 6.2.7).
    pub remote: bool,
    /// The time at which the addresses were first configured in this VPN, or at which `remote` last
    /// changed, if later.
    pub since: Time,
}

impl TimedRange {
    /// Returns the state of its free addresses and the start of that state.
    pub fn free(&self) -> (State, Time) {
        match self.remote {
            true => (State::Remote, self.since),
            false => (State::Available, self.since),
        }
    }
}

/// Returns the `configured` ranges with their times: the time of a `known` range if its VPN and `remote` are
/// unchanged, else `now`. Both `known` and the result ascend without overlap. If `serving` is `None`, because
/// the served scopes are unknown, `remote` is that of the `known` range; without one it follows from the scopes
/// that this server usually serves.
pub fn timed(
    configured: &[ConfiguredRange],
    known: &[TimedRange],
    serving: Option<&Serving>,
    usual: &Serving,
    now: Time,
) -> Vec<TimedRange> {
    let mut timed = Vec::new();
    let mut known = known.iter().peekable();
    for range in configured {
        let remote = serving.map(|serving| only_others_allocate(&range.allocators, serving));
        // The first address of the rest of the range; after the last part, the address after the range.
        let mut position = u64::from(range.first.to_bits());
        let last = u64::from(range.last.to_bits());
        while position <= last {
            while known
                .next_if(|known| u64::from(known.last.to_bits()) < position)
                .is_some()
            {}
            let (end, before) = match known.peek() {
                Some(known) if u64::from(known.first.to_bits()) <= position => {
                    (last.min(known.last.to_bits().into()), Some(*known))
                }
                Some(known) => (last.min(u64::from(known.first.to_bits()) - 1), None),
                None => (last, None),
            };
            let remote = remote.unwrap_or_else(|| match before {
                // Without a partner, no address is remote.
                Some(before) => before.remote && !range.allocators.is_empty(),
                None => only_others_allocate(&range.allocators, usual),
            });
            let unchanged =
                before.filter(|before| before.vpn == range.vpn && before.remote == remote);
            push(
                &mut timed,
                TimedRange {
                    // Both are within the range, so they fit in 32 bits.
                    first: Ipv4Addr::from_bits(position as u32),
                    last: Ipv4Addr::from_bits(end as u32),
                    vpn: range.vpn.clone(),
                    remote,
                    since: unchanged.map_or(now, |before| before.since),
                },
            );
            position = end + 1;
        }
    }
    timed
}

/// Returns the parts of ranges, first and last address, that other servers assign by one of these lists and not by the
/// other. Both ascend without overlap.
pub fn reassigned(before: &[TimedRange], after: &[TimedRange]) -> Vec<(u32, u32)> {
    let mut reassigned = Vec::new();
    let mut before = before.iter().peekable();
    for range in after {
        while before.next_if(|old| old.last < range.first).is_some() {}
        while let Some(old) = before.peek().filter(|old| old.first <= range.last) {
            if old.remote != range.remote {
                let (first, last) = (old.first.max(range.first), old.last.min(range.last));
                reassigned.push((first.to_bits(), last.to_bits()));
            }
            if old.last > range.last {
                break;
            }
            before.next();
        }
    }
    reassigned
}

/// Returns `ranges` and the parts of `former` outside of them. All ascend without overlap.
pub fn and_former(ranges: &[TimedRange], former: &[TimedRange]) -> Vec<TimedRange> {
    let mut all = ranges.to_vec();
    let mut ranges = ranges.iter().peekable();
    for range in former {
        let mut position = u64::from(range.first.to_bits());
        let last = u64::from(range.last.to_bits());
        while position <= last {
            while ranges
                .next_if(|range| u64::from(range.last.to_bits()) < position)
                .is_some()
            {}
            let (first, end) = ranges.peek().map_or((u64::MAX, last), |range| {
                (range.first.to_bits().into(), range.last.to_bits().into())
            });
            if position < first {
                all.push(TimedRange {
                    // Both are within the range, so they fit in 32 bits.
                    first: Ipv4Addr::from_bits(position as u32),
                    last: Ipv4Addr::from_bits(last.min(first - 1) as u32),
                    ..range.clone()
                });
            }
            position = end.saturating_add(1);
        }
    }
    all.sort_unstable_by_key(|range| range.first);
    all
}

/// Appends a range; extends the last one if `next` continues it with equal properties.
fn push(ranges: &mut Vec<TimedRange>, next: TimedRange) {
    match ranges.last_mut() {
        Some(last)
            if last.since == next.since
                && last.vpn == next.vpn
                && last.remote == next.remote
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
    use crate::kea_config::Allocators;

    fn configured(first: [u8; 4], last: [u8; 4]) -> ConfiguredRange {
        ConfiguredRange {
            first: first.into(),
            last: last.into(),
            vpn: Vpn::Default,
            allocators: Allocators::default(),
        }
    }

    fn range(first: [u8; 4], last: [u8; 4], since: u32) -> TimedRange {
        TimedRange {
            first: first.into(),
            last: last.into(),
            vpn: Vpn::Default,
            remote: false,
            since: Time(since),
        }
    }

    #[test]
    fn a_pool_that_grows_keeps_the_time_of_its_old_part() {
        let known = timed(
            &[configured([10, 0, 0, 10], [10, 0, 0, 20])],
            &[],
            None,
            &Serving::new(),
            Time(5),
        );
        assert_eq!(known, [range([10, 0, 0, 10], [10, 0, 0, 20], 5)]);
        let grown = timed(
            &[configured([10, 0, 0, 5], [10, 0, 0, 30])],
            &known,
            None,
            &Serving::new(),
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
                None,
                &Serving::new(),
                Time(11)
            ),
            [
                range([10, 0, 0, 8], [10, 0, 0, 9], 9),
                range([10, 0, 0, 10], [10, 0, 0, 12], 5),
            ]
        );
    }

    #[test]
    fn a_range_gets_a_new_time_in_another_vpn() {
        let known = [range([10, 0, 0, 0], [10, 0, 0, 3], 5)];
        let blue = ConfiguredRange {
            vpn: Vpn::Name("blue".into()),
            ..configured([10, 0, 0, 0], [10, 0, 0, 3])
        };
        assert_eq!(
            timed(&[blue], &known, None, &Serving::new(), Time(9))[0].since,
            Time(9)
        );
    }

    #[test]
    fn a_range_gets_a_new_time_when_another_server_assigns_it() {
        let shared = [ConfiguredRange {
            allocators: ["one".into()].into(),
            ..configured([10, 0, 0, 0], [10, 0, 0, 3])
        }];
        let usual = Serving::from(["one".to_owned()]);
        let serving = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let at = |known: &[TimedRange], names: Option<&[&str]>, now| {
            let serving: Option<Serving> = names.map(serving);
            let ranges = timed(&shared, known, serving.as_ref(), &usual, Time(now));
            assert_eq!(ranges.len(), 1);
            ranges
        };
        let unknown = at(&[], None, 1);
        assert!(!unknown[0].remote);
        let partners = at(&unknown, Some(&["two"]), 2);
        assert!((partners[0].remote, partners[0].since) == (true, Time(2)));
        assert_eq!(at(&partners, Some(&["two"]), 3), partners);
        assert_eq!(at(&partners, None, 4), partners);
        let ours = at(&partners, Some(&["one", "two"]), 5);
        assert!((ours[0].remote, ours[0].since) == (false, Time(5)));
    }

    #[test]
    fn finds_the_parts_that_another_server_assigns() {
        let list = |ranges: &[(u8, u8, bool)]| -> Vec<TimedRange> {
            let ranges = ranges.iter();
            let ranges = ranges.map(|(first, last, remote)| TimedRange {
                remote: *remote,
                ..range([10, 0, 0, *first], [10, 0, 0, *last], 1)
            });
            ranges.collect()
        };
        let before = list(&[
            (0, 9, true),
            (20, 29, false),
            (30, 39, true),
            (50, 59, true),
        ]);
        let after = list(&[
            (5, 24, false),
            (25, 34, true),
            (35, 40, true),
            (50, 59, false),
        ]);
        let parts = reassigned(&before, &after);
        let parts: Vec<_> = parts
            .iter()
            .map(|(first, last)| (first & 0xff, last & 0xff))
            .collect();
        assert_eq!(parts, [(5, 9), (25, 29), (50, 59)]);
        assert_eq!(reassigned(&after, &before).len(), parts.len());
        assert!(reassigned(&after, &after).is_empty());
    }

    #[test]
    fn keeps_the_times_of_former_ranges() {
        let former = [
            range([10, 0, 0, 0], [10, 0, 0, 9], 1),
            range([10, 0, 0, 20], [10, 0, 0, 29], 2),
            range([255, 255, 255, 0], [255, 255, 255, 255], 3),
        ];
        let ranges = [
            range([10, 0, 0, 2], [10, 0, 0, 3], 7),
            range([10, 0, 0, 8], [10, 0, 0, 24], 8),
        ];
        assert_eq!(
            and_former(&ranges, &former),
            [
                range([10, 0, 0, 0], [10, 0, 0, 1], 1),
                range([10, 0, 0, 2], [10, 0, 0, 3], 7),
                range([10, 0, 0, 4], [10, 0, 0, 7], 1),
                range([10, 0, 0, 8], [10, 0, 0, 24], 8),
                range([10, 0, 0, 25], [10, 0, 0, 29], 2),
                range([255, 255, 255, 0], [255, 255, 255, 255], 3),
            ]
        );
    }

    #[test]
    fn the_highest_address_can_be_configured() {
        let all = [configured([0, 0, 0, 0], [255, 255, 255, 255])];
        let known = timed(&all, &[], None, &Serving::new(), Time(1));
        assert_eq!(timed(&all, &known, None, &Serving::new(), Time(2)), known);
    }
}
