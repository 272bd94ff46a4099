//! A store's disk thread, as `driver/disk.rs` runs it: one checkpoint at a time, each in steps that
//! take time: the flush, each install, the view. A crash between two steps keeps what is done. A
//! step that the disk refuses ends the thread, and then the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_engine::base::ReadView;
use flotilla_engine::{EngineError, Order, StateStore};
use flotilla_store::core::records::data_range;
use flotilla_store::core::{Input, Install, StagedId};
use flotilla_types::{KeyRange, RegionId, StoreId};

use crate::check::Violation;
use crate::event::{Event, Rows};
use crate::hub::Hub;
use crate::store::unexpected;

/// A step of a checkpoint.
enum Step {
    Flush,
    Install(Install),
    End { number: u64, exports: Vec<RegionId> },
}

/// What the thread tells the worker's.
pub enum Report {
    /// To be stepped.
    Input(Box<Input>),
    /// The disk failed.
    Failed(String),
}

/// The thread.
pub struct DiskThread {
    store: StoreId,
    life: u32,
    state: Arc<StateStore>,
    steps: VecDeque<Step>,
    staged: BTreeMap<StagedId, Rows>,
    next_staged: u64,
    views: BTreeMap<RegionId, (u64, Arc<dyn ReadView>)>,
}

impl DiskThread {
    /// A thread with nothing to do.
    pub fn new(store: StoreId, life: u32, state: Arc<StateStore>) -> DiskThread {
        DiskThread {
            store,
            life,
            state,
            steps: VecDeque::new(),
            staged: BTreeMap::new(),
            next_staged: 1,
            views: BTreeMap::new(),
        }
    }

    /// Counts what a crash interrupts.
    pub fn note_crash(&self, hub: &mut Hub) {
        if !self.steps.is_empty() {
            hub.coverage.hit("checkpoints lost in a crash");
        }
        if self.steps.iter().any(|step| matches!(step, Step::Install(_))) {
            hub.coverage.hit("installs lost in a crash");
        }
    }

    /// True if it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    /// Makes all of the state durable. A failure loses nothing: the log redoes it.
    pub fn finish(&mut self, hub: &mut Hub) {
        self.state.freeze();
        if self.state.flush().is_ok() {
            hub.checks.tombstones.flushed(self.store);
        }
    }

    /// Begins a checkpoint.
    pub fn checkpoint(
        &mut self,
        hub: &mut Hub,
        number: u64,
        exports: Vec<RegionId>,
        installs: Vec<Install>,
    ) {
        let is_idle = self.steps.is_empty();
        self.steps.push_back(Step::Flush);
        self.steps.extend(installs.into_iter().map(Step::Install));
        self.steps.push_back(Step::End { number, exports });
        if is_idle {
            self.plan(hub);
        }
    }

    fn plan(&self, hub: &mut Hub) {
        let (store, life) = (self.store, self.life);
        let delay = hub.disk_time();
        hub.agenda.after(delay, Event::Disk { store, life });
    }

    /// A step is done; what the worker is told of it, if anything.
    pub fn advance(&mut self, hub: &mut Hub) -> Result<Option<Report>, Violation> {
        let Some(step) = self.steps.pop_front() else { return Ok(None) };
        let report = match step {
            Step::Flush => {
                if let Err(error) = self.state.flush() {
                    return Ok(Some(self.fail(error)));
                }
                hub.checks.tombstones.flushed(self.store);
                None
            }
            Step::Install(install) => {
                if let Err(error) = self.install(install)? {
                    return Ok(Some(self.fail(error)));
                }
                hub.snapshots_flying = hub.snapshots_flying.saturating_sub(1);
                None
            }
            Step::End { number, exports } => {
                hub.strike_at_checkpoint(self.store);
                if !exports.is_empty() {
                    let view: Arc<dyn ReadView> = self.state.view().map_err(unexpected)?.into();
                    let views = exports.into_iter().map(|id| (id, (number, view.clone())));
                    self.views.extend(views);
                }
                Some(Report::Input(Box::new(Input::Checkpointed { number })))
            }
        };
        if !self.steps.is_empty() {
            self.plan(hub);
        }
        Ok(report)
    }

    fn fail(&mut self, error: EngineError) -> Report {
        self.steps.clear();
        Report::Failed(error.to_string())
    }

    fn install(&mut self, install: Install) -> Result<Result<(), EngineError>, Violation> {
        let rows = self.staged.remove(&install.staged).ok_or("the staged rows are gone");
        let rows = rows.map_err(unexpected)?;
        let mut left = rows.iter().cloned();
        Ok(self.state.install(&install.clear, &mut || Ok(left.next()), install.records))
    }

    /// Keeps a received snapshot's rows.
    pub fn stage(&mut self, rows: Rows) -> StagedId {
        let staged = StagedId(self.next_staged);
        self.next_staged += 1;
        self.staged.insert(staged, rows);
        staged
    }

    /// Forgets a received snapshot.
    pub fn discard(&mut self, staged: StagedId) {
        self.staged.remove(&staged);
    }

    /// Forgets a region's view.
    pub fn drop_view(&mut self, region: RegionId) {
        self.views.remove(&region);
    }

    /// The rows of a region as of a checkpoint; None if the view is gone.
    pub fn read(&self, region: RegionId, number: u64, range: &KeyRange) -> Option<Rows> {
        let (_, view) = self.views.get(&region).filter(|(held, _)| *held == number)?;
        let mut rows = vec![];
        let scanned = view.scan(&data_range(range), Order::Ascending, &mut |key, value| {
            let copy = bytes::Bytes::copy_from_slice;
            rows.push((copy(key), copy(value)));
            true
        });
        scanned.ok().map(|()| Arc::new(rows))
    }
}
