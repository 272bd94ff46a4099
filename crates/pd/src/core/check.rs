//! The checker: what a region needs to be as it should be.
//!
//! In: one region's report and the [`ClusterView`]. Out: at most one [`OperatorPlan`]; the next one
//! follows when it is done and the region has been reported anew. The checker looks at the present
//! alone, so a region that an operator left half done (its PD leader failed) looks like any other.
//!
//! In this order:
//!
//! 1. A learner left over is promoted if a voter is missing. It is removed if none is missing, if
//!    its store is not up, or if it has been unreachable for [`UNREACHABLE_LEARNER_MS`].
//! 2. A missing voter is added. Voters on stores that are draining, down or removed do not count,
//!    and neither does a voter that has been unreachable for as long as a store without heartbeats
//!    takes to be down (its store may live, and yet have lost it). So replacements come before
//!    removals.
//! 3. A voter too many is removed: the one on the worst store. One that goes because it is
//!    unreachable stays if it answers again meanwhile. While there are not enough other stores for
//!    a replacement, a voter on a draining or down store stays where it is: it may come back, and
//!    its removal would make nothing safer. A voter on a removed store never comes back.
//!
//! Invariant: a region that is as it should be gets no plan, and a plan leads to a region for which
//! the opposite plan does not arise. So plans do not chase each other.

use flotilla_types::{Member, MemberRole, PeerId};

use crate::core::operator::{OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::{NEW_PEER, OperatorStep};
use crate::core::place::{ClusterView, StoreHealth};
use crate::core::reports::ReportedRegion;

/// How long a learner without operator may be unreachable before it is removed. A learner that is
/// receiving a snapshot is unreachable too.
pub const UNREACHABLE_LEARNER_MS: u64 = 60_000;

/// What the region needs now; None if nothing, or nothing that can be done now.
pub fn check(view: &ClusterView<'_>, report: &ReportedRegion) -> Option<OperatorPlan> {
    let members = &report.region.members;
    if report.region.is_joint() {
        return None;
    }
    let wanted = view.voters_wanted();
    let is_good_voter =
        |member: &Member| member.role == MemberRole::Voter && is_good(view, report, member);
    if members.len() == wanted && members.iter().all(is_good_voter) {
        // As it should be, as nearly all regions are whenever they are looked at.
        return None;
    }
    let good: Vec<Member> = members.iter().copied().filter(is_good_voter).collect();
    if let Some(learner) = members.iter().find(|member| member.role == MemberRole::Learner) {
        let is_needed = good.len() < wanted;
        return Some(promote_or_remove(view, report, learner, is_needed));
    }
    if good.len() < wanted {
        let addition = add_replica(view, report, &good);
        if addition.is_some() {
            return addition;
        }
    }
    remove_extra(view, report, &good)
}

/// True if the member's store is up and the member is not to be replaced.
fn is_good(view: &ClusterView<'_>, report: &ReportedRegion, member: &Member) -> bool {
    view.health(member.store_id) == StoreHealth::Up && !is_given_up(view, report, member.id)
}

fn is_given_up(view: &ClusterView<'_>, report: &ReportedRegion, peer: PeerId) -> bool {
    let since = report.unreachable.get(&peer);
    since.is_some_and(|since| view.reports.is_given_up(*since, view.now))
}

fn repair(report: &ReportedRegion, kind: OperatorKind, steps: Vec<OperatorStep>) -> OperatorPlan {
    OperatorPlan { region: report.region.id, kind, origin: Origin::Repair, steps }
}

fn promote_or_remove(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    learner: &Member,
    is_needed: bool,
) -> OperatorPlan {
    let since = report.unreachable.get(&learner.id);
    let is_lost = since.is_some_and(|since| view.now.since(*since) > UNREACHABLE_LEARNER_MS);
    let is_up = view.health(learner.store_id) == StoreHealth::Up;
    if is_needed && is_up && !is_lost {
        repair(report, OperatorKind::Promote, vec![OperatorStep::Promote(learner.id)])
    } else {
        repair(report, OperatorKind::RemovePeer, vec![OperatorStep::Remove(learner.id)])
    }
}

fn add_replica(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    good: &[Member],
) -> Option<OperatorPlan> {
    let store = view.place(&report.region, good)?;
    let learner = Member::learner(NEW_PEER, store);
    let steps = vec![OperatorStep::AddLearner(learner), OperatorStep::Promote(NEW_PEER)];
    Some(repair(report, OperatorKind::AddPeer, steps))
}

fn remove_extra(
    view: &ClusterView<'_>,
    report: &ReportedRegion,
    good: &[Member],
) -> Option<OperatorPlan> {
    let replica_count = view.state.replica_count() as usize;
    let worst = worst_voter(view, report)?;
    let health = view.health(worst.store_id);
    // If no other store can take its place, its own store can, once it is gone.
    let is_lost = health == StoreHealth::Up && is_given_up(view, report, worst.id);
    let is_removable = match health {
        StoreHealth::Up => is_lost || good.len() > replica_count,
        StoreHealth::Draining | StoreHealth::Down => good.len() >= replica_count,
        StoreHealth::Removed => !good.is_empty() && good.len() >= view.voters_wanted(),
    };
    if !is_removable {
        return None;
    }
    let mut steps = vec![];
    if report.is_led_by(worst.id) {
        let target = transfer_target(view, report, worst.id)?;
        steps.push(OperatorStep::TransferLeader(target));
    }
    steps.push(if is_lost {
        OperatorStep::RemoveUnreachable(worst.id)
    } else {
        OperatorStep::Remove(worst.id)
    });
    Some(repair(report, OperatorKind::RemovePeer, steps))
}

/// The voter to part with: on the worst store, else unreachable, else sharing the most labels with
/// the others, else on the store with the most regions, else the youngest. Never the leader, unless
/// its store is not up.
fn worst_voter(view: &ClusterView<'_>, report: &ReportedRegion) -> Option<Member> {
    let voters: Vec<Member> = report.voters().copied().collect();
    let is_candidate = |voter: &&Member| {
        view.health(voter.store_id) != StoreHealth::Up || !report.is_led_by(voter.id)
    };
    let badness = |voter: &&Member| {
        (
            view.health(voter.store_id),
            report.unreachable.contains_key(&voter.id),
            view.crowding(voter, &voters),
            view.counts.regions(voter.store_id),
            voter.id,
        )
    };
    voters.iter().filter(is_candidate).max_by_key(badness).copied()
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
