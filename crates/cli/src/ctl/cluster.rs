//! `flotilla ctl cluster`: the cluster as a whole.

use clap::Subcommand;
use flotilla_types::proto::{ClusterStatus, PdMember};
use serde_json::{Value, json};

use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl cluster`.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Print the cluster's id, its placement drivers, counts, and whether it is healthy: every
    /// region has a leader and all its replicas
    Status,
}

/// Carries a `ctl cluster` command out.
pub async fn run(command: ClusterCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    let ClusterCommand::Status = command;
    let what = "ctl cluster status";
    let status = cluster.pd_client(what)?.cluster_status().await.tried(what)?;
    match cluster.output {
        Format::Json => output::json(&status_json(&status)),
        Format::Table => print_table(&status),
    }
}

/// True if every region has a leader and all its replicas.
pub fn is_healthy(status: &ClusterStatus) -> bool {
    status.region_count > 0 && status.unhealthy_region_count == 0
}

fn status_json(status: &ClusterStatus) -> Value {
    json!({
        "cluster_id": status.cluster_id,
        "pd": status.members.iter().map(member_json).collect::<Vec<_>>(),
        "stores": status.store_count,
        "regions": status.region_count,
        "unhealthy_regions": status.unhealthy_region_count,
        "replica_count": status.replica_count,
        "awaited": status.awaited,
        "healthy": is_healthy(status),
    })
}

fn member_json(member: &PdMember) -> Value {
    json!({ "id": member.id, "addr": member.addr, "leader": member.leader })
}

fn print_table(status: &ClusterStatus) -> Result<(), Failure> {
    let members = status.members.iter().map(|member| {
        let leads = if member.leader { " (leader)" } else { "" };
        format!("{} {}{leads}", member.id, member.addr)
    });
    let healthy = match (status.region_count, status.unhealthy_region_count) {
        (0, _) if !status.awaited.is_empty() => format!("no: {}", status.awaited),
        (0, _) => "no: no region yet".to_string(),
        (_, 0) => "yes".to_string(),
        (all, some) => format!("no: {some} of {all} regions lack a leader or a replica"),
    };
    let rows = [
        ("cluster", status.cluster_id.to_string()),
        ("pd", members.collect::<Vec<_>>().join(", ")),
        ("stores", status.store_count.to_string()),
        ("regions", status.region_count.to_string()),
        ("replicas", status.replica_count.to_string()),
        ("healthy", healthy),
    ];
    rows.iter().try_for_each(|(name, value)| output::line(&format!("{name:<9}{value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_agreed_fields() {
        let member = PdMember { id: 1, addr: "h:1".into(), leader: true };
        let status = ClusterStatus {
            cluster_id: 7,
            members: vec![member],
            store_count: 3,
            region_count: 2,
            unhealthy_region_count: 0,
            replica_count: 3,
            awaited: String::new(),
        };
        let json = status_json(&status);
        assert_eq!(json["cluster_id"], 7);
        assert_eq!(json["pd"], json!([{ "id": 1, "addr": "h:1", "leader": true }]));
        assert_eq!((&json["stores"], &json["regions"]), (&json!(3), &json!(2)));
        assert_eq!(json["healthy"], true);
    }

    #[test]
    fn a_cluster_without_regions_is_not_healthy() {
        assert!(!is_healthy(&ClusterStatus::default()));
    }
}
