//! What becomes durable when: checkpoints, snapshots out and in, log truncation.
//!
//! Applied changes reach the state store's buffer at once and the disk by a checkpoint; until
//! then the log can redo them. A checkpoint begins between two turns, when enough has gathered or
//! something waits for it, and covers exactly what was applied by then: that is when the applied
//! indexes are written, beside the rows. It runs on another thread; one at a time. When it is done:
//!
//! * the applied indexes it covers are durable, and the logs may be truncated up to them;
//! * tombstones it covers are durable, and the logs of those peers are cleared;
//! * snapshots it installed are the peers' state, and their logs begin anew;
//! * the view it left serves the snapshots that were wanted (exports).
//!
//! # A snapshot, out
//!
//! A follower needs entries that the leader has forgotten: the group wants a snapshot. The next
//! checkpoint leaves a durable view, and the group is offered the position that it reaches. The
//! group then sends the snapshot message, and the driver the rows of the view beside it. The view
//! is dropped when no follower needs it, or after `EXPORT_MS_MAX`, for it pins disk pages.
//!
//! # A snapshot, in
//!
//! The driver receives rows into a file and hands over the message. If the group takes it, the
//! range is claimed, the group pauses, and the next checkpoint replaces the range's rows and the
//! peer's records in one transaction. Only then does the log begin anew. A crash before the
//! transaction leaves the old peer; a crash after it leaves a log that ends before the state,
//! which is dropped at start.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_engine::{LogOp, StateBatch};
use flotilla_group::{Position, snapshot_membership};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::{self, RaftMessage, SnapshotMeta};
use flotilla_types::{KeyRange, Millis, Region, RegionId, WireError};
use prost::Message;

use super::apply::membership_of;
use super::peer::Peer;
use super::records::{self, Applied, data_range};
use super::split::Size;
use super::worker::Worker;
use super::{Event, Fatal, Install, Output};

/// A checkpoint begins at the latest this long after a change: bounds what a restart redoes when
/// there is little load.
const CHECKPOINT_MS_MAX: u64 = 5_000;

/// Buffers over this many checkpoints' worth mean that the disk cannot keep up: writes are refused
/// and followers drop appends until it has.
const PRESSURE_CHECKPOINTS: usize = 4;

/// How long a view is kept for followers that need a snapshot.
const EXPORT_MS_MAX: u64 = 60_000;

/// How many entries a log keeps beyond what is durable in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogKept {
    /// Entries kept for followers that are a little behind.
    pub entries: u64,
    /// Entries kept for a follower that is away; beyond it, it will need a snapshot.
    pub entries_for_absent: u64,
    /// A log is truncated when this many entries can go: fewer are not worth a write.
    pub truncate_entries_min: u64,
}

impl Default for LogKept {
    /// A few seconds of a busy region for those that follow, a minute for those that are away.
    fn default() -> LogKept {
        LogKept { entries: 1_024, entries_for_absent: 16_384, truncate_entries_min: 256 }
    }
}

/// What waits for a checkpoint, and the one that runs.
pub struct Checkpoints {
    next: u64,
    last_begin: Millis,
    running: Option<Running>,
    exports_wanted: BTreeSet<RegionId>,
    installs: Vec<Install>,
    buried: Vec<RegionId>,
    is_split_pending: bool,
    is_wanted: bool,
    /// True if an entry was applied since the last one began.
    has_applied: bool,
    exports: BTreeMap<RegionId, Export>,
}

struct Running {
    number: u64,
    applied: Vec<(RegionId, u64)>,
    exports: Vec<(RegionId, Export)>,
    installed: Vec<RegionId>,
    buried: Vec<RegionId>,
}

/// A view that snapshots of one region can be sent from.
#[derive(Clone)]
struct Export {
    number: u64,
    /// Since when followers can get it: at first, when its checkpoint began.
    since: Millis,
    at: Position,
    region: Region,
}

impl Checkpoints {
    pub(super) fn new(now: Millis) -> Checkpoints {
        Checkpoints {
            next: 1,
            last_begin: now,
            running: None,
            exports_wanted: BTreeSet::new(),
            installs: vec![],
            buried: vec![],
            is_split_pending: false,
            is_wanted: false,
            has_applied: false,
            exports: BTreeMap::new(),
        }
    }

    pub(super) fn want_export(&mut self, region: RegionId) {
        let is_coming = self
            .running
            .as_ref()
            .is_some_and(|running| running.exports.iter().any(|(id, _)| *id == region));
        if !is_coming {
            self.exports_wanted.insert(region);
        }
    }

    /// The checkpoint whose view the region's offered snapshot is read from.
    pub(super) fn export_number(&self, region: RegionId) -> Option<u64> {
        self.exports.get(&region).map(|export| export.number)
    }

    /// A tombstone was written: its peer's log is cleared once it is durable.
    pub(super) fn bury(&mut self, region: RegionId) {
        self.buried.push(region);
    }

    /// A region was cut: until that is durable, a crash and a snapshot that jumps over the split
    /// would cost the right part's replica.
    pub(super) fn note_split(&mut self) {
        self.is_split_pending = true;
    }

    /// An entry was applied, whether it changed anything or not.
    pub(super) fn note_applied(&mut self) {
        self.has_applied = true;
    }

    /// Somebody wants one, whatever has gathered.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    fn is_urgent(&self) -> bool {
        self.is_wanted
            || self.is_split_pending
            || !self.exports_wanted.is_empty()
            || !self.installs.is_empty()
            || !self.buried.is_empty()
    }
}

impl Worker {
    /// True if more waits for the disk than a checkpoint is to hold, by far.
    pub(super) fn is_under_pressure(&self) -> bool {
        self.shared.state.unflushed_bytes() > PRESSURE_CHECKPOINTS * self.config.checkpoint_bytes
    }

    pub(super) fn checkpoint_if_due(&mut self, out: &mut Vec<Output>) -> Result<(), Fatal> {
        if self.checkpoints.running.is_some() {
            return Ok(());
        }
        let active_bytes = self.shared.state.active_bytes();
        let has_news = self.checkpoints.has_applied || active_bytes > 0;
        let waited_ms = self.shared.now.since(self.checkpoints.last_begin);
        let is_due = self.checkpoints.is_urgent()
            || active_bytes >= self.config.checkpoint_bytes
            || (has_news && waited_ms >= CHECKPOINT_MS_MAX);
        if !is_due {
            return Ok(());
        }
        let (applied, mut records) = self.moved_peers();
        if !planted(Mutant::AppliedNotWithRows) {
            self.shared.state.write(std::mem::take(&mut records))?;
        }
        if self.shared.state.freeze() {
            self.begin_checkpoint(applied, out);
        }
        Ok(self.shared.state.write(records)?)
    }

    /// What is applied is made durable without a checkpoint of ours: a stop.
    pub(super) fn save_moved_peers(&self) -> Result<(), Fatal> {
        if planted(Mutant::StopUnsaved) {
            return Ok(());
        }
        let (_, records) = self.moved_peers();
        Ok(self.shared.state.write(records)?)
    }

    /// The peers whose applied index is not durable, with it, and the records that say so. Not
    /// those whose snapshot a checkpoint is installing, or has: it says more than they know.
    fn moved_peers(&self) -> (Vec<(RegionId, u64)>, StateBatch) {
        let mut records = StateBatch::default();
        let running = self.checkpoints.running.as_ref();
        let installed = running.map_or(&[][..], |running| &running.installed);
        let moved = self.peers.values().filter(|peer| peer.applied.index > peer.durable_applied);
        let applied = moved
            .filter(|peer| !installed.contains(&peer.region.id))
            .map(|peer| {
                records::put_applied(&mut records, peer.region.id, peer.applied, &peer.size);
                (peer.region.id, peer.applied.index)
            })
            .collect();
        (applied, records)
    }

    fn begin_checkpoint(&mut self, applied: Vec<(RegionId, u64)>, out: &mut Vec<Output>) {
        let now = self.shared.now;
        let number = self.checkpoints.next;
        let wanted = std::mem::take(&mut self.checkpoints.exports_wanted);
        let exports: Vec<(RegionId, Export)> = wanted
            .into_iter()
            .filter_map(|region| {
                let peer = self.peers.get(&region)?;
                let at = Position { index: peer.applied.index, term: peer.applied.term };
                let export = Export { number, since: now, at, region: peer.region.clone() };
                (peer.is_leader() && !peer.group.is_paused()).then_some((region, export))
            })
            .collect();
        let installs = std::mem::take(&mut self.checkpoints.installs);
        self.checkpoints.next += 1;
        self.checkpoints.last_begin = now;
        self.checkpoints.is_split_pending = false;
        self.checkpoints.is_wanted = false;
        self.checkpoints.has_applied = false;
        self.checkpoints.running = Some(Running {
            number,
            applied,
            exports: exports.clone(),
            installed: installs.iter().map(|install| install.region).collect(),
            buried: std::mem::take(&mut self.checkpoints.buried),
        });
        let exports = exports.into_iter().map(|(region, _)| region).collect();
        out.push(Output::Checkpoint { number, exports, installs });
    }

    pub(super) fn on_checkpointed(
        &mut self,
        number: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Fatal> {
        let running = self.checkpoints.running.take().expect("one runs");
        assert_eq!(running.number, number, "checkpoints end in order");
        for (region, index) in running.applied {
            if let Some(peer) = self.peers.get_mut(&region) {
                peer.durable_applied = peer.durable_applied.max(index.min(peer.applied.index));
                if peer.quiet.is_some() {
                    // A peer at rest does not count the ticks that truncate other logs.
                    let ops = truncate(peer, &self.config.log_kept);
                    self.log_unsynced(ops);
                }
            }
            self.release(region);
        }
        for region in running.buried {
            self.routing.is_buried(region);
            self.log_unsynced(vec![LogOp::Clear { group: region.0 }]);
        }
        for region in running.installed {
            self.end_install(region, out);
        }
        for (region, export) in running.exports {
            self.offer(region, export, out);
        }
        Ok(())
    }

    fn offer(&mut self, region: RegionId, mut export: Export, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&region).filter(|peer| peer.is_leader()) else {
            out.push(Output::DropExport { region });
            return;
        };
        let data: Bytes = proto::Region::from(export.region.clone()).encode_to_vec().into();
        let Applied { index, term } = peer.applied;
        let is_ahead = planted(Mutant::SnapshotAhead);
        let at = if is_ahead { Position { index, term } } else { export.at };
        peer.group.offer_snapshot(at, &membership_of(&export.region), data);
        // A checkpoint may take longer than a view is kept that nobody wants.
        if !planted(Mutant::ViewAges) {
            export.since = self.shared.now;
        }
        self.checkpoints.exports.insert(region, export);
        self.dirty.insert(region);
    }

    /// Drops the views that no follower needs any more.
    pub(super) fn withdraw_exports(&mut self, out: &mut Vec<Output>) {
        let now = self.shared.now;
        let peers = &mut self.peers;
        self.checkpoints.exports.retain(|region, export| {
            let age_ms = now.since(export.since);
            let is_needed = peers.get(region).is_some_and(|peer| {
                let is_fresh = age_ms < peer.group.election_ms();
                is_fresh || peer.group.progress().iter().any(|member| member.needs_snapshot)
            });
            let is_kept = is_needed && age_ms < EXPORT_MS_MAX;
            if !is_kept {
                if let Some(peer) = peers.get_mut(region) {
                    peer.group.withdraw_snapshot();
                }
                out.push(Output::DropExport { region: *region });
            }
            is_kept
        });
    }

    /// The range of the snapshot's region, if it may take it on this store.
    pub(super) fn installable(&self, region: RegionId, message: &RaftMessage) -> Option<KeyRange> {
        let new = message.snapshot.as_deref().and_then(|meta| snapshot_region(meta).ok())?;
        let is_occupied = self.is_occupied(new.id, &new.range);
        let is_occupied = is_occupied && !planted(Mutant::SnapshotOverlaps);
        let is_free = new.id == region && !is_occupied;
        is_free.then_some(new.range)
    }

    /// The group took a snapshot and is paused: its rows become this peer's state.
    pub(super) fn begin_install(
        &mut self,
        peer: &mut Peer,
        meta: &SnapshotMeta,
    ) -> Result<(), Fatal> {
        let id = peer.region.id;
        let new = snapshot_region(meta).map_err(|source| Fatal::Unreadable {
            what: format!("the snapshot of region {id}"),
            source,
        })?;
        let staged = peer.staged.expect("a snapshot message is only stepped with its rows");
        let mut clear = vec![data_range(&new.range)];
        if peer.has_state {
            clear.push(data_range(&peer.region.range));
        }
        let mut records = StateBatch::default();
        records::put_peer(&mut records, peer.id, &new);
        let applied = Applied { index: meta.index, term: meta.term };
        records::put_applied(&mut records, id, applied, &Size::default());
        if planted(Mutant::InstallOverOld) {
            clear.clear();
        }
        if planted(Mutant::InstallInTwo) {
            self.shared.state.write(std::mem::take(&mut records))?;
        }
        peer.installing = Some((new, applied));
        self.checkpoints.installs.push(Install { region: id, staged, clear, records });
        Ok(())
    }

    fn end_install(&mut self, region: RegionId, out: &mut Vec<Output>) {
        self.routing.release_claim(region);
        self.release(region);
        let Some(mut peer) = self.peers.remove(&region) else { return };
        let (new, applied) = peer.installing.take().expect("an install was begun");
        peer.staged = None;
        peer.abandon(&self.shared, out);
        peer.region = new.clone();
        peer.applied = applied;
        peer.durable_applied = applied.index;
        peer.has_state = true;
        peer.size = Size::default();
        let ready = peer.group.snapshot_installed();
        self.log_ready(&mut peer, ready);
        self.peers.insert(region, peer);
        self.range_map.remove(region);
        self.range_map.upsert(new);
        self.dirty.insert(region);
        self.reporter.note_change();
        out.push(Event::SnapshotInstalled { region, index: applied.index }.into());
    }
}

fn snapshot_region(meta: &SnapshotMeta) -> Result<Region, WireError> {
    let region = Region::try_from(proto::Region::decode(meta.data.clone())?)?;
    if membership_of(&region) != snapshot_membership(meta) {
        return Err(WireError::Malformed("members differ from the configuration".into()));
    }
    Ok(region)
}

/// Forgets entries that nobody needs. Each peer decides for itself; a leader keeps what a follower
/// lacks, within bounds.
pub(super) fn truncate(peer: &mut Peer, kept: &LogKept) -> Vec<LogOp> {
    let is_hasty = planted(Mutant::TruncateUndurable);
    let durable = if is_hasty { peer.applied.index } else { peer.durable_applied };
    let kept_for_followers = durable.saturating_sub(kept.entries);
    let mut through = kept_for_followers;
    for member in peer.group.progress() {
        if member.needs_snapshot || member.matched < through {
            let least = durable.saturating_sub(kept.entries_for_absent);
            through = through.min(member.matched.max(least));
        }
    }
    if through < peer.group.truncated().index + kept.truncate_entries_min {
        return vec![];
    }
    peer.group.truncate(through)
}
