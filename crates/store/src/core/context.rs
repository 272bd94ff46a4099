//! What all features of a store work on.

use super::regions::Regions;
use super::shared::Shared;
use super::tombstones::Tombstones;
use super::turn::Turn;

/// The regions of the store, what the present turn gathers, and what all peers share.
pub struct Context {
    /// The regions and their peers.
    pub regions: Regions,
    /// The peers that were removed from this store.
    pub tombstones: Tombstones,
    /// What the present turn gathers.
    pub turn: Turn,
    /// What all peers share.
    pub shared: Shared,
}
