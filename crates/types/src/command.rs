//! The payload of a region's log entry.
//!
//! Encoded by prost with a format number in front; a store refuses a number it does not know
//! instead of guessing, for two peers that guess differently diverge.

use bytes::Bytes;
use prost::Message;

use crate::id::{PeerId, RegionId};
use crate::proto;
use crate::region::{Epoch, Member};
use crate::wire::WireError;

/// The only command format yet.
const FORMAT: u32 = 1;

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

/// One client's write within [`Command::Write`].
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOp {
    /// Mutations that take effect at one moment, in order.
    Write(proto::Write),
    /// Sets a key if its value is the expected one.
    CompareAndSwap(proto::CompareAndSwap),
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

impl Command {
    /// The entry's payload.
    pub fn encode(&self) -> Bytes {
        let kind = match self {
            Command::Write { version, ops } => proto::command::Kind::Write(proto::WriteCommand {
                version: *version,
                ops: ops.iter().cloned().map(proto::WriteOp::from).collect(),
            }),
            Command::Split { epoch, split_key, new_region_id, new_peer_ids } => {
                proto::command::Kind::Split(proto::SplitCommand {
                    epoch: Some((*epoch).into()),
                    split_key: split_key.clone(),
                    new_region_id: new_region_id.0,
                    new_peer_ids: new_peer_ids.iter().map(|id| id.0).collect(),
                })
            }
            Command::ChangePeers { epoch, changes } => {
                proto::command::Kind::ChangePeers(proto::ChangePeersCommand {
                    epoch: Some((*epoch).into()),
                    changes: changes.iter().map(|change| (*change).into()).collect(),
                })
            }
        };
        proto::Command { format: FORMAT, kind: Some(kind) }.encode_to_vec().into()
    }

    /// Reads a payload. An error means a damaged log or a newer format: the caller must stop, for
    /// skipping an entry makes this peer differ from the others.
    pub fn decode(payload: Bytes) -> Result<Command, WireError> {
        let command = proto::Command::decode(payload)?;
        if command.format != FORMAT {
            return Err(WireError::Format { format: command.format });
        }
        match command.kind.ok_or(WireError::Missing("command.kind"))? {
            proto::command::Kind::Write(write) => Ok(Command::Write {
                version: write.version,
                ops: write.ops.into_iter().map(WriteOp::try_from).collect::<Result<_, _>>()?,
            }),
            proto::command::Kind::Split(split) => Ok(Command::Split {
                epoch: split.epoch.unwrap_or_default().into(),
                split_key: split.split_key,
                new_region_id: RegionId(split.new_region_id),
                new_peer_ids: split.new_peer_ids.into_iter().map(PeerId).collect(),
            }),
            proto::command::Kind::ChangePeers(change) => Ok(Command::ChangePeers {
                epoch: change.epoch.unwrap_or_default().into(),
                changes: change
                    .changes
                    .into_iter()
                    .map(PeerChange::try_from)
                    .collect::<Result<_, _>>()?,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StoreId;

    #[test]
    fn commands_survive_the_round_trip() {
        let pair = proto::Pair { key: "k".into(), value: "v".into() };
        let mutation = proto::Mutation { kind: Some(proto::mutation::Kind::Put(pair)) };
        let peer = Member::learner(PeerId(8), StoreId(2));
        for command in [
            Command::Write {
                version: 3,
                ops: vec![WriteOp::Write(proto::Write { mutations: vec![mutation] })],
            },
            Command::Split {
                epoch: Epoch::FIRST,
                split_key: "m".into(),
                new_region_id: RegionId(9),
                new_peer_ids: vec![PeerId(10), PeerId(11)],
            },
            Command::ChangePeers {
                epoch: Epoch { conf_ver: 4, version: 2 },
                changes: vec![PeerChange::AddLearner(peer), PeerChange::Remove(peer)],
            },
        ] {
            assert_eq!(Command::decode(command.encode()), Ok(command));
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let newer = proto::Command { format: 2, kind: None }.encode_to_vec();
        assert_eq!(Command::decode(newer.into()), Err(WireError::Format { format: 2 }));
        assert!(Command::decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }
}
