//! `/v1/batch`: many rows by one request.
//!
//! The body is JSON with one of `get`, `put` and `delete`, each a list of rows; bytes that are no
//! text are hex digits under `key_hex` and `value_hex`. A batch is atomic for the keys of one
//! region, not across regions.
//!
//! ```json
//! {"put": [{"key": "apple", "value": "red"}, {"key_hex": "00ff", "value_hex": ""}]}
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flotilla_types::limits::{BATCH_BYTES_MAX, BATCH_KEYS_MAX};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::body;
use crate::openapi::{BadBody, Refused, RowsRead, Unanswered, Undetermined};
use crate::problem::Problem;
use crate::query::Query;
use crate::rows::text_of;

/// Bytes of a body: the largest batch in hex digits, with the names of its members.
const BODY_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX + BATCH_KEYS_MAX * 64;

/// Reads rows: 200 and their values; or writes them: 204.
#[utoipa::path(
    post,
    path = "/v1/batch",
    tag = "rows",
    operation_id = "batch",
    params(
        ("hex" = Option<bool>, Query, description = "Keys and values are hex digits"),
    ),
    request_body(content = ref("#/components/schemas/Batch"), content_type = "application/json"),
    responses(
        (status = 200, description = "The rows read", body = RowsRead),
        (status = 204, description = "The rows are written"),
        BadBody, Refused, Unanswered, Undetermined,
    ),
)]
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let is_hex = Query::of(&head.uri, &["hex"])?.flag("hex")?;
    let held = body::read(body, BODY_BYTES_MAX, &app).await?;
    let batch = decode(&held.bytes)?;
    let client = app.client().await?;
    match batch {
        Batch::Get(keys) => {
            let values = client.batch_get(&keys).await?;
            let text = rows_json(&keys, &values, is_hex).to_string() + "\n";
            let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            return Ok((headers, app.hold(text.into()).await?).into_response());
        }
        Batch::Put(pairs) => client.batch_put(pairs).await?,
        Batch::Delete(keys) => client.batch_delete(keys).await?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Batch {
    Get(Vec<Bytes>),
    Put(Vec<(Bytes, Bytes)>),
    Delete(Vec<Bytes>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    get: Option<List<Row>>,
    put: Option<List<Row>>,
    delete: Option<List<Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
}

fn decode(body: &[u8]) -> Result<Batch, Problem> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        // The message may repeat what is in the body; where it is says enough.
        Problem::bad_request(format!(
            "the body is not a batch, at line {} column {}: expected one of get, put and delete \
             with at most {BATCH_KEYS_MAX} rows of key or key_hex and value or value_hex",
            error.line(),
            error.column()
        ))
    })?;
    match (body.get, body.put, body.delete) {
        (Some(rows), None, None) => Ok(Batch::Get(keys(rows)?)),
        (None, Some(rows), None) => {
            let pairs = rows.0.into_iter().map(|row| Ok((row.key()?, row.value()?)));
            Ok(Batch::Put(pairs.collect::<Result<_, Problem>>()?))
        }
        (None, None, Some(rows)) => Ok(Batch::Delete(keys(rows)?)),
        _ => Err(Problem::bad_request("a batch has one of get, put and delete")),
    }
}

fn keys(rows: List<Row>) -> Result<Vec<Bytes>, Problem> {
    let key = |row: Row| match (&row.value, &row.value_hex) {
        (None, None) => row.key(),
        _ => Err(Problem::bad_request("only put takes values")),
    };
    rows.0.into_iter().map(key).collect()
}

impl Row {
    fn key(&self) -> Result<Bytes, Problem> {
        bytes("key", &self.key, &self.key_hex)
    }

    fn value(&self) -> Result<Bytes, Problem> {
        bytes("value", &self.value, &self.value_hex)
    }
}

fn bytes(name: &str, text: &Option<String>, hex: &Option<String>) -> Result<Bytes, Problem> {
    match (text, hex) {
        (Some(text), None) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(digits)) => hex::decode(digits)
            .map(Bytes::from)
            .map_err(|_| Problem::bad_request(format!("{name}_hex is not hex digits"))),
        _ => Err(Problem::bad_request(format!("each row has one of {name} and {name}_hex"))),
    }
}

fn rows_json(keys: &[Bytes], values: &[Option<Bytes>], is_hex: bool) -> Value {
    let row = |(key, value): (&Bytes, &Option<Bytes>)| {
        let mut row = Map::new();
        let (suffix, text) = text_of(key, is_hex);
        row.insert(format!("key{suffix}"), text);
        let (suffix, text) = match value {
            Some(value) => text_of(value, is_hex),
            None => ("", Value::Null),
        };
        row.insert(format!("value{suffix}"), text);
        Value::Object(row)
    };
    json!({ "rows": keys.iter().zip(values).map(row).collect::<Vec<_>>() })
}

/// A list of at most [`BATCH_KEYS_MAX`]: a longer one ends the reading, before it fills the memory.
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        deserializer.deserialize_seq(Bounded(PhantomData))
    }
}

struct Bounded<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {BATCH_KEYS_MAX} rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<List<T>, A::Error> {
        let mut list = vec![];
        while let Some(row) = rows.next_element()? {
            if list.len() == BATCH_KEYS_MAX {
                return Err(de::Error::custom("too many rows"));
            }
            list.push(row);
        }
        Ok(List(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_rows_of_text_or_hex() {
        let put = br#"{"put":[{"key":"a","value":"1"},{"key_hex":"00ff","value_hex":""}]}"#;
        let expected = vec![
            (Bytes::from("a"), Bytes::from("1")),
            (Bytes::from_static(b"\0\xff"), Bytes::new()),
        ];
        assert_eq!(decode(put), Ok(Batch::Put(expected)));
        assert_eq!(decode(br#"{"get":[{"key":"a"}]}"#), Ok(Batch::Get(vec!["a".into()])));
        assert_eq!(decode(br#"{"delete":[]}"#), Ok(Batch::Delete(vec![])));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let many = format!("{{\"get\":[{}]}}", vec!["{\"key\":\"k\"}"; 1025].join(","));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"get":[],"put":[]}"#,
            r#"{"put":[{"key":"a"}]}"#,
            r#"{"put":[{"value":"a"}]}"#,
            r#"{"get":[{"key":"a","value":"1"}]}"#,
            r#"{"get":[{"key":"a","key_hex":"00"}]}"#,
            r#"{"get":[{"key_hex":"0"}]}"#,
            r#"{"get":[{"key":1}]}"#,
            r#"{"get":[{"kee":"a"}]}"#,
            r#"{"scan":[]}"#,
            &many,
        ] {
            let refused = decode(bad.as_bytes()).expect_err(bad).into_response();
            assert_eq!(refused.status(), 400, "{bad:.50}");
        }
    }

    #[test]
    fn an_absent_row_has_no_value() {
        let (keys, values) =
            ([Bytes::from("a"), Bytes::from_static(b"\xff")], [None, Some("1".into())]);
        let expected = json!({ "rows": [
            { "key": "a", "value": null }, { "key_hex": "ff", "value": "1" }
        ]});
        assert_eq!(rows_json(&keys, &values, false), expected);
    }
}
