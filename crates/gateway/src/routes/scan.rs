//! `/v1/kv`: the rows of a range.
//!
//! Rows come as lines of JSON in key order, then one line that tells whether there are more:
//! `{"done":false,"rows":100,"cursor":"..."}`. The cursor goes into the next request, beside the
//! same range. A scan is not one snapshot: it may or may not show rows that are written meanwhile.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flotilla_types::keys::prefix_end;

use crate::app::App;
use crate::conditions::Conditions;
use crate::cursor::Span;
use crate::openapi::{Refused, Unanswered, Undetermined};
use crate::problem::Problem;
use crate::query::Query;
use crate::rows::Form;
use crate::stream::{self, Wanted};

/// Reads rows: 200, and as many lines as there are rows, or as `limit` says.
#[utoipa::path(
    get,
    path = "/v1/kv",
    tag = "rows",
    operation_id = "scan_rows",
    params(
        ("prefix" = Option<String>, Query, description = "Keys that begin with these bytes"),
        ("start" = Option<String>, Query, description = "Keys from this one on"),
        ("end" = Option<String>, Query, description = "Keys before this one"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "Rows at most"),
        ("reverse" = Option<bool>, Query, description = "From the last key downwards"),
        ("cursor" = Option<String>, Query,
            description = "Goes on behind a page, beside the same range"),
        ("keys_only" = Option<bool>, Query, description = "Without values"),
        ("hex" = Option<bool>, Query, description = "Keys and values are hex digits"),
    ),
    responses(
        (status = 200, description = "Lines of JSON: rows, and one that tells if there are more",
            body = String, content_type = "application/x-ndjson"),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    stream::respond(app, wanted(&uri)?).await
}

/// Removes the rows whose keys begin with `prefix`: 204.
#[utoipa::path(
    delete,
    path = "/v1/kv",
    tag = "rows",
    operation_id = "delete_rows",
    params(
        ("prefix" = String, Query, min_length = 1,
            description = "Keys that begin with these bytes"),
    ),
    responses(
        (status = 204, description = "There are no such rows now"),
        Refused, Unanswered, Undetermined,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let prefix = prefix_to_delete(&uri, &headers)?;
    app.client().await?.delete_range(&prefix, prefix_end(&prefix)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn prefix_to_delete(uri: &Uri, headers: &HeaderMap) -> Result<Bytes, Problem> {
    match Conditions::of(headers) {
        Ok(conditions) if conditions.is_empty() => {}
        _ => return Err(Problem::bad_request("a condition is about one key, not about a prefix")),
    }
    let prefix = Query::of(uri, &["prefix"])?.bytes("prefix");
    let detail = "prefix must have at least one byte, as in /v1/kv?prefix=fruit/";
    prefix.filter(|prefix| !prefix.is_empty()).ok_or_else(|| Problem::bad_request(detail))
}

const PARAMETERS: &[&str] =
    &["prefix", "start", "end", "limit", "reverse", "cursor", "hex", "keys_only"];

fn wanted(uri: &Uri) -> Result<Wanted, Problem> {
    let query = Query::of(uri, PARAMETERS)?;
    let whole = span(&query, query.flag("reverse")?)?;
    let left = match query.bytes("cursor") {
        None => Some(whole.clone()).filter(|whole| !is_empty(whole)),
        Some(cursor) => whole.after(&cursor).map_err(|_| {
            Problem::bad_request(
                "the cursor is not one of this range: repeat prefix, start, end and reverse as \
                 they were, or leave the cursor out",
            )
        })?,
    };
    let form = Form::Ndjson { is_hex: query.flag("hex")?, keys_only: query.flag("keys_only")? };
    Ok(Wanted { whole, left, limit: query.count("limit")?, form })
}

/// The keys that begin with `prefix` and lie in `[start, end)`, as far as these are given.
pub(crate) fn span(query: &Query, is_reverse: bool) -> Result<Span, Problem> {
    let start = query.bytes("start").unwrap_or_default();
    let end = query.bytes("end").unwrap_or_default();
    if !end.is_empty() && start > end {
        return Err(Problem::bad_request(
            "start is after end; swap them (reverse only changes the order of the rows)",
        ));
    }
    let prefix = query.bytes("prefix").unwrap_or_default();
    let last = prefix_end(&prefix);
    let end = match (end.is_empty(), last.is_empty()) {
        (true, _) => last,
        (false, true) => end,
        (false, false) => end.min(last),
    };
    Ok(Span { start: start.max(prefix), end, is_reverse })
}

fn is_empty(span: &Span) -> bool {
    !span.end.is_empty() && span.start >= span.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::IF_MATCH;

    fn of(query: &str) -> Result<Wanted, Problem> {
        wanted(&format!("/v1/kv?{query}").parse().expect("a URI"))
    }

    fn bounds(query: &str) -> (Bytes, Bytes) {
        let whole = of(query).expect("well formed").whole;
        (whole.start, whole.end)
    }

    #[test]
    fn a_prefix_and_bounds_are_one_range() {
        assert_eq!(bounds(""), ("".into(), "".into()));
        assert_eq!(bounds("prefix=a/"), ("a/".into(), "a0".into()));
        assert_eq!(bounds("prefix=%ff"), (Bytes::from_static(b"\xff"), "".into()));
        assert_eq!(bounds("start=b&end=d"), ("b".into(), "d".into()));
        assert_eq!(bounds("prefix=a/&start=a/m"), ("a/m".into(), "a0".into()));
        assert_eq!(bounds("prefix=a/&start=a&end=a/x"), ("a/".into(), "a/x".into()));
        assert_eq!(of("prefix=a&start=x").expect("well formed").left, None, "no key is in both");
        assert_eq!(of("start=a&end=a").expect("well formed").left, None);
        assert!(of("start=b&end=a").is_err());
    }

    #[test]
    fn a_cursor_belongs_to_its_range() {
        let whole = of("prefix=a").expect("well formed").whole;
        let cursor = whole.cursor(b"ab");
        let left = of(&format!("prefix=a&cursor={cursor}&limit=2")).expect("well formed").left;
        assert_eq!(left.expect("something").start, &b"ab\0"[..]);
        assert!(of(&format!("prefix=b&cursor={cursor}")).is_err());
        assert!(of(&format!("prefix=a&reverse&cursor={cursor}")).is_err());
        assert!(of("prefix=a&cursor=made-up").is_err());
        assert!(of("prefix=a&cursor=").is_err());
    }

    #[test]
    fn only_a_prefix_is_deleted() {
        let none = HeaderMap::new();
        let of = |query: &str, headers: &HeaderMap| {
            let uri = format!("/v1/kv{query}").parse().expect("a URI");
            prefix_to_delete(&uri, headers).ok()
        };
        assert_eq!(of("?prefix=a", &none), Some("a".into()));
        for bad in ["", "?prefix=", "?prefix", "?start=a", "?prefix=a&end=b"] {
            assert_eq!(of(bad, &none), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_static("*"));
        assert_eq!(of("?prefix=a", &headers), None);
    }
}
