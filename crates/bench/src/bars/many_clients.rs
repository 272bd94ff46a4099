//! Overload: many more clients than serve throughput. What is too much must be refused with a hint
//! when to try again, at a bounded memory, without throughput falling.

use crate::bars::row::Row;
use crate::bars::stage::{Stage, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;
use crate::usage::Usage;

/// The number of clients whose throughput counts as the peak.
const PEAK_CLIENTS: usize = 256;

/// Of the peak's throughput, what must remain.
const THROUGHPUT_KEPT: f64 = 0.8;

/// Measures the bar.
///
/// # Errors
/// As [`Stage::measure`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let bar = Bar::ManyClients.name();
    let many = config.extremes.many_clients;
    let mut stage = Stage::loaded(config).await?;
    let peak = stage.measure(&run_config(&config.shape, PEAK_CLIENTS)).await?;
    let refused_before = stage.flotilla.client().busy_refusals();
    let crowd = stage.measure(&run_config(&config.shape, many)).await?;
    let refused = stage.flotilla.client().busy_refusals() - refused_before;
    let largest = largest_rss_mib(&stage.cluster.store_pids());
    stage.stop().await;
    let kept = crowd.report.ops_per_s / peak.report.ops_per_s;
    let throughput = format!(
        "{:.0} of {:.0} puts/s, p99 {:.0} us",
        crowd.report.ops_per_s, peak.report.ops_per_s, crowd.report.latency.p99_us
    );
    let errors = crowd.report.error_texts.join("; ");
    Ok(vec![
        Row::told(bar, &format!("puts at {many} clients / at {PEAK_CLIENTS}"), Some(kept))
            .at_least(THROUGHPUT_KEPT, THROUGHPUT_KEPT)
            .note(throughput),
        Row::told(bar, "largest store's RSS MiB", largest),
        Row::told(bar, "refused as ServerBusy, then retried", Some(refused as f64)),
        Row::told(bar, "failed operations", Some(crowd.report.errors as f64)).note(errors),
    ])
}

/// The resident memory of the largest of the processes; None if one is gone.
pub(super) fn largest_rss_mib(pids: &[u32]) -> Option<f64> {
    let sizes: Option<Vec<u64>> =
        pids.iter().map(|pid| Usage::of(*pid).map(|usage| usage.rss_bytes)).collect();
    sizes?.into_iter().max().map(|bytes| bytes as f64 / f64::from(1 << 20))
}
