//! The commands `run` (many seeds) and `replay` (one seed).

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use flotilla_sim::check::Violation;
use flotilla_sim::coverage::Coverage;
use flotilla_sim::regressions;
use flotilla_sim::seed::{self, Outcome};
use flotilla_sim::trace::Told;
use serde_json::json;

use super::Format;

/// The arguments of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// How many seeds; with --minutes, the greatest number of seeds.
    #[arg(long, default_value_t = u64::MAX)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// How long, in minutes of real time.
    #[arg(long)]
    minutes: Option<f64>,
    /// How many seeds run at once, each on a thread of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Stop after this many seeds have failed.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Run the seeds that once failed, and nothing else.
    #[arg(long, conflicts_with_all = ["seeds", "start", "minutes"])]
    regressions: bool,
    /// Fail if a counter is zero over all seeds.
    #[arg(long)]
    cover: bool,
    /// The format of the output.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// The number of seeds if neither a number nor a time is given.
const SEEDS_USUALLY: u64 = 100;

/// One seed in so many is run twice, to check that a seed replays exactly.
const TWICE_EVERY: u64 = 100;

/// The arguments of `replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Plant this bug.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = super::mutants::named)]
    mutant: Option<flotilla_types::mutant::Mutant>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// The format of the output.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

impl ReplayArgs {
    /// The arguments by which a command plants the same bug.
    #[cfg(feature = "mutants")]
    fn planted(&self) -> String {
        self.mutant.map(|mutant| format!(" --mutant {}", mutant.name())).unwrap_or_default()
    }

    /// A build without the feature `mutants` plants no bug.
    #[cfg(not(feature = "mutants"))]
    fn planted(&self) -> String {
        String::new()
    }
}

/// The sum of all seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    simulated_hours: f64,
    events: u64,
    records: u64,
    coverage: Coverage,
    failures: Vec<Outcome>,
    /// The trace hash of the seed that was added last.
    trace_hash: u64,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.trace_hash = outcome.trace_hash;
        self.simulated_hours += outcome.simulated as f64 / 3.6e9;
        self.events += outcome.events;
        self.records += outcome.records as u64;
        self.coverage.merge(&outcome.coverage);
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }

    /// The counters that are zero.
    fn never(&self) -> Vec<&'static str> {
        self.coverage.all().filter(|(_, count)| *count == 0).map(|(mark, _)| mark).collect()
    }
}

/// The seeds that are still to be run.
struct Queue {
    listed: Option<Vec<u64>>,
    start: u64,
    seeds: u64,
    deadline: Option<Instant>,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Queue {
    fn new(args: &RunArgs, started: Instant) -> Queue {
        let limit = args.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes.max(0.0)));
        let listed: Option<Vec<u64>> = args
            .regressions
            .then(|| regressions::all().iter().map(|regression| regression.seed).collect());
        let seeds = match &listed {
            Some(listed) => listed.len() as u64,
            None if args.seeds == u64::MAX && limit.is_none() => SEEDS_USUALLY,
            None => args.seeds,
        };
        let (start, next) = (args.start, AtomicU64::new(0));
        let deadline = limit.map(|limit| started + limit);
        Queue { listed, start, seeds, deadline, next, is_over: AtomicBool::new(false) }
    }

    /// The next seed, and the number of seeds before it. None if no seed or no time is left.
    fn take(&self) -> Option<(u64, u64)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if number >= self.seeds || is_late || self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let seed = match &self.listed {
            Some(listed) => *listed.get(usize::try_from(number).ok()?)?,
            None => self.start.wrapping_add(number),
        };
        Some((number, seed))
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Runs seeds.
pub fn run(args: &RunArgs) -> ExitCode {
    let started = Instant::now();
    let queue = Queue::new(args, started);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some((number, seed)) = queue.take() {
                    let mut outcome = seed::run(seed, Told::Nowhere);
                    if number % TWICE_EVERY == TWICE_EVERY - 1 {
                        check_replay(&mut outcome);
                    }
                    tell(&outcome, "", args.output);
                    let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
                    total.add(outcome);
                    if total.failures.len() >= args.failures {
                        queue.end();
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(|e| e.into_inner());
    sum_up(&total, "", started.elapsed(), args.output);
    let is_covered = !args.cover || total.never().is_empty();
    if !is_covered {
        eprintln!("never happened in any seed: {}", total.never().join(", "));
    }
    if total.failures.is_empty() && is_covered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seed once more: the trace must be the same.
fn check_replay(outcome: &mut Outcome) {
    let again = seed::run(outcome.seed, Told::Nowhere);
    if outcome.violation.is_none() && again.trace_hash != outcome.trace_hash {
        let hashes = (outcome.trace_hash, again.trace_hash);
        let what = format!("trace hashes {:016x} and {:016x}", hashes.0, hashes.1);
        outcome.violation = Some(Violation { invariant: "a seed replays", what });
    }
}

/// Runs one seed again.
pub fn replay(args: &ReplayArgs) -> ExitCode {
    let started = Instant::now();
    #[cfg(feature = "mutants")]
    flotilla_types::mutant::plant(args.mutant);
    // The output of JSON is for scripts, so the trace goes to standard error.
    let told = match (args.trace, args.output) {
        (false, _) => Told::Nowhere,
        (true, Format::Table) => Told::Output,
        (true, Format::Json) => Told::Errors,
    };
    let outcome = seed::run(args.seed, told);
    let planted = args.planted();
    tell(&outcome, &planted, args.output);
    let is_ok = outcome.violation.is_none();
    if args.output == Format::Table {
        println!("trace hash {:016x}", outcome.trace_hash);
    }
    let mut total = Total::default();
    total.add(outcome);
    sum_up(&total, &planted, started.elapsed(), args.output);
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a failure as soon as it is found.
fn tell(outcome: &Outcome, planted: &str, format: Format) {
    let Some(violation) = outcome.violation.as_ref().filter(|_| format == Format::Table) else {
        return;
    };
    println!(
        "seed {} failed: {}\n  {}\n  replay: {}",
        outcome.seed,
        violation.invariant,
        violation.what,
        replay_command(outcome.seed, planted)
    );
}

fn replay_command(seed: u64, planted: &str) -> String {
    let features = if planted.is_empty() { "" } else { " --features mutants" };
    let command = "cargo run --release -p flotilla-sim";
    format!("{command}{features} -- replay --seed {seed}{planted} --trace")
}

fn sum_up(total: &Total, planted: &str, elapsed: Duration, format: Format) {
    let seeds_per_minute = total.seeds as f64 * 60.0 / elapsed.as_secs_f64();
    if format == Format::Json {
        let failure = |outcome: &Outcome| {
            let violation = outcome.violation.as_ref();
            json!({
                "seed": outcome.seed,
                "invariant": violation.map(|violation| violation.invariant),
                "what": violation.map(|violation| &violation.what),
                "trace_hash": format!("{:016x}", outcome.trace_hash),
                "replay": replay_command(outcome.seed, planted),
            })
        };
        let coverage: serde_json::Map<String, serde_json::Value> =
            total.coverage.all().map(|(mark, count)| (mark.to_string(), count.into())).collect();
        let sum = json!({
            "seeds": total.seeds,
            "failures": total.failures.iter().map(failure).collect::<Vec<_>>(),
            "simulated_hours": total.simulated_hours,
            "events": total.events,
            "records": total.records,
            "seconds": elapsed.as_secs_f64(),
            "seeds_per_minute": seeds_per_minute,
            "coverage": coverage,
            "never": total.never(),
            "trace_hash": (total.seeds == 1).then(|| format!("{:016x}", total.trace_hash)),
        });
        println!("{sum}");
        return;
    }
    for (mark, count) in total.coverage.all() {
        println!("{count:>12}  {mark}");
    }
    println!(
        "{} seeds, {} failed; {:.1} simulated hours, {} events, {} records; {:.0} seeds/minute",
        total.seeds,
        total.failures.len(),
        total.simulated_hours,
        total.events,
        total.records,
        seeds_per_minute
    );
}
