//! `flotilla ctl scheduler`: what plans the changes of regions, and why it does or does not.

use clap::Subcommand;
use flotilla_types::explain::{
    Explanation, Question, SchedulerDecision, SchedulerState, SchedulerStatus,
};
use serde_json::{Value, json};

use super::ago;
use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl scheduler`.
#[derive(Subcommand)]
pub enum SchedulerCommand {
    /// Print each scheduler: idle, working or stalled, since when, and why
    List,
    /// Print a scheduler's last decisions with their scores; status 1 if there is none of this name
    Explain {
        /// Its name, as `list` prints it
        name: String,
    },
}

/// Carries a `ctl scheduler` command out.
pub async fn run(command: SchedulerCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        SchedulerCommand::List => {
            let all = all("ctl scheduler list", cluster).await?;
            print_all(&all, cluster.output)
        }
        SchedulerCommand::Explain { name } => {
            let what = format!("ctl scheduler explain {name}");
            let all = all(&what, cluster).await?;
            let found = all.iter().find(|scheduler| scheduler.name == name);
            let found = found.ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
                let names = names.join(", ");
                Failure::Absent(format!("{what}: no such scheduler; there are {names}"))
            })?;
            print_decisions(found, cluster.output)
        }
    }
}

async fn all(what: &str, cluster: &ClusterArgs) -> Result<Vec<SchedulerStatus>, Failure> {
    let told = cluster.pd_client(what)?.explain(Question::Schedulers).await.tried(what)?;
    let Explanation::Schedulers(all) = told else { return Err(super::unasked(what)) };
    Ok(all)
}

fn state_name(state: SchedulerState) -> &'static str {
    match state {
        SchedulerState::Idle => "idle",
        SchedulerState::Working => "working",
        SchedulerState::Stalled => "stalled",
    }
}

fn scheduler_json(scheduler: &SchedulerStatus) -> Value {
    json!({
        "name": scheduler.name, "state": state_name(scheduler.state),
        "since_ms_ago": scheduler.since_ms, "why": scheduler.why,
    })
}

fn decision_json(decision: &SchedulerDecision) -> Value {
    let SchedulerDecision { age_ms, is_rejected, what } = decision;
    json!({ "ms_ago": age_ms, "rejected": is_rejected, "what": what })
}

fn print_all(all: &[SchedulerStatus], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&all.iter().map(scheduler_json).collect::<Vec<_>>());
    }
    let row = |one: &SchedulerStatus| {
        let (state, since) = (state_name(one.state).into(), ago(one.since_ms));
        vec![one.name.clone(), state, since, one.why.clone()]
    };
    output::table(&["name", "state", "since", "why"], &all.iter().map(row).collect::<Vec<_>>())
}

fn print_decisions(scheduler: &SchedulerStatus, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let mut value = scheduler_json(scheduler);
        value["decisions"] = scheduler.decisions.iter().map(decision_json).collect();
        return output::json(&value);
    }
    let row = |decision: &SchedulerDecision| {
        let verdict = if decision.is_rejected { "rejected" } else { "started" };
        vec![ago(decision.age_ms), verdict.into(), decision.what.clone()]
    };
    let rows = scheduler.decisions.iter().map(row).collect::<Vec<_>>();
    output::table(&["when", "", "decision"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_agreed_fields() {
        let decision = SchedulerDecision { age_ms: 4, is_rejected: true, what: "region 7".into() };
        let scheduler = SchedulerStatus {
            name: "repair".into(),
            state: SchedulerState::Stalled,
            since_ms: 9,
            why: "no store".into(),
            decisions: vec![],
        };
        let expected =
            json!({ "name": "repair", "state": "stalled", "since_ms_ago": 9, "why": "no store" });
        assert_eq!(scheduler_json(&scheduler), expected);
        let expected = json!({ "ms_ago": 4, "rejected": true, "what": "region 7" });
        assert_eq!(decision_json(&decision), expected);
    }
}
