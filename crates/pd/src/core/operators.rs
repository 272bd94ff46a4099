//! The operators under way: at most one for each region.
//!
//! An administrator's operator replaces one of the checker's or a scheduler's, never another
//! administrator's. Soft: all are lost with leadership, and planned anew or asked for again.

use std::collections::BTreeMap;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, Millis, RegionId};

use crate::core::limits::PdLimits;
use crate::core::operator::{Operator, OperatorKind, Origin};
use crate::core::reports::{Liveness, Reports};

/// Why an operator was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// An administrator's operator is under way on the region.
    #[error("operator {0} is under way on the region; cancel it first")]
    Running(u64),
    /// Too many are under way.
    #[error("{0} operators are under way, which is the most")]
    TooMany(usize),
}

/// The operators under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operators {
    limits: PdLimits,
    by_region: BTreeMap<RegionId, Operator>,
}

impl Operators {
    /// No operators; as many may be started as `limits` say.
    pub fn new(limits: PdLimits) -> Operators {
        Operators { limits, by_region: BTreeMap::new() }
    }

    /// How many may be under way, and how long.
    pub fn limits(&self) -> &PdLimits {
        &self.limits
    }

    /// Number of operators.
    pub fn len(&self) -> usize {
        self.by_region.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_region.is_empty()
    }

    /// The region's operator.
    pub fn on(&self, region: RegionId) -> Option<&Operator> {
        self.by_region.get(&region)
    }

    /// All, by region.
    pub fn iter(&self) -> impl Iterator<Item = &Operator> {
        self.by_region.values()
    }

    /// All, by region, to be moved on.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Operator> {
        self.by_region.values_mut()
    }

    /// Adds an operator; returns the one that it replaces.
    pub fn start(&mut self, operator: Operator) -> Result<Option<Operator>, Conflict> {
        let is_admin = operator.origin == Origin::Admin;
        match self.by_region.get(&operator.region) {
            Some(running) if running.origin == Origin::Admin || !is_admin => {
                return Err(Conflict::Running(running.id));
            }
            Some(_) | None => {}
        }
        let admin_max = self.limits.admin_operators_max;
        if is_admin && self.count(Origin::Admin) >= admin_max {
            return Err(Conflict::TooMany(admin_max));
        }
        Ok(self.by_region.insert(operator.region, operator))
    }

    /// Drops the region's operator and returns it.
    pub fn finish(&mut self, region: RegionId) -> Option<Operator> {
        self.by_region.remove(&region)
    }

    /// Drops the operator with this id and returns it.
    pub fn cancel(&mut self, id: u64) -> Option<Operator> {
        let region = self.iter().find(|operator| operator.id == id)?.region;
        if planted(Mutant::CancelIdle) {
            return self.on(region).cloned();
        }
        self.finish(region)
    }

    /// Drops the operators that have taken too long or whose new peer is on a store that is down,
    /// and returns them with the reason.
    pub fn end_stuck(&mut self, reports: &Reports, now: Millis) -> Vec<(Operator, &'static str)> {
        let new_peer = |operator: &Operator| {
            let region = &reports.region(operator.region)?.region;
            operator.new_member().or_else(|| region.member(operator.new_voter()?).copied())
        };
        let is_down = |peer: Member| reports.liveness(peer.store_id, now) == Liveness::Down;
        let reason = |operator: &Operator| {
            if operator.is_expired(now, &self.limits) {
                Some("took too long")
            } else {
                new_peer(operator).is_some_and(is_down).then_some("the new peer's store is down")
            }
        };
        let stuck: Vec<(RegionId, &'static str)> =
            self.iter().filter_map(|op| Some((op.region, reason(op)?))).collect();
        let end = |(region, reason)| Some((self.finish(region)?, reason));
        stuck.into_iter().filter_map(end).collect()
    }

    /// The members that are to be added.
    pub fn additions(&self) -> impl Iterator<Item = Member> {
        self.iter().filter_map(Operator::new_member)
    }

    /// How many are under way for `origin`.
    pub fn count(&self, origin: Origin) -> usize {
        self.iter().filter(|operator| operator.origin == origin).count()
    }

    /// How many of this kind are under way to even the cluster out.
    pub fn balancing(&self, kind: OperatorKind) -> usize {
        let is_one = |op: &&Operator| op.origin == Origin::Balance && op.kind == kind;
        self.iter().filter(is_one).count()
    }

    /// Checks the invariants of every operator and of their number.
    ///
    /// # Panics
    /// If an operator is filed under another region, or more are under way than may be.
    pub fn check(&self) {
        let admin = self.count(Origin::Admin);
        let PdLimits { operators_max, admin_operators_max, .. } = self.limits;
        assert!(admin <= admin_operators_max, "{admin} operators of administrators");
        let planned = self.len() - admin;
        assert!(planned <= operators_max, "{planned} operators of checker and schedulers");
        for (region, operator) in &self.by_region {
            assert_eq!(operator.region, *region, "operator {} is misfiled", operator.id);
            operator.check();
        }
    }
}
