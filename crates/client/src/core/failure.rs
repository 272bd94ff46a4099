//! How one attempt of a request can fail, as its sender sees it.
//!
//! The distinction that matters is whether the store may have carried the request out. The driver
//! must say [`Failure::ConnectFailed`] only when the request provably never left this process, or
//! the store says that it did not take it.

use std::fmt;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{RegionError, StoreId};

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The store answered with a refusal.
    Region(Box<RegionError>),
    /// The request never left this process, or was not taken.
    ConnectFailed {
        /// Such as "connection refused".
        reason: String,
    },
    /// The request was given to a connection that broke before the answer.
    ConnectionLost {
        /// What broke.
        reason: String,
    },
    /// The request was sent and no answer came in time.
    Timeout,
    /// An answer came and made no sense.
    InvalidResponse {
        /// What was wrong with it.
        what: String,
    },
    /// Neither the cache nor the placement driver says where to send the request.
    NoRoute {
        /// What is missing.
        reason: String,
    },
}

/// The answers of [`Failure::cause`] beside the kinds of [`RegionError`].
const OWN_CAUSES: [&str; 5] =
    ["connect_failed", "connection_lost", "timeout", "invalid_response", "no_route"];

/// How many answers [`Failure::cause`] has.
pub const CAUSE_COUNT: usize = RegionError::KINDS.len() + OWN_CAUSES.len();

/// Every answer of [`Failure::cause`].
pub fn causes() -> impl Iterator<Item = &'static str> {
    RegionError::KINDS.into_iter().chain(OWN_CAUSES)
}

impl Failure {
    /// What kind of failure it is, in a word or two: for counts and traces.
    pub fn cause(&self) -> &'static str {
        match self {
            Failure::Region(error) => error.kind(),
            Failure::ConnectFailed { .. } => "connect_failed",
            Failure::ConnectionLost { .. } => "connection_lost",
            Failure::Timeout => "timeout",
            Failure::InvalidResponse { .. } => "invalid_response",
            Failure::NoRoute { .. } => "no_route",
        }
    }

    /// True if a write that failed so may have taken effect, or may yet.
    pub fn may_have_effect(&self) -> bool {
        if planted(Mutant::LostIsRefused) && matches!(self, Failure::ConnectionLost { .. }) {
            return false;
        }
        match self {
            Failure::Region(error) => matches!(**error, RegionError::Undetermined { .. }),
            Failure::ConnectionLost { .. } | Failure::Timeout | Failure::InvalidResponse { .. } => {
                true
            }
            Failure::ConnectFailed { .. } | Failure::NoRoute { .. } => false,
        }
    }

    /// True if the store refused because it has too much to do.
    pub fn is_busy(&self) -> bool {
        match self {
            Failure::Region(error) => matches!(**error, RegionError::ServerBusy { .. }),
            Failure::ConnectFailed { .. }
            | Failure::ConnectionLost { .. }
            | Failure::Timeout
            | Failure::InvalidResponse { .. }
            | Failure::NoRoute { .. } => false,
        }
    }

    /// The failure of an attempt that was answered with something else than it asked for.
    pub fn wrong_answer() -> Failure {
        Failure::InvalidResponse { what: "the reply does not match the request".into() }
    }

    /// The failure of a store whose address is not known.
    pub fn no_address(store: StoreId) -> Failure {
        Failure::NoRoute { reason: format!("the address of store {store} is not known") }
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(Box::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Region(error) => error.fmt(f),
            Failure::ConnectFailed { reason } => write!(f, "could not be sent: {reason}"),
            Failure::ConnectionLost { reason } => {
                write!(f, "connection lost before the answer: {reason}")
            }
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::InvalidResponse { what } => write!(f, "unexpected answer: {what}"),
            Failure::NoRoute { reason } => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::RegionId;

    /// Each way to fail, what people read about it, and whether a write may have taken effect.
    fn failures() -> Vec<(Failure, &'static str, bool)> {
        let reason = || "reset".to_string();
        let busy = RegionError::ServerBusy { reason: "full".into(), retry_after_ms: 7 };
        let unsure = RegionError::Undetermined { region_id: RegionId(4) };
        let (busy_text, unsure_text) = ("full", "region 4");
        vec![
            (busy.into(), busy_text, false),
            (unsure.into(), unsure_text, true),
            (Failure::ConnectFailed { reason: reason() }, "could not be sent: reset", false),
            (Failure::ConnectionLost { reason: reason() }, "before the answer: reset", true),
            (Failure::Timeout, "no answer in time", true),
            (Failure::wrong_answer(), "the reply does not match the request", true),
            (Failure::no_address(StoreId(7)), "the address of store 7 is not known", false),
        ]
    }

    #[test]
    fn a_write_may_have_an_effect_unless_it_provably_never_left_or_was_refused() {
        for (failure, _, may_have_effect) in failures() {
            assert_eq!(failure.may_have_effect(), may_have_effect, "{failure:?}");
        }
    }

    #[test]
    fn a_store_is_busy_only_if_it_says_so() {
        let busy: Vec<bool> = failures().iter().map(|(failure, ..)| failure.is_busy()).collect();
        assert_eq!(busy, [true, false, false, false, false, false, false]);
    }

    #[test]
    fn a_failure_says_what_happened() {
        for (failure, told, _) in failures() {
            assert!(causes().any(|known| known == failure.cause()), "{failure:?}");
            assert!(failure.to_string().contains(told), "'{failure}' does not say '{told}'");
        }
    }
}
