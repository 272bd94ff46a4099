//! A store's worker thread, which runs the loop that ships over the simulated network and disk.
//!
//! Turns are taken at the pace that ships ([`flotilla_host::core::pace`]); their work takes time
//! ([`super::cost`]). A write that is synced blocks the thread until [`Event::Synced`]; a crash
//! in between finds the batch written and not synced. Every step of the core is checked.

use flotilla_engine::LogBatch;
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::Envelope;
use flotilla_host::core::pace::{CoreTurns, Cut};
use flotilla_store::core::carry_out::{self, Outputs, StoreIo};
use flotilla_store::core::worker::Worker;
use flotilla_store::core::{Answer, Event as StoreEvent, Input, Install, Output};
use flotilla_store::core::{RequestId, StagedId};
use flotilla_types::heartbeat::{StoreAddr, StoreHeartbeat};
use flotilla_types::{RegionError, RegionId, StoreId};

use crate::check::group::Node;
use crate::check::{Verdict, Violation, keep};
use crate::event::Event;
use crate::hub::Hub;
use crate::scenario::parts::ROWS_USUAL;
use crate::time::Micros;

use super::disk::{Disk, Done};
use super::process::Process;

/// A process while its thread runs, and what it shares with the world.
pub struct Thread<'a> {
    process: &'a mut Process,
    hub: &'a mut Hub,
    disk: &'a mut Disk,
    /// The first thing that must never be.
    verdict: Verdict,
}

impl<'a> Thread<'a> {
    /// The thread of a process.
    pub fn new(process: &'a mut Process, hub: &'a mut Hub, disk: &'a mut Disk) -> Thread<'a> {
        Thread { process, hub, disk, verdict: Ok(()) }
    }

    /// The first turn.
    pub fn begin(mut self) -> Verdict {
        self.process.observe(self.hub, self.disk)?;
        self.run(carry_out::end_turn)?;
        self.note_settled()
    }

    /// The thread wakes, if `at` is when it was to wake.
    pub fn on_wake(mut self, at: Micros) -> Verdict {
        if self.process.wake_at != Some(at) {
            return Ok(());
        }
        self.process.wake_at = None;
        if self.process.is_syncing() {
            return Ok(());
        }
        let free = self.process.paused_until.max(self.process.debt.busy_until());
        if self.hub.now() < free {
            self.process.wake(self.hub, free);
            return Ok(());
        }
        self.turn()
    }

    /// The sync that the thread waits for is done.
    pub fn on_synced(mut self) -> Verdict {
        if self.hub.now() < self.process.paused_until {
            let (store, life) = (self.process.id, self.process.life);
            self.hub.agenda.at(self.process.paused_until, Event::Synced { store, life });
            return Ok(());
        }
        if !self.process.is_syncing() {
            return Ok(());
        }
        match self.disk.sync()? {
            Done::Well => {
                self.hub.checks.ballots.sync(Node::Store(self.process.id))?;
                self.run(carry_out::written)?;
            }
            Done::Failed(reason) => {
                self.hub.coverage.hit("log syncs failed");
                self.fail(reason.into());
            }
        }
        self.note_settled()
    }

    /// Ends in good order: what is applied becomes durable.
    pub fn stop(mut self) -> Verdict {
        self.run(carry_out::stop)?;
        self.process.jobs.finish(self.hub);
        Ok(())
    }

    fn turn(&mut self) -> Verdict {
        let mut pace = self.process.pace.clone();
        let cut = pace.turn(self);
        self.process.pace = pace;
        self.verdict.clone()?;
        match cut {
            None => {
                let done = self.process.debt.settle(self.hub.now());
                self.process.wake(self.hub, done);
                return Ok(());
            }
            Some(Cut::Time) => self.hub.coverage.hit("turns cut by time"),
            Some(Cut::Drained | Cut::Inputs) => {}
        }
        self.note_settled()
    }

    /// Lets the loop that ships run over this thread.
    fn run(&mut self, act: impl FnOnce(&mut Outputs, &mut Self)) -> Verdict {
        let mut outputs = std::mem::take(&mut self.process.outputs);
        act(&mut outputs, self);
        self.process.outputs = outputs;
        self.verdict.clone()
    }

    fn step_input(&mut self, input: Input) {
        if !self.has_failed() {
            let stepped = self.run(|outputs, io| outputs.step(io, input));
            self.note(stepped);
        }
    }

    /// The loop has nothing more to do, unless it waits for a sync or the process has failed.
    fn note_settled(&mut self) -> Verdict {
        let Thread { process, hub, .. } = self;
        let done = process.debt.settle(hub.now());
        if process.is_syncing() || process.failed.is_some() {
            return Ok(());
        }
        for (region, index) in std::mem::take(&mut process.changed) {
            if process.worker.peer(region).is_some() {
                hub.checks.ballots.remembers(Node::Store(process.id), region, index)?;
            }
        }
        process.wake(hub, process.clock.true_at(process.pace.tick_due_us()).max(done));
        if !process.inbox.is_empty() {
            process.wake(hub, done.max(hub.now() + 1));
        }
        Ok(())
    }

    /// Keeps the first violation, which ends the loop.
    fn note(&mut self, verdict: Verdict) {
        keep(&mut self.verdict, verdict).ok();
    }

    fn try_write(&mut self, turn: u64, batch: LogBatch, sync: bool) -> Result<Written, Violation> {
        let Thread { process, hub, disk, .. } = self;
        hub.say(|| super::told::tell_append(process.id, turn, &batch, sync));
        let written = batch.clone();
        hub.checks
            .quiet
            .happens(hub.agenda.now(), || super::told::tell_append(process.id, turn, &batch, sync));
        if let Done::Failed(reason) = disk.write(batch)? {
            hub.coverage.hit(match disk.is_full() {
                true => "log writes refused by a full disk",
                false => "log writes failed",
            });
            return Ok(Written::Failed(reason.into()));
        }
        hub.checks.ballots.write(Node::Store(process.id), written);
        if !sync {
            return Ok(Written::Done);
        }
        let (store, life) = (process.id, process.life);
        let delay = process.debt.owed() + hub.sync_time();
        hub.agenda.after(delay, Event::Synced { store, life });
        Ok(Written::Later)
    }
}

impl CoreTurns for Thread<'_> {
    fn now_us(&self) -> Micros {
        self.process.clock.local(self.hub.now() + self.process.debt.owed())
    }

    fn is_behind(&self) -> bool {
        !self.has_failed() && self.process.debt.is_large()
    }

    fn take_mail(&mut self) -> Option<usize> {
        if self.has_failed() {
            return None;
        }
        let mail = self.process.inbox.take()?;
        if let Some(input) = self.process.open_mail(self.hub, mail) {
            self.step_input(input);
        }
        Some(1)
    }

    fn tick(&mut self) {
        self.step_input(Input::Tick);
    }

    fn end_turn(&mut self) {
        if !self.has_failed() {
            let ended = self.run(carry_out::end_turn);
            self.note(ended);
        }
    }
}

impl Io<Worker> for Thread<'_> {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if self.verdict.is_ok() {
            self.verdict = self.process.step(self.hub, self.disk, input, out);
        }
    }

    fn send(&mut self, (to, envelope): (StoreId, Envelope)) {
        let sent = self.process.send(self.hub, to, envelope);
        self.note(sent);
    }

    fn flush_messages(&mut self) {}

    fn write_log(&mut self, turn: u64, batch: LogBatch, sync: bool) -> Written {
        let tried = self.try_write(turn, batch, sync);
        keep(&mut self.verdict, tried).unwrap_or_else(Written::Failed)
    }

    fn fail(&mut self, reason: String) {
        self.process.fail(self.hub, reason);
    }

    fn has_failed(&self) -> bool {
        self.verdict.is_err() || self.process.failed.is_some()
    }
}

impl StoreIo for Thread<'_> {
    fn reply(&mut self, id: RequestId, result: Result<Answer, RegionError>) {
        let replied = self.process.reply(self.hub, id, result);
        self.note(replied);
    }

    fn checkpoint(&mut self, number: u64, exports: Vec<RegionId>, installs: Vec<Install>) {
        let store = self.process.id;
        let now = self.hub.now();
        self.hub.checks.quiet.happens(now, || format!("store {store}: checkpoint {number}"));
        self.process.jobs.checkpoint(self.hub, number, exports, installs);
    }

    fn send_snapshot(&mut self, to: StoreId, envelope: Envelope, number: u64) {
        let (store, life, envelope) = (self.process.id, self.process.life, Box::new(envelope));
        let is_healed = self.hub.net.is_healed();
        let most = if is_healed { ROWS_USUAL } else { self.hub.scenario.disk.rows_max };
        let delay = self.hub.dice.processes.between(0, most);
        let send = Event::SendSnapshot { store, life, envelope, to, number };
        self.hub.agenda.after(delay, send);
    }

    fn drop_export(&mut self, region: RegionId) {
        self.process.jobs.drop_view(region);
    }

    fn discard_staged(&mut self, staged: StagedId) {
        self.hub.coverage.hit("snapshots refused or stale");
        self.process.jobs.discard(staged);
    }

    fn heartbeat(&mut self, heartbeat: StoreHeartbeat) {
        let sent = self.process.heartbeat(self.hub, heartbeat.into());
        self.note(sent);
    }

    fn store_addrs(&mut self, addrs: Vec<StoreAddr>) {
        self.process.addresses.learn(addrs.into_iter().map(|addr| addr.store_id));
    }

    fn handed_over(&mut self) {
        let handed_over = self.process.handed_over(self.hub);
        self.note(handed_over);
    }

    fn event(&mut self, event: &StoreEvent) {
        self.process.note(self.hub, self.disk, event);
    }
}
