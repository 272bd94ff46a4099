//! The command `mutants`, in both builds: planted bugs are caught where there are any, and refused
//! where there are none.

use std::process::{Command, Output};

fn command(args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_flotilla-sim");
    Command::new(binary).arg("mutants").args(args).output().expect("the binary can be run")
}

#[cfg(not(feature = "mutants"))]
#[test]
fn a_build_without_planted_bugs_says_how_to_make_one() {
    let output = command(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--features mutants"), "{said}");
}

#[cfg(feature = "mutants")]
mod planted {
    use std::collections::BTreeSet;

    use flotilla_sim::mutants::{caught, hunt, run_seed, sample};
    use flotilla_sim::seed;
    use flotilla_types::mutant::Mutant;

    use super::command;

    #[test]
    fn a_planted_bug_is_caught_and_without_one_the_same_seed_passes() {
        seed::catch_panics();
        for mutant in [Mutant::SkipSync, Mutant::AckAtPropose] {
            let hunted = hunt(mutant, 1..51, 2);
            let caught = hunted.caught.expect("one of the quickest to catch");
            assert_eq!(run_seed(None, caught.seed).violation, None, "seed {}", caught.seed);
            let again = hunt(mutant, 1..51, 1);
            assert_eq!(
                (again.seeds, again.invariant()),
                (hunted.seeds, { caught.violation.as_ref().map(|violation| violation.invariant) })
            );
        }
    }

    #[test]
    fn samples_take_every_mutant_that_is_caught_in_turn() {
        let all = caught();
        let turns = 0..all.len() as u64;
        let taken: BTreeSet<Mutant> = turns.flat_map(|turn| sample(5, turn)).collect();
        assert_eq!(taken, all.iter().copied().collect());
        assert!(sample(5, 3).iter().all(|mutant| !sample(5, 4).contains(mutant)));
        assert_eq!(sample(1_000, 7).len(), all.len());
    }

    #[test]
    fn the_exit_status_tells_caught_from_survived_and_unknown() {
        assert_eq!(command(&["--only", "skip-sync"]).status.code(), Some(0));
        assert_eq!(command(&["--only", "skip-sync", "--seeds", "0"]).status.code(), Some(1));
        assert_eq!(command(&["--only", "nonsense"]).status.code(), Some(2));
    }
}
