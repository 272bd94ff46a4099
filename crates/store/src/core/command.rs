//! What the placement driver asks for: its reply to a heartbeat.
//!
//! Commands are level-triggered: one that does not fit the region as it is now is dropped, and
//! comes again, adjusted, with a later heartbeat. So nothing here waits, retries or answers.

use flotilla_types::proto::{self, region_command::Step};
use flotilla_types::{Epoch, Peer as Member, PeerChange, PeerId, PeerRole, RegionId};

use super::peer::Peer;
use super::worker::Worker;
use super::{Fatal, Output};

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
        let first = self.next;
        self.next += count;
        self.left -= count;
        Some(first..self.next)
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
        change_members(peer, step);
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
    let Some(mut ids) = ids.take(1 + peer.region.peers.len() as u64) else { return false };
    let Some(region) = ids.next() else { return false };
    // A refusal wastes the ids and nothing else: the size stays over the limit.
    peer.split_at = peer.propose_split(key, RegionId(region), ids.map(PeerId).collect()).ok();
    true
}

fn change_members(peer: &mut Peer, step: Step) {
    let member = |id: u64| peer.region.peer(PeerId(id)).copied();
    let change = match step {
        Step::AddLearner(add) => {
            let Some(new) = add.peer.map(Member::from) else { return };
            if peer.region.peer_on(new.store_id).is_some() {
                return;
            }
            PeerChange::AddLearner(Member { role: PeerRole::Learner, ..new })
        }
        Step::Promote(promote) => match member(promote.peer_id) {
            Some(member) if member.role == PeerRole::Learner => {
                PeerChange::AddVoter(Member { role: PeerRole::Voter, ..member })
            }
            Some(_) | None => return,
        },
        Step::RemovePeer(remove) => match member(remove.peer_id) {
            Some(member) if member.id != peer.id => PeerChange::Remove(member),
            Some(_) | None => return,
        },
        Step::TransferLeader(transfer) => {
            peer.group.transfer_leader(transfer.peer_id);
            return;
        }
        Step::Split(_) | Step::DestroyPeer(_) => return,
    };
    // A refusal means that another change is under way.
    let _ = peer.propose_change(vec![change]);
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
