//! kill -9 of all stores at once under load: every write that was acknowledged is there after they
//! have come back, with its value.
//!
//! Each key is written once, so that no later write hides a lost one. A killed process loses what
//! it held in memory and the kernel keeps what was written: this shows that nothing is acknowledged
//! before it is in the log, and `cost` counts the fdatasync calls that bring it onto the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_client::Client;
use tokio::task::JoinSet;

use crate::bars::row::Row;
use crate::bars::stage::Stage;
use crate::bars::{Bar, BarsConfig};
use crate::error::{BenchError, Result};
use crate::keys::key;

/// Writers.
const LANES: u64 = 64;

/// Keys that one writer may write in one round: far above what it can.
const LANE_KEYS_MAX: u64 = 1_000_000;

/// Keys read back in one call.
const READ_KEYS: usize = 256;

/// How long a call may be under way once the stores are gone.
const LAST_CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Measures the bar.
///
/// # Errors
/// [`BenchError::Target`] if stores do not come back, or cannot be read from.
pub async fn measure(config: &BarsConfig) -> Result<Vec<Row>> {
    let bar = Bar::KillAll.name();
    let mut stage = Stage::empty(config).await?;
    let client = stage.flotilla.client().clone();
    let (mut written, mut missing, mut back) = (Vec::new(), 0, Vec::new());
    for round in 0..config.extremes.kill_rounds as u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for lane in 0..LANES {
            let writer = Writer {
                client: client.clone().with_timeout(LAST_CALL_TIMEOUT),
                first: (round * LANES + lane) * LANE_KEYS_MAX,
                value_bytes: config.shape.value_bytes,
                stop: stop.clone(),
            };
            writers.spawn(writer.write());
        }
        tokio::time::sleep(config.shape.warmup + config.shape.window / 2).await;
        let stores = stage.cluster.store_addresses();
        stage.cluster.kill(&stores)?;
        stop.store(true, Ordering::Relaxed);
        while let Some(acknowledged) = writers.join_next().await {
            written.extend(acknowledged.map_err(|error| BenchError::target("write", error))?);
        }
        let start = Instant::now();
        stage.cluster.restart_killed()?;
        stage.cluster.wait_ready().await?;
        back.push(start.elapsed().as_secs_f64());
        // Earlier rounds' keys too: they have gone through several restarts by now.
        missing = missing.max(count_missing(&client, &written, config.shape.value_bytes).await?);
    }
    stage.stop().await;
    let slowest = back.into_iter().fold(0.0, f64::max);
    let note = format!(
        "of {} acknowledged in {} rounds; whole again after at most {slowest:.1} s",
        written.len(),
        config.extremes.kill_rounds
    );
    let row = match written.is_empty() {
        true => Row::failed(bar, "nothing was acknowledged, so nothing was shown"),
        false => Row::told(bar, "acknowledged writes missing", Some(missing as f64))
            .at_most(0.0, 0.0)
            .note(note),
    };
    Ok(vec![row])
}

struct Writer {
    client: Client,
    first: u64,
    value_bytes: usize,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Writes key after key until told to stop; answers the numbers of those acknowledged.
    async fn write(self) -> Vec<u64> {
        let mut acknowledged = Vec::new();
        for number in self.first..self.first + LANE_KEYS_MAX {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let value = value(number, self.value_bytes);
            if self.client.put(key(number), value).await.is_ok() {
                acknowledged.push(number);
            }
        }
        acknowledged
    }
}

async fn count_missing(client: &Client, numbers: &[u64], value_bytes: usize) -> Result<usize> {
    let mut missing = 0;
    for numbers in numbers.chunks(READ_KEYS) {
        let found = client.batch_get(numbers.iter().map(|number| key(*number))).await;
        let found = found.map_err(|error| BenchError::target("read back", error))?;
        let wrong = |(number, found): &(&u64, Option<Bytes>)| {
            found.as_ref() != Some(&value(**number, value_bytes))
        };
        missing += numbers.iter().zip(found).filter(wrong).count();
    }
    Ok(missing)
}

/// A value that belongs to one key: the number, over and over.
fn value(number: u64, bytes: usize) -> Bytes {
    number.to_be_bytes().into_iter().cycle().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_different_keys_differ() {
        assert_eq!(value(258, 11), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0]));
        assert_ne!(value(1, 256), value(2, 256));
    }
}
