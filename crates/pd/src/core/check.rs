//! The checker: what a region needs to be as it should be.
//!
//! In: one region's report and the [`ClusterView`]. Out: at most one [`OperatorPlan`]; the next one
//! follows when it is done and the region has been reported anew. The checker looks at the present
//! alone, so a region that an operator left half done (its PD leader failed) looks like any other.
//!
//! A voter is to be replaced if its store is draining, down or removed, or if its store is heard
//! and says itself that the peer never lives there again ([`StoreHeartbeat::tombstoned`]). Silence
//! towards the region's leader is no proof of loss: a link may be cut, and the voter may be one of
//! those that keep the region alive. So a voter that is only silent stays.
//!
//! In this order:
//!
//! 1. A learner left over takes the place of a voter that is to be replaced, or is promoted if a
//!    voter is missing. It is removed if none is missing, if its store is not up or has lost it, or
//!    if it has been unreachable for [`UNREACHABLE_LEARNER_MS`].
//! 2. A voter that is to be replaced is replaced: a learner is added on another store, and one
//!    joint change lets the learner vote instead of the voter ([`OperatorStep::Replace`]). If no
//!    voter is to be replaced and one is missing, one is added.
//! 3. A voter too many is removed: the one on the worst store.
//! 4. A voter goes without a replacement in two cases more. (a) Its store says that it is lost for
//!    good, and there is no other store for a replacement, because a region has at most one member
//!    on a store and so the store itself can only take the new one once the lost one is gone. The
//!    other voters must all answer and have the log. (b) Its store was removed, the number of
//!    voters is even, and as many good voters as wanted remain.
//!
//! While there are not enough other stores for a replacement, a voter on a draining or down store
//! stays where it is: it may come back, and its removal would make nothing safer.
//!
//! Why no change that is planned here costs a region its quorum, whatever is not known yet, and
//! even if the plan is dropped while its entry stands in a leader's log: let `n` voters have a live
//! majority.
//!
//! * A replacement keeps `n`, and a live voter takes the place of another.
//! * A removal from an even `n` lowers the majority with the number of voters.
//! * A removal of a lost voter lowers the number of voters, and not the number of live ones.
//! * Only a removal of one voter too many from an odd `n` counts on what the leader knows. That
//!   takes `replica_count + 2` voters, which an administrator has added.
//!
//! Invariant: a region that is as it should be gets no plan, and a plan leads to a region for which
//! the opposite plan does not arise. So plans do not chase each other.

#[cfg(doc)]
use flotilla_types::heartbeat::StoreHeartbeat;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, MemberRole, PeerId};

use crate::core::operator::{Operator, OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::{NEW_PEER, OperatorStep, move_steps, replacement};
use crate::core::place::{ClusterView, StoreHealth, StoreView};
use crate::core::reports::ReportedRegion;

/// How long a learner without operator may be unreachable before it is removed. A learner that is
/// receiving a snapshot is unreachable too.
pub const UNREACHABLE_LEARNER_MS: u64 = 60_000;

/// What the checker finds of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is as it should be.
    Whole,
    /// A joint change of its members is under way.
    Changing,
    /// This is to be done.
    Needs(OperatorPlan),
    /// It is not as it should be, and nothing can be done for it now.
    Stuck,
}

/// What the region needs now.
pub fn check(view: &ClusterView<'_>, report: &ReportedRegion) -> Checked {
    if report.region.is_joint() {
        return Checked::Changing;
    }
    if is_as_it_should_be(view, report) {
        // As nearly all regions are whenever they are looked at.
        return Checked::Whole;
    }
    need(view, report).map_or(Checked::Stuck, Checked::Needs)
}

/// What is to be done with a region that is not as it should be; None if nothing can be done now.
fn need(view: &ClusterView<'_>, report: &ReportedRegion) -> Option<OperatorPlan> {
    let members = &report.region.members;
    let wanted = view.voters_wanted();
    let good = good_voters(view, report);
    if let Some(learner) = members.iter().find(|member| member.role == MemberRole::Learner) {
        let is_needed = good.len() < wanted;
        return Some(use_or_remove(view, report, learner, is_needed));
    }
    if good.len() < wanted {
        let addition = add_replica(view, report, &good);
        if addition.is_some() {
            return addition;
        }
    }
    remove_extra(view, report, &good)
}

/// True if the region has the voters that it is to have, all of them good, and no other member.
pub(crate) fn is_as_it_should_be(view: &ClusterView<'_>, report: &ReportedRegion) -> bool {
    let members = &report.region.members;
    !report.region.is_joint()
        && members.len() == view.voters_wanted()
        && members.iter().all(|member| is_good_voter(view, report, member))
}

/// The voters that stay where they are.
pub(crate) fn good_voters(view: &ClusterView<'_>, report: &ReportedRegion) -> Vec<Member> {
    let is_good_voter = |member: &&Member| is_good_voter(view, report, member);
    report.region.members.iter().filter(is_good_voter).copied().collect()
}

fn is_good_voter(view: &ClusterView<'_>, report: &ReportedRegion, member: &Member) -> bool {
    member.role == MemberRole::Voter && is_good(view, report, member)
}

fn is_good(view: &ClusterView<'_>, report: &ReportedRegion, member: &Member) -> bool {
    view.stores().is_good(report, member)
}

/// True if a change that [`check`] planned must not be made any more. Either the voter that it
/// takes the vote from is good after all: its store was heard again, or is drained no more. Or a
/// learner was to be removed, and has become a voter meanwhile, by an entry of an operator that has
/// ended.
pub fn is_regretted(view: StoreView<'_>, report: &ReportedRegion, operator: &Operator) -> bool {
    if planted(Mutant::RegretIgnored) {
        return false;
    }
    if operator.origin != Origin::Repair {
        return false;
    }
    let Some(voter) = operator.outgoing().and_then(|id| report.region.member(id)) else {
        return false;
    };
    let has_spare = report.voters().count() > view.state.replica_count() as usize;
    let is_replaced = operator.new_voter().is_some();
    let has_reason = is_replaced || goes_alone(view, report, voter);
    voter.role == MemberRole::Voter && !has_spare && (view.is_good(report, voter) || !has_reason)
}

fn repair(report: &ReportedRegion, kind: OperatorKind, steps: Vec<OperatorStep>) -> OperatorPlan {
    OperatorPlan { region: report.region.id, kind, origin: Origin::Repair, steps }
}

fn use_or_remove(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    learner: &Member,
    is_needed: bool,
) -> OperatorPlan {
    let since = report.unreachable.get(&learner.id);
    let is_silent = since.is_some_and(|since| view.now.since(*since) > UNREACHABLE_LEARNER_MS);
    if !is_needed || is_silent || !is_good(view, report, learner) {
        return repair(report, OperatorKind::RemovePeer, vec![OperatorStep::Remove(learner.id)]);
    }
    match outgoing(view, report) {
        Some(removed) => {
            let steps = replacement(learner.id, removed.id);
            repair(report, OperatorKind::MovePeer, steps.into())
        }
        None => repair(report, OperatorKind::Promote, vec![OperatorStep::Promote(learner.id)]),
    }
}

/// The voter to replace, if one is to be replaced: a lost one before all others.
fn outgoing(view: &ClusterView<'_>, report: &ReportedRegion) -> Option<Member> {
    let voters: Vec<Member> = report.voters().copied().collect();
    let outgoing = voters.iter().filter(|voter| !is_good(view, report, voter));
    outgoing.max_by_key(|voter| badness(view, report, voter, &voters)).copied()
}

fn add_replica(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    good: &[Member],
) -> Option<OperatorPlan> {
    let store = view.place(&report.region, good)?;
    let learner = Member::learner(NEW_PEER, store);
    let Some(removed) = outgoing(view, report) else {
        let steps = vec![OperatorStep::AddLearner(learner), OperatorStep::Promote(NEW_PEER)];
        return Some(repair(report, OperatorKind::AddPeer, steps));
    };
    Some(repair(report, OperatorKind::MovePeer, move_steps(learner, removed.id)))
}

fn remove_extra(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    good: &[Member],
) -> Option<OperatorPlan> {
    let worst = worst_voter(view, report)?;
    if !is_removable(view, report, (&worst, good)) {
        return None;
    }
    let mut steps = vec![];
    if report.is_led_by(worst.id) {
        let target = transfer_target(view, report, worst.id)?;
        steps.push(OperatorStep::TransferLeader(target));
    }
    steps.push(OperatorStep::Remove(worst.id));
    Some(repair(report, OperatorKind::RemovePeer, steps))
}

/// True if the worst voter may go without a replacement.
fn is_removable(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    (worst, good): (&Member, &[Member]),
) -> bool {
    let replica_count = view.state.replica_count() as usize;
    let voters = report.voters().count();
    if voters > replica_count {
        return good.len() >= replica_count;
    }
    if planted(Mutant::RemoveUnreplaced) && !is_good(view, report, worst) {
        return good.len() > 1;
    }
    if !goes_alone(view.stores(), report, worst) {
        return false;
    }
    if view.is_lost(report, worst) {
        let are_ready =
            report.voters().filter(|voter| voter.id != worst.id).all(|v| report.is_ready(v.id));
        return are_ready && !view.has_free_store(&report.region);
    }
    good.len() >= view.voters_wanted()
}

/// True if the voter may go without a replacement although there are no more voters than
/// `replica_count`: it is lost, or its store was removed and the majority is lowered with it.
fn goes_alone(view: StoreView<'_>, report: &ReportedRegion, voter: &Member) -> bool {
    let is_removed = view.health(voter.store_id) == StoreHealth::Removed;
    view.is_lost(report, voter) || (is_removed && report.voters().count().is_multiple_of(2))
}

/// The voter to part with: the worst by [`badness`]. Never the leader, unless its store is not up.
fn worst_voter(view: &ClusterView<'_>, report: &ReportedRegion) -> Option<Member> {
    let voters: Vec<Member> = report.voters().copied().collect();
    let is_candidate = |voter: &&Member| {
        view.health(voter.store_id) != StoreHealth::Up || !report.is_led_by(voter.id)
    };
    let candidates = voters.iter().filter(is_candidate);
    candidates.max_by_key(|voter| badness(view, report, voter, &voters)).copied()
}

/// The later in this order, the worse: one that its store has lost; then one on a worse store, an
/// unreachable one, one that shares more labels with the others, one on a store with more regions,
/// a younger one.
fn badness(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    voter: &Member,
    voters: &[Member],
) -> impl Ord + use<> {
    (
        view.is_lost(report, voter),
        view.health(voter.store_id),
        report.unreachable.contains_key(&voter.id),
        view.crowding(voter, voters),
        view.counts.regions(voter.store_id),
        voter.id,
    )
}

/// The member to transfer leadership to before `removed` is removed: of the voters that are able to
/// lead, the one on the store with the fewest leaders.
pub fn transfer_target(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    removed: PeerId,
) -> Option<PeerId> {
    report
        .voters()
        .filter(|voter| voter.id != removed && report.is_ready(voter.id))
        .filter(|voter| view.is_target(voter.store_id))
        .min_by_key(|voter| (view.counts.leaders(voter.store_id), voter.store_id))
        .map(|voter| voter.id)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
