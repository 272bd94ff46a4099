//! What a run tells at its end, as JSON or for people.

use serde_json::{Value, json};

use crate::faults::ALL;
use crate::nemesis::Done;
use crate::server::Usage;
use crate::work::clients::Shared;
use crate::work::registers::Judged;
use crate::work::{End, Wrong};

/// All that a run has to tell.
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was wrong, one line each.
    pub wrong: Vec<String>,
    /// How many findings of the judges are of which kind.
    pub kinds: Vec<Wrong>,
    /// How the two checkers of linearizability have worked.
    pub judged: Judged,
    /// How long all judges took, in seconds.
    pub checker_s: f64,
    /// Regions at the end, whose replicas were compared.
    pub regions: usize,
    /// What the servers have held at most.
    pub peak: Usage,
}

impl Report {
    /// The report as one object.
    pub fn to_json(&self, done: &Done, shared: &Shared) -> Value {
        let of = |wrong: Wrong| self.kinds.iter().filter(|kind| **kind == wrong).count();
        let (ok, failed) = (shared.tally.of(End::Ok), shared.tally.of(End::Failed));
        let undetermined = shared.tally.of(End::Undetermined);
        let named = |counts: &std::collections::BTreeMap<crate::faults::Fault, u64>| {
            let known = ALL.iter().filter_map(|(fault, name, _)| Some((*name, counts.get(fault)?)));
            known.map(|(name, count)| (name.to_string(), json!(count))).collect::<Value>()
        };
        let (recovery, recoveries) = done.recoveries.percentiles();
        let (_, scans) = shared.scans.judge();
        json!({
            "seed": self.seed,
            "faults": named(&done.seen),
            "faults_seen": done.seen.values().sum::<u64>(),
            "faults_unseen": named(&done.unseen),
            "operations": ok + failed + undetermined,
            "ok": ok,
            "failed": failed,
            "undetermined": undetermined,
            "lost": of(Wrong::Lost),
            "stale": of(Wrong::Stale),
            "duplicated": of(Wrong::Duplicated),
            "torn": of(Wrong::Torn),
            "recovery_ms": {"p50": recovery.p50, "p99": recovery.p99, "max": recovery.max},
            "recoveries": recoveries,
            "checker_s": self.checker_s,
            "histories": {"compared": self.judged.compared, "skipped": self.judged.skipped},
            "scans": scans,
            "regions": self.regions,
            "memory_bytes_max": self.peak.memory_bytes,
            "descriptors_max": self.peak.descriptors,
            "wrong": self.wrong,
        })
    }
}
