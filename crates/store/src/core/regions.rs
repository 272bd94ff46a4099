//! The regions of a store: their peers, which key ranges they hold, and which of them have work.
//!
//! Invariants ([`Regions::check`]):
//!
//! * The range map has exactly the regions of the peers with state.
//! * Active regions have a peer, and that peer is not quiescent; all other peers are.
//! * A range is claimed exactly while the region's peer has a snapshot offered or being installed.
//! * A dirty region may have lost its peer meanwhile; it is skipped when its turn comes.
//!
//! These hold because nothing but the functions here changes the sets. Between functions, a peer
//! that was borrowed by [`Regions::get_mut`] may be ahead of them: code that changes the
//! peer's region calls [`Regions::region_changed`] within the same turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use flotilla_types::{KeyRange, Millis, PeerId, RangeMap, RegionId};

use super::contacts::Quiescent;
use super::peer::Peer;

/// See the module's documentation.
#[derive(Default)]
pub struct Regions {
    /// Boxed, for peers are large and the map moves its values.
    peers: BTreeMap<RegionId, Box<Peer>>,
    range_map: RangeMap,
    /// Regions whose peers have something to do at the end of the turn.
    dirty: BTreeSet<RegionId>,
    /// Regions whose peers count ticks: those that are not quiescent.
    active: BTreeSet<RegionId>,
    /// Ranges of snapshots that are offered or being installed.
    claims: BTreeMap<RegionId, KeyRange>,
    /// Regions that were changed since the last check.
    unchecked: Vec<RegionId>,
}

impl Regions {
    /// The region's peer.
    pub fn get(&self, region: RegionId) -> Option<&Peer> {
        self.peers.get(&region).map(Box::as_ref)
    }

    /// The region's peer, to be changed.
    pub fn get_mut(&mut self, region: RegionId) -> Option<&mut Peer> {
        self.peers.get_mut(&region).map(Box::as_mut)
    }

    /// The region's peer, if it is this very incarnation.
    pub fn incarnation_mut(&mut self, region: RegionId, peer: PeerId) -> Option<&mut Peer> {
        self.get_mut(region).filter(|known| known.id == peer)
    }

    /// All peers, by region id.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().map(Box::as_ref)
    }

    /// The highest id of a region or a member of one; 0 if there is none. O(all regions).
    pub fn highest_id(&self) -> u64 {
        let ids = |peer: &Peer| {
            let members = peer.region.members.iter().map(|member| member.id.0);
            members.chain([peer.region.id.0, peer.id.0]).max()
        };
        self.iter().filter_map(ids).max().unwrap_or(0)
    }

    /// The peers of regions after this one, by region id.
    pub fn after(&self, region: RegionId) -> impl Iterator<Item = &Peer> {
        self.peers.range((Excluded(region), Unbounded)).map(|(_, peer)| peer.as_ref())
    }

    /// The number of peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// True if there is no peer.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The regions of peers with state, by key.
    pub fn range_map(&self) -> &RangeMap {
        &self.range_map
    }

    /// Regions that are not quiescent.
    pub fn active(&self) -> &BTreeSet<RegionId> {
        &self.active
    }

    /// The peers that are not quiescent, by region id.
    pub fn active_peers(&self) -> impl Iterator<Item = &Peer> {
        self.active.iter().filter_map(|region| self.get(*region))
    }

    /// Regions that are quiescent, by id. O(all regions).
    pub fn quiescent(&self) -> impl Iterator<Item = RegionId> {
        self.peers.keys().filter(|region| !self.active.contains(region)).copied()
    }

    /// Calls `visit` with each peer that is not quiescent. The peer is dirty afterwards if it says
    /// [`Visited::HasWork`].
    pub fn for_each_active(&mut self, mut visit: impl FnMut(&mut Peer) -> Visited) {
        for region in &self.active {
            let Some(peer) = self.peers.get_mut(region) else { continue };
            match visit(peer) {
                Visited::HasWork => drop(self.dirty.insert(*region)),
                Visited::HasNone => {}
            }
        }
    }

    /// Adds a peer: it is active and has work.
    pub fn insert(&mut self, peer: Box<Peer>) {
        let region = peer.region.id;
        if peer.has_state() {
            self.range_map.upsert(peer.region.clone());
        }
        self.active.insert(region);
        self.mark_dirty(region);
        let earlier = self.peers.insert(region, peer);
        assert!(earlier.is_none(), "region {region} had a peer already");
    }

    /// Removes the region's peer from all sets.
    pub fn remove(&mut self, region: RegionId) -> Option<Box<Peer>> {
        let peer = self.peers.remove(&region)?;
        self.range_map.remove(region);
        self.dirty.remove(&region);
        self.active.remove(&region);
        self.claims.remove(&region);
        self.note_unchecked(region);
        Some(peer)
    }

    /// The range map takes over what the region's peer says.
    pub fn region_changed(&mut self, region: RegionId) {
        self.range_map.remove(region);
        if let Some(peer) = self.peers.get(&region).filter(|peer| peer.has_state()) {
            self.range_map.upsert(peer.region.clone());
        }
        self.note_unchecked(region);
    }

    /// The region's peer has something to do at the end of the turn.
    pub fn mark_dirty(&mut self, region: RegionId) {
        self.dirty.insert(region);
    }

    /// True if some peer has something to do at the end of the turn.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next region whose peer has something to do. It is not dirty afterwards.
    pub fn next_dirty(&mut self) -> Option<RegionId> {
        loop {
            let region = self.dirty.pop_first()?;
            if self.peers.contains_key(&region) {
                self.note_unchecked(region);
                return Some(region);
            }
        }
    }

    /// Something concerns the region: its peer counts ticks again. Answers since when the region
    /// was quiescent, if it was.
    pub fn activate(&mut self, region: RegionId, now: Millis) -> Option<Millis> {
        let quiescent_since = self.peers.get_mut(&region)?.activate(now)?;
        self.active.insert(region);
        self.note_unchecked(region);
        Some(quiescent_since)
    }

    /// The region is quiescent from now on.
    pub fn quiesce(&mut self, region: RegionId, quiescent: Quiescent) {
        let Some(peer) = self.peers.get_mut(&region) else { return };
        peer.group.shrink();
        peer.contacts.quiesce(quiescent);
        self.active.remove(&region);
        self.note_unchecked(region);
    }

    /// The region's peer is about to have the rows of `range`, from a snapshot.
    pub fn claim(&mut self, region: RegionId, range: KeyRange) {
        self.claims.insert(region, range);
        self.note_unchecked(region);
    }

    /// The snapshot is installed, or not wanted.
    pub fn release_claim(&mut self, region: RegionId) {
        self.claims.remove(&region);
        self.note_unchecked(region);
    }

    /// True if the rows of another region than `region` lie in `range` on this store, or soon will.
    pub fn is_occupied(&self, region: RegionId, range: &KeyRange) -> bool {
        let is_mapped = self.range_map.overlapping(range).any(|other| other.id != region);
        let is_claimed =
            self.claims.iter().any(|(id, claim)| *id != region && claim.overlaps(range));
        is_mapped || is_claimed
    }

    /// Asserts the invariants of the module and of each peer, for all that was changed since the
    /// last call. At the end of a turn, when no peer is dirty.
    pub fn check(&mut self, now: Millis) {
        let mut unchecked = std::mem::take(&mut self.unchecked);
        for region in unchecked.drain(..) {
            let is_active = self.active.contains(&region);
            let mapped = self.range_map.region(region);
            let is_claimed = self.claims.contains_key(&region);
            let Some(peer) = self.peers.get(&region) else {
                assert!(!is_active, "region {region} is active and has no peer");
                assert_eq!(mapped, None, "region {region} is mapped and has no peer");
                assert!(!is_claimed, "region {region} has a claim and no peer");
                continue;
            };
            peer.check(now);
            let staged = peer.lifecycle.staged();
            let expected = peer.has_state().then_some(&peer.region);
            assert_eq!(is_active, !peer.is_quiescent(), "region {region} is active or quiescent");
            assert_eq!(mapped, expected, "region {region} in the range map, and as its peer says");
            assert_eq!(is_claimed, staged.is_some(), "region {region}: a claim, and {staged:?}");
        }
        // Emptied, and kept for its memory.
        self.unchecked = unchecked;
    }

    /// The region is checked at the end of the turn. Most changes of one region come in a row.
    fn note_unchecked(&mut self, region: RegionId) {
        if self.unchecked.last() != Some(&region) {
            self.unchecked.push(region);
        }
    }
}

/// Whether a visited peer has something to do at the end of the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// It has.
    HasWork,
    /// It has not.
    HasNone,
}
