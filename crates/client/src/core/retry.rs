//! The one table: (failure, what was learned from it, attempt, deadline, repeatable?) -> action.
//!
//! | failure                        | action                                                     |
//! |--------------------------------|------------------------------------------------------------|
//! | any that taught the router     | again at once, [`FREE_RETRIES_MAX`] times, then back off   |
//! | NotLeader without a hint       | back off, next peer; every third time ask PD too           |
//! | EpochNotMatch, nothing newer   | it is behind: back off, next peer; every third time PD too |
//! | KeyNotInRegion, RegionNotFound | back off, next peer, ask PD                                |
//! | WrongDestination               | back off, ask PD for the address                           |
//! | ServerBusy                     | back off by at least what the store said                   |
//! | LimitExceeded                  | fail                                                       |
//! | ConnectFailed                  | back off, next peer; every third time ask PD               |
//! | NoRoute                        | back off, ask PD                                           |
//! | Undetermined, Lost, Timeout    | if repeatable: back off, next peer; else Undetermined      |
//! | Garbled                        | reads fail; writes end Undetermined                        |
//!
//! Invariants: an action other than an ending always falls before the deadline. Once an attempt may
//! have taken effect, the call ends as success or Undetermined and never as a definite failure.
//! Where the next attempt goes is not decided here but by [`super::router`].

use flotilla_types::dice::Dice;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, RegionError};

use super::budget::Budget;
use super::failure::Failure;

/// The first back-off's greatest length: about one fast round trip.
pub const BACKOFF_BASE_MS: u64 = 2;

/// No jittered back-off is longer: an election takes 0.5 to 1 s, and a call should notice its end.
pub const BACKOFF_MS_MAX: u64 = 500;

/// With an empty retry budget no back-off is shorter.
pub const BACKOFF_EMPTY_BUDGET_MS: u64 = BACKOFF_MS_MAX / 2;

/// Retries without back-off for news, in a row. A leader change or a split needs one, both at once
/// two; stores that send a caller in circles are waited for.
pub const FREE_RETRIES_MAX: u32 = 3;

/// Stores are the authority on their regions and PD is asked when they do not know: every third
/// time, so once in about one turn around a region of three peers.
pub const ASK_PD_EVERY: u32 = 3;

/// What may be done about an attempt whose outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A read: repeating it changes nothing, and neither did the first.
    Harmless,
    /// A write whose caller allowed repeating it: no one else writes its keys.
    Allowed,
    /// A write that is sent again only after an attempt that provably had no effect.
    Forbidden,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again after `after_ms` (0: at once).
    Retry {
        /// How long to wait.
        after_ms: u64,
        /// True if PD should be asked about the region meanwhile.
        ask_pd: bool,
    },
    /// End: no attempt had an effect, and another cannot succeed.
    Fail,
    /// End: no attempt had an effect, and there is no time for another.
    DeadlineExceeded,
    /// End: an attempt may have taken effect.
    Undetermined,
}

/// A failed attempt, with what its sender knows besides.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// When.
    pub now: Millis,
    /// How.
    pub failure: &'a Failure,
    /// True if the router learned from it where to go instead.
    pub learned: bool,
}

/// The attempts of one request (or part of one) so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    repeat: Repeat,
    deadline: Millis,
    free: u32,
    paid: u32,
    may_have_effect: bool,
}

impl Attempts {
    /// None yet.
    pub fn new(repeat: Repeat, deadline: Millis) -> Attempts {
        Attempts { repeat, deadline, free: 0, paid: 0, may_have_effect: false }
    }

    /// When the call must have ended.
    pub fn deadline(&self) -> Millis {
        self.deadline
    }

    /// What may be repeated.
    pub fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// True if some attempt may have taken effect.
    pub fn may_have_effect(&self) -> bool {
        self.may_have_effect
    }

    /// Notes progress (rows of a scan): later failures are new ones. `deadline` is the new one.
    pub fn progressed(&mut self, deadline: Millis) {
        *self = Attempts::new(self.repeat, deadline);
    }

    /// Notes a failure and says what to do.
    pub fn failed(&mut self, failed: Failed<'_>, budget: &mut Budget, dice: &mut Dice) -> Action {
        if self.repeat != Repeat::Harmless {
            let is_known = planted(Mutant::UnknownIsFailure);
            self.may_have_effect |= failed.failure.may_have_effect() && !is_known;
        }
        match row(failed.failure, self.repeat) {
            Row::End if self.may_have_effect => Action::Undetermined,
            Row::End => Action::Fail,
            Row::Again { .. } if failed.learned && self.free < FREE_RETRIES_MAX => {
                self.free += 1;
                self.retry_before_deadline(failed.now, 0, false)
            }
            Row::Again { at_least_ms, ask_pd } => {
                let paid = budget.take(failed.now);
                let after_ms = at_least_ms.saturating_add(self.backoff(paid, dice));
                self.paid = self.paid.saturating_add(1);
                let ask_pd = match ask_pd {
                    AskPd::Never => false,
                    AskPd::Sometimes => self.paid.is_multiple_of(ASK_PD_EVERY),
                    AskPd::Always => true,
                };
                self.retry_before_deadline(failed.now, after_ms, ask_pd)
            }
        }
    }

    /// Full jitter: anything from nothing to the doubled bound, which spreads callers best
    /// (Brooker, "Exponential Backoff And Jitter", 2015).
    fn backoff(&self, budget_left: bool, dice: &mut Dice) -> u64 {
        if !budget_left {
            return dice.between_inclusive(BACKOFF_EMPTY_BUDGET_MS, BACKOFF_MS_MAX);
        }
        let bound = BACKOFF_BASE_MS.saturating_mul(1 << self.paid.min(20)).min(BACKOFF_MS_MAX);
        dice.between_inclusive(0, bound)
    }

    fn retry_before_deadline(&self, now: Millis, after_ms: u64, ask_pd: bool) -> Action {
        if now.plus(after_ms) < self.deadline {
            Action::Retry { after_ms, ask_pd }
        } else if self.may_have_effect {
            Action::Undetermined
        } else {
            Action::DeadlineExceeded
        }
    }
}

/// A row of the table, before attempts, deadline and dice.
enum Row {
    Again { at_least_ms: u64, ask_pd: AskPd },
    End,
}

enum AskPd {
    Never,
    Sometimes,
    Always,
}

fn row(failure: &Failure, repeat: Repeat) -> Row {
    let again = |ask_pd| Row::Again { at_least_ms: 0, ask_pd };
    match failure {
        Failure::Region(error) => match &**error {
            RegionError::NotLeader { .. } | RegionError::EpochNotMatch { .. } => {
                again(AskPd::Sometimes)
            }
            RegionError::KeyNotInRegion { .. }
            | RegionError::RegionNotFound { .. }
            | RegionError::WrongDestination { .. } => again(AskPd::Always),
            RegionError::ServerBusy { retry_after_ms, .. } => {
                Row::Again { at_least_ms: *retry_after_ms, ask_pd: AskPd::Never }
            }
            RegionError::LimitExceeded { .. } => Row::End,
            RegionError::Undetermined { .. } => unknown_outcome(repeat),
        },
        Failure::ConnectFailed { .. } => again(AskPd::Sometimes),
        Failure::NoRoute { .. } => again(AskPd::Always),
        Failure::Lost { .. } | Failure::Timeout => unknown_outcome(repeat),
        Failure::Garbled { .. } => Row::End,
    }
}

fn unknown_outcome(repeat: Repeat) -> Row {
    match repeat {
        Repeat::Harmless | Repeat::Allowed => {
            Row::Again { at_least_ms: 0, ask_pd: AskPd::Sometimes }
        }
        Repeat::Forbidden if planted(Mutant::RetryBlindly) => {
            Row::Again { at_least_ms: 0, ask_pd: AskPd::Sometimes }
        }
        Repeat::Forbidden => Row::End,
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
