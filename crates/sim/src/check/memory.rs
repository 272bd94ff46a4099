//! Memory: what a store and the placement driver hold stays under the bounds they were opened with.
//!
//! Looked at after one turn of all stores' in 16, for all peers of that store; after each request,
//! for the writes of one region, which no turn leaves behind; and after each turn of the placement
//! driver.
//!
//! Why each rule is sound:
//!
//! * Queued writes: a write is refused that would exceed the bound, unless it is the only one.
//! * Uncommitted entries of one term: the `raft` crate refuses a proposal that would exceed the
//!   bound, unless nothing is uncommitted. So above the bound there is one entry with a payload.
//! * Applied entries in memory: the memory is shrunk whenever entries are applied, and an entry
//!   that is applied later was counted as not applied until then.
//! * Rows of a count under way: a count sees each row at most once, and rows that were there when
//!   the count passed have keys of their own, so there are no more than keys in the world.
//! * Views for snapshots: one for each peer, which may outlive the peer; so there are no more than
//!   the store has had peers at once since its process began.
//! * Bytes of reports in a heartbeat: a report is added only while the sum of all, weighed no
//!   lighter than they are, stays under the bound; a single one goes in any case.
//! * Requests that wait in the placement driver: one is refused while the bound is reached.
//!   Reports: of regions that a split or the bootstrap made, each once. Members that planned
//!   operators add to a store: an operator is planned only while fewer are being added.
//!
//! What this checker cannot see: what drivers hold, and how large each thing is where things are
//! counted, and how long a log is: what a leader keeps of it depends on the slowest member.

use std::collections::BTreeMap;

use flotilla_pd::core::Pd;
use flotilla_store::core::held::{PeerHeld, StoreHeld};
use flotilla_store::core::peer::Peer;
use flotilla_types::{RegionId, StoreId, proto};
use prost::Message;

use super::{Sight, Verdict, broken};
use crate::limits::Bounds;

/// One turn of a store in so many is looked at.
const TURNS: u64 = 16;

/// What cores hold. See the module's documentation.
#[derive(Debug, Default)]
pub struct Memory {
    bounds: Bounds,
    keys: u64,
    turns: u64,
    /// The most peers that each store has had at once.
    peers_max: BTreeMap<StoreId, usize>,
}

fn within(what: &str, held: usize, most: usize, who: &dyn std::fmt::Debug) -> Verdict {
    if held <= most {
        return Ok(());
    }
    broken(
        "what is held stays within its bound",
        format!("{what}: {held}, at most {most}: {who:?}"),
    )
}

impl Memory {
    /// Nothing was seen yet of a world with so many keys.
    pub fn new(bounds: Bounds, keys: u16) -> Memory {
        Memory { bounds, keys: keys.into(), ..Memory::default() }
    }

    /// A store sends a heartbeat with these reports.
    pub fn sends_reports(&self, store: StoreId, reports: &[proto::RegionReport]) -> Verdict {
        let bytes: usize = reports.iter().map(Message::encoded_len).sum();
        let most =
            if reports.len() > 1 { self.bounds.store.reports.reports_bytes_max } else { bytes };
        within("bytes of reports in a heartbeat", bytes, most, &store)
    }

    /// A store's process has started.
    pub fn reborn(&mut self, store: StoreId) {
        self.peers_max.remove(&store);
    }

    /// Checks a store after a turn, once in a while.
    pub fn observe(&mut self, sight: &Sight<'_>) -> Verdict {
        let peers = sight.worker.regions().count();
        let most = self.peers_max.entry(sight.store).or_default();
        *most = peers.max(*most);
        let most = *most;
        self.turns += 1;
        if !self.turns.is_multiple_of(TURNS) {
            return Ok(());
        }
        self.check_store(sight.worker.held(), most)?;
        for region in sight.worker.regions() {
            let Some(peer) = sight.worker.peer(region.id) else { continue };
            self.check_peer(&PeerHeld::of(peer), (sight.store, region.id))?;
        }
        Ok(())
    }

    /// Checks the writes that wait for the end of the turn.
    pub fn queued(&self, peer: &Peer) -> Verdict {
        let (writes, bytes) = peer.queued();
        let most = self.bounds.store.queued_bytes_max;
        if writes > 1 { within("bytes of queued writes", bytes, most, &peer.id) } else { Ok(()) }
    }

    /// Checks the placement driver after a turn; there are `regions` regions.
    pub fn observe_pd(&self, pd: &Pd, regions: usize) -> Verdict {
        let (held, limits) = (pd.held(), &self.bounds.pd);
        within("requests that wait", held.requests, limits.waiting_max, &held)?;
        within("reports", held.reports, regions, &held)
    }

    fn check_store(&self, held: StoreHeld, peers_max: usize) -> Verdict {
        within("kept votes", held.kept_votes, self.bounds.store.kept_votes_max, &held)?;
        within("views", held.exports, peers_max, &held)
    }

    fn check_peer(&self, held: &PeerHeld, who: (StoreId, RegionId)) -> Verdict {
        let (limits, group, who) = (&self.bounds.store, &held.group, &(who, held));
        let group_limits = &limits.group;
        within("rounds", group.rounds, group_limits.tickets_max, who)?;
        within("applied entries", group.applied_bytes, group_limits.cache_bytes_max, who)?;
        if group.uncommitted_entries > 1 {
            let most = group_limits.uncommitted_bytes_max as usize;
            within("uncommitted entries", group.uncommitted_bytes, most, who)?;
        }
        within("reads that wait", held.waiting_reads, limits.reads_waiting_max, who)?;
        within("non-members", held.non_members, limits.non_members_max, who)?;
        within("rows of a count", held.counted_rows as usize, self.keys as usize, who)?;
        within("samples of a count", held.samples, limits.count_samples_max, who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_group::GroupHeld;

    const WHO: (StoreId, RegionId) = (StoreId(1), RegionId(7));

    fn memory() -> Memory {
        Memory::new(Bounds::default(), 30)
    }

    #[test]
    fn what_is_held_up_to_the_bound_passes_and_one_more_does_not() {
        let most = memory().bounds.store.reads_waiting_max;
        let held = PeerHeld { waiting_reads: most, ..PeerHeld::default() };
        assert!(memory().check_peer(&held, WHO).is_ok());
        let held = PeerHeld { waiting_reads: most + 1, ..PeerHeld::default() };
        assert!(memory().check_peer(&held, WHO).is_err());
        let held = StoreHeld { kept_votes: 1_025, ..StoreHeld::default() };
        assert!(memory().check_store(held, 10).is_err());
    }

    #[test]
    fn one_large_entry_may_be_uncommitted_and_two_may_not() {
        let held = |uncommitted_entries| {
            let group =
                GroupHeld { uncommitted_bytes: 1 << 30, uncommitted_entries, ..Default::default() };
            PeerHeld { group, ..PeerHeld::default() }
        };
        assert!(memory().check_peer(&held(1), WHO).is_ok());
        assert!(memory().check_peer(&held(2), WHO).is_err());
    }

    #[test]
    fn a_count_that_sees_a_row_twice_is_found() {
        let held = |counted_rows| PeerHeld { counted_rows, ..PeerHeld::default() };
        assert!(memory().check_peer(&held(30), WHO).is_ok());
        assert!(memory().check_peer(&held(31), WHO).is_err());
    }
}
