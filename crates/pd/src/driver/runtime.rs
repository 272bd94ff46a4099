//! The thread that owns the core, the log and the state store.
//!
//! One turn: drain the inbox into the core, then flush and carry out until nothing comes out. All
//! that was proposed in a turn is written and synced as one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use flotilla_engine::{EngineError, LogBatch, LogStore};
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::dir::DataDir;
use flotilla_types::Millis;
use flotilla_types::placement::{PdError, PdReply, PdRequest};
use tokio::sync::{oneshot, watch};

use crate::core::{CoreConfig, Event, Input, Output, Pd, RequestId};
use crate::driver::StartError;

/// The most requests that wait for the thread; beyond it callers are told to try again. A turn
/// takes milliseconds, so the last of them still waits less than a second.
pub(crate) const INBOX_MAX: usize = 4096;

/// The most requests in one turn, so that ticks and writes are never held up for long.
const TURN_REQUESTS_MAX: usize = 1024;

/// What the thread is told to do.
pub(crate) enum Job {
    /// Answer a request.
    Call { request: Box<PdRequest>, reply: oneshot::Sender<Result<PdReply, PdError>> },
    /// End.
    Stop,
}

/// Different each time; for dice and cluster ids, not for secrets.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Why the thread ends.
enum End {
    Stopped,
    Failed(String),
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> End {
        End::Failed(error.to_string())
    }
}

pub(crate) struct Runtime {
    pd: Pd,
    dir: DataDir,
    inbox: Receiver<Job>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<PdReply, PdError>>>,
    next_request: u64,
    clock: Clock,
    next_tick: Instant,
    tick: Duration,
}

impl Runtime {
    pub(crate) fn open(
        config: CoreConfig,
        dir: DataDir,
        inbox: Receiver<Job>,
    ) -> Result<Runtime, StartError> {
        let tick = Duration::from_millis(config.timing.raft.tick_ms);
        let clock = Clock::begin();
        let log: Arc<dyn LogStore> = dir.log.clone();
        let pd = Pd::open(config, log, dir.state.clone(), clock.now())?;
        Ok(Runtime {
            pd,
            dir,
            inbox,
            replies: BTreeMap::new(),
            next_request: 0,
            clock,
            next_tick: Instant::now(),
            tick,
        })
    }

    /// Works until it is stopped or fails; a failure is logged and told.
    pub(crate) fn run(mut self, failed: &watch::Sender<Option<String>>) {
        let end = loop {
            if let Err(end) = self.turn() {
                break end;
            }
        };
        match end {
            End::Stopped => {
                if let Err(End::Failed(reason)) = self.finish() {
                    tracing::error!(%reason, "the last checkpoint failed; the log has it all");
                }
            }
            End::Failed(reason) => {
                tracing::error!(%reason, "the placement driver stops");
                failed.send_replace(Some(reason));
            }
        }
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn turn(&mut self) -> Result<(), End> {
        let mut outputs = vec![];
        let is_stopped = self.drain(&mut outputs);
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + self.tick;
            self.pd.step(self.now(), Input::Tick, &mut outputs);
        }
        self.settle(outputs)?;
        if is_stopped { Err(End::Stopped) } else { Ok(()) }
    }

    /// Waits for the first request or the next tick, then takes what there is.
    fn drain(&mut self, outputs: &mut Vec<Output>) -> bool {
        let wait = self.next_tick.saturating_duration_since(Instant::now());
        let first = match self.inbox.recv_timeout(wait) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        if self.take(first, outputs) {
            return true;
        }
        for _ in 1..TURN_REQUESTS_MAX {
            let Ok(job) = self.inbox.try_recv() else { return false };
            if self.take(job, outputs) {
                return true;
            }
        }
        false
    }

    /// Gives a job to the core; true if it is to stop.
    fn take(&mut self, job: Job, outputs: &mut Vec<Output>) -> bool {
        let Job::Call { request, reply } = job else { return true };
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.replies.insert(id, reply);
        self.pd.step(self.now(), Input::Request { id, request: *request }, outputs);
        false
    }

    /// Flushes and carries out until nothing comes out.
    fn settle(&mut self, mut outputs: Vec<Output>) -> Result<(), End> {
        self.pd.step(self.now(), Input::Flush, &mut outputs);
        while !outputs.is_empty() {
            let mut more = vec![];
            for output in outputs {
                self.carry_out(output, &mut more)?;
            }
            self.pd.step(self.now(), Input::Flush, &mut more);
            outputs = more;
        }
        Ok(())
    }

    fn carry_out(&mut self, output: Output, more: &mut Vec<Output>) -> Result<(), End> {
        match output {
            Output::Append { turn, ops, sync } => {
                if !ops.is_empty() {
                    self.dir.log.write(LogBatch { ops }, sync)?;
                }
                if let Some(turn) = turn {
                    self.pd.step(self.now(), Input::Persisted { turn }, more);
                }
            }
            Output::Checkpoint { applied } => {
                self.dir.state.flush()?;
                self.pd.step(self.now(), Input::Checkpointed { applied }, more);
                self.dir.log.purge()?;
            }
            Output::Reply { id, reply } => {
                if let Some(caller) = self.replies.remove(&id) {
                    // The caller may have given up.
                    let _ = caller.send(reply);
                }
            }
            Output::Event(event) => trace(&event),
            Output::Failed { reason } => return Err(End::Failed(reason)),
        }
        Ok(())
    }

    /// The last checkpoint.
    fn finish(&mut self) -> Result<(), End> {
        let mut outputs = vec![];
        self.pd.step(self.now(), Input::Stop, &mut outputs);
        self.settle(outputs)
    }
}

fn trace(event: &Event) {
    match event {
        Event::LeadershipBegan { term } => tracing::info!(term, "leading"),
        Event::LeadershipEnded { term } => tracing::warn!(term, "no longer leading"),
        Event::StoreRegistered { store } => tracing::info!(%store, "store registered"),
        // Late reports are normal after every failover and split.
        Event::ReportIgnored { store, region, reason } => {
            tracing::debug!(%store, %region, reason, "report ignored");
        }
        Event::OperatorStarted { id, region, name } => {
            tracing::info!(operator = id, %region, name, "operator started");
        }
        Event::OperatorEnded { id, region, outcome } => {
            tracing::info!(operator = id, %region, outcome, "operator ended");
        }
    }
}
