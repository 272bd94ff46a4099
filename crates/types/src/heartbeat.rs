//! What a store and the placement driver (PD) say to each other in a heartbeat.
//!
//! A store sends a [`StoreHeartbeat`]: its own figures, and a [`RegionReport`] for each region that
//! it leads and that has changed since the last heartbeat that PD acknowledged. PD answers with a
//! [`HeartbeatReply`]: the [`RegionCommand`]s that the store is to carry out.
//!
//! Both directions are level-triggered: a report says how a region is, a command says what should
//! change, and each is repeated until it is obsolete. A lost message needs no repair.
//!
//! Not here: the messages on the wire ([`crate::wire_heartbeat`] converts), who decides what to
//! command (PD's operators), and how a store carries a command out.

use bytes::Bytes;

use crate::id::{PeerId, RegionId, StoreId};
use crate::load::{Load, StoreLoad};
use crate::region::{Epoch, Member, Region};

/// Ids `start..start + count`, leased to one owner and never handed out to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdBlock {
    /// The first id of the block; never 0 in a block that PD has leased.
    pub start: u64,
    /// The number of ids in the block.
    pub count: u64,
}

/// Where a store listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreAddr {
    /// The store.
    pub store_id: StoreId,
    /// Its address, `host:port`.
    pub addr: String,
}

/// Which of a store's heartbeats one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatId {
    /// The store's process: another number each time that the store starts.
    pub process: u64,
    /// Rises with each heartbeat of the process.
    pub number: u64,
}

impl HeartbeatId {
    /// True if the same process has sent `other` after this one. Which of two processes came first
    /// is not known.
    pub fn is_before(&self, other: &HeartbeatId) -> bool {
        self.process == other.process && self.number < other.number
    }
}

/// What a store holds and does, without its regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes that the store's data takes on disk.
    pub used_bytes: u64,
    /// Bytes that the store's disk holds: what is free and what the store uses; 0 while unknown.
    pub capacity_bytes: u64,
    /// The number of peers on the store, leaders and followers.
    pub peer_count: u64,
    /// What clients have it do; None of a store of an earlier version, or that stops.
    pub load: Option<StoreLoad>,
}

/// What one store says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreHeartbeat {
    /// The store that sends the heartbeat.
    pub store_id: StoreId,
    /// Which of the store's heartbeats this is.
    pub id: HeartbeatId,
    /// True if `reports` names every region that the store leads, together with the next heartbeats
    /// as long as `rest_follows`. Otherwise `reports` holds only the regions that changed since the
    /// last acknowledged heartbeat.
    pub is_full: bool,
    /// True if reports had no room in this heartbeat: the next ones have them.
    pub rest_follows: bool,
    /// Of a full heartbeat: the PD term of the leader that asked for it; 0 if none asked. Any other
    /// PD leader treats the heartbeat as one that is not full, for it may have been sent long ago.
    pub asked_in_term: u64,
    /// Regions that this store leads, at most one report for each.
    pub reports: Vec<RegionReport>,
    /// How many reports the receiver could not read; a sender leaves it 0.
    pub unreadable_reports: u64,
    /// Peers on this store that ask whether they were removed.
    pub leaderless: Vec<LeaderlessPeer>,
    /// Peers that a member of their region lately wrote to and that never live on this store again,
    /// because the store has a durable tombstone for them.
    pub tombstoned: Vec<TombstonedPeer>,
    /// What the store holds and does, without its regions.
    pub usage: StoreUsage,
    /// Ids left in the store's id block; PD leases another block when they run low.
    pub ids_left: u64,
    /// Of a full heartbeat: the highest id that the store knows, of a region, a peer, a tombstone
    /// or its id block. 0 in others. PD hands out no id up to it.
    pub highest_id: u64,
    /// True of the process's last heartbeat: the store stops in good order. It names no regions.
    pub is_stopping: bool,
}

/// A region as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionReport {
    /// The region's range, epoch and members, as applied on the leader.
    pub region: Region,
    /// The leader, which is a member on the store that sends the report. None only from a sender
    /// that does not know itself as a member; PD ignores such a report.
    pub leader: Option<Member>,
    /// The Raft term in which it leads.
    pub term: u64,
    /// Bytes of keys and values, roughly.
    pub approximate_bytes: u64,
    /// Number of keys, roughly.
    pub approximate_keys: u64,
    /// What clients have the region do, per second, over some seconds; coarse.
    pub load: Load,
    /// Members that lack so much of the log that they can be neither promoted nor made the leader.
    pub lagging: Vec<PeerId>,
    /// Members that have not answered the leader for some seconds.
    pub unreachable: Vec<PeerId>,
}

/// A peer that asks whether it was removed from its region: it has had no leader for long, or is a
/// quiescent follower whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderlessPeer {
    /// The region.
    pub region_id: RegionId,
    /// The peer.
    pub peer_id: PeerId,
    /// The epoch that the peer has applied; the default epoch while it waits for its first
    /// snapshot.
    pub epoch: Epoch,
}

/// A peer that a store holds no more and never will, although a member of the region writes to it.
/// Only its own store can say so of a peer; to a leader, a lost peer and one behind a broken link
/// look alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TombstonedPeer {
    /// The region.
    pub region_id: RegionId,
    /// The peer.
    pub peer_id: PeerId,
}

/// What PD answers to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatReply {
    /// To be carried out, in no particular order.
    pub commands: Vec<RegionCommand>,
    /// A new id block that replaces the store's; None if the store keeps the block that it has.
    pub ids: Option<IdBlock>,
    /// True if this PD leader has had no full heartbeat from the store yet: the next one must be
    /// full, with `term` as its [`StoreHeartbeat::asked_in_term`].
    pub needs_full: bool,
    /// Milliseconds until the store's next heartbeat; 0 leaves the interval to the store.
    pub next_heartbeat_ms: u64,
    /// Where all stores in service listen; empty if PD says nothing about them.
    pub stores: Vec<StoreAddr>,
    /// The term in which this PD leader leads.
    pub term: u64,
    /// The cluster's first region, while no heartbeat has reported it and the store is to hold a
    /// peer of it.
    pub first_region: Option<Region>,
    /// What the cluster waits for before it has a region; empty if for nothing.
    pub awaited: String,
}

/// One step that a region is to take. The store drops a command whose epoch is not the region's,
/// except [`Step::DestroyPeer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionCommand {
    /// The region.
    pub region_id: RegionId,
    /// The epoch of the region that PD decided on.
    pub epoch: Epoch,
    /// What to do.
    pub step: Step,
}

/// What a [`RegionCommand`] asks for. All but [`Step::DestroyPeer`] are for the region's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the member as a learner.
    AddLearner(Member),
    /// Make the learner a voter.
    Promote(PeerId),
    /// Remove the member. A voter is made a learner first; PD repeats the command until the member
    /// is gone.
    RemovePeer(PeerId),
    /// In one joint change, make a learner a voter and a voter a learner.
    ReplaceVoter {
        /// The learner that becomes a voter.
        added: PeerId,
        /// The voter that becomes a learner.
        removed: PeerId,
    },
    /// Make the member the leader.
    TransferLeader(PeerId),
    /// Split the region at this stored key; an empty key leaves the choice to the store, which
    /// takes the middle.
    Split(Bytes),
    /// Delete the peer, which is proven to be no member any more. PD's answer to a
    /// [`LeaderlessPeer`].
    DestroyPeer(PeerId),
}
