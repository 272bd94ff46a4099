//! What a store is told at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flotilla_engine::LogOptions;
use flotilla_group::Timing;
use flotilla_metrics::Registry;
use flotilla_net::tls::Security;

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

/// The parts in 16 of the memory for answers to gets: at 512 MiB ten of the largest values.
const GETS_16THS: usize = 2;

/// The parts in 16 of the memory for chunks of scans: at 512 MiB 32 of them.
const SCANS_16THS: usize = 1;

/// The parts in 16 of the memory for reads that wait and scans that are open, without their
/// answers.
const WAITING_16THS: usize = 1;

/// The parts in 16 of the memory for what waits for the worker, requests and messages each.
const INBOX_16THS: usize = 1;

/// The parts in 16 of the memory for messages that wait for other stores, two of which may stand
/// still.
const MESSAGES_16THS: usize = 2;

/// The rest, and what a smaller checkpoint leaves, is for entries that are not applied, the program
/// itself and what the allocator keeps.
const _: () = assert!(
    4 * CHECKPOINT_16THS
        + CACHE_16THS
        + GETS_16THS
        + SCANS_16THS
        + WAITING_16THS
        + 2 * INBOX_16THS
        + MESSAGES_16THS
        < 16
);

/// What may be under way at a store, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Answers to gets. One answer of any size fits.
    pub gets_bytes_max: usize,
    /// Chunks of scans. One chunk of any size fits.
    pub scans_bytes_max: usize,
    /// Reads that wait and scans that are open, without their answers.
    pub waiting_bytes_max: usize,
    /// What waits for the worker in each lane of its inbox. One mail of any size fits.
    pub inbox_bytes_max: usize,
    /// Messages that wait for other stores. One turn of any size fits.
    pub messages_bytes_max: usize,
}

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
    /// Who may connect, and what the store shows whom it calls.
    pub security: Security,
    /// Where the placement driver listens.
    pub pd: Vec<String>,
    /// Where this store stands, such as `zone=a`; replicas are spread over different values.
    pub labels: BTreeMap<String, String>,
    /// A region that grows beyond this is cut.
    pub region_bytes_max: u64,
    /// What the store may hold in memory in all; the fields below are parts of it.
    pub memory_bytes: usize,
    /// A checkpoint begins when this much is not durable.
    pub checkpoint_bytes: usize,
    /// redb's page cache.
    pub cache_bytes: usize,
    /// What may be under way.
    pub under_way: UnderWay,
    /// The groups' clock.
    pub timing: Timing,
    /// Where the store registers what it counts.
    pub metrics: Registry,
}

impl StoreConfig {
    /// Divides `memory_bytes` among the page cache, the write buffers and what is under way.
    pub fn divide_memory(&mut self, memory_bytes: usize) {
        let part = memory_bytes / 16;
        self.memory_bytes = memory_bytes;
        self.checkpoint_bytes = part * CHECKPOINT_16THS;
        self.cache_bytes = part * CACHE_16THS;
        self.under_way = UnderWay {
            gets_bytes_max: part * GETS_16THS,
            scans_bytes_max: part * SCANS_16THS,
            waiting_bytes_max: part * WAITING_16THS,
            inbox_bytes_max: part * INBOX_16THS,
            messages_bytes_max: part * MESSAGES_16THS,
        };
    }

    /// A store with the defaults.
    pub fn new(dir: PathBuf, addr: String, pd: Vec<String>) -> StoreConfig {
        let mut config = StoreConfig {
            dir,
            addr,
            advertise: None,
            security: Security::default(),
            pd,
            labels: BTreeMap::new(),
            region_bytes_max: REGION_BYTES_DEFAULT,
            memory_bytes: 0,
            checkpoint_bytes: 0,
            cache_bytes: 0,
            under_way: UnderWay::default(),
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
    fn the_usual_memory_gives_the_cache_96_mib_a_checkpoint_32_and_answers_96() {
        let mut config = StoreConfig::new(PathBuf::new(), String::new(), vec![]);
        assert_eq!((config.cache_bytes, config.checkpoint_bytes), (96 << 20, 32 << 20));
        let UnderWay { gets_bytes_max, scans_bytes_max, .. } = config.under_way;
        assert_eq!((gets_bytes_max, scans_bytes_max), (64 << 20, 32 << 20));
        config.divide_memory(64 << 20);
        assert_eq!((config.cache_bytes, config.checkpoint_bytes), (12 << 20, 4 << 20));
    }
}
