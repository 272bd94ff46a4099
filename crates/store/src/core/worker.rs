//! The worker: it owns all that a store decides by, and turns inputs into outputs.
//!
//! Inputs are stepped one by one; most only change a peer's group and mark the peer dirty.
//! [`Input::Flush`] ends the turn: dirty peers propose, apply and answer ([`super::advance`]), and
//! everything their groups want written becomes one [`Output::Append`] ([`super::turn`]). Messages
//! that imply a durable log travel inside it.
//!
//! State writes of one turn are one unit of durability: a checkpoint freezes the state store only
//! between turns ([`super::checkpoint`]).
//!
//! A failure of the disk, or a log that does not fit the state, ends the worker: it answers
//! [`Output::Fatal`] once, and nothing after it.
//!
//! Here inputs are only handed to the features that deal with them; no feature knows the worker.

use std::sync::Arc;

use flotilla_engine::{LogOp, LogStore, StateBatch, StateStore};
use flotilla_group::Position;
use flotilla_host::core::message::{Body, Envelope};
use flotilla_host::core::turn::{Ended, SentReady};
use flotilla_types::heartbeat::{HeartbeatReply, IdBlock, StoreAddr};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, Millis, PeerId, RangeMap, Region, RegionError, RegionId, StoreId};

use super::addresses::{Addresses, Learned};
use super::advance::{Advance, Advanced};
use super::census::{Census, Counts};
use super::checkpoint::Checkpoints;
use super::context::Context;
use super::first_region::FirstPeer;
use super::hand_over::HandOver;
use super::held::StoreHeld;
use super::held_replica::{self, HeldReplica};
use super::held_routes::{self, HeldRoutes};
use super::lifecycle::Lifecycle;
use super::neighbours::Neighbours;
use super::peer::{Effect, Peer, PeerOpening, RightPart};
use super::permit::ReadPermits;
use super::pressure::{HeldBack, Pressure};
use super::quiesce::Quiescence;
use super::regions::{Regions, Visited};
use super::report::Reporter;
use super::route::{KeptVotes, Taken};
use super::shared::Shared;
pub use super::shared::{LogKept, WorkerConfig};
use super::size::Size;
use super::split::{Ids, RightPeer};
use super::tombstones::Tombstones;
use super::turn::Turn;
use super::{Event, Fatal, Input, Op, Output, Request, StagedId};
use super::{command, envelope, first_region, incarnation, quiesce, records, route, split};

/// Ticks from one look at the logs' lengths to the next: a second.
const TRUNCATE_TICKS: u64 = 10;

/// Regions that an EpochNotMatch names beyond the one that was asked: a caller several splits
/// behind learns the next ones, too.
const ADJACENT_MAX: usize = 3;

/// See the module's documentation.
pub struct Worker {
    cx: Context,
    votes: KeptVotes,
    checkpoints: Checkpoints,
    addresses: Addresses,
    ids: Ids,
    reporter: Reporter,
    quiescence: Quiescence,
    hand_over: HandOver,
    ticks: u64,
    has_failed: bool,
}

/// Writes this store's peer of a region into a state that no worker has opened yet, for a world
/// that begins with that region. The caller makes it durable first.
pub fn bootstrap(state: &StateStore, store: StoreId, region: &Region) -> Result<(), Fatal> {
    let Some(peer) = region.member_on(store) else { return Ok(()) };
    let mut batch = StateBatch::default();
    records::put_peer(&mut batch, peer.id, region);
    records::put_applied(&mut batch, region.id, records::FIRST, Some((0, 0)));
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
        let config = WorkerConfig { limits: config.limits.workable(), ..config };
        let limits = config.limits;
        let permits = Arc::new(ReadPermits::new(state.clone(), limits.reply_bytes_max));
        let pressure = Pressure::new(state.clone(), config.checkpoint_bytes);
        let load = Arc::default();
        let shared = Shared { config, state, log, permits, load, pressure, now };
        let mut cx = Context {
            regions: Regions::default(),
            neighbours: Neighbours::default(),
            tombstones: Tombstones::new(records::load_tombstones(&shared.state)?),
            held_back: HeldBack::default(),
            turn: Turn::default(),
            shared,
        };
        for saved in records::load_peers(&cx.shared.state)? {
            let opening = PeerOpening {
                id: saved.peer,
                region: saved.region,
                applied: saved.applied,
                is_restart: true,
                size: Size::from_known(saved.size),
                lifecycle: Lifecycle::live(),
            };
            // What was loaded is what the disk had.
            incarnation::open(&mut cx, opening)?.durable_applied = saved.applied.index;
        }
        clear_logs_of_removed(&mut cx)?;
        let addresses = Addresses::load(&cx.shared.state)?;
        Ok(Worker {
            cx,
            addresses,
            votes: KeptVotes::new(limits.kept_votes_max),
            checkpoints: Checkpoints::new(now),
            ids: Ids::default(),
            reporter: Reporter::new(now, &limits),
            quiescence: Quiescence::default(),
            hand_over: HandOver::default(),
            ticks: 0,
            has_failed: false,
        })
    }

    /// Gives the worker the block of ids that the store was leased at start.
    pub fn lease_ids(&mut self, block: IdBlock) {
        self.ids = Ids::above(block, self.cx.highest_id());
    }

    /// How much of its logs this store keeps from now on. What is too much goes at the next tick.
    pub fn keep_log(&mut self, kept: LogKept) {
        self.cx.shared.config.log_kept = kept;
    }

    /// Lets a checkpoint begin as soon as none runs and something is not durable.
    pub fn want_checkpoint(&mut self) {
        self.checkpoints.want();
    }

    /// The regions that this store holds from the one with `key` on, for a client that has no other
    /// to ask.
    pub fn routes(&self, key: &[u8], limit: u64) -> HeldRoutes {
        held_routes::around(&self.cx.regions, &self.addresses, key, limit)
    }

    /// What this store's replica of the region has applied; None if it has none with state.
    pub fn replica(&self, region: RegionId) -> Option<HeldReplica> {
        held_replica::look(&self.cx.regions, region)
    }

    /// Takes one input; outputs are appended to `out`, in the order they are to be carried out.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        if self.has_failed {
            return;
        }
        self.cx.shared.now = now;
        std::mem::swap(out, &mut self.cx.turn.out);
        let first = self.cx.turn.out.len();
        if let Some(saved) = self.addresses.take_saved() {
            self.cx.turn.out.push(Output::StoreAddrs(saved));
        }
        let stepped = self.try_step(input);
        self.pass_on_news();
        self.add_adjacent(first);
        std::mem::swap(out, &mut self.cx.turn.out);
        if let Err(fatal) = stepped {
            self.has_failed = true;
            self.cx.shared.permits.revoke_all();
            out.push(Output::Fatal { reason: fatal.to_string() });
        }
    }

    fn try_step(&mut self, input: Input) -> Result<(), Fatal> {
        match input {
            Input::Tick => self.tick(),
            Input::Request(request) => return self.request(request),
            Input::Envelope(envelope) => return self.on_envelope(envelope, None),
            Input::SnapshotStaged { staged, envelope } => {
                return self.on_envelope(envelope, Some(staged));
            }
            Input::SnapshotSent { region, peer, is_ok } => {
                if planted(Mutant::FailedSnapshotUntold) && !is_ok {
                    return Ok(());
                }
                // Whoever does not wait for the report has no use for it, and may be quiescent.
                let waits = |leader: &&mut Peer| leader.group.awaits_snapshot_of(peer.0);
                if let Some(leader) = self.cx.regions.get_mut(region).filter(waits) {
                    leader.group.report_snapshot(peer.0, is_ok);
                    self.cx.regions.mark_dirty(region);
                }
            }
            Input::StoreAddrs(told) => self.learn_addresses(told)?,
            Input::PdAddrs(told) => self.learn_pd_addrs(told)?,
            Input::Unreachable { store } => self.on_unreachable(store),
            Input::HeartbeatReply(reply) => return self.on_heartbeat_reply(reply),
            Input::Persisted { turn } => {
                let readies = self.cx.turn.log.persisted(turn);
                self.report_persisted(readies);
            }
            Input::Checkpointed { number } => {
                self.checkpoints.on_checkpointed(&mut self.cx, number);
            }
            Input::Flush => return self.flush(),
            Input::HandOver => self.hand_over.begin(&mut self.cx),
            Input::Stop => {
                self.reporter.stop(&mut self.cx);
                return self.checkpoints.save_moved_peers(&self.cx);
            }
        }
        Ok(())
    }

    /// Tells the features that do not take part in a turn what it has left for them.
    fn pass_on_news(&mut self) {
        for region in std::mem::take(&mut self.cx.turn.destroyed) {
            self.checkpoints.note_tombstone(region);
            self.reporter.forget(region);
        }
        if std::mem::take(&mut self.cx.turn.has_news) {
            self.reporter.note_change();
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        let is_truncate_due = self.ticks.is_multiple_of(TRUNCATE_TICKS);
        let Context { regions, turn, shared, .. } = &mut self.cx;
        regions.for_each_active(|peer| {
            peer.tick(shared, &mut turn.out);
            if planted(Mutant::PermitPublishedLate) {
                peer.publish_permit(shared);
            }
            if is_truncate_due {
                turn.log.write(peer.truncate(&shared.config.log_kept));
                if shared.now.since(peer.active_at()) >= shared.config.idle_ms {
                    peer.group.shrink();
                }
            }
            let is_large = peer.is_leader() && peer.size.is_due(shared.config.region_bytes_max);
            if peer.has_work() || is_large {
                return Visited::HasWork;
            }
            peer.note_role(shared, &mut turn.out);
            Visited::HasNone
        });
        self.quiescence.beat(&mut self.cx, self.ticks);
        self.hand_over.tick(&mut self.cx);
        self.checkpoints.withdraw_exports(&mut self.cx);
    }

    fn request(&mut self, request: Request) -> Result<(), Fatal> {
        let (id, region_id) = (request.id, request.region);
        let Context { regions, turn, shared, .. } = &mut self.cx;
        let peer = regions.get_mut(region_id).filter(|peer| peer.has_state());
        let refusal = if matches!(request.op, Op::Write(_)) && shared.pressure.is_high() {
            let reason = "the store's write buffer is full".to_string();
            Err(RegionError::ServerBusy { reason, retry_after_ms: 50 })
        } else if shared.now >= request.deadline {
            Err(RegionError::DeadlineExceeded { region_id })
        } else if let Some(refusal) = self.hand_over.refusal()
            && peer.as_ref().is_some_and(|peer| peer.is_leader())
        {
            Err(refusal)
        } else {
            peer.ok_or(RegionError::RegionNotFound { region_id })
        };
        match refusal {
            Ok(peer) => {
                peer.request(shared, request, &mut turn.out)?;
                regions.mark_dirty(region_id);
            }
            Err(error) => turn.out.push(Output::Reply { id, result: Err(error) }),
        }
        Ok(())
    }

    /// A caller whose region was cut learns the right part, too: completes the refusals among the
    /// outputs from `first` on. Those of writes and reads that waited while a split was applied are
    /// among them, so that a caller needs nobody else to find the keys that have moved.
    fn add_adjacent(&mut self, first: usize) {
        if planted(Mutant::RightPartUntold) {
            return;
        }
        for output in self.cx.turn.out.iter_mut().skip(first) {
            let Output::Reply { result: Err(RegionError::EpochNotMatch { current }), .. } = output
            else {
                continue;
            };
            for _ in 0..ADJACENT_MAX {
                let Some(end) = current.last().map(|region| region.range.end.clone()) else {
                    break;
                };
                match self.cx.regions.range_map().lookup(&end) {
                    Some(next) if !end.is_empty() => current.push(next.clone()),
                    Some(_) | None => break,
                }
            }
        }
    }

    fn on_envelope(&mut self, envelope: Envelope, staged: Option<StagedId>) -> Result<(), Fatal> {
        let taken = self.take_envelope(envelope, staged)?;
        if let Some(staged) = staged.filter(|_| taken != Taken::Stepped) {
            self.cx.turn.out.push(Output::DiscardStaged { staged });
        }
        Ok(())
    }

    fn take_envelope(
        &mut self,
        envelope: Envelope,
        staged: Option<StagedId>,
    ) -> Result<Taken, Fatal> {
        let cx = &mut self.cx;
        let Some((header, body)) = envelope::open(envelope) else { return Ok(Taken::NotForUs) };
        if header.to.store_id != cx.shared.store() {
            return Ok(Taken::NotForUs);
        }
        match body {
            Body::Message(message) => {
                route::deliver(cx, &mut self.votes, (&header, *message), staged)
            }
            Body::Removed => route::on_removed(cx, &header),
            Body::Quiesce { term, index } => {
                if cx.regions.incarnation_mut(header.region_id, header.to.id).is_none() {
                    return Ok(Taken::NotForUs);
                }
                let at = Position { index, term };
                self.quiescence.announce(header.region_id, header.from.id, at);
                Ok(Taken::Handled)
            }
            // Of the placement driver's members only.
            Body::Introduction(_) => Ok(Taken::NotForUs),
            Body::Beat(beat) => {
                self.quiescence.on_beat(cx, header.from.store_id, beat);
                Ok(Taken::Handled)
            }
        }
    }

    fn on_unreachable(&mut self, store: StoreId) {
        self.cx.regions.for_each_active(|peer| {
            if let Some(member) = peer.region.member_on(store).copied() {
                peer.group.report_unreachable(member.id.0);
            }
            Visited::HasNone
        });
    }

    fn on_heartbeat_reply(&mut self, reply: Option<HeartbeatReply>) -> Result<(), Fatal> {
        self.reporter.on_reply(self.cx.shared.now, reply.as_ref());
        let Some(mut reply) = reply else { return Ok(()) };
        if planted(Mutant::AddressesLate) && reply.commands.is_empty() {
            reply.stores.clear();
        }
        if let Some(block) = reply.ids {
            self.lease_ids(block);
        }
        self.learn_addresses(reply.stores)?;
        if let Some(region) = reply.first_region
            && first_region::create(&mut self.cx, region)? == FirstPeer::Created
        {
            // Until it is durable, the region's writes wait.
            self.checkpoints.want();
        }
        for command in reply.commands {
            command::on_command(&mut self.cx, &mut self.ids, command)?;
        }
        Ok(())
    }

    fn learn_addresses(&mut self, told: Vec<StoreAddr>) -> Result<(), Fatal> {
        let news = self.addresses.learn(told, &self.cx.shared.state)?;
        if !news.is_empty() {
            // Soon durable: the next start may come before the next write.
            self.checkpoints.want();
            self.cx.turn.out.push(Output::StoreAddrs(news));
        }
        Ok(())
    }

    fn learn_pd_addrs(&mut self, told: Vec<String>) -> Result<(), Fatal> {
        match self.addresses.learn_pd(told, &self.cx.shared.state)? {
            Learned::News => self.checkpoints.want(),
            Learned::Nothing => {}
        }
        Ok(())
    }

    fn report_persisted(&mut self, readies: Vec<SentReady>) {
        let regions = &mut self.cx.regions;
        for SentReady { group, member, number } in readies {
            let (region, id) = (RegionId(group), PeerId(member));
            // The peer may have been destroyed, or replaced by a later incarnation.
            let Some(peer) = regions.incarnation_mut(region, id) else { continue };
            if let Some(deferred) = peer.lifecycle.deferred_mut() {
                deferred.persisted = Some(number);
                continue;
            }
            peer.group.persisted(number);
            if peer.has_work() {
                regions.mark_dirty(region);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Fatal> {
        let first = self.cx.turn.out.len();
        self.cx.turn.has_counted = false;
        loop {
            while let Some(region) = self.cx.regions.next_dirty() {
                quiesce::activate(&mut self.cx, region, None);
                let effects = self.advance(region)?;
                if planted(Mutant::FreezeMidTurn) {
                    self.pass_on_news();
                    self.checkpoints.begin_if_due(&mut self.cx)?;
                }
                self.carry_out(region, effects)?;
            }
            self.end_log_turn();
            if !self.cx.regions.is_dirty() {
                break;
            }
        }
        self.cx.regions.check(self.cx.shared.now);
        self.pass_on_news();
        self.add_adjacent(first);
        for region in self.quiescence.quiesce_idle(&mut self.cx) {
            self.reporter.note_quiescent(region);
        }
        self.checkpoints.begin_if_due(&mut self.cx)?;
        self.reporter.heartbeat_if_due(&mut self.cx, &self.ids);
        Ok(())
    }

    /// Lets one peer do what it can. Answers its effects on other peers.
    fn advance(&mut self, region: RegionId) -> Result<Vec<Effect>, Fatal> {
        split::skip_used(&self.cx, &mut self.ids);
        let Context { regions, turn, shared, held_back, .. } = &mut self.cx;
        let Some(peer) = regions.get_mut(region) else { return Ok(vec![]) };
        let (checkpoints, ids) = (&mut self.checkpoints, &mut self.ids);
        let part = Advance { peer, turn, shared, held_back, checkpoints, ids };
        let Advanced { effects, has_ended_offer } = part.run()?;
        if has_ended_offer {
            regions.release_claim(region);
        }
        // What was held back for a snapshot that came to nothing is applied after all.
        if has_ended_offer || !effects.is_empty() {
            regions.mark_dirty(region);
        }
        Ok(effects)
    }

    fn carry_out(&mut self, region: RegionId, effects: Vec<Effect>) -> Result<(), Fatal> {
        for effect in effects {
            self.cx.turn.has_news = true;
            match effect {
                Effect::Split(right) => self.create_right(region, *right)?,
                Effect::MembersChanged { removed } => note_members(&mut self.cx, region, removed),
                Effect::Removed => incarnation::destroy(&mut self.cx, region)?,
            }
        }
        Ok(())
    }

    fn create_right(&mut self, left: RegionId, right: RightPart) -> Result<(), Fatal> {
        let region = right.region.id;
        self.checkpoints.note_split();
        match split::create_right(&mut self.cx, left, right)? {
            RightPeer::Created => route::hand_over_vote(&mut self.cx, &mut self.votes, region),
            RightPeer::Dropped => Ok(()),
        }
    }

    fn end_log_turn(&mut self) {
        match self.cx.turn.log.end() {
            Ended::Empty => {}
            Ended::Durable { messages, readies } => {
                for (to, envelope) in messages {
                    self.cx.turn.send(to, envelope);
                }
                self.report_persisted(readies);
            }
            Ended::Append(append) => self.cx.turn.out.push(Output::Append(append)),
        }
    }

    /// What allows reads to be served without the worker.
    pub fn permits(&self) -> Arc<ReadPermits> {
        self.cx.shared.permits.clone()
    }

    /// Tells whether the disk keeps up: whoever receives snapshots asks it before their rows.
    pub fn pressure(&self) -> Pressure {
        self.cx.shared.pressure.clone()
    }

    /// What the store holds besides its peers, for inspection.
    pub fn held(&self) -> StoreHeld {
        StoreHeld { kept_votes: self.votes.count(), exports: self.checkpoints.export_count() }
    }

    /// What the peers have done, for inspection.
    pub fn counts(&self) -> Counts {
        self.cx.turn.counts
    }

    /// How many regions are in which state, for inspection. Walks all of them.
    pub fn census(&self) -> Census {
        Census::of(&self.cx.regions)
    }

    /// The regions of this store, for inspection.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.cx.regions.iter().map(|peer| &peer.region)
    }

    /// The regions of this store by their keys, for inspection.
    pub fn range_map(&self) -> &RangeMap {
        self.cx.regions.range_map()
    }

    /// The peer of a region, for inspection.
    pub fn peer(&self, region: RegionId) -> Option<&Peer> {
        self.cx.regions.get(region)
    }

    /// The number of regions of this store that are quiescent, for inspection.
    pub fn quiescent(&self) -> usize {
        self.cx.regions.len() - self.cx.regions.active().len()
    }
}

/// Clears logs of destroyed peers that a crash kept from being cleared. A log without state and
/// without tombstone stays: it may hold the vote of a peer that waits for its snapshot.
fn clear_logs_of_removed(cx: &mut Context) -> Result<(), Fatal> {
    for group in cx.shared.log.groups() {
        let region = RegionId(group);
        if cx.regions.get(region).is_some() {
            continue;
        }
        let remembered = flotilla_group::remembered_peer(&*cx.shared.log, group)?;
        let removed = cx.tombstones.last_removed(region);
        if removed.is_some() && remembered.map(PeerId) <= removed {
            cx.turn.log.write([LogOp::Clear { group }]);
        }
    }
    Ok(())
}

/// The members of a region changed. The leader writes to removed members no more, so it tells them;
/// they learn of it only after this turn's log is durable, and with it that the change is
/// committed.
fn note_members(cx: &mut Context, region: RegionId, gone: Vec<Member>) {
    let Context { regions, turn, shared, .. } = cx;
    let Some(peer) = regions.get_mut(region) else { return };
    let saved = peer.group.save_commit();
    if !saved.is_empty() {
        turn.log.write_synced(saved);
    }
    if peer.is_leader() {
        let ours = peer.member(shared.store());
        let tell =
            |member: Member| (member.store_id, envelope::removed(&peer.region, ours, member));
        turn.log.send_after(gone.into_iter().map(tell));
    }
    turn.out.push(Event::MembersChanged { region: peer.region.clone() }.into());
    regions.region_changed(region);
}
