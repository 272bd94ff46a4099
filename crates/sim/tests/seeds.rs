//! A few seeds of the whole world, and that a seed replays.

use std::collections::BTreeMap;
use std::path::Path;

use flotilla_sim::coverage::Coverage;

use flotilla_sim::regressions;
use flotilla_sim::seed::{self, Outcome};
use flotilla_sim::trace::Told;

const FRESH: std::ops::Range<u64> = 10_000..10_012;

fn run(seed: u64) -> Outcome {
    let outcome = seed::run(seed, Told::Nowhere);
    assert_eq!(outcome.violation, None, "flotilla-sim replay --seed {seed} --trace");
    outcome
}

#[test]
fn nothing_is_wrong_in_any_seed_and_what_should_happen_does() {
    seed::catch_panics();
    let mut coverage = Coverage::default();
    for seed in FRESH {
        coverage.merge(&run(seed).coverage);
    }
    let counts: BTreeMap<&str, u64> = coverage.all().collect();
    for mark in ["elections", "splits", "snapshots installed", "crashes of one", "links clogged"] {
        assert!(counts[mark] > 0, "no {mark} in any seed: the world has become too tame");
    }
}

#[test]
fn the_same_seed_has_the_same_trace() {
    seed::catch_panics();
    for seed in 20_000..20_003 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}

#[test]
fn what_once_failed_passes() {
    seed::catch_panics();
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"));
    let all = regressions::all(directory).expect("every file holds a scenario");
    assert!(!all.is_empty(), "there are files");
    for (name, regression) in all {
        let outcome = seed::run_scenario(regression.scenario, Told::Nowhere);
        assert_eq!(outcome.violation, None, "{name}: {}", regression.found);
    }
}
