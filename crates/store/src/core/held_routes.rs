//! Which regions this store holds around a key: what a client asks while the placement driver is
//! away.
//!
//! In: a key. Out: the region that holds the key and those that follow it without a hole, each with
//! its leader as far as the peer here knows, and where the stores listen.
//!
//! Bounded by `ROUTES_MAX`, so that an answer costs less than a read of many keys. Only peers
//! with state answer: one that waits for its first snapshot does not know its region's range.
//!
//! Not here: whether what is said is still so. It is a hint; the store that serves a request checks
//! the epoch that the request names.

use flotilla_types::heartbeat::StoreAddr;
use flotilla_types::{Member, Region};

use super::addresses::Addresses;
use super::regions::Regions;

/// Regions in one answer: as many as a client asks the placement driver for.
const ROUTES_MAX: u64 = 64;

/// What a store says of the regions around a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRoutes {
    /// In key order, without holes, with their leaders; empty if the store does not hold the key.
    pub routes: Vec<(Region, Option<Member>)>,
    /// Where other stores listen.
    pub stores: Vec<StoreAddr>,
}

/// At most `limit` regions from the one that holds `key` on; 0 for as many as an answer holds.
pub fn around(regions: &Regions, addresses: &Addresses, key: &[u8], limit: u64) -> HeldRoutes {
    let max = if limit == 0 { ROUTES_MAX } else { limit.min(ROUTES_MAX) };
    let mut routes = vec![];
    let mut next = Some(key.to_vec());
    while let Some(key) = next.take().filter(|_| (routes.len() as u64) < max) {
        let held = regions.range_map().lookup(&key).and_then(|region| regions.get(region.id));
        if let Some(peer) = held.filter(|peer| peer.has_state()) {
            let end = &peer.region.range.end;
            next = (!end.is_empty()).then(|| end.to_vec());
            routes.push((peer.region.clone(), peer.leader()));
        }
    }
    HeldRoutes { routes, stores: addresses.all() }
}
