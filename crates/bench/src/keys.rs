//! The choice of keys: their names, and the distributions by which they are chosen.
//!
//! Zipfian numbers are made as YCSB makes them (Cooper et al., Benchmarking Cloud Serving Systems
//! with YCSB, 2010; the algorithm is Gray et al., Quickly Generating Billion-Record Synthetic
//! Databases, 1994): theta 0.99, drawn from ten billion ranks and scrambled by FNV-1a, so that the
//! hot keys lie all over the key space. The *latest* distribution of YCSB D is not scrambled: rank
//! 0 is the newest key.

use bytes::Bytes;

use flotilla_types::dice::Dice;

/// The most keys: numbers have twelve digits, so that keys sort by number and all have 16 bytes.
pub const KEYS_MAX: u64 = 1_000_000_000_000 - 1;

/// YCSB's constant: how skewed the choice is.
const THETA: f64 = 0.99;

/// YCSB's number of ranks behind the scrambled distribution.
const RANKS_SCRAMBLED: u64 = 10_000_000_000;

/// YCSB's precomputed zeta(`RANKS_SCRAMBLED`, `THETA`).
const ZETA_SCRAMBLED: f64 = 26.469_028_201_783_02;

/// The most ranks of the latest distribution, whose zeta is summed when the load begins. Requests
/// practically never choose an older key.
const RANKS_LATEST_MAX: u64 = 1_000_000;

/// Bytes in front of a key's number.
const KEY_PREFIX_BYTES: usize = 4;

/// The key with this number, at most [`KEYS_MAX`]. Written without `format!`, because it runs for
/// every operation and the generator's own time counts.
pub fn key(number: u64) -> Bytes {
    let mut text = *b"user000000000000";
    let mut left = number;
    for digit in text[KEY_PREFIX_BYTES..].iter_mut().rev() {
        *digit += (left % 10) as u8;
        left /= 10;
    }
    Bytes::copy_from_slice(&text)
}

/// How keys are chosen from those that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// A few keys take most of the load; they lie scattered.
    Zipfian,
    /// The newest keys take most of the load.
    Latest,
}

/// Chooses keys' numbers.
#[derive(Clone, Debug)]
pub enum Chooser {
    /// All alike.
    Uniform,
    /// Scrambled zipfian.
    Scrambled(Zipfian),
    /// Zipfian from the newest backwards.
    Latest(Zipfian),
}

impl Chooser {
    /// A chooser among `keys` keys, to which more may come.
    pub fn new(distribution: Distribution, keys: u64) -> Chooser {
        match distribution {
            Distribution::Uniform => Chooser::Uniform,
            Distribution::Zipfian => {
                Chooser::Scrambled(Zipfian::with_zeta(RANKS_SCRAMBLED, ZETA_SCRAMBLED))
            }
            Distribution::Latest => Chooser::Latest(Zipfian::new(keys.min(RANKS_LATEST_MAX))),
        }
    }

    /// A number in `[0, keys)`; `keys` is at least 1.
    pub fn choose(&self, dice: &mut Dice, keys: u64) -> u64 {
        match self {
            Chooser::Uniform => dice.below(keys),
            Chooser::Scrambled(zipfian) => fnv(zipfian.rank(dice)) % keys,
            Chooser::Latest(zipfian) => keys - 1 - zipfian.rank(dice).min(keys - 1),
        }
    }
}

/// Ranks from 0 on, rank r with a probability proportional to 1 / (r + 1)^theta.
#[derive(Clone, Debug)]
pub struct Zipfian {
    ranks: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    /// Over this many ranks, at least 1; takes time proportional to them.
    pub fn new(ranks: u64) -> Zipfian {
        Zipfian::with_zeta(ranks, (1..=ranks).map(|rank| 1.0 / (rank as f64).powf(THETA)).sum())
    }

    fn with_zeta(ranks: u64, zeta: f64) -> Zipfian {
        let zeta_2 = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / ranks as f64).powf(1.0 - THETA)) / (1.0 - zeta_2 / zeta);
        Zipfian { ranks, zeta, alpha: 1.0 / (1.0 - THETA), eta }
    }

    /// The next rank.
    pub fn rank(&self, dice: &mut Dice) -> u64 {
        let fraction = dice.fraction();
        let point = fraction * self.zeta;
        if point < 1.0 {
            return 0;
        }
        if point < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(self.ranks - 1);
        }
        let rank = self.ranks as f64 * (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.ranks - 1)
    }
}

/// FNV-1a over the number's bytes, as YCSB hashes ranks.
fn fnv(number: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    number.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DRAWS: u64 = 200_000;

    fn frequencies(chooser: &Chooser, keys: u64) -> BTreeMap<u64, f64> {
        let mut dice = Dice::of_lane(42, 0);
        let mut counts = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(chooser.choose(&mut dice, keys)).or_insert(0.0) += 1.0 / DRAWS as f64;
        }
        counts
    }

    #[test]
    fn keys_sort_by_number() {
        assert_eq!(key(42), "user000000000042");
        assert_eq!(key(KEYS_MAX), "user999999999999");
        assert!(key(9) < key(10));
    }

    #[test]
    fn zipfian_ranks_have_their_probabilities() {
        let zipfian = Zipfian::new(1000);
        let mut dice = Dice::of_lane(42, 0);
        let mut counts = vec![0.0; 1000];
        for _ in 0..DRAWS {
            counts[zipfian.rank(&mut dice) as usize] += 1.0 / DRAWS as f64;
        }
        for rank in [0, 1] {
            let expected = 1.0 / ((rank + 1) as f64).powf(THETA) / zipfian.zeta;
            assert!((counts[rank] / expected - 1.0).abs() < 0.05, "{rank}: {}", counts[rank]);
        }
        // Beyond the first two ranks the algorithm is an approximation; it holds in sums.
        let tail: f64 = counts[100..].iter().sum();
        let exact: f64 = (101..=1000).map(|rank| 1.0 / f64::from(rank).powf(THETA)).sum();
        assert!((tail / (exact / zipfian.zeta) - 1.0).abs() < 0.1, "{tail}");
    }

    #[test]
    fn scrambled_zipfian_has_one_hot_key_as_ycsb_has() {
        let counts = frequencies(&Chooser::new(Distribution::Zipfian, 10_000), 10_000);
        let hottest = counts.values().copied().fold(0.0, f64::max);
        assert!((hottest * ZETA_SCRAMBLED - 1.0).abs() < 0.1, "{hottest}");
        assert!(counts.len() > 8_000, "the tail is reached: {}", counts.len());
        assert!(counts[&(fnv(0) % 10_000)] == hottest, "and it is rank 0's");
    }

    #[test]
    fn the_latest_key_is_the_hottest() {
        let counts = frequencies(&Chooser::new(Distribution::Latest, 100), 150);
        assert!(counts[&149] > counts[&148] && counts[&148] > counts[&100]);
        assert!(counts.keys().all(|key| *key >= 50), "ranks are those of the start");
    }

    #[test]
    fn one_key_is_enough_for_every_distribution() {
        for distribution in [Distribution::Uniform, Distribution::Zipfian, Distribution::Latest] {
            assert_eq!(frequencies(&Chooser::new(distribution, 1), 1).len(), 1);
        }
    }
}
