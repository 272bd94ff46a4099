//! What a member holds only while it leads: soft, gone with its leadership.
//!
//! Owns the reports, the operators, the ids for operators, and which regions are to be proposed for
//! the range map. Invariant: a region is proposed only after a report of it, and stays noted as
//! ahead of the range map until the range map has it or no longer admits it.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_host::core::awaited::Awaited;
use flotilla_types::region::region_bytes;
use flotilla_types::{Millis, Region, RegionId, StoreId};

use crate::core::account::SchedulerLog;
use crate::core::history::History;
use crate::core::ids::{IdBuffer, NamedIds};
use crate::core::limits::PdLimits;
use crate::core::operators::Operators;
use crate::core::records::StoreMode;
use crate::core::reports::{Liveness, Reports};
use crate::core::state::State;

/// What a leader knows and plans.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LeaderState {
    /// The Raft term in which it leads.
    pub term: u64,
    /// What stores have reported to it.
    pub reports: Reports,
    /// The operators under way.
    pub operators: Operators,
    /// The operators that have ended.
    pub history: History,
    /// What was planned lately, and why.
    pub schedulers: SchedulerLog,
    /// Ids for operators.
    pub ids: IdBuffer,
    /// Which ids stores have named as used.
    pub named_ids: NamedIds,
    /// When each member of PD was heard last.
    pub heard: BTreeMap<u64, Millis>,
    /// When to plan next; None: at the next tick.
    pub plan_at: Option<Millis>,
    /// When a store registered last; None if none has since it leads.
    pub registered_at: Option<Millis>,
    /// What the cluster waits for before it has a region.
    pub awaited: Awaited,
    /// True if some region had no known leader when it planned last, or it has not planned yet.
    pub has_leaderless: bool,
    /// Regions whose reported shape is ahead of the range map.
    ahead: BTreeSet<RegionId>,
    /// Shapes that are proposed and not applied.
    proposed: BTreeMap<RegionId, Region>,
}

impl LeaderState {
    pub(crate) fn new(
        term: u64,
        reports: Reports,
        limits: PdLimits,
        named_ids: NamedIds,
    ) -> LeaderState {
        LeaderState {
            term,
            reports,
            operators: Operators::new(limits),
            history: History::default(),
            schedulers: SchedulerLog::default(),
            ids: IdBuffer::new(limits.ids_low()),
            named_ids,
            heard: BTreeMap::new(),
            plan_at: None,
            registered_at: None,
            awaited: Awaited::default(),
            has_leaderless: true,
            ahead: BTreeSet::new(),
            proposed: BTreeMap::new(),
        }
    }

    /// True if ids from the watermark on are known to be unused: every store that is waited for,
    /// and not down, has named its own.
    pub(crate) fn may_lease_ids(&self, state: &State, now: Millis) -> bool {
        self.named_ids.may_lease(state.next_id(), |store| self.is_given_up(state, store, now))
    }

    /// The stores that no ids are leased for, until they have named their own.
    pub(crate) fn awaited_stores(&self, state: &State, now: Millis) -> Vec<StoreId> {
        self.named_ids.awaited().filter(|store| !self.is_given_up(state, *store, now)).collect()
    }

    /// True if the store is removed or down: what it names later raises the watermark then.
    fn is_given_up(&self, state: &State, store: StoreId, now: Millis) -> bool {
        let mode = state.store(store).map(|record| record.mode);
        let is_removed = mode.is_none_or(|mode| mode == StoreMode::Removed);
        is_removed || self.reports.liveness(store, now) == Liveness::Down
    }

    /// True if the next plan is due at `at` or earlier.
    pub(crate) fn plans_by(&self, at: Millis) -> bool {
        self.plan_at.is_none_or(|plan_at| plan_at <= at)
    }

    /// The next plan is due at `at`, unless it is due earlier.
    pub(crate) fn plan_no_later_than(&mut self, at: Millis) {
        self.plan_at = self.plan_at.map(|plan_at| plan_at.min(at));
    }

    /// Notes that the region's reported shape is ahead of the range map.
    pub(crate) fn note_ahead(&mut self, region: RegionId) {
        self.ahead.insert(region);
    }

    /// The shapes to propose now. `is_wanted` tells whether the range map lacks a shape and admits
    /// it; the others are forgotten. A shape that is already proposed stays noted until it is
    /// applied, in case its entry is lost.
    pub(crate) fn take_changes(&mut self, is_wanted: &dyn Fn(&Region) -> bool) -> Vec<Region> {
        let mut changes = vec![];
        let limits = self.operators.limits();
        let (regions_max, bytes_max) =
            (limits.regions_per_entry_max, limits.regions_per_entry_bytes_max);
        let mut bytes = 0;
        let LeaderState { reports, ahead, proposed, .. } = self;
        ahead.retain(|id| {
            let Some(shape) = reports.region(*id).map(|report| &report.region) else {
                return false;
            };
            if !is_wanted(shape) {
                return false;
            }
            if proposed.get(id) != Some(shape) && changes.len() < regions_max {
                bytes += region_bytes(shape);
                if changes.is_empty() || bytes <= bytes_max {
                    changes.push(shape.clone());
                }
            }
            true
        });
        changes
    }

    /// The shapes are in the log.
    pub(crate) fn note_proposed(&mut self, regions: &[Region]) {
        self.proposed.extend(regions.iter().map(|region| (region.id, region.clone())));
    }

    /// The shapes are applied.
    pub(crate) fn note_applied(&mut self, regions: &[Region]) {
        for region in regions {
            if self.proposed.get(&region.id) == Some(region) {
                self.proposed.remove(&region.id);
            }
        }
    }

    /// Checks the invariants at the end of a turn, over the regions that may have changed in it and
    /// over the operators. `watermark` is the least id that was never handed out.
    ///
    /// # Panics
    /// If an invariant does not hold; the message has the values.
    pub(crate) fn check(&self, watermark: u64) {
        self.ids.check(watermark);
        self.operators.check();
        for region in &self.ahead {
            self.reports.check(*region);
        }
        for (id, region) in &self.proposed {
            assert_eq!(region.id, *id, "a proposed shape is filed under another region");
        }
    }
}
