//! What one part of a call (a batch's keys in one region, a scan's position) remembers from attempt
//! to attempt: how often it failed, whom it asked, whom to ask next.
//!
//! Joins the three that decide: the router learns from a failure, the retry table judges it, and
//! the aim keeps the result for [`Router::destination`].

use flotilla_types::dice::Dice;
use flotilla_types::{Millis, StoreId};

use super::budget::Budget;
use super::failure::Failure;
use super::retry::{Action, Attempts, Failed};
use super::router::{Asked, Lesson, Router, Steer};

/// What a client's calls share when one of their attempts fails.
#[derive(Debug)]
pub struct Shared<'a> {
    /// The time.
    pub now: Millis,
    /// Learns from the failure.
    pub router: &'a mut Router,
    /// Pays for the retry.
    pub budget: &'a mut Budget,
    /// Rolls the jitter.
    pub dice: &'a mut Dice,
}

/// The memory of one part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    attempts: Attempts,
    asked: Option<Asked>,
    last: Option<StoreId>,
    hint: Option<StoreId>,
    looked_up: bool,
}

impl Aim {
    /// No attempt made yet.
    pub fn new(attempts: Attempts) -> Aim {
        Aim { attempts, asked: None, last: None, hint: None, looked_up: false }
    }

    /// The attempts so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Whom the attempt under way asks; None if there is none.
    pub fn asked(&self) -> Option<Asked> {
        self.asked
    }

    /// For [`Router::destination`].
    pub fn steer<'a>(&self, avoid: &'a dyn Fn(StoreId) -> bool) -> Steer<'a> {
        Steer { last: self.last, hint: self.hint, avoid }
    }

    /// Notes that an attempt is under way.
    pub fn sent(&mut self, asked: Asked) {
        self.asked = Some(asked);
        self.last = Some(asked.store);
        self.hint = None;
        self.looked_up = false;
    }

    /// Notes that PD is asked. False if it was asked just before and did not help: back off first.
    pub fn may_look_up(&mut self) -> bool {
        !std::mem::replace(&mut self.looked_up, true)
    }

    /// Notes that the attempt under way failed and says what to do.
    pub fn failed(&mut self, failure: &Failure, shared: &mut Shared<'_>) -> Action {
        let lesson = match self.asked.take() {
            Some(asked) => shared.router.absorb_failure(&asked, failure),
            None => Lesson::default(),
        };
        self.hint = lesson.hint;
        self.looked_up = false;
        let failed = Failed { now: shared.now, failure, learned: lesson.learned };
        self.attempts.failed(failed, shared.budget, shared.dice)
    }

    /// Notes that the attempt under way gave results and that more are wanted, by `deadline`.
    pub fn progressed(&mut self, deadline: Millis) {
        self.attempts.progressed(deadline);
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, RegionId};

    use super::*;
    use crate::core::retry::Repeat;

    #[test]
    fn pd_is_asked_once_between_two_attempts() {
        let mut aim = Aim::new(Attempts::new(Repeat::Harmless, Millis(1_000)));
        assert!(aim.may_look_up());
        assert!(!aim.may_look_up());
        aim.sent(Asked { region: RegionId(1), epoch: Epoch::FIRST, store: StoreId(1) });
        assert!(aim.may_look_up());
    }
}
