//! What a request leaves in the log of a store at the level `debug`, if its caller has named it:
//! that it was taken, and how it ended. A write ends when it is applied here, where its leader is.
//!
//! While that level is off, a request costs one comparison more.

use flotilla_types::proto::Request;
use flotilla_types::{RegionError, StoreId, TraceId};
use tracing::{Level, Span, debug, debug_span, enabled};

use crate::core::Answer;

/// The span of a request that is to be told.
pub fn taken(store: StoreId, request: &Request) -> Option<Span> {
    if request.trace_id.is_empty() || !enabled!(Level::DEBUG) {
        return None;
    }
    // What comes from outside may be anything; only a name goes into the log.
    let id = TraceId::try_from(request.trace_id.as_str()).ok()?;
    let region = request.region.as_ref().map(|region| region.region_id);
    let span = debug_span!("request", trace = %id, store = store.0, region);
    span.in_scope(|| debug!("taken"));
    Some(span)
}

/// The request has ended.
pub fn answered(span: &Span, result: &Result<Answer, RegionError>) {
    span.in_scope(|| match result {
        Ok(_) => debug!("applied"),
        Err(error) => debug!(kind = error.kind(), %error, "refused"),
    });
}
