//! The disk thread: checkpoints, installs of snapshots, views for snapshots, log purges.
//!
//! One thread, so that the state's base has one writer, and installs follow the flush that they
//! depend on. It gives way to the other threads: what it does is bulk, and nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use flotilla_engine::{EngineError, LogStore, StateStore};
use flotilla_types::RegionId;
use tracing::debug;

use super::inbox::{Inbox, Mail};
use super::snapshot::{Staging, Views};
use crate::core::{Input, Install, StagedId};

/// How often the log's space is looked at.
const PURGE_INTERVAL: Duration = Duration::from_secs(5);

/// How far the thread gives way, as a nice value: a third of the time of a thread that wants the
/// same processor. More would let the write buffer fill up on a busy machine.
const NICENESS: i32 = 5;

/// What the thread is asked to do.
pub enum DiskJob {
    /// See [`crate::core::Output::Checkpoint`].
    Checkpoint {
        /// The checkpoint.
        number: u64,
        /// Views to keep.
        exports: Vec<RegionId>,
        /// Snapshots to install.
        installs: Vec<Install>,
    },
    /// Delete a received snapshot.
    Discard(StagedId),
    /// Make everything durable and end.
    Finish,
}

/// What the thread works with.
pub struct DiskThread {
    /// The applied state.
    pub state: Arc<StateStore>,
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    /// Received snapshots.
    pub staging: Arc<Staging>,
    /// Views that snapshots are sent from.
    pub views: Views,
    /// Where reports go.
    pub inbox: Inbox,
}

impl DiskThread {
    /// Runs until it is told to finish, the worker is gone, or the disk fails.
    pub fn run(self, jobs: Receiver<DiskJob>) {
        // On Linux, no process means the calling thread. A refusal costs only latency.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            debug!(%error, "the disk thread keeps its priority");
        }
        let mut purged = Instant::now();
        loop {
            let done = match jobs.recv_timeout(PURGE_INTERVAL.saturating_sub(purged.elapsed())) {
                Ok(DiskJob::Finish) => {
                    // A failure here loses nothing: the log redoes what was not made durable.
                    let _ = self.finish();
                    return;
                }
                Ok(job) => self.carry_out(job),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let done = done.and_then(|()| {
                if purged.elapsed() >= PURGE_INTERVAL {
                    purged = Instant::now();
                    self.log.purge()?;
                }
                Ok(())
            });
            if let Err(error) = done {
                self.inbox.report(Mail::Failed(error.to_string()));
                return;
            }
        }
    }

    fn finish(&self) -> Result<(), EngineError> {
        self.state.flush()?;
        self.state.freeze();
        self.state.flush()
    }

    fn carry_out(&self, job: DiskJob) -> Result<(), EngineError> {
        match job {
            DiskJob::Checkpoint { number, exports, installs } => {
                self.state.flush()?;
                for install in installs {
                    self.install(install)?;
                }
                if !exports.is_empty() {
                    let view = Arc::from(self.state.view()?);
                    self.views.insert(number, &exports, &view);
                }
                self.inbox.report(Mail::from(Input::Checkpointed { number }));
                Ok(())
            }
            DiskJob::Discard(staged) => self.staging.discard(staged),
            DiskJob::Finish => Ok(()),
        }
    }

    fn install(&self, install: Install) -> Result<(), EngineError> {
        let mut rows = self.staging.rows(install.staged)?;
        self.state.install(&install.clear, &mut || rows.next(), install.records)?;
        self.staging.discard(install.staged)
    }
}
