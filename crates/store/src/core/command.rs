//! What the placement driver asks for: its reply to a heartbeat.
//!
//! Commands are level-triggered: one that does not fit the region as it is now is dropped, and
//! comes again, adjusted, with a later heartbeat. So nothing here waits, retries or answers.

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{self, region_command::Step};
use flotilla_types::{Epoch, Member, MemberRole, Millis, PeerChange, PeerId, RegionId};

use super::peer::Peer;
use super::worker::Worker;
use super::{Fatal, Output};

/// A voter that was not heard for this long may be gone: several heartbeats, and about as long as
/// followers take to give a leader up.
const HEARD_MS: u64 = 1_000;

/// Ids from a block that the placement driver leased to this store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    next: u64,
    left: u64,
}

impl Ids {
    /// The ids of a leased block.
    pub fn of(block: &proto::IdBlock) -> Ids {
        Ids { next: block.start, left: block.count }
    }

    /// Ids left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next `count` ids; None if there are not so many.
    pub fn take(&mut self, count: u64) -> Option<std::ops::Range<u64>> {
        if count > self.left {
            return None;
        }
        let ids = self.next..self.next + count;
        self.next = if planted(Mutant::IdsReused) { ids.start } else { ids.end };
        self.left -= count;
        Some(ids)
    }
}

impl Worker {
    /// Gives the worker the block of ids that the store was leased at start.
    pub fn lease_ids(&mut self, block: &proto::IdBlock) {
        self.ids = Ids::of(block);
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        reply: Option<proto::HeartbeatReply>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let now = self.shared.now;
        self.reporter.on_reply(now, reply.as_ref());
        let Some(reply) = reply else { return Ok(()) };
        if let Some(block) = reply.ids {
            self.ids = Ids::of(&block);
        }
        if !reply.stores.is_empty() {
            out.push(Output::StoreAddrs(reply.stores));
        }
        for command in reply.commands {
            self.on_command(command, out)?;
        }
        Ok(())
    }

    fn on_command(
        &mut self,
        command: proto::RegionCommand,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let region = RegionId(command.region_id);
        let epoch = Epoch::from(command.epoch.unwrap_or_default());
        let (Some(step), Some(peer)) = (command.step, self.peers.get_mut(&region)) else {
            return Ok(());
        };
        if let Step::DestroyPeer(destroy) = step {
            if peer.id == PeerId(destroy.peer_id) && !peer.is_leader() {
                self.destroy(region, out)?;
            }
            return Ok(());
        }
        if !peer.is_leader() || peer.region.epoch != epoch {
            return Ok(());
        }
        self.dirty.insert(region);
        if let Step::Split(split) = step {
            if split.split_key.is_empty() {
                peer.size.force_split(&peer.region);
            } else {
                propose_split(peer, &mut self.ids, split.split_key);
            }
            return Ok(());
        }
        change_members(peer, step, self.shared.now);
        Ok(())
    }

    /// Steps 2 and 3 of a split; see [`super::split`].
    pub(super) fn split_if_due(&mut self, peer: &mut Peer) -> Result<(), Fatal> {
        let bytes_max = self.config.region_bytes_max;
        let is_held_up = peer.region.is_joint() || peer.is_split_pending();
        if is_held_up || !peer.size.is_due(bytes_max) || self.has_counted {
            return Ok(());
        }
        // One region's walk in each turn, however many regions are due.
        self.has_counted = true;
        let key = peer.size.step(&self.shared.state, &peer.region, bytes_max)?;
        if let Some(key) = key
            && !propose_split(peer, &mut self.ids, key)
        {
            self.reporter.note_change();
        }
        Ok(())
    }
}

/// False if the store has too few ids left; the next heartbeat brings more.
fn propose_split(peer: &mut Peer, ids: &mut Ids, key: bytes::Bytes) -> bool {
    let Some(mut ids) = ids.take(1 + peer.region.members.len() as u64) else { return false };
    let Some(region) = ids.next() else { return false };
    // A refusal wastes the ids and nothing else: the size stays over the limit.
    peer.split_at = peer.propose_split(key, RegionId(region), ids.map(PeerId).collect()).ok();
    true
}

fn change_members(peer: &mut Peer, step: Step, now: Millis) {
    if let Step::TransferLeader(transfer) = step {
        peer.group.transfer_leader(transfer.peer_id);
        return;
    }
    let changes = changes(peer, step);
    if !changes.is_empty() && leaves_a_majority(peer, &changes, now) {
        // A refusal means that another change is under way.
        let _ = peer.propose_change(changes);
    }
}

/// The changes that bring the region nearer to what is asked; none if it is there, or if it cannot
/// be now. Never one by which the leader's own part ends: leadership is moved away first.
///
/// A voter that is to go is made a learner first. So it still answers those who do not know yet
/// that its vote counts no more, and is removed only after that is known to be committed.
fn changes(peer: &Peer, step: Step) -> Vec<PeerChange> {
    let member = |id: u64| peer.region.member(PeerId(id)).copied();
    let promoted = |id: u64| {
        let learner = member(id).filter(|member| member.role == MemberRole::Learner)?;
        Some(PeerChange::AddVoter(Member { role: MemberRole::Voter, ..learner }))
    };
    let demoted = |id: u64| {
        let voter = member(id).filter(|m| m.role == MemberRole::Voter && m.id != peer.id)?;
        Some(PeerChange::AddLearner(Member { role: MemberRole::Learner, ..voter }))
    };
    let removed = |id: u64| {
        let learner = member(id).filter(|m| m.role == MemberRole::Learner && m.id != peer.id)?;
        Some(PeerChange::Remove(learner))
    };
    match step {
        Step::AddLearner(add) => {
            let new = add.peer.map(Member::from);
            let new = new.filter(|new| peer.region.member_on(new.store_id).is_none());
            let learner = |new| PeerChange::AddLearner(Member { role: MemberRole::Learner, ..new });
            new.map(learner).into_iter().collect()
        }
        Step::Promote(step) => promoted(step.peer_id).into_iter().collect(),
        Step::RemovePeer(step) => {
            demoted(step.peer_id).or(removed(step.peer_id)).into_iter().collect()
        }
        Step::ReplaceVoter(step) => {
            promoted(step.in_peer_id).into_iter().chain(demoted(step.out_peer_id)).collect()
        }
        Step::TransferLeader(_) | Step::Split(_) | Step::DestroyPeer(_) => vec![],
    }
}

/// True if no vote is taken away, or a majority of the voters that there will be is heard. The
/// placement driver asks the same, but a leader knows sooner that a store is gone; and a placement
/// driver or a leader that has just begun knows of no silence yet, so only what was heard counts.
fn leaves_a_majority(peer: &Peer, changes: &[PeerChange], now: Millis) -> bool {
    let demoted: Vec<PeerId> = changes
        .iter()
        .filter(|change| matches!(change, PeerChange::AddLearner(_)))
        .map(|change| change.member().id)
        .filter(|id| peer.region.member(*id).is_some())
        .collect();
    if demoted.is_empty() {
        return true;
    }
    let promoted = changes.iter().filter_map(|change| match change {
        PeerChange::AddVoter(member) => Some(member.id),
        PeerChange::AddLearner(_) | PeerChange::Remove(_) => None,
    });
    let staying = peer.region.members.iter().filter(|member| member.role == MemberRole::Voter);
    let voters: Vec<PeerId> = staying
        .map(|member| member.id)
        .filter(|id| !demoted.contains(id))
        .chain(promoted)
        .collect();
    voters.iter().filter(|id| peer.is_heard(**id, now, HEARD_MS)).count() * 2 > voters.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_handed_out_once_and_only_while_they_last() {
        let mut ids = Ids::of(&proto::IdBlock { start: 100, count: 5 });
        assert_eq!(ids.take(4), Some(100..104));
        assert_eq!(ids.take(2), None);
        assert_eq!(ids.take(1), Some(104..105));
        assert_eq!(ids.left(), 0);
    }
}
