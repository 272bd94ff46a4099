//! One peer's part of the end of a turn: it proposes, takes what its group hands out, applies and
//! answers, as far as it can.
//!
//! The order is: a change of role, proposals, readies until there are none, reads, what a leader
//! wants (a snapshot for a follower, a split), and last the read permit. The permit is published
//! before anything that this part put out is carried out; the proof in [`super::permit`] rests on
//! that.
//!
//! A ready whose entries have effects on other peers ends the part early: those effects come first,
//! and the peer is advanced again. A follower whose store is under pressure takes readies and holds
//! their entries back ([`super::pressure`]).

use flotilla_group::{Committed, GroupReady, MessageKind, RaftMessage};
use flotilla_types::mutant::{Mutant, planted};

use super::checkpoint::Checkpoints;
use super::envelope::wrap;
use super::install::begin_install;
use super::peer::{Effect, Peer};
use super::pressure::HeldBack;
use super::shared::Shared;
use super::split::{Ids, split_if_due};
use super::turn::Turn;
use super::{Event, Fatal, Output, StagedId};

/// A peer, and what its part of a turn works on.
pub struct Advance<'a> {
    /// The peer.
    pub peer: &'a mut Peer,
    /// What the turn gathers.
    pub turn: &'a mut Turn,
    /// What all peers share.
    pub shared: &'a Shared,
    /// Entries that followers have not applied yet.
    pub held_back: &'a mut HeldBack,
    /// What waits for a checkpoint.
    pub checkpoints: &'a mut Checkpoints,
    /// Ids for a split.
    pub ids: &'a mut Ids,
}

/// What a peer's part of a turn leaves to others.
#[derive(Debug, Default, PartialEq)]
pub struct Advanced {
    /// Effects on other peers, in order. If there are any, the peer has more to do after them.
    pub effects: Vec<Effect>,
    /// True if a snapshot was offered and not taken: its range is not claimed any more.
    pub has_ended_offer: bool,
}

impl Advance<'_> {
    /// Lets the peer do what it can.
    pub fn run(mut self) -> Result<Advanced, Fatal> {
        self.peer.note_role(self.shared, &mut self.turn.out);
        self.turn.counts.proposals += self.peer.propose_queued(&mut self.turn.out);
        let mut effects = self.apply_held_back()?;
        while effects.is_empty()
            && let Some(ready) = self.peer.group.ready()
        {
            effects = self.on_ready(ready)?;
        }
        self.turn.has_news |= self.peer.note_role(self.shared, &mut self.turn.out);
        self.peer.serve_reads(self.shared, &mut self.turn.out)?;
        let unwanted = self.end_offer(&effects);
        if self.peer.is_leader() {
            if self.peer.group.snapshot_wanted().is_some() {
                self.checkpoints.want_export(self.peer.region.id);
            }
            split_if_due(self.peer, self.ids, self.turn, self.shared)?;
        }
        self.publish_permit();
        Ok(Advanced { effects, has_ended_offer: unwanted.is_some() })
    }

    /// Ends the offer of a snapshot that the group did not take: it is stale. While there are
    /// effects, the group may not have been asked yet, and takes the offer up after them.
    fn end_offer(&mut self, effects: &[Effect]) -> Option<StagedId> {
        if !effects.is_empty() {
            return None;
        }
        let staged = self.peer.lifecycle.end_offer()?;
        self.turn.out.push(Output::DiscardStaged { staged });
        Some(staged)
    }

    fn publish_permit(&mut self) {
        if planted(Mutant::PermitPublishedLate) {
            return;
        }
        self.peer.publish_permit(self.shared);
    }

    fn on_ready(&mut self, mut ready: GroupReady) -> Result<Vec<Effect>, Fatal> {
        if planted(Mutant::SendBeforeSync) {
            ready.messages.append(&mut ready.persisted_messages);
        }
        for message in std::mem::take(&mut ready.messages) {
            self.send(message);
        }
        if let Some(meta) = &ready.snapshot {
            self.held_back.forget(self.peer.region.id);
            let install = begin_install(self.peer, meta, self.shared)?;
            self.checkpoints.want_install(install);
            return Ok(vec![]);
        }
        if !ready.committed.is_empty() || ready.must_sync {
            self.peer.note_activity(self.shared.now);
        }
        self.peer.confirm_reads(std::mem::take(&mut ready.reads));
        let committed = std::mem::take(&mut ready.committed);
        self.turn.log_ready(self.peer, ready, self.shared);
        if committed.is_empty() {
            return self.apply_held_back();
        }
        self.turn.counts.commits += committed.len() as u64;
        let region = self.peer.region.id;
        if self.must_hold_back() {
            self.turn.out.push(Event::EntriesHeldBack { region }.into());
            self.held_back.add(region, committed);
            return Ok(vec![]);
        }
        let next = self.held_back.pass(region, committed);
        self.apply_from(next)
    }

    /// True if the peer is to apply nothing for now. With an offered snapshot, the group may be at
    /// the snapshot's configuration already, which an earlier change must not be applied to.
    fn must_hold_back(&self) -> bool {
        let may_wait = !self.peer.is_leader() && self.shared.pressure.is_high();
        let is_offered =
            self.peer.lifecycle.staged().is_some() && !planted(Mutant::HeldBackOverSnapshot);
        may_wait || is_offered || self.peer.group.is_paused()
    }

    /// Applies what was held back, as far as the peer may.
    fn apply_held_back(&mut self) -> Result<Vec<Effect>, Fatal> {
        if self.must_hold_back() {
            return Ok(vec![]);
        }
        let next = self.held_back.take(self.peer.region.id);
        self.apply_from(next)
    }

    /// Applies `next` and what is held back after it, as far as the peer may: until there is no
    /// more, or an entry has effects on other peers.
    fn apply_from(&mut self, mut next: Vec<Committed>) -> Result<Vec<Effect>, Fatal> {
        while !next.is_empty() {
            self.checkpoints.note_applied();
            self.turn.counts.applies += next.len() as u64;
            let effects = self.peer.apply(self.shared, next, &mut self.turn.out)?;
            if !effects.is_empty() {
                return Ok(effects);
            }
            if self.must_hold_back() {
                break;
            }
            next = self.held_back.take(self.peer.region.id);
        }
        Ok(vec![])
    }

    /// A leader's messages leave at once; a snapshot's rows are sent along with its message.
    fn send(&mut self, message: RaftMessage) {
        let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
        let receiver = message.to;
        let Some((to, envelope)) = wrap(self.peer, self.shared, message) else { return };
        if !is_snapshot {
            self.turn.send(to, envelope);
            return;
        }
        match self.checkpoints.export_number(self.peer.region.id) {
            Some(number) => self.turn.out.push(Output::SendSnapshot { to, envelope, number }),
            // The view was dropped. The group asks for another when it knows that this one failed.
            None => self.peer.group.report_snapshot(receiver, false),
        }
    }
}
