//! Runtimes of their own for traffic that others must not hold up, or that must not hold up others.
//!
//! * What members of Raft groups tell each other: messages, beats and snapshots. However much
//!   callers ask of a process, its heartbeats leave and arrive.
//! * Scans. They yield to everything else where the system lets a thread say so: a scan takes the
//!   processors that nobody needs, and at least a share of a tenth.
//!
//! A runtime has one thread that encodes, decodes and moves bytes, and never waits. What reads or
//! writes files leaves it for threads that the runtime starts when they are needed.
//!
//! Not here: what is sent ([`super::transport`], [`super::snapshot`]) or received
//! ([`super::raft_service`]).

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// How many steps a thread that yields stands behind others (`nice`): a tenth of their share when
/// all of them want the processor.
#[cfg(target_os = "linux")]
const YIELDING_STEPS: i32 = 10;

/// Whether threads of a runtime take the processor from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// As all threads of the process.
    Usual,
    /// Behind them.
    Yielding,
}

/// The runtime; it ends, with all that runs on it, when this is dropped.
pub struct OwnRuntime {
    /// Some until the end.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl OwnRuntime {
    /// Starts it; `name` is its threads'.
    pub fn start(name: &str, priority: Priority) -> io::Result<OwnRuntime> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all();
        match priority {
            Priority::Usual => {}
            Priority::Yielding => drop(builder.on_thread_start(stand_behind)),
        }
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        Ok(OwnRuntime { runtime: Some(runtime), handle })
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // To wait for its threads is not allowed on a thread that others share.
            runtime.shutdown_background();
        }
    }
}

/// Linux knows such a rank of each thread; elsewhere it is the process's.
fn stand_behind() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(YIELDING_STEPS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_yield_stand_behind_those_that_started_them() {
        let rank = |priority| {
            let runtime = OwnRuntime::start("a test", priority).expect("threads");
            let (sent, read) = std::sync::mpsc::channel();
            let rank = || rustix::process::nice(0).expect("a rank");
            let of_blocking = sent.clone();
            runtime.handle().spawn(async move { sent.send(rank()) });
            runtime.handle().spawn_blocking(move || of_blocking.send(rank()));
            let ranks = [read.recv(), read.recv()];
            ranks.map(|rank| rank.expect("a thread tells"))
        };
        let own = rustix::process::nice(0).expect("a rank");
        assert_eq!(rank(Priority::Usual), [own; 2]);
        assert_eq!(rank(Priority::Yielding), [(own + YIELDING_STEPS).min(19); 2]);
        assert_eq!(rustix::process::nice(0), Ok(own), "the others keep theirs");
    }
}
