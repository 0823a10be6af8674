//! Numbers that look random and are the same for the same seed, on every machine and for ever.

/// A generator: SplitMix64, whose whole state is one number.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator for a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number as the salt of a step: what it picks from is known only when it is done.
    pub fn salt(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        pick(self.salt(), limit)
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`, each as often as its weight says.
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

/// The number below `limit`, which is not 0, that a salt stands for.
pub fn pick(salt: u32, limit: usize) -> usize {
    ((u64::from(salt) * limit as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A storm can be had again: by its seed alone.
    #[test]
    fn gives_the_same_numbers_for_the_same_seed() {
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
