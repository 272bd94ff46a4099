//! The plan: which operators to start now.
//!
//! [`plan`] is a pure function. It asks the checker for every region in key order (repair, and
//! the emptying of draining stores, which is repair as well), then evens out leaders, then regions
//! (`balance`). What is under way counts as done, so that a plan repeated a
//! moment later adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PeerId, RegionId, StoreId};

use crate::core::balance;
use crate::core::check::check;
use crate::core::operator::{OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::OperatorStep;
use crate::core::operators::Operators;
use crate::core::place::{ClusterView, is_current};
use crate::core::reports::Reports;
use crate::core::state::State;

/// The least difference in leaders between two stores that is evened out. Moving one at a
/// difference of 1 would only swap the two stores.
const LEADER_DIFFERENCE_MIN: u64 = 2;

/// What came of planning.
#[derive(Debug)]
pub struct Plan {
    /// The operators to start now, by region.
    pub operators: Vec<OperatorPlan>,
    /// Stores that hold peers of regions without a known leader; those regions get no operator.
    pub leaderless: BTreeSet<StoreId>,
}

/// Plans for all regions, given what is under way.
pub fn plan(state: &State, reports: &Reports, operators: &Operators, now: Millis) -> Plan {
    let mut view = ClusterView::new(state, reports, operators, now);
    let under_way = operators.len() - operators.count(Origin::Admin);
    let limits = operators.limits();
    let mut room = limits.operators_max.saturating_sub(under_way);
    let mut plans: BTreeMap<RegionId, OperatorPlan> = BTreeMap::new();
    for (region, report) in std::mem::take(&mut view.led) {
        if room == 0 {
            break;
        }
        if operators.on(region.id).is_some() || !is_current(region, report) {
            continue;
        }
        if let Some(plan) = check(&view, report) {
            view.note(&plan);
            plans.insert(region.id, plan);
            room -= 1;
        }
    }
    let balancing = |kind| operators.balancing(kind);
    let transfers = balancing(OperatorKind::TransferLeader);
    let transfers = limits.balance_transfers_max.saturating_sub(transfers);
    count_transfers(&mut view, operators);
    for _ in 0..transfers.min(room) {
        let is_free =
            |region: RegionId| operators.on(region).is_none() && !plans.contains_key(&region);
        let Some(plan) = balance_leader(&mut view, &is_free) else { break };
        plans.insert(plan.region, plan);
        room -= 1;
    }
    let moves = limits.balance_moves_max.saturating_sub(balancing(OperatorKind::MovePeer));
    for plan in balance::moves(&mut view, operators, &plans, moves.min(room)) {
        plans.insert(plan.region, plan);
    }
    Plan { operators: plans.into_values().collect(), leaderless: view.leaderless }
}

/// Counts the transfers under way as done.
fn count_transfers(view: &mut ClusterView<'_>, operators: &Operators) {
    let is_transfer = |kind: OperatorKind| kind == OperatorKind::TransferLeader;
    for operator in operators.iter().filter(|operator| is_transfer(operator.kind)) {
        let known = view.state.regions().region(operator.region);
        let Some(report) = known.and_then(|known| view.report(known)) else { continue };
        let Some(from) = report.leader.map(|leader| leader.store_id) else { continue };
        let Some(OperatorStep::TransferLeader(to)) = operator.steps.last() else { continue };
        if let Some(to) = report.region.member(*to) {
            view.counts.note_transfer(from, to.store_id);
        }
    }
}

/// One transfer from a store with more leaders to one with fewer, the greatest difference first.
fn balance_leader(
    view: &mut ClusterView<'_>,
    is_free: &dyn Fn(RegionId) -> bool,
) -> Option<OperatorPlan> {
    let mut stores: Vec<StoreId> =
        view.state.stores().map(|store| store.id).filter(|id| view.is_target(*id)).collect();
    stores.sort_by_key(|store| (view.counts.leaders(*store), *store));
    let mut sources = stores.clone();
    sources.sort_by_key(|store| (u64::MAX - view.counts.leaders(*store), *store));
    for from in sources {
        for to in &stores {
            if view.counts.leaders(from) < view.counts.leaders(*to) + leader_difference_min() {
                break;
            }
            if let Some((region, peer)) = movable(view, from, *to, is_free) {
                view.counts.note_transfer(from, *to);
                let steps = vec![OperatorStep::TransferLeader(peer)];
                let (kind, origin) = (OperatorKind::TransferLeader, Origin::Balance);
                return Some(OperatorPlan { region, kind, origin, steps });
            }
        }
    }
    None
}

fn leader_difference_min() -> u64 {
    if planted(Mutant::LeadersSwapped) {
        return 1;
    }
    LEADER_DIFFERENCE_MIN
}

/// A region led on `from` that a voter on `to` could lead, the first in key order.
fn movable(
    view: &ClusterView<'_>,
    from: StoreId,
    to: StoreId,
    is_free: &dyn Fn(RegionId) -> bool,
) -> Option<(RegionId, PeerId)> {
    view.state
        .regions()
        .iter()
        .filter(|region| is_free(region.id))
        .filter_map(|region| view.report(region))
        .filter(|report| report.leader.is_some_and(|leader| leader.store_id == from))
        .filter(|report| !report.region.is_joint())
        .find_map(|report| {
            let voter = report.voters().find(|voter| voter.store_id == to)?;
            report.is_ready(voter.id).then_some((report.region.id, voter.id))
        })
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
