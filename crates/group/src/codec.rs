//! Conversions between the wire's messages and those of the `raft` crate, field by field.
//!
//! Not here: bytes. The network's are decoded by prost, in drivers.

use bytes::Bytes;
use flotilla_engine::LogEntry;
use flotilla_types::proto;
use raft::eraftpb;

use crate::member::Membership;
use crate::ready::{Committed, CommittedBody, Position};

pub(crate) fn entry_to_log(entry: &eraftpb::Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: entry.get_entry_type() as u8,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

pub(crate) fn entry_from_log(entry: LogEntry) -> eraftpb::Entry {
    raft_entry(entry.kind.into(), entry.term, entry.index, entry.data, entry.context)
}

fn raft_entry(kind: i32, term: u64, index: u64, data: Bytes, context: Bytes) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry::default();
    if kind == proto::EntryKind::EntryMembership as i32 {
        entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
    }
    entry.term = term;
    entry.index = index;
    entry.data = data;
    entry.context = context;
    entry
}

pub(crate) fn message_from_wire(message: proto::RaftMessage) -> Option<eraftpb::Message> {
    let mut raft = eraftpb::Message::default();
    raft.set_msg_type(message_type_from_wire(message.kind())?);
    raft.to = message.to;
    raft.from = message.from;
    raft.term = message.term;
    raft.log_term = message.log_term;
    raft.index = message.index;
    raft.commit = message.commit;
    raft.commit_term = message.commit_term;
    raft.request_snapshot = message.request_snapshot;
    raft.reject = message.reject;
    raft.reject_hint = message.reject_hint;
    raft.context = message.context;
    raft.priority = message.priority;
    let entries: Vec<eraftpb::Entry> = message
        .entries
        .into_iter()
        .map(|e| raft_entry(e.kind, e.term, e.index, e.data, e.context))
        .collect();
    raft.set_entries(entries.into());
    if let Some(meta) = message.snapshot {
        raft.set_snapshot(snapshot_from_wire(*meta));
    }
    Some(raft)
}

pub(crate) fn messages_to_wire(messages: Vec<eraftpb::Message>) -> Vec<proto::RaftMessage> {
    messages.into_iter().map(message_to_wire).collect()
}

fn message_to_wire(mut raft: eraftpb::Message) -> proto::RaftMessage {
    let entries = raft
        .take_entries()
        .into_iter()
        .map(|e| proto::Entry {
            kind: match e.get_entry_type() {
                eraftpb::EntryType::EntryNormal => proto::EntryKind::EntryCommand.into(),
                eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
                    proto::EntryKind::EntryMembership.into()
                }
            },
            term: e.term,
            index: e.index,
            data: e.data,
            context: e.context,
        })
        .collect();
    let snapshot = raft.has_snapshot().then(|| snapshot_to_wire(raft.get_snapshot()).into());
    proto::RaftMessage {
        kind: raft.get_msg_type() as i32,
        to: raft.to,
        from: raft.from,
        term: raft.term,
        log_term: raft.log_term,
        index: raft.index,
        entries,
        commit: raft.commit,
        snapshot,
        reject: raft.reject,
        reject_hint: raft.reject_hint,
        context: std::mem::take(&mut raft.context),
        request_snapshot: raft.request_snapshot,
        priority: raft.priority,
        commit_term: raft.commit_term,
    }
}

/// None for the kinds that are refused. A local message is one that a node sends to itself; it
/// never comes from the network. A follower forwards nothing to its leader: a transfer begins at
/// the leader, which gives up its lease first, and followers serve no reads.
fn message_type_from_wire(kind: proto::MessageKind) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as Raft;
    use proto::MessageKind as Wire;
    Some(match kind {
        Wire::MsgAppend => Raft::MsgAppend,
        Wire::MsgAppendResponse => Raft::MsgAppendResponse,
        Wire::MsgRequestVote => Raft::MsgRequestVote,
        Wire::MsgRequestVoteResponse => Raft::MsgRequestVoteResponse,
        Wire::MsgSnapshot => Raft::MsgSnapshot,
        Wire::MsgHeartbeat => Raft::MsgHeartbeat,
        Wire::MsgHeartbeatResponse => Raft::MsgHeartbeatResponse,
        Wire::MsgTimeoutNow => Raft::MsgTimeoutNow,
        Wire::MsgRequestPreVote => Raft::MsgRequestPreVote,
        Wire::MsgRequestPreVoteResponse => Raft::MsgRequestPreVoteResponse,
        Wire::MsgHup
        | Wire::MsgBeat
        | Wire::MsgPropose
        | Wire::MsgUnreachable
        | Wire::MsgSnapStatus
        | Wire::MsgCheckQuorum
        | Wire::MsgTransferLeader
        | Wire::MsgReadIndex
        | Wire::MsgReadIndexResp => return None,
    })
}

pub(crate) fn snapshot_to_wire(snapshot: &eraftpb::Snapshot) -> proto::SnapshotMeta {
    let meta = snapshot.get_metadata();
    let conf = meta.get_conf_state();
    proto::SnapshotMeta {
        index: meta.index,
        term: meta.term,
        voters: conf.get_voters().to_vec(),
        learners: conf.get_learners().to_vec(),
        voters_outgoing: conf.get_voters_outgoing().to_vec(),
        learners_next: conf.get_learners_next().to_vec(),
        auto_leave: conf.auto_leave,
        data: snapshot.data.clone(),
    }
}

pub(crate) fn snapshot_from_wire(meta: proto::SnapshotMeta) -> eraftpb::Snapshot {
    let mut conf = eraftpb::ConfState::default();
    conf.set_voters(meta.voters);
    conf.set_learners(meta.learners);
    conf.set_voters_outgoing(meta.voters_outgoing);
    conf.set_learners_next(meta.learners_next);
    conf.set_auto_leave(meta.auto_leave);
    let mut snapshot = eraftpb::Snapshot { data: meta.data, ..eraftpb::Snapshot::default() };
    snapshot.mut_metadata().index = meta.index;
    snapshot.mut_metadata().term = meta.term;
    snapshot.mut_metadata().set_conf_state(conf);
    snapshot
}

pub(crate) fn snapshot_meta(
    index: u64,
    term: u64,
    membership: &Membership,
    data: Bytes,
) -> proto::SnapshotMeta {
    let conf = membership.to_conf_state();
    proto::SnapshotMeta {
        index,
        term,
        voters: conf.get_voters().to_vec(),
        learners: conf.get_learners().to_vec(),
        voters_outgoing: conf.get_voters_outgoing().to_vec(),
        learners_next: conf.get_learners_next().to_vec(),
        auto_leave: conf.get_auto_leave(),
        data,
    }
}

/// The configuration that a snapshot's state has.
pub fn snapshot_membership(meta: &proto::SnapshotMeta) -> Membership {
    Membership::from_conf_state(snapshot_from_wire(meta.clone()).get_metadata().get_conf_state())
}

/// A committed entry, as the owner applies it.
pub(crate) fn committed(entry: eraftpb::Entry) -> Committed {
    let position = Position { index: entry.index, term: entry.term };
    let body = match entry.get_entry_type() {
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
            CommittedBody::Membership(entry.context)
        }
        eraftpb::EntryType::EntryNormal if entry.data.is_empty() => CommittedBody::Empty,
        eraftpb::EntryType::EntryNormal => CommittedBody::Command(entry.data),
    };
    Committed { position, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_kinds_carry_the_numbers_of_the_raft_crate() {
        for number in 0..=18 {
            let kind = proto::MessageKind::try_from(number).expect("the enum has no holes");
            let message = proto::RaftMessage { kind: number, ..Default::default() };
            match message_type_from_wire(kind) {
                Some(raft) => assert_eq!(raft as i32, number),
                None => assert!(message_from_wire(message).is_none()),
            }
        }
    }

    #[test]
    fn messages_survive_the_round_trip() {
        let entry = proto::Entry {
            kind: proto::EntryKind::EntryMembership.into(),
            term: 3,
            index: 9,
            data: "d".into(),
            context: "c".into(),
        };
        let membership = Membership { voters: vec![1, 4], outgoing: vec![1, 2], learners: vec![5] };
        let message = proto::RaftMessage {
            kind: proto::MessageKind::MsgSnapshot.into(),
            to: 1,
            from: 2,
            term: 3,
            log_term: 2,
            index: 8,
            entries: vec![entry],
            commit: 7,
            snapshot: Some(snapshot_meta(5, 2, &membership, "region".into()).into()),
            reject: true,
            reject_hint: 6,
            context: "ctx".into(),
            request_snapshot: 4,
            priority: -1,
            commit_term: 2,
        };
        let raft = message_from_wire(message.clone()).expect("not a local message");
        assert_eq!(message_to_wire(raft), message);
    }
}
