//! What one caller does to its calls and its connections ends nobody else's.

use std::time::Duration;

use flotilla_client::{Client, ScanOptions};
use flotilla_tests::Cluster;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Scans that are dropped together, and how often.
const SCANS_DROPPED: u64 = 500;
const ROUNDS: usize = 8;

/// When a scan is dropped, at the latest: most are under way, and few are being read.
const SCAN_PATIENCE_US: u64 = 2_000;

/// Puts beside each round of scans.
const PUTS: usize = 200;

#[test]
fn scans_that_are_dropped_end_no_call_beside_them() {
    let cluster = Cluster::start(1, "96MiB");
    runtime().block_on(async {
        let client = connect(&cluster).await;
        for row in 0..500 {
            client.put(format!("row{row:03}"), vec![b'v'; 4096]).await.expect("a put");
        }
        for round in 0..ROUNDS {
            let mut calls = JoinSet::new();
            for scan in 0..SCANS_DROPPED {
                calls.spawn(dropped_scan(client.clone(), scan * SCAN_PATIENCE_US / SCANS_DROPPED));
            }
            for put in 0..PUTS {
                let client = client.clone();
                calls.spawn(async move {
                    let put = client.put(format!("put{put}"), round.to_string()).await;
                    put.expect("a put beside scans that are dropped");
                });
            }
            while let Some(ended) = calls.join_next().await {
                ended.expect("a call beside scans that are dropped");
            }
        }
        let rows = client.scan("put".."puu", 1000).await.expect("a scan after those");
        assert_eq!(rows.len(), PUTS);
    });
    cluster.check_output();
}

/// A scan that is dropped after so many microseconds.
async fn dropped_scan(client: Client, patience_us: u64) {
    let mut rows = client.scan_stream(ScanOptions::default()).expect("a valid scan");
    if let Ok(Some(Err(error))) = timeout(Duration::from_micros(patience_us), rows.next()).await {
        panic!("a scan of {patience_us} us: {error}");
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be started")
}

async fn connect(cluster: &Cluster) -> Client {
    Client::connect([cluster.pd_addr()]).await.expect("the cluster can be reached")
}
