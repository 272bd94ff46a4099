//! The name of a request in logs: `X-Request-Id` as it came, else the trace id of `traceparent`
//! (W3C Trace Context), else, while this process logs at the level `debug`, one of its own. The
//! response carries it, and so do the calls of the client that the request makes.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use flotilla_types::TraceId;
use tokio::task_local;
use tracing::{Instrument, Level, debug, debug_span, enabled};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

task_local! {
    /// Of the request that this task answers, if it has a name.
    static CURRENT: TraceId;
}

/// The name of the request that this task answers.
pub(crate) fn current() -> Option<TraceId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Answers a request under its name, if it has one.
pub(crate) async fn told(
    (method, route): (&str, &str),
    given: Option<TraceId>,
    answer: impl Future<Output = Response>,
) -> Response {
    let is_on = enabled!(Level::DEBUG);
    let Some(id) = given.or_else(|| is_on.then(flotilla_client::draw_trace_id)) else {
        return answer.await;
    };
    let span = debug_span!("http", method, route, trace = %id);
    let answered = async {
        let response = CURRENT.scope(id.clone(), answer).await;
        debug!(status = response.status().as_u16(), "answered");
        response
    };
    let mut response = Box::pin(answered.instrument(span)).await;
    // A name is visible ASCII.
    if let Ok(value) = HeaderValue::try_from(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The name that the client gave. What is no name is passed over: nothing depends on it.
pub(crate) fn named(headers: &HeaderMap) -> Option<TraceId> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let given = text(REQUEST_ID).and_then(|id| TraceId::try_from(id).ok());
    given.or_else(|| {
        let mut parts = text(TRACE_PARENT)?.split('-').skip(1);
        let id = parts.next().filter(|id| id.len() == 32)?;
        let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        TraceId::try_from(id).ok().filter(|_| is_hex)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(HeaderName, &'static str)]) -> Option<String> {
        let lines = lines.iter().cloned();
        let headers = lines.map(|(name, text)| (name, HeaderValue::from_static(text))).collect();
        named(&headers).map(|id| id.to_string())
    }

    #[test]
    fn a_request_is_named_by_its_client() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let name = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(TRACE_PARENT, parent)]).as_deref(), Some(name));
        assert_eq!(of(&[(TRACE_PARENT, parent), (REQUEST_ID, "a-1")]).as_deref(), Some("a-1"));
        assert_eq!(of(&[(TRACE_PARENT, parent), (REQUEST_ID, "a b")]).as_deref(), Some(name));
        for bad in ["", "00", "00-xyz-1-01", "00-4bf92f3577b34da6a3ce929d0e0e473g-00-01"] {
            assert_eq!(of(&[(TRACE_PARENT, bad)]), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_calls_of_a_request_carry_its_name() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("order-42"));
        let seen = async { Response::new(current().expect("a name").to_string().into()) };
        let response = told(("GET", "/"), named(&headers), seen).await;
        assert_eq!(response.headers()["x-request-id"], "order-42");
        assert_eq!(current(), None);
    }
}
