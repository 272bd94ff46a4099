//! Tombstones: a peer that was removed from a store never lives there again, and the next peer of
//! the region begins there only when the removal is durable. Otherwise a crash could bring back the
//! removed peer beside the next peer's log.
//!
//! Within one life of the process the first rule holds at once; across a crash it holds once the
//! checkpoint that covers the removal is durable.

use std::collections::BTreeMap;

use flotilla_types::{PeerId, RegionId, StoreId};

use super::{Verdict, broken};

type Removed = BTreeMap<(StoreId, RegionId), PeerId>;

/// The removed peers of all stores.
#[derive(Debug, Default)]
pub struct Tombstones {
    in_memory: Removed,
    frozen: BTreeMap<StoreId, Removed>,
    durable: Removed,
}

impl Tombstones {
    /// A store's process has started anew: only durable tombstones count.
    pub fn reborn(&mut self, store: StoreId) {
        self.in_memory.retain(|(other, _), _| *other != store);
        self.frozen.remove(&store);
    }

    /// A peer was removed, and its tombstone is written.
    pub fn written(&mut self, store: StoreId, region: RegionId, peer: PeerId) {
        self.in_memory.insert((store, region), peer);
    }

    /// A checkpoint of the store begins, and covers the tombstones written so far.
    pub fn frozen(&mut self, store: StoreId) {
        let dead = self.in_memory.iter().filter(|((other, _), _)| *other == store);
        self.frozen.insert(store, dead.map(|(key, peer)| (*key, *peer)).collect());
    }

    /// The checkpoint is durable.
    pub fn flushed(&mut self, store: StoreId) {
        self.durable.extend(self.frozen.remove(&store).unwrap_or_default());
    }

    /// True if the peer has a tombstone.
    pub fn is_dead(&self, store: StoreId, region: RegionId, peer: PeerId) -> bool {
        let key = (store, region);
        [&self.in_memory, &self.durable]
            .iter()
            .any(|dead| dead.get(&key).is_some_and(|dead| peer <= *dead))
    }

    /// Checks a peer that lives.
    pub fn lives(&self, store: StoreId, region: RegionId, peer: PeerId) -> Verdict {
        if self.is_dead(store, region, peer) {
            let what = format!("store {store}, region {region}: peer {peer} lives again");
            return broken("a removed peer never lives again", what);
        }
        let key = (store, region);
        let last = self.in_memory.get(&key);
        if last.is_some_and(|last| self.durable.get(&key).is_none_or(|dead| dead < last)) {
            let what = format!("store {store}, region {region}: peer {peer} lives after {last:?}");
            return broken("no peer begins before the end of the last one is durable", what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_lives_again_is_found_and_one_that_begins_too_soon() {
        let (store, region) = (StoreId(1), RegionId(2));
        let mut dead = Tombstones::default();
        assert!(dead.lives(store, region, PeerId(5)).is_ok());
        dead.written(store, region, PeerId(5));
        assert!(dead.lives(store, region, PeerId(5)).is_err(), "it was removed");
        assert!(dead.lives(store, region, PeerId(6)).is_err(), "that is not durable yet");
        dead.frozen(store);
        dead.flushed(store);
        dead.reborn(store);
        assert!(dead.lives(store, region, PeerId(5)).is_err());
        assert!(dead.lives(store, region, PeerId(6)).is_ok());
    }
}
