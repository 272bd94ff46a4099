//! With whom a peer exchanges messages, and when the last one came from each.
//!
//! Two questions are answered from here: which members are unreachable (the placement driver is
//! told), and which members certainly live (a change of members may count on them). Both need the
//! time of each member's last message, and both must know when no messages are expected: a
//! quiescent region exchanges none, and its members live if their stores beat.
//!
//! Invariants: `last_message_at` has an entry only for members of the region, as of the last call
//! of [`Contacts::retain`], and for `non_members`, which are at most `non_members_max`.

use std::collections::BTreeMap;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, Millis, PeerId, Region, StoreId};

/// Why no messages are expected: the region is quiescent ([`super::quiesce`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiescent {
    /// Since when.
    pub since: Millis,
    /// Members on stores that were unreachable then.
    pub unreachable: Vec<PeerId>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Contacts {
    non_members_max: usize,
    /// Senders that were not members of the region as this peer knew it, in order of arrival.
    non_members: Vec<Member>,
    last_message_at: BTreeMap<PeerId, Millis>,
    /// When the leader's last message came; the present while this peer leads.
    leader_seen_at: Millis,
    /// When the region was last quiescent.
    activated_at: Millis,
    /// Members on stores that were unreachable until `activated_at`.
    was_unreachable: Vec<PeerId>,
    quiescent: Option<Quiescent>,
}

impl Contacts {
    /// No messages yet; messages are expected from `now` on. At most `non_members_max` peers
    /// outside the region will be remembered.
    pub fn new(now: Millis, non_members_max: usize) -> Contacts {
        Contacts {
            non_members_max,
            non_members: vec![],
            last_message_at: BTreeMap::new(),
            leader_seen_at: now,
            activated_at: now,
            was_unreachable: vec![],
            quiescent: None,
        }
    }

    /// Where the peer with this id lives: a member of `region`, or a recent sender.
    pub fn find(&self, region: &Region, id: PeerId) -> Option<Member> {
        let non_member = || self.non_members.iter().find(|member| member.id == id);
        region.member(id).or_else(non_member).copied()
    }

    /// How many peers outside the region are remembered.
    pub fn non_members(&self) -> usize {
        self.non_members.len()
    }

    /// The stores of the members of `region` and of recent senders.
    pub fn stores<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = StoreId> {
        region.members.iter().chain(&self.non_members).map(|member| member.store_id)
    }

    /// A message came from `sender`. A sender that is not a member of `region` is remembered, so
    /// that it can be answered.
    pub fn note_message(&mut self, region: &Region, sender: Member, now: Millis) {
        self.last_message_at.insert(sender.id, now);
        if self.find(region, sender.id).is_some() {
            return;
        }
        if planted(Mutant::NonMembersUnbounded) {
            self.non_members.push(sender);
            return;
        }
        if self.non_members.len() >= self.non_members_max {
            let forgotten = self.non_members.remove(0);
            if region.member(forgotten.id).is_none() {
                self.last_message_at.remove(&forgotten.id);
            }
        }
        self.non_members.push(sender);
    }

    /// The members of the region changed: forgets when those wrote that are members no more.
    pub fn retain(&mut self, region: &Region) {
        let Contacts { non_members, last_message_at, .. } = self;
        last_message_at.retain(|id, _| {
            region.member(*id).is_some() || non_members.iter().any(|sender| sender.id == *id)
        });
    }

    /// When the other peer last wrote to this one, if it did.
    pub fn last_message_at(&self, peer: PeerId) -> Option<Millis> {
        self.last_message_at.get(&peer).copied()
    }

    /// Since when `member` owes a message, if this peer expects messages since `expected_since`:
    /// its last message, or the moment since which messages are expected.
    pub fn no_message_since(&self, member: PeerId, expected_since: Millis) -> Millis {
        let last = self.last_message_at(member).unwrap_or(expected_since).max(expected_since);
        if self.was_unreachable.contains(&member) { last } else { last.max(self.activated_at) }
    }

    /// Notes when the leader's last message came: the present while this peer leads. raft-rs never
    /// clears a learner's `leader_id`, so the time of that message is what counts.
    pub fn note_leader(&mut self, leader: PeerId, is_self: bool, now: Millis) {
        let seen_at = if is_self { Some(now) } else { self.last_message_at(leader) };
        self.leader_seen_at = self.leader_seen_at.max(seen_at.unwrap_or(self.leader_seen_at));
    }

    /// When the leader's last message came; the present while this peer leads.
    pub fn leader_seen_at(&self) -> Millis {
        self.leader_seen_at
    }

    /// Set while the region is quiescent.
    pub fn quiescent(&self) -> Option<&Quiescent> {
        self.quiescent.as_ref()
    }

    /// The region is quiescent from now on.
    pub(super) fn quiesce(&mut self, quiescent: Quiescent) {
        self.quiescent = Some(quiescent);
    }

    /// The region is active again, if it was quiescent; answers since when it was. No messages are
    /// expected from a quiescent region, so the time without messages counts from now on, except
    /// for members on stores that were already unreachable.
    pub(super) fn activate(&mut self, now: Millis) -> Option<Millis> {
        let Quiescent { since, unreachable } = self.quiescent.take()?;
        self.leader_seen_at = now;
        self.activated_at = now;
        self.was_unreachable = unreachable;
        Some(since)
    }

    /// Asserts the module's invariants.
    pub fn check(&self, region: &Region) {
        let senders = self.non_members.len();
        assert!(senders <= self.non_members_max, "region {}: {senders} non-members", region.id);
        let known = self.last_message_at.len();
        let most = region.members.len() + senders;
        assert!(known <= most, "region {}: messages of {known} of {most} peers", region.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::RegionId;

    fn member(id: u64) -> Member {
        Member::voter(PeerId(id), StoreId(100 + id))
    }

    fn region(members: &[u64]) -> Region {
        let members = members.iter().map(|id| member(*id)).collect();
        Region { id: RegionId(1), members, ..Region::default() }
    }

    #[test]
    fn senders_outside_the_region_are_remembered_within_a_bound() {
        let region = region(&[1, 2]);
        let mut contacts = Contacts::new(Millis(0), 16);
        for id in 1..=40 {
            contacts.note_message(&region, member(id), Millis(id));
            contacts.check(&region);
        }
        assert_eq!(contacts.find(&region, PeerId(40)), Some(member(40)));
        assert_eq!(contacts.find(&region, PeerId(3)), None, "the oldest is forgotten");
        assert_eq!(contacts.last_message_at(PeerId(3)), None);
        assert_eq!(contacts.last_message_at(PeerId(1)), Some(Millis(1)), "a member is not");
    }

    #[test]
    fn when_a_removed_member_wrote_is_forgotten_and_of_other_senders_it_is_not() {
        let mut contacts = Contacts::new(Millis(0), 16);
        for id in [1, 2, 9] {
            contacts.note_message(&region(&[1, 2]), member(id), Millis(7));
        }
        let after = region(&[1, 9]);
        contacts.retain(&after);
        contacts.check(&after);
        assert_eq!(contacts.last_message_at(PeerId(2)), None);
        assert_eq!(contacts.last_message_at(PeerId(9)), Some(Millis(7)));
    }

    #[test]
    fn the_time_without_messages_counts_from_the_activation_unless_the_store_was_unreachable() {
        let region = region(&[1, 2, 3]);
        let mut contacts = Contacts::new(Millis(0), 16);
        for id in [2, 3] {
            contacts.note_message(&region, member(id), Millis(10));
        }
        let unreachable = vec![PeerId(3)];
        contacts.quiesce(Quiescent { since: Millis(20), unreachable });
        assert_eq!(contacts.activate(Millis(50)), Some(Millis(20)));
        assert_eq!(contacts.activate(Millis(60)), None, "active already");
        assert_eq!(contacts.no_message_since(PeerId(2), Millis(0)), Millis(50));
        assert_eq!(contacts.no_message_since(PeerId(3), Millis(0)), Millis(10));
        assert_eq!(contacts.no_message_since(PeerId(3), Millis(15)), Millis(15));
    }
}
