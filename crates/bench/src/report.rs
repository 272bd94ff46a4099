//! The report of a run, for people and scripts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::recorder::Recorder;

/// Latencies of many operations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Mean latency.
    pub mean_us: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 99 of 100 operations took at most this.
    pub p99_us: f64,
    /// 999 of 1,000 operations took at most this.
    pub p999_us: f64,
    /// The longest latency.
    pub max_us: f64,
}

/// The measured window of one run. Latencies are microseconds; see `run` for what they count from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The operations' name.
    pub op: String,
    /// Clients.
    pub clients: usize,
    /// Operations a second asked for in an open loop.
    pub rate: Option<f64>,
    /// Length of the window.
    pub seconds: f64,
    /// Operations that ended well within it.
    pub ops: u64,
    /// `ops` per second.
    pub ops_per_s: f64,
    /// Operations that ended badly.
    pub errors: u64,
    /// Of `errors`, the operations that may have taken effect.
    pub undetermined: u64,
    /// Reads of absent keys.
    pub absent: u64,
    /// Operations of an open loop that were due and never begun: the rate exceeds what the system
    /// carries.
    pub unstarted: u64,
    /// Latencies of the operations that ended well, each in a field of its own.
    #[serde(flatten)]
    pub latency: Latencies,
    /// The longest time in which no operation ended well.
    pub longest_gap_us: f64,
    /// CPU time of this process for each operation.
    pub client_cpu_us_per_op: Option<f64>,
    /// Some of the errors' texts.
    pub error_texts: Vec<String>,
}

impl RunReport {
    /// The report of a run that has ended.
    pub(crate) fn new(config: &RunConfig, recorder: &Recorder, client_cpu: Duration) -> RunReport {
        let total = recorder.total();
        let seconds = config.window.as_secs_f64();
        let latency = |ns: f64| rounded(ns / 1_000.0);
        let quantile = |q| latency(total.latencies_ns.value_at_quantile(q) as f64);
        RunReport {
            op: config.op.name().into(),
            clients: config.clients,
            rate: config.rate,
            seconds,
            ops: total.ops,
            ops_per_s: rounded(total.ops as f64 / seconds),
            errors: total.errors,
            undetermined: total.undetermined,
            absent: total.absent,
            unstarted: 0,
            latency: Latencies {
                mean_us: latency(total.latencies_ns.mean()),
                p50_us: quantile(0.5),
                p99_us: quantile(0.99),
                p999_us: quantile(0.999),
                max_us: latency(total.latencies_ns.max() as f64),
            },
            longest_gap_us: latency(recorder.longest_gap().as_nanos() as f64),
            client_cpu_us_per_op: per_op(client_cpu.as_secs_f64() * 1e6, total.ops),
            error_texts: total.error_texts,
        }
    }

    /// Adds abandoned operations, and operations that never began.
    pub(crate) fn with_lost(mut self, abandoned: u64, unstarted: u64) -> RunReport {
        self.errors += abandoned;
        self.undetermined += abandoned;
        self.unstarted = unstarted;
        self
    }

    /// Names and values as a table's rows.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let cpu = self.client_cpu_us_per_op.map_or("-".into(), |cpu| format!("{cpu:.1}"));
        vec![
            ("operations", self.ops.to_string()),
            ("operations/s", format!("{:.0}", self.ops_per_s)),
            ("errors", format!("{} ({} undetermined)", self.errors, self.undetermined)),
            ("absent", self.absent.to_string()),
            ("due, never begun", self.unstarted.to_string()),
            ("mean us", format!("{:.0}", self.latency.mean_us)),
            ("p50 us", format!("{:.0}", self.latency.p50_us)),
            ("p99 us", format!("{:.0}", self.latency.p99_us)),
            ("p99.9 us", format!("{:.0}", self.latency.p999_us)),
            ("max us", format!("{:.0}", self.latency.max_us)),
            ("longest gap us", format!("{:.0}", self.longest_gap_us)),
            ("client CPU us/op", cpu),
        ]
    }
}

/// The share of one operation in `total`; None without operations.
pub(crate) fn per_op(total: f64, ops: u64) -> Option<f64> {
    (ops > 0).then(|| (total / ops as f64 * 1_000.0).round() / 1_000.0)
}

/// Rounds to a tenth. The histogram is no more exact.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
