//! `flotilla ctl cluster`: the cluster as a whole.
//!
//! What makes a cluster healthy, and why one is not, is the placement driver's to say. Exit status
//! 1 means that the cluster is not healthy.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use flotilla_gateway::views;
use flotilla_types::proto::{ClusterStatus, HealthReason};
use tokio::time::Instant;

use crate::args::{ClusterArgs, Format, duration};
use crate::failure::{Failure, Tried};
use crate::output;
use crate::terminal::{self, Tone, paint};

/// How often `wait` asks: stores report ten times a second while something is amiss.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often `status --watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long one look may take before it counts as one without an answer.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The commands of `flotilla ctl cluster`.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Print the cluster's id, its placement drivers, counts, and whether it is healthy; status 1
    /// if not
    ///
    /// A cluster is healthy if every region has a leader that was heard in the last 3 seconds, and
    /// all its voters, on stores that were heard as lately, caught up. The reasons why it is not
    /// name regions and stores.
    Status {
        /// Go on until Ctrl-C: a terminal shows the present state, looked at each second; a pipe
        /// gets the state anew whenever it changes, as JSON on a line each with -o json
        #[arg(long)]
        watch: bool,
    },
    /// Wait until the cluster is healthy; status 1 if it is not in time
    ///
    /// The step between two stores of a rolling restart. What is waited for is printed to stderr
    /// whenever it changes.
    Wait {
        /// What to wait for
        #[arg(value_enum)]
        condition: Condition,
        /// How long, such as 500ms, 60s or 5m
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// As `ctl cluster status` has it
    Healthy,
}

/// Carries a `ctl cluster` command out.
pub async fn run(command: ClusterCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status { watch: true } => watch_status(cluster).await,
        ClusterCommand::Status { watch: false } => {
            let what = "ctl cluster status";
            let status = cluster.pd_client(what)?.cluster_status().await.tried(what)?;
            print(&status, cluster.output)?;
            if views::is_healthy(&status) { Ok(()) } else { Err(Failure::AnswerIsNo) }
        }
        ClusterCommand::Wait { condition: Condition::Healthy, timeout } => {
            wait_healthy(cluster, timeout).await
        }
    }
}

/// Shows the state until the process is ended, or stdout's reader is gone.
async fn watch_status(cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl cluster status";
    let client = cluster.pd_client(what)?;
    let is_drawn = cluster.output == Format::Table && std::io::stdout().is_terminal();
    let mut shown = vec![];
    loop {
        let looked = tokio::time::timeout(LOOK_MAX, client.cluster_status()).await;
        let lines = match (looked, cluster.output) {
            (Ok(Ok(status)), Format::Json) => vec![views::status(&status).to_string()],
            (Ok(Ok(status)), Format::Table) => text(&status),
            // A placement driver may be away for a while, and says nothing then.
            (Ok(Err(_)) | Err(_), Format::Json) => shown.clone(),
            (Ok(Err(error)), Format::Table) => vec![format!("{what}: {error}")],
            (Err(_), Format::Table) => vec![format!("{what}: no answer within a second")],
        };
        if is_drawn {
            terminal::draw(&lines)?;
        } else if lines != shown {
            lines.iter().try_for_each(|line| output::line(line))?;
        }
        shown = lines;
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn wait_healthy(cluster: &ClusterArgs, timeout: Duration) -> Result<(), Failure> {
    let what = "ctl cluster wait healthy";
    let client = cluster.pd_client(what)?;
    let until = Instant::now() + timeout;
    let silent = || Failure::Server(format!("{what}: no placement driver answered in time"));
    let mut seen = Err(silent());
    let mut printed = vec![];
    loop {
        let limit = until.min(Instant::now() + LOOK_MAX);
        match tokio::time::timeout_at(limit, client.cluster_status()).await {
            Ok(status) => seen = status.tried(what),
            Err(_) if limit < until => seen = Err(silent()),
            // A look that the end cuts off says nothing; the one before it counts.
            Err(_) => break,
        }
        match &seen {
            Ok(status) if views::is_healthy(status) => return print(status, cluster.output),
            Ok(_) | Err(_) => {}
        }
        let awaited = awaited(&seen);
        if awaited != printed {
            awaited.iter().for_each(|line| eprintln!("waiting: {line}"));
            printed = awaited;
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep_until(until.min(Instant::now() + POLL_INTERVAL)).await;
    }
    print(&seen?, cluster.output).and(Err(Failure::AnswerIsNo))
}

/// What is waited for, line by line, without figures that change from one look to the next. A
/// placement driver may be down for a while.
fn awaited(seen: &Result<ClusterStatus, Failure>) -> Vec<String> {
    match seen {
        Ok(status) => status.reasons.iter().map(summary).collect(),
        Err(_) => vec!["an answer of the placement driver".to_string()],
    }
}

/// A reason without the time that a store has been silent: `under-replicated: region 4, store 2`.
fn summary(reason: &HealthReason) -> String {
    let mut parts = vec![];
    if let Some(regions) = regions(reason) {
        parts.push(regions);
    }
    parts.extend(reason.store_ids.iter().map(|store| format!("store {store}")));
    if parts.is_empty() {
        parts.push(reason.what.clone());
    }
    format!("{}: {}", views::kind_name(reason.kind()), parts.join(", "))
}

/// A reason in full: `under-replicated: regions 4, 5 and 12 more: a voter is missing: ...`.
fn line(reason: &HealthReason) -> String {
    let kind = views::kind_name(reason.kind());
    match regions(reason) {
        Some(regions) => format!("{kind}: {regions}: {}", reason.what),
        None => format!("{kind}: {}", reason.what),
    }
}

fn regions(reason: &HealthReason) -> Option<String> {
    let ids: Vec<String> = reason.region_ids.iter().map(u64::to_string).collect();
    let others = reason.region_count.saturating_sub(ids.len() as u64);
    match (ids.len(), others) {
        (0, _) => None,
        (1, 0) => Some(format!("region {}", ids.join(""))),
        (_, 0) => Some(format!("regions {}", ids.join(", "))),
        (_, others) => Some(format!("regions {} and {others} more", ids.join(", "))),
    }
}

fn print(status: &ClusterStatus, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&views::status(status)),
        Format::Table => text(status).iter().try_for_each(|line| output::line(line)),
    }
}

/// The state line by line, coloured if stdout gets colours.
fn text(status: &ClusterStatus) -> Vec<String> {
    let tone = if views::is_healthy(status) { Tone::Good } else { Tone::Bad };
    let line = |(name, value): &(&str, String)| match *name {
        "healthy" => format!("{name:<9}{}", paint(value, tone)),
        name => format!("{name:<9}{value}"),
    };
    rows(status).iter().map(line).collect()
}

fn rows(status: &ClusterStatus) -> Vec<(&'static str, String)> {
    let members = status.members.iter().map(|member| {
        let leads = if member.leader { " (leader)" } else { "" };
        format!("{} {}{leads}", member.id, member.addr)
    });
    let healthy = match status.unhealthy_region_count {
        _ if views::is_healthy(status) => "yes".to_string(),
        0 => "no".to_string(),
        some => format!("no: {some} of {} regions", status.region_count),
    };
    let mut rows = vec![
        ("cluster", status.cluster_id.to_string()),
        ("pd", members.collect::<Vec<_>>().join(", ")),
        ("stores", status.store_count.to_string()),
        ("regions", status.region_count.to_string()),
        ("replicas", status.replica_count.to_string()),
        ("healthy", healthy),
    ];
    rows.extend(status.reasons.iter().map(|reason| ("", line(reason))));
    rows
}

#[cfg(test)]
mod tests {
    use flotilla_types::proto::{HealthKind, PdMember};
    use serde_json::json;

    use super::*;

    fn status(reasons: Vec<HealthReason>) -> ClusterStatus {
        ClusterStatus {
            cluster_id: 7,
            members: vec![PdMember {
                id: 1,
                addr: "h:1".into(),
                leader: true,
                ..PdMember::default()
            }],
            store_count: 3,
            region_count: 14,
            unhealthy_region_count: reasons.iter().map(|reason| reason.region_count).sum(),
            replica_count: 3,
            awaited: String::new(),
            reasons,
        }
    }

    fn reason() -> HealthReason {
        HealthReason {
            kind: HealthKind::UnderReplicated.into(),
            region_ids: vec![4, 5],
            region_count: 14,
            store_ids: vec![2],
            what: "store 2 was last heard 9 s ago".into(),
        }
    }

    #[test]
    fn scripts_find_the_agreed_fields() {
        let json = views::status(&status(vec![]));
        assert_eq!(json["cluster_id"], 7);
        assert_eq!(json["pd"], json!([{ "id": 1, "addr": "h:1", "leader": true }]));
        assert_eq!((&json["stores"], &json["regions"]), (&json!(3), &json!(14)));
        assert_eq!((&json["healthy"], &json["reasons"]), (&json!(true), &json!([])));
        let json = views::status(&status(vec![reason()]));
        assert_eq!((&json["healthy"], &json["unhealthy_regions"]), (&json!(false), &json!(14)));
        let expected = json!([{
            "kind": "under-replicated", "regions": [4, 5], "region_count": 14, "stores": [2],
            "what": "store 2 was last heard 9 s ago",
        }]);
        assert_eq!(json["reasons"], expected);
    }

    #[test]
    fn people_read_the_reasons() {
        let rows = rows(&status(vec![reason()]));
        assert_eq!(rows[5], ("healthy", "no: 14 of 14 regions".to_string()));
        let expected = "under-replicated: regions 4, 5 and 12 more: store 2 was last heard 9 s ago";
        assert_eq!(rows[6], ("", expected.to_string()));
        assert_eq!(summary(&reason()), "under-replicated: regions 4, 5 and 12 more, store 2");
        let what = "waits for stores".to_string();
        let reason = HealthReason { kind: HealthKind::Beginning.into(), what, ..reason() };
        let reason = HealthReason { region_ids: vec![], store_ids: vec![], ..reason };
        assert_eq!(line(&reason), "beginning: waits for stores");
        assert_eq!(summary(&reason), "beginning: waits for stores");
    }

    #[test]
    fn a_cluster_without_regions_is_not_healthy() {
        assert!(!views::is_healthy(&ClusterStatus::default()));
    }
}
