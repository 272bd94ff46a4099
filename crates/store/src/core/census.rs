//! How much a store has done, and what its regions are like at one moment: plain numbers, for
//! inspection. Nothing is decided by them.

use flotilla_types::MemberRole;

use super::peer::Peer;
use super::regions::Regions;

/// What the peers of a store have done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that clients' writes became, on leaders.
    pub proposals: u64,
    /// Entries that became committed.
    pub commits: u64,
    /// Entries that were applied.
    pub applies: u64,
}

/// The regions of a store by the state of their peers. Each peer is in one of the first five.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The peer leads.
    pub leaders: u64,
    /// A voter that knows its leader.
    pub followers: u64,
    /// A voter that knows no leader: it asks for votes, or is about to.
    pub candidates: u64,
    /// A learner.
    pub learners: u64,
    /// The peer has no state yet: it waits for a snapshot.
    pub without_state: u64,
    /// Of all of these, those that are quiescent.
    pub quiescent: u64,
    /// Reads that wait for a round of confirmation.
    pub waiting_reads: u64,
    /// Bytes of the log entries in memory.
    pub entry_bytes: u64,
}

impl Census {
    /// Walks all peers.
    pub fn of(regions: &Regions) -> Census {
        let mut census = Census::default();
        for peer in regions.iter() {
            *census.state_of(peer) += 1;
            census.quiescent += u64::from(peer.is_quiescent());
            census.waiting_reads += peer.waiting_reads() as u64;
            census.entry_bytes += peer.group.cached_bytes() as u64;
        }
        census
    }

    fn state_of(&mut self, peer: &Peer) -> &mut u64 {
        let role = peer.group.role();
        let is_learner =
            peer.region.member(peer.id).is_some_and(|own| own.role == MemberRole::Learner);
        if !peer.has_state() {
            &mut self.without_state
        } else if role.is_leader {
            &mut self.leaders
        } else if is_learner {
            &mut self.learners
        } else if role.leader == 0 {
            &mut self.candidates
        } else {
            &mut self.followers
        }
    }
}
