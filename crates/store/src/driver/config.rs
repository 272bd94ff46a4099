//! What a store is told at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flotilla_group::Timing;

/// A region that grows beyond this is cut: small enough to be moved in seconds, large enough that
/// a terabyte is not more than ten thousand regions.
pub const REGION_BYTES_DEFAULT: u64 = 96 * 1024 * 1024;

/// A checkpoint begins when this much is not durable. Larger ones cost less per row (redb rewrites
/// a leaf for each cluster of keys), smaller ones less memory: up to four times this is held.
pub const CHECKPOINT_BYTES_DEFAULT: usize = 8 * 1024 * 1024;

/// redb's page cache.
pub const CACHE_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// What a store is told at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data directory; created if it is not there.
    pub dir: PathBuf,
    /// Where to listen, and what others are told: "host:port". Port 0 takes any free one.
    pub addr: String,
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
}

impl StoreConfig {
    /// A store with the defaults.
    pub fn new(dir: PathBuf, addr: String, pd: Vec<String>) -> StoreConfig {
        StoreConfig {
            dir,
            addr,
            pd,
            labels: BTreeMap::new(),
            region_bytes_max: REGION_BYTES_DEFAULT,
            checkpoint_bytes: CHECKPOINT_BYTES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            timing: Timing::DEFAULT,
        }
    }
}
