//! A scan as the body of a response: rows are read as the client takes them.
//!
//! The first rows are read before the response begins, so a cluster that cannot be read is told by
//! the status. A failure later on ends lines of JSON with a line that names the problem and the
//! cursor to go on with; a TSV file breaks off without its end, so that it is not taken for whole.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flotilla_client::{Client, ScanOptions, ScanStream};
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::cursor::Span;
use crate::limits::CHUNK_BYTES;
use crate::problem::Problem;
use crate::rows::Form;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where the scan began, to which its cursors belong.
    pub(crate) whole: Span,
    /// What is left of it; None if nothing is.
    pub(crate) left: Option<Span>,
    pub(crate) limit: Option<u64>,
    pub(crate) form: Form,
}

/// A response that is the rows wanted.
pub(crate) async fn respond(app: Arc<App>, wanted: Wanted) -> Result<Response, Problem> {
    let media_type = match wanted.form {
        Form::Ndjson { .. } => "application/x-ndjson",
        Form::Tsv { .. } => "text/tab-separated-values; charset=utf-8",
    };
    let place = app.take_stream()?;
    let client = app.client().await?;
    let mut rows = Rows::open(&client, wanted, (app, place))?;
    let first = rows.gather().await;
    if let (Some(Ending::Failed(problem)), None) = (&rows.ending, &rows.last) {
        return Err(problem.clone());
    }
    let body = stream::unfold((rows, Some(first)), |(mut rows, first)| async move {
        let chunk = match first {
            Some(first) => first,
            None if rows.ending.is_some() => return None,
            None => rows.gather().await,
        };
        let chunk = rows.hand_out(chunk).await;
        Some((chunk, (rows, None)))
    });
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(media_type))];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// How a scan ended.
#[derive(Clone, Debug)]
enum Ending {
    Done,
    /// There are more rows than were wanted.
    Limit,
    Failed(Problem),
}

struct Rows {
    scan: Option<ScanStream>,
    wanted: Wanted,
    rows: u64,
    last: Option<Bytes>,
    ending: Option<Ending>,
    app: Arc<App>,
    _place: OwnedSemaphorePermit,
}

impl Rows {
    fn open(
        client: &Client,
        wanted: Wanted,
        (app, place): (Arc<App>, OwnedSemaphorePermit),
    ) -> Result<Rows, Problem> {
        let scan = match &wanted.left {
            None => None,
            Some(left) => Some(client.scan_stream(ScanOptions {
                start: left.start.clone(),
                end: left.end.clone(),
                // One more shows whether there are more.
                limit: wanted.limit.map(|limit| limit.saturating_add(1)),
                reverse: left.is_reverse,
                keys_only: matches!(wanted.form, Form::Ndjson { keys_only: true, .. }),
            })?),
        };
        Ok(Rows { scan, wanted, rows: 0, last: None, ending: None, app, _place: place })
    }

    /// The next rows as text, and what follows the last.
    async fn gather(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES && self.ending.is_none() {
            self.ending = self.row(&mut out).await.err();
        }
        if let Some(ending) = &self.ending {
            self.close(ending, &mut out);
        }
        out
    }

    async fn row(&mut self, out: &mut Vec<u8>) -> Result<(), Ending> {
        let Some(scan) = &mut self.scan else { return Err(Ending::Done) };
        let (key, value) = match scan.next().await {
            None => return Err(Ending::Done),
            Some(Err(error)) => return Err(Ending::Failed(error.into())),
            Some(Ok(_)) if Some(self.rows) == self.wanted.limit => return Err(Ending::Limit),
            Some(Ok(row)) => row,
        };
        let fits = self.wanted.form.row(out, &key, &value);
        fits.map_err(|_| Ending::Failed(Problem::does_not_fit()))?;
        self.rows += 1;
        self.last = Some(key);
        Ok(())
    }

    /// The line behind the last row, where there is one.
    fn close(&self, ending: &Ending, out: &mut Vec<u8>) {
        let Form::Ndjson { .. } = self.wanted.form else { return };
        let mut line = json!({ "done": matches!(ending, Ending::Done), "rows": self.rows });
        if let (Some(object), false) = (line.as_object_mut(), matches!(ending, Ending::Done)) {
            if let Some(last) = &self.last {
                object.insert("cursor".into(), self.wanted.whole.cursor(last).into());
            }
            if let Ending::Failed(problem) = ending {
                object.insert("problem".into(), problem.to_json());
            }
        }
        out.extend_from_slice(format!("{line}\n").as_bytes());
    }

    /// A chunk that counts against the budget until it was sent; an error ends the connection.
    async fn hand_out(&mut self, chunk: Vec<u8>) -> io::Result<Bytes> {
        let failed = match (&self.ending, self.wanted.form) {
            (Some(Ending::Failed(problem)), Form::Tsv { .. }) => Some(problem.detail()),
            _ => None,
        };
        if let Some(detail) = failed {
            tracing::warn!(detail, "a dump breaks off");
            return Err(io::Error::other(detail));
        }
        let held = self.app.hold(chunk.into()).await;
        if held.is_err() {
            self.ending = Some(Ending::Done);
        }
        held.map_err(|problem| io::Error::other(problem.detail()))
    }
}
