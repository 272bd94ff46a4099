//! The only source of chance: seeded dice. They are SplitMix64 (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", 2014): the same seed gives the same rolls on every
//! machine, so that whatever rolls them replays. Not for secrets.
//!
//! Invariant: each method rolls as often as its documentation says. Simulator seeds are known by
//! what they find, and one roll more or fewer makes every seed another one.
//!
//! Not here: where a seed comes from. A process takes it from its operating system, in a driver.

/// A stream of random numbers that follows from a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of `seed`; each seed is a good one.
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// The stream of `seed` for one of many users: streams of different lanes are unrelated.
    pub fn of_lane(seed: u64, lane: u64) -> Dice {
        Dice { state: mix(seed) ^ mix(lane.wrapping_add(1)) }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number in `low..high`, by one roll. An empty range gives `low`, without a roll. The
    /// remainder of a division, so the bias is below `(high - low) / 2^64`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low { low } else { low + self.roll() % (high - low) }
    }

    /// A number in `low..=high`, by one roll. An empty range gives `low`, and rolls too.
    pub fn between_inclusive(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.roll() % width)
    }

    /// A number in `0..end`, by one roll; 0 if `end` is 0. By multiplication, which is faster than
    /// the division in [`Dice::between`] and gives another number for the same roll.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `[0, 1)` with 53 random bits, by one roll.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True `per_mille` times in a thousand, by one roll.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.between(0, 1_000) < per_mille
    }

    /// One of `choices`, by one roll; None if there is none, without a roll.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let at = self.between(0, choices.len() as u64);
        choices.get(usize::try_from(at).ok()?)
    }

    /// Puts `items` into any order (Fisher and Yates), by one roll for each item but the first.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.between(0, at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }
}

/// A bijection of 64 bits in which each input bit changes about half of the output bits
/// (SplitMix64's finalizer). 0 stays 0.
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolls_are_those_of_the_reference_implementation() {
        let mut dice = Dice::new(1_234_567);
        let rolls = [dice.roll(), dice.roll(), dice.roll()];
        let reference =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(rolls, reference);
    }

    #[test]
    fn a_seed_is_a_stream_and_a_lane_another() {
        let stream = |mut dice: Dice| (0..8).map(|_| dice.roll()).collect::<Vec<_>>();
        assert_eq!(stream(Dice::new(7)), stream(Dice::new(7)));
        assert_ne!(stream(Dice::new(7)), stream(Dice::new(8)));
        assert_eq!(stream(Dice::of_lane(7, 0)), stream(Dice::of_lane(7, 0)));
        assert_ne!(stream(Dice::of_lane(7, 0)), stream(Dice::of_lane(7, 1)));
        assert_ne!(stream(Dice::of_lane(7, 0)), stream(Dice::of_lane(8, 0)));
    }

    #[test]
    fn ranges_are_reached_from_end_to_end_and_never_left() {
        let mut dice = Dice::new(1);
        let mut seen = [[0_u32; 10]; 3];
        for _ in 0..10_000 {
            seen[0][dice.between(0, 10) as usize] += 1;
            seen[1][dice.between_inclusive(5, 14) as usize - 5] += 1;
            seen[2][dice.below(10) as usize] += 1;
            assert!((0.0..1.0).contains(&dice.fraction()));
        }
        assert!(seen.iter().flatten().all(|count| (800..1200).contains(count)), "{seen:?}");
    }

    #[test]
    fn an_empty_range_gives_its_low_end_and_only_the_inclusive_one_rolls() {
        let mut dice = Dice::new(3);
        assert_eq!((dice.between(5, 5), dice.between(5, 4)), (5, 5));
        assert_eq!(dice, Dice::new(3));
        assert_eq!(dice.between_inclusive(5, 5), 5);
        assert_ne!(dice, Dice::new(3));
        assert_eq!(dice.between_inclusive(5, 4), 5);
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }

    #[test]
    fn a_shuffle_keeps_the_items_and_a_chance_keeps_its_rate() {
        let mut dice = Dice::new(5);
        let mut items: Vec<u32> = (0..100).collect();
        dice.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        let hits = (0..10_000).filter(|_| dice.chance(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!dice.chance(0) && dice.chance(1_000));
    }
}
