//! The signals that ask a server to stop.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Tried};

/// How long a stop may take: under the ten seconds after which container runtimes kill.
const STOP_MAX: Duration = Duration::from_secs(9);

/// The signals that ask a server to stop.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Installs the handlers; from now on neither signal kills the process.
    pub fn new() -> Result<StopSignals, Failure> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt()).tried("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).tried("listen for SIGTERM")?,
        })
    }

    /// Returns when either signal has arrived.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the end of `stopping`, until a further signal arrives or [`STOP_MAX`] is over.
    /// Whatever is then left of it ends with the process.
    pub async fn at_most(&mut self, stopping: impl Future<Output = ()>) -> Result<(), Failure> {
        let reason = tokio::select! {
            () = stopping => return Ok(()),
            () = self.received() => "a second signal came",
            () = tokio::time::sleep(STOP_MAX) => "it takes too long",
        };
        Err(Failure::Server(format!(
            "the stop was cut short, for {reason}; nothing acknowledged is lost"
        )))
    }
}
