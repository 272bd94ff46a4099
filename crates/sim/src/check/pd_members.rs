//! The members of the placement driver, as its Raft group counts them.
//!
//! * The configuration in effect is the one on record beside the state, at the same position of the
//!   log. Both change with one entry, and a snapshot has both.
//! * A member votes only once it has applied something. The placement driver adds members as
//!   learners, and only after its log has lost its first entry, so that each needs a snapshot; the
//!   leader promotes a learner that has answered that it has the snapshot.
//! * A voter is not removed if a majority of the other voters is not heard: the nemesis asks for
//!   such removals ([`crate::pd::node::Node::ask_too_much`]), and the leader says itself whom it
//!   hears.
//!
//! In: each member after its thread ran, and the answers to the nemesis. A member that has taken a
//! snapshot and not installed it yet is not looked at: its group is ahead of its record.
//!
//! What it cannot see: how far behind a learner is that is promoted.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_group::Membership;
use flotilla_pd::core::Pd;
use flotilla_types::proto::pd_reply::Result as Answer;

use super::{Verdict, broken};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct PdMembers {
    /// The last index that each member has applied.
    applied: BTreeMap<u64, u64>,
    /// All that have voted.
    voters: BTreeSet<u64>,
}

impl PdMembers {
    /// Looks at a member after its thread ran.
    pub fn observe(&mut self, pd: &Pd) -> Verdict {
        let raft = pd.group();
        self.has_applied(raft.peer(), pd.applied_and_durable().0);
        if raft.is_paused() {
            return Ok(());
        }
        let (in_effect, on_record) = (raft.membership(), pd.members().membership());
        if in_effect != on_record {
            let what = format!("member {}: {in_effect:?}, not {on_record:?}", raft.peer());
            return broken("who the members of the placement driver are is on record", what);
        }
        self.is_in_effect(&in_effect)
    }

    fn has_applied(&mut self, member: u64, applied: u64) {
        let last = self.applied.entry(member).or_default();
        *last = applied.max(*last);
    }

    fn is_in_effect(&mut self, membership: &Membership) -> Verdict {
        let is_first = self.voters.is_empty();
        for voter in &membership.voters {
            let is_new = self.voters.insert(*voter) && !is_first;
            if is_new && self.applied.get(voter).is_none_or(|applied| *applied == 0) {
                let what = format!("member {voter} has applied nothing: {membership:?}");
                return broken("a new placement driver votes once it has caught up", what);
            }
        }
        Ok(())
    }
}

/// Checks the answer to a removal that would leave no majority of voters that are heard. It may be
/// lost, too.
pub fn check_refused(answer: Option<Answer>) -> Verdict {
    match answer {
        Some(Answer::Group(group)) => {
            broken("a removal leaves a majority of placement drivers", format!("{group:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::proto;

    #[test]
    fn a_voter_that_has_applied_nothing_is_found() {
        let mut members = PdMembers::default();
        let three = Membership::of_voters(&[1, 2, 3]);
        assert_eq!(members.is_in_effect(&three), Ok(()), "the first have applied nothing yet");
        let learner = Membership { learners: vec![4], ..three.clone() };
        assert_eq!(members.is_in_effect(&learner), Ok(()));
        members.has_applied(5, 9);
        assert_eq!(members.is_in_effect(&Membership::of_voters(&[1, 2, 3, 5])), Ok(()));
        assert!(members.is_in_effect(&Membership::of_voters(&[1, 2, 3, 4])).is_err());
    }

    #[test]
    fn a_removal_that_is_carried_out_is_found_and_a_refusal_is_none() {
        assert!(check_refused(Some(Answer::Group(proto::PdGroup::default()))).is_err());
        assert_eq!(check_refused(Some(Answer::Error(proto::PdError::default()))), Ok(()));
        assert_eq!(check_refused(None), Ok(()));
    }
}
