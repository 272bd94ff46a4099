//! Term and vote: which of them are durable, and which messages wait until they are.
//!
//! A candidate votes for itself. In a group with other voters its election needs their answers,
//! which arrive long after its own vote is synced. The only voter of a group is elected by its own
//! vote alone, at once, while that vote is not on disk yet. A crash at that moment would let the
//! peer vote for another candidate in the same term. So a ballot that no durable ready carries
//! holds back two things: the peer's claim to lead (`Group::role`), and the messages that it would
//! send as the leader.
//!
//! Owns: the number of the ready that carries the present ballot. Invariant: `unsaved` is None, or
//! a ready that was answered and not reported as durable.
//!
//! Not here: when a ballot is written (`hard_state`).

use flotilla_types::mutant::{Mutant, planted};

use crate::ready::GroupReady;

/// A peer's term, and its vote in that term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// The peer voted for; 0 if none.
    pub vote: u64,
}

/// Which ready carries the present ballot to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ballots {
    unsaved: Option<u64>,
}

impl Ballots {
    /// The ready `todo` is about to be answered. `written` is the ballot that earlier readies
    /// carry, `present` is the one in force. Messages that need the present ballot on disk leave
    /// with `todo`'s persisted ones.
    pub(crate) fn on_ready(&mut self, todo: &mut GroupReady, written: Ballot, present: Ballot) {
        if written != present {
            self.unsaved = Some(todo.number);
        }
        if !self.is_durable(written, present) {
            let waiting = std::mem::take(&mut todo.messages);
            todo.persisted_messages.splice(0..0, waiting);
        }
    }

    /// The log of the ready `number`, and of all before it, is durable.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.unsaved = self.unsaved.filter(|unsaved| *unsaved > number);
    }

    /// True if the present ballot is on disk.
    pub(crate) fn is_durable(&self, written: Ballot, present: Ballot) -> bool {
        if planted(Mutant::LeadUnelected) {
            return true;
        }
        self.unsaved.is_none() && written == present
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::proto::RaftMessage;

    const OLD: Ballot = Ballot { term: 1, vote: 0 };
    const NEW: Ballot = Ballot { term: 2, vote: 1 };

    fn ready(number: u64) -> GroupReady {
        let message = |to| RaftMessage { to, ..RaftMessage::default() };
        let (messages, persisted_messages) = (vec![message(2)], vec![message(3)]);
        GroupReady { number, messages, persisted_messages, ..GroupReady::default() }
    }

    fn receivers(messages: &[RaftMessage]) -> Vec<u64> {
        messages.iter().map(|message| message.to).collect()
    }

    #[test]
    fn messages_leave_at_once_while_the_ballot_is_on_disk() {
        let (mut ballots, mut todo) = (Ballots::default(), ready(1));
        ballots.on_ready(&mut todo, OLD, OLD);
        assert_eq!(receivers(&todo.messages), [2]);
        assert_eq!(receivers(&todo.persisted_messages), [3]);
    }

    #[test]
    fn a_new_ballot_holds_messages_back_in_order_until_its_ready_is_durable() {
        let (mut ballots, mut first, mut second) = (Ballots::default(), ready(7), ready(8));
        ballots.on_ready(&mut first, OLD, NEW);
        assert_eq!(receivers(&first.messages), [0; 0]);
        assert_eq!(receivers(&first.persisted_messages), [2, 3]);
        ballots.on_ready(&mut second, NEW, NEW);
        assert_eq!(receivers(&second.persisted_messages), [2, 3]);
        ballots.persisted(6);
        assert!(!ballots.is_durable(NEW, NEW));
        ballots.persisted(7);
        assert!(ballots.is_durable(NEW, NEW));
    }

    #[test]
    fn a_ballot_that_no_ready_carries_is_not_durable() {
        assert!(!Ballots::default().is_durable(OLD, NEW));
    }
}
