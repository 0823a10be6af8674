//! A pseudo-random sequence that depends on its seed alone, on every machine.

/// A SplitMix64 generator; its whole state is one number.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Returns the generator for a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Returns the next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the next number as the salt of an action, which selects its object when it is
    /// performed.
    pub fn salt(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        pick(self.salt(), limit)
    }

    /// Returns `true` with a probability in percent.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of `choices`, with a probability proportional to its weight.
    pub fn weighted<T: Clone>(&mut self, choices: &[(usize, T)]) -> T {
        let sum = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(sum);
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return choice.clone(),
            }
        }
        unreachable!("a number below the sum of the weights")
    }
}

/// Returns the number below `limit` that a salt selects; `limit` is not 0.
pub fn pick(salt: u32, limit: usize) -> usize {
    ((u64::from(salt) * limit as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A storm is repeatable by its seed alone.
    #[test]
    fn yields_the_same_numbers_for_the_same_seed() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn chooses_by_weight() {
        let mut random = Random::new(1);
        let mut seen = [0; 2];
        for _ in 0..1000 {
            seen[random.weighted(&[(1, 0), (0, 9), (3, 1)])] += 1;
        }
        assert!((150..350).contains(&seen[0]), "{seen:?}");
    }
}
