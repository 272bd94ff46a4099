//! What planning looks at, and where a new peer goes.
//!
//! A [`ClusterView`] is the state, the reports and the counts of each store at one moment,
//! operators under way included. Placement: of the stores that are up and have no peer of the
//! region, the one that shares the fewest label values with the stores of the peers that stay; then
//! the one with the fewest regions; then the one that a consistent-hash ring names first for the
//! region.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use consistent_hash_ring::{Ring, RingBuilder};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, Millis, Region, StoreId};

use crate::core::operator::OperatorPlan;
use crate::core::operators::Operators;
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::reports::{Liveness, ReportedRegion, Reports};
use crate::core::state::State;

/// Of the planted bug that takes silence for loss: as long as no link that failed for a moment.
const SILENCE_PLANTED_MS: u64 = 5_000;

/// Places of each store on the ring: with a hundred, stores' shares differ by some ten percent.
const RING_VNODES: usize = 100;

/// How far a peer can be relied on, by its store. Later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreHealth {
    /// The store is in service and not down; it may be disconnected for a while.
    Up,
    /// The store is being emptied.
    Draining,
    /// The store's last heartbeat is so old that its peers are replaced.
    Down,
    /// The store never comes back.
    Removed,
}

/// Why a store gets no new peer of a region; of several reasons the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceFilter {
    /// See [`StoreHealth::Removed`].
    #[error("it was removed")]
    Removed,
    /// See [`StoreHealth::Down`].
    #[error("it is down")]
    Down,
    /// See [`StoreHealth::Draining`].
    #[error("it is being drained")]
    Draining,
    /// See [`Liveness::Disconnected`].
    #[error("it was not heard lately")]
    Silent,
    /// A region has at most one member on a store.
    #[error("it has a peer of the region")]
    HasPeer,
}

/// The stores at one moment, and the peers that they say they have lost.
#[derive(Clone, Copy)]
pub struct StoreView<'a> {
    /// What is committed.
    pub state: &'a State,
    /// What stores have reported.
    pub reports: &'a Reports,
    /// The moment of the view.
    pub now: Millis,
    /// A store that is looked at as if it were being drained.
    leaving: Option<StoreId>,
}

impl<'a> StoreView<'a> {
    /// The stores as of `now`.
    pub fn new(state: &'a State, reports: &'a Reports, now: Millis) -> StoreView<'a> {
        StoreView { state, reports, now, leaving: None }
    }

    /// How far a peer on `store` can be relied on.
    pub fn health(&self, store: StoreId) -> StoreHealth {
        let is_down = self.reports.liveness(store, self.now) == Liveness::Down;
        match self.state.store(store).map(|record| record.mode) {
            None | Some(StoreMode::Removed) => StoreHealth::Removed,
            Some(StoreMode::Draining | StoreMode::Up) if is_down => StoreHealth::Down,
            Some(StoreMode::Draining) => StoreHealth::Draining,
            Some(StoreMode::Up) if self.leaving == Some(store) => StoreHealth::Draining,
            Some(StoreMode::Up) => StoreHealth::Up,
        }
    }

    /// True if the member's own store says that the member never lives there again. A member that
    /// its region's leader does not hear may live.
    pub fn is_lost(&self, report: &ReportedRegion, member: &Member) -> bool {
        if planted(Mutant::SilenceIsLoss) {
            let silent_since = report.unreachable.get(&member.id);
            return silent_since.is_some_and(|since| self.now.since(*since) > SILENCE_PLANTED_MS);
        }
        self.reports.is_tombstoned(report.region.id, member)
    }

    /// True if the member's store is up and has not lost it.
    pub fn is_good(&self, report: &ReportedRegion, member: &Member) -> bool {
        self.health(member.store_id) == StoreHealth::Up && !self.is_lost(report, member)
    }
}

/// All that planning looks at.
pub struct ClusterView<'a> {
    /// What is committed.
    pub state: &'a State,
    /// What stores have reported.
    pub reports: &'a Reports,
    /// The moment of the view.
    pub now: Millis,
    /// Counts by store.
    pub counts: StoreCounts,
    /// The regions with a leader on a connected store, in key order, with what the leaders last
    /// reported.
    pub led: Vec<(&'a Region, &'a ReportedRegion)>,
    /// The stores that hold peers of the other regions.
    pub leaderless: BTreeSet<StoreId>,
    voters_wanted: usize,
    additions_per_store_max: u64,
    leaving: Option<StoreId>,
    /// Made when it is asked for first: most views place nothing.
    ring: OnceCell<Ring<StoreId>>,
}

/// Counts by store, which planning moves on as it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    regions: BTreeMap<StoreId, u64>,
    leaders: BTreeMap<StoreId, u64>,
    additions: BTreeMap<StoreId, u64>,
}

impl StoreCounts {
    /// Regions that have a peer on the store.
    pub fn regions(&self, store: StoreId) -> u64 {
        self.regions.get(&store).copied().unwrap_or(0)
    }

    /// Regions that a peer on the store leads.
    pub fn leaders(&self, store: StoreId) -> u64 {
        self.leaders.get(&store).copied().unwrap_or(0)
    }

    fn additions(&self, store: StoreId) -> u64 {
        self.additions.get(&store).copied().unwrap_or(0)
    }

    /// Counts a member that is being added.
    pub fn note_addition(&mut self, member: Member) {
        *self.regions.entry(member.store_id).or_default() += 1;
        *self.additions.entry(member.store_id).or_default() += 1;
    }

    /// Counts a leadership that is being moved.
    pub fn note_transfer(&mut self, from: StoreId, to: StoreId) {
        let source = self.leaders.entry(from).or_default();
        *source = source.saturating_sub(1);
        *self.leaders.entry(to).or_default() += 1;
    }
}

/// True if a report is not behind what is committed.
pub fn is_current(known: &Region, report: &ReportedRegion) -> bool {
    !report.region.epoch.is_behind(&known.epoch)
}

impl<'a> ClusterView<'a> {
    /// The view as of `now`.
    pub fn new(
        state: &'a State,
        reports: &'a Reports,
        operators: &Operators,
        now: Millis,
    ) -> ClusterView<'a> {
        let mut counts = StoreCounts::default();
        let mut led = Vec::with_capacity(state.regions().len());
        let mut leaderless = BTreeSet::new();
        for region in state.regions().iter() {
            let stores = region.members.iter().map(|member| member.store_id);
            stores.clone().for_each(|store| *counts.regions.entry(store).or_default() += 1);
            let report = reports.connected_region(region.id, now);
            let Some((report, leader)) = report.and_then(|report| Some((report, report.leader?)))
            else {
                leaderless.extend(stores);
                continue;
            };
            *counts.leaders.entry(leader.store_id).or_default() += 1;
            led.push((region, report));
        }
        operators.additions().for_each(|member| counts.note_addition(member));
        let additions_per_store_max = operators.limits().additions_per_store_max;
        let mut view = ClusterView {
            state,
            reports,
            now,
            counts,
            led,
            leaderless,
            voters_wanted: 0,
            additions_per_store_max,
            leaving: None,
            ring: OnceCell::new(),
        };
        view.count_wanted();
        view
    }

    fn count_wanted(&mut self) {
        let is_up = |store: &&StoreRecord| self.health(store.id) == StoreHealth::Up;
        let up = self.state.stores().filter(is_up).count();
        self.voters_wanted = (self.state.replica_count() as usize).min(up);
    }

    /// The same moment as if `store` were being drained, and each store could receive any number of
    /// peers: where they go in the end.
    pub fn leaving(mut self, store: StoreId) -> ClusterView<'a> {
        self.leaving = Some(store);
        self.additions_per_store_max = u64::MAX;
        self.count_wanted();
        self
    }

    /// Takes a plan into account.
    pub fn note(&mut self, plan: &OperatorPlan) {
        if let Some(member) = plan.new_member() {
            self.counts.note_addition(member);
        }
    }

    /// The region as its leader reported it, if it may be planned for: the leader's store is
    /// connected, and the report is not behind what is committed.
    pub fn report(&self, known: &Region) -> Option<&'a ReportedRegion> {
        let report = self.reports.connected_region(known.id, self.now)?;
        is_current(known, report).then_some(report)
    }

    /// See [`StoreView::health`].
    pub fn health(&self, store: StoreId) -> StoreHealth {
        self.stores().health(store)
    }

    /// See [`StoreView::is_lost`].
    pub fn is_lost(&self, report: &ReportedRegion, member: &Member) -> bool {
        self.stores().is_lost(report, member)
    }

    /// The stores, without what takes a look at all regions.
    pub fn stores(&self) -> StoreView<'a> {
        StoreView { leaving: self.leaving, ..StoreView::new(self.state, self.reports, self.now) }
    }

    /// True if a store that is in service and not down has no peer of the region.
    pub fn has_free_store(&self, region: &Region) -> bool {
        let mut ids = self.state.stores().map(|store| store.id);
        ids.any(|id| self.health(id) == StoreHealth::Up && region.member_on(id).is_none())
    }

    /// How many voters a region can have: replica_count, or as many as there are stores for.
    pub fn voters_wanted(&self) -> usize {
        self.voters_wanted
    }

    /// True if a peer or a leader may be sent to `store`.
    pub fn is_target(&self, store: StoreId) -> bool {
        self.health(store) == StoreHealth::Up && self.reports.is_connected(store, self.now)
    }

    /// Why `store` gets no new peer of the region; None if it may have one.
    pub fn filter(&self, store: StoreId, region: &Region) -> Option<PlaceFilter> {
        match self.health(store) {
            StoreHealth::Removed => Some(PlaceFilter::Removed),
            StoreHealth::Down => Some(PlaceFilter::Down),
            StoreHealth::Draining => Some(PlaceFilter::Draining),
            StoreHealth::Up if !self.reports.is_connected(store, self.now) => {
                Some(PlaceFilter::Silent)
            }
            StoreHealth::Up => region.member_on(store).map(|_| PlaceFilter::HasPeer),
        }
    }

    /// Where a new peer of the region goes; None if no store will do, or the best one is receiving
    /// as many peers as it may. `staying` are the peers that it is to be kept apart from.
    pub fn place(&self, region: &Region, staying: &[Member]) -> Option<StoreId> {
        let best = self.best(region, staying)?;
        if planted(Mutant::AdditionsUnbounded) {
            return Some(best);
        }
        self.may_receive(best).then_some(best)
    }

    /// The store on which a new peer of the region is wanted most, whether or not it may receive
    /// one now.
    pub fn best(&self, region: &Region, staying: &[Member]) -> Option<StoreId> {
        let cost = |store: &StoreRecord| self.cost(store, staying);
        let candidates: Vec<&StoreRecord> =
            self.state.stores().filter(|store| self.filter(store.id, region).is_none()).collect();
        let least = candidates.iter().map(|store| cost(store)).min()?;
        let is_best =
            |id: &StoreId| candidates.iter().any(|store| store.id == *id && cost(store) == least);
        self.ring().replicas(region.id.0).copied().find(is_best)
    }

    /// The less the better: label values that the store shares with those of the peers that stay,
    /// then its regions.
    pub fn cost(&self, store: &StoreRecord, staying: &[Member]) -> (usize, u64) {
        (self.shared_labels(store, staying), self.counts.regions(store.id))
    }

    /// True if the store is receiving fewer peers than it may at once.
    pub fn may_receive(&self, store: StoreId) -> bool {
        self.counts.additions(store) < self.additions_per_store_max
    }

    /// All stores on a ring, so that regions without another preference spread over them, and
    /// only a part of these preferences changes when a store comes or goes.
    fn ring(&self) -> &Ring<StoreId> {
        self.ring.get_or_init(|| {
            let stores = self.state.stores().map(|store| store.id);
            RingBuilder::default().vnodes(RING_VNODES).nodes_iter(stores).build()
        })
    }

    /// How many label values the member's store shares with those of `others`.
    pub fn crowding(&self, member: &Member, others: &[Member]) -> usize {
        self.state.store(member.store_id).map_or(0, |store| self.shared_labels(store, others))
    }

    fn shared_labels(&self, store: &StoreRecord, others: &[Member]) -> usize {
        others
            .iter()
            .filter(|member| member.store_id != store.id)
            .filter_map(|member| self.state.store(member.store_id))
            .map(|other| store.shared_labels(other))
            .sum()
    }
}
