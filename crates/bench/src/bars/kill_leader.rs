//! kill -9 of the store that leads, and the time until the first write is acknowledged.
//!
//! The client knows the killed leader and has an open connection to it, as an application would.
//! The worst of several kills counts.

use std::time::{Duration, Instant};

use flotilla_client::Client;
use tokio::task::JoinSet;

use crate::bars::row::Row;
use crate::bars::stage::Stage;
use crate::bars::{Bar, BarsConfig};
use crate::error::{BenchError, Result};
use crate::keys::key;

/// Writers that try at the same time.
const WRITERS: u64 = 8;

/// A writer that failed waits this long, so as not to spin.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

/// How long a write may take to be acknowledged at all.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two kills, for the store that came back to catch up.
const SETTLE: Duration = Duration::from_secs(2);

/// Seconds: the floor and the goal.
const GAP_S: (f64, f64) = (2.0, 1.0);

/// Measures the bar.
///
/// # Errors
/// [`BenchError::Target`] if no write is acknowledged, or a store does not come back.
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let mut stage = Stage::loaded(config).await?;
    let client = stage.flotilla.client().clone();
    let mut gaps = Vec::new();
    for _ in 0..config.extremes.kills {
        client.put(key(0), "before").await.map_err(unwritten)?;
        let leader = leader_address(&stage).await?;
        let killed_at = Instant::now();
        stage.cluster.kill(&[leader])?;
        gaps.push(first_acknowledged(&client, killed_at).await?.as_secs_f64());
        stage.cluster.restart_killed()?;
        stage.cluster.wait_ready().await?;
        tokio::time::sleep(SETTLE).await;
    }
    stage.stop().await;
    gaps.sort_by(f64::total_cmp);
    let median = gaps[gaps.len() / 2];
    let row = Row::told(Bar::KillLeader.name(), "first acknowledged write s", gaps.last().copied());
    let note = format!("the worst of {} kills; median {median:.2}", gaps.len());
    Ok(vec![row.at_most(GAP_S.0, GAP_S.1).note(note)])
}

/// Where the leader of the region of key number 0 listens.
async fn leader_address(stage: &Stage) -> Result<String> {
    let asked = |error| BenchError::target("ask PD for a leader", error);
    let pd = stage.cluster.pd()?;
    let page = pd.regions(flotilla_types::keys::stored_key(0, &key(0)), 1).await.map_err(asked)?;
    let leader = page.routes.first().and_then(|route| route.leader).map(|peer| peer.store_id);
    let address = page.stores.into_iter().find(|(store, _)| Some(*store) == leader);
    address
        .map(|(_, address)| address)
        .ok_or_else(|| BenchError::target("ask PD for a leader", "it knows none"))
}

async fn first_acknowledged(client: &Client, since: Instant) -> Result<Duration> {
    let mut writers = JoinSet::new();
    for lane in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            while client.put(key(lane), "after").await.is_err() {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            since.elapsed()
        });
    }
    match tokio::time::timeout(ACK_TIMEOUT, writers.join_next()).await {
        Ok(Some(Ok(gap))) => Ok(gap),
        Ok(Some(Err(error))) => Err(unwritten(error)),
        Ok(None) | Err(_) => Err(unwritten("no write was acknowledged in time")),
    }
}

fn unwritten(reason: impl ToString) -> BenchError {
    BenchError::target("put a key", reason)
}
