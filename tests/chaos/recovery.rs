//! How long the cluster takes from the end of a fault until every region has acknowledged a write.
//!
//! It is measured when no other fault is under way. The nemesis begins no new one meanwhile, so
//! that a slow recovery is measured to its end; it gives up after [`RECOVERY_MAX`], and that is
//! wrong.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use flotilla_client::Client;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::work::clients::{PROBE, connect};

/// A region that has acknowledged no write by then will not.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// How long one write of a probe may take, so that one that waits for the dead is given up and
/// asked anew.
const PROBE_MAX: Duration = Duration::from_millis(1_000);

/// How long a new client may take to find the cluster.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// How long all probes pause after some have failed.
const PAUSE: Duration = Duration::from_millis(20);

/// The bytes of a stored key in front of the user's.
const KEYSPACE_BYTES: usize = 4;

/// What was measured.
#[derive(Default)]
pub struct Recoveries(Mutex<Vec<u64>>);

/// Some figures of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// As many are smaller as are greater.
    pub p50: u64,
    /// One in a hundred is greater.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl Recoveries {
    /// In milliseconds, and how many there are.
    pub fn percentiles(&self) -> (Percentiles, usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_unstable();
        (percentiles(&all), all.len())
    }

    /// Measures one recovery, after `what`, with a client that knows nothing yet.
    pub async fn measure(&self, cluster: &Cluster, what: &str) {
        let began = Instant::now();
        let client = match connect(&cluster.pd_addrs(), CONNECT_MAX).await {
            Ok(client) => client.with_timeout(PROBE_MAX),
            Err(error) => {
                return cluster.timeline.wrong(format!("no client after {what}: {error}"));
            }
        };
        match every_region_writes(cluster, &client, began).await {
            Ok(regions) => {
                let ms = began.elapsed().as_millis() as u64;
                cluster.timeline.note(format!("{regions} regions write, {ms} ms after {what}"));
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ms);
            }
            Err(why) => cluster.timeline.wrong(format!("no recovery from {what}: {why}")),
        }
    }
}

fn percentiles(sorted: &[u64]) -> Percentiles {
    let at = |per_cent: usize| {
        let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    };
    Percentiles { p50: at(50), p99: at(99), max: at(100) }
}

/// Writes in every region until each has acknowledged a write: how many there are.
async fn every_region_writes(
    cluster: &Cluster,
    client: &Client,
    began: Instant,
) -> Result<usize, String> {
    let in_time = |why: String| if began.elapsed() > RECOVERY_MAX { Err(why) } else { Ok(()) };
    let regions = loop {
        match cluster.regions().await {
            Ok(regions) => break regions,
            Err(why) => in_time(why)?,
        }
        sleep(PAUSE).await;
    };
    let mut left: Vec<Vec<u8>> =
        regions.iter().map(|route| probe(&route.region.range.start)).collect();
    let all = left.len();
    loop {
        let mut writes = JoinSet::new();
        for key in left {
            let client = client.clone();
            writes.spawn(async move {
                let written = client.put(&key, "probe").await;
                (key, written.err().map(|error| error.to_string()))
            });
        }
        let written = writes.join_all().await;
        let failed: Vec<_> =
            written.into_iter().filter_map(|(key, error)| Some((key, error?))).collect();
        let Some((_, why)) = failed.first() else { return Ok(all) };
        in_time(format!("{} of {all} regions, such as: {why}", failed.len()))?;
        left = failed.into_iter().map(|(key, _)| key).collect();
        sleep(PAUSE).await;
    }
}

/// A user's key in the region that begins at this stored key.
fn probe(start: &[u8]) -> Vec<u8> {
    let start = start.get(KEYSPACE_BYTES..).unwrap_or_default();
    [start, PROBE].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all: Vec<u64> = (1..=200).collect();
        assert_eq!(percentiles(&all), Percentiles { p50: 100, p99: 198, max: 200 });
        assert_eq!(percentiles(&[7]), Percentiles { p50: 7, p99: 7, max: 7 });
        assert_eq!(percentiles(&[]), Percentiles::default());
    }
}
