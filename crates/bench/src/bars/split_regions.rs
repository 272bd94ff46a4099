//! The same load on one region and on many: what multi-Raft itself costs.

use crate::bars::row::Row;
use crate::bars::splitter::split;
use crate::bars::stage::{Stage, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;
use crate::workload::Op;

/// Clients.
const CLIENTS: usize = 256;

/// Of one region's throughput, what must remain, and what should.
const KEPT: (f64, f64) = (0.7, 0.95);

/// Measures the bar.
///
/// # Errors
/// As [`Stage::measure`] and [`split`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let mut stage = Stage::loaded(config).await?;
    let regions = config.extremes.regions;
    let mut one = Vec::new();
    for op in [Op::Put, Op::Get] {
        let mut run = run_config(&config.shape, CLIENTS);
        run.op = op;
        one.push((stage.measure(&run).await?, run));
    }
    let layout = split(&mut stage.cluster, regions, config.shape.keys).await?;
    let mut rows = Vec::new();
    for (before, run) in one {
        let after = stage.measure(&run).await?;
        let figure = format!("{}s on {regions} regions / on one", run.op.name());
        let kept = after.report.ops_per_s / before.report.ops_per_s;
        let cpu = |us: Option<f64>| us.map_or("-".into(), |us| format!("{us:.1}"));
        let note = format!(
            "{:.0} of {:.0} ops/s; CPU us/op {} of {}, the generator's {} of {}; {} errors; {}",
            after.report.ops_per_s,
            before.report.ops_per_s,
            cpu(after.cpu_us_per_op),
            cpu(before.cpu_us_per_op),
            cpu(after.report.client_cpu_us_per_op),
            cpu(before.report.client_cpu_us_per_op),
            after.report.errors,
            layout.note()
        );
        let row = Row::told(Bar::SplitRegions.name(), &figure, Some(kept));
        rows.push(row.at_least(KEPT.0, KEPT.1).note(note));
    }
    stage.stop().await;
    Ok(rows)
}
