//! Epochs never go back. For a peer this holds within one life of its store's process (a crash
//! takes the epoch back to what was durable, and the log applies the rest again); for the placement
//! driver's range map it holds for ever.

use std::collections::BTreeMap;

use flotilla_store::core::peer::Peer;
use flotilla_types::{Epoch, PeerId, RangeMap, RegionId, StoreId};

use super::{Verdict, broken};

/// The last epoch of each peer, and of each region in the placement driver.
#[derive(Debug, Default)]
pub struct Epochs {
    on_stores: BTreeMap<(StoreId, RegionId, PeerId), Epoch>,
    in_pd: BTreeMap<RegionId, Epoch>,
    /// The greatest term in which a member of the placement driver led.
    term: u64,
}

impl Epochs {
    /// A store's process has started anew: its peers may have earlier epochs.
    pub fn reborn(&mut self, store: StoreId) {
        self.on_stores.retain(|(other, _, _), _| *other != store);
    }

    /// Checks the present epoch of a peer.
    pub fn seen(&mut self, store: StoreId, peer: &Peer) -> Verdict {
        self.seen_at((store, peer.region.id, peer.id), peer.region.epoch)
    }

    fn seen_at(&mut self, at: (StoreId, RegionId, PeerId), epoch: Epoch) -> Verdict {
        let before = self.on_stores.insert(at, epoch);
        match before.filter(|before| epoch.is_behind(before)) {
            None => Ok(()),
            Some(before) => {
                let (store, region, _) = at;
                let what = format!("store {store}, region {region}: from {before} to {epoch}");
                broken("epochs never go back on a store", what)
            }
        }
    }

    /// The placement driver was put back from an older copy: what it learned since is gone.
    pub fn put_back(&mut self) {
        self.in_pd.clear();
        self.term = 0;
    }

    /// Checks the range map of a member that leads in this term. One that was deposed and does not
    /// know it is behind, and is not looked at.
    pub fn seen_in_pd(&mut self, term: u64, regions: &RangeMap) -> Verdict {
        if term < self.term {
            return Ok(());
        }
        self.term = term;
        for region in regions.iter() {
            let before = self.in_pd.insert(region.id, region.epoch);
            if let Some(before) = before.filter(|before| region.epoch.is_behind(before)) {
                let what = format!("region {}: from {before} to {}", region.id, region.epoch);
                return broken("epochs never go back in the placement driver", what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{KeyRange, Region};

    const AT: (StoreId, RegionId, PeerId) = (StoreId(1), RegionId(2), PeerId(3));

    fn epoch(conf_ver: u64, version: u64) -> Epoch {
        Epoch { conf_ver, version }
    }

    #[test]
    fn an_epoch_that_goes_back_on_a_store_is_found() {
        let mut epochs = Epochs::default();
        assert!(epochs.seen_at(AT, epoch(3, 4)).is_ok());
        assert!(epochs.seen_at(AT, epoch(3, 5)).is_ok());
        assert!(epochs.seen_at(AT, epoch(3, 4)).is_err());
    }

    #[test]
    fn a_process_that_begins_anew_may_know_less() {
        let mut epochs = Epochs::default();
        assert!(epochs.seen_at(AT, epoch(3, 5)).is_ok());
        epochs.reborn(AT.0);
        assert!(epochs.seen_at(AT, epoch(3, 4)).is_ok());
    }

    #[test]
    fn an_epoch_that_goes_back_in_the_placement_driver_is_found() {
        let map = |epoch: Epoch| {
            let mut map = RangeMap::default();
            map.upsert(Region { id: AT.1, range: KeyRange::all(), epoch, members: vec![] });
            map
        };
        let mut epochs = Epochs::default();
        assert!(epochs.seen_in_pd(1, &map(epoch(3, 4))).is_ok());
        assert!(epochs.seen_in_pd(1, &map(epoch(4, 4))).is_ok());
        assert!(epochs.seen_in_pd(1, &map(epoch(3, 4))).is_err());
    }
}
