//! Which writes the log gets: entries, and the hard state (term, vote, commit index) when a
//! restart must know it.
//!
//! Term and vote are written whenever they change: a vote that is forgotten can be given twice.
//!
//! The commit index alone is not worth a write. A restarted peer learns it anew, and it is never
//! behind the applied index, which the owner's state has. It is written in two cases:
//!
//! * with entries among which there is a membership change ([`log_ops`]);
//! * soon after a membership change is applied ([`save_commit`]).
//!
//! The reason: a configuration takes effect when it is applied, so a restarted peer must not stand
//! for election under a configuration that is two changes old. A second change is proposed only
//! after the first is applied. A peer that has the second change in its log has therefore written
//! that the first is committed, and the `raft` crate lets no peer stand for election that has yet
//! to apply a committed change.
//!
//! A peer may act on a change whose commit index is not written yet. This is safe because every
//! voter whose vote may still be needed exists: a voter that leaves becomes a learner first, and
//! a learner still votes.
//!
//! In: the node. Out: [`LogOp`]s, which the owner writes. Not here: syncs, and what the messages of
//! a candidate wait for (`ballots`).

use flotilla_engine::LogOp;
use flotilla_types::mutant::{Mutant, planted};
use raft::eraftpb::{Entry, EntryType};
use raft::{RawNode, Ready};

use crate::ballots::Ballot;
use crate::group_log::GroupLog;

/// The node's term and vote.
pub(crate) fn ballot(node: &RawNode<GroupLog>) -> Ballot {
    Ballot { term: node.raft.term, vote: node.raft.vote }
}

/// The writes of a ready without a snapshot.
pub(crate) fn log_ops(node: &mut RawNode<GroupLog>, ready: &mut Ready) -> Vec<LogOp> {
    let entries = ready.take_entries();
    let has_change = entries.iter().any(is_membership_change);
    let appended = node.mut_store().append(entries);
    let store = node.store();
    let is_due = store.ballot() != ballot(node) || has_change || !store.has_saved_state();
    let is_lost = match &appended {
        Some(_) => loses_term(node.raft.vote),
        None => loses_vote(),
    };
    if !is_due || is_lost {
        return appended.into_iter().collect();
    }
    let hard_state = node.raft.hard_state();
    let state = node.mut_store().set_hard_state(hard_state);
    appended.into_iter().chain([state]).collect()
}

/// The write by which a restart knows all that is committed now; none if it is written already. To
/// be synced soon after a membership change is applied: peers that forget the change ask a
/// majority of the former configuration for votes, whose members need not exist any more.
pub(crate) fn save_commit(node: &mut RawNode<GroupLog>) -> Vec<LogOp> {
    if planted(Mutant::ForgetChange) {
        return vec![];
    }
    let commit = node.raft.raft_log.committed;
    if commit <= node.store().saved_commit() {
        return vec![];
    }
    vec![node.mut_store().set_commit(commit)]
}

fn is_membership_change(entry: &Entry) -> bool {
    match entry.get_entry_type() {
        EntryType::EntryNormal => false,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => true,
    }
}

/// Planted: a new term that comes with entries is not written.
fn loses_term(vote: u64) -> bool {
    if planted(Mutant::ForgetTerm) {
        return vote == 0;
    }
    false
}

/// Planted: a new term or vote that comes without entries is not written.
fn loses_vote() -> bool {
    if planted(Mutant::ForgetVote) {
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{MemberChange, conf_change};
    use crate::test_node::open_node;
    use flotilla_types::proto;
    use prost::Message;

    /// The hard states among the writes of the next ready, which is persisted and applied. The
    /// second part is true if there are entries among them.
    fn written(node: &mut RawNode<GroupLog>) -> (Vec<proto::HardState>, bool) {
        let mut ready = node.ready();
        let ops = log_ops(node, &mut ready);
        let applied = ready.take_committed_entries().last().map(|entry| entry.index);
        let number = ready.number();
        node.advance_append_async(ready);
        node.on_persist_ready(number);
        if let Some(applied) = applied {
            node.advance_apply_to(applied);
        }
        (states(&ops), ops.iter().any(|op| matches!(op, LogOp::Append { .. })))
    }

    fn states(ops: &[LogOp]) -> Vec<proto::HardState> {
        let decode = |op: &LogOp| match op {
            LogOp::SetState { state, .. } => Some(decoded(state)),
            LogOp::Append { .. } | LogOp::Truncate { .. } | LogOp::Clear { .. } => None,
        };
        ops.iter().filter_map(decode).collect()
    }

    fn decoded(state: &[u8]) -> proto::HardState {
        proto::HardState::decode(state).expect("a hard state")
    }

    /// The only voter of a group, elected, with its first entry committed.
    fn leader() -> RawNode<GroupLog> {
        let mut node = open_node(&[1]);
        node.campaign().expect("a voter");
        let (states, has_entries) = written(&mut node);
        assert!(has_entries, "the leader's first entry");
        assert_eq!((states.len(), states[0].term, states[0].vote), (1, 1, 1));
        drain(&mut node);
        assert_eq!(node.raft.raft_log.committed, 1);
        node
    }

    /// Carries readies out until there is none; none of them writes anything.
    fn drain(node: &mut RawNode<GroupLog>) {
        while node.has_ready() {
            assert_eq!(written(node), (vec![], false));
        }
    }

    #[test]
    fn commands_and_a_new_commit_index_are_no_reason_to_write_a_hard_state() {
        let mut node = leader();
        node.propose(vec![], b"command".to_vec()).expect("a leader");
        assert_eq!(written(&mut node), (vec![], true));
        drain(&mut node);
        assert_eq!(node.raft.raft_log.committed, 2);
    }

    #[test]
    fn a_membership_change_is_written_with_the_commit_index_of_what_precedes_it() {
        let mut node = leader();
        let change = conf_change(&[MemberChange::AddLearner(2)]);
        node.propose_conf_change(b"context".to_vec(), change).expect("a leader");
        let (states, has_entries) = written(&mut node);
        assert!(has_entries);
        assert_eq!((states.len(), states[0].commit), (1, 1));
    }

    #[test]
    fn the_commit_index_is_saved_once() {
        let mut node = leader();
        let saved = states(&save_commit(&mut node));
        assert_eq!((saved.len(), saved[0].commit), (1, 1));
        assert_eq!(save_commit(&mut node), []);
    }

    #[test]
    fn a_new_term_is_written_without_entries() {
        let mut node = leader();
        node.raft.become_follower(5, 0);
        let (states, has_entries) = written(&mut node);
        assert!(!has_entries);
        assert_eq!((states.len(), states[0].term, states[0].vote), (1, 5, 0));
    }
}
