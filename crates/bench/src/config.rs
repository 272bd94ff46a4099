//! The settings of one run, and their bounds.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{BenchError, Result};
use crate::keys::{Distribution, KEYS_MAX};
use crate::workload::{Op, Space};

/// The most clients: each may have one request of the largest size under way.
pub const CLIENTS_MAX: usize = 65_536;

/// The most bytes of a value: Flotilla's limit; etcd's is 1.5 MiB.
pub const VALUE_BYTES_MAX: usize = 6 << 20;

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The operations.
    pub op: Op,
    /// Clients that ask at the same time; in an open loop, the most operations under way.
    pub clients: usize,
    /// Operations a second in an open loop; None for a closed loop.
    pub rate: Option<f64>,
    /// Time at the start that is not measured.
    pub warmup: Duration,
    /// Time that is measured, after the warm-up.
    pub window: Duration,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Number of keys that exist, at least 1.
    pub keys: u64,
    /// How keys are chosen.
    pub distribution: Distribution,
    /// Rows of a scan; in YCSB E the most rows.
    pub scan_rows: u64,
    /// The seed of the choice of keys, operations and values.
    pub seed: u64,
}

impl RunConfig {
    /// Checks that these settings can be run.
    ///
    /// # Errors
    /// [`BenchError::Usage`] names the setting and its bounds.
    pub fn check(&self) -> Result<()> {
        let bounds = [
            ("--clients", self.clients as u64, 1, CLIENTS_MAX as u64),
            ("--value-bytes", self.value_bytes as u64, 0, VALUE_BYTES_MAX as u64),
            ("--keys", self.keys, 1, KEYS_MAX),
            ("--scan-rows", self.scan_rows, 1, 10_000),
        ];
        for (name, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                let text = format!("{name} {value}: choose a number from {min} to {max}");
                return Err(BenchError::Usage(text));
            }
        }
        match self.rate {
            Some(rate) if !(rate > 0.0 && rate <= 1e7) => Err(BenchError::Usage(format!(
                "--rate {rate}: choose operations a second above 0, up to 10,000,000"
            ))),
            _ if self.window.is_zero() => {
                Err(BenchError::Usage("--seconds 0: measure for some time".into()))
            }
            _ => Ok(()),
        }
    }

    /// The space of keys and values that the clients share.
    pub(crate) fn space(&self) -> Arc<Space> {
        Arc::new(Space::new(self.keys, self.value_bytes, self.seed))
    }
}
