//! Attempts: no attempt of a client is sent too late, no store is told more time than its caller
//! waits, and no retry comes earlier than the retry budget allows.
//!
//! * An attempt begins before the deadline of its call, and is given up by then. The store is told
//!   less time than the caller waits, so that the store's own refusal, which says whether there was
//!   an effect, comes first; in its last ten milliseconds an attempt has no room for a margin.
//! * A retry that comes within `BACKOFF_EMPTY_BUDGET_MS` of the failure takes a token of the
//!   client's budget, unless the failure may have told the client where to go instead. The checker
//!   has a bucket of its own for each client, and a token must be in it.
//!
//! Why the second rule is sound: the checker's bucket never holds less than the client's. It begins
//! as full, is refilled by the same clock and by every success, and gives a token only for retries
//! that the client must have paid for. The client pays for some others, too (a slow retry, a retry
//! after a hint when it had too many in a row, a failed lookup).
//!
//! What this checker cannot see: a client that waits longer than it must.

use std::collections::BTreeMap;

use flotilla_client::core::attempt::AttemptTimeout;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::retry::BACKOFF_EMPTY_BUDGET_MS;
use flotilla_types::{Millis, RegionError};

use super::{Verdict, broken};

/// Tokens are counted in thousandths.
const TOKEN: u64 = 1_000;

/// What a success gives back: a tenth of a token.
const SUCCESS: u64 = TOKEN / 10;

/// What each millisecond gives back: ten tokens in a second.
const EACH_MS: u64 = 10;

/// The least wait of an attempt in which the store is told less time than the caller waits.
const MARGIN_FROM_MS: u64 = 10;

/// An attempt that begins.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The client's time.
    pub now: Millis,
    /// When the call must have ended.
    pub deadline: Millis,
    /// How long the attempt may take.
    pub timeout: AttemptTimeout,
}

impl Begun {
    /// Checks the first rule of the header.
    pub fn check(&self, client: u32) -> Verdict {
        let Begun { now, deadline, timeout } = *self;
        let wait_ms = timeout.give_up_at.since(now);
        let is_in_time = now < deadline && timeout.give_up_at <= deadline;
        let margin_ms = u64::from(wait_ms >= MARGIN_FROM_MS);
        if is_in_time && timeout.store_ms + margin_ms <= wait_ms.max(1) {
            return Ok(());
        }
        let what = format!("client {client}: {self:?}");
        broken("an attempt ends at its store before its caller gives up", what)
    }
}

/// A retry that a client decides on.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The client's time.
    pub now: Millis,
    /// When the next attempt is made.
    pub until: Millis,
    /// Tokens in a full budget.
    pub tokens_max: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at: Millis,
}

/// The clients' retry budgets, as the checker counts them.
#[derive(Default)]
pub struct Attempts {
    buckets: BTreeMap<u32, Bucket>,
}

impl Attempts {
    /// A client's process has begun again, with a full budget.
    pub fn reborn(&mut self, client: u32) {
        self.buckets.remove(&client);
    }

    /// An attempt of a client succeeded.
    pub fn succeeded(&mut self, client: u32) {
        self.buckets.entry(client).and_modify(|bucket| bucket.left += SUCCESS);
    }

    /// Checks a retry after `failure`.
    pub fn retried(&mut self, client: u32, failure: &Failure, retry: Retry) -> Verdict {
        let Retry { now, until, tokens_max } = retry;
        let full = Bucket { left: tokens_max * TOKEN, at: now };
        let bucket = self.buckets.entry(client).or_insert(full);
        bucket.left = (bucket.left + now.since(bucket.at) * EACH_MS).min(full.left);
        bucket.at = bucket.at.max(now);
        if until.since(now) >= BACKOFF_EMPTY_BUDGET_MS || may_be_news(failure) {
            return Ok(());
        }
        if bucket.left < TOKEN {
            let what = format!("client {client}: {retry:?} after {failure:?}");
            return broken("retries keep to the client's budget", what);
        }
        bucket.left -= TOKEN;
        Ok(())
    }
}

/// True if the failure may have told the client where to go instead: such a retry is free.
fn may_be_news(failure: &Failure) -> bool {
    let Failure::Region(error) = failure else { return false };
    match &**error {
        RegionError::NotLeader { leader, .. } => leader.is_some(),
        RegionError::EpochNotMatch { .. } | RegionError::KeyNotInRegion { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_client::core::retry::Idempotency;

    fn begun(store_ms: u64, give_up_at: u64) -> Begun {
        let timeout = AttemptTimeout { store_ms, give_up_at: Millis(give_up_at) };
        Begun { now: Millis(100), deadline: Millis(1_000), timeout }
    }

    #[test]
    fn an_attempt_that_leaves_its_caller_no_answer_is_found() {
        let right = AttemptTimeout::new(Idempotency::ReadOnly, Millis(100), Millis(1_000));
        assert!(Begun { timeout: right, ..begun(1, 101) }.check(1).is_ok());
        assert!(begun(899, 1_000).check(1).is_ok());
        assert!(begun(900, 1_000).check(1).is_err(), "no margin");
        assert!(begun(5, 105).check(1).is_ok(), "no room for a margin");
        assert!(begun(901, 1_001).check(1).is_err(), "after the deadline");
    }

    fn retried(attempts: &mut Attempts, now: u64, wait_ms: u64) -> Verdict {
        let now = Millis(now);
        let retry = Retry { now, until: now.plus(wait_ms), tokens_max: 2 };
        attempts.retried(1, &Failure::Timeout, retry)
    }

    #[test]
    fn retries_beyond_the_budget_are_found() {
        let mut attempts = Attempts::default();
        assert!(retried(&mut attempts, 0, 0).is_ok());
        assert!(retried(&mut attempts, 0, 249).is_ok());
        assert!(retried(&mut attempts, 50, 249).is_err());
        assert!(retried(&mut attempts, 50, 250).is_ok(), "slow enough");
        assert!(retried(&mut attempts, 100, 0).is_ok(), "time gives back");
        (0..9).for_each(|_| attempts.succeeded(1));
        assert!(retried(&mut attempts, 109, 0).is_err());
        (0..2).for_each(|_| attempts.succeeded(1));
        assert!(retried(&mut attempts, 109, 0).is_ok(), "successes give back");
    }
}
