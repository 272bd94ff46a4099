//! What one part of a call (the keys of a batch in one region, the position of a scan) remembers
//! from attempt to attempt: how often it failed, which store it asked, which store it asks next.
//!
//! The attempt state joins three modules: the router learns from a failure, the retry table judges
//! the failure, and the next attempt goes where both say ([`Router::destination`]).
//!
//! Invariant: at most one attempt is under way, and it ends once, by success or by failure.

use flotilla_types::dice::Dice;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, StoreId};

use super::budget::Budget;
use super::failure::Failure;
use super::retry::{Action, Attempts, Failed, Idempotency};
use super::router::{Destination, Learned, Miss, Router, RoutingHints, Sent};

/// An attempt that may be sent again is given up after this time, and another store is asked:
/// longer than an election, a fifth of the default deadline. One that may not be sent again has
/// until the deadline.
pub const ATTEMPT_MS_MAX: u64 = 2_000;

/// The store is told a little less time than the caller has, so that the store's own refusal, which
/// says whether there was an effect, arrives before the caller gives up without knowing.
pub const TIMEOUT_MARGIN_MS: u64 = 50;

/// What a failed attempt changes of the state that all calls of a client share.
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

/// How long an attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptTimeout {
    /// What the store is told, in milliseconds; at least 1.
    pub store_ms: u64,
    /// When the attempt counts as failed at its sender.
    pub give_up_at: Millis,
}

impl AttemptTimeout {
    /// The timeout of an attempt that begins now.
    pub fn new(idempotency: Idempotency, now: Millis, deadline: Millis) -> AttemptTimeout {
        assert!(now < deadline, "an attempt begins at {now:?} with the deadline {deadline:?}");
        let left_ms = deadline.since(now);
        let attempt_ms = match idempotency {
            Idempotency::ReadOnly | Idempotency::Idempotent => left_ms.min(ATTEMPT_MS_MAX),
            Idempotency::NotIdempotent => left_ms,
        };
        let mut margin_ms = TIMEOUT_MARGIN_MS.min(attempt_ms / 10);
        if planted(Mutant::NoMargin) {
            margin_ms = 0;
        }
        AttemptTimeout {
            store_ms: (attempt_ms - margin_ms).max(1),
            give_up_at: now.plus(attempt_ms),
        }
    }
}

/// Why no attempt can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The cache lacks this, and PD may know it.
    LookUp(Miss),
    /// PD was asked just before and did not know: the part fails.
    Stuck(Failure),
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
    /// No attempt was made yet.
    pub fn new(attempts: Attempts) -> AttemptState {
        AttemptState { attempts, sent: None, last: None, hint: None, looked_up: false }
    }

    /// The attempts so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// The attempt under way; None if there is none.
    pub fn sent(&self) -> Option<Sent> {
        self.sent
    }

    /// True if an attempt may have taken effect, or may yet.
    pub fn may_have_effect(&self) -> bool {
        let writes = self.attempts.idempotency() != Idempotency::ReadOnly;
        writes && (self.sent.is_some() || self.attempts.may_have_effect())
    }

    /// What earlier attempts say about the next one, for [`Router::destination`].
    pub fn hints<'a>(&self, avoid: &'a dyn Fn(StoreId) -> bool) -> RoutingHints<'a> {
        RoutingHints { last: self.last, hint: self.hint, avoid }
    }

    /// Begins an attempt at the destination found, or says what stands in its way. PD is asked at
    /// most once between two attempts: a question that did not help is not repeated without a
    /// back-off.
    ///
    /// # Errors
    /// [`Blocked`] if `found` is a miss.
    pub fn begin(&mut self, found: Result<Destination, Miss>) -> Result<Destination, Blocked> {
        assert!(self.sent.is_none(), "an attempt begins beside the one under way: {:?}", self.sent);
        match found {
            Ok(to) => {
                self.sent = Some(to.sent);
                self.last = Some(to.sent.store);
                self.hint = None;
                self.looked_up = false;
                Ok(to)
            }
            Err(miss) if self.looked_up => Err(Blocked::Stuck(no_route(&miss))),
            Err(miss) => {
                self.looked_up = true;
                Err(Blocked::LookUp(miss))
            }
        }
    }

    /// Notes that the attempt under way succeeded.
    pub fn succeeded(&mut self) {
        assert!(self.sent.take().is_some(), "an answer without an attempt");
    }

    /// Notes that nobody waits for the attempt under way any more, if there is one.
    pub fn abandoned(&mut self) {
        self.sent = None;
    }

    /// Notes that the attempt under way failed, or that none could begin, and says what to do.
    pub fn failed(&mut self, failure: &Failure, retry: &mut RetryContext<'_>) -> Action {
        let (learned, has_no_other) = match self.sent.take() {
            Some(sent) => {
                let learned = retry.router.absorb_failure(&sent, failure);
                (learned, retry.router.has_no_other(&sent))
            }
            None => (Learned::default(), false),
        };
        self.hint = learned.hint;
        self.looked_up = false;
        let learned = learned.is_news;
        let failed = Failed { now: retry.now, failure, learned, has_no_other };
        self.attempts.failed(failed, retry.budget, retry.dice)
    }

    /// Notes that the attempt under way gave results and that more are wanted, by `deadline`.
    pub fn progressed(&mut self, deadline: Millis) {
        self.attempts.progressed(deadline);
    }
}

/// The failure of a part that PD's answer did not help.
fn no_route(miss: &Miss) -> Failure {
    match miss {
        Miss::Region(_) | Miss::RegionBelow(_) => Failure::NoRoute {
            reason: "neither the placement driver nor a store names a region for the key".into(),
        },
        Miss::Address(store, _) => Failure::no_address(*store),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, RegionId};

    use super::*;

    fn miss() -> Result<Destination, Miss> {
        Err(Miss::Region("k".into()))
    }

    fn found() -> Result<Destination, Miss> {
        let sent = Sent { region: RegionId(1), epoch: Epoch::FIRST, store: StoreId(1) };
        Ok(Destination { sent, addr: "a:1".into() })
    }

    #[test]
    fn pd_is_asked_once_between_two_attempts() {
        let attempts = Attempts::new(Idempotency::ReadOnly, Millis(1_000));
        let mut attempt = AttemptState::new(attempts);
        assert!(matches!(attempt.begin(miss()), Err(Blocked::LookUp(_))));
        assert!(matches!(attempt.begin(miss()), Err(Blocked::Stuck(_))));
        assert!(attempt.begin(found()).is_ok());
        attempt.succeeded();
        assert!(matches!(attempt.begin(miss()), Err(Blocked::LookUp(_))));
    }

    #[test]
    fn a_store_is_told_less_time_than_its_caller_has() {
        let of = |idempotency, deadline| AttemptTimeout::new(idempotency, Millis(0), deadline);
        let read = of(Idempotency::ReadOnly, Millis(10_000));
        assert_eq!(read, AttemptTimeout { store_ms: 1_950, give_up_at: Millis(2_000) });
        let write = of(Idempotency::NotIdempotent, Millis(10_000));
        assert_eq!(write, AttemptTimeout { store_ms: 9_950, give_up_at: Millis(10_000) });
        let hasty = of(Idempotency::ReadOnly, Millis(1));
        assert_eq!(hasty, AttemptTimeout { store_ms: 1, give_up_at: Millis(1) });
    }

    #[test]
    #[should_panic(expected = "beside the one under way")]
    fn two_attempts_at_once_are_refused() {
        let attempts = Attempts::new(Idempotency::ReadOnly, Millis(1_000));
        let mut attempt = AttemptState::new(attempts);
        let _first = attempt.begin(found());
        let _second = attempt.begin(found());
    }
}
