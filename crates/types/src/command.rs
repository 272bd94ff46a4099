//! The payload of a region's log entry.
//!
//! [`crate::wire`] encodes and decodes it (`Command::encode`, `Command::decode`).
//!
//! Invariant: applying a command is deterministic, so that peers that applied the same entries hold
//! the same state.

use bytes::Bytes;

use crate::id::{PeerId, RegionId};
use crate::region::{Epoch, Member};
use crate::request::WriteOp;

/// What a region's log entry asks of every peer. Applying it is deterministic.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Applies many clients' writes in order. Each write has a reply of its own.
    Write {
        /// The region's `epoch.version` when the entry was proposed; checked again at apply.
        version: u64,
        /// The writes.
        ops: Vec<WriteOp>,
    },
    /// Cuts the region in two at `split_key`. The right part becomes a new region.
    Split {
        /// The region's epoch when the entry was proposed; checked again at apply.
        epoch: Epoch,
        /// The first key of the right part.
        split_key: Bytes,
        /// The right part's region id.
        new_region_id: RegionId,
        /// The ids of the right part's members, in the order of the region's members.
        new_peer_ids: Vec<PeerId>,
    },
    /// Changes the members. The Raft group goes through a joint configuration if there is more than
    /// one change.
    ChangePeers {
        /// The region's epoch when the entry was proposed; checked again at apply.
        epoch: Epoch,
        /// The changes; each names another member.
        changes: Vec<PeerChange>,
    },
}

/// One change of a region's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Adds a learner: a member that receives the log and does not vote.
    AddLearner(Member),
    /// Adds a voter, or makes a learner a voter.
    AddVoter(Member),
    /// Removes a member.
    Remove(Member),
}

impl PeerChange {
    /// The member that is added, promoted or removed.
    pub fn member(&self) -> Member {
        match self {
            PeerChange::AddLearner(member)
            | PeerChange::AddVoter(member)
            | PeerChange::Remove(member) => *member,
        }
    }
}
