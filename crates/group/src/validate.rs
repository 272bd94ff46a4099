//! What a message must be before the `raft` crate may see it.
//!
//! The `raft` crate takes the messages of other members on trust: entries that do not follow one
//! another, a term of 0 or a snapshot of an impossible configuration make it panic, or end in a
//! state from which the group cannot elect. The rules here hold for every message that a group
//! sends, so a message that breaks one is a mistake of its sender or was damaged on its way. It is
//! ignored, as if it had been lost.
//!
//! In: a message, and the peer's own term. Out: whether the message may be stepped. Pure.
//!
//! Not here: what only the peer's log can tell (`Group::step`), and the kinds that are never taken
//! from the network (`codec`).

use flotilla_types::proto::{Entry, MessageKind, RaftMessage, SnapshotMeta};

use crate::codec::snapshot_membership;

/// The most that one message may raise a peer's term. Each election raises it by one, so an honest
/// peer is never so far behind; a term near the greatest number would leave none for elections.
const TERM_RAISE_MAX: u64 = 1 << 32;

/// True if the message obeys the rules that every member's messages obey. `own_term` is the
/// receiver's term.
pub(crate) fn is_sound(message: &RaftMessage, own_term: u64) -> bool {
    let is_term_possible =
        message.term > 0 && message.term <= own_term.saturating_add(TERM_RAISE_MAX);
    let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
    is_term_possible
        && are_entries_sound(message)
        && is_snapshot == message.snapshot.is_some()
        && message.snapshot.as_deref().is_none_or(|meta| is_snapshot_sound(meta, message.term))
}

/// True if the entries follow one another from `message.index` on, no term falls along them, and
/// none is later than the sender's.
fn are_entries_sound(message: &RaftMessage) -> bool {
    if message.entries.is_empty() {
        return true;
    }
    if message.kind() != MessageKind::MsgAppend {
        return false;
    }
    let mut before = (message.index, message.log_term);
    for Entry { index, term, .. } in &message.entries {
        let (last, last_term) = before;
        if Some(*index) != last.checked_add(1) || *term < last_term || *term > message.term {
            return false;
        }
        before = (*index, *term);
    }
    true
}

/// True if the snapshot has a position, and a configuration of the kind that groups propose:
/// voters, and while a joint change is under way the old voters, of whom those that are left out
/// become learners.
fn is_snapshot_sound(meta: &SnapshotMeta, term: u64) -> bool {
    let membership = snapshot_membership(meta);
    let mut demoting = meta.learners_next.clone();
    demoting.sort_unstable();
    let is_demoted = membership.to_conf_state().get_learners_next() == demoting;
    let is_position = meta.index > 0 && meta.term > 0 && meta.term <= term;
    is_position && !meta.voters.is_empty() && is_demoted && meta.auto_leave == membership.is_joint()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::snapshot_meta;
    use crate::member::Membership;

    fn append(index: u64, entries: &[(u64, u64)]) -> RaftMessage {
        let entry =
            |(index, term): &(u64, u64)| Entry { index: *index, term: *term, ..Entry::default() };
        RaftMessage {
            kind: MessageKind::MsgAppend.into(),
            term: 5,
            log_term: 3,
            index,
            entries: entries.iter().map(entry).collect(),
            ..RaftMessage::default()
        }
    }

    fn snapshot(membership: &Membership) -> RaftMessage {
        let meta = snapshot_meta(9, 4, membership, "region".into());
        let kind = MessageKind::MsgSnapshot.into();
        RaftMessage { kind, term: 5, snapshot: Some(meta.into()), ..RaftMessage::default() }
    }

    #[test]
    fn entries_follow_one_another_and_their_terms_never_fall() {
        assert!(is_sound(&append(7, &[]), 5));
        assert!(is_sound(&append(7, &[(8, 3), (9, 5)]), 5));
        assert!(!is_sound(&append(7, &[(9, 3)]), 5), "a gap after the index");
        assert!(!is_sound(&append(7, &[(8, 3), (10, 3)]), 5), "a gap between entries");
        assert!(!is_sound(&append(7, &[(8, 2)]), 5), "an earlier term than the entry before");
        assert!(!is_sound(&append(7, &[(8, 4), (9, 3)]), 5), "a term that falls");
        assert!(!is_sound(&append(7, &[(8, 6)]), 5), "a later term than the leader's");
        assert!(!is_sound(&append(u64::MAX, &[(0, 5)]), 5), "an index beyond the last number");
        let kind = MessageKind::MsgHeartbeat.into();
        let heartbeat = RaftMessage { kind, ..append(7, &[(8, 3)]) };
        assert!(!is_sound(&heartbeat, 5), "entries with a message that has none");
    }

    #[test]
    fn a_term_is_neither_0_nor_out_of_reach() {
        let at = |term| RaftMessage { term, ..append(7, &[]) };
        assert!(!is_sound(&at(0), 5));
        assert!(is_sound(&at(5 + TERM_RAISE_MAX), 5));
        assert!(!is_sound(&at(6 + TERM_RAISE_MAX), 5));
        assert!(is_sound(&at(1), 5), "an earlier term is answered");
    }

    #[test]
    fn a_snapshot_has_a_configuration_that_a_group_may_have() {
        let joint = Membership { voters: vec![1, 4], outgoing: vec![1, 2], learners: vec![5] };
        for membership in [joint, Membership::of_voters(&[1, 2, 3])] {
            let sound = snapshot(&membership);
            assert!(is_sound(&sound, 5));
            let wrong = |change: fn(&mut SnapshotMeta)| {
                let mut message = sound.clone();
                change(message.snapshot.as_mut().expect("it has one"));
                !is_sound(&message, 5)
            };
            assert!(wrong(|meta| meta.learners_next.push(9)));
            assert!(wrong(|meta| meta.auto_leave = !meta.auto_leave));
            assert!(wrong(|meta| meta.voters.clear()));
            assert!(wrong(|meta| meta.index = 0));
            assert!(wrong(|meta| meta.term = 6));
        }
    }

    #[test]
    fn a_snapshot_comes_with_the_message_that_says_so_and_with_no_other() {
        let sound = snapshot(&Membership::of_voters(&[1]));
        assert!(!is_sound(&RaftMessage { snapshot: None, ..sound.clone() }, 5));
        let kind = MessageKind::MsgAppend.into();
        assert!(!is_sound(&RaftMessage { kind, ..sound }, 5));
    }
}
