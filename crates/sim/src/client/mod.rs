//! A simulated client: the real calls, scans, router, retry table and budget, driven by the world.
//!
//! One call at a time. What the client's driver does with sockets and timers (`driver/call.rs`,
//! `driver/scan.rs`, `driver/routes.rs`) is done here with messages and events; what follows from
//! what is decided in the client's core.
//!
//! * [`call`]: point and batch calls.
//! * [`scan`]: scans, chunk by chunk.
//! * [`lookup`]: questions to the placement driver.
//! * [`state`]: what the calls share.
//! * [`work`]: what is asked.

pub mod call;
pub mod lookup;
pub mod scan;
pub mod state;
pub mod work;

use std::collections::{BTreeMap, VecDeque};

use flotilla_client::core::attempt::AttemptTimeout;
use flotilla_client::core::call::Event as CallEvent;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::part::PartId;
use flotilla_client::core::router::{Destination, Sent};
use flotilla_types::{Answer, Millis, Op, RegionError, StoreId};

use crate::check::{Verdict, Violation, broken};
use crate::event::{AttemptId, Body, ClientRequest, ClientWake, End, Event, Packet};
use crate::history::History;
use crate::hub::Hub;
use crate::time::{MS, Micros};

use call::Call;
use lookup::Lookup;
use scan::Scan;
use state::State;
use work::{Work, Worked};

/// How long a store whose connection failed is avoided.
const SUSPECT: Micros = 300 * MS;

/// What a client is doing.
enum Doing {
    Nothing,
    Call(Box<Call>),
    Scan(Box<Scan>),
}

/// A client.
pub struct SimClient {
    /// Its number.
    pub number: u32,
    /// What it is to do next, before anything of its own choice.
    pub queue: VecDeque<Work>,
    /// True if it chooses what to do when its queue is empty.
    pub is_free: bool,
    /// Calls of the queue that did not end well.
    pub unhappy: Vec<String>,
    state: State,
    suspects: BTreeMap<StoreId, Micros>,
    worked: Worked,
    doing: Doing,
    calls: u64,
    attempts: u64,
    lookups: BTreeMap<u64, Lookup>,
    next_lookup: u64,
    is_resting: bool,
}

/// What a client works with beside itself.
pub struct World<'a> {
    /// What all share.
    pub hub: &'a mut Hub,
    /// What is remembered.
    pub history: &'a mut History,
}

impl World<'_> {
    /// A client's clock is true time.
    pub fn now(&self) -> Millis {
        Millis(self.hub.now() / MS)
    }
}

impl SimClient {
    /// A client that knows nothing yet.
    pub fn new(number: u32, seed: u64) -> SimClient {
        SimClient {
            number,
            queue: VecDeque::new(),
            is_free: true,
            unhappy: vec![],
            state: State::new(seed),
            suspects: BTreeMap::new(),
            worked: Worked::default(),
            doing: Doing::Nothing,
            calls: 0,
            attempts: 0,
            lookups: BTreeMap::new(),
            next_lookup: 1,
            is_resting: false,
        }
    }

    /// True if it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && matches!(self.doing, Doing::Nothing)
    }

    /// Makes it begin its next call soon, if it is not in one.
    pub fn nudge(&mut self, hub: &mut Hub) {
        if matches!(self.doing, Doing::Nothing) && !self.is_resting {
            self.is_resting = true;
            let delay = if self.is_free {
                hub.dice.clients.between(0, hub.scenario.clients.think_max)
            } else {
                0
            };
            hub.agenda.after(delay, Event::Client { client: self.number, wake: ClientWake::Begin });
        }
    }

    /// It acts.
    pub fn on_wake(&mut self, world: &mut World<'_>, wake: ClientWake) -> Verdict {
        match wake {
            ClientWake::Begin => {
                self.is_resting = false;
                self.begin(world)
            }
            ClientWake::GiveUp(attempt) => self.failed(world, attempt, Failure::Timeout),
            ClientWake::Ready { call, part } => self.ready(world, call, part),
            ClientWake::LookupLate(lookup) => self.on_lookup(world, lookup, None),
        }
    }

    fn begin(&mut self, world: &mut World<'_>) -> Verdict {
        if !matches!(self.doing, Doing::Nothing) {
            return Ok(());
        }
        let work = match self.queue.pop_front() {
            Some(work) => work,
            None if self.is_free => self.worked.choose(world.hub, self.number),
            None => return Ok(()),
        };
        self.calls += 1;
        let hub = &mut *world.hub;
        hub.say(|| format!("client {} call {}: {work:?}", self.number, self.calls));
        match work {
            Work::Call(sent) => {
                let call = Call::begin(self.calls, self.number, sent, world);
                self.doing = Doing::Call(Box::new(call));
                self.drive_call(world)
            }
            Work::Scan(sent) => {
                let scan = Scan::begin(self.calls, sent, world.now());
                self.doing = Doing::Scan(Box::new(scan));
                self.drive_scan(world)
            }
        }
    }

    fn ready(&mut self, world: &mut World<'_>, number: u64, part: Option<PartId>) -> Verdict {
        match (&self.doing, part) {
            (Doing::Call(call), Some(part)) if call.number == number => {
                self.on_call_event(world, CallEvent::Waited(part))
            }
            (Doing::Scan(scan), None) if scan.number == number => self.drive_scan(world),
            (Doing::Call(_) | Doing::Scan(_) | Doing::Nothing, _) => Ok(()),
        }
    }

    /// A message arrives.
    pub fn arrive(&mut self, world: &mut World<'_>, packet: Packet) -> Verdict {
        match packet.body {
            Body::Reply { attempt, result } => self.answered(world, attempt.number, *result),
            Body::Broken { attempt, failure } => {
                if let End::Store(store) = packet.from {
                    self.suspects.insert(store, world.hub.now() + SUSPECT);
                }
                self.failed(world, attempt.number, *failure)
            }
            Body::PdReply { asker: crate::event::Asker::Lookup { number, .. }, reply } => {
                self.on_lookup(world, number, reply.map(|reply| *reply))
            }
            Body::PdReply { .. }
            | Body::Envelope(_)
            | Body::Snapshot { .. }
            | Body::SnapshotTaken { .. }
            | Body::Request(_)
            | Body::PdRequest { .. } => Ok(()),
        }
    }

    fn answered(
        &mut self,
        world: &mut World<'_>,
        attempt: u64,
        result: Result<Answer, RegionError>,
    ) -> Verdict {
        let is_awaited = match &self.doing {
            Doing::Call(call) => call.attempts.contains_key(&attempt),
            Doing::Scan(scan) => scan.attempt == Some(attempt),
            Doing::Nothing => false,
        };
        if !is_awaited {
            return Ok(());
        }
        if let Err(refusal) = &result {
            world.hub.checks.routes.told_by_store(self.number, refusal);
        }
        match &self.doing {
            Doing::Call(_) => self.attempt_ended(world, attempt, result.map_err(Failure::from)),
            Doing::Scan(_) => self.scan_answered(world, result),
            Doing::Nothing => Ok(()),
        }
    }

    fn failed(&mut self, world: &mut World<'_>, attempt: u64, failure: Failure) -> Verdict {
        match &self.doing {
            Doing::Call(_) => self.attempt_ended(world, attempt, Err(failure)),
            Doing::Scan(scan) if scan.attempt == Some(attempt) => self.scan_failed(world, failure),
            Doing::Scan(_) | Doing::Nothing => Ok(()),
        }
    }

    /// Sends a request; answers the attempt's number.
    fn send(
        &mut self,
        world: &mut World<'_>,
        to: &Destination,
        op: Op,
        timeout: AttemptTimeout,
    ) -> Result<u64, Violation> {
        self.attempts += 1;
        let (client, number) = (self.number, self.attempts);
        world.hub.checks.routes.attempt(client, &to.sent)?;
        let Sent { region, epoch, store } = to.sent;
        let attempt = AttemptId { client, number };
        let timeout_ms = timeout.store_ms;
        let request = Box::new(ClientRequest { attempt, region, epoch, timeout_ms, op });
        world.hub.send(End::Client(client), End::Store(store), Body::Request(request));
        let wake = ClientWake::GiveUp(number);
        let wait = timeout.give_up_at.since(world.now()) * MS;
        world.hub.agenda.after(wait, Event::Client { client, wake });
        Ok(number)
    }

    /// Stores that do not answer at present, and now and then any others: a client may have its
    /// reasons, and one that wanders meets new leaders before the old ones know.
    fn suspects(&self, hub: &mut Hub) -> Vec<StoreId> {
        let now = hub.now();
        let mut suspects: Vec<StoreId> = vec![];
        for store in 1..=hub.scenario.cluster.stores {
            let is_silent = self.suspects.get(&StoreId(store)).is_some_and(|until| now < *until);
            if is_silent || hub.dice.clients.chance(hub.scenario.clients.wander) {
                suspects.push(StoreId(store));
            }
        }
        suspects
    }

    /// A call has ended.
    fn rest(&mut self, world: &mut World<'_>, deadline: Millis) -> Verdict {
        self.doing = Doing::Nothing;
        self.forget_lookups(self.calls);
        self.nudge(world.hub);
        let now = world.now();
        if now > deadline.plus(5) {
            let what = format!("client {}: at {now:?}, by {deadline:?}", self.number);
            return broken("every call ends by its deadline", what);
        }
        Ok(())
    }
}
