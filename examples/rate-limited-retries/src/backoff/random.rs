//! Numbers from a seed: good enough to spread delays, and for nothing that must not be guessed.

use std::hash::{BuildHasher, Hasher, RandomState};

/// SplitMix64 of Steele, Lea and Flood: one word of state, and every seed is a good one.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// Another seed at each call: std seeds its hash tables in the same way.
    pub(super) fn from_std() -> Random {
        Random(RandomState::new().build_hasher().finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included, each as likely as any other to one part in 2^64 /
    /// (`high` - `low` + 1).
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        let count = u128::from(high - low) + 1;
        low + ((u128::from(self.next()) * count) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        let mut random = Random::seeded(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, published);
    }

    #[test]
    fn both_ends_of_a_range_are_reached_and_never_passed() {
        let mut random = Random::seeded(1);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[(random.between(7, 10) - 7) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 200), "{seen:?}");
        assert_eq!(random.between(5, 5), 5);
        assert!((0..1000).any(|_| random.between(0, u64::MAX) > u64::MAX / 2));
    }

    #[test]
    fn unseeded_ones_differ() {
        assert_ne!(Random::from_std().next(), Random::from_std().next());
    }
}
