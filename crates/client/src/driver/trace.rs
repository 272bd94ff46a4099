//! What a call leaves in the log at the level `debug`: a span with the call's trace id, in it one
//! for each attempt with its region and store, each attempt that failed with its cause, and how the
//! call ended.
//!
//! While that level is off, a call costs one comparison more.

use std::time::Instant;

use flotilla_types::TraceId;
use tracing::{Instrument, Level, Span, debug, debug_span, enabled};

use crate::core::failure::Failure;
use crate::core::router::{Destination, Sent};
use crate::error::Result;

use super::clock;

/// True if calls are to be told.
pub(crate) fn is_on() -> bool {
    enabled!(Level::DEBUG)
}

/// A name that is very likely no other call's, for one that was given none.
pub fn draw_trace_id() -> TraceId {
    TraceId::of(clock::seed())
}

/// Carries a call out within its span.
pub(crate) async fn told<T>(
    what: &'static str,
    id: &TraceId,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let begun = Instant::now();
    async {
        let ended = call.await;
        let took_us = begun.elapsed().as_micros();
        match &ended {
            Ok(_) => debug!(took_us, "done"),
            Err(error) => debug!(took_us, %error, "failed"),
        }
        ended
    }
    .instrument(debug_span!("call", what, trace = %id))
    .await
}

/// The span of one attempt.
pub(crate) fn attempt(to: &Destination) -> Span {
    debug_span!("attempt", region = to.sent.region.0, store = to.sent.store.0)
}

/// An attempt failed. The span of its call is entered.
pub(crate) fn attempt_failed(sent: Option<&Sent>, failure: &Failure) {
    let (region, store) = (sent.map(|sent| sent.region.0), sent.map(|sent| sent.store.0));
    debug!(region, store, cause = failure.cause(), %failure, "an attempt failed");
}
