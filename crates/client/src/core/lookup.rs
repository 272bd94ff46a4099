//! When and what PD is asked about regions.
//!
//! Two kinds of questions. A *lookup* fills a hole in the cache; a part of a call waits for it.
//! Lookups are made one at a time: those that wait for their turn often find their answer in the
//! cache by then ([`Router::knows`](super::router::Router::knows)). A *refresh* replaces a region
//! whose cached form led callers astray; no call waits for it, because stores may know better and
//! PD may be away. Either kind of question then goes to stores, too: a store answers with the
//! regions that it holds around the key
//! ([`Router::absorb_held`](super::router::Router::absorb_held)).
//!
//! A third kind is asked of stores alone: whether they lead the regions of a store that answers
//! nothing ([`led_by`]).
//!
//! Not here: the question itself, and the turns of lookups, which are the driver's.

use std::collections::BTreeSet;

use bytes::Bytes;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{RegionId, StoreId};

use super::router::{Route, Router, RoutesPage};

/// A refresh that takes longer is given up: its answer would find a cache that has moved on.
pub const REFRESH_MS_MAX: u64 = 2_000;

/// Stores are asked as well once PD has not answered for this long: some round trips. PD answers
/// from memory, and a busy one is not made busier by it.
pub const STORES_AFTER_MS: u64 = 100;

/// No answer of any kind for this long while a request waits, and the other stores of its region
/// are asked whether they lead it: longer than most syncs of a log, and as long before the first
/// election that a store's silence brings about.
pub const DOUBTED_MS: u64 = 300;

/// How often they are asked: a new leader is found soon, and its store answers from memory.
pub const DOUBT_INTERVAL_MS: u64 = 50;

/// Regions that each of them is asked about at once.
pub const DOUBTED_REGIONS_MAX: u64 = 64;

/// A store that has not answered by then is passed over: it answers from memory.
pub const STORE_MS_MAX: u64 = 500;

/// Stores asked at once: as many as hold a region in most clusters.
pub const STORES_AT_ONCE: usize = 3;

/// The refreshes under way: at most one for each region, and a bounded number in all.
#[derive(Clone, Debug)]
pub struct Refreshes {
    max: usize,
    under_way: BTreeSet<RegionId>,
}

impl Refreshes {
    /// No refreshes; at most `max` will be under way at once.
    pub fn new(max: usize) -> Refreshes {
        Refreshes { max, under_way: BTreeSet::new() }
    }

    /// The key to ask PD about, or None if no question is to be asked: one about the region is
    /// under way, too many are, or the cache has forgotten the region. Call [`Refreshes::ended`]
    /// when the question has ended.
    pub fn begin(&mut self, region: RegionId, router: &Router) -> Option<Bytes> {
        if self.under_way.len() >= self.max || self.under_way.contains(&region) {
            return None;
        }
        let key = router.region(region)?.range.start.clone();
        self.under_way.insert(region);
        Some(key)
    }

    /// Notes that the question about a region was answered or given up.
    pub fn ended(&mut self, region: RegionId) {
        if planted(Mutant::RefreshNeverEnds) {
            return;
        }
        assert!(
            self.under_way.remove(&region),
            "a refresh of region {region} ended that had not begun"
        );
    }
}

/// The regions of a page that the store which gave it says it leads. What it says of others is
/// hearsay: a follower names the leader that it last heard.
pub fn led_by(store: StoreId, page: &RoutesPage) -> Vec<RegionId> {
    let is_led = |route: &&Route| route.leader.is_some_and(|leader| leader.store_id == store);
    page.routes.iter().filter(is_led).map(|route| route.region.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::REFRESHES_MAX;
    use flotilla_types::{Epoch, KeyRange, Region};

    fn router(regions: u64) -> Router {
        let key = |n: u64| Bytes::from(format!("{n:04}"));
        let route = |id: u64| Route {
            region: Region {
                id: RegionId(id),
                range: KeyRange { start: key(id), end: key(id + 1) },
                epoch: Epoch::FIRST,
                members: vec![],
            },
            leader: None,
            approximate_bytes: 0,
            approximate_keys: 0,
            load: Default::default(),
        };
        let mut router = Router::default();
        let page = RoutesPage { routes: (1..=regions).map(route).collect(), stores: vec![] };
        router.absorb_routes(page, None);
        router
    }

    #[test]
    fn a_region_is_refreshed_once_at_a_time() {
        let router = router(1);
        let mut refreshes = Refreshes::new(REFRESHES_MAX);
        assert_eq!(refreshes.begin(RegionId(1), &router), Some("0001".into()));
        assert_eq!(refreshes.begin(RegionId(1), &router), None);
        refreshes.ended(RegionId(1));
        assert!(refreshes.begin(RegionId(1), &router).is_some());
        assert_eq!(refreshes.begin(RegionId(2), &router), None, "the cache does not know it");
    }

    #[test]
    fn refreshes_are_bounded() {
        let router = router(100);
        let mut refreshes = Refreshes::new(REFRESHES_MAX);
        let begun = (1..=100).filter(|id| refreshes.begin(RegionId(*id), &router).is_some());
        assert_eq!(begun.count(), REFRESHES_MAX);
    }
}
