//! What a peer must not forget. Term and vote never go back; a message that implies a durable log
//! leaves only once the log is durable; a turn that changes members ends with the commit of the
//! change durable.
//!
//! The checker keeps its own account of what is durable, from the batches that were synced, and
//! compares each message that leaves with this account. What an entry says is for [`super::model`].

use std::collections::BTreeMap;

use flotilla_engine::{LogBatch, LogOp};
use flotilla_group::{MessageKind, RaftMessage};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_types::proto::HardState;
use flotilla_types::{RegionId, StoreId};
use prost::Message;

use super::{Verdict, broken};

/// What is durable of one Raft group.
#[derive(Clone, Debug, Default, PartialEq)]
struct Durable {
    state: HardState,
    last: u64,
}

/// What is durable of one store's log, and what is written and not synced.
#[derive(Debug, Default)]
pub struct Ballots {
    durable: BTreeMap<u64, Durable>,
    written: Vec<LogBatch>,
}

impl Ballots {
    /// A batch was written to the log.
    pub fn write(&mut self, batch: &LogBatch) {
        self.written.push(batch.clone());
    }

    /// The log was synced: all batches written so far are durable.
    pub fn sync(&mut self, store: StoreId) -> Verdict {
        std::mem::take(&mut self.written).iter().try_for_each(|batch| self.take(store, batch))
    }

    /// The power went. The first `kept` batches that were not synced are durable all the same.
    pub fn crash(&mut self, store: StoreId, kept: usize) -> Verdict {
        self.written.truncate(kept);
        self.sync(store)
    }

    fn take(&mut self, store: StoreId, batch: &LogBatch) -> Verdict {
        let mut before: BTreeMap<u64, Option<Durable>> = BTreeMap::new();
        for op in &batch.ops {
            let (LogOp::Append { group, .. }
            | LogOp::SetState { group, .. }
            | LogOp::Truncate { group, .. }
            | LogOp::Clear { group }) = op;
            before.entry(*group).or_insert_with(|| self.durable.get(group).cloned());
            self.apply(*group, op)?;
        }
        for (group, before) in before {
            let (Some(before), Some(after)) = (before, self.durable.get(&group)) else { continue };
            if goes_back(&before.state, &after.state) {
                let what = format!(
                    "store {store}, region {group}: from {:?} to {:?}",
                    before.state, after.state
                );
                return broken("term and vote never go back", what);
            }
        }
        Ok(())
    }

    fn apply(&mut self, group: u64, op: &LogOp) -> Verdict {
        match op {
            LogOp::Append { entries, .. } => {
                let last = entries.last().map_or(0, |entry| entry.index);
                self.durable.entry(group).or_default().last = last;
            }
            LogOp::SetState { state, .. } => {
                let state = HardState::decode(state.clone());
                let Ok(state) = state else {
                    return broken("a hard state can be read", format!("region {group}"));
                };
                let durable = self.durable.entry(group).or_default();
                durable.last = durable.last.max(state.truncated_index);
                durable.state = state;
            }
            LogOp::Truncate { .. } => {}
            LogOp::Clear { .. } => {
                self.durable.remove(&group);
            }
        }
        Ok(())
    }

    /// Checks, at the end of a turn that applied a change of members at `index` or later, that the
    /// change is durably committed. A peer that forgets the change asks a majority of the former
    /// members for votes.
    pub fn remembers(&self, store: StoreId, region: RegionId, index: u64) -> Verdict {
        let commit = self.durable.get(&region.0).map_or(0, |durable| durable.state.commit);
        if commit >= index {
            return Ok(());
        }
        let what =
            format!("store {store}, region {region}: applied from {index} on, {commit} is durable");
        broken("that a change of members is committed is durable", what)
    }

    /// Checks a message that leaves the store.
    pub fn leaves(&self, store: StoreId, envelope: &Envelope) -> Verdict {
        let Body::Message(message) = &envelope.body else { return Ok(()) };
        let group = envelope.region_id.0;
        let none = Durable::default();
        let durable = self.durable.get(&group).unwrap_or(&none);
        if is_durable(durable, message) {
            return Ok(());
        }
        let kind = message.kind();
        let what = format!(
            "store {store}, region {group}: {kind:?} to {} of term {} and index {} leaves while \
             {:?} with entries up to {} is durable",
            message.to, message.term, message.index, durable.state, durable.last
        );
        broken("no message leaves before what it implies is durable", what)
    }
}

fn goes_back(before: &HardState, after: &HardState) -> bool {
    before.peer_id == after.peer_id
        && (after.term < before.term
            || (after.term == before.term && before.vote != 0 && after.vote != before.vote))
}

fn is_durable(durable: &Durable, message: &RaftMessage) -> bool {
    let state = &durable.state;
    let votes_for = |candidate: u64| {
        state.peer_id == message.from
            && (state.term > message.term
                || (state.term == message.term && state.vote == candidate))
    };
    match message.kind() {
        MessageKind::MsgRequestVote => votes_for(message.from),
        // Only a leader sends these messages, and the leader's own vote helped to elect it.
        MessageKind::MsgAppend | MessageKind::MsgHeartbeat | MessageKind::MsgSnapshot => {
            votes_for(message.from)
        }
        MessageKind::MsgRequestVoteResponse => message.reject || votes_for(message.to),
        // A peer that accepts entries of a term must never be in an earlier term again.
        //
        // Entries from a leader of an earlier term may have been replaced in the same turn by
        // entries from the next leader. The replaced entries can never be committed: a majority
        // elected the next leader without them.
        MessageKind::MsgAppendResponse => {
            let has_entries = message.index <= durable.last || message.term < state.term;
            message.reject || (state.term >= message.term && has_entries)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_host::core::message::{Address, End};

    fn state(term: u64, vote: u64) -> LogBatch {
        let state = HardState { term, vote, peer_id: 7, ..HardState::default() };
        let state = state.encode_to_vec().into();
        LogBatch { ops: vec![LogOp::SetState { group: 1, state }] }
    }

    fn vote(term: u64, to: u64) -> Envelope {
        let kind = MessageKind::MsgRequestVoteResponse.into();
        let message = RaftMessage { kind, term, to, from: 7, ..RaftMessage::default() };
        let end = |member| End { address: Address::Store(StoreId(member)), member };
        Envelope {
            region_id: RegionId(1),
            conf_ver: 1,
            region: None,
            from: end(7),
            to: end(to),
            body: Body::Message(message.into()),
        }
    }

    #[test]
    fn a_vote_that_leaves_before_its_sync_is_found() {
        let mut ballots = Ballots::default();
        ballots.write(&state(3, 8));
        assert!(ballots.leaves(StoreId(1), &vote(3, 8)).is_err());
        assert!(ballots.sync(StoreId(1)).is_ok());
        assert!(ballots.leaves(StoreId(1), &vote(3, 8)).is_ok());
        assert!(ballots.leaves(StoreId(1), &vote(3, 9)).is_err());
    }

    #[test]
    fn a_leader_whose_own_vote_is_not_durable_is_found() {
        let kind = MessageKind::MsgHeartbeat.into();
        let message = RaftMessage { kind, term: 3, to: 8, from: 7, ..RaftMessage::default() };
        let body = Body::Message(message.into());
        let heartbeat = Envelope { body, ..vote(3, 8) };
        let mut ballots = Ballots::default();
        ballots.write(&state(3, 7));
        assert!(ballots.leaves(StoreId(1), &heartbeat).is_err());
        assert!(ballots.sync(StoreId(1)).is_ok());
        assert!(ballots.leaves(StoreId(1), &heartbeat).is_ok());
    }

    #[test]
    fn an_answer_of_a_term_that_is_not_durable_is_found() {
        let kind = MessageKind::MsgAppendResponse.into();
        let message = RaftMessage { kind, term: 3, to: 8, from: 7, ..RaftMessage::default() };
        let answer = Envelope { body: Body::Message(message.into()), ..vote(3, 8) };
        let mut ballots = Ballots::default();
        ballots.write(&state(2, 8));
        assert!(ballots.sync(StoreId(1)).is_ok());
        assert!(ballots.leaves(StoreId(1), &answer).is_err());
        ballots.write(&state(3, 0));
        assert!(ballots.sync(StoreId(1)).is_ok());
        assert!(ballots.leaves(StoreId(1), &answer).is_ok());
    }

    #[test]
    fn a_second_vote_in_a_term_is_found() {
        let mut ballots = Ballots::default();
        ballots.write(&state(3, 8));
        ballots.write(&state(3, 9));
        assert!(ballots.sync(StoreId(1)).is_err());
    }
}
