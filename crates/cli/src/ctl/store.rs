//! `flotilla ctl store`: the stores.

use std::collections::BTreeMap;

use clap::Subcommand;
use flotilla_gateway::views;
use flotilla_types::StoreId;
use flotilla_types::proto::{Store, StoreState, StoreStatus};
use serde_json::json;

use super::human_bytes;
use crate::args::{ClusterArgs, Format};
use crate::failure::{Failure, Tried};
use crate::output;

/// The commands of `flotilla ctl store`.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Print all stores
    List,
    /// Print one store; status 1 if there is none with this id
    Show {
        /// The store's id
        id: u64,
    },
    /// Have a store's peers moved to other stores
    Drain {
        /// The store's id
        id: u64,
    },
    /// Refuse a store for ever; drain it first
    Remove {
        /// The store's id
        id: u64,
    },
}

/// Carries a `ctl store` command out.
pub async fn run(command: StoreCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        StoreCommand::List => list(cluster).await,
        StoreCommand::Show { id } => show(id, cluster).await,
        StoreCommand::Drain { id } => set_state(id, StoreState::Draining, cluster).await,
        StoreCommand::Remove { id } => set_state(id, StoreState::Removed, cluster).await,
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

async fn show(id: u64, cluster: &ClusterArgs) -> Result<(), Failure> {
    let what = format!("ctl store show {id}");
    let stores = cluster.pd_client(&what)?.stores().await.tried(&what)?;
    let found = stores.into_iter().find(|status| store(status).id == id);
    let found = found.ok_or_else(|| {
        Failure::Absent(format!("{what}: store {id} does not exist; see ctl store list"))
    })?;
    match cluster.output {
        Format::Json => output::json(&views::store(&found)),
        Format::Table => print_table(&[found]),
    }
}

async fn set_state(id: u64, state: StoreState, cluster: &ClusterArgs) -> Result<(), Failure> {
    let state_name = views::state_name(state);
    let verb = if state == StoreState::Draining { "drain" } else { "remove" };
    let what = format!("ctl store {verb} {id}");
    cluster.pd_client(&what)?.set_store_state(StoreId(id), state).await.tried(&what)?;
    let value = json!({ "id": id, "state": state_name });
    output::result(cluster.output, &value, &format!("store {id} is {state_name}"))
}

/// The store's record; a reply without one shows as store 0.
fn store(status: &StoreStatus) -> Store {
    status.store.clone().unwrap_or_default()
}

/// The state for people: a store that is drained may be down, too.
fn state_text(state: StoreState, is_draining: bool) -> String {
    let name = views::state_name(state);
    if is_draining && state != StoreState::Draining {
        format!("{name}, draining")
    } else {
        name.to_string()
    }
}

fn print_table(stores: &[StoreStatus]) -> Result<(), Failure> {
    let row = |status: &StoreStatus| {
        let store = store(status);
        let state = state_text(store.state(), status.draining);
        let labels: BTreeMap<String, String> = store.labels.into_iter().collect();
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        vec![
            store.id.to_string(),
            store.addr,
            state,
            labels.collect::<Vec<_>>().join(","),
            status.region_count.to_string(),
            status.leader_count.to_string(),
            human_bytes(status.used_bytes),
            human_bytes(status.capacity_bytes),
            views::last_heartbeat_ms(status).map_or("never".into(), |ms| format!("{ms} ms ago")),
        ]
    };
    let header =
        ["id", "addr", "state", "labels", "regions", "leaders", "used", "capacity", "heartbeat"];
    output::table(&header, &stores.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
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
        };
        let expected = json!({
            "id": 4, "addr": "h:1", "state": "down", "draining": true,
            "labels": { "zone": "a" },
            "region_count": 9, "leader_count": 3, "used_bytes": 10, "capacity_bytes": 20,
            "last_heartbeat_ms": null,
        });
        assert_eq!(views::store(&status), expected);
        assert_eq!(state_text(StoreState::Down, true), "down, draining");
        assert_eq!(state_text(StoreState::Draining, true), "draining");
        assert_eq!(state_text(StoreState::Up, false), "up");
    }
}
