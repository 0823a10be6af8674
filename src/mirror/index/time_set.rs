//! Addresses in the order of times, some entries for each lease, in six octets each.
//!
//! An entry is 64 bits, a time before an address, and entries are kept in sorted chunks. Those of a
//! chunk agree in their first 16 bits, that is to some 18 hours, which only the chunk's key has: the
//! other 48 are stored. A chunk has no more than [`FULL`] entries, so no change costs more than
//! moving these.

use std::collections::BTreeMap;

use crate::model::time::{Time, Window};

/// Most entries of a chunk, which takes 1.5 KiB then. A power of two: chunks take memory by doubling,
/// so that what one gives back is what another needs.
const FULL: usize = 256;
/// Most entries of two chunks that are put together: there must be room for more.
const JOINED: usize = FULL / 8 * 7;
/// So many entries are taken out of a chunk before it is tried again to put it together with another.
const TAKEN_OUT: usize = FULL / 16;

/// Each so many entries, one is looked at when one is searched for: one in each line of the
/// processor's caches, 64 octets.
const STEP: usize = 8;

/// The last 48 bits of an entry, in units that leave no gap between entries.
type Stored = [u16; 3];

/// An ordered set of times with addresses.
#[derive(Clone, Debug, Default)]
pub struct TimeSet {
    /// Chunks by a key that is no more than their first entry and more than the last one of the
    /// chunk before, and that agrees with their entries in its first 16 bits. None is empty.
    chunks: BTreeMap<u64, Vec<Stored>>,
    /// How many entries there are.
    len: usize,
}

impl TimeSet {
    /// An index without entries.
    pub fn new() -> TimeSet {
        TimeSet::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files an address under a time; says whether it was not filed so already.
    pub fn insert(&mut self, time: Time, address: u32) -> bool {
        let entry = entry(time, address);
        let before = self.chunks.range_mut(..=entry).next_back();
        let Some((_, chunk)) = before.filter(|(key, _)| prefix(**key) == prefix(entry)) else {
            // Under the least key, so that earlier entries go into this chunk, too.
            let chunk = chunk_of(&[stored(entry)]);
            self.chunks.insert(prefix(entry), chunk);
            self.len += 1;
            return true;
        };
        let Err(place) = find(chunk, entry) else {
            return false;
        };
        self.len += 1;
        if chunk.len() < FULL {
            chunk.insert(place, stored(entry));
            return true;
        }
        // Times mostly come in their order: what is before the new one stays together, and what is
        // after it goes where there is room, if there is.
        let (key, after) = if place < FULL {
            let after = chunk.split_off(place.max(FULL / 2));
            chunk.insert(place, stored(entry));
            let first = after.first().map(|first| whole(entry, first));
            (first.unwrap_or(entry), after)
        } else {
            (entry, vec![stored(entry)])
        };
        self.chunks.insert(key, chunk_of(&after));
        self.join(key);
        true
    }

    /// Takes an address out from under a time; says whether it was filed so.
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
        self.len -= 1;
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(&key);
        } else if left % TAKEN_OUT == 0 {
            self.join(key);
        }
        true
    }

    /// The entries from `from` to the time `end`, both included, in the order of times, then of
    /// addresses.
    pub fn range(&self, from: (Time, u32), end: Time) -> impl Iterator<Item = (Time, u32)> {
        let (first, last) = (entry(from.0, from.1), entry(end, u32::MAX));
        let before = self.chunks.range(..=first).next_back();
        let from = before.map_or(first, |(key, _)| *key);
        self.chunks
            .range(from.min(last)..=last)
            .flat_map(move |(key, chunk)| {
                let from = chunk.partition_point(|stored| whole(*key, stored) < first);
                let to = chunk.partition_point(|stored| whole(*key, stored) <= last);
                let found = chunk.get(from..to).unwrap_or_default().iter();
                found.map(|stored| {
                    let entry = whole(*key, stored);
                    // The upper and the lower half.
                    (Time((entry >> 32) as u32), entry as u32)
                })
            })
    }

    /// Counts the entries of a window, or some more than `limit` of them.
    ///
    /// Reads the sizes of chunks, and entries of the first and the last one only.
    pub fn count(&self, window: Window, limit: usize) -> usize {
        let (first, last) = (entry(window.start, 0), entry(window.end, u32::MAX));
        if first > last {
            return 0;
        }
        let entries_before = |key, chunk: &[Stored], entry| {
            chunk.partition_point(|stored| whole(key, stored) < entry)
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

    /// Puts a chunk together with the one before or after it, if they are small.
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

impl FromIterator<(Time, u32)> for TimeSet {
    fn from_iter<T: IntoIterator<Item = (Time, u32)>>(entries: T) -> TimeSet {
        let entries = entries.into_iter();
        let mut entries: Vec<u64> = entries
            .map(|(time, address)| entry(time, address))
            .collect();
        entries.sort_unstable();
        entries.dedup();
        let mut chunks = BTreeMap::new();
        for agreeing in entries.chunk_by(|one, other| prefix(*one) == prefix(*other)) {
            let mut key = agreeing.first().map_or(0, |first| prefix(*first));
            for part in agreeing.chunks(FULL) {
                let entries: Vec<Stored> = part.iter().map(|entry| stored(*entry)).collect();
                chunks.insert(key, chunk_of(&entries));
                // More than all up to here; the last one, after which it is of no use, may have
                // no successor.
                key = part.last().map_or(key, |last| last.saturating_add(1));
            }
        }
        TimeSet {
            chunks,
            len: entries.len(),
        }
    }
}

/// A time and an address as an entry.
fn entry(time: Time, address: u32) -> u64 {
    u64::from(time.0) << 32 | u64::from(address)
}

/// An entry without the bits that a chunk stores.
fn prefix(entry: u64) -> u64 {
    entry & !0 << 48
}

/// The bits of an entry that a chunk stores.
fn stored(entry: u64) -> Stored {
    [(entry >> 32) as u16, (entry >> 16) as u16, entry as u16]
}

/// The entry of what is stored in a chunk with this key.
fn whole(key: u64, [time, high, low]: &Stored) -> u64 {
    prefix(key) | u64::from(*time) << 32 | u64::from(*high) << 16 | u64::from(*low)
}

/// Where an entry is in its chunk, or belongs.
///
/// A chunk is seldom in the processor's caches. A binary search would wait for memory several times,
/// since it knows where to look next only then; this waits for all of the chunk at once.
fn find(chunk: &[Stored], entry: u64) -> Result<usize, usize> {
    let is_before = |first: &&Stored| whole(entry, first) <= entry;
    let steps = chunk.iter().step_by(STEP).filter(is_before).count();
    let from = steps.saturating_sub(1) * STEP;
    let left = chunk.get(from..).unwrap_or_default();
    let left = left.get(..STEP).unwrap_or(left);
    let found = left.binary_search_by_key(&entry, |stored| whole(entry, stored));
    found
        .map(|place| from + place)
        .map_err(|place| from + place)
}

/// A chunk of entries, with the room it gets.
fn chunk_of(entries: &[Stored]) -> Vec<Stored> {
    let mut chunk = Vec::with_capacity(entries.len().next_power_of_two());
    chunk.extend_from_slice(entries);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What must hold of the chunks.
    fn check(index: &TimeSet) {
        let mut last = None;
        for (key, chunk) in &index.chunks {
            assert!(!chunk.is_empty() && chunk.capacity() <= FULL);
            assert!(last.is_none_or(|last| last < *key));
            for stored in chunk {
                let entry = whole(*key, stored);
                assert!(*key <= entry && last.is_none_or(|last| last < entry));
                last = Some(entry);
            }
        }
        let len: usize = index.chunks.values().map(Vec::len).sum();
        assert_eq!(len, index.len());
        assert_eq!(len == 0, index.is_empty());
    }

    fn addresses_in(index: &TimeSet, start: Time, end: Time) -> Vec<u32> {
        let found = index.range((start, 0), end);
        found.map(|(_, address)| address).collect()
    }

    fn all(index: &TimeSet) -> Vec<u32> {
        addresses_in(index, Time::MIN, Time::MAX)
    }

    /// Times that come in order, in few seconds, or apart, also at the edges of 16 bits.
    fn times() -> impl Strategy<Value = u32> {
        prop_oneof![
            0..4u32,
            65_530..65_542u32,
            any::<u32>(),
            u32::MAX - 2..=u32::MAX
        ]
    }

    /// Addresses, of which some come again.
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
            let mut index = TimeSet::new();
            let mut expected = BTreeSet::new();
            for (what, time, address, count) in steps {
                for number in 0..count {
                    // In one second, ascending and descending, or a second each.
                    let (time, address) = match what % 2 {
                        0 => (time, address.wrapping_add(number)),
                        _ => (time.wrapping_sub(number), address),
                    };
                    if what < 3 {
                        let is_new = expected.insert((time, address));
                        prop_assert_eq!(index.insert(Time(time), address), is_new);
                    } else {
                        let was_there = expected.remove(&(time, address));
                        prop_assert_eq!(index.remove(Time(time), address), was_there);
                    }
                }
                check(&index);
            }
            let found = addresses_in(&index, Time(start), Time(end));
            let in_time = |(time, _): &&(u32, u32)| (start..=end).contains(time);
            let wanted: Vec<u32> = expected.iter().filter(in_time).map(|entry| entry.1).collect();
            let window = Window { start: Time(start), end: Time(end) };
            prop_assert_eq!(index.count(window, usize::MAX), wanted.len());
            let counted = index.count(window, limit);
            prop_assert!(counted == wanted.len() || counted > limit && wanted.len() > limit);
            prop_assert_eq!(found, wanted);

            let entries = expected.iter().rev().chain(&expected);
            let built: TimeSet = entries.map(|(time, address)| (Time(*time), *address)).collect();
            check(&built);
            prop_assert_eq!(all(&built), all(&index));
            prop_assert_eq!(built.len(), expected.len());

            for (time, address) in &expected {
                prop_assert!(index.remove(Time(*time), *address));
            }
            check(&index);
            prop_assert!(index.is_empty() && index.chunks.is_empty());
        }
    }

    #[test]
    fn chunks_filled_in_order_are_full() {
        let mut index = TimeSet::new();
        for number in 0..100 * FULL as u32 {
            // A renewal: now, and at the end of its lifetime.
            index.insert(Time(number / 10), number);
            index.insert(Time(number / 10 + 20_000), number);
        }
        check(&index);
        assert_eq!(index.chunks.len(), 200);
    }

    #[test]
    fn chunks_are_mostly_full_if_each_second_is_in_no_order() {
        let mut index = TimeSet::new();
        for number in 0..100 * FULL as u32 {
            index.insert(
                Time(number / (FULL as u32 / 2)),
                number.wrapping_mul(0x9e37_79b1),
            );
        }
        check(&index);
        assert!(index.chunks.len() < 120, "{}", index.chunks.len());
    }

    #[test]
    fn chunks_that_lose_most_are_put_together() {
        let entries = (0..100 * FULL as u32).map(|number| (Time(number / 10), number));
        let mut index: TimeSet = entries.clone().collect();
        for (time, address) in entries.filter(|(_, address)| address % 16 != 0) {
            index.remove(time, address);
        }
        check(&index);
        assert!(index.chunks.len() <= 100 / 8, "{}", index.chunks.len());
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        let index = TimeSet::from_iter([(Time(1), 1), (Time(2), 2), (Time(3), 3)]);
        assert!(addresses_in(&index, Time(3), Time(1)).is_empty());
        assert_eq!(addresses_in(&index, Time(2), Time(2)), [2]);
        let from = index.range((Time(2), 3), Time(3));
        assert_eq!(from.collect::<Vec<_>>(), [(Time(3), 3)]);
        assert!(all(&TimeSet::new()).is_empty());
    }
}
