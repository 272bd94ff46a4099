//! An outrun store: a store that falls so far behind the others that it needs snapshots.
//!
//! The store is cut off from the other stores while they go on, write a checkpoint and truncate
//! their logs up to what is durable. When the links are mended, the leaders no longer have the
//! entries that the store lacks.

use flotilla_store::core::worker::LogKept;
use flotilla_types::StoreId;

use crate::event::{Event, Relief};
use crate::net::Link;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the store is cut off: time for an election, for writes and for a checkpoint.
const AWAY: (Micros, Micros) = (2_500 * MS, 6_000 * MS);

/// How long before the links are mended the others begin their checkpoints.
const CHECKPOINT_BEFORE: Micros = 1_200 * MS;

/// The log limits under which no entry is kept for a follower.
const NOTHING: LogKept = LogKept { entries: 0, entries_for_absent: 0, truncate_entries_min: 1 };

impl World {
    /// Cuts a store off from the others, which will truncate their logs.
    pub(super) fn outrun(&mut self) -> bool {
        let Some(victim) = self.any_store() else { return false };
        let links = self.links_to_stores(victim);
        self.hub.net.cut(&links);
        let time = self.hub.dice.acts.between(AWAY.0, AWAY.1);
        let forget = Relief::Forget { but: victim };
        self.hub.agenda.after(time - CHECKPOINT_BEFORE, Event::Relief(forget));
        self.hub.agenda.after(time, Event::Relief(Relief::Outrun { store: victim, links }));
        true
    }

    /// All stores but this one begin a checkpoint and truncate their logs as far as they can.
    pub(super) fn forget(&mut self, but: StoreId) {
        for store in self.stores.values_mut().filter(|store| store.id != but) {
            if let Some(process) = &mut store.process {
                process.worker.keep_log(NOTHING);
                process.worker.want_checkpoint();
            }
        }
    }

    /// Mends the store's links, and gives the others their usual log limits.
    pub(super) fn come_back(&mut self, store: StoreId, links: &[Link]) {
        self.mend(links);
        let is_outrun = self.outrun_regions(store);
        self.hub.coverage.add("snapshots forced", is_outrun);
        let kept = self.hub.scenario.cluster.log_kept;
        for process in self.stores.values_mut().filter_map(|store| store.process.as_mut()) {
            process.worker.keep_log(kept);
        }
    }

    /// The number of the store's peers whose leader has truncated entries that they lack.
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
