//! The checker: what a region needs to be as it should be.
//!
//! In: one region's report and the [`Picture`]. Out: at most one [`Draft`]; the next one follows
//! when it is done and the region has been reported anew. Judged from the present alone, so a
//! region that an operator left half done (its PD leader failed) looks like any other.
//!
//! In this order:
//!
//! 1. A learner left over is promoted if a voter is missing, and removed if none is, if its store
//!    is given up, or if its leader has not heard from it for [`SILENT_LEARNER_MS`].
//! 2. A missing voter is added. Voters on stores that are draining, down or removed do not count,
//!    and neither does one that its leader has not heard for as long as it takes to give up a store
//!    (its store may live, and yet have lost it); so their replacements come first.
//! 3. A voter too many is removed: the one on the worst store. One that goes for its silence stays
//!    if it is heard again meanwhile. While there are not enough other stores for a replacement, a
//!    voter on a draining or down store stays where it is: it may come back, and removing it makes
//!    nothing safer. One on a removed store never comes back.
//!
//! Invariant: for a region that is as it should be there is no draft, so that plans do not chase
//! each other; a draft leads to a region for which the opposite draft does not arise.

use flotilla_types::{Member, MemberRole, PeerId};

use crate::core::operator::{Draft, Kind, NEW_PEER, Origin, Step};
use crate::core::place::{Footing, Picture};
use crate::core::view::RegionView;

/// How long a learner without operator may be silent before it is given up. One that is receiving
/// a snapshot is silent too.
pub const SILENT_LEARNER_MS: u64 = 60_000;

/// What the region needs now; None if nothing, or nothing that can be done now.
pub fn check(picture: &Picture<'_>, report: &RegionView) -> Option<Draft> {
    if report.region.is_joint() {
        return None;
    }
    let wanted = picture.voters_wanted();
    let is_firm_voter =
        |peer: &Member| peer.role == MemberRole::Voter && is_firm(picture, report, peer);
    if report.region.members.len() == wanted && report.region.members.iter().all(is_firm_voter) {
        // As it should be, as nearly all regions are whenever they are looked at.
        return None;
    }
    let firm: Vec<Member> = report.region.members.iter().copied().filter(is_firm_voter).collect();
    if let Some(learner) = report.region.members.iter().find(|p| p.role == MemberRole::Learner) {
        return Some(settle_learner(picture, report, learner, firm.len() < wanted));
    }
    if firm.len() < wanted {
        let replaced = add_replica(picture, report, &firm);
        if replaced.is_some() {
            return replaced;
        }
    }
    remove_extra(picture, report, &firm)
}

fn is_firm(picture: &Picture<'_>, report: &RegionView, peer: &Member) -> bool {
    picture.footing(peer.store_id) == Footing::Firm && !is_given_up(picture, report, peer.id)
}

fn is_given_up(picture: &Picture<'_>, report: &RegionView, peer: PeerId) -> bool {
    let silent = report.silent.get(&peer);
    silent.is_some_and(|since| picture.view.is_given_up(*since, picture.now))
}

fn draft(report: &RegionView, kind: Kind, steps: Vec<Step>) -> Draft {
    Draft { region: report.region.id, kind, origin: Origin::Repair, steps }
}

fn settle_learner(
    picture: &Picture<'_>,
    report: &RegionView,
    learner: &Member,
    is_needed: bool,
) -> Draft {
    let silent = report.silent.get(&learner.id);
    let is_given_up = silent.is_some_and(|since| picture.now.since(*since) > SILENT_LEARNER_MS);
    let is_firm = picture.footing(learner.store_id) == Footing::Firm;
    if is_needed && is_firm && !is_given_up {
        draft(report, Kind::Promote, vec![Step::Promote(learner.id)])
    } else {
        draft(report, Kind::RemovePeer, vec![Step::Remove(learner.id)])
    }
}

fn add_replica(picture: &Picture<'_>, report: &RegionView, firm: &[Member]) -> Option<Draft> {
    let store = picture.place(&report.region, firm)?;
    let peer = Member::learner(NEW_PEER, store);
    let steps = vec![Step::AddLearner(peer), Step::Promote(NEW_PEER)];
    Some(draft(report, Kind::AddPeer, steps))
}

fn remove_extra(picture: &Picture<'_>, report: &RegionView, firm: &[Member]) -> Option<Draft> {
    let replica_count = picture.state.replica_count() as usize;
    let worst = worst_voter(picture, report)?;
    let footing = picture.footing(worst.store_id);
    // If no other store can take its place, its own store can, once it is gone.
    let is_silent = footing == Footing::Firm && is_given_up(picture, report, worst.id);
    let is_removable = match footing {
        Footing::Firm => is_silent || firm.len() > replica_count,
        Footing::Draining | Footing::Down => firm.len() >= replica_count,
        Footing::Removed => !firm.is_empty() && firm.len() >= picture.voters_wanted(),
    };
    if !is_removable {
        return None;
    }
    let mut steps = vec![];
    if report.is_led_by(worst.id) {
        steps.push(Step::TransferLeader(heir(picture, report, worst.id)?));
    }
    steps.push(if is_silent { Step::RemoveSilent(worst.id) } else { Step::Remove(worst.id) });
    Some(draft(report, Kind::RemovePeer, steps))
}

/// The voter to part with: on the worst store, else silent, else sharing the most labels with the
/// others, else on the store with the most regions, else the youngest. Of voters on firm stores
/// never the leader.
fn worst_voter(picture: &Picture<'_>, report: &RegionView) -> Option<Member> {
    let voters: Vec<Member> = report.voters().copied().collect();
    let is_candidate = |peer: &&Member| {
        picture.footing(peer.store_id) != Footing::Firm || !report.is_led_by(peer.id)
    };
    let badness = |peer: &&Member| {
        (
            picture.footing(peer.store_id),
            report.silent.contains_key(&peer.id),
            picture.crowding(peer, &voters),
            picture.load.regions(peer.store_id),
            peer.id,
        )
    };
    voters.iter().filter(is_candidate).max_by_key(badness).copied()
}

/// Who leads after `leaver`: the voter on the store with the fewest leaders that is able to.
pub fn heir(picture: &Picture<'_>, report: &RegionView, leaver: PeerId) -> Option<PeerId> {
    report
        .voters()
        .filter(|peer| peer.id != leaver && report.is_ready(peer.id))
        .filter(|peer| picture.is_target(peer.store_id))
        .min_by_key(|peer| (picture.load.leaders(peer.store_id), peer.store_id))
        .map(|peer| peer.id)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
