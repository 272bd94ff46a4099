//! The work of a member's disk thread: checkpoints, installs of snapshots, the view for snapshots.

use std::sync::Arc;
use std::time::Instant;

use flotilla_engine::{EngineError, StateBatch, StateStore};
use flotilla_host::core::message::StagedId;
use flotilla_host::driver::disk::DiskWork;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::staging::Staging;
use flotilla_types::KeyRange;

use crate::core::Input;
use crate::driver::inbox::{Inbox, Mail};
use crate::driver::members::View;

/// What the work is done with.
pub(crate) struct PdDisk {
    pub state: Arc<StateStore>,
    pub staging: Arc<Staging>,
    pub view: View,
    pub inbox: Inbox,
    /// Counts checkpoints.
    pub metrics: HostMetrics,
}

/// A piece of work.
pub(crate) enum PdJob {
    /// See [`crate::core::Output::Checkpoint`].
    Checkpoint { applied: u64, exports: bool, install: Option<StagedId> },
    /// Delete a received snapshot.
    Discard(StagedId),
}

impl DiskWork for PdDisk {
    type Job = PdJob;

    fn work(&self, job: PdJob) -> Result<(), EngineError> {
        match job {
            PdJob::Checkpoint { applied, exports, install } => {
                let begun = Instant::now();
                let bytes = self.state.frozen_bytes();
                self.state.flush()?;
                if let Some(staged) = install {
                    self.install(staged)?;
                }
                if exports {
                    self.view.set(Some((applied, Arc::from(self.state.view()?))));
                }
                self.metrics.note_checkpoint(begun.elapsed(), bytes);
                self.inbox.report(Mail::Input(Input::Checkpointed { applied }));
                Ok(())
            }
            PdJob::Discard(staged) => self.staging.discard(staged),
        }
    }

    fn failed(&self, reason: String) {
        self.inbox.report(Mail::Failed(reason));
    }
}

impl PdDisk {
    /// Puts the rows of a snapshot in place of all that the state has.
    fn install(&self, staged: StagedId) -> Result<(), EngineError> {
        let mut rows = self.staging.rows(staged)?;
        let everything = [KeyRange::all()];
        self.state.install(&everything, &mut || rows.next_row(), StateBatch::default())?;
        self.staging.discard(staged)
    }
}
