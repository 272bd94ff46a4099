//! Messages of other stores: which peer they are for, whether to create one, and who is dead.
//!
//! A peer id is used once, and for one region and store a later incarnation has the greater id.
//! So one number, the tombstone, says for ever which incarnations must not live again. It is
//! written in the batch that removes the peer; the peer's log is cleared only when that batch is
//! durable, and until then no later incarnation is created.
//!
//! A message for a region that this store has no peer of may create one, without state, that waits
//! for a snapshot. Not while a local region covers any of its range: then either the new region
//! comes out of a split that is not applied here yet (a vote is kept for it), or the local peer
//! is stale and will learn of its removal first.
//!
//! A peer learns of its removal from its own log, from the leader that removed it or a member that
//! it writes to (`PeerRemoved`), or from the placement driver.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_engine::StateBatch;
use flotilla_group::StepError;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::envelope::Body;
use flotilla_types::proto::{self, MessageKind, RaftMessage};
use flotilla_types::{KeyRange, Member, PeerId, Region, RegionId, StoreId};

use super::peer::PeerOpening;
use super::records::{self, Applied, data_range};
use super::split::Size;
use super::worker::Worker;
use super::{Event, Fatal, Output, StagedId};

/// Votes kept for regions whose split is not applied here yet. One for each region of a store that
/// is cut at once; beyond it, an election timeout makes up for a lost one.
const KEPT_VOTES_MAX: usize = 1024;

/// Peers on one store. Each costs memory and ticks; the placement driver never plans so many.
const PEERS_MAX: usize = 100_000;

/// What a worker knows of peers that it does not have.
pub struct Routing {
    tombstones: BTreeMap<RegionId, PeerId>,
    /// Destroyed, and the tombstone is not durable yet.
    dying: BTreeSet<RegionId>,
    /// Ranges of snapshots that are taken or being installed.
    claims: BTreeMap<RegionId, KeyRange>,
    kept_votes: BTreeMap<RegionId, proto::Envelope>,
}

/// Where a message comes from and where it belongs.
struct Address {
    region_id: RegionId,
    conf_ver: u64,
    /// Left out by senders that know that the peer is there.
    region: Option<Region>,
    from: Member,
    to: Member,
}

impl Routing {
    pub(super) fn new(tombstones: Vec<(RegionId, PeerId)>) -> Routing {
        Routing {
            tombstones: tombstones.into_iter().collect(),
            dying: BTreeSet::new(),
            claims: BTreeMap::new(),
            kept_votes: BTreeMap::new(),
        }
    }

    /// The last incarnation that was removed from this store.
    pub fn tombstone(&self, region: RegionId) -> Option<PeerId> {
        self.tombstones.get(&region).copied()
    }

    pub(super) fn claim(&mut self, region: RegionId, range: KeyRange) {
        self.claims.insert(region, range);
    }

    pub(super) fn release_claim(&mut self, region: RegionId) {
        self.claims.remove(&region);
    }

    pub(super) fn is_buried(&mut self, region: RegionId) {
        self.dying.remove(&region);
    }
}

impl Worker {
    /// True if an incarnation of the region's peer may begin to live here. Not if a later one has:
    /// it is here, or a crash took it, and the log remembers its vote.
    pub(super) fn may_create(&self, region: RegionId, peer: PeerId) -> Result<bool, Fatal> {
        let is_dead = self.routing.tombstone(region).is_some_and(|dead| peer <= dead);
        let is_newer_here = self.peers.get(&region).is_some_and(|other| other.id > peer);
        let is_dead = is_dead && !planted(Mutant::TombstoneForgotten);
        let remembered = flotilla_group::remembered_peer(&*self.shared.log, region.0)?;
        let is_outlived = remembered.is_some_and(|remembered| PeerId(remembered) > peer);
        let is_dying = self.routing.dying.contains(&region);
        Ok(!is_dead && !is_newer_here && !is_outlived && !is_dying)
    }

    /// True if some other region's rows lie in `range` on this store, or soon will.
    pub(super) fn is_occupied(&self, region: RegionId, range: &KeyRange) -> bool {
        let held = self.range_map.overlapping(range).any(|other| other.id != region);
        let claimed =
            self.routing.claims.iter().any(|(id, claim)| *id != region && claim.overlaps(range));
        held || claimed
    }

    /// Takes a message of another store; `staged` if it came with a snapshot's rows.
    pub(super) fn on_envelope(
        &mut self,
        envelope: proto::Envelope,
        staged: Option<StagedId>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        if let Some(Body::Beat(beat)) = envelope.body {
            self.on_beat(StoreId(envelope.from_store), beat, out);
            return Ok(());
        }
        let taken = match address(envelope) {
            Some((mail, body)) if mail.to.store_id == self.shared.store => {
                self.deliver(mail, body, staged, out)?
            }
            _ => false,
        };
        if let Some(staged) = staged.filter(|_| !taken) {
            out.push(Output::DiscardStaged { staged });
        }
        Ok(())
    }

    /// True if a staged snapshot was taken over by its peer.
    fn deliver(
        &mut self,
        mail: Address,
        body: Body,
        staged: Option<StagedId>,
        out: &mut Vec<Output>,
    ) -> Result<bool, Fatal> {
        let message = match body {
            Body::Removed(_) => {
                if let Some(region) = &mail.region {
                    self.on_removed(region, mail.to.id, out)?;
                }
                return Ok(false);
            }
            Body::Quiesce(at) => {
                if self.peers.get(&mail.region_id).is_some_and(|peer| peer.id == mail.to.id) {
                    self.on_quiesce(mail.region_id, mail.from.id, at);
                }
                return Ok(false);
            }
            Body::Beat(_) => return Ok(false),
            Body::Message(message) => message,
        };
        let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
        if is_snapshot != staged.is_some() || !self.find_or_create(&mail, &message, out)? {
            return Ok(false);
        }
        let is_load = !message.entries.is_empty() || is_snapshot;
        if is_load && self.is_under_pressure() {
            // As if lost; the leader sends it again when the buffer may have drained.
            return Ok(false);
        }
        if !is_snapshot {
            return self.step_peer(&mail, *message, None, out);
        }
        let Some(range) = self.installable(mail.region_id, &message) else { return Ok(false) };
        let taken = self.step_peer(&mail, *message, staged, out)?;
        if taken {
            // Claimed at once: another snapshot of this turn may want a part of it.
            self.routing.claim(mail.region_id, range);
        }
        Ok(taken)
    }

    fn step_peer(
        &mut self,
        mail: &Address,
        message: RaftMessage,
        staged: Option<StagedId>,
        out: &mut Vec<Output>,
    ) -> Result<bool, Fatal> {
        let region = mail.region_id;
        let peer = self.peers.get_mut(&region).expect("found or created");
        if peer.has_state
            && peer.region.member(mail.from.id).is_none()
            && mail.conf_ver < peer.region.epoch.conf_ver
        {
            let reply = removed(&peer.region, peer.member(self.shared.store), mail.from);
            out.push(Output::Send { to: mail.from.store_id, envelope: reply });
            return Ok(false);
        }
        if peer.staged.is_some() && staged.is_some() {
            return Ok(false);
        }
        if peer.is_old_news(&message) {
            return Ok(false);
        }
        peer.note_correspondent(mail.from, self.shared.now);
        self.quiescence.wake(peer, self.shared.now);
        let stepped = peer.group.step(self.shared.now, message);
        if stepped.is_ok() {
            peer.staged = staged.or(peer.staged);
        }
        if peer.has_work() {
            self.dirty.insert(region);
        }
        match stepped {
            Ok(()) => Ok(staged.is_some()),
            Err(StepError::Ignored) => Ok(false),
            Err(lost @ StepError::LostLog { .. }) => {
                Err(Fatal::LostLog { region, reason: lost.to_string() })
            }
        }
    }

    /// Makes sure that the very incarnation that the message is for lives here. False if it does
    /// not and must not.
    fn find_or_create(
        &mut self,
        mail: &Address,
        message: &RaftMessage,
        out: &mut Vec<Output>,
    ) -> Result<bool, Fatal> {
        let region = mail.region_id;
        match self.peers.get(&region).map(|peer| (peer.id, peer.region.epoch)) {
            Some((id, _)) if id == mail.to.id => return Ok(true),
            Some((id, _)) if id > mail.to.id => return Ok(false),
            Some((_, epoch)) => {
                // The sender knows a later incarnation here, so ours was removed meanwhile.
                if mail.conf_ver > epoch.conf_ver {
                    self.destroy(region, out)?;
                }
                return Ok(false);
            }
            None => {}
        }
        let Some(theirs) = &mail.region else { return Ok(false) };
        let is_member = theirs.member(mail.to.id).is_some();
        if !creates_peer(message.kind()) || !is_member || !self.may_create(region, mail.to.id)? {
            return Ok(false);
        }
        if self.is_occupied(region, &theirs.range) {
            self.wake_occupants(region, &theirs.range);
            self.keep_vote(theirs, mail, message);
            return Ok(false);
        }
        if self.peers.len() >= PEERS_MAX {
            return Ok(false);
        }
        let had_state = flotilla_group::peer_with_state(&*self.shared.log, region.0)?;
        if had_state == Some(mail.to.id.0) {
            // A split created it, and a crash lost that while the left region moved on without
            // it. Nothing of its log was acknowledged, for it held that back; votes that it gave
            // before the split were. The next message finds it without state.
            let ops = flotilla_group::forget_entries(&*self.shared.log, region.0)?;
            self.log_synced(ops);
            return Ok(false);
        }
        self.create_empty(theirs, mail.to.id, out)?;
        Ok(true)
    }

    fn create_empty(
        &mut self,
        theirs: &Region,
        peer: PeerId,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let region = theirs.id;
        let is_restart = self.shared.log.state(region.0)?.is_some();
        self.open_peer(PeerOpening {
            id: peer,
            region: Region { id: region, ..Region::default() },
            applied: Applied::default(),
            is_restart,
            size: Size::default(),
        })?;
        if let Some(created) = self.peers.get_mut(&region) {
            created.created_by = theirs.epoch;
        }
        out.push(Event::PeerCreated { region, peer }.into());
        Ok(())
    }

    fn keep_vote(&mut self, theirs: &Region, mail: &Address, message: &RaftMessage) {
        if !matches!(message.kind(), MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote) {
            return;
        }
        let votes = &mut self.routing.kept_votes;
        let body = Body::Message(Box::new(message.clone()));
        votes.insert(theirs.id, telling(theirs, mail.from, mail.to, body));
        if votes.len() > KEPT_VOTES_MAX {
            // The oldest region is the likeliest never to be created here.
            votes.pop_first();
        }
    }

    /// The region has just been created by a split: it gets the vote that was kept for it.
    pub(super) fn hand_over_vote(
        &mut self,
        region: RegionId,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        match self.routing.kept_votes.remove(&region) {
            Some(envelope) => self.on_envelope(envelope, None, out),
            None => Ok(()),
        }
    }

    /// A member says that our peer was removed; true only if it knows a later configuration.
    fn on_removed(
        &mut self,
        current: &Region,
        ours: PeerId,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let Some(peer) = self.peers.get(&current.id) else { return Ok(()) };
        let is_later = current.epoch.conf_ver > peer.known_epoch().conf_ver;
        if peer.id == ours && is_later && current.member(ours).is_none() {
            self.destroy(current.id, out)?;
        }
        Ok(())
    }

    /// Removes the region's peer from this store: state, range map, and, once that is durable,
    /// its log.
    pub(super) fn destroy(&mut self, region: RegionId, out: &mut Vec<Output>) -> Result<(), Fatal> {
        if self.peers.get(&region).is_some_and(|peer| peer.group.is_paused()) {
            // A snapshot is being installed on another thread. Whoever wants this peer gone will
            // say so again.
            return Ok(());
        }
        let Some(mut peer) = self.peers.remove(&region) else { return Ok(()) };
        peer.abandon(&self.shared, out);
        if let Some(staged) = peer.staged {
            self.routing.release_claim(region);
            out.push(Output::DiscardStaged { staged });
        }
        let mut batch = StateBatch::default();
        if peer.has_state {
            self.range_map.remove(region);
            batch.delete_range(data_range(&peer.region.range));
        }
        self.bury(region, peer.id, batch, out)
    }

    /// Writes the peer's tombstone with `batch`; once that is durable, its log is cleared.
    fn bury(
        &mut self,
        region: RegionId,
        peer: PeerId,
        mut batch: StateBatch,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        records::put_tombstone(&mut batch, region, peer);
        self.shared.state.write(batch)?;
        self.routing.tombstones.insert(region, peer);
        if !planted(Mutant::BuriedTooSoon) {
            self.routing.dying.insert(region);
        }
        self.checkpoints.bury(region);
        self.dirty.remove(&region);
        self.quiescence.awake.remove(&region);
        self.reporter.forget(region);
        self.reporter.note_change();
        out.push(Event::PeerDestroyed { region, peer }.into());
        Ok(())
    }
}

/// True for a message at which a store creates the peer that it is for, if it may.
pub fn creates_peer(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::MsgHeartbeat
            | MessageKind::MsgAppend
            | MessageKind::MsgSnapshot
            | MessageKind::MsgRequestVote
            | MessageKind::MsgRequestPreVote
    )
}

/// Decodes what every message must carry; None for anything else.
fn address(envelope: proto::Envelope) -> Option<(Address, Body)> {
    let region = envelope.region.map(|region| Region::try_from(*region)).transpose().ok()?;
    if region.as_ref().is_some_and(|region| region.id.0 != envelope.region_id) {
        return None;
    }
    let end = |peer, store| Member::learner(PeerId(peer), StoreId(store));
    let address = Address {
        region_id: RegionId(envelope.region_id),
        conf_ver: envelope.conf_ver,
        region,
        from: end(envelope.from_peer, envelope.from_store),
        to: end(envelope.to_peer, envelope.to_store),
    };
    Some((address, envelope.body?))
}

/// An envelope that only names the region.
pub(super) fn naming(region: &Region, from: Member, to: Member, body: Body) -> proto::Envelope {
    proto::Envelope {
        region_id: region.id.0,
        conf_ver: region.epoch.conf_ver,
        from_peer: from.id.0,
        from_store: from.store_id.0,
        to_peer: to.id.0,
        to_store: to.store_id.0,
        region: None,
        body: Some(body),
    }
}

/// An envelope that tells all of the region.
pub(super) fn telling(region: &Region, from: Member, to: Member, body: Body) -> proto::Envelope {
    let region_told = Some(Box::new(region.clone().into()));
    proto::Envelope { region: region_told, ..naming(region, from, to, body) }
}

/// Tells a member that was removed so, as of the region's present epoch.
pub(super) fn removed(current: &Region, from: Member, to: Member) -> proto::Envelope {
    telling(current, from, to, Body::Removed(proto::PeerRemoved {}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::Epoch;

    #[test]
    fn a_message_that_tells_of_another_region_than_it_names_is_refused() {
        let peers =
            vec![Member::voter(PeerId(1), StoreId(1)), Member::voter(PeerId(2), StoreId(2))];
        let (from, to) = (peers[0], peers[1]);
        let range = KeyRange::all();
        let region = Region { id: RegionId(7), range, epoch: Epoch::FIRST, members: peers };
        let named = removed(&region, from, to);
        assert!(address(named.clone()).is_some());
        assert!(address(proto::Envelope { region_id: 8, ..named }).is_none());
    }
}
