//! What a caller can choose: for every call, and for a scan.

use std::time::Duration;

use bytes::Bytes;
use flotilla_types::TraceId;
use flotilla_types::keys::DEFAULT_KEYSPACE;

/// How long a call may take unless said otherwise: some elections, and about as long as a person
/// waits.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What holds for every call through one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Duration,
    pub(crate) keyspace: u32,
    pub(crate) retry_undetermined_writes: bool,
    pub(crate) trace: Option<TraceId>,
}

impl Default for CallOptions {
    fn default() -> CallOptions {
        CallOptions {
            timeout: TIMEOUT_DEFAULT,
            keyspace: DEFAULT_KEYSPACE,
            retry_undetermined_writes: false,
            trace: None,
        }
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
