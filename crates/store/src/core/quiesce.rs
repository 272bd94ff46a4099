//! Quiescence: a region in which nothing happens costs nothing.
//!
//! Most of a store's thousands of regions are quiescent at any time. If they were active, each
//! would count ticks and send heartbeats only to say that its leader lives, which one process says
//! for all of them: with each tick, a store sends one *beat* to every store that it shares a region
//! with.
//!
//! 1. A leader whose region had no activity for `idle_ms` and is settled (all that is in the log is
//!    committed, applied, and known to be so by the members) tells the others, in one last message,
//!    at which entry of which term. The region is quiescent there from then on: no ticks, no
//!    heartbeats.
//! 2. A follower that is at that very entry, and follows that leader, is quiescent as well.
//! 3. Whatever concerns the region (a message, a request, a step of the placement driver) makes its
//!    peer active; a message does so before it is stepped. An active leader sends heartbeats, which
//!    make the followers active.
//! 4. When a store becomes unreachable (no beat for an election timeout), or beats again, or beats
//!    as another process, every peer here becomes active whose region has a member there.
//! 5. A follower that becomes active is given the ticks that it did not count, whatever made it
//!    active: those since the last beat of its leader's store, or since it became quiescent. So a
//!    quiescent region elects as soon as an active one. A message of the leader itself brings no
//!    missed ticks: it is a later sign of life.
//!
//! The message of step 1 may be lost, late or refused. Then a follower stays active, receives no
//! heartbeats, and asks for votes; that question makes the leader active, and all begins anew.
//!
//! Invariant: a quiescent follower's leader was on a reachable store when the follower became
//! quiescent, so that step 4 is still to come if that store dies. No peer with callers that wait
//! for an answer becomes quiescent: their deadlines are counted in ticks.
//!
//! Why it is safe: Raft's safety does not depend on ticks; a peer that does not count them is only
//! slow. A lease ends by the clock whether its leader is active or not, and every message that
//! could renew it makes both sides active. Ticks that are given later stand for time that has
//! passed since the peer's last message.
//!
//! A member on an unreachable store does not keep its region active, or the loss of one store would
//! make the regions of all others active for as long as it lasts. The member is reported as
//! unreachable meanwhile, and after the region has become active until the member writes. A store
//! that only has yet to create its member is not unreachable: it shares no region that it knows of
//! with the leader's store, sends it no beats by itself, and answers those that it gets.

use flotilla_group::Position;
use flotilla_host::core::message::{Beat, Body, Envelope};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PeerId, Region, RegionId, StoreId};

use super::Output;
use super::contacts::Quiescent;
use super::context::Context;
use super::envelope;
use super::neighbours::{BeatFrom, Neighbours};
use super::peer::Peer;
use super::shared::Shared;

/// Ticks from one look at which stores the active regions name to the next: a second.
const SURVEY_TICKS: u64 = 10;

/// Ticks from one look at which stores no region names any more to the next. A beat to one does no
/// harm, and to see that a store is named by none is to walk thousands of quiescent regions.
const FORGET_TICKS: u64 = 30 * SURVEY_TICKS;

/// Which regions may become quiescent.
#[derive(Default)]
pub struct Quiescence {
    /// Leaders that said in this turn that their regions are quiescent, and at which entry.
    announced: Vec<(RegionId, PeerId, Position)>,
    /// True if this turn has seen a tick.
    is_due: bool,
}

impl Quiescence {
    /// With each tick: tells the other stores that this one lives, and notes who is unreachable.
    pub fn beat(&mut self, cx: &mut Context, ticks: u64) {
        if ticks % FORGET_TICKS == 1 {
            forget_stores(cx);
        }
        if ticks % SURVEY_TICKS == 1 {
            // A quiescent region names no store that was not known when it became quiescent.
            let Context { neighbours, regions, shared, .. } = cx;
            for peer in regions.active_peers() {
                meet_stores_of(neighbours, peer, shared);
            }
        }
        self.is_due = true;
        cx.turn.out.extend(cx.neighbours.stores().map(|to| beat_to(&cx.shared, to, false)));
        let (now, unreachable_ms) = (cx.shared.now, cx.shared.config.timing.election_ms());
        for store in cx.neighbours.take_lost(now, unreachable_ms) {
            activate_regions_of(cx, store);
        }
    }

    /// Another store says that it lives.
    pub fn on_beat(&mut self, cx: &mut Context, from: StoreId, beat: Beat) {
        match cx.neighbours.on_beat(from, beat.incarnation, cx.shared.now) {
            // That store's region has a member here that is not created yet. If this store seemed
            // unreachable, the region would become quiescent without that member, and no message
            // would ever create it.
            BeatFrom::Stranger if !beat.is_answer => {
                cx.turn.out.push(beat_to(&cx.shared, from, true));
            }
            BeatFrom::Stranger | BeatFrom::Same => {}
            BeatFrom::Returned => activate_regions_of(cx, from),
        }
    }

    /// A leader says that its region is quiescent (step 1). Decided at the end of the turn, when
    /// all that came before it has been dealt with.
    pub fn announce(&mut self, region: RegionId, leader: PeerId, at: Position) {
        self.announced.push((region, leader, at));
    }

    /// At the end of a turn: regions that may become quiescent do. Answers which.
    pub fn quiesce_idle(&mut self, cx: &mut Context) -> Vec<RegionId> {
        let mut quiescent = vec![];
        for (region, leader, at) in std::mem::take(&mut self.announced) {
            let Some(peer) = cx.regions.get(region) else { continue };
            // Step 2.
            if may_rest(cx, peer) && peer.group.is_settled_behind(leader.0, at) {
                become_quiescent(cx, region, vec![]);
                quiescent.push(region);
            }
        }
        if !std::mem::take(&mut self.is_due) {
            return quiescent;
        }
        let idle = cx.regions.active_peers().filter(|peer| is_idle(cx, peer));
        let idle: Vec<RegionId> = idle.map(|peer| peer.region.id).collect();
        for region in idle {
            let unreachable = announce_quiescence(cx, region);
            become_quiescent(cx, region, unreachable);
            quiescent.push(region);
        }
        quiescent
    }
}

/// The stores that a peer writes to get beats from now on. Those that a peer without state has
/// messages from are among them.
fn meet_stores_of(neighbours: &mut Neighbours, peer: &Peer, shared: &Shared) {
    for store in peer.contact_stores().filter(|store| *store != shared.store()) {
        neighbours.meet(store, shared.now);
    }
}

fn forget_stores(cx: &mut Context) {
    let Context { neighbours, regions, .. } = cx;
    neighbours.retain(|store| {
        regions.iter().any(|peer| peer.contact_stores().any(|named| named == store))
    });
}

/// True if this follower may become quiescent once its leader says that the region is.
fn may_rest(cx: &Context, peer: &Peer) -> bool {
    let is_leader_lost =
        peer.leader().is_some_and(|leader| cx.neighbours.is_unreachable(leader.store_id));
    peer.has_state() && !peer.has_callers() && !is_leader_lost
}

fn is_idle(cx: &Context, peer: &Peer) -> bool {
    let config = &cx.shared.config;
    peer.is_leader()
        && peer.has_state()
        && cx.shared.now.since(peer.idle_since()) >= config.idle_ms
        && !peer.has_callers()
        && !peer.size.is_due(config.region_bytes_max)
        && peer.group.is_settled(&unreachable_members(cx, &peer.region))
}

fn unreachable_members(cx: &Context, region: &Region) -> Vec<u64> {
    let members = region.members.iter();
    let unreachable = members.filter(|member| cx.neighbours.is_unreachable(member.store_id));
    unreachable.map(|member| member.id.0).collect()
}

/// Step 1, on the leader. Answers the members that are not told, for they are unreachable.
fn announce_quiescence(cx: &mut Context, region: RegionId) -> Vec<PeerId> {
    let Some(peer) = cx.regions.get(region) else { return vec![] };
    let unreachable = unreachable_members(cx, &peer.region);
    let unreachable: Vec<PeerId> = unreachable.into_iter().map(PeerId).collect();
    let (term, index) = (peer.group.role().term, peer.group.last_index());
    let ours = peer.member(cx.shared.store());
    if planted(Mutant::QuiesceUntold) {
        return unreachable;
    }
    for to in &peer.region.members {
        if to.id == peer.id || unreachable.contains(&to.id) {
            continue;
        }
        let body = Body::Quiesce { term, index };
        cx.turn.send(to.store_id, envelope::with_region_id(&peer.region, ours, *to, body));
    }
    unreachable
}

fn become_quiescent(cx: &mut Context, region: RegionId, unreachable: Vec<PeerId>) {
    let Context { neighbours, regions, shared, .. } = cx;
    if let Some(peer) = regions.get(region) {
        // It may have been active for less than the time between two surveys.
        meet_stores_of(neighbours, peer, shared);
    }
    regions.quiesce(region, Quiescent { since: shared.now, unreachable });
}

fn beat_to(shared: &Shared, to: StoreId, is_answer: bool) -> Output {
    let envelope = Envelope {
        region_id: RegionId(0),
        conf_ver: 0,
        region: None,
        from: envelope::end(shared.store(), PeerId(0)),
        to: envelope::end(to, PeerId(0)),
        body: Body::Beat(Beat { incarnation: shared.config.seed, is_answer }),
    };
    Output::Send { to, envelope }
}

/// Step 4: activates the peers whose regions have a member on `store`.
fn activate_regions_of(cx: &mut Context, store: StoreId) {
    let concerned = |peer: &&Peer| peer.is_quiescent() && peer.region.member_on(store).is_some();
    let concerned = cx.regions.iter().filter(concerned).map(|peer| peer.region.id);
    for region in concerned.collect::<Vec<_>>() {
        activate(cx, region, None);
        cx.regions.mark_dirty(region);
    }
}

/// Something concerns the region: its peer counts ticks again, if it was quiescent, and has those
/// that it missed (step 5). `sender` is the member whose message is about to be stepped, if it is a
/// message.
pub fn activate(cx: &mut Context, region: RegionId, sender: Option<PeerId>) {
    let Some(quiescent_since) = cx.regions.activate(region, cx.shared.now) else { return };
    let Context { neighbours, regions, shared, .. } = cx;
    let Some(peer) = regions.get_mut(region) else { return };
    let leader = peer.leader().filter(|leader| leader.id != peer.id && Some(leader.id) != sender);
    let last_beat_at = leader.and_then(|leader| neighbours.last_beat_at(leader.store_id));
    let alive_at = last_beat_at.map(|beat_at| beat_at.max(quiescent_since));
    for _ in 0..missed_ticks(alive_at, shared) {
        peer.group.tick();
    }
    if peer.has_work() {
        regions.mark_dirty(region);
    }
}

/// The ticks that a follower did not count since its leader was known to live.
fn missed_ticks(alive_at: Option<Millis>, shared: &Shared) -> u64 {
    if planted(Mutant::MissedTicksLost) {
        return 0;
    }
    let timing = shared.config.timing;
    let missed_ms = alive_at.map_or(0, |alive_at| shared.now.since(alive_at));
    (missed_ms / timing.tick_ms.max(1)).min(timing.election_ticks as u64)
}
