//! How a call or a scan that cannot go on ends, and the error that its caller gets.

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
            (Ending::DeadlineExceeded, _) => Error::DeadlineExceeded { what, last: reason },
            (Ending::Failed, Failure::Region(error)) => Error::limit((**error).clone()),
            (Ending::Failed, _) => Error::Protocol { what: format!("{what}: {reason}") },
        }
    }
}
