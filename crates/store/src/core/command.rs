//! What the placement driver asks for: the steps in its reply to a heartbeat.
//!
//! Steps are level-triggered: one that does not fit the region as it is now is dropped, and comes
//! again, adjusted, with a later heartbeat. So nothing here waits, retries or answers.
//!
//! A step for a region's leader carries the epoch that it was planned for, and is dropped if the
//! epoch has changed. A step that destroys a peer names that incarnation.

use flotilla_types::heartbeat::{RegionCommand, Step};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, MemberRole, Millis, PeerChange, PeerId};

use super::context::Context;
use super::peer::Peer;
use super::split::{self, Ids, propose_split};
use super::{Fatal, incarnation};

/// A voter that has not written for this long may have failed: several heartbeats, and about as
/// long as followers take to give a leader up.
const RECENT_MS: u64 = 1_000;

/// Carries out one step, as far as it fits.
pub fn on_command(cx: &mut Context, ids: &mut Ids, command: RegionCommand) -> Result<(), Fatal> {
    let RegionCommand { region_id: region, epoch, step } = command;
    split::skip_used(cx, ids);
    let Some(peer) = cx.regions.get_mut(region) else { return Ok(()) };
    if let Step::DestroyPeer(destroyed) = step {
        if peer.id == destroyed && !peer.is_leader() {
            incarnation::destroy(cx, region)?;
        }
        return Ok(());
    }
    if !peer.is_leader() || peer.region.epoch != epoch {
        return Ok(());
    }
    match step {
        Step::Split(key) if key.is_empty() => peer.size.force_split(&peer.region),
        Step::Split(key) => {
            // Without ids nothing is proposed, and the step comes again.
            let _ = propose_split(peer, ids, key);
        }
        Step::TransferLeader(target) => peer.group.transfer_leader(target.0),
        Step::AddLearner(_)
        | Step::Promote(_)
        | Step::RemovePeer(_)
        | Step::ReplaceVoter { .. } => change_members(peer, step, cx.shared.now),
        Step::DestroyPeer(_) => {}
    }
    cx.regions.mark_dirty(region);
    Ok(())
}

fn change_members(peer: &mut Peer, step: Step, now: Millis) {
    let changes = changes(peer, step);
    if !changes.is_empty() && leaves_a_majority(peer, &changes, now) {
        // A refusal means that another change is under way.
        let _ = peer.propose_change(changes);
    }
}

/// The changes that bring the region nearer to what the step asks for; none if the region is there,
/// or if it cannot be changed now. The leader's own part never ends by a change: leadership is
/// moved away first.
///
/// A voter is made a learner before it is removed. A candidate may still count its vote, so the
/// peer must exist until the change that takes the vote away is known to be committed.
fn changes(peer: &Peer, step: Step) -> Vec<PeerChange> {
    let member = |id: PeerId| peer.region.member(id).copied();
    let promoted = |id: PeerId| {
        let learner = member(id).filter(|member| member.role == MemberRole::Learner)?;
        Some(PeerChange::AddVoter(Member { role: MemberRole::Voter, ..learner }))
    };
    let demoted = |id: PeerId| {
        let voter = member(id).filter(|m| m.role == MemberRole::Voter && m.id != peer.id)?;
        Some(PeerChange::AddLearner(Member { role: MemberRole::Learner, ..voter }))
    };
    let removed = |id: PeerId| {
        let learner = member(id).filter(|m| m.role == MemberRole::Learner && m.id != peer.id)?;
        Some(PeerChange::Remove(learner))
    };
    if planted(Mutant::ReplaceInTwo)
        && let Step::ReplaceVoter { removed, .. } = step
        && let Some(change) = demoted(removed)
    {
        return vec![change];
    }
    match step {
        Step::AddLearner(new) if peer.region.member_on(new.store_id).is_some() => vec![],
        Step::AddLearner(new) => {
            vec![PeerChange::AddLearner(Member { role: MemberRole::Learner, ..new })]
        }
        Step::Promote(id) => promoted(id).into_iter().collect(),
        Step::RemovePeer(id) => demoted(id).or(removed(id)).into_iter().collect(),
        Step::ReplaceVoter { added, removed } => {
            promoted(added).into_iter().chain(demoted(removed)).collect()
        }
        Step::TransferLeader(_) | Step::Split(_) | Step::DestroyPeer(_) => vec![],
    }
}

/// True if no vote is taken away, or the resulting voters can go on: a majority of them is recently
/// active, and so are all that become voters. If a vote of an active voter is taken away from an
/// odd number and nobody gets one, all that stay must be active: the majority stays as large, and
/// one that failed without notice would cost it.
///
/// The placement driver checks the same, but a leader knows sooner that a store has failed. A
/// placement driver or a leader that has just begun knows of no unreachable store yet, so only
/// messages that came count.
fn leaves_a_majority(peer: &Peer, changes: &[PeerChange], now: Millis) -> bool {
    let is_active = |id: &PeerId| peer.is_recently_active(*id, now, RECENT_MS);
    let demoted: Vec<PeerId> = changes
        .iter()
        .filter(|change| matches!(change, PeerChange::AddLearner(_)))
        .map(|change| change.member().id)
        .filter(|id| peer.region.member(*id).is_some())
        .collect();
    if demoted.is_empty() {
        return true;
    }
    let promoted: Vec<PeerId> = changes.iter().filter_map(promoted_peer).collect();
    let before = peer.region.members.iter().filter(|member| member.role == MemberRole::Voter);
    let count = before.clone().count();
    let staying: Vec<PeerId> =
        before.map(|member| member.id).filter(|id| !demoted.contains(id)).collect();
    let active = staying.iter().chain(&promoted).filter(|id| is_active(id)).count();
    let voters = staying.len() + promoted.len();
    let is_thinned =
        promoted.is_empty() && !count.is_multiple_of(2) && demoted.iter().any(is_active);
    if is_thinned && !staying.iter().all(is_active) {
        return false;
    }
    promoted.iter().all(is_active) && active * 2 > voters
}

fn promoted_peer(change: &PeerChange) -> Option<PeerId> {
    match change {
        PeerChange::AddVoter(member) => Some(member.id),
        PeerChange::AddLearner(_) | PeerChange::Remove(_) => None,
    }
}
