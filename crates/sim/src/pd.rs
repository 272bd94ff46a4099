//! The simulated placement driver: one member over disks in memory.
//!
//! Its thread waits for each sync of its log, as the driver's does; what comes in meanwhile waits.
//! Its disk may fail or be full, its clock runs at a rate of its own and jumps. A process whose
//! disk has failed stops and is started again. What it is asked while it is down gets no answer.
//!
//! Not here: syncs of its start, and of what is asked past the network, take no time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_engine::{LogBatch, LogOp, LogStore, MemLog, StateStore};
use flotilla_pd::core::{CoreConfig, Event as PdEvent, Input, Output, Pd, PdTiming, RequestId};
use flotilla_types::placement::PdRequest;
use flotilla_types::{Millis, RangeMap, StoreId, proto};

use crate::check::{Verdict, Violation, broken};
use crate::clock::Clock;
use crate::event::{Asker, Body, End, Event, Packet};
use crate::hub::Hub;
use crate::scenario::{RATES, Scenario};
use crate::store::base::{BaseFault, SimBase};
use crate::store::disk::LogFault;
use crate::store::unexpected;
use crate::time::{MS, Micros};

const TICK: Micros = 100 * MS;

/// The placement driver.
#[derive(Default)]
pub struct SimPd {
    /// Its processes so far.
    pub life: u32,
    log: MemLog,
    base: SimBase,
    /// How the log is to fail next.
    planned: Option<LogFault>,
    is_full: bool,
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
    current: VecDeque<Output>,
    /// The write whose sync the thread waits for, by its turn if it has one.
    syncing: Option<Option<u64>>,
    /// Why it cannot go on.
    failed: Option<&'static str>,
}

/// Answers gathered while outputs are carried out.
type Replies = Vec<(RequestId, proto::PdReply)>;

fn config(scenario: &Scenario) -> CoreConfig {
    CoreConfig {
        id: 1,
        addr: "pd:1".into(),
        seed: flotilla_types::dice::mix(scenario.seed) | 1 << 20,
        replica_count: scenario.replica_count,
        down_after_ms: scenario.down_after_ms,
        timing: PdTiming {
            disconnected_after_ms: scenario.disconnected_after_ms,
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
        let log: Arc<dyn LogStore> = Arc::new(self.log.clone());
        let now = clock.millis(hub.now());
        let opened = Pd::open(config(&hub.scenario), log, store.clone(), now);
        let pd = opened.map_err(|error| Violation {
            invariant: "the placement driver can be started again",
            what: error.to_string(),
        })?;
        hub.say(|| format!("placement driver starts (life {})", self.life));
        self.process = Some(Process {
            pd,
            store,
            clock,
            callers: BTreeMap::new(),
            next_request: 1,
            inbox: VecDeque::new(),
            current: VecDeque::new(),
            syncing: None,
            failed: None,
        });
        hub.agenda.after(TICK, Event::PdTick { life: self.life });
        self.turn(hub, true).map(drop)
    }

    /// Its next write, sync or checkpoint fails.
    pub fn fail_next(&mut self, is_log: bool, is_sync: bool) {
        if is_log {
            self.planned = Some(if is_sync { LogFault::Sync } else { LogFault::Write });
        } else {
            self.base.fail_next(if is_sync { BaseFault::Unsure } else { BaseFault::Refused });
        }
    }

    /// While its disk is full, it can write nothing.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.base.set_full(is_full);
    }

    /// Its disk does not fail any more.
    pub fn mend(&mut self) {
        self.planned = None;
        self.is_full = false;
        self.base.mend();
    }

    /// Its clock runs at another rate.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        self.rate = Some(rate);
        if let Some(process) = &mut self.process {
            process.clock.set_rate(now, rate);
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
        let unsynced = self.log.unsynced_batches();
        self.log.crash_keeping(hub.dice.between(0, unsynced as u64 + 1) as usize);
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
        let Some(process) = &mut self.process else { return Ok(false) };
        let Some(turn) = process.syncing.take() else { return Ok(false) };
        if self.planned == Some(LogFault::Sync) {
            self.planned = None;
            process.failed = Some("sync failed");
            return Ok(true);
        }
        self.log.write(LogBatch::default(), true).map_err(unexpected)?;
        self.persisted(hub, turn);
        Ok(true)
    }

    fn persisted(&mut self, hub: &mut Hub, turn: Option<u64>) {
        let Some(turn) = turn else { return };
        let outputs = self.step(hub, Input::Persisted { turn });
        if let Some(process) = &mut self.process {
            process.current.extend(outputs);
        }
    }

    /// Ends its process if its disk has failed; it is started again after a while.
    fn stop_if_failed(&mut self, hub: &mut Hub) {
        let Some(reason) = self.process.as_ref().and_then(|process| process.failed) else { return };
        hub.say(|| format!("placement driver stops: {reason}"));
        hub.coverage.hit("placement driver stopped by its disk");
        self.process = None;
        self.lose_unsynced(hub);
        let down = hub.dice.between(50 * MS, hub.scenario.fault_max);
        hub.agenda.after(down, Event::Restart { end: End::Pd, life: self.life });
    }

    /// Its clock ticks.
    pub fn on_tick(&mut self, hub: &mut Hub, life: u32) -> Verdict {
        if life != self.life || self.process.is_none() {
            return Ok(());
        }
        hub.agenda.after(TICK, Event::PdTick { life });
        self.input(hub, Input::Tick)
    }

    /// Its checkpoint is done.
    pub fn on_disk(&mut self, hub: &mut Hub, life: u32, applied: u64) -> Verdict {
        let Some(process) = self.process.as_mut().filter(|_| life == self.life) else {
            return Ok(());
        };
        if process.store.flush().is_err() {
            process.failed = Some("checkpoint failed");
            self.stop_if_failed(hub);
            return Ok(());
        }
        self.input(hub, Input::Checkpointed { applied })
    }

    /// A request arrives.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let Body::PdRequest { asker, request } = packet.body else { return Ok(()) };
        let Some(process) = &mut self.process else {
            if hub.dice.chance(500) {
                hub.send(End::Pd, packet.from, Body::PdReply { asker, reply: None });
            }
            return Ok(());
        };
        let id = RequestId(process.next_request);
        process.next_request += 1;
        process.callers.insert(id, (packet.from, asker));
        self.input(hub, Input::Request { id, request: readable(*request)? })
    }

    /// Asks it past the network and in no time. None if it is down, or its disk fails at that.
    pub fn ask(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        let id = RequestId(0);
        let request = readable(proto::PdRequest { cluster_id: 0, op: Some(op) })?;
        self.finish_sync(hub)?;
        let Some(process) = &mut self.process else { return Ok(None) };
        process.inbox.push_back(Input::Request { id, request });
        let replies = self.turn(hub, true)?;
        let (asked, others) = replies.into_iter().partition(|(of, _)| *of == id);
        let replies: Replies = asked;
        self.tell_callers(hub, others);
        self.stop_if_failed(hub);
        Ok(replies.into_iter().find(|(of, _)| *of == id).map(|(_, reply)| reply))
    }

    fn input(&mut self, hub: &mut Hub, input: Input) -> Verdict {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.inbox.push_back(input);
        if process.syncing.is_some() {
            return Ok(());
        }
        self.go_on(hub)
    }

    fn go_on(&mut self, hub: &mut Hub) -> Verdict {
        let replies = self.turn(hub, false)?;
        self.tell_callers(hub, replies);
        self.stop_if_failed(hub);
        match self.regions() {
            Some(regions) => hub.checks.epochs.seen_in_pd(regions),
            None => Ok(()),
        }
    }

    fn tell_callers(&mut self, hub: &mut Hub, replies: Replies) {
        for (id, reply) in replies {
            let caller = self.process.as_mut().and_then(|process| process.callers.remove(&id));
            if let Some((to, asker)) = caller {
                let reply = Some(Box::new(reply));
                hub.send(End::Pd, to, Body::PdReply { asker, reply });
            }
        }
    }

    fn step(&mut self, hub: &mut Hub, input: Input) -> Vec<Output> {
        let mut out = vec![];
        if let Some(process) = &mut self.process {
            let now: Millis = process.clock.millis(hub.now());
            process.pd.step(now, input, &mut out);
            hub.trace.add(&[hub.agenda.now(), End::Pd.number(), out.len() as u64]);
        }
        out
    }

    /// Takes what waits and carries outputs out, until there is none or the thread waits for a
    /// sync; if it `hurries`, syncs take no time.
    fn turn(&mut self, hub: &mut Hub, hurries: bool) -> Result<Replies, Violation> {
        let mut replies = vec![];
        while let Some(process) = &mut self.process {
            let output = process.current.pop_front();
            match output {
                Some(output) => self.carry_out(hub, output, &mut replies)?,
                None => {
                    let input = process.inbox.pop_front();
                    let is_last = input.is_none();
                    let outputs = self.step(hub, input.unwrap_or(Input::Flush));
                    if is_last && outputs.is_empty() {
                        break;
                    }
                    self.process.iter_mut().for_each(|p| p.current.extend(outputs.clone()));
                }
            }
            if hurries {
                self.finish_sync(hub)?;
            }
            if self.process.as_ref().is_some_and(|p| p.syncing.is_some() || p.failed.is_some()) {
                break;
            }
        }
        Ok(replies)
    }

    fn carry_out(&mut self, hub: &mut Hub, output: Output, replies: &mut Replies) -> Verdict {
        match output {
            Output::Append { turn, ops, sync } => return self.append(hub, turn, ops, sync),
            Output::Checkpoint { applied } => {
                let (life, delay) = (self.life, hub.disk_time());
                hub.agenda.after(delay, Event::PdDisk { life, applied });
            }
            Output::Reply { id, reply } => replies.push((id, reply.into())),
            Output::Event(event) => tell(hub, &event),
            Output::Failed { reason } => {
                broken("the placement driver does not give up", reason)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, hub: &mut Hub, turn: Option<u64>, ops: Vec<LogOp>, sync: bool) -> Verdict {
        let Some(process) = &mut self.process else { return Ok(()) };
        if self.is_full || self.planned == Some(LogFault::Write) {
            self.planned = None;
            process.failed = Some("write refused");
            return Ok(());
        }
        self.log.write(LogBatch { ops }, false).map_err(unexpected)?;
        if !sync {
            self.persisted(hub, turn);
            return Ok(());
        }
        process.syncing = Some(turn);
        let (life, delay) = (self.life, hub.sync_time());
        hub.agenda.after(delay, Event::PdSynced { life });
        Ok(())
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
