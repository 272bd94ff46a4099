//! `/v1/cluster/events`: the cluster as it changes, as server-sent events.
//!
//! ```text
//!   snapshot  status, stores, operators, regions, and the latest events
//!   delta     the same, but of regions those that changed, `gone` those that are no more, and of
//!             events the new ones
//!   silent    the placement driver has not answered; `reason` says why
//! ```
//! The stream ends when its client is too slow, or the gateway is about to stop; the client comes
//! again and gets a snapshot.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::app::App;
use crate::feed::{Listener, Message};
use crate::openapi::{Refused, Unanswered};
use crate::problem::Problem;
use crate::query::Query;

/// How soon a client comes again after the stream has ended.
const HEAD: &[u8] = b"retry: 500\n\n";

/// The stream: 200.
#[utoipa::path(
    get,
    path = "/v1/cluster/events",
    tag = "cluster",
    operation_id = "cluster_events",
    responses(
        (status = 200, description = "Server-sent events, without end", body = String,
            content_type = "text/event-stream"),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn events(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    if app.is_draining() {
        return Err(Problem::unavailable("the gateway is about to stop"));
    }
    let Some(listener) = app.feed.listen() else {
        return Err(Problem::overloaded("as many listen as may at a time; try again"));
    };
    let draining = app.draining();
    let stream = Stream { app, listener, draining };
    let head = stream::iter([Ok::<_, Infallible>(Bytes::from_static(HEAD))]);
    let body = head.chain(stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok(bytes), stream))
    }));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

struct Stream {
    app: Arc<App>,
    listener: Listener,
    draining: watch::Receiver<bool>,
}

impl Stream {
    /// The next bytes to send; None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.listener.first.take() {
            return self.send(first).await;
        }
        let message = tokio::select! {
            Ok(_) = self.draining.wait_for(|draining| *draining) => return None,
            // An error: the client has fallen behind.
            message = self.listener.messages.recv() => message.ok()?,
        };
        self.send(message).await
    }

    /// A snapshot counts against the budget of bytes until it is sent.
    async fn send(&mut self, message: Message) -> Option<Bytes> {
        if !message.is_snapshot {
            return Some(message.bytes);
        }
        self.app.hold(message.bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_without_cluster_says_that_the_placement_driver_is_silent() {
        let app = Arc::new(App::alone());
        let listener = app.feed.listen().expect("a place");
        let draining = app.draining();
        let mut stream = Stream { app, listener, draining };
        let bytes = stream.next().await.expect("a message");
        assert!(bytes.starts_with(b"event: silent\ndata: {"), "{bytes:?}");
    }
}
