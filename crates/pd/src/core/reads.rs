//! Linearizable reads of the applied state, with what the view knows beside it.
//!
//! A read is answered at once while the leader lease holds, else after a round of ReadIndex. What
//! comes from the view (leaders, sizes, liveness) is as fresh as the last heartbeats.

use bytes::Bytes;
use flotilla_types::{KeyRange, MemberRole, Millis, Region, StoreId, proto};
use prost::Message;
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;

use crate::core::heartbeat::store_addrs;
use crate::core::io::RequestId;
use crate::core::leading::Leading;
use crate::core::operators::Operators;
use crate::core::pd::Pd;
use crate::core::place::Picture;
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::reply::busy;
use crate::core::state::State;
use crate::core::view::Liveness;
use crate::core::waiting::Read;

/// The most bytes of routes in one reply; a caller goes on from the last one's end. A quarter of
/// what a receiver decodes by default leaves room for keys of the greatest length.
const ROUTE_BYTES_MAX: usize = 1024 * 1024;

impl Pd {
    pub(crate) fn read(&mut self, now: Millis, id: RequestId, op: Op) {
        if self.group.lease_holds(now) {
            return self.serve(now, id, &op);
        }
        match self.group.read_index(now) {
            Some(ticket) => self.waiting.await_read(ticket, Read { id, asked: now, op }),
            None => self.answer(id, Err(busy("the placement driver is starting"))),
        }
    }

    /// Answers a confirmed read.
    pub(crate) fn serve(&mut self, now: Millis, id: RequestId, op: &Op) {
        let Some(leading) = &self.leading else {
            return self.answer(id, Err(busy("leadership was lost")));
        };
        let answer = match op {
            Op::Regions(request) => Answer::Regions(regions(&self.state, leading, request)),
            Op::Stores(_) => Answer::Stores(stores(&self.state, leading, now)),
            _ => {
                let mut status = cluster_status(&self.state, leading, now);
                status.members = vec![proto::PdMember {
                    id: self.config.id,
                    addr: self.config.addr.clone(),
                    leader: true,
                }];
                Answer::ClusterStatus(status)
            }
        };
        self.answer(id, Ok(answer));
    }
}

fn regions(
    state: &State,
    leading: &Leading,
    request: &proto::RegionsRequest,
) -> proto::RegionsReply {
    let range = KeyRange::new(request.start_key.clone(), Bytes::new());
    let limit = if request.limit == 0 { u64::MAX } else { request.limit };
    let mut routes = vec![];
    let mut bytes = 0;
    for region in state.regions().overlapping(&range) {
        if routes.len() as u64 >= limit || bytes > ROUTE_BYTES_MAX {
            break;
        }
        let route = route(leading, region);
        bytes += route.encoded_len();
        routes.push(route);
    }
    proto::RegionsReply { routes, stores: store_addrs(state) }
}

fn route(leading: &Leading, region: &Region) -> proto::Route {
    let report = leading.view.region(region.id);
    let leader = report.and_then(|report| report.leader);
    proto::Route {
        region: Some(region.clone().into()),
        leader: leader.filter(|leader| region.member(leader.id).is_some()).map(Into::into),
        approximate_bytes: report.map_or(0, |report| report.approximate_bytes),
        approximate_keys: report.map_or(0, |report| report.approximate_keys),
    }
}

fn stores(state: &State, leading: &Leading, now: Millis) -> proto::StoresReply {
    let picture = Picture::new(state, &leading.view, &Operators::default(), now);
    let status = |store: &StoreRecord| {
        let load = leading.view.load(store.id);
        let mut wire = store.to_wire();
        wire.state = observed(&picture, store).into();
        proto::StoreStatus {
            store: Some(wire),
            region_count: picture.load.regions(store.id),
            leader_count: picture.load.leaders(store.id),
            used_bytes: load.used_bytes,
            capacity_bytes: load.capacity_bytes,
            last_heartbeat_ms: leading.view.heard(store.id).map_or(u64::MAX, |at| now.since(at)),
        }
    };
    proto::StoresReply { stores: state.stores().map(status).collect() }
}

/// What an administrator decided goes before what is observed.
fn observed(picture: &Picture<'_>, store: &StoreRecord) -> proto::StoreState {
    match (store.mode, picture.view.liveness(store.id, picture.now)) {
        (StoreMode::Removed, _) => proto::StoreState::Removed,
        (StoreMode::Draining, _) => proto::StoreState::Draining,
        (StoreMode::Up, Liveness::Down) => proto::StoreState::Down,
        (StoreMode::Up, Liveness::Disconnected) => proto::StoreState::Disconnected,
        (StoreMode::Up, Liveness::Up) => proto::StoreState::Up,
    }
}

fn cluster_status(state: &State, leading: &Leading, now: Millis) -> proto::ClusterStatus {
    let picture = Picture::new(state, &leading.view, &Operators::default(), now);
    let unhealthy = state.regions().iter().filter(|region| !is_healthy(&picture, region)).count();
    // A part of the key space that no heartbeat has covered yet is a region that has no leader.
    let is_hole = !state.regions().is_empty() && state.regions().first_hole().is_some();
    proto::ClusterStatus {
        cluster_id: state.cluster_id(),
        members: vec![],
        store_count: state.stores().filter(|store| store.mode != StoreMode::Removed).count() as u64,
        region_count: state.regions().len() as u64,
        unhealthy_region_count: (unhealthy + usize::from(is_hole)) as u64,
        replica_count: state.replica_count(),
    }
}

/// A region is healthy if its leader is known, it has as many voters on live stores as wanted, and
/// no membership change is under way. A store that is down still counts as one that should hold a
/// voter, until it is removed or another takes its place.
fn is_healthy(picture: &Picture<'_>, region: &Region) -> bool {
    let in_service = picture.state.stores().filter(|store| store.mode == StoreMode::Up).count();
    let wanted = in_service.min(picture.state.replica_count() as usize);
    let is_live = |store: StoreId| {
        let mode = picture.state.store(store).map(|store| store.mode);
        mode.is_some_and(|mode| mode != StoreMode::Removed)
            && picture.view.is_heard(store, picture.now)
    };
    let is_voter = |role: MemberRole| role == MemberRole::Voter;
    let live =
        region.members.iter().filter(|peer| is_voter(peer.role) && is_live(peer.store_id)).count();
    let has_learner = region.members.iter().any(|peer| peer.role == MemberRole::Learner);
    picture.report(region).is_some() && !region.is_joint() && !has_learner && live >= wanted
}
