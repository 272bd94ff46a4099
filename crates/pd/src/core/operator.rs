//! Operators: PD's plan for one region, in steps that the region's leader carries out.
//!
//! A step is level-triggered: each report of the region is compared with it. Done means that the
//! next one is looked at; otherwise its command is sent again. Nothing waits for an answer, so a
//! lost command, a lost reply or a PD failover needs no repair code: the next report continues,
//! or the next leader plans anew.
//!
//! In: a region's last report. Out: [`Next`]. Commands carry the reported epoch, so that a store
//! whose region has moved on drops them.
//!
//! Invariants: a step that was done once is never sent again (a peer id must not come back after
//! it was removed); nothing is sent while the region is in a joint configuration; a leader is
//! never removed, leadership is moved away first; the last voter is never removed, and no voter
//! while those that stay are not a majority that is up.

use bytes::Bytes;
use flotilla_types::{Member, MemberRole, Millis, PeerId, RegionId, proto};

use crate::core::view::RegionView;

/// How long an operator may take: a snapshot of a large region over a slow link.
const OPERATOR_MS_MAX: u64 = 600_000;

/// How long a leadership transfer or a split may take: each is one message or one entry, and one
/// that cannot be done must not keep repair from the region.
const QUICK_MS_MAX: u64 = 10_000;

/// Stands for the peer id that an operator is given when it starts; ids are never 0.
pub const NEW_PEER: PeerId = PeerId(0);

/// One thing to be done to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add a member that receives the log and does not vote.
    AddLearner(Member),
    /// Make the learner a voter.
    Promote(PeerId),
    /// Remove the member. The leader makes a voter a learner first.
    Remove(PeerId),
    /// Remove the voter because it is silent; not once it is heard again.
    RemoveSilent(PeerId),
    /// In one joint change, make the learner a voter and the voter a learner.
    Replace {
        /// The learner.
        newcomer: PeerId,
        /// The voter.
        leaver: PeerId,
    },
    /// Make the member the leader. In front of the removal of the leader it is enough that
    /// another member leads.
    TransferLeader(PeerId),
    /// Cut the region at the key; empty for the middle.
    Split(Bytes),
}

impl Step {
    /// The step for people. Keys are shown by their length.
    pub fn describe(&self) -> String {
        match self {
            Step::AddLearner(peer) => {
                format!("add learner {} on store {}", peer.id, peer.store_id)
            }
            Step::Promote(peer) => format!("promote peer {peer}"),
            Step::Remove(peer) => format!("remove peer {peer}"),
            Step::RemoveSilent(peer) => format!("remove silent peer {peer}"),
            Step::Replace { newcomer, leaver } => {
                format!("let peer {newcomer} vote instead of peer {leaver}")
            }
            Step::TransferLeader(peer) => format!("transfer leadership to peer {peer}"),
            Step::Split(key) if key.is_empty() => "split in the middle".into(),
            Step::Split(key) => format!("split at a key of {} bytes", key.len()),
        }
    }
}

/// What an operator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One more voter.
    AddPeer,
    /// A learner that was left over becomes a voter.
    Promote,
    /// One member less.
    RemovePeer,
    /// A member on one store instead of another.
    MovePeer,
    /// Another leader.
    TransferLeader,
    /// Two regions instead of one.
    Split,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An administrator; goes before the others.
    Admin,
    /// The checker: the region is not as it should be.
    Repair,
    /// A scheduler: the cluster is uneven.
    Balance,
}

/// An operator that has no id yet; a new peer in it is [`NEW_PEER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The region.
    pub region: RegionId,
    /// What it is for.
    pub kind: Kind,
    /// Who wants it.
    pub origin: Origin,
    /// To be done in order; not empty.
    pub steps: Vec<Step>,
}

impl Draft {
    /// The store that receives a new peer.
    pub fn adds_to(&self) -> Option<Member> {
        adds_to(&self.steps)
    }
}

/// The ids that an operator is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorIds {
    /// The operator's own.
    pub operator: u64,
    /// Its new peer's, if it has one.
    pub peer: PeerId,
}

/// A plan for one region, under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Unique in the cluster.
    pub id: u64,
    /// The region.
    pub region: RegionId,
    /// What it is for.
    pub kind: Kind,
    /// Who wants it.
    pub origin: Origin,
    /// To be done in order.
    pub steps: Vec<Step>,
    /// Number of steps that were done.
    pub done: usize,
    /// When it was started.
    pub created: Millis,
    /// The region's `epoch.version` then; a split is done when it has grown.
    pub from_version: u64,
}

/// What a report means for an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// All steps are done.
    Done,
    /// To be sent to the region's leader.
    Send(proto::RegionCommand),
    /// Nothing to send before the region has changed.
    Wait,
    /// It can no longer be carried out; says why.
    Obsolete(&'static str),
}

impl Operator {
    /// Starts a draft on a region that has `from_version` now.
    pub fn start(draft: Draft, ids: OperatorIds, from_version: u64, now: Millis) -> Operator {
        assert!(!draft.steps.is_empty(), "a draft without steps for region {}", draft.region);
        let named = |peer: PeerId| if peer == NEW_PEER { ids.peer } else { peer };
        let steps = draft
            .steps
            .into_iter()
            .map(|step| match step {
                Step::AddLearner(peer) => Step::AddLearner(Member { id: named(peer.id), ..peer }),
                Step::Promote(peer) => Step::Promote(named(peer)),
                Step::Replace { newcomer, leaver } => {
                    Step::Replace { newcomer: named(newcomer), leaver }
                }
                Step::Remove(_)
                | Step::RemoveSilent(_)
                | Step::TransferLeader(_)
                | Step::Split(_) => step,
            })
            .collect();
        Operator {
            id: ids.operator,
            region: draft.region,
            kind: draft.kind,
            origin: draft.origin,
            steps,
            done: 0,
            created: now,
            from_version,
        }
    }

    /// True if it has taken too long.
    pub fn is_expired(&self, now: Millis) -> bool {
        let ms_max = match self.kind {
            Kind::TransferLeader | Kind::Split => QUICK_MS_MAX,
            Kind::AddPeer | Kind::Promote | Kind::RemovePeer | Kind::MovePeer => OPERATOR_MS_MAX,
        };
        now.since(self.created) > ms_max
    }

    /// The peer that is to vote and does not yet, if it is a member already.
    pub fn newcomer(&self) -> Option<PeerId> {
        self.steps[self.done..].iter().find_map(|step| match step {
            Step::Promote(peer) | Step::Replace { newcomer: peer, .. } => Some(*peer),
            Step::AddLearner(_)
            | Step::Remove(_)
            | Step::RemoveSilent(_)
            | Step::TransferLeader(_)
            | Step::Split(_) => None,
        })
    }

    /// The store that receives a new peer, until it has one.
    pub fn adds_to(&self) -> Option<Member> {
        adds_to(&self.steps[self.done..])
    }

    /// The operator's name for people.
    pub fn name(&self) -> String {
        let origin = match self.origin {
            Origin::Admin => "admin",
            Origin::Repair => "repair",
            Origin::Balance => "balance",
        };
        let kind = match self.kind {
            Kind::AddPeer => "add-peer",
            Kind::Promote => "promote",
            Kind::RemovePeer => "remove-peer",
            Kind::MovePeer => "move-peer",
            Kind::TransferLeader => "transfer-leader",
            Kind::Split => "split",
        };
        format!("{origin} {kind}")
    }

    /// Compares the region's report with the current step and moves on past all that are done.
    pub fn next_step(&mut self, report: &RegionView) -> Next {
        if report.region.is_joint() {
            return Next::Wait;
        }
        while let Some(step) = self.steps.get(self.done) {
            if !self.is_done(step, report) {
                return self.judge(step, report);
            }
            self.done += 1;
        }
        Next::Done
    }

    fn is_done(&self, step: &Step, report: &RegionView) -> bool {
        match step {
            Step::AddLearner(peer) => report.region.member(peer.id).is_some(),
            Step::Promote(peer) => is_voter(*peer, report),
            Step::Remove(peer) | Step::RemoveSilent(peer) => report.region.member(*peer).is_none(),
            Step::Replace { newcomer, leaver } => {
                is_voter(*newcomer, report) && !is_voter(*leaver, report)
            }
            Step::TransferLeader(peer) => {
                let is_away = self.leaver().is_some_and(|leaver| !report.is_led_by(leaver));
                report.is_led_by(*peer) || is_away
            }
            Step::Split(_) => report.region.epoch.version > self.from_version,
        }
    }

    /// The peer whose removal follows the current step.
    fn leaver(&self) -> Option<PeerId> {
        self.steps[self.done..].iter().find_map(|step| match step {
            Step::Remove(peer) | Step::RemoveSilent(peer) => Some(*peer),
            _ => None,
        })
    }

    fn judge(&self, step: &Step, report: &RegionView) -> Next {
        use proto::region_command::Step as Wire;
        let send = |step: Wire| Next::Send(command(report, step));
        match step {
            Step::AddLearner(peer) if report.region.member_on(peer.store_id).is_some() => {
                Next::Obsolete("the store has another peer of the region")
            }
            Step::AddLearner(peer) => {
                send(Wire::AddLearner(proto::AddLearnerStep { peer: Some((*peer).into()) }))
            }
            Step::Promote(peer) if report.region.member(*peer).is_none() => {
                Next::Obsolete("the learner is gone")
            }
            Step::Promote(peer) if !report.is_ready(*peer) => Next::Wait,
            Step::Promote(peer) => send(Wire::Promote(proto::PromoteStep { peer_id: peer.0 })),
            Step::RemoveSilent(peer) if is_heard_voter(*peer, report) => {
                Next::Obsolete("the voter to remove is heard again")
            }
            Step::Remove(peer) | Step::RemoveSilent(peer) => judge_removal(*peer, report),
            Step::Replace { newcomer, .. } if report.region.member(*newcomer).is_none() => {
                Next::Obsolete("the learner is gone")
            }
            Step::Replace { newcomer, .. } if !report.is_ready(*newcomer) => Next::Wait,
            Step::Replace { newcomer, leaver } => judge_replacement(*newcomer, *leaver, report),
            Step::TransferLeader(peer) => match self.leaver() {
                Some(leaver) if !report.is_ready(*peer) => judge_removal(leaver, report),
                Some(_) | None => judge_transfer(*peer, report),
            },
            Step::Split(key) if !key.is_empty() && !is_inside(key, report) => {
                Next::Obsolete("the split key is not inside the region")
            }
            Step::Split(key) => send(Wire::Split(proto::SplitStep { split_key: key.clone() })),
        }
    }
}

fn judge_transfer(peer: PeerId, report: &RegionView) -> Next {
    match report.region.member(peer) {
        None => Next::Obsolete("the peer to lead is gone"),
        Some(to) if to.role != MemberRole::Voter => Next::Obsolete("the peer to lead is a learner"),
        Some(_) if !report.is_ready(peer) => Next::Wait,
        Some(_) => Next::Send(transfer(peer, report)),
    }
}

/// Leadership may have come back to the peer since it was moved away.
fn judge_removal(peer: PeerId, report: &RegionView) -> Next {
    let others: Vec<PeerId> =
        report.voters().map(|voter| voter.id).filter(|voter| *voter != peer).collect();
    if others.is_empty() {
        return Next::Obsolete("the peer to remove is the last voter");
    }
    if is_voter(peer, report)
        && let Some(obstacle) = obstacle(&others, report)
    {
        return obstacle;
    }
    if report.is_led_by(peer) {
        return others
            .into_iter()
            .find(|other| report.is_ready(*other))
            .map_or(Next::Wait, |heir| Next::Send(transfer(heir, report)));
    }
    let step = proto::RemovePeerStep { peer_id: peer.0 };
    Next::Send(command(report, proto::region_command::Step::RemovePeer(step)))
}

/// The newcomer is ready. A leader cannot be replaced: it hands leadership to another voter, or,
/// as the only one, lets the newcomer vote beside it first.
fn judge_replacement(newcomer: PeerId, leaver: PeerId, report: &RegionView) -> Next {
    use proto::region_command::Step as Wire;
    let staying: Vec<PeerId> = report
        .voters()
        .map(|voter| voter.id)
        .filter(|voter| *voter != leaver && *voter != newcomer)
        .collect();
    let voters: Vec<PeerId> = staying.iter().copied().chain([newcomer]).collect();
    if let Some(obstacle) = obstacle(&voters, report) {
        return obstacle;
    }
    let step = if !report.is_led_by(leaver) {
        let (in_peer_id, out_peer_id) = (newcomer.0, leaver.0);
        Wire::ReplaceVoter(proto::ReplaceVoterStep { in_peer_id, out_peer_id })
    } else if let Some(heir) = voters.iter().find(|v| is_voter(**v, report) && report.is_ready(**v))
    {
        return Next::Send(transfer(*heir, report));
    } else if staying.is_empty() {
        Wire::Promote(proto::PromoteStep { peer_id: newcomer.0 })
    } else {
        return Next::Wait;
    };
    Next::Send(command(report, step))
}

/// Once it is a learner, it goes.
fn is_heard_voter(peer: PeerId, report: &RegionView) -> bool {
    is_voter(peer, report) && !report.silent.contains_key(&peer)
}

fn is_voter(peer: PeerId, report: &RegionView) -> bool {
    report.voters().any(|voter| voter.id == peer)
}

/// Why these cannot be the region's only voters now: too few of them answer, and then the region is
/// to be repaired first; or too few have the log yet.
fn obstacle(voters: &[PeerId], report: &RegionView) -> Option<Next> {
    let is_majority = |is_good: &dyn Fn(&PeerId) -> bool| {
        voters.iter().filter(|voter| is_good(voter)).count() * 2 > voters.len()
    };
    if !is_majority(&|voter| !report.silent.contains_key(voter)) {
        return Some(Next::Obsolete("the voters that would stay are no majority that is up"));
    }
    (!is_majority(&|voter| report.is_ready(*voter))).then_some(Next::Wait)
}

fn transfer(peer: PeerId, report: &RegionView) -> proto::RegionCommand {
    let step = proto::TransferLeaderStep { peer_id: peer.0 };
    command(report, proto::region_command::Step::TransferLeader(step))
}

fn command(report: &RegionView, step: proto::region_command::Step) -> proto::RegionCommand {
    proto::RegionCommand {
        region_id: report.region.id.0,
        epoch: Some(report.region.epoch.into()),
        step: Some(step),
    }
}

fn is_inside(key: &[u8], report: &RegionView) -> bool {
    report.region.range.contains(key) && report.region.range.start != key
}

fn adds_to(steps: &[Step]) -> Option<Member> {
    steps.iter().find_map(|step| match step {
        Step::AddLearner(peer) => Some(*peer),
        Step::Promote(_)
        | Step::Remove(_)
        | Step::Replace { .. }
        | Step::RemoveSilent(_)
        | Step::TransferLeader(_)
        | Step::Split(_) => None,
    })
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
