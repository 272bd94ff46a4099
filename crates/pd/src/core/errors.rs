//! Shorthand for the errors that PD answers.

use flotilla_types::StoreId;
use flotilla_types::placement::PdError;

use crate::core::state::Refusal;

/// The caller should try again.
pub(crate) fn busy(reason: impl ToString) -> PdError {
    PdError::Busy { reason: reason.to_string() }
}

/// The request cannot be carried out.
pub(crate) fn refused(reason: impl ToString) -> PdError {
    PdError::Refused { reason: reason.to_string() }
}

/// There is no such thing.
pub(crate) fn not_found(what: impl ToString) -> PdError {
    PdError::NotFound { what: what.to_string() }
}

/// There is no such store.
pub(crate) fn no_store(store: StoreId) -> PdError {
    not_found(format!("store {store}"))
}

impl From<Refusal> for PdError {
    fn from(refusal: Refusal) -> PdError {
        match refusal {
            Refusal::UnknownStore(store) => no_store(store),
            Refusal::NoCluster => busy(refusal),
            Refusal::AddrTaken { .. }
            | Refusal::RemovedStore(_)
            | Refusal::HoldsFirst(_)
            | Refusal::HasBegun
            | Refusal::NotInService(_) => refused(refusal),
        }
    }
}
