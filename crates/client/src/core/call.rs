//! A point or batch call from its first attempt to its end: the loop that drivers carry out.
//!
//! In: the call's items; then, as [`Event`]s, what became of each step. Out: [`Step`]s (send this,
//! look this up, wait until then), and at last the answer, or the error that the caller gets. Steps
//! of different parts may be under way at once; a call for one item has one at a time.
//!
//! ```text
//! loop {
//!     while let Some(step) = call.next(context)? { start the step }
//!     if nothing is under way { return call.into_answer() }
//!     let event = the first step to end;
//!     if let Some(step) = call.on(context, event)? { start the step }
//! }
//! ```
//!
//! Invariants: each step ends in exactly one event. No attempt begins at or after the deadline, and
//! each step ends by it, so the call does.
//!
//! Deliberately not here: sockets, timers and locks; what the calls of a client share is reached
//! through [`ClientContext`]. The user's limits are checked before a call begins.

use flotilla_types::{Answer, Millis, Op, StoreId};

use crate::error::{Error, Result};

use super::attempt::{AttemptTimeout, RetryContext};
use super::context::ClientContext;
use super::ending::Ending;
use super::failure::Failure;
use super::item::Item;
use super::part::{Next, PartId};
use super::plan::Plan;
use super::retry::{Action, Attempts, Idempotency};
use super::router::{Destination, Miss, Router, Sent};
use super::single::Single;

/// What the caller of a call chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When the call must have ended.
    pub deadline: Millis,
    /// The caller's promise that no one else writes the keys: idempotent writes of unknown outcome
    /// are then sent again.
    pub no_one_else_writes: bool,
    /// How many parts of the call may be under way at once: the client's
    /// [`parts_out_max`](super::limits::ClientLimits::parts_out_max).
    pub parts_out_max: usize,
}

/// What a driver is to do for a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send a request; ends as [`Event::Answered`].
    Send {
        /// The part that waits.
        part: PartId,
        /// Where to send it.
        to: Destination,
        /// The request.
        op: Op,
        /// When to give up.
        timeout: AttemptTimeout,
    },
    /// Ask PD; ends as [`Event::LookedUp`].
    LookUp {
        /// The part that waits.
        part: PartId,
        /// What the cache lacks.
        miss: Miss,
        /// When to give up.
        deadline: Millis,
    },
    /// Wait; ends as [`Event::Waited`].
    Wait {
        /// The part that waits.
        part: PartId,
        /// Until when.
        until: Millis,
    },
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An attempt was answered, or failed.
    Answered(PartId, Result<Answer, Failure>),
    /// PD has answered and the router has taken the answer over, or PD was not reached.
    LookedUp(PartId, Result<()>),
    /// A wait is over.
    Waited(PartId),
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Call {
    what: &'static str,
    deadline: Millis,
    idempotency: Idempotency,
    work: Work,
    /// Why the last lookup failed: the error to show if the call runs out of time on it.
    last_lookup: Option<Error>,
    last_failure: Option<Failure>,
}

#[derive(Clone, Debug)]
enum Work {
    Single(Single),
    Plan(Plan),
}

impl Call {
    /// A call for one item. `what` names the call in errors.
    pub fn one(what: &'static str, item: Item, terms: Terms) -> Call {
        let idempotency = item.idempotency(terms.no_one_else_writes);
        let attempts = Attempts::new(idempotency, terms.deadline);
        let work = match item.is_range() {
            true => Work::Plan(Plan::new(vec![item], attempts, terms.parts_out_max)),
            false => Work::Single(Single::new(item, attempts)),
        };
        Call::of(what, work, attempts)
    }

    /// A call for many items, which are all reads or all mutations.
    pub fn many(what: &'static str, mut items: Vec<Item>, terms: Terms) -> Call {
        if items.len() == 1
            && let Some(item) = items.pop()
        {
            return Call::one(what, item, terms);
        }
        let of = |item: &Item| item.idempotency(terms.no_one_else_writes);
        let idempotency = items.first().map_or(Idempotency::ReadOnly, of);
        assert!(items.iter().all(|item| of(item) == idempotency), "{what}: unlike items");
        let attempts = Attempts::new(idempotency, terms.deadline);
        Call::of(what, Work::Plan(Plan::new(items, attempts, terms.parts_out_max)), attempts)
    }

    fn of(what: &'static str, work: Work, attempts: Attempts) -> Call {
        let (deadline, idempotency) = (attempts.deadline(), attempts.idempotency());
        Call { what, deadline, idempotency, work, last_lookup: None, last_failure: None }
    }

    /// What the call is named in errors.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// True if every item was answered.
    pub fn is_done(&self) -> bool {
        self.work.is_done()
    }

    /// The next step that the call is ready for; None if it waits for one that is under way, or is
    /// done. A part that failed and may try again at once is back in line, so the loop asks again.
    ///
    /// # Errors
    /// How the call ended.
    pub fn next<C: ClientContext>(&mut self, context: &mut C) -> Result<Option<Step>> {
        while self.work.is_ready() {
            let now = context.now();
            if now >= self.deadline {
                return Err(self.out_of_time());
            }
            let (deadline, idempotency) = (self.deadline, self.idempotency);
            match context.route(|router, avoid| self.work.next(router, avoid)) {
                None => return Ok(None),
                Some(Next::Send { part, to, op }) => {
                    let timeout = AttemptTimeout::new(idempotency, now, deadline);
                    return Ok(Some(Step::Send { part, to, op, timeout }));
                }
                Some(Next::LookUp { part, miss }) => {
                    return Ok(Some(Step::LookUp { part, miss, deadline }));
                }
                Some(Next::Stuck { part, failure }) => {
                    self.last_lookup = None;
                    if let Some(step) = self.failed(context, part, failure)? {
                        return Ok(Some(step));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the end of a step. The next one of the same part, if it is known already, is returned;
    /// [`Call::next`] gives all others.
    ///
    /// # Errors
    /// How the call ended.
    ///
    /// # Panics
    /// If the step was not under way.
    pub fn on<C: ClientContext>(&mut self, context: &mut C, event: Event) -> Result<Option<Step>> {
        match event {
            Event::Answered(part, result) => {
                let Some(sent) = self.work.sent(part) else {
                    panic!("{}: {part:?} is answered and has no attempt under way", self.what)
                };
                match result.and_then(|answer| self.work.answered(part, answer)) {
                    Ok(()) => {
                        context.succeeded(&sent);
                        Ok(None)
                    }
                    Err(failure) => self.failed(context, part, failure),
                }
            }
            Event::LookedUp(part, Ok(())) => {
                self.last_lookup = None;
                self.work.ready(part);
                Ok(None)
            }
            Event::LookedUp(part, Err(error)) => {
                let failure = Failure::NoRoute { reason: error.to_string() };
                self.last_lookup = Some(error);
                self.failed(context, part, failure)
            }
            Event::Waited(part) => {
                self.work.ready(part);
                Ok(None)
            }
        }
    }

    /// The answer of a call that is done: that of its one item; or the values in the order asked,
    /// or that all was written.
    ///
    /// # Panics
    /// If the call is not done: a part without an answer must never pass for one with success.
    pub fn into_answer(self) -> Answer {
        assert!(self.work.is_done(), "{}: nothing is under way, and parts wait", self.what);
        match self.work {
            Work::Single(single) => single.into_answer().unwrap_or(Answer::Written),
            Work::Plan(_) if self.idempotency != Idempotency::ReadOnly => Answer::Written,
            Work::Plan(plan) => Answer::Get(plan.into_values()),
        }
    }

    /// The wait before the part's next attempt; None if the part is ready at once.
    fn failed<C: ClientContext>(
        &mut self,
        context: &mut C,
        part: PartId,
        failure: Failure,
    ) -> Result<Option<Step>> {
        if failure.is_busy() {
            context.refused_busy();
        }
        let sent = self.work.sent(part);
        context.attempt_failed(sent, &failure);
        let (now, action) = context.judge(sent, |retry| self.work.failed(part, &failure, retry));
        let is_final = self.last_lookup.as_ref().is_some_and(|error| !error.is_retryable());
        match action {
            Action::Retry { after_ms, .. } if !is_final => {
                self.last_failure = Some(failure);
                if after_ms > 0 {
                    return Ok(Some(Step::Wait { part, until: now.plus(after_ms) }));
                }
                self.work.ready(part);
                Ok(None)
            }
            Action::Retry { .. }
            | Action::Fail
            | Action::DeadlineExceeded
            | Action::Undetermined => {
                let ending = self.work.ending(action);
                Err(ending.error(self.what, &failure, self.last_lookup.take()))
            }
        }
    }

    fn out_of_time(&mut self) -> Error {
        let no_time = || Failure::ConnectFailed { reason: "no time is left".into() };
        let failure = self.last_failure.take().unwrap_or_else(no_time);
        let ending = self.work.ending(Action::DeadlineExceeded);
        ending.error(self.what, &failure, self.last_lookup.take())
    }
}

impl Work {
    fn next(&mut self, router: &Router, avoid: &dyn Fn(StoreId) -> bool) -> Option<Next> {
        match self {
            Work::Single(single) => single.next(router, avoid),
            Work::Plan(plan) => plan.next(router, avoid),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Work::Single(single) => single.is_ready(),
            Work::Plan(plan) => plan.is_ready(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Work::Single(single) => single.is_done(),
            Work::Plan(plan) => plan.is_done(),
        }
    }

    fn sent(&self, part: PartId) -> Option<Sent> {
        match self {
            Work::Single(single) => single.attempt().sent(),
            Work::Plan(plan) => plan.sent(part),
        }
    }

    fn answered(&mut self, part: PartId, answer: Answer) -> Result<(), Failure> {
        match self {
            Work::Single(single) => single.answered(answer),
            Work::Plan(plan) => plan.answered(part, answer),
        }
    }

    fn failed(&mut self, part: PartId, failure: &Failure, retry: &mut RetryContext<'_>) -> Action {
        match self {
            Work::Single(single) => single.failed(failure, retry),
            Work::Plan(plan) => plan.failed(part, failure, retry),
        }
    }

    fn ready(&mut self, part: PartId) {
        match self {
            Work::Single(single) => single.ready(),
            Work::Plan(plan) => plan.ready(part),
        }
    }

    fn ending(&self, action: Action) -> Ending {
        match self {
            Work::Single(single) => single.ending(action),
            Work::Plan(plan) => plan.ending(action),
        }
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
