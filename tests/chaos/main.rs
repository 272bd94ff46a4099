//! `flotilla-chaos`: real processes under faults that are drawn from a seed, clients that note what
//! they asked and were told, and judges who say whether it can be.
//!
//! ```text
//! cargo run --release -p flotilla-tests --bin flotilla-chaos -- --minutes 5 --seed 1 -o json
//! ```
//!
//! * [`cluster`]: three placement drivers and five stores, each a [`server`]; [`links`] between.
//! * [`disk`]: a library in front of the disks of stores, by which they fail.
//! * [`nemesis`]: which of the [`faults`] begins when; [`recovery`]: how long the cluster needs.
//! * [`work`]: what clients do, and the judges of what they were told.
//! * [`verdict`]: what must hold of replicas and processes at the end.
//! * [`timeline`]: what happened when; [`report`]: what a run tells at its end.
//!
//! Exit status 0: nothing is wrong. 1: something is, and the directory that is named last holds the
//! timeline, the histories, and the logs and data of all processes. 2: bad usage.
//!
//! Not here: faults inside a core, which the simulator has.

mod cluster;
mod disk;
mod faults;
mod links;
mod nemesis;
mod recovery;
mod report;
mod server;
mod timeline;
mod verdict;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use cluster::Cluster;
use faults::{ALL, Fault, OFF_BECAUSE};
use nemesis::Done;
use report::Report;
use timeline::Timeline;
use tokio::signal::unix::{SignalKind, signal};
use work::clients::{self, Shared};
use work::{End, Findings, batches};

/// Real processes under faults
#[derive(Parser)]
#[command(name = "flotilla-chaos", after_help = faults_help())]
struct Args {
    /// How long faults come
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What faults and clients follow from [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// These faults and no others
    #[arg(long, value_delimiter = ',', value_name = "FAULT,...", value_parser = fault)]
    only: Vec<Fault>,
    /// Clients by SDK; four more use HTTP
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// The `flotilla` to run [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Another build of it, to which stores change and back
    #[arg(long, value_name = "PATH")]
    other_binary: Option<PathBuf>,
    /// Where data, logs and histories go [default: a temporary directory]. Kept if something is
    /// wrong
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How the result is told
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::of_name(name).ok_or_else(|| "no such fault; --help names all".into())
}

fn faults_help() -> String {
    let line = |(fault, name, what): &(Fault, &str, &str)| {
        let off = OFF_BECAUSE.iter().find(|(off, _)| off == fault);
        let why = off.map(|(_, why)| format!(" ({why})")).unwrap_or_default();
        format!("  {name:<16} {what}{why}")
    };
    let lines: Vec<String> = ALL.iter().map(line).collect();
    format!("Faults:\n{}", lines.join("\n"))
}

/// Where regions begin from the start, so that every workload has a region or two.
const FIRST_SPLITS: &[&str] =
    &["batch/", "register/", "register/8", "scan/", "scan/000300", "set/"];

/// A run, from the first process to the last judge.
struct Run {
    args: Args,
    seed: u64,
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run_unless_told_to_end(args)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// The run; what it has started ends with it, also by Ctrl-C or SIGTERM.
async fn run_unless_told_to_end(args: Args) -> Result<bool, String> {
    let terminated = signal(SignalKind::terminate());
    let mut terminated = terminated.map_err(|error| format!("signals: {error}"))?;
    tokio::select! {
        ended = run(args) => ended,
        _ = tokio::signal::ctrl_c() => Err("told to end".into()),
        _ = terminated.recv() => Err("told to end".into()),
    }
}

/// True if nothing is wrong.
async fn run(args: Args) -> Result<bool, String> {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = args.seed.unwrap_or(since_1970.as_secs());
    let temporary = match &args.dir {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix(&format!("chaos-{seed}-")).tempdir();
            Some(made.map_err(|error| format!("a temporary directory: {error}"))?)
        }
    };
    let root = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => return Err("no directory".into()),
    };
    let is_fine = run_in(&root, args, seed).await;
    if let Some(temporary) = temporary
        && !matches!(is_fine, Ok(true))
    {
        eprintln!("timeline, histories, logs and data: {}", temporary.keep().display());
    }
    is_fine
}

async fn run_in(root: &Path, args: Args, seed: u64) -> Result<bool, String> {
    let binary = args.binary.clone().map_or_else(beside_this, Ok)?;
    std::fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let timeline = Timeline::begin(&root.join("timeline.txt"));
    let timeline = Arc::new(timeline.map_err(|error| format!("{}: {error}", root.display()))?);
    timeline.note(format!("seed {seed}, binary {}", binary.display()));
    let mut cluster = Cluster::new(root, &binary, Arc::clone(&timeline)).await?;
    cluster.other_binary = args.other_binary.clone();
    cluster.put_disks();
    let cluster = Arc::new(cluster);
    cluster.start().await?;
    timeline.note("the cluster is healthy");
    let http = cluster.used_stores().map(|store| store.http.clone()).collect();
    let shared = Arc::new(Shared::new(args.clients, http));
    let run = Run { args, seed, cluster, shared };
    run.go().await
}

/// The binary of the same build.
fn beside_this() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = this.with_file_name("flotilla");
    if binary.exists() {
        return Ok(binary);
    }
    Err(format!("{} is not there; build it, or name another with --binary", binary.display()))
}

impl Run {
    async fn go(&self) -> Result<bool, String> {
        let pds = self.cluster.pd_addrs();
        let first = clients::connect(&pds, Duration::from_secs(30)).await;
        let first = first.map_err(|error| error.to_string())?;
        clients::prepare(&self.shared, &first).await.map_err(|error| error.to_string())?;
        self.cluster.split_at(FIRST_SPLITS).await?;
        let mut clients = clients::start(&self.shared, &pds, self.seed);
        let cluster = Arc::clone(&self.cluster);
        let watch = tokio::spawn(async move { cluster.watch().await });
        let done = self.under_fire().await;
        self.shared.stop();
        while clients.join_next().await.is_some() {}
        self.cluster.timeline.note("clients have stopped");
        let report = self.judge().await;
        watch.abort();
        self.tell(&report, &done)
    }

    async fn under_fire(&self) -> Done {
        let kinds = match self.args.only.is_empty() {
            true => {
                let all = ALL.iter().map(|(fault, ..)| *fault);
                all.filter(|fault| fault.is_on(&self.cluster)).collect()
            }
            false => self.args.only.clone(),
        };
        let end = Instant::now() + Duration::from_secs_f64(self.args.minutes * 60.0);
        let cluster = Arc::clone(&self.cluster);
        let done = nemesis::run(cluster, kinds, self.seed, end.into()).await;
        self.cluster.timeline.note("the last fault is over");
        done
    }

    /// Everything that must hold once no fault is left.
    async fn judge(&self) -> Report {
        let timeline = &self.cluster.timeline;
        match self.cluster.wait_healthy(Duration::from_secs(120)).await {
            Ok(took) => timeline.note(format!("healthy {} ms later", took.as_millis())),
            Err(why) => timeline.wrong(why),
        }
        if let Err(error) = clients::read_all(&self.shared, &self.cluster.pd_addrs()).await {
            timeline.wrong(format!("not all can be read at the end: {error}"));
        }
        let regions = match verdict::replicas_are_equal(&self.cluster).await {
            Ok(regions) => regions,
            Err(why) => {
                timeline.wrong(why);
                0
            }
        };
        timeline.note(format!("the replicas of {regions} regions are equal"));
        verdict::processes(&self.cluster);
        let starts = self.cluster.regions().await.unwrap_or_default();
        let starts = starts.iter().map(|route| route.region.range.start.get(4..));
        let starts: Vec<Vec<u8>> = starts.map(|key| key.unwrap_or_default().to_vec()).collect();
        self.report(&starts, regions)
    }

    fn report(&self, starts: &[Vec<u8>], regions: usize) -> Report {
        let (shared, timeline) = (&self.shared, &self.cluster.timeline);
        let began = Instant::now();
        let (mut findings, mut judged) = shared.registers.judge();
        let is_judged = |group: u16| batches::is_of_one_region(group, starts);
        let (more, of_batches) = shared.batches.judge_those(is_judged);
        judged.add(of_batches);
        findings.extend(more);
        let rest: [Findings; 4] = [
            shared.torn.judge(starts),
            shared.sets.judge(),
            shared.appends.judge(),
            shared.scans.judge().0,
        ];
        findings.extend(rest.into_iter().flatten());
        let checker_s = began.elapsed().as_secs_f64();
        for (wrong, what) in &findings {
            timeline.wrong(format!("{wrong:?}: {what}"));
        }
        let kinds = findings.into_iter().map(|(wrong, _)| wrong).collect();
        let peak = self.cluster.peak();
        let (seed, wrong) = (self.seed, timeline.all_wrong());
        Report { seed, wrong, kinds, judged, checker_s, regions, peak }
    }

    fn tell(&self, report: &Report, done: &Done) -> Result<bool, String> {
        let json = report.to_json(done, &self.shared);
        let text = serde_json::to_string_pretty(&json).map_err(|error| error.to_string())?;
        let write = |name: &str, text: &str| {
            let written = std::fs::write(self.cluster.root.join(name), text);
            written.map_err(|error| format!("{name}: {error}"))
        };
        write("report.json", &text)?;
        if !report.wrong.is_empty() {
            write("registers.txt", &self.shared.registers.dump())?;
            write("batches.txt", &self.shared.batches.dump())?;
        }
        if self.args.output == "json" {
            println!("{text}");
            return Ok(report.wrong.is_empty());
        }
        println!("{text}");
        for ((workload, end), count) in self.shared.tally.counts() {
            let end = if end == End::Ok { "ok".to_string() } else { format!("{end:?}") };
            println!("{workload:<12} {end:<14} {count}");
        }
        Ok(report.wrong.is_empty())
    }
}
