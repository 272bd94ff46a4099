//! Counters of interesting events, each with the floor that `run --cover` asks of it per 1,000
//! seeds. A counter below its floor is a fault that the world hardly makes any more, or an edge
//! case that it hardly reaches: what relies on it is checked no more, though every seed passes.
//!
//! A floor is about a fourth of what a sound world counts; where that is less than five, once in
//! the whole run is enough.
//!
//! Counters decide nothing: no code reads a counter to choose what to do.

use std::collections::BTreeMap;

/// The seeds that a floor is given for.
const FLOOR_SEEDS: u64 = 1_000;

/// All counters, with their floors; those of the nemesis's acts (see
/// [`crate::scenario::Act::mark`]) stand last. [`Coverage::add`] refuses any other name.
const MARKS: &[(&str, u64)] = &[
    ("answers compared with the log", 600000),
    ("appends refused under pressure", 8500),
    ("answers to the administrator", 15000),
    ("calls beside others of their client", 55000),
    ("calls dropped by their caller", 1500),
    ("calls failed", 10000),
    ("calls ok", 250000),
    ("calls undetermined", 10000),
    ("checkpoints failed", 150),
    ("checkpoints lost in a crash", 1000),
    ("connections found dead", 4500),
    ("connections reset", 2500),
    ("clients that died", 100),
    ("clients whose clock jumped", 150),
    ("crashes in a sync", 350),
    ("crashes that kept some unsynced writes", 500),
    ("crashes that lost unsynced writes", 550),
    ("crashes that tore the log", 45),
    ("crashes soon after a change of shape", 1500),
    ("elections during a joint change", 90),
    ("elections with a change of members pending", 650),
    ("elections", 25000),
    ("followers that held entries back", 15000),
    ("gets refused for their bytes", 480),
    ("heartbeats duplicated", 6000),
    ("heartbeats full of reports", 2400),
    ("heartbeats late", 3500),
    ("impostors refused", 40),
    ("installs lost in a crash", 100),
    ("joint changes entered", 6500),
    ("keys compared by the second checker", 200),
    ("keys skipped by the second checker", 0),
    ("leaders removed or moved by operators", 4000),
    ("leaders that stood still with answers under way", 200),
    ("leaderships handed to a peer that is being removed", 100),
    ("log syncs failed", 90),
    ("log writes failed", 90),
    ("log writes refused by a full disk", 150),
    ("last calls without a placement driver", 35),
    ("lookups answered by the cache", 600),
    ("lookups answered by stores", 20),
    ("routes told by stores", 100),
    ("members changed", 70000),
    ("regions moved to even stores out", 2500),
    ("messages dropped by a full queue", 45000),
    ("messages duplicated", 150000),
    ("messages lost with their connection", 350000),
    ("messages lost", 850000),
    ("messages that waited behind others", 100000),
    ("messages to stores whose address is not known", 2500),
    ("peers created by messages", 10000),
    ("peers destroyed", 2000),
    ("peers quiescent", 25000),
    ("peers of the first region created", 800),
    ("placement driver put back from an older copy", 10),
    ("placement driver put back that has handed out ids since", 8),
    ("removals of placement drivers that are needed", 0),
    ("placement driver stopped by its disk", 100),
    ("placement driver stopped in good order", 60),
    ("requests that waited for leadership to be confirmed", 50_000),
    ("snapshots of the placement driver", 150),
    ("elections of the placement driver", 1_000),
    ("members of the placement driver cut off", 40),
    ("members of the placement driver removed", 130),
    ("members of the placement driver added", 130),
    ("members of the placement driver told that they were removed", 60),
    ("members of the placement driver told that their directory was lost", 60),
    ("directories of the placement driver lost", 60),
    ("questions of the administrator without an answer", 550),
    ("questions for another cluster refused", 450),
    ("probes for the leader of the placement driver", 50_000),
    ("calls answered while another placement driver is silent", 2_000),
    ("quiet windows", 250),
    ("reads by clients that stick to a store", 35000),
    ("reads refused by a full queue", 6200),
    ("reads under a permit", 100000),
    ("chunks of scans under a permit", 2000),
    ("reads whose permit was taken back between the two looks", 9500),
    ("reads under the lease", 150000),
    ("reads that the lease refused", 100000),
    ("refusals to the administrator", 5000),
    ("regions at the end", 4500),
    ("regions repaired at the end", 50),
    ("replies lost", 5000),
    ("requests refused by a busy store", 60000),
    ("resurrections refused", 1500),
    ("route caches started afresh", 21000),
    ("scan chunks that ended among deleted rows", 20),
    ("snapshots forced", 200),
    ("snapshots installed", 9000),
    ("snapshots refused or stale", 320),
    ("snapshots refused under pressure", 500),
    ("snapshots to members that lag", 700),
    ("splits during a snapshot", 8500),
    ("splits", 10000),
    ("stale turns delivered after a cut", 75000),
    ("stores left cut off", 60),
    ("stores left dead", 65),
    ("stores left standing still", 80),
    ("stores removed as lost", 0),
    ("stores removed for good", 0),
    ("stores replaced", 20),
    ("stores stopped by their disk", 500),
    ("right parts gone before their split was applied", 0),
    ("stores that find the placement driver by what they learned", 0),
    ("stores started without addresses", 280),
    ("stores stopped in good order", 1000),
    ("stores that hand leaderships on", 650),
    ("stores that have handed leaderships on", 580),
    ("stores struck in a joint change", 150),
    ("stores that came late", 200),
    ("stores that refused a damaged disk", 0),
    ("turns cut by time", 350),
    ("voters cut off from their leader as a candidate asks", 65),
    ("voters restarted as a candidate asks", 55),
    ("voters that learn of a later term within a lease", 0),
    ("writes refused by a full queue", 1100),
    ("votes asked of a store that has just started", 10000),
    ("writes dropped after they were sent", 1500),
    ("writes of a lost leadership given up", 600),
    ("writes refused at apply", 400),
    ("writes repeated", 10000),
    ("writes while an old leader is asked", 10000),
    ("crashes of one", 300),
    ("crashes of several", 250),
    ("crashes of all", 250),
    ("restart storms", 250),
    ("strikes prepared", 250),
    ("power cuts", 95),
    ("pauses", 200),
    ("clock rates changed", 250),
    ("clocks that jumped", 250),
    ("disk stalls", 250),
    ("log errors planned", 250),
    ("checkpoint errors planned", 250),
    ("disks full", 300),
    ("disks lost", 0),
    ("disks damaged", 0),
    ("partitions: one alone", 250),
    ("partitions: two groups", 250),
    ("partitions: a ring", 200),
    ("partitions: one way", 350),
    ("links clogged", 250),
    ("links swizzled", 250),
    ("connections broken by chance", 100),
    ("links slowed", 150),
    ("placement driver crashes", 250),
    ("orders: leadership moved", 250),
    ("orders: leaderships moved away", 200),
    ("orders: leaderships moved away and watched", 150),
    ("ambushes laid", 90),
    ("duels begun", 200),
    ("leaders stupefied", 200),
    ("machines suspended", 200),
    ("floods of requests", 200),
    ("orders: region cut", 250),
    ("orders: peer moved", 200),
    ("orders: peer removed", 250),
    ("orders: heir removed", 250),
    ("orders: store drained", 250),
    ("stores outrun", 250),
    ("rumours spread", 0),
    ("joint changes to be struck", 200),
    ("splits held up", 95),
    ("placement driver gone until healing", 0),
    ("copies of the placement driver's directory", 24),
    ("members of the placement driver replaced", 130),
];

/// All counters with their floors, in the order in which they are printed.
fn marks() -> impl Iterator<Item = (&'static str, u64)> {
    MARKS.iter().copied()
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
    use crate::scenario::Act;

    #[test]
    fn each_act_has_a_counter() {
        let is_counted = |act: &&Act| marks().any(|(mark, _)| mark == act.mark());
        assert_eq!(Act::ALL.iter().filter(is_counted).count(), Act::ALL.len());
    }

    #[test]
    fn a_counter_is_low_below_its_share_of_the_floor_and_never_at_zero_alone() {
        let (mark, floor) = (
            "power cuts",
            MARKS.iter().find(|mark| mark.0 == "power cuts").expect("it is counted").1,
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
