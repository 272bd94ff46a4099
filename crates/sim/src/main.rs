//! `flotilla-sim`, the command line: runs seeds, replays one seed, hunts planted bugs, sweeps crash
//! points. The commands are in `command/`; only this binary reads the wall clock.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::mutants::{self, MutantsArgs};
use command::seeds::{self, ReplayArgs, RunArgs};
use command::shrink::{self, ShrinkArgs};
use command::sweep::{self, SweepArgs};
use flotilla_sim::seed;

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
    /// Makes a scenario that fails smaller, and writes it to a file.
    Shrink(ShrinkArgs),
    /// Runs every planted bug until it is caught.
    Mutants(MutantsArgs),
    /// Crashes a store at every write and sync of its disk, and inside the recovery from that.
    Sweep(SweepArgs),
}

fn main() -> ExitCode {
    seed::catch_panics();
    match Cli::parse().command {
        Command::Run(args) => seeds::run(&args),
        Command::Replay(args) => seeds::replay(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Sweep(args) => sweep::run(&args),
    }
}
