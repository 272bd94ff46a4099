//! The cluster's state as JSON: what the placement driver says, in the names that scripts rely on.
//! The HTTP API and `ctl -o json` print the same.

use flotilla_client::{Route, RoutesPage};
use flotilla_types::proto::{
    ClusterStatus, HealthKind, HealthReason, OperatorStatus, StoreLoad, StoreState, StoreStatus,
};
use flotilla_types::{Load, Member, MemberRole};
use serde_json::{Map, Value, json};

/// The cluster as a whole, and why it is not healthy.
pub fn status(status: &ClusterStatus) -> Value {
    let pd = status
        .members
        .iter()
        .map(|member| json!({ "id": member.id, "addr": member.addr, "leader": member.leader }));
    json!({
        "cluster_id": status.cluster_id,
        "pd": pd.collect::<Vec<_>>(),
        "stores": status.store_count,
        "regions": status.region_count,
        "unhealthy_regions": status.unhealthy_region_count,
        "replica_count": status.replica_count,
        "awaited": status.awaited,
        "healthy": is_healthy(status),
        "reasons": status.reasons.iter().map(reason).collect::<Vec<_>>(),
    })
}

/// True if the placement driver knows no reason why the cluster should not be healthy.
pub fn is_healthy(status: &ClusterStatus) -> bool {
    status.region_count > 0 && status.reasons.is_empty()
}

/// Why a cluster is not healthy. `regions` names some of them; `region_count` counts all.
pub fn reason(reason: &HealthReason) -> Value {
    json!({
        "kind": kind_name(reason.kind()),
        "regions": reason.region_ids,
        "region_count": reason.region_count,
        "stores": reason.store_ids,
        "what": reason.what,
    })
}

/// What kind of reason it is, in a word.
pub fn kind_name(kind: HealthKind) -> &'static str {
    match kind {
        HealthKind::Beginning => "beginning",
        HealthKind::Unavailable | HealthKind::HealthUnspecified => "unavailable",
        HealthKind::NotKnown => "unknown",
        HealthKind::UnderReplicated => "under-replicated",
        HealthKind::Changing => "changing",
        HealthKind::Lagging => "lagging",
        HealthKind::PdMemberDown => "pd-member-down",
    }
}

/// A store and its load.
pub fn store(status: &StoreStatus) -> Value {
    let store = status.store.clone().unwrap_or_default();
    let labels: Map<String, Value> =
        store.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "id": store.id,
        "addr": store.addr,
        "state": state_name(store.state()),
        "draining": status.draining,
        "labels": labels,
        "region_count": status.region_count,
        "leader_count": status.leader_count,
        "used_bytes": status.used_bytes,
        "capacity_bytes": status.capacity_bytes,
        "last_heartbeat_ms": last_heartbeat_ms(status),
        "load": status.load.as_ref().map(store_load),
    })
}

/// What clients have a store do lately; a time is null if nothing ended.
fn store_load(load: &StoreLoad) -> Value {
    let time = |us: u64| Some(us).filter(|us| *us > 0);
    let mut rates = rates(load.per_second.map(Load::from).unwrap_or_default());
    rates["read_p50_us"] = time(load.read_p50_us).into();
    rates["read_p99_us"] = time(load.read_p99_us).into();
    rates["write_p50_us"] = time(load.write_p50_us).into();
    rates["write_p99_us"] = time(load.write_p99_us).into();
    rates
}

fn rates(load: Load) -> Value {
    json!({
        "reads_per_second": load.reads,
        "read_bytes_per_second": load.read_bytes,
        "writes_per_second": load.writes,
        "written_bytes_per_second": load.written_bytes,
    })
}

/// A store's state, in a word.
pub fn state_name(state: StoreState) -> &'static str {
    match state {
        StoreState::Up => "up",
        StoreState::Disconnected => "disconnected",
        StoreState::Down => "down",
        StoreState::Draining => "draining",
        StoreState::Removed => "removed",
        StoreState::Unknown => "unknown",
        StoreState::Stopped => "stopped",
    }
}

/// Milliseconds since the last heartbeat; None before the leading placement driver has received
/// one.
pub fn last_heartbeat_ms(status: &StoreStatus) -> Option<u64> {
    Some(status.last_heartbeat_ms).filter(|ms| *ms != u64::MAX)
}

/// A page of the range map; `next` is where the next one starts.
pub fn regions(page: &RoutesPage) -> Value {
    let end = page.routes.last().map(|route| &route.region.range.end);
    let next = end.filter(|end| !end.is_empty()).map(hex::encode);
    json!({ "regions": page.routes.iter().map(region).collect::<Vec<_>>(), "next": next })
}

/// A region; bounds are stored keys in hex digits, which begin with the keyspace's four bytes.
pub fn region(route: &Route) -> Value {
    let region = &route.region;
    json!({
        "id": region.id.0,
        "start": hex::encode(&region.range.start),
        "end": hex::encode(&region.range.end),
        "epoch": { "conf_ver": region.epoch.conf_ver, "version": region.epoch.version },
        "peers": region.members.iter().map(member).collect::<Vec<_>>(),
        "leader_store_id": route.leader.map(|leader| leader.store_id.0),
        "approximate_bytes": route.approximate_bytes,
        "approximate_keys": route.approximate_keys,
        "load": rates(route.load),
    })
}

fn member(member: &Member) -> Value {
    json!({ "id": member.id.0, "store_id": member.store_id.0, "role": role_name(member.role) })
}

/// What a member counts for, in a word.
pub fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::IncomingVoter => "incoming_voter",
        MemberRole::DemotingVoter => "demoting_voter",
    }
}

/// An operator and where it is.
pub fn operator(operator: &OperatorStatus) -> Value {
    json!({
        "id": operator.id,
        "region_id": operator.region_id,
        "kind": operator.kind,
        "steps": operator.steps,
        "current_step": operator.current_step,
        "age_ms": operator.age_ms,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_types::{Epoch, KeyRange, PeerId, Region, RegionId, StoreId};

    use super::*;

    #[test]
    fn a_page_of_regions_says_where_the_next_one_starts() {
        let leader = Member::voter(PeerId(5), StoreId(1));
        let region = |start: &'static [u8], end: &'static [u8]| Region {
            id: RegionId(2),
            range: KeyRange::new(Bytes::from_static(start), Bytes::from_static(end)),
            epoch: Epoch { conf_ver: 3, version: 4 },
            members: vec![leader],
        };
        let page = |region| RoutesPage {
            routes: vec![Route {
                region,
                leader: Some(leader),
                approximate_bytes: 10,
                approximate_keys: 1,
                load: Load { reads: 7, ..Load::default() },
            }],
            stores: Default::default(),
        };
        let first = regions(&page(region(b"", b"m")));
        assert_eq!(first["next"], "6d");
        let expected = json!({
            "id": 2, "start": "", "end": "6d",
            "epoch": { "conf_ver": 3, "version": 4 },
            "peers": [{ "id": 5, "store_id": 1, "role": "voter" }],
            "leader_store_id": 1, "approximate_bytes": 10, "approximate_keys": 1,
            "load": {
                "reads_per_second": 7, "read_bytes_per_second": 0,
                "writes_per_second": 0, "written_bytes_per_second": 0,
            },
        });
        assert_eq!(first["regions"], json!([expected]));
        assert_eq!(regions(&page(region(b"m", b"")))["next"], Value::Null);
    }

    #[test]
    fn a_cluster_is_healthy_without_reasons() {
        let mut cluster = ClusterStatus { region_count: 1, ..ClusterStatus::default() };
        assert_eq!(status(&cluster)["healthy"], true);
        cluster.reasons.push(HealthReason {
            kind: HealthKind::Unavailable.into(),
            region_ids: vec![4],
            region_count: 1,
            store_ids: vec![2],
            what: "no leader".into(),
        });
        let json = status(&cluster);
        assert_eq!(json["healthy"], false);
        let expected = json!([{
            "kind": "unavailable", "regions": [4], "region_count": 1, "stores": [2],
            "what": "no leader",
        }]);
        assert_eq!(json["reasons"], expected);
        assert_eq!(status(&ClusterStatus::default())["healthy"], false, "it has no region yet");
    }

    #[test]
    fn a_store_that_was_not_heard_has_no_time() {
        let silent = StoreStatus { last_heartbeat_ms: u64::MAX, ..StoreStatus::default() };
        assert_eq!(store(&silent)["last_heartbeat_ms"], Value::Null);
        assert_eq!(store(&silent)["load"], Value::Null);
        let heard = StoreStatus { last_heartbeat_ms: 7, ..StoreStatus::default() };
        assert_eq!(store(&heard)["last_heartbeat_ms"], 7);
    }

    #[test]
    fn a_store_that_does_nothing_has_rates_and_no_times() {
        let load = Some(StoreLoad { read_p99_us: 9, ..StoreLoad::default() });
        let load = &store(&StoreStatus { load, ..StoreStatus::default() })["load"];
        assert_eq!((&load["reads_per_second"], &load["writes_per_second"]), (&0.into(), &0.into()));
        assert_eq!((&load["read_p99_us"], &load["write_p99_us"]), (&9.into(), &Value::Null));
    }
}
