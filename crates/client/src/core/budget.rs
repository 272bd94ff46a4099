//! A token bucket that keeps retries from becoming a storm.
//!
//! A retry takes a token; a success gives back a tenth; and ten trickle in each second. When half
//! the cluster is gone, the successes that pay for retries are gone too, the bucket runs dry, and
//! every waiting call falls back to the slowest pace there is. It does not fail early: a call has a
//! deadline that its caller chose, and giving up before it would turn an election of a second into
//! errors for the user. With the bucket empty, n waiting calls make at most about 3 n attempts a
//! second, which a store can refuse cheaply.
//!
//! Retries that follow from news (a leader hint, a newer region) are free and never come here:
//! each makes progress, and a split or a leader change would otherwise drain the bucket.

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

/// Tokens are counted in thousandths, so that a success can give back a part of one.
const TOKEN: u64 = 1_000;

/// What a success gives back: in a healthy cluster up to one request in ten may be a retry.
const SUCCESS_REFILL: u64 = TOKEN / 10;

/// Ten tokens a second, as thousandths of a token per millisecond. Without it an idle client would
/// stay at the slow pace for ever.
const REFILL_PER_MS: u64 = 10 * TOKEN / 1_000;

/// The retry budget of one client; all its calls draw on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    tokens_max: u64,
    left: u64,
    refilled_at: Millis,
}

impl Budget {
    /// A full bucket of `tokens_max`.
    pub fn new(now: Millis, tokens_max: u64) -> Budget {
        Budget { tokens_max, left: tokens_max * TOKEN, refilled_at: now }
    }

    /// Takes a token for a retry. False if there was none: wait longer.
    pub fn take(&mut self, now: Millis) -> bool {
        let elapsed = now.since(self.refilled_at);
        self.refilled_at = self.refilled_at.max(now);
        self.add(elapsed.saturating_mul(REFILL_PER_MS));
        if planted(Mutant::BudgetEndless) {
            return true;
        }
        let enough = self.left >= TOKEN;
        if enough {
            self.left -= TOKEN;
        }
        enough
    }

    /// Notes that a request succeeded.
    pub fn succeeded(&mut self) {
        self.add(SUCCESS_REFILL);
    }

    fn add(&mut self, amount: u64) {
        self.left = self.left.saturating_add(amount).min(self.tokens_max * TOKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::BUDGET_TOKENS_MAX;

    fn drained(now: Millis) -> Budget {
        let mut budget = Budget::new(now, BUDGET_TOKENS_MAX);
        while budget.take(now) {}
        budget
    }

    #[test]
    fn a_full_bucket_pays_for_its_tokens_and_no_more() {
        let mut budget = Budget::new(Millis(0), BUDGET_TOKENS_MAX);
        let paid = (0..BUDGET_TOKENS_MAX * 2).filter(|_| budget.take(Millis(0))).count();
        assert_eq!(paid as u64, BUDGET_TOKENS_MAX);
    }

    #[test]
    fn ten_successes_pay_for_one_retry() {
        let mut budget = drained(Millis(5));
        for _ in 0..9 {
            budget.succeeded();
        }
        assert!(!budget.take(Millis(5)));
        budget.succeeded();
        assert!(budget.take(Millis(5)));
        assert!(!budget.take(Millis(5)));
    }

    #[test]
    fn time_refills_ten_tokens_a_second_up_to_the_brim() {
        let mut budget = drained(Millis(0));
        assert!(!budget.take(Millis(99)));
        assert!(budget.take(Millis(199)));
        let mut budget = drained(Millis(0));
        assert_eq!((0..50).filter(|_| budget.take(Millis(1_000))).count(), 10);
        let mut budget = drained(Millis(0));
        let paid = (0..5_000).filter(|_| budget.take(Millis(u64::MAX))).count();
        assert_eq!(paid as u64, BUDGET_TOKENS_MAX);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let mut budget = drained(Millis(1_000));
        assert!(!budget.take(Millis(0)));
        assert!(!budget.take(Millis(1_000)));
    }
}
