//! An ordered set of times with addresses, each with the groups of its binding, in eight octets.
//!
//! An entry is 64 bits: a time, then an address. Entries are stored in sorted chunks. The entries of a chunk
//! agree in their first 16 bits, which are times of some 18 hours; the chunk's key contains these bits, and the
//! chunk the other 48, followed by the groups. A change moves at most the [`FULL`] entries of a chunk.

use std::collections::BTreeMap;

use crate::mirror::group::{GroupFilter, Groups};
use crate::model::time::{Time, Window};

/// The most entries of a chunk, which takes 2 KiB then. A power of two: the capacity of chunks doubles, so the
/// memory that one frees suits another.
const FULL: usize = 256;
/// The most entries of two chunks that are joined: the result needs room for further ones.
const JOINED: usize = FULL / 8 * 7;
/// The number of removals from a chunk after which it is compared with its neighbours again.
const TAKEN_OUT: usize = FULL / 16;

/// The distance of the entries that a search compares first: one in each cache line of 64 octets.
const STEP: usize = 8;

/// The last 48 bits of an entry, then its groups.
type Stored = u64;

/// An ordered set of times with addresses, each with the groups of its binding.
#[derive(Clone, Debug, Default)]
pub struct TimeSet {
    /// Chunks by key. The key is at most the first entry, above the last entry of the chunk before, and agrees
    /// with the entries in the first 16 bits. No chunk is empty.
    chunks: BTreeMap<u64, Vec<Stored>>,
}

impl TimeSet {
    /// Adds an entry, or sets its groups; returns whether it is new.
    pub fn insert(&mut self, time: Time, address: u32, groups: Groups) -> bool {
        let entry = entry(time, address);
        let before = self.chunks.range_mut(..=entry).next_back();
        let Some((_, chunk)) = before.filter(|(key, _)| prefix(**key) == prefix(entry)) else {
            // With the lowest key, so that this chunk also gets earlier entries.
            let chunk = chunk_of(&[stored(entry, groups)]);
            self.chunks.insert(prefix(entry), chunk);
            return true;
        };
        let place = match find(chunk, entry) {
            Ok(place) => {
                if let Some(found) = chunk.get_mut(place) {
                    *found = stored(entry, groups);
                }
                return false;
            }
            Err(place) => place,
        };
        if chunk.len() < FULL {
            chunk.insert(place, stored(entry, groups));
            return true;
        }
        // Entries mostly come in ascending order: the ones before the new entry stay together, and the ones after
        // it join the next chunk if that has room.
        let (key, after) = if place < FULL {
            let after = chunk.split_off(place.max(FULL / 2));
            chunk.insert(place, stored(entry, groups));
            let first = after.first().map(|first| whole(entry, *first));
            (first.unwrap_or(entry), after)
        } else {
            (entry, vec![stored(entry, groups)])
        };
        self.chunks.insert(key, chunk_of(&after));
        self.join(key);
        true
    }

    /// Removes an entry; returns whether it was in the set.
    pub fn remove(&mut self, time: Time, address: u32) -> bool {
        let entry = entry(time, address);
        let Some((key, chunk)) = self.chunks.range_mut(..=entry).next_back() else {
            return false;
        };
        let Some(place) = Some(*key)
            .filter(|key| prefix(*key) == prefix(entry))
            .and_then(|_| find(chunk, entry).ok())
        else {
            return false;
        };
        let key = *key;
        chunk.remove(place);
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(&key);
        } else if left % TAKEN_OUT == 0 {
            self.join(key);
        }
        true
    }

    /// Iterates over the entries from `from` to the time `end`, both included, in ascending order of times, then
    /// of addresses.
    pub fn range(&self, from: (Time, u32), end: Time) -> impl Iterator<Item = (Time, u32)> {
        let (first, last) = (entry(from.0, from.1), entry(end, u32::MAX));
        self.chunks_from(first, last).flat_map(move |(key, chunk)| {
            let found = entries_between(key, chunk, first, last).iter();
            found.map(move |stored| time_and_address(whole(key, *stored)))
        })
    }

    /// Appends the addresses of the entries selected from `from` to the time `end`, both included, in the order of
    /// [`TimeSet::range`], until `limit` entries were visited, selected or not. Returns the number of those, and the first
    /// entry left.
    ///
    /// Visits whole chunks: through nested iterators, an entry takes ten times as long.
    pub fn collect(
        &self,
        from: (Time, u32),
        end: Time,
        selected: GroupFilter,
        limit: usize,
        addresses: &mut Vec<u32>,
    ) -> (usize, Option<(Time, u32)>) {
        let (first, last) = (entry(from.0, from.1), entry(end, u32::MAX));
        let mut visited = 0;
        for (key, chunk) in self.chunks_from(first, last) {
            let found = entries_between(key, chunk, first, last);
            let (taken, left) = found.split_at(found.len().min(limit - visited));
            visited += taken.len();
            let is_selected = |stored: &&Stored| selected.selects(Groups(**stored as u16));
            let selected = taken.iter().filter(is_selected);
            addresses.extend(selected.map(|stored| whole(key, *stored) as u32));
            if let Some(left) = left.first() {
                return (visited, Some(time_and_address(whole(key, *left))));
            }
        }
        (visited, None)
    }

    /// Iterates over the chunks that may have entries from `first` to `last`, both included.
    fn chunks_from(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &[Stored])> {
        let before = self.chunks.range(..=first).next_back();
        let from = before.map_or(first, |(key, _)| *key);
        let chunks = self.chunks.range(from.min(last)..=last);
        chunks.map(|(key, chunk)| (*key, &chunk[..]))
    }

    /// Returns the number of entries in a window, or any number above `limit`.
    ///
    /// Reads the sizes of chunks, and entries of only the first and the last one.
    pub fn count(&self, window: Window, limit: usize) -> usize {
        let (first, last) = (entry(window.start, 0), entry(window.end, u32::MAX));
        if first > last {
            return 0;
        }
        let entries_before = |key, chunk: &[Stored], entry| {
            chunk.partition_point(|stored| whole(key, *stored) < entry)
        };
        let chunk_before = self.chunks.range(..first).next_back();
        let mut count = chunk_before.map_or(0, |(key, chunk)| {
            let after = last.checked_add(1);
            let end = after.map_or(chunk.len(), |after| entries_before(*key, chunk, after));
            end - entries_before(*key, chunk, first)
        });
        let mut chunks = self.chunks.range(first..=last).peekable();
        while let Some((key, chunk)) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let after = last.checked_add(1).filter(|_| is_last);
            count += after.map_or(chunk.len(), |after| entries_before(*key, chunk, after));
            if count > limit {
                break;
            }
        }
        count
    }

    /// Joins a chunk with the one before or after it, if both are small.
    fn join(&mut self, key: u64) {
        let len = |chunk: Option<(&u64, &Vec<Stored>)>| {
            chunk
                .filter(|(other, _)| prefix(**other) == prefix(key))
                .map(|(other, chunk)| (*other, chunk.len()))
        };
        let before = len(self.chunks.range(..key).next_back());
        let mut from_here = self.chunks.range(key..);
        let (here, after) = (len(from_here.next()), len(from_here.next()));
        let pairs = [before.zip(here), here.zip(after)];
        let small =
            |((_, first), (_, second)): &((u64, usize), (u64, usize))| first + second <= JOINED;
        let Some(((first, _), (second, _))) = pairs.into_iter().flatten().find(small) else {
            return;
        };
        let second = self.chunks.remove(&second).unwrap_or_default();
        if let Some(first) = self.chunks.get_mut(&first) {
            let len = first.len() + second.len();
            first.reserve_exact(len.next_power_of_two() - first.len());
            first.extend(second);
        }
    }
}

impl FromIterator<(Time, u32, Groups)> for TimeSet {
    /// Collects entries; of equal ones, one of the groups.
    fn from_iter<T: IntoIterator<Item = (Time, u32, Groups)>>(entries: T) -> TimeSet {
        // Apart for each prefix, so that they are sorted by 64 bits.
        let mut parts: BTreeMap<u64, Vec<Stored>> = BTreeMap::new();
        for (time, address, groups) in entries {
            let entry = entry(time, address);
            let part = parts.entry(prefix(entry)).or_default();
            part.push(stored(entry, groups));
        }
        let mut chunks = BTreeMap::new();
        for (prefix, mut entries) in parts {
            entries.sort_unstable();
            entries.dedup_by_key(|stored| whole(prefix, *stored));
            let mut key = prefix;
            for part in entries.chunks(FULL) {
                chunks.insert(key, chunk_of(part));
                // The last entry of all, after which the key is unused, may have no successor.
                key = part
                    .last()
                    .map_or(key, |last| whole(prefix, *last).saturating_add(1));
            }
        }
        TimeSet { chunks }
    }
}

/// Returns the entry of a time and an address.
fn entry(time: Time, address: u32) -> u64 {
    u64::from(time.0) << 32 | u64::from(address)
}

/// Returns the time and the address of an entry.
fn time_and_address(entry: u64) -> (Time, u32) {
    // The upper and the lower half.
    (Time((entry >> 32) as u32), entry as u32)
}

/// Returns the entries of a chunk from `first` to `last`, both included.
fn entries_between(key: u64, chunk: &[Stored], first: u64, last: u64) -> &[Stored] {
    let from = chunk.partition_point(|stored| whole(key, *stored) < first);
    let to = chunk.partition_point(|stored| whole(key, *stored) <= last);
    chunk.get(from..to).unwrap_or_default()
}

/// Returns an entry without the bits that a chunk stores.
fn prefix(entry: u64) -> u64 {
    entry & !0 << 48
}

/// Returns the bits of an entry that a chunk stores, with its groups.
fn stored(entry: u64, groups: Groups) -> Stored {
    entry << 16 | u64::from(groups.0)
}

/// Returns the entry of which a chunk with this key stores these bits.
fn whole(key: u64, stored: Stored) -> u64 {
    prefix(key) | stored >> 16
}

/// Returns the index of an entry in its chunk, whose key agrees with it, or the index to insert it at.
///
/// A chunk is rarely in the processor's caches. In a binary search each access waits for the one before; here
/// the accesses are independent, and their waits overlap.
fn find(chunk: &[Stored], entry: u64) -> Result<usize, usize> {
    let last = stored(entry, Groups(u16::MAX));
    let is_before = |first: &&Stored| **first <= last;
    let steps = chunk.iter().step_by(STEP).filter(is_before).count();
    let from = steps.saturating_sub(1) * STEP;
    let left = chunk.get(from..).unwrap_or_default();
    let left = left.get(..STEP).unwrap_or(left);
    let found = left.binary_search_by_key(&entry, |stored| whole(entry, *stored));
    found
        .map(|place| from + place)
        .map_err(|place| from + place)
}

/// Creates a chunk of entries.
fn chunk_of(entries: &[Stored]) -> Vec<Stored> {
    let mut chunk = Vec::with_capacity(entries.len().next_power_of_two());
    chunk.extend_from_slice(entries);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks the invariants of the chunks.
    fn check(index: &TimeSet) {
        let mut last = None;
        for (key, chunk) in &index.chunks {
            assert!(!chunk.is_empty() && chunk.capacity() <= FULL);
            assert!(last.is_none_or(|last| last < *key));
            for stored in chunk {
                let entry = whole(*key, *stored);
                assert!(*key <= entry && last.is_none_or(|last| last < entry));
                last = Some(entry);
            }
        }
    }

    /// Returns the groups of an address and a round, with values at both ends.
    fn groups(address: u32, round: usize) -> Groups {
        let number = address as usize + round;
        Groups([0, 1, 0x0100, 0xff01, u16::MAX][number % 5])
    }

    fn addresses_in(index: &TimeSet, start: Time, end: Time) -> Vec<u32> {
        let found = index.range((start, 0), end);
        found.map(|(_, address)| address).collect()
    }

    fn all(index: &TimeSet) -> Vec<u32> {
        addresses_in(index, Time::MIN, Time::MAX)
    }

    /// Times in few seconds, at the edges of 16 bits, and far apart.
    fn times() -> impl Strategy<Value = u32> {
        prop_oneof![
            0..4u32,
            65_530..65_542u32,
            any::<u32>(),
            u32::MAX - 2..=u32::MAX
        ]
    }

    /// Addresses, some of which recur.
    fn addresses() -> impl Strategy<Value = u32> {
        prop_oneof![0..2_000u32, any::<u32>(), u32::MAX - 2..=u32::MAX]
    }

    proptest! {
        #[test]
        fn holds_what_an_ordinary_set_holds(
            steps in proptest::collection::vec(
                (0..5u8, times(), addresses(), 1..700u32), 0..60),
            (start, end) in (times(), times()),
            limit in 0..2_000usize,
        ) {
            let mut index = TimeSet::default();
            let mut expected = BTreeMap::new();
            for (round, (what, time, address, count)) in steps.into_iter().enumerate() {
                for number in 0..count {
                    // In one second, ascending and descending, or a second each.
                    let (time, address) = match what % 2 {
                        0 => (time, address.wrapping_add(number)),
                        _ => (time.wrapping_sub(number), address),
                    };
                    if what < 3 {
                        let groups = groups(address, round);
                        let is_new = expected.insert((time, address), groups).is_none();
                        prop_assert_eq!(index.insert(Time(time), address, groups), is_new);
                    } else {
                        let was_there = expected.remove(&(time, address)).is_some();
                        prop_assert_eq!(index.remove(Time(time), address), was_there);
                    }
                }
                check(&index);
            }
            let found = addresses_in(&index, Time(start), Time(end));
            let in_time = |((time, _), _): &(&(u32, u32), &Groups)| (start..=end).contains(time);
            let wanted: Vec<_> = expected.iter().filter(in_time).collect();
            let window = Window { start: Time(start), end: Time(end) };
            prop_assert_eq!(index.count(window, usize::MAX), wanted.len());
            let counted = index.count(window, limit);
            prop_assert!(counted == wanted.len() || counted > limit && wanted.len() > limit);
            let addresses = |selected: GroupFilter| -> Vec<u32> {
                let wanted = wanted.iter().filter(|(_, groups)| selected.selects(**groups));
                wanted.map(|((_, address), _)| *address).collect()
            };
            prop_assert_eq!(found, addresses(GroupFilter::ALL));
            for selected in [GroupFilter::ALL, GroupFilter::relay_id(b"")] {
                let mut collected = Vec::new();
                let mut from = Some((Time(start), 0));
                let mut left = wanted.len();
                while let Some(next) = from {
                    let visited;
                    (visited, from) =
                        index.collect(next, Time(end), selected, limit + 1, &mut collected);
                    prop_assert_eq!(visited, left.min(limit + 1));
                    left -= visited;
                }
                prop_assert_eq!(collected, addresses(selected));
            }

            let entries = expected.iter().rev().chain(&expected);
            let entries = entries.map(|((time, address), groups)| (Time(*time), *address, *groups));
            let built: TimeSet = entries.collect();
            check(&built);
            prop_assert_eq!(all(&built), all(&index));
            prop_assert_eq!(all(&built).len(), expected.len());

            for (time, address) in expected.keys() {
                prop_assert!(index.remove(Time(*time), *address));
            }
            check(&index);
            prop_assert!(index.chunks.is_empty());
        }
    }

    #[test]
    fn chunks_filled_in_order_are_full() {
        let mut index = TimeSet::default();
        for number in 0..100 * FULL as u32 {
            // A renewal: now, and at the end of its lifetime.
            index.insert(Time(number / 10), number, Groups(0));
            index.insert(Time(number / 10 + 20_000), number, Groups(0));
        }
        check(&index);
        assert_eq!(index.chunks.len(), 200);
    }

    #[test]
    fn chunks_are_mostly_full_if_each_second_is_in_no_order() {
        let mut index = TimeSet::default();
        for number in 0..100 * FULL as u32 {
            index.insert(
                Time(number / (FULL as u32 / 2)),
                number.wrapping_mul(0x9e37_79b1),
                Groups(0),
            );
        }
        check(&index);
        assert!(index.chunks.len() < 120, "{}", index.chunks.len());
    }

    #[test]
    fn chunks_that_lose_most_are_put_together() {
        let entries = (0..100 * FULL as u32).map(|number| (Time(number / 10), number, Groups(0)));
        let mut index: TimeSet = entries.clone().collect();
        for (time, address, _) in entries.filter(|(_, address, _)| address % 16 != 0) {
            index.remove(time, address);
        }
        check(&index);
        assert!(index.chunks.len() <= 100 / 8, "{}", index.chunks.len());
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        let index = TimeSet::from_iter([1, 2, 3].map(|number| (Time(number), number, Groups(0))));
        assert!(addresses_in(&index, Time(3), Time(1)).is_empty());
        assert_eq!(addresses_in(&index, Time(2), Time(2)), [2]);
        let from = index.range((Time(2), 3), Time(3));
        assert_eq!(from.collect::<Vec<_>>(), [(Time(3), 3)]);
        assert!(all(&TimeSet::default()).is_empty());
    }
}
