//! Changes of PD's own members, on the leader: whether one is allowed, and what it leads to.
//!
//! ```text
//!   add     --> a learner, by an entry of the log --> it joins, takes a snapshot, catches up
//!               --> a voter, by another entry, without being asked for
//!   remove  --> an entry of the log; a leader hands leadership on first
//! ```
//!
//! Invariants: one change at a time; a member is added only once the log no longer begins at its
//! first entry, so that a new member cannot take entries without knowing the members they count
//! on; a removal leaves a majority of voters that the leader hears; an id that was removed never
//! comes back, for the new process would not know what the old one has voted for.
//!
//! Not here: what a change does to the record ([`crate::core::members`]).

use flotilla_group::{FollowerProgress, ProposeError};
use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{MembersChange, PdError, PdMembers, PdReply};

use crate::core::context::Action;
use crate::core::errors::{busy, not_found, refused};
use crate::core::io::{Output, RequestId};
use crate::core::members::Change;
use crate::core::pd::Pd;
use crate::core::waiting::Waiter;

/// More members make each entry slower and survive no failure that five do not.
const MEMBERS_MAX: usize = 7;

/// A learner that is no further behind votes.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Election timeouts without a word after which a member counts as silent.
const SILENT_TIMEOUTS: u64 = 2;

impl Pd {
    /// Decides on a change that an administrator or a new member asks for.
    pub(crate) fn change_members(
        &mut self,
        now: Millis,
        id: RequestId,
        change: MembersChange,
    ) -> Action {
        let tried = match change {
            MembersChange::Add { id: member, addr } => self.add_member(now, id, (member, addr)),
            MembersChange::Remove(member) => self.remove_member(now, id, member),
            MembersChange::TransferLeader(member) => self.hand_on(now, member),
        };
        tried.unwrap_or_else(|error| Action::Answer(Err(error)))
    }

    /// PD's members as of now.
    pub fn told_members(&self, now: Millis) -> PdMembers {
        let mut members = self.members.told(self.config.id);
        for member in &mut members {
            member.is_silent = !self.hears(now, member.id);
        }
        let removed = self.members.removed().collect();
        PdMembers { group_id: self.members.group_id(), members, removed }
    }

    fn answer_members(&self, now: Millis) -> Action {
        Action::Answer(Ok(PdReply::Members(self.told_members(now))))
    }

    /// True if the member said something lately; a new leader gives each some time.
    fn hears(&self, now: Millis, member: u64) -> bool {
        let bound_ms = SILENT_TIMEOUTS * self.group.election_ms();
        let last = self.leader.as_ref().and_then(|leader| leader.heard.get(&member));
        member == self.config.id || last.is_some_and(|last| now.since(*last) <= bound_ms)
    }

    fn add_member(
        &mut self,
        now: Millis,
        id: RequestId,
        (member, addr): (u64, String),
    ) -> Result<Action, PdError> {
        if member == 0 {
            return Err(refused("a member's id is a number from 1 on"));
        }
        if self.members.is_removed(member) && !planted(Mutant::PdRemovedReturns) {
            return Err(refused(format!(
                "member {member} was removed for ever: choose another id"
            )));
        }
        if let Some(known) = self.members.addrs().get(&member) {
            let progress = self.group.progress();
            let is_new = progress.iter().any(|known| known.peer == member && known.matched == 0);
            if *known == addr && is_new && self.members.learners().contains(&member) {
                return Ok(self.answer_members(now));
            }
            return Err(refused(format!(
                "there is a member {member} already, at {known}; if its directory was lost, \
                 remove it (ctl pd remove {member}) and let another join under a new id"
            )));
        }
        if let Some((other, _)) = self.members.addrs().iter().find(|(_, known)| **known == addr) {
            return Err(refused(format!(
                "member {other} listens at {addr}: choose another address"
            )));
        }
        if self.members.addrs().len() >= MEMBERS_MAX {
            return Err(refused(format!("there are {MEMBERS_MAX} members already")));
        }
        if self.members.is_lone() && self.awaits_ids(now) {
            return Err(busy("stores have yet to say which ids are in use"));
        }
        if self.group.truncated().index == 0 {
            self.begin_checkpoint();
            return Err(busy("the log still begins at its first entry"));
        }
        self.propose_change(id, Change::Add { id: member, addr })
    }

    fn remove_member(
        &mut self,
        now: Millis,
        id: RequestId,
        member: u64,
    ) -> Result<Action, PdError> {
        if self.members.is_removed(member) {
            return Ok(self.answer_members(now));
        }
        if !self.members.addrs().contains_key(&member) {
            return Err(not_found(format!("placement driver {member}")));
        }
        let mut voters = self.members.membership().voters;
        voters.retain(|voter| *voter != member);
        let heard = voters.iter().filter(|voter| self.hears(now, **voter)).count();
        if heard * 2 <= voters.len() && !planted(Mutant::PdQuorumRemoved) {
            return Err(refused(format!(
                "without member {member} only {heard} of {} placement drivers are heard, which is \
                 no majority; start the others, or remove one that is silent first",
                voters.len()
            )));
        }
        if member == self.config.id {
            let next = voters.iter().copied().filter(|voter| self.hears(now, *voter));
            let furthest = self.furthest(next.collect());
            self.group.transfer_leader(furthest.unwrap_or(member));
            return Err(busy(format!("member {member} leads, and hands leadership on first")));
        }
        self.propose_change(id, Change::Remove(member))
    }

    /// The member whose log reaches furthest.
    fn furthest(&self, members: Vec<u64>) -> Option<u64> {
        let progress = self.group.progress();
        let known = progress.into_iter().filter(|progress| members.contains(&progress.peer));
        known.max_by_key(|progress| progress.matched).map(|progress| progress.peer)
    }

    /// Hands leadership on. The answer comes from the new leader, when it is asked.
    fn hand_on(&mut self, now: Millis, member: u64) -> Result<Action, PdError> {
        if member == self.config.id {
            return Ok(self.answer_members(now));
        }
        if !self.members.addrs().contains_key(&member) {
            return Err(not_found(format!("placement driver {member}")));
        }
        if self.members.learners().contains(&member) {
            return Err(refused(format!("member {member} has not caught up yet")));
        }
        if !self.hears(now, member) {
            return Err(refused(format!("member {member} is silent")));
        }
        if !self.group.is_transferring() {
            self.group.transfer_leader(member);
        }
        Err(busy(format!("leadership is being handed on to member {member}")))
    }

    fn propose_change(&mut self, id: RequestId, change: Change) -> Result<Action, PdError> {
        let position = self
            .group
            .propose_membership(&[change.to_group()], change.encode())
            .map_err(|error| match error {
                ProposeError::Busy => busy("another change of members is under way"),
                error => busy(error),
            })?;
        self.waiting.await_proposal(position, Waiter::Members { id });
        Ok(Action::Waits)
    }

    /// Makes a learner that has caught up a voter.
    pub(crate) fn promote_members(&mut self) {
        if self.leader.is_none() || self.members.learners().is_empty() {
            return;
        }
        let commit = self.group.commit_index();
        let is_ready = |member: &FollowerProgress| {
            let is_learner = self.members.learners().contains(&member.peer);
            let is_level = member.matched > 0 && member.matched + CAUGHT_UP_ENTRIES >= commit;
            is_learner && !member.needs_snapshot && (is_level || planted(Mutant::PdPromotedEarly))
        };
        let Some(ready) = self.group.progress().into_iter().find(is_ready) else { return };
        let change = Change::Promote(ready.peer);
        // A refusal is not lost: it is tried again at the next tick.
        let _ = self.group.propose_membership(&[change.to_group()], change.encode());
    }

    /// A member said something.
    pub(crate) fn note_heard(&mut self, now: Millis, member: u64) {
        if let Some(leader) = &mut self.leader
            && self.members.addrs().contains_key(&member)
        {
            leader.heard.insert(member, now);
        }
    }

    /// Carries out a committed change. All members refuse the same ones.
    pub(crate) fn apply_change(&mut self, change: Change) {
        if self.group.apply_membership(&[change.to_group()]).is_ok() {
            self.members.apply(change);
            self.emit(Output::MemberAddrs(self.members.addrs().clone()));
        }
    }

    /// Ends this member if an entry or a snapshot says that it was removed.
    pub(crate) fn end_if_removed(&mut self) {
        if self.members.is_removed(self.config.id) {
            self.end_as_removed();
        }
    }
}
