//! What all peers of a worker share: the configuration, the two stores, and the present.

use std::sync::Arc;

use flotilla_engine::{LogStore, StateStore};
use flotilla_group::Timing;
use flotilla_types::{Millis, StoreId};

use super::limits::StoreLimits;
use super::load::LoadCounts;
use super::permit::ReadPermits;
use super::pressure::Pressure;

/// How many entries a log keeps beyond what is durable in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogKept {
    /// Entries kept for followers that are a little behind.
    pub entries: u64,
    /// Entries kept for a follower that is away; beyond it, it will need a snapshot.
    pub entries_for_absent: u64,
    /// A log is truncated when this many entries can go: fewer are not worth a write.
    pub truncate_entries_min: u64,
}

impl Default for LogKept {
    /// A few seconds of a busy region for those that follow, a minute for those that are away.
    fn default() -> LogKept {
        LogKept { entries: 1_024, entries_for_absent: 16_384, truncate_entries_min: 256 }
    }
}

/// What a worker is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The cluster that the store belongs to.
    pub cluster: u64,
    /// The store that this is.
    pub store: StoreId,
    /// The groups' clock.
    pub timing: Timing,
    /// What groups' dice are rolled from; another number in each life of the store, never 0.
    pub seed: u64,
    /// A region that grows beyond this is cut.
    pub region_bytes_max: u64,
    /// A checkpoint begins when this much is not durable.
    pub checkpoint_bytes: usize,
    /// A region in which nothing happened for this long is quiescent ([`super::quiesce`]).
    pub idle_ms: u64,
    /// How many entries logs keep.
    pub log_kept: LogKept,
    /// The bounds of what the store holds, does and keeps.
    pub limits: StoreLimits,
}

/// What all peers of a worker share.
pub struct Shared {
    /// What the worker was told once.
    pub config: WorkerConfig,
    /// The applied state of all peers.
    pub state: Arc<StateStore>,
    /// The log of all peers.
    pub log: Arc<dyn LogStore>,
    /// Where reads are allowed to be served without the worker.
    pub permits: Arc<ReadPermits>,
    /// What clients had this store do since it started.
    pub load: Arc<LoadCounts>,
    /// Whether the disk keeps up.
    pub pressure: Pressure,
    /// The present: the time of the input that is stepped.
    pub now: Millis,
}

impl Shared {
    /// The store that this is.
    pub fn store(&self) -> StoreId {
        self.config.store
    }
}
