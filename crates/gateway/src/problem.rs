//! Errors as problem JSON (RFC 9457).
//!
//! ```json
//! {"type": "urn:flotilla:problem:precondition-failed", "title": "...", "status": 412,
//!  "detail": "...", "undetermined": false, "retryable": false}
//! ```
//! `type` is what programs go by and stays; `title` and `detail` are for people. `undetermined` is
//! true of exactly the requests that may have had an effect, or may yet; `retryable` is true if
//! there was no effect and the same request may succeed later. No text contains a key or a value.

use std::borrow::Cow;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flotilla_client::Error;
use flotilla_types::limits::KEY_BYTES_MAX;
use serde_json::{Map, Value, json};

use crate::limits::RETRY_AFTER_S;

/// The media type of a problem.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request was not carried out, or that this is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The last part of the type.
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    is_undetermined: bool,
    is_retryable: bool,
    /// When trying again may help, if it may.
    retry_after_s: u64,
    more: Map<String, Value>,
}

impl Problem {
    /// A problem of a request that had no effect and cannot succeed as it is.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Problem {
        Problem {
            status,
            kind,
            title,
            detail: detail.into(),
            is_undetermined: false,
            is_retryable: false,
            retry_after_s: RETRY_AFTER_S,
            more: Map::new(),
        }
    }

    /// The request itself is wrong.
    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed", detail)
    }

    /// There is no such row.
    pub(crate) fn absent() -> Problem {
        let title = "The key is absent";
        Problem::new(StatusCode::NOT_FOUND, "absent", title, "no row has this key")
    }

    /// A condition of the request does not hold; `current` is the tag of the key's value.
    pub(crate) fn precondition_failed(current: Option<String>) -> Problem {
        let detail = match current {
            Some(_) => {
                "the key has another value than the condition demands; read it and try again"
            }
            None => "the key is absent; to create it, use If-None-Match: *",
        };
        let status = StatusCode::PRECONDITION_FAILED;
        let title = "The condition does not hold";
        Problem::new(status, "precondition-failed", title, detail)
            .with("current_etag", current.into())
    }

    /// The body has more bytes than it may have.
    pub(crate) fn body_too_large(max: usize) -> Problem {
        let detail = format!("the body may have {max} bytes; send less");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Problem::new(status, "limit-exceeded", "The body is too large", detail)
            .with("max", max.into())
    }

    /// The body ended early.
    pub(crate) fn broken_body() -> Problem {
        Problem::bad_request("the body ended early or is not framed as its headers say")
    }

    /// A row cannot be written as a line of TSV.
    pub(crate) fn does_not_fit() -> Problem {
        let title = "A row does not fit a line";
        let detail = "a row has a tab in its key or a newline, so no file of lines can hold it; \
                      ask for hex";
        Problem::new(StatusCode::CONFLICT, "does-not-fit", title, detail)
    }

    /// There is too much to do.
    pub(crate) fn overloaded(detail: impl Into<Cow<'static, str>>) -> Problem {
        let title = "Too much to do";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", title, detail).retryable()
    }

    /// The cluster cannot be reached, or not in time; there was no effect.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Problem {
        let title = "The cluster did not answer in time";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail).retryable()
    }

    /// The same request may succeed later.
    pub(crate) fn retryable(mut self) -> Problem {
        self.is_retryable = true;
        self
    }

    /// The request may have had an effect, or may yet.
    pub(crate) fn undetermined(mut self) -> Problem {
        self.is_undetermined = true;
        self
    }

    /// The same with one member more.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Problem {
        self.more.insert(name.into(), value);
        self
    }

    /// What happened, for people.
    pub(crate) fn detail(&self) -> String {
        self.detail.to_string()
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "type": format!("urn:flotilla:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "undetermined": self.is_undetermined,
            "retryable": self.is_retryable,
        });
        if let Some(object) = value.as_object_mut() {
            object.extend(self.more.clone());
        }
        value
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let detail = error.to_string();
        match error {
            Error::Undetermined { .. } => {
                let title = "It is not known whether the request took effect";
                let detail = "the request may have taken effect, or may yet; read the keys back";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "undetermined", title, detail)
                    .undetermined()
            }
            Error::DeadlineExceeded { .. } | Error::PdUnreachable { .. } => {
                Problem::unavailable(detail)
            }
            Error::ServerBusy { retry_after_ms, .. } => {
                let retry_after_s = retry_after_ms.div_ceil(1_000).max(RETRY_AFTER_S);
                Problem { retry_after_s, ..Problem::overloaded(detail) }
            }
            Error::LimitExceeded { limit, max, actual } => over_limit(&limit, max, actual),
            Error::InvalidArgument { .. } => Problem::bad_request(detail),
            Error::Refused { .. } => {
                let title = "The cluster refused";
                Problem::new(StatusCode::CONFLICT, "refused", title, detail)
            }
            Error::NotFound { .. } => {
                let title = "It does not exist";
                Problem::new(StatusCode::NOT_FOUND, "not-found", title, detail)
            }
            Error::Protocol { .. } => {
                let title = "A server answered what the protocol does not allow";
                Problem::new(StatusCode::BAD_GATEWAY, "protocol", title, detail)
            }
        }
    }
}

fn over_limit(limit: &str, max: u64, actual: u64) -> Problem {
    let detail = format!("outside the limit of {max} {limit}: {actual}");
    let is_key = limit.starts_with("key bytes");
    let status = match () {
        () if is_key && actual == 0 => return Problem::empty_key(),
        () if is_key => StatusCode::URI_TOO_LONG,
        () => StatusCode::PAYLOAD_TOO_LARGE,
    };
    Problem::new(status, "limit-exceeded", "A limit is exceeded", detail)
        .with("max", max.into())
        .with("actual", actual.into())
}

impl Problem {
    /// A key has at least one byte.
    pub(crate) fn empty_key() -> Problem {
        Problem::bad_request(format!(
            "the key is empty; a key has 1 to {KEY_BYTES_MAX} bytes, as in /v1/kv/apple"
        ))
    }

    /// The key has more bytes than a key may have.
    pub(crate) fn key_too_long(bytes: usize) -> Problem {
        over_limit("key bytes", KEY_BYTES_MAX as u64, bytes as u64)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json().to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.is_retryable {
            response.headers_mut().insert(RETRY_AFTER, self.retry_after_s.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(limit: &str, actual: u64) -> Error {
        Error::LimitExceeded { limit: limit.into(), max: 8, actual }
    }

    fn busy(retry_after_ms: u64) -> Error {
        Error::ServerBusy { what: "put".into(), reason: "inbox".into(), retry_after_ms }
    }

    /// Each way a call can end, its status, and whether it may have had an effect.
    #[test]
    fn every_error_has_the_status_that_fits() {
        let text = || "x".to_string();
        let cases = [
            (Error::Undetermined { what: text(), reason: text() }, 504, true, false),
            (Error::DeadlineExceeded { what: text(), last: text() }, 503, false, true),
            (busy(1), 429, false, true),
            (Error::PdUnreachable { tried: vec![], reason: text() }, 503, false, true),
            (limit("key bytes", 9), 414, false, false),
            (limit("key bytes, and at least 1", 0), 400, false, false),
            (limit("value bytes", 9), 413, false, false),
            (Error::InvalidArgument { what: text() }, 400, false, false),
            (Error::Refused { reason: text() }, 409, false, false),
            (Error::NotFound { what: text() }, 404, false, false),
            (Error::Protocol { what: text() }, 502, false, false),
        ];
        for (error, status, undetermined, retryable) in cases {
            let (is_undetermined, is_retryable) = (error.is_undetermined(), error.is_retryable());
            assert_eq!((is_undetermined, is_retryable), (undetermined, retryable), "{error:?}");
            let json = Problem::from(error).to_json();
            assert_eq!(json["status"], status, "{json}");
            assert_eq!(json["undetermined"], undetermined, "{json}");
            assert_eq!(json["retryable"], retryable, "{json}");
        }
    }

    #[test]
    fn a_problem_is_json_that_says_when_to_come_back() {
        let response = Problem::overloaded("full").into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        for (ms, seconds) in [(0, "1"), (10, "1"), (1_000, "1"), (1_001, "2"), (7_500, "8")] {
            let response = Problem::from(busy(ms)).into_response();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
                (429, &HeaderValue::from_static(seconds))
            );
        }
        let response = Problem::absent().into_response();
        assert_eq!(response.headers().get(RETRY_AFTER), None);
        let failed = Problem::precondition_failed(Some("\"a\"".into())).to_json();
        assert_eq!(failed["current_etag"], "\"a\"");
        assert_eq!(Problem::precondition_failed(None).to_json()["current_etag"], Value::Null);
    }
}
