//! What becomes durable when: checkpoints, snapshots out and in, log truncation.
//!
//! Applied changes reach the state store's buffer at once and the disk by a checkpoint; until
//! then the log can redo them. A checkpoint begins between two turns, when enough has gathered or
//! something waits for it, and covers exactly what was applied by then: that is when the applied
//! indexes are written, beside the rows. It runs on another thread; one at a time. When it is done:
//!
//! * the applied indexes it covers are durable, and the logs may be truncated up to them
//!   ([`super::peer::Peer::truncate`]);
//! * tombstones it covers are durable, and the logs of those peers are cleared;
//! * snapshots it installed are the peers' state, and their logs begin anew;
//! * the view it left serves the snapshots that were wanted (exports);
//! * followers apply what they held back while the disk was behind ([`super::pressure`]).
//!
//! # A snapshot, out
//!
//! 1. A follower needs entries that the leader's log has no more: its group wants a snapshot, and
//!    the end of the turn ([`super::advance`]) notes that here.
//! 2. The next checkpoint leaves a durable view, and the group is offered the position that the
//!    view reaches.
//! 3. The group sends the snapshot message; it leaves as [`Output::SendSnapshot`]. The driver
//!    (`flotilla_host::driver::snapshot`) sends the rows of the view beside it.
//! 4. The view is dropped when no follower needs it, or after `export_ms_max` and no sooner than
//!    the least election timeout, for it pins disk pages.
//!
//! # A snapshot, in
//!
//! 1. The driver receives rows into a file (`raft_service` and `staging` in
//!    `flotilla_host::driver`) and hands over the message with the file's number:
//!    [`super::Input::SnapshotStaged`].
//! 2. [`super::route`] finds the peer or creates it. If the range is free on this store
//!    ([`super::install`]), the group is given the message, the peer has the rows as an offer
//!    ([`super::lifecycle`]), and the range is claimed ([`super::regions`]).
//! 3. The group takes the snapshot, or the offer ends with the turn. If it takes it, the group is
//!    paused, and the install waits here for the next checkpoint ([`super::advance`],
//!    [`super::install`]).
//! 4. The checkpoint goes out with the install: [`Output::Checkpoint`].
//! 5. The disk thread (`driver/disk.rs`) replaces the range's rows and the peer's records in one
//!    transaction.
//! 6. [`super::Input::Checkpointed`]: the peer is what the snapshot says, and only now its log
//!    begins anew ([`super::install`], `Group::snapshot_installed`).
//!
//! A crash before step 5 leaves the old peer; a crash after it leaves a log that ends before the
//! state, which is dropped at start.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_engine::{LogOp, StateBatch};
use flotilla_group::Position;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto;
use flotilla_types::{Millis, Region, RegionId};
use prost::Message;

use super::apply::membership_of;
use super::context::Context;
use super::install::end_install;
use super::{Fatal, Install, Output, records};

/// What waits for a checkpoint, and the one that runs.
pub struct Checkpoints {
    next: u64,
    last_begin: Millis,
    running: Option<Running>,
    exports_wanted: BTreeSet<RegionId>,
    installs: Vec<Install>,
    /// Regions whose tombstones were written since the last one began, in order.
    tombstones: Vec<RegionId>,
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
    tombstones: Vec<RegionId>,
}

/// A view that snapshots of one region can be sent from.
#[derive(Clone)]
struct Export {
    number: u64,
    /// When the export was offered; until then, when its checkpoint began.
    since: Millis,
    at: Position,
    region: Region,
}

impl Checkpoints {
    /// Nothing waits.
    pub fn new(now: Millis) -> Checkpoints {
        Checkpoints {
            next: 1,
            last_begin: now,
            running: None,
            exports_wanted: BTreeSet::new(),
            installs: vec![],
            tombstones: vec![],
            is_split_pending: false,
            is_wanted: false,
            has_applied: false,
            exports: BTreeMap::new(),
        }
    }

    /// A follower of the region needs a snapshot.
    pub fn want_export(&mut self, region: RegionId) {
        let is_coming = self
            .running
            .as_ref()
            .is_some_and(|running| running.exports.iter().any(|(id, _)| *id == region));
        if !is_coming {
            self.exports_wanted.insert(region);
        }
    }

    /// The checkpoint whose view the region's offered snapshot is read from.
    pub fn export_number(&self, region: RegionId) -> Option<u64> {
        self.exports.get(&region).map(|export| export.number)
    }

    /// How many views snapshots can be sent from.
    pub fn export_count(&self) -> usize {
        self.exports.len()
    }

    /// A tombstone was written: its peer's log is cleared once the tombstone is durable.
    pub fn note_tombstone(&mut self, region: RegionId) {
        self.tombstones.push(region);
    }

    /// A region was cut. Until that is durable, a crash and then a snapshot that jumps over the
    /// split would cost the right part's replica.
    pub fn note_split(&mut self) {
        self.is_split_pending = true;
    }

    /// An entry was applied, whether it changed anything or not.
    pub fn note_applied(&mut self) {
        self.has_applied = true;
    }

    /// A checkpoint is to begin, whatever has gathered.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// A snapshot is to be installed.
    pub fn want_install(&mut self, install: Install) {
        self.installs.push(install);
    }

    fn is_urgent(&self) -> bool {
        self.is_wanted
            || self.is_split_pending
            || !self.exports_wanted.is_empty()
            || !self.installs.is_empty()
            || !self.tombstones.is_empty()
    }

    /// Begins a checkpoint if none runs and one is due.
    pub fn begin_if_due(&mut self, cx: &mut Context) -> Result<(), Fatal> {
        if self.running.is_some() {
            return Ok(());
        }
        let active_bytes = cx.shared.state.active_bytes();
        let has_news = self.has_applied || active_bytes > 0;
        let waited_ms = cx.shared.now.since(self.last_begin);
        let is_due = self.is_urgent()
            || active_bytes >= cx.shared.config.checkpoint_bytes
            || (has_news && waited_ms >= cx.shared.config.limits.checkpoint_ms_max);
        if !is_due {
            return Ok(());
        }
        let (applied, mut records) = self.moved_peers(cx);
        if !planted(Mutant::AppliedNotWithRows) {
            cx.shared.state.write(std::mem::take(&mut records))?;
        }
        if cx.shared.state.freeze() {
            self.begin(cx, applied);
        }
        Ok(cx.shared.state.write(records)?)
    }

    /// Writes how far the peers' states go, for a stop, which makes everything durable without a
    /// checkpoint.
    pub fn save_moved_peers(&self, cx: &Context) -> Result<(), Fatal> {
        if planted(Mutant::StopUnsaved) {
            return Ok(());
        }
        let (_, records) = self.moved_peers(cx);
        Ok(cx.shared.state.write(records)?)
    }

    /// The peers whose applied index is not durable, with it, and the records that say so. Not
    /// those whose snapshot a checkpoint is installing, or has: the install already wrote their
    /// applied index.
    fn moved_peers(&self, cx: &Context) -> (Vec<(RegionId, u64)>, StateBatch) {
        let mut records = StateBatch::default();
        let running = self.running.as_ref();
        let installed = running.map_or(&[][..], |running| &running.installed);
        let moved = cx.regions.iter().filter(|peer| peer.applied.index > peer.durable_applied);
        let applied = moved
            .filter(|peer| !installed.contains(&peer.region.id))
            .map(|peer| {
                let (region, size) = (peer.region.id, peer.size.known());
                records::put_applied(&mut records, region, peer.applied, size);
                (region, peer.applied.index)
            })
            .collect();
        (applied, records)
    }

    fn begin(&mut self, cx: &mut Context, applied: Vec<(RegionId, u64)>) {
        let number = self.next;
        let exports = self.take_exports(cx);
        let installs = std::mem::take(&mut self.installs);
        self.next += 1;
        self.last_begin = cx.shared.now;
        self.is_split_pending = false;
        self.is_wanted = false;
        self.has_applied = false;
        self.running = Some(Running {
            number,
            applied,
            exports: exports.clone(),
            installed: installs.iter().map(|install| install.region).collect(),
            tombstones: std::mem::take(&mut self.tombstones),
        });
        let exports = exports.into_iter().map(|(region, _)| region).collect();
        cx.turn.out.push(Output::Checkpoint { number, exports, installs });
    }

    /// The wanted exports of regions that are still led from here.
    fn take_exports(&mut self, cx: &Context) -> Vec<(RegionId, Export)> {
        let (number, since) = (self.next, cx.shared.now);
        let wanted = std::mem::take(&mut self.exports_wanted).into_iter();
        wanted
            .filter_map(|region| {
                let peer = cx.regions.get(region)?;
                let export =
                    Export { number, since, at: peer.applied, region: peer.region.clone() };
                (peer.is_leader() && !peer.group.is_paused()).then_some((region, export))
            })
            .collect()
    }

    /// The running checkpoint, with its installs, is durable.
    pub fn on_checkpointed(&mut self, cx: &mut Context, number: u64) {
        let running = self.running.take().expect("one runs");
        assert_eq!(running.number, number, "checkpoints end in order");
        for (region, index) in running.applied {
            note_durable(cx, region, index);
            release_deferred(cx, region);
        }
        for region in running.tombstones {
            cx.tombstones.note_durable(region);
            cx.turn.log.write([LogOp::Clear { group: region.0 }]);
        }
        for region in running.installed {
            release_deferred(cx, region);
            end_install(cx, region);
        }
        for (region, export) in running.exports {
            self.offer(cx, region, export);
        }
        release_held_back(cx);
    }

    fn offer(&mut self, cx: &mut Context, region: RegionId, mut export: Export) {
        let Some(peer) = cx.regions.get_mut(region).filter(|peer| peer.is_leader()) else {
            cx.turn.out.push(Output::DropExport { region });
            return;
        };
        let data: Bytes = proto::Region::from(export.region.clone()).encode_to_vec().into();
        if planted(Mutant::SnapshotAhead) {
            export.at = peer.applied;
        }
        peer.group.offer_snapshot(export.at, &membership_of(&export.region), data);
        export.since = offered_at(export.since, cx.shared.now);
        self.exports.insert(region, export);
        cx.regions.mark_dirty(region);
    }

    /// Drops the views that no follower needs any more.
    pub fn withdraw_exports(&mut self, cx: &mut Context) {
        let (now, config) = (cx.shared.now, &cx.shared.config);
        let kept_ms_max = config.limits.export_ms_max.max(config.timing.election_ms());
        let (regions, out) = (&mut cx.regions, &mut cx.turn.out);
        self.exports.retain(|region, export| {
            let age_ms = now.since(export.since);
            let is_needed = regions.get(*region).is_some_and(|peer| {
                let is_fresh = age_ms < peer.group.election_ms();
                is_fresh || peer.group.progress().iter().any(|member| member.needs_snapshot)
            });
            let is_kept = is_needed && age_ms < kept_ms_max;
            if !is_kept {
                if let Some(peer) = regions.get_mut(*region) {
                    peer.group.withdraw_snapshot();
                }
                out.push(Output::DropExport { region: *region });
            }
            is_kept
        });
    }
}

/// Followers that held entries back apply them, unless the disk is behind again.
fn release_held_back(cx: &mut Context) {
    if planted(Mutant::HeldBackForgotten) {
        return;
    }
    if !cx.shared.pressure.is_high() {
        cx.held_back.regions().for_each(|region| cx.regions.mark_dirty(region));
    }
}

/// The peer's state is durable up to `index`.
fn note_durable(cx: &mut Context, region: RegionId, index: u64) {
    let Some(peer) = cx.regions.get_mut(region) else { return };
    peer.durable_applied = peer.durable_applied.max(index.min(peer.applied.index));
    if peer.is_quiescent() {
        // A quiescent peer does not count the ticks that truncate other logs.
        cx.turn.log.write(peer.truncate(&cx.shared.config.log_kept));
    }
}

/// The state of a peer that was created with state is durable: what was deferred until then goes
/// on. Messages leave after the log of this turn, hence after the log that they imply.
fn release_deferred(cx: &mut Context, region: RegionId) {
    let Some(peer) = cx.regions.get_mut(region) else { return };
    let Some(deferred) = peer.lifecycle.take_deferred() else { return };
    cx.turn.log.send_after(deferred.messages);
    if let Some(number) = deferred.persisted {
        peer.group.persisted(number);
    }
    cx.regions.mark_dirty(region);
}

/// Since when a view counts as kept: a checkpoint may take longer than a view is kept that no
/// follower wants, so the time before the offer does not count.
fn offered_at(began: Millis, now: Millis) -> Millis {
    if planted(Mutant::ViewAges) {
        return began;
    }
    now
}
