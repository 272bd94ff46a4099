//! What a caller may ask of the placement driver.

use std::collections::BTreeMap;

use flotilla_types::proto::add_operator_request::Kind as Operator;
use flotilla_types::proto::change_members_request::Kind as Change;
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::{
    AddOperatorRequest, AllocateIdsRequest, CancelOperatorRequest, ChangeMembersRequest,
    ClusterStatusRequest, MembersRequest, MovePeer, OperatorsRequest, PdMember, PdReply, PdRequest,
    RegionReport, RegionsRequest, RegisterStoreRequest, SetStoreStateRequest, SplitStep,
    StoreHeartbeat, StoresRequest, pd_reply,
};
use prost::Message;

use crate::case::Case;
use crate::grpc::{Ended, Sent, frame, framed};
use crate::world::World;

const PATH: &str = "/flotilla.v1.Pd/Call";

/// Stands for the id of the cluster's first region, which is drawn: no region has it.
const FIRST: u64 = 1;

/// All cases.
pub fn cases() -> Vec<Case> {
    let tables = [
        clusters(),
        stores(),
        registrations(),
        heartbeats(),
        ids(),
        pages(),
        operators(),
        members(),
    ];
    tables.into_iter().flatten().chain([unknown(), none()]).collect()
}

/// One request, for the cluster's id as `cluster` makes it of the right one.
fn of_cluster(name: String, expected: &[&'static str], cluster: fn(u64) -> u64, op: Op) -> Case {
    let build = move |world: &World| {
        let cluster_id = cluster(world.cluster_id);
        let mut op = op.clone();
        if let Op::AddOperator(AddOperatorRequest { region_id: region @ FIRST, .. }) = &mut op {
            *region = world.region;
        }
        let request = PdRequest { cluster_id, op: Some(op) };
        Sent::new(&world.pd, PATH, framed(&request))
    };
    Case { name, build: Box::new(build), tell, expected: expected.to_vec() }
}

fn case(name: impl Into<String>, expected: &[&'static str], op: Op) -> Case {
    of_cluster(name.into(), expected, |cluster| cluster, op)
}

fn tell(ended: &Ended) -> String {
    use pd_reply::Result;
    let reply = PdReply::decode(ended.messages[0].clone()).expect("a reply");
    let error = match reply.result {
        Some(Result::Error(error)) => error.kind.expect("an error has a kind"),
        Some(Result::Ids(ids)) => return format!("{} ids", ids.count),
        Some(Result::Regions(regions)) => return format!("{} regions", regions.routes.len()),
        Some(_) => return "done".into(),
        None => return "nothing".into(),
    };
    match error {
        Kind::NotLeader(_) => "not the leader".into(),
        Kind::ClusterMismatch(_) => "cluster mismatch".into(),
        Kind::Refused(error) => format!("refused: {}", error.reason),
        Kind::NotFound(error) => format!("not found: {}", error.what),
        Kind::Busy(error) => format!("busy: {}", error.reason),
        Kind::Unsupported(error) => format!("unsupported: {}", error.what),
    }
}

/// An operation of each kind, that would do harm if a caller of another cluster were served.
fn clusters() -> Vec<Case> {
    let mut cases = vec![];
    for (name, op) in [
        ("status", Op::ClusterStatus(ClusterStatusRequest {})),
        ("register", Op::RegisterStore(store(1, "127.0.0.1:1"))),
        ("heartbeat", Op::Heartbeat(heartbeat(1))),
        ("ids", Op::AllocateIds(AllocateIdsRequest { count: 1 })),
        ("regions", Op::Regions(RegionsRequest::default())),
        ("stores", Op::Stores(StoresRequest {})),
        ("drain", Op::SetStoreState(SetStoreStateRequest { store_id: 1, state: 3, is_lost: true })),
        ("operator", operator(FIRST, Some(Operator::RemovePeerStore(1)))),
        ("operators", Op::Operators(OperatorsRequest {})),
        ("cancel", Op::CancelOperator(CancelOperatorRequest { operator_id: 1 })),
        ("members", Op::Members(MembersRequest {})),
        ("remove a member", change(Some(Change::Remove(1)))),
    ] {
        for (of, cluster) in [
            ("another cluster", (|right| right ^ 1) as fn(u64) -> u64),
            ("the last cluster", |_| u64::MAX),
        ] {
            let name = format!("PD: {name} of {of}");
            cases.push(of_cluster(name, &["cluster mismatch"], cluster, op.clone()));
        }
    }
    cases
}

fn stores() -> Vec<Case> {
    let set = |store_id, state| {
        Op::SetStoreState(SetStoreStateRequest { store_id, state, is_lost: false })
    };
    let mut cases = vec![];
    for store_id in [0, 99, u64::MAX] {
        for state in [0, 3, 4] {
            let name = format!("PD: state {state} of store {store_id}");
            cases.push(case(name, &["not found: store"], set(store_id, state)));
        }
    }
    for state in [1, 2, 5, 6] {
        cases.push(case(format!("PD: state {state}"), &["refused: "], set(1, state)));
    }
    for state in [7, 77, i32::MAX, -1] {
        cases.push(case(format!("PD: state {state}"), &["unsupported: "], set(1, state)));
    }
    cases.push(case("PD: removal of a store that serves", &["refused: "], set(1, 4)));
    cases
}

fn store(store_id: u64, addr: &str) -> RegisterStoreRequest {
    RegisterStoreRequest { store_id, addr: addr.into(), ..RegisterStoreRequest::default() }
}

fn registrations() -> Vec<Case> {
    let register = |name: &str, store: RegisterStoreRequest| {
        case(format!("PD: registration {name}"), &["refused: "], Op::RegisterStore(store))
    };
    let labels = |bytes: usize| BTreeMap::from([("zone".to_string(), "z".repeat(bytes))]);
    let labelled = |bytes| RegisterStoreRequest { labels: labels(bytes), ..store(0, "a:1") };
    vec![
        register("without an address", store(0, "")),
        register("without a port", store(0, "127.0.0.1")),
        register("of an address over the limit", store(0, &format!("{}:1", "h".repeat(259)))),
        register("of an address of 16 MiB", store(0, &format!("{}:1", "h".repeat(16 << 20)))),
        register("of labels over the limit", labelled(4097 - 4)),
        register("of labels of 16 MiB", labelled(16 << 20)),
        register("of a store that serves, elsewhere", store(1, "127.0.0.1:1")),
        register("of the last store", store(u64::MAX, "127.0.0.1:1")),
        of_cluster(
            "PD: registration of an unknown store of no cluster".into(),
            &["not found: ", "refused: "],
            |_| 0,
            Op::RegisterStore(store(99, "127.0.0.1:1")),
        ),
    ]
}

fn heartbeat(store_id: u64) -> StoreHeartbeat {
    StoreHeartbeat { store_id, process: 1, number: 1, ..StoreHeartbeat::default() }
}

fn heartbeats() -> Vec<Case> {
    let of = |name: &str, heartbeat| {
        let expected = &["not found: ", "refused: "];
        case(format!("PD: heartbeat of {name}"), expected, Op::Heartbeat(heartbeat))
    };
    let report = RegionReport { term: u64::MAX, ..RegionReport::default() };
    vec![
        of("store 0", heartbeat(0)),
        of("an unknown store", heartbeat(99)),
        of("the last store", heartbeat(u64::MAX)),
        of(
            "an unknown store with reports",
            StoreHeartbeat {
                full: true,
                reports: vec![report; 10_000],
                highest_id: u64::MAX,
                ..heartbeat(99)
            },
        ),
        of("an unknown store that stops", StoreHeartbeat { stopping: true, ..heartbeat(99) }),
    ]
}

fn ids() -> Vec<Case> {
    [
        (0, "refused: "),
        (1, "1 ids"),
        (99_999, "99999 ids"),
        (100_000, "100000 ids"),
        (100_001, "refused: "),
        (u64::MAX, "refused: "),
    ]
    .into_iter()
    .map(|(count, expected)| {
        let op = Op::AllocateIds(AllocateIdsRequest { count });
        case(format!("PD: {count} ids"), &[expected], op)
    })
    .collect()
}

fn pages() -> Vec<Case> {
    let page = |bytes: usize, limit, expected: &'static str| {
        let start_key = vec![0; bytes].into();
        let name = format!("PD: {limit} regions from a key of {bytes} bytes");
        case(name, &[expected], Op::Regions(RegionsRequest { start_key, limit }))
    };
    vec![
        page(0, 0, "2 regions"),
        page(0, 1, "1 regions"),
        page(0, u64::MAX, "2 regions"),
        page(8196, 0, "2 regions"),
        page(8197, 0, "2 regions"),
        page(8198, 0, "refused: "),
        page(16 << 20, 0, "refused: "),
    ]
}

fn operator(region_id: u64, kind: Option<Operator>) -> Op {
    Op::AddOperator(AddOperatorRequest { region_id, kind })
}

fn operators() -> Vec<Case> {
    let split = |key: &[u8]| Operator::Split(SplitStep { split_key: key.to_vec().into() });
    let mut cases =
        vec![case("PD: operator of no kind", &["unsupported: "], operator(FIRST, None))];
    for region in [0, 99_999, u64::MAX] {
        let op = operator(region, Some(Operator::TransferLeaderStore(1)));
        cases.push(case(format!("PD: operator on region {region}"), &["not found: region"], op));
    }
    for store in [0, 99, u64::MAX] {
        for kind in [
            Operator::AddPeerStore(store),
            Operator::RemovePeerStore(store),
            Operator::TransferLeaderStore(store),
            Operator::MovePeer(MovePeer { from_store: store, to_store: 1 }),
            Operator::MovePeer(MovePeer { from_store: 1, to_store: store }),
        ] {
            let name = format!("PD: operator {kind:?}");
            cases.push(case(name, &["not found: ", "refused: "], operator(FIRST, Some(kind))));
        }
    }
    for (name, key) in [
        ("at a key of no keyspace", &b"a"[..]),
        ("at a key of another region", b"\0\0\0\0z"),
        ("at the region's end", b"\0\0\0\0m"),
        ("at a key over the limit", &[0; 8197]),
    ] {
        let name = format!("PD: split {name}");
        cases.push(case(name, &["refused: "], operator(FIRST, Some(split(key)))));
    }
    for operator_id in [0, 99_999, u64::MAX] {
        let op = Op::CancelOperator(CancelOperatorRequest { operator_id });
        cases.push(case(format!("PD: end of operator {operator_id}"), &["not found: "], op));
    }
    cases
}

fn change(kind: Option<Change>) -> Op {
    Op::ChangeMembers(ChangeMembersRequest { kind })
}

fn members() -> Vec<Case> {
    let add =
        |id, addr: &str| Change::Add(PdMember { id, addr: addr.into(), ..PdMember::default() });
    let mut cases = vec![case("PD: no change of members", &["unsupported: "], change(None))];
    for id in [0, 99, u64::MAX] {
        let expected = &["not found: placement driver"];
        cases.push(case(
            format!("PD: removal of {id}"),
            expected,
            change(Some(Change::Remove(id))),
        ));
        let transfer = change(Some(Change::TransferLeader(id)));
        cases.push(case(format!("PD: transfer to {id}"), expected, transfer));
    }
    for (name, change_to) in [
        ("the last member", Change::Remove(1)),
        ("member 0", add(0, "127.0.0.1:1")),
        ("a member that there is", add(1, "127.0.0.1:1")),
        ("a member without an address", add(98, "")),
        ("a member without a port", add(98, "127.0.0.1")),
        ("a member of an address over the limit", add(98, &format!("{}:1", "h".repeat(259)))),
    ] {
        let op = change(Some(change_to));
        cases.push(case(format!("PD: change of {name}"), &["refused: "], op));
    }
    cases
}

/// An operation that this version does not know.
fn unknown() -> Case {
    let build = |world: &World| {
        // Field 99, a message.
        Sent::new(&world.pd, PATH, frame(0, 3, &[0x9a, 0x06, 0]))
    };
    let (name, expected) = ("PD: an operation of an unknown kind".into(), vec!["unsupported: "]);
    Case { name, build: Box::new(build), tell, expected }
}

fn none() -> Case {
    let build = |world: &World| Sent::new(&world.pd, PATH, framed(&PdRequest::default()));
    let (name, expected) = ("PD: no operation".into(), vec!["unsupported: "]);
    Case { name, build: Box::new(build), tell, expected }
}
