//! A snapshot becomes a peer's state. The whole way of a snapshot is told in
//! [`super::checkpoint`]; here are its steps 2, 3 and 6.

use flotilla_engine::StateBatch;
use flotilla_group::{Position, RaftMessage, SnapshotMeta, snapshot_membership};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto;
use flotilla_types::{KeyRange, Region, RegionId, WireError};
use prost::Message;

use super::apply::membership_of;
use super::context::Context;
use super::peer::Peer;
use super::records::{self, data_range};
use super::regions::Regions;
use super::shared::Shared;
use super::{Event, Fatal, Install};

/// Step 2: the range of the snapshot's region, if that region may have it on this store.
pub fn installable(regions: &Regions, region: RegionId, message: &RaftMessage) -> Option<KeyRange> {
    let new = message.snapshot.as_deref().and_then(|meta| snapshot_region(meta).ok())?;
    let mut is_free = !regions.is_occupied(new.id, &new.range);
    if planted(Mutant::SnapshotOverlaps) {
        is_free = true;
    }
    (new.id == region && is_free).then_some(new.range)
}

/// Step 3: the group took the snapshot and is paused. Answers what the next checkpoint is to do.
pub fn begin_install(
    peer: &mut Peer,
    meta: &SnapshotMeta,
    shared: &Shared,
) -> Result<Install, Fatal> {
    let region = peer.region.id;
    let new = snapshot_region(meta).map_err(|source| Fatal::Unreadable {
        what: format!("the snapshot of region {region}"),
        source,
    })?;
    let applied = Position { index: meta.index, term: meta.term };
    let clear = ranges_to_clear(peer, &new);
    let mut records = StateBatch::default();
    records::put_peer(&mut records, peer.id, &new);
    records::put_applied(&mut records, region, applied, None);
    let staged = peer.lifecycle.begin_install(new, applied);
    if planted(Mutant::InstallInTwo) {
        shared.state.write(std::mem::take(&mut records))?;
    }
    Ok(Install { region, staged, clear, records })
}

/// The rows that the snapshot's rows replace: those in its range, and all of the peer's own.
fn ranges_to_clear(peer: &Peer, new: &Region) -> Vec<KeyRange> {
    if planted(Mutant::InstallOverOld) {
        return vec![];
    }
    let mut ranges = vec![data_range(&new.range)];
    if peer.has_state() {
        ranges.push(data_range(&peer.region.range));
    }
    ranges
}

/// Step 6: the rows and records are durable.
pub fn end_install(cx: &mut Context, region: RegionId) {
    cx.regions.release_claim(region);
    let Some(peer) = cx.regions.get_mut(region) else { return };
    peer.abandon(&cx.shared, &mut cx.turn.out);
    peer.become_installed();
    let index = peer.applied.index;
    let ready = peer.group.snapshot_installed();
    cx.turn.log_ready(peer, ready, &cx.shared);
    cx.regions.region_changed(region);
    cx.regions.mark_dirty(region);
    cx.turn.has_news = true;
    cx.turn.out.push(Event::SnapshotInstalled { region, index }.into());
}

fn snapshot_region(meta: &SnapshotMeta) -> Result<Region, WireError> {
    let region = Region::try_from(proto::Region::decode(meta.data.clone())?)?;
    if membership_of(&region) != snapshot_membership(meta) {
        return Err(WireError::Malformed("members differ from the configuration".into()));
    }
    Ok(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, Member, PeerId, StoreId};

    /// Region 7 with voters 11 and 12.
    fn region() -> Region {
        let voter = |n: u64| Member::voter(PeerId(10 + n), StoreId(n));
        let (id, range, epoch) = (RegionId(7), KeyRange::new("b", "m"), Epoch::FIRST);
        Region { id, range, epoch, members: vec![voter(1), voter(2)] }
    }

    /// A snapshot of a configuration with these voters.
    fn snapshot(voters: &[u64], data: Vec<u8>) -> RaftMessage {
        let voters = voters.to_vec();
        let meta =
            SnapshotMeta { index: 9, term: 4, voters, data: data.into(), ..Default::default() };
        RaftMessage { snapshot: Some(meta.into()), ..RaftMessage::default() }
    }

    #[test]
    fn a_snapshot_is_installed_only_as_the_region_that_its_configuration_is_of() {
        let encoded = || proto::Region::from(region()).encode_to_vec();
        let range = |id: u64, message: &RaftMessage| {
            installable(&Regions::default(), RegionId(id), message)
        };
        assert_eq!(range(7, &snapshot(&[11, 12], encoded())), Some(region().range));
        assert_eq!(range(8, &snapshot(&[11, 12], encoded())), None, "another region's");
        assert_eq!(range(7, &snapshot(&[11], encoded())), None, "other members");
        assert_eq!(range(7, &snapshot(&[11, 12], vec![0xff; 3])), None, "no region");
        assert_eq!(range(7, &RaftMessage::default()), None, "no snapshot");
    }
}
