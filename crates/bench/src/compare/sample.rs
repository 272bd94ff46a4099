//! One run of one system in one round, with the resources that all processes used for it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cluster::{SERVERS, System};
use crate::config::RunConfig;
use crate::fsyncs::FsyncCounter;
use crate::report::{RunReport, per_op};
use crate::run::Observer;
use crate::usage::Usage;
use crate::workload::Op;

/// Bytes of a key, as `keys::key` makes them.
const KEY_BYTES: u64 = 16;

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The system.
    pub system: System,
    /// The round, counted from 0.
    pub round: usize,
    /// Counts and latencies.
    pub report: RunReport,
    /// CPU time of all processes, the generator's included, for each operation.
    pub cpu_us_per_op: Option<f64>,
    /// CPU time of the servers alone.
    pub server_cpu_us_per_op: Option<f64>,
    /// fsync and fdatasync calls of all servers for each operation.
    pub fsyncs_per_op: Option<f64>,
    /// Bytes written to disk for each byte of key and value that a user put, and each replica; None
    /// for operations that are not all puts.
    pub disk_bytes_per_user_byte: Option<f64>,
    /// Resident memory of all servers at the window's end.
    pub rss_bytes: Option<u64>,
}

/// Measures the servers during a run's window.
pub struct Meter {
    pids: Vec<u32>,
    dir: PathBuf,
    before: Option<Usage>,
    used: Option<Usage>,
    fsyncs: Option<FsyncCounter>,
}

impl Meter {
    /// A meter of these servers; it keeps files of its own in `dir`.
    pub fn new(pids: Vec<u32>, dir: &Path) -> Meter {
        Meter { pids, dir: dir.into(), before: None, used: None, fsyncs: None }
    }

    /// The meter's figures, together with the generator's report.
    pub async fn sample(
        self,
        system: System,
        round: usize,
        run: &RunConfig,
        report: RunReport,
    ) -> Sample {
        let fsyncs = match self.fsyncs {
            Some(counter) => counter.count().await,
            None => None,
        };
        let ops = report.ops;
        let server = self.used.and_then(|used| per_op(used.cpu.as_secs_f64() * 1e6, ops));
        let written = self.used.and_then(|used| used.write_bytes).filter(|_| run.op == Op::Put);
        let user_bytes = (KEY_BYTES + run.value_bytes as u64) * SERVERS as u64;
        Sample {
            system,
            round,
            cpu_us_per_op: server.zip(report.client_cpu_us_per_op).map(|(a, b)| a + b),
            server_cpu_us_per_op: server,
            fsyncs_per_op: fsyncs.and_then(|count| per_op(count as f64, ops)),
            disk_bytes_per_user_byte: written
                .and_then(|bytes| per_op(bytes as f64 / user_bytes as f64, ops)),
            rss_bytes: self.used.map(|used| used.rss_bytes),
            report,
        }
    }
}

impl Observer for Meter {
    fn window_opened(&mut self) {
        self.fsyncs = FsyncCounter::start(&self.pids, &self.dir);
        self.before = Usage::of_all(&self.pids);
    }

    fn window_closed(&mut self) {
        let now = Usage::of_all(&self.pids);
        self.used = now.zip(self.before).map(|(now, before)| now - before);
        if let Some(counter) = &mut self.fsyncs {
            counter.stop();
        }
    }
}
