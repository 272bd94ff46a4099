//! The plan: which operators to start now.
//!
//! [`plan`] is a pure function. It asks the checker for every region in key order (repair, and
//! the emptying of draining stores, which is repair as well), then evens out leaders, then regions
//! (`balance`). What is under way counts as done, so that a plan repeated a
//! moment later adds nothing. Each of the three gives an [`Account`] of what it decided and what
//! it rejected.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PeerId, RegionId, StoreId};

use crate::core::account::{Account, Scheduler};
use crate::core::balance;
use crate::core::check::{Checked, check};
use crate::core::operator::{OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::OperatorStep;
use crate::core::operators::Operators;
use crate::core::place::{ClusterView, is_current};
use crate::core::reports::Reports;
use crate::core::state::State;
use crate::core::verdicts::refusals;

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
    /// What each scheduler decided, in the order in which they plan.
    pub accounts: Vec<Account>,
}

/// Plans for all regions, given what is under way.
pub fn plan(state: &State, reports: &Reports, operators: &Operators, now: Millis) -> Plan {
    let mut draft = Draft {
        view: ClusterView::new(state, reports, operators, now),
        operators,
        room: operators
            .limits()
            .operators_max
            .saturating_sub(operators.len() - operators.count(Origin::Admin)),
        plans: BTreeMap::new(),
    };
    let accounts = Scheduler::ALL.map(|scheduler| match scheduler {
        Scheduler::Repair => repair(&mut draft),
        Scheduler::BalanceLeaders => balance_leaders(&mut draft),
        Scheduler::BalanceReplicas => balance_replicas(&mut draft),
    });
    let Draft { plans, view, .. } = draft;
    let (operators, accounts) = (plans.into_values().collect(), accounts.to_vec());
    Plan { operators, leaderless: view.leaderless, accounts }
}

/// What is planned so far.
struct Draft<'a> {
    view: ClusterView<'a>,
    operators: &'a Operators,
    /// Operators that may be started besides.
    room: usize,
    plans: BTreeMap<RegionId, OperatorPlan>,
}

/// What single regions need, in key order.
fn repair(draft: &mut Draft<'_>) -> Account {
    let mut account = Account::new(Scheduler::Repair, draft.operators.count(Origin::Repair));
    for (region, report) in std::mem::take(&mut draft.view.led) {
        if draft.room == 0 {
            account.reject(|| "as many operators are under way as may be".into());
            break;
        }
        if draft.operators.on(region.id).is_some() || !is_current(region, report) {
            continue;
        }
        match check(&draft.view, report) {
            Checked::Whole | Checked::Changing => {}
            Checked::Stuck => account.reject(|| {
                format!("region {}: {}", region.id, refusals(&draft.view, &report.region))
            }),
            Checked::Needs(plan) => {
                account.started.push(told(&draft.view, &plan));
                draft.view.note(&plan);
                draft.plans.insert(region.id, plan);
                draft.room -= 1;
            }
        }
    }
    account
}

/// A plan for people, with the scores of the store that receives a peer.
fn told(view: &ClusterView<'_>, plan: &OperatorPlan) -> String {
    let steps: Vec<String> = plan.steps.iter().map(OperatorStep::describe).collect();
    let steps = steps.join(", then ");
    match plan.new_member() {
        None => format!("region {}: {steps}", plan.region),
        Some(new) => {
            let regions = view.counts.regions(new.store_id);
            let steps = format!("a peer on store {}, which has {regions} regions", new.store_id);
            format!("region {}: {steps}", plan.region)
        }
    }
}

fn balance_leaders(draft: &mut Draft<'_>) -> Account {
    let kind = OperatorKind::TransferLeader;
    let under_way = draft.operators.balancing(kind);
    let mut account = Account::new(Scheduler::BalanceLeaders, under_way);
    let most = draft.operators.limits().balance_transfers_max.saturating_sub(under_way);
    count_transfers(&mut draft.view, draft.operators);
    for _ in 0..most.min(draft.room) {
        let (operators, plans) = (draft.operators, &draft.plans);
        let is_free =
            |region: RegionId| operators.on(region).is_none() && !plans.contains_key(&region);
        let Some(plan) = balance_leader(&mut draft.view, &is_free, &mut account) else { break };
        draft.plans.insert(plan.region, plan);
        draft.room -= 1;
    }
    account
}

fn balance_replicas(draft: &mut Draft<'_>) -> Account {
    let under_way = draft.operators.balancing(OperatorKind::MovePeer);
    let mut account = Account::new(Scheduler::BalanceReplicas, under_way);
    let most = draft.operators.limits().balance_moves_max.saturating_sub(under_way);
    let most = most.min(draft.room);
    let moves = balance::moves(&mut draft.view, draft.operators, &draft.plans, most, &mut account);
    draft.plans.extend(moves.into_iter().map(|plan| (plan.region, plan)));
    account
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
    account: &mut Account,
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
            let (most, least) = (view.counts.leaders(from), view.counts.leaders(*to));
            if let Some((region, peer)) = movable(view, from, *to, is_free) {
                account.started.push(format!(
                    "region {region}: its leader from store {from} ({most} leaders) to store {to} \
                     ({least})"
                ));
                view.counts.note_transfer(from, *to);
                let steps = vec![OperatorStep::TransferLeader(peer)];
                let (kind, origin) = (OperatorKind::TransferLeader, Origin::Balance);
                return Some(OperatorPlan { region, kind, origin, steps });
            }
            account.reject(|| {
                format!(
                    "stores {from} and {to} ({most} and {least} leaders): no region led on {from} \
                     is free and has a voter on {to} with the log"
                )
            });
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
