//! PD's snapshots: the whole state, for a member that needs entries which the log has no more.
//!
//! # Out
//!
//! 1. The leader's group wants a snapshot. The next checkpoint leaves a durable view of the state
//!    ([`Output::Checkpoint`]).
//! 2. Its position is offered to the group, which sends the snapshot message. It leaves as
//!    [`Output::SendSnapshot`]; the driver sends all rows of the view beside it.
//! 3. The view is dropped when no member needs it any more, or after `EXPORT_MS_MAX`.
//!
//! # In
//!
//! 1. The driver receives rows into a file and hands over the message:
//!    [`crate::core::Input::SnapshotStaged`].
//! 2. The group takes the snapshot, and is paused, or the file is discarded.
//! 3. The next checkpoint installs the rows in place of the state, in one transaction.
//! 4. [`crate::core::Input::Checkpointed`]: the state is read back, and only now the log begins
//!    anew.
//!
//! A crash before the transaction leaves the old member; a crash after it leaves a log that ends
//! before the state, which is dropped at the start.

use bytes::Bytes;
use flotilla_host::core::message::{Body, Envelope, StagedId};
use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

use crate::core::checkpoints::Running;
use crate::core::io::Output;
use crate::core::pd::{Failure, Pd};
use crate::core::records::load;
use crate::core::state::State;

/// A view pins pages of the disk, so it is not kept for longer: a whole state takes seconds.
const EXPORT_MS_MAX: u64 = 60_000;

impl Pd {
    /// Rows of a snapshot are on disk; the envelope carries the message.
    pub(crate) fn snapshot_staged(&mut self, now: Millis, staged: StagedId, envelope: Envelope) {
        let is_busy = self.snapshots.offered.is_some() || self.snapshots.installing.is_some();
        if is_busy || !self.introductions.has_begun() {
            return self.emit(Output::DiscardStaged { staged });
        }
        self.snapshots.offered = Some(staged);
        if let Body::Message(message) = envelope.body {
            // An error means that the message counts as lost.
            let _ = self.group.step(now, *message);
        }
    }

    /// The group has taken the snapshot that was offered.
    pub(crate) fn take_snapshot(&mut self) {
        self.snapshots.installing = self.snapshots.offered.take();
        assert!(self.snapshots.installing.is_some(), "a snapshot without rows");
    }

    /// The end of a turn: what the group did not take is discarded, what it took is installed, and
    /// what a member wants is exported.
    pub(crate) fn settle_snapshots(&mut self) {
        if let Some(staged) = self.snapshots.offered.take() {
            self.emit(Output::DiscardStaged { staged });
        }
        if self.wants_checkpoint() {
            self.begin_checkpoint();
        }
    }

    /// True if a snapshot waits for a checkpoint, which begins even if nothing else is due.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.snapshots.installing.is_some() || self.wants_export()
    }

    fn wants_export(&self) -> bool {
        let is_wanted = self.group.role().is_leader && self.group.snapshot_wanted().is_some();
        is_wanted && self.applied.index > 0 && self.snapshots.export.is_none()
    }

    /// What the checkpoint that begins now does besides: whether it leaves a view, and what it
    /// installs.
    pub(crate) fn snapshot_work(&self) -> (bool, Option<StagedId>) {
        match self.snapshots.installing {
            Some(staged) => (false, Some(staged)),
            None => (self.wants_export(), None),
        }
    }

    /// A checkpoint that left a view of the state is done.
    pub(crate) fn exported(&mut self, now: Millis, done: Running) {
        let number = done.at.index;
        if !self.group.role().is_leader {
            return self.emit(Output::DropExport);
        }
        self.snapshots.export = Some((number, now));
        let membership = match planted(Mutant::PdSnapshotMembersLate) {
            true => self.members.membership(),
            false => done.membership,
        };
        self.group.offer_snapshot(done.at, &membership, Bytes::new());
    }

    /// The view that snapshots are sent from.
    pub(crate) fn export_number(&self) -> Option<u64> {
        self.snapshots.export.map(|(number, _)| number)
    }

    /// Drops the view if nobody needs it any more.
    pub(crate) fn drop_export_if_needless(&mut self, now: Millis) {
        let Some((_, since)) = self.snapshots.export else { return };
        let age_ms = now.since(since);
        let is_needed = self.group.progress().iter().any(|member| member.needs_snapshot);
        let is_kept = age_ms < self.group.election_ms() || (is_needed && age_ms < EXPORT_MS_MAX);
        if !is_kept || !self.group.role().is_leader {
            self.snapshots.export = None;
            self.group.withdraw_snapshot();
            self.emit(Output::DropExport);
        }
    }

    /// A snapshot is the state now: reads it back, and lets the log begin anew.
    pub(crate) fn installed(&mut self) -> Result<(), Failure> {
        self.snapshots.installing = None;
        let loaded = load(&self.store)?;
        self.applied = loaded.applied;
        self.members = loaded.members.clone().ok_or(Failure::Snapshot)?;
        if !planted(Mutant::PdSnapshotUnread) {
            self.state = State::from_records(loaded);
        }
        self.checkpoints.durable = self.applied.index;
        self.emit(Output::MemberAddrs(self.members.addrs().clone()));
        let ready = self.group.snapshot_installed();
        self.log_ready(ready.number, ready.log, ready.must_sync);
        self.send_after(ready.persisted_messages);
        self.end_if_removed();
        Ok(())
    }
}
