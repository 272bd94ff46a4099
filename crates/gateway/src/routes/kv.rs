//! `/v1/kv/{key}`: one row.
//!
//! The key is what stands behind `/v1/kv/`, with percent-escapes; the value is the body as it is.
//!
//! A write with conditions, in steps: (1) the value is read, unless only an absent key fulfils the
//! conditions; (2) the conditions are judged for that value, and if they do not hold, the read has
//! decided; (3) a compare-and-swap puts the new value in the place of the one that was judged. If
//! the key has another value by then, the store says which, and step 2 follows for that one. So
//! every outcome is decided at one moment by one operation of a store.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flotilla_client::{Client, TIMEOUT_DEFAULT};
use flotilla_types::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use tokio::time::Instant;

use crate::app::App;
use crate::body;
use crate::conditions::Conditions;
use crate::escape;
use crate::etag::Etag;
use crate::limits::SWAPS_MAX;
use crate::openapi::{
    self, BadBody, BadKey, Conditional, KeyPath, PROBLEM_JSON, Refused, Unanswered, Undetermined,
};
use crate::problem::Problem;

/// In front of a key.
const PATH: &str = "/v1/kv/";

/// Values from this size on count against the budget until they were sent. Smaller ones are bounded
/// by the number of connections.
const HELD_BYTES_MIN: usize = 16 * 1024;

/// A value is bytes: no browser shows it as a page.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Reads the value: 200, 304 if the reader has it, 404 if the key is absent, 412.
#[utoipa::path(
    get,
    path = "/v1/kv/{*key}",
    tag = "rows",
    operation_id = "read_row",
    params(KeyPath, Conditional),
    responses(
        (status = 200, description = "The value", body = openapi::Bytes,
            content_type = "application/octet-stream", headers(("ETag" = String))),
        (status = 304, description = "The reader has the value, as If-None-Match says",
            headers(("ETag" = String))),
        (status = 404, description = "The key is absent", body = openapi::Problem,
            content_type = PROBLEM_JSON),
        BadKey, Refused, Unanswered,
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let conditions = conditions_of(&headers)?;
    let value = match app.client().await?.get(&key).await? {
        Some(value) if value.len() >= HELD_BYTES_MIN => Some(app.hold_now(value)?),
        value => value,
    };
    answer(value, &conditions)
}

/// Sets the value: 204, 201 if `If-None-Match: *` was fulfilled, 412.
#[utoipa::path(
    put,
    path = "/v1/kv/{*key}",
    tag = "rows",
    operation_id = "put_row",
    params(KeyPath, Conditional),
    request_body(content = openapi::Bytes, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "If-None-Match: * held, and the row is new",
            headers(("ETag" = String))),
        (status = 204, description = "The value is set", headers(("ETag" = String))),
        BadBody, BadKey, Refused, Unanswered, Undetermined,
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = key_of(&head.uri)?;
    let conditions = write_conditions_of(&head.headers)?;
    let held = body::read(body, VALUE_BYTES_MAX, &app).await?;
    let etag = Etag::of(&held.bytes);
    let write = Write { key, new: Some(held.bytes.clone()), conditions };
    let status = match write.carry_out(&app.client().await?).await? {
        Replaced::Absence => StatusCode::CREATED,
        Replaced::Value | Replaced::NotKnown => StatusCode::NO_CONTENT,
    };
    Ok((status, [(ETAG, tag_header(etag))]).into_response())
}

/// Removes the row: 204, whether or not there was one; 412.
#[utoipa::path(
    delete,
    path = "/v1/kv/{*key}",
    tag = "rows",
    operation_id = "delete_row",
    params(KeyPath, Conditional),
    responses(
        (status = 204, description = "There is no such row now"),
        BadKey, Refused, Unanswered, Undetermined,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let write = Write { key, new: None, conditions: write_conditions_of(&headers)? };
    write.carry_out(&app.client().await?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/v1/kv/` alone.
pub(crate) async fn no_key() -> Problem {
    Problem::empty_key()
}

/// A write of one row.
struct Write {
    key: Bytes,
    /// None: the row is removed.
    new: Option<Bytes>,
    conditions: Conditions,
}

/// What a write found in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    Absence,
    Value,
    /// A write without conditions does not look.
    NotKnown,
}

impl Write {
    async fn carry_out(self, client: &Client) -> Result<Replaced, Problem> {
        if !self.conditions.is_empty() {
            return self.swap(client).await;
        }
        match self.new {
            Some(value) => client.put(&self.key, value).await?,
            None => client.delete(&self.key).await?,
        }
        Ok(Replaced::NotKnown)
    }

    /// Steps 1 to 3, all within the time of one call.
    async fn swap(self, client: &Client) -> Result<Replaced, Problem> {
        let until = Instant::now() + TIMEOUT_DEFAULT;
        let in_time = || client.clone().with_timeout(until - Instant::now());
        let mut current = match self.conditions.demand_absence() {
            true => None,
            false => in_time().get(&self.key).await?,
        };
        for _ in 0..SWAPS_MAX {
            if !self.conditions.allow_write(current.as_deref()) {
                let etag = current.as_deref().map(|value| Etag::of(value).to_string());
                return Err(Problem::precondition_failed(etag));
            }
            let swap = in_time();
            let swap = swap.compare_and_swap(&self.key, current.clone(), self.new.clone()).await?;
            match (swap.swapped, &current) {
                (true, None) => return Ok(Replaced::Absence),
                (true, Some(_)) => return Ok(Replaced::Value),
                (false, _) => current = swap.previous,
            }
        }
        Err(contended())
    }
}

fn contended() -> Problem {
    let title = "Others write the key all the time";
    let detail = format!("the key had another value at each of {SWAPS_MAX} attempts");
    Problem::new(StatusCode::CONFLICT, "contended", title, detail).retryable()
}

/// The answer to a read that found `value`.
fn answer(value: Option<Bytes>, conditions: &Conditions) -> Result<Response, Problem> {
    let etag = value.as_deref().map(Etag::of);
    if !conditions.allow_read(etag) {
        return Err(Problem::precondition_failed(etag.map(|etag| etag.to_string())));
    }
    let (Some(value), Some(etag)) = (value, etag) else { return Err(Problem::absent()) };
    if conditions.know(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag_header(etag))]).into_response());
    }
    let headers = [(ETAG, tag_header(etag)), (CONTENT_TYPE, OCTETS)];
    Ok((headers, Body::from(value)).into_response())
}

/// The key that a path names.
fn key_of(uri: &Uri) -> Result<Bytes, Problem> {
    if uri.query().is_some() {
        return Err(Problem::bad_request(
            "a single key has no parameters; a question mark within a key is written %3F",
        ));
    }
    let text = uri.path().strip_prefix(PATH).unwrap_or_default();
    let key = escape::decode(text).map_err(|error| {
        let at = error.at;
        Problem::bad_request(format!(
            "the % at byte {at} of the key is not followed by two hex digits; a percent sign \
             within a key is written %25"
        ))
    })?;
    match key.len() {
        0 => Err(Problem::empty_key()),
        1..=KEY_BYTES_MAX => Ok(key.into()),
        bytes => Err(Problem::key_too_long(bytes)),
    }
}

fn conditions_of(headers: &HeaderMap) -> Result<Conditions, Problem> {
    Conditions::of(headers).map_err(|error| {
        Problem::bad_request(format!(
            "{} cannot be read: expected * or tags in quotes, such as \"0123\"",
            error.header
        ))
    })
}

fn write_conditions_of(headers: &HeaderMap) -> Result<Conditions, Problem> {
    let conditions = conditions_of(headers)?;
    if conditions.exclude_each_other() {
        return Err(Problem::bad_request(
            "a write has If-Match or If-None-Match, not both: they exclude each other",
        ));
    }
    Ok(conditions)
}

fn tag_header(etag: Etag) -> HeaderValue {
    // A tag is hex digits in quotes.
    HeaderValue::try_from(etag.to_string()).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::{IF_MATCH, IF_NONE_MATCH};

    fn key(path: &str) -> Result<Bytes, u16> {
        let uri = path.parse().expect("a path");
        key_of(&uri).map_err(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn a_key_is_any_bytes() {
        assert_eq!(key("/v1/kv/apple"), Ok("apple".into()));
        assert_eq!(key("/v1/kv/fruit/apple"), Ok("fruit/apple".into()));
        assert_eq!(key("/v1/kv/%2f%00%ff"), Ok(Bytes::from_static(b"/\0\xff")));
        assert_eq!(key("/v1/kv//"), Ok("/".into()));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert_eq!(key("/v1/kv/"), Err(400));
        assert_eq!(key("/v1/kv/%4"), Err(400));
        assert_eq!(key("/v1/kv/a?limit=1"), Err(400));
        let longest = "%6b".repeat(KEY_BYTES_MAX);
        assert_eq!(key(&format!("/v1/kv/{longest}")).map(|key| key.len()), Ok(KEY_BYTES_MAX));
        assert_eq!(key(&format!("/v1/kv/{longest}k")), Err(414));
    }

    fn read(value: Option<&str>, headers: &HeaderMap) -> (u16, Option<String>) {
        let conditions = conditions_of(headers).expect("well formed");
        let answer =
            answer(value.map(|value| Bytes::copy_from_slice(value.as_bytes())), &conditions);
        let response = answer.into_response();
        let tag = response.headers().get(ETAG).map(|tag| tag.to_str().expect("text").to_string());
        (response.status().as_u16(), tag)
    }

    #[test]
    fn a_read_answers_by_what_the_reader_has() {
        let red = Etag::of(b"red").to_string();
        let mut headers = HeaderMap::new();
        assert_eq!(read(Some("red"), &headers), (200, Some(red.clone())));
        assert_eq!(read(None, &headers), (404, None));
        headers.insert(IF_NONE_MATCH, HeaderValue::try_from(&red).expect("a tag"));
        assert_eq!(read(Some("red"), &headers), (304, Some(red.clone())));
        assert_eq!(read(Some("green"), &headers).0, 200);
        assert_eq!(read(None, &headers).0, 404);
        headers.clear();
        headers.insert(IF_MATCH, HeaderValue::try_from(&red).expect("a tag"));
        assert_eq!(read(Some("red"), &headers).0, 200);
        assert_eq!(read(Some("green"), &headers).0, 412);
        assert_eq!(read(None, &headers).0, 412);
    }

    #[test]
    fn a_write_has_one_condition() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(write_conditions_of(&headers).is_ok());
        headers.insert(IF_MATCH, HeaderValue::from_static("*"));
        let refused = write_conditions_of(&headers).expect_err("both");
        assert_eq!(refused.into_response().status(), 400);
    }
}
