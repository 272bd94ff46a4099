//! What a client's calls share, and how its core sees the world.

use std::collections::BTreeSet;

use bytes::Bytes;
use flotilla_client::core::attempt::RetryContext;
use flotilla_client::core::budget::Budget;
use flotilla_client::core::context::ClientContext;
use flotilla_client::core::limits::ClientLimits;
use flotilla_client::core::lookup::Refreshes;
use flotilla_client::core::router::{Router, Sent};
use flotilla_types::dice::Dice;
use flotilla_types::{Millis, RegionId, StoreId};

/// The state that the driver keeps behind locks.
pub struct State {
    /// The client's bounds.
    pub limits: ClientLimits,
    /// The cached range map.
    pub router: Router,
    /// The refreshes under way.
    pub refreshes: Refreshes,
    /// Refreshes whose questions are under way.
    pub asked: BTreeSet<RegionId>,
    /// A region that led astray and that nobody asks about.
    pub neglected: Option<RegionId>,
    /// How often the cached range map had started afresh when it was last asked.
    restarts: u64,
    budget: Budget,
    dice: Dice,
    /// Refreshes that have begun and whose questions are not sent yet.
    to_ask: Vec<(RegionId, Bytes)>,
}

impl State {
    /// That of a client that knows nothing yet.
    pub fn new(seed: u64, now: Millis, limits: ClientLimits) -> State {
        State {
            limits,
            router: Router::new(limits.regions_cached_max),
            refreshes: Refreshes::new(limits.refreshes_max),
            asked: BTreeSet::new(),
            neglected: None,
            restarts: 0,
            budget: Budget::new(now, limits.budget_tokens_max),
            dice: Dice::new(seed),
            to_ask: vec![],
        }
    }

    /// True if the cached range map was full and started afresh since this was last asked.
    pub fn has_started_afresh(&mut self) -> bool {
        let restarts = self.router.restarts();
        restarts > std::mem::replace(&mut self.restarts, restarts)
    }

    /// As a call sees it now. Stores in `avoid` do not answer at present.
    pub fn context<'a>(&'a mut self, now: Millis, avoid: &'a [StoreId]) -> SimContext<'a> {
        SimContext { now, state: self, avoid }
    }

    /// The questions of refreshes that have begun since this was last asked.
    pub fn take_questions(&mut self) -> Vec<(RegionId, Bytes)> {
        std::mem::take(&mut self.to_ask)
    }
}

/// One look at the state.
pub struct SimContext<'a> {
    now: Millis,
    state: &'a mut State,
    avoid: &'a [StoreId],
}

impl ClientContext for SimContext<'_> {
    fn now(&self) -> Millis {
        self.now
    }

    fn route<T>(&self, ask: impl FnOnce(&Router, &dyn Fn(StoreId) -> bool) -> T) -> T {
        ask(&self.state.router, &|store| self.avoid.contains(&store))
    }

    fn retry<T>(&mut self, judge: impl FnOnce(&mut RetryContext<'_>) -> T) -> T {
        judge(&mut RetryContext {
            now: self.now,
            router: &mut self.state.router,
            budget: &mut self.state.budget,
            dice: &mut self.state.dice,
        })
    }

    fn succeeded(&mut self, sent: &Sent) {
        self.state.budget.succeeded();
        self.state.router.confirm_leader(sent);
    }

    fn refresh(&mut self, region: RegionId) {
        let State { router, refreshes, asked, to_ask, neglected, limits, .. } = &mut *self.state;
        match refreshes.begin(region, router) {
            Some(key) => {
                asked.insert(region);
                to_ask.push((region, key));
            }
            None => {
                let may_be_asked = asked.len() < limits.refreshes_max && !asked.contains(&region);
                if may_be_asked && router.region(region).is_some() {
                    *neglected = Some(region);
                }
            }
        }
    }

    /// Counted for users only.
    fn refused_busy(&mut self) {}
}
