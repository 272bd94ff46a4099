//! What one part of a call (a batch's keys in one region, a scan's position) remembers from attempt
//! to attempt: how often it failed, whom it asked, whom to ask next.
//!
//! Joins the three that decide: the router learns from a failure, the retry table judges it, and
//! the attempt state keeps the result for [`Router::destination`].

use flotilla_types::dice::Dice;
use flotilla_types::{Millis, StoreId};

use super::budget::Budget;
use super::failure::Failure;
use super::retry::{Action, Attempts, Failed};
use super::router::{Learned, Router, RoutingHints, Sent};

/// What a client's calls share when one of their attempts fails.
#[derive(Debug)]
pub struct RetryContext<'a> {
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
pub struct AttemptState {
    attempts: Attempts,
    sent: Option<Sent>,
    last: Option<StoreId>,
    hint: Option<StoreId>,
    looked_up: bool,
}

impl AttemptState {
    /// No attempt made yet.
    pub fn new(attempts: Attempts) -> AttemptState {
        AttemptState { attempts, sent: None, last: None, hint: None, looked_up: false }
    }

    /// The attempts so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Whom the attempt under way asks; None if there is none.
    pub fn sent(&self) -> Option<Sent> {
        self.sent
    }

    /// For [`Router::destination`].
    pub fn hints<'a>(&self, avoid: &'a dyn Fn(StoreId) -> bool) -> RoutingHints<'a> {
        RoutingHints { last: self.last, hint: self.hint, avoid }
    }

    /// Notes that an attempt is under way.
    pub fn begin(&mut self, sent: Sent) {
        self.sent = Some(sent);
        self.last = Some(sent.store);
        self.hint = None;
        self.looked_up = false;
    }

    /// Notes that PD is asked. False if it was asked just before and did not help: back off first.
    pub fn may_look_up(&mut self) -> bool {
        !std::mem::replace(&mut self.looked_up, true)
    }

    /// Notes that the attempt under way failed and says what to do.
    pub fn failed(&mut self, failure: &Failure, shared: &mut RetryContext<'_>) -> Action {
        let learned = match self.sent.take() {
            Some(sent) => shared.router.absorb_failure(&sent, failure),
            None => Learned::default(),
        };
        self.hint = learned.hint;
        self.looked_up = false;
        let failed = Failed { now: shared.now, failure, learned: learned.learned };
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
    use crate::core::retry::Idempotency;

    #[test]
    fn pd_is_asked_once_between_two_attempts() {
        let mut attempt = AttemptState::new(Attempts::new(Idempotency::ReadOnly, Millis(1_000)));
        assert!(attempt.may_look_up());
        assert!(!attempt.may_look_up());
        attempt.begin(Sent { region: RegionId(1), epoch: Epoch::FIRST, store: StoreId(1) });
        assert!(attempt.may_look_up());
    }
}
