//! The simulated placement driver: one member over disks in memory.
//!
//! Its thread runs the loop that ships, and waits for each sync of its log; what comes in meanwhile
//! waits. Its disk may fail or be full, its clock runs at a rate of its own and jumps. A process
//! whose disk has failed stops and is started again. What it is asked while it is down gets no
//! answer.
//!
//! Not here: syncs of its start, and of what is asked past the network, take no time.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use flotilla_engine::{LogBatch, LogStore, MemLog, StateStore};
use flotilla_group::Timing;
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::pace::TURN_INPUTS_MAX;
use flotilla_pd::core::carry_out::{self, Outputs, PdIo};
use flotilla_pd::core::state::State;
use flotilla_pd::core::{CoreConfig, Event as PdEvent, Input, Output, Pd, PdTiming, RequestId};
use flotilla_types::heartbeat::StoreHeartbeat;
use flotilla_types::placement::{PdError, PdOp, PdReply, PdRequest};
use flotilla_types::{Millis, RangeMap, StoreId, proto};

use crate::check::admin::Step;
use crate::check::operators::PdSight;
use crate::check::{Verdict, Violation, broken};
use crate::clock::Clock;
use crate::event::{Asker, Body, End, Event, Packet};
use crate::hub::Hub;
use crate::scenario::{RATES, Scenario};
use crate::store::base::{BaseFault, SimBase};
use crate::store::disk::LogFault;
use crate::store::unexpected;
use crate::time::{MS, Micros};

/// The member's tick.
const TICK: Micros = Timing::DEFAULT.tick_ms * MS;

/// What is asked past the network has this id; requests from the network count from 1.
const ASKED: RequestId = RequestId(0);

/// The placement driver.
#[derive(Default)]
pub struct SimPd {
    /// Its processes so far.
    pub life: u32,
    log: SimLog,
    base: SimBase,
    /// The rate of its clock, once it was changed.
    rate: Option<u64>,
    process: Option<Process>,
}

struct Process {
    pd: Pd,
    store: Arc<StateStore>,
    clock: Clock,
    callers: BTreeMap<RequestId, (End, Asker)>,
    next_request: u64,
    inbox: VecDeque<Input>,
    /// True if a tick came since the last turn. Ticks that came while the thread stood still are
    /// one: a late tick is not made up for.
    is_tick_due: bool,
    outputs: Outputs,
    /// Why it cannot go on.
    failed: Option<String>,
}

/// The log, which survives, and how it fails.
#[derive(Default)]
struct SimLog {
    log: MemLog,
    /// How the log is to fail next.
    planned: Option<LogFault>,
    is_full: bool,
}

impl SimLog {
    /// Writes to the log; durable with the next [`SimLog::sync`].
    fn write(&mut self, batch: LogBatch) -> Result<Written, Violation> {
        if self.is_full || self.planned == Some(LogFault::Write) {
            self.planned = None;
            return Ok(Written::Failed("write refused".into()));
        }
        self.log.write(batch, false).map_err(unexpected)?;
        Ok(Written::Done)
    }

    /// All that was written is durable now.
    fn sync(&mut self) -> Result<Written, Violation> {
        if self.planned == Some(LogFault::Sync) {
            self.planned = None;
            return Ok(Written::Failed("sync failed".into()));
        }
        self.log.write(LogBatch::default(), true).map_err(unexpected)?;
        Ok(Written::Done)
    }
}

fn config(scenario: &Scenario) -> CoreConfig {
    CoreConfig {
        id: 1,
        addr: "pd:1".into(),
        seed: flotilla_types::dice::mix(scenario.seed) | 1 << 20,
        replica_count: scenario.cluster.replica_count,
        down_after_ms: scenario.cluster.down_after_ms,
        timing: PdTiming {
            disconnected_after_ms: scenario.cluster.disconnected_after_ms,
            ..PdTiming::default()
        },
    }
}

impl SimPd {
    /// True if its process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// What it knows; None while it is down.
    pub fn regions(&self) -> Option<&RangeMap> {
        self.process.as_ref().map(|process| process.pd.state().regions())
    }

    /// The stores it knows; none while it is down.
    pub fn stores(&self) -> Vec<StoreId> {
        let stores = self.process.iter().flat_map(|process| process.pd.state().stores());
        stores.map(|store| store.id).collect()
    }

    /// Starts its process.
    pub fn start(&mut self, hub: &mut Hub) -> Verdict {
        self.life += 1;
        let store = StateStore::new(Box::new(self.base.clone())).map_err(unexpected)?;
        let store = Arc::new(store);
        let rate = self.rate.unwrap_or((RATES.0 + RATES.1) / 2);
        let start_ms = hub.clock_start();
        let clock = Clock::begin_at(hub.now(), rate, start_ms);
        let log: Arc<dyn LogStore> = Arc::new(self.log.log.clone());
        let now = clock.millis(hub.now());
        let opened = Pd::open(config(&hub.scenario), log, store.clone(), now);
        let pd = opened.map_err(|error| Violation {
            invariant: "the placement driver can be started again",
            what: error.to_string(),
        })?;
        hub.say(|| format!("placement driver starts (life {})", self.life));
        hub.checks.admin.reborn();
        hub.process_began(End::Pd);
        hub.checks.orders.operators.reborn();
        self.process = Some(Process {
            pd,
            store,
            clock,
            callers: BTreeMap::new(),
            next_request: 1,
            inbox: VecDeque::new(),
            is_tick_due: false,
            outputs: Outputs::default(),
            failed: None,
        });
        hub.agenda.after(TICK, Event::PdTick { life: self.life });
        self.turn(hub, true).map(drop)
    }

    /// Its next write, sync or checkpoint fails.
    pub fn fail_next(&mut self, is_log: bool, is_sync: bool) {
        if is_log {
            self.log.planned = Some(if is_sync { LogFault::Sync } else { LogFault::Write });
        } else {
            self.base.fail_next(if is_sync { BaseFault::Unsure } else { BaseFault::Refused });
        }
    }

    /// While its disk is full, it can write nothing.
    pub fn set_full(&mut self, is_full: bool) {
        self.log.is_full = is_full;
        self.base.set_full(is_full);
    }

    /// Its disk does not fail any more.
    pub fn mend(&mut self) {
        self.log.planned = None;
        self.log.is_full = false;
        self.base.mend();
    }

    /// Its clock runs at another rate.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        self.rate = Some(rate);
        if let Some(process) = &mut self.process {
            process.clock.set_rate(now, rate);
        }
    }

    /// Its machine was suspended.
    pub fn wake(&mut self, since: Micros, now: Micros) {
        if let Some(process) = &mut self.process {
            process.clock.wake(since, now);
        }
    }

    /// Its clock jumps forward.
    pub fn jump(&mut self, now: Micros, by: Micros) {
        if let Some(process) = &mut self.process {
            process.clock.jump(now, by);
        }
    }

    /// Kills its process. False if none ran.
    pub fn crash(&mut self, hub: &mut Hub, down: Micros) -> bool {
        if self.process.take().is_none() {
            return false;
        }
        hub.say(|| "placement driver crashes".into());
        self.lose_unsynced(hub);
        hub.agenda.after(down, Event::Restart { end: End::Pd, life: self.life });
        true
    }

    fn lose_unsynced(&mut self, hub: &mut Hub) {
        hub.process_ended(End::Pd);
        let unsynced = self.log.log.unsynced_batches();
        self.log.log.crash_keeping(hub.dice.disks.between(0, unsynced as u64 + 1) as usize);
    }

    /// The sync that its thread waited for is done.
    pub fn on_synced(&mut self, hub: &mut Hub, life: u32) -> Verdict {
        if life != self.life || !self.finish_sync(hub)? {
            return Ok(());
        }
        self.go_on(hub)
    }

    /// True if there was a sync to wait for.
    fn finish_sync(&mut self, hub: &mut Hub) -> Result<bool, Violation> {
        if !self.process.as_ref().is_some_and(|process| process.outputs.is_waiting()) {
            return Ok(false);
        }
        match self.log.sync()? {
            Written::Failed(reason) => self.fail(reason),
            Written::Done | Written::Later => {
                self.run(hub, false, |outputs, io| carry_out::written(outputs, io))?;
            }
        }
        Ok(true)
    }

    fn fail(&mut self, reason: String) {
        if let Some(process) = &mut self.process {
            process.failed.get_or_insert(reason);
        }
    }

    /// Ends its process if its disk has failed; it is started again after a while.
    fn stop_if_failed(&mut self, hub: &mut Hub) {
        let Some(reason) = self.process.as_ref().and_then(|process| process.failed.clone()) else {
            return;
        };
        hub.say(|| format!("placement driver stops: {reason}"));
        hub.coverage.hit("placement driver stopped by its disk");
        self.process = None;
        self.lose_unsynced(hub);
        let down = hub.dice.processes.between(50 * MS, hub.scenario.faults.fault_max);
        hub.agenda.after(down, Event::Restart { end: End::Pd, life: self.life });
    }

    /// Its clock ticks.
    pub fn on_tick(&mut self, hub: &mut Hub, life: u32) -> Verdict {
        if life != self.life || self.process.is_none() {
            return Ok(());
        }
        hub.agenda.after(TICK, Event::PdTick { life });
        self.process.iter_mut().for_each(|process| process.is_tick_due = true);
        self.take_turn(hub)
    }

    /// Its checkpoint is done.
    pub fn on_disk(&mut self, hub: &mut Hub, life: u32, applied: u64) -> Verdict {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else {
            return Ok(());
        };
        if process.store.flush().is_err() {
            process.failed = Some("checkpoint failed".into());
            self.stop_if_failed(hub);
            return Ok(());
        }
        self.input(hub, Input::Checkpointed { applied })
    }

    /// A request arrives.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let Body::PdRequest { asker, request } = packet.body else { return Ok(()) };
        let Some(process) = &mut self.process else {
            if hub.dice.processes.chance(500) {
                hub.send(End::Pd, packet.from, Body::PdReply { asker, reply: None });
            }
            return Ok(());
        };
        let id = RequestId(process.next_request);
        process.next_request += 1;
        process.callers.insert(id, (packet.from, asker));
        let request = readable(*request)?;
        if let Asker::Admin { .. } = asker {
            hub.checks.admin.asked(id, request.op.clone());
        }
        self.input(hub, Input::Request { id, request })
    }

    /// Asks it past the network and in no time. None if it is down, or its disk fails at that.
    pub fn ask(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        let request = readable(proto::PdRequest { cluster_id: 0, op: Some(op) })?;
        self.finish_sync(hub)?;
        let Some(process) = &mut self.process else { return Ok(None) };
        process.inbox.push_back(Input::Request { id: ASKED, request });
        let reply = self.turn(hub, true)?;
        self.stop_if_failed(hub);
        Ok(reply)
    }

    fn input(&mut self, hub: &mut Hub, input: Input) -> Verdict {
        self.process.iter_mut().for_each(|process| process.inbox.push_back(input.clone()));
        self.take_turn(hub)
    }

    /// Lets the thread take a turn, unless it waits for a sync.
    fn take_turn(&mut self, hub: &mut Hub) -> Verdict {
        if self.process.as_ref().is_some_and(|process| !process.outputs.is_waiting()) {
            return self.go_on(hub);
        }
        Ok(())
    }

    fn go_on(&mut self, hub: &mut Hub) -> Verdict {
        self.turn(hub, false)?;
        self.stop_if_failed(hub);
        match self.regions() {
            Some(regions) => hub.checks.epochs.seen_in_pd(regions),
            None => Ok(()),
        }
    }

    /// Takes turns until nothing waits for the thread or the thread waits for a sync; if it
    /// `hurries`, syncs take no time. Answers what was replied to [`ASKED`].
    fn turn(&mut self, hub: &mut Hub, hurries: bool) -> Result<Option<proto::PdReply>, Violation> {
        let mut asked = None;
        loop {
            let Some(process) = &mut self.process else { return Ok(asked) };
            if process.outputs.is_waiting() || process.failed.is_some() {
                return Ok(asked);
            }
            let count = process.inbox.len().min(TURN_INPUTS_MAX);
            let mut inputs: Vec<Input> = process.inbox.drain(..count).collect();
            inputs.extend(std::mem::take(&mut process.is_tick_due).then_some(Input::Tick));
            let reply = self.run(hub, hurries, |outputs, io| {
                inputs.into_iter().for_each(|input| outputs.step(io, input));
                carry_out::end_turn(outputs, io);
            })?;
            asked = asked.or(reply);
            if self.process.as_ref().is_none_or(|process| process.inbox.is_empty()) {
                return Ok(asked);
            }
        }
    }

    /// Lets the loop that ships run over this member. Answers what was replied to [`ASKED`].
    fn run(
        &mut self,
        hub: &mut Hub,
        hurries: bool,
        act: impl FnOnce(&mut Outputs, &mut Thread<'_>),
    ) -> Result<Option<proto::PdReply>, Violation> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let mut outputs = std::mem::take(&mut process.outputs);
        let (life, log) = (self.life, &mut self.log);
        let mut thread = Thread { process, log, hub, life, hurries, asked: None, verdict: Ok(()) };
        act(&mut outputs, &mut thread);
        let Thread { asked, verdict, .. } = thread;
        process.outputs = outputs;
        verdict.map(|()| asked)
    }
}

/// A member while its thread runs, and what it shares with the world.
struct Thread<'a> {
    process: &'a mut Process,
    log: &'a mut SimLog,
    hub: &'a mut Hub,
    life: u32,
    hurries: bool,
    /// What was replied to [`ASKED`].
    asked: Option<proto::PdReply>,
    /// The first thing that must never be.
    verdict: Verdict,
}

impl Thread<'_> {
    /// Keeps the first violation, which ends the loop.
    fn note(&mut self, verdict: Verdict) {
        if self.verdict.is_ok() {
            self.verdict = verdict;
        }
    }

    /// Shows a heartbeat to the checker of what administrators are told.
    fn note_beat(&mut self, input: &Input) {
        if let Input::Request { request: PdRequest { op: PdOp::Heartbeat(beat), .. }, .. } = input {
            let now = self.hub.now();
            self.hub.checks.admin.beat(beat.store_id, now);
        }
    }

    fn check_answers(&mut self, before: &State, outputs: &[Output]) -> Verdict {
        let scenario = &self.hub.scenario.cluster;
        let step = Step {
            before,
            pd: &self.process.pd,
            now: self.hub.agenda.now(),
            disconnected_after_ms: scenario.disconnected_after_ms,
            down_after_ms: scenario.down_after_ms,
        };
        self.hub.checks.admin.answered(&step, outputs)
    }

    fn try_write(&mut self, batch: LogBatch, sync: bool) -> Result<Written, Violation> {
        let written = self.log.write(batch)?;
        if written != Written::Done || !sync {
            return Ok(written);
        }
        if self.hurries {
            return self.log.sync();
        }
        let (life, delay) = (self.life, self.hub.sync_time());
        self.hub.agenda.after(delay, Event::PdSynced { life });
        Ok(Written::Later)
    }
}

impl Io<Pd> for Thread<'_> {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let now: Millis = self.process.clock.millis(self.hub.now());
        let first = out.len();
        self.note_beat(&input);
        let heartbeat = heartbeat(&input);
        let before = self.hub.checks.admin.is_waiting().then(|| self.process.pd.state().clone());
        self.process.pd.step(now, input, out);
        if let Some(before) = before {
            let verdict = self.check_answers(&before, out.get(first..).unwrap_or_default());
            self.note(verdict);
        }
        let count = (out.len() - first) as u64;
        self.hub.trace.add(&[self.hub.agenda.now(), End::Pd.number(), count]);
        for output in out.get(first..).unwrap_or_default() {
            if let Output::Failed { reason } = output {
                self.note(broken("the placement driver does not give up", reason.clone()));
            }
        }
        let down_after_ms = self.hub.scenario.cluster.down_after_ms;
        let sight = PdSight { pd: &self.process.pd, now, down_after_ms };
        let outputs = out.get(first..).unwrap_or_default();
        let verdict = self.hub.checks.orders.put_out(&sight, heartbeat.as_ref(), outputs);
        self.note(verdict);
    }

    fn send(&mut self, message: Infallible) {
        match message {}
    }

    fn flush_messages(&mut self) {}

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        match self.try_write(batch, sync) {
            Ok(written) => written,
            Err(violation) => {
                let reason = violation.what.clone();
                self.note(Err(violation));
                Written::Failed(reason)
            }
        }
    }

    fn fail(&mut self, reason: String) {
        self.process.failed.get_or_insert(reason);
    }

    fn has_failed(&self) -> bool {
        self.verdict.is_err() || self.process.failed.is_some()
    }
}

impl PdIo for Thread<'_> {
    fn reply(&mut self, id: RequestId, reply: Result<PdReply, PdError>) {
        if id == ASKED && self.asked.is_none() {
            self.asked = Some(reply.into());
            return;
        }
        let Some((to, asker)) = self.process.callers.remove(&id) else {
            let what = format!("placement driver: {id:?} once more: {reply:?}");
            return self.note(broken("a request is answered once", what));
        };
        let reply = Some(Box::new(reply.into()));
        self.hub.send(End::Pd, to, Body::PdReply { asker, reply });
    }

    fn checkpoint(&mut self, applied: u64) {
        let (life, delay) = (self.life, self.hub.disk_time());
        self.hub.agenda.after(delay, Event::PdDisk { life, applied });
    }

    fn event(&mut self, event: &PdEvent) {
        tell(self.hub, event);
    }
}

/// The heartbeat that the input is.
fn heartbeat(input: &Input) -> Option<(RequestId, StoreHeartbeat)> {
    match input {
        Input::Request { id, request: PdRequest { op: PdOp::Heartbeat(heartbeat), .. } } => {
            Some((*id, heartbeat.clone()))
        }
        _ => None,
    }
}

/// The request that a message on the wire holds.
fn readable(request: proto::PdRequest) -> Result<PdRequest, Violation> {
    PdRequest::try_from(request).map_err(|error| Violation {
        invariant: "what the simulator asks the placement driver can be read",
        what: error.to_string(),
    })
}

fn tell(hub: &mut Hub, event: &PdEvent) {
    if let PdEvent::OperatorStarted { name, .. } = event
        && (name.contains("move") || name.contains("remove"))
    {
        hub.coverage.hit("leaders removed or moved by operators");
    }
    hub.say(|| format!("placement driver: {event:?}"));
}
