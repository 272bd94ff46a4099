//! A simulated client: the real router, plan, cursor, retry table and budget, driven by the world.
//!
//! One call at a time. What the client's driver does with sockets and timers (`driver/call.rs`,
//! `driver/scan.rs`, `driver/routes.rs`) is done here with messages and events.
//!
//! * [`call`]: point and batch calls.
//! * [`scan`]: scans, chunk by chunk.
//! * [`lookup`]: questions to the placement driver.
//! * [`work`]: what is asked.

pub mod call;
pub mod lookup;
pub mod scan;
pub mod work;

use std::collections::{BTreeMap, VecDeque};

use flotilla_client::core::attempt::RetryContext;
use flotilla_client::core::budget::Budget;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::retry::{Action, Idempotency};
use flotilla_client::core::router::{Destination, Router, Sent};
use flotilla_store::core::{Answer, Op};
use flotilla_types::dice::Dice;
use flotilla_types::{Millis, RegionError, StoreId};

use crate::check::{Verdict, broken};
use crate::event::{AttemptId, Body, ClientRequest, ClientWake, End, Event, Packet};
use crate::history::History;
use crate::hub::Hub;
use crate::time::{MS, Micros};

use call::Call;
use lookup::Lookup;
use scan::Scan;
use work::{Work, Worked};

/// As `driver/call.rs` has it.
const ATTEMPT_MS_MAX: u64 = 2_000;

/// As `driver/call.rs` has it.
const TIMEOUT_MARGIN_MS: u64 = 50;

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
    router: Router,
    budget: Budget,
    dice: Dice,
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
            router: Router::default(),
            budget: Budget::new(Millis(0)),
            dice: Dice::new(seed),
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
            let delay = if self.is_free { hub.dice.between(0, hub.scenario.think_max) } else { 0 };
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

    fn ready(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        part: Option<flotilla_client::core::plan::PartId>,
    ) -> Verdict {
        match (&mut self.doing, part) {
            (Doing::Call(call), Some(part)) if call.number == number => {
                call.plan.ready(part);
                self.drive_call(world)
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
        match &self.doing {
            Doing::Call(call) if call.attempts.contains_key(&attempt) => {
                self.call_answered(world, attempt, result)
            }
            Doing::Scan(scan) if scan.attempt == Some(attempt) => self.scan_answered(world, result),
            Doing::Call(_) | Doing::Scan(_) | Doing::Nothing => Ok(()),
        }
    }

    fn failed(&mut self, world: &mut World<'_>, attempt: u64, failure: Failure) -> Verdict {
        match &mut self.doing {
            Doing::Call(call) => match call.attempts.remove(&attempt) {
                Some(part) => {
                    let sent = call.plan.sent(part);
                    call.attempt_failed(attempt, &failure, world);
                    self.call_failed(world, part, sent, failure)
                }
                None => Ok(()),
            },
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
        terms: (Idempotency, Millis),
    ) -> u64 {
        self.attempts += 1;
        let number = self.attempts;
        let left_ms = terms.1.since(world.now());
        let attempt_ms = match terms.0 {
            Idempotency::ReadOnly | Idempotency::Idempotent => left_ms.min(ATTEMPT_MS_MAX),
            Idempotency::NotIdempotent => left_ms,
        };
        let margin_ms = TIMEOUT_MARGIN_MS.min(attempt_ms / 10);
        let Sent { region, epoch, store } = to.sent;
        let attempt = AttemptId { client: self.number, number };
        let timeout_ms = (attempt_ms - margin_ms).max(1);
        let request = Box::new(ClientRequest { attempt, region, epoch, timeout_ms, op });
        let client = End::Client(self.number);
        world.hub.send(client, End::Store(store), Body::Request(request));
        let wake = ClientWake::GiveUp(number);
        world.hub.agenda.after(attempt_ms * MS, Event::Client { client: self.number, wake });
        number
    }

    /// Lets the core judge a failure.
    fn judge(
        &mut self,
        world: &mut World<'_>,
        sent: Option<Sent>,
        judge: impl FnOnce(&mut Doing, &mut RetryContext<'_>) -> Action,
    ) -> Action {
        let mut shared = RetryContext {
            now: world.now(),
            router: &mut self.router,
            budget: &mut self.budget,
            dice: &mut self.dice,
        };
        let action = judge(&mut self.doing, &mut shared);
        if let (Action::Retry { ask_pd: true, .. }, Some(sent)) = (action, sent) {
            self.refresh(world, sent.region);
        }
        action
    }

    fn succeeded(&mut self, sent: &Sent) {
        self.budget.succeeded();
        self.router.confirm_leader(sent);
    }

    /// Stores that do not answer at present, and now and then any others: a client may have its
    /// reasons, and one that wanders meets new leaders before the old ones know.
    fn suspects(&self, hub: &mut Hub) -> impl Fn(StoreId) -> bool + use<> {
        let now = hub.now();
        let mut suspects: Vec<StoreId> = vec![];
        for store in 1..=hub.scenario.stores {
            let is_silent = self.suspects.get(&StoreId(store)).is_some_and(|until| now < *until);
            if is_silent || hub.dice.chance(hub.scenario.wander) {
                suspects.push(StoreId(store));
            }
        }
        move |store| suspects.contains(&store)
    }

    /// A call has ended.
    fn rest(&mut self, world: &mut World<'_>, deadline: Millis) -> Verdict {
        self.doing = Doing::Nothing;
        self.nudge(world.hub);
        let now = world.now();
        if now > deadline.plus(5) {
            let what = format!("client {}: at {now:?}, by {deadline:?}", self.number);
            return broken("every call ends by its deadline", what);
        }
        Ok(())
    }
}
