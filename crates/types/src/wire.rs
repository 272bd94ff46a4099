//! Conversions between the generated messages of [`crate::proto`] and the domain types.
//!
//! Into the wire always works. From the wire may fail, for the bytes came from outside: a missing
//! field is an error here and nowhere else.

use crate::command::{PeerChange, WriteOp};
use crate::error::RegionError;
use crate::id::{PeerId, RegionId, StoreId};
use crate::proto::{self, region_error::Kind};
use crate::region::{Epoch, KeyRange, Member, MemberRole, Region};

/// Bytes from outside that are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not decodable.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A field without which the message means nothing.
    #[error("message without {0}")]
    Missing(&'static str),
    /// Written by a newer version.
    #[error("unknown format {format}; a newer version wrote this")]
    Format {
        /// The format number found.
        format: u32,
    },
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> WireError {
        WireError::Malformed(error.to_string())
    }
}

impl From<Epoch> for proto::Epoch {
    fn from(epoch: Epoch) -> proto::Epoch {
        proto::Epoch { conf_ver: epoch.conf_ver, version: epoch.version }
    }
}

impl From<proto::Epoch> for Epoch {
    fn from(epoch: proto::Epoch) -> Epoch {
        Epoch { conf_ver: epoch.conf_ver, version: epoch.version }
    }
}

impl From<MemberRole> for proto::MemberRole {
    fn from(role: MemberRole) -> proto::MemberRole {
        match role {
            MemberRole::Voter => proto::MemberRole::Voter,
            MemberRole::Learner => proto::MemberRole::Learner,
            MemberRole::IncomingVoter => proto::MemberRole::IncomingVoter,
            MemberRole::DemotingVoter => proto::MemberRole::DemotingVoter,
        }
    }
}

impl From<proto::MemberRole> for MemberRole {
    fn from(role: proto::MemberRole) -> MemberRole {
        match role {
            proto::MemberRole::Voter => MemberRole::Voter,
            proto::MemberRole::Learner => MemberRole::Learner,
            proto::MemberRole::IncomingVoter => MemberRole::IncomingVoter,
            proto::MemberRole::DemotingVoter => MemberRole::DemotingVoter,
        }
    }
}

impl From<Member> for proto::Member {
    fn from(peer: Member) -> proto::Member {
        proto::Member {
            id: peer.id.0,
            store_id: peer.store_id.0,
            role: proto::MemberRole::from(peer.role).into(),
        }
    }
}

impl From<proto::Member> for Member {
    fn from(peer: proto::Member) -> Member {
        Member { id: PeerId(peer.id), store_id: StoreId(peer.store_id), role: peer.role().into() }
    }
}

impl From<Region> for proto::Region {
    fn from(region: Region) -> proto::Region {
        proto::Region {
            id: region.id.0,
            start_key: region.range.start,
            end_key: region.range.end,
            epoch: Some(region.epoch.into()),
            members: region.members.into_iter().map(proto::Member::from).collect(),
        }
    }
}

impl TryFrom<proto::Region> for Region {
    type Error = WireError;

    fn try_from(region: proto::Region) -> Result<Region, WireError> {
        if region.id == 0 {
            return Err(WireError::Missing("region.id"));
        }
        Ok(Region {
            id: RegionId(region.id),
            range: KeyRange::new(region.start_key, region.end_key),
            epoch: region.epoch.ok_or(WireError::Missing("region.epoch"))?.into(),
            members: region.members.into_iter().map(Member::from).collect(),
        })
    }
}

impl From<KeyRange> for proto::KeySpan {
    fn from(range: KeyRange) -> proto::KeySpan {
        proto::KeySpan { start: range.start, end: range.end }
    }
}

impl From<proto::KeySpan> for KeyRange {
    fn from(span: proto::KeySpan) -> KeyRange {
        KeyRange { start: span.start, end: span.end }
    }
}

impl From<WriteOp> for proto::WriteOp {
    fn from(op: WriteOp) -> proto::WriteOp {
        let op = match op {
            WriteOp::Write(write) => proto::write_op::Op::Write(write),
            WriteOp::CompareAndSwap(cas) => proto::write_op::Op::CompareAndSwap(cas),
        };
        proto::WriteOp { op: Some(op) }
    }
}

impl TryFrom<proto::WriteOp> for WriteOp {
    type Error = WireError;

    fn try_from(op: proto::WriteOp) -> Result<WriteOp, WireError> {
        Ok(match op.op.ok_or(WireError::Missing("write_op.op"))? {
            proto::write_op::Op::Write(write) => WriteOp::Write(write),
            proto::write_op::Op::CompareAndSwap(cas) => WriteOp::CompareAndSwap(cas),
        })
    }
}

impl From<PeerChange> for proto::PeerChange {
    fn from(change: PeerChange) -> proto::PeerChange {
        let kind = match change {
            PeerChange::AddLearner(_) => proto::PeerChangeKind::AddLearner,
            PeerChange::AddVoter(_) => proto::PeerChangeKind::AddVoter,
            PeerChange::Remove(_) => proto::PeerChangeKind::RemovePeer,
        };
        proto::PeerChange { kind: kind.into(), peer: Some(change.member().into()) }
    }
}

impl TryFrom<proto::PeerChange> for PeerChange {
    type Error = WireError;

    fn try_from(change: proto::PeerChange) -> Result<PeerChange, WireError> {
        let peer = change.peer.ok_or(WireError::Missing("peer_change.peer"))?.into();
        Ok(match change.kind() {
            proto::PeerChangeKind::AddLearner => PeerChange::AddLearner(peer),
            proto::PeerChangeKind::AddVoter => PeerChange::AddVoter(peer),
            proto::PeerChangeKind::RemovePeer => PeerChange::Remove(peer),
        })
    }
}

impl From<RegionError> for proto::RegionError {
    fn from(error: RegionError) -> proto::RegionError {
        let kind = match error {
            RegionError::NotLeader { region_id, leader } => Kind::NotLeader(proto::NotLeader {
                region_id: region_id.0,
                leader: leader.map(proto::Member::from),
            }),
            RegionError::EpochNotMatch { current } => Kind::EpochNotMatch(proto::EpochNotMatch {
                current: current.into_iter().map(proto::Region::from).collect(),
            }),
            RegionError::KeyNotInRegion { key, region } => {
                Kind::KeyNotInRegion(proto::KeyNotInRegion { key, region: Some((*region).into()) })
            }
            RegionError::RegionNotFound { region_id } => {
                Kind::RegionNotFound(proto::RegionNotFound { region_id: region_id.0 })
            }
            RegionError::WrongDestination { cluster_id, store_id } => {
                Kind::WrongDestination(proto::WrongDestination { cluster_id, store_id: store_id.0 })
            }
            RegionError::ServerBusy { reason, retry_after_ms } => {
                Kind::ServerBusy(proto::ServerBusy { reason, retry_after_ms })
            }
            RegionError::LimitExceeded { limit, max, actual } => {
                Kind::LimitExceeded(proto::LimitExceeded { limit, max, actual })
            }
            RegionError::Undetermined { region_id } => {
                Kind::Undetermined(proto::Undetermined { region_id: region_id.0 })
            }
        };
        proto::RegionError { kind: Some(kind) }
    }
}

impl TryFrom<proto::RegionError> for RegionError {
    type Error = WireError;

    fn try_from(error: proto::RegionError) -> Result<RegionError, WireError> {
        Ok(match error.kind.ok_or(WireError::Missing("region_error.kind"))? {
            Kind::NotLeader(e) => RegionError::NotLeader {
                region_id: RegionId(e.region_id),
                leader: e.leader.map(Member::from),
            },
            Kind::EpochNotMatch(e) => RegionError::EpochNotMatch {
                current: e.current.into_iter().map(Region::try_from).collect::<Result<_, _>>()?,
            },
            Kind::KeyNotInRegion(e) => {
                let region = e.region.ok_or(WireError::Missing("key_not_in_region.region"))?;
                let region = Box::new(region.try_into()?);
                RegionError::KeyNotInRegion { key: e.key, region }
            }
            Kind::RegionNotFound(e) => {
                RegionError::RegionNotFound { region_id: RegionId(e.region_id) }
            }
            Kind::WrongDestination(e) => RegionError::WrongDestination {
                cluster_id: e.cluster_id,
                store_id: StoreId(e.store_id),
            },
            Kind::ServerBusy(e) => {
                RegionError::ServerBusy { reason: e.reason, retry_after_ms: e.retry_after_ms }
            }
            Kind::LimitExceeded(e) => {
                RegionError::LimitExceeded { limit: e.limit, max: e.max, actual: e.actual }
            }
            Kind::Undetermined(e) => RegionError::Undetermined { region_id: RegionId(e.region_id) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_errors_survive_the_round_trip() {
        let peer = Member { id: PeerId(4), store_id: StoreId(2), role: MemberRole::IncomingVoter };
        let region = Region {
            id: RegionId(9),
            range: KeyRange::new("a", ""),
            epoch: Epoch { conf_ver: 3, version: 7 },
            members: vec![peer],
        };
        for error in [
            RegionError::NotLeader { region_id: RegionId(1), leader: Some(peer) },
            RegionError::NotLeader { region_id: RegionId(1), leader: None },
            RegionError::EpochNotMatch { current: vec![region.clone()] },
            RegionError::KeyNotInRegion { key: "k".into(), region: Box::new(region) },
            RegionError::RegionNotFound { region_id: RegionId(1) },
            RegionError::WrongDestination { cluster_id: 8, store_id: StoreId(3) },
            RegionError::ServerBusy { reason: "inbox".into(), retry_after_ms: 20 },
            RegionError::LimitExceeded { limit: "key bytes".into(), max: 1, actual: 2 },
            RegionError::Undetermined { region_id: RegionId(1) },
        ] {
            let wire = proto::RegionError::from(error.clone());
            assert_eq!(RegionError::try_from(wire), Ok(error));
        }
    }

    #[test]
    fn a_message_without_its_meaning_is_refused() {
        assert!(RegionError::try_from(proto::RegionError::default()).is_err());
        assert!(Region::try_from(proto::Region::default()).is_err());
        assert!(PeerChange::try_from(proto::PeerChange::default()).is_err());
    }
}
