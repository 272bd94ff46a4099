//! The commands `run` (many seeds) and `replay` (one seed).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use flotilla_sim::check::Violation;
use flotilla_sim::coverage::Coverage;
use flotilla_sim::regressions;
use flotilla_sim::seed::{self, Outcome};
use flotilla_sim::time::MS;
use flotilla_sim::trace::{self, Filter, Telling, Told};
use serde_json::json;

use super::figures::Figures;
use super::target::{Job, Target};
use super::{Format, REGRESSIONS, bad_usage};

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
    /// Run the scenarios of this directory, which once failed, and nothing else.
    #[arg(
        long,
        conflicts_with_all = ["seeds", "start", "minutes"],
        num_args = 0..=1,
        default_missing_value = REGRESSIONS
    )]
    regressions: Option<PathBuf>,
    /// Fail if a counter is lower than so many seeds should make it.
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
    #[command(flatten)]
    target: Target,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Print what names this region, or no region.
    #[arg(long, requires = "trace")]
    region: Option<u64>,
    /// Print what names this store, or no store.
    #[arg(long, requires = "trace")]
    store: Option<u64>,
    /// Print from this time on, in milliseconds.
    #[arg(long, requires = "trace")]
    from: Option<u64>,
    /// Print up to this time, in milliseconds.
    #[arg(long, requires = "trace")]
    to: Option<u64>,
    /// The format of the output.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

impl ReplayArgs {
    fn filter(&self) -> Filter {
        let (region, store) = (self.region, self.store);
        let from = self.from.unwrap_or(0) * MS;
        Filter { region, store, from, to: self.to.map(|to| to * MS) }
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
    figures: Figures,
    failures: Vec<Failure>,
    /// The trace hash of the seed that was added last.
    trace_hash: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome, failure: Option<Failure>) {
        self.seeds += 1;
        self.trace_hash = outcome.trace_hash;
        self.simulated_hours += outcome.simulated as f64 / 3.6e9;
        self.events += outcome.events;
        self.records += outcome.records as u64;
        self.coverage.merge(&outcome.coverage);
        self.figures.add(outcome);
        self.failures.extend(failure);
    }

    /// The counters that are below their floors: name, count, floor.
    fn low(&self) -> Vec<(&'static str, u64, u64)> {
        self.coverage.low(self.seeds)
    }
}

/// The seeds that are still to be run.
struct Queue {
    listed: Option<Vec<Job>>,
    start: u64,
    seeds: u64,
    deadline: Option<Instant>,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Queue {
    fn new(args: &RunArgs, started: Instant) -> Result<Queue, String> {
        let limit = args.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes.max(0.0)));
        let listed = match &args.regressions {
            Some(directory) => {
                let path = |name| directory.join(name).with_extension("json");
                let all = regressions::all(directory)?.into_iter();
                let jobs = all.map(|(name, read)| Job::of_regression(&path(name), read));
                Some(jobs.collect::<Vec<Job>>())
            }
            None => None,
        };
        let seeds = match &listed {
            Some(listed) => listed.len() as u64,
            None if args.seeds == u64::MAX && limit.is_none() => SEEDS_USUALLY,
            None => args.seeds,
        };
        let (start, next) = (args.start, AtomicU64::new(0));
        let deadline = limit.map(|limit| started + limit);
        Ok(Queue { listed, start, seeds, deadline, next, is_over: AtomicBool::new(false) })
    }

    /// The next job, and the number of jobs before it. None if no job or no time is left.
    fn take(&self) -> Option<(u64, Job)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if number >= self.seeds || is_late || self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let job = match &self.listed {
            Some(listed) => listed.get(usize::try_from(number).ok()?)?.clone(),
            None => Job::of_seed(self.start.wrapping_add(number)),
        };
        Some((number, job))
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Runs seeds.
pub fn run(args: &RunArgs) -> ExitCode {
    let started = Instant::now();
    let queue = match Queue::new(args, started) {
        Ok(queue) => queue,
        Err(error) => return bad_usage(&error),
    };
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| work(&queue, args, &total));
        }
    });
    let total = total.into_inner().unwrap_or_else(|e| e.into_inner());
    sum_up(&total, started.elapsed(), args.output);
    let is_covered = !args.cover || total.low().is_empty();
    if !is_covered {
        for (mark, count, floor) in total.low() {
            eprintln!("too seldom: {mark}: {count} of {floor}");
        }
    }
    if total.failures.is_empty() && is_covered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs jobs until none is left.
fn work(queue: &Queue, args: &RunArgs, total: &Mutex<Total>) {
    while let Some((number, job)) = queue.take() {
        let mut outcome = seed::run_scenario(job.scenario.clone(), Told::Nowhere);
        if number % TWICE_EVERY == TWICE_EVERY - 1 {
            check_replay(&job, &mut outcome);
        }
        let failure = Failure::of(&job, &outcome, None);
        failure.iter().for_each(|failure| failure.tell(args.output));
        let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
        total.add(&outcome, failure);
        if total.failures.len() >= args.failures {
            queue.end();
        }
    }
}

/// Runs the job once more: the trace must be the same.
fn check_replay(job: &Job, outcome: &mut Outcome) {
    let again = seed::run_scenario(job.scenario.clone(), Told::Nowhere);
    if outcome.violation.is_none() && again.trace_hash != outcome.trace_hash {
        let hashes = (outcome.trace_hash, again.trace_hash);
        let what = format!("trace hashes {:016x} and {:016x}", hashes.0, hashes.1);
        outcome.violation = Some(Violation { invariant: "a seed replays", what });
    }
}

/// Runs one seed again.
pub fn replay(args: &ReplayArgs) -> ExitCode {
    let started = Instant::now();
    let mutant = args.target.plant();
    let job = match args.target.job() {
        Ok(job) => job,
        Err(error) => return bad_usage(&error),
    };
    // The output of JSON is for scripts, so the trace goes to standard error.
    let told = match (args.trace, args.output) {
        (false, _) => Told::Nowhere,
        (true, Format::Table) => Told::Output,
        (true, Format::Json) => Told::Errors,
    };
    let telling = Telling { told, filter: args.filter() };
    let outcome = seed::run_scenario(job.scenario.clone(), telling);
    let failure = Failure::of(&job, &outcome, mutant);
    failure.iter().for_each(|failure| failure.tell(args.output));
    let is_ok = failure.is_none();
    if args.output == Format::Table {
        println!("trace hash {:016x}", outcome.trace_hash);
    }
    let mut total = Total::default();
    total.add(&outcome, failure);
    sum_up(&total, started.elapsed(), args.output);
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A job that failed, as people and scripts are told of it.
struct Failure {
    name: String,
    seed: u64,
    violation: Violation,
    trace_hash: u64,
    /// The command that runs the job again.
    replay: String,
    /// The last lines of the trace that concern the region in trouble.
    last: Vec<String>,
}

impl Failure {
    /// None if the job passed. `mutant` names the bug that was planted, if one was.
    fn of(job: &Job, outcome: &Outcome, mutant: Option<&str>) -> Option<Failure> {
        let violation = outcome.violation.clone()?;
        let features = if mutant.is_some() { " --features mutants" } else { "" };
        let planted = mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
        let command = "cargo run --release -p flotilla-sim";
        let replay = format!("{command}{features} -- replay {}{planted} --trace", job.arguments);
        let filter = Filter { region: trace::regions(&violation.what).next(), ..Filter::default() };
        let telling = Telling { told: Told::Kept, filter };
        let last = seed::run_scenario(job.scenario.clone(), telling).lines;
        let (name, seed, trace_hash) = (job.name.clone(), outcome.seed, outcome.trace_hash);
        Some(Failure { name, seed, violation, trace_hash, replay, last })
    }

    /// Prints the failure, if people are to read the output.
    fn tell(&self, format: Format) {
        if format == Format::Table {
            let Failure { name, violation, replay, last, .. } = self;
            let Violation { invariant, what } = violation;
            println!("{name} failed: {invariant}\n  {what}\n  replay: {replay}");
            last.iter().for_each(|line| println!("    {line}"));
        }
    }

    fn as_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "seed": self.seed,
            "invariant": self.violation.invariant,
            "what": self.violation.what,
            "trace_hash": format!("{:016x}", self.trace_hash),
            "replay": self.replay,
            "last": self.last,
        })
    }
}

fn sum_up(total: &Total, elapsed: Duration, format: Format) {
    let seeds_per_minute = total.seeds as f64 * 60.0 / elapsed.as_secs_f64();
    if format == Format::Json {
        let coverage: serde_json::Map<String, serde_json::Value> =
            total.coverage.all().map(|(mark, count)| (mark.to_string(), count.into())).collect();
        let sum = json!({
            "seeds": total.seeds,
            "failures": total.failures.iter().map(Failure::as_json).collect::<Vec<_>>(),
            "simulated_hours": total.simulated_hours,
            "events": total.events,
            "records": total.records,
            "seconds": elapsed.as_secs_f64(),
            "seeds_per_minute": seeds_per_minute,
            "coverage": coverage,
            "figures": total.figures.json(),
            "low": total.low(),
            "trace_hash": (total.seeds == 1).then(|| format!("{:016x}", total.trace_hash)),
        });
        println!("{sum}");
        return;
    }
    for (mark, count) in total.coverage.all() {
        println!("{count:>12}  {mark}");
    }
    total.figures.print();
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
