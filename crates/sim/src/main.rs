//! `flotilla-sim`: runs seeds, replays one.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use flotilla_sim::coverage::Coverage;
use flotilla_sim::seed::{self, Outcome};
use serde_json::json;

/// Runs a whole cluster in one thread, from one seed, under faults.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds until they are done, the time is over or too many failed.
    Run(RunArgs),
    /// Runs one seed again.
    Replay(ReplayArgs),
}

#[derive(Args)]
struct RunArgs {
    /// How many seeds; with --minutes, at most so many.
    #[arg(long, default_value_t = u64::MAX)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// How long, in minutes of real time.
    #[arg(long)]
    minutes: Option<f64>,
    /// Seeds at once, one on each thread.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Stop after so many seeds have failed.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Args)]
struct ReplayArgs {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    simulated_hours: f64,
    events: u64,
    records: u64,
    coverage: Coverage,
    failures: Vec<Outcome>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.simulated_hours += outcome.simulated as f64 / 3.6e9;
        self.events += outcome.events;
        self.records += outcome.records as u64;
        self.coverage.merge(&outcome.coverage);
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }
}

fn main() -> ExitCode {
    seed::catch_panics();
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Replay(args) => replay(&args),
    }
}

fn run(args: &RunArgs) -> ExitCode {
    let started = Instant::now();
    let limit = args.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes.max(0.0)));
    let seeds = if args.seeds == u64::MAX && limit.is_none() { 100 } else { args.seeds };
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let is_late = limit.is_some_and(|limit| started.elapsed() >= limit);
                    if number >= seeds || is_late {
                        return;
                    }
                    let outcome = seed::run(args.start.wrapping_add(number), false);
                    tell(&outcome, args.output);
                    let mut total = total.lock().unwrap_or_else(|e| e.into_inner());
                    total.add(outcome);
                    if total.failures.len() >= args.failures {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(|e| e.into_inner());
    sum_up(&total, started.elapsed(), args.output);
    if total.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(args: &ReplayArgs) -> ExitCode {
    let started = Instant::now();
    let outcome = seed::run(args.seed, args.trace);
    tell(&outcome, args.output);
    let is_ok = outcome.violation.is_none();
    if args.output == Format::Table {
        println!("trace hash {:016x}", outcome.trace_hash);
    }
    let mut total = Total::default();
    total.add(outcome);
    sum_up(&total, started.elapsed(), args.output);
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A failure is told as soon as it is found.
fn tell(outcome: &Outcome, format: Format) {
    let Some(violation) = outcome.violation.as_ref().filter(|_| format == Format::Table) else {
        return;
    };
    println!(
        "seed {} failed: {}\n  {}\n  replay: {}",
        outcome.seed,
        violation.invariant,
        violation.what,
        replay_command(outcome.seed)
    );
}

fn replay_command(seed: u64) -> String {
    format!("cargo run --release -p flotilla-sim -- replay --seed {seed} --trace")
}

fn sum_up(total: &Total, elapsed: Duration, format: Format) {
    let seeds_per_minute = total.seeds as f64 * 60.0 / elapsed.as_secs_f64();
    if format == Format::Json {
        let failure = |outcome: &Outcome| {
            let violation = outcome.violation.as_ref();
            json!({
                "seed": outcome.seed,
                "invariant": violation.map(|violation| violation.invariant),
                "what": violation.map(|violation| &violation.what),
                "replay": replay_command(outcome.seed),
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
