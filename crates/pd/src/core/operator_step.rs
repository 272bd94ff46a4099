//! One step of an operator: what it means, when it is done, and what to send for it.
//!
//! In: a step and the region's last report, as a [`Situation`]. Out: [`Next`]. Commands carry the
//! reported epoch, so that a store whose region has moved on drops them. All that depends on the
//! kind of a step is in this file.
//!
//! Invariants: a leader is never removed or replaced, its leadership is transferred first; the last
//! voter is never removed; no voter is removed or replaced while the voters that stay have no
//! reachable majority; no voter that answers is removed from an odd number of voters unless all
//! that stay answer and have the log. A removal from an even number of voters lowers the majority
//! with the number of voters, so it costs nothing.

use bytes::Bytes;
use flotilla_types::heartbeat::{RegionCommand, Step};
use flotilla_types::{Member, MemberRole, PeerId};

use crate::core::reports::ReportedRegion;

/// Stands in a planned step for the peer id that the operator is given when it starts. Ids are
/// never 0.
pub const NEW_PEER: PeerId = PeerId(0);

/// The steps by which `to` takes the place of the voter `removed`.
pub fn move_steps(to: Member, removed: PeerId) -> Vec<OperatorStep> {
    let [replace, remove] = replacement(NEW_PEER, removed);
    vec![OperatorStep::AddLearner(to), replace, remove]
}

/// The steps by which the learner `added` takes the place of the voter `removed`.
pub fn replacement(added: PeerId, removed: PeerId) -> [OperatorStep; 2] {
    [OperatorStep::Replace { added, removed }, OperatorStep::Remove(removed)]
}

/// One thing to be done to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorStep {
    /// Add a member that receives the log and does not vote.
    AddLearner(Member),
    /// Make the learner a voter.
    Promote(PeerId),
    /// Remove the member. The region's leader makes a voter a learner first.
    Remove(PeerId),
    /// In one joint change, make the learner a voter and the voter a learner.
    Replace {
        /// The learner that becomes a voter.
        added: PeerId,
        /// The voter that becomes a learner.
        removed: PeerId,
    },
    /// Make the member the leader. In front of the removal of the leader it is enough that another
    /// member leads.
    TransferLeader(PeerId),
    /// Split the region at the key; empty for the middle.
    Split(Bytes),
}

/// The peers that a step is about, by what it does to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepPeers {
    /// The member that is added, as a learner.
    pub new_member: Option<Member>,
    /// The member that becomes a voter.
    pub new_voter: Option<PeerId>,
    /// The member that is removed.
    pub removed: Option<PeerId>,
    /// The member that is removed or that votes no more.
    pub outgoing: Option<PeerId>,
}

/// What a step is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The region's last report; not of a joint configuration.
    pub report: &'a ReportedRegion,
    /// The region's `epoch.version` when the operator was started.
    pub from_version: u64,
    /// The peer that the operator removes in this step or in a later one.
    pub removed: Option<PeerId>,
}

/// What a report means for an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// All steps are done.
    Done,
    /// To be sent to the region's leader.
    Send(RegionCommand),
    /// Nothing to send before the region has changed.
    Wait,
    /// The operator can no longer be carried out; says why.
    Obsolete(&'static str),
}

impl OperatorStep {
    /// The step for people. Keys are shown by their length.
    pub fn describe(&self) -> String {
        match self {
            OperatorStep::AddLearner(member) => {
                format!("add learner {} on store {}", member.id, member.store_id)
            }
            OperatorStep::Promote(peer) => format!("promote peer {peer}"),
            OperatorStep::Remove(peer) => format!("remove peer {peer}"),
            OperatorStep::Replace { added, removed } => {
                format!("let peer {added} vote instead of peer {removed}")
            }
            OperatorStep::TransferLeader(peer) => format!("transfer leadership to peer {peer}"),
            OperatorStep::Split(key) if key.is_empty() => "split in the middle".into(),
            OperatorStep::Split(key) => format!("split at a key of {} bytes", key.len()),
        }
    }

    /// The step with `id` in place of [`NEW_PEER`].
    pub fn with_new_peer(self, id: PeerId) -> OperatorStep {
        let named = |peer: PeerId| if peer == NEW_PEER { id } else { peer };
        match self {
            OperatorStep::AddLearner(member) => {
                OperatorStep::AddLearner(Member { id: named(member.id), ..member })
            }
            OperatorStep::Promote(peer) => OperatorStep::Promote(named(peer)),
            OperatorStep::Replace { added, removed } => {
                OperatorStep::Replace { added: named(added), removed }
            }
            OperatorStep::Remove(_) | OperatorStep::TransferLeader(_) | OperatorStep::Split(_) => {
                self
            }
        }
    }

    /// The peers that the step is about.
    pub fn peers(&self) -> StepPeers {
        let none = StepPeers::default();
        match self {
            OperatorStep::AddLearner(member) => StepPeers { new_member: Some(*member), ..none },
            OperatorStep::Promote(peer) => StepPeers { new_voter: Some(*peer), ..none },
            OperatorStep::Replace { added, removed } => {
                StepPeers { new_voter: Some(*added), outgoing: Some(*removed), ..none }
            }
            OperatorStep::Remove(peer) => {
                StepPeers { removed: Some(*peer), outgoing: Some(*peer), ..none }
            }
            OperatorStep::TransferLeader(_) | OperatorStep::Split(_) => none,
        }
    }

    /// True if the report shows the step's effect.
    pub fn is_done(&self, at: Situation<'_>) -> bool {
        let report = at.report;
        match self {
            OperatorStep::AddLearner(member) => report.region.member(member.id).is_some(),
            OperatorStep::Promote(peer) => report.is_voter(*peer),
            OperatorStep::Remove(peer) => report.region.member(*peer).is_none(),
            OperatorStep::Replace { added, removed } => {
                report.is_voter(*added) && !report.is_voter(*removed)
            }
            OperatorStep::TransferLeader(peer) => {
                let is_away = at.removed.is_some_and(|removed| !report.is_led_by(removed));
                report.is_led_by(*peer) || is_away
            }
            OperatorStep::Split(_) => report.region.epoch.version > at.from_version,
        }
    }

    /// What to do about the step, which is not done.
    pub fn next(&self, at: Situation<'_>) -> Next {
        let report = at.report;
        match self {
            OperatorStep::AddLearner(member) => add_learner(*member, report),
            OperatorStep::Promote(peer) => wait_for_learner(*peer, report)
                .unwrap_or_else(|| send(report, Step::Promote(*peer))),
            OperatorStep::Remove(peer) => remove(*peer, report),
            OperatorStep::Replace { added, removed } => wait_for_learner(*added, report)
                .unwrap_or_else(|| replace(*added, *removed, report)),
            OperatorStep::TransferLeader(peer) => match at.removed {
                Some(removed) if !report.is_ready(*peer) => remove(removed, report),
                Some(_) | None => transfer_to(*peer, report),
            },
            OperatorStep::Split(key) => split(key, report),
        }
    }
}

fn add_learner(member: Member, report: &ReportedRegion) -> Next {
    match report.region.member_on(member.store_id) {
        Some(_) => Next::Obsolete("the store has another peer of the region"),
        None => send(report, Step::AddLearner(member)),
    }
}

/// What stands against giving the learner a vote: None once it has the log and answers.
fn wait_for_learner(learner: PeerId, report: &ReportedRegion) -> Option<Next> {
    if report.region.member(learner).is_none() {
        return Some(Next::Obsolete("the learner is gone"));
    }
    (!report.is_ready(learner)).then_some(Next::Wait)
}

fn transfer_to(peer: PeerId, report: &ReportedRegion) -> Next {
    match report.region.member(peer) {
        None => Next::Obsolete("the peer to lead is gone"),
        Some(to) if to.role != MemberRole::Voter => Next::Obsolete("the peer to lead is a learner"),
        Some(_) if !report.is_ready(peer) => Next::Wait,
        Some(_) => send(report, Step::TransferLeader(peer)),
    }
}

/// True if taking the vote from `peer` leaves a majority that is as large and has fewer to make it
/// up: the number of voters is odd, and the leader hears `peer`. A voter that stays and has failed
/// without notice would then cost the quorum.
fn lowers_margin(peer: PeerId, report: &ReportedRegion) -> bool {
    !report.voters().count().is_multiple_of(2) && !report.unreachable.contains_key(&peer)
}

/// Removes the peer, or first transfers its leadership, which may have come back to it since the
/// operator moved leadership away.
fn remove(peer: PeerId, report: &ReportedRegion) -> Next {
    let others: Vec<PeerId> =
        report.voters().map(|voter| voter.id).filter(|voter| *voter != peer).collect();
    if others.is_empty() {
        return Next::Obsolete("the peer to remove is the last voter");
    }
    if report.is_voter(peer)
        && let Some(obstacle) = obstacle(&others, report)
    {
        return obstacle;
    }
    if report.is_voter(peer)
        && lowers_margin(peer, report)
        && let Some(obstacle) = others.iter().find_map(|other| absence(*other, report))
    {
        return obstacle;
    }
    if report.is_led_by(peer) {
        return others
            .into_iter()
            .find(|other| report.is_ready(*other))
            .map_or(Next::Wait, |target| send(report, Step::TransferLeader(target)));
    }
    send(report, Step::RemovePeer(peer))
}

/// Lets `added`, which is ready, vote instead of `removed`. A leader cannot be replaced: it
/// transfers leadership to another voter first. If it is the only voter, `added` becomes a voter
/// beside it first.
fn replace(added: PeerId, removed: PeerId, report: &ReportedRegion) -> Next {
    let staying: Vec<PeerId> = report
        .voters()
        .map(|voter| voter.id)
        .filter(|voter| *voter != removed && *voter != added)
        .collect();
    let voters: Vec<PeerId> = staying.iter().copied().chain([added]).collect();
    if let Some(obstacle) = obstacle(&voters, report) {
        return obstacle;
    }
    if !report.is_led_by(removed) {
        return send(report, Step::ReplaceVoter { added, removed });
    }
    let target = voters.iter().find(|peer| report.is_voter(**peer) && report.is_ready(**peer));
    match target {
        Some(target) => send(report, Step::TransferLeader(*target)),
        None if staying.is_empty() => send(report, Step::Promote(added)),
        None => Next::Wait,
    }
}

fn split(key: &Bytes, report: &ReportedRegion) -> Next {
    let range = &report.region.range;
    if key.is_empty() || (range.contains(key) && range.start != key) {
        return send(report, Step::Split(key.clone()));
    }
    Next::Obsolete("the split key is not inside the region")
}

/// Why a voter cannot be counted on now, if it cannot.
fn absence(voter: PeerId, report: &ReportedRegion) -> Option<Next> {
    if report.unreachable.contains_key(&voter) {
        return Some(Next::Obsolete("a voter that would stay is unreachable"));
    }
    (!report.is_ready(voter)).then_some(Next::Wait)
}

/// Why `voters` cannot be the region's only voters now. If too few of them answer, the region is to
/// be repaired first; if too few have the log, the operator waits.
fn obstacle(voters: &[PeerId], report: &ReportedRegion) -> Option<Next> {
    let is_majority = |is_good: &dyn Fn(&PeerId) -> bool| {
        voters.iter().filter(|voter| is_good(voter)).count() * 2 > voters.len()
    };
    if !is_majority(&|voter| !report.unreachable.contains_key(voter)) {
        return Some(Next::Obsolete("the voters that would stay are no majority that is up"));
    }
    (!is_majority(&|voter| report.is_ready(*voter))).then_some(Next::Wait)
}

fn send(report: &ReportedRegion, step: Step) -> Next {
    let (region_id, epoch) = (report.region.id, report.region.epoch);
    Next::Send(RegionCommand { region_id, epoch, step })
}
