//! What a store is told at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flotilla_engine::LogOptions;
use flotilla_group::Timing;
use flotilla_metrics::Registry;

/// A region that grows beyond this is cut: small enough to be moved in seconds, large enough that
/// a terabyte is not more than ten thousand regions.
pub const REGION_BYTES_DEFAULT: u64 = 96 * 1024 * 1024;

/// What a store may hold in memory. A process of several stores wants less for each.
pub const MEMORY_BYTES_DEFAULT: usize = 512 * 1024 * 1024;

/// A checkpoint begins when so many parts in 16 of the memory are not durable. Larger ones cost
/// less per row (redb rewrites a leaf for each cluster of keys, and what is overwritten meanwhile
/// is never written), smaller ones less memory: up to four times this is held.
const CHECKPOINT_16THS: usize = 1;

/// The parts in 16 of the memory that redb's page cache has, half of them for dirty pages: those of
/// one checkpoint should fit, for redb writes the others out one by one and reads them back.
const CACHE_16THS: usize = 3;

/// The rest, and what a smaller checkpoint leaves, is for requests, answers and messages under way.
const _: () = assert!(4 * CHECKPOINT_16THS + CACHE_16THS < 16);

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
    /// Divides `memory_bytes` among the page cache and the write buffers; the rest is for what is
    /// under way.
    pub fn divide_memory(&mut self, memory_bytes: usize) {
        self.checkpoint_bytes = memory_bytes / 16 * CHECKPOINT_16THS;
        self.cache_bytes = memory_bytes / 16 * CACHE_16THS;
    }

    /// A store with the defaults.
    pub fn new(dir: PathBuf, addr: String, pd: Vec<String>) -> StoreConfig {
        let mut config = StoreConfig {
            dir,
            addr,
            advertise: None,
            pd,
            labels: BTreeMap::new(),
            region_bytes_max: REGION_BYTES_DEFAULT,
            checkpoint_bytes: 0,
            cache_bytes: 0,
            timing: Timing::DEFAULT,
            metrics: Registry::default(),
        };
        config.divide_memory(MEMORY_BYTES_DEFAULT);
        config
    }

    /// How large the log may grow before space is given back; a restart reads that much.
    pub(super) fn log_purge_bytes(&self) -> u64 {
        let checkpoints = LOG_CHECKPOINTS * self.checkpoint_bytes as u64;
        checkpoints.max(LogOptions::default().purge_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_memory_gives_the_cache_96_mib_and_a_checkpoint_32() {
        let mut config = StoreConfig::new(PathBuf::new(), String::new(), vec![]);
        assert_eq!((config.cache_bytes, config.checkpoint_bytes), (96 << 20, 32 << 20));
        config.divide_memory(64 << 20);
        assert_eq!((config.cache_bytes, config.checkpoint_bytes), (12 << 20, 4 << 20));
    }
}
