//! A sample of the crash-point sweep, that it is the same each time, and that it can fail.

use flotilla_sim::sweep::{self, Case, Planted, script::SCRIPTS};

/// Every so manieth point, so that the sample is done in seconds.
const STRIDE: u64 = 41;

fn cases(scenario: &'static str, stride: u64) -> Vec<Case> {
    let cases = sweep::cases(scenario, stride).expect("the script itself runs");
    assert!(!cases.is_empty(), "{scenario} has no points");
    cases
}

#[test]
fn nothing_diverges_at_a_sample_of_points() {
    sweep::hush_panics();
    let mut restarts = 0;
    for scenario in ["bootstrap", "apply", "checkpoint", "split", "install", "membership"] {
        // One variant of each point, another one for the next.
        let usual = cases(scenario, STRIDE).into_iter().filter(Case::is_usual);
        for (number, case) in usual.step_by(7).enumerate() {
            let ran = sweep::run(&case, Planted::Nothing);
            let ran = ran.unwrap_or_else(|what| panic!("{scenario} {number} {case:?}: {what}"));
            restarts += ran.restarts;
        }
    }
    assert!(restarts > 50, "only {restarts} restarts: the sample has become too small");
}

#[test]
fn a_script_passes_the_same_points_each_time() {
    sweep::hush_panics();
    for script in SCRIPTS.iter().filter(|script| script.name != "truncation") {
        let (first, second) = (sweep::measure(script), sweep::measure(script));
        assert_eq!(first, second, "{}", script.name);
        let measured = first.expect("the script itself runs");
        assert!(measured.end > measured.first + 20, "{}: {measured:?}", script.name);
    }
}

#[test]
fn a_disk_that_ignores_syncs_is_caught() {
    sweep::hush_panics();
    let caught = cases("apply", STRIDE)
        .iter()
        .filter(|case| case.variant.name == "lost")
        .filter(|case| sweep::run(case, Planted::IgnoredSyncs).is_err())
        .count();
    assert!(caught > 0, "the loss of all that was synced goes unnoticed");
}

#[test]
fn a_write_that_is_not_there_is_missed() {
    sweep::hush_panics();
    let all = cases("checkpoint", STRIDE * 4);
    for case in all.iter().filter(|case| case.variant.name == "kept") {
        let missed = sweep::run(case, Planted::FalseAcknowledgement);
        let missed = missed.expect_err("a write was acknowledged that nobody made");
        assert!(missed.contains("nobody wrote this"), "{missed}");
    }
}
