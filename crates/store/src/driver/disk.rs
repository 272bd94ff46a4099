//! The work of a store's disk thread: checkpoints, installs of snapshots, views for snapshots.
//!
//! Installs follow the flush that they depend on, and views follow both.

use std::sync::Arc;
use std::time::Instant;

use flotilla_engine::{EngineError, StateStore};
use flotilla_host::driver::disk::DiskWork;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::staging::Staging;
use flotilla_types::RegionId;

use super::inbox::{Inbox, Mail};
use super::views::Views;
use crate::core::{Input, Install, StagedId};

/// A piece of work.
pub enum StoreJob {
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
}

/// What the work is done with.
pub struct StoreDisk {
    /// The applied state.
    pub state: Arc<StateStore>,
    /// Received snapshots.
    pub staging: Arc<Staging>,
    /// Views that snapshots are sent from.
    pub views: Views,
    /// Where reports go.
    pub inbox: Inbox,
    /// Counts checkpoints.
    pub metrics: HostMetrics,
}

impl DiskWork for StoreDisk {
    type Job = StoreJob;

    fn work(&self, job: StoreJob) -> Result<(), EngineError> {
        match job {
            StoreJob::Checkpoint { number, exports, installs } => {
                let begun = Instant::now();
                let bytes = self.state.frozen_bytes();
                self.state.flush()?;
                for install in installs {
                    self.install(install)?;
                }
                if !exports.is_empty() {
                    let view = Arc::from(self.state.view()?);
                    self.views.insert(number, &exports, &view);
                }
                self.metrics.note_checkpoint(begun.elapsed(), bytes);
                self.inbox.report(Mail::from(Input::Checkpointed { number }));
                Ok(())
            }
            StoreJob::Discard(staged) => self.staging.discard(staged),
        }
    }

    fn failed(&self, reason: String) {
        self.inbox.report(Mail::Failed(reason));
    }
}

impl StoreDisk {
    fn install(&self, install: Install) -> Result<(), EngineError> {
        let mut rows = self.staging.rows(install.staged)?;
        self.state.install(&install.clear, &mut || rows.next_row(), install.records)?;
        self.staging.discard(install.staged)
    }
}
