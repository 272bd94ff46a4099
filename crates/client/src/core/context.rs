//! What the calls and scans of one client share, as they see it: the time, the router, the retry
//! budget. The driver keeps these behind locks, the simulator plainly.

use flotilla_types::{Millis, RegionId, StoreId};

use super::attempt::RetryContext;
use super::failure::Failure;
use super::retry::Action;
use super::router::{Router, Sent};

/// The one way from a call to the state that all calls of a client share. No method waits for
/// anything but a lock.
pub trait ClientContext {
    /// The time.
    fn now(&self) -> Millis;

    /// Reads the router. The second argument of `ask` is true for stores that do not answer at
    /// present.
    fn route<T>(&self, ask: impl FnOnce(&Router, &dyn Fn(StoreId) -> bool) -> T) -> T;

    /// Lets `judge` learn from a failure and pay for a retry.
    fn retry<T>(&mut self, judge: impl FnOnce(&mut RetryContext<'_>) -> T) -> T;

    /// Notes that an attempt succeeded: the store leads the region, and a success pays for a part
    /// of a retry.
    fn succeeded(&mut self, sent: &Sent);

    /// Starts to ask PD about a region whose cached form led astray, unless such a question is
    /// under way. No call waits for the answer.
    fn refresh(&mut self, region: RegionId);

    /// Notes that a store refused an attempt because it was busy.
    fn refused_busy(&mut self);

    /// Notes how an attempt failed (`sent` is None if none could begin), for who waits to be told.
    fn attempt_failed(&mut self, _sent: Option<Sent>, _failure: &Failure) {}

    /// Lets `judge` decide what follows from the failure of the attempt `sent` (None if the failure
    /// is not an attempt's), and starts the refresh that the decision asks for. Also gives the time
    /// of the decision.
    fn judge(
        &mut self,
        sent: Option<Sent>,
        judge: impl FnOnce(&mut RetryContext<'_>) -> Action,
    ) -> (Millis, Action) {
        let (now, action) = self.retry(|retry| (retry.now, judge(retry)));
        if let (Action::Retry { ask_pd: true, .. }, Some(sent)) = (action, sent) {
            self.refresh(sent.region);
        }
        (now, action)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A client without locks: what a test says is what the call sees.

    use flotilla_types::dice::Dice;

    use super::*;
    use crate::core::budget::Budget;

    /// Also notes what a call asks of it.
    pub(crate) struct TestContext {
        pub(crate) now: Millis,
        pub(crate) router: Router,
        pub(crate) successes: Vec<Sent>,
        pub(crate) refreshes: Vec<RegionId>,
        pub(crate) busy: usize,
        budget: Budget,
        dice: Dice,
    }

    impl TestContext {
        pub(crate) fn new(router: Router) -> TestContext {
            TestContext {
                now: Millis(0),
                router,
                successes: vec![],
                refreshes: vec![],
                busy: 0,
                budget: Budget::new(Millis(0), 1_000),
                dice: Dice::new(1),
            }
        }
    }

    impl ClientContext for TestContext {
        fn now(&self) -> Millis {
            self.now
        }

        fn route<T>(&self, ask: impl FnOnce(&Router, &dyn Fn(StoreId) -> bool) -> T) -> T {
            ask(&self.router, &|_| false)
        }

        fn retry<T>(&mut self, judge: impl FnOnce(&mut RetryContext<'_>) -> T) -> T {
            judge(&mut RetryContext {
                now: self.now,
                router: &mut self.router,
                budget: &mut self.budget,
                dice: &mut self.dice,
            })
        }

        fn succeeded(&mut self, sent: &Sent) {
            self.successes.push(*sent);
            self.router.confirm_leader(sent);
        }

        fn refresh(&mut self, region: RegionId) {
            self.refreshes.push(region);
        }

        fn refused_busy(&mut self) {
            self.busy += 1;
        }
    }
}
