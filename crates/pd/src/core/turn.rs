//! What a turn leads to: the log is written, committed entries are applied, callers are answered,
//! and now and then a checkpoint makes the state durable.
//!
//! Invariant: all entries of one ready go into the state in one batch, with the applied position.
//! An answer leaves only after that.

use flotilla_engine::{EngineError, StateBatch};
use flotilla_group::{Committed, CommittedBody, GroupReady, Position};
use flotilla_host::core::turn::SentReady;
use flotilla_host::core::waiting::Decided;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::PdReply;
use flotilla_types::{Millis, StoreId};

use crate::core::command::PdCommand;
use crate::core::context::Action;
use crate::core::errors::busy;
use crate::core::first_region;
use crate::core::io::{Event, Output};
use crate::core::pd::{Failure, PD_GROUP, Pd};
use crate::core::records::{APPLIED_KEY, Changes, encode_position};
use crate::core::registration;
use crate::core::state::Applied;
use crate::core::waiting::Waiter;

/// Applied entries after which a checkpoint is due: some hundred KiB of log to replay.
const CHECKPOINT_ENTRIES: u64 = 1_000;

impl Pd {
    /// Takes over what the group hands out.
    pub(crate) fn on_ready(&mut self, now: Millis, ready: GroupReady) -> Result<(), Failure> {
        // With one member there is nobody to send to, or to receive a snapshot from.
        let messages = ready.messages.len() + ready.persisted_messages.len();
        assert!(messages == 0, "{messages} messages in a group of one member");
        assert!(ready.snapshot.is_none(), "a snapshot in a group of one member");
        if ready.must_sync && !planted(Mutant::PdSkipSync) {
            self.log_turn.write_synced(ready.log);
        } else {
            self.log_turn.write(ready.log);
        }
        let (group, member) = (PD_GROUP, self.config.id);
        self.log_turn.report_after(SentReady { group, member, number: ready.number });
        self.apply(now, ready.committed)?;
        for confirmed in ready.reads {
            self.waiting.confirm(confirmed);
        }
        for read in self.waiting.take_readable(self.applied.index) {
            self.serve(now, read.id, &read.op);
        }
        Ok(())
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
                CommittedBody::Membership(_) => return Err(Failure::Membership { index }),
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
        let is_durable = self.checkpoints.durable == self.applied.index;
        if self.checkpoints.is_running || is_durable || !self.store.freeze() {
            return;
        }
        self.checkpoints.is_running = true;
        self.checkpoints.dirty_since = None;
        self.emit(Output::Checkpoint { applied: self.applied.index });
    }

    pub(crate) fn checkpointed(&mut self, applied: u64) {
        self.checkpoints.is_running = false;
        self.checkpoints.durable = applied;
        let is_wrong = planted(Mutant::PdTruncateUndurable);
        let ops = self.group.truncate(if is_wrong { self.applied.index } else { applied });
        self.log_turn.write(ops);
    }
}
