//! The command `shrink`: a seed that fails becomes a file with what the failure needs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use flotilla_sim::regressions::Regression;
use flotilla_sim::seed;
use flotilla_sim::shrink;
use flotilla_sim::trace::Told;

use super::bad_usage;
use super::target::Target;

/// The arguments of `shrink`.
#[derive(Args)]
pub struct ShrinkArgs {
    #[command(flatten)]
    target: Target,
    /// The most scenarios to run.
    #[arg(long, default_value_t = 400)]
    runs: u64,
    /// The file to write. The default is standard output.
    #[arg(long)]
    to: Option<PathBuf>,
}

/// Shrinks a scenario. The exit status is 1 if the scenario passes.
pub fn run(args: &ShrinkArgs) -> ExitCode {
    let started = Instant::now();
    let job = match args.target.job() {
        Ok(job) => job,
        Err(error) => return bad_usage(&error),
    };
    let mutant = args.target.plant().map(str::to_string);
    let before = (job.scenario.faults.acts.len(), job.scenario.clients.keys);
    let mut violation =
        |scenario: &_| seed::run_scenario(Clone::clone(scenario), Told::Nowhere).violation;
    let Some(shrunk) = shrink::shrink(job.scenario, args.runs, &mut violation) else {
        eprintln!("{} passes", job.name);
        return ExitCode::FAILURE;
    };
    let scenario = shrunk.scenario;
    eprintln!(
        "{}: {}\n  {}\n  {} acts of {}, {} keys of {}, {} clients, {} stores, first phase {} s; {} \
         runs, {:.1} s",
        job.name,
        shrunk.violation.invariant,
        shrunk.violation.what,
        scenario.faults.acts.len(),
        before.0,
        scenario.clients.keys,
        before.1,
        scenario.clients.count,
        scenario.cluster.stores,
        scenario.safety as f64 / 1e6,
        shrunk.runs,
        started.elapsed().as_secs_f64()
    );
    let found = shrunk.violation.invariant.to_string();
    let text = Regression { found, mutant, scenario }.as_text();
    match &args.to {
        None => print!("{text}"),
        Some(path) => {
            if let Err(error) = std::fs::write(path, text) {
                return bad_usage(&format!("{}: {error}", path.display()));
            }
        }
    }
    ExitCode::SUCCESS
}
