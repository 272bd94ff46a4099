//! Operators: PD's plan for one region, in steps that the region's leader carries out.
//!
//! A step is level-triggered: each report of the region is compared with it. Done means that the
//! next step is looked at; otherwise the step's command is sent again. Nothing waits for an answer,
//! so a lost command, a lost reply or a PD failover needs no repair code: the next report
//! continues, or the next leader plans anew.
//!
//! In: a region's last report. Out: [`Next`].
//!
//! A command may already stand in a leader's log when its operator ends: cancelled, timed out, or
//! without reason any more. So each step by itself must leave the region able to go on, whatever
//! becomes of the steps after it. [`crate::core::check`] says why the steps that it plans do.
//!
//! Invariants: a step that was done once is never sent again (a peer id must not come back after
//! the peer was removed); nothing is sent while the region is in a joint configuration.
//!
//! Not here: what a single step means ([`crate::core::operator_step`]), and which operators there
//! are ([`crate::core::operators`]).

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, Millis, PeerId, RegionId};

use crate::core::limits::PdLimits;
use crate::core::operator_step::{Next, OperatorStep, Situation};
use crate::core::reports::ReportedRegion;

/// What an operator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorKind {
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

impl OperatorKind {
    fn name(self) -> &'static str {
        match self {
            OperatorKind::AddPeer => "add-peer",
            OperatorKind::Promote => "promote",
            OperatorKind::RemovePeer => "remove-peer",
            OperatorKind::MovePeer => "move-peer",
            OperatorKind::TransferLeader => "transfer-leader",
            OperatorKind::Split => "split",
        }
    }

    fn ms_max(self, limits: &PdLimits) -> u64 {
        if planted(Mutant::OperatorImpatient) {
            return limits.quick_operator_ms_max;
        }
        match self {
            OperatorKind::TransferLeader | OperatorKind::Split => limits.quick_operator_ms_max,
            OperatorKind::AddPeer
            | OperatorKind::Promote
            | OperatorKind::RemovePeer
            | OperatorKind::MovePeer => limits.operator_ms_max,
        }
    }
}

/// Who wants an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An administrator; goes before the others.
    Admin,
    /// The checker: the region is not as it should be.
    Repair,
    /// A scheduler: the cluster is uneven.
    Balance,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Origin::Admin => "admin",
            Origin::Repair => "repair",
            Origin::Balance => "balance",
        }
    }
}

/// An operator that has no ids yet. Its new peer is
/// [`NEW_PEER`](crate::core::operator_step::NEW_PEER).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPlan {
    /// The region.
    pub region: RegionId,
    /// What it is for.
    pub kind: OperatorKind,
    /// Who wants it.
    pub origin: Origin,
    /// To be done in order; not empty.
    pub steps: Vec<OperatorStep>,
}

impl OperatorPlan {
    /// The new member, if the operator adds one.
    pub fn new_member(&self) -> Option<Member> {
        self.steps.iter().find_map(|step| step.peers().new_member)
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
    pub kind: OperatorKind,
    /// Who wants it.
    pub origin: Origin,
    /// To be done in order.
    pub steps: Vec<OperatorStep>,
    /// Number of steps that were done.
    pub done: usize,
    /// When it was started.
    pub created: Millis,
    /// The region's `epoch.version` at the start; a split is done when the version has grown.
    pub from_version: u64,
}

impl Operator {
    /// Starts a plan on a region that has `from_version` now.
    pub fn start(plan: OperatorPlan, ids: OperatorIds, from_version: u64, now: Millis) -> Operator {
        assert!(!plan.steps.is_empty(), "a plan without steps for region {}", plan.region);
        let steps = plan.steps.into_iter().map(|step| step.with_new_peer(ids.peer)).collect();
        Operator {
            id: ids.operator,
            region: plan.region,
            kind: plan.kind,
            origin: plan.origin,
            steps,
            done: 0,
            created: now,
            from_version,
        }
    }

    /// True if it has taken too long.
    pub fn is_expired(&self, now: Millis, limits: &PdLimits) -> bool {
        now.since(self.created) > self.kind.ms_max(limits)
    }

    /// The steps that are not done; empty once all are.
    fn remaining(&self) -> &[OperatorStep] {
        self.steps.get(self.done..).unwrap_or_default()
    }

    /// The peer that is to become a voter and is none yet.
    pub fn new_voter(&self) -> Option<PeerId> {
        self.remaining().iter().find_map(|step| step.peers().new_voter)
    }

    /// The member that is to be added, until it has been.
    pub fn new_member(&self) -> Option<Member> {
        self.remaining().iter().find_map(|step| step.peers().new_member)
    }

    /// The member from which a step that is not done takes the vote or the membership.
    pub fn outgoing(&self) -> Option<PeerId> {
        self.remaining().iter().find_map(|step| step.peers().outgoing)
    }

    /// The operator's name for people, such as "repair add-peer".
    pub fn name(&self) -> String {
        format!("{} {}", self.origin.name(), self.kind.name())
    }

    /// Compares the region's report with the current step and moves on past all that are done.
    pub fn next_step(&mut self, report: &ReportedRegion) -> Next {
        if report.region.is_joint() {
            return Next::Wait;
        }
        while let Some(step) = self.remaining().first() {
            let removed = self.remaining().iter().find_map(|step| step.peers().removed);
            let at = Situation { report, from_version: self.from_version, removed };
            if !step.is_done(at) {
                return step.next(at);
            }
            self.done += 1;
        }
        Next::Done
    }

    /// Checks the operator's invariants.
    ///
    /// # Panics
    /// If more steps are done than there are, or a step still names no peer.
    pub fn check(&self) {
        let (id, done, count) = (self.id, self.done, self.steps.len());
        assert!(done <= count, "{done} of {count} steps of operator {id} are done");
        let is_named = self.new_voter().is_none_or(|peer| peer.0 != 0);
        assert!(is_named, "operator {id} was started without an id for its new peer");
    }
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
