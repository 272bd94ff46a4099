//! What a seed decides about its clients beside sizes and rates: how many calls a client has at
//! once, what it does to its calls, and the rare shapes of what it asks for.

use flotilla_types::dice::{Dice, mix};
use serde::{Deserialize, Serialize};

use crate::probes::PROBE;

/// One value in so many is large, in seeds with large values.
const LARGE_EVERY: u64 = 50;

/// The bytes of a large value, from and below.
const LARGE_BYTES: (u64, u64) = (10_000, 200_000);

/// The habits of a seed's clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HabitScenario {
    /// The most calls that a client has at once; each client draws its own number up to it.
    pub at_once_max: u64,
    /// Calls in a thousand that their caller drops before they end.
    pub cancels: u64,
    /// Calls in a thousand in whose middle the client's process dies.
    pub deaths: u64,
    /// Calls in a thousand after whose begin the client's clock jumps.
    pub jumps: u64,
    /// True if clients' clocks run at rates of their own.
    pub has_rates: bool,
    /// The most keys of a batch.
    pub batch_max: u64,
    /// Deletes of ranges in a thousand that are for the whole key space.
    pub whole_deletes: u64,
    /// True if one value in fifty is large.
    pub has_large_values: bool,
}

impl Default for HabitScenario {
    fn default() -> HabitScenario {
        HabitScenario {
            at_once_max: 1,
            cancels: 0,
            deaths: 0,
            jumps: 0,
            has_rates: false,
            batch_max: 5,
            whole_deletes: 0,
            has_large_values: false,
        }
    }
}

impl HabitScenario {
    /// What a seed decides.
    pub fn draw(dice: &mut Dice) -> HabitScenario {
        let mut in_some = |of: u64, low: u64, high: u64, otherwise: u64| {
            if dice.chance(of) { dice.between_inclusive(low, high) } else { otherwise }
        };
        HabitScenario {
            at_once_max: in_some(600, 2, 8, 1),
            cancels: in_some(600, 10, 40, 0),
            deaths: in_some(300, 1, 2, 0),
            jumps: in_some(300, 1, 3, 0),
            has_rates: in_some(600, 1, 1, 0) > 0,
            batch_max: in_some(250, 6, 60, 5),
            whole_deletes: in_some(200, 50, 100, 0),
            has_large_values: in_some(50, 1, 1, 0) > 0,
        }
    }

    /// The bytes of the value that `number` names, where `usual` is the usual size. Follows from
    /// the number, so that whoever knows the number can name the value.
    pub fn value_bytes(&self, number: u64, usual: usize) -> usize {
        let is_clients = number < u64::from(PROBE) << 32;
        if !self.has_large_values || !is_clients || !mix(number).is_multiple_of(LARGE_EVERY) {
            return usual;
        }
        Dice::new(number).between(LARGE_BYTES.0, LARGE_BYTES.1) as usize
    }
}
