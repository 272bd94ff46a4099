//! The loop that carries a plan out: send, wait, look up, feed the results back. Calls for one key
//! have a short way past it, which ends at the first failure.
//!
//! Parts run concurrently within the caller's task: dropping the call's future drops them all, and
//! requests still queued are then never sent. Every step ends by the call's deadline, so the call
//! does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_types::dice::Dice;
use flotilla_types::{Millis, StoreId, proto};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;

use crate::core::attempt::RetryContext;
use crate::core::budget::Budget;
use crate::core::failure::Failure;
use crate::core::item::{self, Item, Outcome};
use crate::core::plan::{Ending, Next, PartId, Plan};
use crate::core::retry::{Action, Attempts, Idempotency};
use crate::core::router::{Destination, Miss, Router, Sent};
use crate::core::single;
use crate::error::{Error, Result};

use super::clock::{self, ClientClock};
use super::lock;
use super::pd::PdClient;
use super::routes::Routes;
use super::stores::{Stores, Timing};

/// An attempt that may be repeated is given up on by then and another store asked: longer than an
/// election, a fifth of the default deadline. One that may not be repeated has until the deadline.
pub(crate) const ATTEMPT_MS_MAX: u64 = 2_000;

/// The store is told a little less than the caller has, so that its own refusal, which says whether
/// there was an effect, arrives before the caller gives up without knowing.
const TIMEOUT_MARGIN_MS: u64 = 50;

/// One cluster as all of a client's handles share it.
pub(crate) struct Cluster {
    pub(crate) pd: PdClient,
    pub(crate) routes: Arc<Routes>,
    pub(crate) stores: Stores,
    pub(crate) clock: ClientClock,
    budget: Mutex<Budget>,
    dice: Mutex<Dice>,
    busy_refusals: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(pd: PdClient, cluster_id: u64) -> Cluster {
        let clock = ClientClock::new();
        Cluster {
            routes: Arc::new(Routes::new(pd.clone())),
            pd,
            stores: Stores::new(cluster_id),
            clock,
            budget: Mutex::new(Budget::new(clock.now())),
            dice: Mutex::new(Dice::new(clock::seed())),
            busy_refusals: AtomicU64::new(0),
        }
    }

    pub(crate) fn deadline(&self, timeout: Duration) -> Millis {
        self.clock.now().plus(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    }

    /// How often stores have refused because they were busy.
    pub(crate) fn busy_refusals(&self) -> u64 {
        self.busy_refusals.load(Ordering::Relaxed)
    }

    /// Reads the router with the stores to avoid.
    pub(crate) fn route<T>(&self, ask: impl FnOnce(&Router, &dyn Fn(StoreId) -> bool) -> T) -> T {
        ask(&self.routes.read(), &|store| self.stores.is_suspect(store))
    }

    /// Lets the core judge a failure, and starts the refresh it may ask for.
    pub(crate) fn judge(
        &self,
        sent: Option<Sent>,
        judge: impl FnOnce(&mut RetryContext<'_>) -> Action,
    ) -> Action {
        let action = judge(&mut RetryContext {
            now: self.clock.now(),
            router: &mut self.routes.write(),
            budget: &mut lock(&self.budget),
            dice: &mut lock(&self.dice),
        });
        if let (Action::Retry { ask_pd: true, .. }, Some(sent)) = (action, sent) {
            let key = self.routes.read().region(sent.region).map(|r| r.range.start.clone());
            if let Some(key) = key {
                self.routes.refresh(sent.region, key);
            }
        }
        action
    }

    /// Notes an attempt's success.
    pub(crate) fn succeeded(&self, sent: &Sent) {
        lock(&self.budget).succeeded();
        self.routes.confirm(sent);
    }

    /// How long the next attempt may take.
    pub(crate) fn timing(&self, idempotency: Idempotency, deadline: Millis) -> Timing {
        let now = self.clock.now();
        let left = deadline.since(now);
        let attempt_ms = match idempotency {
            Idempotency::ReadOnly | Idempotency::Idempotent => left.min(ATTEMPT_MS_MAX),
            Idempotency::NotIdempotent => left,
        };
        let margin_ms = TIMEOUT_MARGIN_MS.min(attempt_ms / 10);
        Timing {
            timeout_ms: (attempt_ms - margin_ms).max(1),
            give_up_at: self.clock.instant(now.plus(attempt_ms)),
        }
    }

    /// Carries out a call for one item. Where the cache knows the way, the first attempt is made
    /// here, without a plan; a failed one goes on as a plan that has made it.
    pub(crate) async fn carry_out_one(
        &self,
        what: &str,
        terms: Terms,
        item: Item,
    ) -> Result<Outcome> {
        let attempts = Attempts::new(terms.idempotency, terms.deadline);
        let to = self.route(|router, avoid| single::destination(router, avoid, item.key()));
        let (Some(to), Some(op)) = (to, item::op(&item)) else {
            let plan = Plan::new(vec![item], attempts);
            return Box::pin(self.carry_out(what, terms, plan)).await.map(Plan::into_outcome);
        };
        let timing = self.timing(terms.idempotency, terms.deadline);
        let answer = self.stores.request(&to, op, timing).await;
        match answer.and_then(|result| item::outcome(&item, result)) {
            Ok(outcome) => {
                self.succeeded(&to.sent);
                Ok(outcome)
            }
            Err(failure) => {
                let (plan, part) = Plan::begun(item, attempts, to.sent);
                let mut call = Call { cluster: self, what, plan, last_lookup: None };
                let step = call.failed(part, Some(to.sent), failure)?;
                Box::pin(self.finish(terms, call, step)).await.map(Plan::into_outcome)
            }
        }
    }

    /// Carries `plan` out. `what` names the call in errors.
    pub(crate) async fn carry_out(&self, what: &str, terms: Terms, plan: Plan) -> Result<Plan> {
        self.finish(terms, Call { cluster: self, what, plan, last_lookup: None }, None).await
    }

    /// Carries a call to its end; `step`, if there is one, is to be taken first.
    async fn finish(&self, terms: Terms, mut call: Call<'_>, step: Option<Step>) -> Result<Plan> {
        let what = call.what;
        let mut steps: FuturesUnordered<_> =
            step.into_iter().map(|step| self.step(terms, step)).collect();
        loop {
            while let Some(step) = call.next()? {
                steps.push(self.step(terms, step));
            }
            match steps.next().await {
                Some(event) => {
                    if let Some(step) = call.on(event)? {
                        steps.push(self.step(terms, step));
                    }
                }
                None => {
                    // A part without an answer must never pass for one with success.
                    assert!(call.plan.is_done(), "{what}: nothing is under way, and parts wait");
                    return Ok(call.plan);
                }
            }
        }
    }

    async fn step(&self, terms: Terms, step: Step) -> Event {
        match step {
            Step::Send(part, to, op) => {
                let timing = self.timing(terms.idempotency, terms.deadline);
                Event::Answered(part, self.stores.request(&to, op, timing).await)
            }
            Step::LookUp(part, miss) => {
                let deadline = self.clock.instant(terms.deadline);
                Event::LookedUp(part, self.routes.look_up(&miss, deadline).await)
            }
            Step::Wait(part, after_ms) => {
                sleep_until(self.clock.instant(self.clock.now().plus(after_ms))).await;
                Event::Waited(part)
            }
        }
    }
}

/// What holds for every attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) idempotency: Idempotency,
    pub(crate) deadline: Millis,
}

enum Step {
    Send(PartId, Destination, proto::request::Op),
    LookUp(PartId, Miss),
    Wait(PartId, u64),
}

enum Event {
    Answered(PartId, Result<proto::reply::Result, Failure>),
    LookedUp(PartId, Result<()>),
    Waited(PartId),
}

struct Call<'a> {
    cluster: &'a Cluster,
    what: &'a str,
    plan: Plan,
    /// Why the last lookup failed: the error to show when that is what the call ran out of time on.
    last_lookup: Option<Error>,
}

impl Call<'_> {
    /// The next step that the plan is ready for; None if it waits for one that is under way. A
    /// part that is stuck and may try again at once is back in line, so the plan is asked again.
    fn next(&mut self) -> Result<Option<Step>> {
        loop {
            match self.cluster.route(|router, avoid| self.plan.next(router, avoid)) {
                None => return Ok(None),
                Some(Next::Send { part, to, op }) => return Ok(Some(Step::Send(part, to, op))),
                Some(Next::LookUp { part, miss }) => return Ok(Some(Step::LookUp(part, miss))),
                Some(Next::Stuck { part, failure }) => {
                    self.last_lookup = None;
                    if let Some(step) = self.failed(part, None, failure)? {
                        return Ok(Some(step));
                    }
                }
            }
        }
    }

    fn on(&mut self, event: Event) -> Result<Option<Step>> {
        match event {
            Event::Answered(part, Ok(result)) => {
                let sent = self.plan.sent(part);
                match self.plan.answered(part, result) {
                    Ok(()) => {
                        sent.iter().for_each(|sent| self.cluster.succeeded(sent));
                        Ok(None)
                    }
                    Err(failure) => self.failed(part, sent, failure),
                }
            }
            Event::Answered(part, Err(failure)) => {
                let sent = self.plan.sent(part);
                self.failed(part, sent, failure)
            }
            Event::LookedUp(part, Ok(())) => {
                self.last_lookup = None;
                self.plan.ready(part);
                Ok(None)
            }
            Event::Waited(part) => {
                self.plan.ready(part);
                Ok(None)
            }
            Event::LookedUp(part, Err(error)) => {
                let failure = lookup_failure(&error);
                self.last_lookup = Some(error);
                self.failed(part, None, failure)
            }
        }
    }

    /// The wait before the next attempt, or the call's end.
    fn failed(
        &mut self,
        part: PartId,
        sent: Option<Sent>,
        failure: Failure,
    ) -> Result<Option<Step>> {
        if failure.is_busy() {
            self.cluster.busy_refusals.fetch_add(1, Ordering::Relaxed);
        }
        let judge = |shared: &mut RetryContext<'_>| self.plan.failed(part, &failure, shared);
        let action = self.cluster.judge(sent, judge);
        let final_lookup = self.last_lookup.as_ref().is_some_and(|error| !error.is_retryable());
        match action {
            Action::Retry { after_ms: 0, .. } if !final_lookup => {
                self.plan.ready(part);
                Ok(None)
            }
            Action::Retry { after_ms, .. } if !final_lookup => Ok(Some(Step::Wait(part, after_ms))),
            Action::Retry { .. }
            | Action::Fail
            | Action::DeadlineExceeded
            | Action::Undetermined => {
                let ending = self.plan.ending(action);
                let lookup = self.last_lookup.take();
                Err(ended(self.what, ending, &failure, lookup))
            }
        }
    }
}

/// What a failed lookup is to the retry table.
pub(crate) fn lookup_failure(error: &Error) -> Failure {
    Failure::NoRoute { reason: error.to_string() }
}

/// The error of a call that ends without success. `lookup` is the error of the lookup that the call
/// ended on, if it did: it says best what is wrong.
pub(crate) fn ended(what: &str, ending: Ending, failure: &Failure, lookup: Option<Error>) -> Error {
    let what = what.to_string();
    let reason = failure.to_string();
    match (ending, failure) {
        (Ending::Undetermined, _) => Error::Undetermined { what, reason },
        (_, Failure::NoRoute { .. }) if lookup.is_some() => {
            lookup.unwrap_or(Error::DeadlineExceeded { what, last: reason })
        }
        (Ending::DeadlineExceeded, _) => Error::DeadlineExceeded { what, last: reason },
        (Ending::Failed, Failure::Region(error)) => Error::limit((**error).clone()),
        (Ending::Failed, _) => Error::Protocol { what: format!("{what}: {reason}") },
    }
}
