//! This store's peer of the cluster's first region.
//!
//! The placement driver chooses the stores of the first region once there are enough, and tells
//! each of them in every answer to a heartbeat, until a heartbeat has reported the region. Each
//! store creates its own peer, in place and with state, as for the right part of a split
//! ([`super::incarnation::begin_with_state`]): all peers begin with equal state at the same index,
//! so the group has all its voters from its first entry on. Until the peer is durable it defers all
//! that implies a durable log ([`super::lifecycle`]); a crash before that takes the peer, and the
//! store is told again.
//!
//! Invariant: only a store that has, and ever had, no peer with state creates one here. What is
//! told late, when the region is elsewhere already, changes nothing.
//!
//! Not here: which stores are chosen, and when; a store that was chosen and creates its peer too
//! late gets a snapshot from the others ([`super::route`]).

use flotilla_types::Region;
use flotilla_types::mutant::{Mutant, planted};

use super::context::Context;
use super::incarnation::{self, may_create};
use super::size::Size;
use super::{Event, Fatal};

/// What became of the first region on this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPeer {
    /// It has a peer here.
    Created,
    /// Nothing changed: it has one already, had one, or is not for this store.
    Unchanged,
}

/// Creates this store's peer of the region, unless the store has, or had, a peer. The voter named
/// first stands for election at once.
pub fn create(cx: &mut Context, region: Region) -> Result<FirstPeer, Fatal> {
    let Some(member) = region.member_on(cx.shared.store()).copied() else {
        return Ok(FirstPeer::Unchanged);
    };
    if !planted(Mutant::FirstTwice)
        && (!is_unused(cx, &region) || !may_create(cx, region.id, member.id)?)
    {
        return Ok(FirstPeer::Unchanged);
    }
    let is_named_first = region.members.first() == Some(&member);
    cx.turn.out.push(Event::FirstRegion { region: region.clone() }.into());
    let id = region.id;
    let is_restart =
        incarnation::begin_with_state(cx, member.id, region, Size::from_known(Some((0, 0))))?;
    let Some(peer) = cx.regions.get_mut(id) else { return Ok(FirstPeer::Created) };
    if planted(Mutant::FirstUnheld) {
        drop(peer.lifecycle.take_deferred());
    }
    // In an earlier life the peer may have promised a leader not to stand for election yet.
    if is_named_first && !is_restart {
        peer.group.campaign();
    }
    Ok(FirstPeer::Created)
}

/// True if this store has, and had, no peer with state, and is about to get none. A message of
/// another member may have created a peer without state.
fn is_unused(cx: &Context, region: &Region) -> bool {
    !cx.regions.is_occupied(region.id, &region.range)
        && !cx.tombstones.has_any()
        && cx
            .regions
            .get(region.id)
            .is_none_or(|peer| !peer.has_state() && peer.lifecycle.staged().is_none())
}
