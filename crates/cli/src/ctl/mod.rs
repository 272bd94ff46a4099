//! `flotilla ctl`: the cluster, its stores, regions and operators, as the placement driver knows
//! them. One file for each noun; the JSON field names are a contract with scripts.
//!
//! A command that changes something (drain, move-peer, ...) returns when the placement driver has
//! accepted the order. `operator list` shows the orders that are being carried out.

pub mod cluster;
pub mod drain;
mod forecast;
pub mod operator;
pub mod pd;
pub mod region;
pub mod scheduler;
pub mod store;
mod stores;

use clap::Subcommand;
use serde_json::json;

use crate::args::{ClusterArgs, Format};
use crate::failure::Failure;
use crate::output;

/// The nouns of `flotilla ctl`.
#[derive(Subcommand)]
pub enum CtlCommand {
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// The placement drivers
    #[command(subcommand)]
    Pd(pd::PdCommand),
    /// The stores
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// The regions
    #[command(subcommand)]
    Region(region::RegionCommand),
    /// What the placement driver is doing to regions
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// What plans those changes, and why it does or does not
    #[command(subcommand)]
    Scheduler(scheduler::SchedulerCommand),
}

/// Carries a `ctl` command out.
pub async fn run(command: CtlCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        CtlCommand::Cluster(command) => cluster::run(command, cluster).await,
        CtlCommand::Pd(command) => pd::run(command, cluster).await,
        CtlCommand::Store(command) => store::run(command, cluster).await,
        CtlCommand::Region(command) => region::run(command, cluster).await,
        CtlCommand::Operator(command) => operator::run(command, cluster).await,
        CtlCommand::Scheduler(command) => scheduler::run(command, cluster).await,
    }
}

/// Prints the id of the operator that carries out an order.
fn print_operator(format: Format, id: u64) -> Result<(), Failure> {
    output::result(format, &json!({ "operator_id": id }), &format!("operator {id} added"))
}

/// The placement driver has answered something else than was asked.
fn unasked(what: &str) -> Failure {
    let answer = "an explanation of something else".into();
    let error = flotilla_client::Error::Protocol { what: answer };
    Failure::Client { what: what.to_string(), error }
}

/// Bytes for people: `1.5 MiB`.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

/// A time that has passed, for people: `2 m ago`.
fn ago(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms} ms ago"),
        s @ 1..120 => format!("{s} s ago"),
        s @ 120..7_200 => format!("{} m ago", s / 60),
        s => format!("{} h ago", s / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_keeps_them_short() {
        let told = [900, 59_999, 150_000, 7_300_000].map(ago);
        assert_eq!(told, ["900 ms ago", "59 s ago", "2 m ago", "2 h ago"]);
    }

    #[test]
    fn bytes_have_a_unit_that_keeps_them_short() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "16777216.0 TiB");
    }
}
