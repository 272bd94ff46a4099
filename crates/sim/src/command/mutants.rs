//! The command `mutants`: runs every planted bug until a seed catches the bug.
//!
//! Only a build with the feature `mutants` has planted bugs; any other build prints how to make
//! such a build.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Format, REGRESSIONS};

/// The arguments of `mutants`.
#[derive(Args)]
pub struct MutantsArgs {
    /// Run this one only.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = named)]
    only: Option<flotilla_types::mutant::Mutant>,
    /// Run this one only.
    #[cfg(not(feature = "mutants"))]
    #[arg(long)]
    only: Option<String>,
    /// Run the files of this directory, each with the mutant that it names, instead of seeds.
    #[arg(
        long,
        conflicts_with_all = ["only", "sample", "start"],
        num_args = 0..=1,
        default_missing_value = REGRESSIONS
    )]
    regressions: Option<PathBuf>,
    /// Print those that a test catches: name, crate, test. `.ci/planted` runs these tests.
    #[arg(long, conflicts_with_all = ["only", "sample", "start", "regressions"])]
    by_test: bool,
    /// The number of seeds after which a mutant has survived.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed, which also decides what --sample takes. The default is 1; with --sample, the
    /// number of today, so that every day takes others.
    #[arg(long)]
    start: Option<u64>,
    /// Run only this many of them, other ones with each --start.
    #[arg(long, conflicts_with = "only")]
    sample: Option<usize>,
    /// How many seeds run at once, each on a thread of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The format of the output.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[cfg(not(feature = "mutants"))]
pub use absent::run;
#[cfg(feature = "mutants")]
pub use present::{named, run};

#[cfg(not(feature = "mutants"))]
mod absent {
    use super::super::BAD_USAGE;
    use super::*;

    /// Prints how to build the binary that has planted bugs.
    pub fn run(_: &MutantsArgs) -> ExitCode {
        eprintln!(
            "error: this build has no planted bugs; make one that has them:\n  \
             cargo run --release -p flotilla-sim --features mutants -- mutants"
        );
        ExitCode::from(BAD_USAGE)
    }
}

#[cfg(feature = "mutants")]
mod present {
    use std::path::Path;
    use std::time::{Instant, SystemTime};

    use flotilla_sim::mutants::{self, Hunt};
    use flotilla_sim::regressions::{self, Regression};
    use flotilla_types::mutant::Mutant;
    use serde_json::json;

    use super::super::bad_usage;
    use super::*;

    const DAY_S: u64 = 24 * 60 * 60;

    /// Hunts the mutants one after another. The exit status is 1 if a mutant survives.
    pub fn run(args: &MutantsArgs) -> ExitCode {
        if let Some(directory) = &args.regressions {
            return run_files(directory);
        }
        if args.by_test {
            for (mutant, package, test) in mutants::BY_TEST {
                println!("{} flotilla-{package} {test}", mutant.name());
            }
            return ExitCode::SUCCESS;
        }
        let start = args.start.unwrap_or_else(|| args.sample.map_or(1, |_| today()));
        let started = Instant::now();
        let mut hunts = vec![];
        for mutant in choose(args, start) {
            let seeds = start..start.saturating_add(args.seeds);
            let hunt = mutants::hunt(mutant, seeds, args.jobs);
            if args.output == Format::Table {
                tell(&hunt);
            }
            hunts.push(hunt);
        }
        let survivors = hunts.iter().filter(|hunt| hunt.caught.is_none()).count();
        match args.output {
            Format::Table => println!(
                "{} of {} mutants caught, first seed {start}, {:.0} s",
                hunts.len() - survivors,
                hunts.len(),
                started.elapsed().as_secs_f64()
            ),
            Format::Json => println!("{}", as_json(&hunts, start, started)),
        }
        if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Checks that each file still catches the mutant that it names, and passes without.
    fn run_files(directory: &Path) -> ExitCode {
        let all = match regressions::all(directory) {
            Ok(all) => all,
            Err(error) => return bad_usage(&error),
        };
        let mut outlived = 0;
        for (name, Regression { mutant, scenario, .. }) in all {
            let Some(mutant) = mutant else { continue };
            let caught = named(&mutant).map(|mutant| {
                let with = mutants::run_scenario(Some(mutant), scenario.clone()).violation;
                let without = mutants::run_scenario(None, scenario).violation;
                with.filter(|_| without.is_none()).map(|violation| violation.invariant)
            });
            outlived += u64::from(!matches!(caught, Ok(Some(_))));
            let told = match caught {
                Ok(caught) => caught.unwrap_or("NOT CAUGHT"),
                Err(_) => "NO SUCH MUTANT",
            };
            println!("{name:<40}  {mutant:<22}  {told}");
        }
        if outlived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn today() -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |since| since.as_secs() / DAY_S)
    }

    /// The mutant with this name.
    pub fn named(name: &str) -> Result<Mutant, String> {
        let known = || Mutant::ALL.iter().map(|mutant| mutant.name());
        let named = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        named.ok_or_else(|| format!("there are {}", known().collect::<Vec<_>>().join(", ")))
    }

    fn choose(args: &MutantsArgs, start: u64) -> Vec<Mutant> {
        match (args.only, args.sample) {
            (Some(named), _) => vec![named],
            (None, Some(count)) => mutants::sample(count, start),
            (None, None) => Mutant::ALL.to_vec(),
        }
    }

    /// Prints a row of the table as soon as its hunt ends.
    fn tell(hunt: &Hunt) {
        let caught_by = hunt.invariant().unwrap_or("SURVIVED");
        let (name, what) = (hunt.mutant.name(), hunt.mutant.what());
        let seed = hunt.caught.as_ref().map_or("-".into(), |outcome| outcome.seed.to_string());
        println!("{name:<22}  {what:<64}  {:>5}  seed {seed:>6}  {caught_by}", hunt.seeds);
        if hunt.spoilt > 0 {
            println!("  {} seeds passed over: they fail with nothing planted", hunt.spoilt);
        }
    }

    fn as_json(hunts: &[Hunt], start: u64, started: Instant) -> serde_json::Value {
        let hunt = |hunt: &Hunt| {
            let violation = hunt.caught.as_ref().and_then(|outcome| outcome.violation.as_ref());
            json!({
                "mutant": hunt.mutant.name(),
                "mistake": hunt.mutant.what(),
                "seeds": hunt.seeds,
                "seed": hunt.caught.as_ref().map(|outcome| outcome.seed),
                "invariant": hunt.invariant(),
                "spoilt": hunt.spoilt,
                "what": violation.map(|violation| &violation.what),
            })
        };
        json!({
            "mutants": hunts.iter().map(hunt).collect::<Vec<_>>(),
            "survivors": hunts.iter().filter(|hunt| hunt.caught.is_none()).count(),
            "start": start,
            "seconds": started.elapsed().as_secs_f64(),
        })
    }
}
