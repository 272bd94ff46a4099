//! The promise on which a leader's lease rests: for a while after its leader's last message, a peer
//! votes for no other candidate.
//!
//! The `raft` crate keeps a follower from voting while it knows a leader and its election timer has
//! not run out. That is not enough in two cases, in which the peer forgets its leader early:
//!
//! * The peer restarts. It may have answered a heartbeat just before, and does not remember.
//! * The peer learns of a later term, from any message but a request for a vote. With five voters,
//!   a third one that once stood for election in that term answers a message that the peer sent
//!   long ago; the `raft` crate then forgets the leader, whose lease may rest on the peer's last
//!   answer.
//!
//! So the promise is kept here, by the clock, whatever the peer knows of terms and leaders.
//!
//! Owns: the moment until which no vote is granted. In: messages of leaders, requests for votes.
//! A request that is part of a leadership transfer passes: its leader gave up its lease before.
//! Invariant: the moment never moves back.
//!
//! Not here: how long a lease is (`lease`), and the peer's own candidature, which waits for its
//! election timer (`election`).

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{MessageKind, RaftMessage};

use crate::config::Timing;
use crate::lease::promise_ms;

/// The context by which the `raft` crate marks votes of a leadership transfer.
const TRANSFER_CONTEXT: &[u8] = b"CampaignTransfer";

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    until: Millis,
}

impl Promise {
    /// A peer that is opened at `now`. After a restart it grants no vote for one election timeout.
    pub(crate) fn at_opening(now: Millis, is_restart: bool, timing: &Timing) -> Promise {
        if planted(Mutant::VoteAtOnce) || !is_restart {
            return Promise { until: now };
        }
        Promise { until: now.plus(timing.election_ms()) }
    }

    /// A message of this kind came from the leader of the peer's term.
    pub(crate) fn extend(&mut self, now: Millis, kind: MessageKind, timing: &Timing) {
        if planted(Mutant::PromiseForgotten) {
            return;
        }
        if is_from_leader(kind) {
            self.until = self.until.max(now.plus(promise_ms(timing)));
        }
    }

    /// True for a request for a vote that the peer may not grant yet.
    pub(crate) fn forbids(&self, now: Millis, message: &RaftMessage) -> bool {
        if planted(Mutant::QuorumUnchecked) {
            return false;
        }
        let is_vote =
            matches!(message.kind(), MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote);
        is_vote && now < self.until && message.context != TRANSFER_CONTEXT
    }
}

/// True for the kinds that only a leader sends to its followers, and that reset their timers.
fn is_from_leader(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::MsgAppend | MessageKind::MsgHeartbeat | MessageKind::MsgSnapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(kind: MessageKind, context: &'static [u8]) -> RaftMessage {
        RaftMessage { kind: kind.into(), context: context.into(), ..RaftMessage::default() }
    }

    fn heard_at(now: u64) -> Promise {
        let mut promise = Promise::at_opening(Millis(0), false, &Timing::DEFAULT);
        promise.extend(Millis(now), MessageKind::MsgHeartbeat, &Timing::DEFAULT);
        promise
    }

    #[test]
    fn a_peer_that_heard_its_leader_votes_for_nobody_until_its_own_timer_may_run_out() {
        let promise = heard_at(1_000);
        for kind in [MessageKind::MsgRequestVote, MessageKind::MsgRequestPreVote] {
            assert!(promise.forbids(Millis(1_399), &asks(kind, b"")));
            assert!(!promise.forbids(Millis(1_400), &asks(kind, b"")));
        }
        assert!(!promise.forbids(Millis(1_001), &asks(MessageKind::MsgAppend, b"")));
    }

    #[test]
    fn a_vote_of_a_leadership_transfer_is_given_at_once() {
        let transfer = asks(MessageKind::MsgRequestVote, TRANSFER_CONTEXT);
        assert!(!heard_at(1_000).forbids(Millis(1_001), &transfer));
    }

    #[test]
    fn only_a_leaders_messages_extend_the_promise_and_an_earlier_one_does_not_shorten_it() {
        let mut promise = heard_at(1_000);
        promise.extend(Millis(900), MessageKind::MsgSnapshot, &Timing::DEFAULT);
        promise.extend(Millis(1_300), MessageKind::MsgRequestPreVote, &Timing::DEFAULT);
        assert!(promise.forbids(Millis(1_399), &asks(MessageKind::MsgRequestVote, b"")));
        assert!(!promise.forbids(Millis(1_400), &asks(MessageKind::MsgRequestVote, b"")));
    }

    #[test]
    fn a_restarted_peer_grants_no_vote_for_one_election_timeout() {
        let promise = Promise::at_opening(Millis(1_000), true, &Timing::DEFAULT);
        assert!(promise.forbids(Millis(1_499), &asks(MessageKind::MsgRequestVote, b"")));
        assert!(!promise.forbids(Millis(1_500), &asks(MessageKind::MsgRequestVote, b"")));
    }
}
