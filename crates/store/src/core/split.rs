//! When and where a region is cut. The whole life of a split:
//!
//! 1. Every peer estimates its region's size ([`super::size`]) as entries are applied: bytes put
//!    are added, whatever they replaced. Only the leader acts on it. It is saved with the applied
//!    index.
//! 2. Over the limit, or not knowing the size after a snapshot, the leader counts: it walks the
//!    region's rows a bounded number of bytes in each turn, keeping a sample of keys. The count
//!    replaces the estimate. If it is over the limit, the sample in the middle by bytes is the
//!    split key.
//! 3. The leader takes ids from the block that the placement driver leased to the store (no round
//!    trip), leaves out those that are in use here, and proposes `Command::Split` with the
//!    region's epoch.
//! 4. On every peer, apply checks epoch and key again. One batch writes both regions' records and
//!    the new region's first applied index; the rows stay where they are.
//! 5. The store creates the right region's peer in place, unless it has a tombstone of that peer, a
//!    newer incarnation, or a peer of that region that holds other keys: then the right part's
//!    rows are dropped here. The new peer on the leader's store stands for election at once. Votes
//!    that reached a store before the split was applied there were kept by [`super::route`], and
//!    are handed to the new peer. Until the batch of step 4 is durable, the new peer defers all
//!    that implies a durable log ([`super::lifecycle`]).
//! 6. The next heartbeat reports both regions; clients learn them from `EpochNotMatch`.
//!
//! A crash at any point repeats the split from the log: the log of the parent is not truncated
//! before the batch of step 4 is durable. What the new peer's own log already holds is kept.

use bytes::Bytes;
use flotilla_engine::StateBatch;
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Member, PeerId, Region, RegionId};

use super::context::Context;
use super::incarnation::{self, may_create};
use super::peer::{Peer, RightPart};
use super::records::data_range;
use super::shared::Shared;
use super::size::CountBounds;
use super::turn::Turn;
use super::{Event, Fatal};

/// Ids from a block that the placement driver leased to this store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    next: u64,
    left: u64,
}

impl Ids {
    /// The ids of a leased block.
    pub fn of(block: IdBlock) -> Ids {
        Ids { next: block.start, left: block.count }
    }

    /// The ids of a leased block that are above `highest`, the highest id in use that the store
    /// knows. A sound block is above it as a whole. One from a placement driver that was put back
    /// from an older copy may not be.
    pub fn above(block: IdBlock, highest: u64) -> Ids {
        let mut ids = Ids::of(block);
        let used = highest.saturating_add(1).saturating_sub(block.start).min(block.count);
        if planted(Mutant::IdsReused) {
            return ids;
        }
        ids.next += used;
        ids.left -= used;
        ids
    }

    /// The last id of the block; 0 if there never was one.
    pub fn last(&self) -> u64 {
        (self.next + self.left).saturating_sub(1)
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
        self.left -= count;
        if planted(Mutant::IdsReused) {
            return Some(ids);
        }
        self.next = ids.end;
        Some(ids)
    }
}

/// Whether a split was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitProposal {
    /// It was proposed, or refused by the group for the moment.
    Made,
    /// The store has too few ids left; the next heartbeat brings more.
    LacksIds,
}

/// Steps 2 and 3: counts a region that is over the limit, one region's walk in each turn, however
/// many regions are due, and proposes a split when the count says so.
pub fn split_if_due(
    peer: &mut Peer,
    ids: &mut Ids,
    turn: &mut Turn,
    shared: &Shared,
) -> Result<(), Fatal> {
    let bytes_max = shared.config.region_bytes_max;
    let must_wait = peer.region.is_joint() || peer.is_split_pending();
    if must_wait || !peer.size.is_due(bytes_max) || turn.has_counted {
        return Ok(());
    }
    turn.has_counted = true;
    let limits = &shared.config.limits;
    let bounds = CountBounds {
        region_bytes_max: bytes_max,
        step_bytes_max: limits.count_step_bytes_max,
        samples_max: limits.count_samples_max,
    };
    let key = peer.size.step(&shared.state, &peer.region, &bounds)?;
    if let Some(key) = key
        && propose_split(peer, ids, key) == SplitProposal::LacksIds
    {
        turn.has_news = true;
    }
    Ok(())
}

/// Step 3. A refusal by the group wastes the ids and nothing else: the size stays over the limit.
pub fn propose_split(peer: &mut Peer, ids: &mut Ids, key: Bytes) -> SplitProposal {
    let Some(mut ids) = ids.take(1 + peer.region.members.len() as u64) else {
        return SplitProposal::LacksIds;
    };
    let Some(region) = ids.next() else { return SplitProposal::LacksIds };
    peer.propose_split(key, RegionId(region), ids.map(PeerId).collect());
    SplitProposal::Made
}

/// Of step 3: passes over ids of regions that live here or have a tombstone here. There are none
/// unless the placement driver has leased ids twice: a split that took one would end that region.
pub fn skip_used(cx: &Context, ids: &mut Ids) {
    if planted(Mutant::IdsReused) {
        return;
    }
    let is_used = |id: u64| {
        let region = RegionId(id);
        cx.regions.get(region).is_some() || cx.tombstones.last_removed(region).is_some()
    };
    while ids.left > 0 && is_used(ids.next) {
        ids.next += 1;
        ids.left -= 1;
    }
}

/// True if a region of this id lives here with other keys: then no split made it, and it is not to
/// end because the id was given twice. Asked by each store for itself, as about tombstones.
fn lives_elsewhere(cx: &Context, right: &Region) -> bool {
    if planted(Mutant::SplitIdLives) {
        return false;
    }
    let known = cx.regions.get(right.id).filter(|peer| peer.has_state());
    known.is_some_and(|peer| !peer.region.range.overlaps(&right.range))
}

/// What became of the right part on this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightPeer {
    /// It has a peer here.
    Created,
    /// Its peer must not live here: its rows are dropped.
    Dropped,
}

/// Step 5. `left` is the region whose peer applied the split.
pub fn create_right(
    cx: &mut Context,
    left: RegionId,
    right: RightPart,
) -> Result<RightPeer, Fatal> {
    let parent = cx.regions.get(left).expect("the peer that applied the split");
    let is_leader = parent.is_leader();
    let event = Event::Split { left: parent.region.clone(), right: right.region.clone() };
    cx.turn.out.push(event.into());
    cx.regions.region_changed(left);
    let id = right.region.id;
    let member = right.region.member_on(cx.shared.store()).copied();
    let may_create = member.map_or(Ok(false), |member| may_create(cx, id, member.id))?;
    let is_other = lives_elsewhere(cx, &right.region);
    let Some(member) = member.filter(|_| may_create && !is_other) else {
        let mut batch = StateBatch::default();
        batch.delete_range(data_range(&right.region.range));
        cx.shared.state.write(batch)?;
        return Ok(RightPeer::Dropped);
    };
    create_right_peer(cx, member, right, is_leader)?;
    Ok(RightPeer::Created)
}

fn create_right_peer(
    cx: &mut Context,
    member: Member,
    right: RightPart,
    is_leaders: bool,
) -> Result<(), Fatal> {
    let RightPart { region, size } = right;
    let id = region.id;
    let is_restart = incarnation::begin_with_state(cx, member.id, region, size)?;
    // In an earlier life the peer may have promised a leader not to stand for election yet.
    if let Some(peer) = cx.regions.get_mut(id).filter(|_| is_leaders && !is_restart) {
        peer.group.campaign();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_leased_block_only_ids_above_those_in_use_are_taken() {
        let block = IdBlock { start: 100, count: 5 };
        assert_eq!(Ids::above(block, 99), Ids::of(block));
        assert_eq!(Ids::above(block, 102).take(2), Some(103..105));
        assert_eq!(Ids::above(block, 900).left(), 0);
        assert_eq!((Ids::of(block).last(), Ids::default().last()), (104, 0));
    }

    #[test]
    fn ids_are_handed_out_once_and_only_while_they_last() {
        let mut ids = Ids::of(IdBlock { start: 100, count: 5 });
        assert_eq!(ids.take(4), Some(100..104));
        assert_eq!(ids.take(2), None);
        assert_eq!(ids.take(1), Some(104..105));
        assert_eq!(ids.left(), 0);
    }
}
