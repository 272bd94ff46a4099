//! Counters of interesting events, each with the floor that `run --cover` asks of it per 1,000
//! seeds. A counter below its floor is a fault that the world hardly makes any more, or an edge
//! case that it hardly reaches: what relies on it is checked no more, though every seed passes.
//!
//! A floor is about a fourth of what a sound world counts; where that is less than one, once in the
//! whole run is enough.
//!
//! Counters decide nothing: no code reads a counter to choose what to do.

use std::collections::BTreeMap;

use crate::scenario::Act;

/// The seeds that a floor is given for.
const FLOOR_SEEDS: u64 = 1_000;

/// The floor of each of the nemesis's acts.
const ACTS_FLOOR: u64 = 30;

/// All counters but those of the nemesis's acts (see [`Act::mark`]): the name and the floor.
/// [`Coverage::add`] refuses any other name.
const MARKS: &[(&str, u64)] = &[
    ("answers compared with the log", 0),
    ("appends refused under pressure", 0),
    ("answers to the administrator", 0),
    ("calls beside others of their client", 0),
    ("calls dropped by their caller", 0),
    ("calls failed", 0),
    ("calls ok", 0),
    ("calls undetermined", 0),
    ("checkpoints failed", 0),
    ("checkpoints lost in a crash", 0),
    ("connections found dead", 0),
    ("connections reset", 0),
    ("clients that died", 0),
    ("clients whose clock jumped", 0),
    ("crashes in a sync", 0),
    ("crashes that kept some unsynced writes", 0),
    ("crashes that lost unsynced writes", 0),
    ("crashes that tore the log", 0),
    ("crashes soon after a change of shape", 0),
    ("elections during a joint change", 0),
    ("elections with a change of members pending", 0),
    ("elections", 0),
    ("followers that held entries back", 0),
    ("heartbeats duplicated", 0),
    ("heartbeats late", 0),
    ("installs lost in a crash", 0),
    ("joint changes entered", 0),
    ("keys compared by the second checker", 0),
    ("keys skipped by the second checker", 0),
    ("leaders removed or moved by operators", 0),
    ("leaders that stood still with answers under way", 0),
    ("leaderships handed to a peer that is being removed", 0),
    ("log syncs failed", 0),
    ("log writes failed", 0),
    ("log writes refused by a full disk", 0),
    ("lookups answered by the cache", 0),
    ("members changed", 0),
    ("messages dropped by a full queue", 0),
    ("messages duplicated", 0),
    ("messages lost with their connection", 0),
    ("messages lost", 0),
    ("messages that waited behind others", 0),
    ("messages to stores whose address is not known", 0),
    ("peers created by messages", 0),
    ("peers destroyed", 0),
    ("peers quiescent", 0),
    ("placement driver stopped by its disk", 0),
    ("questions of the administrator without an answer", 0),
    ("quiet windows", 0),
    ("reads by clients that stick to a store", 0),
    ("reads under a permit", 0),
    ("reads whose permit was taken back between the two looks", 0),
    ("reads under the lease", 0),
    ("reads that the lease refused", 0),
    ("refusals to the administrator", 0),
    ("regions at the end", 0),
    ("regions repaired at the end", 0),
    ("replies lost", 0),
    ("requests refused by a busy store", 0),
    ("resurrections refused", 0),
    ("scan chunks that ended among deleted rows", 0),
    ("snapshots forced", 0),
    ("snapshots installed", 0),
    ("snapshots refused or stale", 0),
    ("snapshots refused under pressure", 0),
    ("snapshots to members that lag", 0),
    ("splits during a snapshot", 0),
    ("splits", 0),
    ("stale turns delivered after a cut", 0),
    ("stores left cut off", 0),
    ("stores left dead", 0),
    ("stores left standing still", 0),
    ("stores removed for good", 0),
    ("stores replaced", 0),
    ("stores stopped by their disk", 0),
    ("right parts gone before their split was applied", 0),
    ("stores stopped in good order", 0),
    ("stores struck in a joint change", 0),
    ("stores that refused a damaged disk", 0),
    ("turns cut by time", 0),
    ("voters cut off from their leader as a candidate asks", 0),
    ("voters restarted as a candidate asks", 0),
    ("voters that learn of a later term within a lease", 0),
    ("votes asked of a store that has just started", 0),
    ("writes dropped after they were sent", 0),
    ("writes of a lost leadership given up", 0),
    ("writes refused at apply", 0),
    ("writes repeated", 0),
    ("writes while an old leader is asked", 0),
];

/// All counters with their floors, in the order in which they are printed.
fn marks() -> impl Iterator<Item = (&'static str, u64)> {
    MARKS.iter().copied().chain(Act::ALL.iter().map(|act| (act.mark(), ACTS_FLOOR)))
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Adds one to a counter.
    pub fn hit(&mut self, mark: &'static str) {
        self.add(mark, 1);
    }

    /// Adds `count` to a counter. Panics if no counter has the name.
    pub fn add(&mut self, mark: &'static str, count: u64) {
        self.counts.entry(mark).and_modify(|sum| *sum += count).or_insert_with(|| {
            assert!(marks().any(|(known, _)| known == mark), "'{mark}' is not counted");
            count
        });
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Coverage) {
        for (mark, count) in &other.counts {
            *self.counts.entry(mark).or_default() += count;
        }
    }

    /// Every counter's name with its count, zero included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        marks().map(|(mark, _)| (mark, self.count(mark)))
    }

    /// The counters that are lower than `seeds` seeds should make them: name, count, and what it
    /// should be. Over few seeds, that is one.
    pub fn low(&self, seeds: u64) -> Vec<(&'static str, u64, u64)> {
        let asked = |floor: u64| (floor * seeds / FLOOR_SEEDS).max(1);
        let counts = marks().map(|(mark, floor)| (mark, self.count(mark), asked(floor)));
        counts.filter(|(_, count, floor)| count < floor).collect()
    }

    fn count(&self, mark: &str) -> u64 {
        self.counts.get(mark).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_low_below_its_share_of_the_floor_and_never_at_zero_alone() {
        let (mark, floor) = (
            "elections",
            MARKS.iter().find(|mark| mark.0 == "elections").expect("it is counted").1,
        );
        assert!(floor >= 2, "the test needs a floor");
        let mut coverage = Coverage::default();
        let is_low =
            |coverage: &Coverage, seeds| coverage.low(seeds).iter().any(|low| low.0 == mark);
        assert!(is_low(&coverage, 1));
        coverage.hit(mark);
        assert!(!is_low(&coverage, 1));
        assert!(is_low(&coverage, FLOOR_SEEDS));
        coverage.add(mark, floor - 2);
        assert!(is_low(&coverage, FLOOR_SEEDS));
        coverage.hit(mark);
        assert!(!is_low(&coverage, FLOOR_SEEDS));
    }
}
