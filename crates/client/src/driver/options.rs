//! What a caller can choose: for a client, and for a scan.

use std::time::Duration;

use bytes::Bytes;
use flotilla_types::keys::DEFAULT_KEYSPACE;

use crate::error::Result;

use super::client::Client;
use super::pd::PdClient;

/// How long a call may take unless said otherwise: some elections, and a person's patience.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What holds for every call through one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Duration,
    pub(crate) keyspace: u32,
    pub(crate) retry_undetermined_writes: bool,
}

impl Default for CallOptions {
    fn default() -> CallOptions {
        CallOptions {
            timeout: TIMEOUT_DEFAULT,
            keyspace: DEFAULT_KEYSPACE,
            retry_undetermined_writes: false,
        }
    }
}

/// A client in the making; see [`Client::builder`].
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    options: CallOptions,
}

impl ClientBuilder {
    /// Adds addresses of the placement driver (`HOST:PORT`).
    pub fn endpoints<I, A>(mut self, endpoints: I) -> ClientBuilder
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long each call may take; [`TIMEOUT_DEFAULT`] unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.options.timeout = timeout;
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

    /// Connects to the placement driver and learns the cluster's id.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for no or bad addresses; otherwise as
    /// [`PdClient::cluster_status`].
    pub async fn connect(self) -> Result<Client> {
        let pd = PdClient::new(self.endpoints)?.with_timeout(self.options.timeout);
        Client::over(pd, self.options).await
    }
}

/// What to scan: the user keys `[start, end)`, in which order, how many. Made with `Default` and
/// struct update syntax:
///
/// ```
/// use flotilla_client::ScanOptions;
/// let newest = ScanOptions { start: "log/".into(), end: "log0".into(), limit: Some(10),
///     reverse: true, ..Default::default() };
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// The first key; empty for the first there is.
    pub start: Bytes,
    /// The first key after the range; empty for no end.
    pub end: Bytes,
    /// Rows wanted; None for all.
    pub limit: Option<u64>,
    /// From the end downwards.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Prints no keys: they are the user's.
impl std::fmt::Debug for ScanOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanOptions")
            .field("start_bytes", &self.start.len())
            .field("end_bytes", &self.end.len())
            .field("limit", &self.limit)
            .field("reverse", &self.reverse)
            .field("keys_only", &self.keys_only)
            .finish()
    }
}
