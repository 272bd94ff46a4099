//! Seeded dice: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
//! 2014). The same seed gives the same keys in the same order on every machine.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of `seed` for one client: streams of different lanes are unrelated.
    pub fn new(seed: u64, lane: u64) -> Dice {
        Dice { state: mixed(seed) ^ mixed(lane.wrapping_add(1)) }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    /// A number in `[0, end)`; `end` is at least 1. By multiplication, whose bias is below 2^-24
    /// for the counts of keys that a bench has.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_a_lane_another() {
        let stream = |seed, lane| {
            let mut dice = Dice::new(seed, lane);
            (0..8).map(|_| dice.number()).collect::<Vec<_>>()
        };
        assert_eq!(stream(7, 0), stream(7, 0));
        assert_ne!(stream(7, 0), stream(7, 1));
        assert_ne!(stream(7, 0), stream(8, 0));
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_all_of_it() {
        let mut dice = Dice::new(1, 1);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[dice.below(10) as usize] += 1;
            assert!((0.0..1.0).contains(&dice.fraction()));
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
