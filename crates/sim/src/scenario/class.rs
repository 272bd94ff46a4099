//! Classes of scenarios: most seeds are usual; a few are of a shape that the usual sizes never
//! have.

use flotilla_pd::core::limits::BALANCE_MOVES_MAX;
use flotilla_types::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::time::{MS, Micros};

use super::{FaultScenario, Scenario};

/// The length of the first phase of a long seed: longer than every timeout of the product but that
/// of a slow operator.
const LONG: Micros = 900_000 * MS;

/// The keys of a world with many regions; a region has one or two.
const MANY_KEYS: u16 = 200;

/// How long one of the last calls takes in a world with many regions: four attempts at a store that
/// is left out, if it is the only one that the client knows; the third failure asks for the route.
const CALL_MAX: Micros = 9_000 * MS;

/// The class of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Sizes and timings as they are drawn.
    #[default]
    Usual,
    /// A hundred regions and more, of which clients use three: the others are quiescent.
    Many,
    /// A quarter of an hour with long faults and few calls: timeouts of minutes expire.
    Long,
    /// The log and the state are those that ship, on a simulated disk.
    Engines,
}

impl Class {
    pub(super) fn draw(dice: &mut Dice) -> Class {
        match dice.between(0, 1_000) {
            0..20 => Class::Engines,
            20..35 => Class::Long,
            35..75 => Class::Many,
            _ => Class::Usual,
        }
    }

    /// Gives a scenario that is drawn the class's sizes and timings.
    pub(super) fn shape(self, scenario: &mut Scenario, dice: &mut Dice) {
        let Scenario { cluster, clients, habits, faults, .. } = scenario;
        match self {
            Class::Usual => {}
            Class::Many => {
                clients.keys = MANY_KEYS;
                habits.at_once_max = 1;
                clients.focus = 3;
                clients.value_bytes = dice.between(16, 30) as usize;
                cluster.region_bytes_max = 60;
                cluster.idle_ms = 200;
                scenario.limits.keep_pace();
                if cluster.balance_moves_max > 0 {
                    cluster.balance_moves_max = BALANCE_MOVES_MAX;
                }
                // Each of the last calls may have to wait for an election: quiescent regions on a
                // store that is left out elect when they are asked.
                scenario.liveness += CALL_MAX * u64::from(MANY_KEYS) / u64::from(clients.count);
            }
            Class::Long => {
                clients.think_max = dice.between(2_000, 5_000) * MS;
                faults.fault_max = dice.between(1_000, 90_000) * MS;
                faults.acts = FaultScenario::plan(dice, &faults.kinds, 20_000 * MS, LONG);
                scenario.safety = LONG;
            }
            Class::Engines => {
                clients.value_bytes = dice.between(16, 60) as usize;
                cluster.has_engines = true;
            }
        }
    }
}
