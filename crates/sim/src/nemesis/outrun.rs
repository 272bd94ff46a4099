//! Stores that will need snapshots.
//!
//! A store hears nothing from the others while they go on, write a checkpoint and forget all of
//! their logs that is durable. When it hears from them again, entries that it lacks are gone.

use flotilla_store::core::worker::LogKept;
use flotilla_types::StoreId;

use crate::event::{Event, Relief};
use crate::net::Link;
use crate::time::{MS, Micros};
use crate::world::World;

use super::ambush::both_ways;

/// How long it hears nothing: time for an election, for writes and for a checkpoint.
const AWAY: (Micros, Micros) = (2_500 * MS, 6_000 * MS);

/// The others write a checkpoint so long before it comes back.
const CHECKPOINT_BEFORE: Micros = 1_200 * MS;

/// A log of which nothing is kept for anybody.
const NOTHING: LogKept = LogKept { entries: 0, entries_for_absent: 0, truncate_entries_min: 1 };

impl World {
    /// Cuts a store off from the others, which forget what they can.
    pub(super) fn outrun(&mut self) -> bool {
        let Some(victim) = self.any_store() else { return false };
        let others = self.stores.keys().filter(|store| **store != victim);
        let links: Vec<Link> = others.flat_map(|other| both_ways(victim, *other)).collect();
        self.hub.net.cut(&links);
        let time = self.hub.dice.between(AWAY.0, AWAY.1);
        let forget = Relief::Forget { but: victim };
        self.hub.agenda.after(time - CHECKPOINT_BEFORE, Event::Relief(forget));
        self.hub.agenda.after(time, Event::Relief(Relief::Outrun { store: victim, links }));
        true
    }

    /// All stores but this one keep no more of their logs than they must, and begin a checkpoint.
    pub(super) fn forget(&mut self, but: StoreId) {
        for store in self.stores.values_mut().filter(|store| store.id != but) {
            if let Some(process) = &mut store.process {
                process.worker.keep_log(NOTHING);
                process.worker.want_checkpoint();
            }
        }
    }

    /// The store is back, and the others keep as much as ever.
    pub(super) fn come_back(&mut self, store: StoreId, links: &[Link]) {
        self.mend(links);
        let is_outrun = self.outrun_regions(store);
        self.hub.coverage.add("snapshots forced", is_outrun);
        let kept = self.hub.scenario.log_kept;
        for process in self.stores.values_mut().filter_map(|store| store.process.as_mut()) {
            process.worker.keep_log(kept);
        }
    }

    /// Peers of the store whose leader has forgotten entries that they lack.
    fn outrun_regions(&self, store: StoreId) -> u64 {
        let Some(process) = self.stores.get(&store).and_then(|store| store.process.as_ref()) else {
            return 0;
        };
        let others = self.stores.values().filter(|other| other.id != store);
        let workers: Vec<_> =
            others.filter_map(|other| other.process.as_ref()).map(|p| &p.worker).collect();
        let is_outrun = |peer: &flotilla_store::core::peer::Peer| {
            let leaders = workers.iter().filter_map(|worker| worker.peer(peer.region.id));
            leaders.filter(|leader| leader.is_leader()).any(|leader| {
                let is_member = leader.region.member(peer.id).is_some();
                is_member && leader.group.truncated().index > peer.group.last_index()
            })
        };
        let peers = process.worker.regions().filter_map(|r| process.worker.peer(r.id));
        peers.filter(|peer| peer.has_state() && is_outrun(peer)).count() as u64
    }
}
