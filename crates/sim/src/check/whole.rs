//! A cluster begins whole, and stays so until an administrator orders otherwise.
//!
//! * At most one region is ever created without a parent, and all its peers begin with the same
//!   shape.
//! * Every configuration that is ever in effect has at least a majority of `replica_count` voters;
//!   of a joint one, both halves have.
//! * Every entry that is applied, and with that every write that is acknowledged, is durable on a
//!   majority of `replica_count` stores at that moment.
//!
//! A region of which an administrator has ordered a change is left out from then on, and so are the
//! regions split off it: the order may be to remove the one voter that is still needed.

use std::collections::BTreeSet;

use flotilla_types::{MemberRole, Region, RegionId};

use super::{Verdict, broken, show};

/// What a region needs, and what is known of the first one.
#[derive(Debug, Default)]
pub struct Whole {
    replica_count: usize,
    first: Option<Region>,
    ordered: BTreeSet<RegionId>,
}

/// What a store's peer of the first region means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It is the first such peer.
    New,
    /// Another store has created one already.
    Known,
}

impl Whole {
    /// Nothing is known, of a cluster with so many replicas.
    pub fn new(replica_count: u64) -> Whole {
        Whole { replica_count: replica_count as usize, ..Whole::default() }
    }

    /// A store has created its peer of the first region.
    pub fn begins(&mut self, region: &Region) -> Result<First, super::Violation> {
        match &self.first {
            Some(first) if first != region => {
                let what = format!("{}, beside {}", show(region), show(first));
                broken("one region is created without a parent", what).map(|()| First::Known)
            }
            Some(_) => Ok(First::Known),
            None => {
                self.first = Some(region.clone());
                self.has_voters(region).map(|()| First::New)
            }
        }
    }

    /// An administrator's order changes the region.
    pub fn ordered(&mut self, region: RegionId) {
        self.ordered.insert(region);
    }

    /// A region was split in two.
    pub fn split(&mut self, left: RegionId, right: RegionId) {
        if self.ordered.contains(&left) {
            self.ordered.insert(right);
        }
    }

    /// Checks a configuration that is in effect.
    pub fn has_voters(&self, region: &Region) -> Verdict {
        let voters = |passing: MemberRole| {
            let votes = |role: MemberRole| role == MemberRole::Voter || role == passing;
            region.members.iter().filter(|member| votes(member.role)).count()
        };
        let least = voters(MemberRole::IncomingVoter).min(voters(MemberRole::DemotingVoter));
        if least >= self.majority() || self.ordered.contains(&region.id) {
            return Ok(());
        }
        let what = format!("{} of {} replicas", show(region), self.replica_count);
        broken("a region has a majority of its replicas as voters", what)
    }

    /// Checks an entry that a first peer has applied, and that so many voters hold.
    pub fn is_held(&self, region: RegionId, index: u64, holders: usize) -> Verdict {
        if holders >= self.majority() || self.ordered.contains(&region) {
            return Ok(());
        }
        let what = format!(
            "region {region}, entry {index}: {holders} voters hold it, of {} replicas",
            self.replica_count
        );
        broken("what is applied is durable on a majority of the replicas", what)
    }

    fn majority(&self) -> usize {
        self.replica_count / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, KeyRange, Member, PeerId, StoreId};

    fn region(id: u64, members: &[MemberRole]) -> Region {
        let member = |(n, role): (u64, &MemberRole)| Member {
            id: PeerId(10 + n),
            store_id: StoreId(n),
            role: *role,
        };
        Region {
            id: RegionId(id),
            range: KeyRange::all(),
            epoch: Epoch::FIRST,
            members: (1..).zip(members).map(member).collect(),
        }
    }

    #[test]
    fn a_second_first_region_is_found() {
        let three = [MemberRole::Voter; 3];
        let mut whole = Whole::new(3);
        assert_eq!(whole.begins(&region(1, &three)), Ok(First::New));
        assert_eq!(whole.begins(&region(1, &three)), Ok(First::Known));
        assert!(whole.begins(&region(5, &three)).is_err());
        assert!(Whole::new(3).begins(&region(1, &three[..1])).is_err(), "one voter");
    }

    #[test]
    fn too_few_voters_are_found_unless_an_administrator_wanted_that() {
        use MemberRole::{DemotingVoter, IncomingVoter, Voter};
        let mut whole = Whole::new(3);
        assert_eq!(whole.has_voters(&region(1, &[Voter, Voter])), Ok(()));
        assert_eq!(whole.has_voters(&region(1, &[Voter, DemotingVoter, IncomingVoter])), Ok(()));
        assert!(whole.has_voters(&region(1, &[Voter, DemotingVoter])).is_err(), "the new half");
        assert_eq!(whole.is_held(RegionId(1), 6, 2), Ok(()));
        assert!(whole.is_held(RegionId(1), 6, 1).is_err());
        whole.ordered(RegionId(1));
        whole.split(RegionId(1), RegionId(2));
        assert_eq!(whole.has_voters(&region(2, &[Voter])), Ok(()));
        assert_eq!(whole.is_held(RegionId(2), 6, 1), Ok(()));
        assert!(whole.has_voters(&region(3, &[Voter])).is_err());
    }
}
