//! One region's peer on this store: what it is, and what it does alone.
//!
//! A peer either has state (a region, an applied index) or waits for its first snapshot; then its
//! region has no range and no epoch ([`super::lifecycle`]). What concerns more than one peer
//! (creating, destroying, the store's range map) is not decided here; a peer answers it as an
//! [`Effect`].
//!
//! The life of a write, and what its caller learns when the leader is lost, is told in
//! [`super::writes`], in six steps; a peer calls each of them when it is due. Whom the peer
//! exchanges messages with is in [`super::contacts`]; the life of a read is in [`super::read`], and
//! without the worker in [`super::permit`].
//!
//! Invariants ([`Peer::check`]):
//!
//! * durable <= applied <= committed.
//! * truncated <= durable. The one exception is a new region whose state is not durable yet: its
//!   log begins at `FIRST_INDEX`, so truncated <= max(durable, `FIRST_INDEX`).
//! * The group is paused exactly while a snapshot is installed.
//! * No offer of a snapshot outlives its turn.
//! * A permit is for the region's version, and for no longer than the lease.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::LogOp;
use flotilla_group::{
    Committed, CommittedBody, ConfirmedRead, Group, GroupConfig, Membership, MessageKind, Opening,
    Position, ProposeError, RaftMessage, Role,
};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{
    Command, Epoch, Load, Member, MemberRole, Millis, PeerChange, PeerId, Region, RegionError,
    RegionId, StoreId,
};

use super::apply::{self, Applier, WriteResult};
use super::contacts::Contacts;
use super::lifecycle::{Installing, Lifecycle};
use super::load::{LoadMeter, RegionCounts, read_load};
use super::permit::Permit;
use super::read::{self, PendingReads};
use super::records::FIRST_INDEX;
use super::shared::{LogKept, Shared};
use super::size::Size;
use super::writes::{QueuedWrite, Writes};
use super::{Event, Fatal, Op, Output, Request};

/// With less left than this many ticks, the lease is renewed: one until the next chance, and one
/// for that tick's lateness and the round.
const RENEW_TICKS_MAX: u64 = 2;

/// A region's load is told as a rate over this time at least: what comes and goes within seconds is
/// no reason to move anything.
const LOAD_PERIOD_MS: u64 = 5_000;

/// What a peer's progress means for the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The region was cut: create the right part's peer.
    Split(Box<RightPart>),
    /// The members changed.
    MembersChanged {
        /// Who is a member no more.
        removed: Vec<Member>,
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

/// One region's peer. See the module's documentation.
pub struct Peer {
    /// This peer's id.
    pub id: PeerId,
    /// The region; only its id means anything while there is no state.
    pub region: Region,
    /// Consensus.
    pub group: Group,
    /// How far the state goes.
    pub applied: Position,
    /// How far the durable state goes; the log is kept from here on.
    pub durable_applied: u64,
    /// The region's size.
    pub size: Size,
    /// What of the region it has, and what it is about to have.
    pub lifecycle: Lifecycle,
    /// With whom it exchanges messages.
    pub contacts: Contacts,
    /// The role that was last acted on.
    acted_on: HeldRole,
    /// When anything but a heartbeat last happened.
    active_at: Millis,
    /// Where the split stands that this peer proposed last.
    split_at: Option<Position>,
    writes: Writes,
    reads: PendingReads,
    permit: Option<Arc<Permit>>,
    /// What clients have this peer do.
    load: PeerLoad,
}

/// A role, and since when the peer has it.
struct HeldRole {
    role: Role,
    since: Millis,
}

/// What clients have a peer do.
struct PeerLoad {
    counts: Arc<RegionCounts>,
    meter: LoadMeter,
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
    pub applied: Position,
    /// See [`Opening::is_restart`].
    pub is_restart: bool,
    /// The region's estimated size.
    pub size: Size,
    /// Whether it has state, and whether that is durable.
    pub lifecycle: Lifecycle,
}

impl Peer {
    /// Opens the peer over what log and state hold. Answers the log writes that opening needs.
    pub fn open(shared: &Shared, opening: PeerOpening) -> Result<(Peer, Vec<LogOp>), Fatal> {
        let PeerOpening { id, region, applied, is_restart, size, lifecycle } = opening;
        let limits = &shared.config.limits;
        let config = GroupConfig {
            group: region.id.0,
            peer: id.0,
            seed: shared.config.seed ^ id.0.wrapping_mul(0x2545_f491_4f6c_dd1d),
            timing: shared.config.timing,
            limits: limits.group,
        };
        let has_state = lifecycle.has_state();
        assert_eq!(has_state, applied.index > 0, "region {}: state and its index", region.id);
        let membership =
            if has_state { apply::membership_of(&region) } else { Membership::default() };
        let opening = Opening { applied, membership, is_restart };
        let (group, repairs) = Group::open(config, shared.log.clone(), opening, shared.now)?;
        let peer = Peer {
            id,
            region,
            group,
            applied,
            durable_applied: 0,
            size,
            lifecycle,
            contacts: Contacts::new(shared.now, limits.non_members_max),
            acted_on: HeldRole { role: Role::default(), since: shared.now },
            active_at: shared.now,
            split_at: None,
            writes: Writes::new(limits),
            reads: PendingReads::new(limits.reads_waiting_max),
            permit: None,
            load: PeerLoad {
                counts: RegionCounts::of(&shared.load),
                meter: LoadMeter::new(shared.now, LOAD_PERIOD_MS),
            },
        };
        Ok((peer, repairs))
    }

    /// False while it waits for its first snapshot.
    pub fn has_state(&self) -> bool {
        self.lifecycle.has_state()
    }

    /// This peer as a member of its region.
    pub fn member(&self, store: StoreId) -> Member {
        self.region.member(self.id).copied().unwrap_or(Member::learner(self.id, store))
    }

    /// The epoch of the region as this peer knows it; without state, as its creator knew it.
    pub fn known_epoch(&self) -> Epoch {
        self.lifecycle.created_by().unwrap_or(self.region.epoch)
    }

    /// Where the peer with this id lives: a member, or one that wrote lately.
    pub fn recipient(&self, id: PeerId) -> Option<Member> {
        self.contacts.find(&self.region, id)
    }

    /// The stores of all peers that this one writes to.
    pub fn contact_stores(&self) -> impl Iterator<Item = StoreId> {
        self.contacts.stores(&self.region)
    }

    /// A message came from `sender`, which need not be a member.
    pub fn note_message(&mut self, sender: Member, now: Millis) {
        self.contacts.note_message(&self.region, sender, now);
    }

    /// Members that owe this peer a message for `unreachable_ms`, counted from when it began to
    /// lead at the earliest. Of a quiescent region: those on stores that were unreachable then.
    pub fn unreachable_members(&self, now: Millis, unreachable_ms: u64) -> Vec<PeerId> {
        if let Some(quiescent) = self.contacts.quiescent() {
            return quiescent.unreachable.clone();
        }
        let is_unreachable = |id: &PeerId| {
            let no_message_since = self.contacts.no_message_since(*id, self.acted_on.since);
            *id != self.id && now.since(no_message_since) >= unreachable_ms
        };
        self.region.members.iter().map(|member| member.id).filter(is_unreachable).collect()
    }

    /// True if `peer` is known to live: it wrote within `recent_ms`; or, while the region is
    /// quiescent and no messages are expected, its store beats.
    pub fn is_recently_active(&self, peer: PeerId, now: Millis, recent_ms: u64) -> bool {
        if peer == self.id {
            return true;
        }
        match self.contacts.quiescent() {
            Some(quiescent) => !quiescent.unreachable.contains(&peer),
            None => self
                .contacts
                .last_message_at(peer)
                .is_some_and(|last_message_at| now.since(last_message_at) < recent_ms),
        }
    }

    /// True while the region is quiescent.
    pub fn is_quiescent(&self) -> bool {
        self.contacts.quiescent().is_some()
    }

    /// The region is active again, if it was quiescent; answers since when it was.
    pub(super) fn activate(&mut self, now: Millis) -> Option<Millis> {
        let quiescent_since = self.contacts.activate(now)?;
        self.active_at = now;
        Some(quiescent_since)
    }

    /// True for what a quiescent leader's followers answered to its last messages: the region need
    /// not become active to learn that they agree.
    pub fn is_expected_answer(&self, message: &RaftMessage) -> bool {
        let is_answer = matches!(
            message.kind(),
            MessageKind::MsgHeartbeatResponse | MessageKind::MsgAppendResponse
        );
        self.is_quiescent()
            && is_answer
            && !message.reject
            && self.is_leader()
            && message.term == self.acted_on.role.term
    }

    /// What clients have this peer do, per second, over the last period that is over.
    pub fn load(&mut self, now: Millis) -> Load {
        self.load.meter.look(now, self.load.counts.total())
    }

    /// How many writes wait for the end of the turn, and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        self.writes.queued()
    }

    /// How many reads wait for a round of confirmation.
    pub fn waiting_reads(&self) -> usize {
        self.reads.len()
    }

    /// True if a caller waits for an answer.
    pub fn has_callers(&self) -> bool {
        !self.writes.is_empty() || !self.reads.is_empty()
    }

    /// Since when nothing but heartbeats happened, or the role last changed.
    pub fn idle_since(&self) -> Millis {
        self.active_at.max(self.acted_on.since)
    }

    /// When anything but a heartbeat last happened.
    pub fn active_at(&self) -> Millis {
        self.active_at
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
        let (id, limits) = (request.id, &shared.config.limits);
        if let Err(error) = self.check_request(&request) {
            out.push(Output::Reply { id, result: Err(error) });
            return Ok(());
        }
        match request.op {
            Op::Write(op) => {
                let write = QueuedWrite::new(id, request.deadline, request.epoch, op);
                self.writes.queue(self.region.id, write, out);
            }
            Op::Get(_) | Op::Scan(_) if self.may_read_at_once(shared.now) => {
                let result = read::serve(&shared.state, &request.op, limits.reply_bytes_max)?;
                self.load.counts.add(read_load(&result));
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

    /// True if a read that arrives now needs no round of confirmation.
    fn may_read_at_once(&self, now: Millis) -> bool {
        if planted(Mutant::ReadUnconfirmed) {
            return true;
        }
        self.group.lease_holds(now)
    }

    fn check_request(&self, request: &Request) -> Result<(), RegionError> {
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        if request.epoch.version != self.region.epoch.version {
            return Err(RegionError::EpochNotMatch { current: vec![self.region.clone()] });
        }
        request.op.check_keys(&self.region)
    }

    /// Proposes what was queued in this turn; answers how many entries that were.
    pub fn propose_queued(&mut self, out: &mut Vec<Output>) -> u64 {
        let mut count = 0;
        if self.writes.has_queued() {
            let group = &mut self.group;
            let mut propose = |entry| group.propose(entry).inspect(|_| count += 1);
            self.writes.propose(&self.region, &mut propose, out);
        }
        count
    }

    /// Proposes to cut the region at `split_key`. A refusal means: another time.
    pub fn propose_split(
        &mut self,
        split_key: Bytes,
        new_region_id: RegionId,
        new_peer_ids: Vec<PeerId>,
    ) {
        let epoch = self.region.epoch;
        let split = Command::Split { epoch, split_key, new_region_id, new_peer_ids };
        self.split_at = self.group.propose_urgent(split.encode()).ok();
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

    /// Applies committed entries, in order, and answers the callers that waited for them.
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
            self.applied = position;
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
            let not_leader = self.not_leader();
            let written = self.writes.answer(position, results, &not_leader, out);
            self.load.counts.add(written);
            let is_removed = effect == Some(Effect::Removed);
            effects.extend(effect);
            if is_removed {
                break;
            }
        }
        self.size.add(applier.bytes_put, applier.keys_put);
        self.region = applier.finish()?;
        if !effects.is_empty() {
            self.contacts.retain(&self.region);
        }
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
        let mut removed = applier.region.members.clone();
        applier.change_members(&membership, &changes);
        applier.put_region(self.id);
        removed.retain(|member| !membership.contains(member.id.0));
        let is_member = membership.contains(self.id.0);
        Ok(Some(if is_member { Effect::MembersChanged { removed } } else { Effect::Removed }))
    }

    fn cannot_apply(&self, reason: &str) -> Fatal {
        let (region, index) = (self.region.id, self.applied.index);
        Fatal::CannotApply { region, index, reason: reason.to_string() }
    }

    /// A round of confirmation was answered by a quorum.
    pub fn confirm_reads(&mut self, reads: Vec<ConfirmedRead>) {
        for read in reads {
            self.reads.confirm(read);
        }
    }

    /// Serves the reads whose index is applied.
    pub fn serve_reads(&mut self, shared: &Shared, out: &mut Vec<Output>) -> Result<(), Fatal> {
        if self.reads.is_empty() {
            return Ok(());
        }
        let limits = &shared.config.limits;
        for request in self.reads.take_ready(self.applied.index) {
            let result = match self.check_served(&request) {
                Ok(()) => read::serve(&shared.state, &request.op, limits.reply_bytes_max)?,
                Err(error) => Err(error),
            };
            self.load.counts.add(read_load(&result));
            out.push(Output::Reply { id: request.id, result });
        }
        Ok(())
    }

    /// A confirmed read holds whichever peer leads by now; the region's bounds must still be the
    /// same.
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
            || role != self.acted_on.role
            || !self.reads.is_empty()
            || self.writes.has_queued()
            || self.lifecycle.staged().is_some()
            || (role.is_leader && self.group.snapshot_wanted().is_some())
    }

    /// Something that is no heartbeat happened.
    pub fn note_activity(&mut self, now: Millis) {
        self.active_at = now;
    }

    /// Acts on a change of role. True if there was one.
    pub fn note_role(&mut self, shared: &Shared, out: &mut Vec<Output>) -> bool {
        let role = self.group.role();
        self.contacts.note_leader(PeerId(role.leader), role.is_leader, shared.now);
        if role == self.acted_on.role {
            return false;
        }
        let held = HeldRole { role, since: shared.now };
        let was_leader = std::mem::replace(&mut self.acted_on, held).role.is_leader;
        if was_leader && !role.is_leader {
            let error = self.not_leader();
            self.reads.fail(&error, out);
            self.writes.lose_leadership(shared.now, &error, out);
        }
        if role.is_leader {
            self.writes.gain_leadership();
            let region = self.region.id;
            out.push(Event::BecameLeader { region, term: role.term }.into());
        }
        true
    }

    /// Lets readers do without the worker as far as the lease allows, and no further.
    pub fn publish_permit(&mut self, shared: &Shared) {
        if planted(Mutant::PermitOverTransfer) && self.group.is_transferring() {
            return;
        }
        if !self.has_state() || !self.group.lease_holds(shared.now) {
            self.revoke_permit(shared);
            return;
        }
        let version = self.region.epoch.version;
        let until = shared.now.plus(self.group.lease_left_ms(shared.now));
        if self.permit.as_ref().is_some_and(|permit| permit.is_for(version, until)) {
            return;
        }
        let permit = Permit::new(&self.region, until, self.load.counts.clone());
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
        let mut undetermined = RegionError::Undetermined { region_id: self.region.id };
        if planted(Mutant::OrphansFailed) {
            undetermined = self.not_leader();
        }
        self.writes.expire(shared.now, &undetermined, out);
    }

    /// Renews the lease of a region that is read, if the next tick might be too late for that.
    fn renew_lease(&mut self, shared: &Shared) {
        if self.permit.as_ref().is_some_and(|permit| permit.is_used()) {
            self.active_at = shared.now;
            if self.group.lease_left_ms(shared.now) < RENEW_TICKS_MAX * shared.config.timing.tick_ms
            {
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
        let targets = members.filter(|member| is_voter(member.peer) && member.is_active);
        if let Some(target) = targets.max_by_key(|member| member.matched) {
            self.group.transfer_leader(target.peer);
        }
    }

    /// Answers every caller that waits, because this peer is removed or jumps over their entries.
    pub fn abandon(&mut self, shared: &Shared, out: &mut Vec<Output>) {
        self.revoke_permit(shared);
        let region_id = self.region.id;
        self.reads.fail(&RegionError::RegionNotFound { region_id }, out);
        self.writes.abandon(region_id, out);
    }

    /// The snapshot is installed and durable: the peer is what the snapshot says.
    pub fn become_installed(&mut self) {
        let Installing { region, applied, .. } = self.lifecycle.end_install();
        self.region = region;
        self.applied = applied;
        self.durable_applied = applied.index;
        self.size = Size::default();
        self.contacts.retain(&self.region);
    }

    /// Forgets entries of the log that no member needs. Each peer decides for itself; a leader
    /// keeps what a follower lacks, within bounds.
    pub fn truncate(&mut self, kept: &LogKept) -> Vec<LogOp> {
        let mut durable = self.durable_applied;
        if planted(Mutant::TruncateUndurable) {
            durable = self.applied.index;
        }
        let kept_for_followers = durable.saturating_sub(kept.entries);
        let mut through = kept_for_followers;
        for member in self.group.progress() {
            if member.needs_snapshot || member.matched < through {
                let least = durable.saturating_sub(kept.entries_for_absent);
                through = through.min(member.matched.max(least));
            }
        }
        if through < self.group.truncated().index + kept.truncate_entries_min {
            return vec![];
        }
        self.group.truncate(through)
    }

    /// Asserts the module's invariants, at the end of a turn.
    pub fn check(&self, now: Millis) {
        let id = self.region.id;
        let (applied, durable) = (self.applied.index, self.durable_applied);
        let truncated = self.group.truncated().index;
        let committed = self.group.commit_index();
        // A new region's log begins at its first index before its state is durable.
        let kept_from = durable.max(FIRST_INDEX);
        assert!(truncated <= kept_from, "region {id}: truncated {truncated}, durable {durable}");
        assert!(durable <= applied, "region {id}: durable {durable}, applied {applied}");
        assert!(applied <= committed, "region {id}: applied {applied}, committed {committed}");
        let (is_installing, is_paused) = (self.lifecycle.is_installing(), self.group.is_paused());
        assert_eq!(is_installing, is_paused, "region {id}: installing, and the group paused");
        let staged = self.lifecycle.staged();
        assert_eq!(staged.is_some(), is_installing, "region {id}: {staged:?} is only offered");
        let has_state = self.has_state();
        assert_eq!(has_state, applied > 0, "region {id}: has state, and applied {applied}");
        if let Some(permit) = &self.permit {
            let until = now.plus(self.group.lease_left_ms(now));
            assert!(has_state, "region {id}: a permit without state");
            assert!(permit.is_within(&self.region, until), "region {id}: {permit:?}, {until:?}");
        }
        self.contacts.check(&self.region);
        self.writes.check(id, applied);
    }
}
