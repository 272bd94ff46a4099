//! The disk thread of a process: checkpoints and other bulk work, and the log's purges.
//!
//! One thread, so that the state's base has one writer, and each job follows the one that it
//! depends on. The thread gives way to others: its work is bulk, and nobody waits for it.
//!
//! Not here: what a job does; a store and a placement driver each have their own [`DiskWork`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use flotilla_engine::{EngineError, LogStore, StateStore};
use tracing::{debug, error};

/// How often the log's space is looked at.
const PURGE_INTERVAL: Duration = Duration::from_secs(5);

/// How far the thread gives way, as a nice value: a third of the time of a thread that wants the
/// same processor. More would let the write buffer fill up on a busy machine.
const NICENESS: i32 = 5;

/// What a disk thread is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskJob<J> {
    /// Work of the process's own kind.
    Work(J),
    /// Make everything durable and end.
    Finish,
}

/// What a process wants done on its disk thread.
pub trait DiskWork {
    /// One piece of work.
    type Job;

    /// Does it, and reports that it is done.
    fn work(&self, job: Self::Job) -> Result<(), EngineError>;

    /// The thread ends before it was told to, because the disk failed or a job panicked.
    fn failed(&self, reason: String);
}

/// Reports a panic: nobody else would miss the thread before the next job.
struct PanicReport<'a, W: DiskWork>(&'a W);

impl<W: DiskWork> Drop for PanicReport<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed("the disk thread panicked".to_string());
        }
    }
}

/// The thread.
pub struct DiskThread<W> {
    /// The applied state.
    pub state: Arc<StateStore>,
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    /// The process's own kind of work.
    pub work: W,
}

impl<W: DiskWork> DiskThread<W> {
    /// Runs until it is told to finish, nobody can reach it any more, or the disk fails.
    pub fn run(self, jobs: &Receiver<DiskJob<W::Job>>) {
        // On Linux, no process means the calling thread. A refusal costs only latency.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            debug!(%error, "the disk thread keeps its priority");
        }
        let _report = PanicReport(&self.work);
        let mut purged = Instant::now();
        loop {
            let done = match jobs.recv_timeout(PURGE_INTERVAL.saturating_sub(purged.elapsed())) {
                Ok(DiskJob::Finish) => return self.finish(),
                Ok(DiskJob::Work(job)) => self.work.work(job),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = done.and_then(|()| self.purge_if_due(&mut purged)) {
                error!(%error, "the disk failed");
                return self.work.failed(error.to_string());
            }
        }
    }

    fn purge_if_due(&self, purged: &mut Instant) -> Result<(), EngineError> {
        if purged.elapsed() >= PURGE_INTERVAL {
            *purged = Instant::now();
            self.log.purge()?;
        }
        Ok(())
    }

    /// Makes everything durable. A failure loses nothing: the log redoes what was not made durable.
    fn finish(&self) {
        let finished = self.state.flush().and_then(|()| {
            self.state.freeze();
            self.state.flush()
        });
        if let Err(error) = finished {
            error!(%error, "the last checkpoint failed; the log has everything");
        }
    }
}
