//! [`Command`], the payload of a region's log entry.
//!
//! The payload is encoded by prost, with a format number in front. A store refuses a number that it
//! does not know instead of guessing, for two peers that guess differently diverge.

use bytes::Bytes;
use prost::Message;

use super::WireError;
use crate::command::{Command, PeerChange};
use crate::id::{PeerId, RegionId};
use crate::proto;
use crate::request::WriteOp;

/// The only command format yet.
const FORMAT: u32 = 1;

impl Command {
    /// The entry's payload.
    pub fn encode(self) -> Bytes {
        let kind = match self {
            Command::Write { version, ops } => proto::command::Kind::Write(proto::WriteCommand {
                version,
                ops: ops.into_iter().map(proto::WriteOp::from).collect(),
            }),
            Command::Split { epoch, split_key, new_region_id, new_peer_ids } => {
                proto::command::Kind::Split(proto::SplitCommand {
                    epoch: Some(epoch.into()),
                    split_key,
                    new_region_id: new_region_id.0,
                    new_peer_ids: new_peer_ids.iter().map(|id| id.0).collect(),
                })
            }
            Command::ChangePeers { epoch, changes } => {
                proto::command::Kind::ChangePeers(proto::ChangePeersCommand {
                    epoch: Some(epoch.into()),
                    changes: changes.into_iter().map(proto::PeerChange::from).collect(),
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
    use crate::region::{Epoch, Member};
    use crate::request::Mutation;

    #[test]
    fn commands_survive_the_round_trip() {
        let put = Mutation::Put { key: "k".into(), value: "v".into() };
        let peer = Member::learner(PeerId(8), StoreId(2));
        for command in [
            Command::Write { version: 3, ops: vec![WriteOp::Mutate(vec![put])] },
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
            assert_eq!(Command::decode(command.clone().encode()), Ok(command));
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let newer = proto::Command { format: 2, kind: None }.encode_to_vec();
        assert_eq!(Command::decode(newer.into()), Err(WireError::Format { format: 2 }));
        assert!(Command::decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }
}
