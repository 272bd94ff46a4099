//! The binary `flotilla`: every role of a cluster, and the commands that talk to one.
//!
//! * [`args`]: how arguments are read; keys, sizes, labels, addresses.
//! * [`playground`]: PD and stores in one process on loopback.
//! * [`serve`]: one PD member or one store, until it is told to stop.
//! * [`gateway`]: the HTTP API, alone or beside a server.
//! * [`signals`]: what asks a server to stop.
//! * [`log`]: what is logged, and how.
//! * [`cert`]: an authority and certificates.
//! * [`kv`], [`change`], [`scan`], [`load`], [`dump`]: rows.
//! * [`mod@bench`]: load, and how much of it is carried.
//! * [`demo`]: clusters of processes that show what a cluster does.
//! * [`ctl`]: the cluster, its stores, regions and operators.
//! * [`examples`]: what help pages show; [`manual`]: completions for shells, manual pages.
//! * [`output`]: tables, JSON and rows on stdout.
//! * [`terminal`]: colours, progress bars and what else only a terminal gets.
//! * [`failure`]: what can go wrong, and the exit status of each.
//!
//! Exit status: 0 done, 1 the key or object is absent or the answer is no, 2 bad usage, 3 the
//! cluster refused or could not be reached, 4 the outcome is not known.
//!
//! Architecture invariant: the commands have no logic of their own. What a key's owner is, when to
//! retry and what makes a cluster healthy is known to the client and the servers.

mod args;
mod bench;
mod cert;
mod change;
mod ctl;
mod demo;
mod dump;
mod examples;
mod failure;
mod gateway;
mod kv;
mod load;
mod log;
mod manual;
mod output;
mod playground;
mod scan;
mod serve;
mod signals;
mod terminal;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;
use tokio::runtime::Builder;

use crate::args::ClusterArgs;
use crate::failure::Failure;

/// Planted bugs are for the simulator alone.
const _: () = assert!(
    !flotilla_types::mutant::IS_COMPILED_IN,
    "flotilla must not be built with the feature `mutants`"
);

/// Requests are decoded on one thread, applied on another and freed on a third. glibc's allocator
/// is slow at that, and its memory fragments. Huge pages are off, because the memory that a
/// checkpoint frees goes back to the system, and clearing two megabytes at a time when the worker
/// allocates again takes a quarter of the worker's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The status of a server that cannot continue.
const STATUS_DIED: i32 = 3;

/// A sharded, strongly consistent key-value store.
#[derive(Parser)]
#[command(name = "flotilla", version, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 the key or object is absent or the answer is \
                        no, 2 bad usage, 3 the cluster refused or could not be reached, 4 the \
                        outcome is not known.\n\
                        FLOTILLA_LOG sets what is logged to stderr, such as info or \
                        flotilla_store=debug; \
                        FLOTILLA_LOG_FORMAT=json writes a JSON object for each line.")]
struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run PD and stores in one process on loopback
    Playground(playground::PlaygroundArgs),
    /// Run a placement driver
    Pd(serve::PdArgs),
    /// Run a store
    Store(serve::StoreArgs),
    /// Serve the HTTP API of a cluster
    Gateway(gateway::GatewayArgs),
    /// Read and write rows
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Look at the cluster and steer it
    #[command(subcommand)]
    Ctl(ctl::CtlCommand),
    /// Measure how much load a cluster carries
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Show what a cluster of processes does when it grows, fails or is cut apart
    #[command(subcommand)]
    Demo(demo::DemoCommand),
    /// Make certificates for TLS
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Print the script that completes commands in a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(manual::ManArgs),
}

/// The commands, with examples on their help pages.
fn command() -> clap::Command {
    examples::added_to(Cli::command())
}

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Err(failure) = log::start(default_log_filter(&cli.command)) {
        return failure.report();
    }
    if is_server(&cli.command) {
        flotilla_store::end_process_on_panic(STATUS_DIED);
    }
    let runtime =
        Builder::new_multi_thread().worker_threads(io_threads(&cli.command)).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Io { what: "start the runtime".into(), error }.report(),
    };
    let outcome = runtime.block_on(run(cli));
    // Waiting could take for ever: a thread may be in the middle of reading a terminal.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The number of threads of the runtime: half of the processors, unless the user chose another.
/// A store's worker and disk have threads of their own, and a client shares its machine with
/// servers. Each thread beyond the number of processors costs throughput, because tasks move
/// between threads and every wake-up is a switch: on two processors, one thread serves twice the
/// reads of two.
fn io_threads(command: &Command) -> usize {
    let chosen = match command {
        Command::Store(args) => args.io_threads,
        _ => None,
    };
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    chosen.map_or_else(|| (processors() / 2).max(1), NonZeroUsize::get)
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let cluster = cli.cluster;
    flotilla_net::connect::dial_by(&cluster.dial)
        .map_err(|error| Failure::Usage(format!("--dial: {error}")))?;
    match cli.command {
        Command::Playground(args) => playground::run(args).await,
        Command::Pd(args) => serve::pd(args, &cluster.tls).await,
        Command::Store(args) => serve::store(args, cluster.pd, &cluster.tls).await,
        Command::Gateway(args) => gateway::run(args, cluster.pd, &cluster.tls).await,
        Command::Kv(command) => kv::run(command, &cluster).await,
        Command::Ctl(command) => ctl::run(command, &cluster).await,
        Command::Bench(command) => bench::run(command, &cluster).await,
        Command::Demo(command) => demo::run(command).await,
        Command::Cert(command) => cert::run(command),
        Command::Completions(args) => manual::completions(&args, command()),
        Command::Man(args) => manual::man(&args, command()),
    }
}

/// A gateway keeps nothing, so a panic there ends one connection and no more.
fn is_server(command: &Command) -> bool {
    match command {
        Command::Pd(_) | Command::Store(_) | Command::Playground(_) => true,
        Command::Gateway(_)
        | Command::Kv(_)
        | Command::Ctl(_)
        | Command::Bench(_)
        | Command::Demo(_)
        | Command::Cert(_)
        | Command::Completions(_)
        | Command::Man(_) => false,
    }
}

/// Servers log what they do; commands log warnings only, because their user reads their output.
fn default_log_filter(command: &Command) -> &'static str {
    match command {
        Command::Pd(_) | Command::Store(_) | Command::Gateway(_) => "info",
        // A demo kills and cuts off what its clients talk to, and says so itself.
        Command::Demo(_) => "error",
        Command::Playground(_)
        | Command::Kv(_)
        | Command::Ctl(_)
        | Command::Bench(_)
        | Command::Cert(_)
        | Command::Completions(_)
        | Command::Man(_) => "warn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_tree_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_cluster_may_be_named_before_or_after_the_command() {
        let first = ["flotilla", "--pd", "h:1,h:2", "kv", "get", "k"];
        let last = ["flotilla", "kv", "get", "k", "--pd", "h:1,h:2"];
        for line in [first, last] {
            let cli = Cli::try_parse_from(line).expect("parses");
            assert_eq!(cli.cluster.pd, ["h:1", "h:2"]);
        }
    }
}
