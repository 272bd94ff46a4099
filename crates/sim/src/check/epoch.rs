//! Epochs never go back: of a region on a store within one life of its process (a crash takes it
//! back to what was durable, and the log redoes the rest), and in the placement driver's range map
//! ever.

use std::collections::BTreeMap;

use flotilla_store::core::peer::Peer;
use flotilla_types::{Epoch, PeerId, RangeMap, RegionId, StoreId};

use super::{Verdict, broken};

/// The last epochs seen.
#[derive(Debug, Default)]
pub struct Epochs {
    on_stores: BTreeMap<(StoreId, RegionId, PeerId), Epoch>,
    in_pd: BTreeMap<RegionId, Epoch>,
}

impl Epochs {
    /// A store's process has begun anew.
    pub fn reborn(&mut self, store: StoreId) {
        self.on_stores.retain(|(other, _, _), _| *other != store);
    }

    /// A peer has this epoch now.
    pub fn seen(&mut self, store: StoreId, peer: &Peer) -> Verdict {
        let epoch = peer.region.epoch;
        let before = self.on_stores.insert((store, peer.region.id, peer.id), epoch);
        match before.filter(|before| epoch.is_behind(before)) {
            None => Ok(()),
            Some(before) => {
                let region = peer.region.id;
                let what = format!("store {store}, region {region}: from {before} to {epoch}");
                broken("epochs never go back on a store", what)
            }
        }
    }

    /// The placement driver knows these regions now.
    pub fn seen_in_pd(&mut self, regions: &RangeMap) -> Verdict {
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
