//! Heartbeats that need not be sent, because their receiver got another message of the leader.
//!
//! The `raft` crate sends a heartbeat to every member at each heartbeat interval, and a second one
//! with a context for each round of ReadIndex. Two kinds of heartbeats are dropped:
//!
//! * One to a member that has **answered** this leader since the last tick, if other messages do
//!   what the heartbeat would: a plain one, if entries or a round's heartbeat were sent since the
//!   last tick, for they have reset the member's election timer; any one, if entries are unsent.
//! * One to a member for which a round's heartbeat is unsent. The `raft` crate repeats an
//!   unanswered round at a tick; a round that begins in this turn needs no repetition in the same
//!   turn.
//!
//! A member that did not answer may not have got, or not have taken, what was sent to it: entries
//! are lost, or refused by a store that has no room for more. Nothing but a heartbeat then keeps
//! the member from standing for election.
//!
//! `raft` has no hook for this, so [`Heartbeats::tick`] edits the node's unsent messages
//! (`node.raft.msgs`). It relies on three facts, which a test below checks: a tick appends its
//! heartbeats to that list and leaves the messages before them alone; the tick's own heartbeats
//! have an empty context or that of the last unanswered round; and the next ready sends what the
//! list holds and nothing else.
//!
//! Owns: the members that were written to, and those that answered, since the last tick. Not here:
//! when a tick is due.

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::MessageKind;
use raft::RawNode;
use raft::eraftpb::{Message, MessageType};

use crate::group_log::GroupLog;

/// What happened between this leader and its members since the last tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heartbeats {
    written_to: Vec<u64>,
    answered: Vec<u64>,
}

impl Heartbeats {
    /// A message of the present term came from a member.
    pub(crate) fn on_message(&mut self, kind: MessageKind, from: u64) {
        let is_answer =
            matches!(kind, MessageKind::MsgAppendResponse | MessageKind::MsgHeartbeatResponse);
        if is_answer && !self.answered.contains(&from) {
            self.answered.push(from);
        }
    }

    /// These messages leave with a ready.
    pub(crate) fn on_ready(&mut self, messages: &[Message]) {
        for message in messages.iter().filter(|message| replaces_heartbeat(message)) {
            if !self.written_to.contains(&message.to) {
                self.written_to.push(message.to);
            }
        }
    }

    /// Ticks the node, and drops the heartbeats that are not needed.
    pub(crate) fn tick(&mut self, node: &mut RawNode<GroupLog>) {
        let unsent = node.raft.msgs.len();
        node.tick();
        let since_last_tick = std::mem::take(self);
        let messages = &mut node.raft.msgs;
        let mut new = messages.split_off(unsent.min(messages.len()));
        new.retain(|message| !since_last_tick.make_needless(message, messages));
        messages.append(&mut new);
    }

    /// True for a tick's heartbeat that its receiver needs not, for the reasons that the module's
    /// header gives. `unsent` is what leaves with it.
    fn make_needless(&self, message: &Message, unsent: &[Message]) -> bool {
        if message.msg_type != MessageType::MsgHeartbeat {
            return false;
        }
        let mut to_same = unsent.iter().filter(|unsent| unsent.to == message.to);
        let is_repetition = to_same.clone().any(is_round);
        let is_written_to = message.context.is_empty() && self.written_to.contains(&message.to);
        let is_replaced = is_written_to || to_same.any(replaces_heartbeat);
        is_repetition || (is_replaced && self.has_answered(message.to))
    }

    fn has_answered(&self, member: u64) -> bool {
        if planted(Mutant::HeartbeatSpared) {
            return true;
        }
        self.answered.contains(&member)
    }
}

/// True for a heartbeat that carries a round of ReadIndex.
fn is_round(message: &Message) -> bool {
    message.msg_type == MessageType::MsgHeartbeat && !message.context.is_empty()
}

/// True for entries, and for a heartbeat that carries a round of ReadIndex.
fn replaces_heartbeat(message: &Message) -> bool {
    match message.msg_type {
        MessageType::MsgAppend => true,
        MessageType::MsgHeartbeat => !message.context.is_empty(),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgSnapshot
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_node::open_node;
    use raft::StateRole;

    /// What a test looks at in a message: kind, receiver, context.
    type Seen = (MessageType, u64, Vec<u8>);

    fn message(kind: MessageType, to: u64, context: &'static str) -> Message {
        let mut message = Message { to, context: context.into(), ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    fn heartbeat(to: u64, context: &str) -> Seen {
        (MessageType::MsgHeartbeat, to, context.as_bytes().to_vec())
    }

    fn seen(messages: &[Message]) -> Vec<Seen> {
        let mut seen: Vec<Seen> =
            messages.iter().map(|m| (m.msg_type, m.to, m.context.to_vec())).collect();
        seen.sort_by_key(|(kind, to, context)| (*kind as i32, *to, context.clone()));
        seen
    }

    /// The leader of peers 1, 2 and 3, whose first entry is committed; it has nothing to send.
    fn leader() -> RawNode<GroupLog> {
        let mut node = open_node(&[1, 2, 3]);
        node.raft.become_candidate();
        node.raft.become_leader();
        let entries = node.raft.raft_log.unstable_entries().to_vec();
        let last = entries.last().map_or(0, |entry| entry.index);
        sent(&mut node);
        for from in [2, 3] {
            let mut answer = message(MessageType::MsgAppendResponse, 1, "");
            (answer.from, answer.term, answer.index) = (from, node.raft.term, last);
            node.step(answer).expect("an answer to the leader's first entry");
        }
        sent(&mut node);
        assert_eq!(node.raft.state, StateRole::Leader);
        assert!(node.raft.commit_to_current_term());
        node
    }

    /// What the next ready sends, all of it persisted and applied.
    fn sent(node: &mut RawNode<GroupLog>) -> Vec<Message> {
        if !node.has_ready() {
            return vec![];
        }
        let mut ready = node.ready();
        let mut messages = ready.take_messages();
        messages.extend(ready.take_persisted_messages());
        node.mut_store().append(ready.take_entries());
        let number = ready.number();
        node.advance_append_async(ready);
        node.on_persist_ready(number);
        messages
    }

    #[test]
    fn the_raft_crate_appends_a_ticks_heartbeats_to_the_unsent_messages_and_sends_the_rest() {
        let mut node = leader();
        node.read_index(b"round".to_vec());
        let before = node.raft.msgs.clone();
        assert_eq!(seen(&before), [heartbeat(2, "round"), heartbeat(3, "round")]);
        node.tick();
        assert_eq!(node.raft.msgs[..2], before[..], "unsent messages stay, in front");
        assert_eq!(seen(&node.raft.msgs[2..]), [heartbeat(2, "round"), heartbeat(3, "round")]);
        node.raft.msgs.truncate(3);
        assert_eq!(sent(&mut node).len(), 3, "a ready sends what the list holds");
        let mut node = leader();
        node.tick();
        assert_eq!(seen(&node.raft.msgs), [heartbeat(2, ""), heartbeat(3, "")]);
    }

    #[test]
    fn a_member_that_was_written_to_gets_no_plain_heartbeat_at_the_next_tick_only() {
        let (mut node, mut heartbeats) = (leader(), Heartbeats::default());
        heartbeats.on_ready(&[message(MessageType::MsgAppend, 2, "")]);
        heartbeats.on_message(MessageKind::MsgAppendResponse, 2);
        heartbeats.tick(&mut node);
        assert_eq!(seen(&sent(&mut node)), [heartbeat(3, "")]);
        heartbeats.tick(&mut node);
        assert_eq!(seen(&sent(&mut node)), [heartbeat(2, ""), heartbeat(3, "")]);
    }

    #[test]
    fn a_member_that_was_written_to_and_did_not_answer_gets_its_heartbeat() {
        let (mut node, mut heartbeats) = (leader(), Heartbeats::default());
        heartbeats.on_ready(&[message(MessageType::MsgAppend, 2, "")]);
        heartbeats.on_message(MessageKind::MsgAppendResponse, 3);
        heartbeats.on_message(MessageKind::MsgRequestPreVote, 2);
        heartbeats.tick(&mut node);
        assert_eq!(seen(&sent(&mut node)), [heartbeat(2, ""), heartbeat(3, "")]);
    }

    #[test]
    fn a_plain_heartbeat_replaces_none() {
        let (mut node, mut heartbeats) = (leader(), Heartbeats::default());
        heartbeats.on_ready(&[message(MessageType::MsgHeartbeat, 2, "")]);
        heartbeats.on_message(MessageKind::MsgHeartbeatResponse, 2);
        heartbeats.tick(&mut node);
        assert_eq!(seen(&sent(&mut node)), [heartbeat(2, ""), heartbeat(3, "")]);
    }

    #[test]
    fn a_round_is_repeated_at_a_tick_unless_its_first_messages_are_still_unsent() {
        let (mut node, mut heartbeats) = (leader(), Heartbeats::default());
        node.read_index(b"round".to_vec());
        heartbeats.tick(&mut node);
        let round = [heartbeat(2, "round"), heartbeat(3, "round")];
        let messages = sent(&mut node);
        heartbeats.on_ready(&messages);
        assert_eq!(seen(&messages), round);
        heartbeats.tick(&mut node);
        assert_eq!(seen(&sent(&mut node)), round);
    }
}
