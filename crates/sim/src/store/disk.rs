//! A store's disk: the Raft log and the state's base.
//!
//! A disk may fail: a write is refused, or the sync after it. What a process does then is what the
//! driver does; the log refuses everything after the first failure, as the real one does, until
//! another process opens it.

use std::sync::Arc;

use flotilla_engine::{EngineError, LogBatch, LogStore, MemLog, StateStore};

use crate::check::group::Node;
use crate::check::{Verdict, Violation};
use crate::hub::Hub;
use crate::store::unexpected;

use super::base::SimBase;
use super::engines::Engines;
pub use super::loss::Loss;

/// How the log fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// A write is refused; nothing of it counts.
    Write,
    /// A sync fails: what was written before it may be on the disk or not.
    Sync,
}

/// What became of a write or a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Well,
    /// The disk refused: the process must stop.
    Failed(&'static str),
}

/// The disk.
#[derive(Default)]
pub struct Disk {
    /// The Raft log in memory. In seeds with engines it is the copy with which their log is
    /// compared after a crash.
    pub log: MemLog,
    /// The log and the state that ship, in seeds that have them.
    engines: Option<Engines>,
    /// The durable state.
    pub base: SimBase,
    /// How the log is to fail next.
    planned: Option<LogFault>,
    /// How the log failed in this life of the process.
    failed: Option<LogFault>,
    is_full: bool,
}

impl Disk {
    /// An empty disk, in memory or under the engines that ship.
    pub fn new(has_engines: bool) -> Result<Disk, Violation> {
        let engines = if has_engines { Some(Engines::new()?) } else { None };
        Ok(Disk { engines, ..Disk::default() })
    }

    /// What is durable of a disk in memory, on a disk of its own.
    pub fn copy(&self) -> Disk {
        Disk { log: self.log.copy_keeping(0), base: self.base.copy(), ..Disk::default() }
    }

    /// The disk of a process that is down is as `copy` was, and has as much room as before.
    pub fn put_back(&mut self, copy: Disk) {
        let is_full = self.is_full;
        *self = copy;
        self.set_full(is_full);
    }

    /// The state as a process that starts now finds it.
    pub fn open(&mut self) -> Result<StateStore, EngineError> {
        match &mut self.engines {
            Some(engines) => engines.open(),
            None => StateStore::new(Box::new(self.base.clone())),
        }
    }

    /// Frees the space of dropped entries.
    pub fn purge(&self) -> Result<(), EngineError> {
        self.engines.iter().try_for_each(Engines::purge)
    }

    /// Writes to the log; durable with the next [`Disk::sync`].
    pub fn write(&mut self, batch: LogBatch) -> Result<Done, Violation> {
        if self.failed.is_some() {
            return Ok(Done::Failed("refused after an earlier failure"));
        }
        let is_refused = self.planned == Some(LogFault::Write);
        if self.is_full || is_refused {
            self.planned = None;
            self.failed = Some(LogFault::Write);
            return Ok(Done::Failed(if self.is_full { "the disk is full" } else { "IO error" }));
        }
        if let Some(engines) = &self.engines {
            engines.write(batch.clone(), false).map_err(unexpected)?;
        }
        self.log.write(batch, false).map_err(unexpected)?;
        Ok(Done::Well)
    }

    /// All that was written to the log is durable now.
    pub fn sync(&mut self) -> Result<Done, Violation> {
        if self.planned == Some(LogFault::Sync) {
            self.planned = None;
            self.failed = Some(LogFault::Sync);
            return Ok(Done::Failed("sync failed"));
        }
        if let Some(engines) = &self.engines {
            engines.write(LogBatch::default(), true).map_err(unexpected)?;
        }
        self.log.write(LogBatch::default(), true).map_err(unexpected)?;
        Ok(Done::Well)
    }

    /// Plans a failure of the log.
    pub fn fail_next(&mut self, fault: LogFault) {
        self.planned = Some(fault);
    }

    /// While it is full, writes to the log and the state are refused.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.base.set_full(is_full);
    }

    /// True if it is full.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// From now on it does not fail any more.
    pub fn mend(&mut self) {
        self.planned = None;
        self.set_full(false);
        self.base.mend();
    }

    /// What the log's failure leaves of what was not synced.
    pub fn loss(&self) -> Loss {
        match self.failed {
            Some(LogFault::Sync) => Loss::Some,
            Some(LogFault::Write) | None => Loss::Nothing,
        }
    }

    /// The process dies whose log this is.
    pub fn crash(&mut self, node: Node, loss: Loss, hub: &mut Hub) -> Verdict {
        self.failed = None;
        let unsynced = self.log.unsynced_batches();
        let roll = hub.dice.disks.between(0, unsynced as u64 + 1);
        let kept = match (&mut self.engines, loss) {
            (Some(engines), _) => engines.crash(loss, roll, &self.log)?,
            (None, Loss::Nothing) => unsynced,
            (None, Loss::Some) => roll as usize,
            (None, Loss::All) => 0,
        };
        if kept < unsynced {
            hub.coverage.hit("crashes that lost unsynced writes");
        }
        if kept > 0 {
            hub.coverage.hit("crashes that kept some unsynced writes");
        }
        if kept > 0 && kept < unsynced {
            hub.coverage.hit("crashes that tore the log");
        }
        self.log.crash_keeping(kept);
        hub.checks.ballots.crash(node, kept)
    }

    /// The log for a worker.
    pub fn shared_log(&self) -> Arc<dyn LogStore> {
        let shipped = self.engines.as_ref().and_then(Engines::log);
        shipped.unwrap_or_else(|| Arc::new(self.log.clone()))
    }
}
