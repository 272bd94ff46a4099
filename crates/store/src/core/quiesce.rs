//! Quiescence: a region in which nothing happens costs nothing.
//!
//! Most of a store's thousands of regions are idle. Each of them would count ticks and send
//! heartbeats only to say that its leader lives, which one process says for all of them: with each
//! tick, a store sends one *beat* to every store that it shares a region with.
//!
//! 1. A leader whose region was idle for `idle_ms` and is settled (all that is in the log is
//!    committed, applied, and known to be so by the members) tells the others, in one last message,
//!    at which entry of which term. It is quiescent from then on: no ticks, no heartbeats.
//! 2. A follower that is at that very entry, and follows that leader, is quiescent as well.
//! 3. Whatever concerns the region (a message, a request, an order) wakes its peer; a message does
//!    so before it is taken, for step 4 must not count what passed before it. A leader that is
//!    awake sends heartbeats, which wake the others.
//! 4. When a store was silent for an election timeout, or is heard again, or says that it is
//!    another process, every peer here wakes whose region has a member there. A follower of a
//!    leader on a silent store is given the ticks that it did not count, so that a region that was
//!    quiescent elects as soon as any other.
//!
//! The message of step 1 may be lost, late or refused. Then a follower stays awake, hears nothing,
//! and asks for votes; its question wakes the leader, and all begins anew.
//!
//! Why it is safe: Raft's safety does not depend on ticks, a peer that does not count them is only
//! slow. A lease ends by the clock whether its leader sleeps or not, and every message that could
//! renew it wakes both sides. Ticks that are given later stand for time that has passed since the
//! peer's last message.
//!
//! A member whose store is silent does not keep its region awake, or the loss of one store would
//! wake the regions of all others for as long as it lasts. It is reported as silent meanwhile, and
//! after the region has woken until it is heard. A store that only has yet to create its member is
//! not silent: it shares no region that it knows of with the leader's store, sends it no beats by
//! itself, and answers those that it gets.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_group::Position;
use flotilla_types::proto::{self, envelope::Body};
use flotilla_types::{KeyRange, Millis, PeerId, Region, RegionId, StoreId};

use super::Output;
use super::peer::{Peer, Shared};
use super::route;
use super::worker::Worker;

/// Ticks from one look at which stores the regions that are awake name to the next: a second.
const SURVEY_TICKS: u64 = 10;

/// Ticks from one look at which stores no region names any more to the next. A beat to one does no
/// harm, and to see that it is named by none is to walk thousands of regions at rest.
const FORGET_TICKS: u64 = 30 * SURVEY_TICKS;

/// A peer at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Since when.
    pub since: Millis,
    /// Members on stores that were silent then.
    pub absent: Vec<PeerId>,
}

/// Who is awake here, and which other stores are.
#[derive(Default)]
pub(super) struct Quiescence {
    /// Regions whose peers count ticks.
    pub(super) awake: BTreeSet<RegionId>,
    /// Regions at rest of which the placement driver may not know how they are.
    pub(super) unreported: BTreeSet<RegionId>,
    neighbours: BTreeMap<StoreId, Neighbour>,
    /// Leaders said so in this turn.
    announced: Vec<(RegionId, PeerId, Position)>,
    is_due: bool,
}

/// Another store that has a member of a region of this one.
struct Neighbour {
    heard: Millis,
    /// Its process; 0 before its first beat.
    incarnation: u64,
    is_silent: bool,
}

impl Quiescence {
    /// Something concerns the peer: it counts ticks again. Answers since when it was at rest, if
    /// it was.
    pub(super) fn wake(&mut self, peer: &mut Peer, now: Millis) -> Option<Millis> {
        let quiet = peer.quiet.take()?;
        peer.woke(now, quiet.absent);
        self.awake.insert(peer.region.id);
        self.unreported.remove(&peer.region.id);
        Some(quiet.since)
    }
}

/// The stores that a peer writes to are neighbours from now on. Those that a peer without state
/// hears from are among them.
fn meet(neighbours: &mut BTreeMap<StoreId, Neighbour>, peer: &Peer, shared: &Shared) {
    for store in peer.correspondents().filter(|store| *store != shared.store) {
        let new = Neighbour { heard: shared.now, incarnation: 0, is_silent: false };
        neighbours.entry(store).or_insert(new);
    }
}

impl Worker {
    /// With each tick: tells the neighbours that this store lives, and notes who is silent.
    pub(super) fn beat(&mut self, ticks: u64, out: &mut Vec<Output>) {
        if ticks % FORGET_TICKS == 1 {
            self.forget_neighbours();
        }
        if ticks % SURVEY_TICKS == 1 {
            self.meet_neighbours();
        }
        self.quiescence.is_due = true;
        for to in self.quiescence.neighbours.keys() {
            out.push(self.beat_to(*to, false));
        }
        let (now, silent_ms) = (self.shared.now, self.config.timing.election_ms());
        let mut fell_silent = vec![];
        for (store, neighbour) in &mut self.quiescence.neighbours {
            if !neighbour.is_silent && now.since(neighbour.heard) >= silent_ms {
                neighbour.is_silent = true;
                fell_silent.push((*store, neighbour.heard));
            }
        }
        for (store, heard) in fell_silent {
            self.wake_regions_of(store, Some(heard));
        }
    }

    fn beat_to(&self, to: StoreId, is_answer: bool) -> Output {
        let beat = proto::StoreBeat { incarnation: self.config.seed, is_answer };
        let envelope = proto::Envelope {
            from_store: self.shared.store.0,
            to_store: to.0,
            body: Some(Body::Beat(beat)),
            ..proto::Envelope::default()
        };
        Output::Send { to, envelope }
    }

    fn forget_neighbours(&mut self) {
        let is_named = |store: StoreId| {
            self.peers.values().any(|peer| peer.correspondents().any(|named| named == store))
        };
        self.quiescence.neighbours.retain(|store, _| is_named(*store));
    }

    /// Regions at rest name none that was not met when they came to rest.
    fn meet_neighbours(&mut self) {
        let Quiescence { awake, neighbours, .. } = &mut self.quiescence;
        for peer in awake.iter().filter_map(|region| self.peers.get(region)) {
            meet(neighbours, peer, &self.shared);
        }
    }

    /// Another store says that it lives.
    pub(super) fn on_beat(&mut self, from: StoreId, beat: proto::StoreBeat, out: &mut Vec<Output>) {
        let Some(neighbour) = self.quiescence.neighbours.get_mut(&from) else {
            // It has a member here that is not created yet. If this store were silent, the region
            // would come to rest without that member, and no message would ever create it.
            if !beat.is_answer {
                out.push(self.beat_to(from, true));
            }
            return;
        };
        let before = std::mem::replace(&mut neighbour.incarnation, beat.incarnation);
        let was_silent = std::mem::replace(&mut neighbour.is_silent, false);
        neighbour.heard = self.shared.now;
        if was_silent || (before != 0 && before != beat.incarnation) {
            self.wake_regions_of(from, None);
        }
    }

    /// A leader says that its region is quiescent. Decided at the end of the turn, when all that
    /// came before it has been dealt with.
    pub(super) fn on_quiesce(&mut self, region: RegionId, leader: PeerId, at: proto::Quiesce) {
        let at = Position { index: at.index, term: at.term };
        self.quiescence.announced.push((region, leader, at));
    }

    /// At the end of a turn: who may come to rest does.
    pub(super) fn quiesce_idle(&mut self, out: &mut Vec<Output>) {
        for (region, leader, at) in std::mem::take(&mut self.quiescence.announced) {
            let Some(peer) = self.peers.get(&region) else { continue };
            if peer.has_state && peer.group.is_settled_behind(leader.0, at) {
                self.come_to_rest(region, vec![]);
            }
        }
        if !std::mem::take(&mut self.quiescence.is_due) {
            return;
        }
        let idle: Vec<RegionId> = self
            .quiescence
            .awake
            .iter()
            .copied()
            .filter(|region| self.peers.get(region).is_some_and(|peer| self.is_idle(peer)))
            .collect();
        for region in idle {
            self.quiesce(region, out);
        }
    }

    fn is_idle(&self, peer: &Peer) -> bool {
        let now = self.shared.now;
        let idle_ms = now.since(peer.active_at.max(peer.role_since));
        peer.is_leader()
            && peer.has_state
            && idle_ms >= self.config.idle_ms
            && !peer.has_callers()
            && !peer.size.is_due(self.config.region_bytes_max)
            && peer.group.is_settled(&self.absent(&peer.region))
    }

    fn absent(&self, region: &Region) -> Vec<u64> {
        let neighbours = &self.quiescence.neighbours;
        let is_silent = |store: &StoreId| neighbours.get(store).is_some_and(|n| n.is_silent);
        let absent = region.members.iter().filter(|member| is_silent(&member.store_id));
        absent.map(|member| member.id.0).collect()
    }

    fn quiesce(&mut self, region: RegionId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get(&region) else { return };
        let absent: Vec<PeerId> = self.absent(&peer.region).into_iter().map(PeerId).collect();
        let (term, index) = (peer.group.role().term, peer.group.last_index());
        for to in &peer.region.members {
            if to.id == peer.id || absent.contains(&to.id) {
                continue;
            }
            let body = Body::Quiesce(proto::Quiesce { term, index });
            let ours = peer.member(self.shared.store);
            let envelope = route::naming(&peer.region, ours, *to, body);
            out.push(Output::Send { to: to.store_id, envelope });
        }
        self.come_to_rest(region, absent);
    }

    fn come_to_rest(&mut self, region: RegionId, absent: Vec<PeerId>) {
        let since = self.shared.now;
        if let Some(peer) = self.peers.get_mut(&region) {
            peer.group.shrink();
            peer.quiet = Some(Quiet { since, absent });
            // It may have been awake for less than the time between two surveys.
            meet(&mut self.quiescence.neighbours, peer, &self.shared);
            self.quiescence.awake.remove(&region);
            self.quiescence.unreported.insert(region);
        }
    }

    /// Wakes the peers whose regions have a member on `store`, which was heard last at
    /// `silent_since`, or is heard now.
    fn wake_regions_of(&mut self, store: StoreId, silent_since: Option<Millis>) {
        let (now, timing) = (self.shared.now, self.config.timing);
        for (region, peer) in &mut self.peers {
            if peer.region.member_on(store).is_none() {
                continue;
            }
            let Some(resting_since) = self.quiescence.wake(peer, now) else { continue };
            let is_leaders = peer.leader().is_some_and(|leader| leader.store_id == store);
            self.dirty.insert(*region);
            if let Some(silent_since) = silent_since.filter(|_| is_leaders) {
                let missed_ms = now.since(silent_since.max(resting_since));
                let missed = missed_ms / timing.tick_ms.max(1);
                for _ in 0..missed.min(timing.election_ticks as u64) {
                    peer.group.tick();
                }
            }
        }
    }

    /// Something concerns the peers that hold a part of `range`, other than `region`'s: one of them
    /// may have been removed and not have heard of it.
    pub(super) fn wake_occupants(&mut self, region: RegionId, range: &KeyRange) {
        let others = self.range_map.overlapping(range).map(|other| other.id);
        for other in others.filter(|other| *other != region) {
            if let Some(peer) = self.peers.get_mut(&other) {
                self.quiescence.wake(peer, self.shared.now);
            }
        }
    }

    /// Regions of this store that are quiescent, for inspection.
    pub fn quiescent(&self) -> usize {
        self.peers.len() - self.quiescence.awake.len()
    }
}
