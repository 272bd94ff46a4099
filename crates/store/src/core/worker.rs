//! The worker: it owns the peers, and turns inputs into one log batch for all of them.
//!
//! Inputs are stepped one by one; most only change a peer's group and mark it. [`Input::Flush`]
//! ends the turn: marked peers propose, apply and answer, and everything their groups want
//! written becomes one [`Output::Append`]. Messages that imply a durable log travel inside it.
//!
//! State writes of one turn are one unit of durability: a checkpoint freezes the state store only
//! between turns ([`super::checkpoint`]).
//!
//! A failure of the disk, or a log that does not fit the state, ends the worker: it answers
//! [`Output::Fatal`] once, and nothing after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flotilla_engine::{LogBatch, LogOp, LogStore, StateBatch, StateStore};
use flotilla_group::{GroupReady, Timing};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{self, MessageKind as Kind, RaftMessage};
use flotilla_types::{Member, Millis, PeerId, RangeMap, Region, RegionError, RegionId, StoreId};

use super::checkpoint::{Checkpoints, LogKept};
use super::command::Ids;
use super::peer::{Effect, Held, Peer, PeerOpening, RightPart, Shared};
use super::permit::ReadPermits;
use super::quiesce::Quiescence;
use super::records::{self, Applied};
use super::report::Reporter;
use super::route::{self, Routing, removed};
use super::split::Size;
use super::{Event, Fatal, Input, Op, Output, Request};

/// Ticks from one look at the logs' lengths to the next: a second.
const TRUNCATE_TICKS: u64 = 10;

/// What a worker is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The cluster that the store belongs to.
    pub cluster: u64,
    /// The store that this is.
    pub store: StoreId,
    /// The groups' clock.
    pub timing: Timing,
    /// What groups' dice are rolled from; another number in each life of the store, never 0.
    pub seed: u64,
    /// A region that grows beyond this is cut.
    pub region_bytes_max: u64,
    /// A checkpoint begins when this much is not durable.
    pub checkpoint_bytes: usize,
    /// A region in which nothing happened for this long is quiescent ([`super::quiesce`]).
    pub idle_ms: u64,
    /// How many entries logs keep.
    pub log_kept: LogKept,
}

/// See the module's documentation.
pub struct Worker {
    pub(super) config: WorkerConfig,
    pub(super) shared: Shared,
    /// Boxed: a turn takes each of its peers out and puts it back.
    pub(super) peers: BTreeMap<RegionId, Box<Peer>>,
    pub(super) range_map: RangeMap,
    pub(super) dirty: BTreeSet<RegionId>,
    pub(super) routing: Routing,
    pub(super) checkpoints: Checkpoints,
    pub(super) ids: Ids,
    pub(super) reporter: Reporter,
    pub(super) quiescence: Quiescence,
    turn: Turn,
    unpersisted: VecDeque<Unpersisted>,
    ticks: u64,
    /// True once a region's rows were walked in this turn.
    pub(super) has_counted: bool,
    is_failed: bool,
}

/// What the present turn has gathered for the log.
#[derive(Default)]
pub(super) struct Turn {
    number: u64,
    batch: LogBatch,
    is_synced: bool,
    then: Vec<(StoreId, proto::Envelope)>,
    readies: Vec<(RegionId, PeerId, u64)>,
}

impl Turn {
    /// Adds log changes that need no sync of their own.
    pub(super) fn log(&mut self, ops: Vec<LogOp>) {
        self.batch.ops.extend(ops);
    }

    fn is_empty(&self) -> bool {
        self.batch.ops.is_empty() && self.then.is_empty() && self.readies.is_empty()
    }
}

struct Unpersisted {
    turn: u64,
    readies: Vec<(RegionId, PeerId, u64)>,
}

/// Writes the cluster's first region into the state of the store that is to hold it. The caller
/// makes it durable before a worker is opened over it.
pub fn bootstrap(state: &StateStore, store: StoreId, region: &Region) -> Result<(), Fatal> {
    let Some(peer) = region.member_on(store) else { return Ok(()) };
    let mut batch = StateBatch::default();
    records::put_peer(&mut batch, peer.id, region);
    records::put_applied(&mut batch, region.id, Applied::FIRST, &Size::of(0, 0));
    Ok(state.write(batch)?)
}

impl Worker {
    /// Opens the worker over what the two stores hold.
    pub fn open(
        config: WorkerConfig,
        state: Arc<StateStore>,
        log: Arc<dyn LogStore>,
        now: Millis,
    ) -> Result<Worker, Fatal> {
        let shared = Shared {
            store: config.store,
            permits: Arc::new(ReadPermits::new(state.clone())),
            state,
            log,
            timing: config.timing,
            seed: config.seed,
            now,
        };
        let tombstones = records::load_tombstones(&shared.state)?;
        let mut worker = Worker {
            config,
            peers: BTreeMap::new(),
            range_map: RangeMap::default(),
            dirty: BTreeSet::new(),
            routing: Routing::new(tombstones),
            checkpoints: Checkpoints::new(now),
            ids: Ids::default(),
            reporter: Reporter::new(now),
            quiescence: Quiescence::default(),
            turn: Turn { number: 1, ..Turn::default() },
            unpersisted: VecDeque::new(),
            ticks: 0,
            has_counted: false,
            is_failed: false,
            shared,
        };
        for saved in records::load_peers(&worker.shared.state)? {
            let region = saved.region.id;
            worker.range_map.upsert(saved.region.clone());
            worker.open_peer(PeerOpening {
                id: saved.peer,
                region: saved.region,
                applied: saved.applied,
                is_restart: true,
                size: saved.size,
            })?;
            // What was loaded is what the disk had.
            if let Some(peer) = worker.peers.get_mut(&region) {
                peer.durable_applied = saved.applied.index;
            }
        }
        worker.clear_dead_logs()?;
        Ok(worker)
    }

    /// Logs of destroyed peers that a crash kept from being cleared. A log without state and
    /// without tombstone stays: it may hold the vote of a peer that waits for its snapshot.
    fn clear_dead_logs(&mut self) -> Result<(), Fatal> {
        for group in self.shared.log.groups() {
            let region = RegionId(group);
            if self.peers.contains_key(&region) {
                continue;
            }
            let remembered = flotilla_group::remembered_peer(&*self.shared.log, group)?;
            let tombstone = self.routing.tombstone(region);
            if tombstone.is_some() && remembered.map(PeerId) <= tombstone {
                self.turn.log(vec![LogOp::Clear { group }]);
            }
        }
        Ok(())
    }

    pub(super) fn open_peer(&mut self, opening: PeerOpening) -> Result<(), Fatal> {
        let region = opening.region.id;
        let (peer, repairs) = Peer::open(&self.shared, opening)?;
        if !repairs.is_empty() {
            self.turn.is_synced = true;
            self.turn.log(repairs);
        }
        self.peers.insert(region, Box::new(peer));
        self.quiescence.awake.insert(region);
        self.dirty.insert(region);
        Ok(())
    }

    /// How much of its logs this store keeps from now on. What is too much goes at the next tick.
    pub fn keep_log(&mut self, kept: LogKept) {
        self.config.log_kept = kept;
    }

    /// Lets a checkpoint begin as soon as none runs and something is not durable.
    pub fn want_checkpoint(&mut self) {
        self.checkpoints.want();
    }

    /// Takes one input; outputs are appended to `out`, in the order they are to be carried out.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        if self.is_failed {
            return;
        }
        self.shared.now = now;
        if let Err(fatal) = self.try_step(input, out) {
            self.is_failed = true;
            self.shared.permits.revoke_all();
            out.push(Output::Fatal { reason: fatal.to_string() });
        }
    }

    fn try_step(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Fatal> {
        match input {
            Input::Tick => self.tick(out),
            Input::Request(request) => return self.request(request, out),
            Input::Envelope(envelope) => return self.on_envelope(envelope, None, out),
            Input::SnapshotStaged { staged, envelope } => {
                return self.on_envelope(envelope, Some(staged), out);
            }
            Input::SnapshotSent { region, peer, is_ok } => {
                self.with_peer(region, |leader| leader.group.report_snapshot(peer.0, is_ok));
            }
            Input::Unreachable { store } => self.on_unreachable(store),
            Input::HeartbeatReply(reply) => return self.on_heartbeat_reply(reply, out),
            Input::Persisted { turn } => self.on_persisted(turn),
            Input::Checkpointed { number } => return self.on_checkpointed(number, out),
            Input::Flush => return self.flush(out),
            Input::Stop => return self.save_moved_peers(),
        }
        Ok(())
    }

    fn with_peer(&mut self, region: RegionId, act: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&region) {
            act(peer);
            self.dirty.insert(region);
        }
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        self.ticks += 1;
        let is_truncate_due = self.ticks.is_multiple_of(TRUNCATE_TICKS);
        for region in &self.quiescence.awake {
            let Some(peer) = self.peers.get_mut(region) else { continue };
            peer.tick(&self.shared, out);
            if is_truncate_due {
                let ops = super::checkpoint::truncate(peer, &self.config.log_kept);
                self.turn.log(ops);
                if self.shared.now.since(peer.active_at) >= self.config.idle_ms {
                    peer.group.shrink();
                }
            }
            let is_large = peer.is_leader() && peer.size.is_due(self.config.region_bytes_max);
            if peer.has_work() || is_large {
                self.dirty.insert(*region);
            } else {
                peer.note_role(&self.shared, out);
            }
        }
        self.beat(self.ticks, out);
        self.withdraw_exports(out);
    }

    fn request(&mut self, request: Request, out: &mut Vec<Output>) -> Result<(), Fatal> {
        let id = request.id;
        let refusal = if matches!(request.op, Op::Write(_)) && self.is_under_pressure() {
            let reason = "the store's write buffer is full".to_string();
            Some(RegionError::ServerBusy { reason, retry_after_ms: 50 })
        } else if self.shared.now >= request.deadline {
            Some(RegionError::DeadlineExceeded { region_id: request.region })
        } else {
            None
        };
        if let Some(error) = refusal {
            out.push(Output::Reply { id, result: Err(error) });
            return Ok(());
        }
        let region_id = request.region;
        let Some(peer) = self.peers.get_mut(&region_id).filter(|peer| peer.has_state) else {
            let error = RegionError::RegionNotFound { region_id };
            out.push(Output::Reply { id, result: Err(error) });
            return Ok(());
        };
        let first = out.len();
        peer.request(&self.shared, request, out)?;
        self.dirty.insert(region_id);
        self.add_neighbours(out.iter_mut().skip(first));
        Ok(())
    }

    /// A caller whose region was cut learns the right part, too.
    fn add_neighbours<'a>(&self, outputs: impl Iterator<Item = &'a mut Output>) {
        for output in outputs {
            let Output::Reply { result: Err(RegionError::EpochNotMatch { current }), .. } = output
            else {
                continue;
            };
            for _ in 0..NEIGHBOURS_MAX {
                let Some(end) = current.last().map(|region| region.range.end.clone()) else {
                    break;
                };
                match self.range_map.lookup(&end) {
                    Some(next) if !end.is_empty() => current.push(next.clone()),
                    _ => break,
                }
            }
        }
    }

    fn on_unreachable(&mut self, store: StoreId) {
        for region in &self.quiescence.awake {
            let Some(peer) = self.peers.get_mut(region) else { continue };
            if let Some(member) = peer.region.member_on(store).copied() {
                peer.group.report_unreachable(member.id.0);
            }
        }
    }

    fn on_persisted(&mut self, turn: u64) {
        while self.unpersisted.front().is_some_and(|front| front.turn <= turn) {
            let front = self.unpersisted.pop_front().expect("just seen");
            self.report_persisted(front.readies);
        }
    }

    fn report_persisted(&mut self, readies: Vec<(RegionId, PeerId, u64)>) {
        for (region, peer_id, number) in readies {
            // The peer may have been destroyed, or replaced by a later incarnation.
            let Some(peer) = self.peers.get_mut(&region).filter(|peer| peer.id == peer_id) else {
                continue;
            };
            match &mut peer.held {
                Some(held) => held.persisted = Some(number),
                None => {
                    peer.group.persisted(number);
                    if peer.has_work() {
                        self.dirty.insert(region);
                    }
                }
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<Output>) -> Result<(), Fatal> {
        let first = out.len();
        self.has_counted = false;
        loop {
            while let Some(region) = self.dirty.pop_first() {
                let Some(mut peer) = self.peers.remove(&region) else { continue };
                self.quiescence.wake(&mut peer, self.shared.now);
                let effects = self.advance(&mut peer, out);
                self.peers.insert(region, peer);
                if planted(Mutant::FreezeMidTurn) {
                    self.checkpoint_if_due(out)?;
                }
                self.carry_out(region, effects?, out)?;
            }
            self.end_turn(out);
            if self.dirty.is_empty() {
                break;
            }
        }
        self.add_neighbours(out.iter_mut().skip(first));
        self.quiesce_idle(out);
        self.checkpoint_if_due(out)?;
        self.heartbeat_if_due(out);
        Ok(())
    }

    /// Lets one peer do what it can. Stops after entries with effects on other peers: those come
    /// first.
    fn advance(&mut self, peer: &mut Peer, out: &mut Vec<Output>) -> Result<Vec<Effect>, Fatal> {
        let mut effects = vec![];
        peer.note_role(&self.shared, out);
        peer.propose_queued(out);
        while let Some(ready) = peer.group.ready() {
            effects = self.on_ready(peer, ready, out)?;
            if !effects.is_empty() {
                self.dirty.insert(peer.region.id);
                break;
            }
        }
        if peer.note_role(&self.shared, out) {
            self.reporter.note_change();
        }
        peer.serve_reads(&self.shared, out)?;
        if let Some(staged) = peer.staged {
            // The group did not want it: it is stale.
            if !peer.group.is_paused() {
                peer.staged = None;
                self.routing.release_claim(peer.region.id);
                out.push(Output::DiscardStaged { staged });
            }
        }
        if peer.is_leader() && peer.group.snapshot_wanted().is_some() {
            self.checkpoints.want_export(peer.region.id);
        }
        if peer.is_leader() {
            self.split_if_due(peer)?;
        }
        // Before what the turn put out is carried out, and before effects on other peers are.
        peer.publish_permit(&self.shared);
        Ok(effects)
    }

    fn on_ready(
        &mut self,
        peer: &mut Peer,
        mut ready: GroupReady,
        out: &mut Vec<Output>,
    ) -> Result<Vec<Effect>, Fatal> {
        if planted(Mutant::SendBeforeSync) {
            ready.messages.append(&mut ready.persisted_messages);
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(peer, message, out);
        }
        if let Some(meta) = &ready.snapshot {
            self.begin_install(peer, meta)?;
            return Ok(vec![]);
        }
        if !ready.committed.is_empty() || ready.must_sync {
            peer.active_at = self.shared.now;
        }
        peer.confirm_reads(std::mem::take(&mut ready.reads));
        let committed = std::mem::take(&mut ready.committed);
        if !committed.is_empty() {
            self.checkpoints.note_applied();
        }
        self.log_ready(peer, ready);
        peer.apply(&self.shared, committed, out)
    }

    /// Adds what a group wants written, and the messages that wait for it, to the turn.
    pub(super) fn log_ready(&mut self, peer: &mut Peer, ready: GroupReady) {
        self.turn.is_synced |= ready.must_sync && !planted(Mutant::SkipSync);
        self.turn.batch.ops.extend(ready.log);
        let messages = ready.persisted_messages.into_iter();
        let mails: Vec<_> =
            messages.filter_map(|message| wrap(peer, &self.shared, message)).collect();
        match &mut peer.held {
            Some(held) => held.mails.extend(mails),
            None => self.turn.then.extend(mails),
        }
        self.turn.readies.push((peer.region.id, peer.id, ready.number));
    }

    /// The state of a peer that a split created is durable: it may say what it had to hold back.
    /// That is sent after this turn's log, hence after the log that it implies.
    pub(super) fn release(&mut self, region: RegionId) {
        let Some(peer) = self.peers.get_mut(&region) else { return };
        let Some(held) = peer.held.take() else { return };
        self.turn.then.extend(held.mails);
        if let Some(number) = held.persisted {
            peer.group.persisted(number);
        }
        self.dirty.insert(region);
    }

    /// Log changes that the next sync must make durable.
    pub(super) fn log_synced(&mut self, ops: Vec<LogOp>) {
        self.turn.is_synced = true;
        self.turn.log(ops);
    }

    /// A leader's messages leave at once; a snapshot's rows are sent along with its message.
    fn send(&mut self, peer: &mut Peer, message: RaftMessage, out: &mut Vec<Output>) {
        let is_snapshot = message.kind() == Kind::MsgSnapshot;
        let receiver = message.to;
        let Some((to, envelope)) = wrap(peer, &self.shared, message) else { return };
        if !is_snapshot {
            out.push(Output::Send { to, envelope });
            return;
        }
        match self.checkpoints.export_number(peer.region.id) {
            Some(number) => out.push(Output::SendSnapshot { to, envelope, number }),
            // The view is gone. The group asks for another when it knows that this one failed.
            None => peer.group.report_snapshot(receiver, false),
        }
    }

    fn carry_out(
        &mut self,
        region: RegionId,
        effects: Vec<Effect>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        for effect in effects {
            self.reporter.note_change();
            match effect {
                Effect::Split(right) => self.create_right(region, *right, out)?,
                Effect::MembersChanged { gone } => self.note_members(region, gone, out),
                Effect::Removed => self.destroy(region, out)?,
            }
        }
        Ok(())
    }

    /// A leader tells those who are gone, for it writes to them no more. They hear of it only after
    /// this turn's log is durable, and with it that the change is committed.
    fn note_members(&mut self, region: RegionId, gone: Vec<Member>, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&region) else { return };
        let saved = peer.group.save_commit();
        self.turn.is_synced |= !saved.is_empty();
        self.turn.log(saved);
        self.range_map.upsert(peer.region.clone());
        if peer.is_leader() {
            let ours = peer.member(self.shared.store);
            let tell = |member: Member| (member.store_id, removed(&peer.region, ours, member));
            self.turn.then.extend(gone.into_iter().map(tell));
        }
        out.push(Event::MembersChanged { region: peer.region.clone() }.into());
    }

    /// Step 5 of a split; see [`super::split`].
    fn create_right(
        &mut self,
        left: RegionId,
        right: RightPart,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let parent = self.peers.get(&left).expect("the peer that applied the split");
        let (left, is_leader) = (parent.region.clone(), parent.is_leader());
        out.push(Event::Split { left: left.clone(), right: right.region.clone() }.into());
        self.checkpoints.note_split();
        self.range_map.upsert(left);
        let id = right.region.id;
        let member = right.region.member_on(self.shared.store).copied();
        let may_create = member.map_or(Ok(false), |member| self.may_create(id, member.id))?;
        let Some(member) = member.filter(|_| may_create) else {
            let mut batch = StateBatch::default();
            batch.delete_range(records::data_range(&right.region.range));
            return Ok(self.shared.state.write(batch)?);
        };
        let is_new = self.create_right_peer(member, right)?;
        if is_leader && is_new {
            self.with_peer(id, |peer| peer.group.campaign());
        }
        self.hand_over_vote(id, out)
    }

    /// True if the peer has no earlier life: in one, it may have promised a leader not to stand for
    /// election yet.
    fn create_right_peer(&mut self, member: Member, right: RightPart) -> Result<bool, Fatal> {
        let RightPart { region, size } = right;
        let mut batch = StateBatch::default();
        records::put_peer(&mut batch, member.id, &region);
        records::put_applied(&mut batch, region.id, Applied::FIRST, &size);
        self.shared.state.write(batch)?;
        self.range_map.upsert(region.clone());
        // A peer without state may have been created by a message. Its promises count, and they
        // may still be on their way to the log.
        let old = self.peers.remove(&region.id);
        self.forget_readies(region.id);
        let is_restart = old.is_some() || self.shared.log.state(region.id.0)?.is_some();
        let (id, region_id, applied) = (member.id, region.id, Applied::FIRST);
        self.open_peer(PeerOpening { id, region, applied, is_restart, size })?;
        if let Some(peer) = self.peers.get_mut(&region_id) {
            peer.held = Some(Held::default());
        }
        if let Some(old) = old.filter(|old| old.id == id) {
            self.with_peer(region_id, |peer| peer.group.recall(old.group.ballot()));
        }
        Ok(!is_restart)
    }

    /// The region's group is opened anew, and numbers its readies from the beginning.
    fn forget_readies(&mut self, region: RegionId) {
        let earlier = self.unpersisted.iter_mut().map(|turn| &mut turn.readies);
        for readies in earlier.chain([&mut self.turn.readies]) {
            readies.retain(|(other, ..)| *other != region);
        }
    }

    fn end_turn(&mut self, out: &mut Vec<Output>) {
        if self.turn.is_empty() {
            return;
        }
        let next = Turn { number: self.turn.number + 1, ..Turn::default() };
        let turn = std::mem::replace(&mut self.turn, next);
        if turn.batch.ops.is_empty() && self.unpersisted.is_empty() {
            let send = |(to, envelope)| Output::Send { to, envelope };
            out.extend(turn.then.into_iter().map(send));
            self.report_persisted(turn.readies);
            return;
        }
        out.push(Output::Append {
            turn: turn.number,
            batch: turn.batch,
            sync: turn.is_synced,
            then: turn.then,
        });
        self.unpersisted.push_back(Unpersisted { turn: turn.number, readies: turn.readies });
    }

    /// Log changes that nothing waits for.
    pub(super) fn log_unsynced(&mut self, ops: Vec<LogOp>) {
        self.turn.log(ops);
    }

    /// What allows reads to be served without the worker.
    pub fn permits(&self) -> Arc<ReadPermits> {
        self.shared.permits.clone()
    }

    /// The regions of this store, for inspection.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.peers.values().map(|peer| &peer.region)
    }

    /// The regions of this store by their keys, for inspection.
    pub fn range_map(&self) -> &RangeMap {
        &self.range_map
    }

    /// The peer of a region, for inspection.
    pub fn peer(&self, region: RegionId) -> Option<&Peer> {
        self.peers.get(&region).map(Box::as_ref)
    }
}

/// Regions that an EpochNotMatch names beyond the one that was asked: a caller several splits
/// behind learns the next ones, too.
const NEIGHBOURS_MAX: usize = 3;

/// Puts a peer's message into its envelope. None if the receiver's store is not known.
pub(super) fn wrap(
    peer: &Peer,
    shared: &Shared,
    message: RaftMessage,
) -> Option<(StoreId, proto::Envelope)> {
    let to = peer.correspondent(PeerId(message.to))?;
    let write = if is_known_to(peer, shared, &message) { route::naming } else { route::telling };
    let body = proto::envelope::Body::Message(Box::new(message));
    // Envelopes tell no roles, so ours is not looked up.
    let from = Member::learner(peer.id, shared.store);
    Some((to.store_id, write(&peer.region, from, to, body)))
}

/// True if the receiver of a message need not be told of the region. Range and members matter only
/// to a store that may have to create the peer: not for an answer, nor for entries to a peer that
/// was heard from, nor for a heartbeat to one that was heard from lately. If that one is gone, it
/// is silent, and soon a heartbeat creates it again.
fn is_known_to(peer: &Peer, shared: &Shared, message: &RaftMessage) -> bool {
    let heard = peer.heard_from(PeerId(message.to));
    match message.kind() {
        Kind::MsgAppendResponse | Kind::MsgHeartbeatResponse => true,
        Kind::MsgRequestVoteResponse | Kind::MsgRequestPreVoteResponse => true,
        Kind::MsgAppend => heard.is_some(),
        Kind::MsgHeartbeat => {
            heard.is_some_and(|at| shared.now.since(at) < shared.timing.election_ms())
        }
        Kind::MsgRequestVote | Kind::MsgRequestPreVote | Kind::MsgSnapshot => false,
        // Sent seldom, or only to the group itself.
        Kind::MsgHup
        | Kind::MsgBeat
        | Kind::MsgPropose
        | Kind::MsgUnreachable
        | Kind::MsgSnapStatus
        | Kind::MsgCheckQuorum
        | Kind::MsgTransferLeader
        | Kind::MsgTimeoutNow
        | Kind::MsgReadIndex
        | Kind::MsgReadIndexResp => false,
    }
}
