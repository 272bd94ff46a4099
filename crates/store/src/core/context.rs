//! What all features of a store work on.

use super::neighbours::Neighbours;
use super::pressure::HeldBack;
use super::regions::Regions;
use super::shared::Shared;
use super::tombstones::Tombstones;
use super::turn::Turn;

/// The regions of the store, what the present turn gathers, and what all peers share.
pub struct Context {
    /// The regions and their peers.
    pub regions: Regions,
    /// The stores that share a region with this one.
    pub neighbours: Neighbours,
    /// The peers that were removed from this store.
    pub tombstones: Tombstones,
    /// Entries that followers will apply when the disk keeps up again.
    pub held_back: HeldBack,
    /// What the present turn gathers.
    pub turn: Turn,
    /// What all peers share.
    pub shared: Shared,
}

impl Context {
    /// The highest id in use that this store knows, of a region, a peer or a tombstone.
    pub fn highest_id(&self) -> u64 {
        self.regions.highest_id().max(self.tombstones.highest_id())
    }
}
