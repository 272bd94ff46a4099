//! What a peer must not forget. Term and vote never go back; a message that implies a durable log
//! leaves only once the log is durable; a turn that changes members ends with the commit of the
//! change durable.
//!
//! The checker keeps its own account of what is durable, from the batches that were synced, and
//! compares each message that leaves with this account. Of the entries it keeps the terms: an
//! acknowledgement up to an index implies that the durable log has the entry that was written
//! there, not an earlier one. What an entry says is for [`super::model`].

use std::collections::BTreeMap;

use flotilla_engine::{LogBatch, LogOp};
use flotilla_group::{MessageKind, RaftMessage};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_types::RegionId;
use flotilla_types::proto::HardState;
use prost::Message;

use super::commits::Committed;
use super::group::{GroupId, Node};
use super::terms::Terms;
use super::{Verdict, broken};

/// What a log holds of one Raft group.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    state: HardState,
    terms: Terms,
}

/// One node's log: what is durable, and what is written and not synced.
#[derive(Clone, Debug, Default)]
pub struct NodeLog {
    durable: BTreeMap<u64, Held>,
    /// What the node would find if it lost nothing.
    latest: BTreeMap<u64, Terms>,
    written: Vec<LogBatch>,
}

/// What is durable of all nodes' logs.
#[derive(Debug, Default)]
pub struct Ballots {
    nodes: BTreeMap<Node, NodeLog>,
    /// Logs of members of the placement driver whose directories were lost.
    lost: BTreeMap<Node, NodeLog>,
}

impl Ballots {
    /// A batch was written to the node's log.
    pub fn write(&mut self, node: Node, mut batch: LogBatch) {
        batch.ops.retain(|op| node.has_group(group_of(op)));
        let log = self.nodes.entry(node).or_default();
        for op in &batch.ops {
            log.write(op);
        }
        log.written.push(batch);
    }

    /// The node's log was synced: all batches written so far are durable.
    pub fn sync(&mut self, node: Node) -> Verdict {
        let log = self.nodes.entry(node).or_default();
        std::mem::take(&mut log.written).iter().try_for_each(|batch| log.take(node, batch))
    }

    /// The power of the node went. The first `kept` batches that were not synced are durable all
    /// the same.
    pub fn crash(&mut self, node: Node, kept: usize) -> Verdict {
        let log = self.nodes.entry(node).or_default();
        log.written.truncate(kept);
        self.sync(node)?;
        let log = self.nodes.entry(node).or_default();
        log.latest = log.durable.iter().map(|(id, held)| (*id, held.terms.clone())).collect();
        Ok(())
    }

    /// What is durable of the node's log.
    pub fn copy(&self, node: Node) -> NodeLog {
        let durable = self.nodes.get(&node).map(|log| log.durable.clone()).unwrap_or_default();
        let latest = durable.iter().map(|(id, held)| (*id, held.terms.clone())).collect();
        NodeLog { durable, latest, written: vec![] }
    }

    /// The node's log is as `copy` was.
    pub fn put_back(&mut self, node: Node, copy: NodeLog) {
        self.nodes.insert(node, copy);
    }

    /// The directory of a member of the placement driver is lost. What it held still counted for a
    /// quorum: the member takes part in nothing any more, and one failure is borne.
    pub fn lose(&mut self, node: Node) {
        if let Some(log) = self.nodes.remove(&node) {
            self.lost.insert(node, log);
        }
    }

    /// True if the entry is durable in the log of the group's peer on this node: of this
    /// incarnation, by its id.
    pub fn holds(&self, node: Node, (group, peer): (GroupId, u64), entry: Committed) -> bool {
        let logs = self.nodes.get(&node).into_iter().chain(self.lost.get(&node));
        let mut held = logs
            .filter_map(|log| log.durable.iter().find(|(number, _)| node.group(**number) == group));
        held.any(|(_, held)| {
            held.state.peer_id == peer && held.terms.holds((entry.index, entry.term))
        })
    }

    /// Checks, at the end of a turn that applied a change of members at `index` or later, that the
    /// change is durably committed. A peer that forgets the change asks a majority of the former
    /// members for votes.
    pub fn remembers(&self, node: Node, region: RegionId, index: u64) -> Verdict {
        let held = self.nodes.get(&node).and_then(|log| log.durable.get(&region.0));
        let commit = held.map_or(0, |held| held.state.commit);
        if commit >= index {
            return Ok(());
        }
        let what = format!("{node}, region {region}: applied from {index} on, {commit} is durable");
        broken("that a change of members is committed is durable", what)
    }

    /// Checks a message that leaves the node.
    pub fn leaves(&self, node: Node, envelope: &Envelope) -> Verdict {
        let Body::Message(message) = &envelope.body else { return Ok(()) };
        let group = envelope.region_id.0;
        let (no_held, no_terms) = (Held::default(), Terms::default());
        let log = self.nodes.get(&node);
        let durable = log.and_then(|log| log.durable.get(&group)).unwrap_or(&no_held);
        let latest = log.and_then(|log| log.latest.get(&group)).unwrap_or(&no_terms);
        if is_durable(durable, latest, message) {
            return Ok(());
        }
        let kind = message.kind();
        let what = format!(
            "{node}, {}: {kind:?} to {} of term {} and index {} leaves while {:?} with {:?} is \
             durable and {latest:?} is written",
            node.group(group),
            message.to,
            message.term,
            message.index,
            durable.state,
            durable.terms
        );
        broken("no message leaves before what it implies is durable", what)
    }
}

impl NodeLog {
    fn write(&mut self, op: &LogOp) {
        match op {
            LogOp::Append { group, entries } => {
                self.latest.entry(*group).or_default().append(entries);
            }
            LogOp::SetState { group, state } => {
                let state = HardState::decode(state.clone()).unwrap_or_default();
                self.latest.entry(*group).or_default().truncate(state.truncated_index);
            }
            LogOp::Truncate { .. } => {}
            LogOp::Clear { group } => {
                self.latest.remove(group);
            }
        }
    }

    fn take(&mut self, node: Node, batch: &LogBatch) -> Verdict {
        let mut before: BTreeMap<u64, Option<HardState>> = BTreeMap::new();
        for op in &batch.ops {
            let group = group_of(op);
            let state = || self.durable.get(&group).map(|held| held.state);
            before.entry(group).or_insert_with(state);
            self.apply(group, op)?;
        }
        for (group, before) in before {
            let (Some(before), Some(after)) = (before, self.durable.get(&group)) else { continue };
            if goes_back(&before, &after.state) {
                let group = node.group(group);
                let what = format!("{node}, {group}: from {before:?} to {:?}", after.state);
                return broken("term and vote never go back", what);
            }
        }
        Ok(())
    }

    fn apply(&mut self, group: u64, op: &LogOp) -> Verdict {
        match op {
            LogOp::Append { entries, .. } => {
                self.durable.entry(group).or_default().terms.append(entries);
            }
            LogOp::SetState { state, .. } => {
                let state = HardState::decode(state.clone());
                let Ok(state) = state else {
                    return broken("a hard state can be read", format!("group {group}"));
                };
                let held = self.durable.entry(group).or_default();
                held.terms.truncate(state.truncated_index);
                held.state = state;
            }
            LogOp::Truncate { .. } => {}
            LogOp::Clear { .. } => {
                self.durable.remove(&group);
            }
        }
        Ok(())
    }
}

fn group_of(op: &LogOp) -> u64 {
    match op {
        LogOp::Append { group, .. }
        | LogOp::SetState { group, .. }
        | LogOp::Truncate { group, .. }
        | LogOp::Clear { group } => *group,
    }
}

fn goes_back(before: &HardState, after: &HardState) -> bool {
    before.peer_id == after.peer_id
        && (after.term < before.term
            || (after.term == before.term && before.vote != 0 && after.vote != before.vote))
}

fn is_durable(durable: &Held, latest: &Terms, message: &RaftMessage) -> bool {
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
            let index = message.index;
            // Entries that a truncation drops are on disk until it is durable, too.
            let is_same = latest.term(index).is_none_or(|term| durable.terms.holds((index, term)));
            let is_held = index <= durable.terms.last() && is_same;
            let has_entries = is_held || message.term < state.term;
            message.reject || (state.term >= message.term && has_entries)
        }
        _ => true,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flotilla_engine::LogEntry;
    use flotilla_host::core::message::{Address, End};
    use flotilla_types::StoreId;

    const NODE: Node = Node::Store(StoreId(1));

    /// The group's peer, which has voted for nobody.
    pub fn of_peer(peer_id: u64) -> LogBatch {
        let state = HardState { peer_id, ..HardState::default() };
        let state = state.encode_to_vec().into();
        LogBatch { ops: vec![LogOp::SetState { group: 1, state }] }
    }

    /// An entry.
    pub fn appended(index: u64, term: u64) -> LogBatch {
        let entries = vec![LogEntry { index, term, ..LogEntry::default() }];
        LogBatch { ops: vec![LogOp::Append { group: 1, entries }] }
    }

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
        ballots.write(NODE, state(3, 8));
        assert!(ballots.leaves(NODE, &vote(3, 8)).is_err());
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &vote(3, 8)).is_ok());
        assert!(ballots.leaves(NODE, &vote(3, 9)).is_err());
    }

    #[test]
    fn a_leader_whose_own_vote_is_not_durable_is_found() {
        let kind = MessageKind::MsgHeartbeat.into();
        let message = RaftMessage { kind, term: 3, to: 8, from: 7, ..RaftMessage::default() };
        let body = Body::Message(message.into());
        let heartbeat = Envelope { body, ..vote(3, 8) };
        let mut ballots = Ballots::default();
        ballots.write(NODE, state(3, 7));
        assert!(ballots.leaves(NODE, &heartbeat).is_err());
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &heartbeat).is_ok());
    }

    #[test]
    fn an_answer_of_a_term_that_is_not_durable_is_found() {
        let kind = MessageKind::MsgAppendResponse.into();
        let message = RaftMessage { kind, term: 3, to: 8, from: 7, ..RaftMessage::default() };
        let answer = Envelope { body: Body::Message(message.into()), ..vote(3, 8) };
        let mut ballots = Ballots::default();
        ballots.write(NODE, state(2, 8));
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &answer).is_err());
        ballots.write(NODE, state(3, 0));
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &answer).is_ok());
    }

    #[test]
    fn a_second_vote_in_a_term_is_found() {
        let mut ballots = Ballots::default();
        ballots.write(NODE, state(3, 8));
        ballots.write(NODE, state(3, 9));
        assert!(ballots.sync(NODE).is_err());
    }

    #[test]
    fn an_answer_for_an_entry_that_only_replaces_another_on_disk_is_found() {
        let kind = MessageKind::MsgAppendResponse.into();
        let message =
            RaftMessage { kind, term: 3, to: 8, from: 7, index: 6, ..RaftMessage::default() };
        let answer = Envelope { body: Body::Message(message.into()), ..vote(3, 8) };
        let mut ballots = Ballots::default();
        ballots.write(NODE, state(3, 0));
        ballots.write(NODE, appended(6, 2));
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &answer).is_ok());
        ballots.write(NODE, appended(6, 3));
        assert!(ballots.leaves(NODE, &answer).is_err());
        assert!(ballots.sync(NODE).is_ok());
        assert!(ballots.leaves(NODE, &answer).is_ok());
    }
}
