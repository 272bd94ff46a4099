//! The balance scheduler: regions move from stores with many of them to stores with few, by number.
//!
//! In: the [`ClusterView`], the operators under way and those that are planned besides. Out: moves
//! of single peers, each from one store to another that holds at least [`DIFFERENCE_MIN`] regions
//! fewer.
//!
//! What is under way counts as done, on both stores, whatever part of it is done. So each move that
//! is planned makes two stores more even than they would be: the sum of the squares of the stores'
//! numbers falls with each move, no sequence of moves comes back to where it was, and planning ends
//! in a cluster in which nothing else changes.
//!
//! A region is moved only if it is as it should be and all its voters have the log: repair goes
//! first. A move never puts a peer where it shares more label values with the others than it did.
//! A store that is draining, down, removed or silent is neither a source (the checker empties it)
//! nor a target.
//!
//! Deliberately not here: size and load. Regions count alike, however large or busy they are.

use std::collections::BTreeMap;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, RegionId, StoreId};

use crate::core::account::Account;
use crate::core::check::is_as_it_should_be;
use crate::core::operator::{OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::{NEW_PEER, OperatorStep, move_steps};
use crate::core::operators::Operators;
use crate::core::place::{ClusterView, StoreHealth};
use crate::core::reports::ReportedRegion;

/// The least difference in regions between two stores that is evened out. Moving one at a
/// difference of 1 would only swap the two stores.
const DIFFERENCE_MIN: u64 = 2;

/// How many regions each store holds once all that is under way is done.
#[derive(Debug, Default)]
struct Settled(BTreeMap<StoreId, u64>);

/// Moves to start besides `planned`, at most `moves_max`.
pub(crate) fn moves(
    view: &mut ClusterView<'_>,
    operators: &Operators,
    planned: &BTreeMap<RegionId, OperatorPlan>,
    moves_max: usize,
    account: &mut Account,
) -> Vec<OperatorPlan> {
    if moves_max == 0 {
        return vec![];
    }
    let mut settled = Settled::new(view, operators, planned);
    let mut stores: Vec<StoreId> =
        view.state.stores().map(|store| store.id).filter(|id| is_target(view, *id)).collect();
    if !settled.is_uneven(&stores) {
        return vec![];
    }
    let is_free = |id: RegionId| operators.on(id).is_none() && !planned.contains_key(&id);
    let mut movable = movable(view, &is_free);
    let mut moves = vec![];
    while moves.len() < moves_max {
        stores.sort_by_key(|store| (settled.regions(*store), *store));
        let Some(plan) = next_move(view, &settled, &stores, &mut movable, account) else { break };
        view.note(&plan);
        settled.note(view, plan.region, &plan.steps);
        moves.push(plan);
    }
    moves
}

fn is_target(view: &ClusterView<'_>, store: StoreId) -> bool {
    if planted(Mutant::BalanceOntoAny) {
        return view.health(store) != StoreHealth::Removed;
    }
    view.is_target(store)
}

/// The move between the two stores that differ most, of those with a region to move. `stores` are
/// in the order of what they hold.
fn next_move(
    view: &ClusterView<'_>,
    settled: &Settled,
    stores: &[StoreId],
    movable: &mut Vec<&ReportedRegion>,
    account: &mut Account,
) -> Option<OperatorPlan> {
    for from in stores.iter().rev() {
        for to in stores {
            if settled.regions(*from) < settled.regions(*to) + difference_min() {
                break;
            }
            let (most, least) = (settled.regions(*from), settled.regions(*to));
            let between = || format!("stores {from} and {to} ({most} and {least} regions)");
            if !view.may_receive(*to) {
                let why = "receives as many peers as it may at once";
                account.reject(|| format!("{}: {to} {why}", between()));
                continue;
            }
            if let Some((at, member)) = choose(view, movable, *from, *to) {
                let region = movable.remove(at).region.id;
                account.started.push(format!("region {region}, between {}", between()));
                return Some(move_peer(region, member, *to));
            }
            let why = "is whole, free and no closer to its other peers there";
            account.reject(|| format!("{}: no region of {from} {why}", between()));
        }
    }
    None
}

fn difference_min() -> u64 {
    if planted(Mutant::RegionsSwapped) {
        return 1;
    }
    DIFFERENCE_MIN
}

fn move_peer(region: RegionId, member: Member, to: StoreId) -> OperatorPlan {
    let steps = move_steps(Member::learner(NEW_PEER, to), member.id);
    OperatorPlan { region, kind: OperatorKind::MovePeer, origin: Origin::Balance, steps }
}

/// The regions that may be moved, in key order: free, as they should be, and whole.
fn movable<'a>(
    view: &ClusterView<'a>,
    is_free: &dyn Fn(RegionId) -> bool,
) -> Vec<&'a ReportedRegion> {
    let free = view.state.regions().iter().filter(|region| is_free(region.id));
    let is_movable = |report: &&ReportedRegion| {
        let is_ready = |member: &Member| report.is_ready(member.id);
        is_as_it_should_be(view, report) && report.region.members.iter().all(is_ready)
    };
    free.filter_map(|region| view.report(region)).filter(is_movable).collect()
}

/// The place in `movable` of a region to move from one store to the other, and its member there.
/// One that the store does not lead goes first, because its leader need not move.
fn choose(
    view: &ClusterView<'_>,
    movable: &[&ReportedRegion],
    from: StoreId,
    to: StoreId,
) -> Option<(usize, Member)> {
    let fits = |(at, report): (usize, &&ReportedRegion)| {
        let member = *report.region.member_on(from)?;
        let is_elsewhere = report.region.member_on(to).is_none();
        (is_elsewhere && !crowds(view, report, &member, to)).then_some((at, member))
    };
    let mut fitting = movable.iter().enumerate().filter_map(fits);
    let first = fitting.next()?;
    let leads = |(at, member): &(usize, Member)| {
        movable.get(*at).is_some_and(|report| report.is_led_by(member.id))
    };
    if !leads(&first) {
        return Some(first);
    }
    Some(fitting.find(|found| !leads(found)).unwrap_or(first))
}

/// True if a peer on `to` would share more label values with the other peers than `member` does.
fn crowds(view: &ClusterView<'_>, report: &ReportedRegion, member: &Member, to: StoreId) -> bool {
    let staying: Vec<Member> =
        report.region.members.iter().filter(|other| other.id != member.id).copied().collect();
    let moved = Member { store_id: to, ..*member };
    view.crowding(&moved, &staying) > view.crowding(member, &staying)
}

impl Settled {
    fn new(
        view: &ClusterView<'_>,
        operators: &Operators,
        planned: &BTreeMap<RegionId, OperatorPlan>,
    ) -> Settled {
        let mut settled = Settled::default();
        for region in view.state.regions().iter() {
            let members = &view.report(region).map_or(region, |report| &report.region).members;
            members.iter().for_each(|member| *settled.of(member.store_id) += 1);
        }
        for plan in planned.values() {
            settled.note(view, plan.region, &plan.steps);
        }
        if !planted(Mutant::MovesUncounted) {
            for operator in operators.iter() {
                settled.note(view, operator.region, &operator.steps);
            }
        }
        settled
    }

    /// Counts the steps of an operator as done, except those that were done already.
    fn note(&mut self, view: &ClusterView<'_>, region: RegionId, steps: &[OperatorStep]) {
        let Some(known) = view.state.regions().region(region) else { return };
        let shape = view.report(known).map_or(known, |report| &report.region);
        for step in steps {
            let peers = step.peers();
            if let Some(added) = peers.new_member.filter(|new| shape.member(new.id).is_none()) {
                *self.of(added.store_id) += 1;
            }
            if let Some(removed) = peers.removed.and_then(|removed| shape.member(removed)) {
                let count = self.of(removed.store_id);
                *count = count.saturating_sub(1);
            }
        }
    }

    fn of(&mut self, store: StoreId) -> &mut u64 {
        self.0.entry(store).or_default()
    }

    fn regions(&self, store: StoreId) -> u64 {
        self.0.get(&store).copied().unwrap_or(0)
    }

    fn is_uneven(&self, stores: &[StoreId]) -> bool {
        let counts = || stores.iter().map(|store| self.regions(*store));
        let (Some(least), Some(most)) = (counts().min(), counts().max()) else { return false };
        most >= least + difference_min()
    }
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
