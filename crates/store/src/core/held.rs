//! An account of what a store holds in memory, by kind.
//!
//! The kinds have bounds in [`super::limits`], but for views and the rows of a count. The account
//! is for inspection: nothing is decided by it.

use flotilla_group::GroupHeld;

use super::peer::Peer;

/// What one peer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerHeld {
    /// Its group.
    pub group: GroupHeld,
    /// Bytes of writes that wait for the end of the turn.
    pub queued_bytes: usize,
    /// Writes that wait for the end of the turn.
    pub queued_writes: usize,
    /// Reads that wait for a round of confirmation.
    pub waiting_reads: usize,
    /// Peers outside the region that are remembered.
    pub non_members: usize,
    /// Rows that the count under way has seen; 0 if none is under way.
    pub counted_rows: u64,
    /// Keys that the count under way has sampled.
    pub samples: usize,
}

impl PeerHeld {
    /// What `peer` holds. Walks the entries that are in memory and the writes that are queued.
    pub fn of(peer: &Peer) -> PeerHeld {
        let (counted_rows, samples) = peer.size.counting();
        let (queued_writes, queued_bytes) = peer.queued();
        PeerHeld {
            group: peer.group.held(),
            queued_bytes,
            queued_writes,
            waiting_reads: peer.waiting_reads(),
            non_members: peer.contacts.non_members(),
            counted_rows,
            samples,
        }
    }
}

/// What a store holds besides its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreHeld {
    /// Votes that are kept for regions whose split is not applied here.
    pub kept_votes: usize,
    /// Views that snapshots are sent from.
    pub exports: usize,
}
