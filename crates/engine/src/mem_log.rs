//! A [`LogStore`] in memory: the twin of [`crate::disk_log`] for simulation and tests.
//!
//! A [`MemLog`] is a handle; clones share one log. Synced batches are kept apart from batches that
//! are only written, so that [`MemLog::crash`] loses what a power loss would. Deterministic.
//!
//! Not here: failures of the disk; a simulated file system under [`crate::disk_log`] has those.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::entry::{assert_held, bounds_after_append, stored_bytes};
use crate::error::EngineError;
use crate::log::{LogBatch, LogBounds, LogEntry, LogOp, LogStore};

/// A handle on a log that stands for a disk. See the module's header.
#[derive(Clone, Debug, Default)]
pub struct MemLog {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    /// All batches.
    written: Groups,
    /// The batches up to the last sync.
    synced: Groups,
    /// The batches since.
    unsynced: Vec<LogBatch>,
}

/// A group that has nothing is not in the map.
type Groups = BTreeMap<u64, HeldGroup>;

#[derive(Clone, Debug, Default)]
struct HeldGroup {
    entries: VecDeque<LogEntry>,
    state: Option<Bytes>,
}

impl MemLog {
    /// Loses power: the batches since the last sync are gone.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Loses power; of the batches since the last sync, the first `batches` had reached the disk.
    pub fn crash_keeping(&self, batches: usize) {
        let mut disk = self.disk();
        disk.unsynced.truncate(batches);
        disk.sync();
        disk.written = disk.synced.clone();
    }

    /// A log of its own that is as this one would be after [`MemLog::crash_keeping`].
    pub fn copy_keeping(&self, batches: usize) -> MemLog {
        let disk = self.disk();
        let (synced, unsynced) = (disk.synced.clone(), disk.unsynced.clone());
        let copy = Disk { written: Groups::new(), synced, unsynced };
        let copy = MemLog { disk: Arc::new(Mutex::new(copy)) };
        copy.crash_keeping(batches);
        copy
    }

    /// The number of batches since the last sync.
    pub fn unsynced_batches(&self) -> usize {
        self.disk().unsynced.len()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Only an assertion about a caller's mistake panics with the lock held.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemLog {
    fn groups(&self) -> Vec<u64> {
        self.disk().written.keys().copied().collect()
    }

    fn state(&self, group: u64) -> Result<Option<Bytes>, EngineError> {
        Ok(self.disk().written.get(&group).and_then(|group| group.state.clone()))
    }

    fn bounds(&self, group: u64) -> Option<LogBounds> {
        self.disk().written.get(&group)?.bounds()
    }

    fn entries(
        &self,
        group: u64,
        low: u64,
        high: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, EngineError> {
        if low >= high {
            return Ok(Vec::new());
        }
        let disk = self.disk();
        let held = disk.written.get(&group);
        assert_held(group, held.and_then(HeldGroup::bounds), low, high);
        let held = held.expect("a group with bounds is there");
        let first = held.entries[0].index;
        let mut taken = Vec::new();
        let mut bytes = 0;
        for entry in held.entries.range((low - first) as usize..(high - first) as usize) {
            bytes += stored_bytes(entry);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn write(&self, batch: LogBatch, sync: bool) -> Result<(), EngineError> {
        let mut disk = self.disk();
        for op in &batch.ops {
            apply(&mut disk.written, op);
        }
        disk.unsynced.push(batch);
        if sync {
            disk.sync();
        }
        Ok(())
    }

    fn purge(&self) -> Result<Vec<u64>, EngineError> {
        Ok(Vec::new())
    }
}

impl Disk {
    fn sync(&mut self) {
        for batch in self.unsynced.drain(..) {
            for op in &batch.ops {
                apply(&mut self.synced, op);
            }
        }
    }
}

impl HeldGroup {
    fn bounds(&self) -> Option<LogBounds> {
        let (first, last) = (self.entries.front()?.index, self.entries.back()?.index);
        Some(LogBounds { first, last })
    }

    fn append(&mut self, group: u64, entries: &[LogEntry]) {
        bounds_after_append(group, self.bounds(), entries);
        let replaced = self.entries.partition_point(|held| held.index < entries[0].index);
        self.entries.truncate(replaced);
        self.entries.extend(entries.iter().cloned());
    }

    fn truncate(&mut self, through: u64) {
        let dropped = self.entries.partition_point(|held| held.index <= through);
        self.entries.drain(..dropped);
    }
}

fn apply(groups: &mut Groups, op: &LogOp) {
    match op {
        LogOp::Append { group, entries } => {
            groups.entry(*group).or_default().append(*group, entries);
        }
        LogOp::SetState { group, state } => {
            groups.entry(*group).or_default().state = Some(state.clone());
        }
        LogOp::Truncate { group, through } => {
            let Some(held) = groups.get_mut(group) else { return };
            held.truncate(*through);
            if held.entries.is_empty() && held.state.is_none() {
                groups.remove(group);
            }
        }
        LogOp::Clear { group } => drop(groups.remove(group)),
    }
}
