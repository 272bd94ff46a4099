//! Tests of the conversions of what the placement driver is asked.

use super::*;
use crate::explain::Question;
use crate::heartbeat::{HeartbeatReply, IdBlock, StoreAddr, StoreHeartbeat};
use crate::id::PeerId;
use crate::load::Load;
use crate::placement::HealthKind::{
    Beginning, Changing, Lagging, PdMemberDown, Unavailable, UnderReplicated, Unknown,
};
use crate::region::{Epoch, KeyRange, Region};

fn operator(kind: OperatorRequest) -> PdOp {
    PdOp::AddOperator { region_id: RegionId(7), kind }
}

fn region() -> Region {
    Region {
        id: RegionId(7),
        range: KeyRange::new("a", ""),
        epoch: Epoch::FIRST,
        members: vec![Member::voter(PeerId(8), StoreId(1))],
    }
}

#[test]
fn every_request_survives_the_round_trip() {
    let (from, to) = (StoreId(1), StoreId(2));
    let labels = [("zone".to_string(), "a".to_string())].into();
    let register = RegisterStore { store_id: from, addr: "a:1".into(), labels };
    for op in [
        PdOp::ClusterStatus,
        PdOp::RegisterStore(register),
        PdOp::Heartbeat(Box::new(StoreHeartbeat {
            store_id: from,
            ids_left: 4,
            ..Default::default()
        })),
        PdOp::AllocateIds { count: 5 },
        PdOp::Regions { start_key: "k".into(), limit: 6 },
        PdOp::Stores,
        PdOp::SetStoreState { store_id: from, state: StoreState::Draining, is_lost: false },
        PdOp::SetStoreState { store_id: from, state: StoreState::Down, is_lost: true },
        operator(OperatorRequest::AddPeer(from)),
        operator(OperatorRequest::RemovePeer(from)),
        operator(OperatorRequest::TransferLeader(from)),
        operator(OperatorRequest::Split("k".into())),
        operator(OperatorRequest::MovePeer { from, to }),
        PdOp::Operators,
        PdOp::CancelOperator { operator_id: 9 },
        PdOp::Members,
        PdOp::ChangeMembers(MembersChange::Add { id: 4, addr: "p:4".into() }),
        PdOp::ChangeMembers(MembersChange::Remove(2)),
        PdOp::ChangeMembers(MembersChange::TransferLeader(3)),
        PdOp::Explain(Question::Region(RegionId(7))),
        PdOp::Explain(Question::Drain(from)),
        PdOp::Explain(Question::EndedOperators),
        PdOp::Explain(Question::Schedulers),
    ] {
        let request = PdRequest { cluster_id: 3, op };
        let wire = proto::PdRequest::from(request.clone());
        assert_eq!(PdRequest::try_from(wire), Ok(request));
    }
}

#[test]
fn every_outcome_survives_the_round_trip() {
    let status = ClusterStatus {
        cluster_id: 1,
        members: vec![PdMember {
            id: 1,
            addr: "p:1".into(),
            is_leader: true,
            ..PdMember::default()
        }],
        store_count: 2,
        region_count: 3,
        unhealthy_region_count: 4,
        replica_count: 5,
        awaited: "stores".into(),
        reasons: [
            Beginning,
            Unavailable,
            Unknown,
            UnderReplicated,
            Changing,
            Lagging,
            PdMemberDown,
        ]
        .map(|kind| HealthReason {
            kind,
            regions: vec![RegionId(6)],
            region_count: 7,
            stores: vec![StoreId(8)],
            what: "lost".into(),
        })
        .to_vec(),
    };
    let registration =
        Registration { cluster_id: 1, store_id: StoreId(2), ids: IdBlock { start: 3, count: 4 } };
    let route = RegionRoute {
        region: region(),
        leader: region().members.first().copied(),
        approximate_bytes: 1,
        approximate_keys: 2,
        load: Load { reads: 3, ..Load::default() },
    };
    let store = StoreStatus {
        store_id: StoreId(1),
        state: StoreState::Disconnected,
        is_draining: true,
        leader_count: 2,
        last_heartbeat_ms: Some(3),
        ..StoreStatus::default()
    };
    let unheard = StoreStatus { last_heartbeat_ms: None, ..store.clone() };
    let stores = vec![StoreAddr { store_id: StoreId(1), addr: "s:1".into() }];
    let listed = OperatorStatus { id: 1, steps: vec!["split".into()], ..Default::default() };
    let learner =
        PdMember { id: 4, addr: "p:4".into(), is_leader: false, is_learner: true, is_silent: true };
    let members = PdMembers { group_id: 8, members: vec![learner], removed: vec![2] };
    let (reason, what) = (String::from("late"), String::from("store 7"));
    for outcome in [
        Ok(PdReply::ClusterStatus(status)),
        Ok(PdReply::RegisterStore(registration)),
        Ok(PdReply::Heartbeat(HeartbeatReply { term: 3, ..Default::default() })),
        Ok(PdReply::Ids(IdBlock { start: 1, count: 2 })),
        Ok(PdReply::Regions(RegionsPage { routes: vec![route], stores })),
        Ok(PdReply::Stores(vec![store, unheard])),
        Ok(PdReply::SetStoreState),
        Ok(PdReply::AddOperator { operator_id: 4 }),
        Ok(PdReply::Operators(vec![listed])),
        Ok(PdReply::CancelOperator),
        Ok(PdReply::Members(members)),
        Err(PdError::NotLeader { leader_addr: "p:2".into() }),
        Err(PdError::ClusterMismatch { cluster_id: 6 }),
        Err(PdError::Refused { reason: reason.clone() }),
        Err(PdError::NotFound { what: what.clone() }),
        Err(PdError::Busy { reason }),
        Err(PdError::Unsupported { what }),
    ] {
        let wire = proto::PdReply::from(outcome.clone());
        assert_eq!(pd_reply(wire), Ok(outcome));
    }
}

#[test]
fn what_a_newer_version_may_have_sent_is_unsupported() {
    let is_unsupported = |op: Option<WireOp>| {
        let request = proto::PdRequest { cluster_id: 3, op };
        matches!(PdRequest::try_from(request), Err(PdError::Unsupported { .. }))
    };
    assert!(is_unsupported(None));
    let request = proto::AddOperatorRequest { region_id: 7, kind: None };
    assert!(is_unsupported(Some(WireOp::AddOperator(request))));
    let request = proto::SetStoreStateRequest { store_id: 1, state: 99, is_lost: false };
    assert!(is_unsupported(Some(WireOp::SetStoreState(request))));
    assert!(!is_unsupported(Some(WireOp::Stores(proto::StoresRequest {}))));
}
