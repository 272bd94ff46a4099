//! Which incarnations of peers were removed from this store.
//!
//! A peer id is used once, and for one region and store a later incarnation has the greater id.
//! So one number for each region, its tombstone, says for ever which incarnations must not live
//! again. Until a tombstone is durable, no later incarnation may begin: a crash would leave it with
//! the log of the one that was removed.
//!
//! A member that still writes to a removed incarnation counts on that incarnation, perhaps as one
//! of its region's voters. Such messages are noted for a while, and the placement driver is told
//! ([`super::report`]): nobody else can tell a peer that is lost from one that is out of reach.
//!
//! Not here: writing tombstones ([`super::records`]), and when ([`super::incarnation`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::heartbeat::TombstonedPeer;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PeerId, RegionId};

/// How long a message to a removed incarnation is remembered: several heartbeats to the placement
/// driver.
const ADDRESSED_MS: u64 = 10_000;

/// The most removed incarnations of which messages are remembered: as many as a heartbeat to the
/// placement driver names. The rest follow when these are no longer written to.
pub const ADDRESSED_MAX: usize = 2_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Tombstones {
    last_removed: BTreeMap<RegionId, PeerId>,
    /// Regions whose tombstone is written and not durable yet.
    pending: BTreeSet<RegionId>,
    /// Removed incarnations that members wrote to, and when they did last.
    addressed: BTreeMap<(RegionId, PeerId), Millis>,
}

impl Tombstones {
    /// The tombstones that the disk has.
    pub fn new(durable: Vec<(RegionId, PeerId)>) -> Tombstones {
        Tombstones { last_removed: durable.into_iter().collect(), ..Tombstones::default() }
    }

    /// The last incarnation that was removed from this store.
    pub fn last_removed(&self, region: RegionId) -> Option<PeerId> {
        self.last_removed.get(&region).copied()
    }

    /// True if this store ever had a peer that was removed.
    pub fn has_any(&self) -> bool {
        !self.last_removed.is_empty()
    }

    /// The highest id of a region or a peer that has a tombstone; 0 if there is none.
    pub fn highest_id(&self) -> u64 {
        self.last_removed.iter().map(|(region, peer)| region.0.max(peer.0)).max().unwrap_or(0)
    }

    /// True if this incarnation was removed, or outlived by one that was.
    pub fn forbid(&self, region: RegionId, peer: PeerId) -> bool {
        if planted(Mutant::TombstoneForgotten) {
            return false;
        }
        self.last_removed(region).is_some_and(|removed| peer <= removed)
    }

    /// A member wrote to an incarnation that does not live here. The incarnation is remembered if
    /// it never lives here again, whatever happens: its tombstone is durable.
    pub fn note_addressed(&mut self, now: Millis, region: RegionId, peer: PeerId) {
        if !self.forbid(region, peer) || self.is_pending(region) {
            return;
        }
        let is_known = self.addressed.contains_key(&(region, peer));
        if is_known || self.addressed.len() < ADDRESSED_MAX {
            self.addressed.insert((region, peer), now);
        }
    }

    /// The removed incarnations that members wrote to lately.
    pub fn addressed(&mut self, now: Millis) -> Vec<TombstonedPeer> {
        self.addressed.retain(|_, at| now.since(*at) < ADDRESSED_MS);
        let peers = self.addressed.keys();
        peers.map(|(region, peer)| TombstonedPeer { region_id: *region, peer_id: *peer }).collect()
    }

    /// True while the region's tombstone is not durable.
    pub fn is_pending(&self, region: RegionId) -> bool {
        self.pending.contains(&region)
    }

    /// A tombstone was written.
    pub fn insert(&mut self, region: RegionId, peer: PeerId) {
        self.last_removed.insert(region, peer);
        if planted(Mutant::TombstoneTooSoon) {
            return;
        }
        self.pending.insert(region);
    }

    /// The region's tombstone is durable.
    pub fn note_durable(&mut self, region: RegionId) {
        self.pending.remove(&region);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(5);

    #[test]
    fn a_tombstone_forbids_its_incarnation_and_earlier_ones() {
        let mut tombstones = Tombstones::new(vec![(REGION, PeerId(8))]);
        assert!(tombstones.forbid(REGION, PeerId(7)) && tombstones.forbid(REGION, PeerId(8)));
        assert!(!tombstones.forbid(REGION, PeerId(9)) && !tombstones.is_pending(REGION));
        tombstones.insert(REGION, PeerId(9));
        assert!(tombstones.forbid(REGION, PeerId(9)) && tombstones.is_pending(REGION));
        tombstones.note_durable(REGION);
        assert!(!tombstones.is_pending(REGION));
    }

    #[test]
    fn a_removed_incarnation_is_told_of_while_members_write_to_it() {
        let mut tombstones = Tombstones::new(vec![(REGION, PeerId(8))]);
        let (at, later) = (Millis(1_000), Millis(1_000 + ADDRESSED_MS));
        tombstones.note_addressed(at, REGION, PeerId(9));
        assert_eq!(tombstones.addressed(at), [], "it may live here yet");
        tombstones.note_addressed(at, REGION, PeerId(8));
        let told = [TombstonedPeer { region_id: REGION, peer_id: PeerId(8) }];
        assert_eq!(tombstones.addressed(Millis(later.0 - 1)), told);
        assert_eq!(tombstones.addressed(later), [], "nobody counts on it any more");
        tombstones.insert(REGION, PeerId(9));
        tombstones.note_addressed(later, REGION, PeerId(9));
        assert_eq!(tombstones.addressed(later), [], "a crash may bring it back");
        tombstones.note_durable(REGION);
        tombstones.note_addressed(later, REGION, PeerId(9));
        assert_eq!(tombstones.addressed(later).len(), 1);
    }
}
