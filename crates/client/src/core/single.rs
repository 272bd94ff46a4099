//! A call for one item that lies in one region: nearly every call there is.
//!
//! In: the item; then its answers and failures. Out: what to send or look up next. It asks and
//! understands what a [`Plan`](super::plan::Plan) of that one item would, without the plan's lists:
//! nothing is allocated but the request itself.
//!
//! Deliberately not here: ranges, which a plan cuts at region bounds.

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Answer, StoreId};

use super::attempt::{AttemptState, RetryContext};
use super::ending::Ending;
use super::failure::Failure;
use super::item::Item;
use super::part::{Next, PartId};
use super::retry::{Action, Attempts, Idempotency};
use super::router::{Miss, Router};

/// The only part of the call.
const PART: PartId = PartId(0);

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Single {
    item: Item,
    attempt: AttemptState,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Ready,
    UnderWay,
    Answered(Answer),
}

impl Single {
    /// A call for `item`, which must not be a range.
    pub fn new(item: Item, attempts: Attempts) -> Single {
        assert!(!item.is_range(), "a range may lie in several regions");
        let mut attempts = attempts;
        if planted(Mutant::SwapRepeated) && matches!(item, Item::Whole(_)) {
            attempts = Attempts::new(Idempotency::Idempotent, attempts.deadline());
        }
        Single { item, attempt: AttemptState::new(attempts), stage: Stage::Ready }
    }

    /// What to do next, or None if the call waits for something or is done.
    pub fn next(&mut self, router: &Router, avoid: &dyn Fn(StoreId) -> bool) -> Option<Next> {
        if !self.is_ready() {
            return None;
        }
        self.stage = Stage::UnderWay;
        let key = self.item.key();
        let found = match router.region_at(key) {
            Some(region) => router.destination(region, &self.attempt.hints(avoid)),
            None => Err(Miss::Region(key.clone())),
        };
        Some(match self.attempt.begin(found) {
            Ok(to) => Next::Send { part: PART, to, op: self.item.op() },
            Err(blocked) => Next::of_blocked(PART, blocked),
        })
    }

    /// True if [`Single::next`] has something to do.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    /// True if the item was answered.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Answered(_))
    }

    /// The state of the attempts.
    pub fn attempt(&self) -> &AttemptState {
        &self.attempt
    }

    /// Takes the answer.
    ///
    /// # Errors
    /// The answer is of the wrong kind: hand the failure to [`Single::failed`].
    pub fn answered(&mut self, answer: Answer) -> Result<(), Failure> {
        if !self.item.fits(&answer) {
            return Err(Failure::wrong_answer());
        }
        self.attempt.succeeded();
        self.stage = Stage::Answered(answer);
        Ok(())
    }

    /// Takes a failure and says what to do. On [`Action::Retry`], call [`Single::ready`] when the
    /// time has come; on any other, the call ends as [`Single::ending`] says.
    pub fn failed(&mut self, failure: &Failure, retry: &mut RetryContext<'_>) -> Action {
        assert!(matches!(self.stage, Stage::UnderWay), "a failure of what is not under way");
        self.attempt.failed(failure, retry)
    }

    /// Makes the item ready for its next attempt, after a wait or a lookup.
    pub fn ready(&mut self) {
        assert!(matches!(self.stage, Stage::UnderWay), "what is not under way cannot come back");
        self.stage = Stage::Ready;
    }

    /// How the call ends when `action` ended it.
    pub fn ending(&self, action: Action) -> Ending {
        Ending::of(action, self.attempt.may_have_effect())
    }

    /// The answer, once the call is done.
    pub fn into_answer(self) -> Option<Answer> {
        if planted(Mutant::AbsentReadsEmpty)
            && let Stage::Answered(Answer::Get(values)) = self.stage
        {
            let values = values.into_iter().map(|value| Some(value.unwrap_or_default()));
            return Some(Answer::Get(values.collect()));
        }
        match self.stage {
            Stage::Answered(answer) => Some(answer),
            Stage::Ready | Stage::UnderWay => None,
        }
    }
}

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
