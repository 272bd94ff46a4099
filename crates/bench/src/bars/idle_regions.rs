//! The cost of regions without requests: CPU of all processes, and memory of the stores.

use std::time::Duration;

use crate::bars::many_clients::largest_rss_mib;
use crate::bars::row::Row;
use crate::bars::splitter::split;
use crate::bars::stage::Stage;
use crate::bars::{Bar, BarsConfig};
use crate::error::Result;
use crate::usage::Usage;

/// Between the last cut and the measurement: checkpoints and the spreading of leaders are to end.
const SETTLE: Duration = Duration::from_secs(15);

/// What is measured.
const WINDOW: Duration = Duration::from_secs(20);

/// Keys over which the regions lie, for each region. The regions are empty.
const KEYS_PER_REGION: u64 = 10;

/// Percent of one core: the floor and the goal.
const CPU_PERCENT: (f64, f64) = (10.0, 2.0);

/// MiB of the largest store: the floor and the goal.
const RSS_MIB: (f64, f64) = (400.0, 200.0);

/// Measures the bar.
///
/// # Errors
/// As [`split`].
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let bar = Bar::IdleRegions.name();
    let regions = config.extremes.idle_regions;
    let mut stage = Stage::empty(config).await?;
    let layout = split(&mut stage.cluster, regions, KEYS_PER_REGION * regions as u64).await?;
    tokio::time::sleep(SETTLE).await;
    let (pids, stores) = (stage.cluster.pids(), stage.cluster.store_pids());
    let cpu = || Usage::of_all(&pids).zip(Usage::of_all(&stores)).map(|(a, b)| (a.cpu, b.cpu));
    let before = cpu();
    tokio::time::sleep(WINDOW).await;
    let percent = |used: Duration| used.as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    let used = cpu().zip(before).map(|(now, then)| (now.0 - then.0, now.1 - then.1));
    let of_stores = used.map_or(0.0, |(_, stores)| percent(stores));
    let rss = largest_rss_mib(&stage.cluster.store_pids());
    stage.cluster.check_alive()?;
    stage.stop().await;
    Ok(vec![
        Row::told(
            bar,
            &format!("{regions} idle regions: % of a core"),
            used.map(|(all, _)| percent(all)),
        )
        .at_most(CPU_PERCENT.0, CPU_PERCENT.1)
        .note(format!("of it the stores {of_stores:.1}; {}", layout.note())),
        Row::told(bar, &format!("{regions} idle regions: largest store's RSS MiB"), rss)
            .at_most(RSS_MIB.0, RSS_MIB.1),
    ])
}
