//! Scans: a stream of rows that survives leader changes and splits.
//!
//! One region's server stream is open at a time, and one chunk of it is buffered; HTTP/2 flow
//! control slows the store down while the caller is busy, so memory stays bounded however long the
//! range is. Dropping the stream ends the scan at the store.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_net::connect::status_reason;
use flotilla_net::services::kv_client;
use flotilla_types::keys::user_key;
use flotilla_types::proto;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::core::failure::Failure;
use crate::core::router::Destination;
use crate::core::scan::{Cursor, ScanStep};
use crate::error::{Error, Result};

use super::call::Cluster;
use super::codec::{self, ScanForm};

/// What a store is told as a scan's time limit. A scan lasts as long as its caller reads; this
/// bounds what an abandoned one holds at the store, and a scan cut off by it resumes unseen.
const SCAN_TIMEOUT_MS: u64 = 60_000;

/// An open scan: rows in order, read with [`ScanStream::next`].
///
/// Each row that is waited for has the client's timeout; time that the caller spends between rows
/// does not count. Not a snapshot: see [`crate::Client::scan_stream`].
pub struct ScanStream {
    cluster: Arc<Cluster>,
    cursor: Cursor,
    row_timeout: Duration,
    form: ScanForm,
    chunk: VecDeque<proto::Pair>,
    open: Option<tonic::Streaming<proto::ScanChunk>>,
    ended: bool,
}

/// How a scan is read, beside its range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanMode {
    pub(crate) row_timeout: Duration,
    pub(crate) keys_only: bool,
    pub(crate) reverse: bool,
}

impl ScanStream {
    pub(crate) fn new(cluster: Arc<Cluster>, cursor: Cursor, mode: ScanMode) -> ScanStream {
        ScanStream {
            cluster,
            cursor,
            row_timeout: mode.row_timeout,
            form: ScanForm {
                reverse: mode.reverse,
                keys_only: mode.keys_only,
                timeout_ms: SCAN_TIMEOUT_MS,
            },
            chunk: VecDeque::new(),
            open: None,
            ended: false,
        }
    }

    /// The next row as (key, value), the value empty in a keys-only scan; None at the end. After an
    /// error the stream is at its end; a new scan may start behind the last key seen.
    ///
    /// Cancel safe: a call that is dropped loses no row.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] or [`Error::PdUnreachable`] if no row came within the timeout,
    /// [`Error::Protocol`] for rows that make no sense.
    pub async fn next(&mut self) -> Option<Result<(Bytes, Bytes)>> {
        if self.chunk.is_empty() && !self.ended {
            self.cursor.start_wait(self.cluster.deadline(self.row_timeout));
            if let Err(error) = self.fill().await {
                self.end();
                return Some(Err(error));
            }
        }
        let pair = self.chunk.pop_front()?;
        match user_key(&pair.key) {
            Some(key) => Some(Ok((key, pair.value))),
            None => Some(Err(Error::Protocol { what: "a row without keyspace".into() })),
        }
    }

    /// One whole scan within one deadline.
    pub(crate) async fn collect(mut self) -> Result<Vec<(Bytes, Bytes)>> {
        self.cursor.start_wait(self.cluster.deadline(self.row_timeout));
        let mut rows = Vec::new();
        while !self.ended {
            self.fill().await?;
            for pair in self.chunk.drain(..) {
                let no_keyspace = || Error::Protocol { what: "a row without keyspace".into() };
                rows.push((user_key(&pair.key).ok_or_else(no_keyspace)?, pair.value));
            }
        }
        Ok(rows)
    }

    /// Fetches until the chunk holds a row or the scan ends.
    async fn fill(&mut self) -> Result<()> {
        while self.chunk.is_empty() && !self.ended {
            let fetched = match self.open.is_some() {
                true => self.fetch().await,
                false => self.advance().await?,
            };
            if let Err(failure) = fetched {
                self.open = None;
                self.cursor.failed(&mut &*self.cluster, failure)?;
            }
        }
        Ok(())
    }

    /// Takes the next chunk of the open stream.
    async fn fetch(&mut self) -> Result<(), Failure> {
        let give_up_at = self.give_up_at()?;
        let Some(stream) = &mut self.open else { return Ok(()) };
        let lost = |reason: String| Failure::ConnectionLost { reason };
        let chunk = match timeout_at(give_up_at, stream.message()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Err(lost("the store ended the scan early".into())),
            Ok(Err(status)) => return Err(lost(status_reason(&status))),
            Err(_) => return Err(Failure::Timeout),
        };
        if let Some(error) = chunk.error {
            return Err(codec::refusal(error));
        }
        let keys = chunk.pairs.iter().map(|pair| &pair.key);
        self.cursor.chunk(&mut &*self.cluster, keys, chunk.done)?;
        self.chunk = chunk.pairs.into();
        if chunk.done
            && let Some(mut stream) = self.open.take()
        {
            // The end follows at once. A stream dropped before it would be reset, and a server
            // closes a connection that resets too many, with the other scans on it.
            let _ = timeout_at(give_up_at, stream.message()).await;
        }
        Ok(())
    }

    /// Opens the next region's stream, looks up where it is, waits, or ends.
    async fn advance(&mut self) -> Result<Result<(), Failure>> {
        match self.cursor.next(&mut &*self.cluster)? {
            ScanStep::Done => self.end(),
            ScanStep::Wait { until } => sleep_until(self.cluster.clock.instant(until)).await,
            ScanStep::LookUp(miss) => {
                let deadline = self.cluster.clock.instant(self.cursor.deadline());
                let result = self.cluster.routes.look_up(&miss, deadline).await;
                self.cursor.looked_up(&mut &*self.cluster, result)?;
            }
            ScanStep::Open { to, span, limit } => {
                let mut request = codec::scan_request(&to.sent, span, limit, self.form);
                request.cluster_id = self.cluster.stores.cluster_id();
                match self.start(&to, request).await {
                    Ok(stream) => self.open = Some(stream),
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        }
        Ok(Ok(()))
    }

    async fn start(
        &self,
        to: &Destination,
        request: proto::ScanRequest,
    ) -> Result<tonic::Streaming<proto::ScanChunk>, Failure> {
        let give_up_at = self.give_up_at()?;
        let channel = self.cluster.stores.scan_channel(to, give_up_at).await?;
        let mut client = kv_client(channel);
        match timeout_at(give_up_at, client.scan(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::ConnectionLost { reason: status_reason(&status) }),
            Err(_) => Err(Failure::Timeout),
        }
    }

    fn give_up_at(&self) -> Result<Instant, Failure> {
        let clock = self.cluster.clock;
        self.cursor.give_up_at(clock.now()).map(|at| clock.instant(at))
    }

    fn end(&mut self) {
        self.ended = true;
        self.open = None;
    }
}

/// Prints no rows: they are the user's.
impl fmt::Debug for ScanStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanStream")
            .field("reverse", &self.form.reverse)
            .field("keys_only", &self.form.keys_only)
            .field("rows_buffered", &self.chunk.len())
            .field("ended", &self.ended)
            .finish()
    }
}
