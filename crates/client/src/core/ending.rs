//! How a call or a scan that cannot go on ends, and the error that its caller gets.

use flotilla_types::RegionError;

use crate::error::Error;

use super::failure::Failure;
use super::retry::Action;

/// How a call that cannot go on ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No attempt had an effect, and another cannot succeed.
    Failed,
    /// No attempt had an effect, and there is no time for another.
    DeadlineExceeded,
    /// An attempt may have an effect.
    Undetermined,
}

impl Ending {
    /// The end of a whole call when `action` ended one of its parts, or when `action` is a retry of
    /// which the call knows that it is in vain. `may_have_effect` is true if any part of the call
    /// had an effect or may have one: the call's failure is then never definite.
    pub fn of(action: Action, may_have_effect: bool) -> Ending {
        match action {
            Action::Undetermined => Ending::Undetermined,
            Action::Fail | Action::DeadlineExceeded | Action::Retry { .. } if may_have_effect => {
                Ending::Undetermined
            }
            Action::DeadlineExceeded => Ending::DeadlineExceeded,
            Action::Fail | Action::Retry { .. } => Ending::Failed,
        }
    }

    /// The error of the call `what`, whose last failure was `failure`. `lookup` is the error of the
    /// lookup on which the call ended, if it did: that error says best what is wrong.
    pub fn error(self, what: &str, failure: &Failure, lookup: Option<Error>) -> Error {
        let what = what.to_string();
        let reason = failure.to_string();
        match (self, failure) {
            (Ending::Undetermined, _) => Error::Undetermined { what, reason },
            (_, Failure::NoRoute { .. }) if lookup.is_some() => {
                lookup.unwrap_or(Error::DeadlineExceeded { what, last: reason })
            }
            (Ending::DeadlineExceeded, Failure::Region(error)) => out_of_time(what, error),
            (Ending::DeadlineExceeded, _) => Error::DeadlineExceeded { what, last: reason },
            (Ending::Failed, Failure::Region(error)) => Error::limit((**error).clone()),
            (Ending::Failed, _) => Error::Protocol { what: format!("{what}: {reason}") },
        }
    }
}

/// The error of a call that a store refused last.
fn out_of_time(what: String, refusal: &RegionError) -> Error {
    if let RegionError::ServerBusy { reason, retry_after_ms } = refusal {
        let (reason, retry_after_ms) = (reason.clone(), *retry_after_ms);
        return Error::ServerBusy { what, reason, retry_after_ms };
    }
    Error::DeadlineExceeded { what, last: refusal.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{RegionId, StoreId};

    const ACTIONS: [Action; 4] = [
        Action::Retry { after_ms: 1, ask_pd: false },
        Action::Fail,
        Action::DeadlineExceeded,
        Action::Undetermined,
    ];

    #[test]
    fn a_call_that_may_have_an_effect_never_ends_as_a_definite_failure() {
        let of = |may_have_effect| ACTIONS.map(|action| Ending::of(action, may_have_effect));
        assert_eq!(of(true), [Ending::Undetermined; 4]);
        let without =
            [Ending::Failed, Ending::Failed, Ending::DeadlineExceeded, Ending::Undetermined];
        assert_eq!(of(false), without);
    }

    #[test]
    fn the_error_tells_the_call_the_last_failure_and_what_it_means() {
        let (what, reason) = ("put".to_string(), "no answer in time".to_string());
        let of = |ending: Ending| ending.error("put", &Failure::Timeout, None);
        let unsure = Error::Undetermined { what: what.clone(), reason: reason.clone() };
        assert_eq!(of(Ending::Undetermined), unsure);
        let late = Error::DeadlineExceeded { what: what.clone(), last: reason.clone() };
        assert_eq!(of(Ending::DeadlineExceeded), late);
        assert_eq!(of(Ending::Failed), Error::Protocol { what: format!("{what}: {reason}") });
    }

    #[test]
    fn a_call_that_a_busy_store_refused_to_the_end_says_so() {
        let reason = || "inbox".to_string();
        let busy = RegionError::ServerBusy { reason: reason(), retry_after_ms: 70 };
        let error = Ending::DeadlineExceeded.error("put", &busy.clone().into(), None);
        let what = || "put".to_string();
        let expected = Error::ServerBusy { what: what(), reason: reason(), retry_after_ms: 70 };
        assert_eq!(error, expected);
        let unsure = Ending::Undetermined.error("put", &busy.into(), None);
        assert!(unsure.is_undetermined(), "an earlier attempt may have an effect: {unsure}");
        let late = RegionError::DeadlineExceeded { region_id: RegionId(1) };
        let error = Ending::DeadlineExceeded.error("put", &late.into(), None);
        assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
    }

    #[test]
    fn a_limit_that_a_store_names_is_told_as_it_is() {
        let (limit, max, actual) = ("key bytes".to_string(), 10, 11);
        let broken = RegionError::LimitExceeded { limit: limit.clone(), max, actual };
        let error = Ending::Failed.error("put", &broken.into(), None);
        assert_eq!(error, Error::LimitExceeded { limit, max, actual });
    }

    #[test]
    fn a_call_that_found_no_route_ends_with_the_error_of_its_lookup() {
        let unreachable = || Error::PdUnreachable { tried: vec![], reason: "refused".into() };
        let no_route = Failure::no_address(StoreId(3));
        let of = |ending: Ending, lookup| ending.error("get", &no_route, lookup);
        assert_eq!(of(Ending::DeadlineExceeded, Some(unreachable())), unreachable());
        let last = no_route.to_string();
        let late = Error::DeadlineExceeded { what: "get".into(), last: last.clone() };
        assert_eq!(of(Ending::DeadlineExceeded, None), late);
        let unsure = Error::Undetermined { what: "get".into(), reason: last };
        assert_eq!(of(Ending::Undetermined, Some(unreachable())), unsure, "the effect comes first");
        let other = Ending::DeadlineExceeded.error("get", &Failure::Timeout, Some(unreachable()));
        assert!(matches!(other, Error::DeadlineExceeded { .. }), "{other:?}");
    }
}
