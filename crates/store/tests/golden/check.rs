//! What must hold after each command of a script.
//!
//! * In a region's term at most one peer leads.
//! * The regions of a store do not overlap, and its range map holds exactly them.
//! * What is applied is committed.
//! * A peer's term never goes back, for its vote in that term would be forgotten.
//! * A peer's epoch never goes back, and no peer lives that a tombstone names.
//! * A store serves reads without its worker where the leader lease holds, for the region as it
//!   is, and nowhere else.
//! * Peers of a region that have applied the same entry have the same region and the same rows.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_store::core::records::load_tombstones;
use flotilla_store::core::{Op, Request, RequestId};
use flotilla_types::{Epoch, KeyRange, Millis, PeerId, Region, RegionId, StoreId};

use crate::store::{Rows, Store};
use crate::world::World;

/// What was seen so far.
#[derive(Default)]
pub struct History {
    leaders: BTreeMap<(RegionId, u64), PeerId>,
    terms: BTreeMap<PeerId, u64>,
    epochs: BTreeMap<PeerId, Epoch>,
    applied: BTreeMap<(RegionId, u64), (Region, Rows)>,
}

/// Panics if anything does not hold.
pub fn check(world: &mut World) {
    let World { stores, history, now, .. } = world;
    let regions: BTreeSet<RegionId> = history.leaders.keys().map(|(region, _)| *region).collect();
    for (id, store) in stores {
        for region in &regions {
            check_permit(*id, store, *region, *now);
        }
        check_ranges(*id, store);
        check_peers(*id, store, history);
    }
}

fn check_ranges(id: StoreId, store: &Store) {
    let Some(worker) = &store.worker else { return };
    let has_state = |region: &&Region| worker.peer(region.id).is_some_and(|peer| peer.has_state());
    let mut regions: Vec<&Region> = worker.regions().filter(has_state).collect();
    regions.sort_unstable_by(|a, b| a.range.start.cmp(&b.range.start));
    for pair in regions.windows(2) {
        let overlap = pair[0].range.overlaps(&pair[1].range);
        assert!(!overlap, "s{id} has r{} over r{}", pair[0].id, pair[1].id);
    }
    let mapped: Vec<&Region> = worker.range_map().iter().collect();
    assert_eq!(mapped, regions, "the range map of s{id}, and its peers");
    let tombstones = load_tombstones(&store.state).expect("memory does not fail");
    for (region, dead) in tombstones {
        let alive = worker.peer(region).is_some_and(|peer| peer.id <= dead);
        assert!(!alive, "s{id}: a peer of r{region} lives in spite of tombstone {dead}");
    }
}

fn check_peers(id: StoreId, store: &Store, history: &mut History) {
    let Some(worker) = &store.worker else { return };
    for peer in worker.regions().filter_map(|region| worker.peer(region.id)) {
        let region = peer.region.id;
        let role = peer.group.role();
        if role.is_leader {
            let leader = *history.leaders.entry((region, role.term)).or_insert(peer.id);
            assert_eq!(leader, peer.id, "two leaders of r{region} in term {}", role.term);
        }
        let last_term = history.terms.insert(peer.id, role.term).unwrap_or_default();
        assert!(role.term >= last_term, "the term of {} went back from {last_term}", peer.id);
        if !peer.has_state() {
            continue;
        }
        let (applied, commit) = (peer.applied.index, peer.group.commit_index());
        assert!(applied <= commit, "s{id} r{region}: applied {applied}, commit {commit}");
        let now = (peer.region.clone(), store.rows(&peer.region.range));
        let known = history.applied.entry((region, applied)).or_insert_with(|| now.clone());
        assert_eq!(*known, now, "s{id} r{region} at {applied}, as others have or had it");
    }
    check_nothing_outside(id, store);
}

/// Also of regions that the store has no more: nothing of them may be left to read by.
fn check_permit(id: StoreId, store: &Store, region: RegionId, now: Millis) {
    let Some(worker) = &store.worker else { return };
    let peer = worker.peer(region).filter(|peer| peer.has_state());
    let left_ms = peer
        .filter(|peer| peer.group.lease_holds(now))
        .map_or(0, |peer| peer.group.lease_left_ms(now));
    let Region { range, epoch, .. } = peer.map(|peer| peer.region.clone()).unwrap_or_default();
    let serves = |version: u64| {
        let op = Op::Get(vec![range.start.clone()]);
        let epoch = Epoch { version, ..epoch };
        let request = Request { id: RequestId(0), region, epoch, deadline: now.plus(1), op };
        worker.permits().serve(&request, &|| now).is_some()
    };
    assert!(!serves(epoch.version + 1), "s{id} serves r{region} as it is not yet");
    assert!(!serves(epoch.version.wrapping_sub(1)), "s{id} serves r{region} as it was");
    let (first, second) = (serves(epoch.version), serves(epoch.version));
    // One of two reads may be left to the worker, to renew the lease.
    assert_eq!(first || second, left_ms > 0, "s{id} serves r{region}, lease {left_ms} ms");
}

/// A store holds rows only of the regions that it has.
fn check_nothing_outside(id: StoreId, store: &Store) {
    let Some(worker) = &store.worker else { return };
    for (key, _) in store.rows(&KeyRange::all()) {
        let stored = flotilla_store::core::records::stored_key(&key);
        let region = worker.range_map().lookup(stored);
        assert!(region.is_some(), "s{id} holds a row of no region: {stored:?}");
    }
}

/// A restart begins behind; until then a peer's epoch never goes back.
pub fn check_epochs(world: &mut World) {
    let World { stores, history, .. } = world;
    for worker in stores.values().filter_map(|store| store.worker.as_ref()) {
        for peer in worker.regions().filter_map(|region| worker.peer(region.id)) {
            let last = history.epochs.insert(peer.id, peer.region.epoch).unwrap_or_default();
            assert!(!peer.region.epoch.is_behind(&last), "the epoch of {} went back", peer.id);
        }
    }
}

impl History {
    /// The store crashes: its peers may begin behind again, and a term that was on its way to the
    /// log was told to nobody.
    pub fn forget(&mut self, store: &Store) {
        let Some(worker) = &store.worker else { return };
        for peer in worker.regions().filter_map(|region| worker.peer(region.id)) {
            self.epochs.remove(&peer.id);
            if store.holds_log {
                self.terms.remove(&peer.id);
            }
        }
    }
}
