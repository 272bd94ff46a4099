//! What a turn leads to: the log is written, committed entries are applied, callers are answered,
//! and now and then a checkpoint makes the state durable.
//!
//! Invariant: all entries of one ready go into the state in one batch, with the applied position.
//! An answer leaves only after that.

use flotilla_engine::{EngineError, LogOp, StateBatch};
use flotilla_group::{Committed, CommittedBody, GroupReady, MessageKind, Position, RaftMessage};
use flotilla_host::core::message::{Address, Body, End, Envelope};
use flotilla_host::core::turn::SentReady;
use flotilla_host::core::waiting::Decided;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::PdReply;
use flotilla_types::{Millis, RegionId, StoreId};

use crate::core::checkpoints::Running;
use crate::core::command::PdCommand;
use crate::core::context::Action;
use crate::core::errors::busy;
use crate::core::first_region;
use crate::core::io::{Event, Output};
use crate::core::members::Change;
use crate::core::pd::{Failure, PD_GROUP, Pd};
use crate::core::records::{APPLIED_KEY, Changes, GROUP_KEY, encode_position};
use crate::core::registration;
use crate::core::state::Applied;
use crate::core::waiting::Waiter;

/// Applied entries after which a checkpoint is due: some hundred KiB of log to replay.
const CHECKPOINT_ENTRIES: u64 = 1_000;

/// Entries that stay in the log for a member that is a moment behind.
const ENTRIES_KEPT: u64 = 256;

/// Entries that stay for a member that is away: some MiB. Beyond it, the member gets a snapshot.
const ENTRIES_KEPT_FOR_ABSENT: u64 = 4_096;

impl Pd {
    /// Takes over what the group hands out.
    pub(crate) fn on_ready(&mut self, now: Millis, ready: GroupReady) -> Result<(), Failure> {
        for message in ready.messages {
            self.send(message);
        }
        if ready.snapshot.is_some() {
            // It counts as persisted once it is installed.
            self.take_snapshot();
        } else {
            self.log_ready(ready.number, ready.log, ready.must_sync);
            self.send_after(ready.persisted_messages);
        }
        self.apply(now, ready.committed)?;
        for confirmed in ready.reads {
            self.waiting.confirm(confirmed);
        }
        for read in self.waiting.take_readable(self.applied.index) {
            self.emit(Output::Event(Event::Decides { id: read.id }));
            self.decide(now, read.id, read.request);
        }
        Ok(())
    }

    /// Sends a message that need not wait for the log.
    fn send(&mut self, message: RaftMessage) {
        let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
        let envelope = self.wrap(message);
        match (is_snapshot, self.export_number()) {
            (false, _) => self.emit(Output::Send(envelope)),
            (true, Some(number)) => self.emit(Output::SendSnapshot { envelope, number }),
            (true, None) => {}
        }
    }

    /// Sends messages once the log of this turn is durable.
    pub(crate) fn send_after(&mut self, messages: Vec<RaftMessage>) {
        let envelopes: Vec<Envelope> =
            messages.into_iter().map(|message| self.wrap(message)).collect();
        self.log_turn.send_after(envelopes);
    }

    /// Adds what the group wants written.
    pub(crate) fn log_ready(&mut self, number: u64, log: Vec<LogOp>, must_sync: bool) {
        if must_sync && !planted(Mutant::PdSkipSync) {
            self.log_turn.write_synced(log);
        } else {
            self.log_turn.write(log);
        }
        self.log_turn.report_after(SentReady { group: PD_GROUP, member: self.config.id, number });
    }

    /// Tells a process that its member was removed.
    pub(crate) fn send_removed(&mut self, to: u64) {
        let envelope = self.envelope(to, Body::Removed);
        self.emit(Output::Send(envelope));
    }

    fn wrap(&self, message: RaftMessage) -> Envelope {
        self.envelope(message.to, Body::Message(Box::new(message)))
    }

    pub(crate) fn envelope(&self, to: u64, body: Body) -> Envelope {
        let end = |member| End { address: Address::Pd(member), member };
        let (from, to) = (end(self.config.id), end(to));
        Envelope { region_id: RegionId(0), conf_ver: 0, region: None, from, to, body }
    }

    fn apply(&mut self, now: Millis, committed: Vec<Committed>) -> Result<(), Failure> {
        if committed.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::default();
        let mut results = Vec::with_capacity(committed.len());
        for Committed { position, body } in committed {
            let index = position.index;
            let result = match body {
                CommittedBody::Empty => Applied::Done,
                CommittedBody::Command(payload) => {
                    let command = PdCommand::decode(payload)
                        .map_err(|error| Failure::Entry { index, error })?;
                    self.apply_command(command, &mut changes)
                }
                CommittedBody::Membership(context) => {
                    let change =
                        Change::decode(context).map_err(|error| Failure::Entry { index, error })?;
                    self.apply_change(change);
                    changes.put(GROUP_KEY, self.members.encode());
                    Applied::Done
                }
            };
            self.applied = position;
            results.push((position, result));
        }
        self.config.check_replicas(self.state.replica_count())?;
        changes.put(APPLIED_KEY, encode_position(self.applied));
        self.write(changes)?;
        self.group.applied(self.applied.index);
        self.checkpoints.dirty_since.get_or_insert(now);
        for (position, result) in results {
            self.settle(now, position, result);
        }
        self.end_if_removed();
        Ok(())
    }

    fn apply_command(&mut self, command: PdCommand, changes: &mut Changes) -> Applied {
        if let (PdCommand::PutRegions(regions), Some(leader)) = (&command, &mut self.leader) {
            leader.note_applied(regions);
        }
        self.state.apply(command, changes)
    }

    fn write(&self, changes: Changes) -> Result<(), EngineError> {
        let mut batch = StateBatch::default();
        for (key, value) in changes.records {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.store.write(batch)
    }

    /// Tells whoever waits for the entry what became of it.
    fn settle(&mut self, now: Millis, position: Position, result: Applied) {
        let Decided { applied, dropped } = self.waiting.applied(position);
        for waiter in dropped {
            self.fail_waiter(waiter, "another leader's entry took the place");
        }
        if let Some(waiter) = applied {
            self.settle_waiter(now, waiter, result);
        }
    }

    fn settle_waiter(&mut self, now: Millis, waiter: Waiter, result: Applied) {
        match (waiter, result) {
            (waiter, Applied::Refused(refusal)) => {
                if let Some(id) = waiter.request() {
                    self.answer(id, Err(refusal.into()));
                }
            }
            (Waiter::LeaderIds, Applied::Ids(block)) => {
                if let Some(leader) = &mut self.leader {
                    leader.ids.refill(block);
                    leader.plan_at = None;
                }
            }
            (Waiter::Register { id, .. }, Applied::Store(store)) => {
                if let Some(leader) = &mut self.leader {
                    leader.reports.expect_store(now, store);
                    leader.registered_at = Some(now);
                }
                self.emit(Output::Event(Event::StoreRegistered { store }));
                let action = match self.context(now) {
                    Some(context) => registration::lease_ids(&context, id, store),
                    None => Action::Answer(Err(busy("leadership was lost"))),
                };
                self.act(id, action);
            }
            (Waiter::RegisterIds { id, store }, Applied::Ids(block)) => {
                let registration = registration::registration(&self.state, store, block);
                self.answer(id, Ok(PdReply::RegisterStore(registration)));
            }
            (Waiter::Ids { id }, Applied::Ids(block)) => self.answer(id, Ok(PdReply::Ids(block))),
            (Waiter::HeartbeatIds { id, mut reply }, Applied::Ids(block)) => {
                reply.ids = Some(block);
                self.answer(id, Ok(PdReply::Heartbeat(*reply)));
            }
            (Waiter::SetStoreState { id, .. }, Applied::Store(_)) => {
                if let Some(leader) = &mut self.leader {
                    leader.plan_at = None;
                }
                self.answer(id, Ok(PdReply::SetStoreState));
            }
            (Waiter::Members { id }, Applied::Done) => {
                self.answer(id, Ok(PdReply::Members(self.told_members(now))));
            }
            (Waiter::FirstRegion, Applied::Done) => self.note_first_region(),
            (Waiter::Nobody, _) => {}
            (waiter, result) => panic!("{waiter:?} cannot come of {result:?}"),
        }
    }

    fn note_first_region(&mut self) {
        let Some(region) = self.state.first_region() else { return };
        let stores: Vec<StoreId> = region.members.iter().map(|member| member.store_id).collect();
        let is_crowded = first_region::is_crowded(&self.state, &stores);
        self.emit(Output::Event(Event::FirstRegion { region: region.id, stores, is_crowded }));
    }

    pub(crate) fn checkpoint_if_due(&mut self, now: Millis) {
        let entries = self.applied.index - self.checkpoints.durable;
        let is_old = self
            .checkpoints
            .dirty_since
            .is_some_and(|since| now.since(since) >= self.config.timing.checkpoint_ms);
        if entries >= CHECKPOINT_ENTRIES || is_old {
            self.begin_checkpoint();
        }
    }

    pub(crate) fn begin_checkpoint(&mut self) {
        let is_due = self.checkpoints.durable != self.applied.index || self.wants_checkpoint();
        if self.checkpoints.running.is_some() || !is_due || !self.store.freeze() {
            return;
        }
        let (exports, install) = self.snapshot_work();
        let (at, membership) = (self.applied, self.members.membership());
        let installs = install.is_some();
        self.checkpoints.running = Some(Running { at, membership, exports, installs });
        self.checkpoints.dirty_since = None;
        self.emit(Output::Checkpoint { applied: at.index, exports, install });
    }

    pub(crate) fn checkpointed(&mut self, now: Millis, applied: u64) -> Result<(), Failure> {
        let running = self.checkpoints.running.take().expect("one runs");
        assert_eq!(running.at.index, applied, "checkpoints end in order");
        self.checkpoints.durable = applied;
        if running.installs {
            return self.installed();
        }
        if running.exports {
            self.exported(now, running);
        }
        self.truncate();
        Ok(())
    }

    /// Forgets entries of the log that no member needs, within bounds.
    pub(crate) fn truncate(&mut self) {
        let durable = match planted(Mutant::PdTruncateUndurable) {
            true => self.applied.index,
            false => self.checkpoints.durable,
        };
        // The first entry goes soon: see `changes`.
        let least = |kept: u64| durable.saturating_sub(kept).max(durable.min(1));
        let mut through = if self.members.is_lone() { durable } else { least(ENTRIES_KEPT) };
        for member in self.group.progress() {
            if member.needs_snapshot || member.matched < through {
                let least = least(ENTRIES_KEPT_FOR_ABSENT);
                through = through.min(member.matched.max(least));
            }
        }
        if through > self.group.truncated().index {
            let ops = self.group.truncate(through);
            self.log_turn.write(ops);
        }
    }
}
