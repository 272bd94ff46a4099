//! Answers to linearizable reads, from the applied state and what stores have reported.
//!
//! [`crate::core::pd::Pd`] confirms a read before it is answered here: by the leader lease, or else
//! by a round of ReadIndex. What comes from reports (leaders, sizes, liveness) is as fresh as the
//! last heartbeats.

use bytes::Bytes;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{
    ClusterStatus, HealthKind, HealthReason, PdMember, PdReply, RegionRoute, RegionsPage,
    StoreState, StoreStatus,
};
use flotilla_types::{KeyRange, Millis, Region};

use crate::core::config::CoreConfig;
use crate::core::context::Outcome;
use crate::core::errors::busy;
use crate::core::first_region;
use crate::core::health::{HEARD_MS_MAX, Health, health};
use crate::core::heartbeat::store_addrs;
use crate::core::leader_state::LeaderState;
use crate::core::limits::route_bytes;
use crate::core::operators::Operators;
use crate::core::place::{ClusterView, StoreView};
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::reports::Liveness;
use crate::core::state::State;

/// What reads are answered from.
pub(crate) struct ReadContext<'a> {
    /// The moment of the answer.
    pub now: Millis,
    /// How this member was opened.
    pub config: &'a CoreConfig,
    /// What is committed and applied.
    pub state: &'a State,
    /// What the leader knows.
    pub leader: &'a LeaderState,
}

/// A page of the range map.
pub(crate) fn page(context: &ReadContext<'_>, start_key: &Bytes, limit: u64) -> Outcome {
    match awaited(context) {
        Some(what) => Err(busy(what)),
        None => Ok(PdReply::Regions(regions(context, start_key, limit))),
    }
}

/// Without a region there is nothing to ask a store for, and the caller learns why.
fn awaited(context: &ReadContext<'_>) -> Option<String> {
    first_region::awaited(context.state, &context.leader.reports, context.now)
}

fn regions(context: &ReadContext<'_>, start_key: &Bytes, limit: u64) -> RegionsPage {
    let range = KeyRange::new(start_key.clone(), Bytes::new());
    let mut limit = if limit == 0 { u64::MAX } else { limit };
    if planted(Mutant::PageCutShort) && limit > 1 {
        limit -= 1;
    }
    let bytes_max = context.config.limits.route_bytes_max;
    let mut routes = vec![];
    let mut bytes = 0;
    for region in context.state.regions().overlapping(&range) {
        if routes.len() as u64 >= limit || bytes > bytes_max {
            break;
        }
        bytes += route_bytes(region);
        routes.push(route(context, region));
    }
    RegionsPage { routes, stores: store_addrs(context.state) }
}

fn route(context: &ReadContext<'_>, region: &Region) -> RegionRoute {
    let report = context.leader.reports.region(region.id);
    let leader = report.and_then(|report| report.leader);
    RegionRoute {
        region: region.clone(),
        leader: leader.filter(|leader| region.member(leader.id).is_some()),
        approximate_bytes: report.map_or(0, |report| report.approximate_bytes),
        approximate_keys: report.map_or(0, |report| report.approximate_keys),
        load: report.map(|report| report.load).unwrap_or_default(),
    }
}

fn view<'a>(context: &ReadContext<'a>) -> ClusterView<'a> {
    let none = Operators::default();
    ClusterView::new(context.state, &context.leader.reports, &none, context.now)
}

/// All stores.
pub(crate) fn stores(context: &ReadContext<'_>) -> Vec<StoreStatus> {
    let (view, reports) = (view(context), &context.leader.reports);
    let status = |store: &StoreRecord| {
        let usage = reports.usage(store.id);
        let last_heartbeat_at = reports.last_heartbeat_at(store.id);
        StoreStatus {
            store_id: store.id,
            addr: store.addr.clone(),
            labels: store.labels.clone(),
            state: store_state(&view, store),
            is_draining: store.mode == StoreMode::Draining,
            region_count: view.counts.regions(store.id),
            leader_count: view.counts.leaders(store.id),
            used_bytes: usage.used_bytes,
            capacity_bytes: usage.capacity_bytes,
            load: usage.load.filter(|_| reports.liveness(store.id, context.now) == Liveness::Up),
            last_heartbeat_ms: last_heartbeat_at.map(|at| context.now.since(at)),
        }
    };
    context.state.stores().map(status).collect()
}

/// What is observed goes before what an administrator decided, but for a removal. Of a store that
/// has sent no heartbeat to this leader nothing is observed, until it counts as down.
fn store_state(view: &ClusterView<'_>, store: &StoreRecord) -> StoreState {
    let is_unheard = view.reports.last_heartbeat_at(store.id).is_none();
    match (view.reports.liveness(store.id, view.now), store.mode) {
        (_, StoreMode::Removed) => StoreState::Removed,
        (Liveness::Down, _) => StoreState::Down,
        (Liveness::Up | Liveness::Disconnected, _) if is_unheard => StoreState::Unknown,
        (Liveness::Up | Liveness::Disconnected, _) if view.reports.has_stopped(store.id) => {
            StoreState::Stopped
        }
        (Liveness::Disconnected, _) => StoreState::Disconnected,
        (Liveness::Up, StoreMode::Draining) => StoreState::Draining,
        (Liveness::Up, StoreMode::Up) => StoreState::Up,
    }
}

/// The members of PD that the leader does not hear.
fn silent_members(members: &[PdMember]) -> Option<HealthReason> {
    let silent = members.iter().filter(|member| member.is_silent);
    let silent: Vec<String> = silent.map(|m| format!("{} at {}", m.id, m.addr)).collect();
    if silent.is_empty() {
        return None;
    }
    let what = format!("the leader does not hear placement driver {}", silent.join(", "));
    Some(HealthReason { kind: HealthKind::PdMemberDown, what, ..HealthReason::default() })
}

/// The silent stores for which no ids are given out ([`crate::core::ids`]).
fn awaited_stores(context: &ReadContext<'_>) -> Option<HealthReason> {
    let ReadContext { leader, state, now, .. } = context;
    if planted(Mutant::IdsAwaitedUntold) {
        return None;
    }
    let mut stores = leader.awaited_stores(state, *now);
    stores.retain(|store| leader.reports.silent_ms(*store, *now) > HEARD_MS_MAX);
    let first = *stores.first()?;
    let named = stores.iter().map(|store| format!("store {store}")).collect::<Vec<_>>().join(", ");
    let what = format!(
        "no ids are given out, so that no region is split or moved and no store joins, before \
         {named} was heard (silent for {} s) or is down; if it never runs again: ctl store remove \
         {first} --lost",
        leader.reports.silent_ms(first, *now) / 1_000
    );
    Some(HealthReason { kind: HealthKind::Unknown, stores, what, ..HealthReason::default() })
}

/// The cluster's id, PD's members, counts, and whether all is well.
pub(crate) fn cluster_status(context: &ReadContext<'_>, members: Vec<PdMember>) -> ClusterStatus {
    let state = context.state;
    let stores = StoreView::new(state, &context.leader.reports, context.now);
    let awaited = awaited(context);
    let Health { mut reasons, unhealthy_region_count } = health(stores, awaited.clone());
    reasons.extend(awaited_stores(context));
    reasons.extend(silent_members(&members));
    ClusterStatus {
        cluster_id: state.cluster_id(),
        members,
        store_count: state.stores().filter(|store| store.mode != StoreMode::Removed).count() as u64,
        region_count: state.regions().len() as u64,
        unhealthy_region_count,
        replica_count: state.replica_count(),
        awaited: awaited.unwrap_or_default(),
        reasons,
    }
}
