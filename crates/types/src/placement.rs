//! What the placement driver (PD) is asked, and what it answers.
//!
//! A [`PdRequest`] is a [`PdOp`] for one cluster; the answer is a [`PdReply`] or a [`PdError`].
//! Heartbeats have a module of their own, [`crate::heartbeat`].
//!
//! Not here: the messages on the wire ([`crate::wire_pd`] converts), and who may ask for what.

use std::collections::BTreeMap;

use bytes::Bytes;

pub use crate::explain::OperatorStatus;
use crate::explain::{Explanation, Question};
use crate::heartbeat::{HeartbeatReply, IdBlock, StoreAddr, StoreHeartbeat};
use crate::id::{RegionId, StoreId};
use crate::load::{Load, StoreLoad};
use crate::region::{Member, Region};

/// A request to PD.
#[derive(Clone, Debug, PartialEq)]
pub struct PdRequest {
    /// The cluster that the caller belongs to; 0 if the caller does not know it yet.
    pub cluster_id: u64,
    /// What it asks for.
    pub op: PdOp,
}

/// What PD can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum PdOp {
    /// The cluster's id, PD's members, and counts. Answered by [`PdReply::ClusterStatus`].
    ClusterStatus,
    /// Registers a store at its start. Answered by [`PdReply::RegisterStore`].
    RegisterStore(RegisterStore),
    /// Delivers a store's heartbeat. Answered by [`PdReply::Heartbeat`].
    Heartbeat(Box<StoreHeartbeat>),
    /// Leases ids. Answered by [`PdReply::Ids`].
    AllocateIds {
        /// How many; from 1 to PD's limit.
        count: u64,
    },
    /// A page of the range map. Answered by [`PdReply::Regions`].
    Regions {
        /// The page begins with the region that holds this stored key.
        start_key: Bytes,
        /// The most regions in the page; 0 for as many as a reply holds.
        limit: u64,
    },
    /// All stores. Answered by [`PdReply::Stores`].
    Stores,
    /// Takes a store into service, drains it or removes it. Answered by [`PdReply::SetStoreState`].
    SetStoreState {
        /// The store.
        store_id: StoreId,
        /// Up, draining or removed; PD refuses the other states, which it only observes.
        state: StoreState,
        /// Whoever removes the store says that it never runs again, though it may hold peers.
        is_lost: bool,
    },
    /// Starts an operator on a region. Answered by [`PdReply::AddOperator`].
    AddOperator {
        /// The region.
        region_id: RegionId,
        /// What to do with the region.
        kind: OperatorRequest,
    },
    /// The operators under way. Answered by [`PdReply::Operators`].
    Operators,
    /// Cancels an operator. Answered by [`PdReply::CancelOperator`].
    CancelOperator {
        /// The operator's id.
        operator_id: u64,
    },
    /// PD's members. Answered by [`PdReply::Members`].
    Members,
    /// Changes PD's members. Answered by [`PdReply::Members`], as they are then.
    ChangeMembers(MembersChange),
    /// What PD thinks of something. Answered by [`PdReply::Explained`].
    Explain(Question),
}

/// One change of PD's own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersChange {
    /// Adds a member, which votes once it has caught up. Its process is told to join.
    Add {
        /// Its id; never that of a member that was removed.
        id: u64,
        /// Where it listens, `host:port`.
        addr: String,
    },
    /// Removes a member for ever.
    Remove(u64),
    /// Makes a member the leader.
    TransferLeader(u64),
}

/// A store that begins to serve, or serves again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterStore {
    /// The store's id; 0 for a new store, which is given one.
    pub store_id: StoreId,
    /// Where the store listens, `host:port`.
    pub addr: String,
    /// Where the store stands, such as `zone=a`.
    pub labels: BTreeMap<String, String>,
}

/// What an administrator may ask PD to do with a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Add a peer on this store.
    AddPeer(StoreId),
    /// Remove the peer on this store.
    RemovePeer(StoreId),
    /// Make the peer on this store the leader.
    TransferLeader(StoreId),
    /// Split the region at this stored key; an empty key leaves the choice to the store.
    Split(Bytes),
    /// Move a peer from one store to another.
    MovePeer {
        /// The store that has the peer.
        from: StoreId,
        /// The store that is to have it.
        to: StoreId,
    },
}

/// The state of a store: what PD observes, or what an administrator decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// In service.
    #[default]
    Up,
    /// Observed: no heartbeat for some seconds.
    Disconnected,
    /// Observed: no heartbeat for so long that the store's peers are replaced.
    Down,
    /// Decided, and the store lives: its peers are being moved away.
    Draining,
    /// Decided: refused for ever.
    Removed,
    /// Observed: no heartbeat since this PD member leads, and not for long enough to be down.
    Unknown,
    /// Observed: the store has said that it stops, and was not heard since.
    Stopped,
}

/// What PD answers.
#[derive(Clone, Debug, PartialEq)]
pub enum PdReply {
    /// Answers [`PdOp::ClusterStatus`].
    ClusterStatus(ClusterStatus),
    /// Answers [`PdOp::RegisterStore`].
    RegisterStore(Registration),
    /// Answers [`PdOp::Heartbeat`].
    Heartbeat(HeartbeatReply),
    /// Answers [`PdOp::AllocateIds`].
    Ids(IdBlock),
    /// Answers [`PdOp::Regions`].
    Regions(RegionsPage),
    /// Answers [`PdOp::Stores`]; by store id.
    Stores(Vec<StoreStatus>),
    /// Answers [`PdOp::SetStoreState`]: the state is committed.
    SetStoreState,
    /// Answers [`PdOp::AddOperator`]: the operator is under way.
    AddOperator {
        /// The operator's id.
        operator_id: u64,
    },
    /// Answers [`PdOp::Operators`]; by region id.
    Operators(Vec<OperatorStatus>),
    /// Answers [`PdOp::CancelOperator`]: the operator is no longer under way.
    CancelOperator,
    /// Answers [`PdOp::Members`] and [`PdOp::ChangeMembers`].
    Members(PdMembers),
    /// Answers [`PdOp::Explain`].
    Explained(Explanation),
}

/// PD's own group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PdMembers {
    /// Names the group; not the cluster's id.
    pub group_id: u64,
    /// By id.
    pub members: Vec<PdMember>,
    /// Ids that are refused for ever.
    pub removed: Vec<u64>,
}

/// Why PD did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PdError {
    /// Another PD member leads: ask that one.
    #[error("this placement driver does not lead; the leader is at '{leader_addr}'")]
    NotLeader {
        /// The leader's address, `host:port`; empty if this member does not know it.
        leader_addr: String,
    },
    /// The request is for another cluster: the caller has PD's wrong address.
    #[error("the placement driver belongs to cluster {cluster_id}")]
    ClusterMismatch {
        /// The cluster that PD belongs to.
        cluster_id: u64,
    },
    /// The request cannot be carried out; asking again does not help.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The named store, region or operator does not exist.
    #[error("there is no {what}")]
    NotFound {
        /// What is missing, such as "store 7".
        what: String,
    },
    /// PD cannot do it at the moment: ask again.
    #[error("{reason}")]
    Busy {
        /// Why, for people.
        reason: String,
    },
    /// A request of a kind that this version of PD does not know; nothing was done.
    #[error("this version of the placement driver does not know {what}")]
    Unsupported {
        /// What is not known, such as "the request's operation".
        what: String,
    },
}

/// The cluster at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster_id: u64,
    /// PD's members.
    pub members: Vec<PdMember>,
    /// Stores that were not removed.
    pub store_count: u64,
    /// Regions that were reported.
    pub region_count: u64,
    /// Regions that a reason is about.
    pub unhealthy_region_count: u64,
    /// Voters that every region should have.
    pub replica_count: u64,
    /// What the cluster waits for before it has a region; empty if for nothing.
    pub awaited: String,
    /// Why the cluster is not healthy, the worst first; empty if it is. A bounded number.
    pub reasons: Vec<HealthReason>,
}

/// What some regions lack, all of them the same because of the same stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReason {
    /// What they lack.
    pub kind: HealthKind,
    /// Some of the regions, in key order.
    pub regions: Vec<RegionId>,
    /// The number of all of them; 0 if it is about none.
    pub region_count: u64,
    /// The stores because of which they lack it, by id; empty if because of none.
    pub stores: Vec<StoreId>,
    /// For people; names the stores.
    pub what: String,
}

/// What a region, or the cluster, lacks. The worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthKind {
    /// The cluster has no region yet.
    Beginning,
    /// No leader, or none that was heard lately or has a majority.
    #[default]
    Unavailable,
    /// PD has just begun to lead, and was not told yet.
    Unknown,
    /// Too few voters, or one on a store that is silent or has lost it.
    UnderReplicated,
    /// A change of members is under way.
    Changing,
    /// A voter lacks a part of the log, or its leader does not hear it.
    Lagging,
    /// A member of PD is silent.
    PdMemberDown,
}

/// A member of PD's own Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PdMember {
    /// The member's id.
    pub id: u64,
    /// Where it listens, `host:port`.
    pub addr: String,
    /// True if it leads.
    pub is_leader: bool,
    /// True while it catches up, and does not vote.
    pub is_learner: bool,
    /// True if the leader has not heard it for an election timeout.
    pub is_silent: bool,
}

/// What a registered store needs to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The store's id.
    pub store_id: StoreId,
    /// Ids for the store's splits.
    pub ids: IdBlock,
}

/// A page of the range map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionsPage {
    /// In key order.
    pub routes: Vec<RegionRoute>,
    /// Where all stores in service listen, by store id.
    pub stores: Vec<StoreAddr>,
}

/// A region, and what its leader last reported of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionRoute {
    /// The region as committed in the range map.
    pub region: Region,
    /// Its leader; None while PD knows none.
    pub leader: Option<Member>,
    /// Bytes of keys and values, roughly; 0 without a report.
    pub approximate_bytes: u64,
    /// Number of keys, roughly; 0 without a report.
    pub approximate_keys: u64,
    /// What clients have it do, per second; coarse, and nothing without a report.
    pub load: Load,
}

/// A store, and what its last heartbeat said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store.
    pub store_id: StoreId,
    /// Where it listens, `host:port`.
    pub addr: String,
    /// Where it stands, such as `zone=a`.
    pub labels: BTreeMap<String, String>,
    /// What PD observes, or what an administrator decided.
    pub state: StoreState,
    /// True if its peers are being moved away, whatever is observed of it.
    pub is_draining: bool,
    /// Regions that have a peer on the store.
    pub region_count: u64,
    /// Regions that a peer on the store leads.
    pub leader_count: u64,
    /// Bytes that its data takes on disk; 0 without a heartbeat.
    pub used_bytes: u64,
    /// Bytes that its disk holds; 0 without a heartbeat.
    pub capacity_bytes: u64,
    /// What clients have it do; None if it has not told.
    pub load: Option<StoreLoad>,
    /// Milliseconds since its last heartbeat; None if it has sent none since this PD member leads.
    pub last_heartbeat_ms: Option<u64>,
}
