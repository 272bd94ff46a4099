//! The group itself: the `raft` crate's node, its log, its dice and its lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{LogOp, LogStore};
use flotilla_types::Millis;
use flotilla_types::dice::Dice;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{MessageKind, RaftMessage, SnapshotMeta};
use raft::eraftpb::{EntryType, MessageType};
use raft::{Config, RawNode, Ready, SnapshotStatus, StateRole};

use crate::codec;
use crate::config::{
    APPEND_BYTES_MAX, COMMITTED_BYTES_MAX, GroupConfig, INFLIGHT_MAX, UNCOMMITTED_BYTES_MAX,
};
use crate::group_log::{GroupLog, SnapshotOffer};
use crate::lease::Lease;
use crate::member::{MemberChange, Membership, conf_change};
use crate::opening::{GroupError, Opening, open_log};
use crate::ready::{
    Committed, CommittedBody, ConfirmedRead, FollowerProgress, GroupReady, Position, ReadTicket,
    Role,
};

/// The context by which the `raft` crate marks votes of a leadership transfer.
const TRANSFER_CONTEXT: &[u8] = b"CampaignTransfer";

/// The most read rounds under way. Rounds that a quorum never confirmed are forgotten beyond it.
const TICKETS_MAX: usize = 128;

/// A peer's term, and whom it voted for in it (0: nobody).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// The peer voted for.
    pub vote: u64,
}

/// Why a proposal was not taken. It will never take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This peer does not lead; `leader` is 0 if unknown.
    #[error("not the leader (leader: peer {leader})")]
    NotLeader {
        /// The leader's peer id.
        leader: u64,
    },
    /// Too much is uncommitted, a leadership transfer or another membership change is under way.
    #[error("the group takes no such proposal now")]
    Busy,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Stale, local, or from an unknown peer; ignored, as if lost.
    #[error("message ignored")]
    Ignored,
    /// The leader knows that this peer held `acknowledged`, and its log ends at `last`: the disk
    /// lost acknowledged entries. The peer must not go on.
    #[error("the log ends at {last} and entry {acknowledged} had been acknowledged")]
    LostLog {
        /// The last entry held.
        last: u64,
        /// An entry that had been held.
        acknowledged: u64,
    },
}

/// One peer's half of a Raft group. See the crate's documentation for how it is driven.
pub struct Group {
    config: GroupConfig,
    node: RawNode<GroupLog>,
    dice: Dice,
    rolled_for: (u64, StateRole),
    election_ticks: usize,
    applied: u64,
    votes_from: Millis,
    reads: Reads,
    paused: Option<Paused>,
    /// Followers are to learn at once that this entry is committed.
    urgent: Option<u64>,
    /// Members that need no heartbeat with the next tick.
    written_to: Vec<u64>,
    /// The ready that carries the present term and vote, while it is not reported as durable.
    unsaved_ballot: Option<u64>,
}

/// A ready whose snapshot is being installed, and its messages, which imply that it is.
struct Paused {
    ready: Ready,
    messages: Vec<RaftMessage>,
}

/// Rounds of confirmation, and the lease they renew.
#[derive(Default)]
struct Reads {
    lease: Lease,
    next_ticket: u64,
    sent: BTreeMap<u64, (u64, Millis)>,
    open: Option<ReadTicket>,
}

impl Group {
    /// Opens the group over what the log store and the owner's state hold. `now` is when: it
    /// begins the time without votes after a restart.
    ///
    /// A log that ends before the applied state is stale (a snapshot was installed and the process
    /// died before the log began anew): it is dropped, term and vote are kept. Answers the writes
    /// that do so; they are synced before anything else is.
    pub fn open(
        config: GroupConfig,
        store: Arc<dyn LogStore>,
        opening: Opening,
        now: Millis,
    ) -> Result<(Group, Vec<LogOp>), GroupError> {
        let (log, repairs) = open_log(&config, store, &opening)?;
        let raft_config = Config {
            id: config.peer,
            election_tick: config.timing.election_ticks,
            heartbeat_tick: config.timing.heartbeat_ticks,
            applied: opening.applied.index,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MAX,
            check_quorum: !planted(Mutant::QuorumUnchecked),
            pre_vote: true,
            // With it, raft 0.7 puts entries into an empty append that is still unsent, even one
            // whose index does not precede them; its receiver then acknowledges entries that it
            // does not have.
            batch_append: planted(Mutant::BatchAppend),
            // Followers learn what is committed with the next entries or the next heartbeat: half
            // as many messages, for nobody reads from them.
            skip_bcast_commit: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config, log, &logger)
            .map_err(|e| GroupError::Inconsistent { group: config.group, reason: e.to_string() })?;
        let silent_ms = if opening.is_restart { config.timing.election_ms() } else { 0 };
        let mut group = Group {
            dice: Dice::new(config.seed),
            rolled_for: (u64::MAX, StateRole::Follower),
            election_ticks: config.timing.election_ticks,
            applied: opening.applied.index,
            votes_from: now.plus(silent_ms),
            reads: Reads::default(),
            paused: None,
            urgent: None,
            written_to: vec![],
            unsaved_ballot: None,
            config,
            node,
        };
        group.roll_election_timeout();
        if opening.membership == Membership::of_voters(&[group.config.peer]) {
            // Nobody else could lead, so there is nothing to wait for. If this configuration is
            // out of date, the log says so, and standing for election is refused.
            group.campaign();
        }
        Ok((group, repairs))
    }

    /// The peer's own id.
    pub fn peer(&self) -> u64 {
        self.config.peer
    }

    /// The least election timeout.
    pub fn election_ms(&self) -> u64 {
        self.config.timing.election_ms()
    }

    /// Lets a tick of time pass. Calls must lie at least `timing.tick_ms` apart, or stand for time
    /// that has passed since the last call and since the last message.
    pub fn tick(&mut self) {
        if self.paused.is_some() {
            return;
        }
        let messages = &self.node.raft.msgs;
        let unsent = messages.len();
        let asked: Vec<u64> =
            messages.iter().filter(|m| spares_heartbeat(m)).map(|m| m.to).collect();
        self.node.tick();
        // Who was just sent something else knows that its leader lives. A question that was not
        // answered is asked again, but not in the tick in which it is asked.
        let written_to = std::mem::take(&mut self.written_to);
        let is_spared = |message: &raft::eraftpb::Message| {
            let is_heartbeat = message.msg_type == MessageType::MsgHeartbeat;
            let is_plain = is_heartbeat && message.context.is_empty();
            is_plain && written_to.contains(&message.to)
                || is_heartbeat && asked.contains(&message.to)
        };
        let messages = &mut self.node.raft.msgs;
        let mut new = messages.split_off(unsent.min(messages.len()));
        new.retain(|message| !is_spared(message));
        messages.append(&mut new);
        self.after_change();
    }

    /// Takes a message from another member.
    pub fn step(&mut self, now: Millis, message: RaftMessage) -> Result<(), StepError> {
        if self.paused.is_some() || self.is_vote_too_early(now, &message) {
            return Err(StepError::Ignored);
        }
        let last = self.last_index();
        if message.kind() == MessageKind::MsgHeartbeat
            && message.term >= self.role().term
            && message.commit > last
        {
            return Err(StepError::LostLog { last, acknowledged: message.commit });
        }
        let message = codec::message_from_wire(message).ok_or(StepError::Ignored)?;
        let result = self.node.step(message).map_err(|_| StepError::Ignored);
        self.after_change();
        result
    }

    fn is_vote_too_early(&self, now: Millis, message: &RaftMessage) -> bool {
        let is_vote =
            matches!(message.kind(), MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote);
        let is_silent = now < self.votes_from && !planted(Mutant::VoteAtOnce);
        is_vote && is_silent && message.context != TRANSFER_CONTEXT
    }

    /// Proposes a command. The answer says where it will stand if it is committed.
    pub fn propose(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        self.check_proposable()?;
        self.node.propose(vec![], data.into()).map_err(|_| ProposeError::Busy)?;
        Ok(self.last_position())
    }

    /// Proposes a command that followers are to apply as soon as the leader does, and do not wait
    /// for the next entries or heartbeat to hear that it is committed.
    pub fn propose_urgent(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        let position = self.propose(data)?;
        self.urgent = Some(position.index);
        self.node.skip_bcast_commit(false);
        Ok(position)
    }

    /// Proposes a membership change; `context` comes back in [`CommittedBody::Membership`] and
    /// must not be empty. More than one change goes through a joint configuration, which is left
    /// by itself; it may make a voter a learner, but not remove it.
    pub fn propose_membership(
        &mut self,
        changes: &[MemberChange],
        context: Bytes,
    ) -> Result<Position, ProposeError> {
        assert!(!context.is_empty(), "an empty context means leaving the joint configuration");
        self.check_proposable()?;
        let membership = self.membership();
        if self.node.raft.has_pending_conf() || membership.is_joint() {
            return Err(ProposeError::Busy);
        }
        let removes_voter = |change: &MemberChange| match change {
            MemberChange::Remove(peer) => membership.voters.contains(peer),
            MemberChange::AddVoter(_) | MemberChange::AddLearner(_) => false,
        };
        assert!(
            changes.len() == 1 || !changes.iter().any(removes_voter),
            "a joint change that removes a voter: {changes:?}"
        );
        self.node
            .propose_conf_change(context.into(), conf_change(changes))
            .map_err(|_| ProposeError::Busy)?;
        Ok(self.last_position())
    }

    fn check_proposable(&self) -> Result<(), ProposeError> {
        let role = self.role();
        if !role.is_leader {
            return Err(ProposeError::NotLeader { leader: role.leader });
        }
        if self.paused.is_some() || self.node.raft.lead_transferee.is_some() {
            return Err(ProposeError::Busy);
        }
        Ok(())
    }

    /// Makes this peer stand for election now, instead of waiting for its timeout.
    pub fn campaign(&mut self) {
        if self.paused.is_none() {
            // A refusal (already leader, not a voter, changes pending) leaves all as it was.
            let _ = self.node.campaign();
            self.after_change();
        }
    }

    /// Hands leadership to `peer` as soon as it has the whole log. Ends the lease for the term.
    /// Without effect if this peer does not lead or `peer` is not a voter.
    pub fn transfer_leader(&mut self, peer: u64) {
        if self.node.raft.state != StateRole::Leader || self.paused.is_some() {
            return;
        }
        if !planted(Mutant::LeaseOverTransfer) {
            self.reads.lease.revoke(self.node.raft.term);
        }
        self.node.transfer_leader(peer);
        self.after_change();
    }

    /// Begins a round of confirmation for reads that arrive now, or joins the one that has not
    /// been sent yet. None if this peer does not lead, has no committed entry of its term, or is a
    /// learner by now: ask again later.
    ///
    /// A leader that was made a learner must not even ask: if one voter is left, the `raft` crate
    /// takes the leader for that voter, and confirms without a round.
    pub fn read_index(&mut self, now: Millis) -> Option<ReadTicket> {
        let raft = &self.node.raft;
        let may_confirm = raft.promotable() && raft.commit_to_current_term();
        if raft.state != StateRole::Leader || !may_confirm {
            return None;
        }
        if self.reads.open.is_some() {
            return self.reads.open;
        }
        let ticket = self.reads.next_ticket;
        self.reads.next_ticket += 1;
        self.reads.sent.insert(ticket, (self.node.raft.term, now));
        if planted(Mutant::LeaseFromNewest) {
            self.reads.sent.values_mut().for_each(|(_, sent)| *sent = now);
        }
        while self.reads.sent.len() > TICKETS_MAX {
            self.reads.sent.pop_first();
        }
        self.reads.open = Some(ReadTicket(ticket));
        self.node.read_index(ticket.to_be_bytes().to_vec());
        self.reads.open
    }

    /// True if a read of the applied state at `now` is linearizable without a ticket: the lease
    /// holds, and all that is committed here is applied, an entry of this term among it.
    pub fn lease_holds(&self, now: Millis) -> bool {
        let raft = &self.node.raft;
        if planted(Mutant::ReadBeforeOwnEntry) && !raft.apply_to_current_term() {
            return raft.state == StateRole::Leader;
        }
        raft.state == StateRole::Leader
            && raft.promotable()
            && self.reads.lease.holds(raft.term, now)
            && self.applied >= raft.raft_log.committed
            && raft.apply_to_current_term()
    }

    /// Milliseconds that the lease still holds; 0 without one.
    pub fn lease_left_ms(&self, now: Millis) -> u64 {
        self.reads.lease.left_ms(self.node.raft.term, now)
    }

    /// True if [`Group::ready`] would answer anything.
    pub fn has_ready(&self) -> bool {
        self.paused.is_none() && self.node.has_ready()
    }

    /// What is to be done now; None if nothing.
    pub fn ready(&mut self) -> Option<GroupReady> {
        if !self.has_ready() {
            return None;
        }
        self.reads.open = None;
        let mut ready = self.node.ready();
        self.note_written_to(ready.messages());
        let mut todo = GroupReady {
            number: ready.number(),
            messages: to_wire(ready.take_messages()),
            persisted_messages: to_wire(ready.take_persisted_messages()),
            must_sync: ready.must_sync(),
            reads: self.confirm(ready.take_read_states()),
            ..GroupReady::default()
        };
        self.hold_back_unelected(&mut todo);
        if !ready.snapshot().is_empty() {
            todo.snapshot = Some(codec::snapshot_to_wire(ready.snapshot()));
            let messages = std::mem::take(&mut todo.persisted_messages);
            self.paused = Some(Paused { ready, messages });
            return Some(todo);
        }
        todo.log = self.log_ops(&mut ready);
        todo.committed = ready.take_committed_entries().into_iter().map(committed).collect();
        self.node.advance_append_async(ready);
        Some(todo)
    }

    /// Notes who needs no heartbeat with the next tick.
    fn note_written_to(&mut self, messages: &[raft::eraftpb::Message]) {
        for message in messages.iter().filter(|message| spares_heartbeat(message)) {
            if !self.written_to.contains(&message.to) {
                self.written_to.push(message.to);
            }
        }
    }

    /// A lone voter is elected by its own vote alone, at once. What it says as the leader waits
    /// until that vote is durable: a crash would let it vote for another in the same term.
    fn hold_back_unelected(&mut self, todo: &mut GroupReady) {
        if self.node.store().ballot() != self.ballot() {
            self.unsaved_ballot = Some(todo.number);
        }
        if self.unsaved_ballot.is_some() && !planted(Mutant::LeadUnelected) {
            let waiting = std::mem::take(&mut todo.messages);
            todo.persisted_messages.splice(0..0, waiting);
        }
    }

    /// The commit index is not worth a write: it is found anew after a restart, and is never behind
    /// the applied index, which the owner's state has. It is saved when a change of members is
    /// applied ([`Group::save_commit`]), and with entries among which there is such a change.
    ///
    /// It must be: a configuration takes effect when it is applied, so a peer that restarts must
    /// not stand for election under one that is two changes old. A second change is proposed only
    /// after the first is applied, so whoever has it in its log has saved that the first is
    /// committed, and the `raft` crate lets nobody stand who has yet to apply a change.
    ///
    /// So a change may be told before it is saved that it is committed, if nobody goes by it whose
    /// vote may be asked for again: a voter becomes a learner first, and still votes.
    fn log_ops(&mut self, ready: &mut Ready) -> Vec<LogOp> {
        let entries = ready.take_entries();
        let has_change =
            entries.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal);
        let appended = self.node.mut_store().append(entries);
        let is_ballot_new = self.node.store().ballot() != self.ballot();
        let is_forgotten = match &appended {
            Some(_) => self.node.raft.vote == 0 && planted(Mutant::ForgetTerm),
            None => planted(Mutant::ForgetVote),
        };
        let is_due = is_ballot_new || has_change || !self.node.store().has_saved_state();
        if !is_due || is_forgotten {
            return appended.into_iter().collect();
        }
        let hard_state = self.node.raft.hard_state();
        let state = self.node.mut_store().set_hard_state(hard_state);
        appended.into_iter().chain([state]).collect()
    }

    /// The write by which a restart knows all that is committed now. To be synced soon after a
    /// change of members is applied: members that forget it ask a majority of the former ones,
    /// who need not be there any more.
    pub fn save_commit(&mut self) -> Vec<LogOp> {
        let commit = self.node.raft.raft_log.committed;
        let is_saved = commit <= self.node.store().saved_commit();
        if self.paused.is_some() || is_saved || planted(Mutant::ForgetChange) {
            return vec![];
        }
        vec![self.node.mut_store().set_commit(commit)]
    }

    fn confirm(&mut self, states: Vec<raft::ReadState>) -> Vec<ConfirmedRead> {
        let mut confirmed = vec![];
        for state in states {
            let Ok(ticket) = state.request_ctx.try_into().map(u64::from_be_bytes) else { continue };
            if let Some((term, sent)) = self.reads.sent.remove(&ticket)
                && term == self.node.raft.term
            {
                self.reads.lease.renew(term, sent, &self.config.timing);
            }
            confirmed.push(ConfirmedRead { ticket: ReadTicket(ticket), index: state.index });
        }
        confirmed
    }

    /// Reports that the log of the ready `number`, and of all before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.unsaved_ballot = self.unsaved_ballot.filter(|unsaved| *unsaved > number);
        self.after_change();
    }

    /// Reports that the state includes all entries up to `index`.
    pub fn applied(&mut self, index: u64) {
        assert!(index >= self.applied, "applied went back from {} to {index}", self.applied);
        self.applied = index;
        self.node.advance_apply_to(index);
        let needless = self.acknowledged_by_all().min(index);
        self.node.mut_store().shrink_cache(index, needless);
        if self.urgent.is_some_and(|urgent| urgent <= index) {
            self.urgent = None;
            self.node.skip_bcast_commit(true);
        }
        self.after_change();
    }

    /// Up to where no follower needs entries any more, as far as they are heard.
    fn acknowledged_by_all(&self) -> u64 {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return u64::MAX;
        }
        let followers = raft.prs().iter().filter(|(peer, _)| **peer != self.config.peer);
        let heard = followers.filter(|(_, progress)| progress.recent_active);
        heard.map(|(_, progress)| progress.matched).min().unwrap_or(u64::MAX)
    }

    /// Puts a committed membership change into effect and answers the new configuration. Without
    /// changes, the joint configuration is left. The change is the one that was proposed: the
    /// owner carries it in the entry's context.
    pub fn apply_membership(&mut self, changes: &[MemberChange]) -> Result<Membership, String> {
        let conf_state =
            self.node.apply_conf_change(&conf_change(changes)).map_err(|e| e.to_string())?;
        let membership = Membership::from_conf_state(&conf_state);
        self.node.mut_store().set_conf_state(conf_state);
        self.after_change();
        Ok(membership)
    }

    /// Reports that the snapshot of the last ready is installed and durable. Answers a ready like
    /// any other, by which the log begins anew.
    ///
    /// The snapshot counts as persisted at once, for the state holds it; what must wait for the
    /// log, the acknowledgement, waits in the ready.
    pub fn snapshot_installed(&mut self) -> GroupReady {
        let Paused { mut ready, messages } =
            self.paused.take().expect("only called for a ready with a snapshot");
        let number = ready.number();
        let meta = ready.snapshot().get_metadata().clone();
        let at = Position { index: meta.index, term: meta.term };
        let hard_state = self.node.raft.hard_state();
        let mut log = self.node.mut_store().reset(at, meta.get_conf_state().clone(), hard_state);
        log.extend(self.node.mut_store().append(ready.take_entries()));
        self.node.advance_append_async(ready);
        self.node.on_persist_ready(number);
        self.applied = at.index;
        self.node.advance_apply_to(at.index);
        self.after_change();
        let persisted_messages = messages;
        GroupReady { number, log, must_sync: true, persisted_messages, ..GroupReady::default() }
    }

    /// What this peer must not forget of its votes.
    pub fn ballot(&self) -> Ballot {
        Ballot { term: self.node.raft.term, vote: self.node.raft.vote }
    }

    /// Takes the ballot over that this peer had before it was opened anew, for its last writes may
    /// not have been in the log yet. To be called before anything else; the next ready writes it.
    pub fn recall(&mut self, ballot: Ballot) {
        let raft = &mut self.node.raft;
        if ballot.term > raft.term {
            raft.become_follower(ballot.term, 0);
        }
        if ballot.term == raft.term && raft.vote == 0 {
            raft.vote = ballot.vote;
        }
        self.after_change();
    }

    /// True while a snapshot is to be installed.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Reports that a message to `peer` could not be sent.
    pub fn report_unreachable(&mut self, peer: u64) {
        if self.paused.is_none() {
            self.node.report_unreachable(peer);
        }
    }

    /// Reports how the sending of a snapshot to `peer` ended.
    pub fn report_snapshot(&mut self, peer: u64, is_ok: bool) {
        if self.paused.is_none() {
            let status = if is_ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.node.report_snapshot(peer, status);
            self.after_change();
        }
    }

    /// The least index at which some follower needs a snapshot; None if none does, or one that
    /// will do has been offered.
    pub fn snapshot_wanted(&self) -> Option<u64> {
        self.node.store().wanted_at()
    }

    /// Offers a snapshot of the state at `at` to the followers that need one. `data` reaches them
    /// as it is.
    pub fn offer_snapshot(&mut self, at: Position, membership: &Membership, data: Bytes) {
        let meta = codec::snapshot_meta(at.index, at.term, membership, data);
        self.node.mut_store().set_offer(SnapshotOffer::Ready(meta));
    }

    /// Withdraws the offered snapshot.
    pub fn withdraw_snapshot(&mut self) {
        self.node.mut_store().set_offer(SnapshotOffer::None);
    }

    /// Forgets entries up to `through`, which the durable state must include. Answers the writes,
    /// which need no sync.
    pub fn truncate(&mut self, through: u64) -> Vec<LogOp> {
        if self.paused.is_some() {
            return vec![];
        }
        assert!(through <= self.applied, "truncating {through}, applied {}", self.applied);
        self.node.mut_store().truncate(through)
    }

    /// Gives memory of applied entries back; for a group that is idle.
    pub fn shrink(&mut self) {
        let applied = self.applied;
        self.node.mut_store().shrink_cache(applied, applied);
    }

    /// Who leads, as far as this peer knows. It does not lead before its own vote is durable.
    pub fn role(&self) -> Role {
        let raft = &self.node.raft;
        let is_saved = self.unsaved_ballot.is_none() && self.node.store().ballot() == self.ballot();
        let is_elected = is_saved || planted(Mutant::LeadUnelected);
        let is_leader = raft.state == StateRole::Leader && is_elected;
        Role { leader: raft.leader_id, is_leader, term: raft.term }
    }

    /// True if this leader has handed on its leadership, or is about to.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// True if this leader has nothing to tell: all that is in its log is committed, applied, and
    /// known to all members but `absent`, who are too few to matter.
    pub fn is_settled(&self, absent: &[u64]) -> bool {
        let raft = &self.node.raft;
        let last = self.last_index();
        let membership = self.membership();
        let is_here = |peer: &&u64| !absent.contains(peer);
        let here = membership.voters.iter().filter(is_here).count();
        raft.state == StateRole::Leader
            && !membership.is_joint()
            && !self.is_transferring()
            && self.snapshot_wanted().is_none()
            && raft.raft_log.committed == last
            && self.applied == last
            && raft.apply_to_current_term()
            && raft.pending_read_count() == 0
            && here * 2 > membership.voters.len()
            && self.progress().iter().all(|m| m.matched == last || absent.contains(&m.peer))
    }

    /// True if this follower of `leader` has and knows what a leader that is settled at `at` has.
    pub fn is_settled_behind(&self, leader: u64, at: Position) -> bool {
        let role = self.role();
        let log = &self.node.raft.raft_log;
        self.paused.is_none()
            && !role.is_leader
            && (role.leader, role.term) == (leader, at.term)
            && [log.last_index(), log.committed, self.applied] == [at.index; 3]
    }

    /// The configuration in effect.
    pub fn membership(&self) -> Membership {
        Membership::from_conf_state(&self.node.raft.prs().conf().to_conf_state())
    }

    /// How far each member is, by peer id; empty unless this peer leads.
    pub fn progress(&self) -> Vec<FollowerProgress> {
        if self.node.raft.state != StateRole::Leader {
            return vec![];
        }
        let mut members: Vec<FollowerProgress> = self
            .node
            .raft
            .prs()
            .iter()
            .map(|(peer, progress)| FollowerProgress {
                peer: *peer,
                matched: progress.matched,
                is_active: progress.recent_active || *peer == self.config.peer,
                needs_snapshot: progress.state == raft::ProgressState::Snapshot,
            })
            .collect();
        members.sort_unstable_by_key(|member| member.peer);
        members
    }

    /// The last index that is known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last index that the owner reported as applied.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// The last index in the log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The last entry that was forgotten: the log begins after it.
    pub fn truncated(&self) -> Position {
        self.node.store().truncated()
    }

    /// The last entry that `ready` has handed out to be written.
    pub fn last_handed_out(&self) -> Position {
        self.node.store().last_position()
    }

    fn last_position(&self) -> Position {
        Position { index: self.last_index(), term: self.node.raft.term }
    }

    /// The `raft` crate rolls a new timeout whenever term or role change; it is replaced by one
    /// from the group's own dice before any time passes.
    fn after_change(&mut self) {
        let rolled_for = (self.node.raft.term, self.node.raft.state);
        if rolled_for != self.rolled_for {
            self.rolled_for = rolled_for;
            self.roll_election_timeout();
        }
        self.node.raft.set_randomized_election_timeout(self.election_ticks);
    }

    fn roll_election_timeout(&mut self) {
        let least = self.config.timing.election_ticks as u64;
        self.election_ticks = self.dice.between(least, 2 * least) as usize;
        self.node.raft.set_randomized_election_timeout(self.election_ticks);
    }
}

/// True for entries, and for a question that comes with a heartbeat, beside the tick's own.
fn spares_heartbeat(message: &raft::eraftpb::Message) -> bool {
    match message.msg_type {
        MessageType::MsgAppend => true,
        MessageType::MsgHeartbeat => !message.context.is_empty(),
        _ => false,
    }
}

fn to_wire(messages: Vec<raft::eraftpb::Message>) -> Vec<RaftMessage> {
    messages.into_iter().map(codec::message_to_wire).collect()
}

fn committed(entry: raft::eraftpb::Entry) -> Committed {
    let position = Position { index: entry.index, term: entry.term };
    let body = match entry.get_entry_type() {
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            CommittedBody::Membership(entry.context)
        }
        EntryType::EntryNormal if entry.data.is_empty() => CommittedBody::Empty,
        EntryType::EntryNormal => CommittedBody::Command(entry.data),
    };
    Committed { position, body }
}

/// The decoded form of [`SnapshotMeta`]'s configuration.
pub fn snapshot_membership(meta: &SnapshotMeta) -> Membership {
    Membership::from_conf_state(
        codec::snapshot_from_wire(meta.clone()).get_metadata().get_conf_state(),
    )
}
