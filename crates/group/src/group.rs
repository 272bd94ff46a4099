//! The group itself: one peer's node of the `raft` crate, its log, and what is built around them.
//!
//! In: ticks, messages, proposals, reads, and reports of what the owner has done. Out:
//! [`GroupReady`], errors as values, and what the group knows about itself.
//!
//! Invariants: truncated <= applied <= committed <= last; while a snapshot is being installed the
//! group neither ticks, steps nor proposes; the node's election timeout is always one of the
//! group's own rolls.
//!
//! Not here, each in a module of its own: which heartbeats are dropped (`heartbeats`), what waits
//! for a vote to be durable (`ballots`), which hard state is written (`hard_state`), rounds of
//! confirmation and the lease (`reads`), timeouts (`election`), how long no vote is granted
//! (`promise`), which messages are refused unread (`validate`).

use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{LogOp, LogStore};
use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{MessageKind, RaftMessage};
use raft::{RawNode, Ready, SnapshotStatus, StateRole, Storage};

use crate::ballots::{Ballot, Ballots};
use crate::codec;
use crate::config::{GroupConfig, election_ticks, raft_config};
use crate::election::ElectionTimeout;
use crate::error::{GroupError, ProposeError, StepError};
use crate::group_log::{GroupLog, SnapshotOffer};
use crate::hard_state;
use crate::heartbeats::Heartbeats;
use crate::member::{MemberChange, Membership, conf_change};
use crate::opening::{Opening, open_log};
use crate::promise::Promise;
use crate::reads::Reads;
use crate::ready::{FollowerProgress, GroupHeld, GroupReady, Position, ReadTicket, Role};
use crate::validate;

/// One peer's half of a Raft group. See the crate's documentation for how it is driven.
pub struct Group {
    config: GroupConfig,
    node: RawNode<GroupLog>,
    election: ElectionTimeout,
    applied: u64,
    promise: Promise,
    reads: Reads,
    paused: Option<Paused>,
    /// Followers learn without delay that this entry is committed.
    urgent: Option<u64>,
    heartbeats: Heartbeats,
    ballots: Ballots,
}

/// A ready whose snapshot is being installed, and its messages, which imply that it is.
struct Paused {
    ready: Ready,
    messages: Vec<RaftMessage>,
}

impl Group {
    /// Opens the group over the log store and the owner's state. `now` begins the time without
    /// votes after a restart.
    ///
    /// Answers the writes that repair a stale log; the owner syncs them before it does anything
    /// else. See [`Opening`] for what is stale.
    ///
    /// # Errors
    /// [`GroupError`]: the group cannot be opened, now or later.
    pub fn open(
        config: GroupConfig,
        store: Arc<dyn LogStore>,
        opening: Opening,
        now: Millis,
    ) -> Result<(Group, Vec<LogOp>), GroupError> {
        let config = GroupConfig { limits: config.limits.workable(), ..config };
        let (log, repairs) = open_log(&config, store, &opening)?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&raft_config(&config, opening.applied.index), log, &logger)
            .map_err(|e| GroupError::Inconsistent { group: config.group, reason: e.to_string() })?;
        let least_ticks = election_ticks(&config.timing);
        let mut group = Group {
            election: ElectionTimeout::new(config.seed, least_ticks, &mut node.raft),
            applied: opening.applied.index,
            promise: Promise::at_opening(now, opening.is_restart, &config.timing),
            reads: Reads::new(config.limits.tickets_max),
            paused: None,
            urgent: None,
            heartbeats: Heartbeats::default(),
            ballots: Ballots::default(),
            config,
            node,
        };
        if opening.membership == Membership::of_voters(&[group.config.peer]) {
            // No other peer can lead, so this one stands for election without waiting. If the log
            // holds a change of this configuration, the `raft` crate refuses the election.
            group.campaign();
        }
        Ok((group, repairs))
    }

    /// The peer's own id.
    pub fn peer(&self) -> u64 {
        self.config.peer
    }

    /// The least election timeout, in milliseconds.
    pub fn election_ms(&self) -> u64 {
        self.config.timing.election_ms()
    }

    /// Lets one tick of time pass. Calls lie at least `timing.tick_ms` apart, or stand for time
    /// that has passed since the last call and since the last message.
    pub fn tick(&mut self) {
        if self.paused.is_some() {
            return;
        }
        self.heartbeats.tick(&mut self.node);
        self.after_change();
    }

    /// Takes a message from another member.
    ///
    /// # Errors
    /// [`StepError::Ignored`]: the message counts as lost. [`StepError::LostLog`]: the peer must
    /// stop.
    pub fn step(&mut self, now: Millis, message: RaftMessage) -> Result<(), StepError> {
        let (kind, term, from) = (message.kind(), message.term, message.from);
        let commit = message.commit;
        let is_sound = validate::is_sound(&message, self.node.raft.term);
        if self.paused.is_some() || !is_sound || self.promise.forbids(now, &message) {
            return Err(StepError::Ignored);
        }
        let last = self.last_index();
        if kind == MessageKind::MsgHeartbeat && term >= self.role().term && message.commit > last {
            return Err(StepError::LostLog { last, acknowledged: message.commit });
        }
        let message = codec::message_from_wire(message).ok_or(StepError::Ignored)?;
        let result = self.node.step(message).map_err(|_| StepError::Ignored);
        if result.is_ok() && term == self.node.raft.term {
            self.promise.extend(now, kind, &self.config.timing);
            self.heartbeats.on_message(kind, from);
            if kind == MessageKind::MsgHeartbeatResponse && self.has_installed(from, commit) {
                self.node.report_snapshot(from, SnapshotStatus::Finish);
            }
        }
        self.after_change();
        result
    }

    /// Proposes a command. The answer is the entry's position; the proposal was dropped if another
    /// term's entry commits there.
    ///
    /// # Errors
    /// [`ProposeError`]: the command will never take effect.
    pub fn propose(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        self.check_proposable()?;
        self.node.propose(vec![], data.into()).map_err(|_| ProposeError::Busy)?;
        Ok(self.last_position())
    }

    /// Proposes a command of whose commit the followers learn at once, not with the next entries
    /// or heartbeat. Errors as in [`Group::propose`].
    pub fn propose_urgent(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        let position = self.propose(data)?;
        self.urgent = Some(position.index);
        self.node.skip_bcast_commit(false);
        Ok(position)
    }

    /// Proposes a membership change. `context` comes back in
    /// [`crate::CommittedBody::Membership`]; it must not be empty. Several changes go through a
    /// joint configuration, which the leader leaves by itself; they may make a voter a learner, but
    /// not remove it. Errors as in [`Group::propose`].
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
        let pending = self.node.raft.pending_conf_index;
        if self.node.propose_conf_change(context.into(), conf_change(changes)).is_err() {
            // raft 0.7 marks the change as pending before it refuses the entry for its bytes.
            if !planted(Mutant::RefusedChangePends) {
                self.node.raft.pending_conf_index = pending;
            }
            return Err(ProposeError::Busy);
        }
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

    /// Transfers leadership to `peer` as soon as that member has the whole log, and ends the lease
    /// for the term. Without effect if this peer does not lead or `peer` is not a voter.
    pub fn transfer_leader(&mut self, peer: u64) {
        if self.node.raft.state != StateRole::Leader || self.paused.is_some() {
            return;
        }
        self.reads.revoke_lease(self.node.raft.term);
        self.node.transfer_leader(peer);
        self.after_change();
    }

    /// Begins a round of confirmation for reads that arrive now, or joins the round whose messages
    /// have not left yet. None if this peer does not lead, has no committed entry of its term, or
    /// is a learner by now: ask again later.
    ///
    /// A leader that was made a learner must not begin a round: if one voter is left, the `raft`
    /// crate takes the leader for that voter, and confirms without asking it.
    pub fn read_index(&mut self, now: Millis) -> Option<ReadTicket> {
        let raft = &self.node.raft;
        let may_confirm = raft.promotable() && raft.commit_to_current_term();
        if raft.state != StateRole::Leader || !may_confirm {
            return None;
        }
        if let Some(ticket) = self.reads.unsent() {
            return Some(ticket);
        }
        let ticket = self.reads.begin(raft.term, now);
        self.node.read_index(ticket.0.to_be_bytes().to_vec());
        Some(ticket)
    }

    /// True if a read of the applied state at `now` is linearizable without a ticket: the lease
    /// holds, everything that this peer knows to be committed is applied, and an entry of this
    /// term is among it.
    pub fn lease_holds(&self, now: Millis) -> bool {
        let raft = &self.node.raft;
        let is_leader = raft.state == StateRole::Leader;
        if !raft.apply_to_current_term() {
            if planted(Mutant::ReadBeforeOwnEntry) {
                return is_leader;
            }
            return false;
        }
        is_leader
            && raft.promotable()
            && self.reads.lease().holds(raft.term, now)
            && self.applied >= raft.raft_log.committed
    }

    /// Milliseconds that the lease still holds; 0 without one.
    pub fn lease_left_ms(&self, now: Millis) -> u64 {
        self.reads.lease().left_ms(self.node.raft.term, now)
    }

    /// True if [`Group::ready`] would answer anything.
    pub fn has_ready(&self) -> bool {
        self.paused.is_none() && self.node.has_ready()
    }

    /// The work that is due now; None if there is none. The owner carries it out whole, in the
    /// order of the fields.
    pub fn ready(&mut self) -> Option<GroupReady> {
        if !self.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        self.reads.on_ready();
        self.heartbeats.on_ready(ready.messages());
        let (states, term) = (ready.take_read_states(), self.node.raft.term);
        let mut todo = GroupReady {
            number: ready.number(),
            messages: codec::messages_to_wire(ready.take_messages()),
            persisted_messages: codec::messages_to_wire(ready.take_persisted_messages()),
            must_sync: self.must_sync(&ready),
            reads: self.reads.confirm(states, term, &self.config.timing),
            ..GroupReady::default()
        };
        self.ballots.on_ready(&mut todo, self.node.store().ballot(), self.ballot());
        if !ready.snapshot().is_empty() {
            todo.snapshot = Some(codec::snapshot_to_wire(ready.snapshot()));
            let messages = std::mem::take(&mut todo.persisted_messages);
            self.paused = Some(Paused { ready, messages });
            return Some(todo);
        }
        todo.log = hard_state::log_ops(&mut self.node, &mut ready);
        todo.committed = ready.take_committed_entries().into_iter().map(codec::committed).collect();
        self.node.advance_append_async(ready);
        if planted(Mutant::SelfBeforeSync) && self.membership().voters.len() > 1 {
            self.node.on_persist_ready(todo.number);
        }
        self.check();
        Some(todo)
    }

    fn must_sync(&self, ready: &Ready) -> bool {
        if planted(Mutant::ReplacedUnsynced) {
            let last = self.last_index_written();
            return ready.entries().first().is_none_or(|entry| entry.index > last);
        }
        ready.must_sync()
    }

    fn last_index_written(&self) -> u64 {
        self.node.store().last_index().unwrap_or(0)
    }

    /// The write by which a restart knows all that is committed now; none while a snapshot is
    /// being installed, or if it is written already. The owner syncs it soon after it has applied
    /// a membership change: see `hard_state`.
    pub fn save_commit(&mut self) -> Vec<LogOp> {
        if self.paused.is_some() {
            return vec![];
        }
        hard_state::save_commit(&mut self.node)
    }

    /// Reports that the log of the ready `number`, and of all before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.ballots.persisted(number);
        self.after_change();
    }

    /// Reports that the state includes all entries up to `index`.
    pub fn applied(&mut self, index: u64) {
        assert!(index >= self.applied, "applied went back from {} to {index}", self.applied);
        let committed = self.commit_index();
        assert!(index <= committed, "applied {index}, and only {committed} is committed");
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

    /// The last entry that every active follower holds; `u64::MAX` if no follower needs entries
    /// from this peer.
    fn acknowledged_by_all(&self) -> u64 {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return u64::MAX;
        }
        let followers = raft.prs().iter().filter(|(peer, _)| **peer != self.config.peer);
        let active = followers.filter(|(_, progress)| progress.recent_active);
        active.map(|(_, progress)| progress.matched).min().unwrap_or(u64::MAX)
    }

    /// Puts a committed membership change into effect and answers the new configuration. Without
    /// changes, the joint configuration is left. `changes` are those that were proposed; the owner
    /// carries them in the entry's context.
    ///
    /// # Errors
    /// The reason, in words, for which the `raft` crate refuses the change. All members refuse it
    /// alike.
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
    /// The snapshot counts as persisted at once, because the state holds it. The acknowledgement
    /// must wait for the log, so it is among the ready's persisted messages.
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
        self.check();
        let persisted_messages = messages;
        GroupReady { number, log, must_sync: true, persisted_messages, ..GroupReady::default() }
    }

    /// The peer's term and vote, durable or not.
    pub fn ballot(&self) -> Ballot {
        hard_state::ballot(&self.node)
    }

    /// Restores the ballot that this peer had in this process before it was opened anew: its last
    /// writes may not have reached the log yet. The owner calls it before anything else, and the
    /// next ready writes the ballot.
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

    /// True if `peer`, which has committed up to `commit`, has the snapshot that this leader waits
    /// to hear of. The peer's answer may be lost, and the connection that would tell of it stand
    /// open.
    fn has_installed(&self, peer: u64, commit: u64) -> bool {
        let progress = self.node.raft.prs().get(peer);
        self.awaits_snapshot_of(peer)
            && progress.is_some_and(|progress| commit >= progress.pending_snapshot)
    }

    /// True if this leader waits to hear how the sending of a snapshot to `peer` ended.
    pub fn awaits_snapshot_of(&self, peer: u64) -> bool {
        let raft = &self.node.raft;
        let progress = raft.prs().get(peer).filter(|_| raft.state == StateRole::Leader);
        progress.is_some_and(|progress| progress.state == raft::ProgressState::Snapshot)
    }

    /// Reports how the sending of a snapshot to `peer` ended.
    pub fn report_snapshot(&mut self, peer: u64, is_ok: bool) {
        if self.paused.is_none() {
            let status = if is_ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.node.report_snapshot(peer, status);
            self.after_change();
        }
    }

    /// The least index at which some follower needs a snapshot. None if no follower needs one, or
    /// an offered snapshot serves it.
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

    /// Drops entries up to `through`, which the durable state must include. Answers the writes;
    /// they need no sync.
    pub fn truncate(&mut self, through: u64) -> Vec<LogOp> {
        if self.paused.is_some() {
            return vec![];
        }
        assert!(through <= self.applied, "truncating {through}, applied {}", self.applied);
        self.node.mut_store().truncate(through)
    }

    /// Frees the memory of applied entries. For a quiescent group.
    pub fn shrink(&mut self) {
        let applied = self.applied;
        self.node.mut_store().shrink_cache(applied, applied);
    }

    /// Who leads, as far as this peer knows. A peer does not lead before its own vote is durable.
    pub fn role(&self) -> Role {
        let raft = &self.node.raft;
        let is_elected = self.ballots.is_durable(self.node.store().ballot(), self.ballot());
        let is_leader = raft.state == StateRole::Leader && is_elected;
        Role { leader: raft.leader_id, is_leader, term: raft.term }
    }

    /// True while a leadership transfer that this leader began is under way.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// True if this leader may become quiescent: its whole log is committed, applied, and known to
    /// be so by all members but those that are `unreachable`; a majority of the voters is
    /// reachable; and no read, snapshot, transfer or membership change is under way.
    pub fn is_settled(&self, unreachable: &[u64]) -> bool {
        let raft = &self.node.raft;
        let last = self.last_index();
        let membership = self.membership();
        let is_reachable = |peer: &&u64| !unreachable.contains(peer);
        let reachable = membership.voters.iter().filter(is_reachable).count();
        raft.state == StateRole::Leader
            && !membership.is_joint()
            && !self.is_transferring()
            && self.snapshot_wanted().is_none()
            && raft.raft_log.committed == last
            && self.applied == last
            && raft.apply_to_current_term()
            && raft.pending_read_count() == 0
            && reachable * 2 > membership.voters.len()
            && self.progress().iter().all(|m| m.matched == last || unreachable.contains(&m.peer))
    }

    /// True if this follower of `leader` has, and knows to be committed, the log of a leader that
    /// is settled at `at`.
    pub fn is_settled_behind(&self, leader: u64, at: Position) -> bool {
        let role = self.role();
        let log = &self.node.raft.raft_log;
        let is_follower = !role.is_leader && (role.leader, role.term) == (leader, at.term);
        if planted(Mutant::RestsBehind) {
            return self.paused.is_none() && is_follower;
        }
        self.paused.is_none()
            && is_follower
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

    /// What the group holds in memory, by kind. Walks the entries in memory.
    pub fn held(&self) -> GroupHeld {
        let (log, committed) = (self.node.store(), self.commit_index());
        let term = self.node.raft.term;
        let uncommitted = log.cache().filter(|entry| {
            entry.index > committed && entry.term == term && !entry.data.is_empty()
        });
        GroupHeld {
            applied_bytes: log.cached_bytes_to(self.applied),
            uncommitted_bytes: uncommitted.clone().map(|entry| entry.data.len()).sum(),
            uncommitted_entries: uncommitted.count(),
            rounds: self.reads.len(),
        }
    }

    /// Bytes of the entries in memory.
    pub fn cached_bytes(&self) -> usize {
        self.node.store().cached_bytes()
    }

    /// The last index that is known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last index in the log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The last entry that was truncated: the log begins after it.
    pub fn truncated(&self) -> Position {
        self.node.store().truncated()
    }

    fn last_position(&self) -> Position {
        Position { index: self.last_index(), term: self.node.raft.term }
    }

    /// Panics, with the values, if the positions in the log contradict each other. Runs with each
    /// ready; costs a few comparisons.
    fn check(&self) {
        let (truncated, applied) = (self.truncated().index, self.applied);
        let (committed, last) = (self.commit_index(), self.last_index());
        let group = self.config.group;
        assert!(truncated <= applied, "group {group}: truncated {truncated}, applied {applied}");
        assert!(applied <= committed, "group {group}: applied {applied}, committed {committed}");
        assert!(committed <= last, "group {group}: committed {committed}, last {last}");
        self.node.store().check();
    }

    /// Runs after every call that may change the node's term or role.
    fn after_change(&mut self) {
        self.election.after_change(&mut self.node.raft);
    }
}
