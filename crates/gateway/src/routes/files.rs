//! `/v1/dump` and `/v1/load`: rows as a TSV file.
//!
//! A dump is not one snapshot: it may or may not hold rows that are written meanwhile. One that
//! cannot be whole breaks off without its end, which clients report as an error.
//!
//! A load puts batches, some at a time, and answers when all are acknowledged. It must be the only
//! writer of its keys: a batch whose outcome is not known is put again. When it fails, the problem
//! tells how many rows are acknowledged; no batch behind the failure is begun.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flotilla_client::{Client, Error};
use flotilla_types::tsv::{Batch, Dialect, LineError, Lines};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::scan::span;
use crate::app::App;
use crate::limits::{LOAD_BATCH_TIME_MAX, LOAD_BATCHES_MAX, LOAD_SILENCE_MAX};
use crate::openapi::{BadBody, Loaded, Refused, Unanswered, Undetermined};
use crate::problem::Problem;
use crate::query::Query;
use crate::rows::Form;
use crate::stream::{self, Wanted};

/// All rows, or those whose keys begin with `prefix`, as a file: 200.
#[utoipa::path(
    get,
    path = "/v1/dump",
    tag = "rows",
    operation_id = "dump",
    params(
        ("prefix" = Option<String>, Query, description = "Keys that begin with these bytes"),
        ("hex" = Option<bool>, Query, description = "Keys and values are hex digits"),
    ),
    responses(
        (status = 200, description = "Lines of a key, a tab and a value", body = String,
            content_type = "text/tab-separated-values"),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn dump(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::of(&uri, &["prefix", "hex"])?;
    let whole = span(&query, false)?;
    let form = Form::Tsv { is_hex: query.flag("hex")? };
    let wanted = Wanted { left: Some(whole.clone()), whole, limit: None, form };
    stream::respond(app, wanted).await
}

/// Puts the rows of a file: 200, and how many there were.
#[utoipa::path(
    post,
    path = "/v1/load",
    tag = "rows",
    operation_id = "load",
    params(
        ("hex" = Option<bool>, Query, description = "Keys and values are hex digits"),
    ),
    request_body(content = String, content_type = "text/tab-separated-values"),
    responses(
        (status = 200, description = "All rows are put", body = Loaded),
        BadBody, Refused, Unanswered, Undetermined,
    ),
)]
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri(), &["hex"])?;
    // A body that is cut off is known as such by HTTP, so its last line may lack the newline.
    let lines = Lines::new(Dialect { is_hex: query.flag("hex")?, is_partial_ok: true });
    let _place = app.take_stream()?;
    let client = app.client().await?;
    let client = client.with_timeout(LOAD_BATCH_TIME_MAX).with_retry_undetermined_writes(true);
    let mut load = Load::new(client, &app);
    let read = load.read(request.into_body(), lines).await;
    let ended = load.finish().await;
    // A batch that failed stands before whatever ended the reading.
    if let Err(problem) = ended.and(read) {
        return Err(problem.with("rows_acknowledged", load.rows.into()));
    }
    let text = json!({ "rows": load.rows, "bytes": load.bytes }).to_string() + "\n";
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

type Ended = (Batch, OwnedSemaphorePermit, Result<(), Error>);

struct Load<'a> {
    app: &'a App,
    client: Client,
    in_flight: JoinSet<Ended>,
    keys_in_flight: HashSet<Bytes>,
    /// Acknowledged.
    rows: u64,
    bytes: u64,
}

impl Load<'_> {
    fn new(client: Client, app: &App) -> Load<'_> {
        let (in_flight, keys_in_flight) = (JoinSet::new(), HashSet::new());
        Load { app, client, in_flight, keys_in_flight, rows: 0, bytes: 0 }
    }

    /// Puts the rows of the body in flight, up to its end or the first failure.
    async fn read(&mut self, mut body: Body, mut lines: Lines) -> Result<(), Problem> {
        while let Some(frame) = timeout(LOAD_SILENCE_MAX, body.frame()).await.map_err(silent)? {
            let frame = frame.map_err(|_| Problem::broken_body())?;
            let Ok(piece) = frame.into_data() else { continue };
            lines.push(&piece);
            self.send_all(&mut lines).await?;
        }
        lines.end();
        self.send_all(&mut lines).await
    }

    /// Puts the batches of what was read in flight.
    async fn send_all(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        while let Some(batch) = lines.next_batch().map_err(no_row)? {
            self.send(batch).await?;
        }
        Ok(())
    }

    /// Puts a batch in flight, once there is room for it and none of its keys is in flight.
    async fn send(&mut self, batch: Batch) -> Result<(), Problem> {
        while self.in_flight.len() >= LOAD_BATCHES_MAX
            || batch.pairs.iter().any(|(key, _)| self.keys_in_flight.contains(key))
        {
            self.finish_one().await?;
        }
        let share = self.app.take_bytes(batch.bytes as usize);
        let share = share.ok_or_else(|| {
            Problem::overloaded("all requests together take too much memory; load the rest later")
        })?;
        self.keys_in_flight.extend(batch.pairs.iter().map(|(key, _)| key.clone()));
        let client = self.client.clone();
        self.in_flight.spawn(async move {
            let result = client.batch_put(batch.pairs.clone()).await;
            (batch, share, result)
        });
        Ok(())
    }

    /// Waits for all batches; the error is the first one's.
    async fn finish(&mut self) -> Result<(), Problem> {
        let mut outcome = Ok(());
        while !self.in_flight.is_empty() {
            outcome = outcome.and(self.finish_one().await);
        }
        outcome
    }

    async fn finish_one(&mut self) -> Result<(), Problem> {
        let (batch, _share, result) = match self.in_flight.join_next().await {
            None => return Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(error)) => return Err(ended_early(&error)),
        };
        for (key, _) in &batch.pairs {
            self.keys_in_flight.remove(key);
        }
        result?;
        self.rows += batch.rows;
        self.bytes += batch.bytes;
        Ok(())
    }
}

fn no_row(error: LineError) -> Problem {
    let detail = format!("{error}; expected a key, a tab, and the value");
    Problem::bad_request(detail).with("line", error.line.into())
}

fn silent(_: tokio::time::error::Elapsed) -> Problem {
    let detail = format!("nothing came for {} s", LOAD_SILENCE_MAX.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body came too slowly", detail)
}

fn ended_early(error: &tokio::task::JoinError) -> Problem {
    let detail = format!("a batch ended without an outcome: {error}");
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "internal", "The gateway failed", detail).undetermined()
}
