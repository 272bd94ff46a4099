//! Conversions between [`crate::placement`] and the generated messages of [`crate::proto`].
//!
//! Into the wire always works. A request that cannot be read becomes the [`PdError`] that answers
//! it: [`PdError::Unsupported`] for what a newer version may have sent, [`PdError::Refused`] for a
//! message without a field that it means nothing without. A reply that cannot be read is a
//! [`WireError`].

use crate::id::{RegionId, StoreId};
use crate::placement::{
    ClusterStatus, HealthKind, HealthReason, MembersChange, OperatorRequest, OperatorStatus,
    PdError, PdMember, PdMembers, PdOp, PdReply, PdRequest, RegionRoute, RegionsPage,
    RegisterStore, Registration, StoreState, StoreStatus,
};
use crate::proto::{
    self, add_operator_request::Kind as WireOperator, change_members_request::Kind as WireChange,
    pd_error::Kind as WireKind, pd_reply::Result as WireReply, pd_request::Op as WireOp,
};
use crate::region::Member;
use crate::wire::WireError;
use crate::wire_explain::question;
use crate::wire_heartbeat::wire_load;

/// Stands on the wire for a store that has sent no heartbeat.
const NO_HEARTBEAT: u64 = u64::MAX;

impl From<PdRequest> for proto::PdRequest {
    fn from(request: PdRequest) -> proto::PdRequest {
        proto::PdRequest { cluster_id: request.cluster_id, op: Some(request.op.into()) }
    }
}

impl TryFrom<proto::PdRequest> for PdRequest {
    type Error = PdError;

    fn try_from(request: proto::PdRequest) -> Result<PdRequest, PdError> {
        let op = request.op.ok_or_else(|| unsupported("the request's operation"))?;
        Ok(PdRequest { cluster_id: request.cluster_id, op: op.try_into()? })
    }
}

impl From<PdOp> for WireOp {
    fn from(op: PdOp) -> WireOp {
        match op {
            PdOp::ClusterStatus => WireOp::ClusterStatus(proto::ClusterStatusRequest {}),
            PdOp::RegisterStore(register) => WireOp::RegisterStore(register.into()),
            PdOp::Heartbeat(heartbeat) => WireOp::Heartbeat((*heartbeat).into()),
            PdOp::AllocateIds { count } => WireOp::AllocateIds(proto::AllocateIdsRequest { count }),
            PdOp::Regions { start_key, limit } => {
                WireOp::Regions(proto::RegionsRequest { start_key, limit })
            }
            PdOp::Stores => WireOp::Stores(proto::StoresRequest {}),
            PdOp::SetStoreState { store_id, state, is_lost } => {
                let (store_id, state) = (store_id.0, proto::StoreState::from(state).into());
                WireOp::SetStoreState(proto::SetStoreStateRequest { store_id, state, is_lost })
            }
            PdOp::AddOperator { region_id, kind } => {
                let (region_id, kind) = (region_id.0, Some(kind.into()));
                WireOp::AddOperator(proto::AddOperatorRequest { region_id, kind })
            }
            PdOp::Operators => WireOp::Operators(proto::OperatorsRequest {}),
            PdOp::CancelOperator { operator_id } => {
                WireOp::CancelOperator(proto::CancelOperatorRequest { operator_id })
            }
            PdOp::Members => WireOp::Members(proto::MembersRequest {}),
            PdOp::ChangeMembers(change) => {
                WireOp::ChangeMembers(proto::ChangeMembersRequest { kind: Some(change.into()) })
            }
            PdOp::Explain(question) => WireOp::Explain(question.into()),
        }
    }
}

impl TryFrom<WireOp> for PdOp {
    type Error = PdError;

    fn try_from(op: WireOp) -> Result<PdOp, PdError> {
        Ok(match op {
            WireOp::ClusterStatus(proto::ClusterStatusRequest {}) => PdOp::ClusterStatus,
            WireOp::RegisterStore(register) => PdOp::RegisterStore(register.into()),
            WireOp::Heartbeat(heartbeat) => PdOp::Heartbeat(Box::new(heartbeat.into())),
            WireOp::AllocateIds(request) => PdOp::AllocateIds { count: request.count },
            WireOp::Regions(request) => {
                PdOp::Regions { start_key: request.start_key, limit: request.limit }
            }
            WireOp::Stores(proto::StoresRequest {}) => PdOp::Stores,
            WireOp::SetStoreState(request) => PdOp::SetStoreState {
                store_id: StoreId(request.store_id),
                state: store_state(request.state)
                    .ok_or_else(|| unsupported("the store state that is asked for"))?,
                is_lost: request.is_lost,
            },
            WireOp::AddOperator(request) => PdOp::AddOperator {
                region_id: RegionId(request.region_id),
                kind: request.kind.ok_or_else(|| unsupported("the operator's kind"))?.into(),
            },
            WireOp::Operators(proto::OperatorsRequest {}) => PdOp::Operators,
            WireOp::CancelOperator(request) => {
                PdOp::CancelOperator { operator_id: request.operator_id }
            }
            WireOp::Members(proto::MembersRequest {}) => PdOp::Members,
            WireOp::ChangeMembers(request) => {
                let kind = request.kind.ok_or_else(|| unsupported("the change of members"))?;
                PdOp::ChangeMembers(kind.into())
            }
            WireOp::Explain(request) => PdOp::Explain(
                question(request).ok_or_else(|| unsupported("what is to be explained"))?,
            ),
        })
    }
}

impl From<MembersChange> for WireChange {
    fn from(change: MembersChange) -> WireChange {
        match change {
            MembersChange::Add { id, addr } => {
                WireChange::Add(PdMember { id, addr, ..PdMember::default() }.into())
            }
            MembersChange::Remove(id) => WireChange::Remove(id),
            MembersChange::TransferLeader(id) => WireChange::TransferLeader(id),
        }
    }
}

impl From<WireChange> for MembersChange {
    fn from(change: WireChange) -> MembersChange {
        match change {
            WireChange::Add(member) => MembersChange::Add { id: member.id, addr: member.addr },
            WireChange::Remove(id) => MembersChange::Remove(id),
            WireChange::TransferLeader(id) => MembersChange::TransferLeader(id),
        }
    }
}

impl From<PdMember> for proto::PdMember {
    fn from(member: PdMember) -> proto::PdMember {
        let PdMember { id, addr, is_leader, is_learner, is_silent } = member;
        proto::PdMember { id, addr, leader: is_leader, learner: is_learner, silent: is_silent }
    }
}

impl From<proto::PdMember> for PdMember {
    fn from(member: proto::PdMember) -> PdMember {
        let proto::PdMember { id, addr, leader, learner, silent } = member;
        PdMember { id, addr, is_leader: leader, is_learner: learner, is_silent: silent }
    }
}

impl From<PdMembers> for proto::PdGroup {
    fn from(members: PdMembers) -> proto::PdGroup {
        let PdMembers { group_id, members, removed } = members;
        let members = members.into_iter().map(Into::into).collect();
        proto::PdGroup { group_id, members, removed, ..proto::PdGroup::default() }
    }
}

impl From<proto::PdGroup> for PdMembers {
    fn from(group: proto::PdGroup) -> PdMembers {
        let proto::PdGroup { group_id, members, removed, .. } = group;
        let members = members.into_iter().map(Into::into).collect();
        PdMembers { group_id, members, removed }
    }
}

impl From<RegisterStore> for proto::RegisterStoreRequest {
    fn from(register: RegisterStore) -> proto::RegisterStoreRequest {
        let RegisterStore { store_id, addr, labels } = register;
        proto::RegisterStoreRequest { store_id: store_id.0, addr, labels }
    }
}

impl From<proto::RegisterStoreRequest> for RegisterStore {
    fn from(request: proto::RegisterStoreRequest) -> RegisterStore {
        let proto::RegisterStoreRequest { store_id, addr, labels } = request;
        RegisterStore { store_id: StoreId(store_id), addr, labels }
    }
}

impl From<OperatorRequest> for WireOperator {
    fn from(operator: OperatorRequest) -> WireOperator {
        match operator {
            OperatorRequest::AddPeer(store) => WireOperator::AddPeerStore(store.0),
            OperatorRequest::RemovePeer(store) => WireOperator::RemovePeerStore(store.0),
            OperatorRequest::TransferLeader(store) => WireOperator::TransferLeaderStore(store.0),
            OperatorRequest::Split(split_key) => {
                WireOperator::Split(proto::SplitStep { split_key })
            }
            OperatorRequest::MovePeer { from, to } => {
                WireOperator::MovePeer(proto::MovePeer { from_store: from.0, to_store: to.0 })
            }
        }
    }
}

impl From<WireOperator> for OperatorRequest {
    fn from(operator: WireOperator) -> OperatorRequest {
        match operator {
            WireOperator::AddPeerStore(store) => OperatorRequest::AddPeer(StoreId(store)),
            WireOperator::RemovePeerStore(store) => OperatorRequest::RemovePeer(StoreId(store)),
            WireOperator::TransferLeaderStore(store) => {
                OperatorRequest::TransferLeader(StoreId(store))
            }
            WireOperator::Split(split) => OperatorRequest::Split(split.split_key),
            WireOperator::MovePeer(step) => OperatorRequest::MovePeer {
                from: StoreId(step.from_store),
                to: StoreId(step.to_store),
            },
        }
    }
}

impl From<StoreState> for proto::StoreState {
    fn from(state: StoreState) -> proto::StoreState {
        match state {
            StoreState::Up => proto::StoreState::Up,
            StoreState::Disconnected => proto::StoreState::Disconnected,
            StoreState::Down => proto::StoreState::Down,
            StoreState::Draining => proto::StoreState::Draining,
            StoreState::Removed => proto::StoreState::Removed,
            StoreState::Unknown => proto::StoreState::Unknown,
            StoreState::Stopped => proto::StoreState::Stopped,
        }
    }
}

impl From<proto::StoreState> for StoreState {
    fn from(state: proto::StoreState) -> StoreState {
        match state {
            proto::StoreState::Up => StoreState::Up,
            proto::StoreState::Disconnected => StoreState::Disconnected,
            proto::StoreState::Down => StoreState::Down,
            proto::StoreState::Draining => StoreState::Draining,
            proto::StoreState::Removed => StoreState::Removed,
            proto::StoreState::Unknown => StoreState::Unknown,
            proto::StoreState::Stopped => StoreState::Stopped,
        }
    }
}

/// None for a number that this version does not know.
fn store_state(state: i32) -> Option<StoreState> {
    proto::StoreState::try_from(state).ok().map(Into::into)
}

/// The message that carries a request's outcome.
impl From<Result<PdReply, PdError>> for proto::PdReply {
    fn from(outcome: Result<PdReply, PdError>) -> proto::PdReply {
        let result = match outcome {
            Ok(reply) => reply.into(),
            Err(error) => WireReply::Error(error.into()),
        };
        proto::PdReply { result: Some(result), pd_addrs: vec![] }
    }
}

impl From<PdReply> for WireReply {
    fn from(reply: PdReply) -> WireReply {
        match reply {
            PdReply::ClusterStatus(status) => WireReply::ClusterStatus(status.into()),
            PdReply::RegisterStore(registration) => WireReply::RegisterStore(registration.into()),
            PdReply::Heartbeat(reply) => WireReply::Heartbeat(reply.into()),
            PdReply::Ids(block) => WireReply::Ids(block.into()),
            PdReply::Regions(page) => WireReply::Regions(page.into()),
            PdReply::Stores(stores) => {
                let stores = stores.into_iter().map(Into::into).collect();
                WireReply::Stores(proto::StoresReply { stores })
            }
            PdReply::SetStoreState => WireReply::SetStoreState(proto::SetStoreStateReply {}),
            PdReply::AddOperator { operator_id } => {
                WireReply::AddOperator(proto::AddOperatorReply { operator_id })
            }
            PdReply::Operators(operators) => {
                let operators = operators.into_iter().map(Into::into).collect();
                WireReply::Operators(proto::OperatorsReply { operators })
            }
            PdReply::CancelOperator => WireReply::CancelOperator(proto::CancelOperatorReply {}),
            PdReply::Members(members) => WireReply::Group(members.into()),
            PdReply::Explained(explanation) => WireReply::Explanation(explanation.into()),
        }
    }
}

/// Reads a reply: what PD answered, or its error. The outer error is for a reply that cannot be
/// read, or whose answer this version does not know.
pub fn pd_reply(reply: proto::PdReply) -> Result<Result<PdReply, PdError>, WireError> {
    Ok(Ok(match reply.result.ok_or(WireError::Missing("pd_reply.result"))? {
        WireReply::Error(error) => return Ok(Err(error.try_into()?)),
        WireReply::ClusterStatus(status) => PdReply::ClusterStatus(status.into()),
        WireReply::RegisterStore(reply) => PdReply::RegisterStore(reply.try_into()?),
        WireReply::Heartbeat(reply) => PdReply::Heartbeat(reply.into()),
        WireReply::Ids(block) => PdReply::Ids(block.into()),
        WireReply::Regions(reply) => PdReply::Regions(reply.try_into()?),
        WireReply::Stores(reply) => {
            let stores = reply.stores.into_iter().map(StoreStatus::try_from);
            PdReply::Stores(stores.collect::<Result<_, _>>()?)
        }
        WireReply::SetStoreState(proto::SetStoreStateReply {}) => PdReply::SetStoreState,
        WireReply::AddOperator(reply) => PdReply::AddOperator { operator_id: reply.operator_id },
        WireReply::Operators(reply) => {
            PdReply::Operators(reply.operators.into_iter().map(Into::into).collect())
        }
        WireReply::CancelOperator(proto::CancelOperatorReply {}) => PdReply::CancelOperator,
        WireReply::Group(group) => PdReply::Members(group.into()),
        WireReply::Explanation(explanation) => PdReply::Explained(explanation.try_into()?),
    }))
}

impl From<PdError> for proto::PdError {
    fn from(error: PdError) -> proto::PdError {
        let kind = match error {
            PdError::NotLeader { leader_addr } => {
                WireKind::NotLeader(proto::NotPdLeader { leader_addr })
            }
            PdError::ClusterMismatch { cluster_id } => {
                WireKind::ClusterMismatch(proto::ClusterMismatch { cluster_id })
            }
            PdError::Refused { reason } => WireKind::Refused(proto::Refused { reason }),
            PdError::NotFound { what } => WireKind::NotFound(proto::NotFound { what }),
            PdError::Busy { reason } => WireKind::Busy(proto::PdBusy { reason }),
            PdError::Unsupported { what } => WireKind::Unsupported(proto::PdUnsupported { what }),
        };
        proto::PdError { kind: Some(kind) }
    }
}

impl TryFrom<proto::PdError> for PdError {
    type Error = WireError;

    fn try_from(error: proto::PdError) -> Result<PdError, WireError> {
        Ok(match error.kind.ok_or(WireError::Missing("pd_error.kind"))? {
            WireKind::NotLeader(error) => PdError::NotLeader { leader_addr: error.leader_addr },
            WireKind::ClusterMismatch(error) => {
                PdError::ClusterMismatch { cluster_id: error.cluster_id }
            }
            WireKind::Refused(error) => PdError::Refused { reason: error.reason },
            WireKind::NotFound(error) => PdError::NotFound { what: error.what },
            WireKind::Busy(error) => PdError::Busy { reason: error.reason },
            WireKind::Unsupported(error) => PdError::Unsupported { what: error.what },
        })
    }
}

impl From<ClusterStatus> for proto::ClusterStatus {
    fn from(status: ClusterStatus) -> proto::ClusterStatus {
        proto::ClusterStatus {
            cluster_id: status.cluster_id,
            members: status.members.into_iter().map(Into::into).collect(),
            store_count: status.store_count,
            region_count: status.region_count,
            unhealthy_region_count: status.unhealthy_region_count,
            replica_count: status.replica_count,
            awaited: status.awaited,
            reasons: status.reasons.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<proto::ClusterStatus> for ClusterStatus {
    fn from(status: proto::ClusterStatus) -> ClusterStatus {
        ClusterStatus {
            cluster_id: status.cluster_id,
            members: status.members.into_iter().map(Into::into).collect(),
            store_count: status.store_count,
            region_count: status.region_count,
            unhealthy_region_count: status.unhealthy_region_count,
            replica_count: status.replica_count,
            awaited: status.awaited,
            reasons: status.reasons.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<HealthReason> for proto::HealthReason {
    fn from(reason: HealthReason) -> proto::HealthReason {
        let kind = match reason.kind {
            HealthKind::Beginning => proto::HealthKind::Beginning,
            HealthKind::Unavailable => proto::HealthKind::Unavailable,
            HealthKind::Unknown => proto::HealthKind::NotKnown,
            HealthKind::UnderReplicated => proto::HealthKind::UnderReplicated,
            HealthKind::Changing => proto::HealthKind::Changing,
            HealthKind::Lagging => proto::HealthKind::Lagging,
            HealthKind::PdMemberDown => proto::HealthKind::PdMemberDown,
        };
        proto::HealthReason {
            kind: kind.into(),
            region_ids: reason.regions.into_iter().map(|region| region.0).collect(),
            region_count: reason.region_count,
            store_ids: reason.stores.into_iter().map(|store| store.0).collect(),
            what: reason.what,
        }
    }
}

impl From<proto::HealthReason> for HealthReason {
    fn from(reason: proto::HealthReason) -> HealthReason {
        let kind = match reason.kind() {
            proto::HealthKind::Beginning => HealthKind::Beginning,
            // One that a newer version has added is taken for the worst.
            proto::HealthKind::HealthUnspecified | proto::HealthKind::Unavailable => {
                HealthKind::Unavailable
            }
            proto::HealthKind::NotKnown => HealthKind::Unknown,
            proto::HealthKind::UnderReplicated => HealthKind::UnderReplicated,
            proto::HealthKind::Changing => HealthKind::Changing,
            proto::HealthKind::Lagging => HealthKind::Lagging,
            proto::HealthKind::PdMemberDown => HealthKind::PdMemberDown,
        };
        HealthReason {
            kind,
            regions: reason.region_ids.into_iter().map(RegionId).collect(),
            region_count: reason.region_count,
            stores: reason.store_ids.into_iter().map(StoreId).collect(),
            what: reason.what,
        }
    }
}

impl From<Registration> for proto::RegisterStoreReply {
    fn from(registration: Registration) -> proto::RegisterStoreReply {
        proto::RegisterStoreReply {
            cluster_id: registration.cluster_id,
            store_id: registration.store_id.0,
            ids: Some(registration.ids.into()),
        }
    }
}

impl TryFrom<proto::RegisterStoreReply> for Registration {
    type Error = WireError;

    fn try_from(reply: proto::RegisterStoreReply) -> Result<Registration, WireError> {
        Ok(Registration {
            cluster_id: reply.cluster_id,
            store_id: StoreId(reply.store_id),
            ids: reply.ids.ok_or(WireError::Missing("register_store_reply.ids"))?.into(),
        })
    }
}

impl From<RegionsPage> for proto::RegionsReply {
    fn from(page: RegionsPage) -> proto::RegionsReply {
        proto::RegionsReply {
            routes: page.routes.into_iter().map(Into::into).collect(),
            stores: page.stores.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::RegionsReply> for RegionsPage {
    type Error = WireError;

    fn try_from(reply: proto::RegionsReply) -> Result<RegionsPage, WireError> {
        Ok(RegionsPage {
            routes: reply
                .routes
                .into_iter()
                .map(RegionRoute::try_from)
                .collect::<Result<_, _>>()?,
            stores: reply.stores.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<RegionRoute> for proto::Route {
    fn from(route: RegionRoute) -> proto::Route {
        proto::Route {
            region: Some(route.region.into()),
            leader: route.leader.map(Into::into),
            approximate_bytes: route.approximate_bytes,
            approximate_keys: route.approximate_keys,
            load: wire_load(route.load),
        }
    }
}

impl TryFrom<proto::Route> for RegionRoute {
    type Error = WireError;

    fn try_from(route: proto::Route) -> Result<RegionRoute, WireError> {
        Ok(RegionRoute {
            region: route.region.ok_or(WireError::Missing("route.region"))?.try_into()?,
            leader: route.leader.map(Member::from),
            approximate_bytes: route.approximate_bytes,
            approximate_keys: route.approximate_keys,
            load: route.load.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<StoreStatus> for proto::StoreStatus {
    fn from(status: StoreStatus) -> proto::StoreStatus {
        let store = proto::Store {
            id: status.store_id.0,
            addr: status.addr,
            labels: status.labels,
            state: proto::StoreState::from(status.state).into(),
        };
        proto::StoreStatus {
            store: Some(store),
            region_count: status.region_count,
            leader_count: status.leader_count,
            used_bytes: status.used_bytes,
            capacity_bytes: status.capacity_bytes,
            load: status.load.map(Into::into),
            last_heartbeat_ms: status.last_heartbeat_ms.unwrap_or(NO_HEARTBEAT),
            draining: status.is_draining,
        }
    }
}

impl TryFrom<proto::StoreStatus> for StoreStatus {
    type Error = WireError;

    fn try_from(status: proto::StoreStatus) -> Result<StoreStatus, WireError> {
        let store = status.store.ok_or(WireError::Missing("store_status.store"))?;
        let state = store_state(store.state);
        Ok(StoreStatus {
            store_id: StoreId(store.id),
            addr: store.addr,
            labels: store.labels,
            state: state.ok_or_else(|| WireError::Malformed("an unknown store state".into()))?,
            is_draining: status.draining,
            region_count: status.region_count,
            leader_count: status.leader_count,
            used_bytes: status.used_bytes,
            capacity_bytes: status.capacity_bytes,
            load: status.load.map(Into::into),
            last_heartbeat_ms: Some(status.last_heartbeat_ms).filter(|ms| *ms != NO_HEARTBEAT),
        })
    }
}

impl From<OperatorStatus> for proto::OperatorStatus {
    fn from(operator: OperatorStatus) -> proto::OperatorStatus {
        proto::OperatorStatus {
            id: operator.id,
            region_id: operator.region_id.0,
            kind: operator.kind,
            steps: operator.steps,
            current_step: operator.current_step,
            age_ms: operator.age_ms,
        }
    }
}

impl From<proto::OperatorStatus> for OperatorStatus {
    fn from(operator: proto::OperatorStatus) -> OperatorStatus {
        OperatorStatus {
            id: operator.id,
            region_id: RegionId(operator.region_id),
            kind: operator.kind,
            steps: operator.steps,
            current_step: operator.current_step,
            age_ms: operator.age_ms,
        }
    }
}

fn unsupported(what: &str) -> PdError {
    PdError::Unsupported { what: what.to_string() }
}

#[cfg(test)]
#[path = "wire_pd_tests.rs"]
mod tests;
