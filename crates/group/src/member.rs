//! The configuration of a group: its members, and changes of them.

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

/// A group's configuration: the members by part. Each list is ascending.
///
/// A joint change never removes a voter: a voter that is not in the new configuration becomes a
/// learner when the joint configuration is left. A candidate may still count this peer's vote, so
/// the peer must exist until the change is known to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters of the (new) configuration.
    pub voters: Vec<u64>,
    /// While a joint change is under way: voters of the old configuration. Otherwise empty.
    pub outgoing: Vec<u64>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<u64>,
}

impl Membership {
    /// A configuration of voters alone.
    pub fn of_voters(voters: &[u64]) -> Membership {
        let mut voters = voters.to_vec();
        voters.sort_unstable();
        Membership { voters, ..Membership::default() }
    }

    /// True while a joint change is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// True if `peer` is a voter of either configuration or a learner.
    pub fn contains(&self, peer: u64) -> bool {
        [&self.voters, &self.outgoing, &self.learners].iter().any(|part| part.contains(&peer))
    }

    /// Voters of the old configuration that are not in the new one.
    fn demoting(&self) -> Vec<u64> {
        self.outgoing.iter().filter(|id| !self.voters.contains(id)).copied().collect()
    }

    /// A joint configuration is always left automatically: no other kind is ever proposed.
    pub(crate) fn to_conf_state(&self) -> ConfState {
        let mut state = ConfState::default();
        state.set_voters(self.voters.clone());
        state.set_voters_outgoing(self.outgoing.clone());
        state.set_learners(self.learners.clone());
        state.set_learners_next(self.demoting());
        state.set_auto_leave(self.is_joint());
        state
    }

    pub(crate) fn from_conf_state(state: &ConfState) -> Membership {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Membership {
            voters: sorted(state.get_voters()),
            outgoing: sorted(state.get_voters_outgoing()),
            learners: sorted(state.get_learners()),
        }
    }
}

/// One change of a group's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Add a voter, or make a learner one.
    AddVoter(u64),
    /// Add a learner, or make a voter one.
    AddLearner(u64),
    /// Remove a member.
    Remove(u64),
}

/// One change is a simple change; more make a joint one; none leaves the joint configuration.
pub(crate) fn conf_change(changes: &[MemberChange]) -> ConfChangeV2 {
    let singles: Vec<ConfChangeSingle> = changes
        .iter()
        .map(|change| {
            let (kind, peer) = match change {
                MemberChange::AddVoter(peer) => (ConfChangeType::AddNode, *peer),
                MemberChange::AddLearner(peer) => (ConfChangeType::AddLearnerNode, *peer),
                MemberChange::Remove(peer) => (ConfChangeType::RemoveNode, *peer),
            };
            let mut single = ConfChangeSingle::default();
            single.set_change_type(kind);
            single.node_id = peer;
            single
        })
        .collect();
    let mut change = ConfChangeV2::default();
    change.set_changes(singles.into());
    change
}
