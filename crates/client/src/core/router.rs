//! Where requests go: the cached range map, each region's leader, the stores' addresses.
//!
//! In: routes from the placement driver ([`Router::absorb_routes`]) and from stores that were asked
//! in its place ([`Router::absorb_held`]), what stores say in their refusals
//! ([`Router::absorb_failure`]) and which of them answer ([`Router::confirm_leader`]).
//! Out: the region around a key, and the store to ask about it ([`Router::destination`]).
//!
//! The cache may be wrong at any time: the epoch travels with each request, the store checks it,
//! and its refusal repairs the cache in place. Therefore no entry expires, and PD is asked only on
//! a miss or when no store knows. The newest region by epoch wins ([`RangeMap::upsert`]), whoever
//! told of it. No region leaves the cache before another is there for its first key, unless the
//! cache is full.
//!
//! Deliberately not here: when to try again (`retry`), when to ask PD (`lookup`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_types::limits::STORED_KEY_BYTES_MAX;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{
    Epoch, KeyRange, Load, Member, MemberRole, RangeMap, Region, RegionError, RegionId, StoreId,
};

use super::failure::Failure;
use super::limits::REGIONS_CACHED_MAX;

/// One region as the placement driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The region.
    pub region: Region,
    /// Its leader, if PD knows one.
    pub leader: Option<Member>,
    /// About how many bytes it holds.
    pub approximate_bytes: u64,
    /// About how many keys it holds.
    pub approximate_keys: u64,
    /// About what clients have it do, per second.
    pub load: Load,
}

/// A page of the placement driver's range map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutesPage {
    /// In key order.
    pub routes: Vec<Route>,
    /// Where the stores named in the routes listen.
    pub stores: Vec<(StoreId, String)>,
}

/// Which store an attempt asked, and about which shape of which region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The region named.
    pub region: RegionId,
    /// The epoch named.
    pub epoch: Epoch,
    /// The store asked.
    pub store: StoreId,
}

/// Where the next attempt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What to name in the request.
    pub sent: Sent,
    /// Where the store listens.
    pub addr: Arc<str>,
}

/// What the cache lacks, for the driver to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The region that holds this key.
    Region(Bytes),
    /// The region that holds the greatest keys below this one.
    RegionBelow(Bytes),
    /// The address of a store of the region that holds the key.
    Address(StoreId, Bytes),
}

impl Miss {
    /// The key to ask the placement driver about.
    pub fn key(&self) -> Bytes {
        match self {
            Miss::Region(key) | Miss::Address(_, key) => key.clone(),
            Miss::RegionBelow(end) => key_below(end),
        }
    }
}

/// What the router learned from a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// True if the next attempt goes somewhere else than the failed one, on a store's word.
    pub is_news: bool,
    /// The store to ask next, before any other.
    pub hint: Option<StoreId>,
}

/// What earlier attempts say about where the next should go.
#[derive(Clone, Copy)]
pub struct RoutingHints<'a> {
    /// The store asked last.
    pub last: Option<StoreId>,
    /// The store to ask next, on another store's word.
    pub hint: Option<StoreId>,
    /// True for stores that do not answer at present; they are asked when there is no other.
    pub avoid: &'a dyn Fn(StoreId) -> bool,
}

/// The cache. See the module's header.
#[derive(Clone, Debug)]
pub struct Router {
    regions_max: usize,
    /// How often the cache was full and started afresh.
    restarts: u64,
    map: RangeMap,
    leaders: BTreeMap<RegionId, StoreId>,
    addrs: BTreeMap<StoreId, Arc<str>>,
    /// Which of all answers was the last of each store.
    heard: BTreeMap<StoreId, u64>,
    answers: u64,
}

impl Default for Router {
    fn default() -> Router {
        Router::new(REGIONS_CACHED_MAX)
    }
}

impl Router {
    /// An empty cache of at most `regions_max` regions.
    pub fn new(regions_max: usize) -> Router {
        Router {
            regions_max,
            restarts: 0,
            map: RangeMap::default(),
            leaders: BTreeMap::new(),
            addrs: BTreeMap::new(),
            heard: BTreeMap::new(),
            answers: 0,
        }
    }

    /// How often the cache was full and started afresh: what stores had said was forgotten then.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// The region holding the stored key `key`, or None if the cache has a hole there. O(log n).
    pub fn region_at(&self, key: &[u8]) -> Option<&Region> {
        self.map.lookup(key)
    }

    /// The region holding the greatest stored keys below `end`, or None if the cache has a hole
    /// there. O(log n).
    pub fn region_below(&self, end: &[u8]) -> Option<&Region> {
        self.map.lookup_below(end)
    }

    /// The region with this id.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.map.region(id)
    }

    /// True if the cache now has what was missing.
    pub fn knows(&self, miss: &Miss) -> bool {
        match miss {
            Miss::Region(key) => self.region_at(key).is_some(),
            Miss::RegionBelow(end) => self.region_below(end).is_some(),
            Miss::Address(store, _) => self.addrs.contains_key(store),
        }
    }

    /// The store to ask about `region`: the hinted one; else the known leader; else the next voter
    /// after the one asked last, those that do not answer coming last.
    pub fn destination(
        &self,
        region: &Region,
        hints: &RoutingHints<'_>,
    ) -> Result<Destination, Miss> {
        let chosen = hints.hint.or_else(|| self.leader_to_ask(region.id, hints));
        let store = match chosen.or_else(|| next_voter(region, hints)) {
            Some(store) => store,
            // A region without voters is no region; PD must know a better one.
            None => return Err(Miss::Region(region.range.start.clone())),
        };
        match self.addrs.get(&store) {
            Some(addr) => Ok(Destination {
                sent: Sent { region: region.id, epoch: region.epoch, store },
                addr: addr.clone(),
            }),
            None => Err(Miss::Address(store, region.range.start.clone())),
        }
    }

    fn leader_to_ask(&self, region: RegionId, hints: &RoutingHints<'_>) -> Option<StoreId> {
        self.leaders.get(&region).copied().filter(|leader| !(hints.avoid)(*leader))
    }

    /// Takes over a page from PD. `distrusted` names a region whose cached form led astray. What
    /// the page has in its place counts, older or not, because PD may know that the region is gone
    /// although no newer epoch says so; where the page has nothing, the region stays.
    pub fn absorb_routes(&mut self, mut page: RoutesPage, distrusted: Option<RegionId>) {
        if let Some(doubtful) = distrusted.and_then(|id| self.map.remove(id)) {
            self.leaders.remove(&doubtful.id);
            let start = &doubtful.range.start;
            let in_place = page.routes.iter().find(|route| route.region.range.contains(start));
            let is_replaced = in_place.is_some_and(|route| self.insert(route.region.clone()));
            if !is_replaced && !planted(Mutant::RouteDropped) {
                // A page that tells of a part of its range only would leave the rest without a
                // route.
                let is_apart =
                    |route: &Route| route.region.range.intersect(&doubtful.range).is_empty();
                page.routes.retain(is_apart);
                self.insert(doubtful);
            }
        }
        self.absorb_page(page);
    }

    fn absorb_page(&mut self, page: RoutesPage) {
        for (store, addr) in page.stores {
            self.addrs.insert(store, addr.into());
        }
        // The region that was asked for comes first, and the rest of the page must not drive it
        // out.
        let routes = page.routes.get(..self.regions_max).unwrap_or(&page.routes);
        let is_new = |route: &&Route| self.map.region(route.region.id).is_none();
        let new = routes.iter().filter(is_new).count();
        if !planted(Mutant::PageDrivesOut) {
            self.make_room_for_page(new, &page.routes);
        }
        for (at, route) in page.routes.into_iter().take(self.regions_max).enumerate() {
            let is_known = self.map.region(route.region.id).is_some();
            let is_room = at == 0 || is_known || self.map.len() < self.regions_max;
            if (!is_room && !planted(Mutant::PageDrivesOut)) || self.would_uncover(&route.region) {
                continue;
            }
            let id = route.region.id;
            let known = self.map.region(id).map(|region| region.epoch);
            let news = known.is_none_or(|known| known.is_behind(&route.region.epoch));
            if !self.insert(route.region) {
                continue;
            }
            // What stores said about a region's leader is fresher than what PD knows, unless the
            // region itself is news.
            if let Some(leader) = route.leader.filter(|_| news || !self.leaders.contains_key(&id)) {
                self.leaders.insert(id, leader.store_id);
            }
        }
    }

    /// True if the cache would have no region any more for the first key of another that `new`
    /// takes the place of. Whoever is asked by the older one tells of all that has come of it.
    fn would_uncover(&self, new: &Region) -> bool {
        let is_lost = |old: &Region| old.id != new.id && !new.range.contains(&old.range.start);
        self.map.overlapping(&new.range).any(is_lost)
    }

    /// Takes over what `store` holds around a key. A store may be behind, so that its answer counts
    /// for no more than the epochs in it.
    pub fn absorb_held(&mut self, store: StoreId, page: RoutesPage) {
        if planted(Mutant::OlderHintWins) {
            for route in &page.routes {
                self.map.remove(route.region.id);
            }
        }
        self.note_heard(store);
        self.absorb_page(page);
    }

    /// The stores to ask about the region that holds `key`, best first: those that hold what the
    /// cache has there or just below it, for both parts of a split are on the same stores; then
    /// those heard last.
    pub fn stores_to_ask(&self, key: &[u8]) -> Vec<(StoreId, Arc<str>)> {
        let near = [self.map.lookup(key), self.map.lookup_below(key).filter(|_| !key.is_empty())];
        let near: Vec<StoreId> = near.into_iter().flatten().flat_map(voters).collect();
        let mut stores: Vec<StoreId> = self.addrs.keys().copied().collect();
        stores.sort_by_key(|store| {
            let heard = self.heard.get(store).copied().unwrap_or_default();
            (!near.contains(store), std::cmp::Reverse(heard), *store)
        });
        let addr = |store: StoreId| Some((store, self.addrs.get(&store)?.clone()));
        stores.into_iter().filter_map(addr).collect()
    }

    /// The other stores of a region, and the first key of it: for who doubts that `store` answers.
    pub fn stores_beside(&self, region: RegionId, store: StoreId) -> (Bytes, Vec<Arc<str>>) {
        let Some(region) = self.map.region(region) else { return Default::default() };
        let others = voters(region).filter(|other| *other != store);
        let addrs = others.filter_map(|other| self.addrs.get(&other).cloned()).collect();
        (region.range.start.clone(), addrs)
    }

    /// Notes that a store says of itself that it leads a region.
    pub fn leads(&mut self, region: RegionId, store: StoreId) {
        let holds = |known: &Region| voters(known).any(|voter| voter == store);
        if self.map.region(region).is_some_and(holds) {
            self.leaders.insert(region, store);
        }
    }

    /// Notes that a store answered.
    fn note_heard(&mut self, store: StoreId) {
        self.answers += 1;
        self.heard.insert(store, self.answers);
    }

    /// Learns from a failed attempt.
    pub fn absorb_failure(&mut self, sent: &Sent, failure: &Failure) -> Learned {
        let Failure::Region(error) = failure else {
            self.forget_leader(sent);
            return Learned::default();
        };
        self.note_heard(sent.store);
        match &**error {
            RegionError::NotLeader { leader, .. } => self.absorb_hint(sent, *leader),
            RegionError::EpochNotMatch { current } => self.absorb_regions(sent, current),
            RegionError::KeyNotInRegion { region, .. } => {
                self.absorb_regions(sent, std::slice::from_ref::<Region>(region))
            }
            RegionError::RegionNotFound { .. } => {
                self.forget_leader(sent);
                Learned::default()
            }
            RegionError::WrongDestination { .. } => {
                self.forget_leader(sent);
                self.addrs.remove(&sent.store);
                Learned::default()
            }
            // A leader that refuses a request is still the leader.
            RegionError::ServerBusy { .. }
            | RegionError::LimitExceeded { .. }
            | RegionError::Unsupported { .. }
            | RegionError::DeadlineExceeded { .. } => Learned::default(),
            RegionError::Undetermined { .. } => {
                self.forget_leader(sent);
                Learned::default()
            }
        }
    }

    /// Notes that a store answered for a region, and so leads it. True if that was news.
    pub fn confirm_leader(&mut self, sent: &Sent) -> bool {
        self.note_heard(sent.store);
        let known = self.map.region(sent.region).is_some();
        known && self.leaders.insert(sent.region, sent.store) != Some(sent.store)
    }

    /// True if `store` is the leader on record.
    pub fn is_leader(&self, sent: &Sent) -> bool {
        self.leaders.get(&sent.region) == Some(&sent.store)
    }

    /// True if there is something better to ask about `key` than the region `doubtful` as of
    /// `epoch`, which led astray: another region, a newer shape of it, or a leader of it.
    pub fn has_better(&self, key: &[u8], doubtful: RegionId, epoch: Epoch) -> bool {
        let is_newer = |held: &Region| held.id != doubtful || epoch.is_behind(&held.epoch);
        self.region_at(key).is_some_and(is_newer) || self.leaders.contains_key(&doubtful)
    }

    /// True if the region that the request went to has no voter elsewhere, as far as is known.
    pub fn has_no_other(&self, sent: &Sent) -> bool {
        let region = self.map.region(sent.region);
        region.is_some_and(|region| voters(region).all(|store| store == sent.store))
    }

    /// A store that names itself as the leader gives no hint.
    fn absorb_hint(&mut self, sent: &Sent, leader: Option<Member>) -> Learned {
        match leader.map(|peer| peer.store_id).filter(|store| *store != sent.store) {
            Some(store) => {
                self.leaders.insert(sent.region, store);
                Learned { is_news: true, hint: Some(store) }
            }
            None => {
                self.forget_leader(sent);
                Learned::default()
            }
        }
    }

    /// News is a region that the request did not know. A store that is itself behind has none, and
    /// another is asked.
    fn absorb_regions(&mut self, sent: &Sent, regions: &[Region]) -> Learned {
        if planted(Mutant::StaleRouteKept) {
            return Learned { is_news: true, hint: None };
        }
        let mut is_news = false;
        for region in regions {
            let is_old = region.id == sent.region && !sent.epoch.is_behind(&region.epoch);
            is_news |= self.insert(region.clone()) && !is_old;
        }
        if !is_news {
            self.forget_leader(sent);
        }
        Learned { is_news, hint: None }
    }

    /// Forgets the store that was asked as the leader. A leader that another call has learned of
    /// meanwhile stays.
    fn forget_leader(&mut self, sent: &Sent) {
        if self.is_leader(sent) {
            self.leaders.remove(&sent.region);
        }
    }

    fn insert(&mut self, region: Region) -> bool {
        if region.range.is_empty() {
            return false;
        }
        if planted(Mutant::OlderRouteWins) {
            self.map.remove(region.id);
        }
        // Nothing makes room for what is not taken.
        if !self.map.takes(&region) {
            return false;
        }
        self.make_room(usize::from(self.map.region(region.id).is_none()));
        self.map.upsert(region)
    }

    /// As [`Router::make_room`], but keeps what the cache has in the place of the page's first
    /// region: a store that is behind must not be believed because the cache is full.
    fn make_room_for_page(&mut self, regions: usize, page: &[Route]) {
        let Some(asked_for) = page.first().map(|route| &route.region) else { return };
        let in_place = self.map.overlapping(&asked_for.range).chain(self.map.region(asked_for.id));
        let in_place: Vec<Region> = in_place.cloned().collect();
        let restarts = self.restarts;
        self.make_room(regions);
        if self.restarts > restarts {
            for region in in_place {
                self.map.upsert(region);
            }
        }
    }

    /// Starts afresh if the cache cannot hold so many regions more.
    fn make_room(&mut self, regions: usize) {
        if !self.map.is_empty() && self.map.len() + regions > self.regions_max {
            self.restarts += 1;
            self.map = RangeMap::default();
            self.leaders.clear();
        }
    }
}

/// The stores of the members that may lead.
fn voters(region: &Region) -> impl Iterator<Item = StoreId> {
    let voters = region.members.iter().filter(|member| member.role != MemberRole::Learner);
    voters.map(|member| member.store_id)
}

fn next_voter(region: &Region, hints: &RoutingHints<'_>) -> Option<StoreId> {
    let voters = || voters(region);
    let after_last = match hints.last {
        Some(last) => voters().position(|store| store == last).map_or(0, |at| at + 1),
        None => 0,
    };
    let in_turn = || voters().skip(after_last).chain(voters().take(after_last));
    in_turn().find(|store| !(hints.avoid)(*store)).or_else(|| in_turn().next())
}

/// The greatest key that a store can hold below `end` (empty: +infinity). No byte string is *the*
/// predecessor of another, but with a greatest length there is one, and PD is asked by key.
pub fn key_below(end: &[u8]) -> Bytes {
    let Some((last, front)) = end.split_last() else {
        return Bytes::from(vec![0xff; STORED_KEY_BYTES_MAX]);
    };
    let mut key = BytesMut::with_capacity(STORED_KEY_BYTES_MAX);
    key.put_slice(front);
    if let Some(less) = last.checked_sub(1) {
        key.put_u8(less);
        key.put_bytes(0xff, STORED_KEY_BYTES_MAX.saturating_sub(end.len()));
    }
    key.freeze()
}

/// The part of `wanted` that lies in `region`.
pub fn clip(wanted: &KeyRange, region: &Region) -> KeyRange {
    wanted.intersect(&region.range)
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
