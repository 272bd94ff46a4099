//! Which incarnations of peers were removed from this store.
//!
//! A peer id is used once, and for one region and store a later incarnation has the greater id.
//! So one number for each region, its tombstone, says for ever which incarnations must not live
//! again. Until a tombstone is durable, no later incarnation may begin: a crash would leave it with
//! the log of the one that was removed.
//!
//! Not here: writing tombstones ([`super::records`]), and when ([`super::incarnation`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{PeerId, RegionId};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Tombstones {
    last_removed: BTreeMap<RegionId, PeerId>,
    /// Regions whose tombstone is written and not durable yet.
    pending: BTreeSet<RegionId>,
}

impl Tombstones {
    /// The tombstones that the disk has.
    pub fn new(durable: Vec<(RegionId, PeerId)>) -> Tombstones {
        Tombstones { last_removed: durable.into_iter().collect(), pending: BTreeSet::new() }
    }

    /// The last incarnation that was removed from this store.
    pub fn last_removed(&self, region: RegionId) -> Option<PeerId> {
        self.last_removed.get(&region).copied()
    }

    /// True if this incarnation was removed, or outlived by one that was.
    pub fn forbid(&self, region: RegionId, peer: PeerId) -> bool {
        if planted(Mutant::TombstoneForgotten) {
            return false;
        }
        self.last_removed(region).is_some_and(|removed| peer <= removed)
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
}
