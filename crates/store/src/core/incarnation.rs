//! The beginning and the end of a peer on this store.
//!
//! A peer begins from what the disk has, from a message ([`super::route`]), from a split
//! ([`super::split`]) or as one of the cluster's first ([`super::first_region`]). It ends by its
//! removal from the region:
//!
//! 1. Every caller that waits for an answer of the peer gets one; the peer leaves all sets.
//! 2. One batch drops the peer's rows and records and writes its tombstone.
//! 3. The checkpoint that covers the batch is durable ([`super::checkpoint`]): the peer's log is
//!    cleared, and a later incarnation may begin.
//!
//! Not here: who decides that a peer ends. That is its own log, a member that knows a later
//! configuration, or the placement driver.

use flotilla_engine::StateBatch;
use flotilla_types::{PeerId, Region, RegionId};

use super::context::Context;
use super::lifecycle::Lifecycle;
use super::peer::{Peer, PeerOpening};
use super::records::{self, data_range};
use super::size::Size;
use super::{Event, Fatal, Output};

/// True if an incarnation of the region's peer may begin to live here. Not if a later one has: it
/// is here, or a crash took it and the log remembers its vote.
pub fn may_create(cx: &Context, region: RegionId, peer: PeerId) -> Result<bool, Fatal> {
    let is_newer_here = cx.regions.get(region).is_some_and(|other| other.id > peer);
    let remembered = flotilla_group::remembered_peer(&*cx.shared.log, region.0)?;
    let is_outlived = remembered.is_some_and(|remembered| PeerId(remembered) > peer);
    let is_forbidden = cx.tombstones.forbid(region, peer) || cx.tombstones.is_pending(region);
    Ok(!is_forbidden && !is_newer_here && !is_outlived)
}

/// Opens a peer over what log and state hold, and adds it to the regions.
pub fn open(cx: &mut Context, opening: PeerOpening) -> Result<&mut Peer, Fatal> {
    let region = opening.region.id;
    let (peer, repairs) = Peer::open(&cx.shared, opening)?;
    if !repairs.is_empty() {
        cx.turn.log.write_synced(repairs);
    }
    cx.regions.insert(Box::new(peer));
    Ok(cx.regions.get_mut(region).expect("just inserted"))
}

/// Begins a peer of a new region, whose rows are here, in place. Until its state is durable it
/// defers all that implies a durable log. Answers whether its log remembers an earlier life.
pub fn begin_with_state(
    cx: &mut Context,
    id: PeerId,
    region: Region,
    size: Size,
) -> Result<bool, Fatal> {
    let region_id = region.id;
    let mut batch = StateBatch::default();
    records::put_peer(&mut batch, id, &region);
    records::put_applied(&mut batch, region_id, records::FIRST, size.known());
    cx.shared.state.write(batch)?;
    // A peer without state may have been created by a message. Its promises count, and they may
    // still be on their way to the log.
    let earlier = cx.regions.remove(region_id);
    cx.turn.log.forget_group(region_id.0);
    let is_restart = earlier.is_some() || cx.shared.log.state(region_id.0)?.is_some();
    let (applied, lifecycle) = (records::FIRST, Lifecycle::deferred());
    let peer = open(cx, PeerOpening { id, region, applied, is_restart, size, lifecycle })?;
    if let Some(earlier) = earlier.filter(|earlier| earlier.id == id) {
        peer.group.recall(earlier.group.ballot());
    }
    Ok(is_restart)
}

/// Ends the region's peer, if there is one. A peer on which a snapshot is being installed stays:
/// another thread writes its rows, and what asked for the removal will ask again.
pub fn destroy(cx: &mut Context, region: RegionId) -> Result<(), Fatal> {
    if cx.regions.get(region).is_none_or(|peer| peer.lifecycle.is_installing()) {
        return Ok(());
    }
    // Step 1.
    let Some(mut peer) = cx.regions.remove(region) else { return Ok(()) };
    peer.abandon(&cx.shared, &mut cx.turn.out);
    cx.held_back.forget(region);
    if let Some(staged) = peer.lifecycle.end_offer() {
        cx.turn.out.push(Output::DiscardStaged { staged });
    }
    // Step 2.
    let mut batch = StateBatch::default();
    if peer.has_state() {
        batch.delete_range(data_range(&peer.region.range));
    }
    records::put_tombstone(&mut batch, region, peer.id);
    cx.shared.state.write(batch)?;
    cx.tombstones.insert(region, peer.id);
    cx.turn.destroyed.push(region);
    cx.turn.has_news = true;
    cx.turn.out.push(Event::PeerDestroyed { region, peer: peer.id }.into());
    Ok(())
}
