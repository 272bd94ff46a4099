//! Seeded randomness for jitter: SplitMix64 (Steele, Lea, Flood 2014). The same seed gives the same
//! rolls, so that a simulated client replays. Not for secrets.

/// A generator whose rolls follow from its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice(u64);

impl Dice {
    /// Dice for this seed; any value is a good one.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[low, high]`, near enough uniform for jitter; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.roll() % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rolls_within_bounds() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        for _ in 0..100 {
            let roll = a.between(3, 9);
            assert_eq!(roll, b.between(3, 9));
            assert!((3..=9).contains(&roll));
        }
        assert_eq!(a.between(5, 5), 5);
        assert_eq!(a.between(5, 4), 5, "an empty range gives its lower end");
    }
}
