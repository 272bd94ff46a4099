//! `flotilla ctl store`: the stores.

use clap::Subcommand;
use flotilla_client::{Memory, MemoryHeld, read_memory};
use flotilla_gateway::views;
use flotilla_types::StoreId;
use flotilla_types::proto::StoreState;
use serde_json::{Value, json};

use super::stores::{find, print_table, store, tell_state};
use super::{drain, forecast, human_bytes};
use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl store`.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Print all stores
    List,
    /// Print one store, and what it holds in memory; status 1 if there is none with this id
    Show {
        /// The store's id
        id: u64,
    },
    /// Have a store's peers moved to other stores; status 5 if that cannot end
    Drain(drain::DrainArgs),
    /// Refuse a store for ever; drain it first
    Remove {
        /// The store's id
        id: u64,
        /// Remove it with the replicas that it may hold: its process has ended, and its directory
        /// is never used again. Refused if it was heard in the last 3 seconds
        #[arg(long)]
        lost: bool,
    },
}

/// Carries a `ctl store` command out.
pub async fn run(command: StoreCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        StoreCommand::List => list(cluster).await,
        StoreCommand::Show { id } => show(id, cluster).await,
        StoreCommand::Drain(args) => drain::run(args, cluster).await,
        StoreCommand::Remove { id, lost: false } => remove(id, cluster).await,
        StoreCommand::Remove { id, lost: true } => remove_lost(id, cluster).await,
    }
}

async fn list(cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = "ctl store list";
    let stores = cluster.pd_client(what)?.stores().await.tried(what)?;
    match cluster.output {
        Format::Json => output::json(&stores.iter().map(views::store).collect::<Vec<_>>()),
        Format::Table => print_table(&stores),
    }
}

/// Prints the store's record, and what it holds in memory if it answers.
async fn show(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl store show {id}");
    let client = cluster.pd_client(&what)?;
    let found = find(id, &client, &what).await?;
    // Of a store that is being drained, what keeps it from being empty.
    let blocked = match found.draining {
        true => forecast::forecast(StoreId(id), &client, &what).await?.blocked,
        false => vec![],
    };
    let cluster_id = client.cluster_status().await.tried(&what)?.cluster_id;
    let memory = read_memory(cluster_id, StoreId(id), &store(&found).addr).await;
    match cluster.output {
        Format::Json => {
            let mut value = views::store(&found);
            value["blocked"] = blocked.iter().map(forecast::blocked_json).collect();
            value["memory"] = memory.as_ref().map_or(Value::Null, memory_json);
            output::json(&value)
        }
        Format::Table => {
            print_table(&[found])?;
            forecast::print_blocked(&blocked)?;
            match &memory {
                Ok(memory) => print_memory(memory),
                Err(error) => output::line(&format!("memory: not known: {error}")),
            }
        }
    }
}

fn memory_json(memory: &Memory) -> Value {
    let held = |held: &MemoryHeld| {
        let MemoryHeld { kind, bytes, bytes_max } = held;
        json!({ "kind": kind, "bytes": bytes, "bytes_max": bytes_max })
    };
    json!({
        "resident_bytes": memory.resident_bytes,
        "bytes_max": memory.bytes_max,
        "held": memory.held.iter().map(held).collect::<Vec<_>>(),
    })
}

fn print_memory(memory: &Memory) -> Result<(), Failure> {
    let bound = |bytes| if bytes == 0 { "-".to_string() } else { human_bytes(bytes) };
    let row = |held: &MemoryHeld| {
        let bytes = held.bytes.map_or("?".to_string(), human_bytes);
        vec![held.kind.clone(), bytes, bound(held.bytes_max)]
    };
    let mut rows: Vec<_> = memory.held.iter().map(row).collect();
    let resident = human_bytes(memory.resident_bytes);
    rows.push(vec!["resident".to_string(), resident, bound(memory.bytes_max)]);
    output::table(&["memory", "held", "at most"], &rows)
}

async fn remove(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl store remove {id}");
    let client = cluster.pd_client(&what)?;
    client.set_store_state(StoreId(id), StoreState::Removed).await.tried(&what)?;
    tell_state(id, StoreState::Removed, cluster)
}

async fn remove_lost(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl store remove {id} --lost");
    cluster.pd_client(&what)?.remove_lost_store(StoreId(id)).await.tried(&what)?;
    tell_state(id, StoreState::Removed, cluster)
}

#[cfg(test)]
mod tests {
    use flotilla_types::proto::{Store, StoreStatus};

    use super::*;

    #[test]
    fn scripts_find_the_agreed_fields() {
        let store = Store {
            id: 4,
            addr: "h:1".into(),
            labels: [("zone".to_string(), "a".to_string())].into(),
            state: StoreState::Down.into(),
        };
        let status = StoreStatus {
            store: Some(store),
            region_count: 9,
            leader_count: 3,
            used_bytes: 10,
            capacity_bytes: 20,
            last_heartbeat_ms: u64::MAX,
            draining: true,
            load: None,
        };
        let expected = json!({
            "id": 4, "addr": "h:1", "state": "down", "draining": true,
            "labels": { "zone": "a" },
            "region_count": 9, "leader_count": 3, "used_bytes": 10, "capacity_bytes": 20,
            "last_heartbeat_ms": null, "load": null,
        });
        assert_eq!(views::store(&status), expected);
        let held = vec![MemoryHeld { kind: "answers".into(), bytes: None, bytes_max: 7 }];
        let memory = Memory { held, resident_bytes: 5, bytes_max: 9 };
        let expected = json!({
            "resident_bytes": 5, "bytes_max": 9,
            "held": [{ "kind": "answers", "bytes": null, "bytes_max": 7 }],
        });
        assert_eq!(memory_json(&memory), expected);
    }
}
