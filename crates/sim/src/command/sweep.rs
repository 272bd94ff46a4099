//! The command `sweep`: crash points on the real storage code. The sweep itself is in
//! `flotilla_sim::sweep`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;
use flotilla_sim::sweep::flips::{self, Flips};
use flotilla_sim::sweep::script::SCRIPTS;
use flotilla_sim::sweep::{self, Case, Planted};
use serde_json::{Value, json};

use super::Format;

/// The arguments of `sweep`.
#[derive(Args)]
pub struct SweepArgs {
    /// Run only this scenario.
    #[arg(long)]
    only: Option<String>,
    /// Run only this point of the scenario.
    #[arg(long, requires = "only")]
    point: Option<u64>,
    /// Run only this variant of what goes wrong at a point.
    #[arg(long)]
    variant: Option<String>,
    /// Run one point in so many.
    #[arg(long, default_value_t = 1)]
    stride: u64,
    /// How many runs at once, each on a thread of its own.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// The format of the output.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// A case whose outcome differs from what was promised.
struct Divergence {
    scenario: &'static str,
    replay: String,
    what: String,
}

/// The result of a scenario.
struct Row {
    scenario: &'static str,
    points: u64,
    crashes: u64,
    errors: u64,
    restarts: u64,
    divergences: Vec<Divergence>,
}

/// Runs the sweep. The exit status is 1 if a case diverges, and 2 for an unknown name.
pub fn run(args: &SweepArgs) -> ExitCode {
    sweep::hush_panics();
    let started = Instant::now();
    if let Some(unknown) = args.variant.as_deref().filter(|name| !is_variant(name)) {
        let known: Vec<&str> = sweep::variants().map(|variant| variant.name).collect();
        eprintln!("no variant {unknown:?}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut rows = vec![];
    for (scenario, _) in sweep::scenarios() {
        if args.only.as_deref().is_none_or(|only| only == scenario) {
            rows.push(run_scenario(scenario, args));
        }
    }
    if rows.is_empty() {
        let known: Vec<&str> = sweep::scenarios().map(|(name, _)| name).collect();
        eprintln!("no such scenario; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let rot = if args.point.is_none() { run_flips(args) } else { Flips::default() };
    let seconds = started.elapsed().as_secs_f64();
    match args.output {
        Format::Json => println!("{}", as_json(&rows, &rot, seconds)),
        Format::Table => print(&rows, &rot, seconds),
    }
    let has_run = rows.iter().any(|row| row.restarts > 0);
    let is_clean = rows.iter().all(|row| row.divergences.is_empty()) && rot.divergences.is_empty();
    if has_run && is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_variant(name: &str) -> bool {
    sweep::variants().any(|variant| variant.name == name)
}

/// Flips bits after each script that the arguments select.
fn run_flips(args: &SweepArgs) -> Flips {
    let is_meant = |name| args.only.as_deref().is_none_or(|only| only == name);
    let mut sum = Flips::default();
    for script in SCRIPTS.iter().filter(|script| is_meant(script.name)) {
        match flips::sweep(script) {
            Ok(flips) => {
                sum.intact += flips.intact;
                sum.refused += flips.refused;
                sum.declared += flips.declared;
                let named = |what| format!("{}: {what}", script.name);
                sum.divergences.extend(flips.divergences.into_iter().map(named));
            }
            Err(what) => sum.divergences.push(format!("{}: {what}", script.name)),
        }
    }
    sum
}

fn run_scenario(scenario: &'static str, args: &SweepArgs) -> Row {
    let mut row =
        Row { scenario, points: 0, crashes: 0, errors: 0, restarts: 0, divergences: vec![] };
    let cases = match sweep::cases(scenario, args.stride) {
        Ok(cases) => cases,
        Err(what) => {
            let replay = format!("flotilla-sim sweep --only {scenario}");
            row.divergences.push(Divergence { scenario, replay, what });
            return row;
        }
    };
    let is_meant = |case: &&Case| {
        args.point.is_none_or(|point| point == case.point)
            && args.variant.as_deref().map_or(case.is_usual(), |name| name == case.variant.name)
    };
    let cases: Vec<&Case> = cases.iter().filter(is_meant).collect();
    let mut points: Vec<u64> = cases.iter().map(|case| case.point).collect();
    points.dedup();
    row.points = points.len() as u64;
    let next = AtomicUsize::new(0);
    let shared = Mutex::new(&mut row);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ran = sweep::run(case, Planted::Nothing);
                    let mut row = shared.lock().unwrap_or_else(|e| e.into_inner());
                    note(&mut row, case, ran);
                }
            });
        }
    });
    row
}

fn note(row: &mut Row, case: &Case, ran: Result<sweep::Ran, String>) {
    match ran {
        Ok(ran) => {
            row.restarts += ran.restarts;
            row.crashes += u64::from(case.variant.is_crash());
            row.errors += u64::from(!case.variant.is_crash() && ran.was_hit);
        }
        Err(what) => {
            let Case { scenario, point, variant, .. } = case;
            let replay = format!(
                "flotilla-sim sweep --only {scenario} --point {point} --variant {}",
                variant.name
            );
            row.divergences.push(Divergence { scenario, replay, what });
        }
    }
}

fn print(rows: &[Row], rot: &Flips, seconds: f64) {
    for divergence in rows.iter().flat_map(|row| &row.divergences) {
        println!("{}: {}\n  replay: {}", divergence.scenario, divergence.what, divergence.replay);
    }
    println!(
        "{:<12} {:>8} {:>9} {:>8} {:>9} {:>12}",
        "scenario", "points", "crashes", "errors", "restarts", "divergences"
    );
    let line = |name: &str, row: [u64; 5]| {
        let [points, crashes, errors, restarts, divergences] = row;
        println!("{name:<12} {points:>8} {crashes:>9} {errors:>8} {restarts:>9} {divergences:>12}");
    };
    rows.iter().for_each(|row| line(row.scenario, numbers(row)));
    line("all", total(rows));
    rot.divergences.iter().for_each(|what| println!("a flipped bit: {what}"));
    let Flips { intact, refused, declared, divergences } = rot;
    println!(
        "flipped bits: {intact} without effect, {refused} refused, {declared} in places declared \
         undetectable, {} divergences",
        divergences.len()
    );
    println!("{seconds:.1} s");
}

fn numbers(row: &Row) -> [u64; 5] {
    let divergences = row.divergences.len() as u64;
    [row.points, row.crashes, row.errors, row.restarts, divergences]
}

fn total(rows: &[Row]) -> [u64; 5] {
    rows.iter().map(numbers).fold([0; 5], |sum, row| std::array::from_fn(|at| sum[at] + row[at]))
}

fn as_json(rows: &[Row], rot: &Flips, seconds: f64) -> Value {
    let row = |name: &str, [points, crashes, errors, restarts, divergences]: [u64; 5]| {
        json!({
            "scenario": name,
            "points": points,
            "crashes": crashes,
            "errors": errors,
            "restarts": restarts,
            "divergences": divergences,
        })
    };
    let divergence = |found: &Divergence| {
        let Divergence { scenario, replay, what } = found;
        json!({ "scenario": scenario, "what": what, "replay": replay })
    };
    json!({
        "scenarios": rows.iter().map(|one| row(one.scenario, numbers(one))).collect::<Vec<_>>(),
        "total": row("all", total(rows)),
        "divergences":
            rows.iter().flat_map(|row| &row.divergences).map(divergence).collect::<Vec<_>>(),
        "flipped_bits": {
            "intact": rot.intact,
            "refused": rot.refused,
            "declared": rot.declared,
            "divergences": rot.divergences,
        },
        "seconds": seconds,
    })
}
