//! A store's disk: the Raft log, the state's base, and an account of what is durable of the log.

use std::sync::Arc;

use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{EngineError, LogBatch, LogStore, MemLog, StateStore};
use flotilla_types::StoreId;

use crate::check::Verdict;
use crate::check::ballot::Ballots;
use crate::hub::Hub;
use crate::store::unexpected;

/// What a crash leaves of batches that were written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything: only the process died.
    Nothing,
    /// The power went; some of the first batches happened to be on disk.
    Some,
    /// The power went.
    All,
}

/// The disk.
#[derive(Default)]
pub struct Disk {
    /// The Raft log.
    pub log: MemLog,
    /// The durable state.
    pub base: MemBase,
    /// What is durable of the log, as the checker sees it.
    pub ballots: Ballots,
}

impl Disk {
    /// The state as a process that starts now finds it.
    pub fn open(&self) -> Result<StateStore, EngineError> {
        StateStore::new(Box::new(self.base.clone()))
    }

    /// Writes to the log; durable with the next [`Disk::sync`].
    pub fn write(&mut self, batch: LogBatch) -> Verdict {
        self.ballots.write(&batch);
        self.log.write(batch, false).map_err(unexpected)
    }

    /// All that was written to the log is durable now.
    pub fn sync(&mut self, store: StoreId) -> Verdict {
        self.log.write(LogBatch::default(), true).map_err(unexpected)?;
        self.ballots.sync(store)
    }

    /// The process dies.
    pub fn crash(&mut self, store: StoreId, loss: Loss, hub: &mut Hub) -> Verdict {
        let unsynced = self.log.unsynced_batches();
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Some => hub.dice.between(0, unsynced as u64 + 1) as usize,
            Loss::All => 0,
        };
        if kept < unsynced {
            hub.coverage.hit("crashes that lost unsynced writes");
        }
        if kept > 0 {
            hub.coverage.hit("crashes that kept some unsynced writes");
        }
        self.log.crash_keeping(kept);
        self.ballots.crash(store, kept)
    }

    /// The log for a worker.
    pub fn shared_log(&self) -> Arc<dyn LogStore> {
        Arc::new(self.log.clone())
    }
}
