//! `flotilla demo`: clusters of real processes that show what a cluster does, step by step.
//!
//! * `replication`: a write reaches every replica; the leader is killed; nothing is lost.
//! * `scaling`: stores join one by one under load, and regions spread over them.
//! * `partition`: the leader's side is cut off; nothing stale is read on either side.
//! * `cluster`: the processes. `load`: clients that write. `stage`: the terminal. `claims`: the
//!   check of what was observed.
//!
//! A demo ends with status 0 only if every claim that it makes was checked and holds, and with
//! status 1 if one does not. Its processes and its directory are gone at the end, on Ctrl-C, too.
//!
//! Not here: anything that a user of a cluster could not do. A demo starts `flotilla` processes,
//! kills them, and is a client; links are cut by [`flotilla_proxy`].

mod claims;
mod cluster;
mod load;
mod partition;
mod replication;
mod scaling;
mod stage;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::duration;
use crate::failure::Failure;
use crate::signals::StopSignals;
use stage::Stage;

/// The demos.
#[derive(Subcommand)]
pub enum DemoCommand {
    /// A write reaches every replica, the leader is killed, and nothing is lost
    Replication(replication::ReplicationArgs),
    /// Stores join one by one under load, and regions spread over them
    Scaling(scaling::ScalingArgs),
    /// The leader's side is cut off: it refuses, the others go on, and nothing stale is read
    Partition(partition::PartitionArgs),
}

/// What all demos take.
#[derive(Args, Clone, Copy)]
pub struct DemoArgs {
    /// Wait so long before each step, for an audience
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pace: Option<Duration>,
    /// Do what the demo says does not happen, to see that the demo notices
    #[arg(long, hide = true, value_enum)]
    spoil: Option<Spoil>,
}

/// What a demo does behind its own back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spoil {
    /// A row that was acknowledged is deleted.
    LostWrite,
    /// The value before the last one is put back.
    StaleRead,
    /// A replica's digest is changed on its way to the check.
    UnequalReplicas,
}

/// Runs a demo to its end, or until a signal comes.
pub async fn run(command: DemoCommand) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let mut stage = Stage::new(match &command {
        DemoCommand::Replication(args) => args.demo.pace,
        DemoCommand::Scaling(args) => args.demo.pace,
        DemoCommand::Partition(args) => args.demo.pace,
    });
    tokio::select! {
        () = stop.received() => Err(Failure::Server("the demo was ended by a signal".into())),
        outcome = tell(command, &mut stage) => outcome,
    }
}

async fn tell(command: DemoCommand, stage: &mut Stage) -> Result<(), Failure> {
    match command {
        DemoCommand::Replication(args) => replication::run(args, stage).await?,
        DemoCommand::Scaling(args) => scaling::run(args, stage).await?,
        DemoCommand::Partition(args) => partition::run(args, stage).await?,
    }
    stage.end()
}
