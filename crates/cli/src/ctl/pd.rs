//! `flotilla ctl pd`: the members of the placement driver's own group.

use clap::Subcommand;
use flotilla_types::proto::{PdGroup, PdMember};
use serde_json::{Value, json};

use crate::args::{ClusterArgs, Format, address};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl pd`.
#[derive(Subcommand)]
pub enum PdCommand {
    /// Print the placement drivers: which leads, which catch up, which are silent
    List,
    /// Add a placement driver; `flotilla pd --join` does it by itself. It votes once it runs and
    /// has caught up
    Add {
        /// Its id, which no placement driver of this cluster has had
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where it will listen
        #[arg(value_name = "HOST:PORT", value_parser = address)]
        addr: String,
    },
    /// Remove a placement driver for ever, its id included
    Remove {
        /// Its id
        id: u64,
    },
    /// Make a placement driver the leader
    TransferLeader {
        /// Its id
        id: u64,
    },
}

/// Carries a `ctl pd` command out.
pub async fn run(command: PdCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        PdCommand::List => list(cluster).await,
        PdCommand::Add { id, addr } => {
            let what = format!("ctl pd add {id} {addr}");
            let group = cluster.pd_client(&what)?.add_member(id, &addr).await.tried(&what)?;
            let text = format!("placement driver {id} is added; start it with --join");
            print_change(cluster.output, &group, &text)
        }
        PdCommand::Remove { id } => {
            let what = format!("ctl pd remove {id}");
            let group = cluster.pd_client(&what)?.remove_member(id).await.tried(&what)?;
            print_change(cluster.output, &group, &format!("placement driver {id} is removed"))
        }
        PdCommand::TransferLeader { id } => {
            let what = format!("ctl pd transfer-leader {id}");
            let group = cluster.pd_client(&what)?.transfer_pd_leader(id).await.tried(&what)?;
            print_change(cluster.output, &group, &format!("placement driver {id} leads"))
        }
    }
}

async fn list(cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl pd list";
    let group = cluster.pd_client(what)?.members().await.tried(what)?;
    match cluster.output {
        Format::Json => output::json(&members_json(&group)),
        Format::Table => {
            let row = |member: &PdMember| {
                vec![member.id.to_string(), member.addr.clone(), role(member), state(member)]
            };
            let rows: Vec<_> = group.members.iter().map(row).collect();
            output::table(&["ID", "ADDR", "ROLE", "STATE"], &rows)
        }
    }
}

fn print_change(format: Format, group: &PdGroup, text: &str) -> Result<(), Failure> {
    output::result(format, &members_json(group), &format!("{text}{}", advice(group)))
}

/// What an administrator should know of the number of voters.
fn advice(group: &PdGroup) -> String {
    let count = group.members.len();
    if count.is_multiple_of(2) {
        format!("; {count} survive no more failures than {}", count.saturating_sub(1))
    } else {
        String::new()
    }
}

fn members_json(group: &PdGroup) -> Value {
    let member = |member: &PdMember| {
        json!({
            "id": member.id,
            "addr": member.addr,
            "leader": member.leader,
            "learner": member.learner,
            "silent": member.silent,
        })
    };
    group.members.iter().map(member).collect()
}

fn role(member: &PdMember) -> String {
    let role = match (member.leader, member.learner) {
        (true, _) => "leader",
        (false, true) => "learner",
        (false, false) => "follower",
    };
    role.to_string()
}

fn state(member: &PdMember) -> String {
    if member.silent { "silent".to_string() } else { "up".to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_with_their_parts_and_an_even_number_is_warned_of() {
        let member = |id, leader, learner, silent| PdMember {
            id,
            addr: format!("h:{id}"),
            leader,
            learner,
            silent,
        };
        let mut group = PdGroup {
            members: vec![member(1, true, false, false), member(2, false, true, true)],
            ..PdGroup::default()
        };
        let roles: Vec<_> = group.members.iter().map(|m| (role(m), state(m))).collect();
        let told = roles.iter().map(|(role, state)| (role.as_str(), state.as_str()));
        assert!(told.eq([("leader", "up"), ("learner", "silent")]));
        assert_eq!(members_json(&group)[1]["learner"], true);
        assert!(advice(&group).contains("2 survive no more failures than 1"));
        group.members.pop();
        assert_eq!(advice(&group), "");
    }
}
