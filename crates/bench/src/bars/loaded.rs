//! Puts into a large store against puts into an empty one: the same keys, the same clients.

use std::time::{Duration, Instant};

use crate::bars::many_clients::largest_rss_mib;
use crate::bars::row::Row;
use crate::bars::stage::{Stage, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;

/// Clients.
const CLIENTS: usize = 256;

/// Between the load and the measurement: the load's last checkpoint is to end.
const SETTLE: Duration = Duration::from_secs(5);

/// Of the empty store's throughput, what must remain, and what should.
const KEPT: (f64, f64) = (0.6, 0.9);

/// Measures the bar.
///
/// # Errors
/// As [`Stage::load`] and [`Stage::measure`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let bar = Bar::Loaded.name();
    let keys = config.extremes.loaded_keys;
    let mut run = run_config(&config.shape, CLIENTS);
    run.keys = keys;
    let mut stage = Stage::empty(config).await?;
    let empty = stage.measure(&run).await?;
    let start = Instant::now();
    stage.load(&run).await?;
    let load_rate = keys as f64 / start.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let large = stage.measure(&run).await?;
    let rss = largest_rss_mib(&stage.cluster.store_pids());
    stage.stop().await;
    let kept = large.report.ops_per_s / empty.report.ops_per_s;
    let note = format!(
        "{:.0} of {:.0} puts/s, {} errors",
        large.report.ops_per_s, empty.report.ops_per_s, large.report.errors
    );
    Ok(vec![
        Row::told(bar, &format!("puts with {keys} keys loaded / empty"), Some(kept))
            .at_least(KEPT.0, KEPT.1)
            .note(note),
        Row::told(bar, "loaded rows/s", Some(load_rate)),
        Row::told(bar, "largest store's RSS MiB", rss),
    ])
}
