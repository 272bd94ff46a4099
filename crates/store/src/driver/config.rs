//! What a store is told at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flotilla_engine::LogOptions;
use flotilla_group::Timing;
use flotilla_metrics::Registry;

/// A region that grows beyond this is cut: small enough to be moved in seconds, large enough that
/// a terabyte is not more than ten thousand regions.
pub const REGION_BYTES_DEFAULT: u64 = 96 * 1024 * 1024;

/// A checkpoint begins when this much is not durable. Larger ones cost less per row (redb rewrites
/// a leaf for each cluster of keys, and what is overwritten meanwhile is never written), smaller
/// ones less memory: up to four times this is held. A process of several stores wants a smaller
/// one.
pub const CHECKPOINT_BYTES_DEFAULT: usize = 32 * 1024 * 1024;

/// redb's page cache, half of it for dirty pages: those of one checkpoint should fit, for redb
/// writes the others out one by one and reads them back.
pub const CACHE_BYTES_DEFAULT: usize = 96 * 1024 * 1024;

/// The log gives space back beyond this many checkpoints: up to two of them hold what the log alone
/// makes durable, and a purge that comes before they are done only copies it.
const LOG_CHECKPOINTS: u64 = 4;

/// What a store is told at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data directory; created if it is not there.
    pub dir: PathBuf,
    /// Where to listen: "host:port". Port 0 takes any free one.
    pub addr: String,
    /// Where others should call it; None for where it listens.
    pub advertise: Option<String>,
    /// Where the placement driver listens.
    pub pd: Vec<String>,
    /// Where this store stands, such as `zone=a`; replicas are spread over different values.
    pub labels: BTreeMap<String, String>,
    /// A region that grows beyond this is cut.
    pub region_bytes_max: u64,
    /// A checkpoint begins when this much is not durable.
    pub checkpoint_bytes: usize,
    /// redb's page cache.
    pub cache_bytes: usize,
    /// The groups' clock.
    pub timing: Timing,
    /// Where the store registers what it counts.
    pub metrics: Registry,
}

impl StoreConfig {
    /// A store with the defaults.
    pub fn new(dir: PathBuf, addr: String, pd: Vec<String>) -> StoreConfig {
        StoreConfig {
            dir,
            addr,
            advertise: None,
            pd,
            labels: BTreeMap::new(),
            region_bytes_max: REGION_BYTES_DEFAULT,
            checkpoint_bytes: CHECKPOINT_BYTES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            timing: Timing::DEFAULT,
            metrics: Registry::default(),
        }
    }

    /// How large the log may grow before space is given back; a restart reads that much.
    pub(super) fn log_purge_bytes(&self) -> u64 {
        let checkpoints = LOG_CHECKPOINTS * self.checkpoint_bytes as u64;
        checkpoints.max(LogOptions::default().purge_bytes)
    }
}
