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
//!    peer active; a message does so before it is stepped, for step 4 must not count ticks from
//!    before the message. An active leader sends heartbeats, which make the followers active.
//! 4. When a store becomes unreachable (no beat for an election timeout), or beats again, or beats
//!    as another process, every peer here becomes active whose region has a member there. A
//!    follower of a leader on an unreachable store is given the ticks that it did not count, so
//!    that a quiescent region elects as soon as an active one.
//!
//! The message of step 1 may be lost, late or refused. Then a follower stays active, receives no
//! heartbeats, and asks for votes; that question makes the leader active, and all begins anew.
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

use std::collections::BTreeMap;

use flotilla_group::Position;
use flotilla_host::core::message::{Beat, Body, Envelope};
use flotilla_types::{Millis, PeerId, Region, RegionId, StoreId};

use super::Output;
use super::contacts::Quiescent;
use super::context::Context;
use super::envelope;
use super::peer::Peer;
use super::shared::Shared;

/// Ticks from one look at which stores the active regions name to the next: a second.
const SURVEY_TICKS: u64 = 10;

/// Ticks from one look at which stores no region names any more to the next. A beat to one does no
/// harm, and to see that a store is named by none is to walk thousands of quiescent regions.
const FORGET_TICKS: u64 = 30 * SURVEY_TICKS;

/// Which other stores are reachable, and which regions may become quiescent.
#[derive(Default)]
pub struct Quiescence {
    stores: BTreeMap<StoreId, OtherStore>,
    /// Leaders that said in this turn that their regions are quiescent, and at which entry.
    announced: Vec<(RegionId, PeerId, Position)>,
    /// True if this turn has seen a tick.
    is_due: bool,
}

/// Another store that has a member of a region of this one.
struct OtherStore {
    last_beat_at: Millis,
    /// Its process; 0 before its first beat.
    incarnation: u64,
    is_unreachable: bool,
}

impl Quiescence {
    /// With each tick: tells the other stores that this one lives, and notes who is unreachable.
    pub fn beat(&mut self, cx: &mut Context, ticks: u64) {
        if ticks % FORGET_TICKS == 1 {
            self.forget_stores(cx);
        }
        if ticks % SURVEY_TICKS == 1 {
            // A quiescent region names no store that was not known when it became quiescent.
            for peer in cx.regions.active_peers() {
                self.meet_stores_of(peer, &cx.shared);
            }
        }
        self.is_due = true;
        cx.turn.out.extend(self.stores.keys().map(|to| beat_to(&cx.shared, *to, false)));
        let (now, unreachable_ms) = (cx.shared.now, cx.shared.config.timing.election_ms());
        let mut lost = vec![];
        for (store, other) in &mut self.stores {
            if !other.is_unreachable && now.since(other.last_beat_at) >= unreachable_ms {
                other.is_unreachable = true;
                lost.push((*store, other.last_beat_at));
            }
        }
        for (store, last_beat_at) in lost {
            activate_regions_of(cx, store, Some(last_beat_at));
        }
    }

    /// The stores that a peer writes to get beats from now on. Those that a peer without state has
    /// messages from are among them.
    fn meet_stores_of(&mut self, peer: &Peer, shared: &Shared) {
        for store in peer.contact_stores().filter(|store| *store != shared.store()) {
            let new =
                OtherStore { last_beat_at: shared.now, incarnation: 0, is_unreachable: false };
            self.stores.entry(store).or_insert(new);
        }
    }

    fn forget_stores(&mut self, cx: &Context) {
        let is_named = |store: StoreId| {
            cx.regions.iter().any(|peer| peer.contact_stores().any(|named| named == store))
        };
        self.stores.retain(|store, _| is_named(*store));
    }

    /// Another store says that it lives.
    pub fn on_beat(&mut self, cx: &mut Context, from: StoreId, beat: Beat) {
        let Some(other) = self.stores.get_mut(&from) else {
            // That store's region has a member here that is not created yet. If this store seemed
            // unreachable, the region would become quiescent without that member, and no message
            // would ever create it.
            if !beat.is_answer {
                cx.turn.out.push(beat_to(&cx.shared, from, true));
            }
            return;
        };
        let before = std::mem::replace(&mut other.incarnation, beat.incarnation);
        let was_unreachable = std::mem::replace(&mut other.is_unreachable, false);
        other.last_beat_at = cx.shared.now;
        if was_unreachable || (before != 0 && before != beat.incarnation) {
            activate_regions_of(cx, from, None);
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
            if peer.has_state() && peer.group.is_settled_behind(leader.0, at) {
                self.become_quiescent(cx, region, vec![]);
                quiescent.push(region);
            }
        }
        if !std::mem::take(&mut self.is_due) {
            return quiescent;
        }
        let idle = cx.regions.active_peers().filter(|peer| self.is_idle(peer, &cx.shared));
        let idle: Vec<RegionId> = idle.map(|peer| peer.region.id).collect();
        for region in idle {
            let unreachable = self.announce_quiescence(cx, region);
            self.become_quiescent(cx, region, unreachable);
            quiescent.push(region);
        }
        quiescent
    }

    fn is_idle(&self, peer: &Peer, shared: &Shared) -> bool {
        peer.is_leader()
            && peer.has_state()
            && shared.now.since(peer.idle_since()) >= shared.config.idle_ms
            && !peer.has_callers()
            && !peer.size.is_due(shared.config.region_bytes_max)
            && peer.group.is_settled(&self.unreachable_members(&peer.region))
    }

    fn unreachable_members(&self, region: &Region) -> Vec<u64> {
        let is_unreachable =
            |store: &StoreId| self.stores.get(store).is_some_and(|other| other.is_unreachable);
        let unreachable = region.members.iter().filter(|member| is_unreachable(&member.store_id));
        unreachable.map(|member| member.id.0).collect()
    }

    /// Step 1, on the leader. Answers the members that are not told, for they are unreachable.
    fn announce_quiescence(&self, cx: &mut Context, region: RegionId) -> Vec<PeerId> {
        let Some(peer) = cx.regions.get(region) else { return vec![] };
        let unreachable = self.unreachable_members(&peer.region);
        let unreachable: Vec<PeerId> = unreachable.into_iter().map(PeerId).collect();
        let (term, index) = (peer.group.role().term, peer.group.last_index());
        let ours = peer.member(cx.shared.store());
        for to in &peer.region.members {
            if to.id == peer.id || unreachable.contains(&to.id) {
                continue;
            }
            let body = Body::Quiesce { term, index };
            cx.turn.send(to.store_id, envelope::with_region_id(&peer.region, ours, *to, body));
        }
        unreachable
    }

    fn become_quiescent(&mut self, cx: &mut Context, region: RegionId, unreachable: Vec<PeerId>) {
        if let Some(peer) = cx.regions.get(region) {
            // It may have been active for less than the time between two surveys.
            self.meet_stores_of(peer, &cx.shared);
        }
        cx.regions.quiesce(region, Quiescent { since: cx.shared.now, unreachable });
    }
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

/// Step 4: activates the peers whose regions have a member on `store`. `last_beat_at` is given if
/// that store became unreachable, and None if it is reachable again or another process.
fn activate_regions_of(cx: &mut Context, store: StoreId, last_beat_at: Option<Millis>) {
    let (now, timing) = (cx.shared.now, cx.shared.config.timing);
    let concerned = |peer: &&Peer| peer.is_quiescent() && peer.region.member_on(store).is_some();
    let concerned = cx.regions.iter().filter(concerned).map(|peer| peer.region.id);
    for region in concerned.collect::<Vec<_>>() {
        let Some(quiescent_since) = cx.regions.activate(region, now) else { continue };
        cx.regions.mark_dirty(region);
        let Some(peer) = cx.regions.get_mut(region) else { continue };
        let is_leaders = peer.leader().is_some_and(|leader| leader.store_id == store);
        if let Some(last_beat_at) = last_beat_at.filter(|_| is_leaders) {
            let missed_ms = now.since(last_beat_at.max(quiescent_since));
            let missed = missed_ms / timing.tick_ms.max(1);
            for _ in 0..missed.min(timing.election_ticks as u64) {
                peer.group.tick();
            }
        }
    }
}
