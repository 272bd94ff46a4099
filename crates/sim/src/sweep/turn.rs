//! The turns of a store of a sweep: the loop that ships, over a disk that fails and a ledger of
//! the store's promises. Opening and closing a store is in [`super::store`].

use flotilla_engine::LogBatch;
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::Envelope;
use flotilla_store::core::carry_out::{self, Outputs, StoreIo};
use flotilla_store::core::worker::Worker;
use flotilla_store::core::{Answer, Event, Input, Install, Output, RequestId, StagedId};
use flotilla_types::heartbeat::{HeartbeatReply, StoreAddr, StoreHeartbeat};
use flotilla_types::{Millis, RegionError, RegionId, StoreId};

use super::ledger::Ledger;
use super::store::{Mail, Store, TurnResult, make_durable, told};

/// Steps the inbox, ends the turn, and carries out the turn's outputs and all that follows from
/// them.
pub fn take(store: &mut Store, now: Millis, ledger: &mut Ledger) -> TurnResult {
    let inbox = std::mem::take(&mut store.inbox);
    let result = run(store, now, ledger, |outputs, turn| {
        inbox.into_iter().for_each(|input| outputs.step(turn, input));
        carry_out::end_turn(outputs, turn);
    });
    if !store.is_gone() {
        ledger.observe(store);
    }
    result
}

/// Makes everything durable, as a store that stops in good order does.
pub fn finish(store: &mut Store, now: Millis, ledger: &mut Ledger) -> Result<(), String> {
    run(store, now, ledger, |outputs, turn| carry_out::stop(outputs, turn));
    if let Some(reason) = &store.stopped {
        return Err(reason.clone());
    }
    let Some(process) = &store.process else { return Ok(()) };
    process.state.flush().map_err(told)?;
    make_durable(&process.state)
}

/// Carries out the delayed checkpoint, as the disk thread does. False if no checkpoint is delayed.
pub fn checkpoint(store: &mut Store, ledger: &mut Ledger) -> bool {
    let held = store.process.as_mut().and_then(|process| process.held.take());
    let Some((number, exports, installs)) = held else { return false };
    match store.try_checkpoint(number, exports, installs) {
        Ok(()) if store.is_gone() => {}
        Ok(()) => {
            ledger.is_durable(store.id);
            store.inbox.push(Input::Checkpointed { number });
        }
        Err(reason) => store.stop(reason),
    }
    true
}

/// Runs the loop that ships over the store, if the store is up.
fn run(
    store: &mut Store,
    now: Millis,
    ledger: &mut Ledger,
    act: impl FnOnce(&mut Outputs, &mut Turn<'_>),
) -> TurnResult {
    let Some(process) = &mut store.process else { return TurnResult::default() };
    let mut outputs = std::mem::take(&mut process.outputs);
    let mut turn = Turn { store, ledger, now, result: TurnResult::default() };
    act(&mut outputs, &mut turn);
    let Turn { store, result, .. } = turn;
    if let Some(process) = &mut store.process {
        process.outputs = outputs;
    }
    result
}

/// A store during one of its turns.
pub struct Turn<'a> {
    store: &'a mut Store,
    ledger: &'a mut Ledger,
    now: Millis,
    result: TurnResult,
}

impl Io<Worker> for Turn<'_> {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if let Some(process) = &mut self.store.process {
            process.worker.step(self.now, input, out);
        }
    }

    fn send(&mut self, (to, envelope): (StoreId, Envelope)) {
        let from = self.store.id;
        self.ledger.promise(from, &envelope);
        self.result.mails.push(Mail { from, to, envelope, rows: None });
    }

    fn flush_messages(&mut self) {}

    /// A write during which the power went never completes.
    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        let Some(process) = &self.store.process else { return Written::Later };
        match process.log.write(batch, sync) {
            Err(error) => Written::Failed(error.to_string()),
            Ok(()) if self.store.is_gone() => Written::Later,
            Ok(()) => Written::Done,
        }
    }

    fn fail(&mut self, reason: String) {
        self.store.stop(reason);
    }

    fn has_failed(&self) -> bool {
        self.store.stopped.is_some() || self.store.is_gone()
    }
}

impl StoreIo for Turn<'_> {
    fn reply(&mut self, id: RequestId, result: Result<Answer, RegionError>) {
        self.result.replies.push((id, result));
    }

    fn checkpoint(&mut self, number: u64, exports: Vec<RegionId>, installs: Vec<Install>) {
        let Some(process) = &mut self.store.process else { return };
        process.held = Some((number, exports, installs));
        self.ledger.observe(self.store);
        self.ledger.freeze(self.store);
        if !self.store.holds_checkpoints {
            checkpoint(self.store, self.ledger);
        }
    }

    fn send_snapshot(&mut self, to: StoreId, envelope: Envelope, number: u64) {
        let from = self.store.id;
        let rows = Some(self.store.exported_rows(&envelope, number));
        self.result.mails.push(Mail { from, to, envelope, rows });
    }

    fn drop_export(&mut self, region: RegionId) {
        if let Some(process) = &mut self.store.process {
            process.exports.remove(&region);
        }
    }

    fn discard_staged(&mut self, staged: StagedId) {
        if let Some(process) = &mut self.store.process {
            process.staged.remove(&staged);
        }
    }

    fn heartbeat(&mut self, _: StoreHeartbeat) {
        let reply = HeartbeatReply::default();
        self.store.inbox.push(Input::HeartbeatReply(Some(reply)));
    }

    fn store_addrs(&mut self, _: Vec<StoreAddr>) {}

    fn handed_over(&mut self) {}

    fn event(&mut self, _: &Event) {}
}
