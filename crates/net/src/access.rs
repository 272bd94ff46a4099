//! Which role may call what: the table of roles and calls, and the gate that every call passes.
//!
//! In: a call, and the [place](crate::accept) of its connection, which knows the caller's
//! certificate. Out: leave, or a refusal that names both. Without TLS nobody is known, and every
//! call passes.
//!
//! Raft's messages, snapshots and heartbeats are for stores and members of the placement driver,
//! and speak for the one whom the certificate names. What changes the cluster is for admins.
//!
//! Not here: which rows a client may read or write.

use flotilla_types::proto::change_members_request::Kind as Change;
use flotilla_types::proto::pd_request::Op;
use tonic::{Extensions, Status};

use crate::accept::Place;
use crate::principal::{CertRole, Principal};

/// A call of the protocol (`proto/`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// A client's stream of requests.
    KvRequests,
    /// Rows of a region.
    KvScan,
    /// Which regions a store holds.
    KvRoutes,
    /// What a replica has applied.
    KvReplica,
    /// What a store holds in memory.
    KvMemory,
    /// A request to the placement driver, whose `op` has a row of its own.
    PdCall,
    /// The cluster's state.
    PdClusterStatus,
    /// A store that starts.
    PdRegisterStore,
    /// A store that says how it is.
    PdHeartbeat,
    /// Ids for a store's splits.
    PdAllocateIds,
    /// The range map.
    PdRegions,
    /// The stores.
    PdStores,
    /// Drains or removes a store.
    PdSetStoreState,
    /// Changes a region.
    PdAddOperator,
    /// What is being changed.
    PdOperators,
    /// Ends a change.
    PdCancelOperator,
    /// What the placement driver thinks of something, and why.
    PdExplain,
    /// The members of the placement driver.
    PdMembers,
    /// Adds or removes a member, or hands leadership on.
    PdChangeMembers,
    /// Raft's messages.
    RaftMessages,
    /// Raft's snapshots.
    RaftSnapshot,
}

/// What a role may do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Make it.
    Granted,
    /// Make it in its own name: the call says for whom it speaks.
    ForItself,
    /// Nothing.
    Refused,
}

use Access::{ForItself as Own, Granted as Yes, Refused as No};

/// A row: the call, its name in `proto/` (of an op: its message field), and the access of a store,
/// the placement driver, a client and an admin. A gateway beside a server calls with that server's
/// certificate, so servers may do what clients may.
type Row = (Rpc, &'static str, [Access; 4]);

/// Every call once.
pub const TABLE: &[Row] = &[
    // call                                            store pd   client admin
    (Rpc::KvRequests, "Kv.Requests", [Yes, Yes, Yes, Yes]),
    (Rpc::KvScan, "Kv.Scan", [Yes, Yes, Yes, Yes]),
    (Rpc::KvRoutes, "Kv.Routes", [Yes, Yes, Yes, Yes]),
    (Rpc::KvReplica, "Kv.Replica", [Yes, Yes, Yes, Yes]),
    (Rpc::KvMemory, "Kv.Memory", [Yes, Yes, Yes, Yes]),
    (Rpc::PdCall, "Pd.Call", [Yes, Yes, Yes, Yes]),
    (Rpc::PdClusterStatus, "cluster_status", [Yes, Yes, Yes, Yes]),
    (Rpc::PdRegisterStore, "register_store", [Own, No, No, No]),
    (Rpc::PdHeartbeat, "heartbeat", [Own, No, No, No]),
    (Rpc::PdAllocateIds, "allocate_ids", [Yes, No, No, No]),
    (Rpc::PdRegions, "regions", [Yes, Yes, Yes, Yes]),
    (Rpc::PdStores, "stores", [Yes, Yes, Yes, Yes]),
    (Rpc::PdSetStoreState, "set_store_state", [No, No, No, Yes]),
    (Rpc::PdAddOperator, "add_operator", [No, No, No, Yes]),
    (Rpc::PdOperators, "operators", [Yes, Yes, Yes, Yes]),
    (Rpc::PdCancelOperator, "cancel_operator", [No, No, No, Yes]),
    (Rpc::PdExplain, "explain", [Yes, Yes, Yes, Yes]),
    (Rpc::PdMembers, "members", [Yes, Yes, Yes, Yes]),
    // A member that joins adds itself.
    (Rpc::PdChangeMembers, "change_members", [No, Own, No, Yes]),
    (Rpc::RaftMessages, "Raft.Messages", [Own, Own, No, No]),
    (Rpc::RaftSnapshot, "Raft.Snapshot", [Own, Own, No, No]),
];

impl Rpc {
    /// The call of a request to the placement driver.
    pub fn of_op(op: &Op) -> Rpc {
        match op {
            Op::ClusterStatus(_) => Rpc::PdClusterStatus,
            Op::RegisterStore(_) => Rpc::PdRegisterStore,
            Op::Heartbeat(_) => Rpc::PdHeartbeat,
            Op::AllocateIds(_) => Rpc::PdAllocateIds,
            Op::Regions(_) => Rpc::PdRegions,
            Op::Stores(_) => Rpc::PdStores,
            Op::SetStoreState(_) => Rpc::PdSetStoreState,
            Op::AddOperator(_) => Rpc::PdAddOperator,
            Op::Operators(_) => Rpc::PdOperators,
            Op::CancelOperator(_) => Rpc::PdCancelOperator,
            Op::Explain(_) => Rpc::PdExplain,
            Op::Members(_) => Rpc::PdMembers,
            Op::ChangeMembers(_) => Rpc::PdChangeMembers,
        }
    }

    /// The call of a path such as `/flotilla.v1.Kv/Scan`; None if there is none.
    pub(crate) fn of_path(path: &str) -> Option<Rpc> {
        let (service, method) = path.strip_prefix("/flotilla.v1.")?.split_once('/')?;
        let mut rows = TABLE.iter();
        let row = rows.find(|(_, name, _)| name.split_once('.') == Some((service, method)));
        row.map(|(rpc, ..)| *rpc)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What a role may do with it.
    pub fn access(self, role: CertRole) -> Access {
        let [store, pd, client, admin] = self.row().2;
        match role {
            CertRole::Store => store,
            CertRole::Pd => pd,
            CertRole::Client => client,
            CertRole::Admin => admin,
        }
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|(rpc, ..)| *rpc == self).expect("every call has a row")
    }
}

/// Whom the certificate of a call's caller names; None without TLS.
pub fn caller(call: &Extensions) -> Option<Principal> {
    call.get::<Place>().and_then(Place::principal)
}

/// Lets a caller make a call, which speaks for `claimed` if that is somebody's.
///
/// # Errors
/// The caller's role may not make it, or not in this name.
pub fn permit(
    caller: Option<Principal>,
    rpc: Rpc,
    claimed: Option<Principal>,
) -> Result<(), Status> {
    let Some(caller) = caller else { return Ok(()) };
    let refused = |what: String| Err(Status::permission_denied(what));
    match (rpc.access(caller.role), claimed) {
        (Access::Refused, _) => {
            refused(format!("a certificate of {caller} does not permit {}", rpc.name()))
        }
        (Access::ForItself, Some(claimed)) if !caller.speaks_for(claimed) => {
            refused(format!("a certificate of {caller} does not permit to speak for {claimed}"))
        }
        (Access::Granted | Access::ForItself, _) => Ok(()),
    }
}

/// Lets a caller make a request to the placement driver.
///
/// # Errors
/// As [`permit`].
pub fn permit_op(call: &Extensions, op: &Op) -> Result<(), Status> {
    let store = |id| Principal { role: CertRole::Store, id: Some(id).filter(|id| *id != 0) };
    let pd = |id| Principal { role: CertRole::Pd, id: Some(id) };
    let admin = Principal { role: CertRole::Admin, id: None };
    let claimed = match op {
        Op::RegisterStore(request) => Some(store(request.store_id)),
        Op::Heartbeat(heartbeat) => Some(store(heartbeat.store_id)),
        Op::ChangeMembers(change) => Some(match &change.kind {
            Some(Change::Add(member)) => pd(member.id),
            Some(Change::Remove(_) | Change::TransferLeader(_)) | None => admin,
        }),
        Op::ClusterStatus(_)
        | Op::AllocateIds(_)
        | Op::Regions(_)
        | Op::Stores(_)
        | Op::SetStoreState(_)
        | Op::AddOperator(_)
        | Op::Operators(_)
        | Op::CancelOperator(_)
        | Op::Explain(_)
        | Op::Members(_) => None,
    };
    permit(caller(call), Rpc::of_op(op), claimed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The calls of a service, and the ops of a request, as `proto/` has them.
    fn declared() -> BTreeSet<String> {
        let files = [
            ("Kv", include_str!("../../../proto/kv.proto")),
            ("Pd", include_str!("../../../proto/pd.proto")),
            ("Raft", include_str!("../../../proto/raft.proto")),
        ];
        let mut names = BTreeSet::new();
        for (service, text) in files {
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")) {
                let method = line.split('(').next().expect("a name");
                names.insert(format!("{service}.{method}"));
            }
        }
        let pd = files[1].1;
        let request = pd.split("message PdRequest {").nth(1).expect("the request");
        let ops = request.split("oneof op {").nth(1).and_then(|rest| rest.split('}').next());
        for line in ops.expect("its ops").lines().filter(|line| line.contains(" = ")) {
            names.insert(line.split_whitespace().nth(1).expect("a name").to_string());
        }
        names
    }

    #[test]
    fn every_call_of_the_protocol_has_one_row() {
        let rows: BTreeSet<String> = TABLE.iter().map(|(_, name, _)| name.to_string()).collect();
        assert_eq!(rows.len(), TABLE.len());
        assert_eq!(rows, declared());
        for (rpc, name, _) in TABLE {
            assert_eq!(rpc.name(), *name);
        }
        assert_eq!(Rpc::of_path("/flotilla.v1.Kv/Scan"), Some(Rpc::KvScan));
        assert_eq!(Rpc::of_path("/flotilla.v1.Kv/scan"), None);
        assert_eq!(Rpc::of_path("/flotilla.v1.Pd/heartbeat"), None, "an op is no path");
    }

    #[test]
    fn every_cell_is_as_the_roles_are_meant() {
        // Raft, snapshots and heartbeats: stores and members. Changes: admins. The rest: everybody.
        let servers = ["Raft.Messages", "Raft.Snapshot"];
        let stores = ["register_store", "heartbeat", "allocate_ids"];
        let admins = ["set_store_state", "add_operator", "cancel_operator", "change_members"];
        for (rpc, name, _) in TABLE {
            let may = CertRole::ALL.map(|role| rpc.access(role) != Access::Refused);
            let meant = match *name {
                "change_members" => [false, true, false, true],
                _ if servers.contains(name) => [true, true, false, false],
                _ if stores.contains(name) => [true, false, false, false],
                _ if admins.contains(name) => [false, false, false, true],
                _ => [true; 4],
            };
            assert_eq!(may, meant, "{name}");
        }
    }

    #[test]
    fn whoever_speaks_for_another_is_refused_and_without_tls_nobody_is_known() {
        let store = |id| Principal { role: CertRole::Store, id: Some(id) };
        let beat = |caller| permit(caller, Rpc::PdHeartbeat, Some(store(2)));
        assert!(beat(Some(store(2))).is_ok() && beat(None).is_ok());
        let refused = beat(Some(store(1))).expect_err("it is store 1");
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let words = "a certificate of store 1 does not permit to speak for store 2";
        assert_eq!(refused.message(), words);
        let client = Principal { role: CertRole::Client, id: None };
        let refused = permit(Some(client), Rpc::PdAddOperator, None).expect_err("a client");
        assert_eq!(refused.message(), "a certificate of a client does not permit add_operator");
    }

    #[test]
    fn a_member_adds_itself_and_nobody_else() {
        let change = |kind| Op::ChangeMembers(flotilla_types::proto::ChangeMembersRequest { kind });
        let member = |id| flotilla_types::proto::PdMember { id, ..Default::default() };
        let own = Principal { role: CertRole::Pd, id: Some(4) };
        let any = Principal { role: CertRole::Pd, id: None };
        let may = |by: Principal, kind| {
            let mut call = Extensions::new();
            let place = Place::identified(by);
            call.insert(place);
            permit_op(&call, &change(kind)).is_ok()
        };
        assert!(may(own, Some(Change::Add(member(4)))) && may(any, Some(Change::Add(member(4)))));
        assert!(!may(own, Some(Change::Add(member(5)))));
        assert!(!may(own, Some(Change::Remove(4))) && !may(any, Some(Change::Remove(4))));
        assert!(!may(own, None) && !may(any, None));
    }
}
