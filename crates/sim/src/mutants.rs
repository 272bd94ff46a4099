//! Planted bugs, each hunted until a seed fails: the proof that the simulator finds what it is
//! built to find.
//!
//! In: a mutant and a range of seeds. Out: a [`Hunt`], with the first seed of the range that fails
//! with the mutant planted and passes without, and the invariant that the seed broke. The result
//! does not depend on the number of threads: each seed runs on one thread, and the least failing
//! seed counts.
//!
//! A seed that fails without a planted bug proves nothing; it is counted apart. What each bug is
//! stands in `flotilla_types::mutant`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_types::mutant::{Mutant, plant};

use crate::scenario::Scenario;
use crate::seed::{self, Outcome};
use crate::trace::Told;

/// The result of the hunt for a mutant.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The mutant.
    pub mutant: Mutant,
    /// The number of seeds until the mutant was caught; the whole range if the mutant survived.
    pub seeds: u64,
    /// The seed that caught the mutant; None if the mutant survived.
    pub caught: Option<Outcome>,
    /// The number of seeds that fail without a planted bug.
    pub spoilt: u64,
}

impl Hunt {
    /// The invariant that the mutant broke.
    pub fn invariant(&self) -> Option<&'static str> {
        self.caught.as_ref()?.violation.as_ref().map(|violation| violation.invariant)
    }
}

/// Runs one seed with a mutant planted, or with none.
pub fn run_seed(mutant: Option<Mutant>, seed: u64) -> Outcome {
    run_scenario(mutant, Scenario::draw(seed))
}

/// Runs one scenario with a mutant planted, or with none.
pub fn run_scenario(mutant: Option<Mutant>, scenario: Scenario) -> Outcome {
    plant(mutant);
    let outcome = seed::run_scenario(scenario, Told::Nowhere);
    plant(None);
    outcome
}

/// The finding of one seed.
enum Finding {
    Nothing,
    Caught(Outcome),
    Spoilt,
}

fn look(mutant: Mutant, seed: u64) -> Finding {
    let outcome = run_seed(Some(mutant), seed);
    if outcome.violation.is_none() {
        Finding::Nothing
    } else if run_seed(None, seed).violation.is_some() {
        Finding::Spoilt
    } else {
        Finding::Caught(outcome)
    }
}

/// Runs seeds in order, on `jobs` threads, until one fails with the mutant planted.
pub fn hunt(mutant: Mutant, seeds: Range<u64>, jobs: usize) -> Hunt {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let found: Mutex<(BTreeMap<u64, Outcome>, BTreeSet<u64>)> = Mutex::default();
    let seek = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return;
            }
            let finding = look(mutant, seed);
            let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
            match finding {
                Finding::Nothing => {}
                Finding::Caught(outcome) => {
                    // Lesser seeds may still be running, and the least failing seed counts.
                    end.fetch_min(seed, Ordering::Relaxed);
                    found.0.insert(seed, outcome);
                }
                Finding::Spoilt => {
                    found.1.insert(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(seek);
        }
    });
    let (mut caught, spoilt) = found.into_inner().unwrap_or_else(|e| e.into_inner());
    let caught = caught.pop_first().map(|(_, outcome)| outcome);
    let end = caught.as_ref().map_or(seeds.end, |outcome| outcome.seed + 1);
    let spoilt = spoilt.range(..end).count() as u64;
    Hunt { mutant, seeds: end - seeds.start, caught, spoilt }
}

/// Mutants that nothing is known to catch yet; each wants a wider world or a sharper checker. A
/// sample leaves them out.
pub const UNCAUGHT: &[Mutant] = &[
    Mutant::LeaseTickKept,
    Mutant::IncarnationIgnored,
    Mutant::OlderRouteWins,
    Mutant::VoteGoesWithEntries,
    Mutant::DroppedWaitOn,
    Mutant::HiddenRowsFree,
    Mutant::LeaseDriftKept,
    Mutant::MissedTicksLost,
    Mutant::RestsBehind,
    Mutant::HeartbeatSpared,
    Mutant::RestForgotten,
    Mutant::LeadersSwapped,
    Mutant::RemoveUnreplaced,
    Mutant::ReplaceInTwo,
    Mutant::PageDrivesOut,
    Mutant::HeldBackOverSnapshot,
    Mutant::QuiescentUnasked,
    Mutant::SplitIdLives,
    Mutant::PdSnapshotMembersLate,
    Mutant::PdQuorumRemoved,
    Mutant::PdPromotedEarly,
];

/// The mutants that are known to be caught.
pub fn caught() -> Vec<Mutant> {
    Mutant::ALL.iter().copied().filter(|mutant| !UNCAUGHT.contains(mutant)).collect()
}

/// A sample of `count` of the mutants that are known to be caught. Successive turns go round the
/// list, so that every one of them has its turn.
pub fn sample(count: usize, turn: u64) -> Vec<Mutant> {
    let all = caught();
    let first = (turn as usize % all.len()) * count;
    (first..first + count.min(all.len())).map(|at| all[at % all.len()]).collect()
}
