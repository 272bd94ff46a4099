//! The log and the state that ship, redb and raft-engine, on a simulated disk.
//!
//! Beside them the world keeps the log's twin in memory ([`MemLog`]), to which everything is
//! written as well. The checkers look at the twin. After a crash the log that is opened again must
//! equal the twin with some number of the batches that were written and not synced: all batches up
//! to that number, and none after it. A batch is there whole or not at all.
//!
//! Not here: failures of single writes and syncs of the disk, and crashes within one of them; the
//! sweep has those ([`crate::sweep`]).

use std::sync::Arc;

use flotilla_engine::sim_disk::{self, SimDisk};
use flotilla_engine::{
    DiskOptions, EngineError, LogBatch, LogOptions, LogStore, MemLog, RunOptions, StateStore,
};

use crate::check::{Violation, broken};

use super::loss::Loss;
use super::unexpected;

/// Small, so that a seed fills files and purges them.
const LOG_OPTIONS: LogOptions = LogOptions { file_bytes: 64 * 1024, purge_bytes: 128 * 1024 };

/// Small caches, and runs of a few rows, so that a seed sees runs written, merged and dropped.
const STATE_OPTIONS: DiskOptions = DiskOptions {
    cache_bytes: 1024 * 1024,
    runs: RunOptions { rows_min: 4, leaves_min: 0, leaves_max: usize::MAX, kept: 2 },
};

/// The engines of one store.
pub struct Engines {
    disk: SimDisk,
    /// Open while a process lives.
    log: Option<Arc<dyn LogStore>>,
}

impl Engines {
    /// Engines on an empty disk.
    pub fn new() -> Result<Engines, Violation> {
        Ok(Engines { disk: SimDisk::new().map_err(unexpected)?, log: None })
    }

    /// Opens the log, then the state, as the driver does.
    pub fn open(&mut self) -> Result<StateStore, EngineError> {
        if self.log.is_none() {
            self.log = Some(self.disk.open_log(LOG_OPTIONS)?);
        }
        self.disk.open_state(STATE_OPTIONS)
    }

    /// The open log; None before [`Engines::open`].
    pub fn log(&self) -> Option<Arc<dyn LogStore>> {
        self.log.clone()
    }

    /// Writes to the open log.
    pub fn write(&self, batch: LogBatch, sync: bool) -> Result<(), EngineError> {
        match &self.log {
            Some(log) => log.write(batch, sync),
            None => Ok(()),
        }
    }

    /// Frees the space of dropped entries, as the driver does every few seconds.
    pub fn purge(&self) -> Result<(), EngineError> {
        self.log.iter().try_for_each(|log| log.purge().map(drop))
    }

    /// The process is gone, and the disk loses what `loss` says; `roll` decides which blocks.
    /// Answers how many of the twin's unsynced batches the log has kept.
    pub fn crash(&mut self, loss: Loss, roll: u64, twin: &MemLog) -> Result<usize, Violation> {
        let loss = match loss {
            Loss::Nothing => sim_disk::Loss::Nothing,
            Loss::Some => sim_disk::Loss::Blocks(roll),
            Loss::All => sim_disk::Loss::All,
        };
        let next = self.disk.crash(loss).map_err(unexpected)?;
        self.disk.let_go();
        self.log = None;
        self.disk = next;
        let log = self.disk.open_log(LOG_OPTIONS).map_err(unexpected)?;
        let kept = kept(&*log, twin)?;
        self.log = Some(log);
        Ok(kept)
    }
}

/// The number of the twin's unsynced batches with which it equals the log.
fn kept(log: &dyn LogStore, twin: &MemLog) -> Result<usize, Violation> {
    for kept in 0..=twin.unsynced_batches() {
        let candidate = twin.copy_keeping(kept);
        if is_equal(log, &candidate).map_err(unexpected)? {
            return Ok(kept);
        }
    }
    let groups = log.groups();
    let what = format!("groups {groups:?}, {} batches unsynced", twin.unsynced_batches());
    broken("the log after a crash is what was written up to some batch", what).map(|()| 0)
}

fn is_equal(log: &dyn LogStore, other: &dyn LogStore) -> Result<bool, EngineError> {
    if log.groups() != other.groups() {
        return Ok(false);
    }
    for group in log.groups() {
        if log.state(group)? != other.state(group)? || log.bounds(group) != other.bounds(group) {
            return Ok(false);
        }
        let Some(bounds) = log.bounds(group) else { continue };
        let all =
            |log: &dyn LogStore| log.entries(group, bounds.first, bounds.last + 1, usize::MAX);
        if all(log)? != all(other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use flotilla_engine::{LogEntry, LogOp};

    fn append(engines: &Engines, twin: &MemLog, index: u64, sync: bool) {
        let (data, context) = (vec![7; 40].into(), Bytes::new());
        let entry = LogEntry { index, term: 1, kind: 0, data, context };
        let batch = LogBatch { ops: vec![LogOp::Append { group: 5, entries: vec![entry] }] };
        twin.write(batch.clone(), sync).expect("a log in memory takes it");
        engines.write(batch, sync).expect("the disk takes it");
    }

    #[test]
    fn what_a_crash_keeps_is_found_by_the_twin() {
        for (loss, expected) in [(Loss::All, 0..=0), (Loss::Nothing, 2..=2), (Loss::Some, 0..=2)] {
            let (mut engines, twin) = (Engines::new().expect("a disk"), MemLog::default());
            engines.open().expect("an empty disk opens");
            append(&engines, &twin, 1, true);
            append(&engines, &twin, 2, false);
            append(&engines, &twin, 3, false);
            let kept = engines.crash(loss, 7, &twin).expect("a prefix");
            assert!(expected.contains(&kept), "{loss:?}: {kept}");
        }
    }

    #[test]
    fn a_log_that_lost_what_was_synced_is_found() {
        let (mut engines, twin) = (Engines::new().expect("a disk"), MemLog::default());
        engines.open().expect("an empty disk opens");
        append(&engines, &twin, 1, true);
        engines.disk.ignore_syncs();
        append(&engines, &twin, 2, true);
        assert!(engines.crash(Loss::All, 7, &twin).is_err());
    }
}
