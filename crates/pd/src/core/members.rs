//! The members of PD's own group: who they are, where they listen, and which group it is.
//!
//! Every member of a new group is told the same list when it is started first. It keeps the list
//! beside its state before it does anything else, and what it is told later must agree. The group's
//! id is made from the first list and goes with each message between members, so members that were
//! started with different lists do not hear each other. The id of a member that was alone at first
//! is drawn. Before they take part in anything, the first members introduce themselves
//! ([`crate::core::introductions`]).
//!
//! Later changes are entries of the log, one member at a time. A member that joins keeps the
//! group's id and takes part in nothing until a snapshot tells it who the members are. A member
//! that was removed is refused for ever, its id included.
//!
//! Invariant: the record is the same on all members at the same position of the log, and in every
//! snapshot, but for the addresses that a member was started with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_group::{MemberChange, Membership};
use flotilla_types::dice::mix;
use flotilla_types::placement::{PdMember, PdMembers};
use flotilla_types::{WireError, proto};
use prost::Message;
use proto::pd_member_change::Kind;

/// FNV-1a, whose result depends on nothing but the bytes.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    group_id: u64,
    addrs: BTreeMap<u64, String>,
    learners: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    is_joining: bool,
    /// True for a list that the first members were told: they introduce themselves.
    is_fresh: bool,
}

/// What an entry of the log changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Adds a learner.
    Add { id: u64, addr: String },
    /// Makes a learner a voter.
    Promote(u64),
    /// Removes a member for ever.
    Remove(u64),
}

impl Change {
    /// What goes with the entry; never empty.
    pub(crate) fn encode(&self) -> Bytes {
        let kind = match self.clone() {
            Change::Add { id, addr } => {
                Kind::Add(proto::PdMember { id, addr, ..proto::PdMember::default() })
            }
            Change::Promote(id) => Kind::Promote(id),
            Change::Remove(id) => Kind::Remove(id),
        };
        proto::PdMemberChange { kind: Some(kind) }.encode_to_vec().into()
    }

    pub(crate) fn decode(context: Bytes) -> Result<Change, WireError> {
        let change = proto::PdMemberChange::decode(context)?;
        Ok(match change.kind.ok_or(WireError::Missing("pd_member_change.kind"))? {
            Kind::Add(member) => Change::Add { id: member.id, addr: member.addr },
            Kind::Promote(id) => Change::Promote(id),
            Kind::Remove(id) => Change::Remove(id),
        })
    }

    /// The same, as the group takes it.
    pub(crate) fn to_group(&self) -> MemberChange {
        match self {
            Change::Add { id, .. } => MemberChange::AddLearner(*id),
            Change::Promote(id) => MemberChange::AddVoter(*id),
            Change::Remove(id) => MemberChange::Remove(*id),
        }
    }
}

impl Members {
    /// The members of a new group, which all are told the same list.
    pub(crate) fn first(given: &BTreeMap<u64, String>) -> Members {
        let (group_id, addrs) = (group_id(given), given.clone());
        Members { group_id, is_fresh: addrs.len() > 1, addrs, ..Members::default() }
    }

    /// A member that is alone. Another directory of the same member is another group, by its seed.
    pub(crate) fn alone(id: u64, addr: &str, seed: u64) -> Members {
        let addrs = BTreeMap::from([(id, addr.to_string())]);
        Members { group_id: mix(seed).max(1), addrs, ..Members::default() }
    }

    /// The members of a group that this one was added to, as the group told them.
    pub(crate) fn joined(told: &PdMembers) -> Members {
        let addrs = told.members.iter().map(|member| (member.id, member.addr.clone()));
        Members {
            group_id: told.group_id,
            addrs: addrs.collect(),
            is_joining: true,
            ..Members::default()
        }
    }

    /// Names the group in messages between members; never 0.
    pub fn group_id(&self) -> u64 {
        self.group_id
    }

    /// The members by id, and where they listen.
    pub fn addrs(&self) -> &BTreeMap<u64, String> {
        &self.addrs
    }

    /// All but the member `own`.
    pub(crate) fn others(&self, own: u64) -> impl Iterator<Item = u64> {
        self.addrs.keys().copied().filter(move |member| *member != own)
    }

    /// True if the members must introduce themselves before they take part.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// True if there are no others.
    pub(crate) fn is_lone(&self) -> bool {
        self.addrs.len() == 1
    }

    /// True if the member was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// Ids that are refused for ever.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Those that catch up and do not vote.
    pub(crate) fn learners(&self) -> &BTreeSet<u64> {
        &self.learners
    }

    /// The members, as callers are told; `leader` leads.
    pub(crate) fn told(&self, leader: u64) -> Vec<PdMember> {
        let member = |(id, addr): (&u64, &String)| PdMember {
            id: *id,
            addr: addr.clone(),
            is_leader: *id == leader,
            is_learner: self.learners.contains(id),
            is_silent: false,
        };
        self.addrs.iter().map(member).collect()
    }

    /// The configuration of the group; empty for a member that does not know it yet.
    pub fn membership(&self) -> Membership {
        if self.is_joining {
            return Membership::default();
        }
        let votes = |id: &&u64| !self.learners.contains(id);
        let voters: Vec<u64> = self.addrs.keys().filter(votes).copied().collect();
        let learners = self.learners.iter().copied().collect();
        Membership { learners, ..Membership::of_voters(&voters) }
    }

    /// Carries out a change that the group has carried out.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Add { id, addr } => {
                self.addrs.insert(id, addr);
                self.learners.insert(id);
            }
            Change::Promote(id) => drop(self.learners.remove(&id)),
            Change::Remove(id) => {
                self.addrs.remove(&id);
                self.learners.remove(&id);
                self.removed.insert(id);
            }
        }
    }

    /// True if a list that a member was started with names these members, or none.
    pub(crate) fn agree_with(&self, given: &BTreeMap<u64, String>) -> bool {
        given.is_empty() || given.keys().eq(self.addrs.keys())
    }

    /// Takes over where the members listen now.
    pub(crate) fn move_to(&mut self, given: &BTreeMap<u64, String>) {
        for (id, addr) in given {
            if let Some(known) = self.addrs.get_mut(id) {
                known.clone_from(addr);
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        proto::PdGroup {
            group_id: self.group_id,
            members: self.told(0).into_iter().map(Into::into).collect(),
            removed: self.removed.iter().copied().collect(),
            joining: self.is_joining,
            fresh: self.is_fresh,
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Members, WireError> {
        let group = proto::PdGroup::decode(bytes)?;
        let learners = group.members.iter().filter(|member| member.learner);
        Ok(Members {
            group_id: group.group_id,
            learners: learners.map(|member| member.id).collect(),
            addrs: group.members.into_iter().map(|member| (member.id, member.addr)).collect(),
            removed: group.removed.into_iter().collect(),
            is_joining: group.joining,
            is_fresh: group.fresh,
        })
    }
}

fn group_id(addrs: &BTreeMap<u64, String>) -> u64 {
    let words = addrs.iter().map(|(id, addr)| format!("{id}={addr};")).collect::<String>();
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV.1);
    words.bytes().fold(FNV.0, fold).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(members: &[(u64, &str)]) -> BTreeMap<u64, String> {
        members.iter().map(|(id, addr)| (*id, addr.to_string())).collect()
    }

    #[test]
    fn a_group_is_named_by_its_first_list_and_survives_the_disk() {
        let three = list(&[(1, "a:1"), (2, "b:1"), (3, "c:1")]);
        let members = Members::first(&three);
        assert_eq!(Members::decode(&members.encode()), Ok(members.clone()));
        let alone = Members::alone(1, "a:1", 7);
        assert_ne!(alone.group_id(), members.group_id());
        assert_ne!(alone.group_id(), Members::alone(1, "a:1", 8).group_id());
        assert!(members.is_fresh() && !alone.is_fresh());
        assert_eq!(alone.membership(), Membership::of_voters(&[1]));
    }

    #[test]
    fn a_later_list_must_name_the_same_members_and_may_move_them() {
        let mut members = Members::first(&list(&[(1, "a:1"), (2, "b:1")]));
        let group_id = members.group_id();
        assert!(members.agree_with(&BTreeMap::new()));
        assert!(!members.agree_with(&list(&[(1, "a:1")])));
        let moved = list(&[(1, "a:1"), (2, "c:9")]);
        assert!(members.agree_with(&moved));
        members.move_to(&moved);
        assert_eq!(members.addrs(), &moved);
        assert_eq!(members.group_id(), group_id);
    }

    #[test]
    fn a_member_is_added_promoted_and_removed_for_ever() {
        let mut members = Members::first(&list(&[(1, "a:1"), (2, "b:1")]));
        for (change, voters, learners) in [
            (Change::Add { id: 3, addr: "c:1".into() }, vec![1, 2], vec![3]),
            (Change::Promote(3), vec![1, 2, 3], vec![]),
            (Change::Remove(2), vec![1, 3], vec![]),
        ] {
            assert_eq!(Change::decode(change.encode()), Ok(change.clone()));
            members.apply(change);
            let wanted = Membership { learners, ..Membership::of_voters(&voters) };
            assert_eq!(members.membership(), wanted);
            assert_eq!(Members::decode(&members.encode()), Ok(members.clone()));
        }
        assert!(members.is_removed(2) && !members.is_removed(3));
    }

    #[test]
    fn a_member_that_joins_takes_part_in_nothing_before_it_knows_the_members() {
        let first = Members::first(&list(&[(1, "a:1"), (2, "b:1")]));
        let told =
            PdMembers { group_id: first.group_id(), members: first.told(1), removed: vec![] };
        let joined = Members::joined(&told);
        assert_eq!(joined.group_id(), first.group_id());
        assert_eq!(joined.membership(), Membership::default());
        assert_eq!(Members::decode(&joined.encode()), Ok(joined));
    }
}
