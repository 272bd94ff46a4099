//! `flotilla ctl operator`: what the placement driver is doing to regions.

use clap::Subcommand;
use flotilla_gateway::views;
use flotilla_types::proto::OperatorStatus;
use serde_json::json;

use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl operator`.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Print the operators under way
    List,
    /// Cancel an operator; what a store has begun is not undone
    Cancel {
        /// The operator's id
        id: u64,
    },
}

/// Carries a `ctl operator` command out.
pub async fn run(command: OperatorCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        OperatorCommand::List => list(cluster).await,
        OperatorCommand::Cancel { id } => {
            let what = format!("ctl operator cancel {id}");
            cluster.pd_client(&what)?.cancel_operator(id).await.tried(&what)?;
            let text = format!("operator {id} cancelled");
            output::result(cluster.output, &json!({ "id": id, "cancelled": true }), &text)
        }
    }
}

async fn list(cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl operator list";
    let operators = cluster.pd_client(what)?.operators().await.tried(what)?;
    match cluster.output {
        Format::Json => output::json(&operators.iter().map(views::operator).collect::<Vec<_>>()),
        Format::Table => print_table(&operators),
    }
}

fn print_table(operators: &[OperatorStatus]) -> Result<(), Failure> {
    let row = |operator: &OperatorStatus| {
        let current = operator.steps.get(operator.current_step as usize);
        vec![
            operator.id.to_string(),
            operator.region_id.to_string(),
            operator.kind.clone(),
            format!("{} of {}", operator.current_step + 1, operator.steps.len()),
            current.cloned().unwrap_or_default(),
            format!("{} ms", operator.age_ms),
        ]
    };
    let header = ["id", "region", "kind", "step", "now", "age"];
    output::table(&header, &operators.iter().map(row).collect::<Vec<_>>())
}
