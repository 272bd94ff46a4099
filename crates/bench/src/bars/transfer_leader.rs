//! A planned transfer of leadership: the longest gap in puts that clients of an open loop see.
//!
//! The load is far below what the system carries, so a gap comes from the transfer and not from a
//! queue. The same load without a transfer shows the gaps that the machine itself causes.

use std::time::{Duration, Instant};

use flotilla_client::{OperatorRequest, PdClient};

use crate::bars::row::Row;
use crate::bars::stage::{Stage, Unobserved, run_config};
use crate::bars::{Bar, BarsConfig};
use crate::error::{BenchError, Result};
use crate::run;

/// Puts a second.
const RATE: f64 = 2_000.0;

/// The most puts under way.
const CLIENTS: usize = 64;

/// Between two transfers.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time from the order of a transfer to the report of its new leader at PD.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often PD is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Milliseconds: the floor and the goal.
const GAP_MS: (f64, f64) = (200.0, 20.0);

/// Measures the bar.
///
/// # Errors
/// As [`Stage::measure`]; [`BenchError::Target`] if a transfer does not take place.
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let bar = Bar::TransferLeader.name();
    let mut stage = Stage::loaded(config).await?;
    let mut run = run_config(&config.shape, CLIENTS);
    run.rate = Some(RATE);
    let undisturbed = stage.measure(&run).await?.report;
    let transfers = config.extremes.kills as u32;
    run.window = run.window.max(2 * PAUSE * (transfers + 1));
    let (target, mut unobserved) = (stage.target(), Unobserved);
    let (moved, report) = tokio::join!(
        transfer_leadership(stage.cluster.pd()?, run.warmup, transfers),
        run::run(&target, &run, &mut unobserved)
    );
    let (took, report) = (moved?, report?);
    stage.cluster.check_alive()?;
    stage.stop().await;
    let note = format!(
        "{transfers} transfers, {:.0} ms each until PD knew; {} errors, p99.9 {:.1} ms, worst \
         {:.1} ms",
        took.as_secs_f64() * 1e3 / f64::from(transfers),
        report.errors,
        report.latency.p999_us / 1e3,
        report.latency.max_us / 1e3
    );
    Ok(vec![
        Row::told(bar, "longest gap in puts ms", Some(report.longest_gap_us / 1e3))
            .at_most(GAP_MS.0, GAP_MS.1)
            .note(note),
        Row::told(bar, "longest gap without transfers ms", Some(undisturbed.longest_gap_us / 1e3)),
    ])
}

/// Moves the first region's leadership from store to store, and answers how long it took in all.
async fn transfer_leadership(pd: PdClient, warmup: Duration, transfers: u32) -> Result<Duration> {
    tokio::time::sleep(warmup).await;
    let mut took = Duration::ZERO;
    for _ in 0..transfers {
        tokio::time::sleep(PAUSE).await;
        took += transfer(&pd).await?;
    }
    Ok(took)
}

async fn transfer(pd: &PdClient) -> Result<Duration> {
    let failed = |error| BenchError::target("transfer a leader", error);
    let none = || BenchError::target("transfer a leader", "no region has a leader");
    let routes = pd.all_regions().await.map_err(failed)?;
    let route = routes.into_iter().find(|route| route.leader.is_some()).ok_or_else(none)?;
    let leader = route.leader.ok_or_else(none)?.store_id;
    let mut others = route.region.members.iter().map(|peer| peer.store_id);
    let to = others.find(|store| *store != leader).ok_or_else(none)?;
    let start = Instant::now();
    pd.add_operator(route.region.id, OperatorRequest::TransferLeader(to)).await.map_err(failed)?;
    loop {
        let routes = pd.all_regions().await.map_err(failed)?;
        let now = routes.iter().find(|known| known.region.id == route.region.id);
        if now.and_then(|known| known.leader).is_some_and(|leader| leader.store_id == to) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > TRANSFER_TIMEOUT {
            return Err(BenchError::target("transfer a leader", "it did not move in time"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
