//! Bytes written to disk for each byte of key and value that a user puts, and each replica, under
//! uniform overwrites: log, checkpoints and all. The window is long, so that it holds several
//! checkpoints and purges of the log.

use crate::bars::row::Row;
use crate::bars::stage::{Stage, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;

/// Clients: enough that the log's own batching shows.
const CLIENTS: usize = 256;

/// The window is this many times as long as that of other bars.
const WINDOWS: u32 = 3;

/// Bytes for each byte: the floor and the goal.
const BYTES: (f64, f64) = (20.0, 6.0);

/// Measures the bar.
///
/// # Errors
/// As [`Stage::measure`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let mut stage = Stage::loaded(config).await?;
    let mut run = run_config(&config.shape, CLIENTS);
    run.window *= WINDOWS;
    let sample = stage.measure(&run).await?;
    stage.stop().await;
    let note = format!("{:.0} puts/s, {} errors", sample.report.ops_per_s, sample.report.errors);
    let figure = "disk bytes per user byte and replica";
    let row = Row::told(Bar::Overwrites.name(), figure, sample.disk_bytes_per_user_byte);
    Ok(vec![row.at_most(BYTES.0, BYTES.1).note(note)])
}
