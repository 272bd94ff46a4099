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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_command_says_whether_to_ask_again_and_what_to_do_instead() {
        let store = StoreId(3);
        assert!(matches!(PdError::from(Refusal::NoCluster), PdError::Busy { .. }));
        assert_eq!(PdError::from(Refusal::UnknownStore(store)), no_store(store));
        let taken = Refusal::AddrTaken { addr: "a:1".into(), store };
        for (refusal, told) in [
            (taken, "ctl store remove 3"),
            (Refusal::RemovedStore(store), "start it anew in an empty directory"),
            (Refusal::HoldsFirst(store), "it can be removed when it is"),
            (Refusal::HasBegun, "a first region already"),
            (Refusal::NotInService(store), "store 3 is not in service"),
        ] {
            match PdError::from(refusal) {
                PdError::Refused { reason } => assert!(reason.contains(told), "{reason}"),
                other => panic!("expected a refusal: {other:?}"),
            }
        }
    }
}
