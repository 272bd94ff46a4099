//! The public API: checks arguments, adds and strips the keyspace prefix, and hands a plan to
//! `call` or a cursor to `scan`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_net::tls::Tls;
use flotilla_types::keys::{stored_key, stored_range};
use flotilla_types::request::{RequestSize, validate};
use flotilla_types::{Answer, CompareAndSwap, KeyRange, Mutation, Op, TraceId, WriteOp};

use crate::core::call::{Call, Terms};
use crate::core::item::Item;
use crate::core::scan::Cursor;
use crate::error::{Error, Result};

use super::call::Cluster;
use super::options::{CallOptions, ScanOptions};
use super::pd::PdClient;
use super::routes::identify;
use super::scan::{ScanMode, ScanStream};
use super::stats::ClientStats;

/// How long a starting client that the placement driver did not answer waits for a store's answer.
const IDENTIFY_MS_MAX: u64 = 1_000;

/// A handle on a Flotilla cluster. Cheap to clone; clones share connections, the range map and the
/// retry budget, and may be used from any task.
///
/// Every call ends by its timeout as success, as a definite failure (no effect), or as
/// [`Error::Undetermined`]. Reads see every write acknowledged before they began. Dropping a call's
/// future abandons the call: what was sent by then may still take effect.
///
/// Errors common to all calls: [`Error::LimitExceeded`] (nothing was sent, or the store refused),
/// [`Error::DeadlineExceeded`], [`Error::ServerBusy`], [`Error::PdUnreachable`] when a key's region
/// is not known and nobody can tell, and for writes [`Error::Undetermined`].
#[derive(Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
    options: CallOptions,
}

/// The options of a client to be; see [`Client::builder`].
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    tls: Option<Tls>,
    options: CallOptions,
}

impl ClientBuilder {
    /// Adds addresses (`HOST:PORT`) of members of the placement driver, of stores, or of both: with
    /// a store among them a client can start while the placement driver is away.
    pub fn endpoints<I, A>(mut self, endpoints: I) -> ClientBuilder
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long each call may take; [`crate::TIMEOUT_DEFAULT`] unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.options.timeout = timeout;
        self
    }

    /// TLS to all servers, with these certificates; without it, only servers without TLS answer.
    /// Files that change are used from the next connection on.
    pub fn tls(mut self, tls: Tls) -> ClientBuilder {
        self.tls = Some(tls);
        self
    }

    /// The keyspace that the client's keys belong to; the default one (0) unless set.
    pub fn keyspace(mut self, keyspace: u32) -> ClientBuilder {
        self.options.keyspace = keyspace;
        self
    }

    /// Lets the client repeat puts and deletes whose outcome it does not know, instead of ending
    /// them as [`crate::Error::Undetermined`]; false unless set. Safe when no one else writes these
    /// keys, as in a bulk load: otherwise a repeated write may undo another's that came in between.
    /// A compare-and-swap is never repeated.
    pub fn retry_undetermined_writes(mut self, retry: bool) -> ClientBuilder {
        self.options.retry_undetermined_writes = retry;
        self
    }

    /// Connects to the placement driver, or to a store among the addresses if that answers first,
    /// and learns the cluster's id.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for no or bad addresses; otherwise as
    /// [`PdClient::cluster_status`].
    pub async fn connect(self) -> Result<Client> {
        let pd = PdClient::secured(self.endpoints, self.tls)?;
        let pd = pd.with_timeout(self.options.timeout);
        Client::over(pd, self.options).await
    }
}

/// How a compare-and-swap ended.
#[derive(Clone, PartialEq, Eq)]
pub struct CasOutcome {
    /// True if the key now has the new value.
    pub swapped: bool,
    /// The value found; None if the key was absent. What to expect in the next try.
    pub previous: Option<Bytes>,
}

impl Client {
    /// Connects to the cluster of the placement driver or the stores at these addresses
    /// (`HOST:PORT`).
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect<I, A>(endpoints: I) -> Result<Client>
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        Client::builder().endpoints(endpoints).connect().await
    }

    /// A client with options.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) async fn over(pd: PdClient, options: CallOptions) -> Result<Client> {
        let endpoints = pd.endpoints().to_vec();
        let store = tokio::time::timeout(options.timeout, identify(&endpoints, pd.tls().cloned()));
        tokio::pin!(store);
        let status = pd.cluster_status();
        let held = tokio::select! {
            status = status => match status {
                Ok(status) => return Ok(Client::of(pd.clone(), status.cluster_id, options)),
                // A store refuses at once what it is not asked for, and then answers for itself.
                Err(error) => {
                    let wait = Duration::from_millis(IDENTIFY_MS_MAX);
                    let held = tokio::time::timeout(wait, store).await;
                    held.map_err(|_| error.clone())?.map_err(|_| error)?
                }
            },
            held = &mut store => match held {
                Ok(held) => held,
                Err(_) => {
                    let cluster_id = pd.cluster_status().await?.cluster_id;
                    return Ok(Client::of(pd.clone(), cluster_id, options));
                }
            },
        };
        pd.learn(held.cluster_id);
        let client = Client::of(pd, held.cluster_id, options);
        client.cluster.routes.write().absorb_held(held.store, held.page);
        Ok(client)
    }

    fn of(pd: PdClient, cluster_id: u64, options: CallOptions) -> Client {
        Client { cluster: Arc::new(Cluster::new(pd, cluster_id)), options }
    }

    /// The same client with another timeout for its calls.
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.options.timeout = timeout;
        self
    }

    /// The same client for another keyspace.
    pub fn with_keyspace(mut self, keyspace: u32) -> Client {
        self.options.keyspace = keyspace;
        self
    }

    /// The same client with another choice for writes of unknown outcome; see
    /// [`ClientBuilder::retry_undetermined_writes`].
    pub fn with_retry_undetermined_writes(mut self, retry: bool) -> Client {
        self.options.retry_undetermined_writes = retry;
        self
    }

    /// The same client, whose calls carry this name: the logs of this process, and of the stores
    /// that the calls reach, tell it. While no name is given, each call draws one of its own if
    /// this process logs at the level `debug`, and carries none otherwise.
    pub fn with_trace_id(mut self, id: TraceId) -> Client {
        self.options.trace = Some(id);
        self
    }

    /// The placement driver of this client's cluster.
    pub fn pd(&self) -> &PdClient {
        &self.cluster.pd
    }

    /// What this client and its clones have done, in numbers.
    pub fn stats(&self) -> ClientStats {
        self.cluster.stats.read()
    }

    /// How often stores have refused an attempt of this client or its clones because they were busy
    /// (`ServerBusy`). Each such attempt had no effect and was made again, where the deadline
    /// allowed, after no less than the time that the store asked for. Scans are not counted.
    pub fn busy_refusals(&self) -> u64 {
        self.cluster.busy_refusals()
    }

    /// How the latest attempt that failed did so, for this client and its clones, and how long ago:
    /// what a call that takes long is likely to wait for. None if no attempt failed yet. It names
    /// the region and the store.
    pub fn last_failure(&self) -> Option<(Duration, String)> {
        self.cluster.last_failure()
    }

    /// The value of a key; None if it is absent.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let key = self.key(key.as_ref(), b"")?;
        Ok(values("get", self.one("get", Item::Get(key)).await?)?.pop().flatten())
    }

    /// Sets a key.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<()> {
        let value = value.into();
        let key = self.key(key.as_ref(), &value)?;
        self.one("put", Item::Mutate(Mutation::Put { key, value })).await.map(drop)
    }

    /// Removes a key; no error if it is absent.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let key = self.key(key.as_ref(), b"")?;
        self.one("delete", Item::Mutate(Mutation::Delete { key })).await.map(drop)
    }

    /// The values of many keys, in the order asked; None for an absent key. At most
    /// [`BATCH_KEYS_MAX`] keys. One region's keys are read at one moment, those of different
    /// regions at different ones.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] also if one region's values exceed
    /// [`REPLY_BYTES_MAX`]: ask for fewer.
    ///
    /// [`BATCH_KEYS_MAX`]: flotilla_types::limits::BATCH_KEYS_MAX
    /// [`REPLY_BYTES_MAX`]: flotilla_types::limits::REPLY_BYTES_MAX
    pub async fn batch_get<I, K>(&self, keys: I) -> Result<Vec<Option<Bytes>>>
    where
        I: IntoIterator<Item = K>,
        K: AsRef<[u8]>,
    {
        let mut batch = self.batch();
        for key in keys {
            batch.add(key.as_ref(), Bytes::new(), |key, _| Item::Get(key))?;
        }
        values("batch_get", self.many("batch_get", batch.items).await?)
    }

    /// Sets many keys, at most [`BATCH_KEYS_MAX`] and [`BATCH_BYTES_MAX`]. Atomic for the keys of
    /// one region, not across regions; of a key given twice the later value stays.
    ///
    /// # Errors
    /// [`Error::Undetermined`] also if the keys of some regions were set and those of others not.
    ///
    /// [`BATCH_KEYS_MAX`]: flotilla_types::limits::BATCH_KEYS_MAX
    /// [`BATCH_BYTES_MAX`]: flotilla_types::limits::BATCH_BYTES_MAX
    pub async fn batch_put<I, K, V>(&self, pairs: I) -> Result<()>
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<[u8]>,
        V: Into<Bytes>,
    {
        let mut batch = self.batch();
        let put = |key, value| Item::Mutate(Mutation::Put { key, value });
        for (key, value) in pairs {
            batch.add(key.as_ref(), value.into(), put)?;
        }
        self.many("batch_put", batch.items).await.map(drop)
    }

    /// Removes many keys, at most [`BATCH_KEYS_MAX`]. Atomic for the keys of one region, not across
    /// regions.
    ///
    /// # Errors
    /// [`Error::Undetermined`] also if the keys of some regions were removed and those of others
    /// not.
    ///
    /// [`BATCH_KEYS_MAX`]: flotilla_types::limits::BATCH_KEYS_MAX
    pub async fn batch_delete<I, K>(&self, keys: I) -> Result<()>
    where
        I: IntoIterator<Item = K>,
        K: AsRef<[u8]>,
    {
        let mut batch = self.batch();
        let delete = |key, _| Item::Mutate(Mutation::Delete { key });
        for key in keys {
            batch.add(key.as_ref(), Bytes::new(), delete)?;
        }
        self.many("batch_delete", batch.items).await.map(drop)
    }

    /// Removes the keys of `[start, end)`; an empty `end` is the keyspace's end. Atomic within a
    /// region, not across regions.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `start` is after `end`. [`Error::Undetermined`] also if the
    /// range was removed in some regions and not in others; asking again finishes it.
    pub async fn delete_range(&self, start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        let range = self.range(start.as_ref(), end.as_ref())?;
        if range.is_empty() {
            return Ok(());
        }
        let items = vec![Item::Mutate(Mutation::DeleteRange(range))];
        self.many("delete_range", items).await.map(drop)
    }

    /// Sets a key to `new` if its value is `expected`; None stands for an absent key, on either
    /// side. Not sent again once it may have taken effect, whatever the options: the second try
    /// would find the first one's value.
    pub async fn compare_and_swap<V: Into<Bytes>>(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<V>,
        new: Option<V>,
    ) -> Result<CasOutcome> {
        let key = stored_key(self.options.keyspace, key.as_ref());
        let (expected, new) = (expected.map(Into::into), new.map(Into::into));
        let swap = CompareAndSwap { key, expected, new };
        let op = Op::Write(WriteOp::CompareAndSwap(swap));
        validate(&op).map_err(Error::limit)?;
        let answer = self.one("compare_and_swap", Item::Whole(op)).await?;
        let Answer::Swapped { swapped, previous } = answer else {
            return Err(unexpected("compare_and_swap"));
        };
        Ok(CasOutcome { swapped, previous })
    }

    /// The first `limit` rows of a range, as (key, value) in key order; an empty end is the
    /// keyspace's end. All of them are in memory at once: for many, use [`Client::scan_stream`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the range's start is after its end.
    pub async fn scan<K: AsRef<[u8]>>(
        &self,
        range: Range<K>,
        limit: u64,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.scan_stream(scan_options(range, limit, false))?.collect().await
    }

    /// The last `limit` rows of a range, from its end downwards; else like [`Client::scan`].
    ///
    /// # Errors
    /// As [`Client::scan`].
    pub async fn reverse_scan<K: AsRef<[u8]>>(
        &self,
        range: Range<K>,
        limit: u64,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.scan_stream(scan_options(range, limit, true))?.collect().await
    }

    /// Opens a scan that is read row by row in bounded memory. It goes on behind the last row after
    /// leader changes and splits. Rows come in order, none twice. Not one snapshot: each chunk of
    /// about [`CHUNK_BYTES_MAX`] is read at its own moment. Nothing is sent before the
    /// first [`ScanStream::next`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the start is after the end; [`Error::LimitExceeded`] for a
    /// bound longer than a key may be.
    ///
    /// [`CHUNK_BYTES_MAX`]: flotilla_types::limits::CHUNK_BYTES_MAX
    pub fn scan_stream(&self, options: ScanOptions) -> Result<ScanStream> {
        let ScanOptions { start, end, limit, reverse, keys_only } = options;
        let range = self.range(&start, &end)?;
        let deadline = self.cluster.deadline(self.options.timeout);
        let cursor = Cursor::new(range, limit, reverse, deadline);
        let mode = ScanMode { row_timeout: self.options.timeout, keys_only, reverse };
        Ok(ScanStream::new(self.cluster.clone(), cursor, mode))
    }

    /// Makes a call for one item, which is no range.
    async fn one(&self, what: &'static str, item: Item) -> Result<Answer> {
        let call = Call::one(what, item, self.terms());
        self.cluster.carry_out_one(call, self.options.trace.as_ref()).await
    }

    /// Makes a call for many items, or for a range.
    async fn many(&self, what: &'static str, items: Vec<Item>) -> Result<Answer> {
        let call = Call::many(what, items, self.terms());
        self.cluster.carry_out(call, self.options.trace.as_ref()).await
    }

    fn terms(&self) -> Terms {
        Terms {
            deadline: self.cluster.deadline(self.options.timeout),
            no_one_else_writes: self.options.retry_undetermined_writes,
            parts_out_max: self.cluster.limits.parts_out_max,
        }
    }

    fn batch(&self) -> Batch {
        Batch { keyspace: self.options.keyspace, items: Vec::new(), size: RequestSize::default() }
    }

    /// The stored key, if it and its value (empty if it has none) are within the limits.
    fn key(&self, key: &[u8], value: &[u8]) -> Result<Bytes> {
        let key = stored_key(self.options.keyspace, key);
        RequestSize::default().add(&key, value).map_err(Error::limit)?;
        Ok(key)
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Result<KeyRange> {
        if !end.is_empty() && start > end {
            return Err(Error::InvalidArgument { what: "START is after END".into() });
        }
        let range = stored_range(self.options.keyspace, start, end);
        RequestSize::default().add_range(&range).map_err(Error::limit)?;
        Ok(range)
    }
}

/// Prints the options and the cluster's id.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("cluster_id", &self.cluster.stores.cluster_id())
            .field("options", &self.options)
            .finish()
    }
}

/// Prints no value: it is the user's.
impl fmt::Debug for CasOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CasOutcome")
            .field("swapped", &self.swapped)
            .field("previous_bytes", &self.previous.as_ref().map(Bytes::len))
            .finish()
    }
}

/// A batch's items, counted against the limits as they come, so that an endless iterator ends.
struct Batch {
    keyspace: u32,
    items: Vec<Item>,
    size: RequestSize,
}

impl Batch {
    fn add(&mut self, key: &[u8], value: Bytes, item: fn(Bytes, Bytes) -> Item) -> Result<()> {
        let key = stored_key(self.keyspace, key);
        self.size.add(&key, &value).map_err(Error::limit)?;
        self.items.push(item(key, value));
        Ok(())
    }
}

fn scan_options<K: AsRef<[u8]>>(range: Range<K>, limit: u64, reverse: bool) -> ScanOptions {
    ScanOptions {
        start: Bytes::copy_from_slice(range.start.as_ref()),
        end: Bytes::copy_from_slice(range.end.as_ref()),
        limit: Some(limit),
        reverse,
        keys_only: false,
    }
}

fn values(what: &str, answer: Answer) -> Result<Vec<Option<Bytes>>> {
    answer.into_values().ok_or_else(|| unexpected(what))
}

/// Not reached: a call ends with the kind of answer that it asked for.
fn unexpected(what: &str) -> Error {
    Error::Protocol { what: format!("{what}: the reply does not match the request") }
}
