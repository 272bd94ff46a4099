//! A simulated client: the real calls, scans, router, retry table and budget, driven by the world.
//!
//! Several calls at once, up to a number that the client draws, over one router, one budget and one
//! set of refreshes. What the client's driver does with sockets and timers (`driver/call.rs`,
//! `driver/scan.rs`, `driver/routes.rs`) is done here with messages and events; what follows from
//! what is decided in the client's core.
//!
//! A caller may drop a call in the middle (`drop_call`), the client's clock may jump,
//! and its process may die and begin again with an empty router (`die`). Calls of the
//! queue are made one after the other, in their order, and are never dropped.
//!
//! * [`call`]: point and batch calls.
//! * [`scan`]: scans, chunk by chunk.
//! * [`lookup`]: questions to the placement driver, and to stores in its place.
//! * [`state`]: what the calls share.
//! * [`clock`]: the client's own clock, and its timers.
//! * [`work`]: what is asked.
//! * [`habits`]: what a seed decides about it.

pub mod call;
pub mod clock;
pub mod habits;
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
use flotilla_types::dice::{Dice, mix};
use flotilla_types::{Answer, Millis, Op, RegionError, StoreId};

use crate::check::attempts::Begun;
use crate::check::{Verdict, Violation, broken};
use crate::event::{AttemptId, Body, ClientRequest, ClientWake, End, Event, Packet};
use crate::history::History;
use crate::hub::Hub;
use crate::scenario::RATES;
use crate::time::{MS, Micros};

use call::Call;
use clock::LocalClock;
use lookup::Lookups;
use scan::Scan;
use state::State;
use work::{Work, Worked};

/// Clients in a thousand that may have several calls at once, in seeds that have such clients.
const SEVERAL_AT_ONCE: u64 = 300;

/// How long a store whose connection failed is avoided.
const SUSPECT: Micros = 300 * MS;

/// How long after its begin a call is dropped, or its client's process dies or its clock jumps.
const DISTURBED_WITHIN: Micros = 150 * MS;

/// How long a client's process that has died is away.
const AWAY_MAX: Micros = 2_000 * MS;

/// The greatest jump of a client's clock.
const JUMP_MAX: Micros = 10_000 * MS;

/// What a client is doing.
enum Doing {
    Call(Box<Call>),
    Scan(Box<Scan>),
}

/// How many calls a client has at once.
struct Sessions {
    at_once: usize,
    /// Calls whose begin is planned.
    resting: usize,
    /// Calls so far.
    begun: u64,
}

/// The attempts of all calls.
#[derive(Default)]
struct Attempts {
    sent: u64,
    /// Those under way, with their calls.
    open: BTreeMap<u64, u64>,
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
    dice: Dice,
    clock: LocalClock,
    state: State,
    suspects: BTreeMap<StoreId, Micros>,
    worked: Worked,
    doing: BTreeMap<u64, Doing>,
    sessions: Sessions,
    attempts: Attempts,
    lookups: Lookups,
}

/// What a client works with beside itself.
pub struct World<'a> {
    /// What all share.
    pub hub: &'a mut Hub,
    /// What is remembered.
    pub history: &'a mut History,
}

impl SimClient {
    /// A client that knows nothing yet. All its chance follows from `seed`.
    pub fn new(number: u32, seed: u64, hub: &Hub) -> SimClient {
        let mut dice = Dice::new(mix(seed ^ 0xd1ce));
        let habits = &hub.scenario.habits;
        // Few clients, so that histories of hot keys stay within reach of the search for an order.
        let has_several = dice.chance(SEVERAL_AT_ONCE);
        let most = if has_several { habits.at_once_max } else { 1 };
        let at_once = dice.between_inclusive(1, most) as usize;
        let clock = begin_clock(hub, &mut dice);
        let state = State::new(seed, clock.now(hub), hub.bounds.client);
        SimClient {
            number,
            queue: VecDeque::new(),
            is_free: true,
            unhappy: vec![],
            dice,
            clock,
            state,
            suspects: BTreeMap::new(),
            worked: Worked::default(),
            doing: BTreeMap::new(),
            sessions: Sessions { at_once, resting: 0, begun: 0 },
            attempts: Attempts::default(),
            lookups: Lookups::default(),
        }
    }

    /// True if it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.doing.is_empty()
    }

    fn now(&self, world: &World<'_>) -> Millis {
        self.clock.now(world.hub)
    }

    /// Makes it begin calls soon, if it may have more than it has.
    pub fn nudge(&mut self, hub: &mut Hub) {
        let wanted = if self.is_free { self.sessions.at_once } else { 1 };
        while self.doing.len() + self.sessions.resting < wanted {
            self.sessions.resting += 1;
            // A client with more calls at once thinks longer between them, so that it makes about
            // as many calls as another.
            let think_max = hub.scenario.clients.think_max * self.sessions.at_once as Micros;
            let delay = if self.is_free { self.dice.between(0, think_max) } else { 0 };
            self.plan(hub, delay, ClientWake::Begin);
        }
    }

    fn plan(&self, hub: &mut Hub, delay: Micros, wake: ClientWake) {
        hub.agenda.after(delay, Event::Client { client: self.number, wake });
    }

    /// It acts.
    pub fn on_wake(&mut self, world: &mut World<'_>, wake: ClientWake) -> Verdict {
        match wake {
            ClientWake::Begin => {
                self.sessions.resting = self.sessions.resting.saturating_sub(1);
                self.begin(world)
            }
            ClientWake::Timer => {
                while let Some(wake) = self.clock.take_due(world.hub) {
                    self.on_wake(world, wake)?;
                }
                Ok(())
            }
            ClientWake::GiveUp(attempt) => self.failed(world, attempt, Failure::Timeout),
            ClientWake::Ready { call, part } => self.ready(world, call, part),
            ClientWake::LookupLate(lookup) => self.end_lookup(world, lookup),
            ClientWake::LookupStores(lookup) => self.ask_stores(world, lookup),
            ClientWake::Drop(call) => {
                if self.drop_call(world, call) {
                    world.hub.coverage.hit("calls dropped by their caller");
                }
                self.go_on(world)
            }
            ClientWake::Die => self.die(world),
            ClientWake::Jump(by) => {
                world.hub.coverage.hit("clients whose clock jumped");
                self.clock.jump(world.hub, self.number, by);
                Ok(())
            }
        }
    }

    fn begin(&mut self, world: &mut World<'_>) -> Verdict {
        if !self.is_free && !self.doing.is_empty() {
            return Ok(());
        }
        let work = match self.queue.pop_front() {
            Some(work) => work,
            None if self.is_free => {
                self.disturb(world.hub);
                self.worked.choose(&world.hub.scenario, &mut self.dice, self.number)
            }
            None => return Ok(()),
        };
        if !self.doing.is_empty() {
            world.hub.coverage.hit("calls beside others of their client");
        }
        self.sessions.begun += 1;
        let call = self.sessions.begun;
        world.hub.say(|| format!("client {} call {call}: {work:?}", self.number));
        let now = self.now(world);
        match work {
            Work::Call(asked) => {
                let begun = Call::begin(self.number, asked, now, world);
                self.doing.insert(call, Doing::Call(Box::new(begun)));
                self.drive_call(world, call)
            }
            Work::Scan(asked) => {
                self.doing.insert(call, Doing::Scan(Box::new(Scan::begin(asked, now))));
                self.drive_scan(world, call)
            }
        }
    }

    /// Plans what happens to the next call before it ends, if anything does.
    fn disturb(&mut self, hub: &mut Hub) {
        let habits = &hub.scenario.habits;
        let (cancels, deaths, jumps) = (habits.cancels, habits.deaths, habits.jumps);
        let roll = self.dice.between(0, 1_000);
        let wake = if roll < cancels {
            ClientWake::Drop(self.sessions.begun + 1)
        } else if roll < cancels + deaths {
            ClientWake::Die
        } else if roll < cancels + deaths + jumps {
            ClientWake::Jump(self.dice.between(MS, JUMP_MAX))
        } else {
            return;
        };
        let delay = self.dice.between(0, DISTURBED_WITHIN);
        self.plan(hub, delay, wake);
    }

    fn ready(&mut self, world: &mut World<'_>, call: u64, part: Option<PartId>) -> Verdict {
        match (self.doing.get(&call), part) {
            (Some(Doing::Call(_)), Some(part)) => {
                self.on_call_event(world, call, CallEvent::Waited(part))
            }
            (Some(Doing::Scan(_)), None) => self.drive_scan(world, call),
            (Some(Doing::Call(_) | Doing::Scan(_)) | None, _) => Ok(()),
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
                self.on_pd_answer(world, number, reply.map(|reply| *reply))
            }
            Body::RoutesReply { question, held } => {
                let End::Store(store) = packet.from else { return Ok(()) };
                self.on_held(world, (question.number, store), *held)
            }
            Body::PdReply { .. }
            | Body::RoutesRequest { .. }
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
        let Some(call) = self.attempts.open.remove(&attempt) else { return Ok(()) };
        if let Err(refusal) = &result {
            let client = self.number;
            world.hub.say(|| format!("client {client} attempt {attempt}: {refusal}"));
        }
        match &result {
            Err(refusal) => world.hub.checks.routes.told_by_store(self.number, refusal),
            Ok(_) => world.hub.checks.attempts.succeeded(self.number),
        }
        match self.doing.get(&call) {
            Some(Doing::Call(_)) => {
                self.attempt_ended(world, (call, attempt), result.map_err(Failure::from))
            }
            Some(Doing::Scan(_)) => self.scan_answered(world, call, result),
            None => Ok(()),
        }
    }

    fn failed(&mut self, world: &mut World<'_>, attempt: u64, failure: Failure) -> Verdict {
        let Some(call) = self.attempts.open.remove(&attempt) else { return Ok(()) };
        match self.doing.get(&call) {
            Some(Doing::Call(_)) => self.attempt_ended(world, (call, attempt), Err(failure)),
            Some(Doing::Scan(_)) => self.scan_failed(world, call, failure),
            None => Ok(()),
        }
    }

    /// Judges the route of an attempt that begins. A store goes on with a scan by itself, by the
    /// route of the scan's first chunk.
    fn check_route(&mut self, world: &mut World<'_>, to: &Destination) -> Verdict {
        if self.state.has_started_afresh() {
            world.hub.coverage.hit("route caches started afresh");
            world.hub.checks.routes.forgotten(self.number);
        }
        world.hub.checks.routes.attempt(self.number, &to.sent)
    }

    /// Sends a request of a call that must end by `deadline`; answers the attempt's number.
    fn send(
        &mut self,
        world: &mut World<'_>,
        (call, deadline): (u64, Millis),
        (to, op): (&Destination, Op),
        timeout: AttemptTimeout,
    ) -> Result<u64, Violation> {
        self.attempts.sent += 1;
        let (client, number) = (self.number, self.attempts.sent);
        self.attempts.open.insert(number, call);
        Begun { now: self.now(world), deadline, timeout }.check(client)?;
        let Sent { region, epoch, store } = to.sent;
        let attempt = AttemptId { client, number };
        let timeout_ms = timeout.store_ms;
        world.hub.say(|| {
            format!(
                "client {client} call {call} asks store {store}: attempt {number}, region {region}"
            )
        });
        let request = Box::new(ClientRequest { attempt, region, epoch, timeout_ms, op });
        world.hub.send(End::Client(client), End::Store(store), Body::Request(request));
        self.clock.set(world.hub, client, timeout.give_up_at, ClientWake::GiveUp(number));
        Ok(number)
    }

    /// Stores that do not answer at present, and now and then any others: a client may have its
    /// reasons, and one that wanders meets new leaders before the old ones know.
    fn suspects(&mut self, hub: &Hub) -> Vec<StoreId> {
        let (now, wander) = (hub.now(), hub.scenario.clients.wander);
        let mut suspects: Vec<StoreId> = vec![];
        for store in 1..=hub.scenario.cluster.stores {
            let is_silent = self.suspects.get(&StoreId(store)).is_some_and(|until| now < *until);
            if is_silent || self.dice.chance(wander) {
                suspects.push(StoreId(store));
            }
        }
        suspects
    }

    /// A call has ended.
    fn rest(&mut self, world: &mut World<'_>, call: u64, deadline: Millis) -> Verdict {
        self.forget(call);
        let (now, by) = (self.now(world), self.clock.reachable(deadline));
        if now > by.plus(5) {
            let what = format!("client {}: call {call} at {now:?}, by {by:?}", self.number);
            return broken("every call ends by its deadline", what);
        }
        self.go_on(world)
    }

    /// Forgets a call with its attempts and lookups.
    fn forget(&mut self, call: u64) -> Option<Doing> {
        self.attempts.open.retain(|_, of| *of != call);
        self.lookups.forget(call);
        self.doing.remove(&call)
    }

    /// A call is gone: another may begin, and the next lookup has its turn.
    fn go_on(&mut self, world: &mut World<'_>) -> Verdict {
        self.nudge(world.hub);
        self.take_turns(world)
    }

    /// Drops a call in the middle, as a caller does that drops the call's future: what was sent may
    /// have an effect, and nothing else is sent. False if the call had ended.
    fn drop_call(&mut self, world: &mut World<'_>, call: u64) -> bool {
        match self.forget(call) {
            None => return false,
            Some(Doing::Call(dropped)) => dropped.abandon(world),
            Some(Doing::Scan(_)) => {}
        }
        world.hub.say(|| format!("client {} call {call}: dropped", self.number));
        true
    }

    /// The client's process dies in the middle of its calls. After a while it begins again, with an
    /// empty router and another clock.
    fn die(&mut self, world: &mut World<'_>) -> Verdict {
        if !self.is_free {
            return Ok(());
        }
        let calls: Vec<u64> = self.doing.keys().copied().collect();
        for call in calls {
            self.drop_call(world, call);
        }
        let hub = &mut *world.hub;
        hub.say(|| format!("client {} dies", self.number));
        hub.coverage.hit("clients that died");
        hub.checks.routes.reborn(self.number);
        hub.checks.attempts.reborn(self.number);
        self.clock = begin_clock(hub, &mut self.dice);
        let limits = hub.bounds.client;
        self.state = State::new(self.dice.roll(), self.clock.now(hub), limits);
        self.suspects.clear();
        self.lookups.clear();
        // Its sessions begin again together.
        let planned = self.sessions.resting;
        for _ in planned..self.sessions.at_once {
            self.sessions.resting += 1;
            let delay = self.dice.between(0, AWAY_MAX);
            self.plan(hub, delay, ClientWake::Begin);
        }
        Ok(())
    }
}

fn begin_clock(hub: &Hub, dice: &mut Dice) -> LocalClock {
    let has_rate = hub.scenario.habits.has_rates;
    let rate = if has_rate { dice.between(RATES.0, RATES.1) } else { 1_000_000 };
    LocalClock::begin(hub.now(), rate)
}
