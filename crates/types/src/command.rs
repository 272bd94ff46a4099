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
    /// Many clients' writes, each with its own reply, applied in order.
    Write {
        /// The region's `epoch.version` when the entry was proposed; checked again at apply.
        version: u64,
        /// The writes.
        ops: Vec<WriteOp>,
    },
    /// Cut the region in two at `split_key`; the right part becomes a new region.
    Split {
        /// The region's epoch when the entry was proposed; checked again at apply.
        epoch: Epoch,
        /// The first key of the right part.
        split_key: Bytes,
        /// The right part's region id.
        new_region_id: RegionId,
        /// The right part's peer ids, in the order of the region's peers.
        new_peer_ids: Vec<PeerId>,
    },
    /// Change the members. More than one change makes the Raft group go through a joint
    /// configuration.
    ChangePeers {
        /// The region's epoch when the entry was proposed; checked again at apply.
        epoch: Epoch,
        /// What changes.
        changes: Vec<PeerChange>,
    },
}

/// One change of a region's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Add a member that receives the log and does not vote.
    AddLearner(Member),
    /// Add a voter, or make a learner one.
    AddVoter(Member),
    /// Remove a member.
    Remove(Member),
}

impl PeerChange {
    /// The peer that is added, promoted or removed.
    pub fn member(&self) -> Member {
        match self {
            PeerChange::AddLearner(peer)
            | PeerChange::AddVoter(peer)
            | PeerChange::Remove(peer) => *peer,
        }
    }
}
