//! Carries calls out: sends their requests, asks PD, waits. What follows from what is decided in
//! [`crate::core::call`].
//!
//! The steps of a call run concurrently within the caller's task: dropping the call's future drops
//! them all, and requests still queued are then never sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_types::dice::Dice;
use flotilla_types::{Answer, Millis, RegionId, StoreId, TraceId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::core::attempt::RetryContext;
use crate::core::budget::Budget;
use crate::core::call::{Call, Event, Step};
use crate::core::context::ClientContext;
use crate::core::failure::Failure;
use crate::core::limits::ClientLimits;
use crate::core::router::{Router, Sent};
use crate::error::Result;

use super::clock::{self, ClientClock};
use super::lock;
use super::pd::PdClient;
use super::routes::Routes;
use super::stats::Stats;
use super::stores::Stores;
use super::trace;

/// One cluster as all of a client's handles share it.
pub(crate) struct Cluster {
    pub(crate) pd: PdClient,
    pub(crate) routes: Arc<Routes>,
    pub(crate) stores: Stores,
    pub(crate) clock: ClientClock,
    pub(crate) limits: ClientLimits,
    budget: Mutex<Budget>,
    dice: Mutex<Dice>,
    busy_refusals: AtomicU64,
    last_failure: Mutex<Option<(Instant, String)>>,
    pub(crate) stats: Stats,
}

impl Cluster {
    pub(crate) fn new(pd: PdClient, cluster_id: u64) -> Cluster {
        let clock = ClientClock::new();
        let limits = ClientLimits::default().workable();
        let routes = Arc::new(Routes::new(pd.clone(), cluster_id, limits));
        let stores = Stores::new(cluster_id, clock, routes.clone(), pd.tls().cloned());
        Cluster {
            pd,
            stores,
            routes,
            clock,
            limits,
            budget: Mutex::new(Budget::new(clock.now(), limits.budget_tokens_max)),
            dice: Mutex::new(Dice::new(clock::seed())),
            busy_refusals: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            stats: Stats::default(),
        }
    }

    pub(crate) fn deadline(&self, timeout: Duration) -> Millis {
        self.clock.now().plus(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    }

    /// How often stores have refused because they were busy.
    pub(crate) fn busy_refusals(&self) -> u64 {
        self.busy_refusals.load(Ordering::Relaxed)
    }

    /// How the latest attempt that failed did so, and how long ago.
    pub(crate) fn last_failure(&self) -> Option<(Duration, String)> {
        lock(&self.last_failure).clone().map(|(at, told)| (at.elapsed(), told))
    }

    /// Carries out a call for one item, whose steps come one at a time.
    pub(crate) async fn carry_out_one(&self, call: Call, id: Option<&TraceId>) -> Result<Answer> {
        self.stats.call();
        if trace::is_on() {
            let (what, id) = (call.what(), id.cloned().unwrap_or_else(trace::draw_trace_id));
            return Box::pin(trace::told(what, &id, self.one(call, Some(&id)))).await;
        }
        self.one(call, id).await
    }

    /// Carries out a call for many items, whose steps run at the same time.
    pub(crate) async fn carry_out(&self, call: Call, id: Option<&TraceId>) -> Result<Answer> {
        self.stats.call();
        if trace::is_on() {
            let (what, id) = (call.what(), id.cloned().unwrap_or_else(trace::draw_trace_id));
            return Box::pin(trace::told(what, &id, self.many(call, Some(&id)))).await;
        }
        self.many(call, id).await
    }

    async fn one(&self, mut call: Call, id: Option<&TraceId>) -> Result<Answer> {
        let mut context = self;
        let mut known = None;
        while !call.is_done() {
            let step = match known.take() {
                Some(step) => step,
                None => match call.next(&mut context)? {
                    Some(step) => step,
                    None => break,
                },
            };
            let event = match step {
                Step::Send { part, to, op, timeout } if !trace::is_on() => {
                    Event::Answered(part, self.stores.request(&to, op, timeout, id).await)
                }
                // Boxed, so that the future of a call that succeeds at once stays small.
                Step::Send { .. } | Step::LookUp { .. } | Step::Wait { .. } => {
                    Box::pin(self.step(step, id)).await
                }
            };
            known = call.on(&mut context, event)?;
        }
        Ok(call.into_answer())
    }

    async fn many(&self, mut call: Call, id: Option<&TraceId>) -> Result<Answer> {
        let mut context = self;
        let mut steps = FuturesUnordered::new();
        loop {
            while let Some(step) = call.next(&mut context)? {
                steps.push(self.step(step, id));
            }
            let Some(event) = steps.next().await else { return Ok(call.into_answer()) };
            if let Some(step) = call.on(&mut context, event)? {
                steps.push(self.step(step, id));
            }
        }
    }

    async fn step(&self, step: Step, id: Option<&TraceId>) -> Event {
        match step {
            Step::Send { part, to, op, timeout } => {
                let span = trace::attempt(&to);
                let answered = self.stores.request(&to, op, timeout, id).instrument(span).await;
                Event::Answered(part, answered)
            }
            Step::LookUp { part, miss, deadline } => {
                let deadline = self.clock.instant(deadline);
                Event::LookedUp(part, self.routes.look_up(&miss, deadline).await)
            }
            Step::Wait { part, until } => {
                sleep_until(self.clock.instant(until)).await;
                Event::Waited(part)
            }
        }
    }
}

impl ClientContext for &Cluster {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn route<T>(&self, ask: impl FnOnce(&Router, &dyn Fn(StoreId) -> bool) -> T) -> T {
        ask(&self.routes.read(), &|store| self.stores.is_suspect(store))
    }

    fn retry<T>(&mut self, judge: impl FnOnce(&mut RetryContext<'_>) -> T) -> T {
        judge(&mut RetryContext {
            now: self.clock.now(),
            router: &mut self.routes.write(),
            budget: &mut lock(&self.budget),
            dice: &mut lock(&self.dice),
        })
    }

    fn succeeded(&mut self, sent: &Sent) {
        lock(&self.budget).succeeded();
        self.routes.confirm(sent);
    }

    fn refresh(&mut self, region: RegionId) {
        self.routes.refresh(region);
    }

    fn attempt_failed(&mut self, sent: Option<Sent>, failure: &Failure) {
        self.stats.attempt_failed(failure);
        trace::attempt_failed(sent.as_ref(), failure);
        let told = match sent {
            Some(sent) => format!("region {} on store {}: {failure}", sent.region, sent.store),
            None => failure.to_string(),
        };
        *lock(&self.last_failure) = Some((Instant::now(), told));
    }

    fn refused_busy(&mut self) {
        self.busy_refusals.fetch_add(1, Ordering::Relaxed);
    }
}
