//! Finds addresses by an identity: a MAC address, client identifier, remote-id or relay-id.
//!
//! Most keys have one address, and the binding of that address contains the key. So the index stores the
//! address alone, by the hash of the key, and looks the key up in the binding to distinguish keys of equal
//! hashes and to hash them again when a table grows. Only the keys of more than [`FEW`] addresses are stored,
//! each with a set of these.
//!
//! The addresses are distributed over many small tables: a change waits for the growth of one of these only.
//!
//! # Requirements
//!
//! `key_of` returns the key in the binding of an address. An address is inserted after its binding is stored. After
//! its binding was removed or got another key, it is removed under its former key, before any other operation on
//! the index.

use std::hash::BuildHasher;
use std::ops::RangeInclusive;

use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;

/// The number of tables of an index. With 10,000,000 keys each has some thousand.
const SHARDS: usize = 4096;

/// The most addresses of a key that is not stored.
const FEW: usize = 8;

/// Addresses by key.
#[derive(Clone, Debug)]
pub struct IdentityIndex {
    /// Hashes keys with a random seed.
    hasher: DefaultHashBuilder,
    /// The parts of the index, each for some hashes; at least one.
    shards: Box<[Shard]>,
}

/// A part of the index.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// Addresses by the hashes of their keys, at most [`FEW`] to a key.
    few: HashTable<u32>,
    /// Keys that have, or had, more addresses.
    many: HashTable<Shared>,
}

/// A key of many addresses.
#[derive(Clone, Debug)]
struct Shared {
    /// The key.
    key: Box<[u8]>,
    /// The addresses of the key.
    addresses: RoaringBitmap,
}

/// The keys in bindings.
struct Keys<'a, 'k> {
    /// Hashes them.
    hasher: &'a DefaultHashBuilder,
    /// Returns the key in the binding of an address.
    of: &'a dyn Fn(u32) -> Option<&'k [u8]>,
}

/// The addresses of a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matches<'a> {
    /// The addresses of a key that has few, ascending.
    few: [u32; FEW],
    /// The number of these.
    count: usize,
    /// The addresses of a key that has many.
    many: Option<&'a RoaringBitmap>,
}

impl Default for IdentityIndex {
    fn default() -> IdentityIndex {
        IdentityIndex::of_shards(SHARDS)
    }
}

impl IdentityIndex {
    /// Creates an index of so many parts.
    fn of_shards(shards: usize) -> IdentityIndex {
        IdentityIndex {
            hasher: DefaultHashBuilder::default(),
            shards: vec![Shard::default(); shards].into(),
        }
    }

    /// Creates an index of all these addresses that have a key.
    pub fn of_all<'k>(
        addresses: impl Iterator<Item = u32>,
        key_of: impl Fn(u32) -> Option<&'k [u8]>,
    ) -> IdentityIndex {
        let mut index = IdentityIndex::default();
        index.fill(addresses, key_of);
        index
    }

    /// Fills an empty index.
    ///
    /// Addresses are stored in the order of their hashes, so that the processor's cache contains the table in
    /// use, and only addresses of equal hashes are compared.
    fn fill<'k>(
        &mut self,
        addresses: impl Iterator<Item = u32>,
        key_of: impl Fn(u32) -> Option<&'k [u8]>,
    ) {
        let keys = Keys {
            hasher: &self.hasher,
            of: &key_of,
        };
        let mut hashed: Vec<(u64, u32)> = addresses
            .filter_map(|address| Some((keys.hash(address)?, address)))
            .collect();
        let shards = self.shards.len();
        // In the order of shards.
        hashed.sort_unstable_by_key(|(hash, _)| (choosing(*hash), *hash));
        for in_shard in hashed.chunk_by(|a, b| shard_of(a.0, shards) == shard_of(b.0, shards)) {
            let alike = || in_shard.chunk_by(|a, b| a.0 == b.0);
            let few: usize = alike().map(|alike| alike.len().min(FEW)).sum();
            let shard = &mut self.shards[shard_of(in_shard[0].0, shards)];
            shard.make_room(few, &keys);
            for alike in alike() {
                if let [(hash, address)] = alike {
                    shard.file(*hash, *address);
                    continue;
                }
                for (hash, address) in alike {
                    if let Some(key) = key_of(*address) {
                        shard.insert(key, *hash, *address, &keys);
                    }
                }
            }
        }
    }

    /// Adds an address to those of a key.
    pub fn insert<'k>(
        &mut self,
        key: &[u8],
        address: u32,
        key_of: impl Fn(u32) -> Option<&'k [u8]>,
    ) {
        let (hash, place) = self.place(key);
        let keys = Keys {
            hasher: &self.hasher,
            of: &key_of,
        };
        self.shards[place].insert(key, hash, address, &keys);
    }

    /// Removes an address from those of a key.
    pub fn remove<'k>(
        &mut self,
        key: &[u8],
        address: u32,
        key_of: impl Fn(u32) -> Option<&'k [u8]>,
    ) {
        let (hash, place) = self.place(key);
        let keys = Keys {
            hasher: &self.hasher,
            of: &key_of,
        };
        self.shards[place].remove(key, hash, address, &keys);
    }

    /// Finds the addresses of a key.
    pub fn find<'k>(&self, key: &[u8], key_of: impl Fn(u32) -> Option<&'k [u8]>) -> Matches<'_> {
        let (hash, place) = self.place(key);
        let shard = &self.shards[place];
        match shard.many.find(hash, |shared| *shared.key == *key) {
            Some(shared) => Matches {
                many: Some(&shared.addresses),
                ..Matches::default()
            },
            None => shard.find_few(key, hash, &key_of),
        }
    }

    /// Returns the hash of a key, and the index of its shard.
    fn place(&self, key: &[u8]) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, shard_of(hash, self.shards.len()))
    }
}

impl Keys<'_, '_> {
    /// Returns the hash of the key in the binding of an address.
    fn hash(&self, address: u32) -> Option<u64> {
        (self.of)(address).map(|key| self.hasher.hash_one(key))
    }
}

impl Shard {
    /// See [`IdentityIndex::insert`].
    fn insert(&mut self, key: &[u8], hash: u64, address: u32, keys: &Keys<'_, '_>) {
        if let Some(shared) = self.many.find_mut(hash, |shared| *shared.key == *key) {
            shared.addresses.insert(address);
            return;
        }
        if self.few.find(hash, |filed| *filed == address).is_some() {
            return;
        }
        let found = self.find_few(key, hash, keys.of);
        if found.count < FEW {
            self.make_room(1, keys);
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
        let hash_of = |shared: &Shared| keys.hasher.hash_one(&*shared.key);
        self.many.insert_unique(hash, shared, hash_of);
    }

    /// See [`IdentityIndex::remove`].
    fn remove(&mut self, key: &[u8], hash: u64, address: u32, keys: &Keys<'_, '_>) {
        let Ok(mut shared) = self.many.find_entry(hash, |shared| *shared.key == *key) else {
            self.unfile(hash, address);
            if self.few.len() < self.few.num_buckets() / 8 {
                self.rebuild(2 * self.few.len(), keys);
            }
            return;
        };
        let addresses = &mut shared.get_mut().addresses;
        addresses.remove(address);
        // Half the number at which it became a key of many: the next insertion must not convert it back.
        if addresses.len() > FEW as u64 / 2 {
            return;
        }
        let (shared, _) = shared.remove();
        if self.many.len() < self.many.num_buckets() / 8 {
            let hash_of = |shared: &Shared| keys.hasher.hash_one(&*shared.key);
            self.many.shrink_to(2 * self.many.len(), hash_of);
        }
        self.make_room(FEW / 2, keys);
        for address in shared.addresses {
            self.file(hash, address);
        }
    }

    /// Finds the addresses of a key that has few.
    fn find_few<'k>(
        &self,
        key: &[u8],
        hash: u64,
        key_of: &dyn Fn(u32) -> Option<&'k [u8]>,
    ) -> Matches<'static> {
        let mut found = Matches::default();
        let filed = self.few.iter_hash(hash).copied();
        let with_key = filed.filter(|address| key_of(*address) == Some(key));
        for (place, address) in found.few.iter_mut().zip(with_key) {
            *place = address;
            found.count += 1;
        }
        found.few[..found.count].sort_unstable();
        found
    }

    /// Stores an address by a hash. Requires [`Shard::make_room`].
    fn file(&mut self, hash: u64, address: u32) {
        self.few.insert_unique(hash, address, |_| hash);
    }

    /// Removes an address that is stored by a hash.
    fn unfile(&mut self, hash: u64, address: u32) {
        if let Ok(filed) = self.few.find_entry(hash, |filed| *filed == address) {
            filed.remove();
        }
    }

    /// Makes room for so many more addresses.
    fn make_room(&mut self, more: usize, keys: &Keys<'_, '_>) {
        let len = self.few.len();
        if len + more > self.few.capacity() {
            // A little more than needed: after removals the table would soon grow again.
            self.rebuild(len + more + len / 8, keys);
        }
    }

    /// Moves all addresses whose bindings have a key to a table of this capacity.
    ///
    /// The table does not grow by itself: that would need a hash for each address, and keep addresses without
    /// a key.
    fn rebuild(&mut self, capacity: usize, keys: &Keys<'_, '_>) {
        let former = std::mem::replace(&mut self.few, HashTable::with_capacity(capacity));
        for address in former {
            if let Some(hash) = keys.hash(address) {
                self.file(hash, address);
            }
        }
    }
}

impl<'a> Matches<'a> {
    /// Whether there is no address.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the number of addresses.
    pub fn len(self) -> u64 {
        self.many.map_or(self.count as u64, RoaringBitmap::len)
    }

    /// Whether an address is among these.
    pub fn contains(self, address: u32) -> bool {
        match self.many {
            Some(many) => many.contains(address),
            None => self.few[..self.count].contains(&address),
        }
    }

    /// Iterates over all addresses, ascending.
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

/// Returns the bits of a hash that select its shard; the tables do not use these.
fn choosing(hash: u64) -> u32 {
    (hash >> 25) as u32
}

/// Returns the index of the shard for a hash.
///
/// The shards get different shares of the hashes, rising to twice that of the first. A table doubles its size
/// when it is full; with equal shares all would do so at the same time, and then be half empty.
fn shard_of(hash: u64, shards: usize) -> usize {
    let part = f64::from(choosing(hash)) / (u64::from(u32::MAX) + 1) as f64;
    // The first fraction x of the shards gets the fraction (2x + x²) / 3 of the hashes.
    let fraction = (1.0 + 3.0 * part).sqrt() - 1.0;
    ((fraction * shards as f64) as usize).min(shards.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Addresses with the key in their binding.
    type Records = BTreeMap<u32, Vec<u8>>;

    fn on_record<'k>(records: &'k Records) -> impl Fn(u32) -> Option<&'k [u8]> {
        |address| records.get(&address).map(Vec::as_slice)
    }

    fn found(index: &IdentityIndex, records: &Records, key: &[u8], start: u32) -> Vec<u32> {
        let found = index.find(key, on_record(records));
        let addresses: Vec<u32> = found.within(start..=u32::MAX).collect();
        assert_eq!(found.is_empty(), found.all().next().is_none());
        addresses
    }

    fn wanted(records: &Records, key: &[u8], start: u32) -> Vec<u32> {
        let with_key = records.range(start..).filter(|(_, on)| *on == key);
        with_key.map(|(address, _)| *address).collect()
    }

    /// Stores an address under another key, or none.
    fn file(index: &mut IdentityIndex, records: &mut Records, address: u32, key: Option<Vec<u8>>) {
        if let Some(former) = records.get(&address) {
            index.remove(former, address, on_record(records));
            records.remove(&address);
        }
        if let Some(key) = key {
            records.insert(address, key.clone());
            index.insert(&key, address, on_record(records));
            // A second insertion changes nothing.
            index.insert(&key, address, on_record(records));
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
            filled.fill(records.keys().copied(), on_record(&records));
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

        /// A violation of the requirements affects only the addresses found.
        #[test]
        fn survives_callers_that_violate_the_requirements(
            steps in proptest::collection::vec((any::<bool>(), 0..6u8, 0..6u8, 0..40u32), 0..400),
        ) {
            let mut index = IdentityIndex::of_shards(2);
            for (insert, kind, on_record, address) in steps {
                let Some(key) = key_of(kind.max(1), address) else { continue };
                let keys: Vec<_> = (0..40).map(|address| key_of(on_record, address)).collect();
                let key_of = |address: u32| keys[address as usize].as_deref();
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
