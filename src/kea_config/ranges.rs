//! Configured addresses as ranges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kea_config::high_availability::Allocators;
use crate::model::vpn::Vpn;

/// A run of configured addresses in one VPN that the same servers can lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredRange {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address, `first <= last`.
    pub last: Ipv4Addr,
    /// The VPN of all addresses.
    pub vpn: Vpn,
    /// The high-availability servers that can lease its free addresses.
    pub allocators: Allocators,
}

/// A pool or a reserved address, and its precedence among overlapping ones.
pub struct Claim<'a> {
    /// The first address.
    pub first: u32,
    /// The last address, `first <= last`.
    pub last: u32,
    /// The prefix length of the subnet: the longest has precedence.
    pub prefix_length: u8,
    /// Index of the subnet in the configuration: the first of equal length has precedence.
    pub order: usize,
    /// The subnet's VPN.
    pub vpn: &'a Vpn,
    /// The high-availability servers that can lease the free addresses.
    pub allocators: &'a Allocators,
}

/// Merges `claims` into ascending, disjoint ranges. Adjacent ranges of one kind are joined. Takes
/// O(n log n), for any overlap.
pub fn merge(mut claims: Vec<Claim<'_>>) -> Vec<ConfiguredRange> {
    claims.sort_unstable_by_key(|claim| claim.first);
    let mut merged = Vec::new();
    // Claims that began at or before `at`, that with the highest precedence on top. Ended claims
    // are removed when they reach the top.
    let mut open: BinaryHeap<(u8, Reverse<usize>, u32, usize)> = BinaryHeap::new();
    let mut upcoming = 0;
    let mut at = 0_u32;
    loop {
        while open.peek().is_some_and(|(.., last, _)| *last < at) {
            open.pop();
        }
        if open.is_empty() {
            match claims.get(upcoming) {
                Some(claim) => at = at.max(claim.first),
                None => return merged,
            }
        }
        while let Some(claim) = claims.get(upcoming).filter(|claim| claim.first <= at) {
            if claim.last >= at {
                open.push((
                    claim.prefix_length,
                    Reverse(claim.order),
                    claim.last,
                    upcoming,
                ));
            }
            upcoming += 1;
        }
        let Some((_, _, last, winner)) = open.peek() else {
            continue;
        };
        let next = claims.get(upcoming).map(|claim| claim.first);
        // The claim on top applies until it ends or another claim begins.
        let until = next.map_or(*last, |next| (*last).min(next.saturating_sub(1)));
        if let Some(winner) = claims.get(*winner) {
            push(&mut merged, at, until, winner);
        }
        match until.checked_add(1) {
            Some(next) => at = next,
            None => return merged,
        }
    }
}

/// Adds addresses of `claim`, which are above all others. Adjacent ranges differ in kind or have a gap between
/// them.
fn push(ranges: &mut Vec<ConfiguredRange>, first: u32, last: u32, claim: &Claim<'_>) {
    match ranges.last_mut() {
        Some(range)
            if range.vpn == *claim.vpn
                && range.allocators == *claim.allocators
                && range.last.to_bits().checked_add(1) == Some(first) =>
        {
            range.last = Ipv4Addr::from_bits(last);
        }
        _ => ranges.push(ConfiguredRange {
            first: Ipv4Addr::from_bits(first),
            last: Ipv4Addr::from_bits(last),
            vpn: claim.vpn.clone(),
            allocators: Arc::clone(claim.allocators),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default VPN.
    static DEFAULT: Vpn = Vpn::Default;

    /// No high-availability servers.
    static NONE: std::sync::LazyLock<Allocators> = std::sync::LazyLock::new(Allocators::default);

    /// Returns a claim of the subnet at `order` with a prefix of `prefix_length`.
    fn claim(first: u32, last: u32, prefix_length: u8, order: usize, vpn: &Vpn) -> Claim<'_> {
        Claim {
            first,
            last,
            prefix_length,
            order,
            vpn,
            allocators: &NONE,
        }
    }

    /// Returns first address, last address and VPN of each range.
    fn plain(ranges: &[ConfiguredRange]) -> Vec<(u32, u32, &Vpn)> {
        ranges
            .iter()
            .map(|range| (range.first.to_bits(), range.last.to_bits(), &range.vpn))
            .collect()
    }

    #[test]
    fn neighbours_and_overlaps_in_one_vpn_make_one_range() {
        let merged = merge(vec![
            claim(30, 39, 24, 0, &DEFAULT),
            claim(10, 19, 24, 0, &DEFAULT),
            claim(20, 20, 24, 0, &DEFAULT),
            claim(15, 18, 16, 1, &DEFAULT),
            claim(32, 50, 24, 2, &DEFAULT),
        ]);
        assert_eq!(plain(&merged), [(10, 20, &DEFAULT), (30, 50, &DEFAULT)]);
    }

    #[test]
    fn the_most_specific_subnet_wins_an_address_and_the_first_of_equals() {
        let blue = Vpn::Name("blue".into());
        let red = Vpn::Name("red".into());
        let merged = merge(vec![
            claim(0, 100, 16, 0, &DEFAULT),
            claim(10, 19, 24, 1, &blue),
            claim(15, 29, 24, 2, &red),
        ]);
        assert_eq!(
            plain(&merged),
            [
                (0, 9, &DEFAULT),
                (10, 19, &blue),
                (20, 29, &red),
                (30, 100, &DEFAULT)
            ]
        );
    }

    #[test]
    fn the_last_address_there_is_can_be_configured() {
        let merged = merge(vec![
            claim(u32::MAX, u32::MAX, 32, 0, &DEFAULT),
            claim(0, 0, 32, 1, &DEFAULT),
        ]);
        assert_eq!(
            plain(&merged),
            [(0, 0, &DEFAULT), (u32::MAX, u32::MAX, &DEFAULT)]
        );
    }

    proptest::proptest! {
        /// Every address has the VPN of the claim with the highest precedence.
        #[test]
        fn each_address_belongs_to_the_claim_of_highest_precedence(
            claims in proptest::collection::vec((0_u32..60, 0_u32..20, 0_u8..3, 0_usize..3), 0..12)
        ) {
            let vpns: Vec<Vpn> = (0..3).map(|n| Vpn::Name(n.to_string())).collect();
            let claims = || claims.iter().map(|(first, length, prefix_length, order)| {
                claim(*first, first + length, *prefix_length, *order, &vpns[*order])
            });
            let merged = merge(claims().collect());
            for address in 0_u32..90 {
                let expected = claims()
                    .filter(|claim| (claim.first..=claim.last).contains(&address))
                    .max_by_key(|claim| (claim.prefix_length, Reverse(claim.order)))
                    .map(|claim| claim.vpn);
                let found: Vec<&Vpn> = merged
                    .iter()
                    .filter(|range| (range.first.to_bits()..=range.last.to_bits()).contains(&address))
                    .map(|range| &range.vpn)
                    .collect();
                proptest::prop_assert_eq!(found, Vec::from_iter(expected));
            }
            for pair in merged.windows(2) {
                proptest::prop_assert!(pair[0].last < pair[1].first);
                proptest::prop_assert!(
                    pair[0].vpn != pair[1].vpn
                        || pair[0].last.to_bits() + 1 < pair[1].first.to_bits()
                );
            }
        }
    }
}
