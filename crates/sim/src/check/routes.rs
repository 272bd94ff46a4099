//! Routes: a client does not use a route that a store has called stale.
//!
//! A store that refuses a request because its region has changed names the regions that the store
//! has now (`EpochNotMatch`, `KeyNotInRegion`). The client's next attempt at one of these regions,
//! for whichever call, must name an epoch that is not behind the one named by the store. A client
//! that ignored the store's answer would retry for free and in circles.
//!
//! Why the rule is sound: the epochs of a region only grow, and the router never replaces a region
//! by an older one, with two exceptions that this checker knows. A full cache starts afresh and
//! forgets all that stores have said. Where the client has no region, what
//! it is answered counts, older or not, and so does the placement driver's answer where the client
//! has come to distrust its region; from then on no earlier answer of a store binds the client.
//!
//! What this checker cannot see: whether the client looks up more than it must, and which store the
//! client asks.

use std::collections::BTreeMap;

use flotilla_client::core::router::Sent;
use flotilla_types::{Epoch, Region, RegionError, RegionId};

use super::{Verdict, broken};

/// The newest epochs that stores have named to each client.
#[derive(Default)]
pub struct Routes {
    told: BTreeMap<(u32, RegionId), Epoch>,
}

impl Routes {
    /// Takes note of a store's refusal that a client receives.
    pub fn told_by_store(&mut self, client: u32, refusal: &RegionError) {
        let regions = match refusal {
            RegionError::EpochNotMatch { current } => current.as_slice(),
            RegionError::KeyNotInRegion { region, .. } => std::slice::from_ref::<Region>(region),
            _ => return,
        };
        for region in regions {
            let newest = self.told.entry((client, region.id)).or_insert(region.epoch);
            if newest.is_behind(&region.epoch) {
                *newest = region.epoch;
            }
        }
    }

    /// Takes note of the placement driver's answer that a client receives, or of the regions of a
    /// store's answer of which the client has none.
    pub fn told_anew<'a>(&mut self, client: u32, regions: impl Iterator<Item = &'a Region>) {
        for region in regions {
            self.told.remove(&(client, region.id));
        }
    }

    /// Takes note that a client's cache was full and started afresh.
    pub fn forgotten(&mut self, client: u32) {
        self.told.retain(|(other, _), _| *other != client);
    }

    /// Takes note that a client drops a region whose route was wrong.
    pub fn distrusted(&mut self, client: u32, region: RegionId) {
        self.told.remove(&(client, region));
    }

    /// A client's process has begun again, with an empty router.
    pub fn reborn(&mut self, client: u32) {
        self.told.retain(|(told, _), _| *told != client);
    }

    /// Checks an attempt that a client sends.
    pub fn attempt(&self, client: u32, sent: &Sent) -> Verdict {
        match self.told.get(&(client, sent.region)) {
            Some(told) if sent.epoch.is_behind(told) => {
                let what = format!("client {client}: {sent:?}, and a store told of epoch {told}");
                broken("no attempt goes by a route that a store has called stale", what)
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::StoreId;

    fn region(version: u64) -> Region {
        let epoch = Epoch { conf_ver: 1, version };
        Region { id: RegionId(7), epoch, ..Region::default() }
    }

    fn attempt(routes: &Routes, client: u32, version: u64) -> Verdict {
        let epoch = Epoch { conf_ver: 1, version };
        routes.attempt(client, &Sent { region: RegionId(7), epoch, store: StoreId(1) })
    }

    #[test]
    fn a_stale_route_after_news_is_found() {
        let mut routes = Routes::default();
        assert!(attempt(&routes, 1, 3).is_ok());
        routes.told_by_store(1, &RegionError::EpochNotMatch { current: vec![region(4)] });
        assert!(attempt(&routes, 1, 3).is_err());
        assert!(attempt(&routes, 1, 4).is_ok());
        assert!(attempt(&routes, 2, 3).is_ok(), "another client was told nothing");
        let older = RegionError::KeyNotInRegion { key: "k".into(), region: Box::new(region(3)) };
        routes.told_by_store(1, &older);
        assert!(attempt(&routes, 1, 3).is_err(), "older news takes nothing back");
    }

    #[test]
    fn the_placement_driver_may_lead_back() {
        let mut routes = Routes::default();
        let refusal = RegionError::EpochNotMatch { current: vec![region(4)] };
        routes.told_by_store(1, &refusal);
        routes.told_anew(1, [region(3)].iter());
        assert!(attempt(&routes, 1, 3).is_ok());
        routes.told_by_store(1, &refusal);
        routes.distrusted(1, RegionId(7));
        assert!(attempt(&routes, 1, 3).is_ok());
    }
}
