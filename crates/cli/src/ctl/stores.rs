//! Stores for people: found by their ids, in a table, and the state that they were given.

use std::collections::BTreeMap;

use flotilla_client::PdClient;
use flotilla_gateway::views;
use flotilla_types::proto::{Load, Store, StoreLoad, StoreState, StoreStatus};
use serde_json::json;

use super::human_bytes;
use crate::args::ClusterArgs;
use crate::failure::{Failure, Tried};
use crate::output;

/// The store with this id.
pub(super) async fn find(id: u64, client: &PdClient, what: &str) -> Result<StoreStatus, Failure> {
    let stores = client.stores().await.tried(what)?;
    let found = stores.into_iter().find(|status| store(status).id == id);
    found.ok_or_else(|| {
        Failure::Absent(format!("{what}: store {id} does not exist; see ctl store list"))
    })
}

/// Tells the state that a store was given.
pub(super) fn tell_state(id: u64, state: StoreState, cluster: &ClusterArgs) -> Result<(), Failure> {
    let state_name = views::state_name(state);
    let value = json!({ "id": id, "state": state_name });
    output::result(cluster.output, &value, &format!("store {id} is {state_name}"))
}

/// The store's record; a reply without one shows as store 0.
pub(super) fn store(status: &StoreStatus) -> Store {
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

/// Requests per second; a dash if the store tells none.
fn rate(status: &StoreStatus, of: fn(&Load) -> u64) -> String {
    let per_second = |load: &StoreLoad| load.per_second.as_ref().map_or(0, of);
    status.load.as_ref().map_or("-".into(), |load| per_second(load).to_string())
}

/// How long requests took; a dash if there were none.
fn time(status: &StoreStatus, of: fn(&StoreLoad) -> u64) -> String {
    let us = status.load.as_ref().map_or(0, of);
    if us == 0 { "-".into() } else { format!("{:.1} ms", us as f64 / 1000.0) }
}

pub(super) fn print_table(stores: &[StoreStatus]) -> Result<(), Failure> {
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
            rate(status, |load| load.reads),
            rate(status, |load| load.writes),
            time(status, |load| load.read_p99_us),
            time(status, |load| load.write_p99_us),
            views::last_heartbeat_ms(status).map_or("never".into(), |ms| format!("{ms} ms ago")),
        ]
    };
    let header = [
        "id",
        "addr",
        "state",
        "labels",
        "regions",
        "leaders",
        "used",
        "capacity",
        "reads/s",
        "writes/s",
        "read p99",
        "write p99",
        "heartbeat",
    ];
    output::table(&header, &stores.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_does_not_tell_is_a_dash() {
        let status = StoreStatus::default();
        assert_eq!(
            (rate(&status, |load| load.reads), time(&status, |load| load.read_p99_us)),
            ("-".into(), "-".into())
        );
        assert_eq!(state_text(StoreState::Down, true), "down, draining");
        assert_eq!(state_text(StoreState::Draining, true), "draining");
        assert_eq!(state_text(StoreState::Up, false), "up");
    }
}
