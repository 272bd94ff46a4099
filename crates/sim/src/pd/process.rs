//! The process of one member: what a crash takes away.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::base::ReadView;
use flotilla_engine::{EngineError, Order, StateBatch, StateStore};
use flotilla_host::core::message::StagedId;
use flotilla_pd::core::carry_out::Outputs;
use flotilla_pd::core::{Input, Pd, RequestId};

use flotilla_types::{KeyRange, proto};

use crate::clock::Clock;
use crate::event::{Asker, End, Rows};

/// What a checkpoint does besides making the state durable.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// It leaves a view.
    pub exports: bool,
    /// It installs a snapshot.
    pub install: Option<StagedId>,
}

/// The process of a member.
pub struct Process {
    /// Its core.
    pub pd: Pd,
    /// Its state.
    pub store: Arc<StateStore>,
    /// Its clock.
    pub clock: Clock,
    /// Who waits for the answers to its requests.
    pub callers: BTreeMap<RequestId, (End, Asker)>,
    /// Where the members listen, which its answers say.
    pub member_addrs: Vec<String>,
    /// Answers to what was asked past the network.
    pub answers: BTreeMap<RequestId, proto::PdReply>,
    /// The number of its next request.
    pub next_request: u64,
    /// What waits for its thread.
    pub inbox: VecDeque<Input>,
    /// True if a tick came since the last turn. Ticks that came while the thread stood still are
    /// one: a late tick is not made up for.
    pub is_tick_due: bool,
    /// What its loop has still to carry out.
    pub outputs: Outputs,
    /// What its checkpoint does besides.
    pub checkpoint: Option<Checkpoint>,
    /// The view that snapshots are sent from, and the checkpoint that left it.
    pub view: Option<(u64, Box<dyn ReadView>)>,
    /// Received snapshots.
    pub staged: BTreeMap<StagedId, Rows>,
    /// The number of the next of them.
    pub next_staged: u64,
    /// Why it cannot go on.
    pub failed: Option<String>,
    /// True once its member was removed, or its directory was lost, and it knows that.
    pub is_removed: bool,
}

impl Process {
    /// The rows of the view that checkpoint `number` left.
    pub fn rows(&self, number: u64) -> Option<Rows> {
        let (_, view) = self.view.as_ref().filter(|(kept, _)| *kept == number)?;
        let mut rows = vec![];
        let scanned = view.scan(&KeyRange::all(), Order::Ascending, &mut |key, value| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            true
        });
        scanned.ok().map(|()| Arc::new(rows))
    }

    /// Keeps a received snapshot's rows.
    pub fn stage(&mut self, rows: Rows) -> StagedId {
        self.next_staged += 1;
        let staged = StagedId(self.next_staged);
        self.staged.insert(staged, rows);
        staged
    }

    /// Carries a checkpoint out.
    pub fn finish_checkpoint(&mut self, applied: u64) -> Result<(), EngineError> {
        self.store.flush()?;
        let Some(Checkpoint { exports, install }) = self.checkpoint.take() else { return Ok(()) };
        if let Some(rows) = install.and_then(|staged| self.staged.remove(&staged)) {
            let mut left = rows.iter().cloned();
            let everything = [KeyRange::all()];
            let none = StateBatch::default();
            self.store.install(&everything, &mut || Ok(left.next()), none)?;
        }
        if exports {
            self.view = Some((applied, self.store.view()?));
        }
        Ok(())
    }
}
