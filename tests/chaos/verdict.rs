//! What must hold at the end of a run, beside what the workloads judge: replicas are equal, no
//! process has panicked, and none has held too much.

use std::time::{Duration, Instant};

use flotilla_client::{ReplicaAddr, Route, read_replica};
use tokio::time::sleep;

use crate::cluster::{Cluster, past_links};
use crate::disk::Disk;

/// How long replicas may take to become equal once nobody writes.
const EQUAL_MAX: Duration = Duration::from_secs(60);

/// The most that a server may hold of memory: what it is told to divide, and what it needs beside.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// The most descriptors that a server may have open.
const DESCRIPTORS_MAX: usize = 2_000;

/// Where the log's engine ends the process, by a panic, when a sync fails: that a server ends then
/// is what it should do.
const ENDS_BY_PANIC: &str = "raft-engine-0.4.2/src/file_pipe_log/log_file.rs";

/// Waits until the replicas of each region are equal at one index. Answers the number of regions.
pub async fn replicas_are_equal(cluster: &Cluster) -> Result<usize, String> {
    let began = Instant::now();
    loop {
        let why = match look(cluster).await {
            Ok(regions) => return Ok(regions),
            Err(why) => why,
        };
        if began.elapsed() > EQUAL_MAX {
            return Err(format!("replicas are not equal after {} s: {why}", EQUAL_MAX.as_secs()));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn look(cluster: &Cluster) -> Result<usize, String> {
    let regions = cluster.regions().await?;
    for region in &regions {
        region_is_equal(cluster, region).await?;
    }
    Ok(regions.len())
}

async fn region_is_equal(cluster: &Cluster, route: &Route) -> Result<(), String> {
    let known = cluster.known_stores().await?;
    let cluster_id = cluster.pd.cluster_status().await.map_err(|error| error.to_string())?;
    let (cluster_id, region) = (cluster_id.cluster_id, route.region.id);
    let mut seen = vec![];
    for member in &route.region.members {
        let is_it = |status: &flotilla_types::proto::StoreStatus| {
            status.store.as_ref().is_some_and(|store| store.id == member.store_id.0)
        };
        let server = known.iter().find(|(status, _)| is_it(status));
        let (_, server) = server.ok_or(format!("store {} is not known", member.store_id))?;
        let addr = past_links(&server.addr);
        let at = ReplicaAddr { cluster_id, store: member.store_id, addr: &addr, region };
        let replica = read_replica(at, &[]).await.map_err(|error| error.to_string())?;
        seen.push((server.name.clone(), (replica.applied_index, replica.rows, replica.digest)));
    }
    let is_equal = seen.windows(2).all(|pair| pair[0].1 == pair[1].1);
    if is_equal && seen.len() == 3 { Ok(()) } else { Err(format!("region {region}: {seen:?}")) }
}

/// Looks at what processes have logged and held.
pub fn processes(cluster: &Cluster) {
    for server in cluster.pds.iter().chain(&cluster.stores) {
        let log = server.log();
        let disk_has_failed = cluster.disk(&server.name).is_some_and(Disk::has_failed);
        let is_due = |line: &str| disk_has_failed && line.contains(ENDS_BY_PANIC);
        let panics = log.lines().filter(|line| line.contains("panicked at") && !is_due(line));
        for line in panics {
            cluster.timeline.wrong(format!("{} panicked: {line}", server.name));
        }
        let peak = server.usage();
        if peak.memory_bytes > MEMORY_BYTES_MAX || peak.descriptors > DESCRIPTORS_MAX {
            cluster.timeline.wrong(format!("{} has held {peak:?}", server.name));
        }
    }
}
