//! The world's only source of chance: seeded dice, and the ways in which the world rolls them.

/// Dice that roll the sequence of one seed.
#[derive(Clone, Debug)]
pub struct Dice(flotilla_group::Dice);

impl Dice {
    /// Dice of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(flotilla_group::Dice::new(seed))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0.roll()
    }

    /// A number in `low..high`; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.between(low, high)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.between(0, 1_000) < per_mille
    }

    /// One of `choices`; None if there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let at = self.between(0, choices.len() as u64);
        choices.get(usize::try_from(at).ok()?)
    }

    /// Puts `items` into any order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.between(0, at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }
}
