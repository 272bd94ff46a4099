//! Regions, their members and their ranges, and changes of members.

use super::WireError;
use crate::command::PeerChange;
use crate::id::{PeerId, RegionId, StoreId};
use crate::proto;
use crate::region::{Epoch, KeyRange, Member, MemberRole, Region};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_its_meaning_is_refused() {
        assert!(Region::try_from(proto::Region::default()).is_err());
        assert!(PeerChange::try_from(proto::PeerChange::default()).is_err());
    }
}
