//! `flotilla bench`: load on a running cluster, a side-by-side run against etcd, and the bars.
//!
//! Arguments and output only; `crates/bench` describes the method.

mod bars;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use flotilla_bench::BenchError;
use flotilla_bench::compare::cluster::{Programs, System};
use flotilla_bench::compare::{self, CompareConfig, Comparison};
use flotilla_bench::config::RunConfig;
use flotilla_bench::keys::Distribution;
use flotilla_bench::run::{self, Observer};
use flotilla_bench::target::{EtcdTarget, FlotillaTarget, Target};
use flotilla_bench::workload::Op;
use indicatif::ProgressBar;

use crate::args::{ClusterArgs, Format, address};
use crate::failure::{Failure, Tried};
use crate::output;
use crate::signals::StopSignals;
use crate::terminal::progress_bar;

/// How often a bar is drawn.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The commands of `flotilla bench`.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Put load on a running cluster and print throughput and latencies
    Run(RunArgs),
    /// Start three Flotilla stores and three etcd members on loopback, in turns, put the same load
    /// on both and print the ratios
    Compare(CompareArgs),
    /// Measure what Flotilla is to reach, bar by bar, each on a cluster of its own
    Bars(bars::BarsArgs),
}

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DistributionArg {
    /// All alike
    Uniform,
    /// A few keys take most of the load (theta 0.99, scattered)
    Zipfian,
}

impl From<DistributionArg> for Distribution {
    fn from(distribution: DistributionArg) -> Distribution {
        match distribution {
            DistributionArg::Uniform => Distribution::Uniform,
            DistributionArg::Zipfian => Distribution::Zipfian,
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetArg {
    /// The cluster of the placement driver at --endpoints or --pd
    Flotilla,
    /// The etcd cluster at --endpoints, by its v3 gRPC API
    Etcd,
}

/// Values, keys and times of a load, for all commands.
#[derive(Args)]
struct LoadShape {
    /// Bytes of each value, all random
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Keys that exist
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// What the choice of keys, operations and values depends on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds at the start of a run that are not measured
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warmup: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 8.0, value_parser = seconds)]
    seconds: f64,
}

/// Where the commands that start servers keep their data.
#[derive(Args)]
struct DataDir {
    /// Where the servers' data goes while they run; must be a disk, not memory
    /// [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl DataDir {
    fn path(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// Arguments of `flotilla bench run`.
#[derive(Args)]
pub struct RunArgs {
    /// put, get, scan, or a workload of YCSB: ycsb-a to ycsb-f
    #[arg(long)]
    op: Op,
    /// Clients that ask at the same time; with --rate, the most operations under way
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Operations a second on a fixed schedule; latencies count from when each was due
    /// [default: each client asks again as soon as it is answered]
    #[arg(long)]
    rate: Option<f64>,
    /// How keys are chosen [default: uniform; for YCSB as the workload has it]
    #[arg(long, value_enum)]
    distribution: Option<DistributionArg>,
    /// Rows of a scan; for ycsb-e the most
    #[arg(long, default_value_t = 100)]
    scan_rows: u64,
    /// What is measured
    #[arg(long, value_enum, default_value_t = TargetArg::Flotilla)]
    target: TargetArg,
    /// Addresses of placement drivers, or of etcd's members [default: those of --pd]
    #[arg(long, value_name = "HOST:PORT[,...]", value_delimiter = ',', value_parser = address)]
    endpoints: Vec<String>,
    /// Do not put the keys first: they are there from an earlier run
    #[arg(long)]
    no_load: bool,
    #[command(flatten)]
    shape: LoadShape,
}

/// Arguments of `flotilla bench compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
    /// Operations; see `flotilla bench run --help`
    #[arg(long, value_delimiter = ',', default_value = "put,get")]
    ops: Vec<Op>,
    /// Rounds of each system; a figure is their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How keys are chosen
    #[arg(long, value_enum, default_value_t = DistributionArg::Uniform)]
    distribution: DistributionArg,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "flotilla,etcd")]
    targets: Vec<TargetArg>,
    /// The program etcd [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    etcd: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
    /// Write compare.json and compare.svg into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    shape: LoadShape,
}

/// Seconds: more than a day is a mistake in the unit.
const SECONDS_MAX: f64 = 86_400.0;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(format!("expected seconds from 0 to {SECONDS_MAX}, such as 10 or 0.5")),
    }
}

/// Carries a `bench` command out. A signal ends it, and the servers that it has started.
pub async fn run(command: BenchCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let work = async {
        match command {
            BenchCommand::Run(args) => run_load(args, cluster).await,
            BenchCommand::Compare(args) => run_compare(args, cluster.output).await,
            BenchCommand::Bars(args) => bars::run(args, cluster.output).await,
        }
    };
    tokio::select! {
        () = stop.received() => Err(Failure::Server("bench: stopped by a signal".into())),
        outcome = work => outcome,
    }
}

/// Ignores the window: a plain run measures nothing beside it.
struct Unobserved;

impl Observer for Unobserved {
    fn window_opened(&mut self) {}
    fn window_closed(&mut self) {}
}

async fn run_load(args: RunArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let config = run_config(&args);
    config.check()?;
    let endpoints = if args.endpoints.is_empty() { &cluster.pd } else { &args.endpoints };
    let target: Arc<dyn Target> = match args.target {
        TargetArg::Flotilla => {
            Arc::new(FlotillaTarget::connect(endpoints, cluster.tls.load()?).await?)
        }
        TargetArg::Etcd => Arc::new(EtcdTarget::connect(endpoints, args.clients).await?),
    };
    if !args.no_load {
        let loading = shown("loading keys", None);
        run::load(&target, &config).await?;
        loading.finish_and_clear();
    }
    let running = shown("running", Some(config.warmup + config.window));
    let report = run::run(&target, &config, &mut Unobserved).await?;
    running.finish_and_clear();
    if let Some(text) = report.error_texts.first() {
        eprintln!("warning: {} operations failed, such as: {text}", report.errors);
    }
    match cluster.output {
        Format::Json => output::json(&report),
        Format::Table => {
            let rows = report.rows().into_iter().map(|(name, value)| vec![name.into(), value]);
            output::table(&["figure", "value"], &rows.collect::<Vec<_>>())
        }
    }
}

/// A bar that grows with the time, drawn by a thread of its own so that what is measured does not
/// draw. Nothing on a pipe.
fn shown(what: &'static str, lasts: Option<Duration>) -> ProgressBar {
    let steps = lasts.map(|lasts| (lasts.as_millis() / PROGRESS_INTERVAL.as_millis()) as u64);
    let bar = progress_bar(steps).with_message(what);
    bar.tick();
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        let drawn = bar.clone();
        std::thread::spawn(move || {
            while !drawn.is_finished() {
                std::thread::sleep(PROGRESS_INTERVAL);
                drawn.inc(1);
            }
        });
    }
    bar
}

fn run_config(args: &RunArgs) -> RunConfig {
    let shape = &args.shape;
    RunConfig {
        op: args.op,
        clients: args.clients,
        rate: args.rate,
        warmup: Duration::from_secs_f64(shape.warmup),
        window: Duration::from_secs_f64(shape.seconds),
        value_bytes: shape.value_bytes,
        keys: shape.keys,
        distribution: args.distribution.map_or(args.op.distribution(), Distribution::from),
        scan_rows: args.scan_rows,
        seed: shape.seed,
    }
}

async fn run_compare(args: CompareArgs, format: Format) -> Result<(), Failure> {
    let config = compare_config(&args)?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).tried(&format!("create {}", out.display()))?;
    }
    let comparison = compare::compare(&config, &mut show_progress).await?;
    if let Some(out) = &args.out {
        write_files(out, &comparison)?;
    }
    match format {
        Format::Json => output::json(&comparison),
        Format::Table => output::table(&Comparison::header(), &comparison.rows()),
    }
}

/// Progress is for people: nothing goes to a pipe.
fn show_progress(line: &str) {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprintln!("{line}");
    }
}

fn compare_config(args: &CompareArgs) -> Result<CompareConfig, Failure> {
    let flotilla = std::env::current_exe().tried("find this program's own path")?;
    let shape = &args.shape;
    let system = |target: &TargetArg| match target {
        TargetArg::Flotilla => System::Flotilla,
        TargetArg::Etcd => System::Etcd,
    };
    let mut systems: Vec<System> = args.targets.iter().map(system).collect();
    systems.sort();
    systems.dedup();
    Ok(CompareConfig {
        programs: Programs { flotilla, etcd: args.etcd.clone() },
        systems,
        ops: args.ops.clone(),
        clients: args.clients.clone(),
        rounds: args.rounds,
        warmup: Duration::from_secs_f64(shape.warmup),
        window: Duration::from_secs_f64(shape.seconds),
        value_bytes: shape.value_bytes,
        keys: shape.keys,
        distribution: args.distribution.into(),
        seed: shape.seed,
        dir: args.data.path(),
    })
}

fn write_files(out: &Path, comparison: &Comparison) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(comparison).map_err(std::io::Error::other);
    let files = [
        ("compare.json", json.tried("write JSON")?),
        ("compare.svg", compare::plot::svg(comparison)),
    ];
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).tried(&format!("write {}", path.display()))?;
    }
    Ok(())
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        match error {
            BenchError::Usage(text) => Failure::Usage(format!("bench: {text}")),
            BenchError::Target { .. } | BenchError::EtcdAbsent { .. } => {
                Failure::Server(format!("bench: {error}"))
            }
            BenchError::Io { what, error } => Failure::Io { what: format!("bench: {what}"), error },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: BenchCommand,
    }

    fn parse(line: &str) -> Result<BenchCommand, clap::Error> {
        Line::try_parse_from(["bench"].into_iter().chain(line.split(' '))).map(|line| line.command)
    }

    #[test]
    fn a_run_takes_what_scripts_rely_on() {
        let line = "run --op ycsb-d --clients 8 --seconds 0.5 --value-bytes 64 --keys 1000 \
                    --rate 100 --target etcd --endpoints h:1,h:2 --no-load";
        let Ok(BenchCommand::Run(args)) = parse(line) else { panic!("parses") };
        let config = run_config(&args);
        assert_eq!((config.op, config.clients, config.rate), (Op::YcsbD, 8, Some(100.0)));
        assert_eq!(config.distribution, Distribution::Latest, "the workload's own");
        assert_eq!(config.window, Duration::from_millis(500));
        assert_eq!(args.endpoints, ["h:1", "h:2"]);
        for bad in ["run", "run --op ycsb-g", "run --op put --seconds -1", "run --op put --rate x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_comparison_has_defaults_and_each_system_once() {
        let Ok(BenchCommand::Compare(args)) = parse("compare") else { panic!("parses") };
        let config = compare_config(&args).expect("this program has a path");
        assert_eq!(config.clients, [1, 64, 256]);
        assert_eq!(config.ops, [Op::Put, Op::Get]);
        assert_eq!(config.systems, [System::Flotilla, System::Etcd]);
        let line = "compare --targets etcd,flotilla,etcd --clients 4";
        let Ok(BenchCommand::Compare(args)) = parse(line) else { panic!("parses") };
        let config = compare_config(&args).expect("this program has a path");
        assert_eq!((config.systems.len(), config.clients), (2, vec![4]));
    }
}
