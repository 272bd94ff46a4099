//! What a call can end as, apart from success.
//!
//! Three kinds that a caller must keep apart: the request had no effect (every variant but one),
//! the outcome is not known ([`Error::Undetermined`]), and, among the first, those where trying
//! again can help ([`Error::is_retryable`]). Messages name what was tried, what happened and what
//! to do, and never contain keys or values.

use flotilla_types::RegionError;

/// Why a call did not succeed. Every variant but [`Error::Undetermined`] is a definite failure:
/// the request had no effect and will have none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request may or may not have taken effect, or may yet, or only for some of its regions.
    /// Read the keys back before deciding; or, if no one else writes them, ask again.
    #[error(
        "{what}: the outcome is not known ({reason}); read the keys back before trying again, or \
         set retry_undetermined_writes if no one else writes them"
    )]
    Undetermined {
        /// The call.
        what: String,
        /// What made it so.
        reason: String,
    },
    /// The deadline passed while every attempt was refused or never left this process.
    #[error(
        "{what}: no success before the deadline, and no effect; the last attempt failed with: \
         {last}; try again later or with a longer timeout"
    )]
    DeadlineExceeded {
        /// The call.
        what: String,
        /// How the last attempt failed.
        last: String,
    },
    /// The deadline passed, and the last of the stores that refused an attempt had too much to do.
    /// Send less at a time, or later.
    #[error(
        "{what}: no success before the deadline, and no effect; the store has too much to do \
         ({reason}); try again later, or send less at a time"
    )]
    ServerBusy {
        /// The call.
        what: String,
        /// What was full.
        reason: String,
        /// When trying again may help, as the store said.
        retry_after_ms: u64,
    },
    /// Over a limit: the same request can never succeed, so make it smaller.
    #[error("outside the limit of {max} {limit}: {actual}")]
    LimitExceeded {
        /// The limit's name and unit, such as `key bytes`.
        limit: String,
        /// The greatest value allowed.
        max: u64,
        /// The value given.
        actual: u64,
    },
    /// The arguments contradict each other or cannot be read.
    #[error("invalid argument: {what}")]
    InvalidArgument {
        /// What is wrong with which argument.
        what: String,
    },
    /// No placement driver answered.
    #[error(
        "no placement driver answered at {}: {reason}; check that one runs there and the addresses",
        .tried.join(", ")
    )]
    PdUnreachable {
        /// The addresses tried.
        tried: Vec<String>,
        /// How the last attempt failed.
        reason: String,
    },
    /// The cluster answered and refused; the same request would be refused again.
    #[error("the cluster refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The named store, region or operator does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// Such as `store 7`.
        what: String,
    },
    /// A server answered something that the protocol does not allow: versions differ, or it is no
    /// Flotilla server.
    #[error("unexpected answer: {what}; check that client and servers have the same version")]
    Protocol {
        /// What was wrong.
        what: String,
    },
}

impl Error {
    /// True if the request may have taken effect.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, Error::Undetermined { .. })
    }

    /// True if the request had no effect and the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::DeadlineExceeded { .. } | Error::ServerBusy { .. } | Error::PdUnreachable { .. }
        )
    }

    /// The error for a limit that `flotilla_types::limits` found broken.
    pub(crate) fn limit(error: RegionError) -> Error {
        match error {
            RegionError::LimitExceeded { limit, max, actual } => {
                Error::LimitExceeded { limit, max, actual }
            }
            other => Error::Refused { reason: other.to_string() },
        }
    }
}

/// The result of a client call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
