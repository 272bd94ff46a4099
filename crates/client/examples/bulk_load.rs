//! Loads a million small rows with many batches in flight. Nobody else writes these keys, so writes
//! whose answer is lost may be repeated: the load survives a store's restart.

use std::time::Instant;

use anyhow::{Context, Result};
use flotilla_client::Client;
use tokio::task::JoinSet;

const ROWS: u32 = 1_000_000;
const BATCH_ROWS: u32 = 512;
/// Enough to keep every store's log busy; more only queues.
const BATCHES_IN_FLIGHT_MAX: usize = 32;

#[tokio::main]
async fn main() -> Result<()> {
    let pd = std::env::var("FLOTILLA_PD").unwrap_or_else(|_| "127.0.0.1:2379".into());
    let client = Client::builder()
        .endpoints(pd.split(','))
        .retry_undetermined_writes(true)
        .connect()
        .await?;

    let began = Instant::now();
    let mut batches = JoinSet::new();
    for first in (0..ROWS).step_by(BATCH_ROWS as usize) {
        if batches.len() >= BATCHES_IN_FLIGHT_MAX {
            batches.join_next().await.context("a batch is in flight")???;
        }
        let client = client.clone();
        batches.spawn(async move {
            let rows = first..(first + BATCH_ROWS).min(ROWS);
            let pairs = rows.map(|row| (format!("bulk/{row:08}"), format!("value of {row}")));
            anyhow::Ok(client.batch_put(pairs).await?)
        });
    }
    while let Some(done) = batches.join_next().await {
        done??;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{ROWS} rows in {seconds:.1} s: {:.0} rows/s", f64::from(ROWS) / seconds);
    Ok(())
}
