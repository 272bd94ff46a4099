//! Parts of a scenario: how long a thread's work takes, and the timing of Raft groups.

use flotilla_group::Timing;
use flotilla_types::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::time::{MS, Micros};

use super::{DiskScenario, LinkScenario, NetScenario};

/// What the work of a store costs, in microseconds of true time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostScenario {
    /// An input, or a message that is sent.
    pub message: Micros,
    /// A row that is read, or an entry that is written.
    pub row: Micros,
    /// A write that is proposed.
    pub proposal: Micros,
    /// The greatest cost of a row that only the disk has.
    pub cold_max: Micros,
    /// Rows in a thousand that only the disk has.
    pub cold: u64,
    /// The longest time between the first look at a read permit and the reading of the state, and
    /// from there to the second look; 0 if a read takes no time.
    pub reading_max: Micros,
    /// True if chunks of scans are read under permits, as gets are; false if the worker reads them,
    /// so that floods of them load it.
    pub scans_aside: bool,
}

/// Seeds in a thousand in which scans are read under permits.
const SCANS_ASIDE: u64 = 400;

impl CostScenario {
    /// Work takes no time in some seeds, as long as on a usual machine in most, and much longer in
    /// a few.
    pub(super) fn draw(dice: &mut Dice) -> CostScenario {
        let slowness = match dice.between(0, 10) {
            0..3 => 0,
            3..9 => 1,
            _ => dice.between(5, 30),
        };
        let is_cold = slowness > 0 && dice.chance(300);
        CostScenario {
            message: 3 * slowness,
            row: slowness,
            proposal: 10 * slowness,
            cold_max: if is_cold { dice.between(50, 1_000) } else { 0 },
            cold: if is_cold { dice.between(50, 500) } else { 0 },
            reading_max: if dice.chance(600) { dice.between(1, 800) * MS } else { 0 },
            scans_aside: dice.chance(SCANS_ASIDE),
        }
    }
}

/// The timing of all Raft groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimingScenario {
    /// Milliseconds from one tick to the next.
    pub tick_ms: u64,
    /// Ticks of the least election timeout.
    pub election_ticks: usize,
}

/// The range of ticks, in milliseconds.
const TICK_MS: (u64, u64) = (20, 200);

/// The range of the least election timeout, in ticks.
const ELECTION_TICKS: (u64, u64) = (3, 20);

/// The upper bound of the least election timeout: the time limits of calls allow for a few
/// elections of this length.
const ELECTION_MS_MAX: u64 = 2_000;

/// How many round trips with a sync fit the least election timeout, as an operator of the cluster
/// would choose it: with fewer, healthy leaders lose their followers.
const ROUND_TRIPS: u64 = 4;

impl Default for TimingScenario {
    fn default() -> TimingScenario {
        let Timing { tick_ms, election_ticks, .. } = Timing::DEFAULT;
        TimingScenario { tick_ms, election_ticks }
    }
}

impl TimingScenario {
    /// The product's timing in half of the seeds, and one that fits the network and the disks in
    /// the others.
    pub(super) fn draw(
        dice: &mut Dice,
        (net, links): (&NetScenario, &LinkScenario),
        disk: &DiskScenario,
    ) -> TimingScenario {
        if dice.chance(500) {
            return TimingScenario::default();
        }
        let round_trip_ms = round_trip(net, links, disk) / MS + 1;
        // Messages may have to wait for one another on a connection.
        let queue_ms = links.connections.as_ref().map_or(0, |_| Timing::DEFAULT.election_ms());
        let least_ms = (ROUND_TRIPS * round_trip_ms).max(queue_ms);
        let mut tick_ms = dice.between(TICK_MS.0, TICK_MS.1 + 1);
        let ticks = dice.between(ELECTION_TICKS.0, ELECTION_TICKS.1 + 1);
        let most = (ELECTION_MS_MAX / tick_ms).max(ELECTION_TICKS.0);
        let election_ticks = ticks.max(least_ms.div_ceil(tick_ms)).min(most.min(ELECTION_TICKS.1));
        tick_ms = tick_ms.max(least_ms.div_ceil(election_ticks)).min(TICK_MS.1);
        TimingScenario { tick_ms, election_ticks: election_ticks as usize }
    }

    /// As the cores are told.
    pub fn raft(&self) -> Timing {
        let TimingScenario { tick_ms, election_ticks } = *self;
        Timing { tick_ms, election_ticks, ..Timing::DEFAULT }
    }

    /// A tick, in microseconds.
    pub fn tick(&self) -> Micros {
        self.tick_ms * MS
    }

    /// The least election timeout, in microseconds.
    pub fn election(&self) -> Micros {
        self.raft().election_ms() * MS
    }
}

/// The longest usual time from a message to the answer that waits for a sync.
fn round_trip(net: &NetScenario, links: &LinkScenario, disk: &DiskScenario) -> Micros {
    let far = if links.far_store > 0 { links.far_max } else { 0 };
    let slow = if links.slow_ways > 0 { links.slow_max } else { 0 };
    2 * (net.delay_max + far + slow) + disk.sync_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_is_within_its_bounds_and_fits_the_network() {
        let mut drawn = vec![];
        for seed in 0..2_000 {
            let dice = &mut Dice::new(seed);
            let (net, disk) = (NetScenario::draw(dice), DiskScenario::draw(dice));
            let links = LinkScenario::draw(dice, 5);
            let timing = TimingScenario::draw(dice, (&net, &links), &disk);
            let ticks = timing.election_ticks as u64;
            assert!((TICK_MS.0..=TICK_MS.1).contains(&timing.tick_ms), "{timing:?}");
            assert!((ELECTION_TICKS.0..=ELECTION_TICKS.1).contains(&ticks), "{timing:?}");
            assert!(timing.election() <= ELECTION_MS_MAX * MS, "{timing:?}");
            drawn.push((timing.tick_ms, ticks));
            if timing != TimingScenario::default() {
                let round_trip = round_trip(&net, &links, &disk);
                assert!(timing.election() > 3 * round_trip, "{timing:?} {round_trip}");
            }
        }
        let defaults = drawn.iter().filter(|drawn| **drawn == (100, 5)).count();
        assert!((800..1_200).contains(&defaults), "{defaults}");
        assert!(
            drawn.iter().any(|(tick, _)| *tick < 30) && drawn.iter().any(|(tick, _)| *tick > 190)
        );
        assert!(drawn.iter().any(|(_, ticks)| *ticks == 3) && drawn.iter().any(|(_, t)| *t == 20));
    }
}
