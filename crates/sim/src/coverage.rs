//! Counters of interesting events. A counter that stays at zero over many seeds is a fault that the
//! world never makes, or an edge case that the world never reaches; `run --cover` fails on such a
//! counter.
//!
//! Counters decide nothing: no code reads a counter to choose what to do.

use std::collections::BTreeMap;

use crate::scenario::Act;

/// The names of all counters but those of the nemesis's acts (see [`Act::mark`]). [`Coverage::add`]
/// refuses any other name.
pub const MARKS: &[&str] = &[
    "answers compared with the log",
    "appends refused under pressure",
    "answers to the administrator",
    "calls beside others of their client",
    "calls dropped by their caller",
    "calls failed",
    "calls ok",
    "calls undetermined",
    "checkpoints failed",
    "checkpoints lost in a crash",
    "connections found dead",
    "connections reset",
    "clients that died",
    "clients whose clock jumped",
    "crashes in a sync",
    "crashes that kept some unsynced writes",
    "crashes that lost unsynced writes",
    "crashes that tore the log",
    "crashes soon after a change of shape",
    "elections during a joint change",
    "elections with a change of members pending",
    "elections",
    "followers that held entries back",
    "heartbeats duplicated",
    "heartbeats late",
    "installs lost in a crash",
    "keys compared by the second checker",
    "keys skipped by the second checker",
    "leaders removed or moved by operators",
    "leaders that stood still with answers under way",
    "leaderships handed to a peer that is being removed",
    "log syncs failed",
    "log writes failed",
    "log writes refused by a full disk",
    "lookups answered by the cache",
    "members changed",
    "messages dropped by a full queue",
    "messages duplicated",
    "messages lost with their connection",
    "messages lost",
    "messages that waited behind others",
    "messages to stores whose address is not known",
    "peers created by messages",
    "peers destroyed",
    "peers quiescent",
    "placement driver stopped by its disk",
    "questions of the administrator without an answer",
    "reads by clients that stick to a store",
    "reads under a permit",
    "reads whose permit was taken back between the two looks",
    "reads under the lease",
    "reads that the lease refused",
    "refusals to the administrator",
    "regions at the end",
    "regions repaired at the end",
    "replies lost",
    "resurrections refused",
    "scan chunks that ended among deleted rows",
    "snapshots forced",
    "snapshots installed",
    "snapshots refused or stale",
    "snapshots refused under pressure",
    "snapshots to members that lag",
    "splits during a snapshot",
    "splits",
    "stale turns delivered after a cut",
    "stores left cut off",
    "stores left dead",
    "stores left standing still",
    "stores removed for good",
    "stores replaced",
    "stores stopped by their disk",
    "right parts gone before their split was applied",
    "stores stopped in good order",
    "stores struck in a joint change",
    "stores that refused a damaged disk",
    "turns cut by time",
    "voters cut off from their leader as a candidate asks",
    "voters restarted as a candidate asks",
    "voters that learn of a later term within a lease",
    "votes asked of a store that has just started",
    "writes dropped after they were sent",
    "writes of a lost leadership given up",
    "writes refused at apply",
    "writes repeated",
    "writes while an old leader is asked",
];

/// The names of all counters, in the order in which they are printed.
fn marks() -> impl Iterator<Item = &'static str> {
    MARKS.iter().copied().chain(Act::ALL.iter().map(|act| act.mark()))
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
            assert!(marks().any(|known| known == mark), "'{mark}' is not counted");
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
        marks().map(|mark| (mark, self.counts.get(mark).copied().unwrap_or(0)))
    }
}
