//! The work of a member's disk thread: checkpoints.

use std::sync::Arc;

use flotilla_engine::{EngineError, StateStore};
use flotilla_host::driver::disk::DiskWork;

use crate::core::Input;
use crate::driver::inbox::{Inbox, Mail};

/// What the work is done with.
pub(crate) struct PdDisk {
    pub state: Arc<StateStore>,
    pub inbox: Inbox,
}

/// A checkpoint: the state, which was frozen, is to be made durable. See
/// [`crate::core::Output::Checkpoint`].
pub(crate) struct Checkpoint {
    pub applied: u64,
}

impl DiskWork for PdDisk {
    type Job = Checkpoint;

    fn work(&self, Checkpoint { applied }: Checkpoint) -> Result<(), EngineError> {
        self.state.flush()?;
        self.inbox.report(Mail::Input(Input::Checkpointed { applied }));
        Ok(())
    }

    fn failed(&self, reason: String) {
        self.inbox.report(Mail::Failed(reason));
    }
}
