//! A set of places in a page.

/// Some of the 256 places in a page: one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places(pub(super) [u64; 4]);

impl Places {
    /// Returns the word of a place and its bit in that word.
    pub(super) fn bit(place: u8) -> (usize, u64) {
        (usize::from(place / 64), 1 << (place % 64))
    }

    /// Adds a place.
    pub fn insert(&mut self, place: u8) {
        let (word, bit) = Places::bit(place);
        self.0[word] |= bit;
    }

    /// Removes a place.
    pub fn remove(&mut self, place: u8) {
        let (word, bit) = Places::bit(place);
        self.0[word] &= !bit;
    }

    /// Whether the set contains a place.
    pub fn contains(&self, place: u8) -> bool {
        let (word, bit) = Places::bit(place);
        self.0[word] & bit != 0
    }

    /// Returns the number of places in the set below `place`.
    pub fn rank(&self, place: u8) -> usize {
        let (word, bit) = Places::bit(place);
        let within = (self.0[word] & (bit - 1)).count_ones();
        let whole: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        (whole + within) as usize
    }

    /// Returns the number of places in the set.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        *self == Places::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(places in proptest::collection::btree_set(any::<u8>(), 0..40)) {
            let mut set = Places::default();
            places.iter().for_each(|place| set.insert(*place));
            for from in 0..=255 {
                prop_assert_eq!(set.contains(from), places.contains(&from));
                prop_assert_eq!(set.rank(from), places.range(..from).count());
            }
            prop_assert_eq!(set.count(), places.len());
        }
    }
}
