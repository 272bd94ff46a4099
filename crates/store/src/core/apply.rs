//! Commands to state changes: the same on every peer, for the same entries in the same order.
//!
//! Nothing here asks the clock, the role of the peer or what else the store holds. A refusal is a
//! result like any other: the epoch is checked against the region as of this entry, so that every
//! peer refuses alike. A local failure (the disk) is fatal, never a result.
//!
//! Changes gather in one [`StateBatch`] and reach the state store together. A compare-and-swap
//! reads its key, so what has gathered before it is written first; a checkpoint cannot fall
//! between, for it begins only at the end of a turn. How far the state goes is written when a
//! checkpoint begins ([`super::checkpoint`]): nothing less than a checkpoint is ever durable.

use bytes::Bytes;
use flotilla_engine::{StateBatch, StateStore};
use flotilla_group::{MemberChange, Membership};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{
    CompareAndSwap, Epoch, KeyRange, Member, MemberRole, Mutation, PeerChange, PeerId, Region,
    RegionError, RegionId, WriteOp,
};

use super::records::{self, data_key, data_range, decode_value, encode_value};
use super::{Answer, Fatal};

/// Applies entries of one region.
pub struct Applier<'a> {
    state: &'a StateStore,
    /// The region as of the last applied entry.
    pub region: Region,
    batch: StateBatch,
    /// Bytes of keys and values written; what the size estimate grows by.
    pub bytes_put: u64,
    /// Rows written.
    pub keys_put: u64,
}

/// What one write of an entry came to.
pub type WriteResult = Result<Answer, RegionError>;

impl<'a> Applier<'a> {
    /// Begins with the region as it is.
    pub fn new(state: &'a StateStore, region: Region) -> Applier<'a> {
        Applier { state, region, batch: StateBatch::default(), bytes_put: 0, keys_put: 0 }
    }

    /// Writes what has gathered.
    pub fn finish(self) -> Result<Region, Fatal> {
        if !self.batch.ops.is_empty() {
            self.state.write(self.batch)?;
        }
        Ok(self.region)
    }

    /// Writes the region's record as it is now.
    pub fn put_region(&mut self, peer: PeerId) {
        records::put_peer(&mut self.batch, peer, &self.region);
    }

    /// Applies the writes of one entry, in order; one result for each.
    pub fn write(&mut self, version: u64, ops: &[WriteOp]) -> Result<Vec<WriteResult>, Fatal> {
        ops.iter().map(|op| self.write_op(version, op)).collect()
    }

    fn write_op(&mut self, version: u64, op: &WriteOp) -> Result<WriteResult, Fatal> {
        if let Err(error) = self.check_version(version) {
            return Ok(Err(error));
        }
        if let Err(error) = op.check_keys(&self.region) {
            return Ok(Err(error));
        }
        match op {
            WriteOp::Mutate(mutations) => {
                mutations.iter().for_each(|mutation| self.mutate(mutation));
                Ok(Ok(Answer::Written))
            }
            WriteOp::CompareAndSwap(swap) => self.compare_and_swap(swap).map(Ok),
        }
    }

    fn check_version(&self, version: u64) -> Result<(), RegionError> {
        if planted(Mutant::EpochUnchecked) {
            return Ok(());
        }
        if version == self.region.epoch.version {
            return Ok(());
        }
        Err(self.epoch_not_match())
    }

    fn epoch_not_match(&self) -> RegionError {
        RegionError::EpochNotMatch { current: vec![self.region.clone()] }
    }

    fn mutate(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::Put { key, value } => self.put(key, value),
            Mutation::Delete { key } => self.batch.delete(data_key(key)),
            Mutation::DeleteRange(range) => self.batch.delete_range(data_range(range)),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes_put += (key.len() + value.len()) as u64;
        self.keys_put += 1;
        self.batch.put(data_key(key), encode_value(value));
    }

    fn compare_and_swap(&mut self, swap: &CompareAndSwap) -> Result<Answer, Fatal> {
        let CompareAndSwap { key, expected, new } = swap;
        if !planted(Mutant::SwapReadsPast) {
            self.state.write(std::mem::take(&mut self.batch))?;
        }
        let previous = self.state.get(&data_key(key))?.map(decode_value).transpose()?;
        let swapped = previous == *expected;
        if swapped {
            match new {
                Some(value) => self.put(key, value),
                None => self.batch.delete(data_key(key)),
            }
        }
        Ok(Answer::Swapped { swapped, previous })
    }

    /// Cuts the region; answers the right part. See [`super::split`].
    pub fn split(
        &mut self,
        epoch: Epoch,
        split_key: &Bytes,
        new_region_id: RegionId,
        new_peer_ids: &[PeerId],
    ) -> Result<Region, RegionError> {
        let region = &self.region;
        let fits = region.range.contains(split_key) && *split_key != region.range.start;
        if !self.is_split_current(epoch)
            || !fits
            || region.is_joint()
            || new_peer_ids.len() != region.members.len()
        {
            return Err(self.epoch_not_match());
        }
        self.raise_version();
        let region = &self.region;
        let peers = region.members.iter().zip(new_peer_ids);
        let right = Region {
            id: new_region_id,
            range: KeyRange { start: split_key.clone(), end: region.range.end.clone() },
            epoch: region.epoch,
            members: peers.map(|(peer, id)| Member { id: *id, ..*peer }).collect(),
        };
        self.cut_range(split_key);
        Ok(right)
    }

    /// True if a split that was planned for `epoch` was planned for the region as it is.
    fn is_split_current(&self, epoch: Epoch) -> bool {
        if planted(Mutant::SplitUnchecked) {
            return true;
        }
        epoch == self.region.epoch
    }

    /// A split changes the range: requests that were routed by the old one are refused from now on.
    fn raise_version(&mut self) {
        if planted(Mutant::SplitKeepsVersion) {
            return;
        }
        self.region.epoch.version += 1;
    }

    /// The region keeps the keys before `split_key`.
    fn cut_range(&mut self, split_key: &Bytes) {
        if planted(Mutant::SplitKeepsRange) {
            return;
        }
        self.region.range.end = split_key.clone();
    }

    /// Checks a membership change against the region as of this entry.
    pub fn check_change(&self, epoch: Epoch) -> Result<(), RegionError> {
        if planted(Mutant::ChangeUnchecked) {
            return Ok(());
        }
        if epoch == self.region.epoch {
            return Ok(());
        }
        Err(self.epoch_not_match())
    }

    /// Takes the new configuration over. `changes` names the peers that may be new to the region.
    pub fn change_members(&mut self, membership: &Membership, changes: &[PeerChange]) {
        let known = |id: u64| {
            let known = self.region.member(PeerId(id)).copied();
            let new = changes.iter().map(PeerChange::member).find(|peer| peer.id.0 == id);
            known.or(new)
        };
        self.region.members = roles(membership)
            .filter_map(|(id, role)| known(id).map(|peer| Member { role, ..peer }))
            .collect();
        self.raise_conf_ver();
    }

    /// The members changed: changes that were planned for the old ones are refused from now on.
    fn raise_conf_ver(&mut self) {
        if planted(Mutant::ChangeKeepsConfVer) {
            return;
        }
        self.region.epoch.conf_ver += 1;
    }
}

/// Every member with its role, by peer id.
fn roles(membership: &Membership) -> impl Iterator<Item = (u64, MemberRole)> {
    let Membership { voters, outgoing, learners } = membership;
    let mut roles: Vec<(u64, MemberRole)> = vec![];
    for id in voters {
        let is_old = outgoing.is_empty() || outgoing.contains(id);
        roles.push((*id, if is_old { MemberRole::Voter } else { MemberRole::IncomingVoter }));
    }
    for id in outgoing.iter().filter(|id| !voters.contains(id)) {
        roles.push((*id, MemberRole::DemotingVoter));
    }
    roles.extend(learners.iter().map(|id| (*id, MemberRole::Learner)));
    roles.sort_unstable();
    roles.into_iter()
}

/// The configuration that a region's peers make up.
pub fn membership_of(region: &Region) -> Membership {
    let ids = |wanted: &[MemberRole]| {
        let mut ids: Vec<u64> = region
            .members
            .iter()
            .filter(|peer| wanted.contains(&peer.role))
            .map(|peer| peer.id.0)
            .collect();
        ids.sort_unstable();
        ids
    };
    let outgoing = if region.is_joint() {
        ids(&[MemberRole::Voter, MemberRole::DemotingVoter])
    } else {
        vec![]
    };
    Membership {
        voters: ids(&[MemberRole::Voter, MemberRole::IncomingVoter]),
        outgoing,
        learners: ids(&[MemberRole::Learner]),
    }
}

/// The group's form of a region's changes.
pub fn member_changes(changes: &[PeerChange]) -> Vec<MemberChange> {
    changes
        .iter()
        .map(|change| match change {
            PeerChange::AddLearner(peer) => MemberChange::AddLearner(peer.id.0),
            PeerChange::AddVoter(peer) => MemberChange::AddVoter(peer.id.0),
            PeerChange::Remove(peer) => MemberChange::Remove(peer.id.0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::StoreId;

    fn region(start: &'static str, end: &'static str) -> Region {
        Region {
            id: RegionId(1),
            range: KeyRange::new(start, end),
            epoch: Epoch { conf_ver: 3, version: 4 },
            members: vec![
                Member::voter(PeerId(2), StoreId(1)),
                Member::learner(PeerId(3), StoreId(2)),
            ],
        }
    }

    fn put(key: &'static str, value: &'static str) -> WriteOp {
        WriteOp::Mutate(vec![Mutation::Put { key: key.into(), value: value.into() }])
    }

    fn cas(
        key: &'static str,
        expected: Option<&'static str>,
        new: Option<&'static str>,
    ) -> WriteOp {
        let (expected, new) = (expected.map(Bytes::from), new.map(Bytes::from));
        WriteOp::CompareAndSwap(CompareAndSwap { key: key.into(), expected, new })
    }

    #[test]
    fn a_swap_sees_the_writes_before_it_in_the_same_entry() {
        let state = StateStore::in_memory();
        let mut applier = Applier::new(&state, region("", ""));
        let ops = [
            put("k", "1"),
            cas("k", Some("1"), Some("2")),
            cas("k", Some("1"), None),
            cas("k", Some("2"), None),
        ];
        let results = applier.write(4, &ops).expect("in memory");
        let swapped = |swapped, previous: &'static str| {
            Ok(Answer::Swapped { swapped, previous: Some(previous.into()) })
        };
        assert_eq!(results[1], swapped(true, "1"));
        assert_eq!(results[2], swapped(false, "2"));
        assert_eq!(results[3], swapped(true, "2"));
        applier.finish().expect("in memory");
        assert_eq!(state.get(&data_key(b"k")), Ok(None));
    }

    #[test]
    fn a_write_of_another_version_or_outside_the_region_changes_nothing() {
        let state = StateStore::in_memory();
        let mut applier = Applier::new(&state, region("b", "d"));
        let stale = applier.write(3, &[put("c", "1")]).expect("in memory");
        assert!(matches!(stale[0], Err(RegionError::EpochNotMatch { .. })));
        let outside = applier.write(4, &[put("d", "1")]).expect("in memory");
        assert!(matches!(outside[0], Err(RegionError::KeyNotInRegion { .. })));
        applier.finish().expect("in memory");
        assert_eq!(state.get(&data_key(b"c")), Ok(None));
        assert_eq!(state.get(&data_key(b"d")), Ok(None));
    }

    #[test]
    fn a_split_keeps_the_roles_and_raises_the_version_of_both() {
        let state = StateStore::in_memory();
        let mut applier = Applier::new(&state, region("b", ""));
        let ids = [PeerId(8), PeerId(9)];
        let epoch = applier.region.epoch;
        let right = applier.split(epoch, &"m".into(), RegionId(7), &ids).expect("valid");
        assert_eq!(right.range, KeyRange::new("m", ""));
        assert_eq!(applier.region.range, KeyRange::new("b", "m"));
        assert_eq!(right.epoch, Epoch { conf_ver: 3, version: 5 });
        assert_eq!(applier.region.epoch, right.epoch);
        assert_eq!(right.members[1], Member::learner(PeerId(9), StoreId(2)));
    }

    #[test]
    fn a_split_that_does_not_fit_is_refused_and_changes_nothing() {
        let state = StateStore::in_memory();
        let before = region("b", "d");
        let mut applier = Applier::new(&state, before.clone());
        let ids = [PeerId(8), PeerId(9)];
        for (version, key, ids) in [
            (3, "c", &ids[..]),
            (4, "b", &ids[..]),
            (4, "d", &ids[..]),
            (4, "a", &ids[..]),
            (4, "c", &ids[..1]),
        ] {
            let epoch = Epoch { conf_ver: 3, version };
            assert!(applier.split(epoch, &key.into(), RegionId(7), ids).is_err());
            assert_eq!(applier.region, before);
        }
    }

    #[test]
    fn a_joint_configuration_survives_the_way_through_the_roles() {
        let membership = Membership { voters: vec![2, 4], outgoing: vec![2, 3], learners: vec![5] };
        let state = StateStore::in_memory();
        let mut applier = Applier::new(&state, region("", ""));
        applier.region.members = [(2, 1), (3, 2), (5, 4)]
            .map(|(id, store)| Member::voter(PeerId(id), StoreId(store)))
            .to_vec();
        let added = PeerChange::AddVoter(Member::voter(PeerId(4), StoreId(3)));
        applier.change_members(&membership, &[added]);
        assert_eq!(membership_of(&applier.region), membership);
        assert!(applier.region.is_joint());
        assert_eq!(applier.region.epoch.conf_ver, 4);
    }
}
