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

/// Mutants that a test of a core catches and that no seed is known to: the crate and the test,
/// which must fail while the mutant is planted (`.ci/planted`). A sample leaves them out.
pub const BY_TEST: &[(Mutant, &str, &str)] = &[
    (
        Mutant::LostWhileHeard,
        "pd",
        "lost_store::a_silent_store_that_ids_are_awaited_of_is_named_and_can_be_removed_as_lost",
    ),
    (
        Mutant::IdsAwaitedUntold,
        "pd",
        "lost_store::a_silent_store_that_ids_are_awaited_of_is_named_and_can_be_removed_as_lost",
    ),
    (
        Mutant::LeaseTickKept,
        "group",
        "lease::tests::a_lease_is_shorter_than_the_least_election_timeout",
    ),
    (
        Mutant::LeaseDriftKept,
        "group",
        "lease::tests::a_lease_ends_before_the_promise_on_the_fastest_clock_at_every_timing",
    ),
    (
        Mutant::HeartbeatSpared,
        "group",
        "heartbeats::tests::a_member_that_was_written_to_and_did_not_answer_gets_its_heartbeat",
    ),
    (
        Mutant::VoteGoesWithEntries,
        "group",
        "opening::tests::a_peer_whose_state_is_lost_keeps_its_vote_and_forgets_its_entries",
    ),
    (
        Mutant::DroppedWaitOn,
        "host",
        "core::waiting::tests::an_entry_drops_later_proposals_of_earlier_terms",
    ),
    (
        Mutant::HiddenRowsFree,
        "store",
        "core::read::tests::deleted_rows_count_and_a_chunk_that_ends_among_them_says_where",
    ),
    (
        Mutant::IncarnationIgnored,
        "store",
        "core::neighbours::tests::another_process_of_a_neighbour_is_told_from_its_first_beat",
    ),
    (
        Mutant::MissedTicksLost,
        "store",
        "a_request_that_makes_a_follower_active_brings_the_ticks_since_the_leaders_last_beat",
    ),
    (
        Mutant::HeldBackOverSnapshot,
        "store",
        "entries_held_back_wait_for_a_snapshot_that_was_offered",
    ),
    (
        Mutant::QuiescentUnasked,
        "store",
        "idle_region_is_quiescent_and_elects_when_its_leader_is_gone",
    ),
    (Mutant::ReplaceInTwo, "store", "voter_is_replaced_in_a_joint_change"),
    (Mutant::SplitIdLives, "store", "a_region_goes_on_though_a_split_gives_its_id_to_other_keys"),
    (
        Mutant::RestForgotten,
        "pd",
        "core::reports::tests::a_full_heartbeat_ends_the_leaderships_that_it_does_not_name",
    ),
    (
        Mutant::RestsBehind,
        "store",
        "a_follower_that_lacks_an_entry_of_its_leader_does_not_become_quiescent",
    ),
    (
        Mutant::LeadersSwapped,
        "pd",
        "core::schedule::tests::leaders_move_from_the_store_with_most_to_the_one_with_least",
    ),
    (
        Mutant::RemoveUnreplaced,
        "pd",
        "core::check::tests::a_voter_on_a_removed_store_goes_if_that_lowers_the_majority",
    ),
    (
        Mutant::OlderRouteWins,
        "client",
        "core::router::tests::a_store_fills_a_hole_and_replaces_nothing_newer",
    ),
    (
        Mutant::PageDrivesOut,
        "client",
        "core::router::tests::a_page_does_not_drive_out_the_region_that_was_asked_for",
    ),
];

/// Mutants that nothing is known to catch yet; each wants a wider world, a sharper checker, or a
/// test of a core. A sample leaves them out.
pub const UNCAUGHT: &[Mutant] = &[];

/// The mutants that seeds are known to catch.
pub fn caught() -> Vec<Mutant> {
    let by_test = |mutant: &Mutant| BY_TEST.iter().any(|(tested, ..)| tested == mutant);
    let by_seed = |mutant: &Mutant| !by_test(mutant) && !UNCAUGHT.contains(mutant);
    Mutant::ALL.iter().copied().filter(by_seed).collect()
}

/// A sample of `count` of the mutants that are known to be caught. Successive turns go round the
/// list, so that every one of them has its turn.
pub fn sample(count: usize, turn: u64) -> Vec<Mutant> {
    let all = caught();
    let first = (turn as usize % all.len()) * count;
    (first..first + count.min(all.len())).map(|at| all[at % all.len()]).collect()
}
