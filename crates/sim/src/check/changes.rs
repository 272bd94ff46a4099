//! No change of members that the placement driver orders by itself takes a region's quorum away.
//!
//! The truth is the world's: a replica is whole as long as its store's disk has not ended. When a
//! change is applied for the first time, anywhere: if whole replicas made up a quorum of the voters
//! before the change, they do after it. In a joint configuration that is a majority of the old
//! voters and one of the new ones.
//!
//! Voters that come with the change count as whole. The leader has heard each of them just before
//! it proposed the change; if one is lost at that moment, and another with it, no order of steps
//! could help. A change that answers an administrator's order is left out: the order may be to
//! remove the one voter that is still needed.
//!
//! Why that is sound: the placement driver removes a voter without replacement only if there are
//! more than `replica_count`, or if the voter is lost, which counts for no quorum. With one voter
//! more than `replica_count`, which is odd, a removal lowers the majority. Two voters more come
//! from administrators only, so a region that an administrator has given one more is left out for
//! good.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::heartbeat::RegionCommand;
use flotilla_types::{Member, MemberRole, PeerId, Region, RegionId, StoreId};

use super::{Verdict, broken, show};

/// The shapes of regions, the commands that led to them, and the disks that have ended.
#[derive(Debug, Default)]
pub struct Changes {
    /// The members by region and `conf_ver`.
    members: BTreeMap<(RegionId, u64), Vec<Member>>,
    /// Changes that answer an administrator's order, by region and the `conf_ver` that they make.
    by_admin: BTreeSet<(RegionId, u64)>,
    /// Regions that an administrator has given one more voter, and the regions split off them.
    grown: BTreeSet<RegionId>,
    ended: BTreeSet<StoreId>,
}

impl Changes {
    /// The store's disk has ended, and with it the store's replicas.
    pub fn disk_ended(&mut self, store: StoreId) {
        self.ended.insert(store);
    }

    /// The placement driver sends this command for an administrator.
    pub fn ordered_by_admin(&mut self, command: &RegionCommand) {
        self.by_admin.insert((command.region_id, command.epoch.conf_ver + 1));
    }

    /// An administrator has given the region one more voter.
    pub fn grown_by_admin(&mut self, region: RegionId) {
        self.grown.insert(region);
    }

    /// A region was split in two.
    pub fn split(&mut self, left: &Region, right: &Region) {
        self.note(left);
        self.note(right);
        if self.grown.contains(&left.id) {
            self.grown.insert(right.id);
        }
    }

    /// Takes note of a region's members, which did not change just now.
    pub fn note(&mut self, region: &Region) {
        let key = (region.id, region.epoch.conf_ver);
        self.members.entry(key).or_insert_with(|| region.members.clone());
    }

    /// Checks a change of members that a store has applied.
    pub fn applied(&mut self, region: &Region) -> Verdict {
        let key = (region.id, region.epoch.conf_ver);
        if self.members.contains_key(&key) {
            return Ok(());
        }
        self.members.insert(key, region.members.clone());
        if self.by_admin.contains(&key) || self.grown.contains(&region.id) {
            return Ok(());
        }
        let Some(before) = self.members.get(&(key.0, key.1.saturating_sub(1))) else {
            return Ok(());
        };
        let voted: BTreeSet<PeerId> =
            before.iter().filter(|member| votes_now(member)).map(|member| member.id).collect();
        let is_whole = |member: &Member| !self.ended.contains(&member.store_id);
        let is_taken_for_whole = |member: &Member| is_whole(member) || !voted.contains(&member.id);
        if !has_quorum(before, &is_whole) || has_quorum(&region.members, &is_taken_for_whole) {
            return Ok(());
        }
        let before = show(&Region { members: before.clone(), ..region.clone() });
        let what = format!("{}, from {before}; lost: stores {:?}", show(region), self.ended);
        broken("a change that the placement driver orders leaves a quorum of whole replicas", what)
    }
}

fn votes_now(member: &Member) -> bool {
    match member.role {
        MemberRole::Voter | MemberRole::IncomingVoter | MemberRole::DemotingVoter => true,
        MemberRole::Learner => false,
    }
}

/// True if whole members make up a majority of the voters; of both sets while a change is joint.
fn has_quorum(members: &[Member], is_whole: &dyn Fn(&Member) -> bool) -> bool {
    let is_majority = |passing: MemberRole| {
        let voters = members.iter().filter(|m| m.role == MemberRole::Voter || m.role == passing);
        let (whole, all) = voters
            .fold((0, 0), |(whole, all), member| (whole + usize::from(is_whole(member)), all + 1));
        whole * 2 > all
    };
    is_majority(MemberRole::DemotingVoter) && is_majority(MemberRole::IncomingVoter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::heartbeat::Step;
    use flotilla_types::{Epoch, KeyRange};

    fn region(conf_ver: u64, members: &[(u64, MemberRole)]) -> Region {
        let member = |(store, role): &(u64, MemberRole)| Member {
            id: PeerId(10 + store),
            store_id: StoreId(*store),
            role: *role,
        };
        Region {
            id: RegionId(7),
            range: KeyRange::all(),
            epoch: Epoch { conf_ver, version: 1 },
            members: members.iter().map(member).collect(),
        }
    }

    const THREE: [(u64, MemberRole); 3] =
        [(1, MemberRole::Voter), (2, MemberRole::Voter), (3, MemberRole::Voter)];

    #[test]
    fn a_removal_that_leaves_a_voter_on_a_lost_disk_is_found() {
        let mut changes = Changes::default();
        changes.note(&region(3, &THREE));
        changes.disk_ended(StoreId(3));
        let two = region(4, &[THREE[0], (2, MemberRole::Learner), THREE[2]]);
        assert!(changes.applied(&two).is_err());
        assert_eq!(changes.applied(&two), Ok(()), "told once");

        let mut changes = Changes::default();
        changes.note(&region(3, &THREE));
        changes.disk_ended(StoreId(2));
        assert_eq!(changes.applied(&two), Ok(()), "the lost one goes");
    }

    #[test]
    fn a_replacement_in_one_change_is_no_loss_and_a_promotion_onto_a_lost_disk_is() {
        use MemberRole::{DemotingVoter, IncomingVoter, Learner, Voter};
        let mut changes = Changes::default();
        changes.note(&region(3, &THREE));
        changes.disk_ended(StoreId(3));
        let joint = [THREE[0], (2, DemotingVoter), THREE[2], (4, IncomingVoter)];
        assert_eq!(changes.applied(&region(4, &joint)), Ok(()));
        let after = [THREE[0], (2, Learner), THREE[2], (4, Voter)];
        assert_eq!(changes.applied(&region(5, &after)), Ok(()));
        changes.disk_ended(StoreId(4));
        let without_two = [THREE[0], THREE[2], (4, Voter)];
        assert_eq!(changes.applied(&region(6, &without_two)), Ok(()), "no quorum was left");
        // Both sets count while a change is joint.
        let lost = |member: &Member| member.store_id != StoreId(4) && member.store_id != StoreId(3);
        assert!(!has_quorum(&region(4, &joint).members, &lost));
        assert!(has_quorum(&region(3, &THREE).members, &lost));
    }

    #[test]
    fn what_an_administrator_ordered_is_left_out() {
        let mut changes = Changes::default();
        changes.note(&region(3, &THREE));
        changes.disk_ended(StoreId(3));
        let epoch = Epoch { conf_ver: 3, version: 1 };
        let step = Step::RemovePeer(PeerId(12));
        changes.ordered_by_admin(&RegionCommand { region_id: RegionId(7), epoch, step });
        let two = region(4, &[THREE[0], (2, MemberRole::Learner), THREE[2]]);
        assert_eq!(changes.applied(&two), Ok(()));
        // The next change is the placement driver's own.
        let mut changes = Changes::default();
        changes.note(&region(4, &THREE));
        changes.disk_ended(StoreId(3));
        let command = RegionCommand { region_id: RegionId(7), epoch, step: Step::Split("".into()) };
        changes.ordered_by_admin(&command);
        let two = Region { epoch: Epoch { conf_ver: 5, version: 1 }, ..two };
        assert!(changes.applied(&two).is_err());
    }
}
