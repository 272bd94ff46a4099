//! One region's peer on this store: proposals and who waits for them, reads, applied state.
//!
//! A peer either has state (a region, an applied index) or waits for its first snapshot; then its
//! region has no range and no epoch. What concerns more than one peer (creating, destroying,
//! the store's range map) is the worker's; a peer answers it as an [`Effect`].
//!
//! # Replies
//!
//! A proposed entry's writes wait at its (index, term). When the entry at that index is applied,
//! the same term means that they took effect, another term that they never will. After losing
//! leadership they go on waiting, for most are decided within moments by the new leader; what is
//! not decided after `ORPHANED_MS_MAX` is answered as Undetermined.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{LogOp, LogStore, StateStore};
use flotilla_group::{
    Committed, CommittedBody, Group, GroupConfig, Membership, Opening, Position, ProposeError,
    Role, Timing,
};
use flotilla_types::limits::BATCH_BYTES_MAX;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{Envelope, MessageKind, RaftMessage};
use flotilla_types::wire::entry_bytes;
use flotilla_types::{
    Command, Epoch, Member, MemberRole, Millis, PeerChange, PeerId, Region, RegionError, RegionId,
    StoreId, WriteOp,
};

use super::apply::{self, Applier, WriteResult};
use super::permit::{Permit, ReadPermits};
use super::quiesce::Quiet;
use super::read::{self, PendingReads};
use super::records::Applied;
use super::split::Size;
use super::{Answer, Event, Fatal, Op, Output, Request, RequestId, StagedId};

/// Bytes of writes after which an entry is closed. A larger single write makes its own entry.
const ENTRY_BYTES_TARGET: usize = 512 * 1024;

/// Writes in one entry at most: bounds the time that one entry takes to apply.
const ENTRY_OPS_MAX: usize = 1024;

/// Bytes of writes that wait for the end of the turn; more are refused as ServerBusy. Two of the
/// largest batches.
const QUEUED_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// How long writes of a lost leadership wait for the new leader to decide them: two election
/// timeouts at most, and a margin.
const ORPHANED_MS_MAX: u64 = 2_500;

/// When to come back after a refusal that passes by itself, such as a leadership transfer.
const RETRY_AFTER_MS: u64 = 10;

/// With less left than this many ticks, the lease is renewed: one until the next chance, and one
/// for that tick's lateness and the round.
const RENEW_TICKS_MAX: u64 = 2;

/// Peers outside the region whose stores are remembered: more than any region has members.
const STRANGERS_MAX: usize = 16;

/// What all peers of a worker share.
pub struct Shared {
    /// The store that this is.
    pub store: StoreId,
    /// The applied state of all peers.
    pub state: Arc<StateStore>,
    /// The log of all peers.
    pub log: Arc<dyn LogStore>,
    /// The groups' clock.
    pub timing: Timing,
    /// What groups' dice are rolled from.
    pub seed: u64,
    /// Where reads are allowed to be served without the worker.
    pub permits: Arc<ReadPermits>,
    /// The present.
    pub now: Millis,
}

/// What a peer's progress means for the worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The region was cut: create the right part's peer.
    Split(Box<RightPart>),
    /// The members changed.
    MembersChanged {
        /// Who is a member no more.
        gone: Vec<Member>,
    },
    /// This peer is not a member any more: destroy it.
    Removed,
}

/// The right part of a region that was cut.
#[derive(Clone, Debug, PartialEq)]
pub struct RightPart {
    /// The new region.
    pub region: Region,
    /// Its estimated size.
    pub size: Size,
}

/// What waits until a peer's state is durable.
#[derive(Default)]
pub struct Held {
    /// Messages that imply a durable log.
    pub mails: Vec<(StoreId, Envelope)>,
    /// The last ready whose log is durable.
    pub persisted: Option<u64>,
}

/// One region's peer. See the module's documentation.
pub struct Peer {
    /// This peer's id.
    pub id: PeerId,
    /// The region; only its id means anything while there is no state.
    pub region: Region,
    /// Consensus.
    pub group: Group,
    /// How far the state goes.
    pub applied: Applied,
    /// How far the durable state goes; the log is kept from here on.
    pub durable_applied: u64,
    /// False while it waits for its first snapshot.
    pub has_state: bool,
    /// The role that was last acted on.
    pub role: Role,
    /// Since when.
    pub role_since: Millis,
    /// When the leader was last heard from.
    pub leader_seen: Millis,
    /// When anything but a heartbeat last happened.
    pub active_at: Millis,
    /// What a peer that a split created does not say before its state is durable. Otherwise a crash
    /// could leave it with a log that it acknowledged, and no state to apply it to.
    pub held: Option<Held>,
    /// Set while the region is quiescent.
    pub quiet: Option<Quiet>,
    /// The region's size.
    pub size: Size,
    /// Where the split stands that this peer proposed last.
    pub split_at: Option<Position>,
    /// The snapshot that is being stepped or installed.
    pub staged: Option<StagedId>,
    /// What the peer becomes when the snapshot is installed.
    pub installing: Option<(Region, Applied)>,
    /// The epoch of the message that created it, for a peer without state.
    pub created_by: Epoch,
    writes: Writes,
    reads: PendingReads,
    permit: Option<Arc<Permit>>,
    strangers: Vec<Member>,
    heard: BTreeMap<PeerId, Millis>,
    woken_at: Millis,
    /// Members whose stores were silent until `woken_at`.
    was_absent: Vec<PeerId>,
}

/// Writes on their way.
#[derive(Default)]
struct Writes {
    queued: Vec<QueuedWrite>,
    queued_bytes: usize,
    waiting: BTreeMap<Position, Vec<Waiter>>,
    orphaned_at: Option<Millis>,
}

struct QueuedWrite {
    waiter: Waiter,
    epoch: Epoch,
    bytes: usize,
    op: WriteOp,
}

/// Who waits for a write. One that was answered early keeps its place among its entry's writes.
struct Waiter {
    id: Option<RequestId>,
    deadline: Millis,
}

impl Waiter {
    fn reply(&mut self, result: WriteResult, out: &mut Vec<Output>) {
        if let Some(id) = self.id.take() {
            out.push(Output::Reply { id, result });
        }
    }

    fn fail(&mut self, error: &RegionError, out: &mut Vec<Output>) {
        self.reply(Err(error.clone()), out);
    }
}

fn fail(waiters: impl IntoIterator<Item = Waiter>, error: &RegionError, out: &mut Vec<Output>) {
    for mut waiter in waiters {
        waiter.fail(error, out);
    }
}

fn decode(region: &Region, position: Position, payload: Bytes) -> Result<Command, Fatal> {
    Command::decode(payload).map_err(|source| {
        let what = format!("region {}, entry {}", region.id, position.index);
        Fatal::Unreadable { what, source }
    })
}

/// What a peer is opened with.
pub struct PeerOpening {
    /// The peer's id.
    pub id: PeerId,
    /// The region, or a region without range for a peer without state.
    pub region: Region,
    /// How far the state goes; index 0 without state.
    pub applied: Applied,
    /// See [`Opening::is_restart`].
    pub is_restart: bool,
    /// The region's estimated size.
    pub size: Size,
}

impl Peer {
    /// Opens the peer over what log and state hold. Answers the log writes that opening needs.
    pub fn open(shared: &Shared, opening: PeerOpening) -> Result<(Peer, Vec<LogOp>), Fatal> {
        let PeerOpening { id, region, applied, is_restart, size } = opening;
        let config = GroupConfig {
            group: region.id.0,
            peer: id.0,
            seed: shared.seed ^ id.0.wrapping_mul(0x2545_f491_4f6c_dd1d),
            timing: shared.timing,
        };
        let has_state = applied.index > 0;
        let membership =
            if has_state { apply::membership_of(&region) } else { Membership::default() };
        let position = Position { index: applied.index, term: applied.term };
        let opening = Opening { applied: position, membership, is_restart };
        let (group, repairs) = Group::open(config, shared.log.clone(), opening, shared.now)?;
        let peer = Peer {
            id,
            region,
            group,
            applied,
            durable_applied: 0,
            has_state,
            role: Role::default(),
            role_since: shared.now,
            leader_seen: shared.now,
            active_at: shared.now,
            held: None,
            quiet: None,
            size,
            split_at: None,
            staged: None,
            installing: None,
            created_by: Epoch::default(),
            writes: Writes::default(),
            reads: PendingReads::default(),
            permit: None,
            strangers: vec![],
            heard: BTreeMap::new(),
            woken_at: Millis::default(),
            was_absent: vec![],
        };
        Ok((peer, repairs))
    }

    /// This peer as a member of its region.
    pub fn member(&self, store: StoreId) -> Member {
        self.region.member(self.id).copied().unwrap_or(Member::learner(self.id, store))
    }

    /// The epoch of the region as this peer knows it; without state, as its creator knew it.
    pub fn known_epoch(&self) -> Epoch {
        if self.has_state { self.region.epoch } else { self.created_by }
    }

    /// Where the peer with this id lives: a member, or one that wrote lately.
    pub fn correspondent(&self, id: PeerId) -> Option<Member> {
        let stranger = || self.strangers.iter().find(|member| member.id == id);
        self.region.member(id).or_else(stranger).copied()
    }

    /// The stores of all peers that this one writes to.
    pub fn correspondents(&self) -> impl Iterator<Item = StoreId> {
        self.region.members.iter().chain(&self.strangers).map(|member| member.store_id)
    }

    /// A message came from `member`: notes when, and where a peer that is not a member of the
    /// region lives, so that it can be answered.
    pub fn note_correspondent(&mut self, member: Member, now: Millis) {
        self.heard.insert(member.id, now);
        if self.correspondent(member.id).is_some() {
            return;
        }
        if self.strangers.len() >= STRANGERS_MAX {
            let forgotten = self.strangers.remove(0);
            self.heard.remove(&forgotten.id);
        }
        self.strangers.push(member);
    }

    /// When the other peer last wrote to this one, if it ever did.
    pub fn heard_from(&self, peer: PeerId) -> Option<Millis> {
        self.heard.get(&peer).copied()
    }

    /// Members that this peer has not heard from within `silent_ms`, or since it leads.
    pub fn silent_members(&self, now: Millis, silent_ms: u64) -> Vec<PeerId> {
        if let Some(quiet) = &self.quiet {
            return quiet.absent.clone();
        }
        let is_silent = |member: &&Member| {
            let heard = self.heard_from(member.id).unwrap_or_default().max(self.role_since);
            let was_absent = self.was_absent.contains(&member.id);
            let expected = if was_absent { heard } else { heard.max(self.woken_at) };
            member.id != self.id && now.since(expected) >= silent_ms
        };
        self.region.members.iter().filter(is_silent).map(|member| member.id).collect()
    }

    /// True if `peer` is known to live: it has written within `heard_ms`; or, while the region is
    /// quiescent and nobody writes, its store beats.
    pub fn is_heard(&self, peer: PeerId, now: Millis, heard_ms: u64) -> bool {
        let is_lately = |heard: Millis| now.since(heard) < heard_ms;
        peer == self.id
            || match &self.quiet {
                Some(quiet) => !quiet.absent.contains(&peer),
                None => self.heard_from(peer).is_some_and(is_lately),
            }
    }

    /// The region is quiescent no more. While it was, nobody was to be heard; those whose stores
    /// were silent then are not heard now either.
    pub fn woke(&mut self, now: Millis, was_absent: Vec<PeerId>) {
        self.active_at = now;
        self.leader_seen = now;
        self.woken_at = now;
        self.was_absent = was_absent;
    }

    /// True for what a quiescent leader's followers answered to its last messages: it need not wake
    /// to hear that they agree.
    pub fn is_old_news(&self, message: &RaftMessage) -> bool {
        let is_answer = matches!(
            message.kind(),
            MessageKind::MsgHeartbeatResponse | MessageKind::MsgAppendResponse
        );
        self.quiet.is_some()
            && is_answer
            && !message.reject
            && self.is_leader()
            && message.term == self.role.term
    }

    /// True if somebody waits for an answer.
    pub fn has_callers(&self) -> bool {
        let writes = &self.writes;
        !writes.queued.is_empty() || !writes.waiting.is_empty() || !self.reads.is_empty()
    }

    /// The leader as a member, as far as this peer knows.
    pub fn leader(&self) -> Option<Member> {
        self.region.member(PeerId(self.group.role().leader)).copied()
    }

    /// True if this peer leads.
    pub fn is_leader(&self) -> bool {
        self.group.role().is_leader
    }

    fn not_leader(&self) -> RegionError {
        RegionError::NotLeader { region_id: self.region.id, leader: self.leader() }
    }

    /// Takes a client's request: refuses it, answers it, or makes it wait.
    pub fn request(
        &mut self,
        shared: &Shared,
        request: Request,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        self.active_at = shared.now;
        let id = request.id;
        if let Err(error) = self.check(&request) {
            out.push(Output::Reply { id, result: Err(error) });
            return Ok(());
        }
        let waiter = Waiter { id: Some(id), deadline: request.deadline };
        match request.op {
            Op::Write(op) => self.queue_write(waiter, request.epoch, op, out),
            Op::Get(_) | Op::Scan(_)
                if self.group.lease_holds(shared.now) || planted(Mutant::ReadUnconfirmed) =>
            {
                let result = read::serve(&shared.state, &request.op)?;
                out.push(Output::Reply { id, result });
                if let Some(permit) = &self.permit {
                    permit.note_use();
                }
            }
            Op::Get(_) | Op::Scan(_) => {
                self.reads.push(&mut self.group, shared.now, request, out);
            }
        }
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), RegionError> {
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        if request.epoch.version != self.region.epoch.version {
            return Err(RegionError::EpochNotMatch { current: vec![self.region.clone()] });
        }
        request.op.check_keys(&self.region)
    }

    fn queue_write(&mut self, waiter: Waiter, epoch: Epoch, op: WriteOp, out: &mut Vec<Output>) {
        let bytes = entry_bytes(&op);
        if self.writes.queued_bytes + bytes > QUEUED_BYTES_MAX {
            let reason = format!("region {} has too many writes under way", self.region.id);
            let error = RegionError::ServerBusy { reason, retry_after_ms: RETRY_AFTER_MS };
            fail([waiter], &error, out);
            return;
        }
        self.writes.queued_bytes += bytes;
        self.writes.queued.push(QueuedWrite { waiter, epoch, bytes, op });
    }

    /// Proposes what was queued in this turn: as few entries as their bounds allow.
    pub fn propose_queued(&mut self, out: &mut Vec<Output>) {
        if self.writes.queued.is_empty() {
            return;
        }
        self.writes.queued_bytes = 0;
        let mut entry: Vec<QueuedWrite> = vec![];
        let mut entry_bytes = 0;
        for write in std::mem::take(&mut self.writes.queued) {
            if write.epoch.version != self.region.epoch.version {
                let error = RegionError::EpochNotMatch { current: vec![self.region.clone()] };
                fail([write.waiter], &error, out);
                continue;
            }
            let is_full =
                entry_bytes + write.bytes > ENTRY_BYTES_TARGET || entry.len() >= ENTRY_OPS_MAX;
            if is_full && !entry.is_empty() {
                self.propose_entry(std::mem::take(&mut entry), out);
                entry_bytes = 0;
            }
            entry_bytes += write.bytes;
            entry.push(write);
        }
        if !entry.is_empty() {
            self.propose_entry(entry, out);
        }
    }

    fn propose_entry(&mut self, writes: Vec<QueuedWrite>, out: &mut Vec<Output>) {
        let (waiters, ops) = writes.into_iter().map(|write| (write.waiter, write.op)).unzip();
        let version = self.region.epoch.version;
        let mut waiters: Vec<Waiter> = waiters;
        if planted(Mutant::AckAtPropose) {
            waiters.iter_mut().for_each(|waiter| waiter.reply(Ok(Answer::Written), out));
        }
        match self.group.propose(Command::Write { version, ops }.encode()) {
            Ok(position) => {
                self.writes.waiting.insert(position, waiters);
            }
            Err(refused) => {
                let error = match refused {
                    ProposeError::NotLeader { .. } => self.not_leader(),
                    ProposeError::Busy => RegionError::ServerBusy {
                        reason: format!("region {} takes no writes at the moment", self.region.id),
                        retry_after_ms: RETRY_AFTER_MS,
                    },
                };
                fail(waiters, &error, out);
            }
        }
    }

    /// Proposes to cut the region at `split_key`. A refusal means: another time.
    pub fn propose_split(
        &mut self,
        split_key: Bytes,
        new_region_id: RegionId,
        new_peer_ids: Vec<PeerId>,
    ) -> Result<Position, ProposeError> {
        let epoch = self.region.epoch;
        let split = Command::Split { epoch, split_key, new_region_id, new_peer_ids };
        self.group.propose_urgent(split.encode())
    }

    /// True while a split that this leader proposed is neither applied nor dropped.
    pub fn is_split_pending(&self) -> bool {
        let term = self.group.role().term;
        self.split_at.is_some_and(|at| at.term == term && at.index > self.applied.index)
    }

    /// Proposes to change the members. A refusal means: another time.
    pub fn propose_change(&mut self, changes: Vec<PeerChange>) -> Result<Position, ProposeError> {
        let members = apply::member_changes(&changes);
        let context = Command::ChangePeers { epoch: self.region.epoch, changes }.encode();
        self.group.propose_membership(&members, context)
    }

    /// Applies committed entries, in order, and answers who waited for them.
    pub fn apply(
        &mut self,
        shared: &Shared,
        committed: Vec<Committed>,
        out: &mut Vec<Output>,
    ) -> Result<Vec<Effect>, Fatal> {
        let mut effects = vec![];
        if committed.is_empty() {
            return Ok(effects);
        }
        let mut applier = Applier::new(&shared.state, self.region.clone());
        for Committed { position, body } in committed {
            assert_eq!(position.index, self.applied.index + 1, "entries are applied in order");
            self.applied = Applied { index: position.index, term: position.term };
            let (results, effect) = match body {
                CommittedBody::Empty => (vec![], None),
                CommittedBody::Command(payload) => {
                    let command = decode(&applier.region, position, payload)?;
                    self.apply_command(&mut applier, command)?
                }
                CommittedBody::Membership(context) => {
                    (vec![], self.apply_membership(&mut applier, position, context)?)
                }
            };
            self.answer(position, results, out);
            let is_removed = effect == Some(Effect::Removed);
            effects.extend(effect);
            if is_removed {
                break;
            }
        }
        self.size.add(applier.bytes_put, applier.keys_put);
        self.region = applier.finish()?;
        self.group.applied(self.applied.index);
        Ok(effects)
    }

    fn apply_command(
        &mut self,
        applier: &mut Applier<'_>,
        command: Command,
    ) -> Result<(Vec<WriteResult>, Option<Effect>), Fatal> {
        match command {
            Command::Write { version, ops } => Ok((applier.write(version, &ops)?, None)),
            Command::Split { epoch, split_key, new_region_id, new_peer_ids } => {
                let right = applier.split(epoch, &split_key, new_region_id, &new_peer_ids);
                let Ok(right) = right else { return Ok((vec![], None)) };
                applier.put_region(self.id);
                let part = RightPart { region: right, size: self.size.halve() };
                Ok((vec![], Some(Effect::Split(Box::new(part)))))
            }
            Command::ChangePeers { .. } => Err(self.cannot_apply("a membership change as data")),
        }
    }

    fn apply_membership(
        &mut self,
        applier: &mut Applier<'_>,
        position: Position,
        context: Bytes,
    ) -> Result<Option<Effect>, Fatal> {
        let changes = if context.is_empty() {
            vec![]
        } else {
            match decode(&applier.region, position, context)? {
                Command::ChangePeers { epoch, changes } => {
                    if applier.check_change(epoch).is_err() {
                        return Ok(None);
                    }
                    changes
                }
                Command::Write { .. } | Command::Split { .. } => {
                    return Err(self.cannot_apply("data as a membership change"));
                }
            }
        };
        let membership = self
            .group
            .apply_membership(&apply::member_changes(&changes))
            .map_err(|reason| self.cannot_apply(&reason))?;
        let mut gone = applier.region.members.clone();
        applier.change_members(&membership, &changes);
        applier.put_region(self.id);
        gone.retain(|member| !membership.contains(member.id.0));
        let is_member = membership.contains(self.id.0);
        Ok(Some(if is_member { Effect::MembersChanged { gone } } else { Effect::Removed }))
    }

    fn cannot_apply(&self, reason: &str) -> Fatal {
        let (region, index) = (self.region.id, self.applied.index);
        Fatal::CannotApply { region, index, reason: reason.to_string() }
    }

    /// The entry at `position` is applied: whoever waits there learns the result, whoever waits
    /// at this index or before it for another term's entry learns that it was dropped.
    fn answer(&mut self, position: Position, results: Vec<WriteResult>, out: &mut Vec<Output>) {
        let after = Position { index: position.index + 1, term: 0 };
        let later = self.writes.waiting.split_off(&after);
        let decided = std::mem::replace(&mut self.writes.waiting, later);
        let mut results = Some(results);
        for (waiting_at, waiters) in decided {
            let is_other_term = waiting_at.term != position.term && !planted(Mutant::AckOtherTerm);
            if waiting_at.index != position.index || is_other_term {
                fail(waiters, &self.not_leader(), out);
                continue;
            }
            let results = results.take().unwrap_or_default();
            assert_eq!(waiters.len(), results.len(), "one result for each write at {position:?}");
            for (mut waiter, result) in waiters.into_iter().zip(results) {
                waiter.reply(result, out);
            }
        }
    }

    /// A round of confirmation was answered by a quorum.
    pub fn confirm_reads(&mut self, reads: Vec<flotilla_group::ConfirmedRead>) {
        for read in reads {
            self.reads.confirm(read);
        }
    }

    /// Serves the reads whose index is applied.
    pub fn serve_reads(&mut self, shared: &Shared, out: &mut Vec<Output>) -> Result<(), Fatal> {
        if self.reads.is_empty() {
            return Ok(());
        }
        for request in self.reads.take_ready(self.applied.index) {
            let result = match self.check_served(&request) {
                Ok(()) => read::serve(&shared.state, &request.op)?,
                Err(error) => Err(error),
            };
            out.push(Output::Reply { id: request.id, result });
        }
        Ok(())
    }

    /// A confirmed read holds whoever leads by now; the region's bounds must still be the same.
    fn check_served(&self, request: &Request) -> Result<(), RegionError> {
        if request.epoch.version == self.region.epoch.version {
            return Ok(());
        }
        Err(RegionError::EpochNotMatch { current: vec![self.region.clone()] })
    }

    /// True if the end of the turn has anything to do for this peer: most messages of a busy region
    /// only tell its leader what it knows.
    pub fn has_work(&self) -> bool {
        let role = self.group.role();
        self.group.has_ready()
            || role != self.role
            || !self.reads.is_empty()
            || !self.writes.queued.is_empty()
            || self.staged.is_some()
            || (role.is_leader && self.group.snapshot_wanted().is_some())
    }

    /// Acts on a change of role. True if there was one.
    pub fn note_role(&mut self, shared: &Shared, out: &mut Vec<Output>) -> bool {
        let role = self.group.role();
        // What counts is when the leader last wrote: a learner believes in its leader for ever.
        let heard = self.heard.get(&PeerId(role.leader)).copied().unwrap_or_default();
        self.leader_seen = self.leader_seen.max(if role.is_leader { shared.now } else { heard });
        if role == self.role {
            return false;
        }
        let was_leader = std::mem::replace(&mut self.role, role).is_leader;
        self.role_since = shared.now;
        if was_leader && !role.is_leader {
            let error = self.not_leader();
            self.reads.fail(&error, out);
            let queued = std::mem::take(&mut self.writes.queued);
            self.writes.queued_bytes = 0;
            fail(queued.into_iter().map(|write| write.waiter), &error, out);
            self.writes.orphaned_at = Some(shared.now);
        }
        if role.is_leader {
            self.writes.orphaned_at = None;
            let region = self.region.id;
            out.push(Event::BecameLeader { region, term: role.term }.into());
        }
        true
    }

    /// Lets readers do without the worker as far as the lease allows, and no further.
    pub fn publish_permit(&mut self, shared: &Shared) {
        if !self.has_state || !self.group.lease_holds(shared.now) {
            self.revoke_permit(shared);
            return;
        }
        let version = self.region.epoch.version;
        let until = shared.now.plus(self.group.lease_left_ms(shared.now));
        if self.permit.as_ref().is_some_and(|permit| permit.is_for(version, until)) {
            return;
        }
        let permit = Permit::new(&self.region, until);
        shared.permits.publish(permit.clone());
        self.permit = Some(permit);
    }

    fn revoke_permit(&mut self, shared: &Shared) {
        if let Some(permit) = self.permit.take() {
            shared.permits.revoke(&permit);
        }
    }

    /// Lets time pass: deadlines, and rounds that were lost.
    pub fn tick(&mut self, shared: &Shared, out: &mut Vec<Output>) {
        self.renew_lease(shared);
        self.group.tick();
        self.step_down_if_demoted();
        self.reads.tick(&mut self.group, shared.now, out);
        let now = shared.now;
        let is_orphaned =
            self.writes.orphaned_at.is_some_and(|at| now.since(at) >= ORPHANED_MS_MAX);
        let unknown = RegionError::Undetermined { region_id: self.region.id };
        let error = if planted(Mutant::OrphansFailed) { self.not_leader() } else { unknown };
        for waiter in self.writes.waiting.values_mut().flatten() {
            if is_orphaned || now >= waiter.deadline {
                waiter.fail(&error, out);
            }
        }
        if is_orphaned {
            self.writes.waiting.clear();
            self.writes.orphaned_at = None;
        }
    }

    /// Renews the lease of a region that is read, if the next tick might be too late for that.
    fn renew_lease(&mut self, shared: &Shared) {
        if self.permit.as_ref().is_some_and(|permit| permit.is_used()) {
            self.active_at = shared.now;
            if self.group.lease_left_ms(shared.now) < RENEW_TICKS_MAX * shared.timing.tick_ms {
                self.group.read_index(shared.now);
            }
        }
    }

    /// A leader that was made a learner, because leadership came to it while the change was under
    /// way, hands leadership to the voter that is furthest on.
    fn step_down_if_demoted(&mut self) {
        let is_voter = |id: u64| {
            self.region.member(PeerId(id)).is_some_and(|member| member.role != MemberRole::Learner)
        };
        if !self.is_leader() || is_voter(self.id.0) || self.group.is_transferring() {
            return;
        }
        let members = self.group.progress().into_iter();
        let heirs = members.filter(|member| is_voter(member.peer) && member.is_active);
        if let Some(heir) = heirs.max_by_key(|member| member.matched) {
            self.group.transfer_leader(heir.peer);
        }
    }

    /// Answers everyone who waits, because this peer goes away or jumps over their entries.
    pub fn abandon(&mut self, shared: &Shared, out: &mut Vec<Output>) {
        self.revoke_permit(shared);
        let region_id = self.region.id;
        self.reads.fail(&RegionError::RegionNotFound { region_id }, out);
        let queued = std::mem::take(&mut self.writes.queued);
        self.writes.queued_bytes = 0;
        let queued = queued.into_iter().map(|write| write.waiter);
        fail(queued, &RegionError::RegionNotFound { region_id }, out);
        for (_, waiters) in std::mem::take(&mut self.writes.waiting) {
            fail(waiters, &RegionError::Undetermined { region_id }, out);
        }
    }
}
