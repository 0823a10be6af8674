//! Finds addresses by an identity: a MAC address, client identifier, remote-id or relay-id.
//!
//! Mostly a key has one address, and is in the mirror's record of that address anyway. So the
//! index keeps the address alone, by the key's hash, and asks for the key on record where it must
//! know it: to tell keys of like hashes apart, and to hash them again when a table grows. Only the
//! keys of more than [`FEW`] addresses are kept, with a set of these.
//!
//! The addresses are spread over many small tables, so that no change waits for one that grows.
//!
//! # What callers promise
//!
//! `key_of` gives the key on record for an address. An address is inserted once its record is in
//! place, and removed before its record goes or has another key, so each one has the key on record
//! that it is filed under. What is not so is not found, and forgotten in time.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;

use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;

/// Tables of an index. With 10,000,000 keys each has some thousand.
const SHARDS: usize = 4096;
/// Most addresses filed under a key that is not kept.
const FEW: usize = 8;

/// Addresses by key.
#[derive(Clone, Debug)]
pub struct IdentityIndex {
    /// Hashes keys, in a way that nobody outside can foresee.
    hasher: DefaultHashBuilder,
    /// Parts of the index, each for some hashes.
    shards: Box<[Shard]>,
}

/// A part of the index.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// Addresses by their keys' hashes, at most [`FEW`] to a key.
    few: HashTable<u32>,
    /// Keys that have, or had, more addresses.
    many: HashTable<Shared>,
}

/// A key of many addresses.
#[derive(Clone, Debug)]
struct Shared {
    /// The key.
    key: Box<[u8]>,
    /// Its addresses.
    addresses: RoaringBitmap,
}

/// The addresses found under a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    /// Those of a key that has few, ascending.
    few: [u32; FEW],
    /// How many of these there are.
    count: usize,
    /// Those of a key that has many.
    many: Option<&'a RoaringBitmap>,
}

impl Default for IdentityIndex {
    fn default() -> IdentityIndex {
        IdentityIndex::of_shards(SHARDS)
    }
}

impl IdentityIndex {
    /// An index without addresses.
    pub fn new() -> IdentityIndex {
        IdentityIndex::default()
    }

    /// An index of so many parts.
    fn of_shards(shards: usize) -> IdentityIndex {
        IdentityIndex {
            hasher: DefaultHashBuilder::default(),
            shards: vec![Shard::default(); shards].into(),
        }
    }

    /// An index of all these addresses, as far as they have a key.
    pub fn of_all<K: AsRef<[u8]>>(
        addresses: impl Iterator<Item = u32>,
        key_of: impl Fn(u32) -> Option<K>,
    ) -> IdentityIndex {
        let mut index = IdentityIndex::new();
        index.fill(addresses, key_of);
        index
    }

    /// Fills an index that is empty.
    ///
    /// Addresses are filed in the order of their hashes, so that the processor's cache holds the table in
    /// use, and that only those that may have a key in common are compared.
    fn fill<K: AsRef<[u8]>>(
        &mut self,
        addresses: impl Iterator<Item = u32>,
        key_of: impl Fn(u32) -> Option<K>,
    ) {
        let IdentityIndex {
            hasher,
            shards: all,
        } = self;
        let mut hashed: Vec<(u64, u32)> = addresses
            .filter_map(|address| Some((hasher.hash_one(key_of(address)?.as_ref()), address)))
            .collect();
        let shards = all.len();
        // In the order of shards.
        hashed.sort_unstable_by_key(|(hash, _)| (choosing(*hash), *hash));
        for in_shard in hashed.chunk_by(|a, b| shard_of(a.0, shards) == shard_of(b.0, shards)) {
            let place = in_shard
                .first()
                .map_or(0, |(hash, _)| shard_of(*hash, shards));
            let Some(shard) = all.get_mut(place) else {
                continue;
            };
            let alike = || in_shard.chunk_by(|a, b| a.0 == b.0);
            let few: usize = alike().map(|alike| alike.len().min(FEW)).sum();
            shard.make_room(few, hasher, &key_of);
            for alike in alike() {
                if let [(hash, address)] = alike {
                    shard.file(*hash, *address);
                    continue;
                }
                for (hash, address) in alike {
                    if let Some(key) = key_of(*address) {
                        shard.insert(key.as_ref(), *hash, *address, hasher, &key_of);
                    }
                }
            }
        }
    }

    /// Files an address under a key.
    pub fn insert<K: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        address: u32,
        key_of: impl Fn(u32) -> Option<K>,
    ) {
        let hash = self.hasher.hash_one(key);
        let place = shard_of(hash, self.shards.len());
        if let Some(shard) = self.shards.get_mut(place) {
            shard.insert(key, hash, address, &self.hasher, &key_of);
        }
    }

    /// Takes an address out from under a key.
    pub fn remove<K: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        address: u32,
        key_of: impl Fn(u32) -> Option<K>,
    ) {
        let hash = self.hasher.hash_one(key);
        let place = shard_of(hash, self.shards.len());
        if let Some(shard) = self.shards.get_mut(place) {
            shard.remove(key, hash, address, &self.hasher, &key_of);
        }
    }

    /// Finds the addresses filed under a key.
    pub fn find<K: AsRef<[u8]>>(&self, key: &[u8], key_of: impl Fn(u32) -> Option<K>) -> Found<'_> {
        let hash = self.hasher.hash_one(key);
        let place = shard_of(hash, self.shards.len());
        let Some(shard) = self.shards.get(place) else {
            return Found::default();
        };
        match shard.many.find(hash, |shared| *shared.key == *key) {
            Some(shared) => Found {
                many: Some(&shared.addresses),
                ..Found::default()
            },
            None => shard.find_few(key, hash, &key_of),
        }
    }
}

impl Shard {
    /// See [`IdentityIndex::insert`].
    fn insert<K: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        hash: u64,
        address: u32,
        hasher: &DefaultHashBuilder,
        key_of: &impl Fn(u32) -> Option<K>,
    ) {
        if let Some(shared) = self.many.find_mut(hash, |shared| *shared.key == *key) {
            shared.addresses.insert(address);
            return;
        }
        if self.few.find(hash, |filed| *filed == address).is_some() {
            return;
        }
        let found = self.find_few(key, hash, key_of);
        if found.count < FEW {
            self.make_room(1, hasher, key_of);
            self.file(hash, address);
            return;
        }
        let mut addresses = RoaringBitmap::from([address]);
        for few in found.all() {
            addresses.insert(few);
            self.unfile(hash, few);
        }
        let shared = Shared {
            key: key.into(),
            addresses,
        };
        self.many
            .insert_unique(hash, shared, |shared| hasher.hash_one(&*shared.key));
    }

    /// See [`IdentityIndex::remove`].
    fn remove<K: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        hash: u64,
        address: u32,
        hasher: &DefaultHashBuilder,
        key_of: &impl Fn(u32) -> Option<K>,
    ) {
        let Ok(mut shared) = self.many.find_entry(hash, |shared| *shared.key == *key) else {
            self.unfile(hash, address);
            if self.few.len() < self.few.num_buckets() / 8 {
                self.rebuild(2 * self.few.len(), hasher, key_of);
            }
            return;
        };
        let addresses = &mut shared.get_mut().addresses;
        addresses.remove(address);
        // Half of what made it a key of many, so that the next one does not at once, again.
        if addresses.len() > FEW as u64 / 2 {
            return;
        }
        let (shared, _) = shared.remove();
        if self.many.len() < self.many.num_buckets() / 8 {
            let len = 2 * self.many.len();
            self.many
                .shrink_to(len, |shared| hasher.hash_one(&*shared.key));
        }
        self.make_room(FEW / 2, hasher, key_of);
        for address in shared.addresses {
            self.file(hash, address);
        }
    }

    /// Finds the addresses of a key that has few.
    fn find_few<K: AsRef<[u8]>>(
        &self,
        key: &[u8],
        hash: u64,
        key_of: &impl Fn(u32) -> Option<K>,
    ) -> Found<'static> {
        let mut found = Found::default();
        let filed = self.few.iter_hash(hash).copied();
        let with_key =
            filed.filter(|address| key_of(*address).is_some_and(|on| on.as_ref() == key));
        for (place, address) in found.few.iter_mut().zip(with_key) {
            *place = address;
            found.count += 1;
        }
        found.few[..found.count].sort_unstable();
        found
    }

    /// Files an address under a hash; there must be room.
    fn file(&mut self, hash: u64, address: u32) {
        self.few.insert_unique(hash, address, |_| hash);
    }

    /// Takes an address out from under a hash.
    fn unfile(&mut self, hash: u64, address: u32) {
        if let Ok(filed) = self.few.find_entry(hash, |filed| *filed == address) {
            filed.remove();
        }
    }

    /// Makes room for so many more addresses.
    fn make_room<K: AsRef<[u8]>>(
        &mut self,
        more: usize,
        hasher: &DefaultHashBuilder,
        key_of: &impl Fn(u32) -> Option<K>,
    ) {
        let len = self.few.len();
        if len + more > self.few.capacity() {
            // With a little more than needed, or it grows soon again where others were taken out.
            self.rebuild(len + more + len / 8, hasher, key_of);
        }
    }

    /// Moves all addresses that still have a key, and belong here by it, to a table for so many.
    ///
    /// The table does not grow by itself: it would need a hash for each address, and would keep
    /// those that have no key any more.
    fn rebuild<K: AsRef<[u8]>>(
        &mut self,
        capacity: usize,
        hasher: &DefaultHashBuilder,
        key_of: &impl Fn(u32) -> Option<K>,
    ) {
        let former = std::mem::replace(&mut self.few, HashTable::with_capacity(capacity));
        for address in former {
            if let Some(key) = key_of(address) {
                self.file(hasher.hash_one(key.as_ref()), address);
            }
        }
    }
}

impl<'a> Found<'a> {
    /// Whether there is no address.
    pub fn is_empty(self) -> bool {
        self.count == 0 && self.many.is_none()
    }

    /// How many addresses there are.
    pub fn len(self) -> u64 {
        self.many.map_or(self.count as u64, RoaringBitmap::len)
    }

    /// Whether an address is among these.
    pub fn contains(self, address: u32) -> bool {
        match self.many {
            Some(many) => many.contains(address),
            None => self.few.iter().take(self.count).any(|few| *few == address),
        }
    }

    /// All addresses, ascending.
    pub fn all(self) -> impl Iterator<Item = u32> + use<'a> {
        self.within(0..=u32::MAX)
    }

    /// Iterates over the addresses in a range, ascending; fastest in [`Iterator::for_each`] and the like.
    pub fn within(self, range: RangeInclusive<u32>) -> impl Iterator<Item = u32> + use<'a> {
        let few = self.few.into_iter().take(self.count);
        let bounds = range.clone();
        let few = few.filter(move |few| range.contains(few));
        let many = self.many.into_iter();
        few.chain(many.flat_map(move |many| many.range(bounds.clone())))
    }
}

/// The bits of a hash that choose its shard: tables make no use of them.
fn choosing(hash: u64) -> u32 {
    (hash >> 25) as u32
}

/// The shard for a hash.
///
/// The last shard gets twice as many as the first, and those between what is between. All tables
/// double when they are full; alike, they would do so together, and be half empty together.
fn shard_of(hash: u64, shards: usize) -> usize {
    let part = f64::from(choosing(hash)) / (u64::from(u32::MAX) + 1) as f64;
    // Up to a fraction of x of the shards there is a part of (2x + x²) / 3 of the hashes.
    let fraction = (1.0 + 3.0 * part).sqrt() - 1.0;
    ((fraction * shards as f64) as usize).min(shards.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Addresses with the key on record.
    type Records = BTreeMap<u32, Vec<u8>>;

    fn found(index: &IdentityIndex, records: &Records, key: &[u8], start: u32) -> Vec<u32> {
        let found = index.find(key, |address| records.get(&address));
        let addresses: Vec<u32> = found.within(start..=u32::MAX).collect();
        assert_eq!(found.is_empty(), found.all().next().is_none());
        addresses
    }

    fn wanted(records: &Records, key: &[u8], start: u32) -> Vec<u32> {
        let with_key = records.range(start..).filter(|(_, on)| *on == key);
        with_key.map(|(address, _)| *address).collect()
    }

    /// Has an address filed under another key, or none.
    fn file(index: &mut IdentityIndex, records: &mut Records, address: u32, key: Option<Vec<u8>>) {
        if let Some(former) = records.get(&address) {
            index.remove(former, address, |address| records.get(&address));
            records.remove(&address);
        }
        if let Some(key) = key {
            records.insert(address, key.clone());
            index.insert(&key, address, |address| records.get(&address));
            // Once more changes nothing.
            index.insert(&key, address, |address| records.get(&address));
        }
    }

    /// Keys of which some have many addresses, and some few or one.
    fn key_of(kind: u8, address: u32) -> Option<Vec<u8>> {
        match kind {
            0 => None,
            1..=3 => Some(vec![kind]),
            4 => Some((address / 3).to_be_bytes().into()),
            5 => Some((address / 10).to_be_bytes()[1..].into()),
            _ => Some(address.to_le_bytes().into()),
        }
    }

    proptest! {
        #[test]
        fn holds_what_an_ordinary_map_holds(
            shards in 1..4usize,
            steps in proptest::collection::vec((0..8u8, 0..300u32, 1..120u32), 0..30),
            start in 0..300u32,
        ) {
            let mut index = IdentityIndex::of_shards(shards);
            let mut records = Records::new();
            for (kind, first, count) in steps {
                for address in first..first + count {
                    file(&mut index, &mut records, address, key_of(kind, address));
                }
                let keys: BTreeSet<&Vec<u8>> = records.values().collect();
                for key in keys {
                    prop_assert_eq!(found(&index, &records, key, 0), wanted(&records, key, 0));
                    prop_assert_eq!(
                        found(&index, &records, key, start),
                        wanted(&records, key, start)
                    );
                }
                prop_assert!(found(&index, &records, b"nobody's", 0).is_empty());
            }
            let mut filled = IdentityIndex::of_shards(shards);
            filled.fill(records.keys().copied(), |address| records.get(&address));
            for key in records.values() {
                prop_assert_eq!(found(&filled, &records, key, 0), wanted(&records, key, 0));
            }
            // The one or the other.
            if start % 2 == 0 {
                index = filled;
            }
            for address in 0..420 {
                file(&mut index, &mut records, address, None);
            }
            for shard in &index.shards {
                prop_assert!(shard.few.is_empty() && shard.many.is_empty());
                prop_assert!(shard.few.num_buckets() < 16 && shard.many.num_buckets() < 16);
            }
        }

        /// Whatever is on record, and filed or not, it comes to no harm but for what is found.
        #[test]
        fn survives_callers_that_break_their_promise(
            steps in proptest::collection::vec((any::<bool>(), 0..6u8, 0..6u8, 0..40u32), 0..400),
        ) {
            let mut index = IdentityIndex::of_shards(2);
            for (insert, kind, on_record, address) in steps {
                let Some(key) = key_of(kind.max(1), address) else { continue };
                let key_of = |address| key_of(on_record, address);
                if insert {
                    index.insert(&key, address, key_of);
                } else {
                    index.remove(&key, address, key_of);
                }
                let found: Vec<u32> = index.find(&key, key_of).all().collect();
                prop_assert!(found.is_sorted());
            }
        }
    }

    #[test]
    fn what_has_no_key_any_more_is_not_found_and_goes() {
        let mut index = IdentityIndex::of_shards(1);
        let mut records = Records::new();
        for address in 0..100 {
            file(&mut index, &mut records, address, key_of(7, address));
        }
        let key = records.remove(&50).unwrap();
        assert!(found(&index, &records, &key, 0).is_empty());
        for address in 100..200 {
            file(&mut index, &mut records, address, key_of(7, address));
        }
        assert!(index.shards[0].few.iter().all(|address| *address != 50));
    }

    #[test]
    fn shards_get_what_they_are_to() {
        let (shards, hashes) = (64, 1 << 16);
        let mut counts = vec![0; shards];
        for number in 0..hashes {
            // The highest bits of those that choose the shard.
            counts[shard_of(number << 41, shards)] += 1;
        }
        let least = hashes / shards as u64 * 2 / 3;
        for (number, count) in counts.iter().enumerate() {
            let wanted = least + least * number as u64 / shards as u64;
            assert!(wanted.abs_diff(*count) < least / 8, "{number}: {count}");
        }
    }

    #[test]
    fn keys_that_come_and_go_do_not_make_a_table_grow() {
        let mut index = IdentityIndex::of_shards(1);
        let mut records = Records::new();
        for address in 0..1_400 {
            file(&mut index, &mut records, address, key_of(7, address));
        }
        assert_eq!(index.shards[0].few.num_buckets(), 2_048);
        for address in 0..50_000 {
            file(&mut index, &mut records, address, None);
            file(
                &mut index,
                &mut records,
                address + 1_400,
                key_of(7, address + 1_400),
            );
        }
        assert_eq!(index.shards[0].few.num_buckets(), 2_048);
    }
}
