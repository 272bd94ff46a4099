//! The simulated placement driver: one member over disks in memory.
//!
//! Its writes take no time, for it has nobody to race with; its checkpoints do. What it is asked
//! while it is down gets no answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{LogBatch, LogStore, MemLog, StateStore};
use flotilla_pd::core::{CoreConfig, Event as PdEvent, Input, Output, Pd, PdTiming, RequestId};
use flotilla_types::{Millis, RangeMap, StoreId, proto};

use crate::agenda::{MS, Micros};
use crate::check::{Verdict, Violation, broken};
use crate::clock::Clock;
use crate::event::{Asker, Body, End, Event, Packet};
use crate::hub::Hub;
use crate::scenario::Scenario;
use crate::store::unexpected;

const TICK: Micros = 100 * MS;

/// The placement driver.
#[derive(Default)]
pub struct SimPd {
    /// Its processes so far.
    pub life: u32,
    log: MemLog,
    base: MemBase,
    process: Option<Process>,
}

struct Process {
    pd: Pd,
    store: Arc<StateStore>,
    clock: Clock,
    callers: BTreeMap<RequestId, (End, Asker)>,
    next_request: u64,
}

/// Answers gathered while outputs are carried out.
type Replies = Vec<(RequestId, proto::PdReply)>;

fn config(scenario: &Scenario) -> CoreConfig {
    CoreConfig {
        id: 1,
        addr: "pd:1".into(),
        seed: crate::trace::mix(scenario.seed) | 1 << 20,
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
        let clock = Clock::begin(hub.now(), 1_000_000);
        let log: Arc<dyn LogStore> = Arc::new(self.log.clone());
        let now = clock.millis(hub.now());
        let opened = Pd::open(config(&hub.scenario), log, store.clone(), now);
        let pd = opened.map_err(|error| Violation {
            invariant: "the placement driver can be started again",
            what: error.to_string(),
        })?;
        hub.say(|| format!("placement driver starts (life {})", self.life));
        let (callers, next_request) = (BTreeMap::new(), 1);
        self.process = Some(Process { pd, store, clock, callers, next_request });
        hub.agenda.after(TICK, Event::PdTick { life: self.life });
        self.settle(hub, vec![]).map(drop)
    }

    /// Kills its process. False if none ran.
    pub fn crash(&mut self, hub: &mut Hub, down: Micros) -> bool {
        if self.process.take().is_none() {
            return false;
        }
        hub.say(|| "placement driver crashes".into());
        self.log.crash();
        hub.agenda.after(down, Event::Restart { end: End::Pd, life: self.life });
        true
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
        process.store.flush().map_err(unexpected)?;
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
        self.input(hub, Input::Request { id, request: *request })
    }

    /// Asks it past the network, before the world begins.
    pub fn ask(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        let id = RequestId(0);
        let request = proto::PdRequest { cluster_id: 0, op: Some(op) };
        let outputs = self.step(hub, Input::Request { id, request });
        let replies = self.settle(hub, outputs)?;
        Ok(replies.into_iter().find(|(of, _)| *of == id).map(|(_, reply)| reply))
    }

    fn input(&mut self, hub: &mut Hub, input: Input) -> Verdict {
        let outputs = self.step(hub, input);
        let replies = self.settle(hub, outputs)?;
        for (id, reply) in replies {
            let caller = self.process.as_mut().and_then(|process| process.callers.remove(&id));
            if let Some((to, asker)) = caller {
                let reply = Some(Box::new(reply));
                hub.send(End::Pd, to, Body::PdReply { asker, reply });
            }
        }
        match self.regions() {
            Some(regions) => hub.checks.epochs.seen_in_pd(regions),
            None => Ok(()),
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

    /// Carries outputs out until there is none.
    fn settle(&mut self, hub: &mut Hub, mut outputs: Vec<Output>) -> Result<Replies, Violation> {
        let mut replies = vec![];
        outputs.extend(self.step(hub, Input::Flush));
        while !outputs.is_empty() {
            let mut more = vec![];
            for output in outputs {
                more.extend(self.carry_out(hub, output, &mut replies)?);
            }
            more.extend(self.step(hub, Input::Flush));
            outputs = more;
        }
        Ok(replies)
    }

    fn carry_out(
        &mut self,
        hub: &mut Hub,
        output: Output,
        replies: &mut Replies,
    ) -> Result<Vec<Output>, Violation> {
        match output {
            Output::Append { turn, ops, sync } => {
                self.log.write(LogBatch { ops }, sync).map_err(unexpected)?;
                let persisted = turn.map(|turn| self.step(hub, Input::Persisted { turn }));
                return Ok(persisted.unwrap_or_default());
            }
            Output::Checkpoint { applied } => {
                let (life, delay) = (self.life, hub.disk_time());
                hub.agenda.after(delay, Event::PdDisk { life, applied });
            }
            Output::Reply { id, reply } => replies.push((id, *reply)),
            Output::Event(event) => tell(hub, &event),
            Output::Failed { reason } => {
                broken("the placement driver does not give up", reason)?;
            }
        }
        Ok(vec![])
    }
}

fn tell(hub: &mut Hub, event: &PdEvent) {
    if let PdEvent::OperatorStarted { name, .. } = event
        && (name.contains("move") || name.contains("remove"))
    {
        hub.coverage.hit("leaders removed or moved by operators");
    }
    hub.say(|| format!("placement driver: {event:?}"));
}
