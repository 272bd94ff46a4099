//! `flotilla ctl operator`: what the placement driver is doing to regions.

use clap::Subcommand;
use flotilla_client::PdClient;
use flotilla_gateway::views;
use flotilla_types::explain::{EndedOperator, Explanation, Question};
use flotilla_types::proto::OperatorStatus;
use serde_json::{Value, json};

use super::ago;
use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl operator`.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Print the operators under way
    List {
        /// Print the operators that have ended lately, and how
        #[arg(long)]
        history: bool,
    },
    /// Print one operator, under way or ended lately; status 1 if there is none with this id
    Show {
        /// The operator's id
        id: u64,
    },
    /// Cancel an operator; what a store has begun is not undone
    Cancel {
        /// The operator's id
        id: u64,
    },
}

/// Carries a `ctl operator` command out.
pub async fn run(command: OperatorCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        OperatorCommand::List { history: false } => list(cluster).await,
        OperatorCommand::List { history: true } => {
            let what = "ctl operator list --history";
            print_ended(&ended(&cluster.pd_client(what)?, what).await?, cluster.output)
        }
        OperatorCommand::Show { id } => show(id, cluster).await,
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

/// Those that have ended since the placement driver leads; a bounded number, the oldest first.
async fn ended(client: &PdClient, what: &str) -> Result<Vec<EndedOperator>, Failure> {
    let told = client.explain(Question::EndedOperators).await.tried(what)?;
    let Explanation::EndedOperators(ended) = told else { return Err(super::unasked(what)) };
    Ok(ended)
}

async fn show(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl operator show {id}");
    let client = cluster.pd_client(&what)?;
    let running = client.operators().await.tried(&what)?;
    if let Some(found) = running.into_iter().find(|operator| operator.id == id) {
        return match cluster.output {
            Format::Json => output::json(&views::operator(&found)),
            Format::Table => print_table(&[found]),
        };
    }
    let mut ended = ended(&client, &what).await?;
    ended.retain(|ended| ended.operator.id == id);
    match ended.first() {
        Some(found) if cluster.output == Format::Json => output::json(&ended_json(found)),
        Some(_) => print_ended(&ended, cluster.output),
        None => Err(Failure::Absent(format!(
            "{what}: operator {id} is not under way, nor one of the last that have ended since the \
             placement driver leads; see ctl operator list --history"
        ))),
    }
}

fn ended_json(ended: &EndedOperator) -> Value {
    let mut value = views::operator(&ended.operator.clone().into());
    value["outcome"] = ended.outcome.clone().into();
    value["ended_ms_ago"] = ended.ended_ms.into();
    value
}

fn print_ended(ended: &[EndedOperator], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&ended.iter().map(ended_json).collect::<Vec<_>>());
    }
    let row = |ended: &EndedOperator| {
        let operator = &ended.operator;
        vec![
            operator.id.to_string(),
            operator.region_id.to_string(),
            operator.kind.clone(),
            format!("{} of {}", operator.current_step, operator.steps.len()),
            ended.outcome.clone(),
            format!("{} ms", operator.age_ms),
            ago(ended.ended_ms),
        ]
    };
    let header = ["id", "region", "kind", "steps done", "outcome", "took", "ended"];
    output::table(&header, &ended.iter().map(row).collect::<Vec<_>>())
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
