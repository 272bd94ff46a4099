//! Replies in their wire form.

use flotilla_types::{StoreId, proto};
use proto::pd_error::Kind;
use proto::pd_reply::Result as Answer;

use crate::core::state::Refusal;

/// A request's outcome: the answer, or why there is none.
pub(crate) type Outcome = Result<Answer, Kind>;

/// The reply that carries the outcome.
pub(crate) fn reply(outcome: Outcome) -> proto::PdReply {
    let result = match outcome {
        Ok(answer) => answer,
        Err(kind) => Answer::Error(proto::PdError { kind: Some(kind) }),
    };
    proto::PdReply { result: Some(result) }
}

/// The caller should try again.
pub(crate) fn busy(reason: impl ToString) -> Kind {
    Kind::Busy(proto::PdBusy { reason: reason.to_string() })
}

/// The request cannot be carried out.
pub(crate) fn refused(reason: impl ToString) -> Kind {
    Kind::Refused(proto::Refused { reason: reason.to_string() })
}

/// There is no such thing.
pub(crate) fn not_found(what: impl ToString) -> Kind {
    Kind::NotFound(proto::NotFound { what: what.to_string() })
}

/// There is no such store.
pub(crate) fn no_store(store: StoreId) -> Kind {
    not_found(format!("store {store}"))
}

impl From<Refusal> for Kind {
    fn from(refusal: Refusal) -> Kind {
        match refusal {
            Refusal::UnknownStore(store) => no_store(store),
            Refusal::NoCluster => busy(refusal),
            Refusal::AddrTaken { .. } | Refusal::RemovedStore(_) => refused(refusal),
        }
    }
}
