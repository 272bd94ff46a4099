//! What this store's replica of a region has applied: for people and programs that look at replicas
//! side by side, leader or not.
//!
//! A replica may be behind the others for as long as it likes, so what is said here is no answer to
//! a client's read. Two replicas that have applied the same index hold the same rows; that is what
//! this is for.
//!
//! The rows are read away from the worker, in pieces, so a reading is between two looks at the
//! replica ([`HeldReplica`]). If both say the same index, the rows are those at this index: what is
//! applied in between is seen by the second look, because a store's worker applies entries and
//! answers looks on one thread. The rows of a snapshot take the place of others on another thread,
//! while the worker goes by the old index: a look says that this is so, and no reading counts then.

use flotilla_group::Position;
use flotilla_types::{Member, Region, RegionId};

use super::regions::Regions;

/// One look at a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldReplica {
    /// The region, as the replica knows it at `applied`.
    pub region: Region,
    /// The last entry that was applied.
    pub applied: Position,
    /// The leader, as far as the replica knows it.
    pub leader: Option<Member>,
    /// True while a snapshot takes the place of the rows, so that they are of no one index.
    pub is_installing: bool,
}

/// The region's replica here; None if there is none, or none that has its first state.
pub fn look(regions: &Regions, region: RegionId) -> Option<HeldReplica> {
    let peer = regions.get(region).filter(|peer| peer.has_state())?;
    let (region, applied, leader) = (peer.region.clone(), peer.applied, peer.leader());
    let is_installing = peer.lifecycle.is_installing();
    Some(HeldReplica { region, applied, leader, is_installing })
}
