//! The retry table. Its input: a failure, whether the router learned from it where to go instead,
//! the attempts so far, the deadline and the call's idempotency. Its output: an [`Action`].
//!
//! | failure                        | action                                                     |
//! |--------------------------------|------------------------------------------------------------|
//! | NotLeader with a new leader    | retry at once there (*)                                    |
//! | NotLeader without one          | back off, next member; every third time ask PD too         |
//! | EpochNotMatch with news        | retry at once by the newer regions (*)                     |
//! | EpochNotMatch, nothing newer   | store is behind: as NotLeader without a new leader         |
//! | KeyNotInRegion with news       | retry at once by the newer region (*)                      |
//! | KeyNotInRegion, RegionNotFound | back off, next member, ask PD                              |
//! | WrongDestination               | back off, ask PD for the address                           |
//! | ServerBusy                     | back off by at least what the store said                   |
//! | DeadlineExceeded (a store's)   | back off: the attempt had a shorter deadline than the call |
//! | LimitExceeded, Unsupported     | fail                                                       |
//! | ConnectFailed                  | back off, next member; every third time ask PD             |
//! | NoRoute                        | back off, ask PD                                           |
//! | Undetermined, ConnectionLost,  | NotIdempotent: end Undetermined; otherwise as NotLeader    |
//! | Timeout                        | without a new leader                                       |
//! | InvalidResponse                | reads fail; writes end Undetermined                        |
//!
//! Where the region has no other voter, as far as the router knows, PD is asked each time.
//!
//! (*) At most [`FREE_RETRIES_MAX`] times in a row; then the row without news holds.
//!
//! EpochNotMatch, both halves: a request names the epoch of the region that its sender had in its
//! cache. A store whose region has another epoch refuses and sends the regions that it now has
//! where the region of the request lay, both parts of a split included (the store's
//! `Worker::add_adjacent`). The router inserts those that are newer than its own, so that the next
//! attempt is cut at the new bounds and names the new epochs, without a question to PD.
//!
//! Invariants: a retry always falls before the deadline. Once an attempt may have taken effect, the
//! call ends as success or Undetermined and never as a definite failure.
//!
//! Not here: where the next attempt goes. [`super::router`] decides that.

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

/// Retries without back-off in a row, each because the router learned something. A leader change or
/// a split takes one, both at once take two. A caller that stores send in circles backs off.
pub const FREE_RETRIES_MAX: u32 = 3;

/// Of the failures after which stores usually know better than PD, every third one asks PD too:
/// once for about one turn around a region of three members.
pub const ASK_PD_EVERY: u32 = 3;

/// Whether an attempt of unknown outcome may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// A read: it has no effect, so it may be sent again.
    ReadOnly,
    /// A write that may take effect twice, because its caller said that no one else writes its
    /// keys.
    Idempotent,
    /// A write that is sent again only after an attempt that provably had no effect.
    NotIdempotent,
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

/// A failed attempt, with what its sender knows about it.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// When it failed.
    pub now: Millis,
    /// How it failed.
    pub failure: &'a Failure,
    /// True if the router learned from the failure where to go instead.
    pub learned: bool,
    /// True if the region has no voter at another store, as far as the router knows.
    pub has_no_other: bool,
}

/// The failed attempts of one request, or of one part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    idempotency: Idempotency,
    deadline: Millis,
    free: u32,
    paid: u32,
    may_have_effect: bool,
}

impl Attempts {
    /// No attempt was made yet.
    pub fn new(idempotency: Idempotency, deadline: Millis) -> Attempts {
        Attempts { idempotency, deadline, free: 0, paid: 0, may_have_effect: false }
    }

    /// When the call must have ended.
    pub fn deadline(&self) -> Millis {
        self.deadline
    }

    /// Whether an attempt of unknown outcome may be sent again.
    pub fn idempotency(&self) -> Idempotency {
        self.idempotency
    }

    /// True if some attempt may have taken effect.
    pub fn may_have_effect(&self) -> bool {
        self.may_have_effect
    }

    /// Notes progress (rows of a scan) and forgets the failures before it. `deadline` is that of
    /// the next row.
    pub fn progressed(&mut self, deadline: Millis) {
        *self = Attempts::new(self.idempotency, deadline);
    }

    /// Notes a failure and says what to do.
    pub fn failed(&mut self, failed: Failed<'_>, budget: &mut Budget, dice: &mut Dice) -> Action {
        if self.idempotency != Idempotency::ReadOnly {
            let is_known = planted(Mutant::UnknownIsFailure);
            self.may_have_effect |= failed.failure.may_have_effect() && !is_known;
        }
        match row(failed.failure, self.idempotency) {
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
                    AskPd::Sometimes => {
                        failed.has_no_other || self.paid.is_multiple_of(ASK_PD_EVERY)
                    }
                    AskPd::Always => true,
                };
                self.retry_before_deadline(failed.now, after_ms, ask_pd)
            }
        }
    }

    /// Full jitter: a number from 0 to a bound that doubles with each retry. It spreads callers
    /// best (Brooker, "Exponential Backoff And Jitter", 2015).
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

fn row(failure: &Failure, idempotency: Idempotency) -> Row {
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
            RegionError::DeadlineExceeded { .. } => again(AskPd::Never),
            RegionError::LimitExceeded { .. } | RegionError::Unsupported { .. } => Row::End,
            RegionError::Undetermined { .. } => unknown_outcome(idempotency),
        },
        Failure::ConnectFailed { .. } => again(AskPd::Sometimes),
        Failure::NoRoute { .. } => again(AskPd::Always),
        Failure::ConnectionLost { .. } | Failure::Timeout => unknown_outcome(idempotency),
        Failure::InvalidResponse { .. } => Row::End,
    }
}

fn unknown_outcome(idempotency: Idempotency) -> Row {
    match idempotency {
        Idempotency::ReadOnly | Idempotency::Idempotent => {
            Row::Again { at_least_ms: 0, ask_pd: AskPd::Sometimes }
        }
        Idempotency::NotIdempotent if planted(Mutant::RetryBlindly) => {
            Row::Again { at_least_ms: 0, ask_pd: AskPd::Sometimes }
        }
        Idempotency::NotIdempotent => Row::End,
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
